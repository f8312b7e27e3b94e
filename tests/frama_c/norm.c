/* Normalisation of unknown integers by unknown gains, as conv_s8.c does it for convolutions. */
#include "any.h"
#include "norm_s16.h"
#include "norm_s8.h"

enum { N = 6 };
static const ec_norm_s8_t layer = {N, -128, 0, 8, 0, 1 << 20, 28, 15, -128, 127, 0, 0};
static const ec_norm_s16_t rms = {N, 0, 1, 8, 1, 0, 28, 8, -32768, 32767, 1, 1};

static int8_t x[N], y[N];
static int16_t x16[N];
static int32_t gain[N], offset[N];

int main(void)
{
    fill(x, N);
    for (int32_t i = 0; i < N; i++) {
        x16[i] = (int16_t)between(-32768, 32767);
        gain[i] = between(-INT32_MAX, INT32_MAX);
        offset[i] = between(-(1 << 30), 1 << 30);
    }
    ec_norm_s8(&layer, x, gain, offset, y);
    ec_norm_s16(&rms, x16, gain, offset, x16);
    return 0;
}
