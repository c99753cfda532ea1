/* Elementary functions of a vector, and the activation functions made of them.

   Errors are a few units in the last place over the whole range; NaN gives NaN, infinities give the function's limit.
   Polynomial and rational coefficients are our own least-squares fits at Chebyshev points, their largest errors stated. */
#include "table.h"
#include "vector.h"

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

EC_INLINE vfloat vsigmoid(vfloat x) { return 1.0f / (1.0f + vexp(-x)); }

EC_INLINE vfloat activation_relu(vfloat x, const float *p) {
    vfloat below = (x - p[2]) * p[0];
    vint kept = ~(x <= p[2]); /* so that NaN is kept */
    vfloat y = vselect(kept, x, p[0] == 0.0f ? vsplat(0.0f) : below);
    return vmin(vsplat(p[1]), y);
}
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
EC_INLINE vfloat activation_swish(vfloat x, const float *p) { (void)p; return x / (1.0f + vexp(-x)); }
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

#define EC_ACTIVATION(NAME)                                                      \
    static void activate_##NAME(float *x, size_t n, const float *parameters) {   \
        size_t i = 0;                                                            \
        for (; i + LANES <= n; i += LANES) vstore(x + i, activation_##NAME(vload(x + i), parameters)); \
        if (i < n) vstore_first(x + i, activation_##NAME(vload_first(x + i, n - i), parameters), n - i); \
    }
EC_ACTIVATION(relu)
EC_ACTIVATION(elu)
EC_ACTIVATION(selu)
EC_ACTIVATION(sigmoid)
EC_ACTIVATION(hard_sigmoid)
EC_ACTIVATION(tanh)
EC_ACTIVATION(softplus)
EC_ACTIVATION(softsign)
EC_ACTIVATION(swish)
EC_ACTIVATION(hard_swish)
EC_ACTIVATION(gelu)
EC_ACTIVATION(gelu_tanh)
EC_ACTIVATION(exponential)
