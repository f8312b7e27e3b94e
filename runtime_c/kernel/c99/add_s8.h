/* add_s8 (c99): the sum of two int8 tensors of different scales. */
#ifndef EC_ADD_S8_H
#define EC_ADD_S8_H

#include "ec.h"

/* n: elements. ma, mb: the operands' factors; c: the offset, zero points and rounding included. The compiler chose
 * them so that no sum leaves int32. */
typedef struct {
    int32_t n, ma, mb, c, f, lo, hi;
} ec_add_s8_t;

/* a, b: [n]; out: [n], may be a or b. out = clamp((a * ma + b * mb + c) >> f). */
EC_KERNEL void ec_add_s8(const ec_add_s8_t *p, const int8_t *a, const int8_t *b, int8_t *out)
{
    EC_UNROLL4
    for (int32_t i = 0; i < p->n; i++) {
        out[i] = ec_sat8((a[i] * p->ma + p->c + b[i] * p->mb) >> p->f, p->lo, p->hi);
    }
}

#endif
