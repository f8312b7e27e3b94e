/* ec_mve.h (mve): the vector operations that the kernels of kernel/mve use, in Helium instructions (Armv8.1-M).
 *
 * A vector is 16 int8, 8 int16 or 4 int32 lanes. simd/mve_on_host says the same in plain C. */
#ifndef EC_MVE_H
#define EC_MVE_H

#include "ec.h"

#include <arm_mve.h>

typedef int8x16_t ec_v8;
typedef int16x8_t ec_v16;
typedef int32x4_t ec_v32;

/* ---- bytes ---------------------------------------------------------------------------------------------------- */

EC_KERNEL ec_v8 ec_v8_all(int8_t x)
{
    return vdupq_n_s8(x);
}

EC_KERNEL ec_v8 ec_v8_load(const int8_t *from)
{
    return vldrbq_s8(from);
}

/* The first n lanes (n <= 16), zeros behind them; no byte behind them is read. */
EC_KERNEL ec_v8 ec_v8_load_part(const int8_t *from, int32_t n)
{
    return vldrbq_z_s8(from, vctp8q((uint32_t)n));
}

EC_KERNEL void ec_v8_store(int8_t *to, ec_v8 v)
{
    vstrbq_s8(to, v);
}

/* The first n lanes alone. */
EC_KERNEL void ec_v8_store_part(int8_t *to, ec_v8 v, int32_t n)
{
    vstrbq_p_s8(to, v, vctp8q((uint32_t)n));
}

EC_KERNEL ec_v8 ec_v8_max(ec_v8 a, ec_v8 b)
{
    return vmaxq_s8(a, b);
}

/* table[(uint8_t)x] for each lane x. */
EC_KERNEL ec_v8 ec_v8_lookup(const int8_t *table, ec_v8 x)
{
    return vldrbq_gather_offset_s8(table, vreinterpretq_u8_s8(x));
}

/* The sum of the products of all lanes. */
EC_KERNEL int32_t ec_v8_dot(ec_v8 a, ec_v8 b)
{
    return vmladavq_s8(a, b);
}

/* acc and that sum. */
EC_KERNEL int32_t ec_v8_dot_add(int32_t acc, ec_v8 a, ec_v8 b)
{
    return vmladavaq_s8(acc, a, b);
}

/* Copies n bytes; n > 0. */
EC_KERNEL void ec_v8_copy(int8_t *to, const int8_t *from, int32_t n)
{
    __asm__ volatile("    dlstp.8  lr, %2\n"
                     "1:  vldrb.u8 q0, [%1], #16\n"
                     "    vstrb.8  q0, [%0], #16\n"
                     "    letp     lr, 1b\n"
                     : "+r"(to), "+r"(from)
                     : "r"(n)
                     : "q0", "lr", "memory");
}

/* ---- halfwords ------------------------------------------------------------------------------------------------ */

/* lane i = from[i], widened; the first n lanes (n <= 8), zeros behind them. */
EC_KERNEL ec_v16 ec_v16_load8_part(const int8_t *from, int32_t n)
{
    return n >= 8 ? vldrbq_s16(from) : vldrbq_z_s16(from, vctp16q((uint32_t)n));
}

EC_KERNEL ec_v16 ec_v16_all(int16_t x)
{
    return vdupq_n_s16(x);
}

EC_KERNEL ec_v16 ec_v16_add(ec_v16 a, ec_v16 b)
{
    return vaddq_s16(a, b);
}

/* lane i = i * step; all below 2^16. */
EC_KERNEL ec_v16 ec_v16_steps(int32_t step)
{
    return vreinterpretq_s16_u16(vmulq_n_u16(vidupq_n_u16(0u, 1), (uint16_t)step));
}

/* to[offset of lane i] = the low byte of lane i; offsets are unsigned. */
EC_KERNEL void ec_v16_scatter8(int8_t *to, ec_v16 offsets, ec_v16 v)
{
    vstrbq_scatter_offset_s16(to, vreinterpretq_u16_s16(offsets), v);
}

