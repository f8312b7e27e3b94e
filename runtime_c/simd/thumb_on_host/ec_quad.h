/* ec_quad.h (thumb_on_host): sums of products of int8 vectors, four output channels that share an input. */
#ifndef EC_QUAD_H
#define EC_QUAD_H

#include "ec.h"

/* acc[j] += the products of x[0..n) with w[j * apart ..], j < 4; n >= 1. */
EC_KERNEL void ec_quad_add(int32_t *acc, const int8_t *x, const int8_t *w, int32_t apart, int32_t n)
{
    for (int32_t j = 0; j < 4; j++) {
        for (int32_t i = 0; i < n; i++) {
            acc[j] += x[i] * w[j * apart + i];
        }
    }
}

#endif
