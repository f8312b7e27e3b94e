/* ec_dw.h (dsp): one row of an int8 depthwise 3x3 convolution, four channels at a time.
 *
 * First the three input rows of four channels are torn apart into int16 pairs: for two neighbouring columns and one
 * channel the words P0 = (top, middle) of the first column, P1 = the same of the second, Q = (first, second) of the
 * bottom row: 12 words, 48 bytes, for four channels. Then each channel keeps five weight words in registers,
 * W0 W1 W2 = (top, middle) of the kernel's columns, V01 and V12 = two neighbours of its bottom row, and an output is
 * three SMLAD with P and two multiplications with Q. The stream has per channel W0 W1 W2 V01 V12, bias, multiplier;
 * weights and bias carry 2^(8-f), so that the final shift is always 8. */
#ifndef EC_DW_H
#define EC_DW_H

#include "ec_simd.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter" /* assembler reads them where the calling convention puts them */
#pragma GCC diagnostic ignored "-Woverlength-strings"

/* [sp] of both functions: 0 how far a channel moves x, less 12; 4 end of the blocks of channel 0; 8 w; 12 how far a
 * channel moves out, negated, plus 1; 16 out; 20 bias; 24 multiplier; 28 first block; 32 last block; 36 byte offset of
 * the channels; 40 x; 44 x of channel 4; 48 rows; 52-87 saved; 88 in_step; 92 out_step; 96 pairs; 100 edges; 104 pad;
 * 108 out_w; 112 c; 116 groups */

/* Three words (top, middle: lo hi; other: the bottom of this column and of the next) of four channels, torn apart. */
#define EC_DW_PAIR(lo, hi, o0, o1, o2, o3)                                                                             \
    "pkhbt r12," lo "," hi ",lsl #16\n pkhtb " hi "," hi "," lo ",asr #16\n sxtb16 " lo ",r12\n"                       \
    "sxtb16 r12,r12,ror #8\n str " lo ",[r0,#" #o0 "]\n str r12,[r0,#" #o1 "]\n sxtb16 " lo "," hi "\n"                \
    "sxtb16 " hi "," hi ",ror #8\n str " lo ",[r0,#" #o2 "]\n str " hi ",[r0,#" #o3 "]\n"

/* Tears apart the columns: at the left edge (padding, column 0), then pairs of columns, at the right edge (column,
 * padding), 44 cycles each. */
#define EC_DW_TEAR                                                                                                     \
    "1:\n"                                                                                                             \
    "ldr r0,[sp,#40]\n ldr r1,[sp,#48]\n ldr r10,[sp,#36]\n ldr r11,[sp,#88]\n ldr lr,[sp,#96]\n ldr r12,[sp,#100]\n"  \
    "ldr r4,[sp,#104]\n ldm r1,{r1-r3}\n"                                                                              \
    "lsls r12,r12,#31\n bpl 4f\n" /* N: left edge */                                                                   \
    "add lr,lr,#1\n mov r5,r4\n mov r6,r4\n b 3f\n"                                                                    \
    "2:\n ldr r4,[r1,r10]\n ldr r5,[r2,r10]\n ldr r6,[r3,r10]\n add r10,r11\n"                                         \
    "3:\n ldr r7,[r1,r10]\n ldr r8,[r2,r10]\n ldr r9,[r3,r10]\n add r10,r11\n"                                         \
    "5:\n" EC_DW_PAIR("r4", "r5", 0, 12, 24, 36) EC_DW_PAIR("r7", "r8", 4, 16, 28, 40)                                 \
    EC_DW_PAIR("r6", "r9", 8, 20, 32, 44)                                                                              \
    "adds r0,#48\n subs lr,#1\n bgt 2b\n blt 6f\n"                                                                     \
    "7:\n ldr r7,[sp,#100]\n cmp r7,#2\n blt 6f\n" /* right edge */                                                    \
    "ldr r4,[r1,r10]\n ldr r5,[r2,r10]\n ldr r6,[r3,r10]\n ldr r7,[sp,#104]\n mov r8,r7\n mov r9,r7\n b 5b\n"          \
    "4:\n cmp lr,#0\n bgt 2b\n b 7b\n"                                                                                 \
    "6:\n"

