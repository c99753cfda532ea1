/* Winograd's short convolutions: transformations of a tile of the input and of the products back to pixels.

   Along one axis, m neighbouring outputs of a filter of r taps cost n = m + r - 1 multiplications instead of m * r: tile and
   filter are evaluated, as polynomials, at n points, and what the n products say is read off as m outputs (Lavin & Gray
   2015, arXiv 1509.09308; Toom and Cook before them). The points here are 0, pairs +-p, and infinity: pairs share their even
   and odd halves. n = 6 takes +-5/8 and +-3/2, whose error is half that of the usual +-1 and +-2 (rounded to float32: 4 x
   that of the direct sum at 128 channels); with n = 8 only single axes are transformed. The filters' side of this is in
   kernels/packing.py, which must name the same points; it is done once, at load, in double precision.

   Vectors run over channels. */
#include "table.h"
#include "vector.h"

#define P6_A 0.625f
#define P6_B 1.5f
#define P8_A 0.5f
#define P8_B 1.0f
#define P8_C 2.0f

/* n values of a tile -> its values at n points, in place; `step` vectors lie from one to the next. */
EC_INLINE void winograd_forward(const int N, vfloat *d, const int step) {
    vfloat x0 = d[0], x1, x2, x3, x4, x5, x6, x7;
    if (N > 1) x1 = d[1 * step], x2 = d[2 * step], x3 = d[3 * step];
    if (N > 4) x4 = d[4 * step], x5 = d[5 * step];
    if (N > 6) x6 = d[6 * step], x7 = d[7 * step];
    if (N == 4) {
        d[0 * step] = x2 - x0;
        d[1 * step] = x2 + x1;
        d[2 * step] = x2 - x1;
        d[3 * step] = x3 - x1;
    } else if (N == 6) {
        const float a2 = P6_A * P6_A, b2 = P6_B * P6_B;
        vfloat even_a = x4 - b2 * x2, odd_a = x3 - b2 * x1, even_b = x4 - a2 * x2, odd_b = x3 - a2 * x1;
        d[0 * step] = (x4 - (a2 + b2) * x2) + (a2 * b2) * x0;
        d[1 * step] = even_a + P6_A * odd_a;
        d[2 * step] = even_a - P6_A * odd_a;
        d[3 * step] = even_b + P6_B * odd_b;
        d[4 * step] = even_b - P6_B * odd_b;
        d[5 * step] = (x5 - (a2 + b2) * x3) + (a2 * b2) * x1;
    } else if (N == 8) {
        const float a2 = P8_A * P8_A, b2 = P8_B * P8_B, c2 = P8_C * P8_C;
        const float e1 = a2 + b2 + c2, e2 = a2 * b2 + a2 * c2 + b2 * c2, e3 = a2 * b2 * c2;
        d[0 * step] = (x6 - e1 * x4) + (e2 * x2 - e3 * x0);
        vfloat even = (x6 - (b2 + c2) * x4) + (b2 * c2) * x2, odd = (x5 - (b2 + c2) * x3) + (b2 * c2) * x1;
        d[1 * step] = even + P8_A * odd;
        d[2 * step] = even - P8_A * odd;
        even = (x6 - (a2 + c2) * x4) + (a2 * c2) * x2, odd = (x5 - (a2 + c2) * x3) + (a2 * c2) * x1;
        d[3 * step] = even + P8_B * odd;
        d[4 * step] = even - P8_B * odd;
        even = (x6 - (a2 + b2) * x4) + (a2 * b2) * x2, odd = (x5 - (a2 + b2) * x3) + (a2 * b2) * x1;
        d[5 * step] = even + P8_C * odd;
        d[6 * step] = even - P8_C * odd;
        d[7 * step] = (x7 - e1 * x5) + (e2 * x3 - e3 * x1);
    }
}

/* Products at n points -> the m outputs that they stand for, in place. */
EC_INLINE void winograd_back(const int N, const int M, vfloat *d, const int step) {
    if (N == 4) {
        vfloat y0 = d[0], y1 = d[1 * step], y2 = d[2 * step], y3 = d[3 * step];
        d[0] = y0 + (y1 + y2);
        d[step] = (y1 - y2) + y3;
    } else if (N == 6) {
        vfloat y0 = d[0], y5 = d[5 * step];
        vfloat plus_a = d[1 * step] + d[2 * step], minus_a = d[1 * step] - d[2 * step];
        vfloat plus_b = d[3 * step] + d[4 * step], minus_b = d[3 * step] - d[4 * step];
        d[0] = y0 + (plus_a + plus_b);
        d[step] = P6_A * minus_a + P6_B * minus_b;
        if (M == 2) d[step] += y5;
        if (M == 4) {
            d[2 * step] = (P6_A * P6_A) * plus_a + (P6_B * P6_B) * plus_b;
            d[3 * step] = ((P6_A * P6_A * P6_A) * minus_a + (P6_B * P6_B * P6_B) * minus_b) + y5;
        }
    } else if (N == 8) { /* M == 2 */
        d[0] = d[0] + ((d[1 * step] + d[2 * step]) + (d[3 * step] + d[4 * step])) + (d[5 * step] + d[6 * step]);
        d[step] = (P8_A * (d[1 * step] - d[2 * step]) + P8_B * (d[3 * step] - d[4 * step])) +
                  (P8_C * (d[5 * step] - d[6 * step]) + d[7 * step]);
    }
}

