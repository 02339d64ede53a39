# Joining leaves that became small, for the ordered indexes. See leaf_join_cy.py.
from libc.stdint cimport uint32_t
from flash_kv.index.btree_node cimport Node, Slot
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.log.table_cy cimport TableState

# What two neighbours will be when they are one.
cdef struct Joint:
    uint32_t count
    uint32_t skip
    uint32_t fence_skip
    uint32_t prefix
    uint32_t[2] unused                    # blobs of the two, to be freed
    bint is_lowered                       # heads show less than before
    Slot[58] slots

cdef bint can_join(const Node* left, const Node* right) noexcept nogil
# Work out the joint of two neighbours; they stay as they are. `lower`, `separator` and `upper` are the separators around
# them, as blobs, 0 for none.
cdef void prepare_join(
    NodeStore store, Node* left, Node* right, uint32_t lower, uint32_t separator, uint32_t upper, Joint* joint
) noexcept nogil
# Make the left one the joint. Requires: it is being written.
cdef void apply_join(Node* left, Joint* joint) noexcept nogil
# After both were released.
cdef void finish_join(NodeStore store, TableState* log, Node* left, const Joint* joint) noexcept nogil
