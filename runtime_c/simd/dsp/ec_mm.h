/* ec_mm.h (dsp): int8 multiply-accumulate and requantise, four output channels at a time, for one or two pixels.
 *
 * Weights: a word holds two taps of two channels, one halfword each: h = 256 * w1 + w0 (an int16). SMLAD with the raw
 * word sums T = 256 * S1 + S0; SXTB16 of the word leaves w0, and its SMLAD sums S0; 256 * S1 = T - S0 in the end,
 * exact modulo 2^32 while |S1| < 2^23. That is one SXTB16 for four weights, at one byte of memory per weight.
 * A block of four channels in the stream: 4 bias words (b0, 256 * b1 + b0, b2, 256 * b3 + b2), then for every four
 * taps k..k+3 the words of channels 01 and 23 for (k, k+2) and for (k+1, k+3), then 4 multipliers.
 *
 * The loop is unrolled and entered in the middle, so that any number of taps costs no more than it must. It begins
 * with both pointers one step early: a step then reads at short positive offsets, and the last one moves the pointer
 * as it loads. Loop state is on the stack, so no FPU is needed. f = 1 falls through; 8 and 15 branch. */
#ifndef EC_MM_H
#define EC_MM_H

#include "ec_simd.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter" /* assembler reads them where the calling convention puts them */
#pragma GCC diagnostic ignored "-Woverlength-strings"

/* Widens runs of `run` int8 taps at rows[0] + offset, rows[1] + offset ... (n_rows of them, at any address) to pairs of
 * int16: (k, k+2) and (k+1, k+3) of every four taps; of one to three left over (k, -), (k, k+1), or (k, k+2) (k+1, -).
 * Then the same `offset` bytes further right, `columns` times in all, offset growing by `step`. The pairs go to words
 * 0, 2, 4 ... of `to`, so that two pixels interleave. 23 cycles for 16 taps, 12 for a run. */
EC_ASM_FUNCTION void ec_widen(int8_t *to, const int8_t *const *rows, int32_t offset, int32_t run, int32_t n_rows,
                              int32_t columns, int32_t step)
{
    __asm__ volatile(
        "push {r4-r11,lr}\n mov r10,r1\n ldr r11,[sp,#40]\n"
        "0:\n ldr r12,[sp,#36]\n mov r1,r10\n"
        "1:\n ldr r4,[r1],#4\n add r4,r2\n subs r5,r3,#16\n blt 3f\n"
        "2:\n"
        "ldr r6,[r4],#16\n ldr r7,[r4,#-12]\n ldr r8,[r4,#-8]\n ldr r9,[r4,#-4]\n"
        "sxtb16 lr,r6\n sxtb16 r6,r6,ror #8\n str r6,[r0,#8]\n str lr,[r0],#64\n"
        "sxtb16 lr,r7\n sxtb16 r7,r7,ror #8\n str lr,[r0,#-48]\n str r7,[r0,#-40]\n"
        "sxtb16 lr,r8\n sxtb16 r8,r8,ror #8\n str lr,[r0,#-32]\n str r8,[r0,#-24]\n"
        "sxtb16 lr,r9\n sxtb16 r9,r9,ror #8\n str lr,[r0,#-16]\n str r9,[r0,#-8]\n"
        "subs r5,#16\n bge 2b\n"
        "adds r5,#16\n bne 4f\n"
        "8:\n subs r12,#1\n bne 1b\n"
        "ldr r12,[sp,#44]\n subs r11,#1\n add r2,r12\n bne 0b\n"
        "pop {r4-r11,pc}\n"
        "3:\n adds r5,#16\n"
        "4:\n lsls r6,r5,#29\n bcc 5f\n" /* C: eight left over, N: four */
        "ldr r6,[r4],#4\n ldr r7,[r4],#4\n"
        "sxtb16 lr,r6\n sxtb16 r6,r6,ror #8\n str lr,[r0]\n str r6,[r0,#8]\n"
        "sxtb16 lr,r7\n sxtb16 r7,r7,ror #8\n str lr,[r0,#16]\n str r7,[r0,#24]\n add r0,r0,#32\n"
        "5:\n bpl 6f\n"
        "ldr r6,[r4],#4\n"
        "sxtb16 lr,r6\n sxtb16 r6,r6,ror #8\n str lr,[r0]\n str r6,[r0,#8]\n add r0,r0,#16\n"
        "6:\n lsls r5,r5,#31\n bhi 9f\n bcs 7f\n beq 8b\n" /* three, two, none, one */
        "ldrsb r6,[r4]\n str r6,[r0],#8\n b 8b\n"
        "7:\n ldrsb r6,[r4]\n ldrsb r7,[r4,#1]\n pkhbt r6,r6,r7,lsl #16\n str r6,[r0],#8\n b 8b\n"
        "9:\n ldrsb r6,[r4]\n ldrsb r7,[r4,#1]\n ldrsb r8,[r4,#2]\n pkhbt r6,r6,r8,lsl #16\n"
        "str r6,[r0]\n str r7,[r0,#8]\n adds r0,#16\n b 8b\n");
}

