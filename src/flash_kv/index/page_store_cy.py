"""Pages by number, used in a pool of frames whose size does not depend on how many there are.

Where a page stands in the file changes with each write of it (page_file_cy), so a table leads from its number to its
block and the checksum it has there. It is in memory, sixteen bytes for each page, which are taken from the pool's share
as they become many.

The pool: the clock (Corbato 1968) gives up the frame that was not used for a round. A dirty page that cannot be written
is passed over; when no other is left, frames above the pool's share are used, so that a full disk is told by `reserve`
and not in the middle of a change.

A checkpoint is the tree as of one moment, and its pages are written while the tree goes on changing:

    freeze         all dirty pages are frozen, all blocks held
    page_flush_cy  frozen pages are written, a few at a time; who wants to change one before writes it himself (`thaw`)
    (then `saved` is the page table of that moment, and is written: checkpoint.py)
    settle_some    `saved` follows the table again, a few pages at a time

Invariants: a page that is not in a frame is in the file, whole; a frame that is pinned keeps its page; `saved` names
no block that is free; while nothing is frozen, what `saved` names of a page is where it was written last.

Requires: one caller at a time.
"""

import cython
from cython.cimports.flash_kv.index.arena_cy import Arena
from cython.cimports.flash_kv.index.bptree_page_cy import PAGE_BYTES, Page, page_init, page_is_sound
from cython.cimports.flash_kv.index.page_file_cy import PageFile
from cython.cimports.flash_kv.index.page_store_cy import FLUSH_PAGES, TABLE_PAGES, TABLES_MAX, Frame, Place
from cython.cimports.flash_kv.intrinsics import prefetch, unlikely
from cython.cimports.flash_kv.io.memory_cy import map_pages, unmap_pages
from cython.cimports.libc.errno import EBADMSG, EDQUOT, EFBIG, ENOMEM, ENOSPC
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.string import memset
from cython.cimports.posix.mman import madvise

FREE = cython.declare(uint32_t, 1 << 31)
IN_FRAME = cython.declare(uint32_t, 1 << 30)
NUMBER = cython.declare(uint32_t, (1 << 30) - 1)
ALL = cython.declare(uint32_t, 0xFFFFFFFF)
PAGES_MAX = cython.declare(uint64_t, TABLES_MAX * TABLE_PAGES - 1)
FRAMES_MIN = cython.declare(uint64_t, 16)
# For dirty pages that cannot be written: more than one upsert can need.
FRAMES_SPARE = cython.declare(uint32_t, 128)
# Upserts that are made sure of at a time; a caller that asks for more gets the rest as it goes.
RESERVE_MAX = cython.declare(uint64_t, 8192)
# What many upserts are likely to need for new pages; the file grows as they come.
NEW_PAGES = cython.declare(uint64_t, 64)
# What one upsert may change besides a leaf and its neighbour: the way up to the root.
HEIGHT = cython.declare(uint64_t, 8)
# As many as a leaf of keys of 16 bytes has; eight stand in a line of the cache.
PREFETCH_SLOTS = cython.declare(uint32_t, 128)
SIZE = cython.declare(uint64_t, cython.sizeof(Place))
MADV_HUGEPAGE = cython.declare(cython.int, 14)
MADV_DONTNEED = cython.declare(cython.int, 4)

Places = cython.typedef(cython.pointer(Place))


