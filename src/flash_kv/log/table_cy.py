"""The segment table: from a position (segment id, offset) to the bytes of a record.

Owns one `SegmentRef` for each live segment, in blocks of 4096 found through an array indexed by the high bits
of the id, so that looking up is two loads and ids never need to be reused. A block is never freed while the table
lives: a reader that holds a stale position finds an empty slot, not freed memory.

Every position is bounded against what may be read before a byte is touched. With `io="mmap"` records are read in
place; with `io="file"` they are read into a buffer of the caller's by `pread`.

Invariant: slots change under the GIL; a slot is cleared only when no pin and no snapshot needs its segment.
"""

import cython
from cython.cimports.flash_kv.intrinsics import load_acquire64
from cython.cimports.flash_kv.io.memory_cy import calloc, map_pages, realloc, unmap_pages
from cython.cimports.flash_kv.log.checksum_cy import record_checksum
from cython.cimports.flash_kv.log.format import (
    HEADER_SIZE,
    KEY_SIZE_MAX,
    KIND_TOMBSTONE,
    SEGMENT_HEADER_SIZE,
    RecordHeader,
    checksummed_size,
    has_sound_attributes,
    is_value,
    offset_of,
    record_size,
    segment_of,
)
from cython.cimports.flash_kv.log.table_cy import (
    MATCH_CORRUPT,
    MATCH_IO_ERROR,
    MATCH_NO,
    MATCH_YES,
    TABLE_BLOCK_BITS,
    TABLE_BLOCK_SIZE,
    TABLE_BLOCKS,
    VIEW_WINDOW,
    Key,
    MatchResult,
    SegmentRef,
    TableState,
    mapped_record,
    newest_position,
    record_key,
    segment_ref,
)
from cython.cimports.libc.errno import EINTR, EIO, ENOMEM, errno
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcmp, memset
from cython.cimports.posix.unistd import pread

Bytes = cython.typedef(cython.pointer(cython.const[uint8_t]))
Header = cython.typedef(cython.pointer(cython.const[RecordHeader]))


@cython.cclass
class SegmentTable:
    """All segments that positions may name."""

    def __cinit__(self, is_mapped: bool):
        self.state.blocks = cython.cast(
            cython.pointer(cython.pointer(SegmentRef)),
            map_pages(TABLE_BLOCKS * cython.sizeof(cython.pointer(SegmentRef))),
        )
        if self.state.blocks == cython.NULL:
            raise MemoryError("no memory for the segment table")
        self.state.is_mapped = is_mapped
        self.owners = {}
        self.memories = {}

    def __dealloc__(self):
        i: uint64_t
        if self.state.blocks != cython.NULL:
            for i in range(self.blocks_used):
                unmap_pages(self.state.blocks[i], TABLE_BLOCK_SIZE * cython.sizeof(SegmentRef))
            unmap_pages(self.state.blocks, TABLE_BLOCKS * cython.sizeof(cython.pointer(SegmentRef)))

    def add(self, segment_id):
        """The slot of a new segment, zeroed."""
        block: cython.pointer(SegmentRef) = self.state.blocks[segment_id >> TABLE_BLOCK_BITS]
        slot: cython.pointer(SegmentRef)
        if block == cython.NULL:
            block = cython.cast(
                cython.pointer(SegmentRef), map_pages(TABLE_BLOCK_SIZE * cython.sizeof(SegmentRef))
            )
            if block == cython.NULL:
                raise MemoryError("no memory for the segment table")
            self.state.blocks[segment_id >> TABLE_BLOCK_BITS] = block
            self.blocks_used = max(self.blocks_used, (segment_id >> TABLE_BLOCK_BITS) + 1)
        slot = cython.address(block[segment_id & (TABLE_BLOCK_SIZE - 1)])
        memset(slot, 0, cython.sizeof(SegmentRef))
        return slot


def mark_viewed(ref, offset):
    window: uint64_t = offset // VIEW_WINDOW
    size: uint64_t
    if ref.viewed == cython.NULL:
        size = len(cython.cast(object, ref.memory)) // (VIEW_WINDOW * 8) + 1
        ref.viewed = cython.cast(cython.pointer(uint8_t), calloc(size, 1))
        if ref.viewed == cython.NULL:
            return 0
    ref.viewed[window >> 3] |= cython.cast(uint8_t, 1 << (window & 7))
    return 0


