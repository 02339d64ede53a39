# Sorted runs: what a hint file holds, in the file's own layout. See hints_cy.py.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from flash_kv.log.format cimport entry_for, position_of
from flash_kv.log.source_cy cimport Source

cdef enum:
    HINT_HEADER_SIZE = 128
    HINT_ENTRY_SIZE = 24                  # before the key

cdef struct HintHeader:
    uint8_t[8] magic
    uint32_t version
    uint32_t reserved
    uint8_t[16] store_id
    uint64_t segment_id
    uint64_t epoch
    uint64_t sealed_bytes                 # of the segment: where its last record ends
    uint64_t entries
    uint64_t entries_bytes                # all that follows this header
    uint64_t value_records                # of the segment in all, not only those with an entry
    uint64_t tombstones
    uint64_t tombstone_bytes
    uint64_t min_lsn                      # of value and tombstone records; 0 when there is none
    uint64_t max_lsn
    uint64_t seen_lsn                     # of all records, void ones included
    uint32_t entries_checksum             # CRC32C of all that follows this header
    uint32_t checksum                     # CRC32C of the 124 bytes before it

# Followed by the key, padded with zeros to 8 bytes.
cdef struct HintEntry:
    uint64_t lsn
    uint32_t slot                         # offset / 8
    uint32_t value_size
    uint32_t key_size
    uint8_t kind
    uint8_t pad                           # zeros between key and value
    uint16_t reserved

cdef inline uint64_t hint_entry_size(const HintEntry* entry) noexcept nogil:
    return HINT_ENTRY_SIZE + ((<uint64_t>entry.key_size + 7) & ~<uint64_t>7)

cdef inline const uint8_t* hint_key(const HintEntry* entry) noexcept nogil:
    return (<const uint8_t*>entry) + HINT_ENTRY_SIZE

cdef inline uint64_t entry_of_hint(uint64_t segment_id, const HintEntry* entry) noexcept nogil:
    """What an index keeps for the value that the hint of this segment speaks of."""
    return entry_for(position_of(segment_id, <uint64_t>entry.slot << 3), entry.kind)

cdef class HintRun:
    cdef HintHeader header
    # Read only between begin() and end(): header and entries as in the file.
    cdef const uint8_t* data
    cdef readonly uint64_t size
    cdef uint8_t* _owned                  # built in memory
    cdef Source _source                   # or loaded

    cdef int begin(self) except -1
    cdef int end(self) except -1
