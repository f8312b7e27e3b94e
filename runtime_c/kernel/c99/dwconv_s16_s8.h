/* dwconv_s16_s8: one output row of a depthwise convolution: int16 input, int8 output (dwconv_wide.h). */
#ifndef EC_DWCONV_S16_S8_H
#define EC_DWCONV_S16_S8_H

#include "dwconv_wide.h"

typedef ec_dwconv_wide_t ec_dwconv_s16_s8_t;

EC_KERNEL void ec_dwconv_s16_s8(const ec_dwconv_s16_s8_t *p, const int16_t *const *rows, const int16_t *pad,
                                const int16_t *w, const int32_t *bias, const int32_t *mult, int8_t *out)
{
    ec_dwconv_wide(p, NULL, rows, NULL, pad, w, bias, mult, out, NULL);
}

#endif
