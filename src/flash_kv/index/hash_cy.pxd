from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from flash_kv.index.hash_buckets_cy cimport Bucket, HashBuckets
from flash_kv.index.index_cy cimport Walk
from flash_kv.log.table_cy cimport Key

# A place of one entry.
cdef struct Slot:
    Bucket* bucket
    int index

cdef class HashIndex(HashBuckets):
    cdef int _locate(self, Key* key, Slot* slot) noexcept nogil
    cdef void _prefetch_record(self, Key* key) noexcept nogil
    cdef int64_t _take_class(self, Walk* state, uint64_t* entries, uint64_t capacity) noexcept nogil
    cdef uint64_t _class_versions(self, Walk* state, uint64_t buckets) noexcept nogil
    cdef uint8_t _holds(self, uint32_t hash, uint64_t position) noexcept nogil
    cdef void _prefetch_home(self, uint32_t hash) noexcept nogil
