"""Marks of the skip list: making them, putting them into the list with the lanes that begin there, taking them out.

How many lanes begin at a mark comes from a keyed hash of a counter, so it does not depend on the keys: nobody can
choose keys that make the list slow. One begins at every 32nd mark, on the average, one a level higher at every 32nd of
those, and so on. Nothing is balanced: a lane is split where a mark with lanes of its own is put between its entries,
and gets the entries of one that goes.

A mark never changes its separator or its leaf. Its links change only while its leaf is being written.
"""

import cython
from cython.cimports.flash_kv.index.btree_node import Blob, Tree, blob_at, blob_data
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.index.siphash import siphash13
from cython.cimports.flash_kv.index.skiplist_lane import (
    LEVELS,
    MARK_UNITS,
    Lane,
    Mark,
    entries_of,
    lane_at,
    mark_at,
    next_of,
)
from cython.cimports.flash_kv.index.skiplist_lane_cy import (
    Way,
    append_lane,
    connect,
    divide_lane,
    insert_entry,
    make_room,
    mark_of,
    new_lane,
    remove_entry,
    trace,
)
from cython.cimports.flash_kv.intrinsics import byte_swap64, store_release32, store_release64
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy

HEIGHT_BITS = cython.declare(uint32_t, 5)  # a lane begins at every 32nd
# Chance makes lanes so long once in ten million; a bound all the same, so that memory for a split can be reserved.
CAPACITY_MAX = cython.declare(uint32_t, 512)


def new_mark(store, separator):
    size: uint32_t = separator.size + separator.tail_size
    # The separator is a blob within the mark's.
    ref: uint32_t = store.take_blob(MARK_UNITS * 16 + size)
    mark: cython.pointer(Mark)
    blob: cython.pointer(Blob)
    tail: uint64_t = byte_swap64(separator.tail)
    if ref == 0:
        return 0
    mark = mark_at(store.blobs, ref)
    store_release32(cython.address(mark.leaf), 0)
    store_release32(cython.address(mark.previous), 0)
    store_release64(cython.address(mark.next.word), 0)
    blob = blob_at(store.blobs, ref + MARK_UNITS)
    store_release32(cython.address(blob.size), size)
    if separator.size != 0:
        memcpy(blob_data(blob), separator.data, separator.size)
    memcpy(blob_data(blob) + separator.size, cython.address(tail), separator.tail_size)
    return ref


def fence_of(store, ref):
    return 0 if ref == 0 or ref == store.tree.root else ref + MARK_UNITS


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _draw_height(
    store: NodeStore, hash_key: cython.pointer(cython.const[uint64_t]), way: cython.pointer(Way)
) -> uint32_t:
    """How many lanes begin at a mark; at most one level is new in the list."""
    height: uint32_t = 0
    drawn: uint64_t
    store.tree.draws += 1
    drawn = siphash13(
        hash_key,
        cython.cast(cython.pointer(cython.const[uint8_t]), cython.address(store.tree.draws)),
        cython.sizeof(uint64_t),
    )
    while height < way.top and height < LEVELS - 1:
        if drawn & ((1 << HEIGHT_BITS) - 1) and (
            lane_at(store.blobs, way.lanes[height + 1]).count < CAPACITY_MAX
        ):
            break
        height += 1
        drawn >>= HEIGHT_BITS
    return height


def prepare_growth(store, hash_key, before, growth):
    way: cython.pointer(Way) = cython.address(growth.way)
    lane: cython.pointer(Lane)
    level: uint32_t
    is_complete: cython.bint = True
    trace(store, before, way)
    growth.height = _draw_height(store, hash_key, way)
    for level in range(1, LEVELS + 1):
        growth.lanes[level] = 0
    for level in range(1, growth.height + 1):
        lane = lane_at(store.blobs, way.lanes[level])
        growth.lanes[level] = new_lane(store, 0, 0, lane.count - way.passed[level])
        is_complete = is_complete and growth.lanes[level] != 0
    level = growth.height + 1
    if level > way.top:
        growth.lanes[level] = new_lane(store, store.tree.root, way.lanes[way.top], 1)
        is_complete = is_complete and growth.lanes[level] != 0
    else:
        lane = lane_at(store.blobs, way.lanes[level])
        is_complete = is_complete and make_room(store, way, level, lane.count + 1)
    if not is_complete:
        drop_growth(store, growth)
    return is_complete


