/* Kernels of weights in pairs, as conv_s8.c does it for convolutions. The places of the inputs are those of a stream; the
 * weights, biases and multipliers are unknown. */
#include "any.h"
#include "conv_s8_pair.h"

enum { IN_W = 5, IN_C = 3, KH = 2, KW = 3, OUT_W = 4, OUT_C = 5, TAPS = KH * KW * IN_C, BLOCKS = 2, PAIRS = 3 };
enum { GROUPS = TAPS / (2 * PAIRS), WORDS = 5 * PAIRS * GROUPS, BLOCK = 1 + 4 + WORDS + 4 };
static const ec_conv_s8_pair_t conv = {IN_W, IN_C, OUT_W, OUT_C, KH, KW, 2, 1, 2, (3 << 8) + 128, 8, -128, 127, PAIRS};
static const ec_conv_s8_pair_t wide = {IN_W, IN_C, OUT_W, OUT_C, KH, KW, 1, 2, 3, 1 << 14, 15, -20, 127, PAIRS};
static const ec_fc_s8_pair_t fc = {TAPS, 2 * 4, 1, 1, -128, 127, PAIRS};

static int8_t row[KH][IN_W * IN_C], pad[IN_W * IN_C], out[OUT_W * 2 * 4], scratch[TAPS];
static uint32_t stream[BLOCKS * BLOCK];

static uint32_t any_word(void)
{
    return (uint32_t)any_int32;
}

static void block(uint32_t *s, int32_t low, int32_t high)
{
    s[0] = WORDS;
    for (int32_t i = 0; i < 4; i++) {
        s[1 + i] = (uint32_t)between(low, high);
        s[5 + WORDS + i] = (uint32_t)between(0, INT32_MAX);
    }
    for (uint32_t k = 0; k < TAPS / 2; k++) {
        uint32_t *const five = s + 5 + 5 * k;
        for (int32_t i = 0; i < 5; i++) {
            five[i] = any_word();
        }
        five[k % PAIRS == 0 ? 0 : 2] = TAPS - 1 - k | (2 * k + 1) << 16;
    }
}

int main(void)
{
    const int8_t *const rows[KH] = {row[0], pad};
    fill(row[0], IN_W * IN_C);
    fill(pad, IN_W * IN_C);
    fill(scratch, TAPS);
    block(stream, 0, 1 << 30); /* an interval of words that holds both signs holds everything */
    block(stream + BLOCK, -(1 << 30), -1);
    ec_conv_s8_pair(&conv, rows, pad, stream, out, scratch);
    ec_conv_s8_pair(&wide, rows, pad, stream, out, scratch);
    ec_fc_s8_pair(&fc, scratch, stream, out);
    return 0;
}
