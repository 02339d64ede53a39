# Towers of the skip list: making them, and putting them into the list. See skiplist_tower_cy.py.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.index.leaf_split_cy cimport Separator

# A height: 1, and one more with a probability of 1/2 each.
cdef uint32_t draw_height(NodeStore store, const uint64_t* hash_key) noexcept nogil
# A tower that is not in the list yet; 0 when memory is short.
cdef uint32_t new_tower(NodeStore store, const Separator* separator, uint32_t height) noexcept nogil
# The separator of a tower as a blob, 0 for that of the first tower, below which there is nothing, and for no tower.
cdef uint32_t fence_of(NodeStore store, uint32_t ref) noexcept nogil
# The last tower at each level, of all LEVELS, that is not beyond this one.
cdef void trace(NodeStore store, uint32_t ref, uint32_t* towers) noexcept nogil
# Put a tower into the list, after `before`, or take the one after it out. Requires: the leaves of `before` and of the tower
# that is next then are being written.
cdef void raise_tower(NodeStore store, uint32_t before, uint32_t ref) noexcept nogil
cdef void fell_tower(NodeStore store, uint32_t before, uint32_t ref) noexcept nogil
