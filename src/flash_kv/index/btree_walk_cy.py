"""Ordered walks over a B-tree, forwards and backwards, beside a writer and without a lock.

A call descends to its starting key and remembers the way: nodes, their versions, and which child it took. It copies
leaf after leaf and validates each copy; the next leaf is found through the deepest node of the way that has another
child in the direction of the walk. As that node is validated to be unchanged since the descent, the leaves taken are
neighbours, and a key that is present all the while is in one of them. When something did change, a call that has
entries returns them, and one that has none starts over.
"""

import cython
from cython.cimports.flash_kv.index.btree_inner_cy import route
from cython.cimports.flash_kv.index.btree_node import (
    HEIGHT_MAX,
    NODE_SLOTS,
    Node,
    Tree,
    child_of,
    node_at,
    prefetch_hints,
    prefetch_lines,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.index.index_cy import Walk
from cython.cimports.flash_kv.index.leaf_reader_cy import Spot
from cython.cimports.flash_kv.index.leaf_walk_cy import WALK_RESTART, copy_leaf, seek_leaf
from cython.cimports.flash_kv.intrinsics import fence_acquire, load_acquire64, load_relaxed64
from cython.cimports.flash_kv.log.table_cy import Key, TableState
from cython.cimports.libc.stdint import int64_t, uint8_t, uint32_t, uint64_t

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
    level: uint32_t = way.height - 1
    leaf: Spot
    key: Key
    key.data = state.key
    key.size = state.key_size
    while level > 0:
        if state.has_key:
            way.slots[level] = route(store.tree, store.blobs, way.nodes[level], cython.address(key))
        else:
            way.slots[level] = way.nodes[level].count if state.is_reverse else 0
        if not _enter(store.tree, store.base, way, level):
            return WALK_RESTART
        level -= 1
    leaf.node = way.nodes[0]
    leaf.version = way.versions[0]
    return seek_leaf(store, log, cython.address(leaf), state)


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


def walk_once(store, log, state, entries, capacity):
    way: Way
    leaf: Spot
    slot: int64_t
    got: int64_t
    taken: uint64_t = 0
    ahead: uint32_t
    is_end: cython.bint = False
    if not _begin(store.tree, store.base, cython.address(way)):
        return WALK_RESTART
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
        leaf.node = way.nodes[0]
        leaf.version = way.versions[0]
        got = copy_leaf(cython.address(leaf), slot, state.is_reverse, entries + taken, capacity - taken)
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
    if taken == 0:
        return WALK_RESTART
    return taken
