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
from cython.cimports.flash_kv.index.btree_leaf_cy import (
    SEEK_ABSENT,
    SEEK_FAILED,
    SEEK_FOUND,
    SEEK_TIED,
    Bytes,
    Loaded,
)
from cython.cimports.flash_kv.index.btree_node import (
    SKIP_MAX,
    TAG_BITS,
    TAG_MASK,
    Node,
    Slot,
    begin_write,
    blob_at,
    blob_data,
    candidate,
    common_prefix,
    end_write,
    fill_node,
    head_of,
    is_tied,
    leading_zeros,
    leaf_bound,
    leaf_head,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.intrinsics import load_fenced64
from cython.cimports.flash_kv.log.format import RecordHeader
from cython.cimports.flash_kv.log.table_cy import (
    MATCH_NO,
    MATCH_YES,
    Key,
    MatchResult,
    TableState,
    compare_key,
    load_record,
    match_key,
    newest_position,
    prefetch_record,
    record_key,
)
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.stdlib import free


def load_verified(log, entry, loaded, key):
    header: cython.pointer(cython.const[RecordHeader]) = load_record(
        log, newest_position(log, entry), cython.address(loaded.buffer), cython.address(loaded.capacity), key
    )
    if header == cython.NULL:
        return False
    loaded.data = record_key(header)
    loaded.size = header.key_size
    return True


def find_slot(log, leaf, key, head, slot):
    bound: uint32_t = leaf_bound(leaf, head)
    at: uint32_t = candidate(leaf, bound, head)
    match: MatchResult
    slot[0] = bound
    while at > 0:
        match = match_key(log, load_fenced64(cython.address(leaf.slots[at - 1].value)), key)
        if match == MATCH_YES:
            slot[0] = at - 1
            return SEEK_FOUND
        if match != MATCH_NO:
            return SEEK_FAILED
        at = candidate(leaf, at - 1, head)
    return SEEK_ABSENT


def seek_slot(log, leaf, key, head, slot):
    bound: uint32_t
    low: uint32_t
    middle: uint32_t
    entry: uint64_t
    order: cython.int = 0
    result: SeekResult = find_slot(log, leaf, key, head, slot)
    bound = slot[0]
    if result != SEEK_ABSENT or bound == 0 or not is_tied(leaf.slots[bound - 1].head, head):
        return result
    low = bound - 1
    while low > 0 and is_tied(leaf.slots[low - 1].head, head):
        low -= 1
    # One miss for all of them and not one after another.
    for middle in range(low, bound):
        prefetch_record(log, load_fenced64(cython.address(leaf.slots[middle].value)))
    while low < bound:
        middle = (low + bound) // 2
        entry = load_fenced64(cython.address(leaf.slots[middle].value))
        if compare_key(log, entry, key, cython.address(order)) != MATCH_YES:
            return SEEK_FAILED
        if order < 0:
            bound = middle
        else:
            low = middle + 1
    slot[0] = low
    return SEEK_TIED


def lower_heads(slots, count, prefix, skip, lower):
    lead: uint64_t = head_of(prefix, skip, lower)
    shift: uint32_t = 8 * (skip - lower)
    i: uint32_t
    tag: uint64_t
    bytes_left: uint64_t
    if skip == lower:
        return
    lead &= ~cython.cast(uint64_t, TAG_MASK)
    for i in range(count):
        tag = slots[i].head & TAG_MASK
        bytes_left = slots[i].head >> shift if shift < 64 else 0
        slots[i].head = ((lead | bytes_left) & ~cython.cast(uint64_t, TAG_MASK)) | tag


def lower_skip(store, leaf, prefix, skip):
    lower_heads(leaf.slots, leaf.count, prefix, leaf.skip, skip)
    leaf.skip = skip
    fill_node(leaf, leaf.slots, leaf.count)


def admit(store, leaf, key):
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
    lower_skip(store, leaf, prefix, skip)
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
    difference = (leaf.slots[0].head ^ leaf.slots[leaf.count - 1].head) >> TAG_BITS
    return difference == 0 or leading_zeros(difference) >= TAG_BITS + 8


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _apply_skip(
    store: NodeStore,
    log: cython.pointer(TableState),
    leaf: cython.pointer(Node),
    first: cython.pointer(Loaded),
    skip: uint32_t,
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
        prefetch_record(log, leaf.slots[i].value)
    for i in range(leaf.count):
        slots[i].value = leaf.slots[i].value
        is_complete = is_complete and load_verified(
            log, slots[i].value, cython.address(loaded), cython.address(ignored)
        )
        if not is_complete:
            break
        slots[i].head = leaf_head(loaded.data, loaded.size, skip, leaf.slots[i].head)
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
    if load_verified(
        log, leaf.slots[0].value, cython.address(first), cython.address(ignored)
    ) and load_verified(log, leaf.slots[leaf.count - 1].value, cython.address(last), cython.address(ignored)):
        skip = min(
            common_prefix(first.data, first.size, last.data, last.size), cython.cast(uint32_t, SKIP_MAX)
        )
        if leaf.skip < leaf.fence_skip:
            # As far as the separators guarantee first: that needs no blob and no comparison.
            skip = min(skip, leaf.fence_skip)
        if skip > leaf.skip:
            _apply_skip(store, log, leaf, cython.address(first), skip)
    free(first.buffer)
    free(last.buffer)
