/* ec_dwp.h (dsp): int8 depthwise 3x3 convolutions of stride 1 and 2 over planes: every line of four channels is torn apart
 * once, and serves all output lines that read it.
 *
 * A torn line holds, for each channel, int16 in pairs: (x0, x1), (x2, x3) ... With w01 = (w0, w1) and w12 = (w1, w2) of
 * a kernel row, y0 = x01 . w01 + x2 * w2 and, at stride 1, y1 = x1 * w0 + x23 . w12: six multiplications an output. Up to
 * eight neighbours are computed at a time: 109 cycles at stride 1, 127 at stride 2, of which 48 multiply and 24 requantise
 * and store. The stream has eight words a channel: w01, w12 of the three kernel rows, bias, multiplier; weights and bias
 * carry 2^(8-f), so that the final shift is always 8. */
#ifndef EC_DWP_H
#define EC_DWP_H

#include "ec_simd.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter" /* assembler reads them where the calling convention puts them */
#pragma GCC diagnostic ignored "-Woverlength-strings"

/* The words of a pair a, b of four channels, to four planes; changes a and b. */
#define EC_DWP_PAIR(a, b)                                                                                              \
    "pkhbt r11," a "," b ",lsl #16\n pkhtb " b "," b "," a ",asr #16\n sxtb16 " a ",r11\n sxtb16 r11,r11,ror #8\n"       \
    "sxtb16 r12," b "\n sxtb16 " b "," b ",ror #8\n str r11,[r0,r8]\n str r12,[r0,r8,lsl #1]\n str " b ",[r0,r9]\n"      \
    "str " a ",[r0],#4\n"

/* Tears apart lines of four channels. from: the first position, `step` bytes to the next; pairs: whole pairs of
 * positions; edges: 1: before them a pair of padding and a position, 2: behind them one of a position and padding; plane:
 * bytes from channel to channel at `to`; pad: padding; gap, skip: bytes from what the end of a line leaves of `from` and
 * `to` to the next line. 29 cycles for two pairs. */
#define EC_DWP_TEAR2                                                                                                   \
    "ldr r4,[r1]\n ldr r5,[r1,r2]\n ldr r6,[r1,r2,lsl #1]\n ldr r7,[r1,r10]\n add r1,r1,r2,lsl #2\n"                   \
    EC_DWP_PAIR("r4", "r5") EC_DWP_PAIR("r6", "r7") "subs lr,#2\n"
EC_ASM_FUNCTION void ec_dwp_tear(int8_t *to, const int8_t *from, int32_t step, int32_t pairs, int32_t edges,
                                 int32_t plane, uint32_t pad, int32_t lines, int32_t gap, int32_t skip)
{
    __asm__ volatile(
        /* [sp]: 0-35 saved, 36 edges, 40 plane, 44 pad, 48 lines, 52 gap, 56 skip */
        "push {r4-r11,lr}\n ldr r8,[sp,#40]\n add r9,r8,r8,lsl #1\n add r10,r2,r2,lsl #1\n"
        "0:\n ldr r12,[sp,#36]\n ldr r4,[sp,#44]\n lsls r12,r12,#31\n bpl 1f\n" /* N: left edge */
        "ldr r5,[r1]\n add r1,r2\n" EC_DWP_PAIR("r4", "r5")
        "1:\n subs lr,r3,#2\n blt 3f\n"
        "2:\n" EC_DWP_TEAR2 "blt 3f\n" EC_DWP_TEAR2 "bge 2b\n"
        "3:\n lsls lr,lr,#31\n bpl 5f\n" /* N: one left */
        "ldr r4,[r1]\n ldr r5,[r1,r2]\n add r1,r1,r2,lsl #1\n" EC_DWP_PAIR("r4", "r5")
        "5:\n ldr r12,[sp,#36]\n ldr r5,[sp,#44]\n cmp r12,#2\n blt 6f\n"
        "ldr r4,[r1]\n add r1,r2\n" EC_DWP_PAIR("r4", "r5")
        "6:\n ldr r4,[sp,#52]\n ldr r5,[sp,#56]\n ldr r6,[sp,#48]\n add r1,r4\n add r0,r5\n subs r6,#1\n str r6,[sp,#48]\n"
        "bne 0b\n pop {r4-r11,pc}\n");
}

/* Two multiplications of output y: xa, xb: its pairs; r1 w01, r2 w12; from: what they are added to. */
#define EC_DWP_EVEN(y, xa, xb, from) "smlad " y "," xa ",r1," from "\n smlabt " y "," xb ",r2," y "\n"
#define EC_DWP_ODD(y, xa, xb, from) "smlatb " y "," xa ",r1," from "\n smlad " y "," xb ",r2," y "\n"

