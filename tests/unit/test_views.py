"""Views of keys, values and items: whole and as sets, by prefix and bounds, forwards and in reverse."""

from __future__ import annotations

import collections.abc
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flash_kv import DB, ClosedError, KeyTypeError, UnorderedIndexError

OpenDB = Callable[..., DB]

CONTENT = {b"a": b"1", b"b": b"2", b"c": b"3"}
EDGE_KEYS = [
    *(bytes([byte]) for byte in (0, 1, 0x61, 0x62, 0xFE, 0xFF)),
    *(b"\xff" * count for count in range(2, 5)),
    b"\x00\x00",
    b"a\x00",
    b"a\xff",
    b"a\xff\xff",
    b"a\xff\x00",
    b"ab",
    b"b\x00",
    b"\xfe\xff",
    b"\xff\x00",
    b"\xff\xfe",
    b"prefix of eight" * 20,
    b"prefix of eight" * 20 + b"\x00",
]
BOUNDS = [None, b"", b"\x00", b"a", b"a\xff", b"b", b"\xfe", b"\xff", b"\xff\xff", b"\xff" * 9]
ordered = pytest.mark.parametrize("index", ["btree", "skiplist", "bptree"])
unordered = pytest.mark.parametrize("index", ["hash"])


@pytest.fixture
def db(open_db: OpenDB) -> DB:
    store = open_db()
    store.update(CONTENT)
    return store


def slice_of(
    content: dict[bytes, bytes], prefix: bytes | None, start: bytes | None, stop: bytes | None, reverse: bool
) -> list[tuple[bytes, bytes]]:
    """What a view with these bounds holds, by the definition."""
    chosen = [
        (key, value)
        for key, value in sorted(content.items(), reverse=reverse)
        if key.startswith(prefix or b"") and key >= (start or b"") and (stop is None or key < stop)
    ]
    return chosen


def test_views_are_the_abstract_views(db: DB) -> None:
    assert isinstance(db.keys(), collections.abc.KeysView)
    assert isinstance(db.values(), collections.abc.ValuesView)
    assert isinstance(db.items(), collections.abc.ItemsView)


def test_views_show_the_store_as_it_is_now(db: DB) -> None:
    keys, values, items = db.keys(), db.values(), db.items()
    db[b"d"] = b"4"
    del db[b"a"]
    assert sorted(keys) == [b"b", b"c", b"d"]
    assert sorted(values) == [b"2", b"3", b"4"]
    assert dict(items) == {b"b": b"2", b"c": b"3", b"d": b"4"}
    assert (len(keys), len(values), len(items)) == (3, 3, 3)


def test_views_know_what_they_contain(db: DB) -> None:
    assert b"a" in db.keys()
    assert "a" in db.keys()
    assert b"x" not in db.keys()
    assert b"1" in db.values()
    assert b"x" not in db.values()
    assert (b"a", b"1") in db.items()
    assert (b"a", b"2") not in db.items()
    assert (b"x", b"1") not in db.items()


@pytest.mark.parametrize("item", [(b"x", None), b"a", (b"a",), (b"a", b"1", b"2"), None, [b"a", b"1"]])
def test_what_is_no_item_of_the_store_is_not_among_its_items(db: DB, item: Any) -> None:
    assert item not in db.items()


def test_keys_are_a_set(db: DB) -> None:
    keys = db.keys()
    assert keys == {b"a", b"b", b"c"}
    assert keys & {b"a", b"x"} == {b"a"}
    assert keys | {b"x"} == {b"a", b"b", b"c", b"x"}
    assert keys - {b"a"} == {b"b", b"c"}
    assert keys ^ {b"a", b"x"} == {b"b", b"c", b"x"}
    assert {b"a"} < keys <= {b"a", b"b", b"c"}
    assert keys.isdisjoint([b"x", b"y"])
    assert {b"a", b"x"} - keys == {b"x"}


def test_items_are_a_set(db: DB) -> None:
    items = db.items()
    assert items == CONTENT.items()
    assert items & {(b"a", b"1"), (b"b", b"x")} == {(b"a", b"1")}
    assert items - {(b"a", b"1")} == {(b"b", b"2"), (b"c", b"3")}
    assert items ^ CONTENT.items() == set()


def test_views_of_two_stores_compare(db: DB, open_db: OpenDB) -> None:
    other = open_db("other")
    other.update(CONTENT)
    assert db.keys() == other.keys()
    assert db.items() == other.items()
    other[b"a"] = b"x"
    assert db.keys() == other.keys()
    assert db.items() - other.items() == {(b"a", b"1")}


def test_contains_of_a_wrong_type_says_so(db: DB) -> None:
    with pytest.raises(KeyTypeError):
        _ = 5 in db.keys()


def test_view_says_which_store_it_is_of(db: DB) -> None:
    assert str(db.path) in repr(db.items())


def test_view_of_a_closed_store_refuses(db: DB) -> None:
    view = db.items()
    iterator = iter(view)
    next(iterator)
    db.close()
    for use in (lambda: list(view), lambda: len(view), lambda: (b"a", b"1") in view, lambda: next(iterator)):
        with pytest.raises(ClosedError):
            use()


