/* fc_s8_dsp: an int8 fully connected layer, four outputs at a time (ec_mm.h), straight from the int8 input. */
#ifndef EC_FC_S8_DSP_H
#define EC_FC_S8_DSP_H

#include "ec_mmu.h"
#include "rows_s8.h"

/* in_c, out_c: inputs and outputs. c, f: see ec_requant. lo, hi: clamp. unrolled: 1: code for runs of 64
 * inputs; 2: the same, from a widened input in scratch. */
typedef struct {
    int32_t in_c, out_c, c, f, lo, hi, unrolled;
} ec_fc_s8_dsp_t;

/* Is there code for all inputs and outputs? */
EC_KERNEL bool ec_fcd_unrolled(const ec_fc_s8_dsp_t *p)
{
    return p->unrolled != 0 && p->in_c % 64 == 0 && p->out_c % 4 == 0 && p->out_c >= 32;
}

EC_KERNEL void ec_fcd_direct(const ec_fc_s8_dsp_t *p, const int8_t *x, const uint32_t *stream, int8_t *out)
{
    const int32_t chunks = p->in_c / 64;
    if (p->f == 1) {
        ec_mm1b_1(x, stream, out, out + p->out_c, p->c, chunks);
    } else if (p->f == 8) {
        ec_mm1b_8(x, stream, out, out + p->out_c, p->c, chunks);
    } else {
        ec_mm1b_15(x, stream, out, out + p->out_c, p->c, chunks);
    }
}

EC_KERNEL void ec_fcd_wide(const ec_fc_s8_dsp_t *p, const int8_t *x, const uint32_t *stream, int8_t *out,
                           int8_t *scratch)
{
    const uint32_t *taps = (const uint32_t *)(const void *)scratch;
    const int32_t chunks = p->in_c / 64;
    for (int32_t k = 0; k < p->in_c; k += 4) {
        const uint32_t four = ec_ld4(x + k);
        ec_st4(scratch + 2 * k, ec_sxtb16(four));
        ec_st4(scratch + 2 * k + 4, ec_sxtb16_ror8(four));
    }
    if (p->f == 1) {
        ec_mm1w_1(taps, stream, out, out + p->out_c, p->c, chunks);
    } else if (p->f == 8) {
        ec_mm1w_8(taps, stream, out, out + p->out_c, p->c, chunks);
    } else {
        ec_mm1w_15(taps, stream, out, out + p->out_c, p->c, chunks);
    }
}

/* x: [in_c]; stream: packed weights, biases and multipliers; out: [out_c], apart from x; scratch: the bytes that the
 * compiler computed for p, aligned to 4. */
EC_KERNEL void ec_fc_s8_dsp(const ec_fc_s8_dsp_t *p, const int8_t *x, const uint32_t *stream, int8_t *out,
                            int8_t *scratch)
{
    const int32_t taps = (p->in_c + 3) / 4 * 4, whole = p->out_c / 4 * 4;
    if (ec_fcd_unrolled(p)) {
        if (p->unrolled == 2) {
            ec_fcd_wide(p, x, stream, out, scratch);
        } else {
            ec_fcd_direct(p, x, stream, out);
        }
        ec_clamp_s8(out, p->out_c, p->lo, p->hi);
        return;
    }
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
