/* conv_s16_s8: one output row of a convolution: int16 input, int8 output (conv_wide.h). */
#ifndef EC_CONV_S16_S8_H
#define EC_CONV_S16_S8_H

#include "conv_wide.h"

typedef ec_conv_wide_t ec_conv_s16_s8_t;

EC_KERNEL void ec_conv_s16_s8(const ec_conv_s16_s8_t *p, const int16_t *const *rows, const int16_t *pad,
                              const int8_t *w, const int32_t *bias, const int32_t *mult, int8_t *out, int8_t *scratch)
{
    ec_conv_wide(p, NULL, rows, NULL, pad, w, bias, mult, out, NULL, scratch);
}

#endif
