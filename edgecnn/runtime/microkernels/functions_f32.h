/* Elementary functions of a vector, and the activation functions made of them.

   |error| <= 1e-6 |f(x)| + 1e-9 for every finite x whose f(x) is a float; at infinities and NaN what Keras gives: see
   docs/decisions/functions.md and tests/runtime/test_functions.py. Coefficients are our own fits (weighted least squares at
   Chebyshev points, weights moved towards the largest error until all are alike), their largest relative errors stated.

   Integer arithmetic is done on unsigned vectors where it may leave the range of signed ones. */
#include <math.h>

#include "table.h"
#include "vector.h"

/* glibc 2.27 gave these a second version, which only leaves errno alone; the first one is there in older ones too. */
#if defined(__GLIBC__) && defined(__x86_64__)
__asm__(".symver logf, logf@GLIBC_2.2.5\n.symver powf, powf@GLIBC_2.2.5\n.symver pow, pow@GLIBC_2.2.5");
#elif defined(__GLIBC__) && defined(__aarch64__)
__asm__(".symver logf, logf@GLIBC_2.17\n.symver powf, powf@GLIBC_2.17\n.symver pow, pow@GLIBC_2.17");
#elif defined(__GLIBC__) && defined(__arm__)
__asm__(".symver logf, logf@GLIBC_2.4\n.symver powf, powf@GLIBC_2.4\n.symver pow, pow@GLIBC_2.4");
#endif

