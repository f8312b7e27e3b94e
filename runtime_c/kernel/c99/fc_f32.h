/* fc_f32 (c99): a float32 fully connected layer. Every output is the sum bias + x*w over the inputs in ascending
 * order. */
#ifndef EC_FC_F32_H
#define EC_FC_F32_H

#include "ec.h"

/* flo, fhi: see ec_clampf. */
typedef struct {
    int32_t in_c, out_c;
    float flo, fhi;
} ec_fc_f32_t;

/* Four outputs: an input serves four products. */
EC_KERNEL void ec_fc_f32_4(const ec_fc_f32_t *p, const float *x, const float *w, const float *bias, float *out)
{
    const int32_t n = p->in_c;
    float a0 = bias[0], a1 = bias[1], a2 = bias[2], a3 = bias[3];
    EC_UNROLL4
    for (int32_t i = 0; i < n; i++) {
        const float x0 = x[i], w0 = w[i], w1 = w[i + n], w2 = w[i + 2 * n], w3 = w[i + 3 * n];
        a0 = a0 + x0 * w0;
        a1 = a1 + x0 * w1;
        a2 = a2 + x0 * w2;
        a3 = a3 + x0 * w3;
    }
    out[0] = ec_clampf(a0, p->flo, p->fhi);
    out[1] = ec_clampf(a1, p->flo, p->fhi);
    out[2] = ec_clampf(a2, p->flo, p->fhi);
    out[3] = ec_clampf(a3, p->flo, p->fhi);
}

/* x: [in_c]; w: [out_c][in_c]; bias: [out_c]; out: [out_c], apart from x. */
EC_KERNEL void ec_fc_f32(const ec_fc_f32_t *p, const float *x, const float *w, const float *bias, float *out)
{
    if (p->out_c >= 4) {
        for (int32_t j = 0; j < p->out_c; j += 4) {
            /* The last block slides back to end at the last output: its overlap is computed twice. */
            const int32_t oc = j + 4 <= p->out_c ? j : p->out_c - 4;
            ec_fc_f32_4(p, x, w + oc * p->in_c, bias + oc, out + oc);
        }
        return;
    }
    for (int32_t oc = 0; oc < p->out_c; oc++) {
        float acc = bias[oc];
        for (int32_t i = 0; i < p->in_c; i++) {
            acc = acc + x[i] * w[oc * p->in_c + i];
        }
        out[oc] = ec_clampf(acc, p->flo, p->fhi);
    }
}

#endif
