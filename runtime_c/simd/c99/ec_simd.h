/* ec_simd.h (c99): portable C has no SIMD; the kernels of kernel/c99 use none. */
#ifndef EC_SIMD_H
#define EC_SIMD_H

#include "ec.h"

#endif
