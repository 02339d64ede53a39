"""What the engine's plain Python does to a store's insides: segments in and out, the active segment, snapshots, counts.

Each method is one short step under the write lock; which step when is decided in db.py and its neighbours.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.flash_kv.engine.core_cy import IS_CLOSED, IS_POISONED, IS_READ_ONLY, IS_TROUBLED, Facts
from cython.cimports.flash_kv.engine.freeze_cy import Frozen
from cython.cimports.flash_kv.engine.records_cy import Records
from cython.cimports.flash_kv.engine.versions_cy import VersionChains
from cython.cimports.flash_kv.index.index_cy import Index
from cython.cimports.flash_kv.index.siphash import siphash13
from cython.cimports.flash_kv.intrinsics import add_atomic64, load_acquire64, load_relaxed64, store_release64
from cython.cimports.flash_kv.io.mapping_cy import Mapping
from cython.cimports.flash_kv.io.mutex import lock_releasing_gil, pthread_mutex_unlock
from cython.cimports.flash_kv.log.checksum_cy import segment_seed
from cython.cimports.flash_kv.log.format import ENTRY_ERROR, ENTRY_VERSIONED, KIND_TOMBSTONE
from cython.cimports.flash_kv.log.table_cy import Key, SegmentRef, SegmentTable, load_key, segment_ref
from cython.cimports.flash_kv.log.writer_cy import LogWriter
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memset

from flash_kv.io.mapping_cy import memory_of

CLOSED = IS_CLOSED
POISONED = IS_POISONED
READ_ONLY = IS_READ_ONLY
TROUBLED = IS_TROUBLED

Octets = cython.typedef(cython.pointer(cython.const[uint8_t]))


@cython.cclass
class Store(Records):
    """The compiled part of a `DB`."""

    def _set_up(self, table: SegmentTable, is_mapped: bool, write_hook: object, align: int = 1) -> None:
        self.table = table
        self.log = cython.address(table.state)
        self.versions = VersionChains(table)
        self.writer = LogWriter(is_mapped, 1, write_hook)
        self.writer.align = align

    def _install_index(self, index: Index, key_count: int) -> None:
        """The index that answers from now on. Requires: no writer and no reader without the GIL."""
        lock_releasing_gil(cython.address(self.mutex))
        self.answer_from(index, key_count)
        pthread_mutex_unlock(cython.address(self.mutex))

    def answer_from(self, index, key_count):
        """The index that answers from now on. Requires: mutex held."""
        self.index = index
        self.key_count = key_count
        self.generation_of_index += 1
        return 0

    def _index_bytes(self) -> int:
        """Memory of the index beyond the log, version chains included."""
        # A large batch changes both without the GIL.
        lock_releasing_gil(cython.address(self.mutex))
        size: uint64_t = self.index.memory_bytes() + self.versions.arena.used
        pthread_mutex_unlock(cython.address(self.mutex))
        return size

    def _resume_lsn(self, next_lsn: int, synced_lsn: int) -> None:
        """Go on after what recovery found, durable up to `synced_lsn`."""
        self.writer.next_lsn = next_lsn
        self.writer.synced_lsn = synced_lsn

    # -- segments

    def _register(
        self, segment_id: int, epoch: int, store_id: bytes, mapping: object, fd: int, size: int, used: int
    ) -> None:
        """Make a segment readable. `mapping` None: by `fd`."""
        ref: cython.pointer(SegmentRef)
        mapped: Mapping
        # Now, so that viewing a value later makes nothing but its slice.
        memory: object = None if mapping is None else memory_of(mapping)
        lock_releasing_gil(cython.address(self.mutex))
        try:
            ref = self.table.add(segment_id)
            ref.seed = segment_seed(cython.cast(Octets, PyBytes_AS_STRING(store_id)), segment_id, epoch)
            ref.fd = fd
            store_release64(cython.address(ref.used), used)
            if mapping is not None:
                mapped = mapping
                ref.data = mapped.data
                self.table.memories[segment_id] = memory
                ref.memory = cython.cast(cython.p_void, memory)
            store_release64(cython.address(ref.size), size)
            self.table.owners[segment_id] = mapping
        finally:
            pthread_mutex_unlock(cython.address(self.mutex))

    def _unregister(self, segment_id: int) -> bool:
        """Forget a segment nothing points to any more; False while a read without the GIL has it pinned."""
        ref: cython.pointer(SegmentRef) = segment_ref(self.log, segment_id)
        if ref == cython.NULL:
            return True
        if load_acquire64(cython.address(ref.pins)) != 0:
            return False
        lock_releasing_gil(cython.address(self.mutex))
        free(ref.viewed)
        memset(ref, 0, cython.sizeof(SegmentRef))
        pthread_mutex_unlock(cython.address(self.mutex))
        self.table.owners.pop(segment_id, None)
        self.table.memories.pop(segment_id, None)
        return True

    def _pin(self, segment_id: int) -> object:
        """Keep a segment readable as long as what is returned lives, or until its `release`; None when it is gone."""
        ref: cython.pointer(SegmentRef) = segment_ref(self.log, segment_id)
        if ref == cython.NULL or load_acquire64(cython.address(ref.size)) == 0:
            return None
        return SegmentPin(self, segment_id)

    def _segment_counts(self, segment_id: int) -> dict:
        """The counters of one segment."""
        ref: cython.pointer(SegmentRef) = segment_ref(self.log, segment_id)
        if ref == cython.NULL:
            raise KeyError(segment_id)
        # A large batch and a compaction change them without the GIL; the end of what a compaction writes also without
        # the lock.
        used: uint64_t
        counts: SegmentRef
        lock_releasing_gil(cython.address(self.mutex))
        used = load_relaxed64(cython.address(ref.used))
        counts.live_bytes = ref.live_bytes
        counts.live_records = ref.live_records
        counts.value_records = ref.value_records
        counts.tombstone_bytes = ref.tombstone_bytes
        counts.tombstones = ref.tombstones
        counts.min_lsn = ref.min_lsn
        counts.max_lsn = ref.max_lsn
        pthread_mutex_unlock(cython.address(self.mutex))
        return {
            "used": used,
            "live_bytes": counts.live_bytes,
            "live_records": counts.live_records,
            "value_records": counts.value_records,
            "tombstone_bytes": counts.tombstone_bytes,
            "tombstones": counts.tombstones,
            "min_lsn": counts.min_lsn,
            "max_lsn": counts.max_lsn,
        }

    def _log_bytes(self) -> int:
        """Bytes of all records written since the open."""
        return load_relaxed64(cython.address(self.writer.written))

    def _freeze(self, segment_ids: list) -> object:
        """Have the index on disk frozen, in one step with what a checkpoint says beside it.

        (last LSN, keys, bytes written, counters of each segment as in `SegmentState` with 0 for the epoch, chains as
        in `Checkpoint`, loose positions), or None when memory and log do not agree, or a long key cannot be read.
        Requires: no other thread freezes.
        """
        frozen: Frozen = Frozen()
        i: uint64_t
        is_spoiled: cython.bint
        is_small: cython.bint = True
        ref: cython.pointer(SegmentRef)
        node: uint64_t
        lsn: uint64_t = 0
        keys: uint64_t = 0
        written: uint64_t = 0
        frozen.make_room(len(segment_ids), 0, 0)
        for i in range(frozen.segment_count):
            frozen.refs[i] = segment_ref(self.log, segment_ids[i])
        while is_small:
            frozen.make_room(frozen.segment_count, frozen.chain_count, frozen.loose_count)
            lock_releasing_gil(cython.address(self.mutex))
            is_spoiled = self.writer.is_spoiled or self.state & IS_POISONED != 0
            frozen.chain_count = self.versions.pending_count
            frozen.loose_count = self.index.list_loose(frozen.loose, frozen.loose_room)
            is_spoiled = is_spoiled or frozen.loose_count == ENTRY_ERROR
            is_small = frozen.chain_count > frozen.chain_room or frozen.loose_count > frozen.loose_room
            if not is_spoiled and not is_small:
                lsn = self.writer.next_lsn - 1
                keys = self.key_count
                written = self.writer.written
                for i in range(frozen.segment_count):
                    ref = frozen.refs[i]
                    frozen.states[i] = ref[0]
                for i in range(frozen.chain_count):
                    node = self.versions.pending[i]
                    frozen.chains[3 * i] = node
                    frozen.chains[3 * i + 1] = self.versions.nodes[node].position
                    frozen.chains[3 * i + 2] = self.versions.nodes[node].next
                self.index.freeze()
            pthread_mutex_unlock(cython.address(self.mutex))
            if is_spoiled:
                return None
        return lsn, keys, written, frozen.counters(segment_ids), frozen.chain_list(), frozen.loose_list()

    # -- the active segment

    def _activate(
        self, segment_id: int, mapping: object, fd: int, tail: int, limit: int, capacity: int
    ) -> None:
        """Append to this registered segment from now on."""
        ref: cython.pointer(SegmentRef) = segment_ref(self.log, segment_id)
        mapped: Mapping
        lock_releasing_gil(cython.address(self.mutex))
        self.writer.ref = ref
        self.writer.segment_id = segment_id
        self.writer.seed = ref.seed
        self.writer.fd = fd
        self.writer.tail = tail
        self.writer.limit = limit
        self.writer.capacity = capacity
        self.writer.data = cython.NULL
        store_release64(cython.address(ref.used), tail)
        # It may have grown since it was registered.
        store_release64(cython.address(ref.size), limit)
        if mapping is not None:
            mapped = mapping
            self.writer.data = mapped.data
        pthread_mutex_unlock(cython.address(self.mutex))

    def _deactivate(self) -> None:
        """No active segment: the next write makes room for itself."""
        lock_releasing_gil(cython.address(self.mutex))
        self.writer.ref = cython.NULL
        self.writer.data = cython.NULL
        pthread_mutex_unlock(cython.address(self.mutex))

    def _extend(self, segment_id: int, limit: int) -> None:
        """The active segment is allocated up to `limit`."""
        ref: cython.pointer(SegmentRef) = segment_ref(self.log, segment_id)
        # Under the lock no object is made: for want of memory the lock would be kept.
        end: uint64_t = limit
        lock_releasing_gil(cython.address(self.mutex))
        if self.writer.ref == ref and end > self.writer.limit:
            store_release64(cython.address(ref.size), end)
            self.writer.limit = end
        pthread_mutex_unlock(cython.address(self.mutex))

    def _limit(self, segment_id: int, size: int) -> None:
        """Nothing of a segment that is about to be cut at `size` is read beyond it."""
        ref: cython.pointer(SegmentRef) = segment_ref(self.log, segment_id)
        store_release64(cython.address(ref.size), size)

    def _log_end(self) -> tuple:
        """(active segment id or 0, tail, limit, capacity, last LSN, synced LSN), as of one moment."""
        lock_releasing_gil(cython.address(self.mutex))
        segment_id: uint64_t = self.writer.segment_id if self.writer.ref != cython.NULL else 0
        tail: uint64_t = self.writer.tail
        limit: uint64_t = self.writer.limit
        capacity: uint64_t = self.writer.capacity
        last: uint64_t = self.writer.next_lsn - 1
        synced: uint64_t = self.writer.synced_lsn
        pthread_mutex_unlock(cython.address(self.mutex))
        return segment_id, tail, limit, capacity, last, synced

    def _mark_synced(self, lsn: int) -> None:
        """Everything up to `lsn` is durable; records say so from now on."""
        synced: uint64_t = lsn
        lock_releasing_gil(cython.address(self.mutex))
        self.writer.synced_lsn = max(self.writer.synced_lsn, synced)
        pthread_mutex_unlock(cython.address(self.mutex))

    def _withdraw(
        self,
        segment_id: int,
        mapping: object,
        offset: int,
        size: int,
        lsn: int,
        index: Index,
        key_count: int,
    ) -> int:
        """Void a commit whose sync failed, in the log, and answer from an index without it: 0, or an errno and nothing.

        In one step, for an entry of what is void leads a scan astray.
        """
        ref: cython.pointer(SegmentRef) = segment_ref(self.log, segment_id)
        mapped: Mapping
        data: cython.pointer(uint8_t) = cython.NULL
        if mapping is not None:
            mapped = mapping
            data = mapped.data
        lock_releasing_gil(cython.address(self.mutex))
        failure: cython.int = self.writer.withdraw(ref, data, offset, size, lsn)
        if failure == 0:
            self.answer_from(index, key_count)
        pthread_mutex_unlock(cython.address(self.mutex))
        return failure

    def _wait_for_syncs(self, waits: bool) -> None:
        """Whether a commit is followed by `_after_commit`."""
        self.waits_for_sync = waits

    # -- snapshots

    def open_snapshot(self, lsn):
        failed: cython.int
        self.check_readable()
        lock_releasing_gil(cython.address(self.mutex))
        lsn[0] = self.writer.next_lsn - 1
        failed = self.versions.open_snapshot(lsn[0])
        pthread_mutex_unlock(cython.address(self.mutex))
        if failed:
            raise MemoryError("no memory for one more snapshot")
        return 0

    def close_snapshot(self, lsn):
        if self._has_forked():
            # Another thread of the parent may have held the lock; the child has nothing to let go of.
            return
        lock_releasing_gil(cython.address(self.mutex))
        self.versions.close_snapshot(lsn)
        pthread_mutex_unlock(cython.address(self.mutex))

    def _snapshot_count(self) -> int:
        return self.versions.snapshot_count

    def _oldest_snapshot(self) -> object:
        """The LSN of the oldest open snapshot, or None."""
        if self.versions.snapshot_count == 0:
            return None
        return self.versions.snapshots[0]

    def _chain_count(self) -> int:
        """Version chains that may still be trimmed."""
        lock_releasing_gil(cython.address(self.mutex))
        count: uint64_t = self.versions.pending_count
        pthread_mutex_unlock(cython.address(self.mutex))
        return count

    def _collapse_versions(self, count: int) -> None:
        """Trim the first `count` version chains to what open snapshots read; those still needed go to the end.

        Keeps the GIL: a reader that keeps it never sees a chain change under its feet.
        """
        i: uint64_t
        kept: uint64_t = 0
        number: uint64_t
        budget: uint64_t = count
        lock_releasing_gil(cython.address(self.mutex))
        budget = min(budget, self.versions.pending_count)
        for i in range(budget):
            number = self.versions.pending[i]
            if self.collapse_one(number):
                self.versions.pending[kept] = number
                kept += 1
        for i in range(budget, self.versions.pending_count):
            self.versions.pending[i - budget + kept] = self.versions.pending[i]
        self.versions.pending_count -= budget - kept
        rotate_left(self.versions.pending, self.versions.pending_count, kept)
        pthread_mutex_unlock(cython.address(self.mutex))

    def collapse_one(self, number):
        """1 when the chain headed by this node must stay."""
        key: Key
        buffer: cython.pointer(uint8_t) = cython.NULL
        capacity: uint64_t = 0
        size: uint32_t = 0
        facts: Facts
        entry: uint64_t
        position: uint64_t = self.versions.nodes[number].position
        if position == 0:
            return 0
        key.data = load_key(
            self.log,
            position,
            cython.address(size),
            cython.address(buffer),
            cython.address(capacity),
            cython.address(key),
        )
        if key.data == cython.NULL:
            free(buffer)
            return 1
        key.size = size
        if self.index.needs_hash:
            key.hash = cython.cast(uint32_t, siphash13(self.index.hash_key, key.data, size))
        entry = self.index.find(cython.address(key))
        if entry == ENTRY_ERROR:
            free(buffer)
            return 1
        if entry != number | ENTRY_VERSIONED:
            # A later head has taken its place and is pending itself.
            free(buffer)
            return 0
        if not self.versions.trim(number):
            free(buffer)
            return 1
        if self.inspect(position, cython.address(facts)) != 0:
            free(buffer)
            return 1
        # A tombstone that some snapshot older than it may still pass by keeps nothing: no version is behind it.
        if facts.kind == KIND_TOMBSTONE:
            if self.index.remove(cython.address(key)) == ENTRY_ERROR:
                # The index still points to the chain: it stays until the key can be looked at.
                free(buffer)
                return 1
        elif not self.index.replace(cython.address(key), entry, position):
            free(buffer)
            return 1
        self.versions.free_chain(number)
        free(buffer)
        return 0


@cython.final
@cython.no_gc_clear
@cython.cclass
class SegmentPin:
    """Keeps the mapping of a segment. An object, so that no signal that comes before the caller's `try` loses it."""

    store: Store
    segment_id: uint64_t
    is_held: cython.bint

    def __cinit__(self, store: Store, segment_id: int):
        self.store = store
        self.segment_id = segment_id
        add_atomic64(cython.address(segment_ref(store.log, self.segment_id).pins), 1)
        self.is_held = True

    def __dealloc__(self):
        self.let_go()

    @cython.cfunc
    @cython.exceptval(check=False)
    def let_go(self) -> cython.void:
        if self.is_held:
            self.is_held = False
            add_atomic64(
                cython.address(segment_ref(self.store.log, self.segment_id).pins),
                cython.cast(uint64_t, -1),
            )

    def release(self) -> None:
        """Let go of it. A second time: nothing."""
        self.let_go()


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def rotate_left(words: cython.pointer(uint64_t), count: uint64_t, places: uint64_t) -> cython.void:
    """Move the first `places` words behind the others, by three reversals."""
    reverse(words, 0, places)
    reverse(words, places, count)
    reverse(words, 0, count)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def reverse(words: cython.pointer(uint64_t), start: uint64_t, end: uint64_t) -> cython.void:
    word: uint64_t
    while start + 1 < end:
        end -= 1
        word = words[start]
        words[start] = words[end]
        words[end] = word
        start += 1
