/* stem_s8_dsp: one or two output rows of an int8 convolution of few input channels. The columns of the input that the
 * windows cover are widened once, each the elements of its kernel rows side by side, so that a window is one run and
 * those of neighbours overlap. Two pixels are made at a time (ec_mm.h): the same one of two rows, or of the left and the
 * right half of a row; their words take turns. */
#ifndef EC_STEM_S8_DSP_H
#define EC_STEM_S8_DSP_H

#include "conv_s8_dsp.h"

/* As ec_conv_s8_dsp_t, without groups and dilation; in_c <= 3, out_c a multiple of 4. rows: output rows that a call
 * makes, 1 (then out_w is even) or 2, stride_h input rows apart. */
typedef struct {
    int32_t in_w, in_c, out_w, out_c, kh, kw, stride_h, stride_w, pad_left, rows, c, f, lo, hi, unrolled;
} ec_stem_s8_dsp_t;

#define EC_STEM_BYTES 2048 /* of scratch that columns take, at most, if a window fits */

/* Elements of a column, of which steps of stride_w columns are whole words. */
EC_KERNEL int32_t ec_stem_column(const ec_stem_s8_dsp_t *p)
{
    const int32_t n = p->kh * p->in_c;
    return n + n % 2 * (p->stride_w % 2);
}

/* Tap pairs of a window; half of the last one may be of the next column, with weight zero. */
EC_KERNEL int32_t ec_stem_pairs(const ec_stem_s8_dsp_t *p)
{
    return (p->kw * ec_stem_column(p) + 1) / 2;
}

/* Pixel pairs that are made from one filling of the scratch, of `pixels` in all. */
EC_KERNEL int32_t ec_stem_most(const ec_stem_s8_dsp_t *p, int32_t pixels)
{
    const int32_t room = (EC_STEM_BYTES / (4 * ec_stem_column(p)) - p->kw) / p->stride_w + 1;
    return room < 1 ? 1 : room < pixels ? room : pixels;
}

/* Are there three kernel rows of three channels, whose words are made from whole words of the input? */
EC_KERNEL bool ec_stem_colour(const ec_stem_s8_dsp_t *p)
{
    return p->kh == 3 && p->in_c == 3;
}

/* Where channel i of kernel row ky of a column lies. The colours of a column: 0 and 2 of each row, then 1 of all rows; in
 * an odd column whose neighbour ends in the middle of a word, 1 of the last row, 1 of the others, 0 and 2 of each. */
EC_KERNEL int32_t ec_stem_place(const ec_stem_s8_dsp_t *p, int32_t column, int32_t ky, int32_t i)
{
    const int32_t n = ec_stem_column(p), first = column * n;
    if (!ec_stem_colour(p)) {
        return first + ky * p->in_c + i;
    }
    if (n % 2 == 0 || column % 2 == 0) {
        return first + (i == 1 ? 6 + ky : 2 * ky + i / 2);
    }
    return first + (i == 1 ? (ky + 1) % 3 : 3 + 2 * ky + i / 2);
}

/* Element e of one pixel of a pair. */
EC_KERNEL void ec_stem_put(int8_t *to, int32_t e, int32_t v)
{
    const uint32_t u = (uint32_t)v;
    int8_t *at = to + e / 2 * 8 + e % 2 * 2;
#if defined(__GNUC__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    const uint16_t half = (uint16_t)u;
    __builtin_memcpy(at, &half, 2u);
#else
    at[0] = (int8_t)(u & 0xFFu);
    at[1] = (int8_t)(u >> 8 & 0xFFu);
#endif
}

