/* ec_dwn.h (dsp): an int8 depthwise convolution of any size, four channels at a time, taps in pairs.
 *
 * A torn row pair is [columns][4 channels] words of two int16, the taps that one SMLAD takes: of two rows in one
 * column, or of two columns in one row. The stream of four channels: 4 biases, 4 multipliers, then per tap pair 4
 * words; weights and biases carry 2^(8-f), so that the final shift is always 8. */
#ifndef EC_DWN_H
#define EC_DWN_H

#include "ec_simd.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter" /* assembler reads them where the calling convention puts them */
#pragma GCC diagnostic ignored "-Woverlength-strings"

/* Tears apart n columns: words of (a, b), a and b moving on by `step` bytes. 16 cycles a column. n >= 1. */
EC_ASM_FUNCTION void ec_dwn_tear(int8_t *to, const int8_t *a, const int8_t *b, int32_t step, int32_t n)
{
    __asm__ volatile(
        "push {r4-r8,lr}\n ldr lr,[sp,#24]\n movs r8,#0\n"
        "1:\n"
        "ldr r4,[r1,r8]\n ldr r5,[r2,r8]\n add r8,r3\n"
        "pkhbt r6,r4,r5,lsl #16\n pkhtb r7,r5,r4,asr #16\n sxtb16 r4,r6\n sxtb16 r6,r6,ror #8\n sxtb16 r5,r7\n"
        "sxtb16 r7,r7,ror #8\n str r6,[r0,#4]\n str r5,[r0,#8]\n str r7,[r0,#12]\n str r4,[r0],#16\n"
        "subs lr,#1\n bne 1b\n"
        "pop {r4-r8,pc}\n");
}

/* Of ec_dwn_slide and ec_dwn_hop: r9-r12 requantised and stored. Leaves x in r5, the blocks left in r6, and out, moved
 * on by one output, in r3, the step of outputs in r4. */
#define EC_DWN_OUT4                                                                                                    \
    "ldr r1,[sp,#4]\n ldr r2,[sp,#64]\n ldr r3,[sp,#8]\n ldr r4,[sp,#12]\n ldr r5,[sp,#0]\n ldr r6,[sp,#68]\n"         \
    "ldr r1,[r1,#16]\n"                                                                                                \
    "smmla r9,r9,r1,r2\n smmla r10,r10,r1,r2\n smmla r11,r11,r1,r2\n smmla r12,r12,r1,r2\n"                            \
    "ssat r9,#8,r9,asr #8\n ssat r10,#8,r10,asr #8\n ssat r11,#8,r11,asr #8\n ssat r12,#8,r12,asr #8\n"                \
    "strb r9,[r3]\n strb r11,[r3,r4,lsl #1]\n adds r3,r4\n strb r10,[r3]\n strb r12,[r3,r4,lsl #1]\n"

/* Four neighbouring outputs of one channel, `blocks` times. x: torn words of the first block's first column, `pitch`
 * bytes from row pair to row pair; w: stream of the channel, every fourth word; out: `step` bytes from output to
 * output; c: requantisation for a shift of 8. Stride and dilation are 1: four registers hold four columns, a tap of a
 * row pair needs but one new one (9 cycles), a tap pair of a last odd row two. */
