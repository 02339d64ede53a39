"""Loading an index from the sorted runs of all segments.

One merge by key over all runs: of each key the record with the highest LSN counts, whatever segment it stands in; a
value goes into the index, a tombstone takes the key away together with all that is older. Because the merge is ordered
the B+ tree is filled from left to right; for the hash index the buckets of a group of keys are fetched together.

The merge is a loser tree (Knuth, TAOCP 3, 5.4.1): one comparison for each level and key, hardly ever one that looks at
more than eight bytes. Memory beyond runs and index is a cursor for each run.

Invariant: what is counted as live in a segment is exactly what the index points at there. Two runs may hold the same
record (same key, same LSN) after an interrupted compaction: one of them is taken, and counted, once.
"""

import os
from typing import NamedTuple

import cython
from cython.cimports.flash_kv.index.index_cy import Index
from cython.cimports.flash_kv.index.load_cy import LOAD_GROUP, Cursor, Merge
from cython.cimports.flash_kv.index.siphash import siphash13
from cython.cimports.flash_kv.intrinsics import byte_swap64, prefetch
from cython.cimports.flash_kv.io.memory_cy import calloc
from cython.cimports.flash_kv.log.format import ENTRY_ERROR, is_value, offset_of, padded_size, segment_of
from cython.cimports.flash_kv.log.hints_cy import (
    HINT_HEADER_SIZE,
    HintEntry,
    HintRun,
    entry_of_hint,
    hint_entry_size,
    hint_key,
)
from cython.cimports.flash_kv.log.table_cy import Key, SegmentRef, SegmentTable, segment_ref
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcmp, memcpy, memset

EntryPointer = cython.typedef(cython.pointer(cython.const[HintEntry]))
CursorPointer = cython.typedef(cython.pointer(Cursor))
MergePointer = cython.typedef(cython.pointer(Merge))

# Upserts to reserve memory for at a time: few calls, and little too much at the end.
RESERVE = cython.declare(uint64_t, 64)
PREFETCH_BYTES = cython.declare(uint64_t, 512)


class LoadResult(NamedTuple):
    """`keys` in the index; `records` in the segments; `max_lsn` of all their records, void ones included."""

    keys: int
    records: int
    max_lsn: int


