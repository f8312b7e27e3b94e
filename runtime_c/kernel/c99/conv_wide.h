/* conv_wide.h: one output row of a convolution with groups whose input, output or both are int16, two pixels by four
 * channels at a time (ec_wide.h). The taps of two pixels are gathered once and serve all their output channels. Of rows8
 * and rows16, pad8 and pad16, out8 and out16 one each is NULL: x16 and y16 say which. */
#ifndef EC_CONV_WIDE_H
#define EC_CONV_WIDE_H

#include "ec_wide.h"

/* Columns, channels and taps of the row; groups divides in_c and out_c. c, f: see ec_requant. lo, hi: clamp. pre: left
 * shift of a sum before that. bits: of a weight, 8 or 4. wide: sums may exceed 32 bits. x16, y16: input, output are int16. */
typedef struct {
    int32_t in_w, in_c, out_w, out_c, kh, kw, stride_w, dilation_w, pad_left, groups, c, f, lo, hi, pre, bits, wide, x16, y16;
} ec_conv_wide_t;

/* v clamped to [lo, hi]. */
EC_KERNEL int32_t ec_convw_clamp(int32_t v, int32_t lo, int32_t hi)
{
#if defined(__GNUC__) && defined(__ARM_FEATURE_SAT)
    if (__builtin_constant_p(lo) && __builtin_constant_p(hi) && lo == -32768 && hi == 32767) {
        int32_t r; /* as ec_sat8 */
        __asm__("ssat %0, #16, %1" : "=r"(r) : "r"(v));
        return r;
    }
#endif
    return ec_clamp(v, lo, hi);
}

/* Stores output j. */
EC_KERNEL void ec_convw_store(int32_t y16, int32_t v, int32_t j, int8_t *out8, int16_t *out16)
{
    if (y16 != 0) {
        out16[j] = (int16_t)v;
    } else {
        out8[j] = (int8_t)v;
    }
}

/* n of four outputs, the first of them at `at`; sums of nibbles are 16 times as large. */
EC_KERNEL void ec_convw_out(const int32_t *sum, const int32_t *mult, int32_t n, const ec_conv_wide_t *p, int32_t at,
                            int8_t *out8, int16_t *out16)
{
    EC_UNROLL4
    for (int32_t j = 0; j < n; j++) {
        const int32_t acc = (p->bits == 4 ? sum[j] >> 4 : sum[j]) * ((int32_t)1 << p->pre);
        ec_convw_store(p->y16, ec_convw_clamp(ec_requant(acc, mult[j], p->c, p->f), p->lo, p->hi), at + j, out8,
                       out16);
    }
}

/* The same from sums that exceed 32 bits. */
EC_KERNEL void ec_convw_out_long(const int64_t *sum, const int32_t *mult, int32_t n, const ec_conv_wide_t *p,
                                 int32_t at, int8_t *out8, int16_t *out16)
{
    for (int32_t j = 0; j < n; j++) {
        const int64_t y = ((((sum[j] * ((int64_t)1 << p->pre)) * mult[j]) >> 32) + p->c) >> p->f;
        ec_convw_store(p->y16, y < p->lo ? p->lo : y > p->hi ? p->hi : (int32_t)y, at + j, out8, out16);
    }
}

/* Puts n neighbouring elements to taps t, t + 1, ... of one of two pixels. */
EC_KERNEL void ec_convw_put(int32_t x16, int16_t *x, int32_t t, const int8_t *from8, const int16_t *from16, int32_t n)
{
    int32_t i = 0;
    if (x16 != 0 && t % 2 == 0) {
        EC_UNROLL4
        for (; i + 2 <= n; i += 2) {
            ec_wide_copy(x + 2 * (t + i), from16 + i);
        }
    }
    for (; i < n; i++) {
        const int32_t k = t + i;
        x[k / 2 * 4 + k % 2] = x16 != 0 ? from16[i] : (int16_t)from8[i];
    }
}

