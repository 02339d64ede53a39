# The B+ tree on disk. See bptree_cy.py.
from libc.stdint cimport uint8_t, uint64_t
from flash_kv.index.btree_cy cimport BTreeIndex
from flash_kv.index.bptree_tree_cy cimport PageTree
from flash_kv.index.index_cy cimport Index, Walk
from flash_kv.io.mutex cimport pthread_mutex_t
from flash_kv.log.table_cy cimport Key

ctypedef uint8_t* KeyBuffer

cdef class BPTreeIndex(Index):
    cdef PageTree tree
    cdef BTreeIndex long_keys
    cdef uint64_t long_count
    cdef pthread_mutex_t mutex
    cdef uint64_t waiting                   # how many wait for it
    cdef bint has_mutex
    cdef bint has_system
    cdef KeyBuffer[2] buffers               # keys of a walk that are read from files, in turn
    cdef uint64_t[2] capacities

    cdef void _lock(self) noexcept nogil
    cdef int _reserve(self, uint64_t count, bint is_removal) noexcept nogil
    cdef void _find_group(self, Key* keys, uint64_t count, uint64_t* entries) noexcept nogil
    cdef bint _load(self, Key* key, uint64_t entry, int turn) noexcept nogil
    cdef uint64_t _answer(self, Key* key, uint64_t entry) noexcept nogil
    cdef uint64_t _collect_both(self, Walk* state, uint64_t* entries, uint64_t capacity) noexcept nogil
    cdef uint64_t _collect(self, Walk* state, const Key* bound, uint64_t* entries, uint64_t capacity) noexcept nogil