/* to[0..n) = from[0..n) for `to` below `from`, overlapping or not; n a multiple of 16, both word aligned. */
EC_ASM_FUNCTION void ec_move(int8_t *to, const int8_t *from, int32_t n)
{
    __asm__ volatile(
        "cbz r2,2f\n push {r4-r6}\n"
        "1:\n ldm r1!,{r3-r6}\n stm r0!,{r3-r6}\n subs r2,#16\n bgt 1b\n"
        "pop {r4-r6}\n"
        "2:\n bx lr\n");
}

/* One tap pair of two pixels: r2, r3 activations; r4, r5 weights; sums S0 T01 S2 T23 in r10 r11 r12 lr (first pixel)
 * and r6 r7 r8 r9 (second). 15 cycles for 16 products with its loads. */
#define EC_MM2_MAC                                                                                                     \
    "smlad r11,r4,r2,r11\n smlad r7,r4,r3,r7\n sxtb16 r4,r4\n smlad lr,r5,r2,lr\n smlad r9,r5,r3,r9\n"                 \
    "sxtb16 r5,r5\n smlad r10,r4,r2,r10\n smlad r6,r4,r3,r6\n smlad r12,r5,r2,r12\n smlad r8,r5,r3,r8\n"
#define EC_MM2_STEP(o)                                                                                                 \
    "ldr.n r2,[r0,#" #o "]\n ldr.n r3,[r0,#" #o "+4]\n ldr.n r4,[r1,#" #o "]\n ldr.n r5,[r1,#" #o "+4]\n" EC_MM2_MAC

/* x: `pairs` times 2 words, taps (k, k+2) then (k+1, k+3) of the first and of the second pixel; w: stream; out: first
 * output of the first pixel, `next` bytes before that of the second; out_end: end of the outputs of the first pixel;
 * pairs >= 2: pairs of taps; c, f: requantisation, f in {1, 8, 15}. Writes both pixels' outputs, and so on for `count`
 * pairs of pixels, x_step bytes apart in x and out_step in out. */