/* to[i] = the low byte of lane i, for the first n lanes. */
EC_KERNEL void ec_v16_store8(int8_t *to, ec_v16 v, int32_t n)
{
    if (n >= 8) {
        vstrbq_s16(to, v);
    } else {
        vstrbq_p_s16(to, v, vctp16q((uint32_t)n));
    }
}

/* The low halves of even and odd, in turns. */
EC_KERNEL ec_v16 ec_v16_joined(ec_v32 even, ec_v32 odd)
{
    return vmovntq_s32(vreinterpretq_s16_s32(even), odd);
}

/* Adds the even lanes to even, the odd ones to odd. */
EC_KERNEL void ec_v16_spill(ec_v16 v, ec_v32 *even, ec_v32 *odd)
{
    *even = vaddq_s32(*even, vmovlbq_s16(v));
    *odd = vaddq_s32(*odd, vmovltq_s16(v));
}

/* ---- words (sums and products wrap) ---------------------------------------------------------------------------------------------------- */

EC_KERNEL ec_v32 ec_v32_all(int32_t x)
{
    return vdupq_n_s32(x);
}

EC_KERNEL ec_v32 ec_v32_of(int32_t a, int32_t b, int32_t c, int32_t d)
{
    ec_v32 v;
    __asm__("vmov %q0[2], %q0[0], %1, %3\n\tvmov %q0[3], %q0[1], %2, %4" : "=w"(v) : "r"(a), "r"(b), "r"(c), "r"(d));
    return v;
}

EC_KERNEL ec_v32 ec_v32_load(const int32_t *from)
{
    return vldrwq_s32(from);
}


EC_KERNEL ec_v32 ec_v32_load8_part(const int8_t *from, int32_t n)
{
    return n >= 4 ? vldrbq_s32(from) : vldrbq_z_s32(from, vctp32q((uint32_t)n));
}

/* to[i] = the low byte of lane i, for the first n lanes. */
EC_KERNEL void ec_v32_store8(int8_t *to, ec_v32 v, int32_t n)
{
    if (n >= 4) {
        vstrbq_s32(to, v);
    } else {
        vstrbq_p_s32(to, v, vctp32q((uint32_t)n));
    }
}

/* to[i * step] = the low byte of lane i. */
EC_KERNEL void ec_v32_store8_apart(int8_t *to, ec_v32 v, int32_t step)
{
    vstrbq_scatter_offset_s32(to, vmulq_n_u32(vidupq_n_u32(0u, 1), (uint32_t)step), v);
}

EC_KERNEL ec_v32 ec_v32_add(ec_v32 a, ec_v32 b)
{
    return vaddq_s32(a, b);
}

EC_KERNEL ec_v32 ec_v32_scale(ec_v32 v, int32_t by)
{
    return vmulq_n_s32(v, by);
}

EC_KERNEL ec_v32 ec_v32_scale_add(ec_v32 acc, ec_v32 v, int32_t by)
{
    return vmlaq_n_s32(acc, v, by);
}

EC_KERNEL ec_v32 ec_v32_mul(ec_v32 a, ec_v32 b)
{
    return vmulq_s32(a, b);
}

/* clamp(floor((v + c) / 2^f)). */
EC_KERNEL ec_v32 ec_v32_round(ec_v32 v, int32_t c, int32_t f, int32_t lo, int32_t hi)
{
    v = vshlq_r_s32(vaddq_n_s32(v, c), -f);
    return vminq_s32(vmaxq_s32(v, vdupq_n_s32(lo)), vdupq_n_s32(hi));
}

/* clamp(floor((floor(acc * m / 2^32) + c) / 2^f)): VMULH is that inner floor. */
EC_KERNEL ec_v32 ec_v32_requant(ec_v32 acc, ec_v32 m, int32_t c, int32_t f, int32_t lo, int32_t hi)
{
    return ec_v32_round(vmulhq_s32(acc, m), c, f, lo, hi);
}

/* ---- sums of products ----------------------------------------------------------------------------------------- */

/* Two pixels by four channels. a, b: [16 * n] of the pixels; w: [n][4][16], the channels in the order 0 2 1 3.
 * to_a, to_b: lane i = channel i. n > 0.
 *
 * VMLADAVA takes even registers alone, of which gcc leaves six: hence two passes of four sums. */
