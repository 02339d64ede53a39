# The segment table: from positions to bytes, for every compiled module. See table_cy.py.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp
from flash_kv.intrinsics cimport add_atomic64, load_acquire64, prefetch
from flash_kv.log.format cimport (
    ENTRY_VERSIONED, HEADER_SIZE, RecordHeader, SEGMENT_HEADER_SIZE, offset_of, attributes_size, record_size, segment_of,
    value_start,
)

cdef enum:
    TABLE_BLOCK_BITS = 12                 # segments a block
    TABLE_BLOCK_SIZE = 1 << TABLE_BLOCK_BITS
    TABLE_BLOCKS = 1 << 16                # 2^28 ids in all

# Of records of this size and more at most one begins in each window of as many bytes.
cdef enum:
    VIEW_WINDOW = 512

cdef enum MatchResult:
    MATCH_NO = 0
    MATCH_YES = 1
    MATCH_CORRUPT = 2                     # the record's checksum does not hold: see Key.bad_position
    MATCH_IO_ERROR = 3                    # it could not be read: see Key.error

# One segment. Counters change under the write lock; `size` is published with release.
cdef struct SegmentRef:
    const uint8_t* data                   # the mapping; NULL with io="file"
    uint64_t size                         # bytes that may be read: grows while the segment is active
    uint32_t seed                         # register of the checksum after store id, segment id and epoch
    int fd                                # with io="file"; else -1
    uint64_t used                         # end of the last record
    uint64_t live_bytes                   # of value records that are the newest of their key
    uint64_t live_records
    uint64_t value_records                # all value records, so value_records - live_records are dead
    uint64_t tombstone_bytes
    uint64_t tombstones
    uint64_t min_lsn                      # of value and tombstone records; 0 when there is none
    uint64_t max_lsn
    uint64_t pins                         # reads in progress without the GIL
    void* memory                          # the memoryview of `data`, borrowed from SegmentTable.memories; GIL
    uint8_t* viewed                       # a bit for each window in which a checked long record begins, or NULL; GIL

# A key as looked for, and what went wrong while looking.
cdef struct Key:
    const uint8_t* data
    uint32_t size
    uint32_t hash                         # for the hash index only
    int error                             # errno, after MATCH_IO_ERROR
    uint32_t place                        # where an index found it, as that index counts places; 0: not known
    uint64_t place_version                # the place holds as long as it has this version
    uint64_t bad_position                 # after MATCH_CORRUPT or MATCH_IO_ERROR

# One version of a key while snapshots are open: nodes of a chain, newest first.
cdef struct VersionNode:
    uint64_t position
    uint64_t lsn
    uint64_t next                         # node number, 0 ends the chain

cdef struct TableState:
    SegmentRef** blocks
    VersionNode* versions
    uint64_t versions_size                # nodes that may be read
    bint is_mapped

cdef inline SegmentRef* segment_ref(TableState* table, uint64_t segment_id) noexcept nogil:
    """The segment, or NULL. Ids are at most 28 bits by construction of a position."""
    cdef SegmentRef* block = table.blocks[segment_id >> TABLE_BLOCK_BITS]
    if block == NULL:
        return NULL
    return &block[segment_id & (TABLE_BLOCK_SIZE - 1)]

cdef inline uint64_t newest_position(TableState* table, uint64_t entry) noexcept nogil:
    """The position an index entry stands for: itself, or the head of its version chain."""
    if not (entry & ENTRY_VERSIONED):
        return entry
    entry &= ~ENTRY_VERSIONED
    if entry >= load_acquire64(&table.versions_size):
        return 0
    return load_acquire64(&table.versions[entry].position)

cdef inline void prefetch_record(TableState* log, uint64_t entry) noexcept nogil:
    """Bring in the beginning of a record that is mapped; an entry that is wrong costs nothing but time."""
    cdef uint64_t position
    cdef SegmentRef* ref
    if log.is_mapped:
        position = newest_position(log, entry)
        ref = segment_ref(log, segment_of(position))
        if ref != NULL and ref.data != NULL:
            prefetch(ref.data + offset_of(position))
            prefetch(ref.data + offset_of(position) + 64)

