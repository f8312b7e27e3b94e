/* conv_s8_narrow (c99): one output row of an int8 convolution with groups whose weights have 4 or 2 bits. */
#ifndef EC_CONV_S8_NARROW_H
#define EC_CONV_S8_NARROW_H

#include "nib_s8.h"

/* Columns, channels and taps of the row; groups divides in_c and out_c, out_c / groups >= 4. c, f: see ec_requant. lo,
 * hi: clamp. bits: of a weight, 4 or 2. */
typedef struct {
    int32_t in_w, in_c, out_w, out_c, kh, kw, stride_w, dilation_w, pad_left, groups, c, f, lo, hi, bits;
} ec_conv_s8_narrow_t;

/* Two neighbouring pixels by four channels, every tap inside the row. x: element of the row where the window of the
 * first pixel begins (channel of the group). bias, mult, out: at the first of the four channels. */
EC_KERNEL void ec_conv_s8_narrow_2(const ec_conv_s8_narrow_t *p, const int8_t *const *rows, int32_t x, const uint8_t *w,
                                   const int32_t *bias, const int32_t *mult, int8_t *out)
{
    const int32_t depth = p->in_c / p->groups, next = p->stride_w * p->in_c;
    const bool joined = p->dilation_w == 1 && p->groups == 1; /* the taps of a kernel row lie side by side */
    const int32_t runs = joined ? 1 : p->kw, run = joined ? p->kw * depth : depth;
    int32_t a[4] = {bias[0], bias[1], bias[2], bias[3]}, b[4] = {bias[0], bias[1], bias[2], bias[3]};
    for (int32_t ky = 0; ky < p->kh; ky++) {
        for (int32_t r = 0; r < runs; r++) {
            const int8_t *u = rows[ky] + x + r * p->dilation_w * p->in_c;
            EC_UNROLL2
            for (int32_t i = 0; i < run; i++, w += p->bits / 2) {
                ec_nib_mac2(a, b, u[i], u[i + next], w, p->bits);
            }
        }
    }
    ec_nib_out(out, a, mult, p->c, p->f, p->lo, p->hi);
    ec_nib_out(out + p->out_c, b, mult, p->c, p->f, p->lo, p->hi);
}

/* One pixel by four channels, any column: taps outside the row come from pad. ix: input column of the first tap; ch:
 * first input channel of the group. */
EC_KERNEL void ec_conv_s8_narrow_1(const ec_conv_s8_narrow_t *p, const int8_t *const *rows, const int8_t *pad,
                                   int32_t ix, int32_t ch, const uint8_t *w, const int32_t *bias, const int32_t *mult,
                                   int8_t *out)
{
    const int32_t depth = p->in_c / p->groups;
    int32_t sum[4] = {bias[0], bias[1], bias[2], bias[3]};
    for (int32_t ky = 0; ky < p->kh; ky++) {
        for (int32_t kx = 0; kx < p->kw; kx++) {
            const int32_t col = ix + kx * p->dilation_w;
            const int8_t *u = (col >= 0 && col < p->in_w ? rows[ky] + col * p->in_c : pad) + ch;
            for (int32_t i = 0; i < depth; i++, w += p->bits / 2) {
                ec_nib_mac(sum, u[i], w, p->bits);
            }
        }
    }
    ec_nib_out(out, sum, mult, p->c, p->f, p->lo, p->hi);
}

/* rows: kh input rows [in_w][in_c]; pad: a row of the input's zero point; w: for every block of four channels of a
 * group, of which the last slides back to end at the group's last, [kh][kw][in_c / groups][bits / 2] bytes; bias, mult:
 * [out_c], bias with the input zero point folded in for every tap; out: [out_w][out_c], apart from rows. */
EC_KERNEL void ec_conv_s8_narrow(const ec_conv_s8_narrow_t *p, const int8_t *const *rows, const int8_t *pad,
                                 const uint8_t *w, const int32_t *bias, const int32_t *mult, int8_t *out)
{
    const int32_t depth = p->in_c / p->groups, width = p->out_c / p->groups;
    const int32_t span = (p->kw - 1) * p->dilation_w + 1;
    const int32_t begin = ec_inner_begin(p->out_w, p->stride_w, p->pad_left);
    const int32_t end = ec_inner_end(begin, p->in_w, p->out_w, span, p->stride_w, p->pad_left);
    for (int32_t g = 0; g < p->groups; g++) {
        const int32_t ch = g * depth;
        for (int32_t j = 0; j < width; j += 4, w += p->kh * p->kw * depth * (p->bits / 2)) {
            const int32_t oc = g * width + (j + 4 <= width ? j : width - 4);
            int32_t ox = 0;
            while (ox < p->out_w) {
                const int32_t ix = ox * p->stride_w - p->pad_left;
                int8_t *o = out + ox * p->out_c + oc;
                if (ox >= begin && ox + 1 < end) {
                    ec_conv_s8_narrow_2(p, rows, ix * p->in_c + ch, w, bias + oc, mult + oc, o);
                    ox += 2;
                } else {
                    ec_conv_s8_narrow_1(p, rows, pad, ix, ch, w, bias + oc, mult + oc, o);
                    ox += 1;
                }
            }
        }
    }
}

#endif
