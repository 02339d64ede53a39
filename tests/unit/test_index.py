"""Every index kind against a sorted dict: the same answers for the same calls, whatever the keys."""

from __future__ import annotations

import os
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_kv.index.probe_cy import IndexProbe
from flash_kv.index.timed_probe_cy import TimedProbe

# Of a record's header (docs/format.md); damage there leaves the key as it is.
LSN_OFFSET = 16

KINDS = ("hash", "btree", "skiplist", "bptree")
ORDERED_KINDS = ("btree", "skiplist", "bptree")
# Those that keep keys in the log alone, and all of themselves in memory.
IN_MEMORY = pytest.mark.parametrize("kind", ["hash", "btree", "skiplist"])
ORDERS: dict[str, Callable[[list[bytes], random.Random], list[bytes]]] = {
    "ascending": lambda keys, rng: sorted(keys),
    "descending": lambda keys, rng: sorted(keys, reverse=True),
    "random": lambda keys, rng: rng.sample(keys, len(keys)),
}
# Of the readers beside a writer. Under a sanitizer a writer gets little of the time beside readers that never wait.
CHURN_WRITES = 40_000 if os.environ.get("FLASH_KV_TEST_SANITIZER") == "thread" else 600_000
ADDRESS = b"https://www.example.com/a/rather/long/path/that/all/of/them/share/"

# Families of keys that an index which looks at a few bytes of a key gets wrong.
FAMILIES: dict[str, Callable[[random.Random], bytes]] = {
    "random bytes": lambda rng: rng.randbytes(16),
    "one or two bytes": lambda rng: rng.randbytes(rng.randint(1, 2)),
    "zero bytes": lambda rng: bytes(rng.choice(b"\0\0\0\1") for _ in range(rng.randint(1, 14))),
    "high bytes": lambda rng: bytes(rng.choice(b"\xff\xff\xff\xfe") for _ in range(rng.randint(1, 14))),
    "both ends of the order": lambda rng: (
        rng.choice([b"\0", b"\xff"]) * rng.randint(1, 30) + rng.randbytes(rng.randint(0, 1))
    ),
    "prefixes of each other": lambda rng: b"a" * rng.randint(1, 400),
    "decimal numbers": lambda rng: b"key:%010d" % rng.randrange(100_000),
    "long shared beginnings": lambda rng: ADDRESS * 3 + b"%d" % rng.randrange(5000),
    "equal middles": lambda rng: b"%d" % rng.randrange(20) + b"-" * 40 + b"%d" % rng.randrange(400),
    "clusters": lambda rng: (
        rng.choice([b"user:", b"video:", b"u", b"zzz/zzz/zzz/zzz/zzz"])
        + b"%06d" % rng.randrange(3000)
        + rng.choice([b"", b"\0", b"/a", b"/b" * 9])
    ),
    "big-endian numbers": lambda rng: rng.randrange(5000).to_bytes(8, "big"),
    "little-endian numbers": lambda rng: rng.randrange(5000).to_bytes(8, "little"),
}

short_keys = st.binary(min_size=1, max_size=3)
alike_keys = st.builds(
    lambda head, middle, tail: head * 9 + middle * 7 + tail,
    st.sampled_from([b"", b"a", b"b"]),
    st.sampled_from([b"", b"\0", b"x"]),
    st.binary(min_size=1, max_size=2),
)
any_keys = st.one_of(short_keys, alike_keys, st.binary(min_size=1, max_size=24))
operations = st.lists(
    st.tuples(st.sampled_from(["insert", "insert", "remove", "find"]), any_keys), max_size=300
)


class Model:
    """An index and the dict it must agree with."""

    def __init__(self, probe: IndexProbe) -> None:
        self.probe = probe
        self.entries: dict[bytes, int] = {}

    def insert(self, key: bytes) -> None:
        position = self.probe.append(key)
        assert self.probe.upsert(key, position) == self.entries.get(key, 0)
        self.entries[key] = position

    def remove(self, key: bytes) -> None:
        assert self.probe.remove(key) == self.entries.pop(key, 0)

    def find(self, key: bytes) -> None:
        assert self.probe.find(key) == self.entries.get(key, 0)

    def apply(self, name: str, key: bytes) -> None:
        getattr(self, name)(key)

    def check(self) -> None:
        """Everything agrees, one by one, together and in order."""
        keys = sorted(self.entries)
        assert self.probe.check() == []
        for key in keys:
            self.find(key)
        assert self.probe.find_many(keys) == [self.entries[key] for key in keys]
        assert sorted(self.probe.walk()) == keys
        if self.probe.index.is_ordered:
            assert self.probe.walk() == keys
            assert self.probe.walk(is_reverse=True) == keys[::-1]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@given(steps=operations)
