/* dwplane_s8_dsp: an int8 depthwise 3x3 convolution of stride 1 or 2 over whole tensors, four channels and a tile of the
 * output at a time (ec_dwp.h): `band` lines of `width` outputs. Lines are rows, or columns where that suits the shape
 * better: the compiler turns the picture by its strides. Where in_c is no multiple of four, the last four channels overlap
 * the ones before, and tiles overlap where they do not divide the output: what is computed twice comes out the same. */
#ifndef EC_DWPLANE_S8_DSP_H
#define EC_DWPLANE_S8_DSP_H

#include "ec_dwp.h"
#include "rows_s8.h"

/* in_lines of in_n positions, to out_lines of out_n; lead, top (0 or 1): padding before the positions and
 * the lines; in_step ... out_line: bytes from position to position and line to line; in_c: channels; pad: the input's
 * zero point; stride: 1 or 2, both ways; width, band: outputs of a line and lines that go together, out_n and out_lines at most, width
 * EC_DWP_WIDEST at most; c: offset of ec_requant for f = 8. lo, hi: clamp. */
typedef struct {
    int32_t in_n, in_lines, out_n, out_lines, lead, top, in_step, in_line, out_step, out_line, in_c, pad, stride, width,
        band, c, lo, hi;
} ec_dwplane_s8_dsp_t;

/* Bytes of a torn line of one channel. */
EC_KERNEL int32_t ec_dwpl_pitch(const ec_dwplane_s8_dsp_t *p)
{
    return EC_DWP_LINE(p->stride, p->width);
}

/* Input lines of a tile. */
EC_KERNEL int32_t ec_dwpl_lines(const ec_dwplane_s8_dsp_t *p)
{
    return (p->band - 1) * p->stride + 3;
}

/* Fills n bytes with torn padding. */
EC_KERNEL void ec_dwpl_fill(const ec_dwplane_s8_dsp_t *p, int8_t *to, int32_t n)
{
    for (int32_t i = 0; i < n; i += 4) {
        ec_st4(to + i, ((uint32_t)p->pad & 0xFFFFu) * 0x10001u);
    }
}

/* Pairs of a torn line from position `at` on that hold input, whole or in part. */
EC_KERNEL int32_t ec_dwpl_inside(const ec_dwplane_s8_dsp_t *p, int32_t at)
{
    const int32_t end = (p->in_n - at + 1) / 2, all = ec_dwpl_pitch(p) / 4;
    return end < all ? end : all;
}

/* Pads the torn lines of a tile from input position `at` on to the right of the input. */
EC_KERNEL void ec_dwpl_pad_right(const ec_dwplane_s8_dsp_t *p, int32_t at, int8_t *to)
{
    const int32_t pitch = ec_dwpl_pitch(p), inside = 4 * ec_dwpl_inside(p, at);
    for (int32_t i = 0; i < 4 * ec_dwpl_lines(p) && inside < pitch; i++) {
        ec_dwpl_fill(p, to + i * pitch + inside, pitch - inside);
    }
}

/* Pads the torn lines of a tile from input line `line` on above and below the input. */
EC_KERNEL void ec_dwpl_pad_lines(const ec_dwplane_s8_dsp_t *p, int32_t line, int8_t *to)
{
    const int32_t pitch = ec_dwpl_pitch(p), lines = ec_dwpl_lines(p);
    const int32_t below = p->in_lines - line < lines ? p->in_lines - line : lines;
    for (int32_t ch = 0; ch < 4; ch++, to += lines * pitch) {
        ec_dwpl_fill(p, to, line < 0 ? -line * pitch : 0);
        ec_dwpl_fill(p, to + below * pitch, (lines - below) * pitch);
    }
}

/* Tears apart the lines of a tile from input line `line` and position `at` on, both -1 at least, which are not padding;
 * x: of channel 0 of the four. */
EC_KERNEL void ec_dwpl_tear(const ec_dwplane_s8_dsp_t *p, const int8_t *x, int32_t line, int32_t at, int8_t *to)
{
    const int32_t pitch = ec_dwpl_pitch(p), lines = ec_dwpl_lines(p), inside = ec_dwpl_inside(p, at);
    const int32_t lead = at < 0 ? 1 : 0, last = at + 2 * inside > p->in_n ? 1 : 0, pairs = inside - lead - last;
    const int32_t before = line < 0 ? -line : 0, end = p->in_lines - line < lines ? p->in_lines - line : lines;
    ec_dwp_tear(to + before * pitch, x + (line + before) * p->in_line + (at + lead) * p->in_step, p->in_step, pairs,
                lead + 2 * last, lines * pitch, ((uint32_t)p->pad & 0xFFu) * 0x01010101u, end - before,
                p->in_line - (lead + 2 * pairs + last) * p->in_step, pitch - 4 * inside);
}

/* x: the input; stream: eight words a channel; out: the output, may be x where one tile is all, stride is 1, in_c is a
 * multiple of four and the sizes are equal; scratch: for four channels the torn lines of a tile, aligned to 4. */
EC_KERNEL void ec_dwplane_s8_dsp(const ec_dwplane_s8_dsp_t *p, const int8_t *x, const uint32_t *stream, int8_t *out,
                                 int8_t *scratch)
{
    const int32_t plane = ec_dwpl_lines(p) * ec_dwpl_pitch(p);
    for (int32_t left = 0; left < p->out_n; left += p->width) {
        const int32_t at = left < p->out_n - p->width ? left : p->out_n - p->width, column = at * p->stride - p->lead;
        ec_dwpl_pad_right(p, column, scratch);
        for (int32_t i = 0; i < p->in_c; i += 4) {
            const int32_t ch = i + 4 <= p->in_c ? i : p->in_c - 4;
            for (int32_t top = 0; top < p->out_lines; top += p->band) {
                const int32_t line = top < p->out_lines - p->band ? top : p->out_lines - p->band;
                if (i == 0 || p->band < p->out_lines) { /* padding stays unless another band comes in between */
                    ec_dwpl_pad_lines(p, line * p->stride - p->top, scratch);
                }
                ec_dwpl_tear(p, x + ch, line * p->stride - p->top, column, scratch);
                ec_dwp(p->stride, p->width, scratch, stream + 8 * ch, out + line * p->out_line + at * p->out_step + ch,
                       p->out_step, p->out_line, p->c, p->band, plane);
            }
        }
    }
    ec_clamp_s8(out, p->out_n * p->out_lines * p->in_c, p->lo, p->hi);
}

#endif
