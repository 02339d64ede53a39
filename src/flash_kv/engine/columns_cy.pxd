from cpython.buffer cimport Py_buffer
from libc.stdint cimport uint8_t, uint64_t
from flash_kv.engine.arguments_cy cimport Borrowed
from flash_kv.log.table_cy cimport Key

# Items of equal width in one buffer, such as a numpy array's.
cdef class Column:
    cdef Py_buffer view
    cdef bint has_view
    cdef const uint8_t* data
    cdef Py_ssize_t count
    cdef Py_ssize_t stride                # from one item to the next
    cdef Py_ssize_t width
    cdef bint is_text                     # zeros at the end of an item do not count

    cdef bint take_format(self, bint is_keys) noexcept
    cdef void borrow(self, Py_ssize_t number, Borrowed* borrowed) noexcept
    cdef int borrow_key(self, Py_ssize_t number, Borrowed* borrowed) except -1

# The argument as a Column, or None: then it is to be iterated.
cdef Column key_column(object keys)
cdef Column value_column(object values)

# Keys as indexes look for them, and room for what they find; valid as long as what they were parsed from.
cdef class KeyArray:
    cdef Key* keys
    cdef uint64_t* entries
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef object owner                     # what the keys' bytes are in

    cdef int reserve(self, Py_ssize_t count) except -1
    cdef int parse(self, object keys, const uint64_t* hash_key) except -1
    cdef int parse_column(self, Column column, Py_ssize_t start, Py_ssize_t count, const uint64_t* hash_key) except -1
    cdef bint parse_bytes(self, object keys, const uint64_t* hash_key) except -1
