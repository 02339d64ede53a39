from flash_kv.index.btree_node cimport Path
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.log.table_cy cimport TableState

# The leaf of the path became small: join it with a neighbour, if that fits, and so on upwards.
cdef void merge_leaf(NodeStore store, TableState* log, Path* path) noexcept nogil
