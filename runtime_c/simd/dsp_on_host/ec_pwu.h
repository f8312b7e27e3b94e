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