/* For each channel its weights, and to its first block; r9 is the bias. */
#define EC_DW_CHANNEL                                                                                                  \
    "ldr r0,[sp,#40]\n"                                                                                                \
    "8:\n ldr r1,[sp,#8]\n ldm r1!,{r4-r10}\n str r9,[sp,#20]\n str r10,[sp,#24]\n str r1,[sp,#8]\n ldr pc,[sp,#28]\n"

/* After a channel's last block: the next channel, the next four. */
#define EC_DW_NEXT                                                                                                     \
    "ldr r1,[sp,#16]\n ldr r2,[sp,#12]\n ldr r3,[sp,#0]\n ldr lr,[sp,#44]\n"                                           \
    "adds r1,r2\n str r1,[sp,#16]\n subs r0,r0,r3\n cmp r0,lr\n bne 8b\n"                                             \
    "ldr r3,[sp,#36]\n ldr r4,[sp,#116]\n adds r3,#4\n subs r4,#1\n str r3,[sp,#36]\n str r4,[sp,#116]\n bne 1b\n"    \
    "add sp,#52\n pop {r4-r11,pc}\n"

/* r9-r12 requantised and stored, out_step bytes apart; out moved on. r2 multiplier, r3 c; leaves the end of x in r2. */
#define EC_DW_OUT4                                                                                                     \
    "smmla r9,r9,r2,r3\n smmla r10,r10,r2,r3\n smmla r11,r11,r2,r3\n smmla r12,r12,r2,r3\n"                            \
    "ldr r1,[sp,#92]\n ldr r2,[sp,#4]\n ldr lr,[sp,#16]\n"                                                             \
    "ssat r9,#8,r9,asr #8\n ssat r10,#8,r10,asr #8\n ssat r11,#8,r11,asr #8\n ssat r12,#8,r12,asr #8\n"                \
    "strb r9,[lr]\n strb r11,[lr,r1,lsl #1]\n add lr,lr,r1\n strb r10,[lr]\n strb r12,[lr,r1,lsl #1]\n"                \
    "add lr,lr,r1\n add lr,lr,r1,lsl #1\n str lr,[sp,#16]\n"

/* rows: three row pointers; w: stream; out: [out_w][out_step]; x: scratch of 48 bytes for two columns; in_step: bytes
 * from column to column; pairs: pairs of columns inside the row; edges: 1 left, 2 right; pad: four bytes of padding;
 * out_w >= 2; c: requantisation for a shift of 8; groups of four channels. */
