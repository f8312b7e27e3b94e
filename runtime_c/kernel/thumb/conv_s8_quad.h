/* conv_s8_quad (thumb): one output row of an int8 convolution of at least four channels, without groups, four channels of a
 * pixel at a time (ec_quad.h): every pixel is a fully connected layer over its window. */
#ifndef EC_CONV_S8_QUAD_H
#define EC_CONV_S8_QUAD_H

#include "fc_s8_quad.h"
#include "window_s8.h"

/* Columns, channels and taps of the row. c, f: see ec_requant. lo, hi: clamp. */
typedef struct {
    int32_t in_w, in_c, out_w, out_c, kh, kw, stride_w, dilation_w, pad_left, c, f, lo, hi;
} ec_conv_s8_quad_t;

/* rows, pad, scratch: see ec_window_s8; w: [out_c][kh][kw][in_c]; bias, mult: [out_c], bias with the input zero point
 * folded in for every tap; out: [out_w][out_c], apart from rows. */
EC_KERNEL void ec_conv_s8_quad(const ec_conv_s8_quad_t *p, const int8_t *const *rows, const int8_t *pad, const int8_t *w,
                               const int32_t *bias, const int32_t *mult, int8_t *out, int8_t *scratch)
{
    const ec_fc_s8_quad_t pixel = {p->kh * p->kw * p->in_c, p->out_c, p->c, p->f, p->lo, p->hi};
    const ec_window_s8_t window = {p->in_w, p->in_c, p->kh, p->kw, p->dilation_w};
    for (int32_t ox = 0; ox < p->out_w; ox++) {
        const int8_t *x = ec_window_s8(&window, rows, pad, ox * p->stride_w - p->pad_left, scratch);
        ec_fc_s8_quad(&pixel, x, w, bias, mult, out + ox * p->out_c);
    }
}

#endif
