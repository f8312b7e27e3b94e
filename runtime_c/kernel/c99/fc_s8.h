/* fc_s8 (c99): an int8 fully connected layer. */
#ifndef EC_FC_S8_H
#define EC_FC_S8_H

#include "ec.h"

/* c, f: see ec_requant. lo, hi: clamp. */
typedef struct {
    int32_t in_c, out_c, c, f, lo, hi;
} ec_fc_s8_t;

EC_KERNEL int8_t ec_fc_s8_out(const ec_fc_s8_t *p, int32_t acc, int32_t m)
{
    return ec_sat8(ec_requant(acc, m, p->c, p->f), p->lo, p->hi);
}

/* Four outputs: an input serves four products. */
EC_KERNEL void ec_fc_s8_4(const ec_fc_s8_t *p, const int8_t *x, const int8_t *w, const int32_t *bias,
                          const int32_t *mult, int8_t *out)
{
    const int32_t n = p->in_c;
    int32_t a0 = bias[0], a1 = bias[1], a2 = bias[2], a3 = bias[3];
    EC_UNROLL4
    for (int32_t i = 0; i < n; i++) {
        const int32_t x0 = x[i], w0 = w[i], w1 = w[i + n], w2 = w[i + 2 * n], w3 = w[i + 3 * n];
        a0 += x0 * w0;
        a1 += x0 * w1;
        a2 += x0 * w2;
        a3 += x0 * w3;
    }
    out[0] = ec_fc_s8_out(p, a0, mult[0]);
    out[1] = ec_fc_s8_out(p, a1, mult[1]);
    out[2] = ec_fc_s8_out(p, a2, mult[2]);
    out[3] = ec_fc_s8_out(p, a3, mult[3]);
}

/* x: [in_c]; w: [out_c][in_c]; bias, mult: [out_c], bias with the input zero point folded in; out: [out_c], apart
 * from x. */
EC_KERNEL void ec_fc_s8(const ec_fc_s8_t *p, const int8_t *x, const int8_t *w, const int32_t *bias,
                        const int32_t *mult, int8_t *out)
{
    if (p->out_c >= 4) {
        for (int32_t j = 0; j < p->out_c; j += 4) {
            /* The last block slides back to end at the last output: its overlap is computed twice. */
            const int32_t oc = j + 4 <= p->out_c ? j : p->out_c - 4;
            ec_fc_s8_4(p, x, w + oc * p->in_c, bias + oc, mult + oc, out + oc);
        }
        return;
    }
    for (int32_t oc = 0; oc < p->out_c; oc++) {
        int32_t acc = bias[oc];
        for (int32_t i = 0; i < p->in_c; i++) {
            acc += x[i] * w[oc * p->in_c + i];
        }
        out[oc] = ec_fc_s8_out(p, acc, mult[oc]);
    }
}

#endif
