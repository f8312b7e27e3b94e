/* conv_s8_narrow_dsp: one output row of an int8 convolution with groups whose weights have 4 or 2 bits, two pixels by
 * four channels at a time (ec_nib.h). The taps of a pixel are widened as conv_s8_dsp.h does it. */
#ifndef EC_CONV_S8_NARROW_DSP_H
#define EC_CONV_S8_NARROW_DSP_H

#include "conv_s8_dsp.h"
#include "nib_s8.h"

/* Columns, channels and taps of the row; groups divides in_c and out_c. c, f: see ec_requant. lo, hi: clamp. bits: of a
 * weight, 4 or 2. */
typedef struct {
    int32_t in_w, in_c, out_w, out_c, kh, kw, stride_w, dilation_w, pad_left, groups, c, f, lo, hi, bits;
} ec_conv_s8_narrow_dsp_t;

/* Two tap pairs, of which there are so many for a pixel and group. */
EC_KERNEL int32_t ec_convn_quads(const ec_conv_s8_dsp_t *g)
{
    return (ec_convd_pairs(g) + 1) / 2;
}

/* The outputs of one group for two pixels whose taps are at x. next: bytes between their outputs; tail: 8 bytes. */
EC_KERNEL void ec_convn_two(const ec_conv_s8_dsp_t *g, int32_t bits, const int8_t *x, const uint32_t *w, int8_t *out,
                            int32_t next, int8_t *tail)
{
    const int32_t width = g->out_c / g->groups, whole = width / 4 * 4, quads = ec_convn_quads(g);
    const uint32_t *taps = (const uint32_t *)(const void *)x;
    int32_t offset[2] = {0, 0};
    EC_UNROLL4
    for (int32_t k = 0; k < 2 * quads; k++) {
        offset[0] = ec_smlad(ec_ld4w(x + 8 * k), EC_NIB_ONES, offset[0]);
        offset[1] = ec_smlad(ec_ld4w(x + 8 * k + 4), EC_NIB_ONES, offset[1]);
    }
    offset[0] *= ec_nib_offset(bits);
    offset[1] *= ec_nib_offset(bits);
    if (whole > 0) {
        ec_nib_two(taps, w, out, next, whole, quads, g->c, g->f, offset, bits);
    }
    if (whole < width) {
        const uint32_t *last = w + whole / 4 * ec_nib_block(quads, bits);
        ec_nib_two(taps, last, tail, 4, 4, quads, g->c, g->f, offset, bits);
        ec_copy_s8(out + whole, tail, width - whole);
        ec_copy_s8(out + next + whole, tail + 4, width - whole);
    }
}

/* One pixel whose taps stand as int8 at x, in whole words. */
EC_KERNEL void ec_convn_one(const ec_conv_s8_dsp_t *g, int32_t bits, const int8_t *x, const uint32_t *w, int8_t *out,
                            int8_t *tail)
{
    const int32_t width = g->out_c / g->groups, whole = width / 4 * 4, quads = ec_convn_quads(g);
    const int32_t offset = ec_nib_offset(bits) * ec_nib_sum(x, quads);
    if (whole > 0) {
        ec_nib_one(x, w, out, whole, quads, g->c, g->f, offset, bits);
    }
    if (whole < width) {
        ec_nib_one(x, w + whole / 4 * ec_nib_block(quads, bits), tail, 4, quads, g->c, g->f, offset, bits);
        ec_copy_s8(out + whole, tail, width - whole);
    }
}

/* Outputs of one group. ch, w, out: of the group; x: scratch for the taps of two pixels, and for a run behind them. */
EC_KERNEL void ec_convn_group(const ec_conv_s8_dsp_t *g, int32_t bits, const int8_t *const *rows, const int8_t *pad,
                              int32_t ch, const uint32_t *w, int8_t *out, int8_t *x, int8_t *tail)
{
    int8_t *run = x + 16 * ec_convn_quads(g);
    for (int32_t ox = 0; ox < g->out_w; ox += 2) {
        const int32_t ix = ox * g->stride_w - g->pad_left;
        const bool alone = ox + 1 == g->out_w; /* such a pixel is taken twice, but where its taps are words */
        if (alone && g->kh == 1 && ec_convd_joined(g) && ec_convd_run(g) % 4 == 0 && ec_convd_inside(g, ix)) {
            ec_convn_one(g, bits, rows[0] + ix * g->in_c + ch, w, out + ox * g->out_c, tail);
            return;
        }
        ec_convd_widen(g, rows, pad, ix, ch, x, run);
        ec_convd_widen(g, rows, pad, alone ? ix : ix + g->stride_w, ch, x + 4, run);
        ec_convn_two(g, bits, x, w, out + ox * g->out_c, alone ? 0 : g->out_c, tail);
    }
}

/* rows: kh input rows [in_w][in_c]; pad: a row of the input's zero point; stream: packed weights, biases and
 * multipliers; out: [out_w][out_c], apart from rows; scratch: the bytes that the compiler computed for p, aligned
 * to 4. */
EC_KERNEL void ec_conv_s8_narrow_dsp(const ec_conv_s8_narrow_dsp_t *p, const int8_t *const *rows, const int8_t *pad,
                                     const uint32_t *stream, int8_t *out, int8_t *scratch)
{
    const ec_conv_s8_dsp_t g = {p->in_w,       p->in_c,     p->out_w,  p->out_c, p->kh, p->kw, p->stride_w,
                                p->dilation_w, p->pad_left, p->groups, p->c,     p->f,  p->lo, p->hi, 0};
    const int32_t depth = p->in_c / p->groups, width = p->out_c / p->groups, quads = ec_convn_quads(&g);
    int8_t *tail = scratch, *x = scratch + (width % 4 != 0 ? 8 : 0);
    if ((ec_convd_joined(&g) ? p->kh : p->kh * p->kw) * ((ec_convd_run(&g) + 1) / 2) < 2 * quads) {
        ec_st4(x + 16 * quads - 8, 0u); /* a last pair without taps */
        ec_st4(x + 16 * quads - 4, 0u);
    }
    for (int32_t i = 0; i < p->groups; i++) {
        const uint32_t *w = stream + i * ((width + 3) / 4 * ec_nib_block(quads, p->bits));
        ec_convn_group(&g, p->bits, rows, pad, i * depth, w, out + i * width, x, tail);
    }
    ec_clamp_s8(out, p->out_w * p->out_c, p->lo, p->hi);
}

#endif