EC_KERNEL void ec_v8_dots_2x4(const int8_t *a, const int8_t *b, const int8_t *w, int32_t n, ec_v32 *to_a, ec_v32 *to_b)
{
    const int8_t *x = a, *y = b, *u = w;
    int32_t s0, s1, s2, s3;
    ec_v32 va, vb;

#define EC_MVE_2X2(op)                                                                                                 \
    "    vldrb.u8    q0, [%[x]], #16\n"                                                                                \
    "    vldrb.u8    q3, [%[u], #16]\n"                                                                                \
    "    " op "      %[s2], q0, q3\n"                                                                                  \
    "    vldrb.u8    q2, [%[u]], #64\n"                                                                                \
    "    " op "      %[s0], q0, q2\n"                                                                                  \
    "    vldrb.u8    q1, [%[y]], #16\n"                                                                                \
    "    " op "      %[s1], q1, q2\n"                                                                                  \
    "    " op "      %[s3], q1, q3\n"
#define EC_MVE_PASS_2X2(from, to)                                                                                      \
    EC_MVE_2X2("vmladav.s8")                                                                                           \
    "    wls         lr, %[m], 2f\n"                                                                                   \
    "1:\n" EC_MVE_2X2("vmladava.s8") "    le          lr, 1b\n"                                                        \
    "2:  vmov        %q[va][" to "], %q[va][" from "], %[s0], %[s2]\n"                                                 \
    "    vmov        %q[vb][" to "], %q[vb][" from "], %[s1], %[s3]\n"

    __asm__ volatile(EC_MVE_PASS_2X2("0", "2")
                     "    mov         %[x], %[a]\n"
                     "    mov         %[y], %[b]\n"
                     "    add         %[u], %[w], #32\n"
                     EC_MVE_PASS_2X2("1", "3")
                     : [x] "+&r"(x), [y] "+&r"(y), [u] "+&l"(u), [s0] "=&Te"(s0), [s1] "=&Te"(s1), [s2] "=&Te"(s2),
                       [s3] "=&Te"(s3), [va] "=&w"(va), [vb] "=&w"(vb)
                     : [a] "r"(a), [b] "r"(b), [w] "r"(w), [m] "r"(n - 1)
                     : "q0", "q1", "q2", "q3", "lr", "memory");
#undef EC_MVE_PASS_2X2
#undef EC_MVE_2X2
    *to_a = va;
    *to_b = vb;
}

/* One pixel by four channels, as above. */
EC_KERNEL ec_v32 ec_v8_dots_1x4(const int8_t *a, const int8_t *w, int32_t n)
{
    int32_t s0, s1, s2, s3;
    ec_v32 v;

#define EC_MVE_1X4(op)                                                                                                 \
    "    vldrb.u8    q0, [%[a]], #16\n"                                                                                \
    "    vldrb.u8    q1, [%[w], #16]\n"                                                                                \
    "    " op "      %[s2], q0, q1\n"                                                                                  \
    "    vldrb.u8    q2, [%[w], #32]\n"                                                                                \
    "    " op "      %[s1], q0, q2\n"                                                                                  \
    "    vldrb.u8    q3, [%[w], #48]\n"                                                                                \
    "    " op "      %[s3], q0, q3\n"                                                                                  \
    "    vldrb.u8    q1, [%[w]], #64\n"                                                                                \
    "    " op "      %[s0], q0, q1\n"

    __asm__ volatile(EC_MVE_1X4("vmladav.s8")
                     "    wls         lr, %[m], 2f\n"
                     "1:\n" EC_MVE_1X4("vmladava.s8") "    le          lr, 1b\n"
                     "2:  vmov        %q[v][2], %q[v][0], %[s0], %[s2]\n"
                     "    vmov        %q[v][3], %q[v][1], %[s1], %[s3]\n"
                     : [a] "+&r"(a), [w] "+&l"(w), [s0] "=&Te"(s0), [s1] "=&Te"(s1), [s2] "=&Te"(s2), [s3] "=&Te"(s3),
                       [v] "=&w"(v)
                     : [m] "r"(n - 1)
                     : "q0", "q1", "q2", "q3", "lr", "memory");
#undef EC_MVE_1X4
    return v;
}

#endif
