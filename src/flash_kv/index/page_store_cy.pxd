# Pages of a file, and the pool of frames they are used in. See page_store_cy.py.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.index.arena_cy cimport Arena
from flash_kv.index.bptree_page_cy cimport Page
from flash_kv.index.page_file_cy cimport PageFile

cdef enum:
    TABLE_PAGES = 510                     # pages a block of the page table speaks of
    FLUSH_PAGES = 16                      # written at a time by a checkpoint
    TABLES_MAX = 52020                    # what the directories that a checkpoint has room for lead to

# Where a page was written last.
cdef struct Place:
    uint32_t block                        # of `places`: or IN_FRAME and its frame; or FREE and the next free page
    uint32_t sum                          # the checksum it has there

cdef struct Frame:
    uint32_t page                         # 0: none; of a free frame, the next free one
    uint32_t block                        # where the page was written last; 0: nowhere yet
    uint8_t pins
    bint is_dirty                         # newer than that block
    bint is_frozen                        # as the checkpoint that is being written needs it
    bint is_writing                       # it is, outside the lock: it keeps its page
    bint is_referenced                    # used since the hand of the clock came by

cdef class PageStore:
    cdef PageFile file
    cdef int error                        # errno of the last call that gave NULL or -1
    cdef Page* pages
    cdef Frame* frames                    # counted from 1
    cdef uint64_t pool_bytes
    cdef uint32_t frames_max              # what the pool has room for
    cdef uint32_t frames_limit            # of which so many may be used, for the tables take memory as well
    cdef uint32_t frames_used
    cdef uint32_t frames_retired          # of those, the ones that are not used any more
    cdef uint32_t dirty_count
    cdef uint32_t unplaced_count          # of those, the ones that have no block yet
    cdef uint64_t changed                 # pages that became dirty since the last checkpoint began
    cdef uint64_t changed_before          # as of when it began
    cdef uint32_t retired_frame           # the last of them; of a retired frame, the one before
    cdef uint32_t free_frame
    cdef uint32_t hand
    cdef Arena places                     # a Place for each page
    cdef Arena saved                      # the same as the next checkpoint will have it; block 0: none
    cdef uint8_t* stale_tables            # which blocks of the page table have changed since they were written
    cdef uint32_t settled                 # `saved` follows `places` for the pages below
    cdef uint32_t flush_hand
    cdef uint32_t[16] flush_frames        # being written, with the blocks
    cdef uint32_t[16] flush_blocks
    cdef uint8_t* flush_buffer            # their content as of when it was frozen
    cdef uint32_t pages_end               # above the highest page there is
    cdef uint32_t free_page
    cdef uint32_t free_count
    cdef bint has_given_up                # no room for the checkpoint that is being written
    cdef bint is_damaged                  # a block did not hold what was written there

    cdef int set_up(self, uint64_t pool_bytes) except -1
    cdef void empty(self) noexcept nogil
    # 0: so many upserts have room in memory and in the file. -1: memory or disk is short, nothing changed.
    cdef int reserve(self, uint64_t count) noexcept nogil
    # The same for changes that need no new page.
    cdef int reserve_changes(self, uint64_t count) noexcept nogil
    # The page, until the next call of `fetch` or `create` unless it is pinned. NULL: see `error`.
    cdef Page* fetch(self, uint32_t number) noexcept nogil
    # Whether there is a page of this number.
    cdef bint is_used(self, uint32_t number) noexcept nogil
    # Have the system read it, if it is not in memory.
    cdef void ask_for(self, uint32_t number) noexcept nogil
    # Have the processor bring it nearer, if it is in memory.
    cdef void prefetch_slots(self, uint32_t number) noexcept nogil
    cdef Page* create(self, uint32_t level) noexcept nogil
    # Before a page is changed or given back: False when that has to wait for a write that failed.
    cdef bint thaw(self, const Page* page) noexcept nogil
    # Requires, for both: in a frame, thawed.
    cdef void give_back(self, Page* page) noexcept nogil
    cdef void touch(self, Page* page) noexcept nogil
    cdef void pin(self, const Page* page) noexcept nogil
    cdef void unpin(self, const Page* page) noexcept nogil
    cdef uint64_t memory_bytes(self) noexcept nogil

    # A checkpoint, in this order; the pages are written in page_flush_cy between the first two.
    cdef void freeze(self) noexcept nogil
    cdef void thaw_all(self) noexcept nogil
    cdef bint settle_some(self, uint32_t count) noexcept nogil

    # Taking over a checkpoint: each block of the page table, then the end.
    cdef int load_table(self, uint32_t number, const Place* found, uint32_t pages_end) noexcept nogil
    cdef int end_load(self, uint32_t pages_end) noexcept nogil

    cdef int _reserve_blocks(self, uint64_t new, uint64_t count) noexcept nogil
    cdef void _thaw_frames(self) noexcept nogil
    cdef uint32_t _frame_of(self, const Page* page) noexcept nogil
    cdef uint32_t _take_frame(self) noexcept nogil
    cdef uint32_t _take_victim(self) noexcept nogil
    cdef bint _write(self, uint32_t frame) noexcept nogil
    cdef void _moved(self, uint32_t frame, uint32_t block, uint32_t sum) noexcept nogil
    cdef bint _read(self, uint32_t frame, uint32_t number) noexcept nogil
    cdef void _drop_frame(self, uint32_t number) noexcept nogil
    cdef void _save(self, uint32_t number, uint32_t block, uint32_t sum) noexcept nogil
    cdef uint32_t _block_of(self, uint32_t number) noexcept nogil
    cdef void _set_limit(self) noexcept nogil
