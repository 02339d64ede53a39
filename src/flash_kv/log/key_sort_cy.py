"""Sorting the records of a segment by key, keeping the newest of each.

Multikey sorting by eight bytes at a time: each record is represented by the next eight bytes of its key as a big-endian
number and by how many bytes it has left, so that comparing is a matter of two integers and a key is read once for each
eight bytes it has in common with another. Groups with equal heads are sorted again eight bytes further on, from a work
list rather than by recursion: keys may share 64 KiB. Large groups are sorted by radix, small ones by insertion; neither
has a bad case.

Invariant: a group on the work list is a range of items whose keys agree up to the group's depth and go on after it.
"""

import cython
from cython.cimports.flash_kv.intrinsics import byte_swap64, prefetch
from cython.cimports.flash_kv.io.memory_cy import malloc, realloc
from cython.cimports.flash_kv.log.format import HEADER_SIZE
from cython.cimports.flash_kv.log.scan_loop_cy import PLACE_ORPHAN, ScanRecord
from cython.cimports.libc.stdint import int64_t, uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy, memset

# More than eight bytes left: the key goes on behind this head.
LONGER = cython.declare(uint32_t, 9)
# The number of a record that is not the newest of its key.
OLDER = cython.declare(uint32_t, 0xFFFFFFFF)
INSERTION_MAX = cython.declare(uint64_t, 48)
AHEAD = cython.declare(uint64_t, 12)

