"""A page of the B+ tree on disk: 4 KiB of whole keys in order, each with a value of eight bytes.

    | checksum 4 | number 4 | level 2 | count 2 | start 2 | dead 2 | skip 2 | reserved 2 | first child 4 |
    | slots, 8 bytes each, in key order -> ...     free     ... <- cells: value 8, key |

A slot shows four bytes of its key, behind the beginning that all keys of the page share, so that a search looks at
few cells. In a leaf a value is an entry, in an inner page the number of the child whose keys are not below the key.

Invariants: keys rise strictly; `skip` bytes are shared by all keys; cells and slots do not overlap. A page that was
read from disk is held against them by `page_is_sound` before anything else looks at it.
"""

import cython
from cython.cimports.flash_kv.index.bptree_page_cy import (
    CELL_BYTES,
    PAGE_BYTES,
    PAGE_HEADER_BYTES,
    PAGE_ROOM,
    PAGE_SLOTS,
    Page,
    PageSlot,
    page_key,
)
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcmp, memcpy, memmove

Bytes = cython.typedef(cython.pointer(cython.const[uint8_t]))
PagePointer = cython.typedef(cython.pointer(cython.const[Page]))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _head(data: Bytes, size: uint32_t, skip: uint32_t) -> uint32_t:
    head: uint32_t = 0
    i: uint32_t
    for i in range(skip, skip + 4):
        head = (head << 8) | (data[i] if i < size else 0)
    return head


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _shared(a: Bytes, a_size: uint32_t, b: Bytes, b_size: uint32_t) -> uint32_t:
    """How many bytes both begin with."""
    i: uint32_t = 0
    end: uint32_t = min(a_size, b_size)
    while i < end and a[i] == b[i]:
        i += 1
    return i


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _order(a: Bytes, a_size: uint32_t, b: Bytes, b_size: uint32_t) -> cython.int:
    order: cython.int = memcmp(a, b, min(a_size, b_size))
    if order != 0:
        return order
    return (a_size > b_size) - (a_size < b_size)


def page_init(page, number, level):
    page.checksum = 0
    page.number = number
    page.level = level
    page.count = 0
    page.start = PAGE_BYTES
    page.dead = 0
    page.skip = 0
    page.reserved = 0
    page.first_child = 0


def page_value(page, slot):
    value: uint64_t
    memcpy(cython.address(value), cython.cast(Bytes, page) + page.slots[slot].offset, 8)
    return value


def page_set_value(page, slot, value):
    memcpy(cython.cast(cython.pointer(uint8_t), page) + page.slots[slot].offset, cython.address(value), 8)


def page_search(page, data, size, is_found):
    low: uint32_t = 0
    high: uint32_t = page.count
    middle: uint32_t
    head: uint32_t
    skip: uint32_t = page.skip
    order: cython.int
    is_found[0] = False
    if high == 0:
        return 0
    if skip != 0:
        order = memcmp(data, page_key(page, 0), min(size, skip))
        if order < 0 or (order == 0 and size < skip):
            return 0
        if order > 0:
            return high
    head = _head(data, size, skip)
    while low < high:
        middle = (low + high) >> 1
        if page.slots[middle].head != head:
            if page.slots[middle].head < head:
                low = middle + 1
            else:
                high = middle
            continue
        order = _order(
            page_key(page, middle) + skip, page.slots[middle].size - skip, data + skip, size - skip
        )
        if order == 0:
            is_found[0] = True
            return middle
        if order < 0:
            low = middle + 1
        else:
            high = middle
    return low


def page_used(page):
    return page.count * cython.sizeof(PageSlot) + PAGE_BYTES - page.start - page.dead


def page_has_room(page, size):
    return page_used(page) + CELL_BYTES + size <= PAGE_ROOM


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _refresh(page: cython.pointer(Page)) -> cython.void:
    """Find out anew what all keys share."""
    i: uint32_t
    last: uint32_t = page.count - 1
    page.skip = 0
    if page.count == 0:
        return
    page.skip = _shared(page_key(page, 0), page.slots[0].size, page_key(page, last), page.slots[last].size)
    for i in range(page.count):
        page.slots[i].head = _head(page_key(page, i), page.slots[i].size, page.skip)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _compact(page: cython.pointer(Page)) -> cython.void:
    """Move the cells together, so that all free bytes are between them and the slots."""
    old: uint8_t[4096]
    start: uint32_t = PAGE_BYTES
    size: uint32_t
    i: uint32_t
    memcpy(cython.address(old[0]), page, PAGE_BYTES)
    for i in range(page.count):
        size = page.slots[i].size + 8
        start -= size
        memcpy(
            cython.cast(cython.pointer(uint8_t), page) + start,
            cython.address(old[page.slots[i].offset]),
            size,
        )
        page.slots[i].offset = start
    page.start = start
    page.dead = 0


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _put(
    page: cython.pointer(Page), slot: uint32_t, data: Bytes, size: uint32_t, value: uint64_t
) -> cython.void:
    """Cell and slot, without the head."""
    if page.start < PAGE_HEADER_BYTES + (page.count + 1) * cython.sizeof(PageSlot) + size + 8:
        _compact(page)
    page.start -= size + 8
    memmove(
        cython.address(page.slots[slot + 1]),
        cython.address(page.slots[slot]),
        (page.count - slot) * cython.sizeof(PageSlot),
    )
    page.slots[slot].offset = page.start
    page.slots[slot].size = size
    page.count += 1
    page_set_value(page, slot, value)
    memcpy(cython.cast(cython.pointer(uint8_t), page) + page.start + 8, data, size)


def page_insert(page, slot, data, size, value):
    other: uint32_t = 1 if slot == 0 else 0
    _put(page, slot, data, size, value)
    if page.count == 1 or _shared(data, size, page_key(page, other), page.slots[other].size) < page.skip:
        _refresh(page)
    else:
        page.slots[slot].head = _head(data, size, page.skip)


def page_remove(page, slot):
    page.dead += page.slots[slot].size + 8
    page.count -= 1
    memmove(
        cython.address(page.slots[slot]),
        cython.address(page.slots[slot + 1]),
        (page.count - slot) * cython.sizeof(PageSlot),
    )
    if page.count == 0:
        page.start = PAGE_BYTES
        page.dead = 0
        page.skip = 0


def page_copy_tail(page, slot, target):
    i: uint32_t
    for i in range(slot, page.count):
        _put(target, target.count, page_key(page, i), page.slots[i].size, page_value(page, i))
    _refresh(target)


def page_cut(page, slot):
    page.count = slot
    _compact(page)
    _refresh(page)


def page_middle(page):
    half: uint32_t = page_used(page) // 2
    bytes: uint32_t = 0
    i: uint32_t = 0
    last: uint32_t = page.count - 1
    while i < last and bytes < half:
        bytes += page.slots[i].size + CELL_BYTES
        i += 1
    return i


def page_is_sound(page):
    i: uint32_t
    offset: uint32_t
    if (
        page.count > PAGE_SLOTS
        or page.start > PAGE_BYTES
        or page.start < PAGE_HEADER_BYTES + page.count * cython.sizeof(PageSlot)
        or page.dead > PAGE_BYTES - page.start
    ):
        return False
    for i in range(page.count):
        offset = page.slots[i].offset
        if (
            offset < page.start
            or offset + 8 + page.slots[i].size > PAGE_BYTES
            or page.slots[i].size < page.skip
        ):
            return False
    return True
