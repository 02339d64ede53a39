"""Splitting a full leaf of a B-tree: leaf_split_cy says where, and here the separator goes into the parent."""

import cython
from cython.cimports.flash_kv.index.btree_inner_cy import insert_separator, lower_fence, upper_fence
from cython.cimports.flash_kv.index.btree_node import Node, Tree, begin_write, end_write, node_at
from cython.cimports.flash_kv.index.leaf_split_cy import Separator, choose_cut, divide_leaf, find_separator
from cython.cimports.libc.errno import ENOMEM
from cython.cimports.libc.stdint import uint32_t
from cython.cimports.libc.stdlib import free


def split_leaf(store, log, path, key, slot):
    tree: cython.pointer(Tree) = store.tree
    leaf: cython.pointer(Node) = node_at(store.base, path.nodes[0])
    parent: cython.pointer(Node) = node_at(store.base, path.nodes[1])
    lower: uint32_t = lower_fence(store, path, 0)
    upper: uint32_t = upper_fence(store, path, 0)
    cut: uint32_t = choose_cut(leaf, slot, lower == 0, upper == 0)
    right: cython.pointer(Node)
    separator: Separator
    number: uint32_t = 0
    ref: uint32_t
    if not find_separator(log, leaf, key, cut, cython.address(separator)):
        free(separator.buffer)
        return -1
    ref = store.new_blob(separator.data, separator.size, separator.tail, separator.tail_size)
    free(separator.buffer)
    if ref != 0:
        number = store.new_node(0)
    if number == 0:
        store.free_blob(ref)
        key.error = ENOMEM
        key.bad_position = 0
        return -1
    right = node_at(store.base, number)
    begin_write(parent)
    begin_write(leaf)
    insert_separator(store, parent, path.slots[1], ref, number)
    ref = divide_leaf(store, leaf, right, cut, lower, ref, upper, key)
    end_write(tree, right)
    end_write(tree, leaf)
    end_write(tree, parent)
    store.free_blob(ref)
    if upper == 0:
        tree.tail = number
    return 0
