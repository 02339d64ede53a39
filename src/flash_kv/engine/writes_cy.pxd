from libc.stdint cimport uint8_t, uint64_t
from flash_kv.engine.batch_cy cimport BatchBuffer
from flash_kv.engine.columns_cy cimport KeyArray
from flash_kv.engine.core_cy cimport Commit
from flash_kv.engine.reads_cy cimport Reads
from flash_kv.log.table_cy cimport Key
from flash_kv.log.writer_cy cimport Payload

cdef object NOTHING                       # for `take_one`: the value is not wanted; its answer when there was none
cdef object EXPIRED                       # for `take_one`: only if it has expired

cdef class Writes(Reads):
    cdef BatchBuffer spare_buffer         # None while a batch uses it

    cdef int raise_failure(self, int outcome, Key* key) except -1
    cdef int finish(self, Commit* commit, object durability) except -1
    cdef int enter(self) except -1
    cdef int write_locked(self, Key* key, int kind, const Payload* payload, Commit* commit) noexcept
    # `head`: the attributes of the value, or None. `expected`: the LSN that the key has to have, LSN_ANY: whatever.
    cdef uint64_t put_one(
        self, object key, object value, bytes head, uint64_t expected, object durability
    ) except 0
    cdef int delete_one(self, object key) except -1
    cdef object take_one(self, object key, object wanted, uint64_t expected, object durability, Commit* commit)
    cdef int raise_conflict(self, object key, uint64_t expected, uint64_t found) except -1
    cdef int commit_batch(self, BatchBuffer batch, Commit* commit) except -1
    cdef int put_sorted(self, BatchBuffer batch, object pairs, object values) except -1
    cdef int commit_piece(self, BatchBuffer batch) except -1
    cdef int commit_busy(self, BatchBuffer batch, Commit* commit) except -1
    cdef int check_conditions(self, KeyArray conditions, BatchBuffer batch, Commit* commit) noexcept
