/* conv_s8_pair (thumb): one output row of an int8 convolution without groups, two output channels to a multiplication
 * (ec_pair.h): every pixel is a fully connected layer over its window. */
#ifndef EC_CONV_S8_PAIR_H
#define EC_CONV_S8_PAIR_H

#include "fc_s8_pair.h"

/* Columns, channels and taps of the row. c, f: see ec_requant. lo, hi: clamp. pairs: see ec_pair.h. */
typedef struct {
    int32_t in_w, in_c, out_w, out_c, kh, kw, stride_w, dilation_w, pad_left, c, f, lo, hi, pairs;
} ec_conv_s8_pair_t;

/* to[0..n) = from[0..n), apart from each other; in whole words, both at word addresses, where `words` says so. */
EC_KERNEL int8_t *ec_conv_s8_pair_copy(int8_t *to, const int8_t *from, int32_t n, bool words)
{
    if (words) {
        for (int32_t i = 0; i < n; i += 4) {
            ec_st4w(to + i, ec_ld4w(from + i));
        }
    } else {
        for (int32_t i = 0; i < n; i++) {
            to[i] = from[i];
        }
    }
    return to + n;
}

/* The taps of the window that begins at column ix, side by side in `to`: kernel rows, columns, channels. */
EC_KERNEL void ec_conv_s8_pair_window(const ec_conv_s8_pair_t *p, const int8_t *const *rows, const int8_t *pad,
                                      int32_t ix, int8_t *to)
{
    const bool words = p->in_c % 4 == 0, inside = ix >= 0 && ix + (p->kw - 1) * p->dilation_w < p->in_w;
    for (int32_t ky = 0; ky < p->kh; ky++) {
        if (inside && p->dilation_w == 1) {
            to = ec_conv_s8_pair_copy(to, rows[ky] + ix * p->in_c, p->kw * p->in_c, words);
            continue;
        }
        for (int32_t kx = 0; kx < p->kw; kx++) {
            const int32_t col = ix + kx * p->dilation_w;
            const int8_t *u = col >= 0 && col < p->in_w ? rows[ky] + col * p->in_c : pad;
            to = ec_conv_s8_pair_copy(to, u, p->in_c, words);
        }
    }
}

/* rows: kh input rows [in_w][in_c]; pad: a row of the input's zero point; stream: packed weights, biases and
 * multipliers; out: [out_w][out_c], apart from rows; scratch: [kh][kw][in_c], not used where the window is a pixel.
 * Rows, pad and scratch begin at word addresses where in_c is a multiple of 4. */
EC_KERNEL void ec_conv_s8_pair(const ec_conv_s8_pair_t *p, const int8_t *const *rows, const int8_t *pad,
                               const uint32_t *stream, int8_t *out, int8_t *scratch)
{
    const ec_fc_s8_pair_t pixel = {p->kh * p->kw * p->in_c, p->out_c, p->c, p->f, p->lo, p->hi, p->pairs};
    for (int32_t ox = 0; ox < p->out_w; ox++) {
        const int32_t ix = ox * p->stride_w - p->pad_left;
        const int8_t *x = scratch;
        if (p->kh == 1 && p->kw == 1) {
            x = ix >= 0 && ix < p->in_w ? rows[0] + ix * p->in_c : pad;
        } else {
            ec_conv_s8_pair_window(p, rows, pad, ix, scratch);
        }
        ec_fc_s8_pair(&pixel, x, stream, out + ox * p->out_c);
    }
}

#endif
