"""Lanes of the skip list: making and changing one.

What a lane tells of the separators it leads past is worked out from the marks; as long as `common` stays the same the
other entries stay as they are. A lane that is full moves to a larger place, and what leads to it from one level above
is told. Lanes may change under a reader at any moment; they lead a search, and where it ends is checked by marks and
leaves alone.
"""

import cython
from cython.cimports.flash_kv.index.btree_node import Blob, blob_at, blob_data, common_prefix, head_of
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.index.skiplist_lane import (
    LANE_UNITS,
    MARK_UNITS,
    Entry,
    Lane,
    Search,
    begin_search,
    entries_of,
    go_down,
    lane_at,
    next_of,
)
from cython.cimports.flash_kv.intrinsics import move_words, store_release32, store_release64
from cython.cimports.libc.stdint import uint32_t, uint64_t

CAPACITY_MIN = cython.declare(uint32_t, 8)
ENTRY_WORDS = cython.declare(uint64_t, 2)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _separator(store: NodeStore, ref: uint32_t) -> cython.pointer(Blob):
    return blob_at(store.blobs, ref + MARK_UNITS)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _shared(store: NodeStore, left: uint32_t, right: uint32_t) -> uint32_t:
    """The leading bytes that the separators of two marks share."""
    ours: cython.pointer(Blob) = _separator(store, left)
    theirs: cython.pointer(Blob) = _separator(store, right)
    return common_prefix(blob_data(ours), ours.size, blob_data(theirs), theirs.size)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _shown(store: NodeStore, ref: uint32_t, common: uint32_t) -> uint64_t:
    return min(_separator(store, ref).size - common, cython.cast(uint32_t, 8))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _head(store: NodeStore, ref: uint32_t, common: uint32_t) -> uint64_t:
    return head_of(blob_data(_separator(store, ref)), _separator(store, ref).size, common)


def connect(store, link, left, right):
    common: uint64_t
    if right == 0:
        store_release64(cython.address(link.word), 0)
        return
    common = _shared(store, left, right)
    store_release64(cython.address(link.head), _head(store, right, cython.cast(uint32_t, common)))
    store_release64(
        cython.address(link.word),
        _shown(store, right, cython.cast(uint32_t, common)) << 56 | common << 32 | right,
    )


