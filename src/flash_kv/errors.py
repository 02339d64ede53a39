"""Every exception FlashKV raises on purpose: one tree, grouped by the moment it occurs.

    FlashKVError
    |
    |   opening a store
    +-- OptionsError (ValueError)            options that make no sense; all faults at once
    +-- StoreNotFoundError (FileNotFoundError)
    +-- NotAStoreError (ValueError)          a directory that holds something else
    +-- FormatVersionError (ValueError)      written by a version with another format
    +-- LockedError (BlockingIOError)        another process has the store open
    +-- CodecMismatchError (ValueError)      opened with other codecs than it was written with
    +-- CodecUnavailableError (ImportError)  the library of a codec is not installed
    |
    |   calling a method
    +-- KeyTypeError (TypeError)
    +-- KeySizeError (ValueError)
    +-- KeyOrderError (ValueError)           sorted=True, and a key below the one before it
    +-- ValueTypeError (TypeError)
    +-- ValueSizeError (ValueError)
    +-- EncodeError (TypeError)              a key or value that the store's codec cannot encode
    +-- DecodeError (ValueError)             bytes that the store's codec cannot decode
    +-- ReadOnlyError (PermissionError)      a write on a read-only handle
    +-- UnorderedIndexError (TypeError)      an ordered scan on an index without order
    +-- BatchStateError (RuntimeError)       a write batch used after its end
    +-- ConflictError                        a key has not the LSN that a write depends on
    +-- ClosedError (ValueError)             any use after close()
    +-- ForkedError (RuntimeError)           a handle of the parent used in a forked child
    |
    |   reading and writing the disk
    +-- ChangesLostError (LookupError)       changes that compaction has removed from the log
    +-- CorruptionError                      damaged bytes; not an OSError: no retry helps
    +-- StoreFullError (OSError)             no space left, nothing of the call was acknowledged
    +-- StorageError (OSError)               any other failure of the operating system
    +-- PoisonedError (OSError)              an earlier sync failed: reads go on, writes do not

Invariants: each error carries as attributes what its text says; `str(error)` is the whole text (what, where,
what to do next), without the `[Errno n]` prefix of OSError; all of them pickle, with their attributes.
A missing key is no member of the tree: it is `None`, or the built-in KeyError from `db[key]`.
"""

from __future__ import annotations

import errno as errno_codes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

StrPath = str | os.PathLike[str]


class FlashKVError(Exception):
    """The root: `except FlashKVError` catches everything FlashKV raises on purpose."""

    # The constructor's parameters, each kept as an attribute of the same name: enough to build it again.
    _parameters: ClassVar[tuple[str, ...]] = ("message",)

    def __init__(self, message: str, *os_arguments: object) -> None:
        # OSError's errno, strerror and filename come from its positional arguments and from nowhere else.
        super().__init__(*(os_arguments or (message,)))
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Callable[..., FlashKVError], tuple[Any, ...], dict[str, Any]]:
        arguments = {name: getattr(self, name) for name in self._parameters}
        return _rebuild, (type(self), arguments), self.__dict__


def _rebuild(kind: type[FlashKVError], arguments: dict[str, Any]) -> FlashKVError:
    return kind(**arguments)


# Opening a store


class OptionsError(FlashKVError, ValueError):
    """One or more options are wrong; `faults` has one sentence for each."""

    _parameters = ("faults",)

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


class StoreNotFoundError(FlashKVError, FileNotFoundError):
    """There is no store at `path`, and the call was not allowed to create one."""

    _parameters = ("path",)

    def __init__(self, path: StrPath) -> None:
        self.path = os.fspath(path)
        message = f"no store at {self.path}: check the path, or open it with create=True and read_only=False"
        super().__init__(message, errno_codes.ENOENT, message, self.path)


class NotAStoreError(FlashKVError, ValueError):
    """`path` holds something that is not a store; nothing in it was touched."""

    _parameters = ("path", "reason")

    def __init__(self, path: StrPath, reason: str) -> None:
        self.path = os.fspath(path)
        self.reason = reason
        super().__init__(f"{self.path} is not a FlashKV store: {reason}; choose an empty or a new directory")