def is_record_sound(table, position, header):
    """Does the checksum of the record, wholly in memory at `header`, hold for its place?"""
    ref: cython.pointer(SegmentRef) = segment_ref(table, segment_of(position))
    return record_checksum(
        ref.seed,
        offset_of(position),
        cython.cast(Bytes, header),
        checksummed_size(header),
    ) == header.checksum and has_sound_attributes(header)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _read_exactly(
    fd: cython.int, buffer: cython.pointer(uint8_t), size: uint64_t, offset: uint64_t
) -> cython.int:
    """0, or an errno; EIO when the file ends too early."""
    done: uint64_t = 0
    got: cython.Py_ssize_t
    while done < size:
        got = pread(fd, buffer + done, size - done, offset + done)
        if got < 0:
            if errno == EINTR:
                continue
            return errno
        if got == 0:
            return EIO
        done += got
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _reserve(
    buffer: cython.pointer(cython.pointer(uint8_t)), capacity: cython.pointer(uint64_t), size: uint64_t
) -> cython.bint:
    grown: cython.pointer(uint8_t)
    if capacity[0] >= size:
        return True
    grown = cython.cast(cython.pointer(uint8_t), realloc(buffer[0], size))
    if grown == cython.NULL:
        return False
    buffer[0] = grown
    capacity[0] = size
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _fetch(
    table: cython.pointer(TableState),
    position: uint64_t,
    is_whole: cython.bint,
    buffer: cython.pointer(cython.pointer(uint8_t)),
    capacity: cython.pointer(uint64_t),
    key: cython.pointer(Key),
) -> Header:
    """Read header and key, or the whole record, into the buffer (io="file")."""
    ref: cython.pointer(SegmentRef) = segment_ref(table, segment_of(position))
    offset: uint64_t = offset_of(position)
    header: cython.pointer(RecordHeader)
    limit: uint64_t
    wanted: uint64_t
    got: uint64_t
    key.error = 0
    key.bad_position = position
    if ref == cython.NULL:
        return cython.NULL
    # 0 of a segment that is not there.
    limit = load_acquire64(cython.address(ref.size))
    if offset < SEGMENT_HEADER_SIZE or offset + HEADER_SIZE > limit:
        return cython.NULL
    # One read brings most records whole.
    wanted = min(cython.cast(uint64_t, 512), limit - offset)
    if not _reserve(buffer, capacity, wanted):
        key.error = ENOMEM
        return cython.NULL
    key.error = _read_exactly(ref.fd, buffer[0], wanted, offset)
    if key.error == EIO and wanted > HEADER_SIZE:
        # More was asked for than the record may have, and the segment may just have been sealed and cut.
        wanted = HEADER_SIZE
        key.error = _read_exactly(ref.fd, buffer[0], wanted, offset)
    if key.error:
        return cython.NULL
    got = wanted
    header = cython.cast(cython.pointer(RecordHeader), buffer[0])
    wanted = record_size(header)
    if header.key_size > KEY_SIZE_MAX or offset + wanted > limit:
        return cython.NULL
    if not is_whole:
        wanted = HEADER_SIZE + header.key_size
    if wanted > got:
        if not _reserve(buffer, capacity, wanted):
            key.error = ENOMEM
            return cython.NULL
        key.error = _read_exactly(ref.fd, buffer[0] + got, wanted - got, offset + got)
        if key.error:
            return cython.NULL
    return cython.cast(Header, buffer[0])


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _failure(key: cython.pointer(Key)) -> MatchResult:
    return MATCH_IO_ERROR if key.error else MATCH_CORRUPT


def match_key(table, entry, key):
    position: uint64_t = newest_position(table, entry)
    header: Header
    if not table.is_mapped:
        order: cython.int = 0
        result: MatchResult = compare_key(table, entry, key, cython.address(order))
        if result == MATCH_YES and order != 0:
            return MATCH_NO
        return result
    header = mapped_record(table, position)
    if (
        header != cython.NULL
        and header.key_size == key.size
        and memcmp(record_key(header), key.data, key.size) == 0
    ):
        return MATCH_YES
    if header == cython.NULL or not is_record_sound(table, position, header):
        key.error = 0
        key.bad_position = position
        return MATCH_CORRUPT
    return MATCH_NO


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _order_of(key: cython.pointer(Key), other: Bytes, other_size: uint32_t) -> cython.int:
    order: cython.int = memcmp(key.data, other, min(key.size, other_size))
    if order != 0:
        return -1 if order < 0 else 1
    if key.size == other_size:
        return 0
    return -1 if key.size < other_size else 1


def compare_key(table, entry, key, order):
    position: uint64_t = newest_position(table, entry)
    header: Header
    buffer: cython.pointer(uint8_t) = cython.NULL
    capacity: uint64_t = 0
    is_sound: cython.bint
    if table.is_mapped:
        header = mapped_record(table, position)
        if header == cython.NULL or header.key_size > KEY_SIZE_MAX:
            key.error = 0
            key.bad_position = position
            return MATCH_CORRUPT
        order[0] = _order_of(key, record_key(header), header.key_size)
        if order[0] == 0:
            return MATCH_YES
        is_sound = is_record_sound(table, position, header)
    else:
        header = _fetch(table, position, False, cython.address(buffer), cython.address(capacity), key)
        if header == cython.NULL:
            free(buffer)
            return _failure(key)
        order[0] = _order_of(key, record_key(header), header.key_size)
        if order[0] == 0:
            free(buffer)
            return MATCH_YES
        header = _fetch(table, position, True, cython.address(buffer), cython.address(capacity), key)
        if header == cython.NULL:
            free(buffer)
            return _failure(key)
        is_sound = is_record_sound(table, position, header)
        free(buffer)
    if is_sound:
        return MATCH_YES
    key.error = 0
    key.bad_position = position
    return MATCH_CORRUPT


def load_key(table, entry, size_out, buffer, capacity, key):
    position: uint64_t = newest_position(table, entry)
    header: Header
    if table.is_mapped:
        header = mapped_record(table, position)
        if header == cython.NULL:
            key.error = 0
            key.bad_position = position
            return cython.NULL
    else:
        header = _fetch(table, position, False, buffer, capacity, key)
        if header == cython.NULL:
            return cython.NULL
    size_out[0] = header.key_size
    return record_key(header)


def load_record(table, position, buffer, capacity, key):
    header: Header
    if table.is_mapped:
        header = mapped_record(table, position)
    else:
        key.error = 0
        header = _fetch(table, position, True, buffer, capacity, key)
        if header == cython.NULL and key.error:
            return cython.NULL
    key.error = 0
    key.bad_position = position
    if header == cython.NULL or (header.kind != KIND_TOMBSTONE and not is_value(header.kind)):
        return cython.NULL
    if not is_record_sound(table, position, header):
        return cython.NULL
    return header
