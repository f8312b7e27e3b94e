/* conv_s8_dsp: one output row of an int8 convolution with groups, two pixels by four channels at a time (ec_mm.h).
 * The taps of a pixel are widened once and serve all its output channels. They come in runs that stand side by side in
 * the input: a kernel row, or one tap's channels where dilation or groups tear it. */
#ifndef EC_CONV_S8_DSP_H
#define EC_CONV_S8_DSP_H

#include "ec_pwu.h"
#include "rows_s8.h"

/* Columns, channels and taps of the row; groups divides in_c and out_c. c, f: see ec_requant. lo, hi: clamp.
 * unrolled: tap pairs that an unrolled loop (ec_mmu.h) takes at a time, a divisor of all; 0: a loop for any number. */
typedef struct {
    int32_t in_w, in_c, out_w, out_c, kh, kw, stride_w, dilation_w, pad_left, groups, c, f, lo, hi, unrolled;
} ec_conv_s8_dsp_t;

#define EC_CONVD_SLIDE 1536 /* bytes of scratch for a sliding window */

EC_KERNEL bool ec_convd_joined(const ec_conv_s8_dsp_t *p)
{
    return p->kw == 1 || (p->dilation_w == 1 && p->groups == 1);
}

/* Taps of a run. */
EC_KERNEL int32_t ec_convd_run(const ec_conv_s8_dsp_t *p)
{
    return p->in_c / p->groups * (ec_convd_joined(p) ? p->kw : 1);
}

/* Tap pairs of a pixel and group: those of its runs, but two at least. */
EC_KERNEL int32_t ec_convd_pairs(const ec_conv_s8_dsp_t *p)
{
    const int32_t pairs = (ec_convd_joined(p) ? p->kh : p->kh * p->kw) * ((ec_convd_run(p) + 1) / 2);
    return pairs < 2 ? 2 : pairs;
}

/* Is a pixel made from the one in its place alone? */
EC_KERNEL bool ec_convd_pointwise(const ec_conv_s8_dsp_t *p)
{
    return p->kh == 1 && p->kw == 1 && p->stride_w == 1 && p->pad_left == 0 && p->in_w >= p->out_w && p->groups == 1;
}

EC_KERNEL bool ec_convd_inside(const ec_conv_s8_dsp_t *p, int32_t ix)
{
    return ix >= 0 && ix + p->kw <= p->in_w;
}

/* The channels of the group that begins at ch, at one tap of a kernel row or in the padding. */
EC_KERNEL const int8_t *ec_convd_tap(const ec_conv_s8_dsp_t *p, const int8_t *row, const int8_t *pad, int32_t col,
                                     int32_t ch)
{
    return (col >= 0 && col < p->in_w ? row + col * p->in_c : pad) + ch;
}

/* Copies the taps of one kernel row as they are. ix: column where the window begins. */
EC_KERNEL int8_t *ec_convd_copy(const ec_conv_s8_dsp_t *p, const int8_t *row, const int8_t *pad, int32_t ix, int32_t ch,
                                int8_t *to)
{
    const int32_t depth = p->in_c / p->groups;
    for (int32_t kx = 0; kx < p->kw; kx++, to += depth) {
        ec_copy_s8(to, ec_convd_tap(p, row, pad, ix + kx * p->dilation_w, ch), depth);
    }
    return to;
}

/* The words of taps k..k+3; they go to words 0 and 2 of `to`. */
EC_KERNEL void ec_convd_put(int8_t *to, uint32_t taps)
{
    ec_st4(to, ec_sxtb16(taps));
    ec_st4(to + 8, ec_sxtb16_ror8(taps));
}

/* ec_widen for one run. A short one whose length the compiler knows becomes a few straight instructions. */
EC_KERNEL void ec_convd_widen_run(int8_t *to, const int8_t *from, int32_t run)
{
    if (run > 16) {
        ec_widen(to, &from, 0, run, 1, 1, 0);
        return;
    }
    const uint32_t a = run >= 4 ? ec_ld4(from) : 0u, b = run >= 8 ? ec_ld4(from + 4) : 0u;
    const uint32_t c = run >= 12 ? ec_ld4(from + 8) : 0u, d = run >= 16 ? ec_ld4(from + 12) : 0u;
    const int8_t *rest = from + run / 4 * 4;
    const int32_t x = run % 4 > 0 ? rest[0] : 0, y = run % 4 > 1 ? rest[1] : 0, z = run % 4 > 2 ? rest[2] : 0;
    if (run >= 4) {
        ec_convd_put(to, a);
    }
    if (run >= 8) {
        ec_convd_put(to + 16, b);
    }
    if (run >= 12) {
        ec_convd_put(to + 32, c);
    }
    if (run >= 16) {
        ec_convd_put(to + 48, d);
    }
    to += run / 4 * 16;
    if (run % 4 == 1) {
        ec_st4(to, (uint32_t)x);
    } else if (run % 4 == 2) {
        ec_st4(to, ec_pkhbt((uint32_t)x, (uint32_t)y));
    } else if (run % 4 == 3) {
        ec_st4(to, ec_pkhbt((uint32_t)x, (uint32_t)z));
        ec_st4(to + 8, (uint32_t)y);
    }
}

