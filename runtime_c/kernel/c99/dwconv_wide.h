/* dwconv_wide.h: one output row of a depthwise convolution whose input, output or both are int16; sums of 32 bits. Of
 * rows8 and rows16, pad8 and pad16, out8 and out16 one each is NULL, as in conv_wide.h. */
#ifndef EC_DWCONV_WIDE_H
#define EC_DWCONV_WIDE_H

#include "conv_wide.h"

/* c, f: see ec_requant. lo, hi: clamp. pre: left shift of a sum before that. zero:
 * the input's zero point. x16, y16: input, output are int16. */
typedef struct {
    int32_t in_w, in_c, out_w, kh, kw, stride_w, dilation_w, pad_left, c, f, lo, hi, pre, zero, x16, y16;
} ec_dwconv_wide_t;

EC_KERNEL void ec_dww_out(const ec_dwconv_wide_t *p, int32_t sum, int32_t m, int32_t at, int8_t *out8, int16_t *out16)
{
    const int32_t v = ec_requant(sum * ((int32_t)1 << p->pre), m, p->c, p->f);
    ec_convw_store(p->y16, ec_convw_clamp(v, p->lo, p->hi), at, out8, out16);
}

/* Element i of input row ky. */
EC_KERNEL int32_t ec_dww_load(int32_t x16, const int8_t *const *rows8, const int16_t *const *rows16, int32_t ky,
                              int32_t i)
{
    return x16 != 0 ? rows16[ky][i] : rows8[ky][i];
}

/* Elements i and i + 1 of an input row. */
EC_KERNEL ec_wide2_t ec_dww_both(int32_t x16, const int8_t *u8, const int16_t *u16, int32_t i)
{
    return x16 != 0 ? ec_wide_both(u16 + i) : ec_wide_both8(u8 + i);
}

/* Two channels of n = 4 or 1 neighbouring pixels, by the columns [first, last) of the window, which lie inside the row: a
 * word of weights serves 2 * n products. x: element of the row where the window of the first pixel begins, or would; at:
 * element of the output. */
EC_KERNEL void ec_dww_inner(const ec_dwconv_wide_t *p, const int8_t *const *rows8, const int16_t *const *rows16,
                            int32_t x, int32_t first, int32_t last, const int16_t *w, const int32_t *bias,
                            const int32_t *mult, int32_t at, int32_t n, int8_t *out8, int16_t *out16)
{
    const int32_t next = p->stride_w * p->in_c, tap = p->dilation_w * p->in_c;
    int32_t a0 = bias[0], a1 = a0, a2 = a0, a3 = a0, b0 = bias[1], b1 = b0, b2 = b0, b3 = b0;
    for (int32_t ky = 0; ky < p->kh; ky++) {
        const int8_t *u8 = p->x16 != 0 ? NULL : rows8[ky];
        const int16_t *u16 = p->x16 != 0 ? rows16[ky] : NULL;
        EC_UNROLL4
        for (int32_t kx = first; kx < last; kx++) {
            const ec_wide2_t v = ec_wide_both(w + (ky * p->kw + kx) * p->in_c);
            const int32_t u = x + kx * tap;
            const ec_wide2_t x0 = ec_dww_both(p->x16, u8, u16, u);
            a0 = ec_wide_low(a0, x0, v);
            b0 = ec_wide_high(b0, x0, v);
            if (n == 4) {
                const ec_wide2_t x1 = ec_dww_both(p->x16, u8, u16, u + next);
                const ec_wide2_t x2 = ec_dww_both(p->x16, u8, u16, u + 2 * next);
                const ec_wide2_t x3 = ec_dww_both(p->x16, u8, u16, u + 3 * next);
                a1 = ec_wide_low(a1, x1, v);
                b1 = ec_wide_high(b1, x1, v);
                a2 = ec_wide_low(a2, x2, v);
                b2 = ec_wide_high(b2, x2, v);
                a3 = ec_wide_low(a3, x3, v);
                b3 = ec_wide_high(b3, x3, v);
            }
        }
    }
    ec_dww_out(p, a0, mult[0], at, out8, out16);
    ec_dww_out(p, b0, mult[1], at + 1, out8, out16);
    if (n == 4) {
        ec_dww_out(p, a1, mult[0], at + p->in_c, out8, out16);
        ec_dww_out(p, b1, mult[1], at + p->in_c + 1, out8, out16);
        ec_dww_out(p, a2, mult[0], at + 2 * p->in_c, out8, out16);
        ec_dww_out(p, b2, mult[1], at + 2 * p->in_c + 1, out8, out16);
        ec_dww_out(p, a3, mult[0], at + 3 * p->in_c, out8, out16);
        ec_dww_out(p, b3, mult[1], at + 3 * p->in_c + 1, out8, out16);
    }
}

