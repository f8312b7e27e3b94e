/* main.c: runs the model of model.h on data that come over semihosting. The same for every model.
 *
 * Command line (its first word, the program, is ignored):
 *   (none)          fills the inputs with a fixed pattern, runs once, prints "<model>: <FNV-1a of the outputs>".
 *   run IN OUT [N]  IN: samples one after the other, a sample is all inputs one after the other, raw bytes.
 *                   OUT: per sample all outputs one after the other. Prints "stack <bytes> run <bytes>": the most that
 *                   was in use, and the most that a run of the model with all that it calls had in use.
 *                   N: the model is reset before every N samples (where it keeps anything), else before the first alone.
 *   trace IN OUT [N]  the same, and before a sample's outputs a record per executed step:
 *                   uint32 step, uint32 bytes, the bytes of the step's output; ended by a uint32 TRACE_END.
 *   profile IN OUT  the same as trace, but a record is uint32 step, uint32 cycles that it took by the core's counter (DWT,
 *                   which an ARMv6-M and emulators do not have: 0).
 * Numbers in OUT are little-endian, as the core is. Exit codes: enum exit_code. */
#include "model.h"
#include "semihost.h"

#include <stdbool.h>
#include <stdint.h>

enum exit_code {
    EXIT_DONE = 0,
    EXIT_USAGE = 2,  /* run or trace without two files; 1 is the emulator's own, 3 a fault (startup.c) */
    EXIT_INPUT = 4,  /* IN cannot be opened, or ends inside a sample */
    EXIT_OUTPUT = 5, /* OUT cannot be opened or written */
    EXIT_INIT = 6,   /* the model's init failed */
    EXIT_RUN = 7     /* the model's run failed */
};

#define TRACE_END 0xFFFFFFFFu
#define NO_FILE 0 /* the host never gives out this handle */

extern uint32_t link_stack_bottom[], link_stack_top[]; /* link.ld */

#define DEFINE(variable, in, bytes) static uint8_t variable[(bytes)] EC_ALIGNED(16) __attribute__((section(in)));
#define PLACE(variable, in, bytes) (variable),
#define BYTES(variable, in, bytes) (bytes),

FW_MODEL_ARENAS(DEFINE)
static void *const arenas[] = {FW_MODEL_ARENAS(PLACE)};
static const size_t arena_bytes[] = {FW_MODEL_ARENAS(BYTES)};
static char command_line[512];
static fw_model_t model;
static int32_t trace_file;
static bool trace_cycles; /* the records of a trace hold cycles */
static bool trace_failed;
static uint32_t cycles_at; /* the counter when the running step began */
static uint32_t stack_most, run_stack_most;

/* ---- stack -------------------------------------------------------------------------------------------------- */

#define STACK_PAINT 0xC5C5C5C5u

/* Words of stack below an address. */
static uint32_t stack_words(const void *below)
{
    return (uint32_t)((uintptr_t)below - (uintptr_t)link_stack_bottom) / 4u;
}

/* Where the stack of the caller ends: all below is free. */
EC_KERNEL const void *stack_end(void)
{
    const void *sp;

    __asm__ volatile("mov %0, sp" : "=r"(sp));
    return sp;
}

/* Paints all that is free below the caller, being part of it; what is called then leaves its mark. */
EC_KERNEL void paint_stack(void)
{
    const uint32_t words = stack_words(stack_end());

    for (uint32_t i = 0u; i < words; i++) {
        ((volatile uint32_t *)link_stack_bottom)[i] = STACK_PAINT;
    }
}

