"""The file of the index on disk: opened with the store, brought to a checkpoint now and then, closed with it.

A checkpoint is made after so many bytes of log, by the background thread; at the end of each compaction, before its
inputs are removed; and when the store is closed. Writers wait for none of it: under the write lock the index is only
frozen (page_store_cy).

    space lock     which segments are listed; under it the write lock: LSN, counters, chains, index frozen
    no lock        the log synced up to that LSN; the index's file written and synced (checkpoint.py)

Invariants: a checkpoint points into segments only that the durable manifest lists, and its LSN is durable in the log;
a segment that it points into leaves the manifest after a later checkpoint is durable, or none is left. So an open
that finds both takes the checkpoint over and replays what is above its LSN (recovery.py).

Opened for reading only, or poisoned, a store writes no checkpoint: pages that do not fit memory go to a file without a
name.
"""

from __future__ import annotations

import errno
import os
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from flash_kv.engine import recovery
from flash_kv.engine.part import Part
from flash_kv.engine.steps import call_all
from flash_kv.errors import CorruptionError, FlashKVError, PoisonedError, StoreFullError, storage_error
from flash_kv.index.bptree_cy import BPTreeIndex
from flash_kv.index.btree_cy import BTreeIndex
from flash_kv.index.checkpoint import Checkpoint, IndexFile, IndexFileError, SegmentState, encode_list
from flash_kv.index.hash_cy import HashIndex
from flash_kv.index.index_cy import Index
from flash_kv.index.replay_cy import add_loose, replay, set_counters
from flash_kv.index.skiplist_cy import SkipListIndex
from flash_kv.io.system import System
from flash_kv.log.names import INDEX
from flash_kv.log.table_cy import SegmentTable

if TYPE_CHECKING:
    from flash_kv.engine.db import DB


INDEX_CLASSES: dict[str, type[Index]] = {
    "hash": HashIndex,
    "btree": BTreeIndex,
    "skiplist": SkipListIndex,
    "bptree": BPTreeIndex,
}


FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
# That many an open after a crash has to read: some 50 ms where they are in the system's memory.
CHANGED_PAGES_MAX = 8192


def index_damage(path: Path) -> CorruptionError:
    """What a call raises that needs a page which is damaged."""
    return CorruptionError(
        path, 0, "the index is damaged, the store is not: open it again, and it is built from the log"
    )


