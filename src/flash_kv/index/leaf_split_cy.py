"""Splitting a full leaf, for the ordered indexes.

The separator is the shortest string that tells the keys on both sides apart, so the cut is made near the middle where
the neighbours differ first. At the two ends of the index, where keys arrive in order, the full leaf stays as it is and
an empty one is begun beside it: loading in order fills every leaf.
"""

import cython
from cython.cimports.flash_kv.index.btree_inner_cy import fence_prefix
from cython.cimports.flash_kv.index.btree_leaf_cy import Loaded, load_verified, lower_skip
from cython.cimports.flash_kv.index.btree_node import (
    TAG_BITS,
    Node,
    common_prefix,
    fill_node,
    head_of,
    is_tied,
    leading_zeros,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.index.leaf_split_cy import Separator
from cython.cimports.flash_kv.log.table_cy import Key, TableState
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.stdlib import free

# How far from the middle a leaf is cut to get a shorter separator.
CUT_RANGE = cython.declare(uint32_t, 4)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _best_cut(leaf: cython.pointer(cython.const[Node])) -> uint32_t:
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


def choose_cut(leaf, slot, is_first, is_last):
    # At the edges of the index keys arrive in order: leave the full leaf as it is and begin another one.
    if is_last and slot == leaf.count:
        return leaf.count
    if is_first and slot == 0:
        return 0
    return _best_cut(leaf)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _separator_from_log(
    log: cython.pointer(TableState),
    leaf: cython.pointer(Node),
    key: cython.pointer(Key),
    cut: uint32_t,
    separator: cython.pointer(Separator),
) -> cython.bint:
    """As `find_separator`, when the heads on both sides of the cut are equal."""
    left: Loaded
    right: Loaded
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
        separator.data = right.data
        separator.size = common_prefix(left.data, left.size, right.data, right.size) + 1
    free(left.buffer)
    separator.buffer = right.buffer
    return is_complete


def find_separator(log, leaf, key, cut, separator):
    left: uint64_t
    right: uint64_t
    separator.buffer = cython.NULL
    separator.tail = 0
    separator.tail_size = 0
    left = leaf.slots[cut - 1].head if cut > 0 else head_of(key.data, key.size, leaf.skip)
    right = leaf.slots[cut].head if cut < leaf.count else head_of(key.data, key.size, leaf.skip)
    if is_tied(left, right):
        return _separator_from_log(log, leaf, key, cut, separator)
    separator.data = key.data
    separator.size = leaf.skip
    separator.tail = right
    separator.tail_size = (leading_zeros(left ^ right) >> 3) + 1
    return True


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


def divide_leaf(store, leaf, right, cut, lower, middle, upper, key):
    right.skip = leaf.skip
    right.fence_skip = fence_prefix(store, middle, upper)
    fill_node(right, cython.address(leaf.slots[cut]), leaf.count - cut)
    leaf.fence_skip = fence_prefix(store, lower, middle)
    fill_node(leaf, leaf.slots, cut)
    return _share_prefix(store, leaf, right, key)
