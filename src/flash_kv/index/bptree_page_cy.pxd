# A page of the B+ tree on disk. See bptree_page_cy.py.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    PAGE_BYTES = 4096
    PAGE_HEADER_BYTES = 24
    PAGE_ROOM = PAGE_BYTES - PAGE_HEADER_BYTES
    PAGE_SLOTS = 509                      # what fits behind the header
    CELL_BYTES = 16                       # of a slot and a value; the key comes on top
    PAGE_KEY_SIZE_MAX = 1000              # four of them fit a page

cdef struct PageSlot:
    uint32_t head                         # four bytes of the key from `skip` on, as a big-endian number
    uint16_t offset                       # of the cell: eight bytes of value, then the key
    uint16_t size                         # of the key

cdef struct Page:
    uint32_t checksum
    uint32_t number
    uint16_t level                        # 0: a leaf
    uint16_t count
    uint16_t start                        # of the lowest cell
    uint16_t dead                         # bytes of cells that were removed
    uint16_t skip                         # bytes that all keys begin with
    uint16_t reserved
    uint32_t first_child                  # of an inner page: what is below its first key
    PageSlot[509] slots

cdef inline const uint8_t* page_key(const Page* page, uint32_t slot) noexcept nogil:
    return <const uint8_t*>page + page.slots[slot].offset + 8

cdef void page_init(Page* page, uint32_t number, uint32_t level) noexcept nogil
cdef uint64_t page_value(const Page* page, uint32_t slot) noexcept nogil
cdef void page_set_value(Page* page, uint32_t slot, uint64_t value) noexcept nogil
# The first slot whose key is not below the one looked for, and whether it is that one.
cdef uint32_t page_search(const Page* page, const uint8_t* data, uint32_t size, bint* is_found) noexcept nogil
cdef uint32_t page_used(const Page* page) noexcept nogil
cdef bint page_has_room(const Page* page, uint32_t size) noexcept nogil
# Requires: room, and a slot that keeps the order.
cdef void page_insert(Page* page, uint32_t slot, const uint8_t* data, uint32_t size, uint64_t value) noexcept nogil
cdef void page_remove(Page* page, uint32_t slot) noexcept nogil
# Copy the cells from `slot` on behind those of `target`.
cdef void page_copy_tail(const Page* page, uint32_t slot, Page* target) noexcept nogil
# Drop the cells from `slot` on.
cdef void page_cut(Page* page, uint32_t slot) noexcept nogil
# Where to part a page so that both halves hold about as many bytes.
cdef uint32_t page_middle(const Page* page) noexcept nogil
cdef bint page_is_sound(const Page* page) noexcept nogil
