/* lut_s8 (mve): any function of one int8 value, by table, 16 lanes at a time. */
#ifndef EC_LUT_S8_H
#define EC_LUT_S8_H

#include "ec_mve.h"

/* n: elements. */
typedef struct {
    int32_t n;
} ec_lut_s8_t;

/* x: [n]; table: [256], at [(uint8_t)x]; out: [n], may be x. */
EC_KERNEL void ec_lut_s8(const ec_lut_s8_t *p, const int8_t *x, const int8_t *table, int8_t *out)
{
    int32_t i = 0;
    for (; i + 16 <= p->n; i += 16) {
        ec_v8_store(out + i, ec_v8_lookup(table, ec_v8_load(x + i)));
    }
    if (i < p->n) {
        ec_v8_store_part(out + i, ec_v8_lookup(table, ec_v8_load_part(x + i, p->n - i)), p->n - i);
    }
}

#endif
