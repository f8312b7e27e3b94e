/* nib_s8.h (dsp): which function of ec_nib.h a layer takes, and what they need of the activations. */
#ifndef EC_NIB_S8_H
#define EC_NIB_S8_H

#include "ec_nib.h"

/* 1 in both halves: SMLAD with it adds them. */
#define EC_NIB_ONES 0x00010001u

/* What is added to a weight so that it is not negative. */
EC_KERNEL int32_t ec_nib_offset(int32_t bits)
{
    return bits == 4 ? 8 : 2;
}

#define EC_NIB_CASE(b, s, call)                                                                                        \
    if (bits == b && f == s) {                                                                                         \
        call;                                                                                                          \
    }
#define EC_NIB_ALL(n, arguments)                                                                                       \
    EC_NIB_CASE(4, 1, ec_nib##n##_4_1 arguments)                                                                       \
    EC_NIB_CASE(4, 8, ec_nib##n##_4_8 arguments)                                                                       \
    EC_NIB_CASE(4, 15, ec_nib##n##_4_15 arguments)                                                                     \
    EC_NIB_CASE(2, 1, ec_nib##n##_2_1 arguments)                                                                       \
    EC_NIB_CASE(2, 8, ec_nib##n##_2_8 arguments)                                                                       \
    EC_NIB_CASE(2, 15, ec_nib##n##_2_15 arguments)

/* All outputs of two pixels whose taps, widened, are at x: quads times 4 words. width: outputs of a pixel, a multiple
 * of four. */
EC_KERNEL void ec_nib_two(const uint32_t *x, const uint32_t *w, int8_t *out, int32_t next, int32_t width, int32_t quads,
                          int32_t c, int32_t f, const int32_t *offset, int32_t bits)
{
    const int8_t *out_end = out + width;
    EC_NIB_ALL(2, (x, w, out, next, out_end, quads, c, offset))
}

/* All outputs of one pixel whose int8 taps are at x. */
EC_KERNEL void ec_nib_one(const int8_t *x, const uint32_t *w, int8_t *out, int32_t width, int32_t quads, int32_t c,
                          int32_t f, int32_t offset, int32_t bits)
{
    const int8_t *out_end = out + width;
    EC_NIB_ALL(1, (x, w, out, out_end, quads, c, offset))
}

/* The sum of 4 * quads int8 at x. */
EC_KERNEL int32_t ec_nib_sum(const int8_t *x, int32_t quads)
{
    int32_t sum = 0;
    EC_UNROLL4
    for (int32_t k = 0; k < quads; k++) {
        const uint32_t four = ec_ld4(x + 4 * k);
        sum = ec_smlad(ec_sxtb16(four), EC_NIB_ONES, sum);
        sum = ec_smlad(ec_sxtb16_ror8(four), EC_NIB_ONES, sum);
    }
    return sum;
}

/* Words of a block of four channels in the stream. */
EC_KERNEL int32_t ec_nib_block(int32_t quads, int32_t bits)
{
    return 8 + quads * (bits / 2);
}

#endif
