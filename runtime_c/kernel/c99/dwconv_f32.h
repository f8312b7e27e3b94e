/* dwconv_f32 (c99): one output row of a float32 depthwise convolution; output channel = input channel * mult + j.
 * Every output is the sum bias + x*w over kernel rows and columns in ascending order, padding included as 0*w. */
#ifndef EC_DWCONV_F32_H
#define EC_DWCONV_F32_H

#include "ec.h"

/* mult: output channels per input channel. flo, fhi: see ec_clampf. */
typedef struct {
    int32_t in_w, in_c, out_w, mult, kh, kw, stride_w, dilation_w, pad_left;
    float flo, fhi;
} ec_dwconv_f32_t;

/* Four neighbouring pixels of one channel, every tap inside the row: a weight serves four products and, where the
 * stride is the dilation, an input serves several taps. x: element of the row where the window of the first pixel
 * begins (this channel); w, out: at this channel. */
EC_KERNEL void ec_dwconv_f32_4x1(const ec_dwconv_f32_t *p, const float *const *rows, int32_t x, const float *w,
                                 float bias, float *out)
{
    const int32_t out_c = p->in_c * p->mult, next = p->stride_w * p->in_c, tap = p->dilation_w * p->in_c;
    float a0 = bias, a1 = bias, a2 = bias, a3 = bias;
    for (int32_t ky = 0; ky < p->kh; ky++) {
        const float *u = rows[ky] + x;
        EC_UNROLL4
        for (int32_t kx = 0; kx < p->kw; kx++) {
            const float v = w[(ky * p->kw + kx) * out_c];
            a0 = a0 + u[kx * tap] * v;
            a1 = a1 + u[kx * tap + next] * v;
            a2 = a2 + u[kx * tap + 2 * next] * v;
            a3 = a3 + u[kx * tap + 3 * next] * v;
        }
    }
    out[0] = ec_clampf(a0, p->flo, p->fhi);
    out[out_c] = ec_clampf(a1, p->flo, p->fhi);
    out[2 * out_c] = ec_clampf(a2, p->flo, p->fhi);
    out[3 * out_c] = ec_clampf(a3, p->flo, p->fhi);
}

/* One pixel, the n channels from oc on (n: 1 or 4), any column: taps outside the row come from pad. ix: input column
 * of the first tap; w, bias, out: at channel 0. */
EC_KERNEL void ec_dwconv_f32_1xn(const ec_dwconv_f32_t *p, const float *const *rows, const float *pad, int32_t ix,
                                 int32_t oc, int32_t n, const float *w, const float *bias, float *out)
{
    const int32_t c0 = oc / p->mult, c1 = (oc + 1) / p->mult, c2 = (oc + 2) / p->mult, c3 = (oc + 3) / p->mult;
    const bool quad = n == 4;
    float a0 = bias[oc], a1 = quad ? bias[oc + 1] : 0.0f;
    float a2 = quad ? bias[oc + 2] : 0.0f, a3 = quad ? bias[oc + 3] : 0.0f;
    int32_t k = oc;
    for (int32_t ky = 0; ky < p->kh; ky++) {
        for (int32_t kx = 0; kx < p->kw; kx++, k += p->in_c * p->mult) {
            const int32_t col = ix + kx * p->dilation_w;
            const float *u = col >= 0 && col < p->in_w ? rows[ky] + col * p->in_c : pad;
            a0 = a0 + u[c0] * w[k];
            if (quad) {
                a1 = a1 + u[c1] * w[k + 1];
                a2 = a2 + u[c2] * w[k + 2];
                a3 = a3 + u[c3] * w[k + 3];
            }
        }
    }
    out[oc] = ec_clampf(a0, p->flo, p->fhi);
    if (quad) {
        out[oc + 1] = ec_clampf(a1, p->flo, p->fhi);
        out[oc + 2] = ec_clampf(a2, p->flo, p->fhi);
        out[oc + 3] = ec_clampf(a3, p->flo, p->fhi);
    }
}

/* rows: kh input rows [in_w][in_c]; pad: a row of zeros; w: [kh][kw][in_c * mult]; bias: [in_c * mult];
 * out: [out_w][in_c * mult]. */
EC_KERNEL void ec_dwconv_f32(const ec_dwconv_f32_t *p, const float *const *rows, const float *pad, const float *w,
                             const float *bias, float *out)
{
    const int32_t out_c = p->in_c * p->mult, span = (p->kw - 1) * p->dilation_w + 1;
    const int32_t first = ec_inner_begin(p->out_w, p->stride_w, p->pad_left);
    const int32_t last = ec_inner_end(first, p->in_w, p->out_w, span, p->stride_w, p->pad_left);
    const bool inner = last - first >= 4; /* too few pixels: all of them go the general way */
    const int32_t begin = inner ? first : 0, end = inner ? last : 0;
    const int32_t step = out_c < 4 ? 1 : 4;

    for (int32_t ox = begin > 0 ? 0 : end; ox < p->out_w; ox = ox + 1 == begin ? end : ox + 1) {
        for (int32_t j = 0; j < out_c; j += step) {
            /* The last block slides back to end at the last channel: its overlap is computed twice. */
            const int32_t oc = j + step <= out_c ? j : out_c - step;
            ec_dwconv_f32_1xn(p, rows, pad, ox * p->stride_w - p->pad_left, oc, step, w, bias, out + ox * out_c);
        }
    }
    for (int32_t oc = 0; oc < out_c; oc++) {
        for (int32_t x = begin; x < end; x += 4) {
            const int32_t ox = x + 4 <= end ? x : end - 4; /* as above, for pixels */
            const int32_t ix = ox * p->stride_w - p->pad_left;
            ec_dwconv_f32_4x1(p, rows, ix * p->in_c + oc / p->mult, w + oc, bias[oc], out + ox * out_c + oc);
        }
    }
}

#endif
