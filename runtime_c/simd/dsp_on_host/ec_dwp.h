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

#define EC_DWP_LINE(s, n) ((s) == 1 ? ((n) + 3) / 2 * 4 : ((n) + 1) * 4)

#define EC_DWP_WIDEST 48

static inline void ec_dwp(int32_t s, int32_t n, const int8_t *x, const uint32_t *w, int8_t *out, int32_t step,
                          int32_t line, int32_t c, int32_t lines, int32_t plane)
{
    const int32_t pitch = EC_DWP_LINE(s, n);
    for (int32_t i = 0; i < 4 * lines * n; i++) {
        const int32_t ch = i / (lines * n), l = i / n % lines, at = i % n * s;
        const uint32_t *v = w + 8 * ch;
        int32_t acc = (int32_t)v[6];
        for (int32_t k = 0; k < 3; k++) {
            const int8_t *pair = x + ch * plane + (l * s + k) * pitch + at / 2 * 4;
            const uint32_t xa = ec_ld4(pair), xb = ec_ld4(pair + 4);
            if (at % 2 == 0) {
                acc = ec_smlabb(xb, v[2 * k + 1] >> 16, ec_smlad(xa, v[2 * k], acc));
            } else {
                acc = ec_smlad(xb, v[2 * k + 1], ec_smlabb(xa >> 16, v[2 * k], acc));
            }
        }
        out[ch + l * line + i % n * step] = (int8_t)ec_ssat8(ec_smmla(acc, (int32_t)v[7], c) >> 8);
    }
}

#endif
