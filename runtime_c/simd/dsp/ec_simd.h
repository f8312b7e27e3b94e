/* ec_simd.h (dsp): the instructions of Armv7E-M and Armv8-M with the DSP extension (Cortex-M4, M7, M33) that the
 * kernels of kernel/dsp use. Lanes of int16 are numbered from the low half, lanes of int8 from the low byte. */
#ifndef EC_SIMD_H
#define EC_SIMD_H

#include "ec.h"

/* A function that is one assembler block and keeps to the calling convention by itself. The compiler must neither
 * change its arguments nor reason about the registers it uses. */
#if defined(__clang__)
#define EC_ASM_FUNCTION __attribute__((naked, noinline, unused)) EC_CODE static
#else
#define EC_ASM_FUNCTION __attribute__((naked, noipa, unused)) EC_CODE static
#endif

/* (int16)byte 0 and (int16)byte 2. */
EC_KERNEL uint32_t ec_sxtb16(uint32_t a)
{
    uint32_t r;
    __asm__("sxtb16 %0, %1" : "=r"(r) : "r"(a));
    return r;
}

/* (int16)byte 1 and (int16)byte 3. */
EC_KERNEL uint32_t ec_sxtb16_ror8(uint32_t a)
{
    uint32_t r;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(r) : "r"(a));
    return r;
}

/* acc + bytes 0 and 2 of a, lane by lane. */
EC_KERNEL uint32_t ec_sxtab16(uint32_t acc, uint32_t a)
{
    uint32_t r;
    __asm__("sxtab16 %0, %1, %2" : "=r"(r) : "r"(acc), "r"(a));
    return r;
}

/* acc + bytes 1 and 3 of a, lane by lane. */
EC_KERNEL uint32_t ec_sxtab16_ror8(uint32_t acc, uint32_t a)
{
    uint32_t r;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(r) : "r"(acc), "r"(a));
    return r;
}

/* Lanes 0 of a and b. */
EC_KERNEL uint32_t ec_pkhbt(uint32_t a, uint32_t b)
{
    uint32_t r;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(r) : "r"(a), "r"(b));
    return r;
}

/* Lane 0 of a and lane 1 of b. */
EC_KERNEL uint32_t ec_pkh(uint32_t a, uint32_t b)
{
    uint32_t r;
    __asm__("pkhbt %0, %1, %2" : "=r"(r) : "r"(a), "r"(b));
    return r;
}

/* Lanes 1 of a and b. */
EC_KERNEL uint32_t ec_pkhtb(uint32_t a, uint32_t b)
{
    uint32_t r;
    __asm__("pkhtb %0, %2, %1, asr #16" : "=r"(r) : "r"(a), "r"(b));
    return r;
}

/* acc + a0 * b0 + a1 * b1, modulo 2^32. */
EC_KERNEL int32_t ec_smlad(uint32_t a, uint32_t b, int32_t acc)
{
    int32_t r;
    __asm__("smlad %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(b), "r"(acc));
    return r;
}

/* floor(a * m / 2^32) + c, modulo 2^32. */
EC_KERNEL int32_t ec_smmla(int32_t a, int32_t m, int32_t c)
{
    int32_t r;
    __asm__("smmla %0, %1, %2, %3" : "=r"(r) : "r"(a), "r"(m), "r"(c));
    return r;
}

/* v clamped to int8. */
EC_KERNEL int32_t ec_ssat8(int32_t v)
{
    int32_t r;
    __asm__("ssat %0, #8, %1" : "=r"(r) : "r"(v));
    return r;
}

/* The larger of two int8, lane by lane: SSUB8 leaves in the GE flags which is larger, SEL takes it. */
EC_KERNEL uint32_t ec_max4(uint32_t a, uint32_t b)
{
    uint32_t r;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(r) : "r"(a), "r"(b) : "cc");
    return r;
}

/* The smaller of two int8, lane by lane. */
EC_KERNEL uint32_t ec_min4(uint32_t a, uint32_t b)
{
    uint32_t r;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %2, %1" : "=&r"(r) : "r"(a), "r"(b) : "cc");
    return r;
}

#endif