/* Kernel row k of n outputs r5, r6 ... at a stride. o: byte offset of its line; from(y): what y is added to. The pairs
 * take turns in r3, r4, lr and the registers of outputs that are not there. */
#define EC_DWP_LOAD2(k, o) "ldr r1,[sp,#8*" #k "]\n ldr r2,[sp,#8*" #k "+4]\n ldr r3,[r0,#" o "]\n ldr r4,[r0,#" o "+4]\n"
#define EC_DWP_LOAD3(k, o) EC_DWP_LOAD2(k, o) "ldr lr,[r0,#" o "+8]\n"
#define EC_DWP_LOAD4(k, o) EC_DWP_LOAD3(k, o) "ldr r12,[r0,#" o "+12]\n"
#define EC_DWP_LOAD5(k, o) EC_DWP_LOAD4(k, o) "ldr r11,[r0,#" o "+16]\n"

#define EC_DWP_FIRST1(from) EC_DWP_EVEN("r5", "r3", "r4", from("r5"))
#define EC_DWP_FIRST2(from) EC_DWP_FIRST1(from) EC_DWP_ODD("r6", "r3", "r4", from("r6"))
#define EC_DWP_FIRST3(from) EC_DWP_FIRST2(from) EC_DWP_EVEN("r7", "r4", "lr", from("r7"))
#define EC_DWP_FIRST4(from) EC_DWP_FIRST3(from) EC_DWP_ODD("r8", "r4", "lr", from("r8"))
#define EC_DWP_ROW_1_1(k, o, from) EC_DWP_LOAD2(k, o) EC_DWP_FIRST1(from)
#define EC_DWP_ROW_1_2(k, o, from) EC_DWP_LOAD2(k, o) EC_DWP_FIRST2(from)
#define EC_DWP_ROW_1_3(k, o, from) EC_DWP_LOAD3(k, o) EC_DWP_FIRST3(from)
#define EC_DWP_ROW_1_4(k, o, from) EC_DWP_LOAD3(k, o) EC_DWP_FIRST4(from)
#define EC_DWP_ROW_1_5(k, o, from) EC_DWP_LOAD4(k, o) EC_DWP_FIRST4(from) EC_DWP_EVEN("r9", "lr", "r12", from("r9"))
#define EC_DWP_ROW_1_6(k, o, from) EC_DWP_ROW_1_5(k, o, from) EC_DWP_ODD("r10", "lr", "r12", from("r10"))
#define EC_DWP_ROW_1_7(k, o, from)                                                                                     \
    EC_DWP_LOAD3(k, o) EC_DWP_FIRST4(from) "ldr r3,[r0,#" o "+12]\n ldr r4,[r0,#" o "+16]\n"                           \
    EC_DWP_EVEN("r9", "lr", "r3", from("r9")) EC_DWP_ODD("r10", "lr", "r3", from("r10"))                               \
    EC_DWP_EVEN("r11", "r3", "r4", from("r11"))
#define EC_DWP_ROW_1_8(k, o, from) EC_DWP_ROW_1_7(k, o, from) EC_DWP_ODD("r12", "r3", "r4", from("r12"))

#define EC_DWP_ROW_2_1(k, o, from) EC_DWP_LOAD2(k, o) EC_DWP_FIRST1(from)
#define EC_DWP_BOTH(from) EC_DWP_FIRST1(from) EC_DWP_EVEN("r6", "r4", "lr", from("r6"))
#define EC_DWP_ROW_2_2(k, o, from) EC_DWP_LOAD3(k, o) EC_DWP_BOTH(from)
#define EC_DWP_THREE(from) EC_DWP_BOTH(from) EC_DWP_EVEN("r7", "lr", "r12", from("r7"))
#define EC_DWP_ROW_2_3(k, o, from) EC_DWP_LOAD4(k, o) EC_DWP_THREE(from)
#define EC_DWP_ROW_2_4(k, o, from) EC_DWP_LOAD5(k, o) EC_DWP_THREE(from) EC_DWP_EVEN("r8", "r12", "r11", from("r8"))
#define EC_DWP_ROW_2_5(k, o, from)                                                                                     \
    EC_DWP_ROW_2_4(k, o, from) "ldr r3,[r0,#" o "+20]\n" EC_DWP_EVEN("r9", "r11", "r3", from("r9"))
#define EC_DWP_ROW_2_6(k, o, from)                                                                                     \
    EC_DWP_ROW_2_4(k, o, from) "ldr r3,[r0,#" o "+20]\n ldr r4,[r0,#" o "+24]\n"                                       \
    EC_DWP_EVEN("r9", "r11", "r3", from("r9")) EC_DWP_EVEN("r10", "r3", "r4", from("r10"))
