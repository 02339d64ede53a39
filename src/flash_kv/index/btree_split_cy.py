"""Splitting a full leaf of a B-tree.

The separator is the shortest string that tells the keys on both sides apart, so the cut is made near the middle where
the neighbours differ first. At the two ends of the tree, where keys arrive in order, the full leaf stays as it is and
an empty one is begun beside it: loading in order fills every leaf.
"""

import cython
from cython.cimports.flash_kv.index.btree_inner_cy import (
    fence_prefix,
    insert_separator,
    lower_fence,
    upper_fence,
)
from cython.cimports.flash_kv.index.btree_leaf_cy import (
    Loaded,
    load_verified,
    lower_skip,
)
from cython.cimports.flash_kv.index.btree_node import (
    TAG_BITS,
    Node,
    Tree,
    begin_write,
    common_prefix,
    end_write,
    fill_node,
    head_of,
    is_tied,
    leading_zeros,
    node_at,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.log.table_cy import Key, TableState
from cython.cimports.libc.errno import ENOMEM
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.stdlib import free

# How far from the middle a leaf is cut to get a shorter separator.
CUT_RANGE = cython.declare(uint32_t, 4)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _best_cut(leaf: cython.pointer(Node)) -> uint32_t:
    """Near the middle, between the two neighbours that differ first."""
    middle: uint32_t = leaf.count // 2
    best: uint32_t = middle
    shared: uint32_t
    least: uint32_t = 9
    distance: uint32_t
    cut: uint32_t
    side: cython.int
    difference: uint64_t
    for distance in range(CUT_RANGE + 1):
        for side in range(2):
            cut = middle - distance if side else middle + distance
            difference = (leaf.slots[cut - 1].head ^ leaf.slots[cut].head) >> TAG_BITS
            shared = (leading_zeros(difference) - TAG_BITS) >> 3 if difference != 0 else 8
            if shared < least:
                least = shared
                best = cut
    return best


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _separator_from_log(
    store: NodeStore,
    log: cython.pointer(TableState),
    leaf: cython.pointer(Node),
    key: cython.pointer(Key),
    cut: uint32_t,
) -> uint32_t:
    """As `_separator`, when the heads on both sides of the cut are equal."""
    left: Loaded
    right: Loaded
    ref: uint32_t = 0
    size: uint32_t
    is_complete: cython.bint = True
    left.buffer = cython.NULL
    left.capacity = 0
    left.data = key.data
    left.size = key.size
    right = left
    if cut > 0:
        is_complete = load_verified(log, leaf.slots[cut - 1].value, cython.address(left), key)
    if cut < leaf.count:
        is_complete = is_complete and load_verified(log, leaf.slots[cut].value, cython.address(right), key)
    if is_complete:
        size = common_prefix(left.data, left.size, right.data, right.size) + 1
        ref = store.new_blob(right.data, size, 0, 0)
        if ref == 0:
            key.error = ENOMEM
            key.bad_position = 0
    free(left.buffer)
    free(right.buffer)
    return ref


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _separator(
    store: NodeStore,
    log: cython.pointer(TableState),
    leaf: cython.pointer(Node),
    key: cython.pointer(Key),
    cut: uint32_t,
) -> uint32_t:
    """A new blob with the shortest string above slot `cut - 1` and not above slot `cut`; `key` stands for the missing
    one at either end, and shares the leaf's skipped bytes. 0 with the reason in the key."""
    left: uint64_t
    right: uint64_t
    ref: uint32_t
    left = leaf.slots[cut - 1].head if cut > 0 else head_of(key.data, key.size, leaf.skip)
    right = leaf.slots[cut].head if cut < leaf.count else head_of(key.data, key.size, leaf.skip)
    if is_tied(left, right):
        return _separator_from_log(store, log, leaf, key, cut)
    ref = store.new_blob(key.data, leaf.skip, right, (leading_zeros(left ^ right) >> 3) + 1)
    if ref == 0:
        key.error = ENOMEM
        key.bad_position = 0
    return ref


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _share_prefix(
    store: NodeStore, left: cython.pointer(Node), right: cython.pointer(Node), key: cython.pointer(Key)
) -> uint32_t:
    """After a split give each half the prefix it needs; the blob to free. Requires: both are being written."""
    old: uint32_t = left.prefix
    if left.skip <= left.fence_skip:
        left.prefix = 0
        if right.skip <= right.fence_skip:
            return old
        right.prefix = old
    elif right.skip > right.fence_skip:
        right.prefix = store.new_blob(key.data, right.skip, 0, 0)
        if right.prefix == 0:
            lower_skip(store, right, key.data, right.fence_skip)
    return 0


def split_leaf(store, log, path, key, slot):
    tree: cython.pointer(Tree) = store.tree
    leaf: cython.pointer(Node) = node_at(store.base, path.nodes[0])
    parent: cython.pointer(Node) = node_at(store.base, path.nodes[1])
    lower: uint32_t = lower_fence(store, path, 0)
    upper: uint32_t = upper_fence(store, path, 0)
    right: cython.pointer(Node)
    number: uint32_t
    cut: uint32_t
    ref: uint32_t
    # At the edges of the tree keys arrive in order: leave the full leaf as it is and begin another one.
    if upper == 0 and slot == leaf.count:
        cut = leaf.count
    elif lower == 0 and slot == 0:
        cut = 0
    else:
        cut = _best_cut(leaf)
    ref = _separator(store, log, leaf, key, cut)
    if ref == 0:
        return -1
    number = store.new_node(0)
    if number == 0:
        store.free_blob(ref)
        key.error = ENOMEM
        key.bad_position = 0
        return -1
    right = node_at(store.base, number)
    begin_write(parent)
    begin_write(leaf)
    right.skip = leaf.skip
    right.fence_skip = fence_prefix(store, ref, upper)
    fill_node(right, cython.address(leaf.slots[cut]), leaf.count - cut)
    leaf.fence_skip = fence_prefix(store, lower, ref)
    fill_node(leaf, leaf.slots, cut)
    insert_separator(store, parent, path.slots[1], ref, number)
    ref = _share_prefix(store, leaf, right, key)
    end_write(tree, right)
    end_write(tree, leaf)
    end_write(tree, parent)
    store.free_blob(ref)
    if upper == 0:
        tree.tail = number
    return 0
