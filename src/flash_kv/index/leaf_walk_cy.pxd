# What a walk does with one leaf, for the ordered indexes. See leaf_walk_cy.py.
from libc.stdint cimport int64_t, uint32_t, uint64_t
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.index.index_cy cimport Walk
from flash_kv.index.leaf_reader_cy cimport Spot
from flash_kv.log.table_cy cimport TableState

cdef enum:
    WALK_RESTART = -1                     # something changed meanwhile
    WALK_FAILED = -2                      # a record could not be compared: see the walk

# The slot to begin at, going backwards the slot after it; or WALK_RESTART, WALK_FAILED.
cdef int64_t seek_leaf(NodeStore store, TableState* log, const Spot* leaf, Walk* state) noexcept nogil
# Copy entries from `slot` on, or before `slot` backwards; how many, or WALK_RESTART when the leaf changed.
cdef int64_t copy_leaf(
    const Spot* leaf, uint32_t slot, bint is_reverse, uint64_t* entries, uint64_t capacity
) noexcept nogil
