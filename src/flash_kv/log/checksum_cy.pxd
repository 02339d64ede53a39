from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef uint32_t crc32c_extend(uint32_t state, const uint8_t* data, size_t size) noexcept nogil
cdef uint32_t record_checksum(
    uint32_t seed, uint64_t offset, const uint8_t* record, uint64_t size
) noexcept nogil
cdef uint32_t segment_seed(const uint8_t* store_id, uint64_t segment_id, uint64_t epoch) noexcept nogil

# As record_checksum, from the parts: the word at record + 4, and what follows at record + 8.
cdef uint32_t record_checksum_of(
    uint32_t seed, uint64_t offset, uint32_t word, const uint8_t* rest, uint64_t rest_size
) noexcept nogil
