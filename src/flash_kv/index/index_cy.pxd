# The interface every index implements. See index_cy.py for what each method must guarantee.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.log.table_cy cimport Key, SegmentTable, TableState

# A place in an ordered walk: the last key seen, and what bounds the walk.
cdef struct Walk:
    bint is_reverse
    bint is_started                       # False: begin at `key` inclusive (or at the very end when has_key is False)
    bint has_key
    const uint8_t* key                    # start key, then the key after which to go on (owned by the caller)
    uint32_t key_size
    uint64_t cursor                       # unordered walks: where to go on, modulo what
    uint64_t modulus
    bint is_done
    int error                             # errno after a failed read; ENOBUFS: `capacity` is too small to go on
    uint64_t bad_position                 # non-zero after a failure

cdef enum Hold:
    HOLD_NO = 0
    HOLD_YES = 1
    HOLD_UNKNOWN = 2                      # a version chain, or a record that could not be compared

cdef class Index:
    cdef readonly SegmentTable table
    cdef TableState* log
    cdef bint needs_hash
    cdef readonly bint is_ordered
    cdef uint64_t[2] hash_key
    cdef int refusal                      # errno, after `reserve` gave -1 because of the disk; 0: memory is short

    cdef int reserve(self, uint64_t count) noexcept nogil
    cdef int reserve_removals(self, uint64_t count) noexcept nogil
    cdef void expect(self, uint64_t count) noexcept nogil
    cdef uint64_t find(self, Key* key) noexcept nogil
    cdef uint64_t upsert(self, Key* key, uint64_t entry) noexcept nogil
    cdef uint64_t remove(self, Key* key) noexcept nogil
    cdef bint replace(self, Key* key, uint64_t old, uint64_t new) noexcept nogil
    cdef void find_many(self, Key* keys, uint64_t count, uint64_t* entries) noexcept nogil
    cdef bint is_above(self, Key* key) noexcept nogil
    cdef void warm(self, const Key* key) noexcept nogil
    cdef void ask_for(self, const Key* key) noexcept nogil
    cdef void hold_many(self, Key* keys, const uint64_t* positions, uint64_t count, uint8_t* answers) noexcept nogil
    cdef uint64_t walk(self, Walk* state, uint64_t* entries, uint64_t capacity) noexcept nogil
    cdef void clear(self) noexcept nogil
    cdef uint64_t memory_bytes(self) noexcept nogil
    cdef void freeze(self) noexcept nogil
    cdef uint64_t list_loose(self, uint64_t* positions, uint64_t capacity) noexcept nogil
