/* maxpool_f32 (c99): one output row of a float32 maximum pool. */
#ifndef EC_MAXPOOL_F32_H
#define EC_MAXPOOL_F32_H

#include "ec.h"

typedef struct {
    int32_t in_w, in_c, out_w, kh, kw, stride_w, dilation_w, pad_left;
} ec_maxpool_f32_t;

/* b where b is greater: a NaN is passed over. */
EC_KERNEL float ec_maxpool_f32_max(float a, float b)
{
    return b > a ? b : a;
}

/* One output pixel from the taps begin .. end - 1 of each row; ix: input column of tap 0; out: the pixel. */
EC_KERNEL void ec_maxpool_f32_pixel(const ec_maxpool_f32_t *p, const float *const *rows, int32_t ix, int32_t begin,
                                    int32_t end, float *out)
{
    const int32_t step = p->in_c < 4 ? 1 : 4;
    for (int32_t j = 0; j < p->in_c; j += step) {
        /* The last block of four slides back to end at the last channel: its overlap is computed twice. */
        const int32_t ch = j + step <= p->in_c ? j : p->in_c - step;
        float m0 = -EC_INFINITY, m1 = m0, m2 = m0, m3 = m0;
        EC_UNROLL4
        for (int32_t ky = 0; ky < p->kh; ky++) {
            const float *row = rows[ky] + ch;
            EC_UNROLL4
            for (int32_t kx = begin; kx < end; kx++) {
                const float *x = row + (ix + kx * p->dilation_w) * p->in_c;
                m0 = ec_maxpool_f32_max(m0, x[0]);
                if (step == 4) {
                    m1 = ec_maxpool_f32_max(m1, x[1]);
                    m2 = ec_maxpool_f32_max(m2, x[2]);
                    m3 = ec_maxpool_f32_max(m3, x[3]);
                }
            }
        }
        out[ch] = m0;
        if (step == 4) {
            out[ch + 1] = m1;
            out[ch + 2] = m2;
            out[ch + 3] = m3;
        }
    }
}

/* rows: kh input rows [in_w][in_c], those above and below the picture hold -infinity; pad: unused here, as taps beside
 * the row are left out; out: [out_w][in_c], apart from rows. */
EC_KERNEL void ec_maxpool_f32(const ec_maxpool_f32_t *p, const float *const *rows, const float *pad, float *out)
{
    (void)pad;
    const int32_t span = (p->kw - 1) * p->dilation_w + 1;
    const int32_t first = ec_inner_begin(p->out_w, p->stride_w, p->pad_left);
    const int32_t last = ec_inner_end(first, p->in_w, p->out_w, span, p->stride_w, p->pad_left);
    for (int32_t ox = 0; ox < p->out_w; ox++) {
        const int32_t ix = ox * p->stride_w - p->pad_left;
        float *o = out + ox * p->in_c;
        if (ox >= first && ox < last) {
            ec_maxpool_f32_pixel(p, rows, ix, 0, p->kw, o);
        } else {
            const int32_t begin = ec_tap_begin(ix, p->kw, p->dilation_w);
            ec_maxpool_f32_pixel(p, rows, ix, begin, ec_tap_end(ix, p->in_w, p->kw, p->dilation_w), o);
        }
    }
}

#endif
