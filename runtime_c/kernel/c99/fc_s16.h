/* fc_s16: a fully connected layer: int16 input and output (fc_wide.h). */
#ifndef EC_FC_S16_H
#define EC_FC_S16_H

#include "fc_wide.h"

typedef ec_fc_wide_t ec_fc_s16_t;

EC_KERNEL void ec_fc_s16(const ec_fc_s16_t *p, const int16_t *x, const int8_t *w, const int32_t *bias,
                         const int32_t *mult, int16_t *out, int8_t *scratch)
{
    ec_fc_wide(p, NULL, x, w, bias, mult, NULL, out, scratch);
}

#endif
