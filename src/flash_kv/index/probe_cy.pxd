from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.index.index_cy cimport Index, Walk
from flash_kv.log.table_cy cimport Key, SegmentRef, SegmentTable

ctypedef const uint8_t* Bytes

cdef class IndexProbe:
    cdef readonly SegmentTable table
    cdef readonly Index index
    cdef readonly str kind
    cdef readonly bint is_mapped
    cdef uint32_t value_size
    cdef uint64_t segment_id              # the newest segment; they count from 1
    cdef uint8_t* scratch
    cdef uint64_t scratch_size
    cdef uint64_t lsn

    cdef int _open_segment(self, uint64_t size) except -1
    cdef uint64_t _append(self, const uint8_t* data, uint32_t size) except 0
    cdef Key _key(self, const uint8_t* data, uint32_t size) noexcept nogil
    cdef object _failure(self, int error, uint64_t position)