/* Widens the taps of a pixel into x. bytes: scratch of a run. */
EC_KERNEL void ec_convd_widen(const ec_conv_s8_dsp_t *p, const int8_t *const *rows, const int8_t *pad, int32_t ix,
                              int32_t ch, int8_t *x, int8_t *bytes)
{
    const int32_t depth = p->in_c / p->groups, run = ec_convd_run(p);
    if (ec_convd_joined(p) && ec_convd_inside(p, ix)) {
        if (run > 16) {
            ec_widen(x, rows, ix * p->in_c + ch, run, p->kh, 1, 0);
            return;
        }
        for (int32_t ky = 0; ky < p->kh; ky++, x += 8 * ((run + 1) / 2)) {
            ec_convd_widen_run(x, rows[ky] + ix * p->in_c + ch, run);
        }
        return;
    }
    for (int32_t ky = 0; ky < p->kh; ky++) {
        if (ec_convd_joined(p) && depth % 4 != 0) { /* torn by padding within a word */
            const int8_t *from = bytes;
            ec_convd_copy(p, rows[ky], pad, ix, ch, bytes);
            ec_widen(x, &from, 0, run, 1, 1, 0);
            x += 8 * ((run + 1) / 2);
            continue;
        }
        for (int32_t kx = 0; kx < p->kw; kx++, x += 8 * ((depth + 1) / 2)) {
            const int8_t *from = ec_convd_tap(p, rows[ky], pad, ix + kx * p->dilation_w, ch);
            ec_widen(x, &from, 0, depth, 1, 1, 0);
        }
    }
}

/* Pixel pairs that are widened at a time: a few where each is little work. */
EC_KERNEL int32_t ec_convd_batch(const ec_conv_s8_dsp_t *p)
{
    const int32_t pairs = ec_convd_pairs(p);
    return pairs <= 16 && pairs * (p->out_c / p->groups) <= 512 ? 4 : 1;
}

#define EC_CONVD_SHIFT(f_, n, even, odd)                                                                               \
    if (f == f_ && chunk == n && chunks == 1) {                                                                        \
        ec_mmu_##f_##_##n(x, w, out, next, out_end, c, count, step, x_step);                                           \
    }
#define EC_CONVD_SHIFTS(f_, n, even, odd)                                                                              \
    if (f == f_ && chunk == n && chunks > 1) {                                                                         \
        ec_mmus_##f_##_##n(x, w, out, next, out_end, c, count, step, x_step, chunks);                                  \
    }
#define EC_CONVD_ONE(n) EC_MMU_SHIFTS(EC_CONVD_SHIFT, n)
#define EC_CONVD_MANY(n) EC_MMU_SHIFTS(EC_CONVD_SHIFTS, n)

/* ec_mm2, unrolled (chunk > 0) or not. */
EC_KERNEL void ec_convd_mm(int32_t pairs, int32_t chunk, int32_t c, int32_t f, const uint32_t *x, const uint32_t *w,
                           int8_t *out, int32_t next, const int8_t *out_end, int32_t count, int32_t step,
                           int32_t x_step)
{
    const int32_t chunks = chunk > 0 ? pairs / chunk : 0;
    if (chunk == 0) {
        ec_mm2(x, w, out, next, out_end, pairs, c, f, count, step, x_step);
    } else {
        EC_MMU_ALL(EC_CONVD_ONE)
        EC_CONVD_ONE(32)
        EC_CONVD_ONE(64)
        EC_MMU_LARGE(EC_CONVD_MANY)
        EC_CONVD_MANY(32)
    }
}

/* The outputs of n pixel pairs. x: their taps, widened, x_step bytes from pair to pair; next: bytes from the outputs of
 * the first of a pair to those of the second; step: from pair to pair; tail: 8 bytes of scratch. */
