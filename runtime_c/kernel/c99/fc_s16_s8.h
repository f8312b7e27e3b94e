/* fc_s16_s8: a fully connected layer: int16 input, int8 output (fc_wide.h). */
#ifndef EC_FC_S16_S8_H
#define EC_FC_S16_S8_H

#include "fc_wide.h"

typedef ec_fc_wide_t ec_fc_s16_s8_t;

EC_KERNEL void ec_fc_s16_s8(const ec_fc_s16_s8_t *p, const int16_t *x, const int8_t *w, const int32_t *bias,
                            const int32_t *mult, int8_t *out, int8_t *scratch)
{
    ec_fc_wide(p, NULL, x, w, bias, mult, out, NULL, scratch);
}

#endif