/* Gathers the taps of the pixel whose window begins at column ix, from channel ch on. */
EC_KERNEL void ec_convw_gather(const ec_conv_wide_t *p, const int8_t *const *rows8, const int16_t *const *rows16,
                               const int8_t *pad8, const int16_t *pad16, int32_t ix, int32_t ch, int16_t *x)
{
    const int32_t depth = p->in_c / p->groups;
    const bool joined = p->groups == 1 && p->dilation_w == 1 && ix >= 0 && ix + p->kw <= p->in_w;
    int32_t t = 0;
    for (int32_t ky = 0; ky < p->kh; ky++) {
        if (joined) {
            const int32_t at = ix * p->in_c;
            ec_convw_put(p->x16, x, t, p->x16 != 0 ? NULL : rows8[ky] + at, p->x16 != 0 ? rows16[ky] + at : NULL,
                         p->kw * depth);
            t += p->kw * depth;
            continue;
        }
        for (int32_t kx = 0; kx < p->kw; kx++, t += depth) {
            const int32_t col = ix + kx * p->dilation_w, at = col * p->in_c + ch;
            const bool inside = col >= 0 && col < p->in_w;
            const int8_t *from8 = p->x16 != 0 ? NULL : inside ? rows8[ky] + at : pad8 + ch;
            const int16_t *from16 = p->x16 == 0 ? NULL : inside ? rows16[ky] + at : pad16 + ch;
            ec_convw_put(p->x16, x, t, from8, from16, depth);
        }
    }
}

/* The sums of two pixels for four channels whose biases, weights and so on are given; x: gathered taps. n: outputs that
 * there are of the four, from `at` on. next: from those of the first pixel to those of the second, 0 where there is none. */
EC_KERNEL void ec_convw_block(const ec_conv_wide_t *p, const int16_t *x, int32_t pairs, const int8_t *w,
                              const int32_t *bias, const int32_t *mult, int32_t n, int32_t at, int32_t next, int8_t *out8,
                              int16_t *out16)
{
    if (p->wide != 0) {
        int64_t sum[8] = {bias[0], bias[1], bias[2], bias[3], bias[0], bias[1], bias[2], bias[3]};
        ec_wide_long(x, w, pairs, sum, 4);
        ec_convw_out_long(sum, mult, n, p, at, out8, out16);
        if (next > 0) {
            ec_wide_long(x + 2, w, pairs, sum + 4, 4);
            ec_convw_out_long(sum + 4, mult, n, p, at + next, out8, out16);
        }
        return;
    }
    const int32_t scale = p->bits == 4 ? 16 : 1;
    const int32_t b0 = bias[0] * scale, b1 = bias[1] * scale, b2 = bias[2] * scale, b3 = bias[3] * scale;
    int32_t sum[8] = {b0, b1, b2, b3, b0, b1, b2, b3};
    ec_wide_two(x, w, pairs, sum, p->bits);
    ec_convw_out(sum, mult, n, p, at, out8, out16);
    if (next > 0) {
        ec_convw_out(sum + 4, mult, n, p, at + next, out8, out16);
    }
}

/* rows: kh input rows [in_w][in_c]; pad: a row of the input's zero point; w: for every group and block of four channels
 * [pairs of taps][bits] bytes, with zeros where there is no channel or tap; bias, mult: [groups][blocks][4], bias with the
 * input zero point folded in; out: [out_w][out_c], apart from rows; scratch: 8 bytes for a pair of taps, aligned to 4. */
EC_KERNEL void ec_conv_wide(const ec_conv_wide_t *p, const int8_t *const *rows8, const int16_t *const *rows16,
                            const int8_t *pad8, const int16_t *pad16, const int8_t *w, const int32_t *bias,
                            const int32_t *mult, int8_t *out8, int16_t *out16, int8_t *scratch)
{
    const int32_t depth = p->in_c / p->groups, width = p->out_c / p->groups, taps = p->kh * p->kw * depth;
    const int32_t pairs = (taps + 1) / 2, blocks = (width + 3) / 4;
    int16_t *x = (int16_t *)(void *)scratch;
    x[4 * pairs - 3] = 0; /* where the number of taps is odd */
    x[4 * pairs - 1] = 0;
    for (int32_t g = 0; g < p->groups; g++) {
        for (int32_t ox = 0; ox < p->out_w; ox += 2) {
            const int32_t ix = ox * p->stride_w - p->pad_left;
            const bool alone = ox + 1 == p->out_w;
            ec_convw_gather(p, rows8, rows16, pad8, pad16, ix, g * depth, x);
            ec_convw_gather(p, rows8, rows16, pad8, pad16, alone ? ix : ix + p->stride_w, g * depth, x + 2);
            for (int32_t b = 0; b < blocks; b++) {
                const int32_t block = g * blocks + b, n = width % 4 == 0 || b + 1 < blocks ? 4 : width % 4;
                const int32_t to = ox * p->out_c + g * width + 4 * b;
                ec_convw_block(p, x, pairs, w + block * pairs * p->bits, bias + 4 * block, mult + 4 * block, n,
                               to, alone ? 0 : p->out_c, out8, out16);
            }
        }
    }
}

#endif
