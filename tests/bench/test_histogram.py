"""The histogram of latencies: known to one part in a thousand, from nanoseconds to minutes."""

from __future__ import annotations

import random

import pytest

from flash_kv.bench.histogram import PERCENTILES, VALUE_BITS_MAX, Histogram
from flash_kv.bench.stores import BenchmarkError


def exact(samples: list[int], percent: float) -> int:
    ordered = sorted(samples)
    return ordered[max(1, -(-len(ordered) * round(percent * 1000) // 100_000)) - 1]


def test_percentiles_are_those_of_the_samples_to_a_thousandth(rng: random.Random) -> None:
    samples = [int(rng.lognormvariate(7, 2)) for _ in range(50_000)] + [2**40, 2**41 + 12_345]
    histogram = Histogram()
    histogram.add(samples)
    for percent, found in zip(PERCENTILES, histogram.percentiles(PERCENTILES), strict=True):
        expected = exact(samples, percent)
        assert found == histogram.percentile(percent)
        assert expected <= found <= expected * 1.001 + 1, percent


@pytest.mark.parametrize("value", [-1, 2**VALUE_BITS_MAX])
def test_what_it_cannot_hold_is_an_error(value: int) -> None:
    with pytest.raises(ValueError, match="outside of the histogram"):
        Histogram().add([value])


def test_nothing_has_no_percentiles() -> None:
    with pytest.raises(ValueError, match="empty"):
        Histogram().percentile(50.0)


def test_merged_histograms_hold_the_samples_of_both() -> None:
    both, one, other = Histogram(), Histogram(), Histogram()
    one.add([1, 5_000, 70])
    other.add([2, 5_000_000])
    both.add([1, 5_000, 70, 2, 5_000_000])
    one.merge(other)
    assert one.curve() == both.curve()
    assert one.total == 5


def test_another_process_gets_the_same() -> None:
    one = Histogram()
    one.add([0, 1, 70, 70, 5_000, 2**41])
    assert Histogram.decoded(one.encoded()).curve() == one.curve()


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(BenchmarkError, match=r"pip install 'flash-kv\[bench\]'"):
        Histogram()


def test_a_curve_rises_to_the_slowest_sample_and_its_points_are_percentiles(rng: random.Random) -> None:
    samples = [int(rng.lognormvariate(7, 2)) for _ in range(50_000)]
    histogram = Histogram()
    histogram.add(samples)
    curve = histogram.curve()
    assert curve == sorted(curve)
    assert 100 < len(curve) < 300
    assert curve[-1] == (1.0, histogram.percentile(100.0))
    assert max(part for part, _ in curve[:-1]) >= 1 - 2 / len(samples)
    for part, value in curve:
        assert sum(sample <= value for sample in samples) / len(samples) >= part - 1 / len(samples)


def test_the_curve_of_one_sample_is_one_point() -> None:
    histogram = Histogram()
    histogram.add([70])
    assert histogram.curve() == [(1.0, 70)]
