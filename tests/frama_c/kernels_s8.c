/* The other int8 kernels, as conv_s8.c does it for convolutions. */
#include "add_s8.h"
#include "any.h"
#include "avgpool_s8.h"
#include "dwconv_s8.h"
#include "fc_s8.h"
#include "lut_s8.h"
#include "maxpool_s8.h"
#include "mul_s8.h"
#include "rowsum_s8.h"
#include "softmax_s8.h"

enum { IN_W = 7, IN_C = 6, KH = 3, KW = 3, OUT_W = 7, OUT_W_2 = 4, N = 10, OUT_N = 6 };
static const ec_dwconv_s8_t dw = {IN_W, IN_C, OUT_W, 1, KH, KW, 1, 1, 1, 128, 8, -128, 127};
static const ec_dwconv_s8_t dw_2 = {IN_W, IN_C, OUT_W_2, 2, KH, KW, 2, 2, 2, 128, 8, -128, 127};
static const ec_fc_s8_t fc = {N, OUT_N, 1, 1, -128, 127};
static const ec_maxpool_s8_t max = {IN_W, IN_C, OUT_W_2, KH, KW, 2, 1, 1};
static const ec_avgpool_s8_t average = {IN_W, IN_C, OUT_W_2, KH, KW, 2, 1, 0, -128, 1 << 14, 15, -128, 127};
static const ec_add_s8_t add = {N, 1 << 20, -(1 << 20), 1 << 20, 21, -128, 127};
static const ec_mul_s8_t mul = {N, -128, 127, INT32_MAX, 1 << 14, 15, -128, 127};
static const ec_lut_s8_t lut = {N};
static const ec_rowsum_s8_t rowsum = {IN_W, IN_C};
static const ec_softmax_s8_t softmax = {N, INT32_MAX, 1, 1, -128, 127};

static int8_t row[KH][IN_W * IN_C], pad[IN_W * IN_C], w[2 * KH * KW * IN_C], out[2 * OUT_W * IN_C];
static int8_t a[N], b[N], w_fc[OUT_N * N], table[256], y[OUT_N];
static int32_t bias[2 * IN_C], mult[2 * IN_C];
static uint32_t exponential[256];

static void spatial(void)
{
    const int8_t *const rows[KH] = {row[0], pad, row[2]};
    ec_dwconv_s8(&dw, rows, pad, w, bias, mult, out);
    ec_dwconv_s8(&dw_2, rows, pad, w, bias, mult, out);
    ec_maxpool_s8(&max, rows, pad, out);
    ec_avgpool_s8(&average, rows, between(1, KH), mult, out);
}

int main(void)
{
    for (int32_t i = 0; i < KH; i++) {
        fill(row[i], IN_W * IN_C);
    }
    fill(pad, IN_W * IN_C);
    fill(w, 2 * KH * KW * IN_C);
    fill(a, N);
    fill(b, N);
    fill(w_fc, OUT_N * N);
    fill(table, 256);
    for (int32_t i = 0; i < 2 * IN_C; i++) {
        bias[i] = between(-(1 << 30), 1 << 30);
        mult[i] = between(0, INT32_MAX);
    }
    for (int32_t i = 0; i < 256; i++) {
        exponential[i] = (uint32_t)between(0, INT32_MAX / N);
    }
    spatial();
    ec_fc_s8(&fc, a, w_fc, bias, mult, y);
    ec_add_s8(&add, a, b, a);
    ec_mul_s8(&mul, a, b, a);
    ec_lut_s8(&lut, a, table, a);
    ec_softmax_s8(&softmax, a, exponential, b);
    for (int32_t i = 0; i < IN_C; i++) {
        bias[i] = between(-(1 << 30), 1 << 30);
    }
    ec_rowsum_s8(&rowsum, row[0], bias, bias);
    return 0;
}