EC_ASM_FUNCTION void ec_mm2(const uint32_t *x, const uint32_t *w, int8_t *out, int32_t next, const int8_t *out_end,
                            int32_t pairs, int32_t c, int32_t f, int32_t count, int32_t out_step, int32_t x_step)
{
    __asm__ volatile(
        "push {r4-r11,lr}\n"
        "ldr r6,[sp,#36]\n ldr r7,[sp,#40]\n ldr r9,[sp,#48]\n ldr r10,[sp,#52]\n" /* out_end, pairs, f, count */
        "subs r1,#4\n mov lr,r2\n subs r7,#1\n" /* the first pair is not in the loop */
        "add r8,r0,r7,lsl #3\n"                   /* the last pair of x */
        "rsbs r4,r7,#0\n and r4,#15\n"           /* steps that the first round leaves out */
        "movs r7,#48\n adr r5,2f\n mla r5,r4,r7,r5\n adds r5,#1\n lsls r4,#3\n" /* entry: 48 bytes of code a step */
        "cmp r9,#1\n it ne\n subne r8,#4\n"     /* the end test then leaves 'higher' for f != 1 */
        "mov r7,r8\n mov r8,r1\n"
        "push {r0,r2-r8,r10,lr}\n"
        /* [sp]: 0 x, 4 out, 8 next, 12 skip, 16 entry, 20 out_end, 24 last, 28 w, 32 count, 36 out of the pair,
         * 40-75 saved, 84 c, 88 f, 96 out_step, 100 x_step */
        "1:\n"
        "ldr r6,[r1,#4]\n ldr r7,[r1,#8]\n ldr r8,[r1,#12]\n ldr r9,[r1,#16]\n ldr r10,[sp,#12]\n"
        "ldr r2,[r0]\n ldr r3,[r0,#4]\n ldr r4,[r1,#20]!\n ldr r5,[r1,#4]\n"
        "sub r0,r10\n sub r1,r10\n"
        "smlad r11,r4,r2,r7\n smlad r7,r4,r3,r7\n sxtb16 r4,r4\n smlad lr,r5,r2,r9\n smlad r9,r5,r3,r9\n"
        "sxtb16 r5,r5\n smlad r10,r4,r2,r6\n smlad r6,r4,r3,r6\n smlad r12,r5,r2,r8\n smlad r8,r5,r3,r8\n"
        "ldr pc,[sp,#16]\n"
        ".balign 4\n"
        "2:\n"
        EC_MM2_STEP(8) EC_MM2_STEP(16) EC_MM2_STEP(24) EC_MM2_STEP(32) EC_MM2_STEP(40) EC_MM2_STEP(48)
        EC_MM2_STEP(56) EC_MM2_STEP(64) EC_MM2_STEP(72) EC_MM2_STEP(80) EC_MM2_STEP(88) EC_MM2_STEP(96)
        EC_MM2_STEP(104) EC_MM2_STEP(112) EC_MM2_STEP(120)
        "ldr r2,[r0,#128]!\n ldr r3,[r0,#4]\n ldr r4,[r1,#128]!\n ldr r5,[r1,#4]\n" EC_MM2_MAC
        "ldr r2,[sp,#24]\n cmp r0,r2\n blo 2b\n"
        /* requantise; nothing here changes the flags */
        "ldr r2,[r1,#8]!\n ldr r3,[r1,#4]\n ldr r4,[r1,#8]\n ldr r5,[r1,#12]!\n ldr r0,[sp,#84]\n"
        "sub r7,r7,r6\n sub r11,r11,r10\n sub r9,r9,r8\n sub lr,lr,r12\n"
        "smmla r6,r6,r2,r0\n smmla r10,r10,r2,r0\n smmla r8,r8,r4,r0\n smmla r12,r12,r4,r0\n mov.w r0,r0,lsl #8\n"
        "smmla r7,r7,r3,r0\n smmla r11,r11,r3,r0\n smmla r9,r9,r5,r0\n smmla lr,lr,r5,r0\n"
        "ldr r2,[sp,#8]\n ldr r3,[sp,#4]\n ldr r4,[sp,#20]\n ldr r0,[sp,#0]\n"
        "bhi 4f\n"
        "ssat r10,#8,r10,asr #1\n ssat r11,#8,r11,asr #9\n ssat r12,#8,r12,asr #1\n ssat lr,#8,lr,asr #9\n"
        "ssat r6,#8,r6,asr #1\n ssat r7,#8,r7,asr #9\n ssat r8,#8,r8,asr #1\n ssat r9,#8,r9,asr #9\n"
        "3:\n"
        "strb r6,[r3,r2]\n strb r10,[r3],#1\n strb r7,[r3,r2]\n strb r11,[r3],#1\n"
        "strb r8,[r3,r2]\n strb r12,[r3],#1\n strb r9,[r3,r2]\n strb lr,[r3],#1\n"
        "str r3,[sp,#4]\n cmp r3,r4\n bne 1b\n"
        "ldr r5,[sp,#32]\n ldr r6,[sp,#96]\n ldr r7,[sp,#36]\n ldr r8,[sp,#24]\n ldr r9,[sp,#100]\n ldr r1,[sp,#28]\n"
        "subs r5,#1\n beq 6f\n"
        "adds r4,r6\n adds r7,r6\n add r0,r9\n add r8,r9\n str r5,[sp,#32]\n str r4,[sp,#20]\n str r7,[sp,#36]\n"
        "str r7,[sp,#4]\n str r0,[sp,#0]\n str r8,[sp,#24]\n b 1b\n"
        "6:\n add sp,#40\n pop {r4-r11,pc}\n"
        "4:\n"
        "ldr r5,[sp,#88]\n cmp r5,#8\n bne 5f\n"
        "ssat r10,#8,r10,asr #8\n ssat r11,#8,r11,asr #16\n ssat r12,#8,r12,asr #8\n ssat lr,#8,lr,asr #16\n"
        "ssat r6,#8,r6,asr #8\n ssat r7,#8,r7,asr #16\n ssat r8,#8,r8,asr #8\n ssat r9,#8,r9,asr #16\n"
        "b 3b\n"
        "5:\n"
        "ssat r10,#8,r10,asr #15\n ssat r11,#8,r11,asr #23\n ssat r12,#8,r12,asr #15\n ssat lr,#8,lr,asr #23\n"
        "ssat r6,#8,r6,asr #15\n ssat r7,#8,r7,asr #23\n ssat r8,#8,r8,asr #15\n ssat r9,#8,r9,asr #23\n"
        "b 3b\n");
}

/* Four taps of one pixel: r2 activations; r4-r7 weights; sums S0 T01 S2 T23 in r8 r9 r10 r11. 20 cycles for 16
 * products with its loads, 66 bytes. */
