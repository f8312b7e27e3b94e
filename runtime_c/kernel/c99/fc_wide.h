/* fc_wide.h: a fully connected layer whose input, output or both are int16, four outputs at a time (ec_wide.h). Of x8 and
 * x16, out8 and out16 one each is NULL, as in conv_wide.h. */
#ifndef EC_FC_WIDE_H
#define EC_FC_WIDE_H

#include "conv_wide.h"

/* As ec_conv_wide_t. */
typedef struct {
    int32_t in_c, out_c, c, f, lo, hi, pre, bits, wide, x16, y16;
} ec_fc_wide_t;

/* x: [in_c]; w: for every block of four outputs [pairs of inputs][bits] bytes, with zeros where there is none; bias, mult:
 * [blocks][4]; out: [out_c], apart from x; scratch: int16 [2 * pairs] where the input is int8 or odd in number. */
EC_KERNEL void ec_fc_wide(const ec_fc_wide_t *p, const int8_t *x8, const int16_t *x16, const int8_t *w,
                          const int32_t *bias, const int32_t *mult, int8_t *out8, int16_t *out16, int8_t *scratch)
{
    const ec_conv_wide_t q = {1, p->in_c, 1, p->out_c, 1,     1,     1,      1,       0,
                              1, p->c,    p->f, p->lo, p->hi, p->pre, p->bits, p->wide, p->x16,
                              p->y16};
    const int32_t pairs = (p->in_c + 1) / 2;
    const int16_t *x = x16;
    if (p->x16 == 0 || p->in_c % 2 != 0) {
        int16_t *own = (int16_t *)(void *)scratch;
        own[2 * pairs - 1] = 0;
        for (int32_t i = 0; i < p->in_c; i++) {
            own[i] = p->x16 != 0 ? x16[i] : (int16_t)x8[i];
        }
        x = own;
    }
    for (int32_t j = 0; j < p->out_c; j += 4) {
        const int32_t n = p->out_c % 4 == 0 || j + 4 <= p->out_c ? 4 : p->out_c % 4;
        if (p->wide != 0) {
            int64_t sum[4] = {bias[j], bias[j + 1], bias[j + 2], bias[j + 3]};
            ec_wide_long(x, w, pairs, sum, 2);
            ec_convw_out_long(sum, mult + j, n, &q, j, out8, out16);
        } else {
            const int32_t scale = p->bits == 4 ? 16 : 1;
            int32_t sum[4] = {bias[j] * scale, bias[j + 1] * scale, bias[j + 2] * scale, bias[j + 3] * scale};
            ec_wide_one(x, w, pairs, sum, p->bits);
            ec_convw_out(sum, mult + j, n, &q, j, out8, out16);
        }
        w += pairs * p->bits;
    }
}

#endif
