from libc.stdint cimport uint64_t
from flash_kv.log.scan_loop_cy cimport ScanState
from flash_kv.log.source_cy cimport Source

cdef class SegmentScan:
    cdef ScanState state
    cdef Source source
    cdef readonly bytes store_id
    cdef readonly uint64_t segment_id
    cdef readonly uint64_t epoch
    cdef readonly bint is_sealed
    cdef uint64_t _missing                # bytes of a sealed segment that its file does not have

    cdef int _run(self) except -1
