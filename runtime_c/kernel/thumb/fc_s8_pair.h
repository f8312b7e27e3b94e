/* fc_s8_pair (thumb): an int8 fully connected layer, two outputs to a multiplication (ec_pair.h). */
#ifndef EC_FC_S8_PAIR_H
#define EC_FC_S8_PAIR_H

#include "ec_pair.h"

/* in_c, out_c: inputs and outputs. c, f: see ec_requant. lo, hi: clamp. pairs: see ec_pair.h. */
typedef struct {
    int32_t in_c, out_c, c, f, lo, hi, pairs;
} ec_fc_s8_pair_t;

/* x: [in_c]; stream: packed weights, biases and multipliers; out: [out_c], apart from x. */
EC_KERNEL void ec_fc_s8_pair(const ec_fc_s8_pair_t *p, const int8_t *x, const uint32_t *stream, int8_t *out)
{
    for (int32_t oc = 0; oc < p->out_c; oc += 4) {
        int32_t acc[4];
        stream = ec_pair_sums(stream, x, p->pairs, acc);
        for (int32_t j = 0; j < 4; j++) {
            if (p->out_c % 4 == 0 || oc + j < p->out_c) {
                out[oc + j] = ec_sat8(ec_requant(acc[j], (int32_t)stream[j], p->c, p->f), p->lo, p->hi);
            }
        }
        stream += 4;
    }
}

#endif
