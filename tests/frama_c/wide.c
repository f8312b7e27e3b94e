/* Kernels with int16 activations, as conv_s8.c does it for convolutions. Weights are small, so that the sums of 32 bits
 * cannot overflow, as the compiler proves it of real ones. */
#include "any.h"
#include "conv_s16.h"
#include "conv_s16_s8.h"
#include "conv_s8_s16.h"
#include "dwconv_s16.h"
#include "fc_s16_s8.h"

enum { IN_W = 5, IN_C = 3, KH = 2, KW = 3, OUT_W = 5, OUT_C = 5, BLOCKS = 2, PAIRS = KH * KW * IN_C / 2, N = 7, OUT_N = 6 };
static const ec_conv_s16_t conv = {IN_W, IN_C, OUT_W, OUT_C, KH, KW, 1, 1, 1, 1, 128, 8, -32768, 32767, 0, 8, 0, 1, 1};
static const ec_conv_s16_s8_t four = {IN_W, IN_C, OUT_W, OUT_C, KH, KW, 1, 1, 1, 1, 1, 1, -20, 127, 0, 4, 0, 1, 0};
static const ec_conv_s8_s16_t grouped = {IN_W, IN_C, 2, 2 * IN_C, KH, KW, 2, 2, 2, IN_C, 1 << 14, 15, -9, 9, 2, 8, 0, 0, 1};
static const ec_conv_s16_t far = {IN_W, IN_C, OUT_W, OUT_C, KH, KW, 1, 1, 1, 1, 128, 8, -32768, 32767, 0, 8, 1, 1, 1};
static const ec_dwconv_s16_t dw = {IN_W, IN_C, OUT_W, KH, KW, 1, 1, 1, 128, 8, -32768, 32767, 0, 0, 1, 1};
static const ec_dwconv_s16_t dw_2 = {IN_W, IN_C, 2, KH, KW, 2, 2, 2, 128, 8, -32768, 32767, 0, 5, 1, 1};
static const ec_fc_s16_s8_t fc = {N, OUT_N, 128, 8, -128, 127, 0, 8, 0, 1, 0};

static int16_t row[KH][IN_W * IN_C], pad[IN_W * IN_C], x[N], out[OUT_W * OUT_C];
static int8_t row8[KH][IN_W * IN_C], pad8[IN_W * IN_C], out8[OUT_W * OUT_C], w[BLOCKS * PAIRS * 8], scratch[PAIRS * 8];
static int8_t w_g[IN_C * KH * KW / 2 * 8], w_fc[BLOCKS * (N + 1) / 2 * 8];
static int16_t w_dw[KH * KW * IN_C];
static int32_t bias[IN_C * 4], mult[IN_C * 4];

static void fill16(int16_t *to, int32_t n, int32_t most)
{
    for (int32_t i = 0; i < n; i++) {
        to[i] = (int16_t)between(-most, most);
    }
}

static void fill_small(int8_t *to, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        to[i] = (int8_t)between(-100, 100);
    }
}

int main(void)
{
    const int16_t *const rows[KH] = {row[0], pad};
    const int8_t *const rows8[KH] = {row8[0], pad8};
    fill16(row[0], IN_W * IN_C, 32767);
    fill16(pad, IN_W * IN_C, 32767);
    fill16(x, N, 32767);
    fill16(w_dw, KH * KW * IN_C, 100);
    fill(row8[0], IN_W * IN_C);
    fill(pad8, IN_W * IN_C);
    fill_small(w, BLOCKS * PAIRS * 8);
    fill_small(w_g, IN_C * KH * KW / 2 * 8);
    fill_small(w_fc, BLOCKS * (N + 1) / 2 * 8);
    for (int32_t i = 0; i < IN_C * 4; i++) {
        bias[i] = between(-(1 << 20), 1 << 20);
        mult[i] = between(0, INT32_MAX);
    }
    ec_conv_s16(&conv, rows, pad, w, bias, mult, out, scratch);
    ec_conv_s16_s8(&four, rows, pad, w, bias, mult, out8, scratch);
    ec_conv_s8_s16(&grouped, rows8, pad8, w_g, bias, mult, out, scratch);
    ec_conv_s16(&far, rows, pad, w, bias, mult, out, scratch);
    ec_dwconv_s16(&dw, rows, pad, w_dw, bias, mult, out);
    ec_dwconv_s16(&dw_2, rows, pad, w_dw, bias, mult, out);
    ec_fc_s16_s8(&fc, x, w_fc, bias, mult, out8, scratch);
    return 0;
}
