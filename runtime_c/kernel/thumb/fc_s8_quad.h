/* fc_s8_quad (thumb): an int8 fully connected layer of at least four outputs, four at a time (ec_quad.h). */
#ifndef EC_FC_S8_QUAD_H
#define EC_FC_S8_QUAD_H

#include "ec_quad.h"

/* c, f: see ec_requant. lo, hi: clamp. */
typedef struct {
    int32_t in_c, out_c, c, f, lo, hi;
} ec_fc_s8_quad_t;

/* x: [in_c]; w: [out_c][in_c]; bias, mult: [out_c], bias with the input zero point folded in; out: [out_c], apart
 * from x. */
EC_KERNEL void ec_fc_s8_quad(const ec_fc_s8_quad_t *p, const int8_t *x, const int8_t *w, const int32_t *bias,
                             const int32_t *mult, int8_t *out)
{
    for (int32_t j = 0; j < p->out_c; j += 4) {
        /* The last four slide back to end at the last output: their overlap is computed twice. */
        const int32_t oc = j + 4 <= p->out_c ? j : p->out_c - 4;
        int32_t acc[4] = {bias[oc], bias[oc + 1], bias[oc + 2], bias[oc + 3]};
        ec_quad_add(acc, x, w + oc * p->in_c, p->in_c, p->in_c);
        for (int32_t k = oc; k < oc + 4; k++) {
            out[k] = ec_sat8(ec_requant(acc[k - oc], mult[k], p->c, p->f), p->lo, p->hi);
        }
    }
}

#endif