/* The bytes below an address that have lost their paint; inlined, because a call would leave a mark of its own. */
EC_KERNEL uint32_t stack_used(const void *below)
{
    const uint32_t words = stack_words(below);
    uint32_t free_words = 0u;

    while (free_words < words && ((volatile uint32_t *)link_stack_bottom)[free_words] == STACK_PAINT) {
        free_words++;
    }
    return (words - free_words) * 4u;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* ---- text --------------------------------------------------------------------------------------------------- */

/* digits: at least so many, with leading zeros. */
static void print_number(uint32_t value, uint32_t base, int digits)
{
    char text[12];
    int at = 11;

    text[at] = '\0';
    do {
        text[--at] = "0123456789abcdef"[value % base];
        value /= base;
        digits--;
    } while (value > 0u || digits > 0); /* at most 10 digits of a uint32 */
    semihost_print(&text[at]);
}

/* Cuts the command line into at most `most` words, in place; returns their number (most + 1: there are more). */
static int split(char *line, char **words, int most)
{
    int n = 0;

    while (*line != '\0') {
        while (*line == ' ') {
            *line++ = '\0';
        }
        if (*line != '\0') {
            if (n == most) {
                return most + 1;
            }
            words[n++] = line;
        }
        while (*line != '\0' && *line != ' ') {
            line++;
        }
    }
    return n;
}

static bool equal(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

/* The value of the digits that the text begins with. */
static uint32_t number(const char *digits)
{
    uint32_t value = 0u;

    while (*digits >= '0' && *digits <= '9') {
        value = value * 10u + (uint32_t)(*digits++ - '0');
    }
    return value;
}

/* ---- cycles ------------------------------------------------------------------------------------------------- */

#if defined(__ARM_ARCH_6M__)
static void start_cycles(void)
{
}

static uint32_t read_cycles(void)
{
    return 0u;
}
#else
/* Registers of the data watchpoint and trace unit, and the one that powers it. */
#define DWT_CTRL (*(volatile uint32_t *)0xE0001000u)
#define DWT_CYCCNT (*(volatile uint32_t *)0xE0001004u)
#define DEMCR (*(volatile uint32_t *)0xE000EDFCu)

static void start_cycles(void)
{
    DEMCR |= 1u << 24;
    DWT_CYCCNT = 0u;
    DWT_CTRL |= 1u;
}

static uint32_t read_cycles(void)
{
    return DWT_CYCCNT;
}
#endif

/* ---- the model ---------------------------------------------------------------------------------------------- */

/* The byte at this offset, which counts through the arenas one after the other. */
static const uint8_t *in_arenas(uint32_t offset)
{
    unsigned i = 0u;

    while (i + 1u < sizeof arenas / sizeof arenas[0] && offset >= arena_bytes[i]) {
        offset -= (uint32_t)arena_bytes[i];
        i++;
    }
    return (const uint8_t *)arenas[i] + offset;
}

/* Overrides the model's weak hook, which is called after each step. */
void fw_model_hook(const fw_model_t *m, unsigned step)
{
    const uint32_t spent = read_cycles() - cycles_at;
    const uint32_t head[2] = {(uint32_t)step, trace_cycles ? spent : fw_model_steps[step].bytes};

    (void)m;
    if (trace_file != NO_FILE) {
        trace_failed = trace_failed || semihost_write(trace_file, head, 8u) != 8u ||
                       (!trace_cycles &&
                        semihost_write(trace_file, in_arenas(fw_model_steps[step].offset), head[1]) != head[1]);
    }
    cycles_at = read_cycles(); /* what this function takes is nobody's */
}

/* What an uninitialised arena holds must not matter: on the host it holds something else. */
static int start_model(void)
{
    for (unsigned k = 0u; k < sizeof arenas / sizeof arenas[0]; k++) {
        for (size_t i = 0u; i < arena_bytes[k]; i++) {
            ((uint8_t *)arenas[k])[i] = 0xA5u;
        }
    }
    return fw_model_place(&model, arenas, arena_bytes) == EC_OK ? EXIT_DONE : EXIT_INIT;
}

/* A run of the model between paint and measurement. */
static EC_NOINLINE ec_status run_model(void)
{
    ec_status status;

    stack_most = larger(stack_most, stack_used(link_stack_top));
    paint_stack();
    start_cycles();
    cycles_at = read_cycles();
    status = fw_model_run(&model);
    run_stack_most = larger(run_stack_most, stack_used(stack_end()));
    return status;
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 24;
}

static uint32_t element_bytes(uint8_t dtype)
{
    switch (dtype) {
    case EC_INT8:
    case EC_UINT8:
    case EC_BOOL:
        return 1u;
    case EC_INT16:
    case EC_UINT16:
    case EC_FLOAT16:
        return 2u;
    case EC_INT64:
    case EC_UINT64:
    case EC_FLOAT64:
        return 8u;
    default:
        return 4u;
    }
}

/* float32: -2 to 2 in steps of 1/64; 8-bit integers: all values; everything else: 0 or 1, also valid as an index. */
static void fill_input(uint8_t *to, const ec_tensor_info *info, uint32_t *state)
{
    const uint32_t step = element_bytes(info->dtype);
    const uint32_t bytes = info->bytes / FW_MODEL_ROWS;

    for (uint32_t i = 0u; i < bytes; i++) {
        to[i] = 0u;
    }
    for (uint32_t i = 0u; i < bytes; i += step) {
        const uint32_t random = next_random(state);

        if (info->dtype == EC_FLOAT32) {
            const float value = (float)((int32_t)random - 128) / 64.0f;

            __builtin_memcpy(&to[i], &value, sizeof value);
        } else {
            to[i] = (uint8_t)(info->dtype == EC_INT8 || info->dtype == EC_UINT8 ? random : random & 1u);
        }
    }
}

static uint32_t hash_bytes(uint32_t hash, const uint8_t *bytes, uint32_t n)
{
    for (uint32_t i = 0u; i < n; i++) {
        hash = (hash ^ bytes[i]) * 16777619u;
    }
    return hash;
}

static int run_pattern(void)
{
    uint32_t state = 1u, hash = 2166136261u;
    int code = start_model();

    if (code != EXIT_DONE) {
        return code;
    }
    for (uint32_t row = 0u; row < FW_MODEL_ROWS; row++) {
        for (unsigned i = 0u; i < fw_model_info.n_inputs; i++) {
            fill_input((uint8_t *)fw_model_input(&model, i), &fw_model_info.inputs[i], &state);
        }
        if (run_model() != EC_OK) {
            return EXIT_RUN;
        }
    }
    for (unsigned i = 0u; i < fw_model_info.n_outputs; i++) {
        hash = hash_bytes(hash, (const uint8_t *)fw_model_output(&model, i), fw_model_info.outputs[i].bytes);
    }
    semihost_print(FW_MODEL_NAME ": ");
    print_number(hash, 16u, 8);
    semihost_print("\n");
    return EXIT_DONE;
}

/* Reads the inputs of one run: row `row` of a sample. *end is set where the file ends before its first byte; a model
 * without inputs has no samples. */
static int read_inputs(int32_t in, uint32_t row, bool *end)
{
    *end = fw_model_info.n_inputs == 0u;
    for (unsigned i = 0u; i < fw_model_info.n_inputs; i++) {
        const uint32_t bytes = fw_model_info.inputs[i].bytes / FW_MODEL_ROWS;
        const uint32_t got = semihost_read(in, fw_model_input(&model, i), bytes);

        if (got != bytes) {
            *end = row == 0u && i == 0u && got == 0u;
            return *end ? EXIT_DONE : EXIT_INPUT;
        }
    }
    return EXIT_DONE;
}

static int write_sample(int32_t out)
{
    const uint32_t end = TRACE_END;

    if (trace_failed || (trace_file != NO_FILE && semihost_write(out, &end, 4u) != 4u)) {
        return EXIT_OUTPUT;
    }
    for (unsigned i = 0u; i < fw_model_info.n_outputs; i++) {
        const uint32_t bytes = fw_model_info.outputs[i].bytes;

        if (semihost_write(out, fw_model_output(&model, i), bytes) != bytes) {
            return EXIT_OUTPUT;
        }
    }
    return EXIT_DONE;
}

/* steps: as N above, 0 where it is not given. */
static int run_samples(int32_t in, int32_t out, uint32_t steps)
{
    int code = start_model();
    bool end = false;
    uint32_t sample = 0u; /* of those that follow one another */

    while (code == EXIT_DONE) {
        if (sample == 0u) {
            fw_model_start(&model);
        }
        sample = sample + 1u == steps ? 0u : sample + 1u;
        for (uint32_t row = 0u; row < FW_MODEL_ROWS; row++) {
            code = read_inputs(in, row, &end);
            if (code != EXIT_DONE || end) {
                return code;
            }
            if (run_model() != EC_OK) {
                return EXIT_RUN;
            }
        }
        code = write_sample(out);
    }
    return code;
}

static int run_files(const char *in_path, const char *out_path, uint32_t steps, bool trace)
{
    const int32_t in = semihost_open(in_path, SEMIHOST_READ_BINARY);
    const int32_t out = semihost_open(out_path, SEMIHOST_WRITE_BINARY);
    int code;

    if (in < 0) {
        return EXIT_INPUT;
    }
    if (out < 0) {
        return EXIT_OUTPUT;
    }
    trace_file = trace ? out : NO_FILE;
    code = run_samples(in, out, steps);
    if (semihost_close(out) != 0 && code == EXIT_DONE) {
        code = EXIT_OUTPUT;
    }
    semihost_print("stack ");
    print_number(larger(stack_most, stack_used(link_stack_top)), 10u, 1);
    semihost_print(" run ");
    print_number(run_stack_most, 10u, 1);
    semihost_print("\n");
    return code;
}

int main(void)
{
    char *words[5];
    uint32_t steps;
    int n = 0;

    paint_stack();
    if (semihost_command_line(command_line, sizeof command_line) == 0) {
        n = split(command_line, words, 5);
    }
    trace_cycles = n >= 2 && equal(words[1], "profile");
    if (n < 2 || !(equal(words[1], "run") || equal(words[1], "trace") || trace_cycles)) {
        return run_pattern(); /* also where the words are pieces of the image's path, which emulators put there */
    }
    steps = n == 5 ? number(words[4]) : 0u;
    if (n < 4 || n > 5 || (n == 5 && steps == 0u)) {
        return EXIT_USAGE;
    }
    return run_files(words[2], words[3], steps, !equal(words[1], "run"));
}
