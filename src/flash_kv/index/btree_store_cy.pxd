# The memory of one B-tree: nodes and blobs. See btree_store_cy.py.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.index.arena_cy cimport Arena
from flash_kv.index.btree_node cimport Node, Slot, Tree

cdef class NodeStore:
    cdef uint8_t* base                    # nodes, by number; number 0 holds the Tree
    cdef uint8_t* blobs                   # blobs, by unit
    cdef Tree* tree
    cdef Arena node_arena
    cdef Arena blob_arena
    cdef uint32_t key_size_max            # of all keys ever inserted: bounds the next separators
    cdef uint32_t split_bytes             # that a split takes in blobs beside a separator: lanes of the skip list
    cdef uint32_t split_bytes_max         # that one split may take

    cdef int reserve(self, uint64_t count) noexcept nogil
    cdef uint32_t new_node(self, uint32_t level) noexcept nogil
    cdef void free_node(self, uint32_t number) noexcept nogil
    cdef uint32_t take_blob(self, uint32_t total) noexcept nogil
    cdef uint32_t new_blob(
        self, const uint8_t* data, uint32_t size, uint64_t tail, uint32_t tail_size
    ) noexcept nogil
    cdef void free_blob(self, uint32_t ref) noexcept nogil
    cdef void reset(self) noexcept nogil
    cdef uint64_t memory_bytes(self) noexcept nogil
