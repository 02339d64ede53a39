"""A driver for one index: what tests and benchmarks of an index need, without the engine around it.

Owns a segment table over segments in memory (`is_mapped`) or in anonymous files, appends sound records to them, and
calls the index as the engine does. Loops in C, to measure or to run beside another thread: timed_probe_cy.
"""

import os

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.flash_kv.index.index_cy import Index, Walk
from cython.cimports.flash_kv.index.probe_cy import Bytes
from cython.cimports.flash_kv.index.siphash import siphash13
from cython.cimports.flash_kv.intrinsics import store_release64
from cython.cimports.flash_kv.io.memory_cy import calloc, malloc
from cython.cimports.flash_kv.log.checksum_cy import record_checksum, segment_seed
from cython.cimports.flash_kv.log.format import (
    ENTRY_ERROR,
    HEADER_SIZE,
    KIND_VALUE,
    SEGMENT_HEADER_SIZE,
    RecordHeader,
    offset_of,
    padded_size,
    position_of,
    segment_of,
)
from cython.cimports.flash_kv.log.table_cy import Key, SegmentRef, SegmentTable, load_key, segment_ref
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy, memset

STORE_ID = b"index probe 1234"
SEGMENT_BYTES = cython.declare(uint64_t, 64 << 20)


def new_index(kind: str, table: SegmentTable) -> Index:
    """An empty index of this kind."""
    if kind == "btree":
        from flash_kv.index.btree_cy import BTreeIndex

        return BTreeIndex(table, b"0123456789abcdef")
    if kind == "bptree":
        from flash_kv.index.bptree_cy import BPTreeIndex

        paged = BPTreeIndex(table, b"0123456789abcdef")
        # So few pages that small tests, too, read and write the file.
        paged.use_file(os.memfd_create("flash-kv-index"), 64 << 10)
        return paged
    if kind == "skiplist":
        from flash_kv.index.skiplist_cy import SkipListIndex

        return SkipListIndex(table, b"0123456789abcdef")
    from flash_kv.index.hash_cy import HashIndex

    return HashIndex(table, b"0123456789abcdef")


@cython.cfunc
@cython.inline
def _data(key: bytes) -> Bytes:
    return cython.cast(Bytes, PyBytes_AS_STRING(key))


