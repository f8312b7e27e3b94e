/* ec_wide.h (dsp): runtime_c/ec_wide.h in assembler: SXTB16 makes pairs of int16 weights, SMLAD and SMLALD take them. */
#ifndef EC_WIDE_H
#define EC_WIDE_H

#include "ec_simd.h"

/* Two neighbouring elements: the halves of a word. */
typedef uint32_t ec_wide2_t;

EC_KERNEL ec_wide2_t ec_wide_both(const int16_t *at)
{
    return ec_ld4(at);
}

EC_KERNEL ec_wide2_t ec_wide_both8(const int8_t *at)
{
    return ec_pkhbt((uint32_t)at[0], (uint32_t)at[1]);
}

EC_KERNEL void ec_wide_copy(int16_t *to, const int16_t *from)
{
    ec_st4(to, ec_ld4(from));
}

/* gcc takes the halves apart before it multiplies. */
EC_KERNEL int32_t ec_wide_low(int32_t acc, ec_wide2_t x, ec_wide2_t w)
{
    int32_t r;
    __asm__("smlabb %0, %1, %2, %3" : "=r"(r) : "r"(x), "r"(w), "r"(acc));
    return r;
}

EC_KERNEL int32_t ec_wide_high(int32_t acc, ec_wide2_t x, ec_wide2_t w)
{
    int32_t r;
    __asm__("smlatt %0, %1, %2, %3" : "=r"(r) : "r"(x), "r"(w), "r"(acc));
    return r;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter" /* assembler reads them where the calling convention puts them */
#pragma GCC diagnostic ignored "-Woverlength-strings"

/* Two channels from the word r4 of weights, or of 16 times their nibbles: sums of the first pixel in a and b, of the
 * second in c and d. */
#define EC_WIDE_WORD(a, b, c, d)                                                                                       \
    "sxtb16 r5,r4\n smlad " #a ",r5,r2," #a "\n smlad " #c ",r5,r3," #c "\n"                                           \
    "sxtb16 r5,r4,ror #8\n smlad " #b ",r5,r2," #b "\n smlad " #d ",r5,r3," #d "\n"
/* A pair of taps of two pixels at r0, weights at r1: 17 cycles for 16 products; 20 with weights of 4 bits. */
#define EC_WIDE_TWO_8                                                                                                  \
    "ldr r2,[r0],#8\n ldr r3,[r0,#-4]\n ldr r4,[r1],#8\n" EC_WIDE_WORD(r6, r7, r10, r11) "ldr r4,[r1,#-4]\n"           \
    EC_WIDE_WORD(r8, r9, r12, lr)
#define EC_WIDE_TWO_4                                                                                                  \
    "ldr r2,[r0],#8\n ldr r3,[r0,#-4]\n ldr r4,[r1],#4\n and r4,r4,#0xf0f0f0f0\n" EC_WIDE_WORD(r6, r8, r10, r12)       \
    "ldr r4,[r1,#-4]\n lsls r4,r4,#4\n and r4,r4,#0xf0f0f0f0\n" EC_WIDE_WORD(r7, r9, r11, lr)
#define EC_WIDE_TWO(bits)                                                                                              \
    EC_ASM_FUNCTION void ec_wide_two_##bits(const int16_t *x, const int8_t *w, int32_t pairs, int32_t *sum)            \
    {                                                                                                                  \
        __asm__ volatile(                                                                                              \
            "push {r4-r11,lr}\n add r2,r0,r2,lsl #3\n push {r2,r3}\n ldm r3,{r6-r12,lr}\n"                            \
            "subs r2,r2,r0\n lsls r4,r2,#28\n beq 4f\n" EC_WIDE_TWO_##bits /* an odd number of pairs */                \
            "ldr r2,[sp]\n subs r2,r2,r0\n"                                                                             \
            "4:\n lsls r2,r2,#27\n beq 2f\n" EC_WIDE_TWO_##bits EC_WIDE_TWO_##bits                                     \
            "2:\n ldr r2,[sp]\n cmp r0,r2\n beq 3f\n"                                                                  \
            "1:\n" EC_WIDE_TWO_##bits EC_WIDE_TWO_##bits EC_WIDE_TWO_##bits EC_WIDE_TWO_##bits                          \
            "ldr r2,[sp]\n cmp r0,r2\n bne 1b\n"                                                                        \
            "3:\n ldr r3,[sp,#4]\n stm r3,{r6-r12,lr}\n add sp,#8\n pop {r4-r11,pc}\n");                               \
    }
EC_WIDE_TWO(8)
EC_WIDE_TWO(4)

/* The same for one pixel. */
#define EC_WIDE_HALF(a, b)                                                                                             \
    "sxtb16 r5,r4\n smlad " #a ",r5,r2," #a "\n sxtb16 r5,r4,ror #8\n smlad " #b ",r5,r2," #b "\n"
#define EC_WIDE_ONE_8                                                                                                  \
    "ldr r2,[r0],#4\n ldr r4,[r1],#8\n ldr r12,[r1,#-4]\n" EC_WIDE_HALF(r6, r7) "mov r4,r12\n" EC_WIDE_HALF(r8, r9)
#define EC_WIDE_ONE_4                                                                                                  \
    "ldr r2,[r0],#4\n ldr r12,[r1],#4\n and r4,r12,#0xf0f0f0f0\n" EC_WIDE_HALF(r6, r8)                                 \
    "lsl r4,r12,#4\n and r4,r4,#0xf0f0f0f0\n" EC_WIDE_HALF(r7, r9)
#define EC_WIDE_ONE(bits)                                                                                              \
    EC_ASM_FUNCTION void ec_wide_one_##bits(const int16_t *x, const int8_t *w, int32_t pairs, int32_t *sum)            \
    {                                                                                                                  \
        __asm__ volatile(                                                                                              \
            "push {r4-r9,lr}\n add lr,r0,r2,lsl #2\n ldm r3,{r6-r9}\n"                                                 \
            "lsls r2,r2,#31\n beq 2f\n" EC_WIDE_ONE_##bits                                                             \
            "2:\n cmp r0,lr\n beq 3f\n"                                                                                \
            "1:\n" EC_WIDE_ONE_##bits EC_WIDE_ONE_##bits "cmp r0,lr\n bne 1b\n"                                        \
            "3:\n stm r3,{r6-r9}\n pop {r4-r9,pc}\n");                                                                 \
    }
EC_WIDE_ONE(8)
EC_WIDE_ONE(4)

/* Four sums of 64 bits: r4 r5, r6 r7, r8 r9, r10 r11. 13 cycles for 8 products. step in bytes. */
EC_ASM_FUNCTION void ec_wide_long_8(const int16_t *x, const int8_t *w, int32_t pairs, int64_t *sum, int32_t step)
{
    __asm__ volatile(
        "push {r4-r11,lr}\n push {r2,r3}\n ldr r12,[sp,#44]\n ldm r3,{r4-r11}\n"
        "1:\n"
        "ldr r2,[r0]\n add r0,r0,r12\n ldr r3,[r1],#8\n"
        "sxtb16 lr,r3\n smlald r4,r5,lr,r2\n sxtb16 lr,r3,ror #8\n smlald r6,r7,lr,r2\n ldr r3,[r1,#-4]\n"
        "sxtb16 lr,r3\n smlald r8,r9,lr,r2\n sxtb16 lr,r3,ror #8\n smlald r10,r11,lr,r2\n"
        "ldr r2,[sp]\n subs r2,r2,#1\n str r2,[sp]\n bne 1b\n"
        "ldr r3,[sp,#4]\n stm r3,{r4-r11}\n add sp,#8\n pop {r4-r11,pc}\n");
}

#pragma GCC diagnostic pop

EC_KERNEL void ec_wide_two(const int16_t *x, const int8_t *w, int32_t pairs, int32_t *sum, int32_t bits)
{
    if (bits == 8) {
        ec_wide_two_8(x, w, pairs, sum);
    } else {
        ec_wide_two_4(x, w, pairs, sum);
    }
}

EC_KERNEL void ec_wide_one(const int16_t *x, const int8_t *w, int32_t pairs, int32_t *sum, int32_t bits)
{
    if (bits == 8) {
        ec_wide_one_8(x, w, pairs, sum);
    } else {
        ec_wide_one_4(x, w, pairs, sum);
    }
}

EC_KERNEL void ec_wide_long(const int16_t *x, const int8_t *w, int32_t pairs, int64_t *sum, int32_t step)
{
    ec_wide_long_8(x, w, pairs, sum, 2 * step);
}

#endif
