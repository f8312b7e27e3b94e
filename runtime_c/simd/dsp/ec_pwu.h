/* ec_pwu.h (dsp): a run of pixel pairs of a pointwise convolution in one call: each pair is widened, then all its
 * outputs are made as by ec_mmu.h, from the same stream. A function for each number of tap pairs and each shift. A pair
 * has been read when its outputs are written. */
#ifndef EC_PWU_H
#define EC_PWU_H

#include "ec_mmu.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter" /* assembler reads them where the calling convention puts them */
#pragma GCC diagnostic ignored "-Woverlength-strings"

/* x: int8 [2 * count][2 * pairs of taps], at any address; w: stream; out: int8 [2 * count][out_c], out_c a multiple of
 * 4; c: requantisation; wide: scratch, 8 bytes a pair of taps, aligned to 4. Out may overlap x where no output begins
 * behind the input of its own pixel. */
#define EC_PWU_ARGS                                                                                                    \
    const int8_t *x, const uint32_t *w, int8_t *out, int32_t count, int32_t out_c, int32_t c, int8_t *wide

/* Eight taps of two pixels, o from r0 on and `pixel` bytes apart, to r4 + 4 * o: 21 cycles. */
#define EC_PWU_WIDEN(pixel)                                                                                            \
    "ldr r5,[r0,#o]\n ldr r6,[r0,#o+4]\n ldr r7,[r0,#o+" pixel "]\n ldr r3,[r0,#o+4+" pixel "]\n"                      \
    "sxtb16 r1,r5\n sxtb16 r2,r7\n sxtb16 r5,r5,ror #8\n sxtb16 r7,r7,ror #8\n"                                        \
    "str r1,[r4,#4*o]\n str r2,[r4,#4*o+4]\n str r5,[r4,#4*o+8]\n str r7,[r4,#4*o+12]\n"                               \
    "sxtb16 r1,r6\n sxtb16 r2,r3\n sxtb16 r6,r6,ror #8\n sxtb16 r3,r3,ror #8\n"                                        \
    "str r1,[r4,#4*o+16]\n str r2,[r4,#4*o+20]\n str r6,[r4,#4*o+24]\n str r3,[r4,#4*o+28]\n .set o,o+8\n"
/* Four taps. */
#define EC_PWU_WIDEN4(pixel)                                                                                           \
    "ldr r5,[r0,#o]\n ldr r7,[r0,#o+" pixel "]\n"                                                                      \
    "sxtb16 r1,r5\n sxtb16 r2,r7\n sxtb16 r5,r5,ror #8\n sxtb16 r7,r7,ror #8\n"                                        \
    "str r1,[r4,#4*o]\n str r2,[r4,#4*o+4]\n str r5,[r4,#4*o+8]\n str r7,[r4,#4*o+12]\n"

/* A tap pair xo bytes from r0 and wo from r1, which moves on now and then. */
#define EC_PWU_STEP                                                                                                    \
    "ldr r2,[r0,#xo]\n ldr r3,[r0,#xo+4]\n"                                                                            \
    ".if wo > 240\n ldr r4,[r1,#wo]!\n ldr r5,[r1,#4]\n .set wo,8\n"                                                   \
    ".else\n ldr r4,[r1,#wo]\n ldr r5,[r1,#wo+4]\n .set wo,wo+8\n .endif\n .set xo,xo+8\n" EC_MM2_MAC

/* The first one, which adds to the biases before it. r1: 16 bytes before them; leaves it at the first weight. */
#define EC_PWU_FIRST                                                                                                   \
    "ldr r6,[r1,#16]\n ldr r7,[r1,#20]\n ldr r8,[r1,#24]\n ldr r9,[r1,#28]\n"                                          \
    "ldr r2,[r0]\n ldr r3,[r0,#4]\n ldr r4,[r1,#32]!\n ldr r5,[r1,#4]\n .set xo,8\n .set wo,8\n"                       \
    "smlad r11,r4,r2,r7\n smlad r7,r4,r3,r7\n sxtb16 r4,r4\n smlad lr,r5,r2,r9\n smlad r9,r5,r3,r9\n"                  \
    "sxtb16 r5,r5\n smlad r10,r4,r2,r6\n smlad r6,r4,r3,r6\n smlad r12,r5,r2,r8\n smlad r8,r5,r3,r8\n"

/* [sp]: 0 wide, 4 out, 8 out_c, 12 end of the first pixel's outputs, 16 w - 16, 20 x, 24 count, 28-63 saved, 64 out_c,
 * 68 c, 72 wide, 76 chunks */
