/* ec_nib.h (dsp_on_host): simd/dsp/ec_nib.h in plain C, from the same stream, bit for bit. */
#ifndef EC_NIB_H
#define EC_NIB_H

#include "ec_simd.h"

/* The products of a word of nibbles with a pair of activations. */
static inline void ec_nib_mac(int32_t *sum, uint32_t w, uint32_t x)
{
    sum[0] = ec_smlad(w, x, sum[0]);
    sum[1] = ec_smlad(w & 0x0F0F0F0Fu, x, sum[1]);
    sum[2] = ec_smlad(w & 0x000F000Fu, x, sum[2]);
    sum[3] = ec_smlad(w & 0x00FF00FFu, x, sum[3]);
}

/* Two tap pairs and their weights; the stream behind those. */
static inline const uint32_t *ec_nib_step(int32_t *sum, const uint32_t *w, uint32_t x, uint32_t y, int32_t bits)
{
    ec_nib_mac(sum, bits == 4 ? w[0] : w[0] & 0x33333333u, x);
    ec_nib_mac(sum, bits == 4 ? w[1] : (w[0] >> 2) & 0x33333333u, y);
    return w + bits / 2;
}

static inline int32_t ec_nib_less(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a - (uint32_t)b);
}

static inline void ec_nib_out(int8_t *out, const int32_t *sum, const uint32_t *mult, int32_t c, int32_t f,
                              int32_t offset, int32_t bits)
{
    const int32_t s1 = ec_nib_less(sum[3], sum[2]), s2 = ec_nib_less(sum[1], sum[2]);
    const int32_t s3 = ec_nib_less(ec_nib_less(sum[0], sum[1]), s1);
    const int32_t acc[4] = {ec_nib_less(sum[2], offset), ec_nib_less(s1 >> 4, offset), ec_nib_less(s2 >> 8, offset),
                            ec_nib_less(s3 >> 12, bits == 4 ? 0 : offset)};
    for (int32_t j = 0; j < 4; j++) {
        out[j] = ec_sat8(ec_requant(acc[j], (int32_t)mult[j], c, f), -128, 127);
    }
}

static inline void ec_nib2(const uint32_t *x, const uint32_t *w, int8_t *out, int32_t next, const int8_t *out_end,
                           int32_t quads, int32_t c, int32_t f, const int32_t *offset, int32_t bits)
{
    for (; out != out_end; out += 4, w += 4) {
        int32_t a[4], b[4];
        for (int32_t j = 0; j < 4; j++) {
            a[j] = b[j] = (int32_t)w[j];
        }
        w += 4;
        for (int32_t k = 0; k < quads; k++) {
            (void)ec_nib_step(a, w, x[4 * k], x[4 * k + 2], bits);
            w = ec_nib_step(b, w, x[4 * k + 1], x[4 * k + 3], bits);
        }
        ec_nib_out(out, a, w, c, f, offset[0], bits);
        ec_nib_out(out + next, b, w, c, f, offset[1], bits);
    }
}

static inline void ec_nib1(const int8_t *x, const uint32_t *w, int8_t *out, const int8_t *out_end, int32_t quads,
                           int32_t c, int32_t f, int32_t offset, int32_t bits)
{
    for (; out != out_end; out += 4, w += 4) {
        int32_t a[4];
        for (int32_t j = 0; j < 4; j++) {
            a[j] = (int32_t)w[j];
        }
        w += 4;
        for (int32_t k = 0; k < quads; k++) {
            const uint32_t taps = ec_ld4(x + 4 * k);
            w = ec_nib_step(a, w, ec_sxtb16(taps), ec_sxtb16_ror8(taps), bits);
        }
        ec_nib_out(out, a, w, c, f, offset, bits);
    }
}

#define EC_NIB(bits, f)                                                                                                \
    static inline void ec_nib2_##bits##_##f(const uint32_t *x, const uint32_t *w, int8_t *out, int32_t next,           \
                                            const int8_t *out_end, int32_t quads, int32_t c, const int32_t *offset)    \
    {                                                                                                                  \
        ec_nib2(x, w, out, next, out_end, quads, c, f, offset, bits);                                                  \
    }                                                                                                                  \
    static inline void ec_nib1_##bits##_##f(const int8_t *x, const uint32_t *w, int8_t *out, const int8_t *out_end,    \
                                            int32_t quads, int32_t c, int32_t offset)                                  \
    {                                                                                                                  \
        ec_nib1(x, w, out, out_end, quads, c, f, offset, bits);                                                        \
    }
EC_NIB(4, 1)
EC_NIB(4, 8)
EC_NIB(4, 15)
EC_NIB(2, 1)
EC_NIB(2, 8)
EC_NIB(2, 15)

#endif
