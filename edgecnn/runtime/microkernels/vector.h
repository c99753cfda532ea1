/* One vocabulary of float vectors for every instruction set.

   The file that includes this defines EC_VECTOR_BYTES (16, 32 or 64). Arithmetic is written with the compiler's own
   vector extensions (GCC and Clang); only what these cannot say (masked loads and stores, NaN-keeping minimum and maximum)
   uses intrinsics. Everything is static: a function shared by files compiled for different CPUs could be merged into the
   newest CPU's copy by the linker and kill an older one. */
#ifndef EC_VECTOR_H
#define EC_VECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__) || defined(_M_X64)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#define EC_NEON 1
#endif

#define EC_INLINE static inline __attribute__((always_inline, unused))
#if defined(__clang__)
#define EC_UNROLL _Pragma("clang loop unroll(full)")
#else
#define EC_UNROLL _Pragma("GCC unroll 64")
#endif
#define LANES (EC_VECTOR_BYTES / 4)

typedef float vfloat __attribute__((vector_size(EC_VECTOR_BYTES)));
typedef int32_t vint __attribute__((vector_size(EC_VECTOR_BYTES)));
typedef uint32_t vuint __attribute__((vector_size(EC_VECTOR_BYTES)));
typedef float vfloat_unaligned __attribute__((vector_size(EC_VECTOR_BYTES), aligned(4), may_alias));

EC_INLINE vfloat vload(const float *p) { return *(const vfloat_unaligned *)p; }
EC_INLINE void vstore(float *p, vfloat x) { *(vfloat_unaligned *)p = x; }
/* Subtracting +0 leaves every value as it is, -0 included. */
EC_INLINE vfloat vsplat(float x) { return x - (vfloat){0}; }
EC_INLINE vint vsplat_int(int32_t x) { return x + (vint){0}; }
EC_INLINE vfloat vconvert(vint x) { return __builtin_convertvector(x, vfloat); }

/* mask lanes are all ones or all zeros, as comparisons of vectors give them. */
#if EC_NEON
EC_INLINE vfloat vselect(vint mask, vfloat yes, vfloat no) {
    return (vfloat)vbslq_f32((uint32x4_t)mask, (float32x4_t)yes, (float32x4_t)no);
}
#else
EC_INLINE vfloat vselect(vint mask, vfloat yes, vfloat no) { return (vfloat)((mask & (vint)yes) | (~mask & (vint)no)); }
#endif
EC_INLINE vfloat vabs(vfloat x) { return (vfloat)((vint)x & 0x7fffffff); }
EC_INLINE vfloat vcopysign(vfloat magnitude, vfloat sign) {
    return (vfloat)(((vint)magnitude & 0x7fffffff) | ((vint)sign & (int32_t)0x80000000));
}

/* x < y and x == y of all numbers. NEON of 32-bit ARM takes subnormal ones for zero: there integers in the order of the floats
   are compared. */
#if EC_NEON && !defined(__aarch64__)
EC_INLINE vint vorder(vfloat x) {
    vint sign = (vint)x >> 31;
    return (((vint)x & 0x7fffffff) ^ sign) - sign;
}
EC_INLINE vint vless(vfloat x, vfloat y) { return (vorder(x) < vorder(y)) & (x == x) & (y == y); }
EC_INLINE vint vequal(vfloat x, vfloat y) { return (vorder(x) == vorder(y)) & (x == x); }
#else
EC_INLINE vint vless(vfloat x, vfloat y) { return x < y; }
EC_INLINE vint vequal(vfloat x, vfloat y) { return x == y; }
#endif

/* The first n of LANES floats (0 < n <= LANES); the other lanes are zero, their memory is not touched. */
#if EC_VECTOR_BYTES == 64
EC_INLINE vfloat vload_first(const float *p, size_t n) {
    return (vfloat)_mm512_maskz_loadu_ps((__mmask16)(0xffffu >> (16 - n)), p);
}
EC_INLINE void vstore_first(float *p, vfloat x, size_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)(0xffffu >> (16 - n)), (__m512)x);
}
#elif EC_VECTOR_BYTES == 32
static const int32_t ec_first_lanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
EC_INLINE vfloat vload_first(const float *p, size_t n) {
    return (vfloat)_mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i *)(ec_first_lanes + 8 - n)));
}
EC_INLINE void vstore_first(float *p, vfloat x, size_t n) {
    _mm256_maskstore_ps(p, _mm256_loadu_si256((const __m256i *)(ec_first_lanes + 8 - n)), (__m256)x);
}
#elif EC_NEON
/* Lanes by constant numbers: a loop over them would go through memory. */
EC_INLINE vfloat vload_first(const float *p, size_t n) {
    if (n >= 4) return vload(p);
    vfloat x = {p[0], 0.0f, 0.0f, 0.0f};
    if (n > 1) x[1] = p[1];
    if (n > 2) x[2] = p[2];
    return x;
}
EC_INLINE void vstore_first(float *p, vfloat x, size_t n) {
    if (n >= 4) {
        vstore(p, x);
        return;
    }
    p[0] = x[0];
    if (n > 1) p[1] = x[1];
    if (n > 2) p[2] = x[2];
}
#else
EC_INLINE vfloat vload_first(const float *p, size_t n) {
    vfloat x = {0};
    for (size_t i = 0; i < n; i++) x[i] = p[i];
    return x;
}
EC_INLINE void vstore_first(float *p, vfloat x, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = x[i];
}
#endif

/* vspread(p, mask): the first floats at p in the lanes whose bits are set, in order, zero in the others. Reads LANES floats.
   EC_SPREAD is defined where there is such a function. */
