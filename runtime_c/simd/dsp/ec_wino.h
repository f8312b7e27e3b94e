/* ec_wino.h (dsp): the parts of an exact Winograd convolution F(2x4, 3x3) in int16 (kernel/dsp/wino_s8_dsp.h).
 *
 * A tile is 2 x 4 outputs of a 3x3 kernel, from 4 x 6 inputs: 24 products per channel instead of 72. Down the columns
 * F(2,3) at the points 0, 1, -1, infinity; along the rows F(4,3) at 0, 1, -1, 2, -2, infinity. The weights are scaled by
 * 2 and by 24, so that all is integer: |weight| <= 9144, |input| <= 2560, and the sums are 48 times those of the
 * convolution, modulo 2^32; times the inverse of 3 that is 16 times, exactly. Two tiles go through together. */
#ifndef EC_WINO_H
#define EC_WINO_H

#include "ec_simd.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter" /* assembler reads them where the calling convention puts them */
#pragma GCC diagnostic ignored "-Woverlength-strings"

/* Four channels of a column: rows d0-d3 in r8-r11, taps k, k+2 or (ror) k+1, k+3 of each. */
#define EC_WINO_DOWN(ror, o)                                                                                           \
    "sxtb16 r1,r9" ror "\n sxtb16 r2,r10" ror "\n sxtb16 r12,r8" ror "\n sxtb16 lr,r11" ror "\n"                       \
    "ssub16 r12,r12,r2\n ssub16 lr,r1,lr\n str r12,[r0,#" #o "]\n str lr,[r0,#24+" #o "]\n"                             \
    "sadd16 r12,r1,r2\n ssub16 lr,r2,r1\n str r12,[r0,#8+" #o "]\n str lr,[r0,#16+" #o "]\n"

/* Transforms columns downwards. rows: four; at: byte offset in them; quads: fours of channels, those of all columns;
 * to: [quads][4 results][2] words of two channels. 34 cycles for four channels. */
EC_ASM_FUNCTION void ec_wino_down(uint32_t *to, const int8_t *const *rows, int32_t at, int32_t quads)
{
    __asm__ volatile(
        "push {r4-r11,lr}\n"
        "ldm r1,{r4-r7}\n add r4,r2\n add r5,r2\n add r6,r2\n add r7,r2\n"
        "1:\n ldr r8,[r4],#4\n ldr r9,[r5],#4\n ldr r10,[r6],#4\n ldr r11,[r7],#4\n"
        EC_WINO_DOWN("", 0) EC_WINO_DOWN(",ror #8", 4)
        "adds r0,#32\n subs r3,#1\n bne 1b\n"
        "pop {r4-r11,pc}\n");
}

/* Six columns of one result and two channels at r0, r2 twice bytes apart, to six words r2 bytes apart; r3 is 3 r2, r4 is
 * 5 r2. `step` moves r1 on. 34 cycles. */
#define EC_WINO_SIX(step)                                                                                              \
    "ldr r6,[r0,r2,lsl #1]\n ldr r7,[r0,r2,lsl #2]\n ldr r8,[r0,r3,lsl #1]\n ldr r9,[r0,r2,lsl #3]\n"                  \
    "ldr r10,[r0,r4,lsl #1]\n ldr r5,[r0],#4\n"                                                                        \
    "ssub16 r11,r9,r7\n ssub16 r5,r5,r7\n sadd16 r5,r5,r5\n sadd16 r5,r5,r5\n sadd16 r5,r5,r11\n" /* v0 */             \
    "ssub16 r12,r8,r6\n ssub16 r10,r10,r8\n sadd16 r12,r12,r12\n sadd16 r7,r7,r7\n sadd16 r7,r7,r7\n"                  \
    "sadd16 r6,r6,r6\n sadd16 r6,r6,r6\n ssub16 r9,r9,r7\n ssub16 r8,r8,r6\n"                                          \
    "sadd16 r6,r9,r8\n ssub16 r7,r9,r8\n"                                                          /* v1 v2 */         \
    "sadd16 r8,r11,r12\n ssub16 r9,r11,r12\n"                                                      /* v3 v4 */         \
    "sadd16 r12,r12,r12\n ssub16 r10,r10,r12\n"                                                    /* v5 */            \
    "str r6,[r1,r2]\n str r7,[r1,r2,lsl #1]\n str r8,[r1,r3]\n str r9,[r1,r2,lsl #2]\n str r10,[r1,r4]\n"              \
    "str r5,[r1],#" #step "\n"

