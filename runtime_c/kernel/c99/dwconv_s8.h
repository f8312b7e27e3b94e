/* dwconv_s8 (c99): one output row of an int8 depthwise convolution; output channel = input channel * mult + j. */
#ifndef EC_DWCONV_S8_H
#define EC_DWCONV_S8_H

#include "ec.h"

/* mult: output channels per input channel. c, f: see ec_requant. lo, hi: clamp. */
typedef struct {
    int32_t in_w, in_c, out_w, mult, kh, kw, stride_w, dilation_w, pad_left, c, f, lo, hi;
} ec_dwconv_s8_t;

EC_KERNEL int8_t ec_dwconv_s8_out(const ec_dwconv_s8_t *p, int32_t acc, int32_t m)
{
    return ec_sat8(ec_requant(acc, m, p->c, p->f), p->lo, p->hi);
}

/* Four neighbouring pixels of one channel, every tap inside the row: a weight serves four products and, where the
 * stride is the dilation, an input serves several taps. x: element of the row where the window of the first pixel
 * begins (this channel); w, out: at this channel. */
EC_KERNEL void ec_dwconv_s8_4x1(const ec_dwconv_s8_t *p, const int8_t *const *rows, int32_t x, const int8_t *w,
                                int32_t bias, int32_t m, int8_t *out)
{
    const int32_t out_c = p->in_c * p->mult, next = p->stride_w * p->in_c, tap = p->dilation_w * p->in_c;
    int32_t a0 = bias, a1 = bias, a2 = bias, a3 = bias;
    for (int32_t ky = 0; ky < p->kh; ky++) {
        const int8_t *u = rows[ky] + x;
        EC_UNROLL4
        for (int32_t kx = 0; kx < p->kw; kx++) {
            const int32_t v = w[(ky * p->kw + kx) * out_c];
            a0 += u[kx * tap] * v;
            a1 += u[kx * tap + next] * v;
            a2 += u[kx * tap + 2 * next] * v;
            a3 += u[kx * tap + 3 * next] * v;
        }
    }
    out[0] = ec_dwconv_s8_out(p, a0, m);
    out[out_c] = ec_dwconv_s8_out(p, a1, m);
    out[2 * out_c] = ec_dwconv_s8_out(p, a2, m);
    out[3 * out_c] = ec_dwconv_s8_out(p, a3, m);
}

/* The pixel under a tap of the window that begins at column ix: a column outside the row is pad. */
EC_KERNEL const int8_t *ec_dwconv_s8_tap(const ec_dwconv_s8_t *p, const int8_t *const *rows, const int8_t *pad,
                                         int32_t ix, int32_t ky, int32_t kx)
{
    const int32_t col = ix + kx * p->dilation_w;
    return col >= 0 && col < p->in_w ? rows[ky] + col * p->in_c : pad;
}

/* One pixel, all channels, any column. ix: input column of the first tap. */
EC_KERNEL void ec_dwconv_s8_pixel(const ec_dwconv_s8_t *p, const int8_t *const *rows, const int8_t *pad, int32_t ix,
                                  const int8_t *w, const int32_t *bias, const int32_t *mult, int8_t *out)
{
    const int32_t out_c = p->in_c * p->mult;
    for (int32_t oc = 0; oc < out_c; oc++) {
        int32_t acc = bias[oc], k = oc;
        for (int32_t ky = 0; ky < p->kh; ky++) {
            for (int32_t kx = 0; kx < p->kw; kx++, k += out_c) {
                acc += ec_dwconv_s8_tap(p, rows, pad, ix, ky, kx)[oc / p->mult] * w[k];
            }
        }
        out[oc] = ec_dwconv_s8_out(p, acc, mult[oc]);
    }
}

enum { EC_DWCONV_S8_TAPS = 32 }; /* windows up to here keep the addresses of their taps */

/* The same for windows of at most EC_DWCONV_S8_TAPS taps. */
EC_KERNEL void ec_dwconv_s8_small(const ec_dwconv_s8_t *p, const int8_t *const *rows, const int8_t *pad, int32_t ix,
                                  const int8_t *w, const int32_t *bias, const int32_t *mult, int8_t *out)
{
    const int32_t out_c = p->in_c * p->mult, taps = p->kh * p->kw;
    const int8_t *at[EC_DWCONV_S8_TAPS];
    at[0] = pad; /* tells analysers that every window has a tap */
    for (int32_t ky = 0; ky < p->kh; ky++) {
        for (int32_t kx = 0; kx < p->kw; kx++) {
            at[ky * p->kw + kx] = ec_dwconv_s8_tap(p, rows, pad, ix, ky, kx);
        }
    }
    for (int32_t oc = 0; oc < out_c; oc++) {
        int32_t acc = bias[oc];
        EC_UNROLL16
        for (int32_t k = 0; k < taps; k++) {
            acc += at[k][oc / p->mult] * w[k * out_c + oc];
        }
        out[oc] = ec_dwconv_s8_out(p, acc, mult[oc]);
    }
}

/* rows: kh input rows [in_w][in_c]; pad: a row of the input's zero point; w: [kh][kw][in_c * mult];
 * bias, mult: [in_c * mult], bias with the input zero point folded in for every tap; out: [out_w][in_c * mult]. */
EC_KERNEL void ec_dwconv_s8(const ec_dwconv_s8_t *p, const int8_t *const *rows, const int8_t *pad, const int8_t *w,
                            const int32_t *bias, const int32_t *mult, int8_t *out)
{
    const int32_t out_c = p->in_c * p->mult, span = (p->kw - 1) * p->dilation_w + 1;
    const int32_t first = ec_inner_begin(p->out_w, p->stride_w, p->pad_left);
    const int32_t last = ec_inner_end(first, p->in_w, p->out_w, span, p->stride_w, p->pad_left);
    const bool inner = last - first >= 4; /* too few pixels: all of them go the general way */
    const int32_t begin = inner ? first : 0, end = inner ? last : 0;

    for (int32_t ox = begin > 0 ? 0 : end; ox < p->out_w; ox = ox + 1 == begin ? end : ox + 1) {
        const int32_t ix = ox * p->stride_w - p->pad_left;
        if (p->kh * p->kw <= EC_DWCONV_S8_TAPS) {
            ec_dwconv_s8_small(p, rows, pad, ix, w, bias, mult, out + ox * out_c);
        } else {
            ec_dwconv_s8_pixel(p, rows, pad, ix, w, bias, mult, out + ox * out_c);
        }
    }
    for (int32_t oc = 0; oc < out_c; oc++) {
        for (int32_t x = begin; x < end; x += 4) {
            const int32_t ox = x + 4 <= end ? x : end - 4; /* as above, for pixels */
            const int32_t ix = ox * p->stride_w - p->pad_left;
            ec_dwconv_s8_4x1(p, rows, ix * p->in_c + oc / p->mult, w + oc, bias[oc], mult[oc], out + ox * out_c + oc);
        }
    }
}

#endif
