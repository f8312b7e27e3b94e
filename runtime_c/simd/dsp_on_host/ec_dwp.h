/* ec_dwp.h (dsp_on_host): simd/dsp/ec_dwp.h in plain C, from the same stream and the same torn lines. */
#ifndef EC_DWP_H
#define EC_DWP_H

#include "ec_simd.h"

static inline void ec_dwp_tear(int8_t *to, const int8_t *from, int32_t step, int32_t pairs, int32_t edges,
                               int32_t plane, uint32_t pad, int32_t lines, int32_t gap, int32_t skip)
{
    const int32_t left = edges & 1, inside = left + 2 * pairs + (edges >> 1), words = left + pairs + (edges >> 1);
    const int32_t fill = ec_byte(pad, 0u);
    for (int32_t line = 0; line < lines; line++) {
        const int8_t *x = from + line * (inside * step + gap);
        for (int32_t i = 0; i < 4 * words; i++) {
            const int32_t ch = i % 4, a = i / 4 * 2 - left, b = a + 1;
            ec_st4(to + line * (4 * words + skip) + ch * plane + i / 4 * 4,
                   ec_lanes(a < 0 ? fill : x[a * step + ch], b < inside ? x[b * step + ch] : fill));
        }
    }
}

static inline void ec_dwp(const int8_t *x, const uint32_t *w, int8_t *out, int32_t step, int32_t gap, int32_t c,
                          int32_t lines, int32_t n, int32_t pitch)
{
    for (int32_t line = 0; line < lines; line++, x += pitch, out += gap) {
        for (int32_t i = 0; i < n; i++, out += step) {
            int32_t acc = (int32_t)w[6];
            for (int32_t k = 0; k < 3; k++) {
                const uint32_t a = ec_ld4(x + k * pitch + i / 2 * 4), b = ec_ld4(x + k * pitch + i / 2 * 4 + 4);
                if (i % 2 == 0) {
                    acc = ec_smlabb(b, w[2 * k + 1] >> 16, ec_smlad(a, w[2 * k], acc));
                } else {
                    acc = ec_smlad(b, w[2 * k + 1], ec_smlabb(a >> 16, w[2 * k], acc));
                }
            }
            *out = (int8_t)ec_ssat8(ec_smmla(acc, (int32_t)w[7], c) >> 8);
        }
    }
}

#define EC_DWP_ARGS                                                                                                    \
    const int8_t *x, const uint32_t *w, int8_t *out, int32_t step, int32_t gap, int32_t c, int32_t lines, int32_t blocks
#define EC_DWP(pitch, rest)                                                                                    \
    static inline void ec_dwp_##pitch##_##rest(EC_DWP_ARGS)                                                 \
    {                                                                                                                  \
        ec_dwp(x, w, out, step, gap, c, lines, 8 * blocks + rest, pitch);                                      \
    }
#define EC_DWP_FEW(pitch, n)                                                                                   \
    static inline void ec_dwp_##pitch##_few_##n(EC_DWP_ARGS)                                                \
    {                                                                                                                  \
        ec_dwp(x, w, out, step, gap, c, lines, n + 0 * blocks, pitch);                                         \
    }
#define EC_DWP_RESTS(make, pitch)                                                                              \
    make(pitch, 0) make(pitch, 1) make(pitch, 2) make(pitch, 3)                        \
    make(pitch, 4) make(pitch, 5) make(pitch, 6) make(pitch, 7)
/* Every instance: make(pitch, rest), few(pitch, n). */
#define EC_DWP_ALL(make, few)                                                                                          \
    EC_DWP_RESTS(make, 32) EC_DWP_RESTS(make, 64) EC_DWP_RESTS(make, 128) EC_DWP_RESTS(make, 256)                      \
    few(16, 1) few(16, 2) few(16, 3) few(16, 4) few(16, 5) few(16, 6) few(32, 7)
EC_DWP_ALL(EC_DWP, EC_DWP_FEW)

#endif
