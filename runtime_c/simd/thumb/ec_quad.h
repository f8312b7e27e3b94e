/* ec_quad.h (thumb): see simd/thumb_on_host/ec_quad.h; this one for the instructions of the Cortex-M0, whose sums lie in the
 * high registers, which it can add to: 15 instructions for four products. gcc keeps the sums on the stack, and takes 40. */
#ifndef EC_QUAD_H
#define EC_QUAD_H

#include "ec.h"

/* A product of the input r6 with channel pointer w, added to a. */
#define EC_QUAD_TAP(w, a) "ldrsb r7, [" w ", r5]\n muls r7, r6, r7\n add " a ", r7\n"

EC_KERNEL void ec_quad_add(int32_t *acc, const int8_t *x, const int8_t *w, int32_t apart, int32_t n)
{
    register int32_t a0 __asm__("r8") = acc[0];
    register int32_t a1 __asm__("r9") = acc[1];
    register int32_t a2 __asm__("r10") = acc[2];
    register int32_t a3 __asm__("r11") = acc[3];
    register const int8_t *from __asm__("r0") = x + n;
    register const int8_t *w0 __asm__("r1") = w + n;
    register const int8_t *w1 __asm__("r2") = w0 + apart;
    register const int8_t *w2 __asm__("r3") = w1 + apart;
    register const int8_t *w3 __asm__("r4") = w2 + apart;
    register int32_t left __asm__("r5") = -n;
    /* r7 may be the frame pointer, which no list of clobbers may hold. */
    __asm__(".syntax unified\n push {r7}\n"
            "1:\n ldrsb r6, [r0, r5]\n" EC_QUAD_TAP("r1", "r8") EC_QUAD_TAP("r2", "r9") EC_QUAD_TAP("r3", "r10")
            EC_QUAD_TAP("r4", "r11") "adds r5, r5, #1\n bne 1b\n pop {r7}\n"
            : "+r"(a0), "+r"(a1), "+r"(a2), "+r"(a3), "+r"(left)
            : "r"(from), "r"(w0), "r"(w1), "r"(w2), "r"(w3)
            : "r6", "cc", "memory");
    acc[0] = a0;
    acc[1] = a1;
    acc[2] = a2;
    acc[3] = a3;
}

#endif
