/* ec_dwp.h (dsp): int8 depthwise 3x3 convolutions of stride 1 over planes: every line of four channels is torn apart
 * once, and serves the three output lines around it.
 *
 * A torn line holds, for each channel, int16 in pairs: (x0, x1), (x2, x3) ... With w01 = (w0, w1) and w12 = (w1, w2) of
 * a kernel row, y0 = x01 . w01 + x2 * w2 and y1 = x1 * w0 + x23 . w12: six multiplications an output. Up to
 * eight neighbours are computed at a time. The stream has eight words a channel: w01, w12 of the three kernel rows, bias,
 * multiplier; weights and bias carry 2^(8-f), so that the final shift is always 8. */
#ifndef EC_DWP_H
#define EC_DWP_H

#include "ec_simd.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter" /* assembler reads them where the calling convention puts them */
#pragma GCC diagnostic ignored "-Woverlength-strings"

/* The words of a pair r4, r5 of four channels, to four planes. */
#define EC_DWP_PAIR                                                                                                    \
    "pkhbt r6,r4,r5,lsl #16\n pkhtb r7,r5,r4,asr #16\n sxtb16 r4,r6\n sxtb16 r6,r6,ror #8\n sxtb16 r5,r7\n"            \
    "sxtb16 r7,r7,ror #8\n str r6,[r0,r8]\n str r5,[r0,r8,lsl #1]\n str r7,[r0,r9]\n str r4,[r0],#4\n"

/* Tears apart lines of four channels. from: the first position, `step` bytes to the next; pairs: whole pairs of
 * positions; edges: 1: before them a pair of padding and a position, 2: behind them one of a position and padding; plane:
 * bytes from channel to channel at `to`; pad: padding; gap, skip: bytes from what the end of a line leaves of `from` and
 * `to` to the next line. 18 cycles a pair, 16 a line. */
EC_ASM_FUNCTION void ec_dwp_tear(int8_t *to, const int8_t *from, int32_t step, int32_t pairs, int32_t edges,
                                 int32_t plane, uint32_t pad, int32_t lines, int32_t gap, int32_t skip)
{
    __asm__ volatile(
        "push {r4-r11,lr}\n ldr r12,[sp,#36]\n ldr r8,[sp,#40]\n ldr r10,[sp,#44]\n ldr lr,[sp,#48]\n"
        "ldr r11,[sp,#56]\n add r9,r8,r8,lsl #1\n str r3,[sp,#36]\n"
        "0:\n tst r12,#1\n beq 1f\n"
        "mov r4,r10\n ldr r5,[r1]\n add r1,r2\n" EC_DWP_PAIR
        "1:\n cbz r3,3f\n"
        "2:\n ldr r4,[r1]\n ldr r5,[r1,r2]\n add r1,r1,r2,lsl #1\n" EC_DWP_PAIR "subs r3,#1\n bne 2b\n"
        "3:\n tst r12,#2\n beq 4f\n"
        "ldr r4,[r1]\n mov r5,r10\n add r1,r2\n" EC_DWP_PAIR
        "4:\n ldr r4,[sp,#52]\n ldr r3,[sp,#36]\n add r1,r4\n add r0,r11\n subs lr,#1\n bne 0b\n"
        "pop {r4-r11,pc}\n");
}

/* Two multiplications of output y: xa, xb: its pairs; r1 w01, r2 w12. */
#define EC_DWP_EVEN(y, xa, xb, from) "smlad " y "," xa ",r1," from "\n smlabt " y "," xb ",r2," y "\n"
#define EC_DWP_ODD(y, xa, xb, from) "smlatb " y "," xa ",r1," from "\n smlad " y "," xb ",r2," y "\n"
#define EC_DWP_SELF(y) y

/* A kernel row of n outputs r5, r6 .... k: kernel row; o: byte offset of its line; from(y): what y is added
 * to. */
#define EC_DWP_ROW_LOAD2(k, o) "ldr r1,[sp,#8*" #k "]\n ldr r2,[sp,#8*" #k "+4]\n ldr r3,[r0,#" o "]\n ldr r4,[r0,#" o "+4]\n"
#define EC_DWP_ROW_LOAD3(k, o) EC_DWP_ROW_LOAD2(k, o) "ldr lr,[r0,#" o "+8]\n"
#define EC_DWP_ROW_1(k, o, from) EC_DWP_ROW_LOAD2(k, o) EC_DWP_EVEN("r5", "r3", "r4", from("r5"))
#define EC_DWP_ROW_2(k, o, from) EC_DWP_ROW_1(k, o, from) EC_DWP_ODD("r6", "r3", "r4", from("r6"))
#define EC_DWP_ROW_FIRST2(from) EC_DWP_EVEN("r5", "r3", "r4", from("r5")) EC_DWP_ODD("r6", "r3", "r4", from("r6"))
#define EC_DWP_ROW_3(k, o, from) EC_DWP_ROW_LOAD3(k, o) EC_DWP_ROW_FIRST2(from) EC_DWP_EVEN("r7", "r4", "lr", from("r7"))
#define EC_DWP_ROW_4(k, o, from) EC_DWP_ROW_3(k, o, from) EC_DWP_ODD("r8", "r4", "lr", from("r8"))
#define EC_DWP_ROW_5(k, o, from) EC_DWP_ROW_4(k, o, from) "ldr r3,[r0,#" o "+12]\n" EC_DWP_EVEN("r9", "lr", "r3", from("r9"))
#define EC_DWP_ROW_6(k, o, from) EC_DWP_ROW_5(k, o, from) EC_DWP_ODD("r10", "lr", "r3", from("r10"))
#define EC_DWP_ROW_7(k, o, from)                                                                                         \
    EC_DWP_ROW_4(k, o, from) "ldr r3,[r0,#" o "+12]\n ldr r4,[r0,#" o "+16]\n" EC_DWP_EVEN("r9", "lr", "r3", from("r9")) \
    EC_DWP_ODD("r10", "lr", "r3", from("r10")) EC_DWP_EVEN("r11", "r3", "r4", from("r11"))
