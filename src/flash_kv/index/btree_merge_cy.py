"""Joining leaves of a B-tree that became small: two neighbours under one parent, as leaf_join_cy makes them one."""

import cython
from cython.cimports.flash_kv.index.btree_inner_cy import lower_fence, merge_inner, upper_fence
from cython.cimports.flash_kv.index.btree_node import (
    Node,
    Path,
    Tree,
    begin_write,
    child_of,
    end_write,
    node_at,
    remove_slot,
    separator_of,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.index.leaf_join_cy import (
    Joint,
    apply_join,
    can_join,
    finish_join,
    prepare_join,
)
from cython.cimports.flash_kv.log.table_cy import TableState
from cython.cimports.libc.stdint import uint32_t


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _join(
    store: NodeStore, log: cython.pointer(TableState), path: cython.pointer(Path), slot: uint32_t
) -> cython.void:
    """Make the leaves `slot` and `slot + 1` of the parent one."""
    tree: cython.pointer(Tree) = store.tree
    parent: cython.pointer(Node) = node_at(store.base, path.nodes[1])
    number: uint32_t = child_of(parent, slot + 1)
    left: cython.pointer(Node) = node_at(store.base, child_of(parent, slot))
    right: cython.pointer(Node) = node_at(store.base, number)
    separator: uint32_t = separator_of(parent, slot)
    lower: uint32_t
    joint: Joint
    path.slots[1] = slot
    lower = lower_fence(store, path, 0)
    path.slots[1] = slot + 1
    prepare_join(store, left, right, lower, separator, upper_fence(store, path, 0), cython.address(joint))
    begin_write(parent)
    begin_write(left)
    begin_write(right)
    apply_join(left, cython.address(joint))
    remove_slot(parent, slot)
    if parent.count == 0:
        parent.skip = 0
    end_write(tree, right)
    end_write(tree, left)
    end_write(tree, parent)
    if tree.tail == number:
        tree.tail = child_of(parent, slot)
    store.free_blob(separator)
    store.free_node(number)
    finish_join(store, log, left, cython.address(joint))


def merge_leaf(store, log, path):
    leaf: cython.pointer(Node) = node_at(store.base, path.nodes[0])
    parent: cython.pointer(Node)
    slot: uint32_t
    if path.height == 1:
        return
    parent = node_at(store.base, path.nodes[1])
    slot = path.slots[1]
    if slot > 0 and can_join(node_at(store.base, child_of(parent, slot - 1)), leaf):
        _join(store, log, path, slot - 1)
    elif slot < parent.count and can_join(leaf, node_at(store.base, child_of(parent, slot + 1))):
        _join(store, log, path, slot)
    else:
        return
    merge_inner(store, path, 1)