class LoadError(Exception):
    """A record that had to be compared with cannot be read: `errno`, or 0 when it is damaged."""

    def __init__(self, segment_id: int, offset: int, errno: int) -> None:
        super().__init__(f"segment {segment_id}, offset {offset}, errno {errno}")
        self.segment_id = segment_id
        self.offset = offset
        self.errno = errno


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _stand(cursor: CursorPointer, entry: EntryPointer) -> cython.void:
    """Move `cursor` to `entry`."""
    word: uint64_t
    if entry == cursor.end:
        cursor.entry = cython.NULL
        cursor.head = ~cython.cast(uint64_t, 0)
        return
    cursor.entry = entry
    # Keys are padded with zeros to eight bytes.
    memcpy(cython.address(word), hint_key(entry), 8)
    cursor.head = byte_swap64(word)
    prefetch(cython.cast(cython.pointer(cython.const[uint8_t]), entry) + PREFETCH_BYTES)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _order(a: EntryPointer, b: EntryPointer) -> cython.int:
    order: cython.int = memcmp(hint_key(a), hint_key(b), min(a.key_size, b.key_size))
    if order != 0:
        return order
    return (a.key_size > b.key_size) - (a.key_size < b.key_size)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _is_before(a: CursorPointer, b: CursorPointer) -> cython.bint:
    """By key, then newest first; exhausted runs last."""
    order: cython.int
    if a.head != b.head:
        return a.head < b.head
    if a.entry == cython.NULL or b.entry == cython.NULL:
        return b.entry == cython.NULL
    order = _order(a.entry, b.entry)
    return order < 0 or (order == 0 and a.entry.lsn > b.entry.lsn)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _replay(merge: MergePointer, run: uint32_t) -> cython.void:
    """Let `run`, whose cursor moved, play its way up again."""
    node: uint32_t = (run + merge.count) // 2
    loser: uint32_t
    while node > 0:
        loser = merge.losers[node]
        if _is_before(merge.cursors + loser, merge.cursors + run):
            merge.losers[node] = run
            run = loser
        node //= 2
    merge.losers[0] = run


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _play_all(merge: MergePointer, winners: cython.pointer(uint32_t)) -> cython.void:
    """The first round, from the leaves up; `winners` has room for two for each run."""
    node: uint32_t
    left: uint32_t
    right: uint32_t
    for node in range(merge.count):
        winners[merge.count + node] = node
    node = merge.count - 1
    while node > 0:
        left = winners[2 * node]
        right = winners[2 * node + 1]
        if _is_before(merge.cursors + right, merge.cursors + left):
            winners[node] = right
            merge.losers[node] = left
        else:
            winners[node] = left
            merge.losers[node] = right
        node -= 1
    # With a single run node 1 is its leaf.
    merge.losers[0] = winners[1]


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _flush(merge: MergePointer, index: Index) -> cython.bint:
    """Put the waiting keys into the index; False when that failed."""
    i: uint64_t
    before: uint64_t
    key: cython.pointer(Key)
    if merge.reserved < merge.waiting:
        if index.reserve(RESERVE) != 0:
            merge.is_out_of_memory = True
            return False
        merge.reserved = RESERVE
    merge.reserved -= merge.waiting
    if index.needs_hash:
        for i in range(merge.waiting):
            key = merge.keys + i
            key.hash = cython.cast(uint32_t, siphash13(index.hash_key, key.data, key.size))
        # For its prefetching; what it finds does not matter.
        index.find_many(merge.keys, merge.waiting, merge.found)
    for i in range(merge.waiting):
        key = merge.keys + i
        key.error = 0
        key.place = 0
        key.bad_position = 0
        before = index.upsert(key, merge.entries[i])
        if before == ENTRY_ERROR:
            merge.error = key.error
            merge.bad_position = key.bad_position
            return False
        merge.replaced += before != 0
    merge.loaded += merge.waiting
    merge.waiting = 0
    return True


def pass_entry(merge):
    cursor: CursorPointer = merge.cursors + merge.losers[0]
    _stand(
        cursor,
        cython.cast(
            EntryPointer,
            cython.cast(cython.pointer(cython.const[uint8_t]), cursor.entry) + hint_entry_size(cursor.entry),
        ),
    )
    _replay(merge, merge.losers[0])


def next_key(merge):
    cursor: CursorPointer
    while True:
        cursor = merge.cursors + merge.losers[0]
        if cursor.entry == cython.NULL:
            return cython.NULL
        if (
            merge.newest == cython.NULL
            or cursor.head != merge.newest_head
            or _order(cursor.entry, merge.newest) != 0
        ):
            merge.newest = cursor.entry
            merge.newest_head = cursor.head
            return cursor
        pass_entry(merge)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _merge_all(merge: MergePointer, index: Index) -> cython.void:
    cursor: CursorPointer
    entry: EntryPointer
    key: cython.pointer(Key)
    while True:
        cursor = next_key(merge)
        if cursor == cython.NULL:
            break
        entry = cursor.entry
        if is_value(entry.kind):
            key = merge.keys + merge.waiting
            key.data = hint_key(entry)
            key.size = entry.key_size
            merge.entries[merge.waiting] = entry_of_hint(cursor.segment_id, entry)
            merge.waiting += 1
            cursor.live_records += 1
            cursor.live_bytes += padded_size(entry.key_size, entry.pad, entry.value_size)
            if merge.waiting == LOAD_GROUP and not _flush(merge, index):
                return
        pass_entry(merge)
    _flush(merge, index)


@cython.cfunc
def _check_runs(table: SegmentTable, runs: list) -> cython.int:
    """ValueError unless each run is that of another segment of the table, which has the bytes it speaks of."""
    ref: cython.pointer(SegmentRef)
    run: HintRun
    seen: set = set()
    for run in runs:
        if run.header.segment_id in seen:
            raise ValueError(f"two runs of segment {run.header.segment_id}")
        seen.add(run.header.segment_id)
        ref = segment_ref(cython.address(table.state), run.header.segment_id)
        if ref == cython.NULL or ref.size < run.header.sealed_bytes:
            raise ValueError(f"the segment table does not have the bytes of segment {run.header.segment_id}")
    return 0


