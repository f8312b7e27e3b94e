/* dwconv_s8_mve: one output row of an int8 depthwise convolution, as dot products along the taps of a channel.
 *
 * Helium has no multiply-accumulate of two vectors but the dot product. So eight channels at a time are spread out, a
 * stretch for each: column by column, the kh rows of a column side by side. There the window of a pixel is kh * kw bytes
 * in a row, of which one VMLADAV takes 16. */
#ifndef EC_DWCONV_S8_MVE_H
#define EC_DWCONV_S8_MVE_H

#include "ec_mve.h"

/* mult: output channels per input channel; dilation_w: 1, the weights hold zeros between the taps. c, f: see ec_requant.
 * lo, hi: clamp. */
typedef struct {
    int32_t in_w, in_c, out_w, mult, kh, kw, stride_w, dilation_w, pad_left, c, f, lo, hi;
} ec_dwconv_s8_mve_t;

/* Columns that the windows of a row cover. */
EC_KERNEL int32_t ec_dwm_columns(const ec_dwconv_s8_mve_t *p)
{
    return (p->out_w - 1) * p->stride_w + p->kw;
}

/* Vectors of taps. */
EC_KERNEL int32_t ec_dwm_vectors(const ec_dwconv_s8_mve_t *p)
{
    return (p->kh * p->kw + 15) / 16;
}

/* Spreads `columns` columns of n channels. step: bytes from column to column in the rows, 0 for padding. */
EC_KERNEL void ec_dwm_spread(const ec_dwconv_s8_mve_t *p, const int8_t *const *rows, int32_t from, int32_t step,
                             int32_t columns, int32_t n, ec_v16 apart, int8_t *to)
{
    if (p->kh == 3) { /* three rows at once: half the loop control */
        const int8_t *r0 = rows[0] + from, *r1 = rows[1] + from, *r2 = rows[2] + from;
        for (int32_t j = 0; j < columns; j++, r0 += step, r1 += step, r2 += step, to += 3) {
            ec_v16_scatter8(to, apart, ec_v16_load8_part(r0, n));
            ec_v16_scatter8(to + 1, apart, ec_v16_load8_part(r1, n));
            ec_v16_scatter8(to + 2, apart, ec_v16_load8_part(r2, n));
        }
        return;
    }
    for (int32_t ky = 0; ky < p->kh; ky++) {
        const int8_t *r = rows[ky] + from;
        int8_t *t = to + ky;
        for (int32_t j = 0; j < columns; j++, r += step, t += p->kh) {
            ec_v16_scatter8(t, apart, ec_v16_load8_part(r, n));
        }
    }
}

/* Spreads columns of padding. */
EC_KERNEL void ec_dwm_spread_pad(const ec_dwconv_s8_mve_t *p, const int8_t *pad, int32_t columns, int32_t n,
                                 ec_v16 apart, int8_t *to)
{
    const ec_v16 v = ec_v16_load8_part(pad, n);
    for (int32_t j = 0; j < columns * p->kh; j++) {
        ec_v16_scatter8(to + j, apart, v);
    }
}

/* The products of a window with the taps of its channel; first: the first vector of those. */
EC_KERNEL int32_t ec_dwm_dot(const ec_dwconv_s8_mve_t *p, const int8_t *x, const int8_t *w, ec_v8 first)
{
    int32_t sum = ec_v8_dot(ec_v8_load(x), first);
    for (int32_t k = 1; k < ec_dwm_vectors(p); k++) {
        sum = ec_v8_dot_add(sum, ec_v8_load(x + 16 * k), ec_v8_load(w + 16 * k));
    }
    return sum;
}

