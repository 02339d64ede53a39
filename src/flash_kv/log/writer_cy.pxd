from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from flash_kv.log.format cimport RecordHeader
from flash_kv.log.table_cy cimport SegmentRef

# What follows the key of a record: attributes, if it is of KIND_EXTENDED, and the value.
cdef struct Payload:
    const uint8_t* head
    uint64_t head_size
    const uint8_t* value
    uint64_t value_size

# The end of the log. Every method but `__cinit__` and `activate` requires the write lock.
cdef class LogWriter:
    cdef uint8_t* data                    # the active segment's mapping; NULL with io="file"
    cdef SegmentRef* ref                  # NULL: no active segment yet
    cdef uint64_t segment_id
    cdef uint64_t tail                    # where the next record goes
    cdef uint64_t limit                   # end of what is allocated on disk
    cdef uint64_t capacity                # end of the mapping: the most `limit` can become
    cdef uint64_t written                 # bytes of all records since the open
    cdef uint64_t next_lsn
    cdef uint64_t synced_lsn              # everything up to here is durable
    cdef uint32_t seed
    cdef int fd
    cdef bint is_mapped
    cdef uint64_t align                   # of values: a power of two; 1 for none
    cdef bint is_stating                  # records state their sync distance; not in compaction outputs
    cdef bint is_spoiled                  # bytes of a failed write could not be taken back
    cdef uint8_t* scratch                 # io="file": where a record is put together
    cdef uint64_t scratch_size
    cdef object write_hook                # io="file": callable(fd, bytes, offset) instead of pwrite, for fault tests

    cdef bint has_room(self, uint64_t size) noexcept nogil
    cdef uint8_t* begin(self, uint64_t size) noexcept nogil
    cdef uint64_t fill(
        self, uint8_t* place, const uint8_t* key, uint32_t key_size, uint64_t pad, const Payload* payload, uint64_t lsn
    ) noexcept nogil
    cdef uint64_t fill_aligned(
        self, uint8_t* place, uint64_t offset, const RecordHeader* header, uint64_t align, int* flags
    ) noexcept nogil
    cdef uint64_t seal_record(self, uint8_t* place, uint64_t offset, uint64_t size, int kind, int flags) noexcept nogil
    cdef int publish(self, uint8_t* place, uint64_t size, uint64_t word, uint64_t records) noexcept nogil
    cdef void unpublish(self, uint8_t* place, uint64_t size, uint64_t records) noexcept nogil
    cdef void _blank(self, uint8_t* place, uint64_t size) noexcept nogil
    cdef int withdraw(self, SegmentRef* ref, uint8_t* data, uint64_t offset, uint64_t size, uint64_t lsn) noexcept nogil
    cdef int _write(self, int fd, const uint8_t* data, uint64_t size, uint64_t offset) noexcept nogil
    cdef int _write_by_hook(self, int fd, const uint8_t* data, uint64_t size, uint64_t offset) noexcept