EC_KERNEL void ec_convd_two(const ec_conv_s8_dsp_t *p, const int8_t *x, int32_t x_step, const uint32_t *w, int8_t *out,
                            int32_t next, int32_t step, int32_t n, int8_t *tail)
{
    const int32_t width = p->out_c / p->groups, whole = width / 4 * 4, pairs = ec_convd_pairs(p);
    if (whole > 0) {
        ec_convd_mm(pairs, p->unrolled, p->c, p->f, (const uint32_t *)(const void *)x, w, out, next, out + whole, n,
                    step, x_step);
    }
    for (int32_t i = 0; i < n && whole < width; i++, x += x_step, out += step) {
        const uint32_t *last = w + whole / 4 * (2 * pairs + 8);
        ec_convd_mm(pairs, p->unrolled, p->c, p->f, (const uint32_t *)(const void *)x, last, tail, 4, tail + 4, 1, 0, 0);
        ec_copy_s8(out + whole, tail, width - whole);
        ec_copy_s8(out + next + whole, tail + 4, width - whole);
    }
}

/* The outputs of one pixel whose runs are whole words. x: its taps. */
EC_KERNEL void ec_convd_one(const ec_conv_s8_dsp_t *p, const int8_t *x, const uint32_t *w, int8_t *out, int8_t *tail)
{
    const int32_t width = p->out_c / p->groups, whole = width / 4 * 4, quads = ec_convd_pairs(p) / 2;
    if (whole > 0) {
        ec_mm1(x, w, out, out + whole, quads, p->c, p->f);
    }
    if (whole < width) {
        ec_mm1(x, w + whole / 4 * (4 * quads + 8), tail, tail + 4, quads, p->c, p->f);
        ec_copy_s8(out + whole, tail, width - whole);
    }
}

/* The last pixel of an odd number of them. Where its runs are whole words it need not be widened; else it is taken
 * twice. The output of a pointwise layer may lie over it. */
EC_KERNEL void ec_convd_last(const ec_conv_s8_dsp_t *p, const int8_t *const *rows, const int8_t *pad, int32_t ix,
                             int32_t ch, const uint32_t *w, int8_t *out, int8_t *x, int8_t *tail)
{
    int8_t *to = x;
    if (ec_convd_run(p) % 4 != 0) {
        const int32_t size = 8 * ec_convd_pairs(p);
        for (int32_t i = 0; i < 2; i++) {
            ec_convd_widen(p, rows, pad, ix, ch, x + 4 * i, x + ec_convd_batch(p) * size);
        }
        ec_convd_two(p, x, 0, w, out, 0, 0, 1, tail);
    } else if (p->kh == 1 && ec_convd_joined(p) && ec_convd_inside(p, ix) &&
               (p->out_w == 1 || !ec_convd_pointwise(p))) {
        ec_convd_one(p, rows[0] + ix * p->in_c + ch, w, out, tail);
    } else {
        for (int32_t ky = 0; ky < p->kh; ky++) {
            to = ec_convd_copy(p, rows[ky], pad, ix, ch, to);
        }
        ec_convd_one(p, x, w, out, tail);
    }
}

/* ---- pointwise -------------------------------------------------------------------------------------------------- */

#define EC_CONVD_PW_SHIFT(f_, n, even, odd)                                                                            \
    if (p->f == f_ && chunk == n && chunks == 1) {                                                                     \
        ec_pwu_##f_##_##n(x, w, out, p->out_w / 2, p->out_c, p->c, wide);                                              \
    }
#define EC_CONVD_PW_SHIFTS(f_, n, even, odd)                                                                           \
    if (p->f == f_ && chunk == n && chunks > 1) {                                                                      \
        ec_pwus_##f_##_##n(x, w, out, p->out_w / 2, p->out_c, p->c, wide, chunks);                                     \
    }
#define EC_CONVD_PW_ONE(n) EC_MMU_SHIFTS(EC_CONVD_PW_SHIFT, n)
#define EC_CONVD_PW_MANY(n) EC_MMU_SHIFTS(EC_CONVD_PW_SHIFTS, n)

/* Is there code for the layer's number of taps that takes all pixels at a time? */
EC_KERNEL bool ec_convd_pw_unrolled(const ec_conv_s8_dsp_t *p)
{
    return ec_convd_pointwise(p) && p->unrolled > 0 && p->in_c % 4 == 0 && p->out_c % 4 == 0;
}

/* Are the taps of a pixel so few that those of two stay in registers? The stream then has six words for each output:
 * bias, four weight pairs, multiplier. */
