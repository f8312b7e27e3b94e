/* softmax_s8 (c99): softmax of one int8 vector. */
#ifndef EC_SOFTMAX_S8_H
#define EC_SOFTMAX_S8_H

#include "ec.h"

/* n: elements. m, c, f: from q / 2^16 to the output, see ec_requant. lo, hi: clamp. */
typedef struct {
    int32_t n, m, c, f, lo, hi;
} ec_softmax_s8_t;

/* floor(e * 2^16 / s) for 0 <= e <= s < 2^31, s > 0, by long division: the same on cores without a divider. */
EC_KERNEL int32_t ec_softmax_s8_ratio(uint32_t e, uint32_t s)
{
    int32_t q = 0;
    uint32_t r = e;
    if (e == s) {
        return 65536;
    }
    for (int32_t bit = 0; bit < 16; bit++) {
        r *= 2u;
        q *= 2;
        if (r >= s) {
            r -= s;
            q += 1;
        }
    }
    return q;
}

/* x: [n]; table: [256], exp(-d * scale) in units such that n * table[0] < 2^31, table[0] > 0; out: [n], may be x. */
EC_KERNEL void ec_softmax_s8(const ec_softmax_s8_t *p, const int8_t *x, const uint32_t *table, int8_t *out)
{
    int32_t max = -128;
    uint32_t sum = 0;
    for (int32_t i = 0; i < p->n; i++) {
        max = x[i] > max ? x[i] : max;
    }
    for (int32_t i = 0; i < p->n; i++) {
        sum += table[(uint8_t)(max - x[i])];
    }
    for (int32_t i = 0; i < p->n; i++) {
        const int32_t q = ec_softmax_s8_ratio(table[(uint8_t)(max - x[i])], sum);
        out[i] = ec_sat8(ec_requant(q, p->m, p->c, p->f), p->lo, p->hi);
    }
}

#endif