EC_INLINE void winograd_input_block(const int NH, const int NW, const float *x, size_t row, size_t pixel, float *v,
                                    size_t position, size_t n) {
    vfloat d[8 * 8];
    EC_UNROLL for (int i = 0; i < NH; i++) {
        EC_UNROLL for (int j = 0; j < NW; j++) {
            const float *p = x + i * row + j * pixel;
            d[i * NW + j] = n == LANES ? vload(p) : vload_first(p, n);
        }
        winograd_forward(NW, d + i * NW, 1);
    }
    EC_UNROLL for (int j = 0; j < NW; j++) winograd_forward(NH, d + j, NW);
    EC_UNROLL for (int i = 0; i < NH * NW; i++) {
        if (n == LANES) vstore(v + i * position, d[i]);
        else vstore_first(v + i * position, d[i], n);
    }
}

EC_INLINE void winograd_output_block(const int NH, const int NW, const int MH, const int MW, const float *products,
                                     size_t position, const ec_winograd_end *e, const float *bias, const float *residual,
                                     float *out, size_t n) {
    vfloat d[8 * 8];
    EC_UNROLL for (int j = 0; j < NW; j++) {
        EC_UNROLL for (int i = 0; i < NH; i++) d[i * NW + j] = vload(products + (i * NW + j) * position);
        winograd_back(NH, MH, d + j, NW);
    }
    vfloat start = vload(bias), low = vsplat(e->low), high = vsplat(e->high);
    EC_UNROLL for (int i = 0; i < MH; i++) {
        if ((size_t)i >= e->rows) break;
        winograd_back(NW, MW, d + i * NW, 1);
        EC_UNROLL for (int j = 0; j < MW; j++) {
            if ((size_t)j >= e->columns) break;
            vfloat y = d[i * NW + j] + start;
            if (residual) {
                const float *p = residual + i * e->residual_row + j * e->residual_pixel;
                y += n == LANES ? vload(p) : vload_first(p, n);
            }
            y = vmin(high, vmax(low, y));
            float *p = out + i * e->out_row + j * e->out_pixel;
            if (n == LANES) vstore(p, y);
            else vstore_first(p, y, n);
        }
    }
}

#define EC_WINOGRAD(NAME, NH, MH, NW, MW)                                                                                  \
    static void winograd_input_##NAME(const float *x, size_t row, size_t pixel, size_t channels, float *v,                \
                                      size_t position) {                                                                  \
        size_t c = 0;                                                                                                     \
        for (; c + LANES <= channels; c += LANES)                                                                         \
            winograd_input_block(NH, NW, x + c, row, pixel, v + c, position, LANES);                                      \
        if (c < channels) winograd_input_block(NH, NW, x + c, row, pixel, v + c, position, channels - c);                 \
    }                                                                                                                     \
    static void winograd_output_##NAME(const float *products, size_t position, const ec_winograd_end *e,                  \
                                       const float *bias, const float *residual, float *out, size_t columns) {            \
        size_t c = 0;                                                                                                     \
        for (; c + LANES <= columns; c += LANES)                                                                          \
            winograd_output_block(NH, NW, MH, MW, products + c, position, e, bias + c, residual ? residual + c : NULL,    \
                                  out + c, LANES);                                                                        \
        if (c < columns)                                                                                                  \
            winograd_output_block(NH, NW, MH, MW, products + c, position, e, bias + c, residual ? residual + c : NULL,    \
                                  out + c, columns - c);                                                                  \
    }
EC_WINOGRAD_LIST(EC_WINOGRAD)

typedef double vdouble __attribute__((vector_size(2 * EC_VECTOR_BYTES)));

static void winograd_filters_f32(const ec_winograd_filter *f, const float *weights, size_t tap, size_t columns, float *out,
                                 size_t position) {
    vdouble g[8][8], half[8][8];
    for (size_t i = 0; i < f->height_taps; i++) {
        for (size_t j = 0; j < f->width_taps; j++) {
            const float *p = weights + (i * f->width_taps + j) * tap;
            g[i][j] = __builtin_convertvector(columns == LANES ? vload(p) : vload_first(p, columns), vdouble);
        }
    }
    for (size_t p = 0; p < f->height_points; p++) {
        for (size_t j = 0; j < f->width_taps; j++) {
            vdouble sum = g[0][j] * f->height[p * f->height_taps];
            for (size_t i = 1; i < f->height_taps; i++) sum += g[i][j] * f->height[p * f->height_taps + i];
            half[p][j] = sum;
        }
        for (size_t q = 0; q < f->width_points; q++) {
            vdouble sum = half[p][0] * f->width[q * f->width_taps];
            for (size_t j = 1; j < f->width_taps; j++) sum += half[p][j] * f->width[q * f->width_taps + j];
            vstore(out + (p * f->width_points + q) * position, __builtin_convertvector(sum, vfloat));
        }
    }
}
#define EC_WINOGRAD_ENTRY(NAME, NH, MH, NW, MW) {NH, MH, NW, MW, winograd_input_##NAME, winograd_output_##NAME},
