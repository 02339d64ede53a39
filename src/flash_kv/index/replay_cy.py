"""Bringing an index that was taken over from a checkpoint to the end of the log.

Everything up to the checkpoint's LSN is in the index, so of each key the newest record above it counts, and nothing
else does: what compactions have copied meanwhile stands, with its old LSN, where the index does not look for it.
Counters follow as they do when a record is written.

Invariant: as in load_cy, what is counted as live in a segment is what the index points at there.
"""

import os

import cython
from cython.cimports.flash_kv.index.index_cy import Index
from cython.cimports.flash_kv.index.load_cy import Cursor, Merge, begin_merge, end_merge, next_key, pass_entry
from cython.cimports.flash_kv.intrinsics import monotonic_ns
from cython.cimports.flash_kv.log.format import (
    ENTRY_ERROR,
    HEADER_SIZE,
    KIND_TOMBSTONE,
    RecordHeader,
    is_value,
    padded_size,
    record_size,
    segment_of,
)
from cython.cimports.flash_kv.log.hints_cy import HintEntry, entry_of_hint, hint_key
from cython.cimports.flash_kv.log.table_cy import (
    Key,
    SegmentRef,
    SegmentTable,
    load_record,
    segment_ref,
)
from cython.cimports.libc.errno import ENOMEM
from cython.cimports.libc.stdint import uint8_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memset

# Keys whose pages are read at the same time, when they come from the disk.
GROUP = cython.declare(uint64_t, 256)
# A key takes some 3 us where its page is in memory, and 50 or more where it is not.
SLOW_NS = cython.declare(uint64_t, 15_000)


@cython.cclass
class _Replay:
    """The index, the table, and a buffer for records that are read from files."""

    index: Index
    table: SegmentTable
    buffer: cython.pointer(uint8_t)
    capacity: uint64_t
    keys: uint64_t
    error: cython.int
    is_out_of_memory: cython.bint

    def __dealloc__(self):
        free(self.buffer)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def count_dead(self, position: uint64_t) -> cython.void:
        """As Core.count_dead: what cannot be read stays counted by its bytes."""
        ref: cython.pointer(SegmentRef) = segment_ref(cython.address(self.table.state), segment_of(position))
        header: cython.pointer(cython.const[RecordHeader])
        key: Key
        if ref == cython.NULL:
            return
        ref.live_records -= 1
        header = load_record(
            cython.address(self.table.state),
            position,
            cython.address(self.buffer),
            cython.address(self.capacity),
            cython.address(key),
        )
        if header != cython.NULL:
            ref.live_bytes -= record_size(header)

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def apply(self, entry: cython.pointer(cython.const[HintEntry]), segment_id: uint64_t) -> cython.bint:
        """False when the index failed."""
        key: Key
        old: uint64_t
        ref: cython.pointer(SegmentRef)
        key.data = hint_key(entry)
        key.size = entry.key_size
        key.error = 0
        key.place = 0
        key.bad_position = 0
        if is_value(entry.kind):
            if self.index.reserve(1) != 0:
                self.error = self.index.refusal or ENOMEM
                return False
            old = self.index.upsert(cython.address(key), entry_of_hint(segment_id, entry))
        else:
            old = self.index.remove(cython.address(key))
        if old == ENTRY_ERROR:
            self.error = key.error
            return False
        if is_value(entry.kind):
            ref = segment_ref(cython.address(self.table.state), segment_id)
            ref.live_records += 1
            ref.live_bytes += padded_size(entry.key_size, entry.pad, entry.value_size)
            self.keys += old == 0
        else:
            self.keys -= old != 0
        if old != 0:
            self.count_dead(old)
        return True

    @cython.cfunc
    @cython.nogil
    @cython.exceptval(check=False)
    def run(self, merge: cython.pointer(Merge), lsn: uint64_t) -> cython.void:
        """A group of keys at a time. When the last one had to wait for the disk, all of the next is asked for first."""
        entries: cython.pointer(cython.const[HintEntry])[256]
        segment_ids: uint64_t[256]
        count: uint64_t
        i: uint64_t
        began: uint64_t
        is_slow: cython.bint = False
        cursor: cython.pointer(Cursor)
        key: Key
        while True:
            count = 0
            while count < GROUP:
                cursor = next_key(merge)
                if cursor == cython.NULL:
                    break
                if cursor.entry.lsn > lsn:
                    # Runs stay where they are until the merge ends.
                    entries[count] = cursor.entry
                    segment_ids[count] = cursor.segment_id
                    count += 1
                pass_entry(merge)
            if count == 0:
                return
            if is_slow:
                for i in range(count):
                    key.data = hint_key(entries[i])
                    key.size = entries[i].key_size
                    self.index.ask_for(cython.address(key))
            began = monotonic_ns()
            for i in range(count):
                if not self.apply(entries[i], segment_ids[i]):
                    return
            # Once the disk was slow it stays so: what was asked for is fast because it was.
            is_slow = is_slow or monotonic_ns() - began > count * SLOW_NS


