/* ec_mm.h (dsp_on_host): simd/dsp/ec_mm.h in plain C, from the same stream, bit for bit. */
#ifndef EC_MM_H
#define EC_MM_H

#include "ec_simd.h"

static inline int8_t *ec_widen_run(int8_t *to, const int8_t *x, int32_t run)
{
    for (int32_t k = 0; k < run; k += 4) {
        const int32_t left = run - k;
        ec_st4(to, ec_lanes(x[k], left > 2 ? x[k + 2] : left > 1 ? x[k + 1] : x[k] >> 7));
        to += 8;
        if (left > 2) {
            ec_st4(to, ec_lanes(x[k + 1], left > 3 ? x[k + 3] : x[k + 1] >> 7));
            to += 8;
        }
    }
    return to;
}

static inline void ec_widen(int8_t *to, const int8_t *const *rows, int32_t offset, int32_t run, int32_t n_rows,
                            int32_t columns, int32_t step)
{
    for (int32_t col = 0; col < columns; col++) {
        for (int32_t i = 0; i < n_rows; i++) {
            to = ec_widen_run(to, rows[i] + offset + col * step, run);
        }
    }
}

static inline void ec_move(int8_t *to, const int8_t *from, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        to[i] = from[i];
    }
}

/* Requantises the sums S0 T01 S2 T23 of four channels. */
static inline void ec_mm_out(int8_t *out, const int32_t *sum, const uint32_t *mult, int32_t c, int32_t f)
{
    for (int32_t j = 0; j < 4; j++) {
        const int32_t odd = j & 1;
        const int32_t acc = odd ? (int32_t)((uint32_t)sum[j] - (uint32_t)sum[j - 1]) : sum[j]; /* 256 * S1, S0 */
        out[j] = ec_sat8(ec_requant(acc, (int32_t)mult[j], odd ? c * 256 : c, odd ? f + 8 : f), -128, 127);
    }
}

/* Adds one tap pair: w: the words of channels 01 and 23; x: the activations. */
static inline void ec_mm_step(int32_t *sum, const uint32_t *w, uint32_t x)
{
    sum[1] = ec_smlad(w[0], x, sum[1]);
    sum[3] = ec_smlad(w[1], x, sum[3]);
    sum[0] = ec_smlad(ec_sxtb16(w[0]), x, sum[0]);
    sum[2] = ec_smlad(ec_sxtb16(w[1]), x, sum[2]);
}

static inline void ec_mm_bias(int32_t *sum, const uint32_t *w)
{
    for (int32_t j = 0; j < 4; j++) {
        sum[j] = (int32_t)w[j];
    }
}

static inline void ec_mm2(const uint32_t *x, const uint32_t *w, int8_t *out, int32_t next, const int8_t *out_end,
                          int32_t pairs, int32_t c, int32_t f, int32_t count, int32_t out_step, int32_t x_step)
{
    const int32_t width = (int32_t)(out_end - out);
    for (int32_t i = 0; i < count; i++) {
        const uint32_t *v = w, *taps = x + x_step / 4 * i;
        int8_t *to = out + i * out_step;
        for (int32_t oc = 0; oc < width; oc += 4, v += 4) {
            int32_t a[4], b[4];
            ec_mm_bias(a, v);
            ec_mm_bias(b, v);
            v += 4;
            for (int32_t k = 0; k < pairs; k++, v += 2) {
                ec_mm_step(a, v, ec_ld4(taps + 2 * k));
                ec_mm_step(b, v, ec_ld4(taps + 2 * k + 1));
            }
            ec_mm_out(to + oc, a, v, c, f);
            ec_mm_out(to + oc + next, b, v, c, f);
        }
    }
}

static inline void ec_mm1(const int8_t *x, const uint32_t *w, int8_t *out, const int8_t *out_end, int32_t quads,
                          int32_t c, int32_t f)
{
    for (; out != out_end; out += 4, w += 4) {
        int32_t a[4];
        ec_mm_bias(a, w);
        w += 4;
        for (int32_t k = 0; k < quads; k++, w += 4) {
            const uint32_t taps = ec_ld4(x + 4 * k);
            ec_mm_step(a, w, ec_sxtb16(taps));
            ec_mm_step(a, w + 2, ec_sxtb16_ror8(taps));
        }
        ec_mm_out(out, a, w, c, f);
    }
}

#endif
