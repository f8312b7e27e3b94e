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

/* Eight outputs: an input serves eight products. w: [in_c][8]. */
EC_KERNEL void ec_fc_f32_8(const ec_fc_f32_t *p, const float *x, const float *w, const float *bias, float *out)
{
    float a0 = bias[0], a1 = bias[1], a2 = bias[2], a3 = bias[3], a4 = bias[4], a5 = bias[5], a6 = bias[6], a7 = bias[7];
    EC_UNROLL4
    for (int32_t i = 0; i < p->in_c; i++, w += 8) {
        const float x0 = x[i], w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3], w4 = w[4], w5 = w[5], w6 = w[6], w7 = w[7];
        EC_BARRIER(); /* loads that follow each other take a cycle less */
        a0 = a0 + x0 * w0;
        a1 = a1 + x0 * w1;
        a2 = a2 + x0 * w2;
        a3 = a3 + x0 * w3;
        a4 = a4 + x0 * w4;
        a5 = a5 + x0 * w5;
        a6 = a6 + x0 * w6;
        a7 = a7 + x0 * w7;
    }
    out[0] = ec_clampf(a0, p->flo, p->fhi);
    out[1] = ec_clampf(a1, p->flo, p->fhi);
    out[2] = ec_clampf(a2, p->flo, p->fhi);
    out[3] = ec_clampf(a3, p->flo, p->fhi);
    out[4] = ec_clampf(a4, p->flo, p->fhi);
    out[5] = ec_clampf(a5, p->flo, p->fhi);
    out[6] = ec_clampf(a6, p->flo, p->fhi);
    out[7] = ec_clampf(a7, p->flo, p->fhi);
}

/* x: [in_c]; w: [out_c / 8][in_c][8], then [out_c % 8][in_c]; bias: [out_c]; out: [out_c], apart from x. */
EC_KERNEL void ec_fc_f32(const ec_fc_f32_t *p, const float *x, const float *w, const float *bias, float *out)
{
    const int32_t eights = p->out_c / 8 * 8;
    for (int32_t oc = 0; oc < eights; oc += 8) {
        ec_fc_f32_8(p, x, w + oc * p->in_c, bias + oc, out + oc);
    }
    for (int32_t oc = eights; oc < p->out_c; oc++) {
        float acc = bias[oc];
        EC_UNROLL4
        for (int32_t i = 0; i < p->in_c; i++) {
            acc = acc + x[i] * w[oc * p->in_c + i];
        }
        out[oc] = ec_clampf(acc, p->flo, p->fhi);
    }
}

#endif