cdef inline const RecordHeader* mapped_record(TableState* table, uint64_t position) noexcept nogil:
    """The record at `position` with header and body inside the mapping, or NULL. io="mmap" only."""
    cdef SegmentRef* ref = segment_ref(table, segment_of(position))
    cdef uint64_t offset = offset_of(position)
    cdef uint64_t size
    cdef const RecordHeader* header
    if ref == NULL or ref.data == NULL:
        return NULL
    size = load_acquire64(&ref.size)
    if offset < SEGMENT_HEADER_SIZE or offset + HEADER_SIZE > size:
        return NULL
    header = <const RecordHeader*>(ref.data + offset)
    if offset + record_size(header) > size:
        return NULL
    return header

cdef inline const uint8_t* record_key(const RecordHeader* header) noexcept nogil:
    return (<const uint8_t*>header) + HEADER_SIZE

cdef inline const uint8_t* record_value(const RecordHeader* header) noexcept nogil:
    return (<const uint8_t*>header) + value_start(header)

cdef inline const uint8_t* plain_value(const RecordHeader* header) noexcept nogil:
    """The value itself, behind its attributes. Requires: a sound record."""
    return record_value(header) + attributes_size(header)

cdef inline uint64_t plain_size(const RecordHeader* header) noexcept nogil:
    return header.value_size - attributes_size(header)

cdef inline void pin(TableState* table, uint64_t position) noexcept nogil:
    """Keep the segment of a position while the GIL is given up. Requires: the GIL, and a segment that is there."""
    add_atomic64(&segment_ref(table, segment_of(position)).pins, 1)

cdef inline void unpin(TableState* table, uint64_t position) noexcept nogil:
    add_atomic64(&segment_ref(table, segment_of(position)).pins, <uint64_t>-1)

cdef inline bint is_viewed(const SegmentRef* ref, uint64_t offset) noexcept nogil:
    """Was the record of VIEW_WINDOW bytes or more at `offset` checked for a view in this open?"""
    cdef uint64_t window = offset // VIEW_WINDOW
    return ref.viewed != NULL and (ref.viewed[window >> 3] >> (window & 7)) & 1

# Remember that it was. Without memory it is not remembered, and checked again. Requires: the GIL, a mapped segment.
cdef int mark_viewed(SegmentRef* ref, uint64_t offset) except -1

cdef class SegmentTable:
    cdef TableState state
    cdef uint64_t blocks_used             # the highest there is, and one
    cdef dict owners                      # segment id -> Mapping or None, which keeps it alive
    cdef dict memories                    # segment id -> memoryview of all the Mapping, which views are slices of

    cdef SegmentRef* add(self, uint64_t segment_id) except NULL

# Is the key of the record behind `entry` equal to `key`? A record that does not match, or is not there, is
# checked against its checksum, so that a damaged key is corruption and never a missing key.
cdef MatchResult match_key(TableState* table, uint64_t entry, Key* key) noexcept nogil

# Three-way comparison of `key` with the key of the record behind `entry`: -1, 0, 1 in `order`.
# MATCH_YES when it could be made. The checksum is verified unless the keys are equal.
cdef MatchResult compare_key(TableState* table, uint64_t entry, Key* key, int* order) noexcept nogil

# The key behind `entry`: `size_out` and a pointer, into the mapping, or into *buffer, which is grown by
# realloc and freed by the caller. NULL on failure, with key.error or key.bad_position set.
cdef const uint8_t* load_key(
    TableState* table, uint64_t entry, uint32_t* size_out, uint8_t** buffer, uint64_t* capacity, Key* key
) noexcept nogil

# The whole record behind `position`, as load_key; its checksum is verified. NULL on failure.
cdef const RecordHeader* load_record(
    TableState* table, uint64_t position, uint8_t** buffer, uint64_t* capacity, Key* key
) noexcept nogil

cdef bint is_record_sound(TableState* table, uint64_t position, const RecordHeader* header) noexcept nogil
