from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.engine.store_cy cimport Store
from flash_kv.index.index_cy cimport Walk
from flash_kv.log.format cimport RecordHeader
from flash_kv.log.table_cy cimport Key

cdef enum Yielding:
    YIELD_KEYS = 0
    YIELD_VALUES = 1
    YIELD_ITEMS = 2
    YIELD_RECORDS = 3                     # (key, Record)
    YIELD_EXPIRED = 4                     # keys of the values whose time is up, and None after each chunk

cdef class SnapshotCore:
    cdef readonly Store store
    cdef uint64_t lsn
    cdef uint64_t moment_ms               # what had expired by then is gone
    cdef bint is_open
    cdef uint64_t generation_of_index
    cdef int check_open(self) except -1
    cdef uint64_t find(self, object key, Key* parsed) except? 0
    cdef uint64_t position_at(self, uint64_t entry) noexcept

cdef class Scan:
    cdef Store store
    cdef SnapshotCore snapshot
    cdef bint owns_snapshot
    cdef int yielding
    cdef bint views                       # values as memoryviews, without a copy
    cdef Walk walk
    cdef uint64_t* entries                # of the chunk at hand, then their positions
    cdef uint64_t capacity
    cdef uint64_t count
    cdef uint64_t next
    cdef bytes low                        # inclusive bound, or None
    cdef bytes high                       # exclusive bound, or None
    cdef bytes last_key                   # io="file": where the walk goes on
    cdef uint8_t* buffer                  # io="file": the record at hand
    cdef uint64_t buffer_size
    cdef uint64_t earliest_ms             # when the next of the values that were passed by expires; 0: none does
    cdef bint is_finished
    cdef bint is_running                  # inside a part without the GIL
    cdef const RecordHeader* record_at(self, uint64_t position) except NULL
    cdef object view_of(self, uint64_t position, const RecordHeader** header)
    cdef bint is_passed(self, const RecordHeader* header) noexcept
    cdef object value_of(self, const RecordHeader* header, uint64_t position)
    cdef int fill(self) except -1
    cdef int go_on_after(self, uint64_t entry) except -1
    cdef void warm(self, uint64_t number) noexcept
    cdef bint is_within(self, const uint8_t* key, uint32_t size) noexcept
    cdef void finish(self) noexcept
