from libc.stdint cimport uint64_t

# Milliseconds since 1970.
cdef uint64_t now_ms() noexcept nogil
