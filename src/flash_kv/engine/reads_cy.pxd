from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from flash_kv.engine.arguments_cy cimport Borrowed, begin_key, borrow_key, release
from flash_kv.engine.columns_cy cimport KeyArray
from flash_kv.engine.core_cy cimport Core
from flash_kv.log.format cimport RecordHeader
from flash_kv.log.table_cy cimport Key

cdef class Reads(Core):
    cdef const uint64_t* hash_key(self) noexcept
    cdef object value_at(self, uint64_t entry, Key* key, object default, uint64_t moment_ms)
    cdef const RecordHeader* load_copy(self, uint64_t position, uint8_t** buffer, Key* key) except NULL
    cdef object large_value_at(
        self, uint64_t position, const RecordHeader* header, object default, uint64_t moment_ms
    )
    cdef object view_at(self, uint64_t entry, Key* key, object default, bint recheck, uint64_t moment_ms)
    cdef object open_view(self, uint64_t position, bint recheck, const RecordHeader** header)
    cdef bint check_view(self, uint64_t position, const RecordHeader* record) except -1
    cdef object read_failure(self, Key* key)
    cdef int add_answers(self, KeyArray array, list answers) except -1
    cdef bint settle_many(self, uint64_t* entries, Py_ssize_t count) noexcept
    cdef int hold(self, uint64_t* lsn) except -1
    cdef void let_go(self, uint64_t lsn) noexcept

cdef inline uint64_t entry_of(Reads store, object key, Key* parsed) except? 0:
    """The entry of `key` as it is, ENTRY_ERROR included; `parsed` is for what is done with it."""
    cdef Borrowed borrowed
    cdef object copy
    borrow_key(key, &borrowed)
    if borrowed.has_view:
        # Released before the look: letting go of a buffer may run Python code, and what was found be gone after it.
        copy = PyBytes_FromStringAndSize(<const char*>borrowed.data, <Py_ssize_t>borrowed.size)
        release(&borrowed)
        borrow_key(copy, &borrowed)
    begin_key(parsed, &borrowed, store.hash_key())
    return store.index.find(parsed)
