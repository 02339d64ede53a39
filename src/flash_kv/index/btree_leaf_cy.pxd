# One leaf of a B-tree: finding the slot of a key, and its heads. See btree_leaf_cy.py.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.index.btree_node cimport Node, Slot
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.log.table_cy cimport Key, MatchResult, TableState

ctypedef const uint8_t* Bytes

cdef enum SeekResult:
    SEEK_ABSENT = 0
    SEEK_FOUND = 1
    SEEK_TIED = 2                         # absent, and another key has the same head
    SEEK_FAILED = 3                       # a record could not be compared: see the key

# A key read from the log, in the log's mapping or in a buffer of its own, which the caller frees.
cdef struct Loaded:
    const uint8_t* data
    uint32_t size
    uint8_t* buffer
    uint64_t capacity

# Read and verify the key behind an entry; False with the reason in `key`.
cdef bint load_verified(TableState* log, uint64_t entry, Loaded* loaded, Key* key) noexcept nogil

# The slot of the key, or one after that of the greatest key not known to be above it. `head` is the key's in this leaf.
# Write lock held, or the result validated afterwards. SEEK_FOUND, SEEK_ABSENT or SEEK_FAILED.
cdef SeekResult find_slot(TableState* log, Node* leaf, Key* key, uint64_t head, uint32_t* slot) noexcept nogil
# The same; when the key is absent the slot is where it belongs, and SEEK_TIED says that the log was needed to tell.
cdef SeekResult seek_slot(TableState* log, Node* leaf, Key* key, uint64_t head, uint32_t* slot) noexcept nogil

# Make heads after `skip` bytes into heads after `lower` bytes; `prefix` holds the `skip` bytes.
cdef void lower_heads(Slot* slots, uint32_t count, const uint8_t* prefix, uint32_t skip, uint32_t lower) noexcept nogil
# The same for a leaf that is being written.
cdef void lower_skip(NodeStore store, Node* leaf, const uint8_t* prefix, uint32_t skip) noexcept nogil
# Make sure that the key shares the first `skip` bytes of the leaf. Write lock held, as for all that follows.
cdef void admit(NodeStore store, Node* leaf, Key* key) noexcept nogil
# Skip more of what all keys share. To be called when two heads are equal; does nothing if it would not help.
cdef void raise_leaf(NodeStore store, TableState* log, Node* leaf) noexcept nogil