@cython.cclass
class IndexProbe:
    """One index over a log of its own."""

    def __cinit__(self, kind: str, is_mapped: bool = True, value_size: int = 0):
        self.kind = kind
        self.is_mapped = is_mapped
        self.value_size = value_size
        self.table = SegmentTable(is_mapped)
        self.index = new_index(kind, self.table)

    def __dealloc__(self):
        i: uint64_t
        ref: cython.pointer(SegmentRef)
        for i in range(1, self.segment_id + 1):
            ref = segment_ref(cython.address(self.table.state), i)
            if self.is_mapped:
                free(cython.cast(cython.p_void, ref.data))
            else:
                os.close(ref.fd)
        free(self.scratch)

    def _open_segment(self, size):
        number: uint64_t = self.segment_id + 1
        ref: cython.pointer(SegmentRef) = self.table.add(number)
        store_id: Bytes = _data(STORE_ID)
        ref.seed = segment_seed(store_id, number, 1)
        ref.used = SEGMENT_HEADER_SIZE
        ref.size = SEGMENT_HEADER_SIZE
        ref.fd = -1
        if self.is_mapped:
            ref.data = cython.cast(cython.pointer(uint8_t), calloc(1, size))
            if ref.data == cython.NULL:
                raise MemoryError("no memory for a segment")
        else:
            ref.fd = os.memfd_create("flash-kv-probe")
        self.segment_id = number
        return 0

    def _append(self, data, size):
        """Write a record with this key; its position."""
        total: uint64_t = padded_size(size, 0, self.value_size)
        ref: cython.pointer(SegmentRef)
        header: cython.pointer(RecordHeader)
        offset: uint64_t
        if (
            self.segment_id == 0
            or segment_ref(cython.address(self.table.state), self.segment_id).used + total > SEGMENT_BYTES
        ):
            self._open_segment(max(SEGMENT_BYTES, total + SEGMENT_HEADER_SIZE))
        ref = segment_ref(cython.address(self.table.state), self.segment_id)
        offset = ref.used
        if self.is_mapped:
            header = cython.cast(cython.pointer(RecordHeader), ref.data + offset)
        else:
            if self.scratch_size < total:
                free(self.scratch)
                self.scratch = cython.cast(cython.pointer(uint8_t), malloc(total))
                self.scratch_size = total
            header = cython.cast(cython.pointer(RecordHeader), self.scratch)
        memset(header, 0, total)
        self.lsn += 1
        header.kind = KIND_VALUE
        header.key_size = size
        header.value_size = self.value_size
        header.lsn = self.lsn
        memcpy(cython.cast(cython.pointer(uint8_t), header) + HEADER_SIZE, data, size)
        header.checksum = record_checksum(ref.seed, offset, cython.cast(Bytes, header), total)
        if not self.is_mapped:
            os.pwrite(ref.fd, cython.cast(cython.pointer(uint8_t), header)[:total], offset)
        ref.used += total
        store_release64(cython.address(ref.size), ref.used)
        return position_of(self.segment_id, offset)

    def _key(self, data, size):
        key: Key
        key.data = data
        key.size = size
        key.error = 0
        key.place = 0
        key.bad_position = 0
        key.hash = (
            cython.cast(uint32_t, siphash13(self.index.hash_key, data, size)) if self.index.needs_hash else 0
        )
        return key

    def _failure(self, error, position):
        if error:
            return OSError(error, f"{os.strerror(error)} at position {position:#x}")
        return ValueError(f"damaged record at position {position:#x}")

    def append(self, key: bytes) -> int:
        """The position of a new record with this key, not yet in the index."""
        return self._append(_data(key), len(key))

    def insert(self, key: bytes) -> bool:
        """Append a record and put it into the index; True when the key is new."""
        return self.upsert(key, self.append(key)) == 0

    def upsert(self, key: bytes, position: int) -> int:
        """The entry before, 0 when there was none."""
        looked: Key = self._key(_data(key), len(key))
        if self.index.reserve(1) != 0:
            raise MemoryError("the index cannot reserve")
        old: uint64_t = self.index.upsert(cython.address(looked), position)
        if old == ENTRY_ERROR:
            raise self._failure(looked.error, looked.bad_position)
        return old

    def put(self, key: bytes, position: int) -> int:
        """As `upsert`, for which memory has been reserved, or not."""
        looked: Key = self._key(_data(key), len(key))
        old: uint64_t = self.index.upsert(cython.address(looked), position)
        if old == ENTRY_ERROR:
            raise self._failure(looked.error, looked.bad_position)
        return old

    def find(self, key: bytes) -> int:
        """The entry, 0 when the key is absent."""
        looked: Key = self._key(_data(key), len(key))
        entry: uint64_t = self.index.find(cython.address(looked))
        if entry == ENTRY_ERROR:
            raise self._failure(looked.error, looked.bad_position)
        return entry

    def ask_for(self, key: bytes) -> None:
        """Have the system read what an index on disk holds the key in."""
        looked: Key = self._key(_data(key), len(key))
        self.index.ask_for(cython.address(looked))

    def find_many(self, keys: list) -> list:
        """The entries, with None for those that failed."""
        count: uint64_t = len(keys)
        looked = cython.cast(cython.pointer(Key), malloc((count + 1) * cython.sizeof(Key)))
        entries = cython.cast(cython.pointer(uint64_t), malloc((count + 1) * cython.sizeof(uint64_t)))
        i: uint64_t
        try:
            for i in range(count):
                looked[i] = self._key(_data(keys[i]), len(keys[i]))
            self.index.find_many(looked, count, entries)
            return [None if entries[i] == ENTRY_ERROR else entries[i] for i in range(count)]
        finally:
            free(looked)
            free(entries)

    def remove(self, key: bytes) -> int:
        """The entry that was there, 0 when the key was absent."""
        looked: Key = self._key(_data(key), len(key))
        old: uint64_t = self.index.remove(cython.address(looked))
        if old == ENTRY_ERROR:
            raise self._failure(looked.error, looked.bad_position)
        return old

    def replace(self, key: bytes, old: int, new: int) -> bool:
        """Set the entry to `new` if it is `old`."""
        looked: Key = self._key(_data(key), len(key))
        return self.index.replace(cython.address(looked), old, new)

    def hold_many(self, keys: list, positions: list) -> list:
        """For each key, is its entry this position: 0 no, 1 yes, 2 not known."""
        count: uint64_t = len(keys)
        looked = cython.cast(cython.pointer(Key), malloc((count + 1) * cython.sizeof(Key)))
        wanted = cython.cast(cython.pointer(uint64_t), malloc((count + 1) * cython.sizeof(uint64_t)))
        answers = cython.cast(cython.pointer(uint8_t), malloc(count + 1))
        i: uint64_t
        for i in range(count):
            looked[i] = self._key(_data(keys[i]), len(keys[i]))
            wanted[i] = positions[i]
        self.index.hold_many(looked, wanted, count, answers)
        found = [answers[i] for i in range(count)]
        free(looked)
        free(wanted)
        free(answers)
        return found

    def key_at(self, position: int) -> bytes:
        """The key of a record."""
        buffer: cython.pointer(uint8_t) = cython.NULL
        capacity: uint64_t = 0
        size: uint32_t = 0
        key: Key
        data: Bytes = load_key(
            self.index.log,
            position,
            cython.address(size),
            cython.address(buffer),
            cython.address(capacity),
            cython.address(key),
        )
        if data == cython.NULL:
            raise self._failure(key.error, key.bad_position)
        found = data[:size]
        free(buffer)
        return found

    def walk(
        self, start: bytes | None = None, is_reverse: bool = False, capacity: int = 256, limit: int = -1
    ) -> list:
        """The keys of a whole walk, or its first `limit`, made of calls for `capacity` entries each."""
        state: Walk
        keys: list = []
        taken: uint64_t
        i: uint64_t
        entries = cython.cast(cython.pointer(uint64_t), malloc((capacity + 1) * cython.sizeof(uint64_t)))
        memset(cython.address(state), 0, cython.sizeof(Walk))
        state.is_reverse = is_reverse
        last: bytes = b"" if start is None else start
        state.has_key = start is not None
        try:
            while not state.is_done and (limit < 0 or len(keys) < limit):
                state.key = _data(last)
                state.key_size = len(last)
                taken = self.index.walk(cython.address(state), entries, capacity)
                if taken == 0 and not state.is_done:
                    raise self._failure(state.error, state.bad_position)
                for i in range(taken):
                    keys.append(self.key_at(entries[i]))
                if taken and self.index.is_ordered:
                    last = keys[len(keys) - 1]
                    state.has_key = True
                    state.is_started = True
            return keys[:limit] if limit >= 0 else keys
        finally:
            free(entries)

    def reserve(self, count: int) -> bool:
        """Could the index make room for so many upserts?"""
        return self.index.reserve(count) == 0

    def clear(self) -> None:
        """Empty the index."""
        self.index.clear()

    def memory_bytes(self) -> int:
        """The memory of the index."""
        return self.index.memory_bytes()

    def check(self) -> list[str]:
        """What is wrong with the index, one line each; nothing for a kind that cannot tell."""
        return self.index.check() if hasattr(self.index, "check") else []

    def damage(self, position: int, offset: int) -> None:
        """Flip a bit of the record, `offset` bytes after its start."""
        ref: cython.pointer(SegmentRef) = segment_ref(self.index.log, segment_of(position))
        start: uint64_t = offset_of(position) + cython.cast(uint64_t, offset)
        if self.is_mapped:
            cython.cast(cython.pointer(uint8_t), ref.data)[start] ^= 1
        else:
            old = os.pread(ref.fd, 1, start)
            os.pwrite(ref.fd, bytes([old[0] ^ 1]), start)
