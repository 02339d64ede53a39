"""Pages of one file, used in a pool of frames whose size does not depend on how many there are.

A page has its number's place in the file. It gets there when its frame is needed for another page: the clock
(Corbato 1968) gives up the frame that was not used for a round. As long as all pages fit the pool the file stays empty.

The file is scratch: what it holds is worth nothing without this object, and nothing in it is synced. All the same each
page carries a CRC32C, seeded with the index's own secret, over its content and number, and is checked when it is read:
a page that was damaged or exchanged is an error (EIO) and never an answer.

Invariants: a page that is not in a frame is in the file, whole; a frame that is pinned keeps its page; a page is
created only where the file has blocks for it, or where the pool has a frame for every page there is.

Requires: one caller at a time.
"""

import cython
from cython.cimports.flash_kv.index.arena_cy import Arena
from cython.cimports.flash_kv.index.bptree_page_cy import PAGE_BYTES, Page, page_init, page_is_sound
from cython.cimports.flash_kv.index.page_store_cy import Frame
from cython.cimports.flash_kv.intrinsics import unlikely
from cython.cimports.flash_kv.io.memory_cy import map_pages, unmap_pages
from cython.cimports.flash_kv.log.checksum_cy import crc32c_extend
from cython.cimports.libc.errno import EINTR, EIO, ENOMEM, ENOSPC, errno
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.posix.fcntl import posix_fallocate
from cython.cimports.posix.mman import madvise
from cython.cimports.posix.unistd import close, ftruncate, pread, pwrite

FREE = cython.declare(uint32_t, 1 << 31)
PAGES_MAX = cython.declare(uint64_t, (1 << 31) - 1)
# Blocks are asked for in pieces of 1 MiB.
FILE_STEP = cython.declare(uint64_t, 256)
MADV_DONTNEED = cython.declare(cython.int, 4)


