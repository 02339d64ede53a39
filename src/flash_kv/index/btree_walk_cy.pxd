# Ordered walks over a B-tree. See btree_walk_cy.py.
from libc.stdint cimport uint64_t
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.index.index_cy cimport Walk
from flash_kv.log.table_cy cimport TableState

cdef uint64_t walk_tree(
    NodeStore store, TableState* log, Walk* state, uint64_t* entries, uint64_t capacity
) noexcept nogil