/* Two columns of three rows of colours. */
EC_KERNEL void ec_stem_colours(const ec_stem_s8_dsp_t *p, const int8_t *r0, const int8_t *r1, const int8_t *r2,
                               int8_t *to)
{
    const uint32_t a0 = ec_ld4(r0), b0 = ec_ld4(r0 + 2), a1 = ec_ld4(r1), b1 = ec_ld4(r1 + 2);
    const uint32_t a2 = ec_ld4(r2), b2 = ec_ld4(r2 + 2);
    const uint32_t g0 = ec_sxtb16_ror8(a0), g1 = ec_sxtb16_ror8(a1), g2 = ec_sxtb16_ror8(a2); /* green is low */
    const uint32_t h0 = ec_sxtb16(b0), h1 = ec_sxtb16(b1), h2 = ec_sxtb16(b2);                /* green is high */
    ec_st4w(to, ec_sxtb16(a0));
    ec_st4w(to + 8, ec_sxtb16(a1));
    ec_st4w(to + 16, ec_sxtb16(a2));
    ec_st4w(to + 24, ec_pkhbt(g0, g1));
    if (ec_stem_column(p) % 2 != 0) {
        ec_st4w(to + 32, ec_pkh(g2, h2));
        ec_st4w(to + 40, ec_pkhtb(h0, h1));
        to += 48;
    } else {
        ec_st4w(to + 32, g2);
        ec_st4w(to + 64, ec_pkhtb(h0, h1));
        ec_st4w(to + 72, h2 >> 16);
        to += 40;
    }
    ec_st4w(to, ec_sxtb16_ror8(b0));
    ec_st4w(to + 8, ec_sxtb16_ror8(b1));
    ec_st4w(to + 16, ec_sxtb16_ror8(b2));
}

/* n columns of the input from column col on, or of padding, for one pixel of a pair. */
EC_KERNEL void ec_stem_widen(const ec_stem_s8_dsp_t *p, const int8_t *const *rows, const int8_t *pad, int32_t col,
                             int32_t n, int8_t *to)
{
    const int32_t column = ec_stem_column(p);
    int32_t at = 0;
    while (at < n) {
        const int32_t ix = col + at;
        const bool inside = ix >= 0 && ix < p->in_w;
        if (ec_stem_colour(p) && inside && at % 2 == 0 && at + 2 <= n && ix + 2 <= p->in_w) {
            const int32_t left = n - at < p->in_w - ix ? n - at : p->in_w - ix;
            const int8_t *r0 = rows[0] + 3 * ix, *r1 = rows[1] + 3 * ix, *r2 = rows[2] + 3 * ix;
            int8_t *here = to + 4 * column * at;
            for (int32_t k = left / 2; k > 0; k--, r0 += 6, r1 += 6, r2 += 6, here += 8 * column) {
                ec_stem_colours(p, r0, r1, r2, here);
            }
            at += left / 2 * 2;
            continue;
        }
        for (int32_t ky = 0; ky < p->kh; ky++) {
            const int8_t *from = inside ? rows[ky] + ix * p->in_c : pad;
            for (int32_t i = 0; i < p->in_c; i++) {
                ec_stem_put(to, ec_stem_place(p, at, ky, i), from[i]);
            }
        }
        at++;
    }
}

/* rows: (rows - 1) * stride_h + kh input rows [in_w][in_c]; pad: a row of the input's zero point; stream: packed weights,
 * biases and multipliers; out: [rows][out_w][out_c], apart from rows; scratch: the bytes that the compiler computed for
 * p, aligned to 4. */
EC_KERNEL void ec_stem_s8_dsp(const ec_stem_s8_dsp_t *p, const int8_t *const *rows, const int8_t *pad,
                              const uint32_t *stream, int8_t *out, int8_t *scratch)
{
    const int32_t pixels = p->rows == 2 ? p->out_w : p->out_w / 2, far = p->rows == 2 ? 0 : pixels;
    const int32_t most = ec_stem_most(p, pixels), next = pixels * p->out_c;
    int32_t n = 0;
    for (int32_t ox = 0; ox < pixels; ox += n) {
        n = pixels - ox < most ? pixels - ox : most;
        for (int32_t i = 0; i < 2; i++) {
            const int32_t col = (ox + i * far) * p->stride_w - p->pad_left;
            ec_stem_widen(p, rows + (p->rows - 1) * i * p->stride_h, pad, col, (n - 1) * p->stride_w + p->kw, scratch + 4 * i);
        }
        ec_convd_mm(ec_stem_pairs(p), p->unrolled, p->c, p->f, (const uint32_t *)(const void *)scratch, stream,
                    out + ox * p->out_c, next, out + (ox + 1) * p->out_c, n, p->out_c,
                    4 * p->stride_w * ec_stem_column(p));
    }
    ec_clamp_s8(out, p->rows * p->out_w * p->out_c, p->lo, p->hi);
}

#endif
