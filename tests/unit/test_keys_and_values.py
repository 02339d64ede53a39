"""What is taken as a key or a value, what is refused, and how large it may be."""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any

import pytest

from flash_kv import DB, FlashKVError, KeySizeError, KeyTypeError, ValueTypeError

OpenDB = Callable[..., DB]
KEY_BYTES_MAX = 65536


def put_in_batch(db: DB, key: Any, value: Any) -> None:
    with db.batch() as batch:
        batch.put(key, value)


WRITES: dict[str, Callable[[DB, Any, Any], object]] = {
    "put": lambda db, key, value: db.put(key, value),
    "item": lambda db, key, value: db.__setitem__(key, value),
    "put_many": lambda db, key, value: db.put_many([(key, value)]),
    "sorted put_many": lambda db, key, value: db.put_many([(key, value)], sorted=True),
    "keys and values": lambda db, key, value: db.put_many([key], [value]),
    "update": lambda db, key, value: db.update([(key, value)]),
    "setdefault": lambda db, key, value: db.setdefault(key, value),
    "batch": lambda db, key, value: put_in_batch(db, key, value),
}
KEY_USES: dict[str, Callable[[DB, Any], object]] = {
    **{name: (lambda db, key, write=write: write(db, key, b"value")) for name, write in WRITES.items()},
    "get": lambda db, key: db.get(key),
    "get item": lambda db, key: db[key],
    "contains": lambda db, key: key in db,
    "delete": lambda db, key: db.delete(key),
    "del item": lambda db, key: db.__delitem__(key),
    "pop": lambda db, key: db.pop(key, None),
    "get_many": lambda db, key: db.get_many([b"a", key]),
    "contains_many": lambda db, key: db.contains_many([b"a", key]),
    "view": lambda db, key: db.view(key),
    "delete_many": lambda db, key: db.delete_many([b"a", key]),
    "batch delete": lambda db, key: db.batch().delete(key),
}


@pytest.mark.parametrize(
    "given", [b"key", "key", bytearray(b"key"), memoryview(b"key"), array.array("b", b"key")]
)
def test_bytes_like_and_str_are_the_same_key_and_value(open_db: OpenDB, given: Any) -> None:
    db = open_db()
    for write in WRITES.values():
        write(db, given, given)
        assert given in db
        assert db[b"key"] == db[given] == db.get(given) == db.get_many([given])[0] == b"key"
        assert [type(found) for item in db.items() for found in item] == [bytes, bytes]
        assert db.pop(given) == b"key"
        assert not db.delete(given)


def test_str_is_encoded_as_utf_8(open_db: OpenDB) -> None:
    db = open_db()
    db["schlüssel €"] = "wert 🗝"
    assert db["schlüssel €".encode()] == "wert 🗝".encode()
    assert list(db) == ["schlüssel €".encode()]


@pytest.mark.parametrize("use", KEY_USES)
def test_str_that_has_no_utf_8_is_refused(open_db: OpenDB, use: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        KEY_USES[use](open_db(), "\ud800")


@pytest.mark.parametrize("write", WRITES)
def test_value_that_has_no_utf_8_is_refused(open_db: OpenDB, write: str) -> None:
    db = open_db()
    with pytest.raises(UnicodeEncodeError):
        WRITES[write](db, b"key", "\ud800")
    assert len(db) == 0


@pytest.mark.parametrize("key", [b"", "", bytearray(), memoryview(b"")])
@pytest.mark.parametrize("use", KEY_USES)
@pytest.mark.parametrize(("index", "io"), [("hash", "mmap"), ("btree", "file"), ("skiplist", "mmap")])
def test_empty_key_is_a_value_error(open_db: OpenDB, use: str, key: Any) -> None:
    db = open_db()
    db[b"a"] = b"1"
    with pytest.raises(KeySizeError) as caught:
        KEY_USES[use](db, key)
    assert isinstance(caught.value, ValueError)
    assert dict(db.items()) == {b"a": b"1"}


@pytest.mark.parametrize("key", [5, None, 1.5, ("a",), object(), [1], memoryview(b"abcd")[::2]])
@pytest.mark.parametrize("use", KEY_USES)
@pytest.mark.parametrize(("index", "io"), [("hash", "mmap"), ("btree", "file"), ("skiplist", "mmap")])
def test_key_of_a_wrong_type_is_a_type_error_that_names_it(open_db: OpenDB, use: str, key: Any) -> None:
    db = open_db()
    db[b"a"] = b"1"
    with pytest.raises(KeyTypeError) as caught:
        KEY_USES[use](db, key)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, FlashKVError)
    assert type(key).__name__ in str(caught.value)
    assert dict(db.items()) == {b"a": b"1"}


