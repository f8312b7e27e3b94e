/* norm_s16_s8: layer and RMS normalisation: int16 input, int8 output (norm.h). */
#ifndef EC_NORM_S16_S8_H
#define EC_NORM_S16_S8_H

#include "norm.h"

typedef ec_norm_t ec_norm_s16_s8_t;

EC_KERNEL void ec_norm_s16_s8(const ec_norm_s16_s8_t *p, const int16_t *x, const int32_t *gain, const int32_t *offset,
                              int8_t *out)
{
    ec_norm(p, NULL, x, gain, offset, out, NULL);
}

#endif
