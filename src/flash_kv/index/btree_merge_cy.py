"""Joining leaves of a B-tree that became small.

Two neighbours under one parent become one when what they hold leaves room; an empty leaf always gives way. Their heads
may begin at different places of the key: they are lowered to the least, and raised again if that makes two equal.
"""

import cython
from cython.cimports.flash_kv.index.btree_inner_cy import (
    fence_prefix,
    lower_fence,
    merge_inner,
    upper_fence,
)
from cython.cimports.flash_kv.index.btree_leaf_cy import (
    Bytes,
    lower_heads,
    raise_leaf,
)
from cython.cimports.flash_kv.index.btree_node import (
    NODE_SLOTS,
    NODE_SLOTS_MERGED,
    Node,
    Path,
    Slot,
    Tree,
    begin_write,
    blob_at,
    blob_data,
    child_of,
    common_prefix,
    end_write,
    fill_node,
    node_at,
    remove_slot,
    separator_of,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.log.table_cy import TableState
from cython.cimports.libc.stdint import uint32_t
from cython.cimports.libc.string import memcpy


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _prefix_of(store: NodeStore, leaf: cython.pointer(Node), separator: uint32_t) -> Bytes:
    """The bytes that a leaf skips, from its blob or from a separator beside it."""
    if leaf.skip > leaf.fence_skip:
        return blob_data(blob_at(store.blobs, leaf.prefix))
    return blob_data(blob_at(store.blobs, separator))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _joined_skip(
    store: NodeStore, left: cython.pointer(Node), right: cython.pointer(Node), separator: uint32_t
) -> uint32_t:
    """The leading bytes that the keys of two neighbours share and that both skip."""
    if right.count == 0:
        return left.skip
    if left.count == 0:
        return right.skip
    return common_prefix(
        _prefix_of(store, left, separator), left.skip, _prefix_of(store, right, separator), right.skip
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _gather(
    store: NodeStore,
    left: cython.pointer(Node),
    right: cython.pointer(Node),
    separator: uint32_t,
    skip: uint32_t,
    slots: cython.pointer(Slot),
) -> cython.void:
    """The slots of two neighbours, with heads after `skip` bytes."""
    memcpy(slots, left.slots, left.count * cython.sizeof(Slot))
    memcpy(slots + left.count, right.slots, right.count * cython.sizeof(Slot))
    if left.count:
        lower_heads(slots, left.count, _prefix_of(store, left, separator), left.skip, skip)
    if right.count:
        lower_heads(slots + left.count, right.count, _prefix_of(store, right, separator), right.skip, skip)


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
    slots: Slot[58]
    lower: uint32_t
    fence: uint32_t
    prefix: uint32_t = 0
    unused_left: uint32_t = left.prefix
    unused_right: uint32_t = right.prefix
    source: Bytes
    skip: uint32_t = _joined_skip(store, left, right, separator)
    is_lowered: cython.bint = skip < left.skip or skip < right.skip
    path.slots[1] = slot
    lower = lower_fence(store, path, 0)
    path.slots[1] = slot + 1
    fence = fence_prefix(store, lower, upper_fence(store, path, 0))
    source = _prefix_of(store, right if left.count == 0 else left, separator)
    if skip > fence:
        prefix = store.new_blob(source, skip, 0, 0)
        if prefix == 0:
            skip = fence
    _gather(store, left, right, separator, skip, slots)
    begin_write(parent)
    begin_write(left)
    begin_write(right)
    left.skip = skip
    left.fence_skip = fence
    left.prefix = prefix
    fill_node(left, slots, left.count + right.count)
    remove_slot(parent, slot)
    if parent.count == 0:
        parent.skip = 0
    end_write(tree, right)
    end_write(tree, left)
    end_write(tree, parent)
    if tree.tail == number:
        tree.tail = child_of(parent, slot)
    store.free_blob(separator)
    store.free_blob(unused_left)
    store.free_blob(unused_right)
    store.free_node(number)
    if is_lowered:
        raise_leaf(store, log, left)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _can_join(left: cython.pointer(Node), right: cython.pointer(Node)) -> cython.bint:
    limit: uint32_t = NODE_SLOTS_MERGED
    if left.count == 0 or right.count == 0:
        limit = NODE_SLOTS
    return cython.cast(uint32_t, left.count) + right.count <= limit


def merge_leaf(store, log, path):
    leaf: cython.pointer(Node) = node_at(store.base, path.nodes[0])
    parent: cython.pointer(Node)
    slot: uint32_t
    if path.height == 1:
        return
    parent = node_at(store.base, path.nodes[1])
    slot = path.slots[1]
    if slot > 0 and _can_join(node_at(store.base, child_of(parent, slot - 1)), leaf):
        _join(store, log, path, slot - 1)
    elif slot < parent.count and _can_join(leaf, node_at(store.base, child_of(parent, slot + 1))):
        _join(store, log, path, slot)
    else:
        return
    merge_inner(store, path, 1)
