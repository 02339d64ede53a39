from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.log.table_cy cimport TableState

cdef object check_tree(NodeStore store, TableState* log)