class FormatVersionError(FlashKVError, ValueError):
    """`path` was written in format `found`; this version reads `supported`."""

    _parameters = ("path", "found", "supported")

    def __init__(self, path: StrPath, found: int, supported: int) -> None:
        self.path = os.fspath(path)
        self.found = found
        self.supported = supported
        super().__init__(
            f"{self.path} has format version {found}, this version of FlashKV reads {supported}: "
            "open it with the version of FlashKV that wrote it"
        )


class LockedError(FlashKVError, BlockingIOError):
    """Another process has the store open, for writing, or for reading where a writer was to be let in.

    `holder_pid` and `holder_host` are what a writer wrote down, or None. Readers (`is_read`) write nothing down.
    """

    _parameters = ("path", "holder_pid", "holder_host", "holder_started", "is_read")

    def __init__(
        self,
        path: StrPath,
        holder_pid: int | None = None,
        holder_host: str | None = None,
        holder_started: str | None = None,
        is_read: bool = False,
    ) -> None:
        self.path = os.fspath(path)
        self.holder_pid = holder_pid
        self.holder_host = holder_host
        self.holder_started = holder_started
        self.is_read = is_read
        if is_read:
            holder = "readers"
        elif holder_pid is None:
            holder = "another writer"
        else:
            holder = f"process {holder_pid} on {holder_host or 'an unknown host'}"
            holder += f" since {holder_started}" if holder_started else ""
        message = (
            f"{self.path} is locked by {holder}: close {'their handles' if is_read else 'that handle'} first"
        )
        super().__init__(message, errno_codes.EWOULDBLOCK, message, self.path)


class CodecMismatchError(FlashKVError, ValueError):
    """`path` was written with the codecs `stored` and opened with `wanted`; each names that of values, that of keys."""

    _parameters = ("path", "stored", "wanted")

    def __init__(self, path: StrPath, stored: Sequence[str], wanted: Sequence[str]) -> None:
        self.path = os.fspath(path)
        self.stored = tuple(stored)
        self.wanted = tuple(wanted)
        super().__init__(
            f"{self.path} holds {_coded(self.stored)}, it was opened for {_coded(self.wanted)}: open it with the "
            "codecs it has; to change them, open it without any, read its bytes, and put what they stand for into a "
            "new store"
        )


def _coded(names: tuple[str, ...]) -> str:
    value, key = names
    return f"{value!r} values under {key!r} keys"


class CodecUnavailableError(FlashKVError, ImportError):
    """Codec `codec` needs a library that cannot be imported; `extra` installs it."""

    _parameters = ("codec", "extra", "reason")

    def __init__(self, codec: str, extra: str, reason: str) -> None:
        self.codec = codec
        self.extra = extra
        self.reason = reason
        super().__init__(
            f"codec {codec!r} needs a library that cannot be imported ({reason}): "
            f"pip install 'flash-kv[{extra}]'"
        )


# Calling a method


class KeyTypeError(FlashKVError, TypeError):
    """A key that is neither bytes-like nor str."""

    _parameters = ("type_name",)

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name
        super().__init__(f"a key must be bytes-like or str, not {type_name}: encode it first")


class KeySizeError(FlashKVError, ValueError):
    """An empty key, or one of more than `limit` bytes."""

    _parameters = ("size", "limit")

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(f"a key must have 1 to {limit} bytes, this one has {size}")


class KeyOrderError(FlashKVError, ValueError):
    """`put_many(..., sorted=True)` met a key below the one before it: pair `number`, counted from 0."""

    _parameters = ("number", "key")

    def __init__(self, number: int, key: bytes) -> None:
        self.number = number
        self.key = key
        super().__init__(
            f"pair {number}, key {_shortened(key)}, is below the one before it: sort by key, or leave out sorted=True"
        )


def _shortened(key: bytes) -> str:
    return repr(key) if len(key) <= 64 else f"{key[:64]!r}... of {len(key)} bytes"


class ValueTypeError(FlashKVError, TypeError):
    """A value that is neither bytes-like nor str."""

    _parameters = ("type_name",)

    def __init__(self, type_name: str) -> None:
        self.type_name = type_name
        super().__init__(f"a value must be bytes-like or str, not {type_name}: serialize it first")


