from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef struct PrefixRegisters:
    const uint8_t* data
    uint64_t start                        # where the prefixes begin
    uint32_t* registers                   # after every STEP bytes from `start`
    uint64_t count
    uint64_t capacity

# As record_checksum of the `size` bytes at data[offset], in a time that does not depend on `size`.
# Requires: offset >= start. False when memory is short.
cdef bint range_checksum(
    PrefixRegisters* prefixes, uint32_t seed, uint64_t offset, uint64_t size, uint32_t* checksum
) noexcept nogil
