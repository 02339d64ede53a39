from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.engine.store_cy cimport Store
from flash_kv.log.format cimport RecordHeader
from flash_kv.log.table_cy cimport Key, SegmentRef
from flash_kv.log.writer_cy cimport LogWriter

cdef enum:
    GROUP_RECORDS = 128

cdef enum MoveOutcome:
    MOVED_SOME = 0                        # go on
    MOVED_ALL = 1                         # the input is at its end
    MOVE_NEEDS_ROOM = 2                   # the output has none
    MOVE_DAMAGED = 3                      # the input is unsound at `offset`
    MOVE_FAILED_WRITE = 4                 # errno in `failure`
    MOVE_FAILED_READ = 5
    MOVE_FAILED_MEMORY = 6

# A record copied to the output, before the index knows.
cdef struct Moved:
    uint64_t source                       # position
    uint64_t target
    uint64_t source_size
    uint64_t size                         # of the copy
    uint64_t lsn
    Key* key
    int kind

cdef class Mover:
    cdef Store store
    cdef LogWriter output
    cdef object source_owner
    cdef const uint8_t* data              # the input segment
    cdef uint64_t end
    cdef uint64_t offset
    cdef uint64_t segment_id
    cdef uint32_t seed
    cdef uint64_t tombstone_floor         # a tombstone with a smaller LSN than every dead record's segment is dropped
    cdef Key[128] keys
    cdef const RecordHeader* headers[128]  # the group gathered: its records,
    cdef uint64_t[128] positions          # where they stand,
    cdef uint8_t[128] answers             # and whether the index points to them
    cdef Moved[128] moved
    cdef bint failure_of_lookup
    cdef uint64_t wanted                  # bytes the output lacks
    cdef int failure
    cdef readonly uint64_t records_moved
    cdef readonly uint64_t bytes_moved
    cdef readonly uint64_t tombstones_dropped

    cdef int run(self, uint64_t budget) noexcept nogil
    cdef int step(self) noexcept nogil
    cdef int gather(self, int* count) noexcept nogil
    cdef bint is_wanted(self, int i) noexcept nogil
    cdef int copy(self, int i, int copied) noexcept nogil
    cdef void switch(self, int count) noexcept nogil
    cdef void count_moved(self, Moved* moved, bint is_live) noexcept nogil