EC_ASM_FUNCTION void ec_dwn_slide(const int8_t *x, const uint32_t *w, int8_t *out, int32_t step, int32_t pitch,
                                  int32_t kh, int32_t kw, int32_t c, int32_t blocks)
{
    __asm__ volatile(
        "push {r4-r11,lr}\n push {r0-r3}\n"
        /* [sp]: 0 x, 4 w, 8 out, 12 step, 16-51 saved, 52 pitch, 56 kh, 60 kw, 64 c, 68 blocks */
        "1:\n"
        "ldr r1,[sp,#4]\n ldr r0,[sp,#0]\n ldr r8,[sp,#56]\n ldr r9,[r1],#32\n"
        "mov r10,r9\n mov r11,r9\n mov r12,r9\n mov lr,r0\n"
        "subs r8,#2\n blt 4f\n"
        "2:\n" /* two rows */
        "ldr r7,[sp,#60]\n ldr r2,[r0],#16\n ldr r3,[r0],#16\n ldr r4,[r0],#16\n"
        "3:\n"
        "ldr r5,[r0],#16\n ldr r6,[r1],#16\n"
        "smlad r9,r2,r6,r9\n smlad r10,r3,r6,r10\n smlad r11,r4,r6,r11\n smlad r12,r5,r6,r12\n subs r7,#1\n beq 5f\n"
        "ldr r2,[r0],#16\n ldr r6,[r1],#16\n"
        "smlad r9,r3,r6,r9\n smlad r10,r4,r6,r10\n smlad r11,r5,r6,r11\n smlad r12,r2,r6,r12\n subs r7,#1\n beq 5f\n"
        "ldr r3,[r0],#16\n ldr r6,[r1],#16\n"
        "smlad r9,r4,r6,r9\n smlad r10,r5,r6,r10\n smlad r11,r2,r6,r11\n smlad r12,r3,r6,r12\n subs r7,#1\n beq 5f\n"
        "ldr r4,[r0],#16\n ldr r6,[r1],#16\n"
        "smlad r9,r5,r6,r9\n smlad r10,r2,r6,r10\n smlad r11,r3,r6,r11\n smlad r12,r4,r6,r12\n subs r7,#1\n bne 3b\n"
        "5:\n"
        "ldr r2,[sp,#52]\n subs r8,#2\n add lr,r2\n mov r0,lr\n bge 2b\n"
        "4:\n"
        "cmp r8,#-1\n bne 8f\n"
        /* one row */
        "ldr r7,[sp,#60]\n ldr r2,[r0],#16\n ldr r3,[r0],#16\n"
        "6:\n"
        "ldr r4,[r0],#16\n ldr r5,[r0],#16\n ldr r6,[r1],#16\n"
        "smlad r9,r2,r6,r9\n smlad r10,r3,r6,r10\n smlad r11,r4,r6,r11\n smlad r12,r5,r6,r12\n subs r7,#2\n ble 8f\n"
        "ldr r2,[r0],#16\n ldr r3,[r0],#16\n ldr r6,[r1],#16\n"
        "smlad r9,r4,r6,r9\n smlad r10,r5,r6,r10\n smlad r11,r2,r6,r11\n smlad r12,r3,r6,r12\n subs r7,#2\n bgt 6b\n"
        "8:\n"
        EC_DWN_OUT4
        "adds r3,r4\n add r3,r3,r4,lsl #1\n adds r5,#64\n str r3,[sp,#8]\n str r5,[sp,#0]\n"
        "subs r6,#1\n str r6,[sp,#68]\n bne 1b\n"
        "add sp,#16\n pop {r4-r11,pc}\n");
}

