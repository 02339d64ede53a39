# The names of include/flash_kv_intrinsics.h for compiled modules.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "flash_kv_intrinsics.h" nogil:
    uint32_t load_acquire32 "fk_load32"(const uint32_t *p) noexcept
    uint64_t load_acquire64 "fk_load64"(const uint64_t *p) noexcept
    void store_release32 "fk_store32"(uint32_t *p, uint32_t v) noexcept
    void store_release64 "fk_store64"(uint64_t *p, uint64_t v) noexcept
    uint32_t load_relaxed32 "fk_peek32"(const uint32_t *p) noexcept
    uint64_t load_relaxed64 "fk_peek64"(const uint64_t *p) noexcept
    void add_relaxed64 "fk_bump64"(uint64_t *p, int64_t v) noexcept
    uint64_t add_atomic64 "fk_add64"(uint64_t *p, uint64_t v) noexcept
    uint64_t load_fenced64 "fk_load_fenced64"(const uint64_t *p) noexcept
    void move_words "fk_move_words"(uint64_t *to, const uint64_t *source, size_t count) noexcept
    void clear_words "fk_clear_words"(uint64_t *p, size_t count) noexcept
    int compare_changing "fk_compare_changing"(const void *a, const void *b, size_t count) noexcept
    void fence_release "fk_fence_release"() noexcept
    void fence_acquire "fk_fence_acquire"() noexcept
    void prefetch "fk_prefetch"(const void *p) noexcept
    void pause "fk_pause"() noexcept
    uint64_t byte_swap64 "fk_bswap64"(uint64_t v) noexcept
    uint64_t monotonic_ns "fk_monotonic_ns"() noexcept
    uint64_t realtime_ms "fk_realtime_ms"() noexcept
    bint unlikely "fk_is_unlikely"(bint condition) noexcept
    bint has_crc32c "fk_has_crc32c"() noexcept
    uint32_t crc32c_instr "fk_crc32c_instr"(uint32_t crc, const uint8_t *p, size_t n) noexcept
    void crc32c_instr_three "fk_crc32c_instr_three"(uint32_t *crcs, const uint8_t *p, size_t stride) noexcept
    uint32_t crc32c_instr_record "fk_crc32c_instr_record"(
        uint32_t crc, uint64_t offset, uint32_t word, const uint8_t *p, size_t n) noexcept