@cython.cfunc
def _start_cursors(merge: MergePointer, runs: list) -> cython.int:
    cursor: CursorPointer
    run: HintRun
    i: uint32_t
    for i in range(merge.count):
        run = runs[i]
        cursor = merge.cursors + i
        cursor.segment_id = run.header.segment_id
        cursor.end = cython.cast(EntryPointer, run.data + run.size)
        _stand(cursor, cython.cast(EntryPointer, run.data + HINT_HEADER_SIZE))
    return 0


@cython.cfunc
def _fill_refs(table: SegmentTable, merge: MergePointer, runs: list) -> cython.int:
    ref: cython.pointer(SegmentRef)
    run: HintRun
    i: uint32_t
    for i in range(merge.count):
        run = runs[i]
        ref = segment_ref(cython.address(table.state), run.header.segment_id)
        ref.live_bytes = merge.cursors[i].live_bytes
        ref.live_records = merge.cursors[i].live_records
        ref.value_records = run.header.value_records
        ref.tombstones = run.header.tombstones
        ref.tombstone_bytes = run.header.tombstone_bytes
        ref.min_lsn = run.header.min_lsn
        ref.max_lsn = run.header.max_lsn
    return 0


@cython.cfunc
def _raise_failure(merge: MergePointer, index: Index) -> cython.int:
    if merge.is_out_of_memory and index.refusal:
        raise OSError(index.refusal, os.strerror(index.refusal))
    if merge.is_out_of_memory:
        raise MemoryError("no memory for the index")
    if merge.error and not merge.bad_position:
        # Of the file of an index on disk.
        raise OSError(merge.error, os.strerror(merge.error))
    if merge.bad_position or merge.error:
        raise LoadError(segment_of(merge.bad_position), offset_of(merge.bad_position), merge.error)
    if merge.waiting:
        raise MemoryError("no memory for the index")
    if merge.replaced:
        raise ValueError("the index was not empty")
    return 0


def begin_merge(merge, table, runs):
    run: HintRun
    memset(merge, 0, cython.sizeof(Merge))
    _check_runs(table, runs)
    for run in runs:
        run.begin()
        merge.count += 1
    # The losers, then room for the first round.
    merge.cursors = cython.cast(CursorPointer, calloc(merge.count + 1, cython.sizeof(Cursor)))
    merge.losers = cython.cast(cython.pointer(uint32_t), calloc(3 * merge.count + 1, cython.sizeof(uint32_t)))
    if merge.cursors == cython.NULL or merge.losers == cython.NULL:
        raise MemoryError("no memory to load the index")
    _start_cursors(merge, runs)
    _play_all(merge, merge.losers + merge.count)
    return 0


def end_merge(merge, runs):
    run: HintRun
    free(merge.cursors)
    free(merge.losers)
    for run in runs[: merge.count]:
        run.end()
    return 0


def load_index(index: Index, table: SegmentTable, runs: list) -> LoadResult:
    """Fill the empty `index` from the `HintRun` of every segment and set the counters of each segment's slot.

    Requires: write lock held; `table` has every segment with its size. MemoryError, LoadError, or OSError of the
    index's own file, with the index partly filled: clear it. Runs without the GIL.
    """
    merge: Merge
    run: HintRun
    records: uint64_t = 0
    highest: uint64_t = 0
    for run in runs:
        records += run.header.value_records + run.header.tombstones
        highest = max(highest, run.header.seen_lsn)
    if not runs:
        return LoadResult(0, 0, 0)
    try:
        begin_merge(cython.address(merge), table, runs)
        # No fewer keys than the longest run has, if it holds no tombstones; splits on the way would cost the most.
        index.expect(
            max([run.header.entries - min(run.header.entries, run.header.tombstones) for run in runs])
        )
        with cython.nogil:
            _merge_all(cython.address(merge), index)
        _raise_failure(cython.address(merge), index)
        _fill_refs(table, cython.address(merge), runs)
    finally:
        end_merge(cython.address(merge), runs)
    return LoadResult(merge.loaded, records, highest)
