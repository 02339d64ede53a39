# The B-tree index. See btree_cy.py.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.index.btree_node cimport Node, Path, Tree
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.index.index_cy cimport Index, Walk
from flash_kv.log.table_cy cimport Key

cdef class BTreeIndex(Index):
    cdef NodeStore store
    cdef Tree* tree
    cdef uint8_t* base
    cdef uint8_t* blobs

    cdef Node* _descend(self, Key* key, Path* path) noexcept nogil
    cdef bint _append(self, Key* key, uint64_t entry) noexcept nogil
    cdef bint _plant(self) noexcept nogil
    cdef bint _make_room(self, Path* path, Key* key, uint32_t slot) noexcept nogil
    cdef bint _find_once(self, Key* key, uint64_t* entry) noexcept nogil
    cdef bint _find_tied(self, Node* leaf, uint64_t version, Key* key, uint64_t* entry) noexcept nogil
    cdef void _find_group(self, Key* keys, uint32_t count, uint64_t* entries) noexcept nogil
