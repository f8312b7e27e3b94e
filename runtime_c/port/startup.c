/* startup.c: from reset to main on any Cortex-M, and what happens on a fault. */
#include "semihost.h"

#include <stdint.h>

int main(void);
void reset_handler(void) __attribute__((noreturn));
void fault_handler(void);
void fault_report(uint32_t *frame);

/* Addresses from link.ld. */
extern const uint16_t link_code_start[], link_code_end[];
extern uint32_t link_data_load[], link_data_start[], link_data_end[];
extern uint32_t link_bss_start[], link_bss_end[];
extern uint32_t link_stack_bottom[], link_stack_top[];

enum { EXIT_FAULT = 3 };

/* The vector table: the initial stack pointer and the 15 exceptions of the core. No interrupt is ever enabled. */
typedef union {
    uint32_t *stack;
    void (*handler)(void);
} vector;

extern const vector vectors[16];
const vector vectors[16] __attribute__((section(".vectors"), used)) = {
    {.stack = link_stack_top},    {.handler = reset_handler}, {.handler = fault_handler}, {.handler = fault_handler},
    {.handler = fault_handler},   {.handler = fault_handler}, {.handler = fault_handler}, {.handler = fault_handler},
    {.handler = fault_handler},   {.handler = fault_handler}, {.handler = fault_handler}, {.handler = fault_handler},
    {.handler = fault_handler},   {.handler = fault_handler}, {.handler = fault_handler}, {.handler = fault_handler},
};

static volatile uint32_t *system_register(uint32_t address)
{
    return (volatile uint32_t *)(uintptr_t)address;
}

/* Registers of the system control space. */
enum { VTOR = 0xED08, CCR = 0xED14, CPACR = 0xED88 };
#define SCS(offset) (*system_register(0xE0000000u + (uint32_t)(offset)))

static uint32_t address(const void *pointer)
{
    return (uint32_t)(uintptr_t)pointer;
}

static void prepare_core(void)
{
#if defined(__ARM_ARCH_6M__)
    SCS(CCR) |= 1u << 3; /* unaligned access traps, as always on a real ARMv6-M: an emulated M4 must not forgive it */
#else
    SCS(VTOR) = address(vectors);
#endif
#if defined(__ARM_FP)
    SCS(CPACR) |= 0xFu << 20; /* full access to the floating-point unit */
#endif
#if defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__)
    __asm__ volatile("msr msplim, %0" : : "r"(link_stack_bottom)); /* elsewhere the end of RAM below the stack guards */
#endif
    __asm__ volatile("dsb\n isb" ::: "memory");
}

/* Linker symbols are no arrays to C, whose pointers must not be compared: count words instead. */
static uint32_t words(const uint32_t *start, const uint32_t *end)
{
    return (address(end) - address(start)) / 4u;
}

void reset_handler(void)
{
    const uint32_t data = words(link_data_start, link_data_end), bss = words(link_bss_start, link_bss_end);

    prepare_core();
    for (uint32_t i = 0u; i < data; i++) {
        link_data_start[i] = link_data_load[i];
    }
    for (uint32_t i = 0u; i < bss; i++) {
        link_bss_start[i] = 0u;
    }
    semihost_exit((uint32_t)main());
}

/* Passes the stacked registers (r0-r3 r12 lr pc psr) on. Where the stack has overflowed they cannot be trusted, nor
 * can the stack be used: it starts afresh and a NULL goes on. */
__attribute__((naked)) void fault_handler(void)
{
    __asm__ volatile("mov  r0, sp\n"
                     "ldr  r1, =link_stack_bottom + 32\n"
                     "cmp  r0, r1\n"
                     "bhs  1f\n"
                     "ldr  r1, =link_stack_top\n"
                     "mov  sp, r1\n"
                     "movs r0, #0\n"
                     "1:\n"
                     "push {r0, lr}\n"
                     "bl   fault_report\n"
                     "pop  {r0, pc}\n"
                     ".ltorg\n");
}

static void print_hex(uint32_t value)
{
    char text[11] = "0x";

    for (int i = 0; i < 8; i++) {
        text[2 + i] = "0123456789abcdef"[(value >> (28 - 4 * i)) & 15u];
    }
    text[10] = '\0';
    semihost_print(text);
}

void fault_report(uint32_t *frame)
{
    enum { R0 = 0, LR = 5, PC = 6 };
    enum { BKPT_SEMIHOSTING = 0xBEAB };
    uint32_t at;

    if (frame == 0) {
        semihost_print("fault: stack overflow\n");
        semihost_exit(EXIT_FAULT);
    }
    at = frame[PC];
    if (at >= address(link_code_start) && at < address(link_code_end) &&
        *(const uint16_t *)(uintptr_t)at == BKPT_SEMIHOSTING) { /* no debugger: answer in its place */
        frame[R0] = (uint32_t)SEMIHOST_ABSENT;
        frame[PC] += 2u;
        return;
    }
    semihost_print("fault at ");
    print_hex(frame[PC]);
    semihost_print(" called from ");
    print_hex(frame[LR]);
    semihost_print("\n");
    semihost_exit(EXIT_FAULT);
}
