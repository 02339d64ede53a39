from flash_kv.index.index_cy cimport Index
from flash_kv.log.table_cy cimport SegmentTable

cdef class LoadProbe:
    cdef SegmentTable table
    cdef readonly Index index
    cdef dict _segments
