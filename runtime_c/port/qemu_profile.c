/* qemu_profile.c: a QEMU plugin that counts the instructions of a Cortex-M firmware and estimates its cycles.
 *
 * Every function of a given list owns what runs from its call to its return, but for the calls of other functions of
 * the list inside. The first of them, the run, is where counting begins; each call out of it is counted on its own, in
 * the order of the calls, calls further down together.
 *
 * The cycles are a model: those of the instruction timing table of the Cortex-M4 Technical Reference Manual with
 * memory without wait states. 1 for arithmetic, multiplication and SIMD; 2 for a load, 1 where it directly follows
 * another one; 1 for a store; 1 + n for n registers; 2 more for a branch that is taken; 7 for a division (2 to 12 in
 * the manual); 3 for a multiply-add, 14 for a division or square root of floats. Interrupts, waits of flash and
 * buses are not in it.
 *
 * Arguments: functions=FILE (a hexadecimal address in a line, the run first), out=FILE (written at the end: a line
 * `parent function calls instructions cycles` for each entry; parent: the number of the entry that called it, function:
 * its place in the list; entry 0 is the run). */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the part of QEMU's plugin interface, version 1, that is used here ------------------------------------------ */

#define EXPORT __attribute__((visibility("default")))
typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct qemu_info_t qemu_info_t;
typedef void (*translated)(qemu_plugin_id_t, struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, translated);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int, void *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
EXPORT int qemu_plugin_version = 1;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv);

/* ---- cycles of an instruction ----------------------------------------------------------------------------------- */

enum { REFILL = 2, DIVIDE = 7, FLOAT_MULTIPLY_ADD = 3, FLOAT_DIVIDE = 14 };

typedef struct {
    unsigned cycles;
    bool load; /* of a single register: pipelined behind another one */
} cost;

static const cost plain = {1, false};

static cost transfer(bool load)
{
    return (cost){load ? 2 : 1, load};
}

static cost several(unsigned registers)
{
    return (cost){1 + (unsigned)__builtin_popcount(registers), false};
}

static cost cost16(unsigned h)
{
    switch (h >> 12) {
    case 0x4:
        return (h & 0xF800) == 0x4800 ? transfer(true) : plain; /* LDR from the literal pool */
    case 0x5:
        return transfer((h & 0x0E00) >= 0x0600); /* register offset: three stores come first */
    case 0x6:
    case 0x7:
    case 0x8:
    case 0x9:
        return transfer(h & 0x0800);
    case 0xB:
        return (h & 0xF600) == 0xB400 ? several(h & 0x1FF) : plain; /* PUSH, POP */
    case 0xC:
        return several(h & 0xFF);
    default:
        return plain;
    }
}

/* VLDR, VSTR, VLDM, VSTM, and moves of two core registers. */
static cost vector_transfer(unsigned a, unsigned b)
{
    if ((a & 0xFFE0) == 0xEC40) {
        return (cost){2, false};
    }
    if ((a & 0x0F20) == 0x0D00) { /* one register: D takes two words */
        return b & 0x0100 ? (cost){3, false} : transfer(a & 0x0010);
    }
    return (cost){1 + (b & 0xFF), false};
}

static cost vector_arithmetic(unsigned a, unsigned b)
{
    const unsigned operation = (a >> 4) & 0xB; /* without the D bit */
    const bool twice = b & 0x0100;

    switch (operation) {
    case 0x0: /* VMLA, VMLS */
    case 0x1: /* VNMLA, VNMLS */
    case 0x9: /* VFNMA, VFNMS */
    case 0xA: /* VFMA, VFMS */
        return (cost){(twice ? 2 : 1) * FLOAT_MULTIPLY_ADD, false};
    case 0x8:
        return (cost){FLOAT_DIVIDE, false};
    case 0xB:
        if ((a & 0xF) == 1 && (b & 0x00C0) == 0x00C0) {
            return (cost){FLOAT_DIVIDE, false}; /* VSQRT */
        }
        break;
    default:
        break;
    }
    return (cost){twice ? 2 : 1, false};
}

static cost cost32(unsigned a, unsigned b)
{
    if ((a & 0xFE40) == 0xE800) {
        return several(b);
    }
    if ((a & 0xFE40) == 0xE840) { /* of two registers, exclusive; TBB and TBH */
        const bool table = (a & 0xFFF0) == 0xE8D0 && (b & 0xFFE0) == 0xF000;
        const bool exclusive_store = (a & 0xFF60) == 0xE840 && !(a & 0x0100);

        return (cost){table || exclusive_store ? 2 : 3, false};
    }
    if ((a & 0xFE00) == 0xF800) {
        return transfer(a & 0x0010);
    }
    if (((a & 0xFFF0) == 0xFB90 || (a & 0xFFF0) == 0xFBB0) && (b & 0x00F0) == 0x00F0) {
        return (cost){DIVIDE, false};
    }
    if ((b & 0x0E00) == 0x0A00) { /* coprocessors 10 and 11 */
        if ((a & 0xEE00) == 0xEC00) {
            return vector_transfer(a, b);
        }
        if ((a & 0xFF00) == 0xEE00 && !(b & 0x0010)) {
            return vector_arithmetic(a, b);
        }
    }
    return plain;
}

