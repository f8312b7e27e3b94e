/* ec_scalar.h: scalar operations of generated code that C has no operator for. */
#ifndef EC_SCALAR_H
#define EC_SCALAR_H

#include "ec.h"

/* The smaller and the larger of two numbers; the first one where they are equal. */
EC_KERNEL int32_t ec_min_i32(int32_t a, int32_t b) { return b < a ? b : a; }
EC_KERNEL int32_t ec_max_i32(int32_t a, int32_t b) { return a < b ? b : a; }
EC_KERNEL uint32_t ec_min_u32(uint32_t a, uint32_t b) { return b < a ? b : a; }
EC_KERNEL uint32_t ec_max_u32(uint32_t a, uint32_t b) { return a < b ? b : a; }
EC_KERNEL int64_t ec_min_i64(int64_t a, int64_t b) { return b < a ? b : a; }
EC_KERNEL int64_t ec_max_i64(int64_t a, int64_t b) { return a < b ? b : a; }
EC_KERNEL uint64_t ec_min_u64(uint64_t a, uint64_t b) { return b < a ? b : a; }
EC_KERNEL uint64_t ec_max_u64(uint64_t a, uint64_t b) { return a < b ? b : a; }

/* The same; a NaN on either side is the result. */
EC_KERNEL float ec_min_f32(float a, float b) { return b < a || b != b ? b : a; }
EC_KERNEL float ec_max_f32(float a, float b) { return a < b || b != b ? b : a; }

/* |x|; x is not the smallest integer. */
EC_KERNEL int32_t ec_abs_i32(int32_t x) { return x < 0 ? -x : x; }
EC_KERNEL int64_t ec_abs_i64(int64_t x) { return x < 0 ? -x : x; }

/* x modulo 2^32. */
EC_KERNEL uint32_t ec_i32_to_u32(int32_t x) { return (uint32_t)x; }

/* Conversions of real numbers truncate toward zero and saturate; NaN becomes 0. The bounds are exact as floats. */
EC_KERNEL int32_t ec_f32_to_i32(float x)
{
    if (x >= 2147483648.0f) {
        return INT32_MAX;
    }
    return x >= -2147483648.0f ? (int32_t)x : x != x ? 0 : INT32_MIN;
}

EC_KERNEL uint32_t ec_f32_to_u32(float x)
{
    if (x >= 4294967296.0f) {
        return UINT32_MAX;
    }
    return x >= 1.0f ? (uint32_t)x : 0u;
}

EC_KERNEL int64_t ec_f32_to_i64(float x)
{
    if (x >= 9223372036854775808.0f) {
        return INT64_MAX;
    }
    return x >= -9223372036854775808.0f ? (int64_t)x : x != x ? 0 : INT64_MIN;
}

EC_KERNEL uint64_t ec_f32_to_u64(float x)
{
    if (x >= 18446744073709551616.0f) {
        return UINT64_MAX;
    }
    return x >= 1.0f ? (uint64_t)x : 0u;
}

EC_KERNEL int8_t ec_f32_to_i8(float x) { return (int8_t)ec_clamp(ec_f32_to_i32(x), INT8_MIN, INT8_MAX); }
EC_KERNEL uint8_t ec_f32_to_u8(float x) { return (uint8_t)ec_clamp(ec_f32_to_i32(x), 0, UINT8_MAX); }
EC_KERNEL int16_t ec_f32_to_i16(float x) { return (int16_t)ec_clamp(ec_f32_to_i32(x), INT16_MIN, INT16_MAX); }
EC_KERNEL uint16_t ec_f32_to_u16(float x) { return (uint16_t)ec_clamp(ec_f32_to_i32(x), 0, UINT16_MAX); }

#endif