#define EC_PWU_BEGIN                                                                                                   \
    "push {r4-r11,lr}\n ldr r7,[sp,#36]\n ldr r4,[sp,#44]\n mov r5,r2\n add r8,r2,r7\n sub r9,r1,#16\n mov r10,r0\n"   \
    "mov r11,r3\n push {r4,r5,r7,r8,r9,r10,r11}\n"

/* Requantises and stores four channels of both pixels. end: loads r4. */
#define EC_PWU_OUT(even, odd, end)                                                                                     \
    "ldr r2,[r1,#wo]!\n ldr r3,[r1,#4]\n ldr r4,[r1,#8]\n ldr r5,[r1,#12]\n ldr r0,[sp,#68]\n"                         \
    "sub r7,r7,r6\n sub r11,r11,r10\n sub r9,r9,r8\n sub lr,lr,r12\n"                                                  \
    "smmla r6,r6,r2,r0\n smmla r10,r10,r2,r0\n smmla r8,r8,r4,r0\n smmla r12,r12,r4,r0\n mov.w r0,r0,lsl #8\n"         \
    "smmla r7,r7,r3,r0\n smmla r11,r11,r3,r0\n smmla r9,r9,r5,r0\n smmla lr,lr,r5,r0\n"                                \
    "ldr r2,[sp,#8]\n ldr r3,[sp,#4]\n ldr r0,[sp]\n" end                                                             \
    "ssat r10,#8,r10,asr #" #even "\n ssat r11,#8,r11,asr #" #odd "\n ssat r12,#8,r12,asr #" #even "\n"                \
    "ssat lr,#8,lr,asr #" #odd "\n ssat r6,#8,r6,asr #" #even "\n ssat r7,#8,r7,asr #" #odd "\n"                       \
    "ssat r8,#8,r8,asr #" #even "\n ssat r9,#8,r9,asr #" #odd "\n"                                                     \
    "strb r6,[r3,r2]\n strb r10,[r3],#1\n strb r7,[r3,r2]\n strb r11,[r3],#1\n"                                        \
    "strb r8,[r3,r2]\n strb r12,[r3],#1\n strb r9,[r3,r2]\n strb lr,[r3],#1\n"                                         \
    "str r3,[sp,#4]\n"
/* Then the next channels (1:), the next pair (0:). */
#define EC_PWU_END(even, odd)                                                                                          \
    EC_PWU_OUT(even, odd, "ldr r4,[sp,#12]\n")                                                                         \
    "cmp r3,r4\n bne 1b\n"                                                                                             \
    "ldr r5,[sp,#24]\n ldr r10,[sp,#20]\n add r3,r2\n add r6,r3,r2\n str r3,[sp,#4]\n str r6,[sp,#12]\n mov r4,r0\n"   \
    "mov r0,r10\n subs r5,#1\n str r5,[sp,#24]\n bne 0b\n"                                                             \
    "add sp,#28\n pop {r4-r11,pc}\n"

