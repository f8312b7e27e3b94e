/* conv_s8_s16: one output row of a convolution: int8 input, int16 output (conv_wide.h). */
#ifndef EC_CONV_S8_S16_H
#define EC_CONV_S8_S16_H

#include "conv_wide.h"

typedef ec_conv_wide_t ec_conv_s8_s16_t;

EC_KERNEL void ec_conv_s8_s16(const ec_conv_s8_s16_t *p, const int8_t *const *rows, const int8_t *pad, const int8_t *w,
                              const int32_t *bias, const int32_t *mult, int16_t *out, int8_t *scratch)
{
    ec_conv_wide(p, rows, NULL, pad, NULL, w, bias, mult, NULL, out, scratch);
}

#endif
