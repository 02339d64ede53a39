"""`TypedDB`: a dict of typed keys and values with everything a `DB` has, and errors that say which key."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import flash_kv
from flash_kv import (
    DB,
    ClosedError,
    CodecMismatchError,
    ConflictError,
    DecodeError,
    EncodeError,
    KeyOrderError,
    OptionsError,
    Snapshot,
    TypedBatch,
    TypedDB,
    TypedSnapshot,
    UnorderedIndexError,
    WriteBatch,
)
from flash_kv.codecs import Json, Raw, RawKeys, Str, TupleKeys
from flash_kv.codecs.codec import Codec


@pytest.fixture
def db(tmp_path: Path) -> Iterator[TypedDB[Any, Any]]:
    with flash_kv.open(tmp_path / "db", codec="json", key_codec="tuple") as db:
        yield db


# For the package's own modules, and what is about the log: `db.raw.changes()`.
BYTES_ONLY = {"check_open", "store", "check_readable", "changes"}


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("typed", "plain"), [(TypedDB, DB), (TypedSnapshot, Snapshot), (TypedBatch, WriteBatch)]
)
def test_everything_a_store_has_is_there(typed: type, plain: type) -> None:
    assert public(plain) - public(typed) - BYTES_ONLY == set()
    protocol = {name for name in vars(MutableMapping) if name.startswith("__") and hasattr(plain, name)}
    assert {name for name in protocol if not hasattr(typed, name)} == set()


def test_records_are_encoded_as_values_are(db: TypedDB[Any, Any]) -> None:
    lsn = db.put_record(("a", 1), {"n": 1}, ttl_s=60, meta="m", if_lsn=0)
    found = db.get_record(("a", 1))
    assert found is not None
    assert (found.value, found.lsn, found.meta) == ({"n": 1}, lsn, b"m")
    assert found.expires_at is not None
    assert db.get_record(("b",)) is None
    with db.batch() as batch:
        batch.put_record(("b",), [2], meta=b"two")
        batch.require(("a", 1), lsn)
    assert [(key, record.value, record.meta) for key, record in db.records()] == [
        (("a", 1), {"n": 1}, b"m"),
        (("b",), [2], b"two"),
    ]
    assert [key for key, _ in db.records(prefix=("a",))] == [("a", 1)]
    assert list(batch.lsns) == [db.last_lsn]
    with pytest.raises(ConflictError):
        db.delete_record(("b",), if_lsn=lsn)
    assert db.delete_record(("b",)) == db.last_lsn
    with db.snapshot() as snapshot:
        assert [record.value for _, record in snapshot.records()] == [{"n": 1}]
    assert db.remove_expired() == 0


def test_many_at_once_are_encoded_as_single_ones(db: TypedDB[Any, Any]) -> None:
    names = [("a", number) for number in range(20)]
    db.put_many(names, range(20))
    assert db.contains_many([("a", 3), ("a", 20), ("b",)]) == [True, False, False]
    with db.batch() as batch:
        batch.put_many([("b", 1), ("b", 0)], ["one", "zero"])
    db.put_many((((n,), None) for n in range(50)), sorted=True)
    assert db.get_many([("a", 19), ("b", 0), (49,)]) == [19, "zero", None]
    assert len(db) == 72
    with pytest.raises(KeyOrderError):
        db.put_many([((2,), None), ((1,), None)], sorted=True)
    with pytest.raises(ValueError, match="zip"):
        db.put_many([(1,), (2,)], [1])


class AgainstADict(RuleBasedStateMachine):
    """Any sequence of calls leaves what it leaves in a dict."""

    KEYS = st.tuples(st.sampled_from(["a", "b", 1, 1.5, None]), st.integers(0, 3))
    VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=4)

    @initialize(index=st.sampled_from(["btree", "hash"]))
    def begin(self, index: Any) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory(prefix="flash-kv-test-")
        self.options: dict[str, Any] = {
            "codec": "json",
            "key_codec": "tuple",
            "index": index,
            "reserve_bytes": 0,
        }
        self.is_ordered = index == "btree"
        self.db = flash_kv.open(f"{self.folder.name}/db", **self.options)
        self.model: dict[Any, Any] = {}

    @rule(key=KEYS, value=VALUES)
    def put(self, key: Any, value: Any) -> None:
        self.db[key] = self.model[key] = value

    @rule(key=KEYS, value=VALUES)
    def setdefault(self, key: Any, value: Any) -> None:
        assert self.db.setdefault(key, value) == self.model.setdefault(key, value)

    @rule(key=KEYS)
    def pop(self, key: Any) -> None:
        assert self.db.pop(key, "absent") == self.model.pop(key, "absent")

    @rule(key=KEYS)
    def delete(self, key: Any) -> None:
        assert self.db.delete(key) == (self.model.pop(key, self) is not self)

    @rule()
    def popitem(self) -> None:
        if self.model:
            key, value = self.db.popitem()
            assert self.model.pop(key) == value

    @rule(keys=st.lists(KEYS, max_size=3))
    def delete_many(self, keys: list[Any]) -> None:
        assert self.db.delete_many(keys) == sum(self.model.pop(key, self) is not self for key in keys)

    @rule(pairs=st.dictionaries(KEYS, VALUES, max_size=4), is_mapping=st.booleans())
    def put_many(self, pairs: dict[Any, Any], is_mapping: bool) -> None:
        self.db.put_many(pairs if is_mapping else iter(pairs.items()))
        self.model.update(pairs)

    @rule(pairs=st.dictionaries(KEYS, VALUES, max_size=4))
    def batch(self, pairs: dict[Any, Any]) -> None:
        with self.db.batch() as batch:
            for key, value in pairs.items():
                batch.delete(key)
                assert key not in batch
                batch[key] = value
                assert batch[key] == batch.get(key) == value
            assert len(batch) == 2 * len(pairs)
        self.model.update(pairs)

    @rule(first=st.sampled_from(["a", "b", 1, 1.5, None]))
    def delete_range(self, first: Any) -> None:
        if self.is_ordered:
            gone = [key for key in self.model if key[0] == first]
            assert self.db.delete_range(prefix=(first,)) == len(gone)
            for key in gone:
                del self.model[key]

    @rule()
    def clear(self) -> None:
        self.db.clear()
        self.model.clear()

    @rule()
    def reopen(self) -> None:
        self.db.close()
        self.db = flash_kv.open(f"{self.folder.name}/db", **self.options)

    @invariant()
    def it_is_what_the_dict_is(self) -> None:
        if not hasattr(self, "db"):
            return
        assert self.db == self.model
        assert len(self.db) == len(self.model)
        assert set(self.db) == set(self.model)
        keys = list(self.model)
        assert self.db.get_many([*keys, ("absent",)]) == [*self.model.values(), None]
        with self.db.snapshot() as snapshot:
            assert dict(snapshot) == self.model
            assert len(snapshot) == len(self.model)

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            self.folder.cleanup()


TestAgainstADict = AgainstADict.TestCase
TestAgainstADict.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


def test_the_dict_interface(db: TypedDB[Any, Any]) -> None:
    assert isinstance(db, MutableMapping)
    db.update({("a", 1): [1], ("b",): {"x": None}})
    db.update([((3,), "three")])
    db |= {(3,): "drei"}
    assert db["a", 1] == [1]
    assert ("a", 1) in db
    assert ("a",) not in db
    with pytest.raises(KeyError) as caught:
        db["absent",]
    assert caught.value.args == (("absent",),)
    with pytest.raises(KeyError):
        del db["absent",]
    with pytest.raises(KeyError):
        db.pop(("absent",))
    assert list(reversed(db)) == [("b",), ("a", 1), (3,)]
    assert list(reversed(db.keys())) == [("b",), ("a", 1), (3,)]
    assert list(reversed(db.values())) == [{"x": None}, [1], "drei"]
    assert next(reversed(db.items())) == (("b",), {"x": None})
    assert db.keys() & {("b",), ("c",)} == {("b",)}
    assert "drei" in db.values()
    assert ((3,), "drei") in db.items()
    assert ((3,), "three") not in db.items()
    assert ((3,), "drei") not in db.items(start=("a",))
    assert "no pair" not in db.items()
    assert (3,) not in db.keys(start=("a",))
    assert len(db.keys(start=("a",))) == 2
    assert db.popitem() == (("b",), {"x": None})
    assert bool(db)
    del db["a", 1]
    assert db.get(("a", 1), "default") == "default"
    db.clear()
    assert len(db) == 0
    with pytest.raises(KeyError, match="empty"):
        db.popitem()


def test_a_null_is_a_value(db: TypedDB[Any, Any]) -> None:
    db[1,] = None
    assert (1,) in db
    assert db[1,] is None
    assert db.get((1,), "default") is None
    assert db.pop((1,), "default") is None
    assert db.setdefault((2,)) is None
    assert dict(db) == {(2,): None}


def test_what_is_passed_on(tmp_path: Path, db: TypedDB[Any, Any]) -> None:
    db[1,] = "value"
    db.sync()
    assert db.stats().keys == 1
    assert db.verify().is_ok
    assert db.compact(dry_run=True).is_dry_run
    assert db.backup(tmp_path / "copy").keys == 1
    assert db.path == tmp_path / "db"
    assert db.options.index == "btree"
    assert (db.raw.codecs, db.codecs) == (("json", "tuple"), ("json", "tuple"))
    assert (db.codec.name, db.key_codec.name) == ("json", "tuple")
    assert bytes(db.view((1,)) or b"") == b'"value"'
    assert db.view((2,), "default") == "default"
    assert DB.compact.__doc__ == TypedDB.compact.__doc__
    assert "json/tuple" in repr(db)
    with flash_kv.open(tmp_path / "copy", codec="json", key_codec="tuple") as copy:
        assert copy == db
    db.close()
    assert db.closed
    with pytest.raises(ClosedError):
        db[1,]


def test_a_snapshot_is_of_its_moment(db: TypedDB[Any, Any]) -> None:
    db[1,] = "old"
    with db.snapshot() as snapshot:
        db[1,] = "new"
        db[2,] = "more"
        assert isinstance(snapshot, Mapping)
        assert (dict(snapshot), snapshot.db, snapshot[1,]) == ({(1,): "old"}, db, "old")
        assert list(snapshot.items(prefix=(1,))) == [((1,), "old")]
        assert snapshot.sequence == snapshot.raw.sequence
        assert bytes(snapshot.view((1,)) or b"") == b'"old"'
        assert "Snapshot" in repr(snapshot)
    assert snapshot.closed


def test_a_batch_is_all_or_nothing(db: TypedDB[Any, Any]) -> None:
    db[1,] = "there"
    with pytest.raises(EncodeError), db.batch(durability="always") as batch:
        batch[2,] = "new"
        batch[3,] = {1, 2}
    assert dict(db) == {(1,): "there"}
    batch = db.batch()
    batch.put_many({(2,): "new"})
    batch.delete_many([(1,)])
    assert (1,) not in batch
    with pytest.raises(KeyError):
        batch[1,]
    assert batch.size_bytes > 0
    assert "WriteBatch" in repr(batch)
    batch.commit()
    assert dict(db) == {(2,): "new"}
    batch = db.batch()
    del batch[2,]
    batch.discard()
    assert (2,) in db


@pytest.mark.parametrize("change", ["put_many", "update"])
def test_many_changes_with_one_that_cannot_be_encoded_change_nothing(
    db: TypedDB[Any, Any], change: str
) -> None:
    for pairs in ({(1,): "good", (2,): object()}, [((1,), "good"), (object(), "good")]):
        with pytest.raises(EncodeError):
            getattr(db, change)(pairs)
    assert len(db) == 0


def test_what_cannot_be_encoded_names_the_codec_and_has_the_cause(db: TypedDB[Any, Any]) -> None:
    with pytest.raises(EncodeError, match=r"value \(set\) cannot be encoded by codec 'json'") as caught:
        db[1,] = {1}
    assert isinstance(caught.value.__cause__, TypeError)
    assert (caught.value.what, caught.value.codec, caught.value.type_name) == ("value", "json", "set")
    for call in (
        db.get,
        db.delete,
        db.pop,
        lambda key: key in db,
        lambda key: db.keys(prefix=key),
        db.setdefault,
    ):
        with pytest.raises(EncodeError):
            call("no tuple")


def test_what_cannot_be_decoded_names_the_key_and_stays(db: TypedDB[Any, Any]) -> None:
    db["good",] = 1
    key = db.key_codec.encode(("torn",))
    db.raw[key] = b'{"a":'
    reads: list[Any] = [
        lambda: db["torn",],
        lambda: db.get(("torn",)),
        lambda: db.get_many([("torn",)]),
        lambda: list(db.values()),
        lambda: list(db.items()),
        lambda: db.pop(("torn",)),
        lambda: db.popitem(),
        lambda: db.setdefault(("torn",), 1),
        lambda: (("torn",), 1) in db.items(),
        lambda: db.batch()["torn",],
        lambda: db.snapshot()["torn",],
    ]
    for read in reads:
        with pytest.raises(
            DecodeError, match=r"the value of key .*torn.* cannot be decoded by codec 'json'"
        ) as caught:
            read()
        assert (caught.value.what, caught.value.key, caught.value.codec) == ("value", key, "json")
        assert caught.value.__cause__ is not None
    assert db.raw[key] == b'{"a":'
    assert ("torn",) in db
    assert list(db.keys()) == [("good",), ("torn",)]
    assert db.delete(("torn",))


def test_memory_that_is_short_is_no_fault_of_the_value(tmp_path: Path) -> None:
    class Greedy(Codec[str]):
        name = "greedy"

        def encode(self, value: str) -> bytes:
            raise MemoryError

        def decode(self, data: bytes) -> str:
            raise MemoryError

    with flash_kv.open(tmp_path / "db", codec=Greedy()) as db:
        with pytest.raises(MemoryError):
            db[b"key"] = "value"
        db.raw[b"key"] = b"value"
        with pytest.raises(MemoryError):
            db[b"key"]


def test_with_a_hash_index_there_are_no_ranges(tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "db", codec="json", key_codec="tuple", index="hash") as db:
        db[1,] = 1
        assert dict(db) == {(1,): 1}
        assert db.popitem() == ((1,), 1)
        with pytest.raises(UnorderedIndexError):
            db.keys(prefix=(1,))


def test_pops_of_many_threads_give_each_value_once(db: TypedDB[Any, Any]) -> None:
    db.update({(n,): n for n in range(400)})
    taken: list[int] = []

    def take() -> None:
        while True:
            try:
                taken.append(db.popitem()[1])
            except KeyError:
                return

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(400))


# Opening


def test_without_a_codec_it_is_a_db(tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "db") as db:
        assert type(db) is DB


def test_raw_codecs_are_those_of_every_store_there_was(tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "db") as plain:
        plain["key"] = b"value"
    with flash_kv.open(tmp_path / "db", codec="raw") as db:
        assert dict(db) == {b"key": b"value"}
        assert isinstance(db, TypedDB)
        db.raw["text"] = "text"
        assert list(db.items(prefix=b"te")) == [(b"text", b"text")]
    with flash_kv.open(tmp_path / "db", codec=Raw(), key_codec=RawKeys()) as db:
        assert len(db) == 2


def test_another_codec_is_refused_and_the_way_over_is_open(tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "db", codec="str", key_codec="tuple") as db:
        db[1,] = "one"
    for codec, key_codec in (("json", "tuple"), ("str", "str"), ("str", None), ("raw", "raw")):
        with pytest.raises(CodecMismatchError):
            flash_kv.open(tmp_path / "db", codec=codec, key_codec=key_codec)
    with flash_kv.open(tmp_path / "db") as old, flash_kv.open(tmp_path / "new", codec="json") as new:
        assert old.codecs == ("str", "tuple")
        new.put_many((key, Str().decode(value)) for key, value in old.items())
        assert dict(new) == {TupleKeys().encode((1,)): "one"}


def test_a_wrapper_is_only_of_a_store_with_its_names(tmp_path: Path) -> None:
    with flash_kv.open(tmp_path / "db") as plain:
        plain["key"] = b"value"
        with pytest.raises(CodecMismatchError):
            TypedDB(plain, Json(), RawKeys())
        assert TypedDB(plain, Raw(), RawKeys())[b"key"] == b"value"
    flash_kv.open(tmp_path / "empty").close()
    with flash_kv.open(tmp_path / "empty", codec="json", read_only=True) as empty:
        assert dict(empty) == {}


@pytest.mark.parametrize(
    ("codec", "key_codec", "words"),
    [
        ("yaml", None, "'json'"),
        ("", None, "'json'"),
        ("json+rar", None, "rar"),
        ("msgspec", None, "Msgspec"),
        ("flatbuffers", None, "FlatBuffers"),
        ("pickle-hmac", None, "key="),
        (3, None, "Codec"),
        (None, "floats", "'tuple'"),
        (None, 3, "KeyCodec"),
    ],
)
def test_a_codec_that_is_none_is_an_options_error(
    tmp_path: Path, codec: Any, key_codec: Any, words: str
) -> None:
    with pytest.raises(OptionsError, match=words):
        flash_kv.open(tmp_path / "db", codec=codec, key_codec=key_codec)
    assert not (tmp_path / "db").exists()


def test_a_codec_of_ones_own(tmp_path: Path) -> None:
    class Celsius(Codec[float]):
        name = "celsius"

        def encode(self, value: float) -> bytes:
            return f"{value:.1f}".encode()

        def decode(self, data: bytes) -> float:
            return float(data)

    class Unnamed(Celsius):
        name = "Un named"

    with pytest.raises(OptionsError, match="Un named"):
        flash_kv.open(tmp_path / "db", codec=Unnamed())
    with flash_kv.open(tmp_path / "db", codec=Celsius(), key_codec="str") as db:
        db["Rome"] = 21.5
        assert db["Rome"] == 21.5
    with pytest.raises(CodecMismatchError, match="celsius"):
        flash_kv.open(tmp_path / "db", codec="str", key_codec="str")
