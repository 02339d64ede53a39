from libc.stdint cimport uint8_t, uint64_t

cdef class Arena:
    cdef uint8_t* data                    # never moves while the arena lives
    cdef uint8_t* _range                  # what was reserved; `data` is its first aligned byte
    cdef uint64_t _range_size
    cdef readonly uint64_t reserved       # bytes of address space
    cdef readonly uint64_t committed      # bytes that may be touched
    cdef uint64_t used                    # bytes handed out

    # Room for `size` bytes beyond `used`: 0, or -1 when memory is short. Touches nothing that is in use.
    cdef int reserve(self, uint64_t size) noexcept nogil
    cdef void shrink(self, uint64_t used) noexcept nogil