class ValueSizeError(FlashKVError, ValueError):
    """A value of more than `limit` bytes."""

    _parameters = ("size", "limit")

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(
            f"a value must have at most {limit} bytes, this one has {size}: split it over several keys"
        )


class EncodeError(FlashKVError, TypeError):
    """A `what` ("key" or "value") that `codec` cannot encode, because of `reason`; nothing was stored."""

    _parameters = ("what", "codec", "type_name", "reason")

    def __init__(self, what: str, codec: str, type_name: str, reason: str) -> None:
        self.what = what
        self.codec = codec
        self.type_name = type_name
        self.reason = reason
        super().__init__(
            f"this {what} ({type_name}) cannot be encoded by codec {codec!r}: {reason}; "
            "change it, or choose another codec for a new store"
        )


class DecodeError(FlashKVError, ValueError):
    """The `what` ("key" or "value") stored under the bytes `key` is none of `codec`'s, because of `reason`."""

    _parameters = ("what", "key", "codec", "reason")

    def __init__(self, what: str, key: bytes | None, codec: str, reason: str) -> None:
        self.what = what
        self.key = key
        self.codec = codec
        self.reason = reason
        if key is None:
            subject = f"this {what}"
        else:
            shown = repr(key if len(key) <= 64 else key[:64]) + ("" if len(key) <= 64 else "...")
            subject = f"key {shown}" if what == "key" else f"the value of key {shown}"
        super().__init__(
            f"{subject} cannot be decoded by codec {codec!r}: {reason}; its bytes are sound: read them by `raw`"
        )


class ReadOnlyError(FlashKVError, PermissionError):
    """A write on a handle opened with `read_only=True`."""

    _parameters = ("path",)

    def __init__(self, path: StrPath) -> None:
        self.path = os.fspath(path)
        message = f"{self.path} is open for reading only: open it with read_only=False to write"
        super().__init__(message, errno_codes.EACCES, message, self.path)


class UnorderedIndexError(FlashKVError, TypeError):
    """An ordered scan (prefix, start, stop, reverse) on an index that keeps no order."""

    _parameters = ("index", "ordered_kinds")

    def __init__(self, index: str, ordered_kinds: Sequence[str]) -> None:
        self.index = index
        self.ordered_kinds = tuple(ordered_kinds)
        kinds = " or ".join(f"index={kind!r}" for kind in self.ordered_kinds)
        super().__init__(
            f"index={index!r} keeps no order: reopen the same directory with {kinds} for ordered scans"
        )


class BatchStateError(FlashKVError, RuntimeError):
    """A write batch that cannot be used: it is `state`, "committed", "discarded" or "in use by another thread"."""

    _parameters = ("state",)

    def __init__(self, state: str) -> None:
        self.state = state
        super().__init__(f"this write batch is {state}: start another one with db.batch()")


class ConflictError(FlashKVError):
    """`key` has the LSN `lsn` (0: it is absent) and not `if_lsn` (0: absent, -1: any), which the write depended on."""

    _parameters = ("key", "if_lsn", "lsn")

    def __init__(self, key: Any, if_lsn: int, lsn: int) -> None:
        self.key = key
        self.if_lsn = if_lsn
        self.lsn = lsn
        wanted = {0: "be absent", -1: "be there"}.get(if_lsn, f"have LSN {if_lsn}")
        found = f"has LSN {lsn}" if lsn else "is absent"
        super().__init__(
            f"the key {key!r} was to {wanted} but {found}; nothing was written: read it again, then decide"
        )


class ClosedError(FlashKVError, ValueError):
    """A use of `what` (the store, a snapshot, an iterator) after its close."""

    _parameters = ("path", "what")

    def __init__(self, path: StrPath, what: str = "store") -> None:
        self.path = os.fspath(path)
        self.what = what
        super().__init__(f"this {what} of {self.path} is closed: open a new one")


class ForkedError(FlashKVError, RuntimeError):
    """A handle opened by process `opened_pid` used in a forked child."""

    _parameters = ("path", "opened_pid")

    def __init__(self, path: StrPath, opened_pid: int) -> None:
        self.path = os.fspath(path)
        self.opened_pid = opened_pid
        super().__init__(
            f"{self.path} was opened by process {opened_pid} before a fork: open it in the child as well"
        )


