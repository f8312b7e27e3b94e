/* ec_pwu.h (dsp_on_host): simd/dsp/ec_pwu.h by way of ec_widen and ec_mm2. */
#ifndef EC_PWU_H
#define EC_PWU_H

#include "ec_mmu.h"

#define EC_PWU_ARGS                                                                                                    \
    const int8_t *x, const uint32_t *w, int8_t *out, int32_t count, int32_t out_c, int32_t c, int8_t *wide
static inline void ec_pwu_run(EC_PWU_ARGS, int32_t pairs, int32_t f)
{
    for (int32_t i = 0; i < count; i++, x += 4 * pairs, out += 2 * out_c) {
        ec_widen_run(wide, x, 2 * pairs);
        ec_widen_run(wide + 4, x + 2 * pairs, 2 * pairs);
        ec_mm2((const uint32_t *)(const void *)wide, w, out, out_c, out + out_c, pairs, c, f, 1, 0, 0);
    }
}

static inline void ec_pw8_run(const int8_t *x, const uint32_t *w, int8_t *out, int32_t count, int32_t c, int32_t n,
                              int32_t f)
{
    for (int32_t i = 0; i < 2 * count; i++, x += 8, out += n) {
        const uint32_t a = ec_ld4(x), b = ec_ld4(x + 4);
        for (int32_t j = 0; j < n; j++) {
            const uint32_t *v = w + 6 * j;
            int32_t acc = ec_smlad(v[1], ec_sxtb16(a), (int32_t)v[0]);
            acc = ec_smlad(v[2], ec_sxtb16_ror8(a), acc);
            acc = ec_smlad(v[3], ec_sxtb16(b), acc);
            acc = ec_smlad(v[4], ec_sxtb16_ror8(b), acc);
            out[j] = ec_sat8(ec_requant(acc, (int32_t)v[5], c, f), -128, 127);
        }
    }
}

#define EC_PW8(f, n)                                                                                                   \
    static inline void ec_pw8_##f##_##n(const int8_t *x, const uint32_t *w, int8_t *out, int32_t count, int32_t c)     \
    {                                                                                                                  \
        ec_pw8_run(x, w, out, count, c, n, f);                                                                         \
    }
#define EC_PW8_WIDTHS(make, f)                                                                                         \
    make(f, 4) make(f, 8) make(f, 12) make(f, 16) make(f, 20) make(f, 24) make(f, 28) make(f, 32)
EC_PW8_WIDTHS(EC_PW8, 1)
EC_PW8_WIDTHS(EC_PW8, 8)
EC_PW8_WIDTHS(EC_PW8, 15)

#define EC_PWU_ONE(f, n, even, odd)                                                                                    \
    static inline void ec_pwu_##f##_##n(EC_PWU_ARGS)                                                                   \
    {                                                                                                                  \
        ec_pwu_run(x, w, out, count, out_c, c, wide, n, f);                                                            \
    }
#define EC_PWU_MANY(f, n, even, odd)                                                                                   \
    static inline void ec_pwus_##f##_##n(EC_PWU_ARGS, int32_t chunks)                                                  \
    {                                                                                                                  \
        ec_pwu_run(x, w, out, count, out_c, c, wide, n *chunks, f);                                                    \
    }
#define EC_PWU_MAKE(n) EC_MMU_SHIFTS(EC_PWU_ONE, n)
#define EC_PWU_MAKES(n) EC_MMU_SHIFTS(EC_PWU_MANY, n)
EC_MMU_ALL(EC_PWU_MAKE)
EC_MMU_LARGE(EC_PWU_MAKES)
EC_PWU_MAKE(32)
EC_PWU_MAKE(64)
EC_PWU_MAKES(32)

#endif
