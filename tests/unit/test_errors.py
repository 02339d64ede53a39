"""The exception tree: what each error is, says and carries, and that all of it survives a pickle."""

import errno
import inspect
import pickle

import pytest

from flash_kv import errors
from flash_kv.errors import (
    BatchStateError,
    ChangesLostError,
    ClosedError,
    CodecMismatchError,
    CodecUnavailableError,
    ConflictError,
    CorruptionError,
    DecodeError,
    EncodeError,
    FlashKVError,
    ForkedError,
    FormatVersionError,
    KeyOrderError,
    KeySizeError,
    KeyTypeError,
    LockedError,
    NotAStoreError,
    OptionsError,
    PoisonedError,
    ReadOnlyError,
    StorageError,
    StoreFullError,
    StoreNotFoundError,
    UnorderedIndexError,
    ValueSizeError,
    ValueTypeError,
    storage_error,
)

# One of each: the error, the built-in a caller would expect, its attributes.
CASES: list[tuple[FlashKVError, type[Exception], dict[str, object]]] = [
    (OptionsError(["a is wrong", "b too"]), ValueError, {"faults": ("a is wrong", "b too")}),
    (StoreNotFoundError("/s"), FileNotFoundError, {"path": "/s", "errno": errno.ENOENT, "filename": "/s"}),
    (NotAStoreError("/s", "it holds a.txt"), ValueError, {"path": "/s", "reason": "it holds a.txt"}),
    (FormatVersionError("/s", 2, 1), ValueError, {"path": "/s", "found": 2, "supported": 1}),
    (
        LockedError("/s/LOCK", 77, "box", "2026-01-01T00:00:00Z"),
        BlockingIOError,
        {"path": "/s/LOCK", "holder_pid": 77, "holder_host": "box", "errno": errno.EAGAIN},
    ),
    (LockedError("/s/LOCK"), BlockingIOError, {"holder_pid": None}),
    (
        CodecMismatchError("/s", ("json", "raw"), ("str", "raw")),
        ValueError,
        {"path": "/s", "stored": ("json", "raw"), "wanted": ("str", "raw")},
    ),
    (
        CodecUnavailableError("zstd", "zstd", "no module"),
        ImportError,
        {"codec": "zstd", "extra": "zstd", "reason": "no module"},
    ),
    (
        EncodeError("value", "json", "set", "no sets"),
        TypeError,
        {"what": "value", "codec": "json", "type_name": "set", "reason": "no sets"},
    ),
    (
        DecodeError("value", b"k", "json", "no JSON"),
        ValueError,
        {"what": "value", "key": b"k", "codec": "json", "reason": "no JSON"},
    ),
    (KeyTypeError("int"), TypeError, {"type_name": "int"}),
    (KeySizeError(0, 65536), ValueError, {"size": 0, "limit": 65536}),
    (KeyOrderError(7, b"a"), ValueError, {"number": 7, "key": b"a"}),
    (ValueTypeError("list"), TypeError, {"type_name": "list"}),
    (ValueSizeError(9, 8), ValueError, {"size": 9, "limit": 8}),
    (ReadOnlyError("/s"), PermissionError, {"path": "/s", "errno": errno.EACCES}),
    (
        UnorderedIndexError("hash", ("btree",)),
        TypeError,
        {"index": "hash", "ordered_kinds": ("btree",)},
    ),
    (ConflictError(b"k", 3, 5), FlashKVError, {"key": b"k", "if_lsn": 3, "lsn": 5}),
    (BatchStateError("committed"), RuntimeError, {"state": "committed"}),
    (ClosedError("/s", "snapshot"), ValueError, {"path": "/s", "what": "snapshot"}),
    (ForkedError("/s", 12), RuntimeError, {"path": "/s", "opened_pid": 12}),
    (
        ChangesLostError("/s", 7, 90, is_ahead=False),
        LookupError,
        {"path": "/s", "since": 7, "oldest_lsn": 90, "is_ahead": False},
    ),
    (
        CorruptionError("/s/1", 40, "bad CRC"),
        FlashKVError,
        {"path": "/s/1", "offset": 40, "reason": "bad CRC"},
    ),
    (StoreFullError("/s/1", "put"), OSError, {"path": "/s/1", "operation": "put", "errno": errno.ENOSPC}),
    (
        StorageError(errno.EIO, "/s/1", "sync_data"),
        OSError,
        {"path": "/s/1", "operation": "sync_data", "errno": errno.EIO, "filename": "/s/1"},
    ),
    (PoisonedError("/s", OSError(errno.EDQUOT, "quota")), OSError, {"path": "/s", "errno": errno.EDQUOT}),
    (FlashKVError("plain"), Exception, {"message": "plain"}),
]
IDS = [type(case[0]).__name__ for case in CASES]


def test_every_error_of_the_module_is_covered_here() -> None:
    defined = {
        member
        for _, member in inspect.getmembers(errors, inspect.isclass)
        if issubclass(member, FlashKVError) and member.__module__ == errors.__name__
    }
    assert defined == {type(error) for error, _, _ in CASES}


def test_the_drawn_tree_names_every_error_with_its_built_in() -> None:
    for error, built_in, _ in CASES:
        if type(error) is FlashKVError:
            continue
        drawn = type(error).__name__
        if built_in is not FlashKVError:
            drawn += f" ({built_in.__name__})"
        assert f"+-- {drawn}" in str(errors.__doc__)


@pytest.mark.parametrize(("error", "built_in", "attributes"), CASES, ids=IDS)
def test_error_is_its_built_in_and_carries_its_attributes(
    error: FlashKVError, built_in: type[Exception], attributes: dict[str, object]
) -> None:
    assert isinstance(error, FlashKVError)
    assert isinstance(error, built_in)
    assert {name: getattr(error, name) for name in attributes} == attributes


@pytest.mark.parametrize(("error", "built_in", "attributes"), CASES, ids=IDS)
def test_text_is_whole_and_names_the_place(
    error: FlashKVError, built_in: type[Exception], attributes: dict[str, object]
) -> None:
    assert not str(error).startswith("[")
    assert str(attributes.get("path", "")) in str(error)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(("error", "built_in", "attributes"), CASES, ids=IDS)
def test_error_survives_a_pickle(
    error: FlashKVError, built_in: type[Exception], attributes: dict[str, object], protocol: int
) -> None:
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.args == error.args
    assert {name: getattr(copy, name) for name in attributes} == attributes


def test_notes_survive_a_pickle() -> None:
    error = StoreFullError("/s")
    error.add_note("while compacting")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while compacting"]


def test_corruption_is_no_os_error() -> None:
    assert not issubclass(CorruptionError, OSError)


def test_locked_error_without_a_known_holder_says_another_writer() -> None:
    assert "another writer" in str(LockedError("/s/LOCK"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_storage_error_turns_a_full_disk_into_store_full(code: int) -> None:
    error = storage_error(OSError(code, "full"), path="/s/1", operation="allocate")
    assert isinstance(error, StoreFullError)
    assert (error.path, error.operation) == ("/s/1", "allocate")


def test_storage_error_keeps_the_errno_of_other_failures() -> None:
    error = storage_error(OSError(errno.EMFILE, "many"), path="/s/1", operation="open")
    assert isinstance(error, StorageError)
    assert error.errno == errno.EMFILE


def test_storage_error_leaves_members_of_the_tree_alone() -> None:
    locked = LockedError("/s/LOCK")
    assert storage_error(locked, path="/x", operation="open") is locked
