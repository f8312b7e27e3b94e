/* maxpool_s8 (dsp): one output row of an int8 maximum pool, four channels a word. */
#ifndef EC_MAXPOOL_S8_H
#define EC_MAXPOOL_S8_H

#include "ec_simd.h"

typedef struct {
    int32_t in_w, in_c, out_w, kh, kw, stride_w, dilation_w, pad_left;
} ec_maxpool_s8_t;

/* One output pixel from the taps begin .. end - 1 of each row; ix: input column of tap 0; out: the pixel. */
EC_KERNEL void ec_maxpool_s8_pixel(const ec_maxpool_s8_t *p, const int8_t *const *rows, int32_t ix, int32_t begin,
                                   int32_t end, int8_t *restrict out)
{
    for (int32_t j = 0; j < p->in_c; j += 4) {
        /* The last block of four slides back to end at the last channel: its overlap is computed twice. */
        const int32_t ch = j + 4 <= p->in_c ? j : p->in_c - 4;
        uint32_t m = 0x80808080u;
        EC_UNROLL4
        for (int32_t ky = 0; ky < p->kh; ky++) {
            const int8_t *x = rows[ky] + (ix + begin * p->dilation_w) * p->in_c + ch;
            EC_UNROLL4
            for (int32_t kx = begin; kx < end; kx++, x += p->dilation_w * p->in_c) {
                m = ec_max4(m, ec_ld4(x));
            }
        }
        ec_st4(out + ch, m);
    }
}

/* The same where there are fewer than four channels. */
EC_KERNEL void ec_maxpool_s8_few(const ec_maxpool_s8_t *p, const int8_t *const *rows, int32_t ix, int32_t begin,
                                 int32_t end, int8_t *restrict out)
{
    for (int32_t ch = 0; ch < p->in_c; ch++) {
        int8_t m = -128;
        for (int32_t ky = 0; ky < p->kh; ky++) {
            for (int32_t kx = begin; kx < end; kx++) {
                const int8_t x = rows[ky][(ix + kx * p->dilation_w) * p->in_c + ch];
                m = x > m ? x : m;
            }
        }
        out[ch] = m;
    }
}

/* rows: kh input rows [in_w][in_c], those above and below the picture hold -128; pad: unused here, as taps beside the
 * row are left out; out: [out_w][in_c], apart from rows. */
EC_KERNEL void ec_maxpool_s8(const ec_maxpool_s8_t *p, const int8_t *const *rows, const int8_t *pad, int8_t *out)
{
    (void)pad;
    const int32_t span = (p->kw - 1) * p->dilation_w + 1;
    const int32_t first = ec_inner_begin(p->out_w, p->stride_w, p->pad_left);
    const int32_t last = ec_inner_end(first, p->in_w, p->out_w, span, p->stride_w, p->pad_left);
    for (int32_t ox = 0; ox < p->out_w; ox++) {
        const int32_t ix = ox * p->stride_w - p->pad_left;
        const int32_t begin = ec_tap_begin(ix, p->kw, p->dilation_w);
        const int32_t end = ec_tap_end(ix, p->in_w, p->kw, p->dilation_w);
        int8_t *o = out + ox * p->in_c;
        if (p->in_c < 4) {
            ec_maxpool_s8_few(p, rows, ix, begin, end, o);
        } else if (ox >= first && ox < last) {
            ec_maxpool_s8_pixel(p, rows, ix, 0, p->kw, o);
        } else {
            ec_maxpool_s8_pixel(p, rows, ix, begin, end, o);
        }
    }
}

#endif
