/* rowsum_s8 (dsp): adds the pixels of an int8 row to sums per channel, four channels a word, sums in int16 lanes. */
#ifndef EC_ROWSUM_S8_H
#define EC_ROWSUM_S8_H

#include "ec_simd.h"

typedef struct {
    int32_t in_w, in_c;
} ec_rowsum_s8_t;

#define EC_ROWSUM_S8_LANE 255 /* int8 that an int16 lane can sum */

/* row: [in_w][in_c]; sums, out: [in_c], may be the same. out = sums + the sum over the row's pixels. The compiler made
 * sure that no sum leaves int32. */
EC_KERNEL void ec_rowsum_s8(const ec_rowsum_s8_t *p, const int8_t *row, const int32_t *sums, int32_t *out)
{
    const int32_t fours = p->in_c / 4 * 4;
    for (int32_t ch = 0; ch < fours; ch += 4) {
        int32_t sum0 = sums[ch], sum1 = sums[ch + 1], sum2 = sums[ch + 2], sum3 = sums[ch + 3];
        for (int32_t x = 0; x < p->in_w; x += EC_ROWSUM_S8_LANE) {
            const int32_t end = p->in_w - x < EC_ROWSUM_S8_LANE ? p->in_w : x + EC_ROWSUM_S8_LANE;
            uint32_t even = 0u, odd = 0u;
            EC_UNROLL4
            for (int32_t k = x; k < end; k++) {
                const uint32_t v = ec_ld4(row + k * p->in_c + ch);
                even = ec_sxtab16(even, v);
                odd = ec_sxtab16_ror8(odd, v);
            }
            sum0 += (int16_t)even;
            sum1 += (int16_t)odd;
            sum2 += (int16_t)(even >> 16);
            sum3 += (int16_t)(odd >> 16);
        }
        out[ch] = sum0;
        out[ch + 1] = sum1;
        out[ch + 2] = sum2;
        out[ch + 3] = sum3;
    }
    for (int32_t ch = fours; ch < p->in_c; ch++) {
        int32_t sum = sums[ch];
        for (int32_t x = 0; x < p->in_w; x++) {
            sum += row[x * p->in_c + ch];
        }
        out[ch] = sum;
    }
}

#endif