/* Four pixels at a time of one channel, as long as there are four. x: its stretch; w, out: of the channel. */
EC_KERNEL void ec_dwm_channel(const ec_dwconv_s8_mve_t *p, const int8_t *x, const int8_t *w, int32_t bias,
                                 int32_t mult, int8_t *out)
{
    const int32_t step = p->stride_w * p->kh;
    const ec_v8 first = ec_v8_load(w);
    for (int32_t ox = 0; ox + 4 <= p->out_w; ox += 4, x += 4 * step) {
        const int32_t s0 = ec_dwm_dot(p, x, w, first), s1 = ec_dwm_dot(p, x + step, w, first);
        const int32_t s2 = ec_dwm_dot(p, x + 2 * step, w, first), s3 = ec_dwm_dot(p, x + 3 * step, w, first);
        const ec_v32 sums = ec_v32_add(ec_v32_of(s0, s1, s2, s3), ec_v32_all(bias));
        ec_v32_store8_apart(out + ox * p->in_c * p->mult, ec_v32_requant(sums, ec_v32_all(mult), p->c, p->f, p->lo, p->hi),
                            p->in_c * p->mult);
    }
}

/* One pixel of n output channels (n <= 4), the first of which is the `at`th of the eight input channels' ones. x: its
 * window in the stretch of the first input channel; next: bytes from stretch to stretch. */
EC_KERNEL void ec_dwm_pixel(const ec_dwconv_s8_mve_t *p, const int8_t *x, int32_t next, int32_t at, const int8_t *w,
                            const int32_t *bias, const int32_t *mult, int8_t *out, int32_t n)
{
    const int32_t size = 16 * ec_dwm_vectors(p);
    int32_t s[4];
    for (int32_t i = 0; i < 4; i++) {
        s[i] = ec_dwm_dot(p, x + (at + i) / p->mult * next, w + i * size, ec_v8_load(w + i * size));
    }
    const ec_v32 sums = ec_v32_add(ec_v32_of(s[0], s[1], s[2], s[3]), ec_v32_load(bias));
    ec_v32_store8(out, ec_v32_requant(sums, ec_v32_load(mult), p->c, p->f, p->lo, p->hi), n);
}

/* rows: kh input rows [in_w][in_c]; pad: a row of the input's zero point; w: [in_c in whole eights][mult][taps in
 * whole vectors], the taps column by column; bias, mult: [in_c in whole eights][mult], bias with the input zero point
 * folded in for every tap; out: [out_w][in_c][mult]; scratch: the stretches of eight channels and a vector (edgec/kernels/mve.py). */
EC_KERNEL void ec_dwconv_s8_mve(const ec_dwconv_s8_mve_t *p, const int8_t *const *rows, const int8_t *pad,
                                const int8_t *w, const int32_t *bias, const int32_t *mult, int8_t *out, int8_t *scratch)
{
    const int32_t columns = ec_dwm_columns(p), next = columns * p->kh, size = 16 * ec_dwm_vectors(p);
    const int32_t left = ec_clamp(p->pad_left, 0, columns), inner = ec_clamp(p->in_w, 0, columns - left);
    const ec_v16 apart = ec_v16_steps(next);
    for (int32_t c = 0; c < p->in_c; c += 8) {
        const int32_t n = p->in_c % 8 == 0 || c + 8 <= p->in_c ? 8 : p->in_c - c;
        ec_dwm_spread_pad(p, pad + c, left, n, apart, scratch);
        ec_dwm_spread(p, rows, c, p->in_c, inner, n, apart, scratch + left * p->kh);
        ec_dwm_spread_pad(p, pad + c, columns - left - inner, n, apart, scratch + (left + inner) * p->kh);
        const int32_t oc = c * p->mult, outs = n * p->mult;
        for (int32_t i = 0; i < outs; i++) {
            ec_dwm_channel(p, scratch + i / p->mult * next, w + (oc + i) * size, bias[oc + i], mult[oc + i], out + oc + i);
        }
        for (int32_t ox = p->out_w / 4 * 4; ox < p->out_w; ox++) {
            const int8_t *x = scratch + ox * p->stride_w * p->kh;
            for (int32_t i = 0; i < outs; i += 4) {
                ec_dwm_pixel(p, x, next, i, w + (oc + i) * size, bias + oc + i, mult + oc + i,
                             out + ox * p->in_c * p->mult + oc + i, outs - i);
            }
        }
    }
}

#endif
