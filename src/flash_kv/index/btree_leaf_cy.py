"""Leaves of a B-tree: entries in key order.

A leaf knows 8 bytes of each key, after the `skip` bytes that all its keys share; what these do not settle is settled
by the log. `skip` starts with what the parent's separators guarantee and rises only when two keys have the same head,
so keys that differ early are never read back, and keys with long shared beginnings are read back once per raise.

When `skip > fence_skip` a key that arrives may differ within the skipped bytes. They are kept in a blob, and before a
key is inserted that does, `skip` is lowered: the heads can be made again from the blob and the old heads.

Keys read from the log to make heads or separators are verified by their checksum: a damaged byte must never decide
where a key stands.
"""

import cython
from cython.cimports.flash_kv.index.btree_inner_cy import (
    fence_prefix,
    insert_separator,
    lower_fence,
    merge_inner,
    upper_fence,
)
from cython.cimports.flash_kv.index.btree_leaf_cy import SEEK_ABSENT, SEEK_FAILED, SEEK_FOUND, SEEK_TIED, SeekResult
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
    first_equal,
    head_of,
    leading_zeros,
    node_at,
    remove_slot,
    separator_of,
    upper_bound,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.log.table_cy import (
    MATCH_YES,
    Key,
    TableState,
    compare_key,
    load_record,
    newest_position,
    record_key,
)
from cython.cimports.flash_kv.log.format import RecordHeader
from cython.cimports.libc.errno import ENOMEM
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy

Bytes = cython.typedef(cython.pointer(cython.const[uint8_t]))

# How far from the middle a leaf is cut to get a shorter separator.
CUT_RANGE = cython.declare(uint32_t, 4)


# A key read from the log, in the log's mapping or in a buffer of its own.
Loaded = cython.struct(data=cython.pointer(cython.const[uint8_t]), size=uint32_t, buffer=cython.pointer(uint8_t), capacity=uint64_t)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _load(log: cython.pointer(TableState), entry: uint64_t, loaded: cython.pointer(Loaded), key: cython.pointer(Key)) -> cython.bint:
    """Read and verify the key behind an entry; False with the reason in `key`."""
    header: cython.pointer(cython.const[RecordHeader]) = load_record(
        log,
        newest_position(log, entry),
        cython.address(loaded.buffer),
        cython.address(loaded.capacity),
        key,
    )
    if header == cython.NULL:
        return False
    loaded.data = record_key(header)
    loaded.size = header.key_size
    return True


def seek_leaf(log, leaf, key, slot):
    head: uint64_t = head_of(key.data, key.size, leaf.skip)
    bound: uint32_t = upper_bound(leaf, head)
    low: uint32_t
    middle: uint32_t
    order: cython.int = 0
    slot[0] = bound
    if bound == 0 or leaf.slots[bound - 1].head != head:
        return SEEK_ABSENT
    low = first_equal(leaf, bound - 1)
    while low < bound:
        middle = (low + bound) // 2
        if compare_key(log, leaf.slots[middle].value, key, cython.address(order)) != MATCH_YES:
            return SEEK_FAILED
        if order == 0:
            slot[0] = middle
            return SEEK_FOUND
        if order < 0:
            bound = middle
        else:
            low = middle + 1
    slot[0] = low
    return SEEK_TIED


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _lower_heads(slots: cython.pointer(Slot), count: uint32_t, prefix: Bytes, skip: uint32_t, lower: uint32_t) -> cython.void:
    """Make heads after `skip` bytes into heads after `lower` bytes."""
    lead: uint64_t = head_of(prefix, skip, lower)
    shift: uint32_t = 8 * (skip - lower)
    i: uint32_t
    if skip == lower:
        return
    for i in range(count):
        slots[i].head = lead | (slots[i].head >> shift if shift < 64 else 0)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _lower_skip(store: NodeStore, leaf: cython.pointer(Node), prefix: Bytes, skip: uint32_t) -> cython.void:
    """Requires: the leaf is being written."""
    _lower_heads(leaf.slots, leaf.count, prefix, leaf.skip, skip)
    leaf.skip = skip
    fill_node(leaf, leaf.slots, leaf.count)


