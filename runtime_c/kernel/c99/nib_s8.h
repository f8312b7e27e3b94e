/* nib_s8.h (c99): four output channels of weights of 4 or 2 bits. */
#ifndef EC_NIB_S8_H
#define EC_NIB_S8_H

#include "ec.h"

/* The weight of channel i of four, from the word of a tap: the first channel in the low bits. */
EC_KERNEL int32_t ec_nib_weight(uint32_t word, uint32_t i, uint32_t bits)
{
    return (int32_t)(word << (32u - bits * (i + 1u))) >> (32u - bits);
}

/* The word of the tap at w. */
EC_KERNEL uint32_t ec_nib_word(const uint8_t *w, int32_t bits)
{
    return bits == 4 ? (uint32_t)w[0] | (uint32_t)w[1] << 8 : (uint32_t)w[0];
}

/* Adds the products of one input with the four weights at w. */
EC_KERNEL void ec_nib_mac(int32_t *sum, int32_t x, const uint8_t *w, int32_t bits)
{
    const uint32_t word = ec_nib_word(w, bits);
    sum[0] += x * ec_nib_weight(word, 0u, (uint32_t)bits);
    sum[1] += x * ec_nib_weight(word, 1u, (uint32_t)bits);
    sum[2] += x * ec_nib_weight(word, 2u, (uint32_t)bits);
    sum[3] += x * ec_nib_weight(word, 3u, (uint32_t)bits);
}

/* The same for two inputs: weights are unpacked once. */
EC_KERNEL void ec_nib_mac2(int32_t *a, int32_t *b, int32_t x, int32_t y, const uint8_t *w, int32_t bits)
{
    const uint32_t word = ec_nib_word(w, bits);
    const int32_t w0 = ec_nib_weight(word, 0u, (uint32_t)bits), w1 = ec_nib_weight(word, 1u, (uint32_t)bits);
    a[0] += x * w0;
    b[0] += y * w0;
    a[1] += x * w1;
    b[1] += y * w1;
    const int32_t w2 = ec_nib_weight(word, 2u, (uint32_t)bits), w3 = ec_nib_weight(word, 3u, (uint32_t)bits);
    a[2] += x * w2;
    b[2] += y * w2;
    a[3] += x * w3;
    b[3] += y * w3;
}

/* Requantises four sums. c, f: see ec_requant; lo, hi: clamp. */
EC_KERNEL void ec_nib_out(int8_t *out, const int32_t *sum, const int32_t *mult, int32_t c, int32_t f, int32_t lo,
                          int32_t hi)
{
    for (int32_t j = 0; j < 4; j++) {
        out[j] = ec_sat8(ec_requant(sum[j], mult[j], c, f), lo, hi);
    }
}

#endif