def mark_of(store, lane, level, entry):
    ref: uint32_t = next_of(entries_of(lane)[entry].word)
    return ref if level == 1 else lane_at(store.blobs, ref).owner


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _set_entry(store: NodeStore, lane: cython.pointer(Lane), level: uint32_t, entry: uint32_t) -> cython.void:
    """Head and word of an entry, from where it leads."""
    entries: cython.pointer(Entry) = entries_of(lane)
    mark: uint32_t = mark_of(store, lane, level, entry)
    store_release64(cython.address(entries_of(lane)[entry].head), _head(store, mark, lane.common))
    store_release64(
        cython.address(entries[entry].word),
        _shown(store, mark, lane.common) << 56 | next_of(entries[entry].word),
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _refresh(store: NodeStore, lane: cython.pointer(Lane), level: uint32_t) -> cython.void:
    """What a lane tells of the separators it leads past, all of it."""
    entry: uint32_t
    first: uint32_t
    if lane.count == 0:
        return
    first = mark_of(store, lane, level, 0)
    connect(store, cython.address(lane.first), lane.owner, first)
    store_release32(
        cython.address(lane.common), _shared(store, first, mark_of(store, lane, level, lane.count - 1))
    )
    for entry in range(lane.count):
        _set_entry(store, lane, level, entry)


def new_lane(store, owner, down, room):
    capacity: uint32_t = CAPACITY_MIN
    ref: uint32_t
    lane: cython.pointer(Lane)
    while capacity < room:
        capacity *= 2
    ref = store.take_blob((LANE_UNITS + capacity) * 16 - cython.sizeof(Blob))
    if ref == 0:
        return 0
    lane = lane_at(store.blobs, ref)
    store_release32(cython.address(lane.count), 0)
    store_release32(cython.address(lane.capacity), capacity)
    store_release32(cython.address(lane.owner), owner)
    store_release32(cython.address(lane.down), down)
    store_release32(cython.address(lane.common), 0)
    store_release64(cython.address(lane.first.word), 0)
    return ref


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _copy_entries(
    to: cython.pointer(Lane),
    at: uint32_t,
    source: cython.pointer(Lane),
    start: uint32_t,
    count: uint32_t,
) -> cython.void:
    move_words(
        cython.cast(cython.pointer(uint64_t), entries_of(to) + at),
        cython.cast(cython.pointer(uint64_t), entries_of(source) + start),
        count * ENTRY_WORDS,
    )


def make_room(store, way, level, room):
    old: uint32_t = way.lanes[level]
    lane: cython.pointer(Lane) = lane_at(store.blobs, old)
    above: cython.pointer(Lane)
    wider: cython.pointer(Lane)
    entry: cython.pointer(Entry)
    ref: uint32_t
    if lane.capacity >= room:
        return True
    ref = new_lane(store, lane.owner, lane.down, room)
    if ref == 0:
        return False
    wider = lane_at(store.blobs, ref)
    _copy_entries(wider, 0, lane, 0, lane.count)
    store_release32(cython.address(wider.common), lane.common)
    store_release64(cython.address(wider.first.head), lane.first.head)
    store_release64(cython.address(wider.first.word), lane.first.word)
    store_release32(cython.address(wider.count), lane.count)
    if level == way.top:
        store_release64(cython.address(store.tree.top), cython.cast(uint64_t, level) << 32 | ref)
    else:
        above = lane_at(store.blobs, way.lanes[level + 1])
        if way.passed[level + 1] == 0:
            store_release32(cython.address(above.down), ref)
        else:
            entry = entries_of(above) + (way.passed[level + 1] - 1)
            store_release64(cython.address(entry.word), entry.word >> 32 << 32 | ref)
    way.lanes[level] = ref
    store.free_blob(old)
    return True


def trace(store, ref, way):
    separator: cython.pointer(Blob) = _separator(store, ref)
    search: Search
    level: uint32_t
    begin_search(store.tree, cython.address(search))
    way.top = search.level
    while search.level > 0:
        level = search.level
        way.lanes[level] = search.at
        go_down(store.tree, store.blobs, blob_data(separator), separator.size, cython.address(search))
        way.passed[level] = search.passed


def divide_lane(store, lane, right, level, passed, owner, down):
    store_release32(cython.address(right.owner), owner)
    store_release32(cython.address(right.down), down)
    _copy_entries(right, 0, lane, passed, lane.count - passed)
    store_release32(cython.address(right.count), lane.count - passed)
    _refresh(store, right, level)
    store_release32(cython.address(lane.count), passed)
    _refresh(store, lane, level)


def append_lane(store, lane, source, level):
    _copy_entries(lane, lane.count, source, 0, source.count)
    store_release32(cython.address(lane.count), lane.count + source.count)
    _refresh(store, lane, level)


def insert_entry(store, lane, level, entry, leads_to):
    _copy_entries(lane, entry + 1, lane, entry, lane.count - entry)
    store_release64(cython.address(entries_of(lane)[entry].word), leads_to)
    _set_entry(store, lane, level, entry)
    store_release32(cython.address(lane.count), lane.count + 1)
    if (entry == 0 or entry == lane.count - 1) and (
        lane.count == 1
        or _shared(store, mark_of(store, lane, level, 0), mark_of(store, lane, level, lane.count - 1))
        != lane.common
    ):
        _refresh(store, lane, level)
    elif entry == 0:
        connect(store, cython.address(lane.first), lane.owner, mark_of(store, lane, level, 0))


def remove_entry(store, lane, level, entry):
    store_release32(cython.address(lane.count), lane.count - 1)
    _copy_entries(lane, entry, lane, entry + 1, lane.count - entry)
    if entry == 0 and lane.count > 0:
        connect(store, cython.address(lane.first), lane.owner, mark_of(store, lane, level, 0))