@pytest.mark.parametrize("value", [5, None, 1.5, ["a"], memoryview(b"abcd")[::2]])
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(("index", "io"), [("hash", "mmap"), ("btree", "file"), ("skiplist", "mmap")])
def test_value_of_a_wrong_type_is_a_type_error_that_names_it(open_db: OpenDB, write: str, value: Any) -> None:
    db = open_db()
    with pytest.raises(ValueTypeError) as caught:
        WRITES[write](db, b"key", value)
    assert isinstance(caught.value, TypeError)
    assert type(value).__name__ in str(caught.value)
    assert len(db) == 0


def test_empty_value_is_a_value(open_db: OpenDB) -> None:
    db = open_db()
    db[b"k"] = b""
    assert db[b"k"] == b""
    assert b"k" in db
    assert db.get(b"k", b"default") == b""
    assert db.get_many([b"k"]) == [b""]
    assert list(db.items()) == [(b"k", b"")]
    db.close()
    assert open_db()[b"k"] == b""


def test_longest_key_is_stored_and_one_byte_more_is_refused(open_db: OpenDB) -> None:
    db = open_db()
    longest = b"k" * KEY_BYTES_MAX
    for name, write in WRITES.items():
        with pytest.raises(KeySizeError) as caught:
            write(db, longest + b"k", b"v")
        assert "65537" in str(caught.value), name
    with pytest.raises(KeySizeError):
        db.get(longest + b"k")
    with pytest.raises(KeySizeError):
        db.get_many([longest + b"k"])
    db[longest] = b"v"
    db[longest[:-1]] = b"w"
    assert db[longest] == b"v"
    assert sorted(db) == [longest[:-1], longest]
    db.close()
    reopened = open_db()
    assert reopened.get_many([longest, longest[:-1]]) == [b"v", b"w"]
    assert reopened.delete(longest)


@pytest.mark.parametrize("size", [65536, 65536 - 64, 65537, 200_000, 5_000_000])
def test_value_larger_than_a_segment_is_stored(open_db: OpenDB, size: int) -> None:
    db = open_db(segment_bytes_max=65536, reserve_bytes=0)
    value = bytes(range(251)) * (size // 251 + 1)
    value = value[:size]
    db[b"before"] = b"small"
    db[b"large"] = value
    db[b"after"] = b"small"
    db[b"large too"] = value
    del db[b"large too"]
    assert db[b"large"] == value
    db.compact()
    assert db[b"large"] == value
    db.close()
    assert dict(open_db().items()) == {b"before": b"small", b"large": value, b"after": b"small"}


def test_batch_larger_than_a_segment_is_stored_whole(open_db: OpenDB) -> None:
    db = open_db(segment_bytes_max=65536, reserve_bytes=0)
    pairs = {b"%d" % number: b"v" * 1000 for number in range(500)}
    db.put_many(pairs)
    db.close()
    reopened = open_db()
    assert dict(reopened.items()) == pairs
    assert reopened.delete_many(pairs) == 500
    reopened.close()
    assert len(open_db()) == 0


def test_changing_the_buffer_afterwards_changes_nothing(open_db: OpenDB) -> None:
    db = open_db()
    key, value = bytearray(b"key"), bytearray(b"value")
    db.put(key, value)
    batch = db.batch()
    batch.put(b"batch", value)
    key[:] = b"KEY"
    value[:] = b"VALUE"
    batch.commit()
    assert dict(db.items()) == {b"key": b"value", b"batch": b"value"}
    # No call keeps hold of a buffer: an exported one could not be resized.
    key.append(1)
    value.clear()


def test_keys_with_any_bytes_are_told_apart(open_db: OpenDB) -> None:
    db = open_db()
    names = [bytes([first]) for first in range(256)] + [bytes([0] * count) for count in range(2, 40)]
    names += [b"\xff" * count for count in range(2, 40)]
    db.put_many((name, name) for name in names)
    assert db.get_many(names) == names
    assert sorted(db) == sorted(names)
