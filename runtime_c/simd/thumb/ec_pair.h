/* ec_pair.h (thumb): see simd/thumb_on_host/ec_pair.h; this one for the instructions of the Cortex-M0. gcc keeps the sums on the
 * stack and loads the words one by one there, which takes half as many instructions again. */
#ifndef EC_PAIR_H
#define EC_PAIR_H

#include "ec.h"

/* The first pair of a group starts the two sums, r4 and r5; the others add to them. */
#define EC_PAIR_FIRST                                                                                                 \
    "ldmia r6!, {r3, r4, r5}\n uxth r2, r3\n ldrsb r2, [r7, r2]\n muls r4, r2, r4\n muls r5, r2, r5\n"            \
    "ldmia r6!, {r0, r1}\n" EC_PAIR_ODD
#define EC_PAIR_NEXT                                                                                                  \
    "ldmia r6!, {r0, r1, r3}\n uxth r2, r3\n ldrsb r2, [r7, r2]\n muls r0, r2, r0\n muls r1, r2, r1\n"            \
    "adds r4, r4, r0\n adds r5, r5, r1\n ldmia r6!, {r0, r1}\n" EC_PAIR_ODD
#define EC_PAIR_ODD                                                                                                   \
    "lsrs r3, r3, #16\n ldrsb r2, [r7, r3]\n muls r0, r2, r0\n muls r1, r2, r1\n adds r4, r4, r0\n adds r5, r5, r1\n"
#define EC_PAIR_SPLIT(t, low, high)                                                                                   \
    "sxth r0, " t "\n add " low ", r0\n subs " t ", " t ", r0\n asrs " t ", " t ", #16\n add " high ", " t "\n"

/* r7 may be the frame pointer, which no list of clobbers may hold. */
#define EC_PAIR_GROUPS(more)                                                                                          \
    __asm__(".syntax unified\n push {r7}\n mov r7, r12\n"                                                            \
            "1:\n" EC_PAIR_FIRST more EC_PAIR_SPLIT("r4", "r8", "r9") EC_PAIR_SPLIT("r5", "r10", "r11")               \
            "cmp r6, lr\n blo 1b\n pop {r7}\n"                                                                       \
            : "+r"(at), "+r"(a0), "+r"(a1), "+r"(a2), "+r"(a3)                                                        \
            : "r"(from), "r"(end)                                                                                     \
            : "r0", "r1", "r2", "r3", "r4", "r5", "cc", "memory")

/* The sums of a block, s at its number of words; returns its multipliers. x: the inputs. pairs: 1 to 4. */
EC_KERNEL const uint32_t *ec_pair_sums(const uint32_t *s, const int8_t *x, int32_t pairs, int32_t *acc)
{
    register int32_t a0 __asm__("r8") = (int32_t)s[1];
    register int32_t a1 __asm__("r9") = (int32_t)s[2];
    register int32_t a2 __asm__("r10") = (int32_t)s[3];
    register int32_t a3 __asm__("r11") = (int32_t)s[4];
    register const int8_t *from __asm__("r12") = x;
    register const uint32_t *end __asm__("lr") = s + 5 + s[0];
    register const uint32_t *at __asm__("r6") = s + 5;
    if (pairs == 1) {
        EC_PAIR_GROUPS("");
    } else if (pairs == 2) {
        EC_PAIR_GROUPS(EC_PAIR_NEXT);
    } else if (pairs == 3) {
        EC_PAIR_GROUPS(EC_PAIR_NEXT EC_PAIR_NEXT);
    } else {
        EC_PAIR_GROUPS(EC_PAIR_NEXT EC_PAIR_NEXT EC_PAIR_NEXT);
    }
    acc[0] = a0;
    acc[1] = a1;
    acc[2] = a2;
    acc[3] = a3;
    return at;
}

#endif
