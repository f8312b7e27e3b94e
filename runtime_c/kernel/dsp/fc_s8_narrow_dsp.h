/* fc_s8_narrow_dsp: an int8 fully connected layer with weights of 4 or 2 bits, four outputs at a time (ec_nib.h). */
#ifndef EC_FC_S8_NARROW_DSP_H
#define EC_FC_S8_NARROW_DSP_H

#include "nib_s8.h"
#include "rows_s8.h"

/* in_c, out_c: inputs and outputs. c, f: see ec_requant. lo, hi: clamp. bits: of a weight, 4 or 2. */
typedef struct {
    int32_t in_c, out_c, c, f, lo, hi, bits;
} ec_fc_s8_narrow_dsp_t;

/* x: [in_c]; stream: packed weights, biases and multipliers; out: [out_c], apart from x; scratch: the bytes that the
 * compiler computed for p, aligned to 4. */
EC_KERNEL void ec_fc_s8_narrow_dsp(const ec_fc_s8_narrow_dsp_t *p, const int8_t *x, const uint32_t *stream, int8_t *out,
                                   int8_t *scratch)
{
    const int32_t quads = (p->in_c + 3) / 4, whole = p->out_c / 4 * 4;
    if (p->in_c < 4 * quads) {
        ec_st4(scratch + 4 * quads - 4, 0u);
        ec_copy_s8(scratch, x, p->in_c);
        x = scratch;
        scratch += 4 * quads;
    }
    const int32_t offset = ec_nib_offset(p->bits) * ec_nib_sum(x, quads);
    if (whole > 0) {
        ec_nib_one(x, stream, out, whole, quads, p->c, p->f, offset, p->bits);
    }
    if (whole < p->out_c) {
        const uint32_t *last = stream + whole / 4 * ec_nib_block(quads, p->bits);
        ec_nib_one(x, last, scratch, 4, quads, p->c, p->f, offset, p->bits);
        ec_copy_s8(out + whole, scratch, p->out_c - whole);
    }
    ec_clamp_s8(out, p->out_c, p->lo, p->hi);
}

#endif
