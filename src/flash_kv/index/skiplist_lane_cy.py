"""Marks and lanes of the skip list: making them, and putting a mark into the list or taking it out.

How many lanes begin at a mark comes from a keyed hash of a counter, so it does not depend on the keys: nobody can
choose keys that make the list slow. One begins at every 32nd mark, on the average, one a level higher at every 32nd of
those, and so on. Nothing is balanced: a lane is split where a mark with lanes of its own is put between its entries,
and gets the entries of one that goes.

A mark never changes its separator or its leaf. Its links change only while its leaf is being written. Lanes may change
under a reader at any moment; they lead a search, and where it ends is checked by marks and leaves alone.
"""

import cython
from cython.cimports.flash_kv.index.btree_node import (
    Blob,
    Tree,
    blob_at,
    blob_data,
    common_prefix,
    head_of,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.index.siphash import siphash13
from cython.cimports.flash_kv.index.skiplist_lane import (
    LANE_UNITS,
    LEVELS,
    MARK_UNITS,
    Lane,
    Link,
    Mark,
    Search,
    begin_search,
    go_down,
    heads_of,
    lane_at,
    mark_at,
    next_of,
    words_of,
)
from cython.cimports.flash_kv.index.skiplist_lane_cy import Growth, Way
from cython.cimports.flash_kv.intrinsics import (
    byte_swap64,
    move_words,
    store_release32,
    store_release64,
)
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy

HEIGHT_BITS = cython.declare(uint32_t, 5)  # a lane begins at every 32nd
CAPACITY_MIN = cython.declare(uint32_t, 8)
# Chance makes lanes so long once in ten million; a bound all the same, so that memory for a split can be reserved.
CAPACITY_MAX = cython.declare(uint32_t, 512)


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


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _connect(store: NodeStore, link: cython.pointer(Link), left: uint32_t, right: uint32_t) -> cython.void:
    """Make the link from one mark lead to another, or nowhere when that is 0."""
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


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _mark_of(store: NodeStore, lane: cython.pointer(Lane), level: uint32_t, entry: uint32_t) -> uint32_t:
    """The mark that an entry of a lane leads to."""
    ref: uint32_t = next_of(words_of(lane, lane.capacity)[entry])
    return ref if level == 1 else lane_at(store.blobs, ref).owner


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _set_entry(store: NodeStore, lane: cython.pointer(Lane), level: uint32_t, entry: uint32_t) -> cython.void:
    """Head and word of an entry, from where it leads."""
    words: cython.pointer(uint64_t) = words_of(lane, lane.capacity)
    mark: uint32_t = _mark_of(store, lane, level, entry)
    store_release64(cython.address(heads_of(lane)[entry]), _head(store, mark, lane.common))
    store_release64(
        cython.address(words[entry]), _shown(store, mark, lane.common) << 56 | next_of(words[entry])
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
    first = _mark_of(store, lane, level, 0)
    _connect(store, cython.address(lane.first), lane.owner, first)
    store_release32(
        cython.address(lane.common), _shared(store, first, _mark_of(store, lane, level, lane.count - 1))
    )
    for entry in range(lane.count):
        _set_entry(store, lane, level, entry)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _new_lane(store: NodeStore, owner: uint32_t, down: uint32_t, room: uint32_t) -> uint32_t:
    """An empty lane for at least so many entries; 0 when memory is short."""
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
    move_words(heads_of(to) + at, heads_of(source) + start, count)
    move_words(words_of(to, to.capacity) + at, words_of(source, source.capacity) + start, count)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _make_room(store: NodeStore, way: cython.pointer(Way), level: uint32_t, room: uint32_t) -> cython.bint:
    """Let the lane of a way have room for so many entries: it may take another place. False when memory is short."""
    old: uint32_t = way.lanes[level]
    lane: cython.pointer(Lane) = lane_at(store.blobs, old)
    above: cython.pointer(Lane)
    words: cython.pointer(uint64_t)
    ref: uint32_t
    if lane.capacity >= room:
        return True
    ref = _new_lane(store, lane.owner, lane.down, room)
    if ref == 0:
        return False
    _copy_entries(lane_at(store.blobs, ref), 0, lane, 0, lane.count)
    lane_at(store.blobs, ref).common = lane.common
    lane_at(store.blobs, ref).first = lane.first
    store_release32(cython.address(lane_at(store.blobs, ref).count), lane.count)
    if level == way.top:
        store_release64(cython.address(store.tree.top), cython.cast(uint64_t, level) << 32 | ref)
    else:
        above = lane_at(store.blobs, way.lanes[level + 1])
        if way.passed[level + 1] == 0:
            store_release32(cython.address(above.down), ref)
        else:
            words = words_of(above, above.capacity)
            store_release64(
                cython.address(words[way.passed[level + 1] - 1]),
                words[way.passed[level + 1] - 1] >> 32 << 32 | ref,
            )
    way.lanes[level] = ref
    store.free_blob(old)
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _trace(store: NodeStore, ref: uint32_t, way: cython.pointer(Way)) -> cython.void:
    """The way to a mark."""
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
    blob = _separator(store, ref)
    store_release32(cython.address(blob.size), size)
    memcpy(blob_data(blob), separator.data, separator.size)
    memcpy(blob_data(blob) + separator.size, cython.address(tail), separator.tail_size)
    return ref


def new_first_lane(store, mark):
    return _new_lane(store, mark, mark, CAPACITY_MIN)


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
    _trace(store, before, way)
    growth.height = _draw_height(store, hash_key, way)
    for level in range(1, LEVELS + 1):
        growth.lanes[level] = 0
    for level in range(1, growth.height + 1):
        lane = lane_at(store.blobs, way.lanes[level])
        growth.lanes[level] = _new_lane(store, 0, 0, lane.count - way.passed[level])
        is_complete = is_complete and growth.lanes[level] != 0
    level = growth.height + 1
    if level > way.top:
        growth.lanes[level] = _new_lane(store, store.tree.root, way.lanes[way.top], CAPACITY_MIN)
        is_complete = is_complete and growth.lanes[level] != 0
    else:
        lane = lane_at(store.blobs, way.lanes[level])
        is_complete = is_complete and _make_room(store, way, level, lane.count + 1)
    if not is_complete:
        drop_growth(store, growth)
    return is_complete


def drop_growth(store, growth):
    level: uint32_t
    for level in range(1, LEVELS + 1):
        store.free_blob(growth.lanes[level])


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _divide_lane(
    store: NodeStore, level: uint32_t, ref: uint32_t, growth: cython.pointer(Growth)
) -> cython.void:
    """What the lane at a level leads past beyond the new mark goes to the lane that begins there."""
    lane: cython.pointer(Lane) = lane_at(store.blobs, growth.way.lanes[level])
    right: cython.pointer(Lane) = lane_at(store.blobs, growth.lanes[level])
    passed: uint32_t = growth.way.passed[level]
    store_release32(cython.address(right.owner), ref)
    store_release32(cython.address(right.down), ref if level == 1 else growth.lanes[level - 1])
    _copy_entries(right, 0, lane, passed, lane.count - passed)
    store_release32(cython.address(right.count), lane.count - passed)
    _refresh(store, right, level)
    store_release32(cython.address(lane.count), passed)
    _refresh(store, lane, level)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _insert_entry(
    store: NodeStore, lane: cython.pointer(Lane), level: uint32_t, entry: uint32_t, leads_to: uint32_t
) -> cython.void:
    _copy_entries(lane, entry + 1, lane, entry, lane.count - entry)
    store_release64(cython.address(words_of(lane, lane.capacity)[entry]), leads_to)
    _set_entry(store, lane, level, entry)
    store_release32(cython.address(lane.count), lane.count + 1)
    if (entry == 0 or entry == lane.count - 1) and (
        lane.count == 1
        or _shared(store, _mark_of(store, lane, level, 0), _mark_of(store, lane, level, lane.count - 1))
        != lane.common
    ):
        _refresh(store, lane, level)
    elif entry == 0:
        _connect(store, cython.address(lane.first), lane.owner, _mark_of(store, lane, level, 0))


def insert_mark(store, before, ref, growth):
    left: cython.pointer(Mark) = mark_at(store.blobs, before)
    mark: cython.pointer(Mark) = mark_at(store.blobs, ref)
    after: uint32_t = next_of(left.next.word)
    way: cython.pointer(Way) = cython.address(growth.way)
    level: uint32_t
    store_release32(cython.address(mark.previous), before)
    _connect(store, cython.address(mark.next), ref, after)
    _connect(store, cython.address(left.next), before, ref)
    if after != 0:
        store_release32(cython.address(mark_at(store.blobs, after).previous), ref)
    for level in range(1, growth.height + 1):
        _divide_lane(store, level, ref, growth)
    level = growth.height + 1
    if level > way.top:
        way.lanes[level] = growth.lanes[level]
        way.passed[level] = 0
    _insert_entry(
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
        if way.passed[level] < lane.count and _mark_of(store, lane, level, way.passed[level]) == ref:
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
    return next_of(words_of(lane, lane.capacity)[way.passed[height + 1]])


def prepare_removal(store, before, way):
    ref: uint32_t = next_of(mark_at(store.blobs, before).next.word)
    height: uint32_t
    level: uint32_t
    gone: uint32_t
    room: uint32_t
    _trace(store, before, way)
    height = _height_after(store, way, ref)
    gone = _lane_after(store, way, height)
    for level in range(height, 0, -1):
        room = lane_at(store.blobs, way.lanes[level]).count + lane_at(store.blobs, gone).count
        if room > CAPACITY_MAX or not _make_room(store, way, level, room):
            return False
        gone = lane_at(store.blobs, gone).down
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _remove_entry(
    store: NodeStore, lane: cython.pointer(Lane), level: uint32_t, entry: uint32_t
) -> cython.void:
    store_release32(cython.address(lane.count), lane.count - 1)
    _copy_entries(lane, entry, lane, entry + 1, lane.count - entry)
    if entry == 0 and lane.count > 0:
        _connect(store, cython.address(lane.first), lane.owner, _mark_of(store, lane, level, 0))


def remove_mark(store, before, way):
    tree: cython.pointer(Tree) = store.tree
    left: cython.pointer(Mark) = mark_at(store.blobs, before)
    ref: uint32_t = next_of(left.next.word)
    after: uint32_t = next_of(mark_at(store.blobs, ref).next.word)
    height: uint32_t = _height_after(store, way, ref)
    gone: uint32_t = _lane_after(store, way, height)
    level: uint32_t
    down: uint32_t
    lane: cython.pointer(Lane)
    source: cython.pointer(Lane)
    _connect(store, cython.address(left.next), before, after)
    if after != 0:
        store_release32(cython.address(mark_at(store.blobs, after).previous), before)
    _remove_entry(store, lane_at(store.blobs, way.lanes[height + 1]), height + 1, way.passed[height + 1])
    for level in range(height, 0, -1):
        lane = lane_at(store.blobs, way.lanes[level])
        source = lane_at(store.blobs, gone)
        _copy_entries(lane, lane.count, source, 0, source.count)
        store_release32(cython.address(lane.count), lane.count + source.count)
        _refresh(store, lane, level)
        down = source.down
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