/* One pixel, all channels, any column. ix: input column of the first tap; at: element of the output. */
EC_KERNEL void ec_dww_edge(const ec_dwconv_wide_t *p, const int8_t *const *rows8, const int16_t *const *rows16,
                           const int8_t *pad8, const int16_t *pad16, int32_t ix, const int16_t *w, const int32_t *bias,
                           const int32_t *mult, int32_t at, int8_t *out8, int16_t *out16)
{
    for (int32_t c = 0; c < p->in_c; c++) {
        int32_t sum = bias[c], k = c;
        for (int32_t ky = 0; ky < p->kh; ky++) {
            for (int32_t kx = 0; kx < p->kw; kx++, k += p->in_c) {
                const int32_t col = ix + kx * p->dilation_w;
                const bool inside = col >= 0 && col < p->in_w;
                const int32_t pad = p->x16 != 0 ? pad16[c] : pad8[c];
                sum += (inside ? ec_dww_load(p->x16, rows8, rows16, ky, col * p->in_c + c) : pad) * w[k];
            }
        }
        ec_dww_out(p, sum, mult[c], at + c, out8, out16);
    }
}

/* rows: kh input rows [in_w][in_c]; pad: a row of the input's zero point; w: [kh][kw][in_c]; bias, mult: [in_c], bias
 * with the input zero point folded in; out: [out_w][in_c]. */
EC_KERNEL void ec_dwconv_wide(const ec_dwconv_wide_t *p, const int8_t *const *rows8, const int16_t *const *rows16,
                              const int8_t *pad8, const int16_t *pad16, const int16_t *w, const int32_t *bias,
                              const int32_t *mult, int8_t *out8, int16_t *out16)
{
    const int32_t span = (p->kw - 1) * p->dilation_w + 1;
    const int32_t begin = p->in_c == 1 ? p->out_w : ec_inner_begin(p->out_w, p->stride_w, p->pad_left);
    const int32_t end = ec_inner_end(begin, p->in_w, p->out_w, span, p->stride_w, p->pad_left);
    for (int32_t ox = begin > 0 ? 0 : end; ox < p->out_w; ox = ox + 1 == begin ? end : ox + 1) {
        const int32_t ix = ox * p->stride_w - p->pad_left, at = ox * p->in_c;
        if (p->zero != 0 || p->in_c == 1) {
            ec_dww_edge(p, rows8, rows16, pad8, pad16, ix, w, bias, mult, at, out8, out16);
            continue;
        }
        const int32_t first = ec_tap_begin(ix, p->kw, p->dilation_w), last = ec_tap_end(ix, p->in_w, p->kw, p->dilation_w);
        for (int32_t k = 0; k < p->in_c; k += 2) {
            const int32_t c = k + 2 <= p->in_c ? k : p->in_c - 2; /* the last pair may overlap the one before */
            ec_dww_inner(p, rows8, rows16, ix * p->in_c + c, first, last, w + c, bias + c, mult + c, at + c, 1, out8,
                         out16);
        }
    }
    for (int32_t k = 0; k < p->in_c && begin < end; k += 2) {
        const int32_t c = k + 2 <= p->in_c ? k : p->in_c - 2;
        for (int32_t j = begin; j < end && end - begin >= 4; j += 4) {
            const int32_t ox = j + 4 <= end ? j : end - 4; /* as above, for pixels */
            ec_dww_inner(p, rows8, rows16, (ox * p->stride_w - p->pad_left) * p->in_c + c, 0, p->kw, w + c, bias + c,
                         mult + c, ox * p->in_c + c, 4, out8, out16);
        }
        for (int32_t ox = begin; ox < end && end - begin < 4; ox++) {
            ec_dww_inner(p, rows8, rows16, (ox * p->stride_w - p->pad_left) * p->in_c + c, 0, p->kw, w + c, bias + c,
                         mult + c, ox * p->in_c + c, 1, out8, out16);
        }
    }
}

#endif
