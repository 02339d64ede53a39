# Ordered walks over a skip list. See skiplist_walk_cy.py.
from libc.stdint cimport int64_t, uint64_t
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.index.index_cy cimport Walk
from flash_kv.log.table_cy cimport TableState

# One attempt at Index.walk, as LeafReader._walk_once.
cdef int64_t walk_once(
    NodeStore store, TableState* log, Walk* state, uint64_t* entries, uint64_t capacity
) noexcept nogil
