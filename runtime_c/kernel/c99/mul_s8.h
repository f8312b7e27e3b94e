/* mul_s8 (c99): the product of two int8 tensors. */
#ifndef EC_MUL_S8_H
#define EC_MUL_S8_H

#include "ec.h"

/* n: elements. za, zb: zero points of a and b. m, c, f: see ec_requant. lo, hi: clamp. */
typedef struct {
    int32_t n, za, zb, m, c, f, lo, hi;
} ec_mul_s8_t;

/* a, b: [n]; out: [n], may be a or b. */
EC_KERNEL void ec_mul_s8(const ec_mul_s8_t *p, const int8_t *a, const int8_t *b, int8_t *out)
{
    EC_UNROLL4
    for (int32_t i = 0; i < p->n; i++) {
        const int32_t acc = (a[i] - p->za) * (b[i] - p->zb);
        out[i] = ec_sat8(ec_requant(acc, p->m, p->c, p->f), p->lo, p->hi);
    }
}

#endif