/* The same for one row (kh = 1) and four channels: x, w, out are of the first. */
EC_ASM_FUNCTION void ec_dwn_line(const int8_t *x, const uint32_t *w, int8_t *out, int32_t step, int32_t kw, int32_t c,
                                 int32_t blocks)
{
    __asm__ volatile(
        "push {r4-r11,lr}\n sub sp,#28\n mov r8,r3\n mov lr,r2\n adds r1,#32\n str r1,[sp,#0]\n"
        "ldr r4,[sp,#64]\n subs r4,#1\n asrs r4,r4,#1\n lsls r4,r4,#5\n str r4,[sp,#12]\n" /* 32 (pairs - 1) */
        "ldr r5,[sp,#72]\n lsls r6,r5,#6\n subs r6,#4\n str r6,[sp,#20]\n"
        "mul r6,r5,r8\n lsls r6,r6,#2\n subs r6,#1\n str r6,[sp,#24]\n movs r4,#4\n str r4,[sp,#72]\n"
        /* [sp]: 0 taps, 4 bias, 8 multiplier, 12 how far a block reads x beyond the next, 16 end of out, 20 how far a
         * channel moves x, less 4, 24 out, less 1, 28-63 saved, 64 kw, 68 c, 72 channels left */
        "1:\n"
        "ldr r1,[sp,#0]\n ldr r4,[sp,#24]\n ldr r9,[r1,#-32]\n ldr r3,[r1,#-16]\n add r4,lr\n adds r4,#1\n"
        "str r9,[sp,#4]\n str r3,[sp,#8]\n str r4,[sp,#16]\n"
        "2:\n"
        "ldr r1,[sp,#0]\n ldr r7,[sp,#64]\n ldr r9,[sp,#4]\n ldr r2,[r0],#16\n ldr r3,[r0],#16\n"
        "ldr r4,[r0],#16\n ldr r5,[r0],#16\n ldr r6,[r1],#16\n"
        "smlad r12,r5,r6,r9\n smlad r11,r4,r6,r9\n smlad r10,r3,r6,r9\n smlad r9,r2,r6,r9\n subs r7,#2\n ble 4f\n"
        "3:\n"
        "ldr r2,[r0],#16\n ldr r3,[r0],#16\n ldr r6,[r1],#16\n"
        "smlad r9,r4,r6,r9\n smlad r10,r5,r6,r10\n smlad r11,r2,r6,r11\n smlad r12,r3,r6,r12\n subs r7,#2\n ble 4f\n"
        "ldr r4,[r0],#16\n ldr r5,[r0],#16\n ldr r6,[r1],#16\n"
        "smlad r9,r2,r6,r9\n smlad r10,r3,r6,r10\n smlad r11,r4,r6,r11\n smlad r12,r5,r6,r12\n subs r7,#2\n bgt 3b\n"
        "4:\n"
        "ldr r2,[sp,#8]\n ldr r3,[sp,#68]\n ldr r4,[sp,#12]\n ldr r5,[sp,#16]\n"
        "smmla r9,r9,r2,r3\n smmla r10,r10,r2,r3\n smmla r11,r11,r2,r3\n smmla r12,r12,r2,r3\n"
        "ssat r9,#8,r9,asr #8\n ssat r10,#8,r10,asr #8\n ssat r11,#8,r11,asr #8\n ssat r12,#8,r12,asr #8\n"
        "strb r9,[lr]\n strb r11,[lr,r8,lsl #1]\n add lr,r8\n strb r10,[lr]\n strb r12,[lr,r8,lsl #1]\n"
        "add lr,r8\n add lr,lr,r8,lsl #1\n subs r0,r0,r4\n cmp lr,r5\n bne 2b\n"
        "ldr r1,[sp,#0]\n ldr r2,[sp,#20]\n ldr r3,[sp,#24]\n ldr r4,[sp,#72]\n"
        "adds r1,#4\n str r1,[sp,#0]\n subs r0,r0,r2\n sub lr,lr,r3\n subs r4,#1\n str r4,[sp,#72]\n bne 1b\n"
        "add sp,#28\n pop {r4-r11,pc}\n");
}

/* ec_dwn_slide for any stride and dilation. next: bytes from output to output in the torn rows; apart: bytes from tap
 * to tap of a row pair, half those from tap pair to tap pair of a last odd row. 16 cycles a tap. */
EC_ASM_FUNCTION void ec_dwn_hop(const int8_t *x, const uint32_t *w, int8_t *out, int32_t step, int32_t pitch,
                                int32_t kh, int32_t kw, int32_t c, int32_t blocks, int32_t next, int32_t apart)
{
    __asm__ volatile(
        "push {r4-r11,lr}\n push {r0-r3}\n"
        /* [sp]: 0 x, 4 w, 8 out, 12 step, 16-51 saved, 52 pitch, 56 kh, 60 kw, 64 c, 68 blocks, 72 next, 76 apart */
        "1:\n"
        "ldr r1,[sp,#4]\n ldr r0,[sp,#0]\n ldr r5,[sp,#56]\n ldr r8,[sp,#72]\n ldr r9,[r1],#32\n"
        "mov r10,r9\n mov r11,r9\n mov r12,r9\n add lr,r8,r8,lsl #1\n"
        "push {r0,r5}\n" /* row, rows left; the rest is eight bytes further from here */
        "2:\n"
        "ldr r7,[sp,#68]\n ldr r5,[sp,#84]\n ldr r2,[sp,#4]\n cmp r2,#1\n"
        "ittt eq\n addeq r7,#1\n lsreq r7,r7,#1\n lsleq r5,r5,#1\n"
        "3:\n"
        "ldr r6,[r1],#16\n ldr r2,[r0]\n ldr r3,[r0,r8]\n ldr r4,[r0,r8,lsl #1]\n smlad r9,r2,r6,r9\n ldr r2,[r0,lr]\n"
        "add r0,r5\n smlad r10,r3,r6,r10\n smlad r11,r4,r6,r11\n smlad r12,r2,r6,r12\n subs r7,#1\n bne 3b\n"
        "ldr r2,[sp,#4]\n ldr r3,[sp,#60]\n ldr r0,[sp,#0]\n subs r2,#2\n add r0,r3\n"
        "str r0,[sp,#0]\n str r2,[sp,#4]\n bgt 2b\n"
        "add sp,#8\n"
        EC_DWN_OUT4
        "adds r3,r4\n add r3,r3,r4,lsl #1\n add r5,r5,r8,lsl #2\n str r3,[sp,#8]\n str r5,[sp,#0]\n"
        "subs r6,#1\n str r6,[sp,#68]\n bne 1b\n"
        "add sp,#16\n pop {r4-r11,pc}\n");
}

