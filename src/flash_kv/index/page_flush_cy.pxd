# Writing the frozen pages of a checkpoint. See page_flush_cy.py.
from flash_kv.index.page_store_cy cimport PageStore

# How many frozen pages are to be written now: 0 when none is left, -1 when there is no block for one; see store.error.
cdef int gather(PageStore store) noexcept nogil
# An errno, or 0. Needs no lock.
cdef int write_gathered(PageStore store, int count) noexcept nogil
cdef void end_gathered(PageStore store, int count, int failure) noexcept nogil
