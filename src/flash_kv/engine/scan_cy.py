"""Snapshots and scans: the store as of one LSN, read while writers go on.

A snapshot is an LSN entered in the store's list: opening costs nothing, whatever the size. While it is open,
writers keep the versions it can see (versions_cy.py) and compaction keeps the segments (compaction.py). A
scan streams through the index in chunks on a snapshot, so that memory does not grow with the range, and it
fetches records ahead of itself.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.cpython.memoryview import PyMemoryView_FromObject
from cython.cimports.flash_kv.engine.core_cy import Facts, is_past
from cython.cimports.flash_kv.engine.reads_cy import entry_of
from cython.cimports.flash_kv.engine.records_cy import record_of
from cython.cimports.flash_kv.engine.scan_cy import (
    YIELD_EXPIRED,
    YIELD_ITEMS,
    YIELD_KEYS,
    YIELD_RECORDS,
    YIELD_VALUES,
)
from cython.cimports.flash_kv.engine.store_cy import Store
from cython.cimports.flash_kv.intrinsics import prefetch, unlikely
from cython.cimports.flash_kv.io.clock_cy import now_ms
from cython.cimports.flash_kv.io.memory_cy import malloc
from cython.cimports.flash_kv.log.format import (
    ENTRY_ERROR,
    ENTRY_EXTENDED,
    ENTRY_VERSIONED,
    KIND_TOMBSTONE,
    KIND_VALUE,
    RecordHeader,
    expires_ms,
    offset_of,
    segment_of,
)
from cython.cimports.flash_kv.log.table_cy import (
    Key,
    SegmentRef,
    is_record_sound,
    load_key,
    load_record,
    mapped_record,
    pin,
    plain_size,
    plain_value,
    record_key,
    record_value,
    segment_ref,
    unpin,
)
from cython.cimports.libc.errno import ENOBUFS
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcmp, memcpy, memset

from flash_kv.errors import ClosedError

CHUNK_ENTRIES = cython.declare(uint64_t, 256)
AHEAD = cython.declare(uint64_t, 32)
LARGE_VALUE = cython.declare(uint64_t, 65536)
LINE_BYTES = cython.declare(uint64_t, 64)

KEYS = YIELD_KEYS
VALUES = YIELD_VALUES
ITEMS = YIELD_ITEMS
RECORDS = YIELD_RECORDS
EXPIRED = YIELD_EXPIRED


@cython.no_gc_clear
@cython.cclass
class SnapshotCore:
    """The compiled part of a `Snapshot`."""

    def __cinit__(self, store: Store, *args, **kwargs):
        self.store = store
        self.is_open = False
        self.moment_ms = now_ms()
        store.open_snapshot(cython.address(self.lsn))
        self.generation_of_index = store.generation_of_index
        self.is_open = True

    def __dealloc__(self):
        if self.is_open:
            self.is_open = False
            self.store.close_snapshot(self.lsn)

    def _close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.store.close_snapshot(self.lsn)

    def check_open(self):
        if unlikely(not self.is_open):
            raise ClosedError(self.store.path, "snapshot")
        if unlikely(self.generation_of_index != self.store.generation_of_index):
            # The index was loaded again after a failed sync; versions older than the newest are gone with the old one.
            self.store._refuse(True)
        return self.store.check_readable()

    def position_at(self, entry):
        """The record an entry stands for at this moment, 0 for none; a plain entry's LSN is still to be checked."""
        if entry & ENTRY_VERSIONED:
            return self.store.versions.visible(entry, self.lsn)
        return entry

    @property
    def closed(self) -> bool:
        """Whether the snapshot has been closed."""
        return not self.is_open

    @property
    def sequence(self) -> int:
        """The LSN of the newest commit the snapshot sees."""
        return self.lsn

    def find(self, key, parsed):
        """The record `key` had when the snapshot was opened, 0 for none; `parsed` is for errors afterwards."""
        entry: uint64_t
        position: uint64_t
        facts: Facts
        self.check_open()
        entry = entry_of(self.store, key, parsed)
        if entry == 0:
            return 0
        if entry == ENTRY_ERROR:
            raise self.store.read_failure(parsed)
        position = self.position_at(entry)
        if position == 0:
            return 0
        failure: cython.int = self.store.inspect(position, cython.address(facts))
        if failure != 0:
            parsed.error = max(failure, 0)
            parsed.bad_position = position
            raise self.store.read_failure(parsed)
        return 0 if facts.lsn > self.lsn else position

    def get(self, key, default=None):
        """The value `key` had when the snapshot was opened, or `default`. Raises as `DB.get`."""
        parsed: Key
        position: uint64_t = self.find(key, cython.address(parsed))
        if position == 0:
            return default
        return self.store.value_at(position, cython.address(parsed), default, self.moment_ms)

    def view(self, key, default=None, *, recheck: cython.bint = False):
        """As `get`, as a read-only memoryview without a copy: see `DB.view`. It outlives the snapshot."""
        parsed: Key
        position: uint64_t = self.find(key, cython.address(parsed))
        if position == 0:
            return default
        return self.store.view_at(position, cython.address(parsed), default, recheck, self.moment_ms)

    def __getitem__(self, key):
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key):
        return self.get(key) is not None


