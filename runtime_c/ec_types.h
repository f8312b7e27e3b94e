/* ec_types.h: element types that are storage alone: narrow floats and integers below a byte. */
#ifndef EC_TYPES_H
#define EC_TYPES_H

#include "ec_math.h"

/* The number with the bits v of a float with m mantissa bits and this exponent bias; v has no sign and is finite. */
EC_KERNEL float ec_from_small(uint32_t v, uint32_t m, int32_t bias)
{
    const int32_t e = (int32_t)(v >> m);
    const uint32_t f = v & ((1u << m) - 1u);

    if (e == 0) {
        return (float)f * ec_power_of_2(1 - bias - (int32_t)m);
    }
    return ec_bits_float(((uint32_t)(e + 127 - bias) << 23) | (f << (23u - m)));
}

/* |x| to the nearest such float, ties to even; above `max` it is `over`. x is not a NaN. */
EC_KERNEL uint32_t ec_to_small(float x, uint32_t m, int32_t bias, uint32_t max, uint32_t over)
{
    const uint32_t a = ec_float_bits(x) & 0x7fffffffu;
    const int32_t e = (int32_t)(a >> 23) - 127 + bias;
    uint32_t v = (a & 0x7fffffu) | 0x800000u, shift = 23u - m;

    if (e >= 1) {
        v = (a & 0x7fffffu) | ((uint32_t)e << 23);
    } else if (e < -(int32_t)m) {
        return 0u;
    } else {
        shift += (uint32_t)(1 - e);
    }
    v = (v + (1u << (shift - 1u)) - 1u + ((v >> shift) & 1u)) >> shift;
    return v > max ? over : v;
}

#define EC_SIGN(x, bit) ((ec_float_bits(x) >> 31) << (bit))

EC_MATH float ec_f16_to_f32(uint16_t v)
{
    const float sign = (v & 0x8000u) != 0u ? -1.0f : 1.0f;
    const uint32_t a = v & 0x7fffu;

    if (a >= 0x7c00u) {
        return a == 0x7c00u ? sign * EC_INFINITY : EC_NAN;
    }
    return sign * ec_from_small(a, 10u, 15);
}

EC_MATH uint16_t ec_f32_to_f16(float x)
{
    return (uint16_t)(ec_isnan(x) ? 0x7e00u : (ec_to_small(x, 10u, 15, 0x7bffu, 0x7c00u) | EC_SIGN(x, 15)));
}

EC_MATH float ec_bf16_to_f32(uint16_t v) { return ec_bits_float((uint32_t)v << 16); }

EC_MATH uint16_t ec_f32_to_bf16(float x)
{
    const uint32_t u = ec_float_bits(x);
    return (uint16_t)(ec_isnan(x) ? 0x7fc0u : ((u + 0x7fffu + ((u >> 16) & 1u)) >> 16));
}

EC_MATH float ec_f8e4m3fn_to_f32(uint8_t v)
{
    const float sign = (v & 0x80u) != 0u ? -1.0f : 1.0f;
    return (v & 0x7fu) == 0x7fu ? EC_NAN : sign * ec_from_small(v & 0x7fu, 3u, 7);
}

EC_MATH uint8_t ec_f32_to_f8e4m3fn(float x)
{
    return (uint8_t)(ec_isnan(x) ? 0x7fu : (ec_to_small(x, 3u, 7, 0x7eu, 0x7fu) | EC_SIGN(x, 7)));
}

EC_MATH float ec_f8e5m2_to_f32(uint8_t v)
{
    const float sign = (v & 0x80u) != 0u ? -1.0f : 1.0f;
    const uint32_t a = v & 0x7fu;

    if (a >= 0x7cu) {
        return a == 0x7cu ? sign * EC_INFINITY : EC_NAN;
    }
    return sign * ec_from_small(a, 2u, 15);
}

EC_MATH uint8_t ec_f32_to_f8e5m2(float x)
{
    return (uint8_t)(ec_isnan(x) ? 0x7eu : (ec_to_small(x, 2u, 15, 0x7bu, 0x7cu) | EC_SIGN(x, 7)));
}

/* The types "uz" have one zero and one NaN, 0x80. */
EC_MATH float ec_from_uz(uint8_t v, uint32_t m, int32_t bias)
{
    const float sign = (v & 0x80u) != 0u ? -1.0f : 1.0f;
    return v == 0x80u ? EC_NAN : sign * ec_from_small(v & 0x7fu, m, bias);
}

