/* conv_f32 (c99): one output row of a float32 convolution with groups. Every output is the sum bias + x*w over kernel
 * rows, kernel columns and input channels in ascending order, padding included as 0*w. */
#ifndef EC_CONV_F32_H
#define EC_CONV_F32_H

#include "ec.h"

/* Columns, channels and taps of the row; groups divides in_c and out_c. flo, fhi: see ec_clampf. */
typedef struct {
    int32_t in_w, in_c, out_w, out_c, kh, kw, stride_w, dilation_w, pad_left, groups;
    float flo, fhi;
} ec_conv_f32_t;

/* Two neighbouring pixels by four channels, every tap inside the row: 8 products for 6 loads. x: element of the row
 * where the window of the first pixel begins (channel of the group). w, bias, out: at the first of the channels. */
EC_KERNEL void ec_conv_f32_2x4(const ec_conv_f32_t *p, const float *const *rows, int32_t x, const float *w,
                               const float *bias, float *out)
{
    const int32_t depth = p->in_c / p->groups, size = p->kh * p->kw * depth, next = p->stride_w * p->in_c;
    const bool joined = p->dilation_w == 1 && p->groups == 1; /* the taps of a kernel row lie side by side */
    const int32_t runs = joined ? 1 : p->kw, run = joined ? p->kw * depth : depth;
    float a0 = bias[0], a1 = bias[1], a2 = bias[2], a3 = bias[3];
    float b0 = a0, b1 = a1, b2 = a2, b3 = a3;
    int32_t k = 0;
    for (int32_t ky = 0; ky < p->kh; ky++) {
        for (int32_t r = 0; r < runs; r++) {
            const float *u = rows[ky] + x + r * p->dilation_w * p->in_c;
            EC_UNROLL4
            for (int32_t i = 0; i < run; i++, k++) {
                const float u0 = u[i], u1 = u[i + next];
                const float w0 = w[k], w1 = w[k + size], w2 = w[k + 2 * size], w3 = w[k + 3 * size];
                a0 = a0 + u0 * w0;
                b0 = b0 + u1 * w0;
                a1 = a1 + u0 * w1;
                b1 = b1 + u1 * w1;
                a2 = a2 + u0 * w2;
                b2 = b2 + u1 * w2;
                a3 = a3 + u0 * w3;
                b3 = b3 + u1 * w3;
            }
        }
    }
    out[0] = ec_clampf(a0, p->flo, p->fhi);
    out[1] = ec_clampf(a1, p->flo, p->fhi);
    out[2] = ec_clampf(a2, p->flo, p->fhi);
    out[3] = ec_clampf(a3, p->flo, p->fhi);
    out[p->out_c] = ec_clampf(b0, p->flo, p->fhi);
    out[p->out_c + 1] = ec_clampf(b1, p->flo, p->fhi);
    out[p->out_c + 2] = ec_clampf(b2, p->flo, p->fhi);
    out[p->out_c + 3] = ec_clampf(b3, p->flo, p->fhi);
}

/* One pixel by four channels, any column: taps outside the row come from pad. ix: input column of the first tap;
 * ch: first input channel of the group. */
EC_KERNEL void ec_conv_f32_1x4(const ec_conv_f32_t *p, const float *const *rows, const float *pad, int32_t ix,
                               int32_t ch, const float *w, const float *bias, float *out)
{
    const int32_t depth = p->in_c / p->groups, size = p->kh * p->kw * depth;
    float a0 = bias[0], a1 = bias[1], a2 = bias[2], a3 = bias[3];
    int32_t k = 0;
    for (int32_t ky = 0; ky < p->kh; ky++) {
        for (int32_t kx = 0; kx < p->kw; kx++) {
            const int32_t col = ix + kx * p->dilation_w;
            const float *u = (col >= 0 && col < p->in_w ? rows[ky] + col * p->in_c : pad) + ch;
            for (int32_t i = 0; i < depth; i++, k++) {
                const float u0 = u[i];
                a0 = a0 + u0 * w[k];
                a1 = a1 + u0 * w[k + size];
                a2 = a2 + u0 * w[k + 2 * size];
                a3 = a3 + u0 * w[k + 3 * size];
            }
        }
    }
    out[0] = ec_clampf(a0, p->flo, p->fhi);
    out[1] = ec_clampf(a1, p->flo, p->fhi);
    out[2] = ec_clampf(a2, p->flo, p->fhi);
    out[3] = ec_clampf(a3, p->flo, p->fhi);
}

/* One pixel, one channel, any column: for groups of fewer than four output channels. */
EC_KERNEL void ec_conv_f32_1x1(const ec_conv_f32_t *p, const float *const *rows, const float *pad, int32_t ix,
                               int32_t ch, const float *w, float acc, float *out)
{
    const int32_t depth = p->in_c / p->groups;
    int32_t k = 0;
    for (int32_t ky = 0; ky < p->kh; ky++) {
        for (int32_t kx = 0; kx < p->kw; kx++) {
            const int32_t col = ix + kx * p->dilation_w;
            const float *u = (col >= 0 && col < p->in_w ? rows[ky] + col * p->in_c : pad) + ch;
            for (int32_t i = 0; i < depth; i++, k++) {
                acc = acc + u[i] * w[k];
            }
        }
    }
    *out = ec_clampf(acc, p->flo, p->fhi);
}

/* rows: kh input rows [in_w][in_c]; pad: a row of zeros; w: [out_c][kh][kw][in_c / groups]; bias: [out_c];
 * out: [out_w][out_c], apart from rows. */
EC_KERNEL void ec_conv_f32(const ec_conv_f32_t *p, const float *const *rows, const float *pad, const float *w,
                           const float *bias, float *out)
{
    const int32_t depth = p->in_c / p->groups, size = p->kh * p->kw * depth, width = p->out_c / p->groups;
    const int32_t span = (p->kw - 1) * p->dilation_w + 1;
    const int32_t begin = ec_inner_begin(p->out_w, p->stride_w, p->pad_left);
    const int32_t end = ec_inner_end(begin, p->in_w, p->out_w, span, p->stride_w, p->pad_left);
    const int32_t step = width < 4 ? 1 : 4;

    for (int32_t g = 0; g < p->groups; g++) {
        const int32_t ch = g * depth;
        for (int32_t j = 0; j < width; j += step) {
            /* The last block of four slides back to end at the last channel: its overlap is computed twice. */
            const int32_t oc = g * width + (j + step <= width ? j : width - step);
            const float *v = w + oc * size;
            int32_t ox = 0;
            while (ox < p->out_w) {
                const int32_t ix = ox * p->stride_w - p->pad_left;
                float *o = out + ox * p->out_c + oc;
                if (step == 1) {
                    ec_conv_f32_1x1(p, rows, pad, ix, ch, v, bias[oc], o);
                    ox += 1;
                } else if (ox >= begin && ox + 1 < end) {
                    ec_conv_f32_2x4(p, rows, ix * p->in_c + ch, v, bias + oc, o);
                    ox += 2;
                } else {
                    ec_conv_f32_1x4(p, rows, pad, ix, ch, v, bias + oc, o);
                    ox += 1;
                }
            }
        }
    }
}

#endif
