/* add_s8 (dsp): the sum of two int8 tensors of different scales, a word at a time. */
#ifndef EC_ADD_S8_H
#define EC_ADD_S8_H

#include "rows_s8.h"

/* n: elements. ma, mb: the operands' factors; c: the offset, zero points and rounding included. The compiler chose
 * them so that no sum leaves int32. */
typedef struct {
    int32_t n, ma, mb, c, f, lo, hi;
} ec_add_s8_t;

/* Do both factors fit an int16, so that one SMLAD computes a * ma + b * mb + c? */
EC_KERNEL bool ec_add_s8_is_narrow(const ec_add_s8_t *p)
{
    return p->ma >= -32768 && p->ma <= 32767 && p->mb >= -32768 && p->mb <= 32767;
}

/* x: the pair (a, b) of int16. */
EC_KERNEL int8_t ec_add_s8_pair(const ec_add_s8_t *p, uint32_t x)
{
    const uint32_t factors = ((uint32_t)p->ma & 0xFFFFu) | (uint32_t)p->mb << 16;
    return (int8_t)ec_ssat8(ec_smlad(x, factors, p->c) >> p->f);
}

EC_KERNEL int8_t ec_add_s8_one(const ec_add_s8_t *p, int32_t a, int32_t b)
{
    return (int8_t)ec_ssat8((a * p->ma + p->c + b * p->mb) >> p->f);
}

/* Byte i of a and b. */
EC_KERNEL int8_t ec_add_s8_byte(const ec_add_s8_t *p, uint32_t a, uint32_t b, uint32_t i)
{
    return ec_add_s8_one(p, (int8_t)(a >> (8u * i)), (int8_t)(b >> (8u * i)));
}

/* Four elements from the words a and b. */
EC_KERNEL void ec_add_s8_four(const ec_add_s8_t *p, uint32_t a, uint32_t b, int8_t *out)
{
    if (ec_add_s8_is_narrow(p)) {
        const uint32_t low = ec_pkhbt(a, b), high = ec_pkhtb(a, b);
        out[0] = ec_add_s8_pair(p, ec_sxtb16(low));
        out[1] = ec_add_s8_pair(p, ec_sxtb16_ror8(low));
        out[2] = ec_add_s8_pair(p, ec_sxtb16(high));
        out[3] = ec_add_s8_pair(p, ec_sxtb16_ror8(high));
    } else {
        out[0] = ec_add_s8_byte(p, a, b, 0u);
        out[1] = ec_add_s8_byte(p, a, b, 1u);
        out[2] = ec_add_s8_byte(p, a, b, 2u);
        out[3] = ec_add_s8_byte(p, a, b, 3u);
    }
}

/* a, b: [n]; out: [n], may be a or b. out = clamp((a * ma + b * mb + c) >> f). */
EC_KERNEL void ec_add_s8(const ec_add_s8_t *p, const int8_t *a, const int8_t *b, int8_t *out)
{
    int32_t i = 0;
    for (; i + 4 <= p->n; i += 4) {
        ec_add_s8_four(p, ec_ld4(a + i), ec_ld4(b + i), out + i);
    }
    for (; i < p->n; i++) {
        out[i] = ec_add_s8_one(p, a[i], b[i]);
    }
    ec_clamp_s8(out, p->n, p->lo, p->hi);
}

#endif
