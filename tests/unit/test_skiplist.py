"""The skip list: what is its own beside the leaves it shares with the B-tree. Behaviour is in test_index.py."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_kv.index.probe_cy import IndexProbe
from flash_kv.index.skiplist_cy import SkipListIndex
from flash_kv.index.timed_probe_cy import TimedProbe
from flash_kv.io.memory_cy import allow_allocations, refuse_allocation

LANE_MAX = 512  # entries
LSN_OFFSET = 16  # of a record's header (docs/format.md)


def filled(keys: list[bytes]) -> IndexProbe:
    probe = IndexProbe("skiplist")
    for key in keys:
        probe.insert(key)
    return probe


def shape(probe: IndexProbe) -> list[int]:
    """The longest lane of each level, from the lowest."""
    assert isinstance(probe.index, SkipListIndex)
    return probe.index.shape()


def agrees(probe: IndexProbe, keys: list[bytes]) -> bool:
    """The sorted keys, and no others, are in the list, whichever way they are looked for."""
    assert probe.check() == []
    assert probe.walk() == keys
    assert probe.walk(is_reverse=True) == keys[::-1]
    assert None not in probe.find_many(keys)
    assert 0 not in probe.find_many(keys)
    assert all(probe.find(key) for key in keys)
    return True


def test_levels_of_lanes_come_with_the_keys_and_go_with_them(rng: random.Random) -> None:
    probe = TimedProbe("skiplist")
    probe.prepare_many(200_000, 12, False, "shuffled")
    probe.time_upserts(0, 200_000)
    assert probe.check() == []
    # Some 5,000 leaves: a level for every factor of 32, and one on top.
    assert 2 <= len(shape(probe)) <= 5
    assert 32 < shape(probe)[0] <= LANE_MAX
    probe.time_removes(0, 199_900)
    assert probe.check() == []
    assert len(shape(probe)) <= 2
    assert shape(probe)[0] < 60
    assert len(probe.walk()) == 100


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_no_order_of_writes_makes_the_lanes_long(order: str) -> None:
    probe = TimedProbe("skiplist")
    probe.prepare_many(150_000, 16, True, order)
    for _ in range(2):
        probe.time_upserts(0, 150_000)
        assert probe.check() == []
        assert 2 <= len(shape(probe)) <= 5
        assert max(shape(probe)) <= LANE_MAX
        probe.time_removes(0, 140_000)
        assert probe.check() == []


def test_keys_that_are_removed_where_lanes_begin_leave_the_rest_found(rng: random.Random) -> None:
    keys = sorted({b"%08d" % rng.randrange(10**8) for _ in range(15_000)})
    probe = filled(rng.sample(keys, len(keys)))
    # Ever smaller stretches, so that leaves join with both neighbours, across the ends of lanes.
    while len(keys) > 400:
        start = rng.randrange(len(keys))
        for key in keys[start : start + len(keys) // 8]:
            assert probe.remove(key)
        del keys[start : start + len(keys) // 8]
        assert probe.check() == []
    assert agrees(probe, keys)


# Keys that differ after more bytes than one head shows, for whatever the separators share.
ALIKE: dict[str, Callable[[random.Random], bytes]] = {
    "runs": lambda rng: b"a" * rng.randint(0, 90) + b"b" * rng.randint(0, 1) + b"%05d" % rng.randrange(10**5),
    "zeros": lambda rng: bytes(rng.choice(b"\0\0\0\0\1") for _ in range(rng.randint(1, 60))),
    "greatest bytes": lambda rng: b"\xff" * rng.randint(1, 40) + rng.randbytes(2),
    "forks": lambda rng: (b"/x" * 40)[: 2 * rng.randint(1, 40)] + rng.randbytes(1) * rng.randint(0, 20),
}


@pytest.mark.parametrize("family", ALIKE)
def test_separators_that_eight_bytes_do_not_tell_apart_are_told_apart(
    family: str, rng: random.Random
) -> None:
    make = ALIKE[family]
    keys = sorted({make(rng) for _ in range(12_000)})
    probe = filled(rng.sample(keys, len(keys)))
    assert agrees(probe, keys)
    for _ in range(300):
        start = make(rng) + rng.choice([b"", b"\0", b"\xff", b"a"])
        place = bisect_left(keys, start)
        assert probe.walk(start, limit=3) == keys[place : place + 3]
        assert probe.walk(start, is_reverse=True, limit=3) == keys[:place][::-1][:3]
        assert (probe.find(start) != 0) == (keys[place : place + 1] == [start])
    for key in rng.sample(keys, len(keys) * 9 // 10):
        assert probe.remove(key)
        keys.remove(key)
    assert agrees(probe, keys)


@given(
    steps=st.lists(
        st.tuples(
            st.booleans(), st.integers(0, 40), st.integers(0, 120), st.sampled_from([b"", b"\0", b"x" * 20])
        ),
        max_size=12,
    )
)
def test_stretches_of_keys_come_and_go(steps: list[tuple[bool, int, int, bytes]]) -> None:
    probe = IndexProbe("skiplist")
    present: set[bytes] = set()
    for is_insert, start, count, tail in steps:
        for number in range(start * 50, start * 50 + count * 3):
            key = b"%06d" % number + tail
            if is_insert:
                probe.insert(key)
                present.add(key)
            else:
                assert (probe.remove(key) != 0) == (key in present)
                present.discard(key)
        assert probe.check() == []
    assert agrees(probe, sorted(present))


def test_a_reserved_write_needs_no_memory(rng: random.Random) -> None:
    keys = [b"%012d" % rng.randrange(10**12) for _ in range(6000)]
    probe = IndexProbe("skiplist")
    positions = [probe.append(key) for key in keys]
    assert probe.reserve(len(keys))
    refuse_allocation(1, True)
    try:
        for key, position in zip(keys, positions, strict=True):
            probe.put(key, position)
    finally:
        allow_allocations()
    assert agrees(probe, sorted(set(keys)))


def test_a_write_that_gets_no_memory_changes_nothing(rng: random.Random) -> None:
    probe = TimedProbe("skiplist")
    keys: list[bytes] = []
    refused = 0
    while refused < 6:
        key = b"%09d" % rng.randrange(10**9)
        position = probe.append(key)
        refuse_allocation(1, True)
        try:
            probe.put(key, position)
            keys.append(key)
        except OSError:
            refused += 1
        finally:
            allow_allocations()
        if refused and probe.find(key) == 0:
            assert probe.check() == []
            assert probe.reserve(1)
            assert probe.put(key, position) == 0
            keys.append(key)
    assert agrees(probe, sorted(set(keys)))


def test_a_split_that_needs_a_damaged_record_fails_and_changes_nothing() -> None:
    keys = [b"the same beginning" * 3 + b"%04d" % number for number in range(0, 1160, 10)]
    probe = IndexProbe("skiplist")
    position = {key: probe.append(key) for key in keys}
    for key in keys:
        probe.damage(position[key], LSN_OFFSET)
    failed: list[bytes] = []
    for key in keys:
        try:
            probe.upsert(key, position[key])
        except ValueError:
            failed.append(key)
        assert probe.check() == [] or failed
    assert failed
    for key in keys:
        probe.damage(position[key], LSN_OFFSET)
    assert probe.check() == []
    assert probe.walk() == [key for key in keys if key not in failed]
    for key in failed:
        assert probe.upsert(key, position[key]) == 0
    assert agrees(probe, keys)
