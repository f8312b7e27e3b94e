/* wino_s8_dsp: two or four output rows of an int8 3x3 convolution by exact Winograd F(2x4, 3x3) (ec_wino.h), a third of
 * the products of conv_s8_dsp for 5.3 times the weights. Tiles go in pairs, side by side; in a row of fewer than eight
 * outputs one below the other. Tiles at the right edge overlap those before where out_w is no multiple of four: what is
 * computed twice comes out the same. */
#ifndef EC_WINO_S8_DSP_H
#define EC_WINO_S8_DSP_H

#include "ec_wino.h"
#include "rows_s8.h"

/* Columns and channels; in_c a multiple of 8, out_c of 4; out_w >= 4. rows: output rows of a call, 2, or 4 where out_w
 * < 8. c, f: see ec_requant, f in {1, 8, 15}. lo, hi: clamp. */
typedef struct {
    int32_t in_w, in_c, out_w, out_c, pad_left, rows, c, f, lo, hi;
} ec_wino_s8_dsp_t;

/* Transforms `columns` columns from column col on, which may lie in the padding. to: 2 * in_c words a column. */
EC_KERNEL void ec_winod_down(const ec_wino_s8_dsp_t *p, const int8_t *const *rows, const int8_t *pad, int32_t col,
                             int32_t columns, uint32_t *to)
{
    const int8_t *const padding[4] = {pad, pad, pad, pad};
    for (int32_t n = 0; columns > 0; columns -= n, col += n, to += 2 * p->in_c * n) {
        const bool inside = col >= 0 && col < p->in_w;
        n = !inside ? 1 : columns < p->in_w - col ? columns : p->in_w - col;
        ec_wino_down(to, inside ? rows : padding, inside ? col * p->in_c : 0, n * p->in_c / 4);
    }
}

/* Transforms the inputs of two tiles, the first at output column ox. x: [24][in_c / 2][2] words; t: 20 * in_c words of
 * scratch, or 24 for tiles one below the other. */
EC_KERNEL void ec_winod_in(const ec_wino_s8_dsp_t *p, const int8_t *const *rows, const int8_t *pad, int32_t ox,
                           uint32_t *x, uint32_t *t)
{
    const int32_t col = ox - p->pad_left, second = p->rows == 2 ? 4 : 6;
    ec_winod_down(p, rows, pad, col, second == 4 ? 10 : 6, t);
    if (second == 6) {
        ec_winod_down(p, rows + 2, pad, col, 6, t + 12 * p->in_c);
    }
    ec_wino_along(t, x, 4 * p->in_c, p->in_c / 4);
    ec_wino_along(t + 2 * second * p->in_c, x + 1, 4 * p->in_c, p->in_c / 4);
}

#define EC_WINOD_MM(n)                                                                                                 \
    if (chunk == 2 * n && chunks == 1) {                                                                               \
        ec_wino_mm_##n(x, w, sums);                                                                                    \
    } else if (chunk == 2 * n) {                                                                                       \
        ec_wino_mms_##n(x, w, sums, chunks);                                                                           \
    }

/* Channels that an unrolled loop takes at a time: the most that divide in_c. */
EC_KERNEL int32_t ec_winod_chunk(int32_t in_c)
{
    for (int32_t n = 64; n > 8; n -= 8) {
        if (in_c % n == 0) {
            return n;
        }
    }
    return 8;
}

EC_KERNEL void ec_winod_mm(const ec_wino_s8_dsp_t *p, const uint32_t *x, const uint32_t *w, int32_t *sums)
{
    const int32_t chunk = ec_winod_chunk(p->in_c), chunks = p->in_c / chunk;
    EC_WINO_ALL(EC_WINOD_MM)
}

/* The outputs of two tiles from their transformed inputs x. out: the first. */
EC_KERNEL void ec_winod_out(const ec_wino_s8_dsp_t *p, const uint32_t *x, const uint32_t *w, int8_t *out, int32_t *sums)
{
    const int32_t step = p->out_c, row = p->out_w * step, apart = p->rows == 2 ? 4 * step : 2 * row;
    const int32_t words = 48 * p->in_c, c = p->c * 16;
    for (int32_t oc = 0; oc < p->out_c; oc += 4, w += words + 8, out += 4) {
        ec_winod_mm(p, x, w, sums);
        if (p->f == 1) {
            ec_wino_out_1(sums, w + words, out, c, step, row, apart);
        } else if (p->f == 8) {
            ec_wino_out_8(sums, w + words, out, c, step, row, apart);
        } else {
            ec_wino_out_15(sums, w + words, out, c, step, row, apart);
        }
    }
}

/* rows: p->rows + 2 input rows [in_w][in_c]; pad: a row of the input's zero point; stream: for four output channels
 * [24][in_c / 2][4] words of transformed weights, 4 biases times 48, 4 multipliers; out: [rows][out_w][out_c], apart
 * from the input; scratch: the bytes that the compiler computed for p, aligned
 * to 16. */
EC_KERNEL void ec_wino_s8_dsp(const ec_wino_s8_dsp_t *p, const int8_t *const *rows, const int8_t *pad,
                              const uint32_t *stream, int8_t *out, int8_t *scratch)
{
    uint32_t *x = (uint32_t *)(void *)scratch, *t = x + 24 * p->in_c;
    int32_t *sums = (int32_t *)(void *)t; /* t is done with when the sums begin */
    const int32_t last = p->rows == 2 ? p->out_w - 8 : p->out_w - 4, step = p->rows == 2 ? 8 : 4;
    for (int32_t ox = 0; ox < p->out_w; ox += step) {
        const int32_t at = ox < last ? ox : last;
        ec_winod_in(p, rows, pad, at, x, t);
        ec_winod_out(p, x, stream, out + at * p->out_c, sums);
    }
    ec_clamp_s8(out, p->rows * p->out_w * p->out_c, p->lo, p->hi);
}

#endif
