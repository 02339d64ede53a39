"""Ordered walks over a B-tree, forwards and backwards, beside a writer and without a lock.

A call descends to its starting key and remembers the way: nodes, their versions, and which child it took. It copies
leaf after leaf and validates each copy; the next leaf is found through the deepest node of the way that has another
child in the direction of the walk. As that node is validated to be unchanged since the descent, the leaves taken are
neighbours, and a key that is present all the while is in one of them. When something did change, a call that has
entries returns them, and one that has none starts over.
"""

import cython
from cython.cimports.flash_kv.index.btree_inner_cy import prefix_order, readable_blob, route
from cython.cimports.flash_kv.index.btree_leaf_cy import SEEK_FAILED, SEEK_FOUND, SeekResult, seek_slot
from cython.cimports.flash_kv.index.btree_node import (
    HEIGHT_MAX,
    NODE_SLOTS,
    Node,
    Tree,
    child_of,
    leaf_head,
    mix_key,
    node_at,
    prefetch_hints,
    prefetch_lines,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.index.index_cy import Walk
from cython.cimports.flash_kv.intrinsics import fence_acquire, load_acquire64, load_fenced64, load_relaxed64
from cython.cimports.flash_kv.log.table_cy import Key, TableState
from cython.cimports.libc.stdint import int64_t, uint8_t, uint32_t, uint64_t
from cython.cimports.posix.unistd import usleep

# The way of a walk: nodes by level, the leaf at 0, as they were when `versions` were read.
Way = cython.struct(
    height=uint32_t,
    root_version=uint64_t,
    nodes=cython.pointer(Node)[16],
    versions=uint64_t[16],
    slots=uint32_t[16],
)

# Leaves fetched before they are needed: copying one takes a third of the time that memory takes to bring it.
LOOK_AHEAD = cython.declare(uint32_t, 3)

RESTART = cython.declare(int64_t, -1)
FAILED = cython.declare(int64_t, -2)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _is_unchanged(way: cython.pointer(Way), level: uint32_t) -> cython.bint:
    fence_acquire()
    return load_acquire64(cython.address(way.nodes[level].version)) == way.versions[level]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _begin(
    tree: cython.pointer(Tree), base: cython.pointer(uint8_t), way: cython.pointer(Way)
) -> cython.bint:
    """Take the root; False when it changes just now. Height 0: the tree is empty."""
    number: uint32_t
    level: uint32_t
    way.root_version = load_acquire64(cython.address(tree.version))
    way.height = tree.height
    number = tree.root
    if way.root_version & 1 or way.height > HEIGHT_MAX or number >= tree.nodes_size:
        return False
    if way.height == 0:
        fence_acquire()
        return load_relaxed64(cython.address(tree.version)) == way.root_version
    level = way.height - 1
    way.nodes[level] = node_at(base, number)
    way.versions[level] = load_acquire64(cython.address(way.nodes[level].version))
    fence_acquire()
    return load_relaxed64(cython.address(tree.version)) == way.root_version and not way.versions[level] & 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _enter(
    tree: cython.pointer(Tree), base: cython.pointer(uint8_t), way: cython.pointer(Way), level: uint32_t
) -> cython.bint:
    """Take the child that `slots[level]` says; False when the node changed."""
    number: uint32_t
    child: cython.pointer(Node)
    if way.slots[level] > NODE_SLOTS:
        return False
    number = child_of(way.nodes[level], way.slots[level])
    if number >= tree.nodes_size:
        return False
    child = node_at(base, number)
    prefetch_hints(child)
    way.nodes[level - 1] = child
    way.versions[level - 1] = load_acquire64(cython.address(child.version))
    return _is_unchanged(way, level) and not way.versions[level - 1] & 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _look_ahead(
    tree: cython.pointer(Tree),
    base: cython.pointer(uint8_t),
    way: cython.pointer(Way),
    is_reverse: cython.bint,
    distance: uint32_t,
) -> cython.void:
    """Bring in the leaf that is `distance` further on under the same parent."""
    node: cython.pointer(Node) = way.nodes[1]
    slot: uint32_t = way.slots[1]
    number: uint32_t
    if way.height < 2 or (slot < distance if is_reverse else slot + distance > node.count):
        return
    slot = slot - distance if is_reverse else slot + distance
    if slot <= NODE_SLOTS:
        number = child_of(node, slot)
        if number < tree.nodes_size:
            prefetch_lines(node_at(base, number), 0, 15)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _seek(
    store: NodeStore, log: cython.pointer(TableState), way: cython.pointer(Way), state: cython.pointer(Walk)
) -> int64_t:
    """The slot to begin at, in the leaf of the way; going backwards, the slot after it."""
    tree: cython.pointer(Tree) = store.tree
    leaf: cython.pointer(Node)
    level: uint32_t = way.height - 1
    slot: uint32_t = 0
    key: Key
    prefix: cython.pointer(cython.const[uint8_t])
    size: uint32_t = 0
    order: cython.int = 0
    head: uint64_t
    result: SeekResult
    key.data = state.key
    key.size = state.key_size
    while level > 0:
        if state.has_key:
            way.slots[level] = route(tree, store.blobs, way.nodes[level], cython.address(key))
        else:
            way.slots[level] = way.nodes[level].count if state.is_reverse else 0
        if not _enter(tree, store.base, way, level):
            return RESTART
        level -= 1
    leaf = way.nodes[0]
    if not state.has_key:
        return leaf.count if state.is_reverse else 0
    if leaf.skip > leaf.fence_skip:
        prefix = readable_blob(tree, store.blobs, leaf.prefix, cython.address(size))
        if prefix == cython.NULL or size < leaf.skip:
            return RESTART
        order = prefix_order(prefix, leaf.skip, cython.address(key))
        if order != 0:
            return 0 if order < 0 else leaf.count
    head = leaf_head(key.data, key.size, leaf.skip, mix_key(key.data, key.size))
    result = seek_slot(log, leaf, cython.address(key), head, cython.address(slot))
    if result == SEEK_FAILED:
        if not _is_unchanged(way, 0):
            return RESTART
        state.error = key.error
        state.bad_position = key.bad_position
        return FAILED
    if result == SEEK_FOUND and state.is_started and not state.is_reverse:
        slot += 1
    return slot


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _next_leaf(
    store: NodeStore, way: cython.pointer(Way), is_reverse: cython.bint, is_end: cython.pointer(cython.bint)
) -> cython.bint:
    """Go to the neighbour leaf; False when a node of the way changed. Sets `is_end` when there is none."""
    level: uint32_t = 1
    node: cython.pointer(Node)
    is_end[0] = False
    while level < way.height:
        node = way.nodes[level]
        if way.slots[level] > 0 if is_reverse else way.slots[level] < node.count:
            break
        if not _is_unchanged(way, level):
            return False
        level += 1
    if level == way.height:
        fence_acquire()
        is_end[0] = True
        return load_relaxed64(cython.address(store.tree.version)) == way.root_version
    way.slots[level] += -1 if is_reverse else 1
    while True:
        if not _enter(store.tree, store.base, way, level):
            return False
        level -= 1
        if level == 0:
            return True
        way.slots[level] = way.nodes[level].count if is_reverse else 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _copy_leaf(
    way: cython.pointer(Way),
    slot: uint32_t,
    is_reverse: cython.bint,
    entries: cython.pointer(uint64_t),
    capacity: uint64_t,
) -> int64_t:
    """Copy entries from `slot` on, or before `slot` backwards; how many, or RESTART when the leaf changed."""
    leaf: cython.pointer(Node) = way.nodes[0]
    count: uint32_t = min(cython.cast(uint32_t, leaf.count), cython.cast(uint32_t, NODE_SLOTS))
    taken: uint32_t
    i: uint32_t
    slot = min(slot, count)
    taken = slot if is_reverse else count - slot
    if taken > capacity:
        taken = cython.cast(uint32_t, capacity)
    if is_reverse:
        for i in range(taken):
            entries[i] = load_fenced64(cython.address(leaf.slots[slot - 1 - i].value))
    else:
        for i in range(taken):
            entries[i] = load_fenced64(cython.address(leaf.slots[slot + i].value))
    return taken if _is_unchanged(way, 0) else RESTART


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _walk_once(
    store: NodeStore,
    log: cython.pointer(TableState),
    state: cython.pointer(Walk),
    entries: cython.pointer(uint64_t),
    capacity: uint64_t,
) -> int64_t:
    way: Way
    slot: int64_t
    got: int64_t
    taken: uint64_t = 0
    ahead: uint32_t
    is_end: cython.bint = False
    if not _begin(store.tree, store.base, cython.address(way)):
        return RESTART
    if way.height == 0:
        state.is_done = True
        return 0
    slot = _seek(store, log, cython.address(way), state)
    if slot < 0:
        return slot
    for ahead in range(1, LOOK_AHEAD + 1):
        if capacity > ahead * NODE_SLOTS:
            _look_ahead(store.tree, store.base, cython.address(way), state.is_reverse, ahead)
    while True:
        got = _copy_leaf(cython.address(way), slot, state.is_reverse, entries + taken, capacity - taken)
        if got < 0:
            break
        taken += got
        if taken == capacity:
            return taken
        if not _next_leaf(store, cython.address(way), state.is_reverse, cython.address(is_end)):
            break
        if is_end:
            state.is_done = True
            return taken
        _look_ahead(store.tree, store.base, cython.address(way), state.is_reverse, LOOK_AHEAD)
        slot = way.nodes[0].count if state.is_reverse else 0
    return taken if taken > 0 else RESTART


def walk_tree(store, log, state, entries, capacity):
    result: int64_t
    tries: uint32_t = 0
    state.is_done = False
    state.error = 0
    state.bad_position = 0
    while capacity > 0:
        result = _walk_once(store, log, state, entries, capacity)
        if result >= 0:
            return result
        if result == FAILED:
            return 0
        tries += 1
        if tries % 64 == 0:
            # The writer may have been put off the processor in the middle of a change.
            usleep(20)
    return 0