#define EC_DWP_ROW_8(k, o, from) EC_DWP_ROW_7(k, o, from) EC_DWP_ODD("r12", "r3", "r4", from("r12"))

/* What the first kernel row adds to: the bias, which the last output's register holds until its turn. */
#define EC_DWP_BIAS_1(y) "r5"
#define EC_DWP_BIAS_2(y) "r6"
#define EC_DWP_BIAS_3(y) "r7"
#define EC_DWP_BIAS_4(y) "r8"
#define EC_DWP_BIAS_5(y) "r9"
#define EC_DWP_BIAS_6(y) "r10"
#define EC_DWP_BIAS_7(y) "r11"
#define EC_DWP_BIAS_8(y) "r12"

/* n times an instruction. */
#define EC_DWP_DO_1(op) op("r5")
#define EC_DWP_DO_2(op) EC_DWP_DO_1(op) op("r6")
#define EC_DWP_DO_3(op) EC_DWP_DO_2(op) op("r7")
#define EC_DWP_DO_4(op) EC_DWP_DO_3(op) op("r8")
#define EC_DWP_DO_5(op) EC_DWP_DO_4(op) op("r9")
#define EC_DWP_DO_6(op) EC_DWP_DO_5(op) op("r10")
#define EC_DWP_DO_7(op) EC_DWP_DO_6(op) op("r11")
#define EC_DWP_DO_8(op) EC_DWP_DO_7(op) op("r12")
#define EC_DWP_SCALE(y) "smmla " y "," y ",r1,r2\n"
#define EC_DWP_CLAMP(y) "ssat " y ",#8," y ",asr #8\n"

/* n stores at r3, r4 bytes apart, and r3 moved on. */
#define EC_DWP_OUT_1 "strb r5,[r3]\n add r3,r4\n"
#define EC_DWP_OUT_2 "strb r5,[r3]\n strb r6,[r3,r4]\n add r3,r3,r4,lsl #1\n"
#define EC_DWP_STORE3 "strb r5,[r3]\n strb r6,[r3,r4]\n strb r7,[r3,r4,lsl #1]\n"
#define EC_DWP_OUT_3 EC_DWP_STORE3 "add r3,r4\n add r3,r3,r4,lsl #1\n"
#define EC_DWP_STORE4 "add r1,r4,r4,lsl #1\n" EC_DWP_STORE3 "strb r8,[r3,r1]\n"
#define EC_DWP_OUT_4 EC_DWP_STORE4 "add r3,r3,r4,lsl #2\n"
#define EC_DWP_STORE5 EC_DWP_STORE4 "add r3,r3,r4,lsl #2\n strb r9,[r3]\n"
#define EC_DWP_OUT_5 EC_DWP_STORE5 "add r3,r4\n"
#define EC_DWP_OUT_6 EC_DWP_STORE5 "strb r10,[r3,r4]\n add r3,r3,r4,lsl #1\n"
#define EC_DWP_STORE7 EC_DWP_STORE5 "strb r10,[r3,r4]\n strb r11,[r3,r4,lsl #1]\n"
#define EC_DWP_OUT_7 EC_DWP_STORE7 "add r3,r1\n"
#define EC_DWP_OUT_8 EC_DWP_STORE7 "strb r12,[r3,r1]\n add r3,r3,r4,lsl #2\n"

/* n outputs; leaves the end of the whole blocks in lr. */
#define EC_DWP_BLOCK_0(pitch)
#define EC_DWP_BLOCK(pitch, n)                                                                                 \
    "ldr " EC_DWP_BIAS_##n(0) ",[sp,#24]\n" EC_DWP_ROW_##n(0, "0", EC_DWP_BIAS_##n)                            \
    EC_DWP_ROW_##n(1, #pitch, EC_DWP_SELF) EC_DWP_ROW_##n(2, "2*" #pitch, EC_DWP_SELF)                   \
    "ldr r1,[sp,#28]\n ldr r2,[sp,#32]\n ldr r3,[sp,#36]\n ldr r4,[sp,#40]\n ldr lr,[sp,#44]\n"                        \
    EC_DWP_DO_##n(EC_DWP_SCALE) EC_DWP_DO_##n(EC_DWP_CLAMP) EC_DWP_OUT_##n
