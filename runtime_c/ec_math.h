/* ec_math.h: the real functions of the runtime, float32 in and out, with the same bits on every target.
 *
 * Only float32 + - * /, conversions and integer arithmetic: no double, no libm. Every operation is rounded on its own
 * (no fused multiply-add, see below), so a soft-float Cortex-M3 and an x86-64 give equal bits. The error bounds are
 * the largest error found against float64 over every 61st float, rounded up, in units in the last place (ULP) of the
 * result; tests/test_math.py holds them. Polynomials are our own minimax fits on the stated interval. NaN in gives NaN
 * out unless C says otherwise; arguments outside the domain give NaN, poles give infinities, signs of zero are those
 * of C99 Annex F. The sign and payload of a NaN are the one thing that differs between targets. */
#ifndef EC_MATH_H
#define EC_MATH_H

#include "ec.h"

#define EC_MATH_H

#include "ec.h"

/* A fused multiply-add rounds once where this file and the float kernels round twice. The build uses -std=c99 or
 * -ffp-contract=off; for a build that has neither, ask here as well. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__) && defined(__FP_FAST_FMAF)
#pragma GCC optimize("fp-contract=off")
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#error "edgec: float32 must be evaluated as float32 (on 32-bit x86: -msse2 -mfpmath=sse)"
#endif

#define EC_MATH static inline

/* ---- bits ----------------------------------------------------------------------------------------------------- */

EC_KERNEL uint32_t ec_float_bits(float x)
{
    union {
        float f;
        uint32_t u;
    } v;
    v.f = x;
    return v.u;
}

EC_KERNEL float ec_bits_float(uint32_t u)
{
    union {
        float f;
        uint32_t u;
    } v;
    v.u = u;
    return v.f;
}

EC_MATH bool ec_isnan(float x)
{
    return (ec_float_bits(x) & 0x7fffffffu) > 0x7f800000u;
}

EC_MATH bool ec_isinf(float x)
{
    return (ec_float_bits(x) & 0x7fffffffu) == 0x7f800000u;
}

EC_KERNEL float ec_fabsf(float x)
{
    return ec_bits_float(ec_float_bits(x) & 0x7fffffffu);
}

/* The magnitude of x with the sign of s. */
EC_KERNEL float ec_copysignf(float x, float s)
{
    return ec_bits_float((ec_float_bits(x) & 0x7fffffffu) | (ec_float_bits(s) & 0x80000000u));
}

/* 2^k for -126 <= k <= 127. */
EC_KERNEL float ec_power_of_2(int32_t k)
{
    return ec_bits_float((uint32_t)(k + 127) << 23);
}

/* v * 2^k for |v| in [1/4, 4] and -160 <= k <= 140, in two steps: one rounding where the result is subnormal. */
EC_KERNEL float ec_scale_by_2(float v, int32_t k)
{
    const int32_t half = k >> 1;
    return v * ec_power_of_2(half) * ec_power_of_2(k - half);
}

/* ---- rounding to integers: exact ------------------------------------------------------------------------------ */

EC_MATH float ec_truncf(float x)
{
    if (!(ec_fabsf(x) < 8388608.0f)) { /* no fraction bits, infinite or NaN */
        return x;
    }
    return ec_copysignf((float)(int32_t)x, x);
}

EC_MATH float ec_floorf(float x)
{
    const float t = ec_truncf(x);
    return t > x ? t - 1.0f : t;
}

EC_MATH float ec_ceilf(float x)
{
    const float t = ec_truncf(x);
    return t < x ? ec_copysignf(t + 1.0f, x) : t;
}

/* To nearest, ties to even. */
EC_MATH float ec_roundf(float x)
{
    const float a = ec_fabsf(x);
    if (!(a < 8388608.0f)) {
        return x;
    }
    int32_t n = (int32_t)a;
    const float rest = a - (float)n; /* exact */
    if (rest > 0.5f || (rest == 0.5f && (n & 1) != 0)) {
        n += 1;
    }
    return ec_copysignf((float)n, x);
}

