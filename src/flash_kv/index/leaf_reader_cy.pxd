# The reading side that the ordered indexes share. See leaf_reader_cy.py.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from flash_kv.index.btree_node cimport Node, Tree
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.index.index_cy cimport Index, Walk
from flash_kv.intrinsics cimport fence_acquire, load_relaxed64
from flash_kv.log.table_cy cimport Key

cdef enum:
    RECALL_BITS = 12
    GROUP = 16  # keys looked for together: what keeps the memory busy and stays in cache

cdef inline uint32_t mark_of(uint64_t mixed) noexcept nogil:
    """Bits 20 to 45, where a recall has them; its place has the upper 12."""
    return <uint32_t>(mixed >> 14) & ~<uint32_t>63

# A node on the way down and the version it was read at. NULL: it changed, and the search must start again.
cdef struct Spot:
    Node* node
    uint64_t version

# Keys on their way down together.
cdef struct Group:
    uint32_t count
    Spot[16] spots
    uint32_t[16] numbers                  # of the child to go to, then the line of slots in the leaf
    uint64_t[16] heads

# Where a key was found. Only a hint: it counts when the leaf still has this version.
cdef struct Recall:
    uint64_t version
    uint32_t leaf
    uint32_t mark                         # 26 bits of the key's mix, 6 bits of slot

cdef inline bint is_unchanged(const Spot* spot) noexcept nogil:
    """May be concluded from what was read in the node?"""
    fence_acquire()
    return load_relaxed64(&spot.node.version) == spot.version

cdef class LeafReader(Index):
    cdef Recall* recalls
    cdef NodeStore store
    cdef Tree* tree
    cdef uint8_t* base
    cdef uint8_t* blobs

    cdef Node* recall(self, Key* key, uint64_t mixed, uint32_t* slot, uint64_t* entry) noexcept nogil
    cdef void remember(self, uint64_t mixed, Node* leaf, uint64_t version, uint32_t slot) noexcept nogil
    cdef void _note(self, Key* key, const Spot* leaf) noexcept nogil
    cdef Node* place_of(self, const Key* key) noexcept nogil
    # The leaf for the key and its version, NULL when the index is empty; False when something changed meanwhile.
    cdef bint _find_leaf(self, Key* key, Spot* spot) noexcept nogil
    # The same for a group of keys, so that their cache misses overlap. NULL: search again alone.
    cdef void _find_leaves(self, Key* keys, Group* group) noexcept nogil
    # One attempt at `walk`: how many entries, or WALK_RESTART, WALK_FAILED.
    cdef int64_t _walk_once(self, Walk* state, uint64_t* entries, uint64_t capacity) noexcept nogil
    cdef bint _find_once(self, Key* key, uint64_t mixed, uint64_t* entry) noexcept nogil
    cdef void _aim(self, Key* keys, Group* group) noexcept nogil
    cdef void _find_group(self, Key* keys, uint32_t count, uint64_t* entries) noexcept nogil
    cdef uint8_t _hold(self, Spot* leaf, uint64_t head, uint32_t bound, uint64_t position) noexcept nogil
