/* Kernels that take four output channels at a time, as conv_s8.c does it for convolutions. */
#include "any.h"
#include "conv_s8_quad.h"

enum { IN_W = 5, IN_C = 3, KH = 2, KW = 3, OUT_W = 4, OUT_C = 6, TAPS = KH * KW * IN_C };
static const ec_conv_s8_quad_t conv = {IN_W, IN_C, OUT_W, OUT_C, KH, KW, 2, 1, 2, (3 << 8) + 128, 8, -128, 127};
static const ec_conv_s8_quad_t wide = {IN_W, IN_C, OUT_W, OUT_C, KH, KW, 1, 2, 3, 1 << 14, 15, -20, 127};
static const ec_conv_s8_quad_t pixel = {IN_W, IN_C, OUT_W, OUT_C, 1, 1, 2, 1, 1, 1, 1, -128, 127};

static int8_t row[KH][IN_W * IN_C], pad[IN_W * IN_C], w[OUT_C * TAPS], out[OUT_W * OUT_C], scratch[TAPS];
static int32_t bias[OUT_C], mult[OUT_C];

int main(void)
{
    const int8_t *const rows[KH] = {row[0], pad};
    fill(row[0], IN_W * IN_C);
    fill(pad, IN_W * IN_C);
    fill(w, OUT_C * TAPS);
    for (int32_t i = 0; i < OUT_C; i++) {
        bias[i] = between(-(1 << 30), 1 << 30);
        mult[i] = between(0, INT32_MAX);
    }
    ec_conv_s8_quad(&conv, rows, pad, w, bias, mult, out, scratch);
    ec_conv_s8_quad(&wide, rows, pad, w, bias, mult, out, scratch);
    ec_conv_s8_quad(&pixel, rows, pad, w, bias, mult, out, scratch);
    return 0;
}