/* ---- square root and remainder: exactly rounded, exact ---------------------------------------------------------- */

/* Digit by digit: 25 binary digits of the root of 50, the last one rounds. */
EC_MATH float ec_sqrtf_digits(float x)
{
    uint32_t m = ec_float_bits(x);
    int32_t e = (int32_t)(m >> 23);
    if (x == 0.0f || ec_isnan(x) || m == 0x7f800000u) {
        return x;
    }
    if (x < 0.0f) {
        return EC_NAN;
    }
    m &= 0x7fffffu;
    if (e == 0) { /* subnormal */
        for (e = 1; m < 0x800000u; e--) {
            m <<= 1;
        }
    }
    m |= 0x800000u;
    e -= 127;
    if ((e & 1) != 0) {
        m <<= 1;
        e -= 1;
    }
    uint32_t root = 0, rest = 0;
    m <<= 7; /* x = m * 2^(e - 30), 1 <= m * 2^-30 < 4 */
    for (int32_t digit = 0; digit < 25; digit++) {
        const uint32_t trial = (root << 2) | 1u;
        rest = (rest << 2) | (m >> 30);
        m <<= 2;
        root <<= 1;
        if (rest >= trial) {
            rest -= trial;
            root |= 1u;
        }
    }
    /* The hidden bit of the rounded root adds one to the exponent. A tie would need a root of exactly 25 digits. */
    return ec_bits_float(((uint32_t)(e / 2 + 126) << 23) + ((root + 1u) >> 1));
}

/* Correctly rounded. The instruction where the compiler is sure to use it (it may call libm to set errno otherwise). */
EC_MATH float ec_sqrtf(float x)
{
#if defined(__GNUC__) && defined(__ARM_FP) && (__ARM_FP & 4) && defined(__arm__)
    float r;
    __asm__("vsqrt.f32 %0, %1" : "=t"(r) : "t"(x));
    return r;
#elif defined(__GNUC__) && defined(__SSE2__) && defined(__NO_MATH_ERRNO__)
    return __builtin_sqrtf(x);
#else
    return ec_sqrtf_digits(x);
#endif
}

/* x - y * trunc(x / y), exact, with the sign of x. */
EC_MATH float ec_fmodf(float x, float y)
{
    uint32_t a = ec_float_bits(x) & 0x7fffffffu, b = ec_float_bits(y) & 0x7fffffffu;
    if (a >= 0x7f800000u || b > 0x7f800000u || b == 0) {
        return EC_NAN;
    }
    if (a < b) {
        return x;
    }
    int32_t ea = (int32_t)(a >> 23), eb = (int32_t)(b >> 23);
    a = ea > 0 ? (a & 0x7fffffu) | 0x800000u : a;
    b = eb > 0 ? (b & 0x7fffffu) | 0x800000u : b;
    ea = ea > 0 ? ea : 1;
    eb = eb > 0 ? eb : 1;
    for (a %= b; ea > eb && a != 0; ea--) { /* long division: at most 253 digits */
        a <<= 1;
        a = a >= b ? a - b : a;
    }
    for (; eb > 1 && a != 0 && a < 0x800000u; eb--) {
        a <<= 1;
    }
    a = a < 0x800000u ? a : a + ((uint32_t)(eb - 1) << 23); /* the hidden bit adds one to the exponent */
    return ec_copysignf(ec_bits_float(a), x);
}

/* ---- exponential and logarithm ---------------------------------------------------------------------------------- */

/* 2^k * e^r for |r| <= 0.35; fit on [-0.347, 0.347], 2^-28. */
EC_MATH float ec_exp_kernel(float r, int32_t k)
{
    const float q = 0.49999994f + r * (0.166665211f + r * (0.0416682772f + r * (0.00836868677f + r * 0.00138198235f)));
    return ec_scale_by_2(1.0f + (r + r * r * q), k);
}

