/* CRC-32 as zlib has it (polynomial 0x04C11DB7, reflected), of memory and of mapped files.
 *
 * Where the CPU multiplies without carries, 64 bytes at a time are folded onto the next 64. Source: Gopal et al. 2009, "Fast CRC
 * Computation for Generic Polynomials Using PCLMULQDQ Instruction" (Intel), figure 12 and section 4; its constants for the
 * reflected form are powers of x modulo the polynomial. ARMv8 has instructions for this very polynomial. Elsewhere eight tables are
 * used (Kounavis & Berry 2005, "A Systematic Approach to Building High Performance Software-based CRC Generators").
 */
#ifndef EDGECNN_CRC32_H
#define EDGECNN_CRC32_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>
#include <immintrin.h>
#elif defined(__aarch64__) && (defined(__linux__) || defined(__APPLE__))
#include <arm_acle.h>
#ifdef __linux__
#include <sys/auxv.h>
#endif
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#endif

typedef uint32_t ec_crc32_function(uint32_t crc, const unsigned char *bytes, size_t size);

static uint32_t ec_crc32_tables[8][256];

static void ec_crc32_make_tables(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
        ec_crc32_tables[0][i] = value;
    }
    for (int t = 1; t < 8; t++)
        for (int i = 0; i < 256; i++) {
            uint32_t before = ec_crc32_tables[t - 1][i];
            ec_crc32_tables[t][i] = before >> 8 ^ ec_crc32_tables[0][before & 255];
        }
}

static uint32_t ec_crc32_four(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t ec_crc32_portable(uint32_t crc, const unsigned char *bytes, size_t size) {
    crc = ~crc;
    for (; size >= 8; size -= 8, bytes += 8) {
        uint32_t low = crc ^ ec_crc32_four(bytes), high = ec_crc32_four(bytes + 4);
        crc = ec_crc32_tables[7][low & 255] ^ ec_crc32_tables[6][low >> 8 & 255] ^ ec_crc32_tables[5][low >> 16 & 255] ^
              ec_crc32_tables[4][low >> 24] ^ ec_crc32_tables[3][high & 255] ^ ec_crc32_tables[2][high >> 8 & 255] ^
              ec_crc32_tables[1][high >> 16 & 255] ^ ec_crc32_tables[0][high >> 24];
    }
    while (size--) crc = crc >> 8 ^ ec_crc32_tables[0][(crc ^ *bytes++) & 255];
    return ~crc;
}

#if defined(__x86_64__) || defined(_M_X64)

#define EC_FOLDS __attribute__((target("pclmul,sse4.1")))

EC_FOLDS static inline __m128i ec_crc32_fold(__m128i x, __m128i by, const unsigned char *onto) {
    __m128i low = _mm_clmulepi64_si128(x, by, 0x00), high = _mm_clmulepi64_si128(x, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), _mm_loadu_si128((const __m128i *)onto));
}

EC_FOLDS static inline __m128i ec_crc32_fold_values(__m128i x, __m128i by, __m128i onto) {
    __m128i low = _mm_clmulepi64_si128(x, by, 0x00), high = _mm_clmulepi64_si128(x, by, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), onto);
}

EC_FOLDS static uint32_t ec_crc32_folding(uint32_t crc, const unsigned char *bytes, size_t size) {
    if (size < 64) return ec_crc32_portable(crc, bytes, size);
    /* x^(512 + 32), x^(512 - 32); x^(128 + 32), x^(128 - 32); x^64; the quotient x^64 / P, and P. */
    const __m128i by_four = _mm_set_epi64x(0x1C6E41596, 0x154442BD4), by_one = _mm_set_epi64x(0x0CCAA009E, 0x1751997D0);
    const __m128i by_half = _mm_set_epi64x(0, 0x163CD6124), barrett = _mm_set_epi64x(0x1F7011641, 0x1DB710641);
    const __m128i even = _mm_setr_epi32(-1, 0, -1, 0);
    __m128i x[4];
    for (int i = 0; i < 4; i++) x[i] = _mm_loadu_si128((const __m128i *)(bytes + 16 * i));
    x[0] = _mm_xor_si128(x[0], _mm_cvtsi32_si128((int)~crc));
    for (size -= 64, bytes += 64; size >= 64; size -= 64, bytes += 64)
        for (int i = 0; i < 4; i++) x[i] = ec_crc32_fold(x[i], by_four, bytes + 16 * i);
    __m128i sum = x[0];
    for (int i = 1; i < 4; i++) sum = ec_crc32_fold_values(sum, by_one, x[i]);
    for (; size >= 16; size -= 16, bytes += 16) sum = ec_crc32_fold(sum, by_one, bytes);
    /* 128 bits to 96, to 64, to 32. */
    sum = _mm_xor_si128(_mm_srli_si128(sum, 8), _mm_clmulepi64_si128(sum, by_one, 0x10));
    sum = _mm_xor_si128(_mm_srli_si128(sum, 4), _mm_clmulepi64_si128(_mm_and_si128(sum, even), by_half, 0x00));
    __m128i quotient = _mm_and_si128(_mm_clmulepi64_si128(_mm_and_si128(sum, even), barrett, 0x10), even);
    sum = _mm_xor_si128(sum, _mm_clmulepi64_si128(quotient, barrett, 0x00));
    return ec_crc32_portable(~(uint32_t)_mm_extract_epi32(sum, 1), bytes, size);
}

static ec_crc32_function *ec_crc32_fastest(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_PCLMUL && c & bit_SSE4_1 ? ec_crc32_folding : ec_crc32_portable;
}

#elif defined(__aarch64__) && (defined(__linux__) || defined(__APPLE__))

#ifdef __clang__
#define EC_CRC __attribute__((target("crc")))
#else
#define EC_CRC __attribute__((target("+crc")))
#endif

EC_CRC static uint32_t ec_crc32_instructions(uint32_t crc, const unsigned char *bytes, size_t size) {
    crc = ~crc;
    for (; size >= 8; size -= 8, bytes += 8) {
        uint64_t eight;
        memcpy(&eight, bytes, 8);
        crc = __crc32d(crc, eight);
    }
    while (size--) crc = __crc32b(crc, *bytes++);
    return ~crc;
}

static ec_crc32_function *ec_crc32_fastest(void) {
#ifdef __linux__
    return getauxval(AT_HWCAP) & HWCAP_CRC32 ? ec_crc32_instructions : ec_crc32_portable;
#else
    return ec_crc32_instructions; /* every Apple CPU of 64 bits since 2016 */
#endif
}

#else

static ec_crc32_function *ec_crc32_fastest(void) { return ec_crc32_portable; }

#endif

/* Lets go of the pages that lie wholly in some mapped bytes. */
static void ec_forget(const unsigned char *bytes, size_t size, size_t page) {
#if defined(__unix__) || defined(__APPLE__)
    uintptr_t first = ((uintptr_t)bytes + page - 1) / page * page, last = ((uintptr_t)bytes + size) / page * page;
    if (first < last) madvise((void *)first, last - first, MADV_DONTNEED);
#endif
}

/* Of more than a chunk of mapped bytes none stay in memory (chunk = 0: they are not mapped). */
static uint32_t ec_crc32_by_chunks(ec_crc32_function *function, const unsigned char *bytes, size_t size, size_t chunk, size_t page) {
    uint32_t crc = 0;
    if (!chunk || size <= chunk) return function(0, bytes, size);
    while (size) {
        size_t part = size < chunk ? size : chunk;
        crc = function(crc, bytes, part);
        ec_forget(bytes, part, page);
        bytes += part;
        size -= part;
    }
    return crc;
}

#endif
