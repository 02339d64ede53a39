from libc.stdint cimport uint8_t

cdef extern from "<sys/mman.h>" nogil:
    int PROT_READ
    int PROT_WRITE
    int MAP_SHARED
    void* MAP_FAILED
    void* mmap(void* address, size_t size, int protection, int flags, int fd, long long offset)
    int munmap(void* address, size_t size)
    int madvise(void* address, size_t size, int advice)

cdef class Mapping:
    # NULL once closed; others may read it only while they hold a reference and know that nobody closes.
    cdef uint8_t* data
    cdef readonly size_t size
    cdef bint _is_writable
    # What munmap needs; outlives `data` and `size` while a call without the GIL still runs on the pages.
    cdef uint8_t* _base
    cdef size_t _base_size
    cdef int _calls

    cdef void _begin(self) noexcept
    cdef int _end(self) except -1
    cdef int _check(self, object offset, object size) except -1
    cdef int _unmap(self) except -1

cdef class MappedBytes:
    cdef Mapping _mapping
    cdef bint _is_given