/* 2^k * e^x for |x| <= 104. */
EC_MATH float ec_exp_scaled(float x, int32_t k)
{
    const int32_t n = (int32_t)(x * 1.44269504f + (x < 0.0f ? -0.5f : 0.5f));
    const float t = (float)n; /* the first product is exact: 9 bits by 10 */
    return ec_exp_kernel((x - t * 0.693359375f) + t * 2.12194440e-4f, n + k);
}

/* At most 1 ULP. */
EC_MATH float ec_expf(float x)
{
    if (ec_isnan(x)) {
        return x;
    }
    if (x > 88.8f) {
        return EC_INFINITY;
    }
    if (x < -104.0f) {
        return 0.0f;
    }
    return ec_exp_scaled(x, 0);
}

/* log(2^k * (1 + f)) + c for f in [sqrt(1/2) - 1, sqrt(2) - 1] and small c; fit 2^-30. */
EC_MATH float ec_log_kernel(int32_t k, float f, float c)
{
    const float z = f * f, t = (float)k;
    float q = 0.11883568f + f * (-0.116714492f + f * 0.0675095618f);
    q = 0.20002073f + f * (-0.166679963f + f * (0.142203271f + f * (-0.124060318f + f * q)));
    q = 0.333333135f + f * (-0.250000089f + f * q);
    return t * 0.693359375f + (f + ((f * z * q + (c - t * 2.12194440e-4f)) - 0.5f * z));
}

/* log(x) + c for 0 < x < infinity and small c. */
EC_MATH float ec_log_scaled(float x, float c)
{
    uint32_t u = ec_float_bits(x);
    int32_t k = 0;
    if (u < 0x800000u) { /* subnormal */
        u = ec_float_bits(x * 8388608.0f);
        k = -23;
    }
    u += 0x3f800000u - 0x3f3504f3u; /* the exponent counts from sqrt(1/2) */
    k += (int32_t)(u >> 23) - 127;
    return ec_log_kernel(k, ec_bits_float((u & 0x7fffffu) + 0x3f3504f3u) - 1.0f, c);
}

/* At most 1 ULP. */
EC_MATH float ec_logf(float x)
{
    if (ec_isnan(x) || x == EC_INFINITY) {
        return x;
    }
    if (!(x > 0.0f)) {
        return x == 0.0f ? -EC_INFINITY : EC_NAN;
    }
    return ec_log_scaled(x, 0.0f);
}

/* log(1 + x) for -1 < x < 2^30, at most 1 ULP: the rounding error of 1 + x is put back. */
EC_MATH float ec_log1pf(float x)
{
    const float u = 1.0f + x;
    if (ec_fabsf(x) < 5.9604645e-8f) { /* 2^-24 */
        return x;
    }
    return ec_log_scaled(u, (x < 1.0f ? x - (u - 1.0f) : 1.0f - (u - x)) / u);
}

/* ---- hyperbolic functions --------------------------------------------------------------------------------------- */

/* At most 1.4 ULP; fit on [0, 0.625], 2^-27. */
EC_MATH float ec_tanhf(float x)
{
    const float a = ec_fabsf(x), z = x * x;
    if (a < 2.44140625e-4f) { /* 2^-12; also keeps the sign of zero */
        return x;
    }
    if (a < 0.625f) {
        const float q = 0.133314103f + z * (-0.0537371412f + z * (0.0206308253f + z * -0.00569581287f));
        return x + x * z * (-0.333332807f + z * q);
    }
    if (ec_isnan(x)) {
        return x;
    }
    return ec_copysignf(a > 9.1f ? 1.0f : 1.0f - 2.0f / (ec_exp_scaled(2.0f * a, 0) + 1.0f), x);
}

