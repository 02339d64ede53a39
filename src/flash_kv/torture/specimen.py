"""Small stores to be damaged: as files in memory, with all that is known of what they hold.

A `Specimen` has two generations of one store: `older` as it was once, `files` as it is. Between them lie overwritten
and deleted keys, batches and a compaction, so that a file of one among those of the other is damage like any other:

    closed   closed cleanly: every file is whole and has to be, to the last bit
    killed   ended in the middle of writing, two segments unsealed, nothing synced since the last sealed one
    always   the same with durability "always": each record states that the one before it was durable
    blocks   as closed, with longer values, so that its files have several blocks of 4 KiB
    pages    as closed, with the index on disk, of several pages: what is damaged is the file of that
    replay   as killed, with the index on disk: the log goes on beyond its checkpoint
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

from flash_kv.engine.db import DB
from flash_kv.index.checkpoint import BLOCK_BYTES
from flash_kv.log.names import INDEX, TEMPORARY_PREFIX
from flash_kv.log.records import (
    HEADER_SIZE,
    KIND_BATCH,
    KIND_TOMBSTONE,
    KIND_VALUE,
    KIND_VOID,
    SEGMENT_HEADER_SIZE,
)
from flash_kv.options import Options
from flash_kv.torture.journal import State
from flash_kv.torture.stepped import UnsyncedSystem, open_stepped

Files: TypeAlias = "dict[str, bytes]"
SpecimenKind = Literal["closed", "killed", "always", "blocks", "pages", "replay"]
KINDS: tuple[SpecimenKind, ...] = get_args(SpecimenKind)
# Bytes of the reserve, of which every bit is flipped too, and of unused space left behind what is used of a file.
RESERVE_BYTES = 64
UNUSED_BYTES = 64

_CLOSED: tuple[SpecimenKind, ...] = ("closed", "blocks", "pages")
WITH_INDEX: tuple[SpecimenKind, ...] = ("pages", "replay")
# Four such keys fill a page of the index on disk; longer ones are kept outside of its pages.
PAGE_KEY_BYTES = 900
LONG_KEY_BYTES = 1100

_HEADER = struct.Struct("<IBBHIIQ")


class Place(NamedTuple):
    """Where the newest record of a key stands: the batch around it, if there is one, since that counts as a whole."""

    name: str
    offset: int
    size: int
    is_value: bool
    lsn: int
    record: slice
    """The record alone."""


@dataclass(frozen=True)
class Specimen:
    """A store to damage. Files by name; `states[n]` is what it held after n commits."""

    kind: SpecimenKind
    older: Files
    files: Files
    states: list[State]
    older_commits: int
    """After so many commits `older` was taken."""
    older_sealed_commits: int
    """So many of them lie in sealed segments of `older`."""
    sealed_commits: int
    """So many lie in sealed segments of `files`: of these nothing may be lost."""
    places: dict[bytes, Place] = field(default_factory=dict)
    """Of each key that there ever was, in `files`; a key whose tombstone is dropped has none."""

    @property
    def is_closed(self) -> bool:
        return self.kind in _CLOSED

    @property
    def has_index(self) -> bool:
        """Whether the index is on disk. Then nothing is damaged in which that file has no part."""
        return self.kind in WITH_INDEX

    @property
    def state(self) -> State:
        return self.states[-1]

    @property
    def keys(self) -> list[bytes]:
        """Every key that there ever was."""
        return sorted({key for state in self.states for key in state})


class _Repeatable(UnsyncedSystem):
    """Without chance and time, so that the files of a specimen are the same each time."""

    def __init__(self) -> None:
        self._rng = random.Random("specimen")

    def random_bytes(self, size: int) -> bytes:
        return self._rng.randbytes(size)

    def now_ns(self) -> int:
        return 1_700_000_000_000_000_000


def make_specimen(kind: SpecimenKind, directory: Path) -> Specimen:
    """Build one in the new directory `directory`."""
    return _Builder(kind, directory).build()


class _Builder:
    """The history of a specimen. Every value names its commit."""

    def __init__(self, kind: SpecimenKind, directory: Path) -> None:
        self._kind: SpecimenKind = kind
        self._directory = directory
        self._system = _Repeatable()
        self._states: list[State] = [{}]
        self._options = Options(
            segment_bytes_max=64 * 1024,
            reserve_bytes=RESERVE_BYTES,
            load_threads=1,
            index="bptree" if kind in WITH_INDEX else "btree",
            index_checkpoint_bytes=1 << 30,
            compaction="off",
            io="mmap",
            durability="always" if kind == "always" else "process",
        )

    def build(self) -> Specimen:
        is_closed = self._kind in _CLOSED
        db = self._open()
        older_sealed_commits = self._begin(db)
        if is_closed:
            db.close()
        older, older_commits = self._copy(), len(self._states) - 1
        if is_closed:
            db = self._open()
        sealed_commits = self._go_on(db)
        if is_closed:
            db.close()
        files = self._copy()
        db.close()
        places: dict[bytes, Place] = {}
        for name in sorted(files):
            if name.endswith(".seg"):
                for key, place in _places(name, files[name]):
                    if key not in places or places[key].lsn < place.lsn:
                        places[key] = place
        return Specimen(
            kind=self._kind,
            older=older,
            files=files,
            states=self._states,
            older_commits=older_commits,
            older_sealed_commits=older_commits if is_closed else older_sealed_commits,
            sealed_commits=len(self._states) - 1 if is_closed else sealed_commits,
            places=places,
        )

    def _open(self) -> DB:
        return open_stepped(self._directory, self._options, self._system)

    def _begin(self, db: DB) -> int:
        """What `older` has; how many commits are in sealed segments then."""
        for number in range(2):
            self._write(db, {b"stays %d" % number: 20})
        self._write(db, {b"goes": 20})
        self._write(db, {b"goes": None})
        self._seal(db)
        db.compact()
        for number in range(5):
            self._write(db, {b"key %d" % number: 20 + number})
        self._write(db, {b"one": 10, b"two": 10, b"three": 0})
        self._write(db, {b"key 1": None})
        self._write(db, {b"key 2": 300})
        self._seal(db)
        sealed_commits = len(self._states) - 1
        self._write(db, {b"key 3": 15, b"key 0": None, b"four": 1})
        self._write(db, {b"a longer key than eight bytes, number 1": 30})
        self._write(db, {b"a longer key than eight bytes, number 2": 30})
        self._write(db, {b"a longer key than eight bytes, number 3": 3})
        if self._kind == "blocks":
            for number in range(6):
                self._write(db, {b"long %d" % number: 3000 + 700 * number})
        if self._kind in WITH_INDEX:
            self._write(db, {_wide(number, PAGE_KEY_BYTES): 5 for number in range(5)})
            self._write(db, {_wide(5, LONG_KEY_BYTES): 6})
            self._checkpoint(db)
        return sealed_commits

    def _go_on(self, db: DB) -> int:
        """The rest; how many commits are in sealed segments then."""
        self._write(db, {b"one": None})
        self._write(db, {b"key 4": 40})
        self._seal(db)
        if self._kind in _CLOSED:
            db.compact()
        if self._kind in WITH_INDEX:
            self._write(db, {_wide(6, PAGE_KEY_BYTES): 7, _wide(4, PAGE_KEY_BYTES): 8})
            self._write(db, {_wide(2, PAGE_KEY_BYTES): None})
            self._checkpoint(db)
        self._write(db, {b"two": 25, b"key 1": 12})
        self._write(db, {b"a longer key than eight bytes, number 1": None})
        if self._kind == "blocks":
            for number in range(0, 6, 2):
                self._write(db, {b"long %d" % number: 5000})
        self._seal(db)
        sealed_commits = len(self._states) - 1
        self._write(db, {b"key 2": 18})
        self._write(db, {b"five": 22, b"three": None, b"key 3": 9})
        db._segments.rotate()
        self._write(db, {b"key 4": None})
        self._write(db, {b"six": 33})
        self._write(db, {b"five": 8})
        return sealed_commits

    def _checkpoint(self, db: DB) -> None:
        with db._compactor.lock:
            db._index_keeper.checkpoint()

    def _seal(self, db: DB) -> None:
        db._segments.rotate()
        db._segments.seal_rotated()
        db._segments.write_missing_hints()

    def _write(self, db: DB, sizes: dict[bytes, int | None]) -> None:
        """One commit; the sizes of the values, None deletes."""
        mark = b"%d:" % len(self._states)
        state = dict(self._states[-1])
        with db.batch() if len(sizes) > 1 else _Single(db) as writes:
            for key, size in sizes.items():
                if size is None:
                    writes.delete(key)
                    state.pop(key, None)
                else:
                    state[key] = (mark * size)[: max(size, len(mark))] if size else b""
                    writes.put(key, state[key])
        self._states.append(state)

    def _copy(self) -> Files:
        """The files as they are, without most of the unused space behind unsealed segments and the index."""
        files: Files = {}
        for name in sorted(os.listdir(self._directory)):
            if not name.startswith(TEMPORARY_PREFIX):
                content = (self._directory / name).read_bytes()
                step = 8 if name.endswith(".seg") else BLOCK_BYTES if name == INDEX else 0
                if step:
                    used = -(-len(content.rstrip(b"\0")) // step) * step
                    content = content[: used + UNUSED_BYTES]
                files[name] = content
        return files


class _Single:
    """A write that is not a batch, written down like one."""

    def __init__(self, db: DB) -> None:
        self.put = db.put
        self.delete = db.delete

    def __enter__(self) -> _Single:
        return self

    def __exit__(self, *_: object) -> None:
        return


def _places(name: str, content: bytes) -> Iterator[tuple[bytes, Place]]:
    """Where each value and tombstone of a sound segment stands (docs/format.md), without the code that is tried."""
    offset = SEGMENT_HEADER_SIZE
    frame: tuple[int, int] | None = None
    while offset + HEADER_SIZE <= len(content):
        _, kind, flags, _, key_size, value_size, lsn = _HEADER.unpack_from(content, offset)
        if kind not in (KIND_VALUE, KIND_TOMBSTONE, KIND_BATCH, KIND_VOID):
            return
        if kind in (KIND_BATCH, KIND_VOID):
            size = HEADER_SIZE + value_size * 8
        else:
            size = HEADER_SIZE + -(-(key_size + (flags >> 2) + value_size) // 8) * 8
        if frame is not None and offset >= frame[0] + frame[1]:
            frame = None
        if kind == KIND_BATCH:
            frame = (offset, size)
            offset += HEADER_SIZE
            continue
        if kind != KIND_VOID:
            begin, extent = frame or (offset, size)
            key = content[offset + HEADER_SIZE : offset + HEADER_SIZE + key_size]
            yield key, Place(name, begin, extent, kind == KIND_VALUE, lsn, slice(offset, offset + size))
        offset += size


def _wide(number: int, size: int) -> bytes:
    return b"%02d " % number * (size // 3)


def hint_of(name: str) -> str:
    """The name of the hint file of the segment file `name`."""
    return name.removesuffix(".seg") + ".hint"