@cython.final
@cython.cclass
class PageStore:
    """Pages by number, from 1."""

    def __cinit__(self):
        self.fd = -1
        self.pages_end = 1
        self.file_end = 1
        self.places = Arena()

    def __dealloc__(self):
        unmap_pages(self.pages, cython.cast(uint64_t, self.frames_max) * PAGE_BYTES)
        unmap_pages(self.frames, (cython.cast(uint64_t, self.frames_max) + 1) * cython.sizeof(Frame))
        if self.fd >= 0:
            close(self.fd)

    def set_up(self, fd, pool_bytes, seed):
        """Use this descriptor, which belongs to the store from now on, and as much memory."""
        count: uint64_t = max(cython.cast(uint64_t, 8), pool_bytes // PAGE_BYTES)
        count = min(count, PAGES_MAX)
        self.pages = cython.cast(cython.pointer(Page), map_pages(count * PAGE_BYTES))
        self.frames = cython.cast(cython.pointer(Frame), map_pages((count + 1) * cython.sizeof(Frame)))
        self.frames_max = count
        if self.pages == cython.NULL or self.frames == cython.NULL:
            raise MemoryError("no memory for the pages of an index")
        self.seed = crc32c_extend(
            0xFFFFFFFF, cython.cast(cython.pointer(uint8_t), cython.address(seed)), cython.sizeof(uint64_t)
        )
        self.fd = fd
        return 0

    def empty(self):
        madvise(self.pages, cython.cast(uint64_t, self.frames_max) * PAGE_BYTES, MADV_DONTNEED)
        madvise(
            self.frames, (cython.cast(uint64_t, self.frames_max) + 1) * cython.sizeof(Frame), MADV_DONTNEED
        )
        self.places.shrink(0)
        self.frames_used = 0
        self.free_frame = 0
        self.hand = 0
        self.pages_end = 1
        self.free_page = 0
        self.free_count = 0
        # What cannot be cut stays allocated, and is used again.
        if self.fd >= 0 and ftruncate(self.fd, 0) == 0:
            self.file_end = 1

    def reserve(self, count):
        end: uint64_t = self.pages_end + count
        wanted: uint64_t
        failure: cython.int
        if count > PAGES_MAX or end > PAGES_MAX:
            return -1
        if self.places.reserve(end * 4 - min(end * 4, self.places.used)) != 0:
            return -1
        if end <= self.frames_max or end <= self.file_end + self.free_count:
            return 0
        wanted = max(end - self.file_end, FILE_STEP)
        failure = posix_fallocate(
            self.fd, cython.cast(uint64_t, self.file_end) * PAGE_BYTES, wanted * PAGE_BYTES
        )
        if failure != 0:
            self.error = failure
            return -1
        self.file_end += wanted
        return 0

    def _frame_of(self, page):
        return cython.cast(uint32_t, (page - self.pages) + 1)

    def touch(self, page):
        self.frames[self._frame_of(page)].is_dirty = True

    def pin(self, page):
        self.frames[self._frame_of(page)].pins += 1

    def unpin(self, page):
        self.frames[self._frame_of(page)].pins -= 1

    def _write(self, frame):
        page: cython.pointer(Page) = self.pages + (frame - 1)
        data = cython.cast(cython.pointer(uint8_t), page)
        done: uint64_t = 0
        put: cython.Py_ssize_t
        page.checksum = crc32c_extend(self.seed, data + 4, PAGE_BYTES - 4)
        while done < PAGE_BYTES:
            put = pwrite(
                self.fd,
                data + done,
                PAGE_BYTES - done,
                cython.cast(uint64_t, page.number) * PAGE_BYTES + done,
            )
            if put < 0 and errno == EINTR:
                continue
            if put <= 0:
                self.error = errno if put < 0 else EIO
                return False
            done += put
        self.pages_written += 1
        self.frames[frame].is_dirty = False
        return True

    def _read(self, frame, number):
        page: cython.pointer(Page) = self.pages + (frame - 1)
        data = cython.cast(cython.pointer(uint8_t), page)
        done: uint64_t = 0
        got: cython.Py_ssize_t
        while done < PAGE_BYTES:
            got = pread(
                self.fd, data + done, PAGE_BYTES - done, cython.cast(uint64_t, number) * PAGE_BYTES + done
            )
            if got < 0 and errno == EINTR:
                continue
            if got <= 0:
                self.error = errno if got < 0 else EIO
                return False
            done += got
        self.pages_read += 1
        if (
            page.number != number
            or page.checksum != crc32c_extend(self.seed, data + 4, PAGE_BYTES - 4)
            or not page_is_sound(page)
        ):
            self.error = EIO
            return False
        return True

    def _take_frame(self):
        """A frame without a page; 0, with the reason in `error`, when none can be had."""
        number: uint32_t = self.free_frame
        frame: cython.pointer(Frame)
        steps: uint64_t
        if number != 0:
            self.free_frame = self.frames[number].page
            return number
        if self.frames_used < self.frames_max:
            self.frames_used += 1
            return self.frames_used
        for steps in range(3 * cython.cast(uint64_t, self.frames_max)):
            self.hand = self.hand + 1 if self.hand < self.frames_max else 1
            frame = self.frames + self.hand
            if frame.pins != 0:
                continue
            if frame.is_referenced:
                frame.is_referenced = False
                continue
            if frame.is_dirty and not self._write(self.hand):
                return 0
            cython.cast(cython.pointer(uint32_t), self.places.data)[frame.page] = 0
            return self.hand
        self.error = ENOMEM
        return 0

    def _drop_frame(self, number):
        self.frames[number].pins = 0
        self.frames[number].is_dirty = False
        self.frames[number].page = self.free_frame
        self.free_frame = number

    def fetch(self, number):
        places = cython.cast(cython.pointer(uint32_t), self.places.data)
        frame: uint32_t
        if unlikely(number == 0 or number >= self.pages_end or places[number] & FREE):
            self.error = EIO
            return cython.NULL
        frame = places[number]
        if unlikely(frame == 0):
            frame = self._take_frame()
            if frame == 0:
                return cython.NULL
            self.frames[frame].is_dirty = False
            self.frames[frame].pins = 0
            if not self._read(frame, number):
                self._drop_frame(frame)
                return cython.NULL
            self.frames[frame].page = number
            places[number] = frame
        self.frames[frame].is_referenced = True
        return self.pages + (frame - 1)

    def create(self, level):
        places = cython.cast(cython.pointer(uint32_t), self.places.data)
        number: uint32_t = self.free_page
        frame: uint32_t
        if number == 0 and self.reserve(1) != 0:
            self.error = self.error or ENOSPC
            return cython.NULL
        frame = self._take_frame()
        if frame == 0:
            return cython.NULL
        if number != 0:
            self.free_page = places[number] & ~FREE
            self.free_count -= 1
        else:
            number = self.pages_end
            self.pages_end += 1
            self.places.used = cython.cast(uint64_t, self.pages_end) * 4
        places[number] = frame
        self.frames[frame].page = number
        self.frames[frame].pins = 0
        self.frames[frame].is_dirty = True
        self.frames[frame].is_referenced = True
        page_init(self.pages + (frame - 1), number, level)
        return self.pages + (frame - 1)

    def give_back(self, page):
        number: uint32_t = page.number
        frame: uint32_t = self._frame_of(page)
        cython.cast(cython.pointer(uint32_t), self.places.data)[number] = FREE | self.free_page
        self.free_page = number
        self.free_count += 1
        self._drop_frame(frame)

    def memory_bytes(self):
        return (
            cython.cast(uint64_t, self.frames_used) * (PAGE_BYTES + cython.sizeof(Frame)) + self.places.used
        )
