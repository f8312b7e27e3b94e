/* conv_s8 (dsp): one output row of an int8 convolution with groups, two pixels by four channels at a time (ec_mm.h).
 * The taps of a pixel are widened once and serve all its output channels. They come in runs that stand side by side in
 * the input: a kernel row, or one tap's channels where dilation or groups tear it. */
#ifndef EC_CONV_S8_H
#define EC_CONV_S8_H

#include "ec_mm.h"
#include "rows_s8.h"

/* Columns, channels and taps of the row; groups divides in_c and out_c. c, f: see ec_requant. lo, hi: clamp. */
typedef struct {
    int32_t in_w, in_c, out_w, out_c, kh, kw, stride_w, dilation_w, pad_left, groups, c, f, lo, hi;
} ec_conv_s8_t;

EC_KERNEL bool ec_conv_s8_joined(const ec_conv_s8_t *p)
{
    return p->kw == 1 || (p->dilation_w == 1 && p->groups == 1);
}

/* Taps of a run. */
EC_KERNEL int32_t ec_conv_s8_run(const ec_conv_s8_t *p)
{
    return p->in_c / p->groups * (ec_conv_s8_joined(p) ? p->kw : 1);
}

/* Tap pairs of a pixel and group: those of its runs, but two at least. */
EC_KERNEL int32_t ec_conv_s8_pairs(const ec_conv_s8_t *p)
{
    const int32_t pairs = (ec_conv_s8_joined(p) ? p->kh : p->kh * p->kw) * ((ec_conv_s8_run(p) + 1) / 2);
    return pairs < 2 ? 2 : pairs;
}

EC_KERNEL bool ec_conv_s8_inside(const ec_conv_s8_t *p, int32_t ix)
{
    return ix >= 0 && ix + p->kw <= p->in_w;
}

/* The channels of the group that begins at ch, at one tap of a kernel row or in the padding. */
EC_KERNEL const int8_t *ec_conv_s8_tap(const ec_conv_s8_t *p, const int8_t *row, const int8_t *pad, int32_t col, int32_t ch)
{
    return (col >= 0 && col < p->in_w ? row + col * p->in_c : pad) + ch;
}

/* Copies the taps of one kernel row as they are. ix: column where the window begins. */
EC_KERNEL int8_t *ec_conv_s8_copy(const ec_conv_s8_t *p, const int8_t *row, const int8_t *pad, int32_t ix, int32_t ch, int8_t *to)
{
    const int32_t depth = p->in_c / p->groups;
    for (int32_t kx = 0; kx < p->kw; kx++, to += depth) {
        ec_copy_s8(to, ec_conv_s8_tap(p, row, pad, ix + kx * p->dilation_w, ch), depth);
    }
    return to;
}

/* Widens taps k..k+3 of a run, where it has them. */
EC_KERNEL void ec_conv_s8_quad(int8_t *to, const int8_t *from, int32_t k, int32_t run)
{
    if (run >= k + 4) {
        const uint32_t a = ec_ld4(from + k);
        ec_st4(to + 4 * k, ec_sxtb16(a));
        ec_st4(to + 4 * k + 8, ec_sxtb16_ror8(a));
    }
}

/* ec_widen for one run. A short one whose length the compiler knows becomes a few straight instructions. */
EC_KERNEL void ec_conv_s8_widen_run(int8_t *to, const int8_t *from, int32_t run)
{
    if (run > 16) {
        ec_widen(to, &from, 0, run, 1);
        return;
    }
    ec_conv_s8_quad(to, from, 0, run);
    ec_conv_s8_quad(to, from, 4, run);
    ec_conv_s8_quad(to, from, 8, run);
    ec_conv_s8_quad(to, from, 12, run);
    from += run / 4 * 4;
    to += run / 4 * 16;
    if (run % 4 == 1) {
        ec_st4(to, (uint32_t)(int32_t)from[0]);
    } else if (run % 4 == 2) {
        ec_st4(to, ec_pkhbt((uint32_t)(int32_t)from[0], (uint32_t)(int32_t)from[1]));
    } else if (run % 4 == 3) {
        ec_st4(to, ec_pkhbt((uint32_t)(int32_t)from[0], (uint32_t)(int32_t)from[2]));
        ec_st4(to + 8, (uint32_t)(int32_t)from[1]);
    }
}

/* Widens the taps of a pixel into x. bytes: scratch of a run. */
EC_KERNEL void ec_conv_s8_widen(const ec_conv_s8_t *p, const int8_t *const *rows, const int8_t *pad, int32_t ix, int32_t ch,
                                int8_t *x, int8_t *bytes)
{
    const int32_t depth = p->in_c / p->groups, run = ec_conv_s8_run(p);
    if (ec_conv_s8_joined(p) && ec_conv_s8_inside(p, ix)) {
        if (run > 16) {
            ec_widen(x, rows, ix * p->in_c + ch, run, p->kh);
            return;
        }
        for (int32_t ky = 0; ky < p->kh; ky++, x += 8 * ((run + 1) / 2)) {
            ec_conv_s8_widen_run(x, rows[ky] + ix * p->in_c + ch, run);
        }
        return;
    }
    for (int32_t ky = 0; ky < p->kh; ky++) {
        if (ec_conv_s8_joined(p) && depth % 4 != 0) { /* torn by padding within a word */
            const int8_t *from = bytes;
            ec_conv_s8_copy(p, rows[ky], pad, ix, ch, bytes);
            ec_widen(x, &from, 0, run, 1);
            x += 8 * ((run + 1) / 2);
            continue;
        }
        for (int32_t kx = 0; kx < p->kw; kx++, x += 8 * ((depth + 1) / 2)) {
            const int8_t *from = ec_conv_s8_tap(p, rows[ky], pad, ix + kx * p->dilation_w, ch);
            ec_widen(x, &from, 0, depth, 1);
        }
    }
}

