/* conv_s8_pair (thumb): one output row of an int8 convolution without groups, two output channels to a multiplication
 * (ec_pair.h): every pixel is a fully connected layer over its window. */
#ifndef EC_CONV_S8_PAIR_H
#define EC_CONV_S8_PAIR_H

#include "fc_s8_pair.h"
#include "window_s8.h"

/* Columns, channels and taps of the row. c, f: see ec_requant. lo, hi: clamp. pairs: see ec_pair.h. */
typedef struct {
    int32_t in_w, in_c, out_w, out_c, kh, kw, stride_w, dilation_w, pad_left, c, f, lo, hi, pairs;
} ec_conv_s8_pair_t;

/* rows: kh input rows [in_w][in_c]; pad: a row of the input's zero point; stream: packed weights, biases and
 * multipliers; out: [out_w][out_c], apart from rows; scratch: [kh][kw][in_c], not used where the window is a pixel.
 * Rows, pad and scratch begin at word addresses where in_c is a multiple of 4. */
EC_KERNEL void ec_conv_s8_pair(const ec_conv_s8_pair_t *p, const int8_t *const *rows, const int8_t *pad,
                               const uint32_t *stream, int8_t *out, int8_t *scratch)
{
    const ec_fc_s8_pair_t pixel = {p->kh * p->kw * p->in_c, p->out_c, p->c, p->f, p->lo, p->hi, p->pairs};
    const ec_window_s8_t window = {p->in_w, p->in_c, p->kh, p->kw, p->dilation_w};
    for (int32_t ox = 0; ox < p->out_w; ox++) {
        const int8_t *x = ec_window_s8(&window, rows, pad, ox * p->stride_w - p->pad_left, scratch);
        ec_fc_s8_pair(&pixel, x, stream, out + ox * p->out_c);
    }
}

#endif
