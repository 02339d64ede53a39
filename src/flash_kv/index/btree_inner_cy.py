"""Inner nodes of a B-tree: separators between children.

A separator is the shortest string that tells the greatest key on its left from the smallest on its right, kept whole
in a blob; its head in the node stands for it. The flag SEPARATOR_EXACT beside the number of the blob says that the
head holds all that follows `skip` (and its last byte is not zero, so padding cannot be mistaken for it): a key with
the same head is then not below the separator, and the blob need not be read.

All separators of a node share their first `skip` bytes; when `skip > fence_skip` a key that arrives need not, and is
compared with those bytes of the first separator.

Every change is one step: the nodes concerned are marked as being written, from the top down, changed, and released.
A node that is not full is what a split below it needs, so splits go from the top down as well.
"""

import cython
from cython.cimports.flash_kv.index.btree_inner_cy import prefix_order, readable_blob
from cython.cimports.flash_kv.index.btree_node import (
    NODE_SLOTS,
    NODE_SLOTS_MERGED,
    NODE_SLOTS_MIN,
    SEPARATOR_EXACT,
    SKIP_MAX,
    Blob,
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
    head_of,
    insert_slot,
    node_at,
    remove_slot,
    separator_of,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.intrinsics import fence_release, store_release64
from cython.cimports.flash_kv.log.table_cy import Key
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_below(
    tree: cython.pointer(Tree), blobs: cython.pointer(uint8_t), ref: uint32_t, key: cython.pointer(Key)
) -> cython.bint:
    """Is the key below a separator that has the same head?"""
    separator: cython.pointer(cython.const[uint8_t])
    size: uint32_t = 0
    if ref & SEPARATOR_EXACT:
        return False
    separator = readable_blob(tree, blobs, ref, cython.address(size))
    return separator != cython.NULL and prefix_order(separator, size, key) < 0


def route_tie(tree, blobs, node, key, bound):
    low: uint32_t = bound - 1
    middle: uint32_t
    while low > 0 and node.slots[low - 1].head == node.slots[bound - 1].head:
        low -= 1
    while low < bound:
        middle = (low + bound) // 2
        if _is_below(tree, blobs, separator_of(node, middle), key):
            bound = middle
        else:
            low = middle + 1
    return low


def lower_fence(store, path, level):
    slot: uint32_t
    above: uint32_t
    for above in range(level + 1, path.height):
        slot = path.slots[above]
        if slot > 0:
            return separator_of(node_at(store.base, path.nodes[above]), slot - 1)
    return 0


def upper_fence(store, path, level):
    slot: uint32_t
    node: cython.pointer(Node)
    above: uint32_t
    for above in range(level + 1, path.height):
        slot = path.slots[above]
        node = node_at(store.base, path.nodes[above])
        if slot < node.count:
            return separator_of(node, slot)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _common(store: NodeStore, a: uint32_t, b: uint32_t) -> uint32_t:
    left: cython.pointer(Blob) = blob_at(store.blobs, a)
    right: cython.pointer(Blob) = blob_at(store.blobs, b)
    return common_prefix(blob_data(left), left.size, blob_data(right), right.size)


def fence_prefix(store, lower, upper):
    """The bytes that every key between two separators shares; 0 when one of them is missing."""
    if lower == 0 or upper == 0:
        return 0
    return min(_common(store, lower, upper), cython.cast(uint32_t, SKIP_MAX))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _separator_slot(store: NodeStore, skip: uint32_t, ref: uint32_t, child: uint32_t) -> Slot:
    """The slot for a separator and the child on its right, in a node with this `skip`."""
    blob: cython.pointer(Blob) = blob_at(store.blobs, ref)
    slot: Slot
    ref &= ~SEPARATOR_EXACT
    if skip < blob.size <= skip + 8 and blob_data(blob)[blob.size - 1] != 0:
        ref |= SEPARATOR_EXACT
    slot.head = head_of(blob_data(blob), blob.size, skip)
    slot.value = cython.cast(uint64_t, ref) << 32 | child
    return slot


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _set_skip(store: NodeStore, node: cython.pointer(Node), skip: uint32_t) -> cython.void:
    """Requires: the node is being written, and all its separators share `skip` bytes."""
    slots: Slot[58]
    i: uint32_t
    for i in range(node.count):
        slots[i] = _separator_slot(store, skip, separator_of(node, i), child_of(node, i + 1))
    node.skip = skip
    fill_node(node, slots, node.count)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _has_room_to_skip(store: NodeStore, node: cython.pointer(Node)) -> cython.bint:
    """Are there two equal heads, or separators of which the head shows only a part?"""
    i: uint32_t
    for i in range(node.count):
        if not separator_of(node, i) & SEPARATOR_EXACT or (
            i > 0 and node.slots[i].head == node.slots[i - 1].head
        ):
            return True
    return False


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _raise_skip(store: NodeStore, node: cython.pointer(Node)) -> cython.void:
    """Skip all that the separators share, when that makes the heads tell more. Requires: the node is being written."""
    skip: uint32_t
    if node.count == 0:
        node.skip = 0
        return
    if not _has_room_to_skip(store, node):
        return
    skip = _common(store, separator_of(node, 0), separator_of(node, node.count - 1))
    # With one separator, or one that begins the others, something must stay to be compared.
    skip = min(skip, blob_at(store.blobs, separator_of(node, 0)).size - 1)
    if skip > node.skip:
        _set_skip(store, node, skip)


def insert_separator(store, node, slot, ref, child):
    """Put a separator, with `child` on its right, into an inner node that is not full and is being written."""
    new: Slot
    skip: uint32_t
    if node.count == 0:
        node.skip = node.fence_skip
    else:
        skip = _common(store, ref, separator_of(node, 0))
        if skip < node.skip:
            _set_skip(store, node, skip)
    new = _separator_slot(store, node.skip, ref, child)
    insert_slot(node, slot, new.head, new.value)
    _raise_skip(store, node)


def grow_root(store, path):
    """A new root above the old one, with it as the only child: 0, or -1 when memory is short."""
    tree: cython.pointer(Tree) = store.tree
    number: uint32_t = store.new_node(tree.height)
    node: cython.pointer(Node)
    if number == 0:
        return -1
    node = node_at(store.base, number)
    node.first = tree.root
    end_write(tree, node)
    store_release64(cython.address(tree.version), tree.version | 1)
    fence_release()
    tree.root = number
    tree.height += 1
    tree.clock += 2
    store_release64(cython.address(tree.version), tree.clock)
    path.nodes[path.height] = number
    path.slots[path.height] = 0
    path.height += 1
    return 0


def split_inner(store, path, level):
    """Split the full inner node at `level` of the path; its parent is not full. 0, or -1 when memory is short."""
    tree: cython.pointer(Tree) = store.tree
    node: cython.pointer(Node) = node_at(store.base, path.nodes[level])
    parent: cython.pointer(Node) = node_at(store.base, path.nodes[level + 1])
    lower: uint32_t = lower_fence(store, path, level)
    upper: uint32_t = upper_fence(store, path, level)
    number: uint32_t = store.new_node(node.level)
    right: cython.pointer(Node)
    cut: uint32_t = node.count // 2
    ref: uint32_t
    if number == 0:
        return -1
    if upper == 0 and path.slots[level] == node.count:
        # Keys arrive in ascending order: leave the left node full.
        cut = node.count - 2
    right = node_at(store.base, number)
    ref = separator_of(node, cut) & ~SEPARATOR_EXACT
    begin_write(parent)
    begin_write(node)
    right.first = child_of(node, cut + 1)
    right.skip = node.skip
    right.fence_skip = fence_prefix(store, ref, upper)
    fill_node(right, cython.address(node.slots[cut + 1]), node.count - cut - 1)
    node.fence_skip = fence_prefix(store, lower, ref)
    fill_node(node, node.slots, cut)
    insert_separator(store, parent, path.slots[level + 1], ref, number)
    _raise_skip(store, right)
    _raise_skip(store, node)
    end_write(tree, right)
    end_write(tree, node)
    end_write(tree, parent)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _collapse_root(store: NodeStore) -> cython.void:
    """An inner root with one child gives way to it."""
    tree: cython.pointer(Tree) = store.tree
    old: uint32_t = tree.root
    store_release64(cython.address(tree.version), tree.version | 1)
    fence_release()
    tree.root = node_at(store.base, old).first
    tree.height -= 1
    tree.clock += 2
    store_release64(cython.address(tree.version), tree.clock)
    store.free_node(old)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _join(store: NodeStore, path: cython.pointer(Path), level: uint32_t, slot: uint32_t) -> cython.void:
    """Make the children `slot` and `slot + 1` of the node at `level + 1` one."""
    tree: cython.pointer(Tree) = store.tree
    parent: cython.pointer(Node) = node_at(store.base, path.nodes[level + 1])
    number: uint32_t = child_of(parent, slot + 1)
    left: cython.pointer(Node) = node_at(store.base, child_of(parent, slot))
    right: cython.pointer(Node) = node_at(store.base, number)
    slots: Slot[58]
    count: uint32_t = left.count
    lower: uint32_t
    path.slots[level + 1] = slot
    lower = lower_fence(store, path, level)
    path.slots[level + 1] = slot + 1
    begin_write(parent)
    begin_write(left)
    begin_write(right)
    memcpy(slots, left.slots, count * cython.sizeof(Slot))
    slots[count].head = 0
    slots[count].value = cython.cast(uint64_t, separator_of(parent, slot)) << 32 | right.first
    memcpy(cython.address(slots[count + 1]), right.slots, right.count * cython.sizeof(Slot))
    left.fence_skip = fence_prefix(store, lower, upper_fence(store, path, level))
    fill_node(left, slots, count + 1 + right.count)
    _set_skip(store, left, left.fence_skip)
    _raise_skip(store, left)
    remove_slot(parent, slot)
    path.slots[level + 1] = slot
    if parent.count == 0:
        parent.skip = 0
    end_write(tree, right)
    end_write(tree, left)
    end_write(tree, parent)
    store.free_node(number)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _can_join(left: cython.pointer(Node), right: cython.pointer(Node)) -> cython.bint:
    limit: cython.int = NODE_SLOTS_MERGED
    if left.count == 0 or right.count == 0:
        limit = NODE_SLOTS
    return left.count + right.count + 1 <= limit


def merge_inner(store, path, level):
    """The inner node at `level` lost a child: join it with a neighbour if it became small, and so on upwards."""
    node: cython.pointer(Node)
    parent: cython.pointer(Node)
    slot: uint32_t
    while level + 1 < path.height:
        node = node_at(store.base, path.nodes[level])
        if node.count >= NODE_SLOTS_MIN:
            return
        parent = node_at(store.base, path.nodes[level + 1])
        slot = path.slots[level + 1]
        if slot > 0 and _can_join(node_at(store.base, child_of(parent, slot - 1)), node):
            _join(store, path, level, slot - 1)
        elif slot < parent.count and _can_join(node, node_at(store.base, child_of(parent, slot + 1))):
            _join(store, path, level, slot)
        else:
            return
        level += 1
    while store.tree.height > 1 and node_at(store.base, store.tree.root).count == 0:
        _collapse_root(store)