# Reading and writing the disk


class ChangesLostError(FlashKVError, LookupError):
    """The log has not all changes since the LSN `since`: read the whole store, then go on from `oldest_lsn` or later.

    `is_ahead`: the store has not come to that LSN: it is another, an older copy, or has lost its end in a power cut.
    """

    _parameters = ("path", "since", "oldest_lsn", "is_ahead")

    def __init__(self, path: StrPath, since: int, oldest_lsn: int, is_ahead: bool = False) -> None:
        self.path = os.fspath(path)
        self.since = since
        self.oldest_lsn = oldest_lsn
        self.is_ahead = is_ahead
        reason = "its newest change is older" if is_ahead else "compaction has removed some"
        super().__init__(
            f"{self.path} has not all changes since LSN {since}: {reason}; read the whole store, then the changes "
            f"since LSN {oldest_lsn} or later"
        )


class CorruptionError(FlashKVError):
    """Damaged bytes at `offset` of `path`. Deliberately no OSError: trying again does not help."""

    _parameters = ("path", "offset", "reason")

    def __init__(self, path: StrPath, offset: int, reason: str) -> None:
        self.path = os.fspath(path)
        self.offset = offset
        self.reason = reason
        super().__init__(
            f"{self.path} is damaged at offset {offset}: {reason}; `flash-kv verify` lists all damage, "
            "`flash-kv repair` salvages what is whole into a new directory"
        )


class StoreFullError(FlashKVError, OSError):
    """No space or quota left. Nothing of the call was acknowledged; reads, deletes and compaction go on."""

    _parameters = ("path", "operation")

    def __init__(self, path: StrPath, operation: str = "write") -> None:
        self.path = os.fspath(path)
        self.operation = operation
        message = (
            f"cannot {operation} {self.path}: no space left; free some, or delete keys and call compact()"
        )
        super().__init__(message, errno_codes.ENOSPC, message, self.path)


class StorageError(FlashKVError, OSError):
    """The operating system refused `operation` on `path` with `errno`."""

    _parameters = ("errno", "path", "operation")

    def __init__(self, errno: int, path: StrPath, operation: str) -> None:
        self.path = os.fspath(path)
        self.operation = operation
        code = errno_codes.errorcode.get(errno, str(errno))
        message = f"cannot {operation} {self.path}: {os.strerror(errno)} ({code})"
        super().__init__(message, errno, message, self.path)


class PoisonedError(FlashKVError, OSError):
    """An earlier sync failed with `cause`: what the disk holds is unknown, so no write is taken any more.

    `is_in_doubt`: the write that raises this could not be taken back, because the disk refused that too; reads and the
    next open may find it.
    """

    _parameters = ("path", "cause", "is_in_doubt")

    def __init__(self, path: StrPath, cause: BaseException, is_in_doubt: bool = False) -> None:
        self.path = os.fspath(path)
        self.cause = cause
        self.is_in_doubt = is_in_doubt
        message = (
            f"writes to {self.path} are refused since an earlier failure ({cause}): reads go on; "
            "check the disk, then close and reopen the store"
        )
        if is_in_doubt:
            message += "; this write could not be taken back and may be found there"
        code = cause.errno if isinstance(cause, OSError) and cause.errno is not None else errno_codes.EIO
        super().__init__(message, code, message, self.path)


def storage_error(error: OSError, *, path: StrPath, operation: str) -> FlashKVError:
    """`error` as a member of the tree: itself, StoreFullError (ENOSPC, EDQUOT) or StorageError.

    Raise the result `from error`, so that the traceback keeps the system's own words.
    """
    if isinstance(error, FlashKVError):
        return error
    if error.errno in (errno_codes.ENOSPC, errno_codes.EDQUOT):
        return StoreFullError(path, operation)
    return StorageError(error.errno or errno_codes.EIO, path, operation)


@contextmanager
def naming_place(path: StrPath, operation: str) -> Iterator[None]:
    """An error of the operating system leaves as one of ours, with its place; a caller's own errors as they are."""
    try:
        yield
    except FlashKVError:
        raise
    except OSError as error:
        raise storage_error(error, path=error.filename or path, operation=operation) from error