def drop_growth(store, growth):
    level: uint32_t
    for level in range(1, LEVELS + 1):
        store.free_blob(growth.lanes[level])


def insert_mark(store, before, ref, growth):
    left: cython.pointer(Mark) = mark_at(store.blobs, before)
    mark: cython.pointer(Mark) = mark_at(store.blobs, ref)
    after: uint32_t = next_of(left.next.word)
    way: cython.pointer(Way) = cython.address(growth.way)
    level: uint32_t
    store_release32(cython.address(mark.previous), before)
    connect(store, cython.address(mark.next), ref, after)
    connect(store, cython.address(left.next), before, ref)
    if after != 0:
        store_release32(cython.address(mark_at(store.blobs, after).previous), ref)
    for level in range(1, growth.height + 1):
        divide_lane(
            store,
            lane_at(store.blobs, way.lanes[level]),
            lane_at(store.blobs, growth.lanes[level]),
            level,
            way.passed[level],
            ref,
            ref if level == 1 else growth.lanes[level - 1],
        )
    level = growth.height + 1
    if level > way.top:
        way.lanes[level] = growth.lanes[level]
        way.passed[level] = 0
    insert_entry(
        store,
        lane_at(store.blobs, way.lanes[level]),
        level,
        way.passed[level],
        ref if level == 1 else growth.lanes[level - 1],
    )
    if level > way.top:
        store_release64(cython.address(store.tree.top), cython.cast(uint64_t, level) << 32 | way.lanes[level])
        store.tree.height = level


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _height_after(store: NodeStore, way: cython.pointer(Way), ref: uint32_t) -> uint32_t:
    """How many lanes begin at a mark, when the way leads to the one before it."""
    level: uint32_t = way.top
    lane: cython.pointer(Lane)
    while level > 1:
        lane = lane_at(store.blobs, way.lanes[level])
        if way.passed[level] < lane.count and mark_of(store, lane, level, way.passed[level]) == ref:
            break
        level -= 1
    return level - 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _lane_after(store: NodeStore, way: cython.pointer(Way), height: uint32_t) -> uint32_t:
    """The topmost lane that begins at a mark of this height after the way's; 0 for none."""
    lane: cython.pointer(Lane) = lane_at(store.blobs, way.lanes[height + 1])
    if height == 0:
        return 0
    return next_of(entries_of(lane)[way.passed[height + 1]].word)


def prepare_removal(store, before, way):
    ref: uint32_t = next_of(mark_at(store.blobs, before).next.word)
    height: uint32_t
    level: uint32_t
    gone: uint32_t
    room: uint32_t
    trace(store, before, way)
    height = _height_after(store, way, ref)
    gone = _lane_after(store, way, height)
    for level in range(height, 0, -1):
        room = lane_at(store.blobs, way.lanes[level]).count + lane_at(store.blobs, gone).count
        if room > CAPACITY_MAX or not make_room(store, way, level, room):
            return False
        gone = lane_at(store.blobs, gone).down
    return True


def remove_mark(store, before, way):
    tree: cython.pointer(Tree) = store.tree
    left: cython.pointer(Mark) = mark_at(store.blobs, before)
    ref: uint32_t = next_of(left.next.word)
    after: uint32_t = next_of(mark_at(store.blobs, ref).next.word)
    height: uint32_t = _height_after(store, way, ref)
    gone: uint32_t = _lane_after(store, way, height)
    level: uint32_t
    down: uint32_t
    connect(store, cython.address(left.next), before, after)
    if after != 0:
        store_release32(cython.address(mark_at(store.blobs, after).previous), before)
    remove_entry(store, lane_at(store.blobs, way.lanes[height + 1]), height + 1, way.passed[height + 1])
    for level in range(height, 0, -1):
        append_lane(store, lane_at(store.blobs, way.lanes[level]), lane_at(store.blobs, gone), level)
        down = lane_at(store.blobs, gone).down
        store.free_blob(gone)
        gone = down
    while tree.height > 1 and lane_at(store.blobs, cython.cast(uint32_t, tree.top)).count == 0:
        gone = cython.cast(uint32_t, tree.top)
        tree.height -= 1
        store_release64(
            cython.address(tree.top),
            cython.cast(uint64_t, tree.height) << 32 | lane_at(store.blobs, gone).down,
        )
        store.free_blob(gone)
