#ifndef SWOOSH_H
#define SWOOSH_H

#include <stdint.h>

typedef struct {
    int32_t rows, columns;
    float slopes[2];
} swoosh_t;

typedef struct {
    int32_t rows, columns;
} median_t;

typedef struct {
    int32_t n;
} step_t;

void swoosh(const swoosh_t *p, const float *x, const float *bias, float *y);
void median(const median_t *p, const float *x, float *y, int8_t *scratch);
void step(const step_t *p, const int8_t *x, int8_t *y);

#endif
