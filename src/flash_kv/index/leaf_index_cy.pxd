# The writing side that the ordered indexes share. See leaf_index_cy.py.
from libc.stdint cimport uint32_t, uint64_t
from flash_kv.index.btree_node cimport Node
from flash_kv.index.leaf_reader_cy cimport LeafReader
from flash_kv.log.table_cy cimport Key

cdef class LeafIndex(LeafReader):
    # What a kind does in its own way. Write lock held for all of it.
    #
    # The leaf for the key. The index is not empty.
    cdef Node* _descend(self, Key* key) noexcept nogil
    # The first leaf of an empty index; False when memory is short.
    cdef bint _plant(self) noexcept nogil
    # One split on the way to, or of, a full leaf in which `key` belongs at `slot`. The key is looked for again after it.
    # False, with the reason in the key and nothing changed, when there is none.
    cdef bint _make_room(self, Node* leaf, Key* key, uint32_t slot) noexcept nogil
    # The leaf, from which `key` was removed, has become small: join it with a neighbour, if that fits.
    cdef void _shrink(self, Node* leaf, Key* key) noexcept nogil

    cdef int _above(self, Key* key, uint64_t mixed, uint64_t* head) noexcept nogil
    cdef bint _append(self, Key* key, uint64_t mixed, uint64_t entry) noexcept nogil
    cdef bint _replace_in(self, Node* leaf, const Key* key, uint64_t old, uint64_t new) noexcept nogil
