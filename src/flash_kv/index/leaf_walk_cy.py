"""What a walk does with one leaf, for the ordered indexes: where it begins, and its entries copied and validated."""

import cython
from cython.cimports.flash_kv.index.btree_inner_cy import prefix_order, readable_blob
from cython.cimports.flash_kv.index.btree_leaf_cy import SEEK_FAILED, SEEK_FOUND, SeekResult, seek_slot
from cython.cimports.flash_kv.index.btree_node import NODE_SLOTS, Node, leaf_head, mix_key
from cython.cimports.flash_kv.index.leaf_reader_cy import is_unchanged
from cython.cimports.flash_kv.index.leaf_walk_cy import WALK_FAILED, WALK_RESTART
from cython.cimports.flash_kv.intrinsics import load_fenced64
from cython.cimports.flash_kv.log.table_cy import Key
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t


def seek_leaf(store, log, leaf, state):
    node: cython.pointer(Node) = leaf.node
    slot: uint32_t = 0
    key: Key
    prefix: cython.pointer(cython.const[uint8_t])
    size: uint32_t = 0
    order: cython.int = 0
    head: uint64_t
    result: SeekResult
    key.data = state.key
    key.size = state.key_size
    if not state.has_key:
        return node.count if state.is_reverse else 0
    if node.skip > node.fence_skip:
        prefix = readable_blob(store.tree, store.blobs, node.prefix, cython.address(size))
        if prefix == cython.NULL or size < node.skip:
            return WALK_RESTART
        order = prefix_order(prefix, node.skip, cython.address(key))
        if order != 0:
            return 0 if order < 0 else node.count
    head = leaf_head(key.data, key.size, node.skip, mix_key(key.data, key.size))
    result = seek_slot(log, node, cython.address(key), head, cython.address(slot))
    if result == SEEK_FAILED:
        if not is_unchanged(leaf):
            return WALK_RESTART
        state.error = key.error
        state.bad_position = key.bad_position
        return WALK_FAILED
    if result == SEEK_FOUND and state.is_started and not state.is_reverse:
        slot += 1
    return slot


def copy_leaf(leaf, slot, is_reverse, entries, capacity):
    node: cython.pointer(Node) = leaf.node
    count: uint32_t = min(cython.cast(uint32_t, node.count), cython.cast(uint32_t, NODE_SLOTS))
    taken: uint32_t
    i: uint32_t
    slot = min(slot, count)
    taken = slot if is_reverse else count - slot
    if taken > capacity:
        taken = cython.cast(uint32_t, capacity)
    if is_reverse:
        for i in range(taken):
            entries[i] = load_fenced64(cython.address(node.slots[slot - 1 - i].value))
    else:
        for i in range(taken):
            entries[i] = load_fenced64(cython.address(node.slots[slot + i].value))
    if not is_unchanged(leaf):
        return WALK_RESTART
    return taken