/* Transforms a tile along its rows. x: its first column as ec_wino_down left it; to: [24][channels / 2][2 tiles]
 * words, of the tile; bytes: 4 * channels, from one of the 24 to the next; quads: fours of channels. */
EC_ASM_FUNCTION void ec_wino_along(const uint32_t *x, uint32_t *to, int32_t bytes, int32_t quads)
{
    __asm__ volatile(
        "push {r4-r12,lr}\n mov lr,r3\n add r3,r2,r2,lsl #1\n add r4,r2,r2,lsl #2\n"
        "1:\n"
        ".rept 4\n" EC_WINO_SIX(8) EC_WINO_SIX(-8) "add r1,r1,r3,lsl #1\n .endr\n"
        "sub r1,r1,r3,lsl #3\n adds r1,#16\n subs lr,#1\n bne 1b\n"
        "pop {r4-r12,pc}\n");
}

/* Two channels of two tiles by four outputs: 16 cycles for 16 products. o: how far the pointers are behind. */
#define EC_WINO_STEP(first, acc, v, u)                                                                                 \
    "ldr r2,[r0,#o+4]\n ldr r3,[r0,#o+8]" v "\n ldr r4,[r1,#2*o+4]\n ldr r5,[r1,#2*o+8]\n"                             \
    first " r6,r4,r2" acc(r6) "\n" first " r10,r4,r3" acc(r10) "\n" first " r7,r5,r2" acc(r7) "\n"                     \
    first " r11,r5,r3" acc(r11) "\n ldr r4,[r1,#2*o+12]\n ldr r5,[r1,#2*o+16]" u "\n"                                  \
    first " r8,r4,r2" acc(r8) "\n" first " r12,r4,r3" acc(r12) "\n" first " r9,r5,r2" acc(r9) "\n"                     \
    first " lr,r5,r3" acc(lr) "\n .set o,o+8\n"
#define EC_WINO_NONE(r)
#define EC_WINO_ACC(r) "," #r
/* n steps, which move both pointers on: the last loads do so where their immediates reach. */
#define EC_WINO_STEPS(n, first, acc)                                                                                   \
    ".set o,0\n" EC_WINO_STEP(first, acc, "", "")                                                                      \
    ".rept " #n "-2\n" EC_WINO_STEP("smlad", EC_WINO_ACC, "", "") ".endr\n"                                            \
    ".if " #n "<16\n" EC_WINO_STEP("smlad", EC_WINO_ACC, "!", "!")                                                     \
    ".else\n" EC_WINO_STEP("smlad", EC_WINO_ACC, "", "") "add r0,#8*" #n "\n add r1,#16*" #n "\n .endif\n"

/* The 24 sums of two tiles and four output channels. x: [24][channels / 2][2 tiles]; w: [24][channels / 2][4] words;
 * sums: [24][2 tiles][4]. ec_wino_mm_<n>: 2n channels; ec_wino_mms_<n>: 2n * chunks, chunks >= 2. */