#define EC_DWP_BLOCK_1(pitch) EC_DWP_BLOCK(pitch, 1)
#define EC_DWP_BLOCK_2(pitch) EC_DWP_BLOCK(pitch, 2)
#define EC_DWP_BLOCK_3(pitch) EC_DWP_BLOCK(pitch, 3)
#define EC_DWP_BLOCK_4(pitch) EC_DWP_BLOCK(pitch, 4)
#define EC_DWP_BLOCK_5(pitch) EC_DWP_BLOCK(pitch, 5)
#define EC_DWP_BLOCK_6(pitch) EC_DWP_BLOCK(pitch, 6)
#define EC_DWP_BLOCK_7(pitch) EC_DWP_BLOCK(pitch, 7)

/* One channel of a plane: `lines` lines of 8 * blocks + rest outputs. x: its torn lines, `pitch` bytes apart; w: eight
 * words; out: `step` bytes from output to output, gap: from the end of a line to the next; c: requantisation for a shift
 * of 8. One function each for pitch and rest, without whole blocks (_few) or with. */
#define EC_DWP_ARGS                                                                                                    \
    const int8_t *x, const uint32_t *w, int8_t *out, int32_t step, int32_t gap, int32_t c, int32_t lines, int32_t blocks
/* [sp]: 0 weights, 24 bias, 28 multiplier, 32 c, 36 out, 40 step, 44 end of the whole blocks, 48 gap, 52 from there to
 * the next line, 56 end of the lines; 60-95 saved, 96 gap, 100 c, 104 lines, 108 blocks */
#define EC_DWP_BEGIN(pitch)                                                                                    \
    "push {r4-r11,lr}\n sub sp,#60\n ldm r1,{r4-r11}\n stm sp,{r4-r11}\n"                                              \
    "ldr r4,[sp,#96]\n ldr r5,[sp,#100]\n ldr r6,[sp,#104]\n ldr r7,[sp,#108]\n"                                       \
    "str r5,[sp,#32]\n str r2,[sp,#36]\n str r3,[sp,#40]\n str r4,[sp,#48]\n"                                          \
    "mov r8,#" #pitch "\n mla r9,r6,r8,r0\n str r9,[sp,#56]\n"                                             \
    "lsls r7,r7,#4\n add r9,r0,r7\n str r9,[sp,#44]\n sub r8,r8,r7\n str r8,[sp,#52]\n"

#define EC_DWP(pitch, rest)                                                                                    \
    EC_ASM_FUNCTION void ec_dwp_##pitch##_##rest(EC_DWP_ARGS)                                               \
    {                                                                                                                  \
        __asm__ volatile(                                                                                              \
            EC_DWP_BEGIN(pitch)                                                                                \
            "1:\n" EC_DWP_BLOCK(pitch, 8)                                                                      \
            "adds r0,#16\n str r3,[sp,#36]\n cmp r0,lr\n bne 1b\n"                                         \
            EC_DWP_BLOCK_##rest(pitch)                                                                         \
            "ldr r1,[sp,#48]\n ldr r2,[sp,#52]\n ldr r4,[sp,#56]\n add r3,r1\n add r0,r2\n"                            \
            "add lr,#" #pitch "\n str r3,[sp,#36]\n str lr,[sp,#44]\n cmp r0,r4\n bne 1b\n"                \
            "add sp,#60\n pop {r4-r11,pc}\n");                                                                         \
    }
#define EC_DWP_FEW(pitch, n)                                                                                   \
    EC_ASM_FUNCTION void ec_dwp_##pitch##_few_##n(EC_DWP_ARGS)                                              \
    {                                                                                                                  \
        __asm__ volatile(                                                                                              \
            EC_DWP_BEGIN(pitch)                                                                                \
            "1:\n" EC_DWP_BLOCK(pitch, n)                                                                      \
            "ldr r1,[sp,#48]\n ldr r2,[sp,#56]\n add r3,r1\n add r0,#" #pitch "\n str r3,[sp,#36]\n"       \
            "cmp r0,r2\n bne 1b\n"                                                                                     \
            "add sp,#60\n pop {r4-r11,pc}\n");                                                                         \
    }
#define EC_DWP_RESTS(make, pitch)                                                                              \
    make(pitch, 0) make(pitch, 1) make(pitch, 2) make(pitch, 3)                        \
    make(pitch, 4) make(pitch, 5) make(pitch, 6) make(pitch, 7)
/* Every instance: make(pitch, rest), few(pitch, n). */
#define EC_DWP_ALL(make, few)                                                                                          \
    EC_DWP_RESTS(make, 32) EC_DWP_RESTS(make, 64) EC_DWP_RESTS(make, 128) EC_DWP_RESTS(make, 256)                      \
    few(16, 1) few(16, 2) few(16, 3) few(16, 4) few(16, 5) few(16, 6) few(32, 7)
EC_DWP_ALL(EC_DWP, EC_DWP_FEW)

#pragma GCC diagnostic pop

#endif