/* ---- who runs --------------------------------------------------------------------------------------------------- */

enum { FUNCTIONS = 65536, ENTRIES = 131072, DEPTH = 64, NONE = -1 };

/* A stretch of code without a jump. function: that begins here, in the list. */
typedef struct {
    uint64_t begin, end;
    unsigned instructions, cycles;
    int function;
} block;

typedef struct {
    int parent, function;
    uint64_t calls, instructions, cycles;
} entry;

typedef struct {
    int entry;
    uint64_t back; /* where the call returns to */
} frame;

static uint64_t functions[FUNCTIONS];
static entry entries[ENTRIES];
static frame frames[DEPTH];
static int n_functions, n_entries, depth;
static uint64_t last_end;
static const char *out_path;

static void fail(const char *what)
{
    fprintf(stderr, "qemu_profile: %s\n", what);
    exit(EXIT_FAILURE);
}

static int function_at(uint64_t address)
{
    for (int i = 0; i < n_functions; i++) {
        if (functions[i] == address) {
            return i;
        }
    }
    return NONE;
}

/* The entry of a call of `function` by `parent`; a new one for each call out of the run. */
static int entry_of(int parent, int function)
{
    for (int i = parent + 1; parent != 0 && i < n_entries; i++) {
        if (entries[i].parent == parent && entries[i].function == function) {
            return i;
        }
    }
    if (n_entries == ENTRIES) {
        fail("too many calls");
    }
    entries[n_entries] = (entry){parent, function, 0, 0, 0};
    return n_entries++;
}

static void call(int function)
{
    const int parent = depth > 0 ? frames[depth - 1].entry : NONE;

    if (parent == NONE && function != 0) {
        return; /* outside the run */
    }
    if (parent != NONE && entries[parent].function == function) {
        return; /* a loop that begins with the function: nothing here calls itself */
    }
    if (depth == DEPTH) {
        fail("calls nest too deep");
    }
    const int at = parent == NONE && n_entries > 0 ? 0 : entry_of(parent, function);

    entries[at].calls++;
    frames[depth++] = (frame){at, last_end};
}

/* Leaves the calls that return to `address`, and those above it, which ended in a jump to another function. */
static void leave(uint64_t address)
{
    for (int i = depth - 1; i >= 0; i--) {
        if (frames[i].back == address) {
            depth = i;
        }
    }
}

static void execute(unsigned cpu, void *data)
{
    const block *b = data;
    const bool jumped = b->begin != last_end;

    (void)cpu;
    if (jumped) {
        leave(b->begin);
        if (b->function != NONE) {
            call(b->function);
        }
    }
    if (depth > 0) {
        entry *e = &entries[frames[depth - 1].entry];

        e->instructions += b->instructions;
        e->cycles += b->cycles + (jumped ? REFILL : 0);
    }
    last_end = b->end;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    const size_t n = qemu_plugin_tb_n_insns(tb);
    block *b = calloc(1, sizeof *b);
    bool behind_load = false;

    (void)id;
    if (b == NULL) {
        fail("no memory");
    }
    b->begin = b->end = qemu_plugin_tb_vaddr(tb);
    b->instructions = (unsigned)n;
    b->function = function_at(b->begin);
    for (size_t i = 0; i < n; i++) {
        const struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        const uint8_t *p = qemu_plugin_insn_data(instruction);
        const size_t size = qemu_plugin_insn_size(instruction);
        const unsigned first = p[0] | (unsigned)p[1] << 8;
        const cost c = size == 2 ? cost16(first) : cost32(first, p[2] | (unsigned)p[3] << 8);

        b->cycles += c.cycles - (c.load && behind_load ? 1 : 0);
        b->end += size;
        behind_load = c.load;
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, execute, 0, b); /* 0: the callback reads no registers */
}

static void finish(qemu_plugin_id_t id, void *data)
{
    FILE *out = fopen(out_path, "w");

    (void)id;
    (void)data;
    if (out == NULL) {
        fail("cannot write the counts");
    }
    for (int i = 0; i < n_entries; i++) {
        const entry *e = &entries[i];

        fprintf(out, "%d %d %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", e->parent, e->function, e->calls, e->instructions,
                e->cycles);
    }
    fclose(out);
}

static void read_functions(const char *path)
{
    FILE *in = fopen(path, "r");

    if (in == NULL) {
        fail("cannot read the list of functions");
    }
    while (n_functions < FUNCTIONS && fscanf(in, "%" SCNx64, &functions[n_functions]) == 1) {
        n_functions++;
    }
    fclose(in);
}

int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "functions=", 10) == 0) {
            read_functions(argv[i] + 10);
        } else if (strncmp(argv[i], "out=", 4) == 0) {
            out_path = argv[i] + 4;
        }
    }
    if (out_path == NULL || n_functions == 0) {
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
    qemu_plugin_register_atexit_cb(id, finish, NULL);
    return 0;
}