#define EC_WINO_MM(n)                                                                                                  \
    EC_ASM_FUNCTION void ec_wino_mm_##n(const uint32_t *x, const uint32_t *w, int32_t *sums)                           \
    {                                                                                                                  \
        __asm__ volatile(                                                                                              \
            "push {r4-r11,lr}\n add r3,r2,#24*32\n push {r2,r3}\n subs r0,#4\n subs r1,#4\n"                             \
            "1:\n" EC_WINO_STEPS(n, "smuad", EC_WINO_NONE)                                                                                    \
            "ldr r2,[sp]\n ldr r3,[sp,#4]\n stm r2!,{r6-r12,lr}\n str r2,[sp]\n cmp r2,r3\n bne 1b\n"                  \
            "add sp,#8\n pop {r4-r11,pc}\n");                                                                          \
    }                                                                                                                  \
    EC_ASM_FUNCTION void ec_wino_mms_##n(const uint32_t *x, const uint32_t *w, int32_t *sums, int32_t chunks)          \
    {                                                                                                                  \
        __asm__ volatile(                                                                                              \
            "push {r4-r11,lr}\n movs r5,#8*" #n "\n muls r5,r3\n add r3,r2,#24*32\n subs r0,#4\n subs r1,#4\n"           \
            "add r4,r0,r5\n push {r2-r5}\n"                                                                            \
            "1:\n" EC_WINO_STEPS(n, "smuad", EC_WINO_NONE)                                                                                    \
            "2:\n" EC_WINO_STEPS(n, "smlad", EC_WINO_ACC) "ldr r2,[sp,#8]\n cmp r0,r2\n bne 2b\n"                                            \
            "ldr r4,[sp,#12]\n ldr r3,[sp,#4]\n add r2,r4\n str r2,[sp,#8]\n ldr r2,[sp]\n stm r2!,{r6-r12,lr}\n"      \
            "str r2,[sp]\n cmp r2,r3\n bne 1b\n"                                                                       \
            "add sp,#16\n pop {r4-r11,pc}\n");                                                                         \
    }
#define EC_WINO_ALL(make) make(4) make(8) make(12) make(16) make(20) make(24) make(28) make(32)
EC_WINO_ALL(EC_WINO_MM)

/* Sums of one of the six columns. */
#define EC_WINO_LOAD(k, a, b, c, d)                                                                                    \
    "ldr " a ",[r0,#32*" #k "]\n ldr " b ",[r0,#32*" #k "+192]\n ldr " c ",[r0,#32*" #k "+384]\n"                      \
    "ldr " d ",[r0,#32*" #k "+576]\n"
/* Upwards: a = a + b + c, b = b - c - d. */
#define EC_WINO_UP(a, b, c, d) "add " a "," a "," b "\n add " a "," a "," c "\n sub " b "," b "," c "\n sub " b "," b "," d "\n"
#define EC_WINO_8(op, args) op " r6" args(r6) op " r10" args(r10) op " r8" args(r8) op " r4" args(r4)                  \
                            op " r7" args(r7) op " r11" args(r11) op " r9" args(r9) op " r5" args(r5)
#define EC_WINO_MUL(r) "," #r ",r3\n"
#define EC_WINO_SCALE(r) "," #r ",r12,r2\n"

