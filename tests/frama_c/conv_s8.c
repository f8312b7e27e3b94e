/* Convolutions as the compiler emits them, every input, weight, bias and multiplier unknown: Frama-C's Eva proves that
 * no run reads or writes outside an array, overflows, shifts a wrong amount or uses an uninitialised value. */
#include "any.h"
#include "conv_s8.h"

/* 7 columns by 6 channels to 4 channels, 3x3, padding 1; 2x3 with stride 2 and dilation 2 in three groups of 2 to 5
 * channels; 2 to 3 channels, which is less than a block of four. */
enum { IN_W = 7, IN_C = 6, KH = 3, KW = 3, OUT_W = 7, OUT_C = 4, KH_2 = 2, GROUPS_2 = 3, OUT_W_2 = 4, OUT_C_2 = 15 };
enum { IN_C_3 = 2, OUT_C_3 = 3 };
static const ec_conv_s8_t plain = {IN_W, IN_C, OUT_W, OUT_C, KH, KW, 1, 1, 1, 1, (3 << 8) + 128, 8, -128, 127};
static const ec_conv_s8_t grouped = {IN_W, IN_C, OUT_W_2, OUT_C_2, KH_2, KW, 2, 2, 2, GROUPS_2, -9, 1, -128, 127};
static const ec_conv_s8_t narrow = {IN_W, IN_C_3, OUT_W, OUT_C_3, KH, KW, 1, 1, 1, 1, 1 << 14, 15, -20, 127};

static int8_t row[KH][IN_W * IN_C], pad[IN_W * IN_C];
static int8_t w[OUT_C * KH * KW * IN_C], w_2[OUT_C_2 * KH_2 * KW * IN_C / GROUPS_2], w_3[OUT_C_3 * KH * KW * IN_C_3];
static int8_t out[OUT_W * OUT_C], out_2[OUT_W_2 * OUT_C_2], out_3[OUT_W * OUT_C_3];
static int32_t bias[OUT_C_2], mult[OUT_C_2];

int main(void)
{
    const int8_t *const rows[KH] = {row[0], pad, row[2]};
    for (int32_t y = 0; y < KH; y++) {
        fill(row[y], IN_W * IN_C);
    }
    fill(pad, IN_W * IN_C);
    fill(w, OUT_C * KH * KW * IN_C);
    fill(w_2, OUT_C_2 * KH_2 * KW * IN_C / GROUPS_2);
    fill(w_3, OUT_C_3 * KH * KW * IN_C_3);
    for (int32_t i = 0; i < OUT_C_2; i++) {
        bias[i] = between(-(1 << 30), 1 << 30); /* leaves room for 54 products, as the compiler proves it does */
        mult[i] = between(0, INT32_MAX);
    }
    ec_conv_s8(&plain, rows, pad, w, bias, mult, out);
    ec_conv_s8(&grouped, rows, pad, w_2, bias, mult, out_2);
    ec_conv_s8(&narrow, rows, pad, w_3, bias, mult, out_3);
    return 0;
}
