/* Kernels of packed weights, as conv_s8.c does it for convolutions. */
#include "any.h"
#include "conv_s8_narrow.h"
#include "fc_s8_narrow.h"

enum { IN_W = 7, IN_C = 6, KH = 2, KW = 3, OUT_W = 7, OUT_C = 5, OUT_W_2 = 4, OUT_C_2 = 9, GROUPS_2 = 2, BLOCKS = 2, N = 10 };
static const ec_conv_s8_narrow_t four = {IN_W, IN_C, OUT_W, OUT_C, KH, KW, 1, 1, 1, 1, (3 << 8) + 128, 8, -128, 127, 4};
static const ec_conv_s8_narrow_t two = {IN_W, IN_C, OUT_W_2, 2 * OUT_C, KH, KW, 2, 2, 2, GROUPS_2, -9, 1, -20, 127, 2};
static const ec_fc_s8_narrow_t fc = {N, OUT_C_2, 1 << 14, 15, -128, 127, 4};

static int8_t row[KH][IN_W * IN_C], pad[IN_W * IN_C], out[OUT_W * OUT_C], out_2[OUT_W_2 * 2 * OUT_C], y[OUT_C_2];
static uint8_t w[BLOCKS * KH * KW * IN_C * 2], w_2[GROUPS_2 * BLOCKS * KH * KW * IN_C / GROUPS_2];
static uint8_t w_fc[3 * N * 2];
static int32_t bias[2 * OUT_C], mult[2 * OUT_C];

static void fill_bytes(uint8_t *to, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        to[i] = (uint8_t)between(0, 255);
    }
}

int main(void)
{
    const int8_t *const rows[KH] = {row[0], pad};
    fill(row[0], IN_W * IN_C);
    fill(pad, IN_W * IN_C);
    fill_bytes(w, BLOCKS * KH * KW * IN_C * 2);
    fill_bytes(w_2, BLOCKS * KH * KW * IN_C);
    fill_bytes(w_fc, 3 * N * 2);
    for (int32_t i = 0; i < 2 * OUT_C; i++) {
        bias[i] = between(-(1 << 30), 1 << 30);
        mult[i] = between(0, INT32_MAX);
    }
    ec_conv_s8_narrow(&four, rows, pad, w, bias, mult, out);
    ec_conv_s8_narrow(&two, rows, pad, w_2, bias, mult, out_2);
    ec_fc_s8_narrow(&fc, row[0], w_fc, bias, mult, y);
    return 0;
}
