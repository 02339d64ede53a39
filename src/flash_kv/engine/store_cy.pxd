from libc.stdint cimport uint64_t
from flash_kv.engine.records_cy cimport Records
from flash_kv.index.index_cy cimport Index

cdef class Store(Records):
    cdef int open_snapshot(self, uint64_t* lsn) except -1
    cdef void close_snapshot(self, uint64_t lsn) noexcept
    cdef int answer_from(self, Index index, uint64_t key_count) except -1
    cdef int collapse_one(self, uint64_t number) noexcept nogil
