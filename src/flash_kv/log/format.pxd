# The on-disk structures and limits of docs/format.md, and how an entry of an index names a place in the log.
#
# A position is a 64-bit word: 28 bits of segment id above 32 bits of offset / 8. Zero is no position.
# An entry is what an index keeps for a key: a position, or, with ENTRY_VERSIONED set, the number of a
# version node (log/table_cy.pxd) that heads the chain of a key whose older versions a snapshot still reads.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from *:
    """
    #define FK_ENTRY_VERSIONED (1ULL << 63)
    #define FK_ENTRY_ERROR (~0ULL)
    #define FK_VALUE_SIZE_MAX 4294836224ULL
    """
    const uint64_t ENTRY_VERSIONED "FK_ENTRY_VERSIONED"
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

    FLAG_IN_BATCH = 1   # stands inside a batch frame, never at the top level
    FLAG_ALIGNED = 2    # of values only: so many zeros as the bits above it say stand between key and value
    PAD_SHIFT = 2
    ALIGN_MAX = 64      # what compaction aligns the value of such a record to

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

cdef inline uint64_t pad_for(uint64_t offset, uint64_t key_size, uint64_t align) noexcept nogil:
    """Zeros between key and value of a record at `offset`, for the value to begin at a multiple of `align`."""
    return -(offset + HEADER_SIZE + key_size) & (align - 1)

cdef inline uint64_t record_size(const RecordHeader* header) noexcept nogil:
    """Bytes from this header to the next one."""
    if header.kind >= KIND_BATCH:
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

cdef inline uint64_t segment_of(uint64_t position) noexcept nogil:
    return (position >> 32) & SEGMENT_ID_MAX

cdef inline uint64_t offset_of(uint64_t position) noexcept nogil:
    return (<uint64_t>(<uint32_t>position)) << 3
