/* ec_scalar.h: scalar operations of generated code that C has no operator for. */
#ifndef EC_SCALAR_H
#define EC_SCALAR_H

#include "ec.h"

#if defined(__GNUC__)
#define EC_INFINITY __builtin_inff()
#define EC_NAN __builtin_nanf("")
#else
#define EC_INFINITY ((float)(1e308 * 1e308))
#define EC_NAN ((float)(1e308 * 1e308 * 0.0))
#endif

/* The smaller and the larger of two numbers; a NaN on either side is the result; the first one where they are equal. */
#define EC_DEFINE_MIN_MAX(name, type)                                                                                 \
    EC_KERNEL type ec_min_##name(type a, type b) { return b < a ? b : a; }                                            \
    EC_KERNEL type ec_max_##name(type a, type b) { return a < b ? b : a; }
#define EC_DEFINE_MIN_MAX_REAL(name, type)                                                                            \
    EC_KERNEL type ec_min_##name(type a, type b) { return b < a || b != b ? b : a; }                                  \
    EC_KERNEL type ec_max_##name(type a, type b) { return a < b || b != b ? b : a; }
EC_DEFINE_MIN_MAX(i32, int32_t)
EC_DEFINE_MIN_MAX(u32, uint32_t)
EC_DEFINE_MIN_MAX(i64, int64_t)
EC_DEFINE_MIN_MAX(u64, uint64_t)
EC_DEFINE_MIN_MAX_REAL(f32, float)
EC_DEFINE_MIN_MAX_REAL(f64, double)
#undef EC_DEFINE_MIN_MAX
#undef EC_DEFINE_MIN_MAX_REAL

/* |x|; x is not the smallest integer. */
EC_KERNEL int32_t ec_abs_i32(int32_t x) { return x < 0 ? -x : x; }
EC_KERNEL int64_t ec_abs_i64(int64_t x) { return x < 0 ? -x : x; }

/* |x|, also of -0. */
#if defined(__GNUC__)
EC_KERNEL float ec_abs_f32(float x) { return __builtin_fabsf(x); }
EC_KERNEL double ec_abs_f64(double x) { return __builtin_fabs(x); }
#else
EC_KERNEL float ec_abs_f32(float x) { return x <= 0.0f ? 0.0f - x : x; }
EC_KERNEL double ec_abs_f64(double x) { return x <= 0.0 ? 0.0 - x : x; }
#endif

EC_KERNEL bool ec_isnan_f32(float x) { return x != x; }
EC_KERNEL bool ec_isnan_f64(double x) { return x != x; }
EC_KERNEL bool ec_isinf_f32(float x) { return x - x != 0.0f && x == x; }
EC_KERNEL bool ec_isinf_f64(double x) { return x - x != 0.0 && x == x; }

/* Conversions truncate toward zero and saturate; NaN becomes 0. top: the first real number above the range. */
#define EC_DEFINE_TO_SIGNED(name, from, type, top, lowest, highest)                                                   \
    EC_KERNEL type ec_##name(from x)                                                                                  \
    {                                                                                                                 \
        if (x >= (top)) {                                                                                             \
            return highest;                                                                                           \
        }                                                                                                             \
        return x >= -(top) ? (type)x : x != x ? 0 : lowest;                                                           \
    }
#define EC_DEFINE_TO_UNSIGNED(name, from, type, top, highest)                                                         \
    EC_KERNEL type ec_##name(from x)                                                                                  \
    {                                                                                                                 \
        if (x >= (top)) {                                                                                             \
            return highest;                                                                                           \
        }                                                                                                             \
        return x >= 1 ? (type)x : 0;                                                                                  \
    }
EC_DEFINE_TO_SIGNED(f32_to_i32, float, int32_t, 2147483648.0f, INT32_MIN, INT32_MAX)
EC_DEFINE_TO_SIGNED(f32_to_i64, float, int64_t, 9223372036854775808.0f, INT64_MIN, INT64_MAX)
EC_DEFINE_TO_SIGNED(f64_to_i32, double, int32_t, 2147483648.0, INT32_MIN, INT32_MAX)
EC_DEFINE_TO_SIGNED(f64_to_i64, double, int64_t, 9223372036854775808.0, INT64_MIN, INT64_MAX)
EC_DEFINE_TO_UNSIGNED(f32_to_u32, float, uint32_t, 4294967296.0f, UINT32_MAX)
EC_DEFINE_TO_UNSIGNED(f32_to_u64, float, uint64_t, 18446744073709551616.0f, UINT64_MAX)
EC_DEFINE_TO_UNSIGNED(f64_to_u32, double, uint32_t, 4294967296.0, UINT32_MAX)
EC_DEFINE_TO_UNSIGNED(f64_to_u64, double, uint64_t, 18446744073709551616.0, UINT64_MAX)
#undef EC_DEFINE_TO_SIGNED
#undef EC_DEFINE_TO_UNSIGNED

#define EC_DEFINE_TO_NARROW(from, name)                                                                               \
    EC_KERNEL int8_t ec_##name##_to_i8(from x) { return (int8_t)ec_clamp(ec_##name##_to_i32(x), INT8_MIN, INT8_MAX); }\
    EC_KERNEL int16_t ec_##name##_to_i16(from x)                                                                      \
    {                                                                                                                 \
        return (int16_t)ec_clamp(ec_##name##_to_i32(x), INT16_MIN, INT16_MAX);                                        \
    }                                                                                                                 \
    EC_KERNEL uint8_t ec_##name##_to_u8(from x) { return (uint8_t)ec_clamp(ec_##name##_to_i32(x), 0, UINT8_MAX); }    \
    EC_KERNEL uint16_t ec_##name##_to_u16(from x) { return (uint16_t)ec_clamp(ec_##name##_to_i32(x), 0, UINT16_MAX); }
EC_DEFINE_TO_NARROW(float, f32)
EC_DEFINE_TO_NARROW(double, f64)
#undef EC_DEFINE_TO_NARROW

#endif
