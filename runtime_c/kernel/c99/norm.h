/* norm.h: layer and RMS normalisation of n elements, integers only; input and output are int8 or int16 (x16, y16). Of x8
 * and x16, out8 and out16 one each is NULL: the parameters say which. */
#ifndef EC_NORM_H
#define EC_NORM_H

#include "ec.h"

/* zx: the input's zero point. rms: no mean is taken off. half: v has 2 * half bits behind the point. eps_high, eps_low:
 * epsilon * n^2 / input scale^2, so, in two words. fraction: bits of a normalised element behind the point. f, lo, hi:
 * see ec_requant. */
typedef struct {
    int32_t n, zx, rms, half, eps_high, eps_low, fraction, f, lo, hi, x16, y16;
} ec_norm_t;

/* floor(sqrt(v)) */
EC_KERNEL uint32_t ec_norm_root(uint64_t v)
{
    uint64_t root = 0u;
    for (uint64_t bit = (uint64_t)1u << 62; bit != 0u; bit >>= 2) {
        if (v >= root + bit) {
            v -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    return (uint32_t)root;
}

/* floor(2^62 / d) for d in [2^31, 2^32) */
EC_KERNEL uint32_t ec_norm_inverse(uint32_t d)
{
    uint64_t rest = (uint64_t)1u << 30;
    uint32_t quotient = 0u;
    for (int32_t i = 0; i < 32; i++) {
        rest <<= 1;
        quotient <<= 1;
        if (rest >= d) {
            rest -= d;
            quotient |= 1u;
        }
    }
    return quotient;
}

EC_KERNEL int32_t ec_norm_load(const ec_norm_t *p, const int8_t *x8, const int16_t *x16, int32_t i)
{
    return (p->x16 != 0 ? x16[i] : x8[i]) - p->zx;
}

/* x: [n]; gain, offset: [n], of an output step and its rounding: ec_requant's m, with a sign, and c; out: [n], may be x.
 *
 * With d = x - zx, s = sum d (0 for rms), v = n * sum d^2 - s^2 + epsilon, an element is (n * d - s) / sqrt(v). v is
 * shifted up to 64 bits, by an even number; r = 2^62 / sqrt(that) has 31 bits. */
EC_KERNEL void ec_norm(const ec_norm_t *p, const int8_t *x8, const int16_t *x16, const int32_t *gain,
                       const int32_t *offset, int8_t *out8, int16_t *out16)
{
    int32_t sum = 0, up = 0;
    int64_t squares = 0;
    for (int32_t i = 0; i < p->n; i++) {
        const int32_t d = ec_norm_load(p, x8, x16, i);
        sum += d;
        squares += (int64_t)d * d;
    }
    sum = p->rms != 0 ? 0 : sum;
    const uint64_t epsilon = (uint64_t)(uint32_t)p->eps_high << 32 | (uint64_t)(uint32_t)p->eps_low;
    uint64_t v = ((uint64_t)(p->n * squares - (int64_t)sum * sum) << (2 * p->half)) + epsilon;
    v = v == 0u ? 1u : v; /* all elements are equal: n * d - s is 0 */
    for (int32_t i = 0; i < 31 && v >> 62 == 0u; i++) {
        v <<= 2;
        up++;
    }
    const int64_t inverse = (int64_t)ec_norm_inverse(ec_norm_root(v));
    const int32_t shift = 62 - up - p->fraction - p->half;
    const int32_t down = shift < 1 ? 1 : shift; /* less only where all elements are equal */
    for (int32_t i = 0; i < p->n; i++) {
        const int32_t t = p->n * ec_norm_load(p, x8, x16, i) - sum;
        const int32_t z = (int32_t)((t * inverse) >> down);
        const int32_t y = ec_clamp(ec_requant(z, gain[i], offset[i], p->f), p->lo, p->hi);
        if (p->y16 != 0) {
            out16[i] = (int16_t)y;
        } else {
            out8[i] = (int8_t)y;
        }
    }
}

#endif
