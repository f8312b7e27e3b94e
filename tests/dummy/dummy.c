#include "dummy.h"

#include "runtime/ec_simd.h"

extern const int8_t dummy_weights[24];

enum { IN_0 = 0, IN_1 = 32, OUT_0 = 64, OUT_1 = 80 };

EC_WEAK void dummy_hook(const dummy_t *m, unsigned step)
{
    (void)m;
    (void)step;
}

ec_status dummy_init(dummy_t *m, void *arena, size_t arena_bytes)
{
    if (m == NULL || arena == NULL) {
        return EC_ERR_NULL;
    }
    if (arena_bytes < DUMMY_ARENA_BYTES) {
        return EC_ERR_ARENA;
    }
    if (((uintptr_t)arena & (EC_ARENA_ALIGN - 1u)) != 0u) {
        return EC_ERR_ALIGN;
    }
    m->arena = (uint8_t *)arena;
    return EC_OK;
}

void *dummy_input(dummy_t *m, unsigned i)
{
    return m->arena + (i == 0u ? IN_0 : IN_1);
}

const void *dummy_output(const dummy_t *m, unsigned i)
{
    return m->arena + (i == 0u ? OUT_0 : OUT_1);
}

/* A chain of roundings: sums, products, quotients and subnormal numbers must all come out the same. */
static float mix(float a, float b)
{
    float s = a;

    for (int i = 0; i < 5; i++) {
        s = s * b + a / (b * b + 1.5f);
    }
    return s * 1e-37f * 0.01f;
}

ec_status dummy_run(dummy_t *m)
{
    const int8_t *x = (const int8_t *)(m->arena + IN_0);
    const float *f = (const float *)(const void *)(m->arena + IN_1);
    int8_t *y = (int8_t *)(m->arena + OUT_0);
    float *g = (float *)(void *)(m->arena + OUT_1);

    for (int32_t c = 0; c < 8; c++) { /* one dot product per column */
        int32_t sum = 0;

        for (int32_t r = 0; r < 3; r++) {
            sum += x[r * 8 + c] * dummy_weights[r * 8 + c];
        }
        y[c] = ec_sat8(ec_requant(sum, 1 << 30, (-1 * (1 << 8)) + (1 << 7), 8), -128, 127);
    }
    dummy_hook(m, 0u);
    for (int32_t i = 0; i < 6; i++) {
        g[i] = mix(f[i], f[5 - i] + (float)y[i]);
    }
    dummy_hook(m, 1u);
    g[6] = (float)((int64_t)y[0] * 1000003 / (y[1] * y[1] + 7));
    dummy_hook(m, 2u);
    return EC_OK;
}

static const int32_t shape_0[2] = {3, 8}, shape_1[1] = {6}, shape_2[1] = {8}, shape_3[1] = {7};
static const ec_tensor_info inputs[2] = {{"image", shape_0, 24u, EC_INT8, 2u, 0.125f, 3},
                                         {"floats", shape_1, 24u, EC_FLOAT32, 1u, 0.0f, 0}};
static const ec_tensor_info outputs[2] = {{"columns", shape_2, 8u, EC_INT8, 1u, 0.5f, -1},
                                          {"mixed", shape_3, 28u, EC_FLOAT32, 1u, 0.0f, 0}};
const ec_model_info dummy_info = {"dummy", "0123", inputs, outputs, DUMMY_ARENA_BYTES, 2u, 2u, 3u};
const ec_step_info dummy_steps[DUMMY_STEPS] = {{"columns", OUT_0, 8u}, {"mix", OUT_1, 24u}, {"last", OUT_1 + 24, 4u}};
