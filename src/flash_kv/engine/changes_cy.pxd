from libc.stdint cimport uint8_t, uint64_t
from flash_kv.engine.store_cy cimport Store
from flash_kv.log.format cimport RecordHeader
from flash_kv.log.table_cy cimport Key, SegmentRef

cdef class ChangeReader:
    cdef Store store
    cdef uint64_t segment_id              # being read; 0: none
    cdef uint64_t offset                  # of the record or frame that comes next
    cdef uint64_t frame_left              # records of the frame that is being read
    cdef uint64_t seen                    # LSN of the last record that was passed in this segment; 0: none yet
    cdef uint64_t expected                # LSN of the change that comes next
    cdef uint64_t limit                   # nothing is read beyond
    cdef uint8_t* window                  # with io="file": the bytes around the header looked at last
    cdef uint64_t window_start
    cdef uint64_t window_size
    cdef uint8_t* buffer                  # with io="file": a whole record
    cdef uint64_t capacity
    cdef int failure                      # errno; 0 after damage

    cdef const RecordHeader* header_at(self, SegmentRef* ref, uint64_t offset) noexcept nogil
    cdef int hop(self, SegmentRef* ref) noexcept nogil
    cdef object change_at(self, bint is_large, uint64_t value_bytes_max)
    cdef const RecordHeader* load(self, uint64_t position, Key* key) noexcept nogil
    cdef object failed(self)
