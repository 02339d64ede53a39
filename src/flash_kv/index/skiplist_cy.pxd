# The skip list index. See skiplist_cy.py.
from libc.stdint cimport uint32_t
from flash_kv.index.btree_node cimport Node
from flash_kv.index.leaf_index_cy cimport LeafIndex
from flash_kv.index.skiplist_mark_cy cimport Growth
from flash_kv.log.table_cy cimport Key

cdef class SkipListIndex(LeafIndex):
    cdef Node* _leaf_of(self, uint32_t ref) noexcept nogil
    cdef void _split(self, Node* leaf, Key* key, uint32_t cut, uint32_t ref, Growth* growth) noexcept nogil
    cdef void _join(self, uint32_t left, uint32_t right) noexcept nogil
