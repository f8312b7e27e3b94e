/* ec.h: types, status codes and the integer arithmetic that every emitted file shares. C99, no libc. */
#ifndef EC_H
#define EC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__FAST_MATH__)
#error "edgec: -ffast-math changes results; compile without it"
#endif

/* Attributes. A port that keeps weights, hot code or the arena in a section of its own defines these on the command
 * line, e.g. -DEC_CODE='__attribute__((section(".itcm")))'. */
#ifndef EC_WEIGHTS
#define EC_WEIGHTS
#endif
#ifndef EC_CODE
#define EC_CODE
#endif
#ifndef EC_ARENA
#define EC_ARENA
#endif

/* A kernel is always inlined: with a constant parameter struct the compiler folds every shape. */
#if defined(__GNUC__)
#define EC_KERNEL static inline __attribute__((always_inline))
#define EC_NOINLINE __attribute__((noinline))
#define EC_WEAK __attribute__((weak))
#define EC_ALIGNED(n) __attribute__((aligned(n)))
#else
#define EC_KERNEL static inline
#define EC_NOINLINE
#define EC_WEAK
#define EC_ALIGNED(n)
#endif

/* Before a hot inner loop: loop control is 4 of its cycles on a Cortex-M3. */
#if defined(__clang__)
#define EC_UNROLL2 _Pragma("clang loop unroll_count(2)")
#define EC_UNROLL4 _Pragma("clang loop unroll_count(4)")
#define EC_UNROLL16 /* clang unrolls short loops of a known length by itself */
#elif defined(__GNUC__)
#define EC_UNROLL2 _Pragma("GCC unroll 2")
#define EC_UNROLL4 _Pragma("GCC unroll 4")
#define EC_UNROLL16 _Pragma("GCC unroll 16")
#else
#define EC_UNROLL2
#define EC_UNROLL4
#define EC_UNROLL16
#endif

/* ---- interface ---------------------------------------------------------------------------------------------- */

typedef int32_t ec_status;
enum {
    EC_OK = 0,
    EC_ERR_NULL = 1,  /* a pointer is NULL */
    EC_ERR_ARENA = 2, /* the arena is too small */
    EC_ERR_ALIGN = 3  /* the arena is not aligned to EC_ARENA_ALIGN */
};

#define EC_ARENA_ALIGN 16u

/* Element types; the numbers are those of ONNX's TensorProto. */
enum {
    EC_FLOAT32 = 1,
    EC_UINT8 = 2,
    EC_INT8 = 3,
    EC_UINT16 = 4,
    EC_INT16 = 5,
    EC_INT32 = 6,
    EC_INT64 = 7,
    EC_BOOL = 9,
    EC_FLOAT16 = 10,
    EC_FLOAT64 = 11,
    EC_UINT32 = 12,
    EC_UINT64 = 13,
    EC_BFLOAT16 = 16,
    EC_FLOAT8_E4M3FN = 17,
    EC_FLOAT8_E4M3FNUZ = 18,
    EC_FLOAT8_E5M2 = 19,
    EC_FLOAT8_E5M2FNUZ = 20,
    EC_UINT4 = 21, /* two elements in a byte, the first one in the low bits */
    EC_INT4 = 22,
    EC_FLOAT4_E2M1FN = 23,
    EC_FLOAT8_E8M0FNU = 24,
    EC_UINT2 = 25,
    EC_INT2 = 26
};

typedef struct {
    const char *name;
    const int32_t *shape; /* rank dimensions */
    uint32_t bytes;
    uint8_t dtype; /* EC_FLOAT32 ... */
    uint8_t rank;
    float scale; /* real = (integer - zero_point) * scale; 0: not quantised */
    int32_t zero_point;
} ec_tensor_info;

typedef struct {
    const char *name;
    const char *hash; /* of the ONNX file */
    const ec_tensor_info *inputs;
    const ec_tensor_info *outputs;
    uint32_t arena_bytes;
    uint16_t n_inputs, n_outputs, n_steps;
} ec_model_info;

/* After step i its (first) output lies at arena + offset. */
typedef struct {
    const char *name;
    uint32_t offset;
    uint32_t bytes;
} ec_step_info;

/* ---- arithmetic --------------------------------------------------------------------------------------------- */

/* What is assumed of the compiler beyond C99 (a false one makes an array of negative size): two's complement with a
 * flooring right shift, 8-bit bytes, IEEE single precision for float. */
typedef char ec_assume_shift_floors[((-3 >> 1) == -2) ? 1 : -1];
typedef char ec_assume_wide_shift_floors[(((int64_t)-1 >> 32) == -1) ? 1 : -1];
typedef char ec_assume_float32[(sizeof(float) == 4) ? 1 : -1];

/* The float clamp bound that means "none": the largest finite float, so that it may stand in any initialiser. */
#define EC_INF 3.402823466e+38f

/* The real ones, for padding rows and results. */
#if defined(__GNUC__)
#define EC_INFINITY __builtin_inff()
#define EC_NAN __builtin_nanf("")
#else
#define EC_INFINITY ((float)(1e300 * 1e300))
#define EC_NAN ((float)(EC_INFINITY * 0.0f))
#endif

/* Ends every step. gcc 12 may take a function whose only effect is to permute memory below one pointer for one without
 * effects, and drop the call (ipa-pure-const after induction variable optimisation); an empty asm keeps it. It costs no
 * instruction. */
#if defined(__GNUC__)
#define EC_BARRIER() __asm__ volatile("" ::: "memory")
#else
#define EC_BARRIER() ((void)0)
#endif