#define EC_DWP_ROW_2_SIX(k, o, from)                                                                                   \
    EC_DWP_LOAD3(k, o) EC_DWP_BOTH(from) "ldr r3,[r0,#" o "+12]\n ldr r4,[r0,#" o "+16]\n"                             \
    EC_DWP_EVEN("r7", "lr", "r3", from("r7")) EC_DWP_EVEN("r8", "r3", "r4", from("r8"))                                \
    "ldr lr,[r0,#" o "+20]\n ldr r3,[r0,#" o "+24]\n"                                                                  \
    EC_DWP_EVEN("r9", "r4", "lr", from("r9")) EC_DWP_EVEN("r10", "lr", "r3", from("r10"))
#define EC_DWP_ROW_2_7(k, o, from)                                                                                     \
    EC_DWP_ROW_2_SIX(k, o, from) "ldr r4,[r0,#" o "+28]\n" EC_DWP_EVEN("r11", "r3", "r4", from("r11"))
#define EC_DWP_ROW_2_8(k, o, from)                                                                                     \
    EC_DWP_ROW_2_SIX(k, o, from) "ldr r4,[r0,#" o "+28]\n ldr lr,[r0,#" o "+32]\n"                                     \
    EC_DWP_EVEN("r11", "r3", "r4", from("r11")) EC_DWP_EVEN("r12", "r4", "lr", from("r12"))

/* The last of n outputs. Its register holds the bias until its turn in the first kernel row. */
#define EC_DWP_LAST_1(y) "r5"
#define EC_DWP_LAST_2(y) "r6"
#define EC_DWP_LAST_3(y) "r7"
#define EC_DWP_LAST_4(y) "r8"
#define EC_DWP_LAST_5(y) "r9"
#define EC_DWP_LAST_6(y) "r10"
#define EC_DWP_LAST_7(y) "r11"
#define EC_DWP_LAST_8(y) "r12"
#define EC_DWP_SELF(y) y

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

/* n stores at r3, r4 bytes apart. */
#define EC_DWP_OUT_1 "strb r5,[r3]\n"
#define EC_DWP_OUT_2 EC_DWP_OUT_1 "strb r6,[r3,r4]\n"
#define EC_DWP_OUT_3 EC_DWP_OUT_2 "strb r7,[r3,r4,lsl #1]\n"
#define EC_DWP_OUT_4 EC_DWP_OUT_3 "add r1,r4,r4,lsl #1\n strb r8,[r3,r1]\n"
#define EC_DWP_OUT_5 EC_DWP_OUT_4 "strb r9,[r3,r4,lsl #2]\n"
#define EC_DWP_OUT_6 EC_DWP_OUT_5 "add lr,r3,r4\n strb r10,[lr,r4,lsl #2]\n"
#define EC_DWP_OUT_7 EC_DWP_OUT_6 "strb r11,[r3,r1,lsl #1]\n"
#define EC_DWP_OUT_8 EC_DWP_OUT_7 "strb r12,[lr,r1,lsl #1]\n"

/* n outputs; leaves their address in r3, the step in r4. */
#define EC_DWP_BLOCK(s, n)                                                                                             \
    "ldr " EC_DWP_LAST_##n(0) ",[sp,#24]\n" EC_DWP_ROW_##s##_##n(0, "o", EC_DWP_LAST_##n)                              \
    EC_DWP_ROW_##s##_##n(1, "line+o", EC_DWP_SELF) EC_DWP_ROW_##s##_##n(2, "2*line+o", EC_DWP_SELF)                    \
    "ldr r1,[sp,#28]\n ldr r2,[sp,#100]\n ldr r3,[sp,#32]\n ldr r4,[sp,#36]\n"                                         \
    EC_DWP_DO_##n(EC_DWP_SCALE) EC_DWP_DO_##n(EC_DWP_CLAMP) EC_DWP_OUT_##n
#define EC_DWP_REST_0(s)
#define EC_DWP_REST_1(s) EC_DWP_BLOCK(s, 1)
#define EC_DWP_REST_2(s) EC_DWP_BLOCK(s, 2)
#define EC_DWP_REST_3(s) EC_DWP_BLOCK(s, 3)
#define EC_DWP_REST_4(s) EC_DWP_BLOCK(s, 4)
#define EC_DWP_REST_5(s) EC_DWP_BLOCK(s, 5)
#define EC_DWP_REST_6(s) EC_DWP_BLOCK(s, 6)
#define EC_DWP_REST_7(s) EC_DWP_BLOCK(s, 7)

/* Bytes of a torn line of n outputs of one channel at stride s. */
#define EC_DWP_LINE(s, n) ((s) == 1 ? ((n) + 3) / 2 * 4 : ((n) + 1) * 4)
#define EC_DWP_LINE_1(n) "((" n "+3)/2*4)"
#define EC_DWP_LINE_2(n) "((" n "+1)*4)"