/* At most 1.7 ULP; fit on [0, 1], 2^-31. */
EC_MATH float ec_sinhf(float x)
{
    const float a = ec_fabsf(x), z = x * x;
    if (a < 1.0f) {
        const float q = 0.166666672f + z * (0.00833331048f + z * (0.000198428956f + z * 2.78221319e-06f));
        return x + x * z * q;
    }
    if (ec_isnan(x)) {
        return x;
    }
    if (a > 90.0f) {
        return ec_copysignf(EC_INFINITY, x);
    }
    const float h = ec_exp_scaled(a, -1); /* e^a / 2 */
    return ec_copysignf(h - 0.25f / h, x);
}

/* At most 1.5 ULP. */
EC_MATH float ec_coshf(float x)
{
    const float a = ec_fabsf(x);
    if (ec_isnan(x)) {
        return x;
    }
    if (a > 90.0f) {
        return EC_INFINITY;
    }
    const float h = ec_exp_scaled(a, -1);
    return h + 0.25f / h;
}

/* At most 1.8 ULP. */
EC_MATH float ec_asinhf(float x)
{
    const float a = ec_fabsf(x);
    if (!(a < 16777216.0f)) { /* a^2 + 1 is a^2; also infinity and NaN */
        return ec_copysignf(ec_logf(a) + 0.693147182f, x);
    }
    return ec_copysignf(ec_log1pf(a + a * a / (1.0f + ec_sqrtf(1.0f + a * a))), x);
}

/* At most 2 ULP. */
EC_MATH float ec_acoshf(float x)
{
    const float t = x - 1.0f;
    if (x < 1.0f) {
        return EC_NAN;
    }
    if (!(x < 16777216.0f)) {
        return ec_logf(x) + 0.693147182f;
    }
    return ec_log1pf(t + ec_sqrtf(2.0f * t + t * t));
}

/* At most 2.1 ULP. */
EC_MATH float ec_atanhf(float x)
{
    const float a = ec_fabsf(x);
    if (!(a < 1.0f)) {
        return a == 1.0f ? ec_copysignf(EC_INFINITY, x) : EC_NAN;
    }
    return ec_copysignf(0.5f * ec_log1pf(2.0f * a / (1.0f - a)), x);
}

/* ---- error function --------------------------------------------------------------------------------------------- */

/* At most 1.4 ULP; fits of erf(x) / x - 1 on [0, 1], 2^-29, and of -log(1 - erf(x)) on [1, 3.96], 2^-29. */
EC_MATH float ec_erff(float x)
{
    const float a = ec_fabsf(x), z = x * x;
    float q;
    if (a < 1.0f) {
        q = -0.0268533472f + z * (0.0051871622f + z * (-0.00079978531f + z * 7.80690316e-05f));
        return x + x * (0.128379166f + z * (-0.37612626f + z * (0.112835787f + z * q)));
    }
    if (ec_isnan(x)) {
        return x;
    }
    if (a > 3.95f) {
        return ec_copysignf(1.0f, x);
    }
    q = 0.103106916f + a * (-0.0218381416f + a * (0.0029476746f + a * -0.000186380159f));
    q = 0.000341512903f + a * (1.12708926f + a * (0.638144672f + a * q));
    return ec_copysignf(1.0f - ec_exp_scaled(-q, 0), x);
}

/* ---- trigonometric functions ------------------------------------------------------------------------------------ */

/* The n (mod 4) and r in [-pi/4, pi/4] with x = n * pi/2 + r, for finite x; returns n. Exact integer arithmetic with 94
 * fraction bits of 2/pi, so r is correctly rounded but for one case in hundreds, for every x. */
