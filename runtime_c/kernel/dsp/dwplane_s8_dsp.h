/* dwplane_s8_dsp: an int8 depthwise 3x3 convolution of stride 1 over whole tensors, four channels and a band of output
 * lines at a time (ec_dwp.h). Lines are rows, or columns where that suits the shape better: the compiler turns the picture by
 * its strides. Where in_c is no multiple of four, the last four channels overlap the ones before, and bands overlap
 * where out_lines is no multiple of band: what is computed twice comes out the same. */
#ifndef EC_DWPLANE_S8_DSP_H
#define EC_DWPLANE_S8_DSP_H

#include "ec_dwp.h"
#include "rows_s8.h"

/* in_lines of in_n positions, to out_lines of out_n; lead, top (0 or 1): padding before the positions and
 * the lines; in_step ... out_line: bytes from position to position and line to line; in_c: channels; pad: the input's
 * zero point; pitch: bytes of a torn line of one channel; band: output lines that go together, out_lines at most; c:
 * offset of ec_requant for f = 8. lo, hi: clamp. */
typedef struct {
    int32_t in_n, in_lines, out_n, out_lines, lead, top, in_step, in_line, out_step, out_line, in_c, pad, pitch,
        band, c, lo, hi;
} ec_dwplane_s8_dsp_t;

#define EC_DWPL_MAKE(p_, r)                                                                                         \
    if (p->pitch == p_ && blocks > 0 && p->out_n % 8 == r) {                                         \
        ec_dwp_##p_##_##r(x, w, out, p->out_step, gap, p->c, p->band, blocks);                                   \
    }
#define EC_DWPL_FEW(p_, n)                                                                                          \
    if (p->pitch == p_ && p->out_n == n) {                                                           \
        ec_dwp_##p_##_few_##n(x, w, out, p->out_step, gap, p->c, p->band, blocks);                               \
    }

/* One channel of a band. */
EC_KERNEL void ec_dwpl_channel(const ec_dwplane_s8_dsp_t *p, const int8_t *x, const uint32_t *w, int8_t *out)
{
    const int32_t blocks = p->out_n / 8, gap = p->out_line - p->out_n * p->out_step;
    EC_DWP_ALL(EC_DWPL_MAKE, EC_DWPL_FEW)
}

/* Input lines of a band. */
EC_KERNEL int32_t ec_dwpl_lines(const ec_dwplane_s8_dsp_t *p)
{
    return p->band + 2;
}

/* Fills n bytes with torn padding. */
EC_KERNEL void ec_dwpl_fill(const ec_dwplane_s8_dsp_t *p, int8_t *to, int32_t n)
{
    for (int32_t i = 0; i < n; i += 4) {
        ec_st4(to + i, ((uint32_t)p->pad & 0xFFFFu) * 0x10001u);
    }
}

/* Tears apart the lines of a band from input line `line` on; x: of channel 0 of the four. Padding stays where it is
 * unless another band came in between. */
EC_KERNEL void ec_dwpl_tear(const ec_dwplane_s8_dsp_t *p, const int8_t *x, int32_t line, int8_t *to)
{
    const int32_t need = (p->out_n + 3) / 2, room = need - p->lead;
    const int32_t left = p->in_n - p->lead, pairs = left / 2 < room ? left / 2 : room;
    const int32_t last = left % 2 != 0 && pairs < room ? 1 : 0, read = p->lead + 2 * pairs + last;
    const int32_t lines = ec_dwpl_lines(p), plane = lines * p->pitch;
    const int32_t before = line < 0 ? -line : 0, end = p->in_lines - line < lines ? p->in_lines - line : lines;
    for (int32_t ch = 0; ch < 4 && p->band < p->out_lines; ch++) {
        ec_dwpl_fill(p, to + ch * plane, before * p->pitch);
        ec_dwpl_fill(p, to + ch * plane + end * p->pitch, (lines - end) * p->pitch);
    }
    ec_dwp_tear(to + before * p->pitch, x + (line + before) * p->in_line, p->in_step, pairs, p->lead + 2 * last, plane,
                ((uint32_t)p->pad & 0xFFu) * 0x01010101u, end - before, p->in_line - read * p->in_step,
                p->pitch - 4 * (p->lead + pairs + last));
}

/* x: the input; stream: eight words a channel; out: the output, may be x where band == out_lines, in_c is a multiple of
 * four and the sizes are equal; scratch: 4 * pitch * (band + 2) bytes, aligned to 4. */
EC_KERNEL void ec_dwplane_s8_dsp(const ec_dwplane_s8_dsp_t *p, const int8_t *x, const uint32_t *stream, int8_t *out,
                                 int8_t *scratch)
{
    const int32_t plane = ec_dwpl_lines(p) * p->pitch;
    ec_dwpl_fill(p, scratch, 4 * plane);
    for (int32_t i = 0; i < p->in_c; i += 4) {
        const int32_t ch = i + 4 <= p->in_c ? i : p->in_c - 4;
        for (int32_t first = 0; first < p->out_lines; first += p->band) {
            const int32_t line = first < p->out_lines - p->band ? first : p->out_lines - p->band;
            ec_dwpl_tear(p, x + ch, line - p->top, scratch);
            for (int32_t k = 0; k < 4; k++) {
                ec_dwpl_channel(p, scratch + k * plane, stream + 8 * (ch + k), out + line * p->out_line + ch + k);
            }
        }
    }
    ec_clamp_s8(out, p->out_n * p->out_lines * p->in_c, p->lo, p->hi);
}

#endif
