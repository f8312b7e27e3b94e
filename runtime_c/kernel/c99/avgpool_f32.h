/* avgpool_f32 (c99): one output row of a float32 average pool: the sum of the window, rows then columns in
 * ascending order, over the number of elements. */
#ifndef EC_AVGPOOL_F32_H
#define EC_AVGPOOL_F32_H

#include "ec.h"

/* include_pad: the divisor is kh * kw, else the number of elements inside the picture. flo, fhi: see
 * ec_clampf. */
typedef struct {
    int32_t in_w, in_c, out_w, kh, kw, stride_w, pad_left, include_pad;
    float flo, fhi;
} ec_avgpool_f32_t;

/* One output pixel from the columns x .. x + cols - 1 of each row. */
EC_KERNEL void ec_avgpool_f32_pixel(const ec_avgpool_f32_t *p, const float *const *rows, int32_t n_rows, int32_t x,
                                    int32_t cols, float *out)
{
    const int32_t step = p->in_c < 4 ? 1 : 4;
    const float count = (float)(p->include_pad ? p->kh * p->kw : n_rows * cols);
    for (int32_t j = 0; j < p->in_c; j += step) {
        /* The last block of four slides back to end at the last channel: its overlap is computed twice. */
        const int32_t ch = j + step <= p->in_c ? j : p->in_c - step;
        float s0 = 0.0f, s1 = s0, s2 = s0, s3 = s0;
        for (int32_t ky = 0; ky < n_rows; ky++) {
            const float *row = rows[ky] + ch;
            EC_UNROLL4
            for (int32_t k = x; k < x + cols; k++) {
                s0 = s0 + row[k * p->in_c];
                if (step == 4) {
                    s1 = s1 + row[k * p->in_c + 1];
                    s2 = s2 + row[k * p->in_c + 2];
                    s3 = s3 + row[k * p->in_c + 3];
                }
            }
        }
        out[ch] = ec_clampf(s0 / count, p->flo, p->fhi);
        if (step == 4) {
            out[ch + 1] = ec_clampf(s1 / count, p->flo, p->fhi);
            out[ch + 2] = ec_clampf(s2 / count, p->flo, p->fhi);
            out[ch + 3] = ec_clampf(s3 / count, p->flo, p->fhi);
        }
    }
}

/* rows: the n_rows (<= kh) rows [in_w][in_c] of the window that lie inside the picture; out: [out_w][in_c], apart
 * from rows. */
EC_KERNEL void ec_avgpool_f32(const ec_avgpool_f32_t *p, const float *const *rows, int32_t n_rows, float *out)
{
    const int32_t first = ec_inner_begin(p->out_w, p->stride_w, p->pad_left);
    const int32_t last = ec_inner_end(first, p->in_w, p->out_w, p->kw, p->stride_w, p->pad_left);
    for (int32_t ox = 0; ox < p->out_w; ox++) {
        const int32_t ix = ox * p->stride_w - p->pad_left;
        float *o = out + ox * p->in_c;
        if (ox >= first && ox < last) {
            ec_avgpool_f32_pixel(p, rows, n_rows, ix, p->kw, o);
        } else {
            const int32_t begin = ec_tap_begin(ix, p->kw, 1), end = ec_tap_end(ix, p->in_w, p->kw, 1);
            ec_avgpool_f32_pixel(p, rows, n_rows, ix + begin, end > begin ? end - begin : 0, o);
        }
    }
}

#endif
