from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.log.table_cy cimport TableState

cdef list check_list(NodeStore store, TableState* log)
cdef list longest_lanes(NodeStore store)
