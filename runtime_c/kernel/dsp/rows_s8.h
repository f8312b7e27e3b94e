/* rows_s8.h (dsp): moving and clamping runs of int8. */
#ifndef EC_ROWS_S8_H
#define EC_ROWS_S8_H

#include "ec_simd.h"

/* to[0..n) = from[0..n), which do not overlap; n >= 0. */
EC_KERNEL void ec_copy_s8(int8_t *to, const int8_t *from, int32_t n)
{
    if (n >= 4) {
        int32_t i = 0;
        for (; i <= n - 4; i += 4) {
            ec_st4(to + i, ec_ld4(from + i));
        }
        ec_st4(to + n - 4, ec_ld4(from + n - 4));
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        to[i] = from[i];
    }
}

/* Clamps row[0..n) to [lo, hi]; does nothing where that is the whole of int8. */
EC_KERNEL void ec_clamp_s8(int8_t *row, int32_t n, int32_t lo, int32_t hi)
{
    if (lo <= -128 && hi >= 127) {
        return;
    }
    const uint32_t low = ((uint32_t)lo & 0xFFu) * 0x01010101u, high = ((uint32_t)hi & 0xFFu) * 0x01010101u;
    int32_t i = 0;
    for (; i <= n - 4; i += 4) {
        ec_st4(row + i, ec_min4(ec_max4(ec_ld4(row + i), low), high));
    }
    for (; i < n; i++) {
        row[i] = ec_sat8(row[i], lo, hi);
    }
}

#endif
