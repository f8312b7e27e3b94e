/* ec_mmu.h (dsp): ec_mm2 (ec_mm.h) unrolled: one function for each number of tap pairs and each requantisation shift,
 * without entry into a loop and without branches on the shift: 22 cycles less for eight outputs, for code in the place
 * of a loop. The same stream, the same results. */
#ifndef EC_MMU_H
#define EC_MMU_H

#include "ec_mm.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter" /* assembler reads them where the calling convention puts them */
#pragma GCC diagnostic ignored "-Woverlength-strings"

/* A tap pair o bytes from r0 and r1. */
#define EC_MMU_STEP                                                                                                    \
    "ldr r2,[r0,#o]\n ldr r3,[r0,#o+4]\n ldr r4,[r1,#o]\n ldr r5,[r1,#o+4]\n .set o,o+8\n" EC_MM2_MAC

/* The first one, which adds to the biases before it. Leaves r1 behind them. */
#define EC_MMU_FIRST                                                                                                   \
    "ldr r6,[r1]\n ldr r7,[r1,#4]\n ldr r8,[r1,#8]\n ldr r9,[r1,#12]\n"                                                \
    "ldr r2,[r0]\n ldr r3,[r0,#4]\n ldr r4,[r1,#16]!\n ldr r5,[r1,#4]\n"                                               \
    "smlad r11,r4,r2,r7\n smlad r7,r4,r3,r7\n sxtb16 r4,r4\n smlad lr,r5,r2,r9\n smlad r9,r5,r3,r9\n"                  \
    "sxtb16 r5,r5\n smlad r10,r4,r2,r6\n smlad r6,r4,r3,r6\n smlad r12,r5,r2,r8\n smlad r8,r5,r3,r8\n"

/* Requantises and stores; then the next four channels (1:), the next pixels. [sp]: 0 x, 4 out, 8 next, 12 out_end, 16 w,
 * 20 out of the pair, 24 end of x; 28-63 saved, 64 out_end, 68 c, 72 count, 76 out_step, 80 x_step */
#define EC_MMU_END(even, odd)                                                                                          \
    "ldr r2,[r1],#16\n ldr r3,[r1,#-12]\n ldr r4,[r1,#-8]\n ldr r5,[r1,#-4]\n ldr r0,[sp,#68]\n"                       \
    "sub r7,r7,r6\n sub r11,r11,r10\n sub r9,r9,r8\n sub lr,lr,r12\n"                                                  \
    "smmla r6,r6,r2,r0\n smmla r10,r10,r2,r0\n smmla r8,r8,r4,r0\n smmla r12,r12,r4,r0\n mov.w r0,r0,lsl #8\n"         \
    "smmla r7,r7,r3,r0\n smmla r11,r11,r3,r0\n smmla r9,r9,r5,r0\n smmla lr,lr,r5,r0\n"                                \
    "ldr r2,[sp,#8]\n ldr r3,[sp,#4]\n ldr r4,[sp,#12]\n ldr r0,[sp,#0]\n"                                             \
    "ssat r10,#8,r10,asr #" #even "\n ssat r11,#8,r11,asr #" #odd "\n ssat r12,#8,r12,asr #" #even "\n"                \
    "ssat lr,#8,lr,asr #" #odd "\n ssat r6,#8,r6,asr #" #even "\n ssat r7,#8,r7,asr #" #odd "\n"                       \
    "ssat r8,#8,r8,asr #" #even "\n ssat r9,#8,r9,asr #" #odd "\n"                                                     \
    "strb r6,[r3,r2]\n strb r10,[r3],#1\n strb r7,[r3,r2]\n strb r11,[r3],#1\n"                                        \
    "strb r8,[r3,r2]\n strb r12,[r3],#1\n strb r9,[r3,r2]\n strb lr,[r3],#1\n"                                         \
    "str r3,[sp,#4]\n cmp r3,r4\n bne 1b\n"                                                                            \
    "ldr r5,[sp,#72]\n ldr r6,[sp,#76]\n ldr r7,[sp,#20]\n ldr r8,[sp,#24]\n ldr r9,[sp,#80]\n ldr r1,[sp,#16]\n"      \
    "adds r4,r6\n adds r7,r6\n add r0,r9\n add r8,r9\n str r4,[sp,#12]\n str r7,[sp,#20]\n"                            \
    "str r7,[sp,#4]\n str r0,[sp,#0]\n str r8,[sp,#24]\n subs r5,#1\n str r5,[sp,#72]\n bne 1b\n"                      \
    "add sp,#28\n pop {r4-r11,pc}\n"

