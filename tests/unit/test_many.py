"""Many keys at once: lists, iterators and arrays for get, put, delete and contains, and loads in key order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

from flash_kv import (
    DB,
    ClosedError,
    CorruptionError,
    KeyOrderError,
    KeySizeError,
    KeyTypeError,
    ReadOnlyError,
    ValueTypeError,
)
from flash_kv.io.memory_cy import allow_allocations, refuse_allocation
from support.damage import flip

OpenDB = Callable[..., DB]
SMALL = {"segment_bytes_max": 65536, "compaction": "off"}
KEYS = [b"key/%011d" % number for number in range(3000)]
CONTENT = {key: key[::-1] * (number % 5) for number, key in enumerate(KEYS)}

# Each gives the same keys in another form.
FORMS: dict[str, Callable[[list[bytes]], Any]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda keys: (key for key in keys),
    "str": lambda keys: [key.decode() for key in keys],
    "bytearray": lambda keys: [bytearray(key) for key in keys],
    "S": lambda keys: numpy.array(keys, "S16"),
    "wider S": lambda keys: numpy.array(keys, "S20"),
    "V": lambda keys: numpy.array(keys, "S15").view("V15"),
    "rows of bytes": lambda keys: numpy.array(keys, "S15").view("u1").reshape(-1, 15),
    "every other": lambda keys: numpy.array([key for key in keys for _ in "ab"], "S15")[::2],
    "backwards": lambda keys: numpy.array(keys[::-1], "S15")[::-1],
    "columns of an array": lambda keys: numpy.array(keys, "S19").view("u1").reshape(-1, 19)[:, :15],
    "memoryview": lambda keys: memoryview(b"".join(keys)).cast("B", (len(keys), 15)),
    "U": lambda keys: numpy.array([key.decode() for key in keys]),
    "objects": lambda keys: numpy.array(keys, object),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_keys_may_come_in_any_form(
    open_db: OpenDB, form: Callable[[list[bytes]], Any], rng: random.Random
) -> None:
    db = open_db(**SMALL)
    db.update(CONTENT)
    db.delete_many(KEYS[::7])
    chosen = rng.sample(KEYS, 2100)
    there = [KEYS.index(key) % 7 != 0 for key in chosen]
    assert db.contains_many(form(chosen)) == there
    assert db.get_many(form(chosen)) == [
        CONTENT[key] if found else None for key, found in zip(chosen, there, strict=True)
    ]
    with db.snapshot():
        assert db.delete_many(form(chosen[:1000])) == sum(there[:1000])
        assert db.contains_many(form(chosen)) == [False] * 1000 + there[1000:]
    db.put_many(form(chosen), form(chosen))
    assert dict(db.items()) == {
        **{key: CONTENT[key] for key in set(KEYS) - set(KEYS[::7])},
        **dict.fromkeys(chosen),
    } | {key: key for key in chosen}
    with db.batch() as batch:
        batch.delete_many(form(chosen[:500]))
        batch.put_many(form(chosen[500:]), form(chosen[500:]))
    assert db.contains_many(chosen) == [False] * 500 + [True] * 1600


def test_no_keys_at_all(open_db: OpenDB) -> None:
    db = open_db()
    for none in ([], (), iter(()), numpy.zeros(0, "V8"), numpy.zeros((0, 8), "u1")):
        assert db.get_many(none) == []
        assert db.contains_many(none) == []
        assert db.delete_many(none) == 0
    db.put_many([], [])
    db.put_many([], sorted=True)
    db.put_many(numpy.zeros(0, "V8"), numpy.zeros(0), sorted=True)
    assert len(db) == 0


def test_zeros_at_the_end_count_in_bytes_and_not_in_text(open_db: OpenDB) -> None:
    db = open_db()
    text = numpy.array([b"a\0b", b"c"], "S4")
    db.put_many(text, text)
    assert dict(db.items()) == {b"a\0b": b"a\0b", b"c": b"c"} == dict(zip(text, text, strict=True))
    db.put_many(text.view("V4"), text.view("V4"))
    assert db[b"c\0\0\0"] == b"c\0\0\0"
    db.put_many(text.view("u1").reshape(2, 4), text)
    assert db[b"c\0\0\0"] == b"c"


def test_values_of_any_item(open_db: OpenDB) -> None:
    db = open_db()
    vectors = numpy.arange(24, dtype="f4").reshape(3, 4, 2)
    db.put_many(["a", "b", "c"], vectors)
    db.put_many(numpy.array([b"d", b"e", b"f"]), vectors)
    for key, vector in zip("abcdef", itertools.chain(vectors, vectors), strict=True):
        assert numpy.array_equal(numpy.frombuffer(db.view(key), "f4").reshape(4, 2), vector)
    db.put_many(numpy.array([b"n"]), numpy.array([1], "<i8"))
    assert db[b"n"] == b"\1" + bytes(7)
    db.put_many(numpy.array([b"u"]), numpy.array([200], "u1"))
    assert db[b"u"] == b"\xc8"
    db.put_many(numpy.array([b"t"]), numpy.array(["é"]))
    assert db[b"t"] == "é".encode()
    db.put_many(numpy.array([b"o"]), numpy.array([b"object"], object))
    assert db[b"o"] == b"object"
    db.put_many(numpy.array([b"none"]), numpy.zeros((1, 0)))
    assert db[b"none"] == b""


@pytest.mark.parametrize("is_sorted", [False, True])
def test_what_does_not_make_pairs_is_refused(open_db: OpenDB, is_sorted: bool) -> None:
    db = open_db()
    pairs: list[tuple[Any, Any]] = [
        (["a", "b"], ["1"]),
        (iter("ab"), iter("123")),
        (numpy.array([b"a", b"b"]), numpy.zeros(3)),
    ]
    for keys, values in pairs:
        with pytest.raises(ValueError, match=r"zip\(\)|do not make pairs"):
            db.put_many(keys, values, sorted=is_sorted)
    assert len(db) == 0
    with db.batch() as batch, pytest.raises(ValueError, match="do not make pairs"):
        batch.put_many(*pairs[2])


def test_what_is_no_key_is_refused_and_nothing_written(open_db: OpenDB) -> None:
    db = open_db()
    wrong: list[tuple[Any, type[Exception]]] = [
        ([b"a", 1], KeyTypeError),
        (b"abc", KeyTypeError),
        (numpy.zeros(2, "S4"), KeySizeError),
        (numpy.zeros((2, 0), "u1"), KeySizeError),
        (numpy.zeros(1, "V65537"), KeySizeError),
        ([b"a", b""], KeySizeError),
        (numpy.asfortranarray(numpy.zeros((2, 4), "u1")), KeyTypeError),
    ]
    for keys, error in wrong:
        for use in (
            db.get_many,
            db.contains_many,
            db.delete_many,
            lambda keys: db.put_many(keys, itertools.repeat("1", len(keys))),
        ):
            with pytest.raises(error):
                use(keys)
    with pytest.raises(ValueTypeError):
        db.put_many(["a"], [1])  # type: ignore[list-item]
    assert len(db) == 0


def test_an_iterator_that_raises_leaves_nothing(open_db: OpenDB) -> None:
    db = open_db()

    def some() -> Iterator[str]:
        yield "a"
        raise ZeroDivisionError

    for use in (db.get_many, db.contains_many, db.delete_many, lambda keys: db.put_many(keys, keys)):
        with pytest.raises(ZeroDivisionError):
            use(some())
    assert len(db) == 0


def test_contains_many_takes_an_endless_iterator_no_further_than_needed(open_db: OpenDB) -> None:
    """In pieces: a store that the iterator closes is found closed by the next one."""
    db = open_db()

    def closing() -> Iterator[bytes]:
        for number in itertools.count():
            if number == 5000:
                db.close()
            yield b"%d" % number

    with pytest.raises(ClosedError):
        db.contains_many(closing())


# An index on disk has whole keys and does not look at records.
@pytest.mark.parametrize("index", ["hash", "btree", "skiplist"])
def test_contains_many_tells_damage(open_db: OpenDB) -> None:
    with open_db(**SMALL) as db:
        db.update(CONTENT)
    db = open_db(**SMALL)
    path = sorted(db.path.glob("*.seg"))[0]
    flip(path, path.read_bytes().index(KEYS[5]) + 14)
    with pytest.raises(CorruptionError):
        db.contains_many(KEYS)
    assert db.contains_many(KEYS[100:]) == [True] * 2900


@pytest.mark.parametrize("use", ["get_many", "contains_many"])
def test_without_memory_a_look_up_is_refused(open_db: OpenDB, use: str) -> None:
    db = open_db()
    db.update(CONTENT)
    for keys in (KEYS, numpy.array(KEYS)):
        for nth in (1, 2):
            refuse_allocation(nth)
            try:
                with pytest.raises(MemoryError):
                    getattr(db, use)(keys)
            finally:
                assert allow_allocations() == 1
    assert db.contains_many(KEYS) == [True] * 3000


# -- in key order


@pytest.mark.parametrize("values", [None, "list", "S"])
@pytest.mark.parametrize("before", ["empty", "below", "above", "between", "same", "snapshot", "deleted"])
def test_a_sorted_load_is_what_single_puts_are(open_db: OpenDB, before: str, values: str | None) -> None:
    db = open_db(**SMALL)
    expected: dict[bytes, bytes] = {}
    if before != "empty":
        expected = {
            "below": {b"a%d" % number: b"1" for number in range(100)},
            "above": {b"z%d" % number: b"1" for number in range(100)},
            "between": {key + b"+": b"1" for key in KEYS[::3]},
            "same": dict.fromkeys(KEYS[::2], b"1"),
            "snapshot": dict.fromkeys(KEYS[::2], b"1"),
            "deleted": dict.fromkeys(KEYS, b"1"),
        }[before]
        db.update(expected)
    if before == "deleted":
        db.clear()
        expected = {}
    snapshot = db.snapshot()
    if before != "snapshot":
        snapshot.close()
    old = dict(expected)
    if values is None:
        db.put_many(CONTENT.items(), sorted=True)
        expected |= CONTENT
    else:
        db.put_many(FORMS[values](KEYS), FORMS[values](KEYS), sorted=True)
        expected |= {key: key for key in KEYS}
    assert dict(db.items()) == expected
    assert len(db) == len(expected)
    assert db.get_many(KEYS) == [expected[key] for key in KEYS]
    if before == "snapshot":
        assert dict(snapshot) == old
        snapshot.close()
    db.compact()
    assert dict(db.items()) == expected
    db.close()
    assert dict(open_db(**SMALL).items()) == expected


def test_a_mapping_may_be_loaded_sorted_and_a_key_come_twice(open_db: OpenDB) -> None:
    db = open_db(**SMALL)
    db.put_many(CONTENT, sorted=True)
    assert dict(db.items()) == CONTENT
    db.put_many(((b"z%d" % (number // 3), b"%d" % number) for number in range(30)), sorted=True)
    assert db.get_many([b"z0", b"z9"]) == [b"2", b"29"]
    assert len(db) == 3010


def broken_orders() -> list[tuple[int, list[bytes]]]:
    """The number of the first key out of order, and the keys."""
    first_of_a_piece = 2000
    return [
        (1, [b"b", b"a"]),
        (1, [b"aa", b"a"]),
        (2, [b"a", b"a", b"A"]),
        (2999, [*KEYS[:2999], b"a"]),
        (first_of_a_piece, [*KEYS[:first_of_a_piece], *KEYS[1:]]),
    ]


@pytest.mark.parametrize("form", ["list", "S"])
@pytest.mark.parametrize(("number", "keys"), broken_orders())
def test_a_key_out_of_order_ends_a_sorted_load(
    open_db: OpenDB, number: int, keys: list[bytes], form: str
) -> None:
    db = open_db(**SMALL)
    with pytest.raises(KeyOrderError) as caught:
        db.put_many(
            FORMS[form](keys),
            FORMS["list" if form == "list" else "V"](KEYS[: len(keys)])
            if form == "list"
            else numpy.zeros(len(keys), "V8"),
            sorted=True,
        )
    assert (caught.value.number, caught.value.key) == (number, keys[number])
    stored = list(db)
    assert sorted(stored) == sorted(set(keys[: len(stored)]))
    assert len(stored) <= number
    db.close()
    assert sorted(open_db(**SMALL)) == sorted(stored)


def test_any_place_where_order_may_break_is_seen(open_db: OpenDB, rng: random.Random) -> None:
    """Also between two pieces. Every fifth place, from one of chance."""
    db = open_db(**SMALL)
    keys = [b"%04d" % number for number in range(0, 1200, 2)]
    for place in range(rng.randint(1, 5), len(keys), 5):
        wrong = [*keys[:place], b"%04d" % (2 * place - 3), *keys[place:]]
        with pytest.raises(KeyOrderError) as caught:
            db.put_many(((key, bytes(200)) for key in wrong), sorted=True)
        assert caught.value.number == place


def test_pieces_of_a_load_that_raises_stay(open_db: OpenDB) -> None:
    db = open_db(**SMALL)

    def some() -> Iterator[tuple[bytes, bytes]]:
        for number in range(1000):
            yield b"%04d" % number, bytes(100)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.put_many(some(), sorted=True)
    stored = sorted(db)
    assert 0 < len(stored) < 1000
    assert stored == [b"%04d" % number for number in range(len(stored))]
    # The next load begins anew.
    db.put_many([(b"0000", b"again")], sorted=True)
    assert db[b"0000"] == b"again"


def test_a_read_only_store_takes_no_load(open_db: OpenDB) -> None:
    open_db().close()
    db = open_db(read_only=True)
    with pytest.raises(ReadOnlyError):
        db.put_many([(b"a", b"1")], sorted=True)
    assert db.contains_many([b"a"]) == [False]


@pytest.mark.parametrize("index", ["btree"])
def test_a_load_behind_a_damaged_last_key_tells_it(open_db: OpenDB) -> None:
    """Tied in the index, the last key has to be compared; nothing is written when it cannot be."""
    first, last = (b"the same beginning/%d" % number + b"x" * 20 for number in (1, 2))
    with open_db(**SMALL) as db:
        db.put_many([(first, b"1"), (last, b"2")], sorted=True)
    db = open_db(**SMALL)
    path = sorted(db.path.glob("*.seg"))[0]
    flip(path, path.read_bytes().index(last) + 2)
    before = db.stats().lsn
    for is_sorted in (True, False):
        with pytest.raises(CorruptionError):
            db.put_many([(last + b"y", b"3"), (last + b"z", b"4")], sorted=is_sorted)
        assert db.stats().lsn == before
    db.put_many([(b"a", b"1")], sorted=True)
    assert db[b"a"] == b"1"


@pytest.mark.parametrize("index", ["btree"])
@pytest.mark.parametrize("size", [1, 7, 8, 9, 40])
def test_the_tree_is_sound_after_sorted_loads(open_db: OpenDB, size: int, rng: random.Random) -> None:
    db = open_db()
    loaded: set[bytes] = set()
    for turn in range(6):
        keys = sorted({bytes(rng.choices(b"\0\1ab\xff", k=rng.randrange(1, size + 1))) for _ in range(900)})
        if turn % 3:
            keys = [max(loaded) + key for key in keys]
        db.put_many(((key, b"") for key in keys), sorted=True)
        loaded.update(keys)
        assert list(db) == sorted(loaded)
        assert db.contains_many(loaded) == [True] * len(loaded)