/* Pixel pairs that are widened at a time: a few where each is little work. */
EC_KERNEL int32_t ec_conv_s8_batch(const ec_conv_s8_t *p)
{
    const int32_t pairs = ec_conv_s8_pairs(p);
    return pairs <= 16 && pairs * (p->out_c / p->groups) <= 512 ? 4 : 1;
}

/* The outputs of n pixel pairs. x: their taps, widened; next: bytes from the outputs of the first of a pair to those of
 * the second; tail: 8 bytes of scratch. */
EC_KERNEL void ec_conv_s8_two(const ec_conv_s8_t *p, const int8_t *x, const uint32_t *w, int8_t *out, int32_t next,
                              int32_t n, int8_t *tail)
{
    const int32_t width = p->out_c / p->groups, whole = width / 4 * 4, pairs = ec_conv_s8_pairs(p);
    const uint32_t *words = (const uint32_t *)(const void *)x;
    if (whole > 0) {
        ec_mm2(words, w, out, next, out + whole, pairs, p->c, p->f, n, 2 * p->out_c);
    }
    for (int32_t i = 0; i < n && whole < width; i++, words += 2 * pairs, out += 2 * p->out_c) {
        ec_mm2(words, w + whole / 4 * (2 * pairs + 8), tail, 4, tail + 4, pairs, p->c, p->f, 1, 0);
        ec_copy_s8(out + whole, tail, width - whole);
        ec_copy_s8(out + next + whole, tail + 4, width - whole);
    }
}

/* The outputs of one pixel whose runs are whole words. x: its taps. */
EC_KERNEL void ec_conv_s8_one(const ec_conv_s8_t *p, const int8_t *x, const uint32_t *w, int8_t *out, int8_t *tail)
{
    const int32_t width = p->out_c / p->groups, whole = width / 4 * 4, quads = ec_conv_s8_pairs(p) / 2;
    if (whole > 0) {
        ec_mm1(x, w, out, out + whole, quads, p->c, p->f);
    }
    if (whole < width) {
        ec_mm1(x, w + whole / 4 * (4 * quads + 8), tail, tail + 4, quads, p->c, p->f);
        ec_copy_s8(out + whole, tail, width - whole);
    }
}

/* The last pixel of an odd number of them, whose runs are whole words: no need to widen it. */
EC_KERNEL void ec_conv_s8_last(const ec_conv_s8_t *p, const int8_t *const *rows, const int8_t *pad, int32_t ix, int32_t ch,
                               const uint32_t *w, int8_t *out, int8_t *tail, int8_t *bytes)
{
    if (p->kh == 1 && ec_conv_s8_joined(p) && ec_conv_s8_inside(p, ix)) {
        ec_conv_s8_one(p, rows[0] + ix * p->in_c + ch, w, out, tail);
        return;
    }
    int8_t *to = bytes;
    for (int32_t ky = 0; ky < p->kh; ky++) {
        to = ec_conv_s8_copy(p, rows[ky], pad, ix, ch, to);
    }
    ec_conv_s8_one(p, bytes, w, out, tail);
}

/* rows: kh input rows [in_w][in_c]; pad: a row of the input's zero point; stream: packed weights, biases and
 * multipliers; out: [out_w][out_c], apart from rows; scratch: the bytes that the compiler computed for p, aligned to 4. */
EC_KERNEL void ec_conv_s8(const ec_conv_s8_t *p, const int8_t *const *rows, const int8_t *pad, const uint32_t *stream,
                          int8_t *out, int8_t *scratch)
{
    const int32_t depth = p->in_c / p->groups, width = p->out_c / p->groups, pairs = ec_conv_s8_pairs(p);
    const int32_t batch = ec_conv_s8_batch(p), size = 8 * pairs;
    int8_t *tail = scratch, *x = scratch + (width % 4 != 0 ? 8 : 0), *bytes = x + batch * size;
    for (int32_t i = 0; i < batch && p->kh * p->kw * depth <= 2; i++) { /* the second pair of taps has zero weights: */
        ec_st4(x + i * size + 8, 0u);                                   /* it must only be something */
        ec_st4(x + i * size + 12, 0u);
    }
    for (int32_t g = 0; g < p->groups; g++) {
        const uint32_t *w = stream + g * ((width + 3) / 4 * (2 * pairs + 8));
        int32_t ox = 0;
        while (ox < p->out_w) {
            const int32_t left = p->out_w - ox, ix = ox * p->stride_w - p->pad_left;
            int8_t *to = out + ox * p->out_c + g * width;
            if (left == 1 && ec_conv_s8_run(p) % 4 == 0) {
                ec_conv_s8_last(p, rows, pad, ix, g * depth, w, to, tail, x);
                break;
            }
            const int32_t n = left < 2 ? 1 : left < 2 * batch ? left / 2 : batch;
            for (int32_t i = 0; i < 2 * n; i++) { /* a single pixel is taken twice */
                ec_conv_s8_widen(p, rows, pad, left == 1 ? ix : ix + i * p->stride_w, g * depth, x + (i >> 1) * size + (i & 1) * 4, bytes);
            }
            ec_conv_s8_two(p, x, w, to, left == 1 ? 0 : p->out_c, n, tail);
            ox += 2 * n;
        }
    }
    ec_clamp_s8(out, p->out_w * p->out_c, p->lo, p->hi);
}

#endif
