/* norm_s16: layer and RMS normalisation: int16 input and output (norm.h). */
#ifndef EC_NORM_S16_H
#define EC_NORM_S16_H

#include "norm.h"

typedef ec_norm_t ec_norm_s16_t;

EC_KERNEL void ec_norm_s16(const ec_norm_s16_t *p, const int16_t *x, const int32_t *gain, const int32_t *offset,
                           int16_t *out)
{
    ec_norm(p, NULL, x, gain, offset, NULL, out);
}

#endif