@pytest.mark.parametrize("kind", KINDS)
def test_an_index_agrees_with_a_dict(kind: str, steps: list[tuple[str, bytes]]) -> None:
    model = Model(IndexProbe(kind))
    for name, key in steps:
        model.apply(name, key)
    model.check()


@pytest.mark.parametrize("is_mapped", [True, False], ids=["mmap", "file"])
@pytest.mark.parametrize("family", FAMILIES)
def test_keys_that_look_alike_are_told_apart(
    kind: str, family: str, is_mapped: bool, rng: random.Random
) -> None:
    model = Model(IndexProbe(kind, is_mapped))
    for _ in range(5000 if is_mapped else 1500):
        name = rng.choices(["insert", "remove", "find"], [6, 3, 1])[0]
        model.apply(name, FAMILIES[family](rng))
    model.check()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("family", ["random bytes", "decimal numbers", "clusters", "long shared beginnings"])
def test_the_order_of_insertion_does_not_matter(
    kind: str, family: str, order: str, rng: random.Random
) -> None:
    model = Model(IndexProbe(kind))
    keys = list({FAMILIES[family](rng) for _ in range(6000)})
    for key in ORDERS[order](keys, rng):
        model.insert(key)
    model.check()


@pytest.mark.parametrize("order", ORDERS)
def test_an_index_emptied_in_any_order_can_be_filled_again(kind: str, order: str, rng: random.Random) -> None:
    model = Model(IndexProbe(kind))
    for _ in range(2):
        keys = list({FAMILIES["clusters"](rng) for _ in range(5000)})
        for key in rng.sample(keys, len(keys)):
            model.insert(key)
        for count, key in enumerate(ORDERS[order](keys, rng)):
            model.remove(key)
            if count % 500 == 0:
                assert model.probe.check() == []
        model.check()


def test_keys_of_the_greatest_size_are_told_apart_by_their_last_byte(kind: str, rng: random.Random) -> None:
    model = Model(IndexProbe(kind))
    keys = [bytes(65535) + bytes([last]) for last in range(256)]
    keys += [b"\xff" * size for size in range(65536 - 200, 65536 + 1)]
    for key in rng.sample(keys, len(keys)):
        model.insert(key)
    model.check()
    for key in rng.sample(keys, len(keys)):
        model.remove(key)
    model.check()


def test_find_many_agrees_with_find_for_present_and_missing_keys(kind: str, rng: random.Random) -> None:
    probe = IndexProbe(kind)
    keys = [FAMILIES["clusters"](rng) for _ in range(3000)]
    for key in keys[::2]:
        probe.insert(key)
    for size in (0, 1, 2, 15, 16, 17, 3000):
        assert probe.find_many(keys[:size]) == [probe.find(key) for key in keys[:size]]


def test_replace_changes_an_entry_only_when_it_is_the_expected_one(kind: str) -> None:
    probe = IndexProbe(kind)
    probe.insert(b"key")
    old = probe.find(b"key")
    new = probe.append(b"key")
    assert not probe.replace(b"key", new, new)
    assert not probe.replace(b"other", old, new)
    assert probe.find(b"key") == old
    assert probe.replace(b"key", old, new)
    assert probe.find(b"key") == new


def test_hold_many_tells_the_newest_record_of_a_key_from_older_ones(kind: str, rng: random.Random) -> None:
    probe = IndexProbe(kind)
    keys = list({FAMILIES["clusters"](rng) for _ in range(2000)})
    older = [probe.append(key) for key in keys]
    newer = [probe.append(key) for key in keys]
    for key, first, second in zip(keys, older, newer, strict=True):
        probe.upsert(key, first)
        probe.upsert(key, second)
    for key in keys[::5]:
        probe.remove(key)
    assert set(probe.hold_many(keys, older)) == {0}
    assert probe.hold_many(keys, newer) == [0 if i % 5 == 0 else 1 for i in range(len(keys))]


@IN_MEMORY
def test_clear_empties_an_index_and_gives_its_memory_back(kind: str) -> None:
    probe = TimedProbe(kind)
    empty = probe.memory_bytes()
    probe.prepare_many(20_000, 16, False, "ascending")
    probe.time_upserts(0, 20_000)
    assert probe.memory_bytes() > 20_000 * 16
    probe.clear()
    assert probe.walk() == []
    assert probe.memory_bytes() == empty
    probe.time_upserts(0, 20_000)
    assert len(probe.walk()) == 20_000


