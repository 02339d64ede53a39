from libc.stdint cimport uint64_t
from flash_kv.engine.records_cy cimport Records

cdef class Store(Records):
    cdef int open_snapshot(self, uint64_t* lsn) except -1
    cdef void close_snapshot(self, uint64_t lsn) noexcept
    cdef int collapse_one(self, uint64_t number) noexcept nogil