@cython.final
@cython.cclass
class Scan:
    """An iterator over keys, values or items of a snapshot, between bounds, in key order or reverse.

    On an index without order the bounds must be absent and the order is any.
    """

    def __cinit__(
        self,
        snapshot: SnapshotCore,
        yielding: cython.int,
        low,
        high,
        is_reverse: cython.bint,
        owns_snapshot: cython.bint,
        views: cython.bint = False,
    ):
        self.store = snapshot.store
        self.snapshot = snapshot
        self.owns_snapshot = owns_snapshot
        self.yielding = yielding
        self.views = views
        self.low = low
        self.high = high
        self.capacity = CHUNK_ENTRIES
        self.entries = cython.cast(cython.pointer(uint64_t), malloc(CHUNK_ENTRIES * 8))
        if self.entries == cython.NULL:
            raise MemoryError("no memory for a scan")
        memset(cython.address(self.walk), 0, cython.sizeof(self.walk))
        self.walk.is_reverse = is_reverse
        start = high if is_reverse else low
        if start is not None:
            self.last_key = start
            self.walk.has_key = True
            self.walk.key = cython.cast(cython.pointer(uint8_t), PyBytes_AS_STRING(start))
            self.walk.key_size = cython.cast(uint32_t, PyBytes_GET_SIZE(start))

    def __dealloc__(self):
        free(self.entries)
        free(self.buffer)

    def __iter__(self):
        return self

    @property
    def earliest_expiry_ms(self) -> int:
        """When the first of what it has passed by expires, in milliseconds since 1970; 0: nothing does."""
        return self.earliest_ms

    def close(self) -> None:
        """End the scan and let go of its snapshot."""
        if self.is_running:
            raise ValueError("another thread is inside this iterator")
        self.finish()

    def finish(self):
        self.is_finished = True
        self.next = self.count
        if self.owns_snapshot and self.snapshot is not None:
            self.snapshot._close()
        self.snapshot = None

    def fill(self):
        """The next chunk of positions; 0 at the end."""
        i: uint64_t
        kept: uint64_t = 0
        position: uint64_t
        key: Key
        grown: cython.pointer(uint64_t)
        looked: cython.bint = False
        # A scan for what has expired passes by nearly everything, and its caller wants to breathe.
        while kept == 0 and not (looked and self.yielding == YIELD_EXPIRED):
            if self.walk.is_done:
                return 0
            self.count = self.store.index.walk(cython.address(self.walk), self.entries, self.capacity)
            if self.count == 0 and not self.walk.is_done:
                if self.walk.error == ENOBUFS:
                    self.walk.error = 0
                    grown = cython.cast(cython.pointer(uint64_t), malloc(self.capacity * 16))
                    if grown == cython.NULL:
                        raise MemoryError("no memory for a scan")
                    free(self.entries)
                    self.entries = grown
                    self.capacity *= 2
                    continue
                key.error = self.walk.error
                key.bad_position = self.walk.bad_position
                raise self.store.read_failure(cython.address(key))
            looked = True
            if self.count and self.store.index.is_ordered:
                self.go_on_after(self.entries[self.count - 1])
            for i in range(self.count):
                position = self.snapshot.position_at(self.entries[i])
                if self.yielding == YIELD_EXPIRED and not position & ENTRY_EXTENDED:
                    continue
                if position != 0:
                    self.entries[kept] = position
                    kept += 1
        self.count = kept
        self.next = 0
        for i in range(min(AHEAD, kept)):
            self.warm(i)
        return 1

    def go_on_after(self, entry):
        """Leave the walk's key at the key of the last entry taken; its segment is pinned by the snapshot."""
        size: uint32_t = 0
        key: Key
        found: cython.pointer(cython.const[uint8_t]) = load_key(
            self.store.log,
            entry,
            cython.address(size),
            cython.address(self.buffer),
            cython.address(self.buffer_size),
            cython.address(key),
        )
        if found == cython.NULL:
            raise self.store.read_failure(cython.address(key))
        self.walk.is_started = True
        self.walk.has_key = True
        self.walk.key_size = size
        self.walk.key = found
        if not self.store.log.is_mapped:
            self.last_key = PyBytes_FromStringAndSize(cython.cast(cython.p_char, found), size)
            self.walk.key = cython.cast(cython.pointer(uint8_t), PyBytes_AS_STRING(self.last_key))
        return 0

    def warm(self, number):
        """Bring a record of the chunk into the cache."""
        position: uint64_t = self.entries[number]
        ref: cython.pointer(SegmentRef) = segment_ref(self.store.log, segment_of(position))
        if ref != cython.NULL and ref.data != cython.NULL:
            prefetch(ref.data + offset_of(position))
            prefetch(ref.data + offset_of(position) + LINE_BYTES)
            prefetch(ref.data + offset_of(position) + 2 * LINE_BYTES)

    def is_within(self, key, size):
        """Is the key on this side of the far bound?"""
        bound: bytes = self.low if self.walk.is_reverse else self.high
        order: cython.int
        bound_size: uint32_t
        if bound is None:
            return True
        bound_size = cython.cast(uint32_t, PyBytes_GET_SIZE(bound))
        order = memcmp(key, PyBytes_AS_STRING(bound), min(size, bound_size))
        if self.walk.is_reverse:
            return order > 0 or (order == 0 and size >= bound_size)
        return order < 0 or (order == 0 and size < bound_size)

    def __next__(self):
        header: cython.pointer(cython.const[RecordHeader])
        position: uint64_t
        while True:
            if self.is_finished:
                raise StopIteration
            if unlikely(self.is_running):
                raise ValueError("another thread is inside this iterator; give each thread its own")
            self.snapshot.check_open()
            if self.next == self.count:
                if not self.fill():
                    self.finish()
                    raise StopIteration
                if self.yielding == YIELD_EXPIRED:
                    return None
            position = self.entries[self.next]
            self.next += 1
            if self.views and self.store.log.is_mapped:
                value = self.view_of(position, cython.address(header))
                if value is None:
                    continue
            else:
                value = None
                header = self.record_at(position)
            if unlikely(header.kind != KIND_VALUE or self.yielding >= YIELD_RECORDS) and self.is_passed(
                header
            ):
                continue
            if header.lsn > self.snapshot.lsn:
                continue
            if unlikely(not self.is_within(record_key(header), header.key_size)):
                self.finish()
                raise StopIteration
            if self.yielding == YIELD_KEYS or self.yielding == YIELD_EXPIRED:
                return PyBytes_FromStringAndSize(
                    cython.cast(cython.p_char, record_key(header)), header.key_size
                )
            if value is None:
                value = self.value_of(header, position)
                if self.views:
                    value = PyMemoryView_FromObject(value)
            if self.yielding == YIELD_VALUES:
                return value
            if self.yielding == YIELD_RECORDS:
                value = record_of(header, value)
            return (
                PyBytes_FromStringAndSize(cython.cast(cython.p_char, record_key(header)), header.key_size),
                value,
            )

    def is_passed(self, header):
        """Is it none of those that this scan is about?"""
        at: uint64_t
        if header.kind == KIND_TOMBSTONE:
            return True
        at = expires_ms(header)
        if is_past(at, self.snapshot.moment_ms):
            return self.yielding != YIELD_EXPIRED
        if at != 0 and (self.earliest_ms == 0 or at < self.earliest_ms):
            self.earliest_ms = at
        return self.yielding == YIELD_EXPIRED

    def view_of(self, position, header):
        """The value at `position` in its segment's memory, None for a tombstone, and its record."""
        if self.next + AHEAD <= self.count:
            self.warm(self.next + AHEAD - 1)
        self.is_running = True
        try:
            return self.store.open_view(position, False, header)
        finally:
            self.is_running = False

    def record_at(self, position):
        """The record, its checksum verified; without the GIL when it is large or has to be read."""
        header: cython.pointer(cython.const[RecordHeader])
        key: Key
        is_sound: cython.bint
        key.error = 0
        key.bad_position = position
        if self.store.log.is_mapped:
            if self.next + AHEAD <= self.count:
                self.warm(self.next + AHEAD - 1)
            header = mapped_record(self.store.log, position)
            is_sound = header != cython.NULL
            if is_sound and header.value_size >= LARGE_VALUE:
                self.is_running = True
                pin(self.store.log, position)
                with cython.nogil:
                    is_sound = is_record_sound(self.store.log, position, header)
                unpin(self.store.log, position)
                self.is_running = False
                # The store may have been closed meanwhile, and the mapping with it.
                self.store.check_readable()
            elif is_sound:
                is_sound = is_record_sound(self.store.log, position, header)
        else:
            if segment_ref(self.store.log, segment_of(position)) == cython.NULL:
                raise self.store.read_failure(cython.address(key))
            self.is_running = True
            pin(self.store.log, position)
            with cython.nogil:
                header = load_record(
                    self.store.log,
                    position,
                    cython.address(self.buffer),
                    cython.address(self.buffer_size),
                    cython.address(key),
                )
            unpin(self.store.log, position)
            self.is_running = False
            is_sound = header != cython.NULL
        if unlikely(not is_sound):
            raise self.store.read_failure(cython.address(key))
        return header

    def value_of(self, header, position):
        """The value as bytes."""
        value: object
        target: cython.p_char
        if header.kind == KIND_VALUE and header.value_size < LARGE_VALUE:
            return PyBytes_FromStringAndSize(
                cython.cast(cython.p_char, record_value(header)), header.value_size
            )
        if header.value_size < LARGE_VALUE:
            return PyBytes_FromStringAndSize(
                cython.cast(cython.p_char, plain_value(header)), plain_size(header)
            )
        value = PyBytes_FromStringAndSize(cython.NULL, plain_size(header))
        target = PyBytes_AS_STRING(value)
        self.is_running = True
        pin(self.store.log, position)
        with cython.nogil:
            memcpy(target, plain_value(header), plain_size(header))
        unpin(self.store.log, position)
        self.is_running = False
        return value