/* One channel of one tile, 8 outputs, 118 cycles. r0 sums, r1 biases and multipliers; [sp]: out, c, 1/3, out_step, row */
#define EC_WINO_LANE(shift)                                                                                            \
    EC_WINO_LOAD(1, "r4", "r5", "r6", "r7") "ldr lr,[r1]\n add r5,r5,lr\n" EC_WINO_UP("r4", "r5", "r6", "r7")          \
    EC_WINO_LOAD(2, "r6", "r7", "r8", "r9") EC_WINO_UP("r6", "r7", "r8", "r9")                                         \
    "add r8,r4,r6\n sub r4,r4,r6\n add r9,r5,r7\n sub r5,r5,r7\n"                                                      \
    EC_WINO_LOAD(3, "r6", "r7", "r10", "r11") EC_WINO_UP("r6", "r7", "r10", "r11")                                     \
    EC_WINO_LOAD(4, "r10", "r11", "r12", "lr") EC_WINO_UP("r10", "r11", "r12", "lr")                                   \
    "add r12,r6,r10\n sub r6,r6,r10\n add lr,r7,r11\n sub r7,r7,r11\n"                                                 \
    "add r10,r4,r6,lsl #1\n add r4,r4,r6,lsl #3\n add r11,r5,r7,lsl #1\n add r5,r5,r7,lsl #3\n"                        \
    "add r6,r8,r12\n add r8,r8,r12,lsl #2\n add r7,r9,lr\n add r9,r9,lr,lsl #2\n"                                      \
    EC_WINO_LOAD(0, "r12", "lr", "r2", "r3")                                                                           \
    "add r6,r6,r12\n add r6,r6,lr\n add r6,r6,r2\n add r7,r7,lr\n sub r7,r7,r2\n sub r7,r7,r3\n"                       \
    EC_WINO_LOAD(5, "r12", "lr", "r2", "r3")                                                                           \
    "add r4,r4,r12\n add r4,r4,lr\n add r4,r4,r2\n add r5,r5,lr\n sub r5,r5,r2\n sub r5,r5,r3\n"                       \
    "ldr r2,[sp,#4]\n ldr r3,[sp,#8]\n ldr r12,[r1,#16]\n"                                                             \
    EC_WINO_8("mul", EC_WINO_MUL) EC_WINO_8("smmla", EC_WINO_SCALE) EC_WINO_8("ssat", shift)                           \
    "ldr r2,[sp,#0]\n ldr r3,[sp,#12]\n ldr r12,[sp,#16]\n add lr,r2,r12\n add r12,r3,r3,lsl #1\n"                     \
    "strb r6,[r2]\n strb r10,[r2,r3]\n strb r8,[r2,r3,lsl #1]\n strb r4,[r2,r12]\n"                                    \
    "strb r7,[lr]\n strb r11,[lr,r3]\n strb r9,[lr,r3,lsl #1]\n strb r5,[lr,r12]\n"
#define EC_WINO_F1(r) ",#8," #r ",asr #5\n"
#define EC_WINO_F8(r) ",#8," #r ",asr #12\n"
#define EC_WINO_F15(r) ",#8," #r ",asr #19\n"

/* The outputs of two tiles and four channels. bm: four biases times 48, four multipliers; out: of the first tile; c: 16
 * times the offset of ec_requant; out_step, row: bytes from column to column and row to row; apart: from the first
 * tile's outputs to the second's. sums: aligned to 16. One function for each f. */
#define EC_WINO_OUT(f)                                                                                                 \
    EC_ASM_FUNCTION void ec_wino_out_##f(const int32_t *sums, const uint32_t *bm, int8_t *out, int32_t c,              \
                                         int32_t out_step, int32_t row, int32_t apart)                                 \
    {                                                                                                                  \
        __asm__ volatile(                                                                                              \
            "push {r4-r11,lr}\n ldr r4,[sp,#36]\n ldr r5,[sp,#40]\n ldr r7,[sp,#44]\n sub sp,#20\n"                    \
            "str r2,[sp,#0]\n str r3,[sp,#4]\n movw r6,#0xAAAB\n movt r6,#0xAAAA\n str r6,[sp,#8]\n"                   \
            "str r4,[sp,#12]\n str r5,[sp,#16]\n"                                                                      \
            "1:\n" EC_WINO_LANE(EC_WINO_F##f)                                                                          \
            "adds r2,#1\n str r2,[sp,#0]\n adds r1,#4\n adds r0,#4\n tst r0,#15\n bne 1b\n"                            \
            "ldr r3,[sp,#64]\n adds r2,r3\n subs r2,#4\n str r2,[sp,#0]\n subs r1,#16\n"                               \
            "movs r4,#0\n str r4,[sp,#64]\n cmp r3,#0\n bne 1b\n"                                                      \
            "add sp,#20\n pop {r4-r11,pc}\n");                                                                         \
    }
EC_WINO_OUT(1)
EC_WINO_OUT(8)
EC_WINO_OUT(15)

#pragma GCC diagnostic pop

#endif
