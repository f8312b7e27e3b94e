/* ec_double.h: scalar operations on float64. */
#ifndef EC_DOUBLE_H
#define EC_DOUBLE_H

#include "ec.h"

typedef char ec_assume_float64[(sizeof(double) == 8) ? 1 : -1];

/* The smaller and the larger of two numbers, the first one where they are equal; a NaN on either side is the result. */
EC_KERNEL double ec_min_f64(double a, double b) { return b < a || b != b ? b : a; }
EC_KERNEL double ec_max_f64(double a, double b) { return a < b || b != b ? b : a; }

EC_KERNEL bool ec_isnan_double(double x) { return x != x; }
EC_KERNEL double ec_abs_double(double x) { return x < 0.0 ? -x : x == 0.0 ? 0.0 : x; }
/* Halving leaves zero and the infinities alone. */
EC_KERNEL bool ec_isinf_double(double x) { return x != 0.0 && x * 0.5 == x; }

/* Conversions truncate toward zero and saturate; NaN becomes 0. The bounds are exact. */
EC_KERNEL int64_t ec_f64_to_i64(double x)
{
    if (x >= 9223372036854775808.0) {
        return INT64_MAX;
    }
    return x >= -9223372036854775808.0 ? (int64_t)x : x != x ? 0 : INT64_MIN;
}

EC_KERNEL uint64_t ec_f64_to_u64(double x)
{
    if (x >= 18446744073709551616.0) {
        return UINT64_MAX;
    }
    return x >= 1.0 ? (uint64_t)x : 0u;
}

EC_KERNEL int64_t ec_clamp_i64(int64_t v, int64_t lo, int64_t hi) { return v < lo ? lo : v > hi ? hi : v; }
EC_KERNEL int32_t ec_f64_to_i32(double x) { return (int32_t)ec_clamp_i64(ec_f64_to_i64(x), INT32_MIN, INT32_MAX); }
EC_KERNEL uint32_t ec_f64_to_u32(double x) { return (uint32_t)ec_clamp_i64(ec_f64_to_i64(x), 0, UINT32_MAX); }
EC_KERNEL int16_t ec_f64_to_i16(double x) { return (int16_t)ec_clamp_i64(ec_f64_to_i64(x), INT16_MIN, INT16_MAX); }
EC_KERNEL uint16_t ec_f64_to_u16(double x) { return (uint16_t)ec_clamp_i64(ec_f64_to_i64(x), 0, UINT16_MAX); }
EC_KERNEL int8_t ec_f64_to_i8(double x) { return (int8_t)ec_clamp_i64(ec_f64_to_i64(x), INT8_MIN, INT8_MAX); }
EC_KERNEL uint8_t ec_f64_to_u8(double x) { return (uint8_t)ec_clamp_i64(ec_f64_to_i64(x), 0, UINT8_MAX); }

/* Numbers of 2^52 and more are whole. */
EC_KERNEL double ec_trunc_double(double x)
{
    return ec_abs_double(x) < 4503599627370496.0 ? (double)(int64_t)x : x;
}

EC_KERNEL double ec_floor_double(double x)
{
    const double t = ec_trunc_double(x);
    return t > x ? t - 1.0 : t;
}

EC_KERNEL double ec_ceil_double(double x)
{
    const double t = ec_trunc_double(x);
    return t < x ? t + 1.0 : t;
}

/* Half to even: adding 2^52 leaves no bits for a fraction. */
EC_KERNEL double ec_round_double(double x)
{
    volatile double y = ec_abs_double(x);
    if (!(y < 4503599627370496.0)) {
        return x;
    }
    y += 4503599627370496.0;
    y -= 4503599627370496.0;
    return x < 0.0 ? -y : y;
}

/* The exact remainder with the sign of x: doubles of |y| are taken away, which is exact. */
EC_KERNEL double ec_fmod_double(double x, double y)
{
    const double d = ec_abs_double(y);
    double r = ec_abs_double(x);

    if (ec_isnan_double(x) || ec_isinf_double(x) || ec_isnan_double(y) || d == 0.0) {
        return (double)EC_NAN;
    }
    while (r >= d && !ec_isinf_double(d)) {
        double t = d;
        while (t <= r * 0.5) {
            t += t;
        }
        r -= t;
    }
    return x < 0.0 ? -r : r;
}

/* Newton's iteration on a number scaled to [1, 4); the last bit may be off by one. */
EC_KERNEL double ec_sqrt_double(double x)
{
    double scale = 1.0, y = x;

    if (x == 0.0 || ec_isnan_double(x) || (x > 0.0 && ec_isinf_double(x))) {
        return x;
    }
    if (x < 0.0) {
        return (double)EC_NAN;
    }
    while (y >= 4.0) {
        y *= 0.25;
        scale *= 2.0;
    }
    while (y < 1.0) {
        y *= 4.0;
        scale *= 0.5;
    }
    double r = 0.5 + 0.5 * y;
    for (int32_t k = 0; k < 6; k++) {
        r = 0.5 * (r + y / r);
    }
    return r * scale;
}

#endif
