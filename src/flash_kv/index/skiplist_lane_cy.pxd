# Lanes of the skip list: making and changing one. See skiplist_lane_cy.py. Write lock held for all of it.
from libc.stdint cimport uint32_t, uint64_t
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.index.skiplist_lane cimport Lane, Link

# The lanes that lead to a mark, by level, and how many entries of each are not beyond it.
cdef struct Way:
    uint32_t top
    uint32_t[9] lanes
    uint32_t[9] passed

# Make the link from one mark lead to another, or nowhere when that is 0.
cdef void connect(NodeStore store, Link* link, uint32_t left, uint32_t right) noexcept nogil
# The mark that an entry leads to.
cdef uint32_t mark_of(NodeStore store, Lane* lane, uint32_t level, uint32_t entry) noexcept nogil
# An empty lane with room for at least so many entries; 0 when memory is short.
cdef uint32_t new_lane(NodeStore store, uint32_t owner, uint32_t down, uint32_t room) noexcept nogil
# Let the lane of a way have room for so many entries: it may move. False when memory is short.
cdef bint make_room(NodeStore store, Way* way, uint32_t level, uint32_t room) noexcept nogil
# The way to a mark.
cdef void trace(NodeStore store, uint32_t ref, Way* way) noexcept nogil
# Entries from `passed` on go to the empty lane on the right, which begins at `owner`. It has the room.
cdef void divide_lane(
    NodeStore store, Lane* lane, Lane* right, uint32_t level, uint32_t passed, uint32_t owner, uint32_t down
) noexcept nogil
# The entries of the lane that follows go to the end of this one, which has the room.
cdef void append_lane(NodeStore store, Lane* lane, Lane* source, uint32_t level) noexcept nogil
# An entry that leads to a mark or lane. The lane has the room.
cdef void insert_entry(NodeStore store, Lane* lane, uint32_t level, uint32_t entry, uint32_t leads_to) noexcept nogil
cdef void remove_entry(NodeStore store, Lane* lane, uint32_t level, uint32_t entry) noexcept nogil