EC_KERNEL bool ec_convd_eight(const ec_conv_s8_dsp_t *p)
{
    return ec_convd_pw_unrolled(p) && p->in_c == 8 && p->out_c <= 32 && p->out_w > 1;
}

#define EC_CONVD_EIGHT(f_, n)                                                                                          \
    if (p->f == f_ && p->out_c == n) {                                                                                 \
        ec_pw8_##f_##_##n(x, w, out, p->out_w / 2, p->c);                                                              \
    }

EC_KERNEL void ec_convd_eights(const ec_conv_s8_dsp_t *p, const int8_t *x, const uint32_t *w, int8_t *out)
{
    EC_PW8_WIDTHS(EC_CONVD_EIGHT, 1)
    EC_PW8_WIDTHS(EC_CONVD_EIGHT, 8)
    EC_PW8_WIDTHS(EC_CONVD_EIGHT, 15)
    if (p->out_w % 2 != 0) {
        const int8_t *last = x + 8 * (p->out_w - 1);
        const uint32_t a = ec_ld4(last), b = ec_ld4(last + 4);
        out += (p->out_w - 1) * p->out_c;
        for (int32_t i = 0; i < p->out_c; i++, w += 6) {
            int32_t acc = ec_smlad(w[1], ec_sxtb16(a), (int32_t)w[0]);
            acc = ec_smlad(w[2], ec_sxtb16_ror8(a), acc);
            acc = ec_smlad(w[3], ec_sxtb16(b), acc);
            acc = ec_smlad(w[4], ec_sxtb16_ror8(b), acc);
            out[i] = (int8_t)ec_ssat8(ec_smmla(acc, (int32_t)w[5], p->c) >> p->f);
        }
    }
}

/* The outputs of all pairs of pixels. */
EC_KERNEL void ec_convd_pw(const ec_conv_s8_dsp_t *p, const int8_t *x, const uint32_t *w, int8_t *out, int8_t *wide)
{
    const int32_t chunk = p->unrolled, chunks = p->in_c / 2 / chunk;
    EC_MMU_ALL(EC_CONVD_PW_ONE)
    EC_CONVD_PW_ONE(32)
    EC_CONVD_PW_ONE(64)
    EC_MMU_LARGE(EC_CONVD_PW_MANY)
    EC_CONVD_PW_MANY(32)
}

/* ---- windows that overlap --------------------------------------------------------------------------------------- */

/* Bytes of a column of the sliding window: the taps of two pixels, widened. */
EC_KERNEL int32_t ec_convd_column_bytes(const ec_conv_s8_dsp_t *p)
{
    return 4 * p->kh * p->in_c;
}

/* Columns that the sliding window's scratch holds. */
EC_KERNEL int32_t ec_convd_columns(const ec_conv_s8_dsp_t *p)
{
    const int32_t all = ((p->out_w + 1) / 2 - 1) * p->stride_w + p->kw;
    const int32_t room = EC_CONVD_SLIDE / ec_convd_column_bytes(p);
    return all < room ? all : room;
}

/* Is the row computed by a sliding window? Its taps come column by column, [kw][kh][in_c]. */
EC_KERNEL bool ec_convd_slides(const ec_conv_s8_dsp_t *p)
{
    return p->kw > 2 * p->stride_w && p->dilation_w == 1 && p->groups == 1 && p->in_c % 4 == 0 &&
           (p->out_w > 16 || (p->out_w > 2 && p->out_w % 2 == 0)) && ec_convd_columns(p) >= p->kw + p->stride_w;
}

/* Widens n columns of the input from column col on, or of padding, for one pixel of a pair. */
EC_KERNEL void ec_convd_widen_columns(const ec_conv_s8_dsp_t *p, const int8_t *const *rows, const int8_t *pad,
                                      int32_t col, int32_t n, int8_t *to)
{
    while (n > 0) {
        const bool inside = col >= 0 && col < p->in_w;
        const int32_t some = !inside ? 1 : n < p->in_w - col ? n : p->in_w - col;
        if (inside) {
            ec_widen(to, rows, col * p->in_c, p->in_c, p->kh, some, p->in_c);
        } else {
            for (int32_t ky = 0; ky < p->kh; ky++) {
                ec_widen(to + 4 * ky * p->in_c, &pad, 0, p->in_c, 1, 1, 0);
            }
        }
        col += some;
        n -= some;
        to += some * ec_convd_column_bytes(p);
    }
}

