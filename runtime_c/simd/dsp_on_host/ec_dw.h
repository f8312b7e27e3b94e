/* ec_dw.h (dsp_on_host): simd/dsp/ec_dw.h in plain C, from the same stream and by way of the same scratch. */
#ifndef EC_DW_H
#define EC_DW_H

#include "ec_simd.h"

/* One word per channel of pairs (a, b). to: of channel 0, those of the others 12 bytes apart. */
static inline void ec_dw_pair(int8_t *to, uint32_t a, uint32_t b)
{
    for (uint32_t ch = 0u; ch < 4u; ch++) {
        ec_st4(to + 12u * ch, ec_lanes(ec_byte(a, ch), ec_byte(b, ch)));
    }
}

/* Tears apart the columns of four channels that begin at byte `at` of the rows. */
static inline void ec_dw_tear(const int8_t *const *rows, int32_t at, int8_t *x, int32_t step, int32_t pairs,
                              int32_t edges, uint32_t pad)
{
    const int32_t left = edges & 1, columns = left + 2 * pairs + (edges >> 1);
    for (int32_t first = -left; first < columns; first += 2, x += 48) {
        uint32_t v[2][3];
        for (int32_t i = 0; i < 6; i++) {
            const int32_t col = first + i / 3;
            v[i / 3][i % 3] = col >= 0 && col < columns ? ec_ld4(rows[i % 3] + at + col * step) : pad;
        }
        ec_dw_pair(x, v[0][0], v[0][1]);
        ec_dw_pair(x + 4, v[1][0], v[1][1]);
        ec_dw_pair(x + 8, v[0][2], v[1][2]);
    }
}

/* The output whose window begins at column e of channel x. w: its weights. */
static inline int8_t ec_dw_out(const int8_t *x, int32_t e, const uint32_t *w, int32_t c)
{
    int32_t acc = (int32_t)w[5];
    for (int32_t i = 0; i < 3; i++) {
        acc = ec_smlad(ec_ld4(x + (e + i) / 2 * 48 + (e + i) % 2 * 4), w[i], acc);
    }
    const uint32_t q0 = ec_ld4(x + e / 2 * 48 + 8), q1 = ec_ld4(x + e / 2 * 48 + 56);
    if (e % 2 == 0) {
        acc = ec_smlabb(q1, w[4] >> 16, ec_smlad(q0, w[3], acc));
    } else {
        acc = ec_smlad(q1, w[4], ec_smlabb(q0 >> 16, w[3], acc));
    }
    return (int8_t)ec_ssat8(ec_smmla(acc, (int32_t)w[6], c) >> 8);
}

static inline void ec_dw3(const int8_t *const *rows, const uint32_t *w, int8_t *out, int8_t *x, int32_t in_step,
                          int32_t out_step, int32_t pairs, int32_t edges, uint32_t pad, int32_t out_w, int32_t c,
                          int32_t groups, int32_t stride)
{
    for (int32_t ch = 0; ch < 4 * groups; ch++, w += 7) {
        if (ch % 4 == 0) {
            ec_dw_tear(rows, ch, x, in_step, pairs, edges, pad);
        }
        for (int32_t o = 0; o < out_w; o++) {
            out[o * out_step + ch] = ec_dw_out(x + ch % 4 * 12, o * stride, w, c);
        }
    }
}

static inline void ec_dw3_s1(const int8_t *const *rows, const uint32_t *w, int8_t *out, int8_t *x, int32_t in_step,
                             int32_t out_step, int32_t pairs, int32_t edges, uint32_t pad, int32_t out_w, int32_t c,
                             int32_t groups)
{
    ec_dw3(rows, w, out, x, in_step, out_step, pairs, edges, pad, out_w, c, groups, 1);
}

static inline void ec_dw3_s2(const int8_t *const *rows, const uint32_t *w, int8_t *out, int8_t *x, int32_t in_step,
                             int32_t out_step, int32_t pairs, int32_t edges, uint32_t pad, int32_t out_w, int32_t c,
                             int32_t groups)
{
    ec_dw3(rows, w, out, x, in_step, out_step, pairs, edges, pad, out_w, c, groups, 2);
}

#endif
