/* conv_s8_mve: one output row of an int8 convolution with groups, two pixels by four channels at a time (ec_mve.h). */
#ifndef EC_CONV_S8_MVE_H
#define EC_CONV_S8_MVE_H

#include "ec_mve.h"

/* Columns, channels and taps of the row; groups divides in_c and out_c. c, f: see ec_requant. lo, hi: clamp. */
typedef struct {
    int32_t in_w, in_c, out_w, out_c, kh, kw, stride_w, dilation_w, pad_left, groups, c, f, lo, hi;
} ec_conv_s8_mve_t;

/* The taps of a kernel row lie side by side in the input. */
EC_KERNEL bool ec_convm_joined(const ec_conv_s8_mve_t *p)
{
    return p->groups == 1 && (p->kw == 1 || p->dilation_w == 1);
}

/* Vectors of taps of a pixel. */
EC_KERNEL int32_t ec_convm_vectors(const ec_conv_s8_mve_t *p)
{
    return (p->kh * p->kw * (p->in_c / p->groups) + 15) / 16;
}

/* Copies n bytes; the compiler knows n. */
EC_KERNEL int8_t *ec_convm_copy(int8_t *to, const int8_t *from, int32_t n)
{
    if (n == 4 || n == 8) {
        ec_st4(to, ec_ld4(from));
        if (n == 8) {
            ec_st4(to + 4, ec_ld4(from + 4));
        }
    } else if (n == 16 || n == 32) {
        ec_v8_store(to, ec_v8_load(from));
        if (n == 32) {
            ec_v8_store(to + 16, ec_v8_load(from + 16));
        }
    } else {
        ec_v8_copy(to, from, n);
    }
    return to + n;
}

/* The taps of the pixel whose window begins at column ix, channels from ch on: where they lie in the input if they stand
 * there in order, else copied to `to`. What stands behind them is multiplied by zero. */
EC_KERNEL const int8_t *ec_convm_taps(const ec_conv_s8_mve_t *p, const int8_t *const *rows, const int8_t *pad,
                                      int32_t ix, int32_t ch, int8_t *to)
{
    const int32_t depth = p->in_c / p->groups;
    int8_t *at = to;
    if (p->kh == 1 && ec_convm_joined(p) && ix >= 0 &&
        ix * p->in_c + 16 * ec_convm_vectors(p) <= p->in_w * p->in_c) {
        return rows[0] + ix * p->in_c;
    }
    if (ec_convm_joined(p) && ix >= 0 && ix + p->kw <= p->in_w) {
        for (int32_t ky = 0; ky < p->kh; ky++) {
            at = ec_convm_copy(at, rows[ky] + ix * p->in_c, p->kw * depth);
        }
        return to;
    }
    for (int32_t ky = 0; ky < p->kh; ky++) {
        for (int32_t kx = 0; kx < p->kw; kx++) {
            const int32_t col = ix + kx * p->dilation_w;
            at = ec_convm_copy(at, (col >= 0 && col < p->in_w ? rows[ky] + col * p->in_c : pad) + ch, depth);
        }
    }
    return to;
}

/* Requantises n sums (n <= 4). */
EC_KERNEL void ec_convm_put(const ec_conv_s8_mve_t *p, ec_v32 sums, ec_v32 bias, ec_v32 mult, int8_t *out, int32_t n)
{
    ec_v32_store8(out, ec_v32_requant(ec_v32_add(sums, bias), mult, p->c, p->f, p->lo, p->hi), n);
}

/* The outputs of two pixels of a group. x, y: their taps; w: [blocks of 4 channels][vectors][4][16], the channels of a
 * block in the order 0 2 1 3; bias, mult: [blocks][4]; out: of the first pixel. */
EC_KERNEL void ec_convm_two(const ec_conv_s8_mve_t *p, const int8_t *x, const int8_t *y, const int8_t *w,
                            const int32_t *bias, const int32_t *mult, int8_t *out)
{
    const int32_t width = p->out_c / p->groups, n = ec_convm_vectors(p);
    for (int32_t j = 0; j < width; j += 4, w += 64 * n, bias += 4, mult += 4) {
        const int32_t left = width % 4 == 0 || j + 4 <= width ? 4 : width - j;
        ec_v32 u, v;
        ec_v8_dots_2x4(x, y, w, n, &u, &v);
        const ec_v32 b = ec_v32_load(bias), m = ec_v32_load(mult);
        ec_convm_put(p, u, b, m, out + j, left);
        ec_convm_put(p, v, b, m, out + p->out_c + j, left);
    }
}

/* The outputs of one pixel, likewise. */
EC_KERNEL void ec_convm_one(const ec_conv_s8_mve_t *p, const int8_t *x, const int8_t *w, const int32_t *bias,
                            const int32_t *mult, int8_t *out)
{
    const int32_t width = p->out_c / p->groups, n = ec_convm_vectors(p);
    for (int32_t j = 0; j < width; j += 4, w += 64 * n) {
        const int32_t left = width % 4 == 0 || j + 4 <= width ? 4 : width - j;
        ec_convm_put(p, ec_v8_dots_1x4(x, w, n), ec_v32_load(bias + j), ec_v32_load(mult + j), out + j, left);
    }
}

/* rows: kh input rows [in_w][in_c]; pad: a row of the input's zero point; w, bias, mult: group by group as above, bias
 * with the input zero point folded in for every tap; out: [out_w][out_c], apart from rows; scratch: the taps of two
 * pixels (edgec/kernels/mve.py). */
EC_KERNEL void ec_conv_s8_mve(const ec_conv_s8_mve_t *p, const int8_t *const *rows, const int8_t *pad, const int8_t *w,
                              const int32_t *bias, const int32_t *mult, int8_t *out, int8_t *scratch)
{
    const int32_t depth = p->in_c / p->groups, width = p->out_c / p->groups, blocks = (width + 3) / 4;
    const int32_t n = ec_convm_vectors(p);
    for (int32_t g = 0; g < p->groups; g++, w += blocks * 64 * n, bias += 4 * blocks, mult += 4 * blocks, out += width) {
        int32_t ix = -p->pad_left, ox = 0;
        for (; ox + 2 <= p->out_w; ox += 2, ix += 2 * p->stride_w) {
            const int8_t *x = ec_convm_taps(p, rows, pad, ix, g * depth, scratch);
            const int8_t *y = ec_convm_taps(p, rows, pad, ix + p->stride_w, g * depth, scratch + 16 * n);
            ec_convm_two(p, x, y, w, bias, mult, out + ox * p->out_c);
        }
        if (p->out_w % 2 != 0) {
            const int8_t *x = ec_convm_taps(p, rows, pad, ix, g * depth, scratch);
            ec_convm_one(p, x, w, bias, mult, out + ox * p->out_c);
        }
    }
}

#endif
