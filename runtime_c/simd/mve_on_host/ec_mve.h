/* ec_mve.h (mve_on_host): what simd/mve says in Helium instructions, in plain C, so that the kernels of kernel/mve run on
 * a computer, bit for bit. */
#ifndef EC_MVE_H
#define EC_MVE_H

#include "ec.h"

typedef struct {
    int8_t lane[16];
} ec_v8;
typedef struct {
    int16_t lane[8];
} ec_v16;
typedef struct {
    int32_t lane[4];
} ec_v32;

/* ---- bytes ---------------------------------------------------------------------------------------------------- */

EC_KERNEL ec_v8 ec_v8_all(int8_t x)
{
    ec_v8 v;
    for (int i = 0; i < 16; i++) {
        v.lane[i] = x;
    }
    return v;
}

EC_KERNEL ec_v8 ec_v8_load_part(const int8_t *from, int32_t n)
{
    ec_v8 v = ec_v8_all(0);
    for (int32_t i = 0; i < n && i < 16; i++) {
        v.lane[i] = from[i];
    }
    return v;
}

EC_KERNEL ec_v8 ec_v8_load(const int8_t *from)
{
    return ec_v8_load_part(from, 16);
}

EC_KERNEL void ec_v8_store_part(int8_t *to, ec_v8 v, int32_t n)
{
    for (int32_t i = 0; i < n && i < 16; i++) {
        to[i] = v.lane[i];
    }
}

EC_KERNEL void ec_v8_store(int8_t *to, ec_v8 v)
{
    ec_v8_store_part(to, v, 16);
}

EC_KERNEL ec_v8 ec_v8_max(ec_v8 a, ec_v8 b)
{
    for (int i = 0; i < 16; i++) {
        a.lane[i] = a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i];
    }
    return a;
}

EC_KERNEL ec_v8 ec_v8_lookup(const int8_t *table, ec_v8 x)
{
    for (int i = 0; i < 16; i++) {
        x.lane[i] = table[(uint8_t)x.lane[i]];
    }
    return x;
}

EC_KERNEL int32_t ec_v8_dot_add(int32_t acc, ec_v8 a, ec_v8 b)
{
    uint32_t sum = (uint32_t)acc;
    for (int i = 0; i < 16; i++) {
        sum += (uint32_t)(a.lane[i] * b.lane[i]);
    }
    return (int32_t)sum;
}

EC_KERNEL int32_t ec_v8_dot(ec_v8 a, ec_v8 b)
{
    return ec_v8_dot_add(0, a, b);
}

EC_KERNEL void ec_v8_copy(int8_t *to, const int8_t *from, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        to[i] = from[i];
    }
}

/* ---- halfwords ------------------------------------------------------------------------------------------------ */

EC_KERNEL ec_v16 ec_v16_all(int16_t x)
{
    ec_v16 v;
    for (int i = 0; i < 8; i++) {
        v.lane[i] = x;
    }
    return v;
}

EC_KERNEL ec_v16 ec_v16_load8_part(const int8_t *from, int32_t n)
{
    ec_v16 v = ec_v16_all(0);
    for (int32_t i = 0; i < n && i < 8; i++) {
        v.lane[i] = from[i];
    }
    return v;
}

EC_KERNEL ec_v16 ec_v16_add(ec_v16 a, ec_v16 b)
{
    for (int i = 0; i < 8; i++) {
        a.lane[i] = (int16_t)(a.lane[i] + b.lane[i]);
    }
    return a;
}

EC_KERNEL ec_v16 ec_v16_steps(int32_t step)
{
    ec_v16 v;
    for (int i = 0; i < 8; i++) {
        v.lane[i] = (int16_t)(uint16_t)(i * step);
    }
    return v;
}

EC_KERNEL void ec_v16_scatter8(int8_t *to, ec_v16 offsets, ec_v16 v)
{
    for (int i = 0; i < 8; i++) {
        to[(uint16_t)offsets.lane[i]] = (int8_t)v.lane[i];
    }
}

EC_KERNEL void ec_v16_store8(int8_t *to, ec_v16 v, int32_t n)
{
    for (int32_t i = 0; i < n && i < 8; i++) {
        to[i] = (int8_t)v.lane[i];
    }
}

EC_KERNEL ec_v16 ec_v16_joined(ec_v32 even, ec_v32 odd)
{
    ec_v16 v;
    for (int i = 0; i < 4; i++) {
        v.lane[2 * i] = (int16_t)even.lane[i];
        v.lane[2 * i + 1] = (int16_t)odd.lane[i];
    }
    return v;
}