class IndexKeeper(Part):
    """The index file of one store; of a store with another kind of index, nothing."""

    def __init__(self, db: DB) -> None:
        super().__init__(db)
        # One checkpoint at a time; taken after the compaction lock, before the space lock. Reentrant only so that a
        # finaliser finds out that it would checkpoint in the middle of a checkpoint.
        self._lock = threading.RLock()
        # None: no checkpoint is written, or none any more.
        self._file: IndexFile | None = None
        self._index: BPTreeIndex | None = None
        self._made: list[BPTreeIndex] = []
        self._fds: list[int] = []
        # Of the log, written before the last checkpoint; below 0 by what came before the open.
        self._bytes_before = 0
        self._fault: str | None = None
        self._has_name = False
        self.count = 0
        """Checkpoints made since the open."""

    @property
    def _system(self) -> System:
        return self.store._system

    @property
    def _path(self) -> Path:
        return self.store.path / INDEX

    # -- opening

    def find(self, store_id: bytes) -> Checkpoint | None:
        """Open the file and read its last checkpoint; None when there is none that could be used."""
        options = self.store.options
        if options.index != "bptree":
            return None
        try:
            self._open(store_id, os.O_RDONLY if options.read_only else os.O_RDWR)
        except OSError as error:
            if options.read_only or isinstance(error, FileNotFoundError):
                return None
            raise storage_error(error, path=self._path, operation="open") from error
        assert self._file is not None
        try:
            size = self._system.file_size(self._path)
            return self._file.read(size) if size else None
        except (IndexFileError, OSError) as error:
            self._fault = str(error)
            return None

    def _open(self, store_id: bytes, flags: int) -> None:
        fd = self._system.open(self._path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
        self._fds.append(fd)
        self._file = IndexFile(self._system, fd, store_id)

    def build(self, found: recovery.Recovery) -> tuple[Index, int]:
        """The index, and how many keys it has: the checkpoint's brought to the end of the log, or one made anew."""
        if self.store.options.index == "bptree":
            return self._load(found)
        index = self.new_nameless()
        return index, recovery.fill_index(self.store._segments, index, self.store._table, found.runs)

    def _load(self, found: recovery.Recovery) -> tuple[BPTreeIndex, int]:
        keys = self._take_over(found) if found.base is not None else None
        if keys is None:
            found.index_fault = found.index_fault or self._fault
            self._begin_anew()
            assert self._index is not None
            keys = recovery.fill_index(self.store._segments, self._index, self.store._table, found.runs)
        assert self._index is not None
        self._bytes_before = -_bytes_beyond(found)
        if self.store.options.read_only:
            self._file = None
        return self._index, keys

    def begin(self) -> None:
        """The store is open: from here on the file takes no space that the reserve has given to others."""
        if self._file is not None:
            with self.store._segments.space_lock:
                self.store._segments.reserve.tell(self._let_grow)

    def _let_grow(self, may_grow: bool) -> None:
        if self._index is not None:
            self._index.let_grow(may_grow)

    def _new(self) -> BPTreeIndex:
        index = BPTreeIndex(self.store._table, self.store._segments.hash_key)
        self._made.append(index)
        return index

    def new_nameless(self) -> Index:
        """An empty index that has no part in checkpoints, of which there are none from here on."""
        self._file = None
        if self.store.options.index != "bptree":
            return INDEX_CLASSES[self.store.options.index](self.store._table, self.store._segments.hash_key)
        return self._new_scratch()

    def _new_scratch(self) -> BPTreeIndex:
        """One with a file of its own without a name."""
        index = self._new()
        index.use_file(self._open_nameless(), self.store.options.index_cache_bytes, system=self._hook())
        return index

    def _hook(self) -> System | None:
        return None if type(self._system) is System else self._system

    def _open_nameless(self) -> int:
        try:
            fd = self._system.open_nameless()
        except OSError as error:
            raise storage_error(error, path=self._path, operation="create a file to stand in for") from error
        self._fds.append(fd)
        return fd

    def _use(self, file: IndexFile, blocks: int, scratch_fd: int) -> BPTreeIndex:
        index = self._index = self._new()
        index.use_file(
            file.fd,
            self.store.options.index_cache_bytes,
            store_id=self.store._segments.store_id,
            blocks=blocks,
            scratch_fd=scratch_fd,
            system=self._hook(),
        )
        return index

    def _take_over(self, found: recovery.Recovery) -> int | None:
        """Keys of the checkpoint's index, brought to the end of the log; None when the file has not what it should."""
        assert self._file is not None
        assert found.base is not None
        scratch_fd = self._open_nameless() if self.store.options.read_only else -1
        try:
            index = self._use(self._file, self._file.blocks, scratch_fd)
            self._file.load(index)
            self._set_counters(found)
            _resolve(index, self.store._table, found.base)
            self._has_name = True
            return replay(index, self.store._table, found.runs, found.base.lsn, found.base.keys)
        except (IndexFileError, OSError) as error:
            # Whatever it was: an index that is made anew needs nothing of this file.
            recovery.do_without_base(self.store._segments, found, str(error))
            return None

    def _set_counters(self, found: recovery.Recovery) -> None:
        assert found.base is not None
        states = {(state.segment_id, state.epoch): state for state in found.base.segments}
        for one in found.kept:
            number = one.segment.segment_id
            state = states.get((number, one.segment.epoch))
            live = (state.live_bytes, state.live_records) if state is not None else (0, 0)
            parts = [part for part in (one.run, one.before if one.run is not None else state) if part]
            set_counters(
                self.store._table,
                (
                    number,
                    *live,
                    sum(part.value_records for part in parts),
                    sum(part.tombstone_bytes for part in parts),
                    sum(part.tombstones for part in parts),
                    min((part.min_lsn for part in parts if part.min_lsn), default=0),
                    max(part.max_lsn for part in parts),
                ),
            )

    def _begin_anew(self) -> None:
        """An empty index; what its file held is worth nothing from here on, durably."""
        if self.store.options.read_only:
            self._file = None
            self._index = self._new_scratch()
            return
        for index in self._made:
            index.take_files()
        try:
            if self._file is None:
                self._open(self.store._segments.store_id, os.O_RDWR | os.O_CREAT)
            assert self._file is not None
            if self._system.file_size(self._path):
                # Durability: no head may be left that leads to blocks which are about to be written to.
                self._file.invalidate()
                self._system.truncate(self._file.fd, 0)
        except OSError as error:
            raise storage_error(error, path=self._path, operation="empty") from error
        self._file = IndexFile(self._system, self._file.fd, self.store._segments.store_id)
        self._use(self._file, 0, -1)

    # -- checkpoints

    @property
    def is_kept(self) -> bool:
        """Whether there are checkpoints of the index."""
        return self._file is not None

    def is_due(self) -> bool:
        """Whether there is enough log to replay, or a damage to be made known to the next open."""
        if self._file is None or self._index is None:
            return False
        beyond = self.store._log_bytes() - self._bytes_before
        return (
            beyond >= self.store.options.index_checkpoint_bytes
            or self._index.changed_pages >= CHANGED_PAGES_MAX
            or self._index.is_damaged
        )

    def checkpoint_when_idle(self) -> None:
        """A checkpoint, unless a compaction is going on in another thread: that one ends with a checkpoint."""
        lock = self.store._compactor.lock
        if lock.acquire(blocking=False):
            try:
                self.checkpoint()
            finally:
                lock.release()

    def checkpoint(self) -> bool:
        """Make a checkpoint; False when there cannot be one. Requires: compaction lock held. StoreFullError, ...

        After an error the one before stands.
        """
        with self._lock:
            file, index = self._file, self._index
            # Of a poisoned store it is not known what the disk holds, nor of its index then.
            if file is None or index is None or self.store._syncs.cause is not None:
                return False
            if index.is_damaged:
                self._forget()
                return False
            try:
                return self._checkpoint(file, index)
            except OSError as error:
                raise self._failure(error, file, "write a checkpoint to") from error

    def _checkpoint(self, file: IndexFile, index: BPTreeIndex) -> bool:
        store, segments = self.store, self.store._segments
        with segments.space_lock:
            if segments.unlisted:
                # What a compaction that was interrupted has written: the index points there, and no manifest does.
                return False
            entries = {
                number: segments.entries[number] for number in segments.entries if number in segments.open
            }
            next_segment_id = segments.next_segment_id
            frozen = store._freeze(list(entries))
        if frozen is None:
            return False
        lsn, keys, written, counters, chains, loose = frozen
        states = [SegmentState(one[0], entries[one[0]].epoch, *one[2:]) for one in counters]
        content = encode_list(states, chains, loose)
        if not self._has_name:
            self._system.sync_directory(store.path)
            self._has_name = True
        file.write(
            index,
            Checkpoint(0, lsn, next_segment_id, keys),
            content,
            # Durability: what the index points to comes before the index.
            sync_log=lambda: store._syncs.wait_for(lsn),
        )
        self._bytes_before = written
        self.count += 1
        return True

    def let_go_of(self) -> None:
        """Have no checkpoint that points into what a compaction has emptied. Requires: compaction lock held."""
        if self._file is None:
            return
        try:
            if self.checkpoint():
                return
        except StoreFullError:
            pass
        if self.store._syncs.cause is not None:
            raise PoisonedError(self.store.path, self.store._syncs.cause)
        with self._lock:
            self._forget(is_final=False)

    def look_again(self, number: int) -> None:
        """The index had no room, if this errno says so: the reserve may be able to be whole again by now."""
        if number in FULL_DISK and self._file is not None:
            self.store._segments.keep_reserve()

    def make_room(self, number: int, attempt: int = 1) -> bool:
        """Have room for what changes in the pages, if this errno says that it was lacking; False when there is none.

        A checkpoint lets go of what the one before had; if that does not fit, or is not enough by the second attempt,
        there is none until one fits. What another checkpoint takes while it is being written is waited for.
        """
        store = self.store
        if number not in FULL_DISK or self._file is None or store._segments.is_mine:
            return False
        has_waited = not store._compactor.is_mine
        with store._compactor.lock:
            store.check_open()
            if self._file.checkpoint is None:
                return has_waited
            if attempt == 1:
                self.let_go_of()
            else:
                with self._lock:
                    self._forget(is_final=False)
        return True

    def _forget(self, *, is_final: bool = True) -> None:
        """Durably no checkpoint, until the next one; or none any more."""
        if self._file is None:
            return
        try:
            self._file.invalidate()
        except OSError as error:
            raise self._failure(error, self._file, "invalidate") from error
        if self._index is not None:
            self._index.let_go()
        if is_final:
            self._file = None

    def _failure(self, error: OSError, file: IndexFile, operation: str) -> FlashKVError:
        """What to raise. A failed sync poisons the store, for what was not synced may be gone."""
        if file.has_failed_sync:
            self.store._poison(error)
            return PoisonedError(self.store.path, error)
        return storage_error(error, path=self._path, operation=operation)

    def close(self) -> None:
        """The last checkpoint, of a store that was open for writing: the next open has nothing to replay."""
        if self._file is None or self._index is None or self.store._syncs.cause is not None:
            return
        with self._lock:
            checkpoint = self._file.checkpoint
            if (
                checkpoint is not None
                and not self._index.is_damaged
                and checkpoint.lsn == self.store._log_end()[4]
            ):
                return
            try:
                self.checkpoint()
            except StoreFullError:
                # The one before stands, and the log has the rest.
                return

    def close_files(self) -> None:
        """Close what was opened; no index is of use any more."""
        for index in self._made:
            index.take_files()
        fds, self._fds = self._fds, []
        call_all([partial(self._system.close, fd) for fd in fds])


def _resolve(index: BPTreeIndex, table: SegmentTable, base: Checkpoint) -> None:
    """Put positions in the place of version chains, which no snapshot reads any more, and add what is in no page."""
    for entry, position in zip(base.chains[::2], base.chains[1::2], strict=True):
        if not add_loose(index, table, entry, position):
            raise IndexFileError("the newest version of a key cannot be read")
    for position in base.loose:
        if not add_loose(index, table, 0, position):
            raise IndexFileError("a key that is in no page cannot be read")


def _bytes_beyond(found: recovery.Recovery) -> int:
    """Bytes of the log above the checkpoint."""
    used = {} if found.base is None else {state.segment_id: state.used for state in found.base.segments}
    return sum(
        max(one.end - used.get(one.segment.segment_id, 0), 0) for one in found.kept if one.run is not None
    )