Item = cython.struct(head=uint64_t, left=uint32_t, record=uint32_t)
Group = cython.struct(begin=uint64_t, end=uint64_t, depth=uint64_t)
Sorter = cython.struct(
    data=cython.pointer(cython.const[uint8_t]),
    records=cython.pointer(cython.const[ScanRecord]),
    items=cython.pointer(Item),
    spare=cython.pointer(Item),
    groups=cython.pointer(Group),
    groups_count=uint64_t,
    groups_capacity=uint64_t,
)
SorterPointer = cython.typedef(cython.pointer(Sorter))
ItemPointer = cython.typedef(cython.pointer(Item))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _key(sorter: SorterPointer, record: uint32_t) -> cython.pointer(cython.const[uint8_t]):
    return sorter.data + (cython.cast(uint64_t, sorter.records[record].slot) << 3) + HEADER_SIZE


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _load_head(sorter: SorterPointer, item: ItemPointer, depth: uint64_t) -> cython.void:
    left: uint64_t = sorter.records[item.record].key_size - depth
    word: uint64_t = 0
    memcpy(cython.address(word), _key(sorter, item.record) + depth, 8 if left > 8 else left)
    item.head = byte_swap64(word)
    item.left = LONGER if left > 8 else cython.cast(uint32_t, left)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _is_before(a: ItemPointer, b: ItemPointer) -> cython.bint:
    return a.head < b.head or (a.head == b.head and a.left < b.left)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sort_by_insertion(items: ItemPointer, count: uint64_t) -> cython.void:
    i: uint64_t
    j: uint64_t
    item: Item
    for i in range(1, count):
        item = items[i]
        j = i
        while j > 0 and _is_before(cython.address(item), items + j - 1):
            items[j] = items[j - 1]
            j -= 1
        items[j] = item


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sort_by_radix(items: ItemPointer, spare: ItemPointer, count: uint64_t) -> cython.void:
    """Least significant digit first: bytes left, then the eight bytes of the head. A digit all share costs nothing."""
    counts: uint64_t[9 * 256]
    digits: cython.pointer(uint64_t)
    source: ItemPointer = items
    target: ItemPointer = spare
    swap: ItemPointer
    i: uint64_t
    digit: cython.int
    value: cython.int
    total: uint64_t
    found: uint64_t
    memset(counts, 0, cython.sizeof(counts))
    for i in range(count):
        counts[items[i].left] += 1
        for digit in range(8):
            counts[256 * (digit + 1) + ((items[i].head >> (8 * digit)) & 0xFF)] += 1
    for digit in range(9):
        digits = counts + 256 * digit
        if digits[_digit(source, digit)] == count:
            continue
        total = 0
        for value in range(256):
            found = digits[value]
            digits[value] = total
            total += found
        for i in range(count):
            value = _digit(source + i, digit)
            target[digits[value]] = source[i]
            digits[value] += 1
        swap = source
        source = target
        target = swap
    if source != items:
        memcpy(items, source, count * cython.sizeof(Item))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _digit(item: ItemPointer, digit: cython.int) -> cython.int:
    if digit == 0:
        return item.left
    return (item.head >> (8 * (digit - 1))) & 0xFF


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _add_group(sorter: SorterPointer, begin: uint64_t, end: uint64_t, depth: uint64_t) -> cython.bint:
    grown: cython.pointer(Group)
    capacity: uint64_t
    if sorter.groups_count == sorter.groups_capacity:
        capacity = 64 + 2 * sorter.groups_capacity
        grown = cython.cast(cython.pointer(Group), realloc(sorter.groups, capacity * cython.sizeof(Group)))
        if grown == cython.NULL:
            return False
        sorter.groups = grown
        sorter.groups_capacity = capacity
    grown = sorter.groups + sorter.groups_count
    grown.begin = begin
    grown.end = end
    grown.depth = depth
    sorter.groups_count += 1
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _keep_newest(sorter: SorterPointer, begin: uint64_t, end: uint64_t) -> cython.void:
    """Of items with one and the same key only that with the highest LSN stays."""
    i: uint64_t
    newest: uint64_t = begin
    for i in range(begin + 1, end):
        if sorter.records[sorter.items[i].record].lsn > sorter.records[sorter.items[newest].record].lsn:
            sorter.items[newest].record = OLDER
            newest = i
        else:
            sorter.items[i].record = OLDER


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sort_group(sorter: SorterPointer, begin: uint64_t, end: uint64_t, depth: uint64_t) -> cython.bint:
    """Sort by the eight bytes at `depth`; what they do not decide becomes groups of its own."""
    items: ItemPointer = sorter.items
    i: uint64_t
    first: uint64_t
    for i in range(begin, end):
        if i + AHEAD < end:
            prefetch(_key(sorter, items[i + AHEAD].record) + depth)
        _load_head(sorter, items + i, depth)
    if end - begin <= INSERTION_MAX:
        _sort_by_insertion(items + begin, end - begin)
    else:
        _sort_by_radix(items + begin, sorter.spare, end - begin)
    first = begin
    for i in range(begin + 1, end + 1):
        if i < end and items[i].head == items[first].head and items[i].left == items[first].left:
            continue
        if i - first > 1:
            if items[first].left != LONGER:
                _keep_newest(sorter, first, i)
            elif not _add_group(sorter, first, i, depth + 8):
                return False
        first = i
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _sort_all(sorter: SorterPointer, count: uint64_t) -> cython.bint:
    group: Group
    if not _add_group(sorter, 0, count, 0):
        return False
    while sorter.groups_count:
        sorter.groups_count -= 1
        group = sorter.groups[sorter.groups_count]
        if not _sort_group(sorter, group.begin, group.end, group.depth):
            return False
    return True


def sort_newest(data, records, count, order):
    sorter: Sorter
    i: uint64_t
    used: uint64_t = 0
    result: int64_t = -1
    memset(cython.address(sorter), 0, cython.sizeof(Sorter))
    sorter.data = data
    sorter.records = records
    sorter.items = cython.cast(ItemPointer, malloc((count + 1) * cython.sizeof(Item)))
    sorter.spare = cython.cast(ItemPointer, malloc((count + 1) * cython.sizeof(Item)))
    if sorter.items != cython.NULL and sorter.spare != cython.NULL:
        for i in range(count):
            if records[i].place != PLACE_ORPHAN:
                sorter.items[used].record = cython.cast(uint32_t, i)
                used += 1
        if _sort_all(cython.address(sorter), used):
            result = 0
            for i in range(used):
                if sorter.items[i].record != OLDER:
                    order[result] = sorter.items[i].record
                    result += 1
    free(sorter.items)
    free(sorter.spare)
    free(sorter.groups)
    return result
