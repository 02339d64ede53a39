# SipHash-1-3 (Aumasson and Bernstein 2012, with the reduced rounds CPython and Rust use for hash tables): keyed per
# store, so that nobody without the key can make keys collide.
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #define FK_ROTATE(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
    #define FK_SIP_ROUND(a, b, c, d) do { \\
        a += b; c += d; b = FK_ROTATE(b, 13) ^ a; d = FK_ROTATE(d, 16) ^ c; a = FK_ROTATE(a, 32); \\
        c += b; a += d; b = FK_ROTATE(b, 17) ^ c; d = FK_ROTATE(d, 21) ^ a; c = FK_ROTATE(c, 32); } while (0)
    #define FK_SIP_A 0x736f6d6570736575ULL
    #define FK_SIP_B 0x646f72616e646f6dULL
    #define FK_SIP_C 0x6c7967656e657261ULL
    #define FK_SIP_D 0x7465646279746573ULL
    """
    const uint64_t SIP_A "FK_SIP_A"
    const uint64_t SIP_B "FK_SIP_B"
    const uint64_t SIP_C "FK_SIP_C"
    const uint64_t SIP_D "FK_SIP_D"
    void sip_round "FK_SIP_ROUND"(uint64_t a, uint64_t b, uint64_t c, uint64_t d) noexcept nogil

cdef inline uint64_t siphash13(const uint64_t* key, const uint8_t* data, uint64_t size) noexcept nogil:
    cdef uint64_t a = SIP_A ^ key[0]
    cdef uint64_t b = SIP_B ^ key[1]
    cdef uint64_t c = SIP_C ^ key[0]
    cdef uint64_t d = SIP_D ^ key[1]
    cdef uint64_t word
    cdef uint64_t left = size
    while left >= 8:
        memcpy(&word, data, 8)
        d ^= word
        sip_round(a, b, c, d)
        a ^= word
        data += 8
        left -= 8
    word = 0
    if left & 4:
        memcpy(&word, data, 4)
    if left & 2:
        word |= (<uint64_t>data[left & 4] | (<uint64_t>data[(left & 4) + 1] << 8)) << (8 * (left & 4))
    if left & 1:
        word |= <uint64_t>data[left - 1] << (8 * (left - 1))
    word |= size << 56
    d ^= word
    sip_round(a, b, c, d)
    a ^= word
    c ^= 0xFF
    sip_round(a, b, c, d)
    sip_round(a, b, c, d)
    sip_round(a, b, c, d)
    return a ^ b ^ c ^ d
