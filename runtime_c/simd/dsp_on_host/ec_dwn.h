/* ec_dwn.h (dsp_on_host): simd/dsp/ec_dwn.h in plain C, from the same stream and the same torn rows. */
#ifndef EC_DWN_H
#define EC_DWN_H

#include "ec_simd.h"

static inline void ec_dwn_tear(int8_t *to, const int8_t *a, const int8_t *b, int32_t step, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        for (int32_t ch = 0; ch < 4; ch++) {
            ec_st4(to + 16 * i + 4 * ch, ec_lanes(a[i * step + ch], b[i * step + ch]));
        }
    }
}

static inline int8_t ec_dwn_out(int32_t acc, uint32_t m, int32_t c)
{
    return (int8_t)ec_ssat8(ec_smmla(acc, (int32_t)m, c) >> 8);
}

static inline void ec_dwn_hop(const int8_t *x, const uint32_t *w, int8_t *out, int32_t step, int32_t pitch, int32_t kh,
                              int32_t kw, int32_t c, int32_t blocks, int32_t next, int32_t apart)
{
    for (int32_t o = 0; o < 4 * blocks; o++) {
        const uint32_t *v = w + 8;
        int32_t acc = (int32_t)w[0];
        for (int32_t r = 0; 2 * r < kh; r++) {
            for (int32_t kx = 0; kx < kw; kx += 2 * r + 1 < kh ? 1 : 2, v += 4) {
                acc = ec_smlad(ec_ld4(x + o * next + r * pitch + kx * apart), *v, acc);
            }
        }
        out[o * step] = ec_dwn_out(acc, w[4], c);
    }
}

static inline void ec_dwn_slide(const int8_t *x, const uint32_t *w, int8_t *out, int32_t step, int32_t pitch,
                                int32_t kh, int32_t kw, int32_t c, int32_t blocks)
{
    ec_dwn_hop(x, w, out, step, pitch, kh, kw, c, blocks, 16, 16);
}

static inline void ec_dwn_line(const int8_t *x, const uint32_t *w, int8_t *out, int32_t step, int32_t kw, int32_t c,
                               int32_t blocks)
{
    for (int32_t ch = 0; ch < 4; ch++) {
        ec_dwn_slide(x + 4 * ch, w + ch, out + ch, step, 0, 1, kw, c, blocks);
    }
}

static inline void ec_dwn_pixel(const int8_t *const *taps, const uint32_t *w, int8_t *out, int32_t c,
                                int32_t pairs, int32_t at, int32_t groups)
{
    for (int32_t ch = 0; ch < 4 * groups; ch++) {
        const uint32_t *v = w + ch / 4 * (4 * pairs + 8) + ch % 4;
        int32_t acc = (int32_t)v[0];
        for (int32_t i = 0; i < pairs; i++) {
            acc = ec_smlad(ec_lanes(taps[2 * i][at + ch], taps[2 * i + 1][at + ch]), v[8 + 4 * i], acc);
        }
        out[ch] = ec_dwn_out(acc, v[4], c);
    }
}

#endif
