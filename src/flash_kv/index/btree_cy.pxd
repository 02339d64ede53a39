# The B-tree index. See btree_cy.py.
from libc.stdint cimport uint32_t, uint64_t
from flash_kv.index.btree_node cimport Node, Path
from flash_kv.index.btree_reader_cy cimport BTreeReader
from flash_kv.log.table_cy cimport Key

cdef class BTreeIndex(BTreeReader):
    cdef Node* _descend(self, Key* key, Path* path) noexcept nogil
    cdef int _above(self, Key* key, uint64_t mixed, uint64_t* head) noexcept nogil
    cdef bint _append(self, Key* key, uint64_t mixed, uint64_t entry) noexcept nogil
    cdef bint _replace_in(self, Node* leaf, const Key* key, uint64_t old, uint64_t new) noexcept nogil
    cdef bint _plant(self) noexcept nogil
    cdef bint _make_room(self, Path* path, Key* key, uint32_t slot) noexcept nogil
