/* ec_pair.h (thumb_on_host): sums of products of int8 vectors, two output channels to a multiplication. */
#ifndef EC_PAIR_H
#define EC_PAIR_H

#include "ec.h"

/* The stream of weights, made by edgec/kernels/pair.py, in blocks of four output channels: the number of words of its
 * taps; four biases; the taps; four multipliers. The taps come in groups of `pairs` times two, a pair as five words: where
 * the two inputs lie in x (low and high half), then w0 + 65536 * w1 and w2 + 65536 * w3 of either tap (w3 + ... of the
 * block's channels 2 and 3), the offsets first in the first pair of a group and third of all others. A block has at least
 * one group. The compiler proves that the sums of every group fit 16 bits, so that two of them share a word. */

/* One tap: t0 and t1 get the products of x with the channels 0, 1 and 2, 3. */
EC_KERNEL void ec_pair_tap(int32_t x, uint32_t w0, uint32_t w1, uint32_t *t0, uint32_t *t1)
{
    *t0 += (uint32_t)x * w0;
    *t1 += (uint32_t)x * w1;
}

/* Adds the halves of t. */
EC_KERNEL void ec_pair_split(uint32_t t, int32_t *low, int32_t *high)
{
    const int32_t s = (int16_t)(t & 0xffffu);
    *low += s;
    *high += (int32_t)(t - (uint32_t)s) >> 16;
}

/* The sums of a block, s at its number of words; returns its multipliers. x: the inputs. pairs: 1 to 4. */
EC_KERNEL const uint32_t *ec_pair_sums(const uint32_t *s, const int8_t *x, int32_t pairs, int32_t *acc)
{
    const int32_t groups = (int32_t)s[0] / (5 * pairs);
    int32_t a0 = (int32_t)s[1], a1 = (int32_t)s[2], a2 = (int32_t)s[3], a3 = (int32_t)s[4];
    s += 5;
    for (int32_t g = 0; g < groups; g++, s += 5 * pairs) {
        uint32_t t0 = 0, t1 = 0;
        for (int32_t k = 0; k < pairs; k++) {
            const uint32_t *const v = s + 5 * k;
            const uint32_t places = k == 0 ? v[0] : v[2];
            ec_pair_tap(x[places & 0xffffu], k == 0 ? v[1] : v[0], k == 0 ? v[2] : v[1], &t0, &t1);
            ec_pair_tap(x[places >> 16], v[3], v[4], &t0, &t1);
        }
        ec_pair_split(t0, &a0, &a1);
        ec_pair_split(t1, &a2, &a3);
    }
    acc[0] = a0;
    acc[1] = a1;
    acc[2] = a2;
    acc[3] = a3;
    return s;
}

#endif