EC_MATH int32_t ec_trig_reduce(float x, float *r)
{
    /* 32 zeros, then the binary digits of 2/pi. */
    static const uint32_t digits[8] = {0u,          0xa2f9836eu, 0x4e441529u, 0xfc2757d1u,
                                       0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu};
    const uint32_t u = ec_float_bits(x) & 0x7fffffffu;
    if (u < 0x3f490fdbu) { /* pi/4 */
        *r = x;
        return 0;
    }
    /* |x| = m * 2^e; the window w of 96 digits begins where the product m * w has the weight 2 in its top digit. */
    const uint32_t m = (u & 0x7fffffu) | 0x800000u, at = (u >> 23) - 120u, s = at & 31u;
    const uint32_t *d = digits + (at >> 5);
    const uint32_t w0 = (uint32_t)((((uint64_t)d[0] << 32 | d[1]) << s) >> 32);
    const uint32_t w1 = (uint32_t)((((uint64_t)d[1] << 32 | d[2]) << s) >> 32);
    const uint32_t w2 = (uint32_t)((((uint64_t)d[2] << 32 | d[3]) << s) >> 32);
    const uint64_t turns = ((uint64_t)(m * w0) << 32) + (uint64_t)m * w1 + (((uint64_t)m * w2) >> 32);
    uint32_t n = (uint32_t)(turns >> 62);
    uint64_t part = turns << 2; /* fraction of a quarter turn * 2^64 */
    bool negative = false;
    if ((part >> 63) != 0) { /* the nearer quarter is the next one */
        part = 0u - part;
        n += 1;
        negative = true;
    }
    int32_t e = -31;
    for (; (part >> 63) == 0 && e > -90; e--) {
        part <<= 1;
    }
    part = (part >> 32) * 0xc90fdaa2u; /* pi/2 * 2^31 */
    const float v = (float)(uint32_t)(part >> 32) * ec_power_of_2(e);
    if ((ec_float_bits(x) >> 31) != 0) {
        n = 0u - n;
        negative = !negative;
    }
    *r = negative ? -v : v;
    return (int32_t)(n & 3u);
}

/* sin(r) for |r| <= pi/4; fit 2^-32. */
EC_MATH float ec_sin_kernel(float r)
{
    const float z = r * r;
    if (z < 5.9604645e-8f) { /* |r| < 2^-12; also keeps the sign of zero */
        return r;
    }
    return r + r * z * (-0.166666672f + z * (0.0083333794f + z * (-0.000198530906f + z * 2.83304371e-06f)));
}

/* cos(r) for |r| <= pi/4; fit 2^-33. */
EC_MATH float ec_cos_kernel(float r)
{
    const float z = r * r, h = 0.5f * z, w = 1.0f - h;
    return w + (((1.0f - w) - h) + z * z * (0.0416666456f + z * (-0.00138873106f + z * 2.44325638e-05f)));
}

/* At most 1.5 ULP for every finite x. */
EC_MATH float ec_sinf(float x)
{
    float r;
    if (ec_isnan(x) || ec_isinf(x)) {
        return EC_NAN;
    }
    const int32_t n = ec_trig_reduce(x, &r);
    const float v = (n & 1) != 0 ? ec_cos_kernel(r) : ec_sin_kernel(r);
    return (n & 2) != 0 ? -v : v;
}

/* At most 1.5 ULP for every finite x. */
EC_MATH float ec_cosf(float x)
{
    float r;
    if (ec_isnan(x) || ec_isinf(x)) {
        return EC_NAN;
    }
    const int32_t n = ec_trig_reduce(x, &r) + 1;
    const float v = (n & 1) != 0 ? ec_cos_kernel(r) : ec_sin_kernel(r);
    return (n & 2) != 0 ? -v : v;
}

/* At most 3.1 ULP for every finite x. */
EC_MATH float ec_tanf(float x)
{
    float r;
    if (ec_isnan(x) || ec_isinf(x)) {
        return EC_NAN;
    }
    const int32_t n = ec_trig_reduce(x, &r);
    const float s = ec_sin_kernel(r), c = ec_cos_kernel(r);
    return (n & 1) != 0 ? -c / s : s / c;
}

