"""Towers of the skip list: making them, putting them into the list and taking them out.

The height of a tower comes from a keyed hash of a counter, so it does not depend on the keys: nobody can choose keys
that make the list slow. A tower never changes its height, its separator or its leaf; what changes are its links, and at
the lowest level only while the leaf of the tower is being written. Links above may be torn under a reader; they lead a
search, and where it ends is checked by the lowest level alone.
"""

import cython
from cython.cimports.flash_kv.index.btree_node import Blob, blob_at, blob_data, common_prefix, head_of
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.index.siphash import siphash13
from cython.cimports.flash_kv.index.skiplist_tower import (
    LEVELS,
    TOWER_HEADER,
    Climb,
    Link,
    Tower,
    advance,
    begin_climb,
    link_at,
    next_of,
    separator_ref,
    tower_at,
)
from cython.cimports.flash_kv.intrinsics import byte_swap64, store_release32, store_release64
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy, memset


def draw_height(store, hash_key):
    height: uint32_t = 1
    drawn: uint64_t
    store.tree.draws += 1
    drawn = siphash13(
        hash_key,
        cython.cast(cython.pointer(cython.const[uint8_t]), cython.address(store.tree.draws)),
        cython.sizeof(uint64_t),
    )
    while height < LEVELS and drawn & 1 == 0:
        height += 1
        drawn >>= 1
    return height


def new_tower(store, separator, height):
    size: uint32_t = separator.size + separator.tail_size
    links: uint32_t = height * cython.sizeof(Link)
    # The separator is a blob within the tower's.
    ref: uint32_t = store.take_blob(TOWER_HEADER + links + size)
    tower: cython.pointer(Tower)
    blob: cython.pointer(Blob)
    tail: uint64_t = byte_swap64(separator.tail)
    if ref == 0:
        return 0
    tower = tower_at(store.blobs, ref)
    tower.leaf = 0
    tower.previous = 0
    store_release32(cython.address(tower.height), height)
    memset(link_at(tower, 0), 0, links)
    blob = blob_at(store.blobs, ref + 1 + height)
    store_release32(cython.address(blob.size), size)
    memcpy(blob_data(blob), separator.data, separator.size)
    memcpy(blob_data(blob) + separator.size, cython.address(tail), separator.tail_size)
    return ref


def fence_of(store, ref):
    return 0 if ref == 0 or ref == store.tree.root else separator_ref(store.blobs, ref)


def trace(store, ref, towers):
    separator: cython.pointer(Blob) = blob_at(store.blobs, separator_ref(store.blobs, ref))
    climb: Climb
    level: uint32_t
    before: uint32_t
    tower: uint32_t
    is_further: cython.bint = True
    begin_climb(store.tree, cython.address(climb))
    for level in range(LEVELS):
        towers[level] = climb.tower
    while is_further:
        before = climb.level
        tower = climb.tower
        is_further = advance(
            store.tree, store.blobs, blob_data(separator), separator.size, cython.address(climb)
        )
        for level in range(climb.level, before):
            towers[level] = tower


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _connect(store: NodeStore, left: uint32_t, level: uint32_t, right: uint32_t) -> cython.void:
    """Make a tower the next one at a level, 0 for none."""
    link: cython.pointer(Link) = link_at(tower_at(store.blobs, left), level)
    ours: cython.pointer(Blob)
    theirs: cython.pointer(Blob)
    common: uint64_t
    shown: uint64_t
    if right == 0:
        store_release64(cython.address(link.word), 0)
        return
    ours = blob_at(store.blobs, separator_ref(store.blobs, left))
    theirs = blob_at(store.blobs, separator_ref(store.blobs, right))
    common = common_prefix(blob_data(ours), ours.size, blob_data(theirs), theirs.size)
    shown = min(theirs.size - common, cython.cast(uint64_t, 8))
    store_release64(
        cython.address(link.head), head_of(blob_data(theirs), theirs.size, cython.cast(uint32_t, common))
    )
    store_release64(cython.address(link.word), shown << 56 | common << 32 | right)


def raise_tower(store, before, ref):
    towers: uint32_t[24]
    tower: cython.pointer(Tower) = tower_at(store.blobs, ref)
    level: uint32_t
    trace(store, before, towers)
    for level in range(tower.height):
        _connect(store, ref, level, next_of(link_at(tower_at(store.blobs, towers[level]), level).word))
        _connect(store, towers[level], level, ref)
    if tower.height > store.tree.height:
        store_release32(cython.address(store.tree.height), tower.height)


def fell_tower(store, before, ref):
    towers: uint32_t[24]
    tower: cython.pointer(Tower) = tower_at(store.blobs, ref)
    level: uint32_t
    trace(store, before, towers)
    for level in range(tower.height):
        _connect(store, towers[level], level, next_of(link_at(tower, level).word))
