# The reading side of the B-tree index. See btree_reader_cy.py.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.index.btree_node cimport Node, Tree
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.index.index_cy cimport Index, Walk
from flash_kv.log.table_cy cimport Key

cdef enum:
    GROUP = 16  # keys looked for together: what keeps the memory busy and stays in cache

# A node on the way down and the version it was read at. NULL: it changed, and the search must start again.
cdef struct Spot:
    Node* node
    uint64_t version

# Keys on their way down together.
cdef struct Group:
    uint32_t count
    Spot[16] spots
    uint32_t[16] numbers                  # of the child to go to, then the line of slots in the leaf
    uint64_t[16] heads

cdef class BTreeReader(Index):
    cdef NodeStore store
    cdef Tree* tree
    cdef uint8_t* base
    cdef uint8_t* blobs

    cdef bint _enter_root(self, Spot* spot) noexcept nogil
    cdef bint _find_leaf(self, Key* key, Spot* spot) noexcept nogil
    cdef bint _find_once(self, Key* key, uint64_t* entry) noexcept nogil
    cdef bint _find_tied(self, Spot* leaf, Key* key, uint64_t* entry) noexcept nogil
    cdef void _find_leaves(self, Key* keys, Group* group) noexcept nogil
    cdef void _find_group(self, Key* keys, uint32_t count, uint64_t* entries) noexcept nogil
    cdef void _prefetch_record(self, uint64_t entry) noexcept nogil
    cdef uint8_t _hold(self, Spot* leaf, uint64_t head, uint32_t slot, uint64_t position) noexcept nogil