EC_ASM_FUNCTION void ec_dw3_s1(const int8_t *const *rows, const uint32_t *w, int8_t *out, int8_t *x, int32_t in_step,
                               int32_t out_step, int32_t pairs, int32_t edges, uint32_t pad, int32_t out_w, int32_t c,
                               int32_t groups)
{
    __asm__ volatile(
        "push {r4-r11,lr}\n sub sp,#52\n"
        "str r1,[sp,#8]\n str r2,[sp,#16]\n str r3,[sp,#40]\n str r0,[sp,#48]\n"
        "movs r4,#0\n str r4,[sp,#36]\n add r4,r3,#48\n str r4,[sp,#44]\n"
        /* out_w = 4 blocks + last, last in {0, 2, 3, 5} */
        "ldr r4,[sp,#108]\n and r5,r4,#3\n cmp r5,#1\n it eq\n moveq r5,#5\n subs r4,r4,r5\n"
        "movs r6,#24\n muls r6,r4\n adds r7,r3,r6\n str r7,[sp,#4]\n subs r6,#12\n str r6,[sp,#0]\n"
        "ldr r6,[sp,#92]\n muls r6,r4\n rsb r6,r6,#1\n str r6,[sp,#12]\n"
        "adr r6,13f\n cmp r5,#2\n it eq\n adreq r6,10f\n cmp r5,#3\n it eq\n adreq r6,11f\n"
        "cmp r5,#5\n it eq\n adreq r6,12f\n adds r6,#1\n str r6,[sp,#32]\n"
        "cmp r4,#0\n ite eq\n addeq r6,#4\n adrne r6,9f+5\n str r6,[sp,#28]\n" /* past the load of the bias */
        EC_DW_TEAR
        EC_DW_CHANNEL
        ".balign 4\n9:\n" /* four outputs, 59 cycles */
        "ldr r9,[sp,#20]\n ldr r1,[r0]\n ldr r2,[r0,#4]\n ldr r3,[r0,#48]\n ldr lr,[r0,#52]\n"
        "smlad r10,r2,r4,r9\n smlad r11,r3,r4,r9\n smlad r12,lr,r4,r9\n smlad r9,r1,r4,r9\n smlad r9,r2,r5,r9\n"
        "smlad r9,r3,r6,r9\n smlad r10,r3,r5,r10\n smlad r10,lr,r6,r10\n smlad r11,lr,r5,r11\n"
        "ldr r1,[r0,#96]!\n ldr r2,[r0,#4]\n ldr r3,[r0,#-88]\n ldr lr,[r0,#-40]\n"
        "smlad r11,r1,r6,r11\n smlad r12,r1,r5,r12\n smlad r12,r2,r6,r12\n"
        "smlad r9,r3,r7,r9\n smlabt r9,lr,r8,r9\n smlatb r10,r3,r7,r10\n smlad r10,lr,r8,r10\n smlad r11,lr,r7,r11\n"
        "smlatb r12,lr,r7,r12\n"
        "ldr r1,[r0,#8]\n ldr r2,[sp,#24]\n ldr r3,[sp,#112]\n smlabt r11,r1,r8,r11\n smlad r12,r1,r8,r12\n"
        EC_DW_OUT4
        "cmp r0,r2\n blo 9b\n"
        "ldr pc,[sp,#32]\n"
        ".balign 4\n10:\n" /* two */
        "ldr r9,[sp,#20]\n ldr r1,[r0]\n ldr r2,[r0,#4]\n ldr r3,[r0,#48]\n ldr lr,[r0,#52]\n"
        "smlad r10,r2,r4,r9\n smlad r9,r1,r4,r9\n smlad r9,r2,r5,r9\n smlad r9,r3,r6,r9\n smlad r10,r3,r5,r10\n"
        "smlad r10,lr,r6,r10\n"
        "ldr r1,[r0,#8]\n ldr r2,[r0,#56]\n ldr r3,[sp,#112]\n ldr lr,[sp,#16]\n ldr r11,[sp,#24]\n ldr r12,[sp,#92]\n"
        "smlad r9,r1,r7,r9\n smlabt r9,r2,r8,r9\n smlatb r10,r1,r7,r10\n smlad r10,r2,r8,r10\n"
        "smmla r9,r9,r11,r3\n smmla r10,r10,r11,r3\n ssat r9,#8,r9,asr #8\n ssat r10,#8,r10,asr #8\n"
        "strb r9,[lr]\n strb r10,[lr,r12]\n b 13f\n"
        ".balign 4\n11:\n" /* three */
        "ldr r9,[sp,#20]\n ldr r1,[r0]\n ldr r2,[r0,#4]\n ldr r3,[r0,#48]\n ldr r12,[r0,#52]\n ldr lr,[r0,#96]\n"
        "smlad r10,r2,r4,r9\n smlad r11,r3,r4,r9\n smlad r9,r1,r4,r9\n smlad r9,r2,r5,r9\n smlad r9,r3,r6,r9\n"
        "smlad r10,r3,r5,r10\n smlad r10,r12,r6,r10\n smlad r11,r12,r5,r11\n smlad r11,lr,r6,r11\n"
        "ldr r1,[r0,#8]\n ldr r2,[r0,#56]\n ldr r3,[r0,#104]\n ldr r12,[sp,#16]\n ldr lr,[sp,#92]\n"
        "smlad r9,r1,r7,r9\n smlabt r9,r2,r8,r9\n smlatb r10,r1,r7,r10\n smlad r10,r2,r8,r10\n smlad r11,r2,r7,r11\n"
        "smlabt r11,r3,r8,r11\n"
        "ldr r1,[sp,#24]\n ldr r2,[sp,#112]\n smmla r9,r9,r1,r2\n smmla r10,r10,r1,r2\n smmla r11,r11,r1,r2\n"
        "ssat r9,#8,r9,asr #8\n ssat r10,#8,r10,asr #8\n ssat r11,#8,r11,asr #8\n"
        "strb r9,[r12]\n strb r10,[r12,lr]\n strb r11,[r12,lr,lsl #1]\n b 13f\n"
        ".balign 4\n12:\n" /* five */
        "ldr r9,[sp,#20]\n ldr r1,[r0]\n ldr r2,[r0,#4]\n ldr r3,[r0,#48]\n ldr r12,[r0,#52]\n ldr lr,[r0,#96]\n"
        "smlad r10,r2,r4,r9\n smlad r11,r3,r4,r9\n smlad r10,r3,r5,r10\n smlad r10,r12,r6,r10\n smlad r11,r12,r5,r11\n"
        "smlad r11,lr,r6,r11\n smlad r12,r12,r4,r9\n smlad r12,lr,r5,r12\n smlad lr,lr,r4,r9\n smlad r9,r1,r4,r9\n"
        "smlad r9,r2,r5,r9\n smlad r9,r3,r6,r9\n"
        "ldr r1,[r0,#100]\n ldr r2,[r0,#144]\n ldr r3,[r0,#8]\n"
        "smlad r12,r1,r6,r12\n smlad lr,r1,r5,lr\n smlad lr,r2,r6,lr\n smlad r9,r3,r7,r9\n smlatb r10,r3,r7,r10\n"
        "ldr r1,[r0,#56]\n ldr r2,[r0,#104]\n ldr r3,[r0,#152]\n"
        "smlabt r9,r1,r8,r9\n smlad r10,r1,r8,r10\n smlad r11,r1,r7,r11\n smlabt r11,r2,r8,r11\n smlatb r12,r1,r7,r12\n"
        "smlad r12,r2,r8,r12\n smlad lr,r2,r7,lr\n smlabt lr,r3,r8,lr\n"
        "ldr r1,[sp,#24]\n ldr r2,[sp,#112]\n ldr r3,[sp,#16]\n"
        "smmla r9,r9,r1,r2\n smmla r10,r10,r1,r2\n smmla r11,r11,r1,r2\n smmla r12,r12,r1,r2\n smmla lr,lr,r1,r2\n"
        "ldr r1,[sp,#92]\n"
        "ssat r9,#8,r9,asr #8\n ssat r10,#8,r10,asr #8\n ssat r11,#8,r11,asr #8\n ssat r12,#8,r12,asr #8\n"
        "ssat lr,#8,lr,asr #8\n add r2,r3,r1\n"
        "strb r9,[r3]\n strb r10,[r2]\n strb r11,[r3,r1,lsl #1]\n strb r12,[r2,r1,lsl #1]\n strb lr,[r3,r1,lsl #2]\n"
        ".balign 4\n13:\n"
        EC_DW_NEXT);
}