EC_KERNEL void ec_v16_spill(ec_v16 v, ec_v32 *even, ec_v32 *odd)
{
    for (int i = 0; i < 4; i++) {
        even->lane[i] += v.lane[2 * i];
        odd->lane[i] += v.lane[2 * i + 1];
    }
}

/* ---- words; sums and products wrap ---------------------------------------------------------------------------- */

EC_KERNEL ec_v32 ec_v32_of(int32_t a, int32_t b, int32_t c, int32_t d)
{
    const ec_v32 v = {{a, b, c, d}};
    return v;
}

EC_KERNEL ec_v32 ec_v32_all(int32_t x)
{
    return ec_v32_of(x, x, x, x);
}

EC_KERNEL ec_v32 ec_v32_load(const int32_t *from)
{
    return ec_v32_of(from[0], from[1], from[2], from[3]);
}

EC_KERNEL ec_v32 ec_v32_load8_part(const int8_t *from, int32_t n)
{
    ec_v32 v = ec_v32_all(0);
    for (int32_t i = 0; i < n && i < 4; i++) {
        v.lane[i] = from[i];
    }
    return v;
}

EC_KERNEL void ec_v32_store8(int8_t *to, ec_v32 v, int32_t n)
{
    for (int32_t i = 0; i < n && i < 4; i++) {
        to[i] = (int8_t)v.lane[i];
    }
}

EC_KERNEL void ec_v32_store8_apart(int8_t *to, ec_v32 v, int32_t step)
{
    for (int32_t i = 0; i < 4; i++) {
        to[i * step] = (int8_t)v.lane[i];
    }
}

EC_KERNEL ec_v32 ec_v32_add(ec_v32 a, ec_v32 b)
{
    for (int i = 0; i < 4; i++) {
        a.lane[i] = (int32_t)((uint32_t)a.lane[i] + (uint32_t)b.lane[i]);
    }
    return a;
}

EC_KERNEL ec_v32 ec_v32_mul(ec_v32 a, ec_v32 b)
{
    for (int i = 0; i < 4; i++) {
        a.lane[i] = (int32_t)((uint32_t)a.lane[i] * (uint32_t)b.lane[i]);
    }
    return a;
}

EC_KERNEL ec_v32 ec_v32_scale(ec_v32 v, int32_t by)
{
    return ec_v32_mul(v, ec_v32_all(by));
}

EC_KERNEL ec_v32 ec_v32_scale_add(ec_v32 acc, ec_v32 v, int32_t by)
{
    return ec_v32_add(acc, ec_v32_scale(v, by));
}

EC_KERNEL ec_v32 ec_v32_round(ec_v32 v, int32_t c, int32_t f, int32_t lo, int32_t hi)
{
    v = ec_v32_add(v, ec_v32_all(c));
    for (int i = 0; i < 4; i++) {
        v.lane[i] = ec_clamp(v.lane[i] >> f, lo, hi);
    }
    return v;
}

EC_KERNEL ec_v32 ec_v32_requant(ec_v32 acc, ec_v32 m, int32_t c, int32_t f, int32_t lo, int32_t hi)
{
    for (int i = 0; i < 4; i++) {
        acc.lane[i] = ec_mulh(acc.lane[i], m.lane[i]);
    }
    return ec_v32_round(acc, c, f, lo, hi);
}

/* ---- sums of products ----------------------------------------------------------------------------------------- */

EC_KERNEL ec_v32 ec_v8_dots_1x4(const int8_t *a, const int8_t *w, int32_t n)
{
    int32_t sum[4] = {0, 0, 0, 0};
    for (int32_t k = 0; k < n; k++, a += 16, w += 64) {
        for (int i = 0; i < 4; i++) {
            sum[i] = ec_v8_dot_add(sum[i], ec_v8_load(a), ec_v8_load(w + 16 * i));
        }
    }
    return ec_v32_of(sum[0], sum[2], sum[1], sum[3]);
}

EC_KERNEL void ec_v8_dots_2x4(const int8_t *a, const int8_t *b, const int8_t *w, int32_t n, ec_v32 *to_a, ec_v32 *to_b)
{
    *to_a = ec_v8_dots_1x4(a, w, n);
    *to_b = ec_v8_dots_1x4(b, w, n);
}

#endif