/* x = n ln 2 + r, |r| <= ln 2 / 2: gives r and, in the low bits of `bits`, n. Adding 1.5 * 2^23 rounds to an integer. */
#define EC_ROUND 12582912.0f
EC_INLINE vfloat reduce_exponent(vfloat x, vint *n) {
    vfloat shifted = x * 1.44269504f + EC_ROUND;
    vfloat whole = shifted - EC_ROUND;
    *n = (vint)((vuint)shifted - (vuint)vsplat(EC_ROUND));
    return (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
}

/* (exp(r) - 1 - r) / r^2 for |r| <= ln 2 / 2: error 6.4e-8. */
EC_INLINE vfloat exponential_rest(vfloat r) {
    return (((r * 1.3933656e-3f + 8.3631845e-3f) * r + 4.1666465e-2f) * r + 1.6666577e-1f) * r + 0.5f;
}

EC_INLINE vfloat vpower_of_two(vint n) { return (vfloat)(((vuint)n + 127) << 23); }

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

/* log(1 + y) for 0 <= y <= 1, as 2 atanh(y / (2 + y)): error of the polynomial in s^2 4.5e-9. */
EC_INLINE vfloat vlog1p(vfloat y) {
    vfloat s = y / (y + 2.0f), u = s * s;
    vfloat g = ((u * 0.140059935f + 0.140009026f) * u + 0.200107636f) * u + 0.333332081f;
    return 2.0f * (s + s * u * g);
}

EC_INLINE vfloat vtanh(vfloat x) {
    vfloat t = vexpm1(vmin(vsplat(20.0f), 2.0f * vabs(x)));
    return vcopysign(t / (t + 2.0f), x);
}

/* exp(-x - more) = p 2^n, for what goes on with both: gives p and *scale, 2^n. x + more = -n ln 2 + r, |r| <= ln 2 / 2; p is a
   polynomial with an error of 9.2e-8. n + 127 stands in the low bits of what was rounded, the others leave the word.
   -89 <= x + more <= 88.3: from 87.7 on *scale is 0, up to -88.4 it is infinity. */
#define EC_ROUND_EXPONENT (EC_ROUND + 127.0f)
EC_INLINE vfloat vexp_parts(vfloat x, vfloat more, vfloat *scale) {
    vfloat shifted = (x + more) * -1.44269504f + EC_ROUND_EXPONENT, whole = shifted - EC_ROUND_EXPONENT;
    vfloat r = ((x + whole * 0.693359375f) + more) + whole * -2.12194440e-4f;
    *scale = (vfloat)((vuint)shifted << 23);
    return ((((r * -8.2903147e-3f + 4.1897930e-2f) * r - 0.16667636f) * r + 0.49999151f) * r - 0.9999997f) * r + 1.0f;
}

/* 1 + exp(-x), for what divides by it: infinity below -88.4, so that a quotient is zero there, but NaN of -infinity. */
EC_INLINE vfloat vsigmoid_divisor(vfloat x) {
    vfloat scale, p = vexp_parts(vmin(vsplat(88.0f), vmax(vsplat(-89.0f), x)), vsplat(-0.0f), &scale);
    return p * scale + 1.0f;
}
EC_INLINE vfloat vsigmoid(vfloat x) { return 1.0f / vsigmoid_divisor(x); }

/* x P(x^2) / Q(x^2) up to 3.8, error 2e-7; there the quotient passes 1, where it is cut off: the fit is to erf made larger by
   6e-7 (x / 3.8)^16. */
EC_INLINE vfloat verf(vfloat x) {
    vfloat t = vmin(vsplat(3.8f), vabs(x)), u = t * t;
    vfloat p = (((u * 2.72902723e-4f + 7.51685129e-3f) * u + 6.39810002e-2f) * u + 0.290601819f) * u + 1.12837894f;
    vfloat q = ((((u * 1.62760091e-5f + 1.89345184e-3f) * u + 2.25516094e-2f) * u + 0.15368879f) * u + 0.590866242f) * u + 1.0f;
    return vcopysign(vmin(vsplat(1.0f), t * p / q), x);
}

/* The normal distribution beyond |x|: exp(-x^2 / 2) P(|x|) / Q(|x|), error of the quotient 1.1e-8 up to 6.2. From 13.25 on it
   is 0: an infinity times it is NaN. */
EC_INLINE vfloat vnormal_tail(vfloat x) {
    vfloat scale, t = vmin(vsplat(13.27f), vabs(x)), e = vexp_parts(0.5f * (t * t), vsplat(-0.0f), &scale);
    vfloat p = ((t * 0.0116663847f + 0.0951420838f) * t + 0.3161714f) * t + 0.499999995f;
    vfloat q = (((t * 0.0292864531f + 0.237541632f) * t + 0.831448626f) * t + 1.4302266f) * t + 1.0f;
    return (e * p / q) * scale;
}

/* m 2^e with m in [sqrt(1/2), sqrt(2)), as e ln 2 + 2 atanh((m - 1) / (m + 1)): error of the polynomial in its
   square 8e-10. A subnormal number is its bits times 2^-149, whatever the CPU makes of it as a float. */
EC_INLINE vfloat vlog(vfloat x) {
    vint given = (vint)x, tiny = given < 0x800000;
    vfloat y = vselect(tiny, vconvert(given), x);
    vint bits = (vint)((vuint)y - 0x3f3504f3);
    vint e = (bits >> 23) - (tiny & 149);
    vfloat m = (vfloat)((bits & 0x7fffff) + 0x3f3504f3);
    vfloat s = (m - 1.0f) / (m + 1.0f), u = s * s, n = vconvert(e);
    vfloat g = (u * 0.149354858f + 0.199887864f) * u + 0.33333388f;
    vfloat result = n * 0.693359375f + (2.0f * (s + s * u * g) + n * -2.12194440e-4f);
    result = vselect(given < 0, vsplat(NAN), vselect(given >= 0x7f800000, x, result)); /* of NaN, NaN */
    return vselect((given & 0x7fffffff) == 0, vsplat(-INFINITY), result);
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
/* Up to 1.5 x^3 P(x^2) / Q(x^2), error 3.6e-8: the difference would lose what is left of small x. */
EC_INLINE vfloat activation_tanh_shrink(vfloat x, const float *p) {
    (void)p;
    vfloat u = x * x;
    vfloat y = x * u * (u * 0.0145858172f + 0.333333321f) / ((u * 0.0155998299f + 0.443756808f) * u + 1.0f);
    return vselect(vabs(x) < 1.5f, y, x - vtanh(x));
}
EC_INLINE vfloat activation_sparse_plus(vfloat x, const float *p) {
    (void)p;
    vfloat y = x + 1.0f;
    return vselect(x <= -1.0f, vsplat(0.0f), vselect(x < 1.0f, 0.25f * (y * y), x));
}
/* (x + sqrt(x^2 + b)) / 2, for negative x as b / (2 (sqrt(x^2 + b) - x)). From 2^63 on the root is |x|, since b <= 1e30. Of
   -infinity NaN. */
EC_INLINE vfloat activation_squareplus(vfloat x, const float *p) {
    vfloat size = vabs(x), z = vmin(vsplat(0x1p63f), size), root = vsqrt(z * z + p[0]);
    vfloat sum = 0.5f * size + 0.5f * vselect(size > root, size, root);
    return vselect(x < 0.0f, 0.25f * p[0] / vmax(vsplat(1e-37f), sum) + (x - x), sum); /* b may be 0, and the sum */
}
/* These three choose, so that NaN becomes zero, or the default. p[2]: the largest value of `threshold`. */
EC_INLINE vfloat activation_hard_shrink(vfloat x, const float *p) { return vselect(vabs(x) > p[0], x, vsplat(0.0f)); }
EC_INLINE vfloat activation_soft_shrink(vfloat x, const float *p) {
    return vselect(vabs(x) > p[0], x - vcopysign(vsplat(p[0]), x), vsplat(0.0f));
}
EC_INLINE vfloat activation_threshold(vfloat x, const float *p) {
    return vselect(vless(vsplat(p[0]), x), vmin(vsplat(p[2]), x), vsplat(p[1]));
}
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
    vint magnitude = (vint)x & 0x7fffffff;
    return vselect((magnitude == 0) | (magnitude > 0x7f800000), x, vcopysign(vsplat(1.0f), x));
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
/* slope (x + shift), the shift in two parts, so that values near the zero are exact: see activations.pyx. */
EC_INLINE vfloat activation_hard_sigmoid(vfloat x, const float *p) {
    return vmin(vsplat(1.0f), vmax(vsplat(0.0f), ((x + p[1]) + p[2]) * p[0]));
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
    vfloat tail = vnormal_tail(x);
    return x * vselect(x < 0.0f, tail, 1.0f - tail);
}
EC_INLINE vfloat activation_gelu_tanh(vfloat x, const float *p) {
    (void)p; /* Hendrycks & Gimpel 2016, section 2: (1 + tanh(y)) / 2 is sigmoid(2 y); 2 y = x + (c - 1) x + 0.044715 c x^3 */
    vfloat scale, t = vmin(vsplat(10.0f), vmax(vsplat(-10.05f), x));
    vfloat e = vexp_parts(t, t * (t * t * 0.0713548163f + 0.595769122f), &scale);
    return x / (e * scale + 1.0f);
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
