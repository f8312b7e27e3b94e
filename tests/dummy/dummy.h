/* A hand-written package that obeys the emitted interface: int8[3][8] and float32[6] in, int8[8] and float32[7] out. */
#ifndef DUMMY_H
#define DUMMY_H

#include "runtime/ec.h"

#define DUMMY_ARENA_BYTES 128u
#define DUMMY_INPUTS 2u
#define DUMMY_OUTPUTS 2u
#define DUMMY_STEPS 3u

#define DUMMY_INPUT_0_BYTES 24u
#define DUMMY_INPUT_0_ELEMENTS 24u
#define DUMMY_INPUT_0_DTYPE EC_INT8
#define DUMMY_INPUT_0_SCALE 0.125f
#define DUMMY_INPUT_0_ZERO_POINT 3
#define DUMMY_INPUT_1_BYTES 24u
#define DUMMY_INPUT_1_ELEMENTS 6u
#define DUMMY_INPUT_1_DTYPE EC_FLOAT32
#define DUMMY_OUTPUT_0_BYTES 8u
#define DUMMY_OUTPUT_0_ELEMENTS 8u
#define DUMMY_OUTPUT_0_DTYPE EC_INT8
#define DUMMY_OUTPUT_0_SCALE 0.5f
#define DUMMY_OUTPUT_0_ZERO_POINT -1
#define DUMMY_OUTPUT_1_BYTES 28u
#define DUMMY_OUTPUT_1_ELEMENTS 7u
#define DUMMY_OUTPUT_1_DTYPE EC_FLOAT32

typedef struct {
    uint8_t *arena;
} dummy_t;

ec_status dummy_init(dummy_t *m, void *arena, size_t arena_bytes);
void *dummy_input(dummy_t *m, unsigned i);
ec_status dummy_run(dummy_t *m);
const void *dummy_output(const dummy_t *m, unsigned i);

/* Called after each step; weak. */
void dummy_hook(const dummy_t *m, unsigned step);

extern const ec_model_info dummy_info;
extern const ec_step_info dummy_steps[DUMMY_STEPS];

#endif
