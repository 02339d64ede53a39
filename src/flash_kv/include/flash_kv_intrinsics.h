/* CPU intrinsics that Cython cannot spell: CRC32C instructions with run-time detection,
 * acquire/release accesses, fences, prefetch. Everything else is Cython.
 *
 * fk_crc32c_* work on the raw register (no initial or final inversion): the caller does both.
 */
#ifndef FLASH_KV_INTRINSICS_H
#define FLASH_KV_INTRINSICS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

static inline uint32_t fk_load32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline uint64_t fk_load64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void fk_store32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline void fk_store64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
/* No order, but never half a word: for numbers that one thread changes and others look at. */
static inline uint32_t fk_peek32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline uint64_t fk_peek64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
/* Requires: no other thread changes it. A load, an addition and a store. */
static inline void fk_bump64(uint64_t *p, int64_t v)
{
    __atomic_store_n(p, __atomic_load_n(p, __ATOMIC_RELAXED) + (uint64_t)v, __ATOMIC_RELAXED);
}
static inline uint64_t fk_add64(uint64_t *p, uint64_t v) { return __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL); }
/* Between a seqlock's odd version and the stores it guards, and between guarded loads and the check. */
static inline void fk_fence_release(void) { __atomic_thread_fence(__ATOMIC_RELEASE); }
static inline void fk_fence_acquire(void) { __atomic_thread_fence(__ATOMIC_ACQUIRE); }
/* A load with an acquire fence behind it, before anything depends on it. ThreadSanitizer knows no fences. */
#if defined(__SANITIZE_THREAD__)
static inline uint64_t fk_load_fenced64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
#else
static inline uint64_t fk_load_fenced64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
#endif
/* `count` words under a version, of which readers load single ones while they change. */
#if defined(__SANITIZE_THREAD__)
static inline void fk_move_words(uint64_t *to, const uint64_t *from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t k = to < from ? i : count - 1 - i;
        fk_store64(to + k, from[k]);
    }
}
static inline void fk_clear_words(uint64_t *p, size_t count)
{
    for (size_t i = 0; i < count; i++) fk_store64(p + i, 0);
}
#else
static inline void fk_move_words(uint64_t *to, const uint64_t *from, size_t count) { memmove(to, from, count * 8); }
static inline void fk_clear_words(uint64_t *p, size_t count) { memset(p, 0, count * 8); }
#endif
/* memcmp of bytes that may change meanwhile, where the caller finds that out afterwards. */
#if defined(__SANITIZE_THREAD__)
/* Not the library's, whose reads the sanitizer records for whoever calls it. */
__attribute__((no_sanitize("thread"), noinline))
static int fk_compare_changing(const void *a, const void *b, size_t count)
{
    const volatile uint8_t *x = a, *y = b;
    for (size_t i = 0; i < count; i++) {
        int difference = (int)x[i] - (int)y[i];
        if (difference != 0) return difference;
    }
    return 0;
}
#else
static inline int fk_compare_changing(const void *a, const void *b, size_t count) { return memcmp(a, b, count); }
#endif
/* The empty asm keeps GCC from dropping calls of functions that do nothing but prefetch. */
static inline void fk_prefetch(const void *p) { __builtin_prefetch(p, 0, 3); __asm__ volatile(""); }
/* Between two looks at what another thread is about to change. */
#if defined(__x86_64__)
static inline void fk_pause(void) { __builtin_ia32_pause(); }
#elif defined(__aarch64__)
static inline void fk_pause(void) { __asm__ volatile("yield"); }
#else
static inline void fk_pause(void) { __asm__ volatile(""); }
#endif
static inline uint64_t fk_bswap64(uint64_t v) { return __builtin_bswap64(v); }
static inline int fk_is_unlikely(int condition) { return __builtin_expect(condition, 0); }

#if defined(__x86_64__)
#include <nmmintrin.h>
#define FK_CRC_TARGET __attribute__((target("sse4.2")))
static inline int fk_has_crc32c(void) { __builtin_cpu_init(); return __builtin_cpu_supports("sse4.2"); }
#define FK_CRC64(c, v) ((uint32_t)_mm_crc32_u64((c), (v)))
#define FK_CRC32(c, v) _mm_crc32_u32((c), (v))
#define FK_CRC8(c, v) _mm_crc32_u8((c), (v))
#elif defined(__aarch64__)
#include <arm_acle.h>
#define FK_CRC_TARGET __attribute__((target("+crc")))
#if defined(__linux__)
#include <sys/auxv.h>
static inline int fk_has_crc32c(void) { return (getauxval(AT_HWCAP) >> 7) & 1; } /* HWCAP_CRC32 */
#else
static inline int fk_has_crc32c(void) { return 1; } /* every Apple arm64 has it */
#endif
#define FK_CRC64(c, v) __crc32cd((c), (v))
#define FK_CRC32(c, v) __crc32cw((c), (v))
#define FK_CRC8(c, v) __crc32cb((c), (v))
#else
#define FK_CRC_TARGET
static inline int fk_has_crc32c(void) { return 0; }
#define FK_CRC64(c, v) (c)
#define FK_CRC32(c, v) (c)
#define FK_CRC8(c, v) (c)
#endif

FK_CRC_TARGET static inline uint32_t fk_crc32c_instr(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t w; uint32_t h;
    for (; n >= 8; n -= 8, p += 8) { memcpy(&w, p, 8); crc = FK_CRC64(crc, w); }
    if (n >= 4) { memcpy(&h, p, 4); crc = FK_CRC32(crc, h); n -= 4; p += 4; }
    for (; n; n--, p++) crc = FK_CRC8(crc, *p);
    return crc;
}

/* What a record's checksum covers: its offset, the four bytes after the checksum, and n bytes, a multiple of 8. */
FK_CRC_TARGET static inline uint32_t fk_crc32c_instr_record(
    uint32_t crc, uint64_t offset, uint32_t word, const uint8_t *p, size_t n)
{
    uint64_t w; size_t i;
    crc = FK_CRC64(crc, offset);
    crc = FK_CRC32(crc, word);
    for (i = 0; i < n; i += 8) { memcpy(&w, p + i, 8); crc = FK_CRC64(crc, w); }
    return crc;
}

/* Time that only differences of mean anything. */
static inline uint64_t fk_monotonic_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t fk_realtime_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

/* Three independent streams of `stride` bytes (a multiple of 8) hide the instruction's latency. */
FK_CRC_TARGET static inline void fk_crc32c_instr_three(uint32_t *crcs, const uint8_t *p, size_t stride)
{
    uint32_t a = crcs[0], b = crcs[1], c = crcs[2];
    uint64_t x, y, z; size_t i;
    for (i = 0; i < stride; i += 8) {
        memcpy(&x, p + i, 8); memcpy(&y, p + stride + i, 8); memcpy(&z, p + 2 * stride + i, 8);
        a = FK_CRC64(a, x); b = FK_CRC64(b, y); c = FK_CRC64(c, z);
    }
    crcs[0] = a; crcs[1] = b; crcs[2] = c;
}

#endif
