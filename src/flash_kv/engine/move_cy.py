"""Compaction's inner loop: copy what is live in a segment to another one and point the index to the copies.

Runs without the GIL, in groups of up to 128 records: look them up, copy those that the index still points to,
then switch their index entries under the write lock, a few tens of microseconds at a time. A record that was
overwritten between copy and switch loses: the switch compares the entry, so the copy stays dead in the
output. A copy keeps its LSN, so replay cannot tell it from the original and needs not.

Every record is checked before it is copied: damage is reported, never given a fresh checksum.

A tombstone is dropped when a newer record of its key exists, or when no segment outside the compaction holds
a dead record that could be older (`tombstone_floor`, the smallest LSN in such segments). A dead value that is copied,
because a snapshot may still read it, is one outside.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.flash_kv.engine.move_cy import (
    GROUP_RECORDS,
    MOVE_DAMAGED,
    MOVE_FAILED_MEMORY,
    MOVE_FAILED_READ,
    MOVE_FAILED_WRITE,
    MOVE_NEEDS_ROOM,
    MOVED_ALL,
    MOVED_SOME,
    Moved,
)
from cython.cimports.flash_kv.engine.store_cy import Store
from cython.cimports.flash_kv.index.index_cy import HOLD_UNKNOWN, HOLD_YES
from cython.cimports.flash_kv.index.siphash import siphash13
from cython.cimports.flash_kv.intrinsics import store_release64
from cython.cimports.flash_kv.io.mapping_cy import Mapping
from cython.cimports.flash_kv.io.mutex import pthread_mutex_lock, pthread_mutex_unlock
from cython.cimports.flash_kv.log.checksum_cy import record_checksum, segment_seed
from cython.cimports.flash_kv.log.format import (
    ALIGN_MAX,
    ENTRY_ERROR,
    ENTRY_VERSIONED,
    FLAG_ALIGNED,
    HEADER_SIZE,
    KIND_BATCH,
    KIND_TOMBSTONE,
    KIND_VOID,
    SEGMENT_HEADER_SIZE,
    RecordHeader,
    entry_for,
    has_sound_attributes,
    is_known_kind,
    is_value,
    moved_size_max,
    offset_of,
    position_of,
    record_size,
)
from cython.cimports.flash_kv.log.table_cy import Key, SegmentRef, record_key, segment_ref
from cython.cimports.flash_kv.log.writer_cy import LogWriter
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy

SOME = MOVED_SOME
ALL = MOVED_ALL
NEEDS_ROOM = MOVE_NEEDS_ROOM
DAMAGED = MOVE_DAMAGED
FAILED_WRITE = MOVE_FAILED_WRITE
FAILED_READ = MOVE_FAILED_READ
FAILED_MEMORY = MOVE_FAILED_MEMORY

Octets = cython.typedef(cython.pointer(cython.const[uint8_t]))


@cython.final
@cython.cclass
class Mover:
    """Moves the live records of one compaction's inputs, one input after another, into its outputs."""

    def __cinit__(self, store: Store, is_mapped: bool, write_hook: object, tombstone_floor: int):
        self.store = store
        self.output = LogWriter(is_mapped, 1, write_hook)
        self.output.is_stating = False
        self.tombstone_floor = tombstone_floor

    def set_input(self, segment_id: int, epoch: int, store_id: bytes, source: object, end: int) -> None:
        """Read this segment next: a Mapping, or its bytes."""
        mapped: Mapping
        if isinstance(source, Mapping):
            mapped = source
            self.data = mapped.data
        else:
            self.data = cython.cast(Octets, PyBytes_AS_STRING(source))
        self.source_owner = source
        self.segment_id = segment_id
        self.seed = segment_seed(cython.cast(Octets, PyBytes_AS_STRING(store_id)), segment_id, epoch)
        self.end = end
        self.offset = SEGMENT_HEADER_SIZE

    def set_output(self, segment_id: int, mapping: object, fd: int, tail: int, limit: int) -> None:
        """Write to this registered segment from now on."""
        mapped: Mapping
        self.output.ref = segment_ref(self.store.log, segment_id)
        self.output.segment_id = segment_id
        self.output.seed = self.output.ref.seed
        self.output.fd = fd
        self.output.tail = tail
        self.output.limit = limit
        self.output.data = cython.NULL
        if mapping is not None:
            mapped = mapping
            self.output.data = mapped.data

    def extend_output(self, limit: int) -> None:
        """The output is allocated up to `limit`."""
        self.output.limit = limit
        store_release64(cython.address(self.output.ref.size), limit)

    @property
    def has_output(self) -> bool:
        """Whether there is a segment to write to."""
        return self.output.ref != cython.NULL

    @property
    def output_tail(self) -> int:
        """End of the last record in the output."""
        return self.output.tail

    @property
    def bytes_wanted(self) -> int:
        """After NEEDS_ROOM: the size of the record that did not fit."""
        return self.wanted

    @property
    def input_offset(self) -> int:
        """How far the input has been gone through."""
        return self.offset

    @property
    def errno(self) -> int:
        """After FAILED_WRITE and FAILED_READ: what the system said; 0 when a record was damaged."""
        return self.failure

    def move(self, budget: int) -> int:
        """Go through about `budget` bytes of the input without the GIL; one of SOME, ALL, NEEDS_ROOM, ..."""
        outcome: cython.int
        limit: uint64_t = budget
        with cython.nogil:
            outcome = self.run(limit)
        return outcome

    def run(self, budget):
        stop: uint64_t = self.offset + budget
        outcome: cython.int = MOVED_SOME
        while outcome == MOVED_SOME and self.offset < stop:
            outcome = self.step()
        return outcome

    def step(self):
        """One group: gather, look up, copy, switch."""
        outcome: cython.int
        count: cython.int = 0
        copied: cython.int = 0
        outcome = self.gather(cython.address(count))
        self.store.index.hold_many(self.keys, self.positions, count, self.answers)
        i: cython.int
        for i in range(count):
            if not self.is_wanted(i):
                self.tombstones_dropped += self.headers[i].kind == KIND_TOMBSTONE
                continue
            if self.failure_of_lookup:
                outcome = MOVE_FAILED_READ
                break
            if not self.output.has_room(moved_size_max(self.headers[i])):
                self.wanted = moved_size_max(self.headers[i])
                outcome = MOVE_NEEDS_ROOM
                break
            outcome_of_copy: cython.int = self.copy(i, copied)
            if outcome_of_copy != MOVED_SOME:
                outcome = outcome_of_copy
                break
            copied += 1
        else:
            i = count
        if i < count:
            # The rest of the group is looked at again in the next step.
            self.offset = offset_of(self.positions[i])
        self.switch(copied)
        if self.failure_of_lookup and outcome != MOVE_DAMAGED:
            outcome = MOVE_FAILED_READ
        return outcome

    def gather(self, count):
        """The next records of the input, checked: MOVED_SOME, MOVED_ALL at the end, MOVE_DAMAGED."""
        header: cython.pointer(cython.const[RecordHeader])
        size: uint64_t
        frames: cython.int = 0
        key: cython.pointer(Key)
        while count[0] < GROUP_RECORDS and frames < GROUP_RECORDS:
            if self.offset >= self.end:
                return MOVED_ALL
            header = cython.cast(cython.pointer(cython.const[RecordHeader]), self.data + self.offset)
            if self.offset + HEADER_SIZE > self.end or not is_known_kind(header.kind):
                return MOVE_DAMAGED
            size = record_size(header)
            if self.offset + size > self.end:
                return MOVE_DAMAGED
            if header.kind == KIND_BATCH or header.kind == KIND_VOID:
                # A frame has done its work; its records stand on their own.
                self.offset += HEADER_SIZE if header.kind == KIND_BATCH else size
                frames += 1
                continue
            if record_checksum(self.seed, self.offset, cython.cast(Octets, header), size) != header.checksum:
                return MOVE_DAMAGED
            if not has_sound_attributes(header):
                return MOVE_DAMAGED
            key = cython.address(self.keys[count[0]])
            key.data = record_key(header)
            key.size = header.key_size
            key.error = 0
            key.place = 0
            if self.store.index.needs_hash:
                key.hash = cython.cast(uint32_t, siphash13(self.store.index.hash_key, key.data, key.size))
            self.headers[count[0]] = header
            self.positions[count[0]] = entry_for(position_of(self.segment_id, self.offset), header.kind)
            count[0] += 1
            self.offset += size
        return MOVED_SOME

    def is_wanted(self, i):
        """Must this record be copied? With `failure_of_lookup` set it cannot be told."""
        answer: cython.int = self.answers[i]
        entry: uint64_t
        if is_value(self.headers[i].kind) and answer != HOLD_UNKNOWN:
            return answer == HOLD_YES
        # A tombstone, a version chain that may be changing, or a record that a writer is just taking back:
        # the lock tells.
        pthread_mutex_lock(cython.address(self.store.mutex))
        entry = self.store.index.find(cython.address(self.keys[i]))
        pthread_mutex_unlock(cython.address(self.store.mutex))
        if entry == ENTRY_ERROR:
            self.failure_of_lookup = True
            self.failure = self.keys[i].error
            return True
        if is_value(self.headers[i].kind):
            if not entry & ENTRY_VERSIONED:
                return entry == self.positions[i]
            # Copied for the key's chain, which may be gone before its tombstone, in another input, comes to be looked
            # at: from now on the output counts among the segments that hold a dead value.
            self.tombstone_floor = min(self.tombstone_floor, self.headers[i].lsn)
            return True
        if entry == 0:
            return self.headers[i].lsn > self.tombstone_floor
        return entry & ENTRY_VERSIONED != 0

    def copy(self, i, copied):
        """Copy record `i` of the group to the output."""
        size: uint64_t = record_size(self.headers[i])
        flags: cython.int = 0
        place: cython.pointer(uint8_t) = self.output.begin(moved_size_max(self.headers[i]))
        moved: cython.pointer(Moved) = cython.address(self.moved[copied])
        word: uint64_t
        if place == cython.NULL:
            return MOVE_FAILED_MEMORY
        moved.source = self.positions[i]
        moved.target = entry_for(position_of(self.output.segment_id, self.output.tail), self.headers[i].kind)
        moved.source_size = size
        moved.lsn = self.headers[i].lsn
        moved.kind = self.headers[i].kind
        moved.key = cython.address(self.keys[i])
        if self.headers[i].flags & FLAG_ALIGNED:
            size = self.output.fill_aligned(
                place, self.output.tail, self.headers[i], ALIGN_MAX, cython.address(flags)
            )
        else:
            memcpy(place + 8, cython.cast(Octets, self.headers[i]) + 8, size - 8)
        moved.size = size
        word = self.output.seal_record(place, self.output.tail, size, moved.kind, flags)
        self.failure = self.output.publish(place, size, word, 0)
        return MOVE_FAILED_WRITE if self.failure else MOVED_SOME

    def switch(self, count):
        """Point the index to the copies, where it still points to the originals."""
        i: cython.int
        entry: uint64_t
        is_live: cython.bint
        node: uint64_t
        if count == 0:
            return
        pthread_mutex_lock(cython.address(self.store.mutex))
        for i in range(count):
            is_live = False
            if is_value(self.moved[i].kind):
                self.moved[i].key.error = 0
                is_live = self.store.index.replace(
                    self.moved[i].key, self.moved[i].source, self.moved[i].target
                )
                if not is_live and self.moved[i].key.error != 0:
                    # The index may point to the original still, so the input has to stay.
                    self.failure_of_lookup = True
                    self.failure = self.moved[i].key.error
            if not is_live and self.store.versions.pending_count != 0:
                # The head of a chain, be it a tombstone: a snapshot may read it when its old segment has gone.
                entry = self.store.index.find(self.moved[i].key)
                node = entry & ~ENTRY_VERSIONED
                if entry == ENTRY_ERROR:
                    # A chain may still need the original, so the input has to stay.
                    self.failure_of_lookup = True
                    self.failure = self.moved[i].key.error
                elif (
                    entry & ENTRY_VERSIONED
                    and self.store.versions.nodes[node].position == self.moved[i].source
                ):
                    store_release64(
                        cython.address(self.store.versions.nodes[node].position), self.moved[i].target
                    )
                    is_live = True
            self.count_moved(cython.address(self.moved[i]), is_live)
        pthread_mutex_unlock(cython.address(self.store.mutex))

    def count_moved(self, moved, is_live):
        source: cython.pointer(SegmentRef) = segment_ref(self.store.log, self.segment_id)
        target: cython.pointer(SegmentRef) = self.output.ref
        self.records_moved += 1
        self.bytes_moved += moved.size
        self.store.count_new(target, moved.kind, moved.size, moved.lsn)
        if is_value(moved.kind) and is_live:
            source.live_records -= 1
            source.live_bytes -= moved.source_size
        elif is_value(moved.kind):
            target.live_records -= 1
            target.live_bytes -= moved.size