@cython.final
@cython.cclass
class PageStore:
    """Pages by number, from 1."""

    def __cinit__(self):
        self.file = PageFile()
        self.pages_end = 1
        self.settled = ALL
        self.places = Arena()
        self.saved = Arena()

    def __dealloc__(self):
        unmap_pages(self.pages, cython.cast(uint64_t, self.frames_max + FRAMES_SPARE) * PAGE_BYTES)
        unmap_pages(
            self.frames, (cython.cast(uint64_t, self.frames_max + FRAMES_SPARE) + 1) * cython.sizeof(Frame)
        )
        unmap_pages(self.stale_tables, TABLES_MAX)
        unmap_pages(self.flush_buffer, FLUSH_PAGES * PAGE_BYTES)

    def set_up(self, pool_bytes):
        """Use so much memory."""
        count: uint64_t = pool_bytes // (PAGE_BYTES + cython.sizeof(Frame))
        count = min(max(count, FRAMES_MIN), NUMBER - FRAMES_SPARE)
        self.pool_bytes = pool_bytes
        self.frames_max = cython.cast(uint32_t, count)
        count += FRAMES_SPARE
        self.pages = cython.cast(cython.pointer(Page), map_pages(count * PAGE_BYTES))
        self.frames = cython.cast(cython.pointer(Frame), map_pages((count + 1) * cython.sizeof(Frame)))
        self.stale_tables = cython.cast(cython.pointer(uint8_t), map_pages(TABLES_MAX))
        self.flush_buffer = cython.cast(cython.pointer(uint8_t), map_pages(FLUSH_PAGES * PAGE_BYTES))
        if (
            self.pages == cython.NULL
            or self.frames == cython.NULL
            or self.stale_tables == cython.NULL
            or self.flush_buffer == cython.NULL
        ):
            raise MemoryError("no memory for the pages of an index")
        # Fewer page faults, fewer misses of the TLB. Only Linux knows it, which does no harm elsewhere.
        madvise(self.pages, count * PAGE_BYTES, MADV_HUGEPAGE)
        self.frames_limit = self.frames_max
        return 0

    def empty(self):
        frames: uint64_t = self.frames_max + FRAMES_SPARE
        madvise(self.pages, frames * PAGE_BYTES, MADV_DONTNEED)
        madvise(self.frames, (frames + 1) * cython.sizeof(Frame), MADV_DONTNEED)
        memset(self.stale_tables, 1, self.pages_end // TABLE_PAGES + 1)
        self.places.shrink(0)
        self.saved.shrink(0)
        self.frames_limit = self.frames_max
        self.frames_used = 0
        self.frames_retired = 0
        self.retired_frame = 0
        self.dirty_count = 0
        self.unplaced_count = 0
        self.changed = 0
        self.free_frame = 0
        self.hand = 0
        self.pages_end = 1
        self.free_page = 0
        self.free_count = 0
        self.file.empty()

    def reserve(self, count):
        end: uint64_t = self.pages_end + count + HEIGHT
        self.error = 0
        if count > PAGES_MAX or end > PAGES_MAX:
            self.error = EFBIG
            return -1
        end = min(end, self.pages_end + RESERVE_MAX)
        if (
            self.places.reserve(end * SIZE - min(end * SIZE, self.places.used)) != 0
            or self.saved.reserve(end * SIZE - min(end * SIZE, self.saved.used)) != 0
        ):
            return -1
        return self._reserve_blocks(min(count >> 2, NEW_PAGES) + HEIGHT, count)

    def reserve_changes(self, count):
        self.error = 0
        return self._reserve_blocks(0, count)

    def _reserve_blocks(self, new, count):
        """Blocks for so many new pages, and for what so many changes have written."""
        wanted: uint64_t = new
        if self.file.is_held:
            # Each dirty page may have to be written before anything is free again, and each that is about to be.
            wanted += self.dirty_count + 2 * min(count, RESERVE_MAX, cython.cast(uint64_t, self.pages_end))
        else:
            # What is written frees the block that it had. New pages leave one free, so a change never lacks it.
            wanted += self.unplaced_count + 1
        if self.file.ensure(wanted) == 0:
            return 0
        # Without a block for them all they can stay in memory.
        if wanted + FRAMES_MIN <= self.frames_limit:
            return 0
        self.error = self.file.error
        return -1

    def _frame_of(self, page):
        return cython.cast(uint32_t, (page - self.pages) + 1)

    def touch(self, page):
        frame: uint32_t = self._frame_of(page)
        if not self.frames[frame].is_dirty:
            self.frames[frame].is_dirty = True
            self.dirty_count += 1
            self.changed += 1

    def thaw(self, page):
        frame: uint32_t = self._frame_of(page)
        if not self.frames[frame].is_frozen or self._write(frame):
            return True
        if self.error != ENOSPC and self.error != EDQUOT:
            return False
        # Without room it is the checkpoint that has to wait, and not who wants to delete.
        self.has_given_up = True
        self._thaw_frames()
        return True

    def _thaw_frames(self):
        number: uint32_t
        for number in range(1, self.frames_used + 1):
            self.frames[number].is_frozen = False

    def pin(self, page):
        self.frames[self._frame_of(page)].pins += 1

    def unpin(self, page):
        self.frames[self._frame_of(page)].pins -= 1

    def _save(self, number, block, sum):
        saved: Places = cython.cast(Places, self.saved.data)
        if saved[number].block != block or saved[number].sum != sum:
            saved[number].block = block
            saved[number].sum = sum
            self.stale_tables[number // TABLE_PAGES] = 1

    def _write(self, number):
        block: uint32_t = self.file.take(self.frames[number].is_frozen)
        if block == 0:
            self.error = self.file.error
            return False
        if not self.file.write(block, cython.cast(cython.pointer(uint8_t), self.pages + (number - 1))):
            self.error = self.file.error
            self.file.release(block)
            return False
        self._moved(number, block, self.pages[number - 1].checksum)
        return True

    def _moved(self, number, block, sum):
        """The page of this frame stands in another block now, with this checksum."""
        frame: cython.pointer(Frame) = self.frames + number
        self.unplaced_count -= frame.block == 0
        if frame.is_frozen:
            if frame.block != 0:
                self.file.drop(frame.block)
            self._save(frame.page, block, sum)
        else:
            if frame.block != 0:
                self.file.release(frame.block)
            if frame.page < self.settled:
                self._save(frame.page, block, sum)
        cython.cast(Places, self.places.data)[frame.page].sum = sum
        frame.block = block
        frame.is_dirty = False
        frame.is_frozen = False
        self.dirty_count -= 1

    def _read(self, frame, number):
        page: cython.pointer(Page) = self.pages + (frame - 1)
        place: Places = cython.cast(Places, self.places.data) + number
        if self.file.read(place.block, cython.cast(cython.pointer(uint8_t), page), place.sum):
            if page.number == number and page_is_sound(page):
                return True
            self.file.error = EBADMSG
        self.error = self.file.error
        if self.error == EBADMSG:
            self.is_damaged = True
        return False

    def _take_frame(self):
        """A frame without a page; 0, with the reason in `error`, when none can be had."""
        number: uint32_t = self.free_frame
        if number != 0:
            self.free_frame = self.frames[number].page
            return number
        if self.frames_used < self.frames_limit:
            self.frames_used += 1
            return self.frames_used
        number = self._take_victim()
        if number != 0 and self.frames_used - self.frames_retired > self.frames_limit:
            # The tables have grown into the pool's share: this frame's memory is theirs.
            madvise(self.pages + (number - 1), PAGE_BYTES, MADV_DONTNEED)
            self.frames[number].page = self.retired_frame
            self.frames[number].pins = 1
            self.retired_frame = number
            self.frames_retired += 1
            number = self._take_victim()
        if number == 0 and self.frames_retired > 0:
            # None can be spared just now. What was lent to such a need before is here again.
            number = self.retired_frame
            self.retired_frame = self.frames[number].page
            self.frames_retired -= 1
            return number
        if number == 0 and self.frames_used < self.frames_max + FRAMES_SPARE:
            self.frames_used += 1
            return self.frames_used
        return number

    def _take_victim(self):
        frame: cython.pointer(Frame)
        steps: uint64_t
        failure: cython.int = 0
        for steps in range(3 * cython.cast(uint64_t, self.frames_used)):
            self.hand = self.hand + 1 if self.hand < self.frames_used else 1
            frame = self.frames + self.hand
            if frame.pins != 0 or frame.is_writing:
                continue
            if frame.is_referenced:
                frame.is_referenced = False
                continue
            if frame.is_dirty and (failure != 0 or not self._write(self.hand)):
                failure = self.error
                continue
            cython.cast(Places, self.places.data)[frame.page].block = frame.block
            return self.hand
        self.error = failure or ENOMEM
        return 0

    def _drop_frame(self, number):
        if self.frames[number].is_dirty:
            self.dirty_count -= 1
        self.frames[number].pins = 0
        self.frames[number].is_dirty = False
        self.frames[number].block = 0
        self.frames[number].page = self.free_frame
        self.free_frame = number

    def fetch(self, number):
        places: Places = cython.cast(Places, self.places.data)
        frame: uint32_t
        block: uint32_t
        if unlikely(not self.is_used(number)):
            self.is_damaged = True
            self.error = EBADMSG
            return cython.NULL
        if unlikely(not places[number].block & IN_FRAME):
            frame = self._take_frame()
            if frame == 0:
                return cython.NULL
            block = places[number].block
            self.frames[frame].is_dirty = False
            self.frames[frame].is_frozen = False
            self.frames[frame].pins = 0
            if not self._read(frame, number):
                self._drop_frame(frame)
                return cython.NULL
            self.frames[frame].page = number
            self.frames[frame].block = block
            places[number].block = IN_FRAME | frame
        frame = places[number].block & NUMBER
        self.frames[frame].is_referenced = True
        return self.pages + (frame - 1)

    def is_used(self, number):
        places: Places = cython.cast(Places, self.places.data)
        return number != 0 and number < self.pages_end and not places[number].block & FREE

    def ask_for(self, number):
        places: Places = cython.cast(Places, self.places.data)
        if self.is_used(number) and not places[number].block & IN_FRAME:
            self.file.ask_for(places[number].block)

    def prefetch_slots(self, number):
        places: Places = cython.cast(Places, self.places.data)
        page: cython.pointer(Page)
        slot: uint32_t = 0
        if self.is_used(number) and places[number].block & IN_FRAME:
            page = self.pages + ((places[number].block & NUMBER) - 1)
            prefetch(page)
            while slot < PREFETCH_SLOTS:
                prefetch(cython.address(page.slots[slot]))
                slot += 8

    def _set_limit(self):
        """Pages and what is known of each share the memory."""
        tables: uint64_t = (
            (cython.cast(uint64_t, self.pages_end) + 2 * TABLE_PAGES) * (2 * SIZE)
            + self.file.end
            + (self.file.end >> 2)
        )
        left: uint64_t = self.pool_bytes - min(tables, self.pool_bytes)
        self.frames_limit = cython.cast(
            uint32_t,
            min(
                cython.cast(uint64_t, self.frames_max),
                max(FRAMES_MIN, left // (PAGE_BYTES + cython.sizeof(Frame))),
            ),
        )

    def create(self, level):
        places: Places = cython.cast(Places, self.places.data)
        number: uint32_t = self.free_page
        frame: uint32_t
        if self.reserve(1) != 0:
            self.error = self.error or ENOMEM
            return cython.NULL
        frame = self._take_frame()
        if frame == 0:
            return cython.NULL
        if number != 0:
            self.free_page = places[number].block & ~FREE
            self.free_count -= 1
        else:
            number = self.pages_end
            self.pages_end += 1
            self.places.used = cython.cast(uint64_t, self.pages_end) * SIZE
            self.saved.used = self.places.used
            cython.cast(Places, self.saved.data)[number].block = 0
            cython.cast(Places, self.saved.data)[number].sum = 0
            if number % TABLE_PAGES == 0:
                self._set_limit()
        places[number].block = IN_FRAME | frame
        self.frames[frame].page = number
        self.frames[frame].block = 0
        self.frames[frame].pins = 0
        self.frames[frame].is_dirty = True
        self.frames[frame].is_frozen = False
        self.frames[frame].is_referenced = True
        self.dirty_count += 1
        self.unplaced_count += 1
        self.changed += 1
        page_init(self.pages + (frame - 1), number, level)
        return self.pages + (frame - 1)

    def give_back(self, page):
        number: uint32_t = page.number
        frame: uint32_t = self._frame_of(page)
        if self.frames[frame].block != 0:
            self.file.release(self.frames[frame].block)
        else:
            self.unplaced_count -= 1
        if number < self.settled:
            self._save(number, 0, 0)
        cython.cast(Places, self.places.data)[number].block = FREE | self.free_page
        self.free_page = number
        self.free_count += 1
        self._drop_frame(frame)

    def memory_bytes(self):
        return (
            cython.cast(uint64_t, self.frames_used - self.frames_retired)
            * (PAGE_BYTES + cython.sizeof(Frame))
            + self.places.used
            + self.saved.used
            + self.file.marks.used
        )

    # -- a checkpoint

    def freeze(self):
        number: uint32_t
        for number in range(1, self.frames_used + 1):
            self.frames[number].is_frozen = self.frames[number].is_dirty
        self.file.hold_all()
        self.changed_before = self.changed
        self.changed = 0
        self.settled = 0
        self.flush_hand = 1
        self.has_given_up = False

    def thaw_all(self):
        """The checkpoint will not be: nothing has to be written for it, and all of the table for the next one."""
        self._thaw_frames()
        self.changed += self.changed_before
        memset(self.stale_tables, 1, self.pages_end // TABLE_PAGES + 1)

    def _block_of(self, number):
        place: uint32_t = cython.cast(Places, self.places.data)[number].block
        if place & FREE:
            return 0
        return self.frames[place & NUMBER].block if place & IN_FRAME else place

    def settle_some(self, count):
        """Bring `saved` up to date for the next pages; True while there are more."""
        block: uint32_t
        if self.settled == ALL:
            return False
        while count > 0 and self.settled < self.pages_end:
            if self.settled != 0:
                block = self._block_of(self.settled)
                self._save(
                    self.settled,
                    block,
                    cython.cast(Places, self.places.data)[self.settled].sum if block != 0 else 0,
                )
            self.settled += 1
            count -= 1
        if self.settled >= self.pages_end:
            self.settled = ALL
        return self.settled != ALL

    # -- taking over a checkpoint

    def load_table(self, number, found, pages_end):
        """0, or -1 when it cannot be right or memory is short; see `error`."""
        page: uint64_t = cython.cast(uint64_t, number) * TABLE_PAGES
        end: uint64_t = min(page + TABLE_PAGES, cython.cast(uint64_t, pages_end))
        first: uint64_t = page
        block: uint32_t
        if self.places.reserve(end * SIZE - self.places.used) != 0 or self.saved.reserve(
            end * SIZE - self.saved.used
        ):
            self.error = ENOMEM
            return -1
        while page < end:
            block = found[page - first].block
            if block != 0 and (page == 0 or self.file.claim(block) != 0):
                self.error = EBADMSG
                return -1
            cython.cast(Places, self.places.data)[page] = found[page - first]
            cython.cast(Places, self.saved.data)[page] = found[page - first]
            page += 1
        self.places.used = end * SIZE
        self.saved.used = end * SIZE
        return 0

    def end_load(self, pages_end):
        page: uint32_t
        places: Places = cython.cast(Places, self.places.data)
        self.pages_end = pages_end
        if self.places.used < cython.cast(uint64_t, pages_end) * SIZE and pages_end > 1:
            self.error = EBADMSG
            return -1
        for page in range(1, pages_end):
            if places[page].block == 0:
                places[page].block = FREE | self.free_page
                self.free_page = page
                self.free_count += 1
        self._set_limit()
        return 0
