# The skip list index. See skiplist_cy.py.
from libc.stdint cimport uint32_t
from flash_kv.index.btree_node cimport Node
from flash_kv.index.leaf_index_cy cimport LeafIndex

cdef class SkipListIndex(LeafIndex):
    cdef void _insert_tower(self, uint32_t before, uint32_t ref, Node* leaf, Node* right) noexcept nogil
    cdef void _join(self, uint32_t left, uint32_t right) noexcept nogil
