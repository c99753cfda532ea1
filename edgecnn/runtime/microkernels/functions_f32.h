/* Elementary functions of a vector, and the activation functions made of them.

   Errors are a few units in the last place over the whole range; NaN gives NaN, infinities give the function's limit.
   Polynomial and rational coefficients are our own least-squares fits at Chebyshev points, their largest errors stated. */
#include <math.h>

#include "table.h"
#include "vector.h"

/* glibc 2.27 gave these a second version, which only leaves errno alone; the first one is there in older ones too. */
#if defined(__GLIBC__) && defined(__x86_64__)
__asm__(".symver logf, logf@GLIBC_2.2.5\n.symver powf, powf@GLIBC_2.2.5");
#elif defined(__GLIBC__) && defined(__aarch64__)
__asm__(".symver logf, logf@GLIBC_2.17\n.symver powf, powf@GLIBC_2.17");
#elif defined(__GLIBC__) && defined(__arm__)
__asm__(".symver logf, logf@GLIBC_2.4\n.symver powf, powf@GLIBC_2.4");
#endif

/* x = n ln 2 + r, |r| <= ln 2 / 2: gives r and, in the low bits of `bits`, n. Adding 1.5 * 2^23 rounds to an integer. */
#define EC_ROUND 12582912.0f
EC_INLINE vfloat reduce_exponent(vfloat x, vint *n) {
    vfloat shifted = x * 1.44269504f + EC_ROUND;
    vfloat whole = shifted - EC_ROUND;
    *n = (vint)shifted - (vint)vsplat(EC_ROUND);
    return (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
}

/* (exp(r) - 1 - r) / r^2 for |r| <= ln 2 / 2: error 6.4e-8. */
EC_INLINE vfloat exponential_rest(vfloat r) {
    return (((r * 1.3933656e-3f + 8.3631845e-3f) * r + 4.1666465e-2f) * r + 1.6666577e-1f) * r + 0.5f;
}

EC_INLINE vfloat vpower_of_two(vint n) { return (vfloat)((n + 127) << 23); }

EC_INLINE vfloat vexp(vfloat x) {
    vint n;
    x = vmin(vsplat(89.0f), vmax(vsplat(-104.0f), x));
    vfloat r = reduce_exponent(x, &n);
    vfloat y = (exponential_rest(r) * r) * r + r + 1.0f;
    vint half = n >> 1; /* in two factors, since 2^n itself may be outside the exponent's range */
    return y * vpower_of_two(half) * vpower_of_two(n - half);
}

/* exp(x) - 1 without cancellation; for x <= 88. */
EC_INLINE vfloat vexpm1(vfloat x) {
    vint n;
    x = vmin(vsplat(88.0f), vmax(vsplat(-87.0f), x));
    vfloat r = reduce_exponent(x, &n);
    vfloat y = (exponential_rest(r) * r) * r + r;
    vfloat scale = vpower_of_two(n);
    return y * scale + (scale - 1.0f);
}

/* log(1 + y) for 0 <= y <= 1, as 2 atanh(y / (2 + y)): error of the series in s^2 3.5e-9. */
EC_INLINE vfloat vlog1p(vfloat y) {
    vfloat s = y / (y + 2.0f), u = s * s;
    vfloat g = (((u * 0.11619525f + 0.10851662f) * u + 0.14296291f) * u + 0.19999851f) * u + 0.33333334f;
    return 2.0f * (s + s * u * g);
}

EC_INLINE vfloat vtanh(vfloat x) {
    vfloat t = vexpm1(vmin(vsplat(20.0f), 2.0f * vabs(x)));
    return vcopysign(t / (t + 2.0f), x);
}

/* x P(x^2) / Q(x^2) up to 3.925, where erf is 1 - 2.8e-8: relative error 3e-7. */
EC_INLINE vfloat verf(vfloat x) {
    x = vmin(vsplat(3.925f), vmax(vsplat(-3.925f), x));
    vfloat u = x * x;
    vfloat p = ((((u * 2.1065566e-6f + 2.8473927e-4f) * u + 3.6479679e-3f) * u + 5.2393071e-2f) * u + 0.18733068f) * u + 1.1283791f;
    vfloat q = ((((u * 3.8669055e-5f + 1.1386789e-3f) * u + 1.4731227e-2f) * u + 0.11288434f) * u + 0.49935046f) * u + 1.0f;
    return x * p / q;
}

/* 1 + exp(-x), for what divides by it; of NaN it may be any number. x = -n ln 2 + r, |r| <= ln 2 / 2: exp(-r) is a polynomial with an
   error of 9.2e-8, to whose exponent n is added. It stands in the low bits of the shifted x; the others leave the word.
   Beyond -87 the quotient is 1e-38 in place of even less. */
EC_INLINE vfloat vsigmoid_divisor(vfloat x) {
    x = vmin(vsplat(87.0f), vmax(vsplat(-87.0f), x));
    vfloat shifted = x * -1.44269504f + EC_ROUND, whole = shifted - EC_ROUND;
    vfloat r = (x + whole * 0.693359375f) + whole * -2.12194440e-4f;
    vfloat p = ((((r * -8.2903147e-3f + 4.1897930e-2f) * r - 0.16667636f) * r + 0.49999151f) * r - 0.9999997f) * r + 1.0f;
    return 1.0f + (vfloat)((vint)p + ((vint)shifted << 23));
}
EC_INLINE vfloat vsigmoid(vfloat x) { return vselect(x == x, 1.0f / vsigmoid_divisor(x), x); }

/* m 2^e with m in [sqrt(1/2), sqrt(2)), as e ln 2 + 2 atanh((m - 1) / (m + 1)): error of the series 2e-9. */
EC_INLINE vfloat vlog(vfloat x) {
    vint tiny = x < 1.17549435e-38f;
    vfloat y = vselect(tiny, x * 8388608.0f, x);
    vint bits = (vint)y - 0x3f3504f3;
    vint e = (bits >> 23) - (tiny & 23);
    vfloat m = (vfloat)((bits & 0x7fffff) + 0x3f3504f3);
    vfloat s = (m - 1.0f) / (m + 1.0f), u = s * s, n;
    for (int lane = 0; lane < LANES; lane++) n[lane] = (float)e[lane];
    vfloat g = ((u * 0.11111111f + 0.14285714f) * u + 0.2f) * u + 0.33333333f;
    vfloat result = n * 0.693359375f + (2.0f * (s + s * u * g) + n * -2.12194440e-4f);
    result = vselect(x == 0.0f, vsplat(-INFINITY), vselect(x < 0.0f, vsplat(NAN), result));
    return vselect((x == INFINITY) | (x != x), x, result);
}
EC_INLINE vfloat vlog1p_any(vfloat x) {
    vfloat y = x + 1.0f;
    vfloat lost = (x - (y - 1.0f)) / y; /* what the addition rounded off */
    return vlog(y) + vselect((y < INFINITY) & (y > 0.0f), lost, vsplat(0.0f));
}
#define EC_LANES(NAME, FUNCTION)                                                   \
    EC_INLINE vfloat NAME(vfloat x) {                                              \
        for (int lane = 0; lane < LANES; lane++) x[lane] = FUNCTION(x[lane]);      \
        return x;                                                                  \
    }
EC_LANES(vsqrt, sqrtf)
EC_LANES(vfloor, floorf)
EC_LANES(vceil, ceilf)
EC_LANES(vround, rintf)
EC_LANES(vsin, sinf)
EC_LANES(vcos, cosf)

EC_INLINE vfloat activation_relu(vfloat x, const float *p) {
    vfloat below = (x - p[2]) * p[0];
    vint kept = ~(x <= p[2]); /* so that NaN is kept */
    vfloat y = vselect(kept, x, p[0] == 0.0f ? vsplat(0.0f) : below);
    return vmin(vsplat(p[1]), y);
}
EC_INLINE vfloat activation_clip(vfloat x, const float *p) { return vmin(vsplat(p[1]), vmax(vsplat(p[0]), x)); }
EC_INLINE vfloat activation_celu(vfloat x, const float *p) {
    return vmax(vsplat(0.0f), x) + p[0] * vexpm1(vmin(vsplat(0.0f), x) / p[0]);
}
EC_INLINE vfloat activation_sparse_sigmoid(vfloat x, const float *p) {
    (void)p;
    return vmin(vsplat(1.0f), vmax(vsplat(0.0f), 0.5f * (x + 1.0f)));
}
EC_INLINE vfloat activation_log_sigmoid(vfloat x, const float *p) {
    (void)p;
    return vmin(vsplat(0.0f), x) - vlog1p(vexp(-vabs(x)));
}
EC_INLINE vfloat activation_tanh_shrink(vfloat x, const float *p) { (void)p; return x - vtanh(x); }
EC_INLINE vfloat activation_sparse_plus(vfloat x, const float *p) {
    (void)p;
    vfloat y = x + 1.0f;
    return vselect(x <= -1.0f, vsplat(0.0f), vselect(x < 1.0f, 0.25f * (y * y), x));
}
EC_INLINE vfloat activation_squareplus(vfloat x, const float *p) { return 0.5f * (x + vsqrt(x * x + p[0])); }
EC_INLINE vfloat activation_hard_shrink(vfloat x, const float *p) { return vselect(vabs(x) <= p[0], vsplat(0.0f), x); }
EC_INLINE vfloat activation_soft_shrink(vfloat x, const float *p) {
    return vselect(vabs(x) <= p[0], vsplat(0.0f), x - vcopysign(vsplat(p[0]), x));
}
EC_INLINE vfloat activation_threshold(vfloat x, const float *p) { return vselect(x <= p[0], vsplat(p[1]), x); }
EC_INLINE vfloat activation_mish(vfloat x, const float *p) {
    (void)p; /* tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2), with e = exp(x) */
    vfloat e = vexp(vmin(vsplat(20.0f), x)), n = e * (e + 2.0f);
    return x * (n / (n + 2.0f));
}
EC_INLINE vfloat activation_expm1(vfloat x, const float *p) { (void)p; return vselect(x > 80.0f, vexp(x), vexpm1(x)); }
EC_INLINE vfloat activation_log(vfloat x, const float *p) { (void)p; return vlog(x); }
EC_INLINE vfloat activation_log1p(vfloat x, const float *p) { (void)p; return vlog1p_any(x); }
EC_INLINE vfloat activation_sqrt(vfloat x, const float *p) { (void)p; return vsqrt(x); }
EC_INLINE vfloat activation_rsqrt(vfloat x, const float *p) { (void)p; return 1.0f / vsqrt(x); }
EC_INLINE vfloat activation_reciprocal(vfloat x, const float *p) { (void)p; return 1.0f / x; }
EC_INLINE vfloat activation_square(vfloat x, const float *p) { (void)p; return x * x; }
EC_INLINE vfloat activation_abs(vfloat x, const float *p) { (void)p; return vabs(x); }
EC_INLINE vfloat activation_sign(vfloat x, const float *p) {
    (void)p;
    return vselect(x > 0.0f, vsplat(1.0f), vselect(x < 0.0f, vsplat(-1.0f), x));
}
EC_INLINE vfloat activation_floor(vfloat x, const float *p) { (void)p; return vfloor(x); }
EC_INLINE vfloat activation_ceil(vfloat x, const float *p) { (void)p; return vceil(x); }
EC_INLINE vfloat activation_round(vfloat x, const float *p) { (void)p; return vround(x); }
EC_INLINE vfloat activation_sin(vfloat x, const float *p) { (void)p; return vsin(x); }
EC_INLINE vfloat activation_cos(vfloat x, const float *p) { (void)p; return vcos(x); }
EC_INLINE vfloat activation_erf(vfloat x, const float *p) { (void)p; return verf(x); }
EC_INLINE vfloat activation_elu(vfloat x, const float *p) { return vselect(x > 0.0f, x, p[0] * vexpm1(vmin(vsplat(0.0f), x))); }
EC_INLINE vfloat activation_selu(vfloat x, const float *p) {
    (void)p; /* scale and alpha: Klambauer et al. 2017, section 2 */
    return 1.05070098f * vselect(x > 0.0f, x, 1.67326324f * vexpm1(vmin(vsplat(0.0f), x)));
}
EC_INLINE vfloat activation_sigmoid(vfloat x, const float *p) { (void)p; return vsigmoid(x); }
EC_INLINE vfloat activation_hard_sigmoid(vfloat x, const float *p) {
    return vmin(vsplat(1.0f), vmax(vsplat(0.0f), x * p[0] + p[1]));
}
EC_INLINE vfloat activation_tanh(vfloat x, const float *p) { (void)p; return vtanh(x); }
EC_INLINE vfloat activation_softplus(vfloat x, const float *p) {
    (void)p;
    return vmax(vsplat(0.0f), x) + vlog1p(vexp(-vabs(x)));
}
EC_INLINE vfloat activation_softsign(vfloat x, const float *p) { (void)p; return x / (1.0f + vabs(x)); }
EC_INLINE vfloat activation_swish(vfloat x, const float *p) { (void)p; return x / vsigmoid_divisor(x); }
EC_INLINE vfloat activation_hard_swish(vfloat x, const float *p) {
    (void)p;
    return x * (vmin(vsplat(6.0f), vmax(vsplat(0.0f), x + 3.0f)) * (1.0f / 6.0f));
}
EC_INLINE vfloat activation_gelu(vfloat x, const float *p) {
    (void)p;
    return 0.5f * x * (1.0f + verf(x * 0.70710678f));
}
EC_INLINE vfloat activation_gelu_tanh(vfloat x, const float *p) {
    (void)p; /* Hendrycks & Gimpel 2016, section 2 */
    return 0.5f * x * (1.0f + vtanh(0.79788456f * (x + 0.044715f * (x * x * x))));
}
EC_INLINE vfloat activation_exponential(vfloat x, const float *p) { (void)p; return vexp(x); }

/* One call for all rows of a tile: a call a row takes longer than the cheap functions themselves. */
#define EC_ACTIVATION(NAME)                                                                                              \
    static void activate_##NAME(float *const *rows, size_t count, size_t column, size_t n, const float *parameters) {    \
        for (size_t m = 0; m < count; m++) {                                                                             \
            float *x = rows[m] + column;                                                                                 \
            size_t i = 0;                                                                                                \
            for (; i + LANES <= n; i += LANES) vstore(x + i, activation_##NAME(vload(x + i), parameters));               \
            if (i < n) vstore_first(x + i, activation_##NAME(vload_first(x + i, n - i), parameters), n - i);             \
        }                                                                                                                \
    }
EC_FUNCTION_LIST(EC_ACTIVATION)
