from libc.stdint cimport int64_t, uint32_t, uint64_t
from flash_kv.index.arena_cy cimport Arena
from flash_kv.index.index_cy cimport Index, Walk
from flash_kv.log.table_cy cimport Key

cdef enum:
    BUCKET_ENTRIES = 10
    BUCKETS_MIN = 8

# 128 bytes, two cache lines. Version odd: being written. An entry of 0 is free; the used ones are not contiguous.
cdef struct Bucket:
    uint32_t version
    uint32_t overflow                     # number of the next overflow bucket, 0 ends the chain
    uint32_t[10] hashes
    uint64_t[10] entries

# A place of one entry.
cdef struct Slot:
    Bucket* bucket
    int index

cdef class HashIndex(Index):
    cdef Arena primary                    # buckets 0 .. buckets - 1
    cdef Arena spill                      # overflow buckets; number 0 is never used
    cdef uint64_t buckets                 # published with release after a split
    cdef uint64_t keys
    cdef uint32_t free_spill              # head of the list of free overflow buckets
    cdef uint64_t spill_free_count

    cdef uint64_t level_bit               # a power of two at most `buckets`, kept to save finding it

    cdef void _empty(self) noexcept nogil
    cdef Bucket* _home(self, uint32_t hash, uint64_t buckets) noexcept nogil
    cdef Bucket* _spilled(self, uint32_t number) noexcept nogil
    cdef int _locate(self, Key* key, Slot* slot) noexcept nogil
    cdef void _place(self, Bucket* home, uint32_t hash, uint64_t entry) noexcept nogil
    cdef uint32_t _take_spill(self) noexcept nogil
    cdef void _tidy(self, Bucket* home) noexcept nogil
    cdef uint64_t _chain_length(self, Bucket* home) noexcept nogil
    cdef void _split(self) noexcept nogil
    cdef void _merge(self) noexcept nogil
    cdef void _prefetch_record(self, Key* key) noexcept nogil
    cdef int64_t _take_class(self, Walk* state, uint64_t* entries, uint64_t capacity) noexcept nogil
    cdef uint64_t _class_versions(self, Walk* state, uint64_t buckets) noexcept nogil
