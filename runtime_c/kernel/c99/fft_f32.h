/* fft_f32 (c99): the discrete Fourier transform of a power of two of complex float32 values, in place, in n log n steps.
 * Two stages at a time (radix 4), so that three of four values are multiplied once for both; the order of the
 * operations is fixed, and with it every bit. */
#ifndef EC_FFT_F32_H
#define EC_FFT_F32_H

#include "ec.h"

/* n: values, a power of two. step: the table is of a transform of n * step values. */
typedef struct {
    int32_t n, step;
} ec_fft_f32_t;

/* A stage of two: pairs of neighbours. */
EC_KERNEL void ec_fft_pairs(int32_t n, float *z)
{
    for (int32_t i = 0; i < 2 * n; i += 4) {
        const float ar = z[i], ai = z[i + 1], br = z[i + 2], bi = z[i + 3];

        z[i] = ar + br;
        z[i + 1] = ai + bi;
        z[i + 2] = ar - br;
        z[i + 3] = ai - bi;
    }
}

/* Two stages of neighbours, whose factors are 1 and -i: nothing is multiplied. */
EC_KERNEL void ec_fft_fours(int32_t n, float *z)
{
    for (int32_t i = 0; i < 2 * n; i += 8) {
        const float sr = z[i] + z[i + 2], si = z[i + 1] + z[i + 3], dr = z[i] - z[i + 2], di = z[i + 1] - z[i + 3];
        const float tr = z[i + 4] + z[i + 6], ti = z[i + 5] + z[i + 7];
        const float er = z[i + 4] - z[i + 6], ei = z[i + 5] - z[i + 7];

        z[i] = sr + tr;
        z[i + 1] = si + ti;
        z[i + 2] = dr + ei;
        z[i + 3] = di - er;
        z[i + 4] = sr - tr;
        z[i + 5] = si - ti;
        z[i + 6] = dr - ei;
        z[i + 7] = di + er;
    }
}

/* z: [n][2] real and imaginary parts, value i at the place whose index has the bits of i reversed; the transform in order
 * afterwards. w: [3/4 n step][2] cosine and negative sine of 2 pi k / (n step). */
EC_KERNEL void ec_fft_f32(const ec_fft_f32_t *p, float *z, const float *w)
{
    int32_t h = 1;

    while (h < p->n) {
        h *= 4;
    }
    if (h != p->n) {
        ec_fft_pairs(p->n, z);
        h = 2;
    } else {
        ec_fft_fours(p->n, z);
        h = 4;
    }
    for (; h < p->n; h *= 4) {
        const int32_t stride = 2 * (p->n / (4 * h)) * p->step;

        for (int32_t k = 0; k < h; k++) {
            const float ur = w[k * stride], ui = w[k * stride + 1];
            const float vr = w[2 * k * stride], vi = w[2 * k * stride + 1];
            const float xr = w[3 * k * stride], xi = w[3 * k * stride + 1];

            for (int32_t i = 2 * k; i < 2 * p->n; i += 8 * h) {
                float *const a = &z[i], *const b = &a[2 * h], *const c = &b[2 * h], *const d = &c[2 * h];
                const float br = b[0] * vr - b[1] * vi, bi = b[0] * vi + b[1] * vr;
                const float cr = c[0] * ur - c[1] * ui, ci = c[0] * ui + c[1] * ur;
                const float dr = d[0] * xr - d[1] * xi, di = d[0] * xi + d[1] * xr;
                const float sr = a[0] + br, si = a[1] + bi, er = a[0] - br, ei = a[1] - bi;
                const float tr = cr + dr, ti = ci + di, fr = cr - dr, fi = ci - di;

                a[0] = sr + tr;
                a[1] = si + ti;
                b[0] = er + fi;
                b[1] = ei - fr;
                c[0] = sr - tr;
                c[1] = si - ti;
                d[0] = er - fi;
                d[1] = ei + fr;
            }
        }
    }
}

#endif
