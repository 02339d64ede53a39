from libc.stdint cimport uint64_t
from flash_kv.index.arena_cy cimport Arena
from flash_kv.log.table_cy cimport TableState, VersionNode

# Version chains of keys that changed while snapshots were open. Requires: write lock held, unless said otherwise.
cdef class VersionChains:
    cdef Arena arena
    cdef TableState* table
    cdef VersionNode* nodes
    cdef uint64_t free_node
    cdef uint64_t* pending                # heads made since the snapshots that need them opened
    cdef uint64_t pending_count
    cdef uint64_t pending_capacity
    cdef uint64_t* snapshots              # LSNs of the open snapshots, ascending
    cdef uint64_t snapshot_count
    cdef uint64_t snapshot_capacity
    cdef uint64_t newest_snapshot         # greatest of them, 0 when none is open

    cdef int open_snapshot(self, uint64_t lsn) noexcept nogil
    cdef void close_snapshot(self, uint64_t lsn) noexcept nogil
    cdef int reserve(self, uint64_t count) noexcept nogil
    cdef uint64_t push(self, uint64_t old, uint64_t old_lsn, uint64_t position, uint64_t lsn) noexcept nogil
    cdef void unpush(self, uint64_t entry, uint64_t old) noexcept nogil
    cdef uint64_t visible(self, uint64_t entry, uint64_t lsn) noexcept nogil
    cdef uint64_t _new_node(self, uint64_t position, uint64_t lsn, uint64_t next) noexcept nogil
    cdef void free_chain(self, uint64_t number) noexcept nogil
    cdef bint _is_needed(self, uint64_t lsn, uint64_t newer_lsn) noexcept nogil
    cdef bint trim(self, uint64_t number) noexcept nogil