/* The left and the right half of the row side by side: a step of one pixel in both needs but stride_w new columns. */
EC_KERNEL void ec_convd_slide(const ec_conv_s8_dsp_t *p, const int8_t *const *rows, const int8_t *pad,
                              const uint32_t *w, int8_t *out, int8_t *x, int8_t *tail)
{
    const int32_t bytes = ec_convd_column_bytes(p), half = (p->out_w + 1) / 2, far = p->out_w - half;
    const int32_t most = (ec_convd_columns(p) - p->kw) / p->stride_w + 1, kept = p->kw - p->stride_w;
    int32_t held = 0, n = 0;
    for (int32_t ox = 0; ox < half; ox += n) {
        n = half - ox < most ? half - ox : most;
        for (int32_t i = 0; i < 2; i++) {
            const int32_t col = (ox + i * far) * p->stride_w - p->pad_left + held;
            const int32_t fresh = (n - 1) * p->stride_w + p->kw - held;
            ec_convd_widen_columns(p, rows, pad, col, fresh, x + held * bytes + 4 * i);
        }
        ec_convd_two(p, x, p->stride_w * bytes, w, out + ox * p->out_c, far * p->out_c, p->out_c, n, tail);
        ec_move(x, x + n * p->stride_w * bytes, kept * bytes);
        held = kept;
    }
}

/* ---- any -------------------------------------------------------------------------------------------------------- */

/* Outputs of one group, pixel pair by pixel pair. ch, w, out: of the group. */
EC_KERNEL void ec_convd_group(const ec_conv_s8_dsp_t *p, const int8_t *const *rows, const int8_t *pad, int32_t ch,
                              const uint32_t *w, int8_t *out, int8_t *x, int8_t *tail)
{
    const int32_t batch = ec_convd_batch(p), size = 8 * ec_convd_pairs(p);
    for (int32_t ox = 0; ox < p->out_w; ox += 2 * batch) {
        const int32_t left = p->out_w - ox, n = left / 2 < batch ? left / 2 : batch;
        for (int32_t i = 0; i < 2 * n; i++) {
            const int32_t ix = (ox + i) * p->stride_w - p->pad_left;
            ec_convd_widen(p, rows, pad, ix, ch, x + (i >> 1) * size + (i & 1) * 4, x + batch * size);
        }
        if (n > 0) {
            ec_convd_two(p, x, size, w, out + ox * p->out_c, p->out_c, 2 * p->out_c, n, tail);
        }
    }
    if (p->out_w % 2 != 0) {
        const int32_t ox = p->out_w - 1;
        ec_convd_last(p, rows, pad, ox * p->stride_w - p->pad_left, ch, w, out + ox * p->out_c, x, tail);
    }
}

/* rows: kh input rows [in_w][in_c]; pad: a row of the input's zero point; stream: packed weights, biases and
 * multipliers; out: [out_w][out_c], apart from rows, but where two pixels or more are pointwise each output may lie over
 * inputs of its own pixel and of those before; scratch: the bytes that the compiler computed for p, aligned to 4. */
EC_KERNEL void ec_conv_s8_dsp(const ec_conv_s8_dsp_t *p, const int8_t *const *rows, const int8_t *pad,
                              const uint32_t *stream, int8_t *out, int8_t *scratch)
{
    const int32_t depth = p->in_c / p->groups, width = p->out_c / p->groups, size = 8 * ec_convd_pairs(p);
    int8_t *tail = scratch, *x = scratch + (width % 4 != 0 ? 8 : 0);
    if (ec_convd_slides(p)) {
        ec_convd_slide(p, rows, pad, stream, out, x, tail);
    } else if (ec_convd_eight(p)) {
        ec_convd_eights(p, rows[0], stream, out);
    } else if (ec_convd_pw_unrolled(p) && p->out_w > 1) {
        ec_convd_pw(p, rows[0], stream, out, x);
        if (p->out_w % 2 != 0) {
            ec_convd_last(p, rows, pad, p->out_w - 1, 0, stream, out + (p->out_w - 1) * p->out_c, x, tail);
        }
    } else {
        for (int32_t i = 0; i < ec_convd_batch(p) && p->kh * p->kw * depth <= 2; i++) {
            ec_st4(x + i * size + 8, 0u); /* the second pair of taps has zero weights: it must only be something */
            ec_st4(x + i * size + 12, 0u);
        }
        for (int32_t g = 0; g < p->groups; g++) {
            const uint32_t *w = stream + g * ((width + 3) / 4 * (size / 4 + 8));
            ec_convd_group(p, rows, pad, g * depth, w, out + g * width, x, tail);
        }
    }
    ec_clamp_s8(out, p->out_w * p->out_c, p->lo, p->hi);
}

#endif
