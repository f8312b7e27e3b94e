/* fc_s8_narrow (c99): an int8 fully connected layer with weights of 4 or 2 bits. */
#ifndef EC_FC_S8_NARROW_H
#define EC_FC_S8_NARROW_H

#include "nib_s8.h"

/* c, f: see ec_requant. lo, hi: clamp. bits: of a weight, 4 or 2. out_c >= 4. */
typedef struct {
    int32_t in_c, out_c, c, f, lo, hi, bits;
} ec_fc_s8_narrow_t;

/* x: [in_c]; w: for every block of four outputs, of which the last slides back to end at the last output,
 * [in_c][bits / 2] bytes; bias, mult: [out_c], bias with the input zero point folded in; out: [out_c], apart from x. */
EC_KERNEL void ec_fc_s8_narrow(const ec_fc_s8_narrow_t *p, const int8_t *x, const uint8_t *w, const int32_t *bias,
                               const int32_t *mult, int8_t *out)
{
    for (int32_t j = 0; j < p->out_c; j += 4) {
        const int32_t oc = j + 4 <= p->out_c ? j : p->out_c - 4;
        int32_t sum[4] = {bias[oc], bias[oc + 1], bias[oc + 2], bias[oc + 3]};
        EC_UNROLL2
        for (int32_t i = 0; i < p->in_c; i++, w += p->bits / 2) {
            ec_nib_mac(sum, x[i], w, p->bits);
        }
        ec_nib_out(out + oc, sum, mult + oc, p->c, p->f, p->lo, p->hi);
    }
}

#endif
