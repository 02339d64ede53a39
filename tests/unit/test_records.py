"""Segment headers: what is made is accepted, and whatever else is there is refused with the reason."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_kv.log.checksum_cy import crc32c
from flash_kv.log.records import (
    ORIGIN_COMPACTION,
    SEGMENT_HEADER_SIZE,
    SegmentHeaderError,
    SegmentInfo,
    check_segment_header,
    make_segment_header,
    record_seed,
)

STORE_ID = bytes(range(16))
HEADER = make_segment_header(
    store_id=STORE_ID, segment_id=7, epoch=3, origin=ORIGIN_COMPACTION, created_ns=1_700_000_000
)


def check(header: bytes, **other: Any) -> SegmentInfo:
    expected: dict[str, Any] = {"store_id": STORE_ID, "segment_id": 7, "epoch": 3}
    return check_segment_header(header, **(expected | other))


def signed(head: bytes) -> bytes:
    return head + struct.pack("<I", crc32c(head))


def test_a_header_says_what_it_was_made_with() -> None:
    assert len(HEADER) == SEGMENT_HEADER_SIZE
    assert check(HEADER + b"records") == SegmentInfo(STORE_ID, 7, 3, ORIGIN_COMPACTION, 1_700_000_000)
    assert check(HEADER, epoch=None).epoch == 3


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_anywhere_is_damage_and_never_another_header(bit: int) -> None:
    for offset in range(SEGMENT_HEADER_SIZE):
        damaged = HEADER[:offset] + bytes([HEADER[offset] ^ 1 << bit]) + HEADER[offset + 1 :]
        with pytest.raises(SegmentHeaderError) as caught:
            check(damaged)
        assert caught.value.problem == ("magic" if offset < 8 else "checksum")


@pytest.mark.parametrize(
    ("header", "other", "problem"),
    [
        pytest.param(HEADER[:63], {}, "short", id="cut off"),
        pytest.param(bytes(64), {}, "blank", id="never written"),
        pytest.param(HEADER, {"store_id": bytes(16)}, "store", id="of another store"),
        pytest.param(HEADER, {"segment_id": 8}, "segment", id="of another segment"),
        pytest.param(HEADER, {"epoch": 4}, "epoch", id="of another epoch"),
        pytest.param(signed(HEADER[:12] + b"\x02" + HEADER[13:60]), {}, "field", id="of unknown origin"),
        pytest.param(signed(HEADER[:56] + b"\x01" + HEADER[57:60]), {}, "field", id="reserved byte set"),
    ],
)
def test_each_kind_of_wrong_header_has_its_own_problem(header: bytes, other: Any, problem: str) -> None:
    with pytest.raises(SegmentHeaderError) as caught:
        check(header, **other)
    assert caught.value.problem == problem
    assert caught.value.reason == str(caught.value)


def test_another_format_version_is_named() -> None:
    with pytest.raises(SegmentHeaderError) as caught:
        check(signed(HEADER[:8] + struct.pack("<I", 9) + HEADER[12:60]))
    assert (caught.value.problem, caught.value.version) == ("version", 9)


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_no_header(data: bytes) -> None:
    with pytest.raises(SegmentHeaderError):
        check(data)


def test_a_store_id_has_16_bytes() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        record_seed(b"short", 1, 1)
    with pytest.raises(ValueError, match="16 bytes"):
        make_segment_header(store_id=b"", segment_id=1, epoch=1, origin=0, created_ns=0)
