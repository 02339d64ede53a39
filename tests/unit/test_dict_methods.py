"""`DB` as a mutable mapping: each method does to a store what it does to a dict."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import pytest

from flash_kv import DB

OpenDB = Callable[..., DB]
ABSENT = object()


@pytest.fixture
def db(open_db: OpenDB) -> DB:
    store = open_db()
    store.update({b"a": b"1", b"b": b"2", b"c": b"3"})
    return store


def test_is_a_mutable_mapping(db: DB) -> None:
    assert isinstance(db, MutableMapping)
    assert isinstance(db, Mapping)


def test_item_access_reads_what_was_stored(db: DB) -> None:
    db[b"d"] = b"4"
    assert db[b"d"] == b"4"
    db[b"d"] = b"5"
    assert db[b"d"] == b"5"
    assert len(db) == 4


def test_missing_item_is_a_key_error_with_the_key(db: DB) -> None:
    with pytest.raises(KeyError) as caught:
        db[b"x"]
    assert caught.value.args == (b"x",)


def test_get_gives_the_default_for_a_missing_key(db: DB) -> None:
    assert db.get(b"a") == b"1"
    assert db.get(b"x") is None
    assert db.get(b"x", ABSENT) is ABSENT
    assert db.get(b"x", default=7) == 7


def test_put_and_delete_are_item_access_by_name(db: DB) -> None:
    assert db.put(b"d", b"4") is None  # type: ignore[func-returns-value]
    assert db[b"d"] == b"4"
    assert db.delete(b"d") is True
    assert db.delete(b"d") is False
    assert b"d" not in db


def test_del_of_a_missing_key_is_a_key_error(db: DB) -> None:
    del db[b"a"]
    with pytest.raises(KeyError) as caught:
        del db[b"a"]
    assert caught.value.args == (b"a",)
    assert len(db) == 2


def test_contains_and_len_follow_puts_and_deletes(db: DB) -> None:
    assert b"a" in db
    assert b"x" not in db
    assert len(db) == 3
    db.delete(b"a")
    assert b"a" not in db
    assert len(db) == 2
    db[b"a"] = b""
    assert b"a" in db
    assert len(db) == 3


def test_pop_takes_the_value_out(db: DB) -> None:
    assert db.pop(b"a") == b"1"
    assert b"a" not in db
    assert db.pop(b"a", ABSENT) is ABSENT
    with pytest.raises(KeyError) as caught:
        db.pop(b"a")
    assert caught.value.args == (b"a",)


def test_pop_takes_at_most_one_default(db: DB) -> None:
    with pytest.raises(TypeError, match="at most 2 arguments, got 3"):
        db.pop(b"a", 1, 2)  # type: ignore[call-overload]
    assert b"a" in db


def test_popitem_empties_the_store_then_raises(db: DB) -> None:
    taken = {}
    while len(db):
        key, value = db.popitem()
        taken[key] = value
    assert taken == {b"a": b"1", b"b": b"2", b"c": b"3"}
    with pytest.raises(KeyError, match="empty"):
        db.popitem()


@pytest.mark.parametrize("index", ["btree", "skiplist", "bptree"])
def test_popitem_takes_the_greatest_key_of_an_ordered_store(db: DB) -> None:
    assert db.popitem() == (b"c", b"3")


def test_setdefault_stores_only_what_is_missing(db: DB) -> None:
    assert db.setdefault(b"a", b"9") == b"1"
    assert db.setdefault(b"x", b"9") == b"9"
    assert db[b"x"] == b"9"
    assert db.setdefault(b"y") == b""
    assert db[b"y"] == b""
    assert len(db) == 5


OTHERS: dict[str, Callable[[], Any]] = {
    "dict": lambda: {b"a": b"x", b"d": b"4"},
    "pairs": lambda: [(b"a", b"x"), [b"d", b"4"]],
    "iterator": lambda: iter([(b"a", b"x"), (b"d", b"4")]),
    "items": lambda: {"a": "x", "d": "4"}.items(),
}


@pytest.mark.parametrize("other", OTHERS)
def test_update_takes_mappings_and_iterables_of_pairs(db: DB, other: str) -> None:
    db.update(OTHERS[other]())
    assert dict(db.items()) == {b"a": b"x", b"b": b"2", b"c": b"3", b"d": b"4"}


def test_update_takes_anything_with_keys(db: DB) -> None:
    class Keyed:
        def keys(self) -> list[bytes]:
            return [b"d"]

        def __getitem__(self, key: bytes) -> bytes:
            return key * 2

    db.update(Keyed())
    assert db[b"d"] == b"dd"


def test_update_takes_keywords_last(db: DB) -> None:
    db.update({b"k": b"mapping"}, k="keyword", self="me")
    assert db[b"k"] == b"keyword"
    assert db[b"self"] == b"me"


def test_update_with_nothing_changes_nothing(db: DB) -> None:
    before = db.stats().lsn
    db.update()
    db.update({})
    db.update([])
    assert db.stats().lsn == before


@pytest.mark.parametrize("pairs", [[(b"d", b"4"), (b"e",)], [(b"d", b"4"), 5], [(b"d", b"4"), (b"e", 5)], 5])
def test_update_that_fails_stores_nothing(db: DB, pairs: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        db.update(pairs)
    assert dict(db.items()) == {b"a": b"1", b"b": b"2", b"c": b"3"}


def test_update_in_place_by_operator(db: DB) -> None:
    same = db
    db |= {b"d": b"4"}
    db |= [(b"e", b"5")]
    assert db is same
    assert (db[b"d"], db[b"e"]) == (b"4", b"5")


def test_update_from_itself_and_from_another_store(db: DB, open_db: OpenDB) -> None:
    db.update(db)
    other = open_db("other")
    other.update(db)
    assert other == db


def test_update_is_one_commit(db: DB) -> None:
    with db.snapshot() as before:
        db.update({b"a": b"x", b"d": b"4"})
        assert dict(before.items()) == {b"a": b"1", b"b": b"2", b"c": b"3"}
    db.close()


def test_clear_leaves_an_empty_store_that_can_be_filled(db: DB, open_db: OpenDB) -> None:
    db.clear()
    assert len(db) == 0
    assert list(db.items()) == []
    assert db.get(b"a") is None
    db.clear()
    db[b"n"] = b"new"
    db.close()
    assert dict(open_db().items()) == {b"n": b"new"}


def test_equality_is_by_content(db: DB) -> None:
    assert db == {b"a": b"1", b"b": b"2", b"c": b"3"}
    assert db == {b"c": b"3", b"b": b"2", b"a": b"1"}
    assert db != {b"a": b"1"}
    assert db != {"a": "1", "b": "2", "c": "3"}
    assert db != [b"a"]


def test_is_not_hashable_as_a_dict_is_not(db: DB) -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(db)


def test_iteration_gives_every_key_once(db: DB) -> None:
    assert sorted(db) == [b"a", b"b", b"c"]
    assert sorted(key for key in db) == sorted(db.keys())
    assert dict(db) == {b"a": b"1", b"b": b"2", b"c": b"3"}


@pytest.mark.parametrize("index", ["btree", "skiplist", "bptree"])
def test_iteration_of_an_ordered_store_is_in_byte_order(open_db: OpenDB, rng: random.Random) -> None:
    store = open_db()
    names = [rng.randbytes(rng.randrange(1, 9)) for _ in range(500)]
    store.put_many((name, b"") for name in names)
    assert list(store) == sorted(set(names))
    assert list(reversed(store)) == sorted(set(names), reverse=True)


def test_put_many_takes_pairs_and_mappings(db: DB) -> None:
    db.put_many([(b"d", b"4"), (b"d", b"5")])
    db.put_many({b"e": b"6"})
    db.put_many((name, name) for name in [b"f", b"g"])
    db.put_many([])
    assert db.get_many([b"d", b"e", b"f", b"g"]) == [b"5", b"6", b"f", b"g"]


def test_put_many_whose_iterable_raises_stores_nothing(db: DB) -> None:
    def pairs() -> Any:
        yield b"d", b"4"
        raise ZeroDivisionError("in the middle")

    with pytest.raises(ZeroDivisionError):
        db.put_many(pairs())
    assert b"d" not in db


def test_get_many_keeps_the_order_and_says_what_is_missing(db: DB) -> None:
    assert db.get_many([b"c", b"x", b"a", b"c"]) == [b"3", None, b"1", b"3"]
    assert db.get_many([]) == []
    assert db.get_many(iter(["a", bytearray(b"b"), memoryview(b"c")])) == [b"1", b"2", b"3"]


def test_get_many_of_many_keys_equals_single_gets(open_db: OpenDB, rng: random.Random) -> None:
    store = open_db()
    store.put_many((b"%d" % number, b"%d" % (number * number)) for number in range(3000))
    store.put(b"7", b"large" * 50_000)
    names = [b"%d" % rng.randrange(4000) for _ in range(3000)] + [b"7", b"8"]
    assert store.get_many(names) == [store.get(name) for name in names]


def test_delete_many_counts_the_keys_that_were_there(db: DB) -> None:
    assert db.delete_many([b"a", b"x", b"a", b"c"]) == 2
    assert db.delete_many([b"a", b"x"]) == 0
    assert db.delete_many([]) == 0
    assert dict(db.items()) == {b"b": b"2"}


def test_delete_many_of_missing_keys_writes_nothing(db: DB) -> None:
    before = db.stats()
    db.delete_many([b"x", b"y"])
    db.delete(b"x")
    db.pop(b"x", None)
    after = db.stats()
    assert (after.lsn, after.dead_bytes) == (before.lsn, before.dead_bytes)


def test_repr_says_path_and_state(db: DB) -> None:
    assert str(db.path) in repr(db)
    assert "open" in repr(db)
    db.close()
    assert "closed" in repr(db)
