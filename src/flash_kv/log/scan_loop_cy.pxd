# What a scan finds, as plain C arrays. See scan_loop_cy.py.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from flash_kv.log.range_checksum_cy cimport PrefixRegisters

cdef enum Fault:
    FAULT_NONE = 0
    FAULT_BLANK                           # zeros where a header should be
    FAULT_SHORT                           # fewer bytes left than a header has
    FAULT_KIND
    FAULT_FLAGS
    FAULT_PLACE                           # a batch's record outside a frame, or the reverse
    FAULT_KEY_SIZE
    FAULT_VALUE_SIZE
    FAULT_COUNT                           # a frame that announces no record, or more than its body can hold
    FAULT_LSN
    FAULT_ORDER                           # an LSN that does not increase in a segment of the writer
    FAULT_BOUNDS                          # runs past the end
    FAULT_CHECKSUM
    FAULT_ATTRIBUTES                      # of a value with attributes, under a checksum that holds
    FAULT_BODY                            # a frame whose records do not fill its body exactly
    FAULT_TRUNCATED                       # the file ends before its sealed end

cdef enum Place:
    PLACE_TOP = 0
    PLACE_BATCH = 1                       # in a sound frame
    PLACE_ORPHAN = 2                      # sound itself, in a damaged frame

cdef struct ScanRecord:
    uint64_t lsn
    uint32_t slot                         # offset / 8
    uint32_t value_size
    uint32_t key_size
    uint8_t kind                          # KIND_VALUE, KIND_EXTENDED or KIND_TOMBSTONE
    uint8_t place
    uint8_t pad                           # zeros between key and value
    uint8_t is_aligned

cdef struct Damage:
    uint64_t offset
    uint64_t size
    Fault fault

cdef struct ScanState:
    const uint8_t* data
    uint64_t size                         # bytes to look at; every read stays below
    uint32_t seed
    bint is_ordered
    uint64_t start                        # where the first record to look at begins
    uint64_t previous_lsn                 # highest of the log before it
    ScanRecord* records
    uint64_t count
    uint64_t capacity
    Damage* damages
    uint64_t damage_count
    uint64_t damage_capacity
    bint is_out_of_memory
    uint64_t end                          # of the last sound record
    uint64_t last_lsn                     # of the last sound record in file order, void ones left out
    uint64_t seen_lsn                     # highest of all sound records, void ones included
    uint64_t stated_lsn                   # highest that any sound record states to have been durable
    uint64_t first_lsn
    uint64_t min_lsn
    uint64_t max_lsn
    uint64_t value_records
    uint64_t value_bytes
    uint64_t tombstones
    uint64_t tombstone_bytes
    uint64_t batches
    uint64_t voids
    uint64_t orphans
    uint64_t torn_bytes
    Fault torn_fault
    uint64_t sound_after                  # offset of the first sound record after the torn place, 0 when none
    PrefixRegisters prefixes              # for the search behind a damaged place

# Walk the records of scan.data[scan.start:scan.size] into the state, which is zeroed but for what the caller chose.
cdef void scan_records(ScanState* scan, bint is_sealed) noexcept nogil

# The caller frees `damages` with the rest of the state.
cdef void add_damage(ScanState* scan, uint64_t offset, uint64_t size, Fault fault) noexcept nogil
