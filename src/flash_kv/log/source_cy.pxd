from libc.stdint cimport uint8_t, uint64_t
from flash_kv.io.mapping_cy cimport Mapping

cdef class Source:
    # Read only between begin() and end().
    cdef const uint8_t* data
    cdef readonly uint64_t size
    cdef Mapping _mapping
    cdef Py_buffer _buffer
    cdef bint _has_buffer

    cdef int begin(self) except -1
    cdef int end(self) except -1
