# The invariants of nodes that the ordered indexes share. See leaf_check_cy.py.
from libc.stdint cimport uint32_t, uint64_t
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.log.table_cy cimport TableState

cdef class NodeChecker:
    cdef NodeStore store
    cdef TableState* log
    cdef list faults
    cdef bytes last                       # the key before, None at the beginning
    cdef uint64_t keys
    cdef uint64_t seen                    # nodes in the index

    cdef bytes blob(self, uint32_t ref)
    cdef bytes key_of(self, uint64_t entry)
    cdef object fault(self, uint32_t number, str text)
    cdef object check_layout(self, uint32_t number, uint32_t level)
    cdef object check_slot(self, uint32_t number, uint32_t i, bytes key, bytes prefix)
    cdef object check_leaf(self, uint32_t number, bytes lower, bytes upper)
    cdef object check_fence(self, uint32_t number, bytes lower, bytes upper)
    cdef bint is_number(self, uint32_t number) except -1
    cdef object check_counts(self)
