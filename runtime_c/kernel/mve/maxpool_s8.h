/* maxpool_s8 (mve): one output row of an int8 maximum pool, 16 channels at a time. */
#ifndef EC_MAXPOOL_S8_H
#define EC_MAXPOOL_S8_H

#include "ec_mve.h"

typedef struct {
    int32_t in_w, in_c, out_w, kh, kw, stride_w, dilation_w, pad_left;
} ec_maxpool_s8_t;

/* n channels (n <= 16) of one output pixel from the taps begin .. end - 1 of each row; ix: input column of tap 0. */
EC_KERNEL void ec_maxpool_s8_part(const ec_maxpool_s8_t *p, const int8_t *const *rows, int32_t ix, int32_t begin,
                                  int32_t end, int32_t ch, int32_t n, int8_t *out)
{
    ec_v8 most = ec_v8_all(-128);
    for (int32_t ky = 0; ky < p->kh; ky++) {
        for (int32_t kx = begin; kx < end; kx++) {
            const int8_t *x = rows[ky] + (ix + kx * p->dilation_w) * p->in_c + ch;
            most = ec_v8_max(most, n == 16 ? ec_v8_load(x) : ec_v8_load_part(x, n));
        }
    }
    if (n == 16) {
        ec_v8_store(out + ch, most);
    } else {
        ec_v8_store_part(out + ch, most, n);
    }
}

/* rows: kh input rows [in_w][in_c], those above and below the picture hold -128; pad: unused here, as taps beside the
 * row are left out; out: [out_w][in_c], apart from rows. */
EC_KERNEL void ec_maxpool_s8(const ec_maxpool_s8_t *p, const int8_t *const *rows, const int8_t *pad, int8_t *out)
{
    const int32_t whole = p->in_c / 16 * 16;
    (void)pad;
    for (int32_t ox = 0; ox < p->out_w; ox++) {
        const int32_t ix = ox * p->stride_w - p->pad_left;
        const int32_t begin = ec_tap_begin(ix, p->kw, p->dilation_w);
        const int32_t end = ec_tap_end(ix, p->in_w, p->kw, p->dilation_w);
        for (int32_t ch = 0; ch < whole; ch += 16) {
            ec_maxpool_s8_part(p, rows, ix, begin, end, ch, 16, out + ox * p->in_c);
        }
        if (whole < p->in_c) {
            ec_maxpool_s8_part(p, rows, ix, begin, end, whole, p->in_c - whole, out + ox * p->in_c);
        }
    }
}

#endif
