/* dwconv_s16: one output row of a depthwise convolution: int16 input and output (dwconv_wide.h). */
#ifndef EC_DWCONV_S16_H
#define EC_DWCONV_S16_H

#include "dwconv_wide.h"

typedef ec_dwconv_wide_t ec_dwconv_s16_t;

EC_KERNEL void ec_dwconv_s16(const ec_dwconv_s16_t *p, const int16_t *const *rows, const int16_t *pad, const int16_t *w,
                             const int32_t *bias, const int32_t *mult, int16_t *out)
{
    ec_dwconv_wide(p, NULL, rows, NULL, pad, w, bias, mult, NULL, out);
}

#endif
