/* avgpool_s8 (c99): one output row of an int8 average pool. */
#ifndef EC_AVGPOOL_S8_H
#define EC_AVGPOOL_S8_H

#include "ec.h"

/* include_pad: the divisor is kh * kw, else the number of elements inside the picture. c, f: see ec_requant. lo, hi:
 * clamp. */
typedef struct {
    int32_t in_w, in_c, out_w, kh, kw, stride_w, pad_left, include_pad, in_zp, c, f, lo, hi;
} ec_avgpool_s8_t;

EC_KERNEL int8_t ec_avgpool_s8_out(const ec_avgpool_s8_t *p, int32_t sum, int32_t m)
{
    /* Times 2^8, so that the scale of a small window stays below the 1/4 of ec_requant. */
    return ec_sat8(ec_requant(256 * sum, m, p->c, p->f), p->lo, p->hi);
}

/* One output pixel from the columns x .. x + cols - 1 of each row. */
EC_KERNEL void ec_avgpool_s8_pixel(const ec_avgpool_s8_t *p, const int8_t *const *rows, int32_t n_rows, int32_t x,
                                   int32_t cols, const int32_t *mtab, int8_t *out)
{
    const int32_t step = p->in_c < 4 ? 1 : 4, m = mtab[p->include_pad ? 0 : n_rows * cols];
    for (int32_t j = 0; j < p->in_c; j += step) {
        /* The last block of four slides back to end at the last channel: its overlap is computed twice. */
        const int32_t ch = j + step <= p->in_c ? j : p->in_c - step;
        int32_t s0 = -p->in_zp * n_rows * cols, s1 = s0, s2 = s0, s3 = s0;
        for (int32_t ky = 0; ky < n_rows; ky++) {
            const int8_t *row = rows[ky] + ch;
            EC_UNROLL4
            for (int32_t k = x; k < x + cols; k++) {
                s0 += row[k * p->in_c];
                if (step == 4) {
                    s1 += row[k * p->in_c + 1];
                    s2 += row[k * p->in_c + 2];
                    s3 += row[k * p->in_c + 3];
                }
            }
        }
        out[ch] = ec_avgpool_s8_out(p, s0, m);
        if (step == 4) {
            out[ch + 1] = ec_avgpool_s8_out(p, s1, m);
            out[ch + 2] = ec_avgpool_s8_out(p, s2, m);
            out[ch + 3] = ec_avgpool_s8_out(p, s3, m);
        }
    }
}

/* rows: the n_rows (<= kh) rows [in_w][in_c] of the window that lie inside the picture; mtab: [kh * kw + 1], the
 * factor by the number of elements (input scale / output scale / elements / 2^8), or that of kh * kw alone for
 * include_pad; out: [out_w][in_c], apart from rows. */
EC_KERNEL void ec_avgpool_s8(const ec_avgpool_s8_t *p, const int8_t *const *rows, int32_t n_rows, const int32_t *mtab,
                             int8_t *out)
{
    const int32_t first = ec_inner_begin(p->out_w, p->stride_w, p->pad_left);
    const int32_t last = ec_inner_end(first, p->in_w, p->out_w, p->kw, p->stride_w, p->pad_left);
    for (int32_t ox = 0; ox < p->out_w; ox++) {
        const int32_t ix = ox * p->stride_w - p->pad_left;
        int8_t *o = out + ox * p->in_c;
        if (ox >= first && ox < last) {
            ec_avgpool_s8_pixel(p, rows, n_rows, ix, p->kw, mtab, o);
        } else {
            const int32_t begin = ec_tap_begin(ix, p->kw, 1), end = ec_tap_end(ix, p->in_w, p->kw, 1);
            ec_avgpool_s8_pixel(p, rows, n_rows, ix + begin, end > begin ? end - begin : 0, mtab, o);
        }
    }
}

#endif
