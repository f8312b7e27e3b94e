/* rowsum_s8 (c99): adds the pixels of an int8 row to sums per channel: a global average pool, row by row. */
#ifndef EC_ROWSUM_S8_H
#define EC_ROWSUM_S8_H

#include "ec.h"

typedef struct {
    int32_t in_w, in_c;
} ec_rowsum_s8_t;

/* row: [in_w][in_c]; sums, out: [in_c], may be the same. out = sums + the sum over the row's pixels. The compiler made
 * sure that no sum leaves int32. */
EC_KERNEL void ec_rowsum_s8(const ec_rowsum_s8_t *p, const int8_t *row, const int32_t *sums, int32_t *out)
{
    for (int32_t ch = 0; ch < p->in_c; ch++) {
        const int8_t *from = row + ch;
        int32_t sum = sums[ch];
        EC_UNROLL4
        for (int32_t x = 0; x < p->in_w; x++) {
            sum += from[x * p->in_c];
        }
        out[ch] = sum;
    }
}

#endif