@ordered
def test_every_combination_of_bounds_is_the_slice_of_a_sorted_dict(open_db: OpenDB) -> None:
    db = open_db()
    content = {key: b"%d" % number for number, key in enumerate(EDGE_KEYS)}
    db.put_many(content)
    for prefix, start, stop in itertools.product(BOUNDS, BOUNDS, BOUNDS):
        for reverse in (False, True):
            limits: dict[str, Any] = {"prefix": prefix, "start": start, "stop": stop, "reverse": reverse}
            expected = slice_of(content, **limits)
            assert list(db.items(**limits)) == expected, limits
            assert list(db.keys(**limits)) == [key for key, _ in expected], limits
        assert len(db.values(prefix=prefix, start=start, stop=stop)) == len(expected)


@ordered
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_slices_equal_those_of_a_sorted_dict(open_db: OpenDB, data: st.DataObject) -> None:
    words = st.binary(max_size=4) | st.sampled_from(EDGE_KEYS)
    content = data.draw(st.dictionaries(words.filter(bool), st.binary(max_size=3), max_size=200))
    # Also closed when the strategies run dry in the middle.
    with open_db() as db:
        db.clear()
        db.put_many(content)
        for _ in range(10):
            limits = {
                name: data.draw(st.none() | words, label=name) for name in ("prefix", "start", "stop")
            } | {"reverse": data.draw(st.booleans(), label="reverse")}
            expected = slice_of(content, **limits)  # type: ignore[arg-type]
            assert list(db.items(**limits)) == expected
            assert list(reversed(db.items(**limits))) == expected[::-1]
            assert len(db.items(**limits)) == len(expected)


@ordered
def test_bounds_may_be_str_or_bytes_like(db: DB) -> None:
    assert list(db.keys(prefix="b")) == [b"b"]
    assert list(db.keys(start=bytearray(b"b"), stop=memoryview(b"c"))) == [b"b"]
    assert list(db.keys(start="b", reverse=True)) == [b"c", b"b"]


@ordered
@pytest.mark.parametrize("bound", ["prefix", "start", "stop"])
def test_bound_of_a_wrong_type_is_refused_at_once(db: DB, bound: str) -> None:
    with pytest.raises(KeyTypeError):
        db.keys(**{bound: 5})  # type: ignore[arg-type]


@ordered
def test_range_knows_what_it_contains(db: DB) -> None:
    view = db.keys(start="b", stop="c")
    assert b"b" in view
    assert b"a" not in view
    assert b"c" not in view
    assert view == {b"b"}
    assert (b"b", b"2") in db.items(prefix="b")
    assert (b"a", b"1") not in db.items(prefix="b")
    assert b"2" in db.values(prefix="b")
    assert b"1" not in db.values(prefix="b")


@ordered
def test_range_of_a_large_store_begins_where_it_should(open_db: OpenDB) -> None:
    db = open_db()
    names = [b"%08d" % number for number in range(0, 20_000, 2)]
    db.put_many((name, name) for name in names)
    for number in (0, 1, 9_999, 10_000, 19_998, 19_999):
        bound = b"%08d" % number
        expected = [name for name in names if name >= bound]
        assert list(db.keys(start=bound)) == expected
        assert list(db.keys(stop=bound)) == names[: len(names) - len(expected)]
        assert list(db.keys(stop=bound, reverse=True)) == names[: len(names) - len(expected)][::-1]
    assert list(db.values(prefix=b"000100")) == [name for name in names if name.startswith(b"000100")]


@ordered
def test_delete_range_deletes_exactly_the_slice(open_db: OpenDB) -> None:
    content = dict.fromkeys(EDGE_KEYS, b"")
    db = open_db()
    for prefix, start, stop in itertools.product(
        [None, b"a", b"\xff"], [None, b"a", b"\xff"], [None, b"b", b"\xff"]
    ):
        db.put_many(content)
        gone = {key for key, _ in slice_of(content, prefix, start, stop, False)}
        assert db.delete_range(prefix=prefix, start=start, stop=stop) == len(gone)
        assert set(db) == content.keys() - gone


RANGES: list[dict[str, Any]] = [
    {"prefix": b"a"},
    {"start": b"a"},
    {"stop": b"a"},
    {"stop": b""},
    {"reverse": True},
    {"start": b"b", "stop": b"a"},
]


@unordered
@pytest.mark.parametrize("limits", RANGES)
@pytest.mark.parametrize("view", ["keys", "values", "items"])
def test_range_of_an_unordered_store_names_the_kinds_that_can(
    db: DB, view: str, limits: dict[str, Any]
) -> None:
    with db.snapshot() as snapshot:
        for source in (db, snapshot):
            with pytest.raises(UnorderedIndexError, match="btree") as caught:
                getattr(source, view)(**limits)
            assert "hash" in str(caught.value)


@unordered
def test_other_ordered_uses_of_an_unordered_store_are_refused_too(db: DB) -> None:
    for use in (
        lambda: reversed(db),
        lambda: reversed(db.keys()),
        lambda: reversed(db.items()),
        lambda: db.delete_range(prefix=b"a"),
        lambda: db.delete_range(start=b"a", stop=b"b"),
    ):
        with pytest.raises(UnorderedIndexError, match="btree"):
            use()
    assert dict(db.items()) == CONTENT


@unordered
def test_whole_views_of_an_unordered_store_work(db: DB) -> None:
    assert set(db.keys(prefix=b"")) == CONTENT.keys()
    assert dict(db.items(start=b"")) == CONTENT
    assert sorted(db.values()) == sorted(CONTENT.values())
    assert db.delete_range() == 3
    assert len(db) == 0