/* For n pairs of taps, n even. Eight channels in a turn; an odd four first, from the middle (8:). */
#define EC_PWU_ONE(f, n, even, odd)                                                                                    \
    EC_ASM_FUNCTION void ec_pwu_##f##_##n(EC_PWU_ARGS)                                                                 \
    {                                                                                                                  \
        __asm__ volatile(EC_PWU_BEGIN                                                                                  \
            "0:\n .set o,0\n .rept " #n "/4\n" EC_PWU_WIDEN("2*" #n) ".endr\n"                                         \
            ".if " #n " & 2\n" EC_PWU_WIDEN4("2*" #n) ".endif\n"                                                       \
            "add r0,#4*" #n "\n str r0,[sp,#20]\n mov r0,r4\n ldr r1,[sp,#16]\n ldr r2,[sp,#8]\n lsls r2,#29\n bmi 8f\n" \
            "1:\n" EC_PWU_FIRST ".rept " #n "-1\n" EC_PWU_STEP ".endr\n" EC_PWU_OUT(even, odd, "")                     \
            "8:\n" EC_PWU_FIRST ".rept " #n "-1\n" EC_PWU_STEP ".endr\n" EC_PWU_END(even, odd));                       \
    }
/* For n * chunks pairs, chunks >= 2. */
#define EC_PWU_MANY(f, n, even, odd)                                                                                   \
    EC_ASM_FUNCTION void ec_pwus_##f##_##n(EC_PWU_ARGS, int32_t chunks)                                                \
    {                                                                                                                  \
        __asm__ volatile(EC_PWU_BEGIN                                                                                  \
            "0:\n ldr r6,[sp,#76]\n movs r7,#2*" #n "\n mul r6,r6,r7\n add r8,r0,r6\n"                                     \
            "9:\n ldr r5,[r0,r6]\n ldr r7,[r0],#4\n"                                                                   \
            "sxtb16 r1,r7\n sxtb16 r2,r5\n sxtb16 r7,r7,ror #8\n sxtb16 r5,r5,ror #8\n"                                \
            "str r1,[r4],#4\n str r2,[r4],#4\n str r7,[r4],#4\n str r5,[r4],#4\n cmp r0,r8\n bne 9b\n"                 \
            "add r0,r6\n str r0,[sp,#20]\n ldr r0,[sp]\n ldr r1,[sp,#16]\n sub r4,#8*" #n "\n str r4,[sp,#72]\n"        \
            "1:\n" EC_PWU_FIRST ".rept " #n "-1\n" EC_PWU_STEP ".endr\n"                                               \
            "2:\n add r0,#8*" #n "\n add r1,wo\n .set xo,0\n .set wo,0\n .rept " #n "\n" EC_PWU_STEP ".endr\n"         \
            "ldr r2,[sp,#72]\n cmp r0,r2\n bne 2b\n" EC_PWU_END(even, odd));                                           \
    }

/* An output of both pixels from eight taps, 24 cycles: r4-r7 and r8-r11 their pairs; a word of the stream each: bias, four
 * weight pairs, multiplier. */
#define EC_PW8_OUTPUT(shift, n)                                                                                        \
    "ldr r2,[r0,#o]\n ldr r3,[r0,#o+4]\n ldr r12,[r0,#o+8]\n"                                                         \
    "smlad lr,r3,r4,r2\n smlad r2,r3,r8,r2\n smlad lr,r12,r5,lr\n smlad r2,r12,r9,r2\n"                               \
    "ldr r3,[r0,#o+12]\n ldr r12,[r0,#o+16]\n"                                                                        \
    "smlad lr,r3,r6,lr\n smlad r2,r3,r10,r2\n smlad lr,r12,r7,lr\n smlad r2,r12,r11,r2\n"                             \
    "ldr r3,[r0,#o+20]\n ldr r12,[sp,#44]\n .set o,o+24\n"                                                            \
    "smmla lr,lr,r3,r12\n smmla r2,r2,r3,r12\n ssat lr,#8,lr,asr #" #shift "\n ssat r2,#8,r2,asr #" #shift "\n"       \
    "strb r2,[r1,#" #n "]\n strb lr,[r1],#1\n"

/* x: int8 [2 * count][8]; w: n times six words; out: int8 [2 * count][n], apart from x but where no output begins behind
 * the input of its own pixel; c: requantisation by shift f. [sp]: 0 x, 4 count, 8-43 saved, 44 c */
#define EC_PW8(f, n)                                                                                                   \
    EC_ASM_FUNCTION void ec_pw8_##f##_##n(const int8_t *x, const uint32_t *w, int8_t *out, int32_t count, int32_t c)   \
    {                                                                                                                  \
        __asm__ volatile(                                                                                              \
            "push {r4-r11,lr}\n push {r0,r3}\n mov r0,r1\n mov r1,r2\n"                                                \
            "0:\n ldr r2,[sp]\n ldr r4,[r2],#16\n ldr r6,[r2,#-12]\n ldr r8,[r2,#-8]\n ldr r10,[r2,#-4]\n str r2,[sp]\n" \
            "sxtb16 r5,r4,ror #8\n sxtb16 r4,r4\n sxtb16 r7,r6,ror #8\n sxtb16 r6,r6\n"                               \
            "sxtb16 r9,r8,ror #8\n sxtb16 r8,r8\n sxtb16 r11,r10,ror #8\n sxtb16 r10,r10\n"                           \
            ".set o,0\n .rept " #n "\n" EC_PW8_OUTPUT(f, n) ".endr\n"                                                 \
            "ldr r2,[sp,#4]\n add r1,#" #n "\n subs r2,#1\n str r2,[sp,#4]\n bne 0b\n"                                 \
            "add sp,#8\n pop {r4-r11,pc}\n");                                                                          \
    }
#define EC_PW8_WIDTHS(make, f)                                                                                         \
    make(f, 4) make(f, 8) make(f, 12) make(f, 16) make(f, 20) make(f, 24) make(f, 28) make(f, 32)
EC_PW8_WIDTHS(EC_PW8, 1)
EC_PW8_WIDTHS(EC_PW8, 8)
EC_PW8_WIDTHS(EC_PW8, 15)

#define EC_PWU_MAKE(n) EC_MMU_SHIFTS(EC_PWU_ONE, n)
#define EC_PWU_MAKES(n) EC_MMU_SHIFTS(EC_PWU_MANY, n)
EC_MMU_ALL(EC_PWU_MAKE)
EC_MMU_LARGE(EC_PWU_MAKES)
EC_PWU_MAKE(32)
EC_PWU_MAKE(64)
EC_PWU_MAKES(32)

#pragma GCC diagnostic pop

#endif