#if EC_VECTOR_BYTES == 64
#define EC_SPREAD
typedef uint16_t vmask;
EC_INLINE vfloat vspread(const float *p, vmask mask) {
    return (vfloat)_mm512_maskz_expand_ps((__mmask16)mask, (__m512)vload(p));
}
#elif EC_VECTOR_BYTES == 32
#define EC_SPREAD
typedef uint8_t vmask;
/* For each mask and lane the place of its float among those that are there; 0x80 where the lane is empty. */
#define EC_PLACE(MASK, LANE) ((MASK) >> (LANE) & 1 ? __builtin_popcount((MASK) & ((1 << (LANE)) - 1)) : 0x80)
#define EC_PLACES(MASK)                                                                                                  \
    {EC_PLACE(MASK, 0), EC_PLACE(MASK, 1), EC_PLACE(MASK, 2), EC_PLACE(MASK, 3),                                         \
     EC_PLACE(MASK, 4), EC_PLACE(MASK, 5), EC_PLACE(MASK, 6), EC_PLACE(MASK, 7)}
#define EC_PLACES_4(MASK) EC_PLACES(MASK), EC_PLACES((MASK) + 1), EC_PLACES((MASK) + 2), EC_PLACES((MASK) + 3)
#define EC_PLACES_16(MASK) EC_PLACES_4(MASK), EC_PLACES_4((MASK) + 4), EC_PLACES_4((MASK) + 8), EC_PLACES_4((MASK) + 12)
#define EC_PLACES_64(MASK) \
    EC_PLACES_16(MASK), EC_PLACES_16((MASK) + 16), EC_PLACES_16((MASK) + 32), EC_PLACES_16((MASK) + 48)
static const uint8_t ec_places[256][8] __attribute__((aligned(64), unused)) = {
    EC_PLACES_64(0), EC_PLACES_64(64), EC_PLACES_64(128), EC_PLACES_64(192)};
EC_INLINE vfloat vspread(const float *p, vmask mask) {
    /* Sign extension puts the mark of an empty lane where andnot of its sign finds it. */
    __m256i places = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)ec_places[mask]));
    __m256 spread = _mm256_permutevar8x32_ps((__m256)vload(p), places);
    return (vfloat)_mm256_andnot_ps(_mm256_castsi256_ps(_mm256_srai_epi32(places, 31)), spread);
}
#elif defined(__aarch64__)
#define EC_SPREAD
typedef uint8_t vmask;
#define EC_BYTE(MASK, LANE, BYTE) \
    ((MASK) >> (LANE) & 1 ? 4 * __builtin_popcount((MASK) & ((1 << (LANE)) - 1)) + (BYTE) : 0xff)
#define EC_BYTES(MASK, LANE) EC_BYTE(MASK, LANE, 0), EC_BYTE(MASK, LANE, 1), EC_BYTE(MASK, LANE, 2), EC_BYTE(MASK, LANE, 3)
#define EC_PLACES(MASK) {EC_BYTES(MASK, 0), EC_BYTES(MASK, 1), EC_BYTES(MASK, 2), EC_BYTES(MASK, 3)}
#define EC_PLACES_4(MASK) EC_PLACES(MASK), EC_PLACES((MASK) + 1), EC_PLACES((MASK) + 2), EC_PLACES((MASK) + 3)
/* For each mask the bytes to take; what lies beyond the register is zero. */
static const uint8_t ec_places[16][16] __attribute__((aligned(64), unused)) = {EC_PLACES_4(0), EC_PLACES_4(4), EC_PLACES_4(8),
                                                                               EC_PLACES_4(12)};
EC_INLINE vfloat vspread(const float *p, vmask mask) {
    return (vfloat)vqtbl1q_u8((uint8x16_t)vload(p), vld1q_u8(ec_places[mask]));
}
#endif

/* vmax(a, x) and vmin(a, x): x where x is NaN (the x86 instructions give their second operand then). */
#if EC_VECTOR_BYTES == 64
EC_INLINE vfloat vmax(vfloat a, vfloat x) { return (vfloat)_mm512_max_ps((__m512)a, (__m512)x); }
EC_INLINE vfloat vmin(vfloat a, vfloat x) { return (vfloat)_mm512_min_ps((__m512)a, (__m512)x); }
#elif EC_VECTOR_BYTES == 32
EC_INLINE vfloat vmax(vfloat a, vfloat x) { return (vfloat)_mm256_max_ps((__m256)a, (__m256)x); }
EC_INLINE vfloat vmin(vfloat a, vfloat x) { return (vfloat)_mm256_min_ps((__m256)a, (__m256)x); }
#elif defined(__SSE2__)
EC_INLINE vfloat vmax(vfloat a, vfloat x) { return (vfloat)_mm_max_ps((__m128)a, (__m128)x); }
EC_INLINE vfloat vmin(vfloat a, vfloat x) { return (vfloat)_mm_min_ps((__m128)a, (__m128)x); }
#elif EC_NEON /* where either is NaN these give NaN; `a` never is */
EC_INLINE vfloat vmax(vfloat a, vfloat x) { return (vfloat)vmaxq_f32((float32x4_t)a, (float32x4_t)x); }
EC_INLINE vfloat vmin(vfloat a, vfloat x) { return (vfloat)vminq_f32((float32x4_t)a, (float32x4_t)x); }
#else
EC_INLINE vfloat vmax(vfloat a, vfloat x) { return vselect(a > x, a, x); }
EC_INLINE vfloat vmin(vfloat a, vfloat x) { return vselect(a < x, a, x); }
#endif

#endif