/* asin(x) for |x| <= 1/2 with z = x^2; fit 2^-31. */
EC_MATH float ec_asin_kernel(float x, float z)
{
    const float q = 0.0445133522f + z * (0.0318395235f + z * (0.0143121742f + z * 0.0377021171f));
    return x + x * z * (0.166666597f + z * (0.0750052184f + z * q));
}

/* At most 2.4 ULP. */
EC_MATH float ec_asinf(float x)
{
    const float a = ec_fabsf(x), z = 0.5f - 0.5f * a;
    if (!(a <= 1.0f)) {
        return EC_NAN;
    }
    if (a <= 0.5f) {
        return ec_asin_kernel(x, x * x);
    }
    return ec_copysignf(1.57079637f - (2.0f * ec_asin_kernel(ec_sqrtf(z), z) + 4.37113883e-8f), x);
}

/* At most 1.1 ULP. */
EC_MATH float ec_acosf(float x)
{
    const float a = ec_fabsf(x), z = 0.5f - 0.5f * a;
    if (!(a <= 1.0f)) {
        return EC_NAN;
    }
    if (a <= 0.5f) {
        return 1.57079637f - (ec_asin_kernel(x, x * x) + 4.37113883e-8f);
    }
    const float v = 2.0f * ec_asin_kernel(ec_sqrtf(z), z);
    return x > 0.0f ? v : 3.14159274f - (v + 8.74227766e-8f);
}

/* At most 1.9 ULP; fit on [0, tan(pi/8)], 2^-30. */
EC_MATH float ec_atanf(float x)
{
    const float a = ec_fabsf(x);
    float base = 0.0f, low = 0.0f, t = a;
    if (a > 2.41421366f) {
        t = -1.0f / a;
        base = 1.57079637f;
        low = -4.37113883e-8f;
    } else if (a > 0.414213568f) {
        t = (a - 1.0f) / (a + 1.0f);
        base = 0.785398185f;
        low = -2.18556941e-8f;
    }
    const float z = t * t;
    const float q = 0.199985281f + z * (-0.142443925f + z * (0.105991915f + z * -0.0609013885f));
    return ec_copysignf(base + (t + (t * z * (-0.333333164f + z * q) + low)), x);
}

/* ---- power ------------------------------------------------------------------------------------------------------ */

/* log2 of a finite x > 0 as *k + result * 2^-62, |result| <= 2^61.2; the result's relative error is below 2^-33 also
 * where *k is 0. The mantissa is brought within 1/32 of 1 by a table of reciprocals, a polynomial (fit 2^-37) does
 * the rest, all in integers. */
EC_MATH int64_t ec_log2_fixed(float x, int32_t *k)
{
    static const int16_t reciprocal[24] = {364, 349, 334, 321, 309, 298, 287, 278, 269, 256, 256, 245,
                                           237, 231, 224, 218, 213, 207, 202, 197, 193, 188, 184, 180};
    static const int64_t log2_of[24] = {/* -log2(reciprocal / 256) * 2^62 */
        -2341789442436693607, -2061807463384462291, -1769523720813159845, -1505390301764348412,
        -1251902250306568025, -1010736401494767392, -760498968092099876, -548518882095754375,
        -329561978246172450, 0, 0, 292205930800588648,
        513081203511554367, 683686872920025165, 888418612465801523, 1069061108278552959,
        1223435935227793672, 1413541912566001535, 1576221326252576324, 1742978339903099690,
        1879460183139267544, 2054096365169927225, 2197182665898767183, 2343413970963607858};
    uint32_t u = ec_float_bits(x);
    int32_t e = 0;
    if (u < 0x800000u) { /* subnormal */
        u = ec_float_bits(x * 8388608.0f);
        e = -23;
    }
    int32_t m = (int32_t)((u & 0x7fffffu) | 0x800000u); /* x = m * 2^(e - 24) with m in [0.707, 1.414) * 2^24 */
    e += (int32_t)(u >> 23) - 126;
    if (m < 0xb504f3) {
        m *= 2;
        e -= 1;
    }
    *k = e;
    const int32_t i = (m >> 19) - 22;
    const int64_t f = (int64_t)m * reciprocal[i] - ((int64_t)1 << 32); /* exact, * 2^32, below 2^27.1 */
    int64_t q = -4136076769; /* log2(1 + f) / f, * 2^34 */
    q = 4962253667 + ((q * f) >> 32);
    q = -6196325563 + ((q * f) >> 32);
    q = 8261768790 + ((q * f) >> 32);
    q = -12392656038 + ((q * f) >> 32);
    q = 24785312075 + ((q * f) >> 32);
    return log2_of[i] + ((f * q) >> 4);
}

