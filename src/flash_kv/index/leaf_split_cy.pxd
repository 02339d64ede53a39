# Splitting a full leaf, for the ordered indexes. See leaf_split_cy.py.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.index.btree_node cimport Node
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.log.table_cy cimport Key, TableState

# A separator before it has a place: `size` bytes, then the first `tail_size` bytes of the big-endian number `tail`.
cdef struct Separator:
    const uint8_t* data
    uint32_t size
    uint32_t tail_size
    uint64_t tail
    uint8_t* buffer                       # what `data` may point into; the caller frees it

# Where to cut a full leaf in which a key is to go to `slot`.
cdef uint32_t choose_cut(const Node* leaf, uint32_t slot, bint is_first, bint is_last) noexcept nogil
# The shortest string above slot `cut - 1` and not above slot `cut`; the key stands for the missing one at either end, and
# shares the leaf's skipped bytes. False with the reason in the key.
cdef bint find_separator(TableState* log, Node* leaf, Key* key, uint32_t cut, Separator* separator) noexcept nogil
# Move the slots from `cut` on to the new leaf on the right; the blob to free when both are released. `lower`, `middle` and
# `upper` are the separators around the two, as blobs, 0 for none. Requires: both leaves are being written.
cdef uint32_t divide_leaf(
    NodeStore store, Node* leaf, Node* right, uint32_t cut, uint32_t lower, uint32_t middle, uint32_t upper, Key* key
) noexcept nogil
