#include "swoosh.h"

/* y may be x: an element is read before it is written. */
void swoosh(const swoosh_t *p, const float *x, const float *bias, float *y)
{
    for (int32_t r = 0; r < p->rows; r++) {
        for (int32_t c = 0; c < p->columns; c++) {
            const float z = x[r * p->columns + c] + bias[c];

            y[r * p->columns + c] = z < 0.0f ? p->slopes[0] * z : p->slopes[1] * z;
        }
    }
}

/* The element in the middle of each sorted row, sorted by insertion in the scratch memory. */
void median(const median_t *p, const float *x, float *y, int8_t *scratch)
{
    float *const sorted = (float *)(void *)scratch;

    for (int32_t r = 0; r < p->rows; r++) {
        for (int32_t c = 0; c < p->columns; c++) {
            int32_t at = c;

            for (; at > 0 && sorted[at - 1] > x[r * p->columns + c]; at--) {
                sorted[at] = sorted[at - 1];
            }
            sorted[at] = x[r * p->columns + c];
        }
        y[r] = sorted[p->columns / 2];
    }
}

void step(const step_t *p, const int8_t *x, int8_t *y)
{
    for (int32_t i = 0; i < p->n; i++) {
        y[i] = (int8_t)(x[i] < 0 ? -1 : 1);
    }
}