@pytest.mark.parametrize(
    ("size", "is_decimal", "order"),
    [
        (16, False, "shuffled"),
        (16, True, "shuffled"),
        (16, True, "ascending"),
        (16, True, "descending"),
        (200, False, "shuffled"),
        (200, True, "shuffled"),
        (200, True, "ascending"),
    ],
)
@IN_MEMORY
def test_a_key_costs_no_more_memory_than_promised(kind: str, size: int, is_decimal: bool, order: str) -> None:
    probe = TimedProbe(kind)
    probe.prepare_many(200_000, size, is_decimal, order)
    probe.time_upserts(0, 200_000)
    assert probe.memory_bytes() / 200_000 <= {"hash": 24, "btree": 40, "skiplist": 40}[kind]


def test_memory_of_removed_keys_is_used_again(kind: str) -> None:
    probe = TimedProbe(kind)
    probe.prepare_many(50_000, 16, False, "shuffled")
    probe.time_upserts(0, 50_000)
    full = probe.memory_bytes()
    for _ in range(3):
        probe.time_removes(0, 45_000)
        probe.time_upserts(0, 45_000)
    assert probe.memory_bytes() <= full * 1.1


@IN_MEMORY
@pytest.mark.parametrize("is_mapped", [True, False], ids=["mmap", "file"])
def test_a_damaged_key_is_an_error_and_never_a_missing_key(kind: str, is_mapped: bool) -> None:
    probe = IndexProbe(kind, is_mapped)
    for number in range(500):
        probe.insert(b"key:%06d" % number)
    position = probe.find(b"key:000123")
    probe.damage(position, 24 + 9)
    with pytest.raises(ValueError, match=f"{position:#x}"):
        probe.find(b"key:000123")
    with pytest.raises(ValueError, match=f"{position:#x}"):
        probe.remove(b"key:000123")
    with pytest.raises(ValueError, match=f"{position:#x}"):
        probe.upsert(b"key:000123", probe.append(b"key:000123"))
    assert probe.find_many([b"key:000123"]) == [None]
    for number in range(500):
        if number != 123:
            assert probe.find(b"key:%06d" % number) != 0


@pytest.mark.parametrize("kind", ["btree", "skiplist"])
@pytest.mark.parametrize("is_mapped", [True, False], ids=["mapped", "file"])
def test_a_damaged_record_hides_no_other_key(kind: str, is_mapped: bool) -> None:
    probe = IndexProbe(kind, is_mapped)
    # Beside this one a node shows of the others what they share, and 16 bits that may be equal by chance.
    probe.insert(b"far from them")
    one = _insert_at(probe, b"the same 0")
    probe.damage(one, LSN_OFFSET)
    twin = next(
        key for key in (b"the same %d" % number for number in range(1, 10**7)) if not _can_tell(probe, key)
    )
    probe.damage(one, LSN_OFFSET)
    other = _insert_at(probe, twin)
    for damaged, key, position in ((one, twin, other), (other, b"the same 0", one)):
        probe.damage(damaged, LSN_OFFSET)
        assert probe.find(key) == position
        assert probe.find_many([key]) == [position]
        probe.damage(damaged, LSN_OFFSET)


def _insert_at(probe: IndexProbe, key: bytes) -> int:
    """Where the record of a new key stands."""
    position = probe.append(key)
    assert probe.upsert(key, position) == 0
    return position


def _can_tell(probe: IndexProbe, key: bytes) -> bool:
    """Whether the index knows without a look at a damaged record that a key is absent."""
    try:
        return probe.find(key) == 0
    except ValueError:
        return False


@pytest.mark.parametrize("kind", ORDERED_KINDS)
@pytest.mark.parametrize("start", [b"123456", b"a longer beginning", b"one of more than thirty-two bytes"])
def test_keys_that_differ_in_their_last_bytes_only_are_told_apart_without_their_records(
    kind: str, start: bytes
) -> None:
    probe = IndexProbe(kind)
    probe.insert(b"\xff far from them")
    probe.damage(_insert_at(probe, start + b"0000"), LSN_OFFSET)
    keys = [start + b"000" + bytes([byte]) for byte in range(256)]
    keys += [start + b"00" + bytes([byte]) + b"0" for byte in range(256)]
    assert sum(not _can_tell(probe, key) for key in keys if key != start + b"0000") <= 2


