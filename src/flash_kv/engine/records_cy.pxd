from flash_kv.engine.writes_cy cimport Writes
from flash_kv.log.format cimport RecordHeader

cdef class Records(Writes):
    cdef object copied_record(self, object key)

# The `Record` of a sound value record, whose value is at hand already.
cdef object record_of(const RecordHeader* header, object value)
