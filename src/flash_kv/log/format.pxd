# The on-disk structures and limits of docs/format.md, and how an entry of an index names a place in the log.
#
# A position is a 64-bit word: 28 bits of segment id above 32 bits of offset / 8. Zero is no position.
# An entry is what an index keeps for a key: a position, or, with ENTRY_VERSIONED set, the number of a
# version node (log/table_cy.pxd) that heads the chain of a key whose older versions a snapshot still reads. The bit
# ENTRY_EXTENDED of a position says that the record is of KIND_EXTENDED; what a position leads to does not depend on it.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #define FK_ENTRY_VERSIONED (1ULL << 63)
    #define FK_ENTRY_EXTENDED (1ULL << 62)
    #define FK_ENTRY_ERROR (~0ULL)
    #define FK_VALUE_SIZE_MAX 4294836224ULL
    """
    const uint64_t ENTRY_VERSIONED "FK_ENTRY_VERSIONED"
    const uint64_t ENTRY_EXTENDED "FK_ENTRY_EXTENDED"
    const uint64_t ENTRY_ERROR "FK_ENTRY_ERROR"
    const uint64_t VALUE_SIZE_MAX "FK_VALUE_SIZE_MAX"  # 2^32 - 128 KiB: a record stays under 4 GiB

cdef enum:
    HEADER_SIZE = 24
    SEGMENT_HEADER_SIZE = 64
    KEY_SIZE_MAX = 65536
    SEGMENT_ID_MAX = 268435455  # 2^28 - 1

    KIND_NONE = 0       # zeros: nothing written here, the end of the log
    KIND_VALUE = 1
    KIND_TOMBSTONE = 2
    KIND_BATCH = 3      # frame: key_size = number of records, value_size = bytes of the body / 8
    KIND_VOID = 4       # withdrawn after a failed sync: value_size = bytes of the body / 8, unread
    KIND_EXTENDED = 5   # a value with attributes: they stand before it, and value_size counts both

    FLAG_IN_BATCH = 1   # stands inside a batch frame, never at the top level
    FLAG_ALIGNED = 2    # of values only: so many zeros as the bits above it say stand between key and value
    PAD_SHIFT = 2
    ALIGN_MAX = 64      # what compaction aligns the value of such a record to

    ATTRIBUTES_SIZE = 16    # of the fixed part
    META_SIZE_MAX = 4096

# sync_distance replaces a flag "all before me was synced": a record of LSN n and distance d > 0 states that every record
# with an LSN up to n - d was durable when it was written (d = 0 states nothing). So when a segment goes bad after a last
# good record of LSN g, and a sound record further on states n - d > g, synced data is damaged: corruption. Otherwise
# what follows g is a torn tail. A batch frame carries the statement for its whole batch (n = LSN of its first record).
cdef struct RecordHeader:
    uint32_t checksum
    uint8_t kind
    uint8_t flags
    uint16_t sync_distance  # d > 0: all records with an LSN up to lsn - d were durable when this one was written
    uint32_t key_size
    uint32_t value_size
    uint64_t lsn

# What stands between key (and its zeros) and value of a record of KIND_EXTENDED; not aligned.
cdef struct Attributes:
    uint16_t size        # of all of them: this struct and the meta bytes behind it
    uint16_t reserved
    uint32_t reserved2
    uint64_t expires_ms  # milliseconds since 1970 from which on the value is gone; 0: never

cdef struct SegmentHeader:
    uint8_t[8] magic
    uint32_t version
    uint32_t origin      # 0 written by put and batch, 1 written by compaction
    uint8_t[16] store_id
    uint64_t segment_id
    uint64_t epoch
    uint64_t created_ns
    uint32_t reserved
    uint32_t checksum    # CRC32C of the 60 bytes before it

cdef inline uint64_t padded_size(uint64_t key_size, uint64_t pad, uint64_t value_size) noexcept nogil:
    """Bytes of a value or tombstone record."""
    return (HEADER_SIZE + key_size + pad + value_size + 7) & ~<uint64_t>7

cdef inline uint64_t value_start(const RecordHeader* header) noexcept nogil:
    """Where the value begins, in bytes from the record."""
    return HEADER_SIZE + <uint64_t>header.key_size + (header.flags >> PAD_SHIFT)

cdef inline bint is_value(int kind) noexcept nogil:
    return kind == KIND_VALUE or kind == KIND_EXTENDED

cdef inline bint is_known_kind(int kind) noexcept nogil:
    return KIND_VALUE <= kind <= KIND_EXTENDED

cdef inline uint64_t attributes_size(const RecordHeader* header) noexcept nogil:
    """Bytes between the start of the value and the value itself. Requires: all of the record can be read."""
    cdef uint16_t size = 0
    if header.kind == KIND_EXTENDED and header.value_size >= ATTRIBUTES_SIZE:
        memcpy(&size, (<const uint8_t*>header) + value_start(header), 2)
    return size

cdef inline bint has_sound_attributes(const RecordHeader* header) noexcept nogil:
    """Also True without any. Their checksum may be right and they nonsense all the same. Requires: as above."""
    cdef Attributes found
    if header.kind != KIND_EXTENDED:
        return True
    if header.value_size < ATTRIBUTES_SIZE:
        return False
    memcpy(&found, (<const uint8_t*>header) + value_start(header), ATTRIBUTES_SIZE)
    return (
        ATTRIBUTES_SIZE <= found.size <= min(<uint64_t>header.value_size, <uint64_t>ATTRIBUTES_SIZE + META_SIZE_MAX)
        and found.reserved == 0
        and found.reserved2 == 0
    )

cdef inline uint64_t expires_ms(const RecordHeader* header) noexcept nogil:
    """When the value is gone, 0 for never. Requires: sound attributes, or none."""
    cdef Attributes found
    if header.kind != KIND_EXTENDED:
        return 0
    memcpy(&found, (<const uint8_t*>header) + value_start(header), ATTRIBUTES_SIZE)
    return found.expires_ms

cdef inline uint64_t pad_for(uint64_t offset, uint64_t before, uint64_t align) noexcept nogil:
    """Zeros behind the key of a record at `offset`, for the value to begin at a multiple of `align`.

    `before`: bytes of key and attributes.
    """
    return -(offset + HEADER_SIZE + before) & (align - 1)

cdef inline uint64_t record_size(const RecordHeader* header) noexcept nogil:
    """Bytes from this header to the next one."""
    if header.kind == KIND_BATCH or header.kind == KIND_VOID:
        return HEADER_SIZE + (<uint64_t>header.value_size) * 8
    return (value_start(header) + header.value_size + 7) & ~<uint64_t>7

cdef inline uint64_t moved_size_max(const RecordHeader* header) noexcept nogil:
    """The most that a value or tombstone record takes at another place."""
    if header.flags & FLAG_ALIGNED:
        return padded_size(header.key_size, ALIGN_MAX - 1, header.value_size)
    return record_size(header)

cdef inline uint64_t checksummed_size(const RecordHeader* header) noexcept nogil:
    """Bytes under the header's own checksum: of a void record only the header."""
    if header.kind == KIND_VOID:
        return HEADER_SIZE
    return record_size(header)

cdef inline uint64_t position_of(uint64_t segment_id, uint64_t offset) noexcept nogil:
    return (segment_id << 32) | (offset >> 3)

cdef inline uint64_t entry_for(uint64_t position, int kind) noexcept nogil:
    """What an index keeps for the value record at `position`."""
    return position | (ENTRY_EXTENDED if kind == KIND_EXTENDED else <uint64_t>0)

cdef inline uint64_t segment_of(uint64_t position) noexcept nogil:
    return (position >> 32) & SEGMENT_ID_MAX

cdef inline uint64_t offset_of(uint64_t position) noexcept nogil:
    return (<uint64_t>(<uint32_t>position)) << 3
