"""Reading committed records out of the log in the order of their LSNs, one segment at a time.

Mechanism only: which segment holds the next LSN, and what it means when none does, is decided in changes.py.

Invariants: a segment is pinned while it is read (by the caller), and read up to the end that its counters had under the
write lock, so nothing is seen that a writer may still take back; each record's checksum is verified before it is handed
out; between two calls nothing is held.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.flash_kv.engine.store_cy import Store
from cython.cimports.flash_kv.io.memory_cy import malloc
from cython.cimports.flash_kv.log.format import (
    HEADER_SIZE,
    KIND_BATCH,
    KIND_TOMBSTONE,
    KIND_VALUE,
    KIND_VOID,
    SEGMENT_HEADER_SIZE,
    RecordHeader,
    position_of,
    record_size,
)
from cython.cimports.flash_kv.log.table_cy import (
    Key,
    SegmentRef,
    load_record,
    record_key,
    record_value,
    segment_ref,
)
from cython.cimports.libc.errno import EINTR, EIO, ENOMEM, errno
from cython.cimports.libc.stdint import uint8_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.posix.unistd import pread

from flash_kv.engine.change import Change

WINDOW_BYTES = cython.declare(uint64_t, 16384)
# From here on a record is checked without the GIL.
LARGE_RECORD = cython.declare(uint64_t, 65536)

HOP_FOUND = cython.declare(cython.int, 1)
HOP_ABSENT = cython.declare(cython.int, 0)
HOP_FAILED = cython.declare(cython.int, -1)

Header = cython.typedef(cython.pointer(cython.const[RecordHeader]))


@cython.final
@cython.cclass
class ChangeReader:
    """Where a reader of changes stands. Belongs to one thread at a time."""

    def __cinit__(self, store: Store, since: int):
        self.store = store
        self.expected = since + 1

    def __dealloc__(self):
        free(self.window)
        free(self.buffer)

    @property
    def next_lsn(self) -> int:
        """The LSN of the change that comes next."""
        return self.expected

    @property
    def segment(self) -> int:
        """The id of the segment that was found last; 0 before that."""
        return self.segment_id

    @property
    def place(self) -> int:
        """The offset of what comes next, or of what could not be read."""
        return self.offset

    def leave(self) -> None:
        """Forget the segment: it has nothing more."""
        self.segment_id = 0

    def find(self, segment_id: int, limit: int) -> bool:
        """Go to the next change in this segment, or to the withdrawn commit that it was part of.

        False when the segment has neither. Requires: the segment is pinned. OSError; ValueError when it is damaged.
        """
        ref: cython.pointer(SegmentRef) = segment_ref(self.store.log, segment_id)
        outcome: cython.int
        self.segment_id = segment_id
        self.offset = SEGMENT_HEADER_SIZE
        self.frame_left = 0
        self.seen = 0
        self.limit = limit
        self.window_size = 0
        with cython.nogil:
            outcome = self.hop(ref)
        if outcome == HOP_FAILED:
            raise self.failed()
        if outcome == HOP_ABSENT:
            self.segment_id = 0
        return outcome == HOP_FOUND

    def hop(self, ref):
        """Pass records until the expected one comes."""
        header: Header
        last: uint64_t
        while self.offset < self.limit:
            header = self.header_at(ref, self.offset)
            if header == cython.NULL:
                return HOP_FAILED
            if header.kind == KIND_BATCH:
                last = header.lsn + header.key_size - 1
                if header.lsn <= self.expected <= last:
                    return HOP_FOUND
                self.offset += record_size(header)
                self.seen = last
                continue
            if header.kind == KIND_VOID:
                # It does not say where its LSNs begin: behind those of the record before, or it is but one.
                if self.expected == header.lsn or (self.seen != 0 and self.seen < self.expected < header.lsn):
                    return HOP_FOUND
            elif header.lsn == self.expected:
                return HOP_FOUND
            self.offset += record_size(header)
            self.seen = header.lsn
        return HOP_ABSENT

    def read(self, limit: int, records_max: int, bytes_max: int, value_bytes_max: int) -> list:
        """What comes next in the segment up to `limit`, as `Change`; empty at its end, or before another LSN.

        Ends after `records_max` changes or `bytes_max` bytes of the log, but never inside a batch. Values of more than
        `value_bytes_max` bytes are left out. Requires: the segment is pinned. OSError; ValueError when it is damaged.
        """
        ref: cython.pointer(SegmentRef) = segment_ref(self.store.log, self.segment_id)
        header: Header
        count: uint64_t = records_max
        stop: uint64_t = self.offset + cython.cast(uint64_t, bytes_max)
        most: uint64_t = value_bytes_max
        change: object
        lsn: uint64_t
        size: uint64_t
        found: list = []
        self.limit = limit
        # What was written since the last call is not in it.
        self.window_size = 0
        while self.offset < self.limit:
            if self.frame_left == 0 and (cython.cast(uint64_t, len(found)) >= count or self.offset >= stop):
                break
            header = self.header_at(ref, self.offset)
            if header == cython.NULL:
                raise self.failed()
            lsn = header.lsn
            size = record_size(header)
            if header.kind == KIND_BATCH:
                self.frame_left = header.key_size
                self.offset += HEADER_SIZE
                continue
            if header.kind == KIND_VOID:
                # What it stands for begins behind the record before it; of the first one only itself is certain.
                if lsn > self.expected and self.seen == 0:
                    break
                self.expected = max(self.expected, lsn + 1)
            elif lsn > self.expected:
                break
            elif lsn == self.expected:
                change = self.change_at(size >= LARGE_RECORD, most)
                if change is None:
                    continue
                found.append(change)
                self.expected += 1
            self.seen = lsn
            self.offset += size
            if self.frame_left:
                self.frame_left -= 1
        return found

    def change_at(self, is_large, value_bytes_max):
        """The record at `offset` as a `Change`, its checksum verified; None when it has been withdrawn meanwhile."""
        position: uint64_t = position_of(self.segment_id, self.offset)
        header: Header
        key: Key
        value: object = None
        name: bytes
        if is_large or not self.store.log.is_mapped:
            # The pin keeps the segment.
            with cython.nogil:
                header = self.load(position, cython.address(key))
        else:
            header = self.load(position, cython.address(key))
        if header == cython.NULL:
            self.window_size = 0
            header = self.header_at(segment_ref(self.store.log, self.segment_id), self.offset)
            if header != cython.NULL and header.kind == KIND_VOID:
                return None
            self.failure = key.error
            raise self.failed()
        if header.kind != KIND_TOMBSTONE and header.value_size <= value_bytes_max:
            value = PyBytes_FromStringAndSize(
                cython.cast(cython.p_char, record_value(header)), header.value_size
            )
        name = PyBytes_FromStringAndSize(cython.cast(cython.p_char, record_key(header)), header.key_size)
        return Change(self.expected, name, value, header.kind == KIND_TOMBSTONE, header.value_size)

    def load(self, position, key):
        return load_record(
            self.store.log, position, cython.address(self.buffer), cython.address(self.capacity), key
        )

    def header_at(self, ref, offset):
        """A header that may be followed to the end of its record, or NULL with `failure` set."""
        header: Header
        got: cython.Py_ssize_t
        wanted: uint64_t
        self.failure = 0
        if offset + HEADER_SIZE > self.limit:
            return cython.NULL
        if ref.data != cython.NULL:
            header = cython.cast(Header, ref.data + offset)
        else:
            if not (
                self.window_start <= offset and offset + HEADER_SIZE <= self.window_start + self.window_size
            ):
                if self.window == cython.NULL:
                    self.window = cython.cast(cython.pointer(uint8_t), malloc(WINDOW_BYTES))
                    if self.window == cython.NULL:
                        self.failure = ENOMEM
                        return cython.NULL
                wanted = min(WINDOW_BYTES, self.limit - offset)
                self.window_size = 0
                while self.window_size < HEADER_SIZE:
                    got = pread(
                        ref.fd,
                        self.window + self.window_size,
                        wanted - self.window_size,
                        offset + self.window_size,
                    )
                    if got < 0 and errno == EINTR:
                        continue
                    if got <= 0:
                        self.failure = errno if got < 0 else EIO
                        self.window_size = 0
                        return cython.NULL
                    self.window_size += got
                self.window_start = offset
            header = cython.cast(Header, self.window + (offset - self.window_start))
        if header.kind < KIND_VALUE or offset + record_size(header) > self.limit:
            return cython.NULL
        return header

    def failed(self):
        """What to raise after `failure` was set."""
        if self.failure == ENOMEM:
            return MemoryError("no memory to read changes")
        if self.failure:
            return OSError(self.failure, "reading changes")
        return ValueError("a record is damaged")