/* ec_dwp for 8 * b + r outputs, unrolled. gap: bytes from behind the last whole block of eight to the next line. */
#define EC_DWP_ARGS                                                                                                    \
    const int8_t *x, const uint32_t *w, int8_t *out, int32_t step, int32_t gap, int32_t c, int32_t lines, int32_t plane
/* [sp]: 0 weights, 24 bias, 28 multiplier, 32 out, 36 step, 40 end of the lines, 44 w, 48 out of the channel, 52 bytes of
 * the lines, 56 channels left; 60-95 saved, 96 gap, 100 c, 104 lines, 108 from the end of the lines to the next channel */
#define EC_DWP(s, b, r)                                                                                                \
    EC_ASM_FUNCTION void ec_dwp_##s##_##b##_##r(EC_DWP_ARGS)                                                           \
    {                                                                                                                  \
        __asm__ volatile(                                                                                              \
            ".set line," EC_DWP_LINE_##s("(8*" #b "+" #r ")") "\n"                                                     \
            "push {r4-r11,lr}\n sub sp,#60\n ldr r4,[sp,#104]\n ldr r5,[sp,#108]\n movw r6,#" #s "*line\n"             \
            "muls r4,r6\n subs r5,r5,r4\n movs r6,#4\n str r5,[sp,#108]\n str r4,[sp,#52]\n str r6,[sp,#56]\n"         \
            "str r1,[sp,#44]\n str r2,[sp,#48]\n str r3,[sp,#36]\n"                                                    \
            "0:\n ldr r1,[sp,#44]\n ldr r2,[sp,#48]\n ldr r3,[sp,#52]\n ldm r1!,{r4-r11}\n stm sp,{r4-r11}\n"          \
            "str r1,[sp,#44]\n str r2,[sp,#32]\n adds r2,#1\n add r3,r0\n str r2,[sp,#48]\n str r3,[sp,#40]\n"         \
            "1:\n .set o,0\n .rept " #b "\n" EC_DWP_BLOCK(s, 8)                                                        \
            "add r3,r3,r4,lsl #3\n str r3,[sp,#32]\n .set o,o+16*" #s "\n .endr\n" EC_DWP_REST_##r(s)                  \
            "ldr r1,[sp,#96]\n ldr r4,[sp,#40]\n addw r0,r0,#" #s "*line\n add r3,r1\n str r3,[sp,#32]\n"              \
            "cmp r0,r4\n bne.w 1b\n"                                                                                   \
            "ldr r1,[sp,#108]\n ldr r2,[sp,#56]\n add r0,r1\n subs r2,#1\n str r2,[sp,#56]\n bne.w 0b\n"               \
            "add sp,#60\n pop {r4-r11,pc}\n");                                                                         \
    }
#define EC_DWP_RESTS(make, s, b)                                                                                       \
    make(s, b, 1) make(s, b, 2) make(s, b, 3) make(s, b, 4) make(s, b, 5) make(s, b, 6) make(s, b, 7)
#define EC_DWP_STRIDE(make, s)                                                                                         \
    EC_DWP_RESTS(make, s, 0) make(s, 1, 0) EC_DWP_RESTS(make, s, 1) make(s, 2, 0) EC_DWP_RESTS(make, s, 2)             \
    make(s, 3, 0) EC_DWP_RESTS(make, s, 3) make(s, 4, 0) EC_DWP_RESTS(make, s, 4) make(s, 5, 0)                        \
    EC_DWP_RESTS(make, s, 5) make(s, 6, 0)
#define EC_DWP_ALL(make) EC_DWP_STRIDE(make, 1) EC_DWP_STRIDE(make, 2)
EC_DWP_ALL(EC_DWP)

/* Lines of n <= EC_DWP_WIDEST outputs of four channels at stride s, 1 or 2. x: their torn lines, `plane` bytes from channel
 * to channel; w: 32 words; out: `step` bytes from output to output, `line` from line to line; c: requantisation for a shift
 * of 8. */
#define EC_DWP_WIDEST 48
#define EC_DWP_CALL(s_, b, r)                                                                                          \
    if (s == s_ && n == 8 * b + r) {                                                                                   \
        ec_dwp_##s_##_##b##_##r(x, w, out, step, line - 8 * b * step, c, lines, plane);                                \
    }
EC_KERNEL void ec_dwp(int32_t s, int32_t n, const int8_t *x, const uint32_t *w, int8_t *out, int32_t step, int32_t line,
                      int32_t c, int32_t lines, int32_t plane)
{
    EC_DWP_ALL(EC_DWP_CALL)
}

#pragma GCC diagnostic pop

#endif
