/* add_s8 (mve): the sum of two int8 tensors of different scales, four lanes at a time. */
#ifndef EC_ADD_S8_H
#define EC_ADD_S8_H

#include "ec_mve.h"

/* n: elements. ma, mb: the operands' factors; c: the offset, zero points and rounding included. The compiler chose
 * them so that no sum leaves int32. */
typedef struct {
    int32_t n, ma, mb, c, f, lo, hi;
} ec_add_s8_t;

/* a, b: [n]; out: [n], may be a or b. out = clamp((a * ma + b * mb + c) >> f). */
EC_KERNEL void ec_add_s8(const ec_add_s8_t *p, const int8_t *a, const int8_t *b, int8_t *out)
{
    for (int32_t i = 0; i < p->n; i += 4) {
        const int32_t left = p->n % 4 == 0 || i + 4 <= p->n ? 4 : p->n - i;
        const ec_v32 v = ec_v32_scale(ec_v32_load8_part(a + i, left), p->ma); /* lanes wrap: the whole sum does not */
        const ec_v32 sum = ec_v32_scale_add(v, ec_v32_load8_part(b + i, left), p->mb);
        ec_v32_store8(out + i, ec_v32_round(sum, p->c, p->f, p->lo, p->hi), left);
    }
}

#endif
