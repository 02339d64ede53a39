# The k-way merge of sorted runs into an index. See load_cy.py.
from libc.stdint cimport uint32_t, uint64_t
from flash_kv.index.index_cy cimport Index
from flash_kv.log.hints_cy cimport HintEntry
from flash_kv.log.table_cy cimport Key, SegmentTable

cdef enum:
    LOAD_GROUP = 16

# Where one run stands in the merge.
cdef struct Cursor:
    uint64_t head                         # first eight bytes of the key, as a number
    const HintEntry* entry                # NULL: the run is exhausted
    const HintEntry* end
    uint64_t segment_id
    uint64_t live_bytes
    uint64_t live_records

# Loser tree: losers[0] is the winner, losers[i] the loser of the match at node i.
cdef struct Merge:
    Cursor* cursors
    uint32_t* losers
    uint32_t count
    Key[16] keys                          # winners on their way into the index
    uint64_t[16] entries
    uint64_t[16] found
    uint64_t waiting
    uint64_t reserved                     # upserts that cannot fail for want of memory any more
    uint64_t loaded
    uint64_t replaced                     # keys that were in the index before
    const HintEntry* newest               # of the key that came last
    uint64_t newest_head
    bint has_unlike_copies
    bint is_out_of_memory
    int error                             # errno, with bad_position
    uint64_t bad_position

# Begin with the runs, each of another segment of the table. `end_merge` follows, whatever happens.
cdef int begin_merge(Merge* merge, SegmentTable table, list runs) except -1
# The cursor at the newest entry of the next key, or NULL at the end; the caller then passes the entry by `pass_entry`.
cdef Cursor* next_key(Merge* merge) noexcept nogil
cdef void pass_entry(Merge* merge) noexcept nogil
cdef int end_merge(Merge* merge, list runs) except -1
