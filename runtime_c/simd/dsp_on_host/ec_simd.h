/* ec_simd.h (dsp_on_host): the instructions of simd/dsp/ec_simd.h in plain C, bit for bit, so that the DSP kernels
 * also run on any other machine. */
#ifndef EC_SIMD_H
#define EC_SIMD_H

#include "ec.h"

/* Lane i of int16, byte i of int8, as int32. */
EC_KERNEL int32_t ec_lane(uint32_t a, uint32_t i)
{
    return (int32_t)(int16_t)(uint16_t)(a >> (16u * i));
}

EC_KERNEL int32_t ec_byte(uint32_t a, uint32_t i)
{
    return (int32_t)(int8_t)(uint8_t)(a >> (8u * i));
}

EC_KERNEL uint32_t ec_lanes(int32_t low, int32_t high)
{
    return ((uint32_t)low & 0xFFFFu) | (uint32_t)high << 16;
}

EC_KERNEL int32_t ec_wrap_add(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

EC_KERNEL uint32_t ec_sxtb16(uint32_t a)
{
    return ec_lanes(ec_byte(a, 0u), ec_byte(a, 2u));
}

EC_KERNEL uint32_t ec_sxtb16_ror8(uint32_t a)
{
    return ec_lanes(ec_byte(a, 1u), ec_byte(a, 3u));
}

EC_KERNEL uint32_t ec_sxtab16(uint32_t acc, uint32_t a)
{
    return ec_lanes(ec_lane(acc, 0u) + ec_byte(a, 0u), ec_lane(acc, 1u) + ec_byte(a, 2u));
}

EC_KERNEL uint32_t ec_sxtab16_ror8(uint32_t acc, uint32_t a)
{
    return ec_lanes(ec_lane(acc, 0u) + ec_byte(a, 1u), ec_lane(acc, 1u) + ec_byte(a, 3u));
}

EC_KERNEL uint32_t ec_pkhbt(uint32_t a, uint32_t b)
{
    return (a & 0xFFFFu) | b << 16;
}

EC_KERNEL uint32_t ec_pkh(uint32_t a, uint32_t b)
{
    return (a & 0xFFFFu) | (b & 0xFFFF0000u);
}

EC_KERNEL uint32_t ec_pkhtb(uint32_t a, uint32_t b)
{
    return a >> 16 | (b & 0xFFFF0000u);
}

EC_KERNEL int32_t ec_smlabb(uint32_t a, uint32_t b, int32_t acc)
{
    return ec_wrap_add(acc, ec_lane(a, 0u) * ec_lane(b, 0u));
}

EC_KERNEL int32_t ec_smlad(uint32_t a, uint32_t b, int32_t acc)
{
    return ec_wrap_add(ec_smlabb(a, b, acc), ec_lane(a, 1u) * ec_lane(b, 1u));
}

EC_KERNEL int32_t ec_smmla(int32_t a, int32_t m, int32_t c)
{
    return ec_wrap_add(ec_mulh(a, m), c);
}

EC_KERNEL int32_t ec_ssat8(int32_t v)
{
    return ec_clamp(v, -128, 127);
}

EC_KERNEL uint32_t ec_max4(uint32_t a, uint32_t b)
{
    uint32_t r = 0u;
    for (uint32_t i = 0u; i < 4u; i++) {
        r |= ((ec_byte(a, i) >= ec_byte(b, i) ? a : b) & (0xFFu << (8u * i)));
    }
    return r;
}

EC_KERNEL uint32_t ec_min4(uint32_t a, uint32_t b)
{
    uint32_t r = 0u;
    for (uint32_t i = 0u; i < 4u; i++) {
        r |= ((ec_byte(a, i) >= ec_byte(b, i) ? b : a) & (0xFFu << (8u * i)));
    }
    return r;
}

#endif
