"""Ordered walks over a skip list, forwards and backwards, beside a writer and without a lock.

A call climbs to its starting key and then goes from leaf to leaf, copying each and validating the copy. The version of
the leaf on the other side of a link is read before the link is validated, so the leaves taken are neighbours, and a key
that is present all the while is in one of them. When something did change, a call that has entries returns them, and
one that has none starts over.
"""

import cython
from cython.cimports.flash_kv.index.btree_node import NODE_SLOTS, Tree, prefetch_line, prefetch_lines
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.index.index_cy import Walk
from cython.cimports.flash_kv.index.leaf_reader_cy import Spot, is_unchanged
from cython.cimports.flash_kv.index.leaf_walk_cy import WALK_RESTART, copy_leaf, seek_leaf
from cython.cimports.flash_kv.index.skiplist_tower import (
    LEVELS,
    MOVES_MAX,
    Climb,
    advance,
    begin_climb,
    covers,
    enter_leaf,
    is_tower,
    likely_leaf,
    link_at,
    next_of,
    tower_at,
)
from cython.cimports.flash_kv.intrinsics import load_acquire32, load_acquire64
from cython.cimports.libc.stdint import int64_t, uint32_t

# Leaves fetched before they are needed: copying one takes a third of the time that memory takes to bring it.
LOOK_AHEAD = cython.declare(uint32_t, 3)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _neighbour(store: NodeStore, ref: uint32_t, is_reverse: cython.bint) -> uint32_t:
    """The next tower, or the one before; 0 for none. Requires: is_tower."""
    if is_reverse:
        return load_acquire32(cython.address(tower_at(store.blobs, ref).previous))
    return next_of(load_acquire64(cython.address(link_at(tower_at(store.blobs, ref), 0).word)))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _look_ahead(store: NodeStore, ref: uint32_t, is_reverse: cython.bint) -> uint32_t:
    """Bring in the leaf of a tower, and its neighbour; the neighbour, 0 for none."""
    following: uint32_t
    if ref == 0:
        return 0
    following = _neighbour(store, ref, is_reverse)
    if is_tower(store.tree, following, 1):
        prefetch_line(tower_at(store.blobs, following))
    else:
        following = 0
    prefetch_lines(likely_leaf(store.tree, store.base, store.blobs, ref), 0, 15)
    return following


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _last_tower(store: NodeStore, ref: uint32_t) -> uint32_t:
    """From the first tower to the last; 0 when something changed meanwhile."""
    level: uint32_t = min(store.tree.height, cython.cast(uint32_t, LEVELS))
    moves: uint32_t = 0
    following: uint32_t
    while level > 0:
        following = next_of(
            load_acquire64(cython.address(link_at(tower_at(store.blobs, ref), level - 1).word))
        )
        if following == 0:
            level -= 1
            continue
        moves += 1
        if moves == MOVES_MAX or not is_tower(store.tree, following, level):
            return 0
        ref = following
    return ref


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _begin(
    store: NodeStore, ref: uint32_t, leaf: cython.pointer(Spot), state: cython.pointer(Walk)
) -> uint32_t:
    """The tower to begin at, and its leaf, when `ref` is the first tower; 0 when something changed meanwhile."""
    tree: cython.pointer(Tree) = store.tree
    climb: Climb
    moves: uint32_t = 0
    if not is_tower(tree, ref, LEVELS):
        return 0
    if state.has_key:
        begin_climb(tree, cython.address(climb))
        climb.tower = ref
        while advance(tree, store.blobs, state.key, state.key_size, cython.address(climb)):
            moves += 1
            if moves == MOVES_MAX:
                return 0
        ref = climb.tower
    elif state.is_reverse:
        ref = _last_tower(store, ref)
    if not enter_leaf(tree, store.base, store.blobs, ref, leaf):
        return 0
    if state.has_key and not covers(tree, store.blobs, ref, state.key, state.key_size):
        return 0
    if not state.has_key and state.is_reverse and _neighbour(store, ref, False) != 0:
        return 0
    return ref


def walk_once(store, log, state, entries, capacity):
    root: uint32_t = load_acquire32(cython.address(store.tree.root))
    ref: uint32_t
    ahead: uint32_t
    distance: uint32_t
    leaf: Spot
    other: Spot
    slot: int64_t
    got: int64_t
    taken: int64_t = 0
    if root == 0:
        state.is_done = True
        return 0
    ref = _begin(store, root, cython.address(leaf), state)
    if ref == 0:
        return WALK_RESTART
    slot = seek_leaf(store, log, cython.address(leaf), state)
    if slot < 0:
        return slot
    ahead = _look_ahead(store, ref, state.is_reverse)
    for distance in range(LOOK_AHEAD):
        if capacity > (distance + 1) * NODE_SLOTS:
            ahead = _look_ahead(store, ahead, state.is_reverse)
    while True:
        got = copy_leaf(cython.address(leaf), slot, state.is_reverse, entries + taken, capacity - taken)
        if got < 0:
            break
        taken += got
        if taken == capacity:
            return taken
        ahead = _look_ahead(store, ahead, state.is_reverse)
        ref = _neighbour(store, ref, state.is_reverse)
        if ref == 0:
            if not is_unchanged(cython.address(leaf)):
                break
            state.is_done = True
            return taken
        if not enter_leaf(store.tree, store.base, store.blobs, ref, cython.address(other)):
            break
        if not is_unchanged(cython.address(leaf)):
            break
        leaf = other
        slot = leaf.node.count if state.is_reverse else 0
    if taken == 0:
        return WALK_RESTART
    return taken
