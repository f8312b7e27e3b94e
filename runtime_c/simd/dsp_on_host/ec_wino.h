/* ec_wino.h (dsp_on_host): simd/dsp/ec_wino.h in plain C, from the same stream and by way of the same scratch. */
#ifndef EC_WINO_H
#define EC_WINO_H

#include "ec_simd.h"

static inline void ec_wino_down(uint32_t *to, const int8_t *const *rows, int32_t at, int32_t quads)
{
    for (int32_t q = 0; q < quads; q++) {
        for (int32_t half = 0; half < 2; half++, to++) {
            int32_t d[4][2];
            for (int32_t i = 0; i < 8; i++) {
                d[i / 2][i % 2] = rows[i / 2][at + 4 * q + half + i % 2 * 2];
            }
            to[0] = ec_lanes(d[0][0] - d[2][0], d[0][1] - d[2][1]);
            to[2] = ec_lanes(d[1][0] + d[2][0], d[1][1] + d[2][1]);
            to[4] = ec_lanes(d[2][0] - d[1][0], d[2][1] - d[1][1]);
            to[6] = ec_lanes(d[1][0] - d[3][0], d[1][1] - d[3][1]);
        }
        to += 6;
    }
}

static inline int32_t ec_wino_six(const int32_t *d, int32_t k)
{
    static const int8_t rows[6][6] = {{4, 0, -5, 0, 1, 0}, {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},
                                      {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
    int32_t sum = 0;
    for (int32_t i = 0; i < 6; i++) {
        sum += rows[k][i] * d[i];
    }
    return sum;
}

static inline void ec_wino_along(const uint32_t *x, uint32_t *to, int32_t bytes, int32_t quads)
{
    const int32_t next = bytes / 4;
    for (int32_t i = 0; i < 8 * quads; i++) { /* quad, result, half */
        int32_t low[6], high[6];
        for (int32_t k = 0; k < 6; k++) {
            low[k] = ec_lane(x[2 * next * k + i], 0u);
            high[k] = ec_lane(x[2 * next * k + i], 1u);
        }
        for (int32_t k = 0; k < 6; k++) {
            to[(i / 2 % 4 * 6 + k) * next + i / 8 * 4 + i % 2 * 2] = ec_lanes(ec_wino_six(low, k), ec_wino_six(high, k));
        }
    }
}

static inline void ec_wino_mm(const uint32_t *x, const uint32_t *w, int32_t *sums, int32_t pairs)
{
    for (int32_t e = 0; e < 24; e++, sums += 8, w += 4 * pairs) {
        for (int32_t j = 0; j < 8; j++) {
            sums[j] = 0;
            for (int32_t k = 0; k < pairs; k++) {
                sums[j] = ec_smlad(w[4 * k + j % 4], x[(e * pairs + k) * 2 + j / 4], sums[j]);
            }
        }
    }
}

#define EC_WINO_MM(n)                                                                                                  \
    static inline void ec_wino_mm_##n(const uint32_t *x, const uint32_t *w, int32_t *sums)                             \
    {                                                                                                                  \
        ec_wino_mm(x, w, sums, n);                                                                                     \
    }                                                                                                                  \
    static inline void ec_wino_mms_##n(const uint32_t *x, const uint32_t *w, int32_t *sums, int32_t chunks)            \
    {                                                                                                                  \
        ec_wino_mm(x, w, sums, n *chunks);                                                                             \
    }
#define EC_WINO_ALL(make) make(4) make(8) make(12) make(16) make(20) make(24) make(28) make(32)
EC_WINO_ALL(EC_WINO_MM)

/* Four outputs of a row from its six sums, times 48. */
static inline void ec_wino_four(const uint32_t *z, uint32_t *y)
{
    const uint32_t a = z[1] + z[2], b = z[1] - z[2], c = z[3] + z[4], d = z[3] - z[4];
    y[0] = z[0] + a + c;
    y[1] = b + 2u * d;
    y[2] = a + 4u * c;
    y[3] = b + 8u * d + z[5];
}

static inline void ec_wino_out(const int32_t *sums, const uint32_t *bm, int8_t *out, int32_t c, int32_t out_step,
                               int32_t row, int32_t apart, int32_t shift)
{
    for (int32_t j = 0; j < 8; j++) {
        uint32_t z[2][6], y[4];
        for (int32_t k = 0; k < 6; k++) {
            uint32_t m[4];
            for (int32_t i = 0; i < 4; i++) {
                m[i] = (uint32_t)sums[(6 * i + k) * 8 + j] + (i == 1 && k == 1 ? bm[j % 4] : 0u);
            }
            z[0][k] = m[0] + m[1] + m[2];
            z[1][k] = m[1] - m[2] - m[3];
        }
        for (int32_t r = 0; r < 2; r++) {
            ec_wino_four(z[r], y);
            for (int32_t x = 0; x < 4; x++) {
                const int32_t acc = ec_smmla((int32_t)(y[x] * 0xAAAAAAABu), (int32_t)bm[4 + j % 4], c);
                out[j / 4 * apart + j % 4 + r * row + x * out_step] = (int8_t)ec_ssat8(acc >> shift);
            }
        }
    }
}

#define EC_WINO_OUT(f)                                                                                                 \
    static inline void ec_wino_out_##f(const int32_t *sums, const uint32_t *bm, int8_t *out, int32_t c,                \
                                       int32_t out_step, int32_t row, int32_t apart)                                   \
    {                                                                                                                  \
        ec_wino_out(sums, bm, out, c, out_step, row, apart, f + 4);                                                    \
    }
EC_WINO_OUT(1)
EC_WINO_OUT(8)
EC_WINO_OUT(15)

#endif
