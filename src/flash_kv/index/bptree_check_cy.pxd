from flash_kv.index.bptree_tree_cy cimport PageTree

# What is wrong with the tree and its pages, in words. No other thread uses the index meanwhile.
cdef list check_tree(PageTree tree)
