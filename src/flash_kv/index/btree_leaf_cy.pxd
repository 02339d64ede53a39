# Leaves of a B-tree: finding the slot of a key, and changes. See btree_leaf_cy.py.
from libc.stdint cimport uint32_t, uint64_t
from flash_kv.index.btree_node cimport Node, Path
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.log.table_cy cimport Key, MatchResult, TableState

cdef enum SeekResult:
    SEEK_ABSENT = 0
    SEEK_FOUND = 1
    SEEK_TIED = 2                         # absent, and another key has the same head
    SEEK_FAILED = 3                       # a record could not be compared: see the key

# Write lock held, or the result validated afterwards: the first slot whose key is not below `key`.
cdef SeekResult seek_leaf(TableState* log, Node* leaf, Key* key, uint32_t* slot) noexcept nogil

# Changes of one leaf. Write lock held.
cdef void admit(NodeStore store, Node* leaf, Key* key) noexcept nogil
cdef void raise_leaf(NodeStore store, TableState* log, Node* leaf) noexcept nogil

# Split the full leaf of the path; its parent is not full. 0, or -1 with the reason in the key.
cdef int split_leaf(NodeStore store, TableState* log, Path* path, Key* key, uint32_t slot) noexcept nogil
# The leaf of the path became small: join it with a neighbour, if that fits.
cdef void merge_leaf(NodeStore store, TableState* log, Path* path) noexcept nogil