def test_room_for_more_than_there_is_is_refused_and_nothing_changes(kind: str) -> None:
    probe = IndexProbe(kind)
    probe.insert(b"key")
    assert probe.reserve(1_000_000)
    assert not probe.reserve(1 << 44)
    assert probe.find(b"key") != 0
    assert probe.insert(b"other")


def test_readers_beside_a_writer_miss_no_key_that_is_always_there(kind: str, rng: random.Random) -> None:
    from concurrent.futures import ThreadPoolExecutor

    probe = TimedProbe(kind)
    changing = [b"%08d" % rng.randrange(10**8) + rng.choice([b"", ADDRESS]) for _ in range(20_000)]
    stable = [b"%08d" % rng.randrange(10**8) + rng.choice([b"+", ADDRESS + b"+"]) for _ in range(5000)]
    changing = list(set(changing))
    stable = list(set(stable))
    newest = max(int(probe.insert(key)) and probe.find(key) for key in stable)
    probe.prepare(changing)
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(probe.churn, CHURN_WRITES, rng.randrange(2**32))
        while not writer.done():
            assert probe.watch(stable, 4) == 0
            _, seen, disorder, _ = probe.count_walk(newest)
            assert (seen, disorder) == (len(stable), 0)
            if probe.index.is_ordered:
                _, seen, disorder, _ = probe.count_walk(newest, is_reverse=True)
                assert (seen, disorder) == (len(stable), 0)
        assert writer.result() == 0
    assert probe.check() == []


@pytest.mark.parametrize("kind", ORDERED_KINDS)
class TestOrderedWalks:
    """What only an ordered index can do."""

    @given(keys=st.sets(any_keys, max_size=200), start=any_keys, capacity=st.integers(1, 70))
    def test_a_walk_forwards_begins_at_its_start(
        self, kind: str, keys: set[bytes], start: bytes, capacity: int
    ) -> None:
        probe = IndexProbe(kind)
        for key in keys:
            probe.insert(key)
        ordered = sorted(keys)
        assert probe.walk(start, capacity=capacity) == ordered[bisect_left(ordered, start) :]

    @given(keys=st.sets(any_keys, max_size=200), stop=any_keys, capacity=st.integers(1, 70))
    def test_a_walk_backwards_begins_before_its_stop(
        self, kind: str, keys: set[bytes], stop: bytes, capacity: int
    ) -> None:
        probe = IndexProbe(kind)
        for key in keys:
            probe.insert(key)
        ordered = sorted(keys)
        expected = ordered[: bisect_left(ordered, stop)][::-1]
        assert probe.walk(stop, is_reverse=True, capacity=capacity) == expected

    @pytest.mark.parametrize("family", FAMILIES)
    def test_walks_from_any_key_agree_with_a_sorted_list(
        self, kind: str, family: str, rng: random.Random
    ) -> None:
        probe = IndexProbe(kind)
        ordered = sorted({FAMILIES[family](rng) for _ in range(4000)})
        for key in rng.sample(ordered, len(ordered)):
            probe.insert(key)
        for _ in range(100):
            start = FAMILIES[family](rng) + rng.choice([b"", b"", b"\0", b"\xff"])
            found = probe.walk(start, capacity=rng.choice([1, 7, 64, 500]), limit=150)
            assert found == ordered[bisect_left(ordered, start) :][:150]
            found = probe.walk(start, is_reverse=True, capacity=rng.choice([1, 7, 64, 500]), limit=150)
            assert found == ordered[: bisect_left(ordered, start)][::-1][:150]

    def test_a_walk_goes_on_after_its_last_key_was_removed(self, kind: str) -> None:
        probe = IndexProbe(kind)
        keys = [b"%06d" % number for number in range(1000)]
        for key in keys:
            probe.insert(key)
        first = probe.walk(capacity=100, limit=300)
        for key in first:
            probe.remove(key)
        assert probe.walk(first[-1]) == keys[bisect_right(keys, first[-1]) :]


def test_a_damaged_key_stops_a_walk_that_has_to_compare_it() -> None:
    probe = IndexProbe("btree")
    for number in range(300):
        probe.insert(b"%06d" % number)
    position = probe.find(b"000150")
    probe.damage(position, 24)
    with pytest.raises(ValueError, match=f"{position:#x}"):
        probe.walk(b"000150")


def test_keys_that_arrive_in_order_fill_the_leaves() -> None:
    probe = TimedProbe("btree")
    probe.prepare_many(100_000, 16, True, "ascending")
    probe.time_upserts(0, 100_000)
    assert probe.memory_bytes() / 100_000 < 20
