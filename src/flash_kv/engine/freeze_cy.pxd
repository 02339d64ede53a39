from libc.stdint cimport uint64_t
from flash_kv.log.table_cy cimport SegmentRef

cdef class Frozen:
    cdef SegmentRef** refs                # where the counters are,
    cdef SegmentRef* states               # and a copy of them
    cdef uint64_t segment_count
    cdef uint64_t* chains                 # of each pending version: its node, its position, the node behind it
    cdef uint64_t chain_count
    cdef uint64_t chain_room
    cdef uint64_t* loose                  # positions of keys that are in no page
    cdef uint64_t loose_count
    cdef uint64_t loose_room

    # Room for so many, and for some more that may come meanwhile. MemoryError.
    cdef int make_room(self, uint64_t segments, uint64_t chains, uint64_t loose) except -1
    cdef list counters(self, list segment_ids)
    cdef list chain_list(self)
    cdef list loose_list(self)
