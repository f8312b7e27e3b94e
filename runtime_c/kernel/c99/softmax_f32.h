/* softmax_f32 (c99): softmax of one float32 vector: exp(x - max) over the sum in ascending order. */
#ifndef EC_SOFTMAX_F32_H
#define EC_SOFTMAX_F32_H

#include "ec.h"
#include "ec_math.h"

/* n: elements. */
typedef struct {
    int32_t n;
} ec_softmax_f32_t;

/* x: [n]; out: [n], may be x. */
EC_KERNEL void ec_softmax_f32(const ec_softmax_f32_t *p, const float *x, float *out)
{
    float max = x[0], sum = 0.0f;
    for (int32_t i = 1; i < p->n; i++) {
        max = x[i] > max ? x[i] : max;
    }
    for (int32_t i = 0; i < p->n; i++) {
        out[i] = ec_expf(x[i] - max);
        sum = sum + out[i];
    }
    for (int32_t i = 0; i < p->n; i++) {
        out[i] = out[i] / sum;
    }
}

#endif