/* x^y for finite x > 0 and finite y: 2^(y * log2(x)). */
EC_MATH float ec_pow_kernel(float x, float y)
{
    int32_t k;
    const int64_t l = ec_log2_fixed(x, &k);
    const float log2 = (float)k + (float)(int32_t)(l >> 32) * 9.31322575e-10f + (float)(uint32_t)l * 2.16840434e-19f;
    const float estimate = y * log2;
    if (estimate > 129.0f) {
        return EC_INFINITY;
    }
    if (estimate < -151.0f) {
        return 0.0f;
    }
    if (ec_fabsf(estimate) < 1.49011612e-8f) { /* 2^-26: no more than a quarter of an ULP from 1 */
        return 1.0f;
    }
    /* So 2^-34 < |y| < 2^31: y = m * 2^e. t = y * (k + l * 2^-62) * 2^32 in 41 bits and a sign. */
    const uint32_t u = ec_float_bits(y) & 0x7fffffffu;
    const int32_t magnitude = (int32_t)((u & 0x7fffffu) | 0x800000u), e = (int32_t)(u >> 23) - 150;
    const int64_t m = y < 0.0f ? -magnitude : magnitude;
    const int32_t up = e + 32, down = 30 - e; /* up: -26 .. 40, where k is not 0: at most 17; down: 22 .. 88 */
    int64_t t = 0;
    if (k != 0) {
        t = up >= 0 ? m * k * ((int64_t)1 << up) : (m * k) >> -up;
    }
    const int64_t high = m * (l >> 32), low = m * (int64_t)(l & 0xffffffff);
    t += down >= 32 ? (high + (low >> 32)) >> (down - 32) : high * ((int64_t)1 << (32 - down)) + (low >> down);
    const int64_t n = (t + ((int64_t)1 << 31)) >> 32;
    const int64_t r = ((t - n * ((int64_t)1 << 32)) * 2977044471) >> 32; /* the rest * log(2) * 2^32 */
    return ec_exp_kernel((float)(int32_t)r * 2.32830644e-10f, (int32_t)n);
}

/* At most 1 ULP; special cases as C99's pow. */
EC_MATH float ec_powf(float x, float y)
{
    const float a = ec_fabsf(x);
    if (y == 0.0f || x == 1.0f) {
        return 1.0f;
    }
    if (ec_isnan(x) || ec_isnan(y)) {
        return EC_NAN;
    }
    if (ec_isinf(y)) {
        return a == 1.0f ? 1.0f : ((a > 1.0f) == (y > 0.0f) ? EC_INFINITY : 0.0f);
    }
    const bool whole = ec_truncf(y) == y;
    const bool odd = whole && ec_fabsf(y) < 16777216.0f && ((int32_t)y & 1) != 0;
    float v;
    if (x == 0.0f || ec_isinf(x)) {
        v = (a > 0.0f) == (y > 0.0f) ? EC_INFINITY : 0.0f;
    } else if (x < 0.0f && !whole) {
        return EC_NAN;
    } else {
        v = ec_pow_kernel(a, y);
    }
    return odd && (ec_float_bits(x) >> 31) != 0 ? -v : v;
}

#endif
