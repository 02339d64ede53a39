from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from flash_kv.log.scan_loop_cy cimport ScanRecord

# Into `order` (room for `count`) the numbers of the newest record of each key, by key; how many, or -1: no memory.
# Requires: count < 2^32 - 1, and every record's key within `data`.
cdef int64_t sort_newest(
    const uint8_t* data, const ScanRecord* records, uint64_t count, uint32_t* order
) noexcept nogil
