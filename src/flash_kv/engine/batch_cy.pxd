from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.engine.columns_cy cimport Column
from flash_kv.log.table_cy cimport Key
from flash_kv.log.writer_cy cimport Payload

# The body of a batch as it will stand in the log, but for LSNs, checksums and first words.
cdef class BatchBuffer:
    cdef uint8_t* data
    cdef uint64_t size
    cdef uint64_t capacity
    cdef uint64_t count
    cdef uint64_t puts                    # records that are values
    cdef uint64_t last                    # where the last record begins, after `require_order`
    cdef bytes last_key                   # of the piece before, or None
    cdef bint is_busy                     # a thread is at it without the GIL: no other may be
    cdef bint is_ascending                # each key is above the one before it
    cdef uint64_t array_size              # of each of the three below, made by `index_keys`
    cdef Key* keys
    cdef uint64_t* offsets
    cdef uint64_t* entries                # the index entries before the commit
    cdef list conditions                  # keys that have to have an LSN for the batch to be committed, or None
    cdef uint64_t* expected               # which one, for each
    cdef uint64_t expected_size
    cdef uint64_t first_lsn               # of the records of the last commit; 0: it wrote none
    cdef uint64_t end_lsn

    cdef void forget(self) noexcept
    cdef int require_idle(self) except -1
    cdef int reserve(self, uint64_t size) except -1
    cdef int add(
        self, int kind, const uint8_t* key, uint32_t key_size, const Payload* payload
    ) except -1
    cdef int add_put(self, object key, object value, bytes head) except -1
    cdef int add_condition(self, object key, uint64_t expected) except -1
    cdef int add_delete(self, object key) except -1
    cdef int add_column(self, Column keys, Column values) except -1
    cdef int add_item(self, Column keys, Column values, Py_ssize_t number) except -1
    cdef uint64_t add_piece(self, Column keys, Column values, uint64_t number, uint64_t size) except? 0
    cdef int require_order(self, uint64_t number) except -1
    cdef void keep_last(self) noexcept
    cdef int add_puts(self, object pairs, object values) except -1
    cdef int add_deletes(self, object keys) except -1
    cdef int make_arrays(self, uint64_t size) except -1
    cdef int index_keys(self, const uint64_t* hash_key) except -1

cdef int require_pairs(Column keys, Column values) except -1

cdef class BatchWrites:
    cdef BatchBuffer buffer               # None once the batch has ended
    cdef object state
    cdef bytes attributes                 # of the value that expires first, or None
    cdef uint64_t first_lsn               # of what it has written, once the batch has ended
    cdef uint64_t end_lsn

    cdef BatchBuffer opened(self)
