from libc.stdint cimport uint32_t, uint64_t
from flash_kv.index.arena_cy cimport Arena
from flash_kv.index.index_cy cimport Index
from flash_kv.intrinsics cimport fence_release, store_release32, unlikely

cdef extern from *:
    """
    /* A bit for each of ten numbers that is `wanted`. */
    #if defined(__SSE2__)
    #include <emmintrin.h>
    static inline uint32_t fk_matching_ten(const uint32_t *numbers, uint32_t wanted)
    {
        __m128i x = _mm_set1_epi32((int)wanted);
        __m128i low = _mm_cmpeq_epi32(_mm_loadu_si128((const __m128i *)numbers), x);
        __m128i high = _mm_cmpeq_epi32(_mm_loadu_si128((const __m128i *)(numbers + 4)), x);
        __m128i last = _mm_cmpeq_epi32(_mm_loadl_epi64((const __m128i *)(numbers + 8)), x);
        __m128i words = _mm_packs_epi16(_mm_packs_epi32(low, high), _mm_packs_epi32(last, _mm_setzero_si128()));
        return (uint32_t)_mm_movemask_epi8(words) & 0x3FFu;
    }
    #else
    static inline uint32_t fk_matching_ten(const uint32_t *numbers, uint32_t wanted)
    {
        uint32_t bits = 0;
        for (int i = 0; i < 10; i++) bits |= (uint32_t)(numbers[i] == wanted) << i;
        return bits;
    }
    #endif
    static inline uint32_t fk_lowest_bit(uint32_t bits) { return (uint32_t)__builtin_ctz(bits); }
    """
    uint32_t matching_ten "fk_matching_ten"(const uint32_t* numbers, uint32_t wanted) noexcept nogil
    uint32_t lowest_bit "fk_lowest_bit"(uint32_t bits) noexcept nogil  # bits are not 0

cdef enum:
    BUCKET_ENTRIES = 10
    BUCKETS_MIN = 8

# 128 bytes, two cache lines. Version odd: being written. An entry of 0 is free; the used ones are not contiguous.
cdef struct Bucket:
    uint32_t version
    uint32_t overflow                     # number of the next overflow bucket, 0 ends the chain
    uint32_t[10] hashes
    uint64_t[10] entries

cdef class HashBuckets(Index):
    cdef Arena primary                    # buckets 0 .. buckets - 1
    cdef Arena spill                      # overflow buckets; number 0 is never used
    cdef uint64_t buckets                 # published with release after a split
    cdef uint64_t keys
    cdef uint32_t free_spill              # head of the list of free overflow buckets
    cdef uint64_t spill_free_count

    cdef uint64_t level_bit               # a power of two at most `buckets`, kept to save finding it

    cdef void _empty(self) noexcept nogil
    cdef void _place(self, Bucket* home, uint32_t hash, uint64_t entry) noexcept nogil
    cdef uint32_t _take_spill(self) noexcept nogil
    cdef void _tidy(self, Bucket* home) noexcept nogil
    cdef uint64_t _chain_length(self, Bucket* home) noexcept nogil
    cdef void _split(self) noexcept nogil
    cdef void _merge(self) noexcept nogil

cdef inline void begin_write(Bucket* bucket) noexcept nogil:
    store_release32(&bucket.version, bucket.version + 1)
    fence_release()

cdef inline void end_write(Bucket* bucket) noexcept nogil:
    store_release32(&bucket.version, bucket.version + 1)

cdef inline uint32_t matching(const Bucket* bucket, uint32_t hash) noexcept nogil:
    """A bit for each place with this hash; places may be free."""
    return matching_ten(bucket.hashes, hash)

cdef inline uint64_t level_of(uint64_t buckets) noexcept nogil:
    """The greatest power of two that is at most `buckets`."""
    cdef uint64_t bit = BUCKETS_MIN
    while bit * 2 <= buckets:
        bit *= 2
    return bit

cdef inline Bucket* home_bucket(HashBuckets self, uint32_t hash, uint64_t buckets) noexcept nogil:
    """Where an entry with this hash begins to be looked for, when there are `buckets`."""
    cdef uint64_t bit = self.level_bit
    cdef uint64_t number
    if unlikely(bit * 2 <= buckets or bit > buckets):
        bit = level_of(buckets)
    number = hash & (2 * bit - 1)
    if number >= buckets:
        number -= bit
    return <Bucket*>self.primary.data + number

cdef inline Bucket* spilled_bucket(HashBuckets self, uint32_t number) noexcept nogil:
    """The overflow bucket, or NULL at the end of the chain or on a number read while it changed."""
    if number == 0 or (<uint64_t>number + 1) * sizeof(Bucket) > self.spill.used:
        return NULL
    return <Bucket*>self.spill.data + number