EC_MATH uint8_t ec_to_uz(float x, uint32_t m, int32_t bias)
{
    const uint32_t a = ec_isnan(x) ? 0x80u : ec_to_small(x, m, bias, 0x7fu, 0x80u);
    return (uint8_t)(a == 0u || a == 0x80u ? a : a | EC_SIGN(x, 7));
}

EC_MATH float ec_f8e4m3fnuz_to_f32(uint8_t v) { return ec_from_uz(v, 3u, 8); }
EC_MATH uint8_t ec_f32_to_f8e4m3fnuz(float x) { return ec_to_uz(x, 3u, 8); }
EC_MATH float ec_f8e5m2fnuz_to_f32(uint8_t v) { return ec_from_uz(v, 2u, 16); }
EC_MATH uint8_t ec_f32_to_f8e5m2fnuz(float x) { return ec_to_uz(x, 2u, 16); }

/* A power of two without a sign, rounded up; 0xff is NaN, which negative numbers become. */
EC_MATH float ec_f8e8m0_to_f32(uint8_t v)
{
    return v == 0xffu ? EC_NAN : v == 0u ? ec_bits_float(0x00400000u) : ec_bits_float((uint32_t)v << 23);
}

EC_MATH uint8_t ec_f32_to_f8e8m0(float x)
{
    const uint32_t u = ec_float_bits(x), e = (u + 0x7fffffu) >> 23;
    return (uint8_t)(ec_isnan(x) || (u >> 31) != 0u || e > 0xfeu ? 0xffu : e);
}

/* ---- several elements in a byte: element i of `from` and `to` ---- */

EC_KERNEL uint32_t ec_load_bits(const uint8_t *from, int32_t i, int32_t bits)
{
    return ((uint32_t)from[i * bits / 8] >> (i * bits % 8)) & ((1u << bits) - 1u);
}

EC_KERNEL void ec_store_bits(uint8_t *to, int32_t i, int32_t bits, uint32_t v)
{
    const uint32_t mask = (1u << bits) - 1u, old = to[i * bits / 8];
    to[i * bits / 8] = (uint8_t)((old & ~(mask << (i * bits % 8))) | ((v & mask) << (i * bits % 8)));
}

EC_KERNEL uint8_t ec_load_u4(const uint8_t *from, int32_t i) { return (uint8_t)ec_load_bits(from, i, 4); }
EC_KERNEL int8_t ec_load_i4(const uint8_t *from, int32_t i)
{
    return (int8_t)((int32_t)(ec_load_bits(from, i, 4) ^ 8u) - 8);
}
EC_KERNEL uint8_t ec_load_u2(const uint8_t *from, int32_t i) { return (uint8_t)ec_load_bits(from, i, 2); }
EC_KERNEL int8_t ec_load_i2(const uint8_t *from, int32_t i)
{
    return (int8_t)((int32_t)(ec_load_bits(from, i, 2) ^ 2u) - 2);
}
EC_KERNEL void ec_store_u4(uint8_t *to, int32_t i, uint8_t v) { ec_store_bits(to, i, 4, v); }
EC_KERNEL void ec_store_i4(uint8_t *to, int32_t i, int8_t v) { ec_store_bits(to, i, 4, (uint8_t)v); }
EC_KERNEL void ec_store_u2(uint8_t *to, int32_t i, uint8_t v) { ec_store_bits(to, i, 2, v); }
EC_KERNEL void ec_store_i2(uint8_t *to, int32_t i, int8_t v) { ec_store_bits(to, i, 2, (uint8_t)v); }

EC_MATH float ec_load_f4e2m1(const uint8_t *from, int32_t i)
{
    const uint32_t v = ec_load_bits(from, i, 4);
    return ((v & 8u) != 0u ? -1.0f : 1.0f) * ec_from_small(v & 7u, 1u, 1);
}

/* Larger numbers become the largest, a NaN -0: the type has neither infinity nor NaN. */
EC_MATH void ec_store_f4e2m1(uint8_t *to, int32_t i, float x)
{
    ec_store_bits(to, i, 4, ec_isnan(x) ? 8u : (ec_to_small(x, 1u, 1, 7u, 7u) | EC_SIGN(x, 3)));
}

#endif
