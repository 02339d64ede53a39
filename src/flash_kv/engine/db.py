"""`DB`: an open store as a mutable mapping of bytes to bytes.

The hot path is compiled (store_cy.py and below); here is policy: what an open does, how room is made, when to
sync, what the background thread does, how all of it ends.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from flash_kv.engine import naming, open_stores, recovery
from flash_kv.engine.backup import backup
from flash_kv.engine.batch import WriteBatch
from flash_kv.engine.compaction import Compactor
from flash_kv.engine.dict_methods import DictMethods
from flash_kv.engine.durability import SyncKeeper
from flash_kv.engine.expiry import Sweeper
from flash_kv.engine.index_file import IndexKeeper, index_damage
from flash_kv.engine.maintenance import Maintenance, look_after
from flash_kv.engine.reports import (
    BackupReport,
    CompactionProgress,
    CompactionReport,
    Stats,
    VerifyReport,
)
from flash_kv.engine.segment_set import SegmentSet
from flash_kv.engine.snapshot import Snapshot
from flash_kv.engine.stats import gather
from flash_kv.engine.steps import call_all
from flash_kv.engine.store_cy import CLOSED, POISONED, READ_ONLY, TROUBLED
from flash_kv.engine.verify import verify_open
from flash_kv.engine.views import ORDERED_KINDS
from flash_kv.errors import (
    ClosedError,
    FlashKVError,
    ForkedError,
    PoisonedError,
    ReadOnlyError,
    StoreNotFoundError,
    StrPath,
    naming_place,
    storage_error,
)
from flash_kv.index.index_cy import Index
from flash_kv.io.lockfile import LockFile, acquire, acquire_shared
from flash_kv.io.signals import SignalsHeld
from flash_kv.io.system import REAL, System
from flash_kv.log.manifest import Codecs
from flash_kv.log.names import INDEX, segment_name
from flash_kv.log.table_cy import SegmentTable
from flash_kv.options import Durability, DurabilitySpec, Options, parse_durability

# Unsealed segments that may wait for the background.
UNSEALED_MAX = 8
# Version chains trimmed at a time: some 100 us under the write lock.
TRIM_STEP = 256


class DB(DictMethods):
    """An open store: a mutable mapping of bytes to bytes, for any number of threads, and a context manager.

    Keys and values are bytes-like, `str` is encoded as UTF-8, what is read is `bytes`. With an ordered index keys are
    iterated in byte order. Every iteration runs on a snapshot of the moment it begins. Made by `flash_kv.open`.
    """

    def __init__(
        self,
        path: StrPath,
        options: Options,
        system: System = REAL,
        codecs: Codecs | None = None,
        maintenance: type[Maintenance] = Maintenance,
    ) -> None:
        self._path = (path if isinstance(path, Path) else Path(os.fspath(path))).absolute()
        self._options = options
        self._system = system
        # What the caller takes the bytes for; None: for bytes, whatever the store says they are.
        self._codecs_wanted = codecs
        self._pid = os.getpid()
        self._durability = parse_durability(options.durability)
        self._write_hook = None if type(system) is System else system.write_at
        self._lock_file: LockFile | None = None
        # Orders syncs against the closing of descriptors; before the write lock, apart from the space lock.
        self._sync_lock = threading.RLock()
        self._syncs = SyncKeeper(self, self._sync_lock)
        self._compactor = Compactor(self)
        self._index_keeper = IndexKeeper(self)
        self._maintenance = maintenance(self, self._durability, options.compaction_interval_s)
        self._sweeper = Sweeper()
        self._background_error: BaseException | None = None
        # One close at a time, before all other locks. Reentrant only so that it knows its owner: a finaliser may close
        # the store in the middle of its closing.
        self._close_lock = threading.RLock()
        self._bytes_since_sync = 0
        self._is_let_go = False
        self._open()

    # -- opening and closing

    def _open(self) -> None:
        started = time.monotonic()
        options = self._options
        self._make_directory()
        recovery.require_own(self._system, self._path, options)
        try:
            with SignalsHeld():
                self._lock_file = self._lock()
            open_stores.add(self)
            with naming_place(self._path, "open"):
                found = self._recover()
            self._recovery = found.report(time.monotonic() - started, self._segments.entries)
            self._set_state(READ_ONLY, options.read_only)
            self._set_state(CLOSED, False)
            self._begin_to_seal()
        except BaseException:
            self._set_state(CLOSED, True)
            self._maintenance.stop()
            self._let_go()
            raise

    def _begin_to_seal(self) -> None:
        """Have the background seal what a killed process has left, if it has left something."""
        if self._segments.unsealed or self._segments.hintless:
            try:
                self._maintenance.wake()
            except RuntimeError:
                # The process can have no more threads; the next write that needs room tries again, and a close seals.
                return

    def _recover(self) -> recovery.Recovery:
        """Find what there is, settle it, load the index."""
        system, options = self._system, self._options
        self._table = SegmentTable(options.io == "mmap")
        # A sync of pages written through the mapping costs more than twice one of pages written by pwrite
        # (the inode's time goes to the journal), so a store that syncs each commit writes its log that way
        # and reads it through the mapping.
        is_written_mapped = options.io == "mmap" and self._durability.kind != "always"
        self._set_up(self._table, is_written_mapped, self._write_hook, options.align)
        manifest = recovery.find_or_create(system, self._path, options, self._codecs_wanted)
        self._segments = SegmentSet(system, self._path, options, manifest, self)
        self._is_ordered = options.index in ORDERED_KINDS
        found = recovery.recover(self._segments, self._index_keeper.find(manifest.store_id))
        if options.read_only:
            recovery.leave(self._segments, found)
        else:
            recovery.settle(self._segments, found)
        keys = self._load(found)
        self._segments.release_hints()
        self._resume_lsn(found.last_lsn + 1, found.durable_lsn)
        self._syncs.begin_at(found.durable_lsn)
        # With ("bytes", n) the first commit syncs what a killed process has not, once that may be n bytes.
        self._bytes_since_sync = sum(segment.allocated for segment in self._segments.unsealed.values())
        self._wait_for_syncs(self._durability.kind in ("always", "bytes"))
        self._index_keeper.begin()
        naming.settle(self, self._codecs_wanted, keys)
        return found

    def _make_directory(self) -> None:
        try:
            if self._system.is_directory(self._path):
                return
        except OSError as error:
            raise storage_error(error, path=self._path, operation="open") from error
        if self._options.read_only or not self._options.create:
            raise StoreNotFoundError(self._path)
        try:
            self._system.make_directory(self._path)
            self._system.sync_directory(self._path.parent)
        except FileExistsError:
            # Another process made it first, or it is a file: then listing it says so.
            return
        except OSError as error:
            raise storage_error(error, path=self._path, operation="create") from error

    def _lock(self) -> LockFile | None:
        try:
            if self._options.read_only:
                return acquire_shared(self._system, self._path)
            return acquire(self._system, self._path)
        except OSError as error:
            raise storage_error(error, path=self._path, operation="lock") from error

    def _load(self, found: recovery.Recovery) -> int:
        """Register what was found and build the index from it; how many keys there are."""
        segments = self._segments
        for one in (*found.kept, *found.dropped):
            if one.segment.segment_id in segments.open:
                segments.register(one.segment, one.end)
        index, keys = self._index_keeper.build(found)
        self._install_index(index, keys)
        return keys

    @property
    def path(self) -> Path:
        """The store's directory."""
        return self._path

    @property
    def options(self) -> Options:
        """The options it was opened with."""
        return self._options

    @property
    def codecs(self) -> tuple[str, str]:
        """The names of the codecs of its values and of its keys; "raw" for plain bytes."""
        return self._segments.codecs

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return bool(self._state() & CLOSED) or self._has_forked()

    def close(self) -> None:
        """End all work, make everything durable, write hint files, unlock. A second call does nothing.

        Whatever was acknowledged is safe without it; after it the next open has the least to do. StorageError when the
        disk refuses; the store is closed all the same, and the next open recovers.
        """
        if self._has_forked():
            self._abandon()
            return
        if self._close_lock._is_owned():  # type: ignore[attr-defined]
            return
        self._compactor.require_outside("close()")
        with self._close_lock:
            # Not by `closed`: a close that was interrupted is finished by the next one.
            if self._is_let_go:
                return
            self._compactor.is_stopping = True
            self._maintenance.stop()
            with self._compactor.lock:
                was_writable = self._state() == 0
                try:
                    self._set_state(CLOSED, True)
                    if was_writable:
                        with naming_place(self._path, "close"):
                            self._segments.close()
                            self._index_keeper.close()
                finally:
                    self._let_go()

    def _let_go(self) -> None:
        """Unmap, close and unlock: all of it, whatever fails on the way. StorageError afterwards."""
        with SignalsHeld(), naming_place(self._path, "close"):
            try:
                files = [self._segments.close_files] if hasattr(self, "_segments") else []
                files.append(self._index_keeper.close_files)
                # The lock last: nobody else may come in before.
                call_all(files if self._lock_file is None else [*files, self._lock_file.release])
            finally:
                self._is_let_go = True
                open_stores.remove(self)

    def _abandon(self) -> None:
        """In a forked child: let go of the lock's descriptor, touch nothing else; the parent goes on.

        The write lock least of all: a thread of the parent may have held it, and it does not exist here.
        """
        if self._lock_file is not None:
            self._lock_file.abandon()

    def __enter__(self) -> DB:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not hasattr(self, "_recovery") or self._is_let_go:
            return
        # A signal's exception would end here unseen, and leave the store half closed.
        with SignalsHeld():
            if not self._has_forked():
                for part in (self._syncs, self._compactor, self._segments, self._index_keeper):
                    part.belong_to(self)
                try:
                    warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)
                finally:
                    # Also where warnings are errors.
                    self.close()

    def __repr__(self) -> str:
        return f"<flash_kv.DB {str(self._path)!r}, {'closed' if self.closed else 'open'}>"

    def __reduce__(self) -> Any:
        raise TypeError("an open store cannot be pickled; pickle its path and open it there")

    # -- what the compiled part asks for

    def _refuse(self, is_write: bool) -> None:
        state = self._state()
        if self._has_forked():
            raise ForkedError(self._path, self._pid)
        if state & CLOSED:
            raise ClosedError(self._path)
        if is_write and state & READ_ONLY:
            raise ReadOnlyError(self._path)
        if is_write and state & TROUBLED:
            # Told once; the write that hears of it is not made, the next one is.
            self._set_state(TROUBLED, False)
            error, self._background_error = self._background_error, None
            if error is not None:
                try:
                    raise error
                finally:
                    # Its traceback leads back here: a cycle would keep alive what the frames hold.
                    del error
        if is_write and state & POISONED:
            raise PoisonedError(
                self._path, self._syncs.cause or OSError(5, "a write could not be taken back")
            )

    def _segment_path(self, segment_id: int) -> Path:
        return self._path / (segment_name(segment_id) if segment_id else INDEX)

    def _storage_error(self, number: int, path: Path, offset: int) -> FlashKVError:
        if number == errno.EBADMSG and path.name == INDEX:
            return index_damage(path)
        self._index_keeper.look_again(number)
        return storage_error(
            OSError(number, os.strerror(number)), path=path, operation=f"read or write at offset {offset} of"
        )

    def _make_room(self, size: int, is_delete: bool) -> None:
        with naming_place(self._path, "make room in"):
            self._segments.make_room(size, is_delete)
        self._maintenance.wake()
        if len(self._segments.unsealed) > UNSEALED_MAX:
            # Writers that outrun the background help it: every unsealed segment holds a descriptor and unsynced data.
            self._segments.seal_rotated()

    def _after_commit(
        self, segment_id: int, offset: int, size: int, lsn: int, durability: Durability | None
    ) -> None:
        """Keep the promise of `durability`, the store's by default, for a commit that is in the log."""
        wanted = durability or self._durability
        if wanted.kind == "bytes":
            self._bytes_since_sync += size
            if self._bytes_since_sync < wanted.bytes:
                return
            self._bytes_since_sync = 0
        elif wanted.kind == "interval" and durability is not None:
            # The store's own interval is kept anyway; this one is a batch's.
            self._maintenance.sync_within(durability.seconds)
            return
        elif wanted.kind != "always":
            return
        try:
            self._syncs.wait_for(lsn)
        except PoisonedError:
            # Also with ("bytes", n): the call raises, so it must have changed nothing.
            self._take_back(segment_id, offset, size, lsn)
            raise

    def _unwind(self, segment_id: int, offset: int, size: int, lsn: int) -> None:
        """A batch is in the log and could not be indexed to its end; the caller is about to be told why."""
        self._spoil()
        self._take_back(segment_id, offset, size, lsn)

    def _take_back(self, segment_id: int, offset: int, size: int, lsn: int) -> None:
        """The caller is about to hear that this commit failed: neither reads nor the next open may find it."""
        try:
            with self._segments.space_lock:
                segment = self._segments.open[segment_id]
                # First, since it may fail for want of memory or disk: then reads go on with this commit.
                index, keys = self._index_without(segment_id, offset, size)
                if failure := self._withdraw(segment_id, segment.mapping, offset, size, lsn, index, keys):
                    raise OSError(failure, os.strerror(failure), segment.path)
        except (OSError, FlashKVError, MemoryError) as error:
            raise PoisonedError(self._path, self._syncs.cause or error, is_in_doubt=True) from error

    def _index_without(self, segment_id: int, offset: int, size: int) -> tuple[Index, int]:
        """An index of the log as it is but for one commit, and its keys. Requires: poisoned, space lock held."""
        runs = recovery.read_again(self._segments, segment_id, offset, size)
        index = self._index_keeper.new_nameless()
        return index, recovery.fill_index(self._segments, index, self._table, runs)

    def _poison(self, cause: OSError) -> None:
        """Nothing more is written: what the disk holds is not known any more."""
        self._syncs.poison(cause)
        self._set_state(POISONED, True)

    def _spoil(self) -> None:
        self._poison(OSError(5, "a failed write could not be taken back"))

    # -- background

    def _maintain(self, is_sync_due: bool, is_look_due: bool) -> None:
        """One round of the background thread."""
        look_after(self, is_sync_due, is_look_due)

    def _snapshot_closed(self) -> None:
        """Trim at once what is little; the rest is the background thread's."""
        if self._has_forked() or self.closed:
            return
        if self._chain_count():
            self._collapse_versions(TRIM_STEP)
            self._maintenance.wake()
        if self._segments.retired:
            if self._segments.is_mine:
                self._maintenance.wake()
            else:
                self._segments.release_retired()

    def _trim_versions(self) -> None:
        """Trim all version chains, in steps short enough for no one to wait for."""
        for _ in range(0, self._chain_count(), TRIM_STEP):
            self._collapse_versions(TRIM_STEP)
            time.sleep(0)

    def _sync_for_compaction(self) -> None:
        """What made records dead must be durable before they are dropped."""
        end = self._log_end()[4]
        if end > self._syncs.synced_lsn:
            self._syncs.wait_for(end)

    # -- batches, snapshots, durability

    def batch(self, *, durability: DurabilitySpec | None = None) -> WriteBatch:
        """A write batch: a context manager that commits on success and discards on an exception."""
        self._require_writable()
        return WriteBatch(self, durability)

    def _require_writable(self) -> None:
        if self._state() or self._has_forked():
            self._refuse(True)

    def snapshot(self) -> Snapshot:
        """The store as of now, as a read-only mapping; opened in O(1)."""
        return Snapshot(self)

    def sync(self) -> None:
        """Back when everything committed so far survives a power cut. PoisonedError when the disk refuses."""
        self._require_writable()
        self._syncs.wait_for(self._log_end()[4])

    # -- long operations

    def compact(
        self,
        *,
        dry_run: bool = False,
        progress: Callable[[CompactionProgress], object] | None = None,
    ) -> CompactionReport:
        """Give back the space of all overwritten and deleted records; reads and writes go on meanwhile.

        `dry_run` only says what it would gain. `progress` is called about once a megabyte; when it returns False the
        compaction is cancelled, when it raises the exception is passed on; either way nothing is lost. A crash
        leaves the old segments or the new ones.
        """
        if dry_run:
            self.check_open()
            return self._compactor.predict()
        self._require_writable()
        self._compactor.require_outside("compact()")
        self._maintenance.start()
        self._trim_versions()  # what only ended snapshots could see is not to be copied
        with naming_place(self._path, "compact"):
            self._segments.rotate()
            self._segments.seal_rotated(is_freeing=True)
        return self._compactor.run_all(progress)

    def check_open(self) -> None:
        """ClosedError or ForkedError unless the store can be read."""
        if self.closed or self._has_forked():
            self._refuse(False)

    def backup(self, dest: StrPath, *, progress: Callable[[int, int], object] | None = None) -> BackupReport:
        """Copy the store as it is now to the new directory `dest`, which then opens as a store.

        Segments are hard-linked where `dest` is on the same file system, else copied. Writers go on. `dest`
        appears whole or not at all. `progress(bytes_done, bytes_total)` is called every few megabytes, and may raise.
        """
        self.check_open()
        return backup(self, dest, progress)

    def verify(self, *, progress: Callable[[int, int], object] | None = None) -> VerifyReport:
        """Read and check every record, hint file and the manifest; all damage is in the report, none is raised.

        `progress(bytes_done, bytes_total)` is called before each segment, and may raise to end the check.
        """
        self.check_open()
        return verify_open(self, progress)

    def stats(self) -> Stats:
        """The state of the store, in O(segments)."""
        self.check_open()
        return gather(self)