/* One output of four channels, `groups` times from channel `at` on. taps: pointers to channel 0 for the two taps of
 * each of `pairs`; w: stream; out: of channel `at`; c: as above. 24 cycles for four tap pairs. */
EC_ASM_FUNCTION void ec_dwn_pixel(const int8_t *const *taps, const uint32_t *w, int8_t *out, int32_t c,
                                  int32_t pairs, int32_t at, int32_t groups)
{
    __asm__ volatile(
        "push {r4-r11,lr}\n push {r0-r3}\n ldr r3,[sp,#52]\n ldr r2,[sp,#56]\n add r3,r0,r3,lsl #3\n str r3,[sp,#52]\n"
        /* [sp]: 0 taps, 4 w, 8 out, 12 c, 16-51 saved, 52 end of taps, 56 at, 60 groups */
        "1:\n"
        "ldr r9,[r1]\n ldr r10,[r1,#4]\n ldr r11,[r1,#8]\n ldr r12,[r1,#12]\n str r1,[sp,#4]\n adds r1,#32\n"
        "2:\n"
        "ldr r3,[r0],#4\n ldr r4,[r0],#4\n ldr lr,[sp,#52]\n ldr r3,[r3,r2]\n ldr r4,[r4,r2]\n"
        "ldr r5,[r1],#4\n ldr r6,[r1],#4\n ldr r7,[r1],#4\n ldr r8,[r1],#4\n cmp r0,lr\n" /* the flags last */
        "pkhbt lr,r3,r4,lsl #16\n pkhtb r4,r4,r3,asr #16\n sxtb16 r3,lr\n smlad r9,r3,r5,r9\n"
        "sxtb16 lr,lr,ror #8\n smlad r10,lr,r6,r10\n sxtb16 r3,r4\n smlad r11,r3,r7,r11\n"
        "sxtb16 r4,r4,ror #8\n smlad r12,r4,r8,r12\n"
        "bne 2b\n"
        "ldr r3,[sp,#4]\n ldr r0,[sp,#0]\n ldr r4,[sp,#12]\n ldr lr,[sp,#8]\n"
        "ldr r5,[r3,#16]\n ldr r6,[r3,#20]\n ldr r7,[r3,#24]\n ldr r8,[r3,#28]\n ldr r3,[sp,#60]\n"
        "smmla r9,r9,r5,r4\n smmla r10,r10,r6,r4\n smmla r11,r11,r7,r4\n smmla r12,r12,r8,r4\n"
        "ssat r9,#8,r9,asr #8\n ssat r10,#8,r10,asr #8\n ssat r11,#8,r11,asr #8\n ssat r12,#8,r12,asr #8\n"
        "strb r9,[lr],#1\n strb r10,[lr],#1\n strb r11,[lr],#1\n strb r12,[lr],#1\n"
        "adds r2,#4\n str lr,[sp,#8]\n subs r3,#1\n str r3,[sp,#60]\n bne 1b\n"
        "add sp,#16\n pop {r4-r11,pc}\n");
}

#pragma GCC diagnostic pop

#endif
