"""A B+ tree of pages that hold whole keys of at most PAGE_KEY_SIZE_MAX bytes.

Every change is made of steps that each leave a right tree, and a step first has all its pages in pinned frames: a page
that cannot be read or written ends an operation between two steps, with the key as it was. Splits go from the top down
(a page is split only when its parent has room for one more key), and a page that is split because of a key above all
others stays full, so that keys in order fill the pages. A separator is the shortest string that separates. When a
removal leaves a page less than a quarter full it is joined with a neighbour if both fit one page; that this did not
come about, for want of a page that could be read, leaves a page emptier than it could be and nothing else.

Requires: one caller at a time.
"""

import cython
from cython.cimports.flash_kv.index.bptree_page_cy import (
    CELL_BYTES,
    PAGE_BYTES,
    PAGE_ROOM,
    Page,
    page_copy_tail,
    page_cut,
    page_has_room,
    page_insert,
    page_key,
    page_middle,
    page_remove,
    page_search,
    page_set_value,
    page_used,
    page_value,
)
from cython.cimports.flash_kv.index.bptree_tree_cy import BPTREE_HEIGHT_MAX, PageWay
from cython.cimports.flash_kv.index.page_store_cy import PageStore
from cython.cimports.flash_kv.intrinsics import unlikely
from cython.cimports.flash_kv.log.format import ENTRY_ERROR
from cython.cimports.libc.errno import EBADMSG, ENOMEM
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.string import memcpy

