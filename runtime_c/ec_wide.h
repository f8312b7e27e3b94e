/* ec_wide.h: multiply-accumulate of int16 activations with weights of 8 or 4 bits, four output channels at a time.
 *
 * Taps come in pairs. Weights of a pair, 8 bits: bytes (0, k) (1, k) (0, k + 1) (1, k + 1) of channels 0 and 1, then the
 * same of channels 2 and 3; 4 bits: bytes (0 above 1, k) (2 above 3, k) (0 above 1, k + 1) (2 above 3, k + 1), whose sums
 * come out 16 times as large. Cores with the DSP extension have this file in assembler (simd/dsp/ec_wide.h). */
#ifndef EC_WIDE_H
#define EC_WIDE_H

#include "ec.h"

/* Two neighbouring elements. */
typedef struct {
    int32_t low, high;
} ec_wide2_t;

EC_KERNEL ec_wide2_t ec_wide_both(const int16_t *at)
{
    const ec_wide2_t v = {at[0], at[1]};
    return v;
}

EC_KERNEL ec_wide2_t ec_wide_both8(const int8_t *at)
{
    const ec_wide2_t v = {at[0], at[1]};
    return v;
}

EC_KERNEL void ec_wide_copy(int16_t *to, const int16_t *from)
{
    to[0] = from[0];
    to[1] = from[1];
}

/* acc and the product of the first of two, and of the second. */
EC_KERNEL int32_t ec_wide_low(int32_t acc, ec_wide2_t x, ec_wide2_t w)
{
    return acc + x.low * w.low;
}

EC_KERNEL int32_t ec_wide_high(int32_t acc, ec_wide2_t x, ec_wide2_t w)
{
    return acc + x.high * w.high;
}

/* The weight of channel c and tap k of a pair. */
EC_KERNEL int32_t ec_wide_weight8(const int8_t *w, int32_t c, int32_t k)
{
    return w[c / 2 * 4 + 2 * k + c % 2];
}

/* 16 times the weight. */
EC_KERNEL int32_t ec_wide_weight4(const int8_t *w, int32_t c, int32_t k)
{
    const int32_t byte = w[2 * k + c / 2];
    return c % 2 == 0 ? byte & ~15 : (int32_t)((uint32_t)byte << 28) >> 24;
}

/* The sum of two products: channel c of a pair of taps. */
EC_KERNEL int32_t ec_wide_dot(const int16_t *x, const int8_t *w, int32_t c, int32_t bits)
{
    return bits == 8 ? x[0] * ec_wide_weight8(w, c, 0) + x[1] * ec_wide_weight8(w, c, 1)
                     : x[0] * ec_wide_weight4(w, c, 0) + x[1] * ec_wide_weight4(w, c, 1);
}

/* x: the taps of one pixel in pairs `step` elements apart; sum: of four channels, added to. */
EC_KERNEL void ec_wide_pixel(const int16_t *x, const int8_t *w, int32_t pairs, int32_t *sum, int32_t bits, int32_t step)
{
    int32_t a0 = sum[0], a1 = sum[1], a2 = sum[2], a3 = sum[3];
    EC_UNROLL2
    for (int32_t k = 0; k < pairs; k++, x += step, w += bits) {
        a0 += ec_wide_dot(x, w, 0, bits);
        a1 += ec_wide_dot(x, w, 1, bits);
        a2 += ec_wide_dot(x, w, 2, bits);
        a3 += ec_wide_dot(x, w, 3, bits);
    }
    sum[0] = a0;
    sum[1] = a1;
    sum[2] = a2;
    sum[3] = a3;
}

/* x: for every pair of taps the two of the first and the two of the second pixel; sum: four of each pixel, added to. */
EC_KERNEL void ec_wide_two(const int16_t *x, const int8_t *w, int32_t pairs, int32_t *sum, int32_t bits)
{
    ec_wide_pixel(x, w, pairs, sum, bits, 4);
    ec_wide_pixel(x + 2, w, pairs, sum + 4, bits, 4);
}

/* x: the taps of one pixel in order. */
EC_KERNEL void ec_wide_one(const int16_t *x, const int8_t *w, int32_t pairs, int32_t *sum, int32_t bits)
{
    ec_wide_pixel(x, w, pairs, sum, bits, 2);
}

/* One pixel in 64 bits, weights of 8. step: elements from pair to pair, 2 or 4. */
EC_KERNEL void ec_wide_long(const int16_t *x, const int8_t *w, int32_t pairs, int64_t *sum, int32_t step)
{
    for (int32_t k = 0; k < pairs; k++, x += step, w += 8) {
        for (int32_t c = 0; c < 4; c++) {
            sum[c] += x[0] * ec_wide_weight8(w, c, 0) + x[1] * ec_wide_weight8(w, c, 1);
        }
    }
}

#endif
