/* fc_s8_dsp: an int8 fully connected layer, four outputs at a time (ec_mm.h), straight from the int8 input. */
#ifndef EC_FC_S8_DSP_H
#define EC_FC_S8_DSP_H

#include "ec_mm.h"
#include "rows_s8.h"

/* in_c, out_c: inputs and outputs. c, f: see ec_requant. lo, hi: clamp. */
typedef struct {
    int32_t in_c, out_c, c, f, lo, hi;
} ec_fc_s8_dsp_t;

/* x: [in_c]; stream: packed weights, biases and multipliers; out: [out_c], apart from x; scratch: the bytes that the
 * compiler computed for p. */
EC_KERNEL void ec_fc_s8_dsp(const ec_fc_s8_dsp_t *p, const int8_t *x, const uint32_t *stream, int8_t *out,
                            int8_t *scratch)
{
    const int32_t taps = (p->in_c + 3) / 4 * 4, whole = p->out_c / 4 * 4;
    if (p->in_c < taps) { /* the weights of the taps beyond the last are zero; they must only be something */
        ec_st4(scratch + taps - 4, 0u);
        ec_copy_s8(scratch, x, p->in_c);
        x = scratch;
        scratch += taps;
    }
    if (whole > 0) {
        ec_mm1(x, stream, out, out + whole, taps / 4, p->c, p->f);
    }
    if (whole < p->out_c) {
        ec_mm1(x, stream + whole / 4 * (taps + 8), scratch, scratch + 4, taps / 4, p->c, p->f);
        ec_copy_s8(out + whole, scratch, p->out_c - whole);
    }
    ec_clamp_s8(out, p->out_c, p->lo, p->hi);
}

#endif
