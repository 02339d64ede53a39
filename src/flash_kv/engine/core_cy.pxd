from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from flash_kv.engine.batch_cy cimport BatchBuffer
from flash_kv.engine.versions_cy cimport VersionChains
from flash_kv.index.index_cy cimport Index
from flash_kv.io.clock_cy cimport now_ms
from flash_kv.io.mutex cimport pthread_mutex_t
from flash_kv.log.format cimport RecordHeader
from flash_kv.log.table_cy cimport Key, SegmentRef, SegmentTable, TableState
from flash_kv.log.writer_cy cimport LogWriter, Payload

cdef enum Outcome:
    DONE = 0
    ABSENT = 1                            # nothing to delete
    NEEDS_ROOM = 2                        # make room, then try again
    FAILED_READ = 3                       # a record that had to be compared is damaged or unreadable: see the key
    FAILED_MEMORY = 4
    FAILED_WRITE = 5                      # errno in Core.write_errno
    CONFLICT = 6                          # a key has not the LSN it was to have

cdef enum State:
    IS_CLOSED = 1
    IS_POISONED = 2
    IS_READ_ONLY = 4
    IS_TROUBLED = 8                       # something failed in the background; the next write hears of it

# What a record says of itself.
cdef struct Facts:
    int kind
    uint64_t lsn
    uint64_t size
    uint64_t expires_ms                   # 0: never

# What one commit wrote: for waiting on its sync, and for withdrawing it.
cdef struct Commit:
    uint64_t segment_id
    uint64_t offset
    uint64_t size
    uint64_t lsn                          # of its last record
    uint64_t count                        # of records
    uint64_t found                        # keys that existed before
    uint64_t conflict                     # after CONFLICT: which key of the conditions, and the LSN it has
    uint64_t conflict_lsn

# In the place of an LSN that a key has to have: any, or none at all; and no condition.
cdef extern from *:
    """
    #define FK_LSN_SOME (~0ULL - 1)
    #define FK_LSN_ANY (~0ULL)
    """
    const uint64_t LSN_SOME "FK_LSN_SOME"
    const uint64_t LSN_ANY "FK_LSN_ANY"

cdef inline bint is_past(uint64_t expires_ms, uint64_t moment_ms) noexcept nogil:
    """Has what expires then (0: never) expired at that moment (0: now)?"""
    return expires_ms != 0 and expires_ms <= (moment_ms or now_ms())

cdef class Core:
    cdef SegmentTable table
    cdef TableState* log
    cdef Index index
    cdef LogWriter writer
    cdef VersionChains versions
    cdef pthread_mutex_t mutex            # the write lock
    cdef int state                        # 0: open for writing
    cdef uint64_t generation              # of forks, at the open
    cdef bint waits_for_sync              # a commit is followed by `DB._after_commit`
    cdef uint64_t key_count               # live keys; changed under the write lock, looked at without
    cdef uint64_t generation_of_index     # counts the indexes installed since the open
    cdef int write_errno
    cdef object __weakref__

    cdef int check_readable(self) except -1
    cdef int check_writable(self) except -1
    cdef int inspect(self, uint64_t position, Facts* facts) noexcept nogil
    cdef int look(self, Key* key, uint64_t* entry) noexcept nogil
    cdef int look_at(self, Key* key, uint64_t entry) noexcept nogil
    cdef bint has_expired(self, uint64_t entry) noexcept nogil
    cdef int check_condition(self, Key* key, uint64_t expected, uint64_t* found) noexcept nogil
    cdef uint64_t batch_room(self, BatchBuffer batch) noexcept nogil
    cdef uint64_t place_record(
        self, uint8_t* place, uint64_t offset, const RecordHeader* gathered, uint64_t size, uint64_t lsn
    ) noexcept nogil
    cdef void count_new(self, SegmentRef* ref, int kind, uint64_t size, uint64_t lsn) noexcept nogil
    cdef void count_dead(self, uint64_t position) noexcept nogil
    cdef int apply(self, Key* key, int kind, uint64_t position, uint64_t lsn, uint64_t size, uint64_t* old) noexcept nogil
    cdef int apply_versioned(
        self, Key* key, int kind, uint64_t position, uint64_t lsn, uint64_t size, uint64_t* old
    ) noexcept nogil
    cdef int refused(self, Key* key) noexcept nogil
    cdef int write_one(self, Key* key, int kind, const Payload* payload, Commit* commit) noexcept nogil
    cdef int write_batch(self, BatchBuffer batch, Commit* commit) noexcept nogil
    cdef int index_batch(
        self, BatchBuffer batch, uint8_t* place, uint64_t start, uint64_t count, Commit* commit
    ) noexcept nogil