#define EC_MM1_MAC                                                                                                     \
    "sxtb16 r3,r2\n sxtb16 r2,r2,ror #8\n"                                                                             \
    "smlad r9,r4,r3,r9\n sxtb16 r4,r4\n smlad r11,r5,r3,r11\n sxtb16 r5,r5\n"                                         \
    "smlad r8,r4,r3,r8\n smlad r10,r5,r3,r10\n smlad r9,r6,r2,r9\n sxtb16 r6,r6\n"                                    \
    "smlad r11,r7,r2,r11\n sxtb16 r7,r7\n smlad r8,r6,r2,r8\n smlad r10,r7,r2,r10\n"
#define EC_MM1_STEP(x, w)                                                                                              \
    "ldr.n r2,[r0,#" #x "]\n ldr.n r4,[r1,#" #w "]\n ldr.n r5,[r1,#" #w "+4]\n ldr.n r6,[r1,#" #w "+8]\n"              \
    "ldr.n r7,[r1,#" #w "+12]\n" EC_MM1_MAC

/* x: `quads` times four int8 taps, at any address; w: stream; out..out_end: outputs; quads >= 1; c, f as for ec_mm2. */
EC_ASM_FUNCTION void ec_mm1(const int8_t *x, const uint32_t *w, int8_t *out, const int8_t *out_end, int32_t quads,
                            int32_t c, int32_t f)
{
    __asm__ volatile(
        "push {r4-r11,lr}\n"
        "ldr r6,[sp,#36]\n ldr r8,[sp,#44]\n"      /* quads, f */
        "rsbs r4,r6,#0\n and r4,#7\n"              /* steps that the first round leaves out */
        "movs r7,#66\n adr r5,2f\n mla r5,r4,r7,r5\n adds r5,#1\n" /* entry: 66 bytes of code a step */
        "subs r0,#4\n add r12,r0,r6,lsl #2\n"      /* the last quad */
        "cmp r8,#1\n it ne\n subne r12,#2\n"       /* the end test then leaves 'higher' for f != 1 */
        "sub r0,r0,r4,lsl #2\n lsls r4,#4\n subs r4,#4\n subs r1,#4\n mov lr,r2\n"
        "push {r0,r3-r5}\n"
        /* [sp]: 0 x, 4 out_end, 8 skip - 4, 12 entry, 16-51 saved, 56 c, 60 f */
        "1:\n"
        "ldr r8,[r1,#4]\n ldr r9,[r1,#8]\n ldr r10,[r1,#12]\n ldr r11,[r1,#16]\n ldr r2,[sp,#8]\n ldr r0,[sp,#0]\n"
        "subs r1,r1,r2\n"
        "ldr pc,[sp,#12]\n"
        ".balign 4\n"
        "2:\n"
        EC_MM1_STEP(4, 16) EC_MM1_STEP(8, 32) EC_MM1_STEP(12, 48) EC_MM1_STEP(16, 64) EC_MM1_STEP(20, 80)
        EC_MM1_STEP(24, 96) EC_MM1_STEP(28, 112)
        "ldr r2,[r0,#32]!\n ldr r4,[r1,#128]!\n ldr r5,[r1,#4]\n ldr r6,[r1,#8]\n ldr r7,[r1,#12]\n" EC_MM1_MAC
        "cmp r0,r12\n blo 2b\n"
        /* requantise; nothing here changes the flags */
        "ldr r4,[r1,#16]!\n ldr r5,[r1,#4]\n ldr r6,[r1,#8]\n ldr r7,[r1,#12]!\n ldr r2,[sp,#56]\n ldr r3,[sp,#4]\n"
        "sub r9,r9,r8\n sub r11,r11,r10\n"
        "smmla r8,r8,r4,r2\n smmla r10,r10,r6,r2\n mov.w r2,r2,lsl #8\n smmla r9,r9,r5,r2\n smmla r11,r11,r7,r2\n"
        "bhi 4f\n"
        "ssat r8,#8,r8,asr #1\n ssat r9,#8,r9,asr #9\n ssat r10,#8,r10,asr #1\n ssat r11,#8,r11,asr #9\n"
        "3:\n"
        "strb r8,[lr],#1\n strb r9,[lr],#1\n strb r10,[lr],#1\n strb r11,[lr],#1\n"
        "cmp lr,r3\n bne 1b\n"
        "add sp,#16\n pop {r4-r11,pc}\n"
        "4:\n"
        "ldr r4,[sp,#60]\n cmp r4,#8\n bne 5f\n"
        "ssat r8,#8,r8,asr #8\n ssat r9,#8,r9,asr #16\n ssat r10,#8,r10,asr #8\n ssat r11,#8,r11,asr #16\n"
        "b 3b\n"
        "5:\n"
        "ssat r8,#8,r8,asr #15\n ssat r9,#8,r9,asr #23\n ssat r10,#8,r10,asr #15\n ssat r11,#8,r11,asr #23\n"
        "b 3b\n");
}

#pragma GCC diagnostic pop

#endif
