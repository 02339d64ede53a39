from libc.stdint cimport uint32_t
from flash_kv.index.btree_node cimport Path
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.log.table_cy cimport Key, TableState

# Split the full leaf of the path, whose parent is not full; `key` is to go to `slot` afterwards, and shares the bytes
# that the leaf skips. 0, or -1 with the reason in the key and nothing changed.
cdef int split_leaf(NodeStore store, TableState* log, Path* path, Key* key, uint32_t slot) noexcept nogil
