/* avgpool_s8 (mve): one output row of an int8 average pool, eight channels at a time, sums in int16 lanes. */
#ifndef EC_AVGPOOL_S8_H
#define EC_AVGPOOL_S8_H

#include "ec_mve.h"

/* include_pad: the divisor is kh * kw, else the number of elements inside the picture. c, f: see ec_requant. lo, hi:
 * clamp. */
typedef struct {
    int32_t in_w, in_c, out_w, kh, kw, stride_w, pad_left, include_pad, in_zp, c, f, lo, hi;
} ec_avgpool_s8_t;

#define EC_AVGPOOL_S8_LANE 255 /* int8 that an int16 lane can sum */

/* n channels (n <= 8) of one output pixel from the columns x .. x + cols - 1 of each row. */
EC_KERNEL void ec_avgpool_s8_part(const ec_avgpool_s8_t *p, const int8_t *const *rows, int32_t n_rows, int32_t x,
                                  int32_t cols, int32_t ch, int32_t n, int32_t m, int8_t *out)
{
    const ec_v32 zero = ec_v32_all(-p->in_zp * n_rows * cols);
    ec_v32 even = zero, odd = zero;
    ec_v16 sum = ec_v16_all(0);
    int32_t held = 0;
    for (int32_t ky = 0; ky < n_rows; ky++) {
        const int8_t *from = rows[ky] + x * p->in_c + ch;
        for (int32_t k = 0; k < cols; k++, from += p->in_c) {
            if (p->kh * p->kw > EC_AVGPOOL_S8_LANE && ++held > EC_AVGPOOL_S8_LANE) {
                ec_v16_spill(sum, &even, &odd);
                sum = ec_v16_all(0);
                held = 1;
            }
            sum = ec_v16_add(sum, ec_v16_load8_part(from, n));
        }
    }
    ec_v16_spill(sum, &even, &odd);
    /* Times 2^8, so that the scale of a small window stays below the 1/4 of ec_requant. */
    even = ec_v32_requant(ec_v32_scale(even, 256), ec_v32_all(m), p->c, p->f, p->lo, p->hi);
    odd = ec_v32_requant(ec_v32_scale(odd, 256), ec_v32_all(m), p->c, p->f, p->lo, p->hi);
    ec_v16_store8(out + ch, ec_v16_joined(even, odd), n);
}

/* rows: the n_rows (<= kh) rows [in_w][in_c] of the window that lie inside the picture; mtab: [kh * kw + 1], the
 * factor by the number of elements (input scale / output scale / elements / 2^8), or that of kh * kw alone for
 * include_pad; out: [out_w][in_c], apart from rows. */
EC_KERNEL void ec_avgpool_s8(const ec_avgpool_s8_t *p, const int8_t *const *rows, int32_t n_rows, const int32_t *mtab,
                             int8_t *out)
{
    const int32_t whole = p->in_c / 8 * 8;
    for (int32_t ox = 0; ox < p->out_w; ox++) {
        const int32_t ix = ox * p->stride_w - p->pad_left;
        const int32_t begin = ec_tap_begin(ix, p->kw, 1), end = ec_tap_end(ix, p->in_w, p->kw, 1);
        const int32_t cols = end > begin ? end - begin : 0, m = mtab[p->include_pad ? 0 : n_rows * cols];
        int8_t *o = out + ox * p->in_c;
        for (int32_t ch = 0; ch < whole; ch += 8) {
            ec_avgpool_s8_part(p, rows, n_rows, ix + begin, cols, ch, 8, m, o);
        }
        if (whole < p->in_c) {
            ec_avgpool_s8_part(p, rows, n_rows, ix + begin, cols, whole, p->in_c - whole, m, o);
        }
    }
}

#endif
