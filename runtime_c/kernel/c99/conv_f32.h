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

EC_KERNEL void ec_conv_f32_out(const ec_conv_f32_t *p, float a0, float a1, float a2, float a3, float *out)
{
    out[0] = ec_clampf(a0, p->flo, p->fhi);
    out[1] = ec_clampf(a1, p->flo, p->fhi);
    out[2] = ec_clampf(a2, p->flo, p->fhi);
    out[3] = ec_clampf(a3, p->flo, p->fhi);
}

/* Two or four neighbouring pixels by four channels, every tap inside the row: 16 products for 8 loads, and the sums with
 * their operands fit the 32 registers of a small FPU. four: whether there are four. x: element of the row where the window
 * of the first pixel begins (channel of the group). w, bias, out: at the first of the four channels. */
EC_KERNEL void ec_conv_f32_nx4(const ec_conv_f32_t *p, bool four, const float *const *rows, int32_t x, const float *w,
                               const float *bias, float *out)
{
    const int32_t depth = p->in_c / p->groups, next = p->stride_w * p->in_c, n = p->out_c;
    const bool joined = p->dilation_w == 1 && p->groups == 1; /* the taps of a kernel row lie side by side */
    const int32_t runs = joined ? 1 : p->kw, run = joined ? p->kw * depth : depth;
    float a0 = bias[0], a1 = bias[1], a2 = bias[2], a3 = bias[3];
    float b0 = a0, b1 = a1, b2 = a2, b3 = a3, c0 = a0, c1 = a1, c2 = a2, c3 = a3, d0 = a0, d1 = a1, d2 = a2, d3 = a3;
    for (int32_t ky = 0; ky < p->kh; ky++) {
        for (int32_t r = 0; r < runs; r++) {
            const float *u = rows[ky] + x + r * p->dilation_w * p->in_c;
            EC_UNROLL2
            for (int32_t i = 0; i < run; i++, u++, w += 4) {
                const float w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3], u0 = u[0], u1 = u[next];
                const float u2 = four ? u[2 * next] : 0.0f, u3 = four ? u[3 * next] : 0.0f;
                a0 = a0 + u0 * w0;
                a1 = a1 + u0 * w1;
                a2 = a2 + u0 * w2;
                a3 = a3 + u0 * w3;
                b0 = b0 + u1 * w0;
                b1 = b1 + u1 * w1;
                b2 = b2 + u1 * w2;
                b3 = b3 + u1 * w3;
                if (four) {
                    c0 = c0 + u2 * w0;
                    c1 = c1 + u2 * w1;
                    c2 = c2 + u2 * w2;
                    c3 = c3 + u2 * w3;
                    d0 = d0 + u3 * w0;
                    d1 = d1 + u3 * w1;
                    d2 = d2 + u3 * w2;
                    d3 = d3 + u3 * w3;
                }
            }
        }
    }
    ec_conv_f32_out(p, a0, a1, a2, a3, out);
    ec_conv_f32_out(p, b0, b1, b2, b3, out + n);
    if (four) {
        ec_conv_f32_out(p, c0, c1, c2, c3, out + 2 * n);
        ec_conv_f32_out(p, d0, d1, d2, d3, out + 3 * n);
    }
}

/* One pixel by four channels, any column: taps outside the row come from pad. ix: input column of the first tap;
 * ch: first input channel of the group. */
EC_KERNEL void ec_conv_f32_1x4(const ec_conv_f32_t *p, const float *const *rows, const float *pad, int32_t ix,
                               int32_t ch, const float *w, const float *bias, float *out)
{
    const int32_t depth = p->in_c / p->groups;
    float a0 = bias[0], a1 = bias[1], a2 = bias[2], a3 = bias[3];
    for (int32_t ky = 0; ky < p->kh; ky++) {
        for (int32_t kx = 0; kx < p->kw; kx++) {
            const int32_t col = ix + kx * p->dilation_w;
            const float *u = (col >= 0 && col < p->in_w ? rows[ky] + col * p->in_c : pad) + ch;
            EC_UNROLL4
            for (int32_t i = 0; i < depth; i++, w += 4) {
                const float u0 = u[i];
                a0 = a0 + u0 * w[0];
                a1 = a1 + u0 * w[1];
                a2 = a2 + u0 * w[2];
                a3 = a3 + u0 * w[3];
            }
        }
    }
    ec_conv_f32_out(p, a0, a1, a2, a3, out);
}

/* One pixel, one channel, any column: for what is left beside the fours. */
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

/* rows: kh input rows [in_w][in_c]; pad: a row of zeros; w: for every group [channels / 4][kh][kw][in_c / groups][4], then
 * [channels % 4][kh][kw][in_c / groups]; bias: [out_c]; out: [out_w][out_c], apart from rows. */
EC_KERNEL void ec_conv_f32(const ec_conv_f32_t *p, const float *const *rows, const float *pad, const float *w,
                           const float *bias, float *out)
{
    const int32_t depth = p->in_c / p->groups, size = p->kh * p->kw * depth, width = p->out_c / p->groups;
    const int32_t span = (p->kw - 1) * p->dilation_w + 1;
    const int32_t begin = ec_inner_begin(p->out_w, p->stride_w, p->pad_left);
    const int32_t end = ec_inner_end(begin, p->in_w, p->out_w, span, p->stride_w, p->pad_left);

    for (int32_t oc = 0; oc < p->out_c;) {
        const int32_t ch = oc / width * depth, n = oc % width + 4 <= width ? 4 : 1;
        const float *v = w + oc * size;
        for (int32_t ox = 0; ox < p->out_w;) {
            const int32_t ix = ox * p->stride_w - p->pad_left, left = ox < begin ? 0 : end - ox;
            float *o = out + ox * p->out_c + oc;
            if (n == 4 && left >= 4) {
                ec_conv_f32_nx4(p, true, rows, ix * p->in_c + ch, v, bias + oc, o);
                ox += 4;
            } else if (n == 4 && left >= 2) {
                ec_conv_f32_nx4(p, false, rows, ix * p->in_c + ch, v, bias + oc, o);
                ox += 2;
            } else if (n == 4) {
                ec_conv_f32_1x4(p, rows, pad, ix, ch, v, bias + oc, o);
                ox += 1;
            } else {
                ec_conv_f32_1x1(p, rows, pad, ix, ch, v, bias[oc], o);
                ox += 1;
            }
        }
        oc += n;
    }
}

#endif