UNDERFULL = cython.declare(uint32_t, PAGE_BYTES // 4)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _child(page: cython.pointer(cython.const[Page]), slot: uint32_t) -> uint32_t:
    return page.first_child if slot == 0 else cython.cast(uint32_t, page_value(page, slot - 1))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _page_at(store: PageStore, number: uint32_t, level: uint32_t) -> cython.pointer(Page):
    """The page, pinned by nobody; NULL, with the reason in `store.error`, also when it is of another level."""
    page: cython.pointer(Page) = store.fetch(number)
    if unlikely(page != cython.NULL and page.level != level):
        store.is_damaged = True
        store.error = EBADMSG
        return cython.NULL
    return page


@cython.cclass
class PageTree:
    """Entries by key."""

    def __cinit__(self):
        self.store = PageStore()

    def empty(self):
        self.store.empty()
        self.root = 0
        self.height = 0
        self.count = 0

    def freeze(self):
        self.store.freeze()
        self.frozen_root = self.root
        self.frozen_height = self.height
        self.frozen_count = self.count
        self.frozen_end = self.store.pages_end

    def descend(self, data, size, way):
        number: uint32_t = self.root
        level: uint32_t = self.height - 1
        page: cython.pointer(Page)
        slot: uint32_t
        is_found: cython.bint = False
        way.is_last = True
        while True:
            page = _page_at(self.store, number, level)
            if unlikely(page == cython.NULL):
                return cython.NULL
            way.pages[level] = number
            if level == 0:
                return page
            slot = page_search(page, data, size, cython.address(is_found)) + is_found
            way.slots[level] = slot
            way.is_last = way.is_last and slot == page.count
            number = _child(page, slot)
            level -= 1

    def get(self, data, size):
        way: PageWay
        page: cython.pointer(Page)
        slot: uint32_t
        is_found: cython.bint = False
        if self.root == 0:
            return 0
        page = self.descend(data, size, cython.address(way))
        if unlikely(page == cython.NULL):
            return ENTRY_ERROR
        slot = page_search(page, data, size, cython.address(is_found))
        return page_value(page, slot) if is_found else 0

    def _leaf_for(self, data, size):
        """The number of the leaf where a key is; 0 when the tree is empty or a page on the way cannot be had."""
        number: uint32_t = self.root
        level: uint32_t = self.height
        page: cython.pointer(Page)
        is_found: cython.bint = False
        if number == 0:
            return 0
        while level > 1:
            level -= 1
            page = _page_at(self.store, number, level)
            if unlikely(page == cython.NULL):
                return 0
            number = _child(page, page_search(page, data, size, cython.address(is_found)) + is_found)
        return number

    def approach(self, data, size):
        number: uint32_t = self._leaf_for(data, size)
        self.store.prefetch_slots(number)
        return number

    def get_in(self, leaf, data, size):
        page: cython.pointer(Page)
        slot: uint32_t = 0
        is_found: cython.bint = False
        page = self._noted(leaf, data, size, cython.address(slot), cython.address(is_found))
        if page == cython.NULL:
            return self.get(data, size)
        return page_value(page, slot) if is_found else 0

    def is_above(self, data, size):
        way: PageWay
        page: cython.pointer(Page)
        is_found: cython.bint = False
        if self.root == 0:
            return True
        page = self.descend(data, size, cython.address(way))
        return (
            page != cython.NULL
            and way.is_last
            and page_search(page, data, size, cython.address(is_found)) == page.count
        )

    def ask_for(self, data, size):
        # Without a leaf, whoever comes for the key finds out why.
        self.store.ask_for(self._leaf_for(data, size))

    def _noted(self, leaf, data, size, slot, is_found):
        """This leaf, if it is one and the key is in it, or between two that are; else NULL.

        Leaves part the keys, so a key that is inside of one belongs nowhere else, whatever has happened since.
        """
        page: cython.pointer(Page)
        if not self.store.is_used(leaf):
            return cython.NULL
        page = self.store.fetch(leaf)
        if page == cython.NULL or page.level != 0:
            return cython.NULL
        slot[0] = page_search(page, data, size, is_found)
        return page if is_found[0] or 0 < slot[0] < page.count else cython.NULL

    def put(self, leaf, data, size, entry):
        way: PageWay
        page: cython.pointer(Page)
        slot: uint32_t = 0
        old: uint64_t
        is_found: cython.bint = False
        if self.root == 0 and not self._plant():
            return ENTRY_ERROR
        while True:
            page = cython.NULL
            if leaf != 0:
                page = self._noted(leaf, data, size, cython.address(slot), cython.address(is_found))
            if page == cython.NULL:
                leaf = 0
                page = self.descend(data, size, cython.address(way))
                if unlikely(page == cython.NULL):
                    return ENTRY_ERROR
                slot = page_search(page, data, size, cython.address(is_found))
            if unlikely((is_found or page_has_room(page, size)) and not self.store.thaw(page)):
                return ENTRY_ERROR
            if is_found:
                old = page_value(page, slot)
                page_set_value(page, slot, entry)
                self.store.touch(page)
                return old
            if page_has_room(page, size):
                page_insert(page, slot, data, size, entry)
                self.store.touch(page)
                self.count += 1
                return 0
            # With a noted leaf the way has to be gone first, after all.
            if leaf == 0 and not self._make_room(cython.address(way), slot, data, size):
                return ENTRY_ERROR
            leaf = 0

    def swap(self, leaf, data, size, old, new):
        way: PageWay
        page: cython.pointer(Page)
        slot: uint32_t = 0
        is_found: cython.bint = False
        if self.root == 0:
            return False
        page = self._noted(leaf, data, size, cython.address(slot), cython.address(is_found))
        if page == cython.NULL:
            page = self.descend(data, size, cython.address(way))
            if unlikely(page == cython.NULL):
                return False
            slot = page_search(page, data, size, cython.address(is_found))
        if not is_found or page_value(page, slot) != old or not self.store.thaw(page):
            return False
        page_set_value(page, slot, new)
        self.store.touch(page)
        return True

    def take(self, leaf, data, size):
        way: PageWay
        page: cython.pointer(Page)
        slot: uint32_t = 0
        old: uint64_t
        is_found: cython.bint = False
        if self.root == 0:
            return 0
        page = cython.NULL
        if leaf != 0:
            page = self._noted(leaf, data, size, cython.address(slot), cython.address(is_found))
        if page == cython.NULL or page_used(page) < UNDERFULL + CELL_BYTES + size:
            # Without a leaf, or to join it with another.
            page = self.descend(data, size, cython.address(way))
            if unlikely(page == cython.NULL):
                return ENTRY_ERROR
            slot = page_search(page, data, size, cython.address(is_found))
        if not is_found:
            return 0
        if unlikely(not self.store.thaw(page)):
            return ENTRY_ERROR
        old = page_value(page, slot)
        page_remove(page, slot)
        self.store.touch(page)
        self.count -= 1
        if page_used(page) < UNDERFULL:
            self._tidy(cython.address(way))
        return old

    def _plant(self):
        page: cython.pointer(Page) = self.store.create(0)
        if page == cython.NULL:
            return False
        self.root = page.number
        self.height = 1
        return True

    def _make_room(self, way, slot, data, size):
        """One split on the way to a leaf without room; False when it failed."""
        level: uint32_t = 0
        at: uint32_t = 0
        length: uint32_t
        page: cython.pointer(Page)
        while True:
            page = self.store.fetch(way.pages[level])
            if page == cython.NULL:
                return False
            length = self._part(page, way, slot, data, size, cython.address(at))
            if level + 1 == self.height:
                return self._grow()
            page = self.store.fetch(way.pages[level + 1])
            if page == cython.NULL:
                return False
            if page_has_room(page, length):
                return self._split(way, level, at, length)
            level += 1

    def _part(self, page, way, slot, data, size, at):
        """Where to split the page, and into `separator` what then parts the halves; its size."""
        length: uint32_t = 0
        limit: uint32_t
        if page.level > 0:
            at[0] = page.count - 1 if way.is_last else page_middle(page)
            length = page.slots[at[0]].size
            memcpy(self.separator, page_key(page, at[0]), length)
            return length
        at[0] = page.count if way.is_last and slot == page.count else page_middle(page)
        if at[0] < page.count:
            data = page_key(page, at[0])
            size = page.slots[at[0]].size
        left = page_key(page, at[0] - 1)
        limit = min(size, page.slots[at[0] - 1].size)
        while length < limit and data[length] == left[length]:
            length += 1
        length += 1
        memcpy(self.separator, data, length)
        return length

    def _grow(self):
        """A root above the root."""
        page: cython.pointer(Page)
        if self.height == BPTREE_HEIGHT_MAX:
            self.store.error = ENOMEM
            return False
        page = self.store.create(self.height)
        if page == cython.NULL:
            return False
        page.first_child = self.root
        self.root = page.number
        self.height += 1
        return True

    def _split(self, way, level, at, size):
        parent: cython.pointer(Page) = self.store.fetch(way.pages[level + 1])
        page: cython.pointer(Page)
        right: cython.pointer(Page)
        if parent == cython.NULL:
            return False
        self.store.pin(parent)
        page = self.store.fetch(way.pages[level])
        if page == cython.NULL:
            self.store.unpin(parent)
            return False
        self.store.pin(page)
        right = cython.NULL
        if self.store.thaw(parent) and self.store.thaw(page):
            right = self.store.create(level)
        self.store.unpin(page)
        self.store.unpin(parent)
        if right == cython.NULL:
            return False
        # From here on nothing fails.
        if level > 0:
            right.first_child = cython.cast(uint32_t, page_value(page, at))
            page_copy_tail(page, at + 1, right)
        else:
            page_copy_tail(page, at, right)
        page_cut(page, at)
        page_insert(parent, way.slots[level + 1], self.separator, size, right.number)
        self.store.touch(page)
        self.store.touch(parent)
        return True

    def _tidy(self, way):
        """Join what became small with neighbours, from the leaf up."""
        level: uint32_t = 0
        slot: uint32_t
        page: cython.pointer(Page)
        while level + 1 < self.height:
            page = self.store.fetch(way.pages[level])
            if page == cython.NULL or page_used(page) >= UNDERFULL:
                break
            page = self.store.fetch(way.pages[level + 1])
            if page == cython.NULL:
                break
            slot = way.slots[level + 1]
            self.store.pin(page)
            # With the neighbour to the left, or with the one to the right.
            if not (slot > 0 and self._merge(page, slot - 1)) and slot < page.count:
                self._merge(page, slot)
            self.store.unpin(page)
            level += 1
        while self.height > 1:
            page = self.store.fetch(self.root)
            if page == cython.NULL or page.count > 0 or not self.store.thaw(page):
                break
            self.root = page.first_child
            self.height -= 1
            self.store.give_back(page)

    def _merge(self, parent, slot):
        """Join the children on both sides of a key of the pinned parent; False when they do not fit one page."""
        left: cython.pointer(Page) = self.store.fetch(_child(parent, slot))
        right: cython.pointer(Page)
        size: uint32_t = parent.slots[slot].size
        needed: uint32_t
        if left == cython.NULL:
            return False
        self.store.pin(left)
        right = self.store.fetch(_child(parent, slot + 1))
        self.store.unpin(left)
        if right == cython.NULL:
            return False
        needed = page_used(left) + page_used(right)
        if left.level > 0:
            needed += CELL_BYTES + size
        if (
            needed > PAGE_ROOM
            or not self.store.thaw(parent)
            or not self.store.thaw(left)
            or not self.store.thaw(right)
        ):
            return False
        if left.level > 0:
            page_insert(left, left.count, page_key(parent, slot), size, right.first_child)
        page_copy_tail(right, 0, left)
        page_remove(parent, slot)
        self.store.touch(left)
        self.store.touch(parent)
        self.store.give_back(right)
        return True

    def _edge(self, way, level, is_reverse):
        """The first leaf, or the last, below the child that the way takes at the level above `level`."""
        page: cython.pointer(Page)
        number: uint32_t = self.root
        if level + 1 < self.height:
            page = self.store.fetch(way.pages[level + 1])
            if page == cython.NULL:
                return cython.NULL
            number = _child(page, way.slots[level + 1])
        while True:
            page = _page_at(self.store, number, level)
            if unlikely(page == cython.NULL):
                return cython.NULL
            way.pages[level] = number
            if level == 0:
                return page
            way.slots[level] = page.count if is_reverse else 0
            number = _child(page, way.slots[level])
            level -= 1

    def _next_leaf(self, way, is_reverse):
        """The leaf after this one, or before it; NULL with no error at the end."""
        level: uint32_t
        page: cython.pointer(Page)
        for level in range(1, self.height):
            page = self.store.fetch(way.pages[level])
            if page == cython.NULL:
                return cython.NULL
            if is_reverse and way.slots[level] > 0:
                way.slots[level] -= 1
                return self._edge(way, level - 1, is_reverse)
            if not is_reverse and way.slots[level] < page.count:
                way.slots[level] += 1
                return self._edge(way, level - 1, is_reverse)
        self.store.error = 0
        return cython.NULL

    def collect(self, state, bound, entries, capacity):
        way: PageWay
        page: cython.pointer(Page)
        taken: uint64_t = 0
        low: uint32_t
        high: uint32_t
        limit: uint32_t
        is_found: cython.bint = False
        self.has_failed = False
        if self.root == 0:
            return 0
        if state.has_key:
            page = self.descend(state.key, state.key_size, cython.address(way))
        else:
            page = self._edge(cython.address(way), self.height - 1, state.is_reverse)
        if page == cython.NULL:
            return ENTRY_ERROR
        low = 0
        high = page.count
        if state.has_key:
            limit = page_search(page, state.key, state.key_size, cython.address(is_found))
            if state.is_reverse:
                high = limit
            else:
                low = limit + (1 if is_found and state.is_started else 0)
        while True:
            limit = high - low
            if bound != cython.NULL and limit > 0:
                limit = page_search(page, bound.data, bound.size, cython.address(is_found))
                if state.is_reverse:
                    limit = high - max(low, min(high, limit))
                else:
                    limit = max(low, min(high, limit)) - low
            while limit > 0 and low < high and taken < capacity:
                if state.is_reverse:
                    high -= 1
                    entries[taken] = page_value(page, high)
                else:
                    entries[taken] = page_value(page, low)
                    low += 1
                taken += 1
                limit -= 1
            if taken == capacity or low < high:
                return taken
            page = self._next_leaf(cython.address(way), state.is_reverse)
            if page == cython.NULL:
                self.has_failed = self.store.error != 0
                return ENTRY_ERROR if taken == 0 and self.has_failed else taken
            low = 0
            high = page.count
