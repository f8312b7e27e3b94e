/* dwconv_s8_dsp: one output row of an int8 depthwise convolution with one output per channel, four channels at a
 * time; where their number is no multiple of four, the last four overlap the ones before. Weights and biases in the
 * stream carry 2^(8-f), so that the final shift is always 8.
 *
 * Three ways: 3x3 kernels by ec_dw.h; kernels of one column on a row of few outputs straight from the input rows
 * (ec_dwn_pixel); all else by tearing the columns apart (ec_dwn_tear, _slide, _hop). */
#ifndef EC_DWCONV_S8_DSP_H
#define EC_DWCONV_S8_DSP_H

#include "ec_dw.h"
#include "ec_dwn.h"
#include "rows_s8.h"

/* Columns, channels and taps of the row; mult is 1. c, f: see ec_requant. lo, hi: clamp. */
typedef struct {
    int32_t in_w, in_c, out_w, mult, kh, kw, stride_w, dilation_w, pad_left, c, f, lo, hi;
} ec_dwconv_s8_dsp_t;

EC_KERNEL bool ec_dwd_is_3x3(const ec_dwconv_s8_dsp_t *p)
{
    return p->kh == 3 && p->kw == 3 && p->dilation_w == 1 && p->stride_w <= 2 && p->pad_left <= 1 && p->out_w > 1;
}

#define EC_DWD_TALL 32 /* rows of a kernel whose taps' addresses fit the stack */

EC_KERNEL bool ec_dwd_is_tall(const ec_dwconv_s8_dsp_t *p)
{
    return p->kw == 1 && p->kh <= EC_DWD_TALL && p->out_w < 4;
}

/* Tap pairs of an output. */
EC_KERNEL int32_t ec_dwd_taps(const ec_dwconv_s8_dsp_t *p)
{
    return p->kh / 2 * p->kw + p->kh % 2 * ((p->kw + 1) / 2);
}

/* The offset of the requantisation for a shift of 8. */
EC_KERNEL int32_t ec_dwd_offset(const ec_dwconv_s8_dsp_t *p)
{
    return p->f == 8 ? p->c : p->c * 128;
}

/* ---- 3x3 -------------------------------------------------------------------------------------------------------- */

/* Column pairs of the torn row, of which the first `real` have at least one column that is not padding. */
EC_KERNEL void ec_dwd_3x3(const ec_dwconv_s8_dsp_t *p, const int8_t *const *rows, const int8_t *pad, const uint32_t *w,
                                int8_t *out, int8_t *x)
{
    const int32_t all = ((p->out_w - 1) * p->stride_w + 4) / 2, end = p->in_w + p->pad_left;
    const int32_t full = (end / 2 < all ? end / 2 : all) - p->pad_left;
    const bool right = end % 2 == 1 && end / 2 < all;
    const int32_t edges = p->pad_left + (right ? 2 : 0), c = ec_dwd_offset(p), groups = p->in_c / 4;
    const uint32_t fill = ec_ld4(pad), zero = ec_sxtb16(fill);
    for (int32_t i = 12 * ((end + 1) / 2); i < 12 * all; i++) {
        ec_st4(x + 4 * i, zero); /* beyond the right edge; nothing writes here again */
    }
    for (int32_t last = 0; last < (p->in_c % 4 == 0 ? 1 : 2); last++) {
        const int32_t ch = last ? p->in_c - 4 : 0, n = last ? 1 : groups;
        const int8_t *from[3] = {rows[0] + ch, rows[1] + ch, rows[2] + ch};
        const uint32_t *v = w + 28 * (last ? groups : 0);
        if (p->stride_w == 1) {
            ec_dw3_s1(from, v, out + ch, x, p->in_c, p->in_c, full, edges, fill, p->out_w, c, n);
        } else {
            ec_dw3_s2(from, v, out + ch, x, p->in_c, p->in_c, full, edges, fill, p->out_w, c, n);
        }
    }
}

/* ---- one column, few outputs ------------------------------------------------------------------------------------ */

EC_KERNEL void ec_dwd_tall(const ec_dwconv_s8_dsp_t *p, const int8_t *const *rows, const int8_t *pad, const uint32_t *w,
                                 int8_t *out)
{
    const int32_t groups = p->in_c / 4, rest = p->in_c % 4, even = (p->kh + 1) / 2 * 2, c = ec_dwd_offset(p);
    const int8_t *taps[EC_DWD_TALL];
    for (int32_t ox = 0; ox < p->out_w; ox++, out += p->in_c) {
        const int32_t ix = ox * p->stride_w - p->pad_left;
        for (int32_t i = 0; i < even; i++) { /* beyond an odd last row comes that row again, for a weight of zero */
            taps[i] = ix >= 0 && ix < p->in_w ? rows[i < p->kh ? i : p->kh - 1] + ix * p->in_c : pad;
        }
        ec_dwn_pixel(taps, w, out, c, even / 2, 0, groups);
        if (rest != 0) {
            ec_dwn_pixel(taps, w + groups * (2 * even + 8), out + p->in_c - 4, c, even / 2, p->in_c - 4, 1);
        }
    }
}

/* ---- any -------------------------------------------------------------------------------------------------------- */

/* Outputs that are computed of a row, four at least. */
EC_KERNEL int32_t ec_dwd_computed(const ec_dwconv_s8_dsp_t *p)
{
    return p->out_w < 4 ? 4 : p->out_w;
}