#define EC_MMU_ARGS                                                                                                    \
    const uint32_t *x, const uint32_t *w, int8_t *out, int32_t next, const int8_t *out_end, int32_t c, int32_t count,  \
        int32_t out_step, int32_t x_step

/* ec_mm2 for n pairs of taps and shift f. */
#define EC_MMU_ONE(f, n, even, odd)                                                                                    \
    EC_ASM_FUNCTION void ec_mmu_##f##_##n(EC_MMU_ARGS)                                                                 \
    {                                                                                                                  \
        __asm__ volatile(                                                                                              \
            "push {r4-r11,lr}\n ldr r6,[sp,#36]\n mov r7,r1\n mov r8,r2\n mov r4,r2\n mov r5,r3\n push {r0,r4-r8,r9}\n" \
            "1:\n" EC_MMU_FIRST ".set o,8\n .rept " #n "-1\n" EC_MMU_STEP ".endr\n add r1,#8*" #n "\n"                 \
            EC_MMU_END(even, odd));                                                                                    \
    }
/* For n * chunks pairs, chunks >= 2. */
#define EC_MMU_MANY(f, n, even, odd)                                                                                   \
    EC_ASM_FUNCTION void ec_mmus_##f##_##n(EC_MMU_ARGS, int32_t chunks)                                                \
    {                                                                                                                  \
        __asm__ volatile(                                                                                              \
            "push {r4-r11,lr}\n ldr r6,[sp,#36]\n ldr r9,[sp,#56]\n mov r7,r1\n mov r8,r2\n mov r4,r2\n mov r5,r3\n"   \
            "movs r10,#8*" #n "\n mla r9,r9,r10,r0\n push {r0,r4-r8,r9}\n"                                             \
            "1:\n" EC_MMU_FIRST ".set o,8\n .rept " #n "-1\n" EC_MMU_STEP ".endr\n"                                    \
            "2:\n add r0,#8*" #n "\n add r1,#8*" #n "\n .set o,0\n .rept " #n "\n" EC_MMU_STEP ".endr\n"               \
            "ldr r2,[sp,#24]\n add r3,r0,#8*" #n "\n cmp r3,r2\n bne 2b\n add r1,#8*" #n "\n"                          \
            EC_MMU_END(even, odd));                                                                                    \
    }
#define EC_MMU_SHIFTS(make, n) make(1, n, 1, 9) make(8, n, 8, 16) make(15, n, 15, 23)
#define EC_MMU_LARGE(make)                                                                                             \
    make(16) make(17) make(18) make(19) make(20) make(21) make(22) make(23) make(24) make(25) make(26) make(27)        \
    make(28) make(29) make(30) make(31)
#define EC_MMU_ALL(make)                                                                                               \
    make(2) make(3) make(4) make(5) make(6) make(7) make(8) make(9) make(10) make(11) make(12) make(13) make(14)       \
    make(15) EC_MMU_LARGE(make)
#define EC_MMU_MAKE(n) EC_MMU_SHIFTS(EC_MMU_ONE, n)
#define EC_MMU_MAKES(n) EC_MMU_SHIFTS(EC_MMU_MANY, n)
EC_MMU_ALL(EC_MMU_MAKE)
EC_MMU_LARGE(EC_MMU_MAKES)
EC_MMU_MAKE(32)
EC_MMU_MAKE(64)
EC_MMU_MAKES(32)

/* Four taps of one pixel by four outputs, 19 cycles: r2, r3 their pairs, r4-r7 the weights; sums S0 T01 S2 T23 in r8-r11.
 * wx, ww: "!" moves the pointers on. */
#define EC_MM1W_STEP(wx, ww)                                                                                           \
    "ldr r2,[r0,#o+4]\n ldr r3,[r0,#o+8]" wx "\n ldr r4,[r1,#2*o+4]\n ldr r5,[r1,#2*o+8]\n ldr r6,[r1,#2*o+12]\n"       \
    "ldr r7,[r1,#2*o+16]" ww "\n .set o,o+8\n"                                                                         \
    "smlad r9,r4,r2,r9\n smlad r11,r5,r2,r11\n sxtb16 r4,r4\n sxtb16 r5,r5\n smlad r8,r4,r2,r8\n smlad r10,r5,r2,r10\n" \
    "smlad r9,r6,r3,r9\n smlad r11,r7,r3,r11\n sxtb16 r6,r6\n sxtb16 r7,r7\n smlad r8,r6,r3,r8\n smlad r10,r7,r3,r10\n"

