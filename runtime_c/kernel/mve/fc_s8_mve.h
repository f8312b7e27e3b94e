/* fc_s8_mve: an int8 fully connected layer, four outputs at a time (ec_mve.h). */
#ifndef EC_FC_S8_MVE_H
#define EC_FC_S8_MVE_H

#include "ec_mve.h"

/* c, f: see ec_requant. lo, hi: clamp. */
typedef struct {
    int32_t in_c, out_c, c, f, lo, hi;
} ec_fc_s8_mve_t;

/* x: [in_c]; w: [blocks of 4 outputs][vectors of 16 inputs][4][16], the outputs of a block in the order 0 2 1 3; bias,
 * mult: [blocks][4], bias with the input zero point folded in; out: [out_c], apart from x; scratch: x in whole vectors,
 * where in_c is no multiple of 16. */
EC_KERNEL void ec_fc_s8_mve(const ec_fc_s8_mve_t *p, const int8_t *x, const int8_t *w, const int32_t *bias,
                            const int32_t *mult, int8_t *out, int8_t *scratch)
{
    const int32_t n = (p->in_c + 15) / 16;
    const int8_t *from = x;
    if (p->in_c % 16 != 0) { /* what stands behind the inputs is multiplied by zero */
        ec_v8_copy(scratch, x, p->in_c);
        from = scratch;
    }
    for (int32_t j = 0; j < p->out_c; j += 4, w += 64 * n) {
        const int32_t left = p->out_c % 4 == 0 || j + 4 <= p->out_c ? 4 : p->out_c - j;
        const ec_v32 sums = ec_v32_add(ec_v8_dots_1x4(from, w, n), ec_v32_load(bias + j));
        ec_v32_store8(out + j, ec_v32_requant(sums, ec_v32_load(mult + j), p->c, p->f, p->lo, p->hi), left);
    }
}

#endif
