/* lut_s8 (c99): any function of one int8 value, by table. */
#ifndef EC_LUT_S8_H
#define EC_LUT_S8_H

#include "ec.h"

/* n: elements. */
typedef struct {
    int32_t n;
} ec_lut_s8_t;

/* x: [n]; table: [256], at [(uint8_t)x]; out: [n], may be x. */
EC_KERNEL void ec_lut_s8(const ec_lut_s8_t *p, const int8_t *x, const int8_t *table, int8_t *out)
{
    int32_t i = 0;
    for (; i + 4 <= p->n; i += 4) { /* loads first: out may be x, so the compiler must not reorder them */
        const uint8_t x0 = (uint8_t)x[i], x1 = (uint8_t)x[i + 1], x2 = (uint8_t)x[i + 2], x3 = (uint8_t)x[i + 3];
        const int8_t y0 = table[x0], y1 = table[x1], y2 = table[x2], y3 = table[x3];
        out[i] = y0;
        out[i + 1] = y1;
        out[i + 2] = y2;
        out[i + 3] = y3;
    }
    for (; i < p->n; i++) {
        out[i] = table[(uint8_t)x[i]];
    }
}

#endif
