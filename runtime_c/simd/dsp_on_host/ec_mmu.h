/* ec_mmu.h (dsp_on_host): simd/dsp/ec_mmu.h by way of ec_mm2. */
#ifndef EC_MMU_H
#define EC_MMU_H

#include "ec_mm.h"

#define EC_MMU_ARGS                                                                                                    \
    const uint32_t *x, const uint32_t *w, int8_t *out, int32_t next, const int8_t *out_end, int32_t c, int32_t count,  \
        int32_t out_step, int32_t x_step
#define EC_MMU_ONE(f, n, even, odd)                                                                                    \
    static inline void ec_mmu_##f##_##n(EC_MMU_ARGS)                                                                   \
    {                                                                                                                  \
        ec_mm2(x, w, out, next, out_end, n, c, f, count, out_step, x_step);                                            \
    }
#define EC_MMU_MANY(f, n, even, odd)                                                                                   \
    static inline void ec_mmus_##f##_##n(EC_MMU_ARGS, int32_t chunks)                                                  \
    {                                                                                                                  \
        ec_mm2(x, w, out, next, out_end, n *chunks, c, f, count, out_step, x_step);                                    \
    }
static inline void ec_mm1_widened(const uint32_t *x, const uint32_t *w, int8_t *out, const int8_t *out_end,
                                  int32_t quads, int32_t c, int32_t f)
{
    for (; out != out_end; out += 4, w += 4) {
        int32_t a[4];
        ec_mm_bias(a, w);
        w += 4;
        for (int32_t k = 0; k < 2 * quads; k++, w += 2) {
            ec_mm_step(a, w, x[k]);
        }
        ec_mm_out(out, a, w, c, f);
    }
}

#define EC_MM1W(f, even, odd)                                                                                          \
    static inline void ec_mm1w_##f(const uint32_t *x, const uint32_t *w, int8_t *out, const int8_t *out_end,           \
                                   int32_t c, int32_t chunks)                                                          \
    {                                                                                                                  \
        ec_mm1_widened(x, w, out, out_end, 16 * chunks, c, f);                                                         \
    }
EC_MM1W(1, 1, 9)
EC_MM1W(8, 8, 16)
EC_MM1W(15, 15, 23)

#define EC_MM1B(f, even, odd)                                                                                          \
    static inline void ec_mm1b_##f(const int8_t *x, const uint32_t *w, int8_t *out, const int8_t *out_end, int32_t c,  \
                                   int32_t chunks)                                                                     \
    {                                                                                                                  \
        ec_mm1(x, w, out, out_end, 16 * chunks, c, f);                                                                 \
    }
EC_MM1B(1, 1, 9)
EC_MM1B(8, 8, 16)
EC_MM1B(15, 15, 23)

#define EC_MMU_SHIFTS(make, n) make(1, n, 1, 9) make(8, n, 8, 16) make(15, n, 15, 23)
#define EC_MMU_LARGE(make)                                                                                             \
    make(16) make(17) make(18) make(19) make(20) make(21) make(22) make(23) make(24) make(25) make(26) make(27)        \
    make(28) make(29) make(30) make(31)
#define EC_MMU_ALL(make)                                                                                               \
    make(2) make(3) make(4) make(5) make(6) make(7) make(8) make(9) make(10) make(11) make(12) make(13) make(14)       \
    make(15) EC_MMU_LARGE(make)
#define EC_MMU_MAKE(n) EC_MMU_SHIFTS(EC_MMU_ONE, n)
#define EC_MMU_MAKES(n) EC_MMU_SHIFTS(EC_MMU_MANY, n)
EC_MMU_ALL(EC_MMU_MAKE)
EC_MMU_LARGE(EC_MMU_MAKES)
EC_MMU_MAKE(32)
EC_MMU_MAKE(64)
EC_MMU_MAKES(32)

#endif
