"""What a benchmark needs of a store: a `Store` says what it is and promises, a `Handle` is it, opened.

Invariants:
- A handle's callables are the store's own bound methods wherever a user would call those directly, so
  that no adapter adds a call of its own; a Python function stands only where the user would have to
  write one too (a transaction around a put, say).
- A store is compared with those of the same `promise` only; one that promises more than nothing is killed and reopened
  before it is measured. What more it survives, and whether it checks what it reads, is stated in `survives` and
  `read_check` and printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from shutil import which
from typing import Literal

Pairs = list[tuple[bytes, bytes]]
Promise = Literal["nothing", "process", "power"]
"""What an acknowledged write survives: nothing for sure, the death of the process, a power cut as well."""


class BenchmarkError(Exception):
    """A store gave a wrong answer, or a run can't be made: no figure of this run is to be trusted."""


def nothing() -> None:
    """Stands where a store has nothing to do."""


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
    close: Callable[[], object]
    settle: Callable[[], object] = nothing
    """Untimed: let background work left by a load end, so that reads find the store at its best."""
    compact: Callable[[], int | None] | None = None
    """Rewrite the live data and sync it; the number of live records rewritten, None if it can't tell."""
    index_bytes: Callable[[], int] | None = None
    kill_server: Callable[[], object] | None = None
    """Of a store that is another process: kill it, as a crash would."""
    kept: list[object] | None = None
    """For a store that holds the very objects it is given: whatever is passed to it is kept here as well.

    Else its overwrites and deletes would free objects all over the heap, the lists made for every later
    loop of every store would fill those holes, and all would be timed missing the cache on their arguments.
    """


@dataclass(frozen=True, kw_only=True)
class Store:
    """One column of the tables: a store under one setting."""

    name: str
    module: str | None
    """What is imported; None when it needs nothing."""
    distribution: str | None
    """What is installed, for the version."""
    settings: str
    program: str | None = None
    """What has to be on the path as well."""
    promise: Promise = "process"
    survives: str
    read_check: str
    open: Callable[[Path], Handle]
    """Opens the store in a directory that exists: an empty one, or one a killed process left."""
    is_ours: bool = False
    is_floor: bool = False
    is_ordered: bool = True
    has_batch: bool = True
    """False where `put_many` and `batch` are loops of single puts and no one commit."""

    def is_installed(self) -> bool:
        if self.program is not None and which(self.program) is None:
            return False
        try:
            return self.module is None or util.find_spec(self.module) is not None
        except ModuleNotFoundError:
            # The package above it is not there, or is a module.
            return False

    def version(self) -> str | None:
        """The installed version; None for what has none or runs from a source tree."""
        if self.distribution is None:
            return None
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError:
            return None
