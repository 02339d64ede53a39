"""Joining leaves that became small, for the ordered indexes.

Two neighbours become one when what they hold leaves room; an empty leaf always gives way. Their heads may begin at
different places of the key: they are lowered to the least, and raised again if that makes two equal.
"""

import cython
from cython.cimports.flash_kv.index.btree_inner_cy import fence_prefix
from cython.cimports.flash_kv.index.btree_leaf_cy import Bytes, lower_heads, raise_leaf
from cython.cimports.flash_kv.index.btree_node import (
    NODE_SLOTS,
    NODE_SLOTS_MERGED,
    Node,
    Slot,
    blob_at,
    blob_data,
    common_prefix,
    fill_node,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
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


def can_join(left, right):
    limit: uint32_t = NODE_SLOTS_MERGED
    if left.count == 0 or right.count == 0:
        limit = NODE_SLOTS
    return cython.cast(uint32_t, left.count) + right.count <= limit


def prepare_join(store, left, right, lower, separator, upper, joint):
    skip: uint32_t = _joined_skip(store, left, right, separator)
    source: Bytes = _prefix_of(store, right if left.count == 0 else left, separator)
    joint.is_lowered = skip < left.skip or skip < right.skip
    joint.fence_skip = fence_prefix(store, lower, upper)
    joint.prefix = 0
    if skip > joint.fence_skip:
        joint.prefix = store.new_blob(source, skip, 0, 0)
        if joint.prefix == 0:
            skip = joint.fence_skip
    joint.skip = skip
    joint.count = left.count + right.count
    joint.unused[0] = left.prefix
    joint.unused[1] = right.prefix
    _gather(store, left, right, separator, skip, joint.slots)


def apply_join(left, joint):
    left.skip = joint.skip
    left.fence_skip = joint.fence_skip
    left.prefix = joint.prefix
    fill_node(left, joint.slots, joint.count)


def finish_join(store, log, left, joint):
    store.free_blob(joint.unused[0])
    store.free_blob(joint.unused[1])
    if joint.is_lowered:
        raise_leaf(store, log, left)
