/* avgpool_s8 (dsp): one output row of an int8 average pool, four channels a word, sums in int16 lanes. */
#ifndef EC_AVGPOOL_S8_H
#define EC_AVGPOOL_S8_H

#include "ec_simd.h"

/* include_pad: the divisor is kh * kw, else the number of elements inside the picture. c, f: see ec_requant. lo, hi:
 * clamp. */
typedef struct {
    int32_t in_w, in_c, out_w, kh, kw, stride_w, pad_left, include_pad, in_zp, c, f, lo, hi;
} ec_avgpool_s8_t;

#define EC_AVGPOOL_S8_LANE 255 /* int8 that an int16 lane can sum */

EC_KERNEL int8_t ec_avgpool_s8_out(const ec_avgpool_s8_t *p, int32_t sum, int32_t m)
{
    /* Times 2^8, so that the scale of a small window stays below the 1/4 of ec_requant. */
    return ec_sat8(ec_smmla(256 * sum, m, p->c) >> p->f, p->lo, p->hi);
}

/* Adds the lanes of even (channels 0 and 2) and odd (1 and 3) to the sums of four channels. */
EC_KERNEL void ec_avgpool_s8_flush(int32_t *sum, uint32_t even, uint32_t odd)
{
    sum[0] += (int16_t)even;
    sum[1] += (int16_t)odd;
    sum[2] += (int16_t)(even >> 16);
    sum[3] += (int16_t)(odd >> 16);
}

/* Four channels of one output pixel from the columns x .. x + cols - 1 of each row. sum: of padding's share. */
EC_KERNEL void ec_avgpool_s8_sum(const ec_avgpool_s8_t *p, const int8_t *const *rows, int32_t n_rows, int32_t x,
                                 int32_t cols, int32_t ch, int32_t *sum)
{
    uint32_t even = 0u, odd = 0u;
    int32_t held = 0;
    for (int32_t ky = 0; ky < n_rows; ky++) {
        const int8_t *from = rows[ky] + x * p->in_c + ch;
        EC_UNROLL4
        for (int32_t k = 0; k < cols; k++, from += p->in_c) {
            if (p->kh * p->kw > EC_AVGPOOL_S8_LANE && ++held > EC_AVGPOOL_S8_LANE) {
                ec_avgpool_s8_flush(sum, even, odd);
                even = odd = 0u;
                held = 1;
            }
            const uint32_t v = ec_ld4(from);
            even = ec_sxtab16(even, v);
            odd = ec_sxtab16_ror8(odd, v);
        }
    }
    ec_avgpool_s8_flush(sum, even, odd);
}

/* One output pixel from the columns x .. x + cols - 1 of each row. */
EC_KERNEL void ec_avgpool_s8_pixel(const ec_avgpool_s8_t *p, const int8_t *const *rows, int32_t n_rows, int32_t x,
                                   int32_t cols, const int32_t *mtab, int8_t *restrict out)
{
    const int32_t m = mtab[p->include_pad ? 0 : n_rows * cols], zero = -p->in_zp * n_rows * cols;
    for (int32_t j = 0; j < p->in_c; j += 4) {
        /* The last block of four slides back to end at the last channel: its overlap is computed twice. */
        const int32_t ch = j + 4 <= p->in_c ? j : p->in_c - 4;
        int32_t sum[4] = {zero, zero, zero, zero};
        ec_avgpool_s8_sum(p, rows, n_rows, x, cols, ch, sum);
        for (int32_t i = 0; i < 4; i++) {
            out[ch + i] = ec_avgpool_s8_out(p, sum[i], m);
        }
    }
}

/* The same where there are fewer than four channels. */
EC_KERNEL void ec_avgpool_s8_few(const ec_avgpool_s8_t *p, const int8_t *const *rows, int32_t n_rows, int32_t x,
                                 int32_t cols, const int32_t *mtab, int8_t *out)
{
    for (int32_t ch = 0; ch < p->in_c; ch++) {
        int32_t sum = -p->in_zp * n_rows * cols;
        for (int32_t ky = 0; ky < n_rows; ky++) {
            for (int32_t k = x; k < x + cols; k++) {
                sum += rows[ky][k * p->in_c + ch];
            }
        }
        out[ch] = ec_avgpool_s8_out(p, sum, mtab[p->include_pad ? 0 : n_rows * cols]);
    }
}

/* rows: the n_rows (<= kh) rows [in_w][in_c] of the window that lie inside the picture; mtab: [kh * kw + 1], the
 * factor by the number of elements (input scale / output scale / elements / 2^8), or that of kh * kw alone for
 * include_pad; out: [out_w][in_c], apart from rows. */
EC_KERNEL void ec_avgpool_s8(const ec_avgpool_s8_t *p, const int8_t *const *rows, int32_t n_rows, const int32_t *mtab,
                             int8_t *out)
{
    for (int32_t ox = 0; ox < p->out_w; ox++) {
        const int32_t ix = ox * p->stride_w - p->pad_left;
        const int32_t begin = ec_tap_begin(ix, p->kw, 1), end = ec_tap_end(ix, p->in_w, p->kw, 1);
        const int32_t cols = end > begin ? end - begin : 0;
        int8_t *o = out + ox * p->in_c;
        if (p->in_c < 4) {
            ec_avgpool_s8_few(p, rows, n_rows, ix + begin, cols, mtab, o);
        } else {
            ec_avgpool_s8_pixel(p, rows, n_rows, ix + begin, cols, mtab, o);
        }
    }
}

#endif