/* Torn columns. */
EC_KERNEL int32_t ec_dwd_columns(const ec_dwconv_s8_dsp_t *p)
{
    return (ec_dwd_computed(p) - 1) * p->stride_w + (p->kw - 1) * p->dilation_w + 1;
}

/* Four channels of one column, or of the padding. */
EC_KERNEL uint32_t ec_dwd_word(const ec_dwconv_s8_dsp_t *p, const int8_t *row, uint32_t pad, int32_t col, int32_t ch)
{
    return col >= 0 && col < p->in_w ? ec_ld4(row + col * p->in_c + ch) : pad;
}

/* Tears apart four channels of a row pair, whose second word stands `beside` columns to the right in the row below. */
EC_KERNEL void ec_dwd_tear(const ec_dwconv_s8_dsp_t *p, const int8_t *row, const int8_t *below, uint32_t pad,
                                 int32_t beside, int32_t ch, int8_t *x)
{
    const int32_t columns = ec_dwd_columns(p) - p->pad_left, inside = p->in_w - beside;
    for (int32_t col = -p->pad_left; col < columns; col++, x += 16) {
        if (col == 0 && inside > 0) { /* many at once */
            const int32_t n = inside < columns ? inside : columns;
            ec_dwn_tear(x, row + ch, below + beside * p->in_c + ch, p->in_c, n);
            col += n - 1;
            x += 16 * (n - 1);
            continue;
        }
        const uint32_t a = ec_dwd_word(p, row, pad, col, ch);
        const uint32_t b = ec_dwd_word(p, below, pad, col + beside, ch);
        ec_st4(x, ec_sxtb16(ec_pkhbt(a, b)));
        ec_st4(x + 4, ec_sxtb16_ror8(ec_pkhbt(a, b)));
        ec_st4(x + 8, ec_sxtb16(ec_pkhtb(a, b)));
        ec_st4(x + 12, ec_sxtb16_ror8(ec_pkhtb(a, b)));
    }
}

/* Blocks of four outputs of four channels. x: torn; w: stream; step: bytes from output to output. */
EC_KERNEL void ec_dwd_blocks(const ec_dwconv_s8_dsp_t *p, const int8_t *x, const uint32_t *w, int8_t *out, int32_t step,
                             int32_t blocks)
{
    const int32_t pitch = 16 * ec_dwd_columns(p), c = ec_dwd_offset(p);
    const bool dense = p->stride_w == 1 && p->dilation_w == 1;
    if (dense && p->kh == 1) {
        ec_dwn_line(x, w, out, step, p->kw, c, blocks);
        return;
    }
    for (int32_t i = 0; i < 4; i++, x += 4, w++, out++) {
        if (dense) {
            ec_dwn_slide(x, w, out, step, pitch, p->kh, p->kw, c, blocks);
        } else {
            ec_dwn_hop(x, w, out, step, pitch, p->kh, p->kw, c, blocks, 16 * p->stride_w, 16 * p->dilation_w);
        }
    }
}

/* Four channels of the row. Its last four outputs overlap the ones before where they are no multiple of four; fewer
 * than four come by way of scratch. */
EC_KERNEL void ec_dwd_any(const ec_dwconv_s8_dsp_t *p, const int8_t *const *rows, const int8_t *pad, int32_t ch,
                          const uint32_t *w, int8_t *out, int8_t *x)
{
    const int32_t pitch = 16 * ec_dwd_columns(p), end = p->out_w - 4;
    int8_t *few = x + (p->kh + 1) / 2 * pitch;
    for (int32_t r = 0; 2 * r < p->kh; r++) {
        const bool two = 2 * r + 1 < p->kh;
        const int32_t beside = two ? 0 : p->dilation_w;
        ec_dwd_tear(p, rows[2 * r], rows[two ? 2 * r + 1 : 2 * r], ec_ld4(pad), beside, ch, x + r * pitch);
    }
    if (p->out_w < 4) {
        ec_dwd_blocks(p, x, w, few, 4, 1);
        for (int32_t ox = 0; ox < p->out_w; ox++) {
            ec_st4(out + ox * p->in_c + ch, ec_ld4(few + 4 * ox));
        }
        return;
    }
    ec_dwd_blocks(p, x, w, out + ch, p->in_c, p->out_w / 4);
    if (p->out_w % 4 != 0) {
        ec_dwd_blocks(p, x + end * p->stride_w * 16, w, out + end * p->in_c + ch, p->in_c, 1);
    }
}

/* rows: kh input rows [in_w][in_c]; pad: a row of the input's zero point; stream: packed weights, biases and
 * multipliers; out: [out_w][in_c], apart from rows; scratch: the bytes that the compiler computed for p. in_c >= 4. */
EC_KERNEL void ec_dwconv_s8_dsp(const ec_dwconv_s8_dsp_t *p, const int8_t *const *rows, const int8_t *pad,
                                const uint32_t *stream, int8_t *out, int8_t *scratch)
{
    if (ec_dwd_is_3x3(p)) {
        ec_dwd_3x3(p, rows, pad, stream, out, scratch);
    } else if (ec_dwd_is_tall(p)) {
        ec_dwd_tall(p, rows, pad, stream, out);
    } else {
        for (int32_t i = 0; i < p->in_c; i += 4) {
            const int32_t ch = i + 4 <= p->in_c ? i : p->in_c - 4;
            ec_dwd_any(p, rows, pad, ch, stream + i * (ec_dwd_taps(p) + 2), out, scratch);
        }
    }
    ec_clamp_s8(out, p->out_w * p->in_c, p->lo, p->hi);
}

#endif