def admit(store, leaf, key):
    """Make sure that the key shares the first `skip` bytes of the leaf."""
    prefix: Bytes
    skip: uint32_t
    old: uint32_t = leaf.prefix
    if leaf.skip <= leaf.fence_skip:
        return
    prefix = blob_data(blob_at(store.blobs, old))
    skip = common_prefix(prefix, leaf.skip, key.data, key.size)
    if skip == leaf.skip:
        return
    begin_write(leaf)
    _lower_skip(store, leaf, prefix, skip)
    if skip <= leaf.fence_skip:
        leaf.prefix = 0
    end_write(store.tree, leaf)
    if leaf.prefix == 0:
        store.free_blob(old)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _can_skip_more(leaf: cython.pointer(Node)) -> cython.bint:
    difference: uint64_t
    if leaf.count < 2:
        return False
    difference = leaf.slots[0].head ^ leaf.slots[leaf.count - 1].head
    return difference == 0 or leading_zeros(difference) >= 8


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _apply_skip(
    store: NodeStore, log: cython.pointer(TableState), leaf: cython.pointer(Node), first: cython.pointer(Loaded), skip: uint32_t
) -> cython.void:
    """Make all heads again after `skip` bytes, which the first key tells. Nothing changes when a key cannot be read:
    who looks for that key will be told."""
    slots: Slot[58]
    loaded: Loaded
    ignored: Key
    old: uint32_t = leaf.prefix
    prefix: uint32_t = 0
    i: uint32_t
    is_complete: cython.bint = True
    loaded.buffer = cython.NULL
    loaded.capacity = 0
    if skip > leaf.fence_skip:
        prefix = store.new_blob(first.data, skip, 0, 0)
        if prefix == 0:
            return
    for i in range(leaf.count):
        slots[i].value = leaf.slots[i].value
        is_complete = is_complete and _load(log, slots[i].value, cython.address(loaded), cython.address(ignored))
        if not is_complete:
            break
        slots[i].head = head_of(loaded.data, loaded.size, skip)
    free(loaded.buffer)
    if not is_complete:
        store.free_blob(prefix)
        return
    begin_write(leaf)
    leaf.skip = skip
    leaf.prefix = prefix
    fill_node(leaf, slots, leaf.count)
    end_write(store.tree, leaf)
    store.free_blob(old)


def raise_leaf(store, log, leaf):
    """Skip more of what all keys share. To be called when two heads are equal; does nothing if it would not help."""
    first: Loaded
    last: Loaded
    ignored: Key
    skip: uint32_t
    if not _can_skip_more(leaf):
        return
    first.buffer = cython.NULL
    first.capacity = 0
    last.buffer = cython.NULL
    last.capacity = 0
    if _load(log, leaf.slots[0].value, cython.address(first), cython.address(ignored)) and _load(
        log, leaf.slots[leaf.count - 1].value, cython.address(last), cython.address(ignored)
    ):
        skip = common_prefix(first.data, first.size, last.data, last.size)
        if leaf.skip < leaf.fence_skip:
            # As far as the separators guarantee first: that needs no blob and no comparison.
            skip = min(skip, leaf.fence_skip)
        if skip > leaf.skip:
            _apply_skip(store, log, leaf, cython.address(first), skip)
    free(first.buffer)
    free(last.buffer)


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
            difference = leaf.slots[cut - 1].head ^ leaf.slots[cut].head
            shared = leading_zeros(difference) >> 3 if difference != 0 else 8
            if shared < least:
                least = shared
                best = cut
    return best


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _separator_from_log(
    store: NodeStore, log: cython.pointer(TableState), leaf: cython.pointer(Node), key: cython.pointer(Key), cut: uint32_t
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
        is_complete = _load(log, leaf.slots[cut - 1].value, cython.address(left), key)
    if cut < leaf.count:
        is_complete = is_complete and _load(log, leaf.slots[cut].value, cython.address(right), key)
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
    store: NodeStore, log: cython.pointer(TableState), leaf: cython.pointer(Node), key: cython.pointer(Key), cut: uint32_t
) -> uint32_t:
    """A new blob with the shortest string above slot `cut - 1` and not above slot `cut`; `key` stands for the missing
    one at either end, and shares the leaf's skipped bytes. 0 with the reason in the key."""
    left: uint64_t
    right: uint64_t
    ref: uint32_t
    left = leaf.slots[cut - 1].head if cut > 0 else head_of(key.data, key.size, leaf.skip)
    right = leaf.slots[cut].head if cut < leaf.count else head_of(key.data, key.size, leaf.skip)
    if left == right:
        return _separator_from_log(store, log, leaf, key, cut)
    ref = store.new_blob(key.data, leaf.skip, right, (leading_zeros(left ^ right) >> 3) + 1)
    if ref == 0:
        key.error = ENOMEM
        key.bad_position = 0
    return ref


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _share_prefix(store: NodeStore, left: cython.pointer(Node), right: cython.pointer(Node), key: cython.pointer(Key)) -> uint32_t:
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
            _lower_skip(store, right, key.data, right.fence_skip)
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
def _joined_skip(store: NodeStore, left: cython.pointer(Node), right: cython.pointer(Node), separator: uint32_t) -> uint32_t:
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
def _join(store: NodeStore, log: cython.pointer(TableState), path: cython.pointer(Path), slot: uint32_t) -> cython.void:
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
    memcpy(slots, left.slots, left.count * cython.sizeof(Slot))
    memcpy(cython.address(slots[left.count]), right.slots, right.count * cython.sizeof(Slot))
    if left.count:
        _lower_heads(slots, left.count, _prefix_of(store, left, separator), left.skip, skip)
    if right.count:
        _lower_heads(cython.address(slots[left.count]), right.count, _prefix_of(store, right, separator), right.skip, skip)
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
