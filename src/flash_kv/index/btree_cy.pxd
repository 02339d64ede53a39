# The B-tree index. See btree_cy.py.
from flash_kv.index.btree_node cimport Node, Path
from flash_kv.index.leaf_index_cy cimport LeafIndex
from flash_kv.index.leaf_reader_cy cimport Group, Spot
from flash_kv.log.table_cy cimport Key

cdef class BTreeIndex(LeafIndex):
    cdef bint _enter_root(self, Spot* spot) noexcept nogil
    cdef void _aim_inner(self, Key* keys, Group* group) noexcept nogil
    cdef Node* _find_path(self, Key* key, Path* path) noexcept nogil
