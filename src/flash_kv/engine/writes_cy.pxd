from libc.stdint cimport uint8_t, uint64_t
from flash_kv.engine.batch_cy cimport BatchBuffer
from flash_kv.engine.core_cy cimport Commit
from flash_kv.engine.reads_cy cimport Reads
from flash_kv.log.table_cy cimport Key

cdef class Writes(Reads):
    cdef BatchBuffer spare_buffer         # None while a batch uses it

    cdef int raise_failure(self, int outcome, Key* key) except -1
    cdef int finish(self, Commit* commit) except -1
    cdef int enter(self) except -1
    cdef int write_locked(self, Key* key, int kind, const uint8_t* value, uint64_t value_size, Commit* commit) noexcept
    cdef int put_one(self, object key, object value) except -1
    cdef int delete_one(self, object key) except -1
    cdef object take_one(self, object key, object wanted)
    cdef int commit_batch(self, BatchBuffer batch, Commit* commit) except -1
    cdef int put_sorted(self, BatchBuffer batch, object pairs, object values) except -1
    cdef int commit_piece(self, BatchBuffer batch) except -1
    cdef int commit_busy(self, BatchBuffer batch, Commit* commit) except -1
