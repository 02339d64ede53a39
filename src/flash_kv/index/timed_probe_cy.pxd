from libc.stdint cimport uint8_t, uint64_t
from flash_kv.index.probe_cy cimport IndexProbe
from flash_kv.log.table_cy cimport Key

cdef class TimedProbe(IndexProbe):
    cdef uint8_t* key_bytes
    cdef uint64_t* key_offsets            # one more than there are keys
    cdef uint64_t* positions              # of the first record of each key, then of the second of each
    cdef uint64_t key_count

    cdef void _forget_keys(self) noexcept
    cdef int _allocate_keys(self, uint64_t count, uint64_t size) except -1
    cdef int _shuffle(self, uint64_t size) except -1
    cdef Key _numbered(self, uint64_t number) noexcept nogil
