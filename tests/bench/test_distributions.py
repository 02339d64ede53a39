"""The choosers of keys have the distributions that their sources define."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from flash_kv.bench.distributions import THETA, Latest, Scrambled, Uniform, Zipfian, fnv1a, zeta
from flash_kv.bench.ycsb import MIXES

ITEMS = 1_000
DRAWS = 200_000


def test_zipfian_shares_are_those_of_the_definition(rng: random.Random) -> None:
    chooser = Zipfian(ITEMS, rng)
    counts = Counter(chooser.draw() for _ in range(DRAWS))
    assert set(counts) <= set(range(ITEMS))
    # The two most frequent are exact in the method of Gray et al.; the rest follow a continuous curve.
    for item, tolerance in ((0, 0.05), (1, 0.07)):
        assert counts[item] / DRAWS == pytest.approx((item + 1) ** -THETA / zeta(ITEMS), rel=tolerance)
    for limit in (10, 100, 500):
        share = sum(counts[item] for item in range(limit)) / DRAWS
        assert share == pytest.approx(zeta(limit) / zeta(ITEMS), rel=0.05), limit


def test_zeta_is_the_sum_it_says() -> None:
    assert zeta(3) == pytest.approx(1 + 2**-0.99 + 3**-0.99)


def test_scrambled_keeps_the_shares_and_scatters_the_items(rng: random.Random) -> None:
    chooser = Scrambled(ITEMS, rng)
    counts = Counter(chooser.draw() for _ in range(DRAWS))
    hottest, times = counts.most_common(1)[0]
    expected = sum((item + 1) ** -THETA for item in range(ITEMS) if fnv1a(item) % ITEMS == hottest) / zeta(
        ITEMS
    )
    assert hottest == fnv1a(0) % ITEMS
    assert times / DRAWS == pytest.approx(expected, rel=0.05)
    ten = [item for item, _ in counts.most_common(10)]
    assert max(ten) - min(ten) > ITEMS / 4


def test_fnv_is_the_published_one() -> None:
    # Eight zero bytes: the offset basis times the prime, eight times.
    expected = 0xCBF29CE484222325
    for _ in range(8):
        expected = expected * 0x100000001B3 % 2**64
    assert fnv1a(0) == expected


def test_latest_prefers_the_newest_and_follows_inserts(rng: random.Random) -> None:
    chooser = Latest(ITEMS, rng)
    counts = Counter(chooser.draw() for _ in range(DRAWS))
    assert counts.most_common(1)[0][0] == ITEMS - 1
    assert counts[ITEMS - 1] / DRAWS == pytest.approx(1 / zeta(ITEMS), rel=0.05)
    chooser.items += 7
    assert Counter(chooser.draw() for _ in range(DRAWS // 10)).most_common(1)[0][0] == ITEMS + 6


def test_uniform_is_flat(rng: random.Random) -> None:
    chooser = Uniform(10, rng)
    counts = Counter(chooser.draw() for _ in range(DRAWS))
    assert [counts[item] / DRAWS for item in range(10)] == pytest.approx([0.1] * 10, rel=0.05)


@pytest.mark.parametrize("items", [1, 2, 3])
def test_the_smallest_sets_have_every_item_and_no_other(items: int, rng: random.Random) -> None:
    chooser = Zipfian(items, rng)
    assert {chooser.draw() for _ in range(2_000)} == set(range(items))


@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: mix.letter)
def test_a_mix_has_the_proportions_of_the_paper(mix: object, rng: random.Random) -> None:
    published = {
        "a": {"read": 0.5, "update": 0.5},
        "b": {"read": 0.95, "update": 0.05},
        "c": {"read": 1.0},
        "d": {"read": 0.95, "insert": 0.05},
        "e": {"scan": 0.95, "insert": 0.05},
        "f": {"read": 0.5, "modify": 0.5},
    }[mix.letter]  # type: ignore[attr-defined]
    drawn = mix.draw(ITEMS, 20_000, rng)  # type: ignore[attr-defined]
    counts = Counter(operation.kind for operation in drawn)
    assert {kind: count / len(drawn) for kind, count in counts.items()} == pytest.approx(published, abs=0.01)
    inserted = [operation.ordinal for operation in drawn if operation.kind == "insert"]
    assert inserted == list(range(ITEMS, ITEMS + len(inserted)))
    present = ITEMS
    for operation in drawn:
        present = max(present, operation.ordinal + 1) if operation.kind == "insert" else present
        assert operation.ordinal < present
