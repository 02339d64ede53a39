"""What a benchmark needs of a store: a `Store` says what it is and promises, a `Handle` is it, opened.

Invariants:
- A handle's callables are the store's own bound methods wherever a user would call those directly, so
  that no adapter adds a call of its own; a Python function stands only where the user would have to
  write one too (a transaction around a put, say).
- What a store promises is its `promise`; it is killed and opened again to prove it before it is measured. What
  more it survives, and whether it checks what it reads, is stated in `survives` and `read_check` and printed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal

Pairs = list[tuple[bytes, bytes]]
Promise = Literal["nothing", "process", "power"]


class BenchmarkError(Exception):
    """A store gave a wrong answer, or a run can't be made: no figure of this run is to be trusted."""


def nothing() -> None:
    """Stands where a store has nothing to do."""


def always() -> bool:
    return True


def one_by_one(put: Callable[[bytes, bytes], object]) -> Callable[[Pairs], None]:
    """`put` over many pairs, for a store that has no call for them."""

    def put_each(pairs: Pairs) -> None:
        for key, value in pairs:
            put(key, value)

    return put_each


def each_of(get: Callable[[bytes], bytes | None]) -> Callable[[list[bytes]], list[bytes | None]]:
    """`get` over many keys, for a store that has no call for them."""

    def get_each(keys: list[bytes]) -> list[bytes | None]:
        return list(map(get, keys))

    return get_each


@dataclass(frozen=True, kw_only=True)
class Handle:
    """An open store as plain callables, fetched once before a timed loop."""

    put: Callable[[bytes, bytes], object]
    get: Callable[[bytes], bytes | None]
    """Of a key that is there."""
    get_missing: Callable[[bytes], bytes | None]
    """Of a key that may be absent: None then."""
    delete: Callable[[bytes], object]
    put_many: Callable[[Pairs], object]
    """The fastest way the store has to write many records as one commit."""
    batch: Callable[[Pairs], object]
    """One call per record into the store's batch or transaction object, then one commit."""
    get_many: Callable[[list[bytes]], Sequence[bytes | None]]
    items: Callable[[], Iterable[tuple[bytes, bytes]]]
    reverse: Callable[[], Iterable[tuple[bytes, bytes]]] | None = None
    """Every item from the last key to the first; None without an order, or without a way to ask for it."""
    scan_from: Callable[[bytes, int], Sequence[tuple[bytes, bytes]]] | None = None
    """At most so many items from the first key that is not before this one."""
    prefix: Callable[[bytes], Iterable[tuple[bytes, bytes]]] | None = None
    close: Callable[[], object] = nothing
    settle: Callable[[], object] = nothing
    """Untimed: let background work left by a load end, so that reads find the store at its best."""
    compact: Callable[[], int | None] | None = None
    """Rewrite the live data and sync it; the number of live records rewritten, None if it can't tell."""
    index_bytes: Callable[[], int] | None = None
    get_of_thread: Callable[[int], Callable[[bytes], bytes | None]] | None = None
    """For a store that is opened once for each thread: `get` of thread 0, 1, ..., closed with the handle."""
    kept: list[object] | None = None
    """For a store that holds the very objects it is given: whatever is passed to it is kept here as well.

    Else its overwrites and deletes would free objects all over the heap, the lists made for every later
    loop of every store would fill those holes, and all would be timed missing the cache on their arguments.
    """


def sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _refused(*_arguments: object) -> Any:
    raise BenchmarkError("opened for reading single keys only")


def reader(get: Callable[[bytes], bytes | None], close: Callable[[], object]) -> Handle:
    """A handle of which only `get` and `close` are used."""
    return Handle(
        put=_refused,
        get=get,
        get_missing=get,
        delete=_refused,
        put_many=_refused,
        batch=_refused,
        get_many=_refused,
        items=_refused,
        close=close,
    )


@dataclass(frozen=True, kw_only=True)
class Store:
    """One column of the tables: a store under one setting."""

    name: str
    module: str | None
    """What is imported; None when it needs nothing."""
    distribution: str | None
    """What is installed, for the version."""
    settings: str
    promise: Promise
    """The moment that what was acknowledged survives; stores are compared with those of the same promise."""
    survives: str
    """The same in words, and what remains of a promise that is not made."""
    read_check: str
    open: Callable[[Path], Handle]
    """Opens the store in a directory that exists: an empty one, or one a killed process left."""
    is_ours: bool = False
    is_thread_safe: bool = True
    """Whether one handle may be used by several threads at once."""
    open_reader: Callable[[Path], Handle] | None = None
    """Opens it for reading in one of several processes; None where only one process may have it open."""
    has_readers_beside_writer: bool = False
    """Whether those may be there while another process writes; else they are opened once it has closed."""
    cut_power: Callable[[Path, Callable[[int], Pairs], int], object] | None = None
    """Make a store at this path, of so many parts that the function gives, and leave what a power cut may; None for
    stores of which nobody knows what was written back, short of cutting the power of a machine."""
    is_ready: Callable[[], bool] = always
    """Whether what it needs beside its module is there: a server, say."""
    is_floor: bool = False
    is_ordered: bool = True
    has_batch: bool = True
    """False where `put_many` and `batch` are loops of single puts and no one commit."""

    @property
    def sharing(self) -> str:
        """In how many processes it may be open at once, in words."""
        if self.open_reader is None:
            return "one process at a time"
        if self.has_readers_beside_writer:
            return "several processes, which may write"
        return "one process that writes, or several that read"

    def is_installed(self) -> bool:
        try:
            found = self.module is None or util.find_spec(self.module) is not None
        except ModuleNotFoundError:
            return False
        return found and self.is_ready()

    def version(self) -> str | None:
        """The installed version; None for what has none or runs from a source tree."""
        if self.distribution is None:
            return None
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None
