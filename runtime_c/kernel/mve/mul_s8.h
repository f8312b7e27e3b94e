/* mul_s8 (mve): the product of two int8 tensors, four lanes at a time. */
#ifndef EC_MUL_S8_H
#define EC_MUL_S8_H

#include "ec_mve.h"

/* n: elements. za, zb: zero points of a and b. m, c, f: see ec_requant. lo, hi: clamp. */
typedef struct {
    int32_t n, za, zb, m, c, f, lo, hi;
} ec_mul_s8_t;

/* a, b: [n]; out: [n], may be a or b. */
EC_KERNEL void ec_mul_s8(const ec_mul_s8_t *p, const int8_t *a, const int8_t *b, int8_t *out)
{
    const ec_v32 m = ec_v32_all(p->m), za = ec_v32_all(-p->za), zb = ec_v32_all(-p->zb);
    for (int32_t i = 0; i < p->n; i += 4) {
        const int32_t left = p->n % 4 == 0 || i + 4 <= p->n ? 4 : p->n - i;
        const ec_v32 x = ec_v32_add(ec_v32_load8_part(a + i, left), za);
        const ec_v32 y = ec_v32_add(ec_v32_load8_part(b + i, left), zb);
        ec_v32_store8(out + i, ec_v32_requant(ec_v32_mul(x, y), m, p->c, p->f, p->lo, p->hi), left);
    }
}

#endif
