# Pages of a file, and the pool of frames they are used in. See page_store_cy.py.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.index.arena_cy cimport Arena
from flash_kv.index.bptree_page_cy cimport Page

cdef struct Frame:
    uint32_t page                         # 0: none; of a free frame, the next free one
    uint8_t pins
    bint is_dirty
    bint is_referenced                    # used since the hand of the clock came by

cdef class PageStore:
    cdef int fd
    cdef int error                        # errno of the last call that gave NULL
    cdef uint32_t seed
    cdef Page* pages
    cdef Frame* frames                    # counted from 1, as in `places`
    cdef uint32_t frames_max
    cdef uint32_t frames_used
    cdef uint32_t free_frame
    cdef uint32_t hand
    cdef Arena places                     # of each page, its frame; of a free page, FREE and the next free one
    cdef uint32_t pages_end               # above the highest page there is
    cdef uint32_t free_page
    cdef uint32_t free_count
    cdef uint32_t file_end                # pages below it have blocks of their own in the file
    cdef readonly uint64_t pages_read
    cdef readonly uint64_t pages_written

    cdef int set_up(self, int fd, uint64_t pool_bytes, uint64_t seed) except -1
    cdef void empty(self) noexcept nogil
    # 0: so many new pages have room in memory and in the file. -1: memory or disk is short, nothing changed.
    cdef int reserve(self, uint64_t count) noexcept nogil
    # The page, until the next call of `fetch` or `create` unless it is pinned. NULL: see `error`.
    cdef Page* fetch(self, uint32_t number) noexcept nogil
    cdef Page* create(self, uint32_t level) noexcept nogil
    # Requires: in a frame.
    cdef void give_back(self, Page* page) noexcept nogil
    cdef void touch(self, Page* page) noexcept nogil
    cdef void pin(self, Page* page) noexcept nogil
    cdef void unpin(self, Page* page) noexcept nogil
    cdef uint64_t memory_bytes(self) noexcept nogil

    cdef uint32_t _frame_of(self, const Page* page) noexcept nogil
    cdef uint32_t _take_frame(self) noexcept nogil
    cdef bint _write(self, uint32_t frame) noexcept nogil
    cdef bint _read(self, uint32_t frame, uint32_t number) noexcept nogil
    cdef void _drop_frame(self, uint32_t number) noexcept nogil
