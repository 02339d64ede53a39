"""The histogram of latencies: known to one part in a thousand, from nanoseconds to minutes."""

from __future__ import annotations

import random

import pytest

from flash_kv.bench.histogram import PERCENTILES, VALUE_BITS_MAX, Histogram, thinned


def exact(samples: list[int], percent: float) -> int:
    ordered = sorted(samples)
    return ordered[max(1, -(-len(ordered) * round(percent * 1000) // 100_000)) - 1]


def test_percentiles_are_those_of_the_samples_to_a_thousandth(rng: random.Random) -> None:
    samples = [int(rng.lognormvariate(7, 2)) for _ in range(50_000)] + [2**40, 2**41 + 12_345]
    histogram = Histogram()
    histogram.add(samples)
    for percent in PERCENTILES:
        found, expected = histogram.percentile(percent), exact(samples, percent)
        assert expected <= found <= expected * 1.001 + 1, percent


def test_small_values_are_exact() -> None:
    for value in range(2**11):
        histogram = Histogram()
        histogram.add([value])
        assert histogram.percentile(50.0) == value


def test_every_magnitude_falls_into_its_own_counter() -> None:
    for bits in range(VALUE_BITS_MAX):
        for value in (2**bits - 1, 2**bits, 2**bits + 1):
            histogram = Histogram()
            histogram.add([value])
            assert value <= histogram.percentile(100.0) <= value * 1.001


@pytest.mark.parametrize("value", [-1, 2**VALUE_BITS_MAX])
def test_what_it_cannot_hold_is_an_error(value: int) -> None:
    with pytest.raises(ValueError, match="outside of the histogram"):
        Histogram().add([value])


def test_merged_histograms_hold_the_samples_of_both() -> None:
    both, one, other = Histogram(), Histogram(), Histogram()
    one.add([1, 5_000, 70])
    other.add([2, 5_000_000])
    both.add([1, 5_000, 70, 2, 5_000_000])
    one.merge(other)
    assert one.curve() == both.curve()
    assert one.total == 5


def test_a_thinned_curve_keeps_its_ends_and_rises(rng: random.Random) -> None:
    histogram = Histogram()
    histogram.add([int(rng.lognormvariate(7, 2)) for _ in range(50_000)])
    curve = histogram.curve()
    thin = thinned(curve, 200)
    assert (thin[0], thin[-1]) == (curve[0], curve[-1])
    assert thin == sorted(thin)
    assert len(thin) < 700


def test_it_agrees_with_the_published_implementation(rng: random.Random) -> None:
    hdrh = pytest.importorskip("hdrh.histogram")
    samples = [int(rng.lognormvariate(8, 2)) + 1 for _ in range(5_000)]
    theirs, ours = hdrh.HdrHistogram(1, 2**41, 3), Histogram()
    ours.add(samples)
    for sample in samples:
        theirs.record_value(sample)
    for percent in (50.0, 99.0, 99.9):
        assert ours.percentile(percent) == pytest.approx(theirs.get_value_at_percentile(percent), rel=0.002)