/* All outputs, four at a time, from chunks of 16 steps, the last of them another. [sp]: 0 x - 4, 4 end of the outputs,
 * 44 c; r12: last x, lr: outputs */
#define EC_MM1_BLOCKS(step, last, even, odd)                                                                           \
    "1:\n ldr r0,[sp]\n ldr r8,[r1],#12\n ldr r9,[r1,#-8]\n ldr r10,[r1,#-4]\n ldr r11,[r1]\n"                         \
    "2:\n .set o,0\n .rept 15\n" step ".endr\n" last "add r1,#256\n cmp r0,r12\n bne 2b\n"                           \
    "ldr r2,[sp,#44]\n ldr r3,[sp,#4]\n ldr r4,[r1,#4]\n ldr r5,[r1,#8]\n ldr r6,[r1,#12]\n ldr r7,[r1,#16]\n"         \
    "sub r9,r9,r8\n sub r11,r11,r10\n adds r1,#20\n smmla r8,r8,r4,r2\n smmla r10,r10,r6,r2\n"                        \
    "mov.w r2,r2,lsl #8\n smmla r9,r9,r5,r2\n smmla r11,r11,r7,r2\n"                                                  \
    "ssat r8,#8,r8,asr #" #even "\n ssat r9,#8,r9,asr #" #odd "\n ssat r10,#8,r10,asr #" #even "\n"                   \
    "ssat r11,#8,r11,asr #" #odd "\n"                                                                                  \
    "strb r8,[lr],#1\n strb r9,[lr],#1\n strb r10,[lr],#1\n strb r11,[lr],#1\n cmp lr,r3\n bne 1b\n"                  \
    "add sp,#8\n pop {r4-r11,pc}\n"

/* ec_mm1 for shift f and 64 * chunks widened taps, pairs (k, k+2), (k+1, k+3) side by side. */
#define EC_MM1W(f, even, odd)                                                                                          \
    EC_ASM_FUNCTION void ec_mm1w_##f(const uint32_t *x, const uint32_t *w, int8_t *out, const int8_t *out_end,         \
                                     int32_t c, int32_t chunks)                                                        \
    {                                                                                                                  \
        __asm__ volatile(                                                                                              \
            "push {r4-r11,lr}\n ldr r4,[sp,#40]\n subs r0,#4\n add r12,r0,r4,lsl #7\n mov lr,r2\n push {r0,r3}\n"       \
            EC_MM1_BLOCKS(EC_MM1W_STEP("", ""), EC_MM1W_STEP("!", ""), even, odd));                              \
    }

/* ec_mm1 for shift f and 64 * chunks int8 taps, words aligned. */
#define EC_MM1B_STEP(wx)                                                                                               \
    "ldr r2,[r0,#o+4]" wx "\n ldr r4,[r1,#4*o+4]\n ldr r5,[r1,#4*o+8]\n ldr r6,[r1,#4*o+12]\n"                        \
    "ldr r7,[r1,#4*o+16]\n .set o,o+4\n" EC_MM1_MAC
#define EC_MM1B(f, even, odd)                                                                                          \
    EC_ASM_FUNCTION void ec_mm1b_##f(const int8_t *x, const uint32_t *w, int8_t *out, const int8_t *out_end,           \
                                     int32_t c, int32_t chunks)                                                        \
    {                                                                                                                  \
        __asm__ volatile(                                                                                              \
            "push {r4-r11,lr}\n ldr r4,[sp,#40]\n subs r0,#4\n add r12,r0,r4,lsl #6\n mov lr,r2\n push {r0,r3}\n"       \
            EC_MM1_BLOCKS(EC_MM1B_STEP(""), EC_MM1B_STEP("!"), even, odd));                                     \
    }

EC_MM1W(1, 1, 9)
EC_MM1W(8, 8, 16)
EC_MM1W(15, 15, 23)
EC_MM1B(1, 1, 9)
EC_MM1B(8, 8, 16)
EC_MM1B(15, 15, 23)

#pragma GCC diagnostic pop

#endif
