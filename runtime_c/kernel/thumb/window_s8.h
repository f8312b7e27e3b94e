/* window_s8.h (thumb): the taps of a pixel side by side, so that a convolution is a fully connected layer for each. */
#ifndef EC_WINDOW_S8_H
#define EC_WINDOW_S8_H

#include "ec.h"

/* Columns and channels of a row, taps of a window. */
typedef struct {
    int32_t in_w, in_c, kh, kw, dilation_w;
} ec_window_s8_t;

/* to[0..n) = from[0..n), apart from each other; in whole words, both at word addresses, where `words` says so. */
EC_KERNEL int8_t *ec_window_s8_copy(int8_t *to, const int8_t *from, int32_t n, bool words)
{
    if (words) {
        for (int32_t i = 0; i < n; i += 4) {
            ec_st4w(to + i, ec_ld4w(from + i));
        }
    } else {
        for (int32_t i = 0; i < n; i++) {
            to[i] = from[i];
        }
    }
    return to + n;
}

/* The window that begins at column ix: kernel rows, columns, channels; in place where it is one pixel, else in scratch.
 * rows: kh input rows [in_w][in_c]; pad: a row of the input's zero point; scratch: [kh][kw][in_c]. Rows, pad and scratch
 * begin at word addresses where in_c is a multiple of 4. */
EC_KERNEL const int8_t *ec_window_s8(const ec_window_s8_t *p, const int8_t *const *rows, const int8_t *pad, int32_t ix,
                                     int8_t *scratch)
{
    if (p->kh == 1 && p->kw == 1) {
        return ix >= 0 && ix < p->in_w ? rows[0] + ix * p->in_c : pad;
    }
    const bool words = p->in_c % 4 == 0, inside = ix >= 0 && ix + (p->kw - 1) * p->dilation_w < p->in_w;
    int8_t *to = scratch;
    for (int32_t ky = 0; ky < p->kh; ky++) {
        if (inside && p->dilation_w == 1) {
            to = ec_window_s8_copy(to, rows[ky] + ix * p->in_c, p->kw * p->in_c, words);
            continue;
        }
        for (int32_t kx = 0; kx < p->kw; kx++) {
            const int32_t col = ix + kx * p->dilation_w;
            const int8_t *u = col >= 0 && col < p->in_w ? rows[ky] + col * p->in_c : pad;
            to = ec_window_s8_copy(to, u, p->in_c, words);
        }
    }
    return scratch;
}

#endif
