# Marks of the skip list: making them, putting them into the list and taking them out. See skiplist_mark_cy.py.
from libc.stdint cimport uint32_t, uint64_t
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.index.leaf_split_cy cimport Separator
from flash_kv.index.skiplist_lane_cy cimport Way

cdef enum:
    SPLIT_BYTES_MAX = 131072              # what one split may take beside a separator: the longest lane at each level
    SPLIT_BYTES = 192                     # what many take each

# What it takes to put a mark into the list.
cdef struct Growth:
    uint32_t height                       # of lanes that begin at the mark
    uint32_t[9] lanes                     # those, and above them one more when the list gets a new level
    Way way

# A mark that is not in the list yet; 0 when memory is short.
cdef uint32_t new_mark(NodeStore store, const Separator* separator) noexcept nogil
# The separator of a mark as a blob, 0 for that of the first mark, below which there is nothing, and for no mark.
cdef uint32_t fence_of(NodeStore store, uint32_t ref) noexcept nogil
# Draw the height of a mark that is to stand after `before` and take the memory for it; False when that is short, with
# nothing changed.
cdef bint prepare_growth(NodeStore store, const uint64_t* hash_key, uint32_t before, Growth* growth) noexcept nogil
# Put the mark into the list. Requires: the leaves of the mark and of both its neighbours are being written.
cdef void insert_mark(NodeStore store, uint32_t before, uint32_t ref, Growth* growth) noexcept nogil
cdef void drop_growth(NodeStore store, Growth* growth) noexcept nogil
# Make room for what the lanes that begin at the mark after `before` lead past; False when there is none.
cdef bint prepare_removal(NodeStore store, uint32_t before, Way* way) noexcept nogil
# Take the mark after `before` out of the list. Requires: as above.
cdef void remove_mark(NodeStore store, uint32_t before, Way* way) noexcept nogil
