"""The histogram of the meter: where a duration is counted, up to the longest."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_kv.server.histogram_cy import BUCKETS, Cell, bucket_end, bucket_of


@given(st.integers(0, 1 << 43))
def test_a_duration_is_below_the_end_of_its_bucket_and_not_of_the_one_before(microseconds: int) -> None:
    bucket = bucket_of(microseconds)
    assert microseconds < bucket_end(bucket)
    assert bucket == 0 or bucket_end(bucket - 1) <= microseconds
    # An eighth too high at most.
    assert bucket_end(bucket) <= max(microseconds * 1.125, microseconds + 1)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (-1.0, 0), (math.nan, 0), (1e-6, 1), (math.inf, bucket_of(10**15)), (1e300, BUCKETS - 1)],
)
def test_every_duration_has_a_bucket(seconds: float, bucket: int) -> None:
    cell = Cell("read")
    cell.add(seconds, 3, 4)
    cell.add(0.25, 5, 6)
    expected = [0] * BUCKETS
    expected[bucket] += 1
    expected[bucket_of(250_000)] += 1
    assert cell.buckets == expected
    assert (cell.kind, cell.count, cell.bytes_in, cell.bytes_out) == ("read", 2, 8, 10)
