# The tree of pages. See bptree_tree_cy.py.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.index.bptree_page_cy cimport Page
from flash_kv.index.index_cy cimport Walk
from flash_kv.index.page_store_cy cimport PageStore
from flash_kv.log.table_cy cimport Key

cdef enum:
    BPTREE_HEIGHT_MAX = 24

# The way from the root to a leaf.
cdef struct PageWay:
    uint32_t[24] pages                    # by level
    uint32_t[24] slots                    # which child was taken; 0 is the first one
    bint is_last                          # no leaf is to the right of this one

cdef class PageTree:
    cdef PageStore store
    cdef uint32_t root                    # 0: empty
    cdef uint32_t height
    cdef uint64_t count
    cdef uint8_t[1000] separator
    # As of when the checkpoint that is being written began.
    cdef uint32_t frozen_root
    cdef uint32_t frozen_height
    cdef uint64_t frozen_count
    cdef uint32_t frozen_end

    # NULL: see store.error. The tree is not empty.
    cdef Page* descend(self, const uint8_t* data, uint32_t size, PageWay* way) noexcept nogil
    cdef uint64_t get(self, const uint8_t* data, uint32_t size) noexcept nogil
    # For several keys at once: the leaf where each is, on its way into the cache, or 0; and then what that leaf holds.
    cdef uint32_t approach(self, const uint8_t* data, uint32_t size) noexcept nogil
    cdef uint64_t get_in(self, uint32_t leaf, const uint8_t* data, uint32_t size) noexcept nogil
    # False when that cannot be told.
    cdef bint is_above(self, const uint8_t* data, uint32_t size) noexcept nogil
    cdef void ask_for(self, const uint8_t* data, uint32_t size) noexcept nogil
    # `leaf`: where `approach` has led, however long ago, which saves the way when the key is there still; or 0.
    cdef uint64_t put(self, uint32_t leaf, const uint8_t* data, uint32_t size, uint64_t entry) noexcept nogil
    cdef uint64_t take(self, uint32_t leaf, const uint8_t* data, uint32_t size) noexcept nogil
    cdef bint swap(
        self, uint32_t leaf, const uint8_t* data, uint32_t size, uint64_t old, uint64_t new
    ) noexcept nogil
    # The last `collect` ended where a page failed, which may be behind what it took.
    cdef bint has_failed
    # As Index.walk, up to `bound`, exclusive, which may be NULL. ~0 when nothing was taken and a page failed.
    cdef uint64_t collect(self, const Walk* state, const Key* bound, uint64_t* entries, uint64_t capacity) noexcept nogil
    cdef void empty(self) noexcept nogil
    cdef void freeze(self) noexcept nogil

    cdef uint32_t _leaf_for(self, const uint8_t* data, uint32_t size) noexcept nogil
    cdef Page* _noted(
        self, uint32_t leaf, const uint8_t* data, uint32_t size, uint32_t* slot, bint* is_found
    ) noexcept nogil
    cdef bint _plant(self) noexcept nogil
    cdef bint _make_room(self, PageWay* way, uint32_t slot, const uint8_t* data, uint32_t size) noexcept nogil
    cdef uint32_t _part(
        self, const Page* page, const PageWay* way, uint32_t slot, const uint8_t* data, uint32_t size, uint32_t* at
    ) noexcept nogil
    cdef bint _grow(self) noexcept nogil
    cdef bint _split(self, PageWay* way, uint32_t level, uint32_t at, uint32_t size) noexcept nogil
    cdef void _tidy(self, PageWay* way) noexcept nogil
    cdef bint _merge(self, Page* parent, uint32_t slot) noexcept nogil
    cdef Page* _edge(self, PageWay* way, uint32_t level, bint is_reverse) noexcept nogil
    cdef Page* _next_leaf(self, PageWay* way, bint is_reverse) noexcept nogil
