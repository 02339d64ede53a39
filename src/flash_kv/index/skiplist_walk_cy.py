"""Ordered walks over a skip list, forwards and backwards, beside a writer and without a lock.

A call goes down to its starting key and then from leaf to leaf, copying each and validating the copy. The version of
the leaf on the other side of a link is read before the link is validated, so the leaves taken are neighbours, and a key
that is present all the while is in one of them. When something did change, a call that has entries returns them, and
one that has none starts over.
"""

import cython
from cython.cimports.flash_kv.index.btree_node import NODE_SLOTS, Tree, prefetch_lines
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.index.index_cy import Walk
from cython.cimports.flash_kv.index.leaf_reader_cy import Spot, is_unchanged
from cython.cimports.flash_kv.index.leaf_walk_cy import WALK_RESTART, copy_leaf, seek_leaf
from cython.cimports.flash_kv.index.skiplist_lane import (
    LANE_UNITS,
    MARK_UNITS,
    Lane,
    Search,
    begin_search,
    covers,
    enter_leaf,
    entries_of,
    go_down,
    is_readable,
    lane_at,
    likely_leaf,
    mark_at,
    next_of,
)
from cython.cimports.flash_kv.intrinsics import load_acquire32, load_acquire64, prefetch
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t

# Leaves fetched before they are needed: copying one takes a third of the time that memory takes to bring it.
LOOK_AHEAD = cython.declare(uint32_t, 3)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _neighbour(store: NodeStore, ref: uint32_t, is_reverse: cython.bint) -> uint32_t:
    """The next mark, or the one before; 0 for none. Requires: is_readable."""
    if is_reverse:
        return load_acquire32(cython.address(mark_at(store.blobs, ref).previous))
    return next_of(load_acquire64(cython.address(mark_at(store.blobs, ref).next.word)))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _look_ahead(store: NodeStore, ref: uint32_t, is_reverse: cython.bint) -> uint32_t:
    """Bring in the leaf of a mark, and its neighbour; the neighbour, 0 for none."""
    following: uint32_t
    if ref == 0:
        return 0
    following = _neighbour(store, ref, is_reverse)
    if is_readable(store.tree, following, MARK_UNITS):
        prefetch(mark_at(store.blobs, following))
    else:
        following = 0
    prefetch_lines(likely_leaf(store.tree, store.base, store.blobs, ref), 0, 15)
    return following


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _go_right(store: NodeStore, search: cython.pointer(Search)) -> cython.bint:
    """From a lane to the last thing below it; False when it is none any more."""
    lane: cython.pointer(Lane) = lane_at(store.blobs, search.at)
    count: uint64_t
    capacity: uint64_t
    if not is_readable(store.tree, search.at, LANE_UNITS):
        return False
    capacity = load_acquire32(cython.address(lane.capacity))
    count = min(load_acquire32(cython.address(lane.count)), capacity)
    if not is_readable(store.tree, search.at, LANE_UNITS + capacity):
        return False
    search.level -= 1
    search.at = load_acquire32(cython.address(lane.down))
    if count > 0:
        search.at = next_of(load_acquire64(cython.address(entries_of(lane)[count - 1].word)))
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _begin(store: NodeStore, leaf: cython.pointer(Spot), state: cython.pointer(Walk)) -> uint32_t:
    """The mark to begin at, and its leaf; 0 when something changed meanwhile."""
    tree: cython.pointer(Tree) = store.tree
    search: Search
    begin_search(tree, cython.address(search))
    if not state.has_key and not state.is_reverse:
        search.at = load_acquire32(cython.address(tree.root))
        search.level = 0
    while search.level > 0:
        if state.has_key:
            if not go_down(tree, store.blobs, state.key, state.key_size, cython.address(search)):
                return 0
        elif not _go_right(store, cython.address(search)):
            return 0
    if not enter_leaf(tree, store.base, store.blobs, search.at, leaf):
        return 0
    if state.has_key and not covers(tree, store.blobs, search.at, state.key, state.key_size):
        return 0
    if not state.has_key and _neighbour(store, search.at, not state.is_reverse) != 0:
        return 0
    return search.at


def walk_once(store, log, state, entries, capacity):
    ref: uint32_t
    ahead: uint32_t
    distance: uint32_t
    leaf: Spot
    other: Spot
    slot: int64_t
    got: int64_t
    taken: int64_t = 0
    if load_acquire32(cython.address(store.tree.root)) == 0:
        state.is_done = True
        return 0
    ref = _begin(store, cython.address(leaf), state)
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
