from cpython.buffer cimport Py_buffer
from libc.stdint cimport uint8_t, uint64_t
from flash_kv.log.table_cy cimport Key

# Bytes borrowed from an argument. `release` after use; the argument outlives it.
cdef struct Borrowed:
    const uint8_t* data
    uint64_t size
    bint has_view
    Py_buffer view

cdef int borrow_key(object key, Borrowed* borrowed) except -1
cdef int borrow_value(object value, Borrowed* borrowed) except -1
cdef void release(Borrowed* borrowed) noexcept
cdef void begin_key(Key* key, Borrowed* borrowed, const uint64_t* hash_key) noexcept
