/* any.h: unknown values for Frama-C's Eva. */
#ifndef ANY_H
#define ANY_H

#include "ec.h"

static volatile int8_t any_int8;
static volatile int32_t any_int32;

static void fill(int8_t *to, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        to[i] = any_int8;
    }
}

/* An unknown number in [lo, hi]. */
static int32_t between(int32_t lo, int32_t hi)
{
    return ec_clamp(any_int32, lo, hi);
}

#endif