def set_counters(table: SegmentTable, counters: tuple) -> None:
    """Enter (segment id, live bytes, live records, value records, tombstone bytes, tombstones, min LSN, max LSN)."""
    ref: cython.pointer(SegmentRef) = segment_ref(cython.address(table.state), counters[0])
    ref.live_bytes = counters[1]
    ref.live_records = counters[2]
    ref.value_records = counters[3]
    ref.tombstone_bytes = counters[4]
    ref.tombstones = counters[5]
    ref.min_lsn = counters[6]
    ref.max_lsn = counters[7]


def replay(index: Index, table: SegmentTable, runs: list, lsn: int, keys: int) -> int:
    """Bring `index`, of so many keys, from `lsn` to the end of the log; the number of keys then.

    Requires: write lock held; no entry stands for a version chain; `runs` has each segment with a record above
    `lsn`; the table has all segments and their counters as of `lsn`, and those of the runs' segments as they are now
    but for what is live. MemoryError, OSError.
    """
    merge: Merge
    after: uint64_t = lsn
    one: _Replay = _Replay()
    one.index = index
    one.table = table
    one.keys = keys
    if not runs:
        return keys
    try:
        begin_merge(cython.address(merge), table, runs)
        with cython.nogil:
            one.run(cython.address(merge), after)
    finally:
        end_merge(cython.address(merge), runs)
    if one.error == ENOMEM:
        raise MemoryError("no memory for the index")
    if one.error:
        raise OSError(one.error, os.strerror(one.error))
    return one.keys


def add_loose(index: Index, table: SegmentTable, entry: int, position: int) -> bool:
    """Have the key of the record at `position`, unless it is a tombstone, lead there instead of to `entry`.

    `entry` 0: the key is not in the index yet. False when the record cannot be read. MemoryError, OSError.
    """
    key: Key
    one: _Replay = _Replay()
    before: uint64_t = entry
    place: uint64_t = position
    found: uint64_t
    header: cython.pointer(cython.const[RecordHeader])
    memset(cython.address(key), 0, cython.sizeof(Key))
    header = load_record(
        cython.address(table.state),
        place,
        cython.address(one.buffer),
        cython.address(one.capacity),
        cython.address(key),
    )
    if header == cython.NULL:
        return False
    key.data = cython.cast(cython.pointer(cython.const[uint8_t]), header) + HEADER_SIZE
    key.size = header.key_size
    key.error = 0
    key.bad_position = 0
    found = index.find(cython.address(key))
    if found == before:
        if header.kind == KIND_TOMBSTONE:
            found = index.remove(cython.address(key)) if found != 0 else 0
        elif index.reserve(1) != 0:
            found = ENTRY_ERROR
            key.error = index.refusal or ENOMEM
        else:
            found = index.upsert(cython.address(key), place)
    if found == ENTRY_ERROR:
        if key.error == ENOMEM:
            raise MemoryError("no memory for the index")
        raise OSError(key.error, os.strerror(key.error))
    return True