/* Stands after each tick of a step that runs by rows. Nothing; tests define it to look at the arena in between. */
#ifndef EC_TICK
#define EC_TICK(step, tick) ((void)0)
#endif

EC_KERNEL int32_t ec_clamp(int32_t v, int32_t lo, int32_t hi)
{
    v = v < lo ? lo : v;
    return v > hi ? hi : v;
}

/* v clamped to [lo, hi], which lies within int8. */
EC_KERNEL int8_t ec_sat8(int32_t v, int32_t lo, int32_t hi)
{
#if defined(__GNUC__) && defined(__ARM_FEATURE_SAT)
    /* gcc knows SSAT, but not once it has shared the two bounds between outputs: 5 cycles an output. */
    if (__builtin_constant_p(lo) && __builtin_constant_p(hi) && lo == -128 && hi == 127) {
        int32_t r;
        __asm__("ssat %0, #8, %1" : "=r"(r) : "r"(v));
        return (int8_t)r;
    }
#endif
    return (int8_t)ec_clamp(v, lo, hi);
}

/* floor(a * b / 2^32) from 16-bit halves, for cores that have no 64-bit product; no step can overflow. */
EC_KERNEL int32_t ec_mulh_halves(int32_t a, int32_t b)
{
    const int32_t ah = a >> 16, bh = b >> 16, al = a & 0xffff, bl = b & 0xffff;
    const int32_t u = ah * bl + (int32_t)(((uint32_t)al * (uint32_t)bl) >> 16);
    const int32_t v = al * bh + (u & 0xffff);
    return ah * bh + (u >> 16) + (v >> 16);
}

/* High word of a 64-bit product: floor(a * b / 2^32). */
EC_KERNEL int32_t ec_mulh(int32_t a, int32_t b)
{
#if defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB == 1
    return ec_mulh_halves(a, b);
#else
    return (int32_t)(((int64_t)a * b) >> 32);
#endif
}

/* floor((floor(acc * m / 2^32) + c) / 2^f): one exact rounding of acc * scale + zero point, half up, where
 * m = round(scale * 2^(32+f)) in [0, 2^31), 1 <= f <= 21, c = zero_point * 2^f + 2^(f-1). Nothing can overflow. */
EC_KERNEL int32_t ec_requant(int32_t acc, int32_t m, int32_t c, int32_t f)
{
    return (ec_mulh(acc, m) + c) >> f;
}

/* v clamped to [lo, hi]; a bound of -EC_INF or EC_INF is none (infinities pass). NaN stays NaN, -0 is not below 0. */
EC_KERNEL float ec_clampf(float v, float lo, float hi)
{
    if (lo > -EC_INF && v < lo) {
        v = lo;
    }
    if (hi < EC_INF && v > hi) {
        v = hi;
    }
    return v;
}

/* ---- windows along a row -------------------------------------------------------------------------------------- */

/* The first output column whose window does not begin left of the row; at most out_w. */
EC_KERNEL int32_t ec_inner_begin(int32_t out_w, int32_t stride, int32_t pad_left)
{
    return ec_clamp((pad_left + stride - 1) / stride, 0, out_w);
}

/* One past the last output column whose window (span = (taps - 1) * dilation + 1 columns) ends inside the row;
 * in [begin, out_w]. */
EC_KERNEL int32_t ec_inner_end(int32_t begin, int32_t in_w, int32_t out_w, int32_t span, int32_t stride,
                               int32_t pad_left)
{
    const int32_t room = in_w + pad_left - span; /* the largest column * stride that fits */
    return ec_clamp(room < 0 ? 0 : room / stride + 1, begin, out_w);
}

/* The first tap of a window beginning at column ix that is not left of the row; at most kw. */
EC_KERNEL int32_t ec_tap_begin(int32_t ix, int32_t kw, int32_t dilation)
{
    return ix >= 0 ? 0 : ec_clamp((dilation - 1 - ix) / dilation, 0, kw);
}

/* One past the last tap of a window beginning at column ix that is not right of the row of in_w columns. */
EC_KERNEL int32_t ec_tap_end(int32_t ix, int32_t in_w, int32_t kw, int32_t dilation)
{
    return ix >= in_w ? 0 : ec_clamp((in_w - ix + dilation - 1) / dilation, 0, kw);
}

/* ---- words in memory ------------------------------------------------------------------------------------------ */

/* Four bytes from any address, the first one lowest. */
EC_KERNEL uint32_t ec_ld4(const void *from)
{
#if defined(__GNUC__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint32_t v;
    __builtin_memcpy(&v, from, 4u);
    return v;
#else
    const uint8_t *b = (const uint8_t *)from;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
#endif
}

/* Stores four bytes at any address, the lowest one first. */
EC_KERNEL void ec_st4(void *to, uint32_t v)
{
#if defined(__GNUC__) && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    __builtin_memcpy(to, &v, 4u);
#else
    uint8_t *b = (uint8_t *)to;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
    b[2] = (uint8_t)(v >> 16);
    b[3] = (uint8_t)(v >> 24);
#endif
}

/* The same for word addresses, in one instruction on cores that have no other access. */
EC_KERNEL uint32_t ec_ld4w(const void *from)
{
#if defined(__GNUC__)
    from = __builtin_assume_aligned(from, 4);
#endif
    return ec_ld4(from);
}

EC_KERNEL void ec_st4w(void *to, uint32_t v)
{
#if defined(__GNUC__)
    to = __builtin_assume_aligned(to, 4);
#endif
    ec_st4(to, v);
}

#endif