/* The same for every second column: the window of output o begins at column pair o. out_w >= 1. */
EC_ASM_FUNCTION void ec_dw3_s2(const int8_t *const *rows, const uint32_t *w, int8_t *out, int8_t *x, int32_t in_step,
                               int32_t out_step, int32_t pairs, int32_t edges, uint32_t pad, int32_t out_w, int32_t c,
                               int32_t groups)
{
    __asm__ volatile(
        "push {r4-r11,lr}\n sub sp,#52\n"
        "str r1,[sp,#8]\n str r2,[sp,#16]\n str r3,[sp,#40]\n str r0,[sp,#48]\n"
        "movs r4,#0\n str r4,[sp,#36]\n add r4,r3,#48\n str r4,[sp,#44]\n"
        /* out_w = 4 blocks + last, one by one */
        "ldr r4,[sp,#108]\n and r5,r4,#3\n subs r4,r4,r5\n"
        "movs r6,#48\n mla r7,r4,r6,r3\n str r7,[sp,#4]\n"
        "ldr r7,[sp,#108]\n muls r6,r7\n subs r6,#12\n str r6,[sp,#0]\n"
        "ldr r6,[sp,#92]\n muls r6,r7\n rsb r6,r6,#1\n str r6,[sp,#12]\n"
        "adr r6,13f\n cmp r5,#0\n it ne\n adrne r6,10f\n adds r6,#1\n str r6,[sp,#32]\n"
        "cmp r4,#0\n it ne\n adrne r6,9f+5\n str r6,[sp,#28]\n" /* past the load of the bias */
        EC_DW_TEAR
        EC_DW_CHANNEL
        ".balign 4\n9:\n" /* four outputs, 67 cycles */
        "ldr r9,[sp,#20]\n ldr r1,[r0]\n ldr r2,[r0,#4]\n ldr r3,[r0,#48]\n ldr lr,[r0,#52]\n"
        "mov r11,r9\n mov r12,r9\n smlad r10,r3,r4,r9\n smlad r9,r1,r4,r9\n smlad r9,r2,r5,r9\n smlad r9,r3,r6,r9\n"
        "smlad r10,lr,r5,r10\n"
        "ldr r1,[r0,#96]\n ldr r2,[r0,#100]\n ldr r3,[r0,#144]\n ldr lr,[r0,#148]\n"
        "smlad r10,r1,r6,r10\n smlad r11,r1,r4,r11\n smlad r11,r2,r5,r11\n smlad r11,r3,r6,r11\n smlad r12,r3,r4,r12\n"
        "smlad r12,lr,r5,r12\n"
        "ldr r1,[r0,#192]!\n ldr r2,[r0,#-184]\n ldr r3,[r0,#-136]\n ldr lr,[r0,#-88]\n"
        "smlad r12,r1,r6,r12\n smlad r9,r2,r7,r9\n smlabt r9,r3,r8,r9\n smlad r10,r3,r7,r10\n smlabt r10,lr,r8,r10\n"
        "smlad r11,lr,r7,r11\n"
        "ldr r1,[r0,#-40]\n ldr lr,[r0,#8]\n ldr r2,[sp,#24]\n ldr r3,[sp,#112]\n"
        "smlabt r11,r1,r8,r11\n smlad r12,r1,r7,r12\n smlabt r12,lr,r8,r12\n"
        EC_DW_OUT4
        "cmp r0,r2\n blo 9b\n"
        "ldr pc,[sp,#32]\n"
        ".balign 4\n10:\n" /* one, until the last */
        "ldr r10,[sp,#108]\n and r10,r10,#3\n"
        "11:\n"
        "ldr r9,[sp,#20]\n ldr r1,[r0]\n ldr r2,[r0,#4]\n ldr r3,[r0,#48]!\n ldr r11,[r0,#-40]\n ldr r12,[r0,#8]\n"
        "smlad r9,r1,r4,r9\n smlad r9,r2,r5,r9\n smlad r9,r3,r6,r9\n smlad r9,r11,r7,r9\n smlabt r9,r12,r8,r9\n"
        "ldr r1,[sp,#24]\n ldr r2,[sp,#112]\n ldr r3,[sp,#16]\n ldr r11,[sp,#92]\n"
        "smmla r9,r9,r1,r2\n ssat r9,#8,r9,asr #8\n strb r9,[r3]\n add r3,r11\n str r3,[sp,#16]\n"
        "subs r10,#1\n bne 11b\n"
        ".balign 4\n13:\n"
        EC_DW_NEXT);
}

#pragma GCC diagnostic pop

#endif
