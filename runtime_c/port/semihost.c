/* semihost.c: requests to the host, as in the Arm specification "Semihosting for AArch32 and AArch64". */
#include "semihost.h"

#include <stddef.h>

enum {
    SYS_OPEN = 0x01,
    SYS_CLOSE = 0x02,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_GET_CMDLINE = 0x15,
    SYS_EXIT = 0x18,
    SYS_EXIT_EXTENDED = 0x20
};

enum { WRITE_TEXT = 4 }; /* the mode "w" of fopen */
enum { APPLICATION_EXIT = 0x20026, RUN_TIME_ERROR = 0x20023 };

/* One request: its number in r0, the address of its arguments in r1, the answer in r0. The host reads and writes
 * memory behind the compiler's back, hence the clobber. */
static int32_t request(int32_t number, const void *arguments)
{
    register int32_t r0 __asm__("r0") = number;
    register const void *r1 __asm__("r1") = arguments;

    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static uint32_t address(const void *pointer)
{
    return (uint32_t)(uintptr_t)pointer;
}

static uint32_t length(const char *text)
{
    uint32_t n = 0u;

    while (text[n] != '\0') {
        n++;
    }
    return n;
}

int32_t semihost_open(const char *path, int32_t mode)
{
    const uint32_t arguments[3] = {address(path), (uint32_t)mode, length(path)};

    return request(SYS_OPEN, arguments);
}

int32_t semihost_close(int32_t file)
{
    const uint32_t arguments[1] = {(uint32_t)file};

    return request(SYS_CLOSE, arguments);
}

/* SYS_READ and SYS_WRITE answer with the number of bytes that were NOT transferred, or a negative number. */
static uint32_t transfer(int32_t number, int32_t file, const void *memory, uint32_t bytes)
{
    const uint32_t arguments[3] = {(uint32_t)file, address(memory), bytes};
    const int32_t left = request(number, arguments);

    return (left < 0 || (uint32_t)left > bytes) ? 0u : bytes - (uint32_t)left;
}

/* A request may transfer less than asked for before the end: ask again for the rest. */
static uint32_t transfer_all(int32_t number, int32_t file, const uint8_t *memory, uint32_t bytes)
{
    uint32_t done = 0u;
    uint32_t part = 1u;

    while (done < bytes && part > 0u) {
        part = transfer(number, file, memory + done, bytes - done);
        done += part;
    }
    return done;
}

uint32_t semihost_read(int32_t file, void *to, uint32_t bytes)
{
    return transfer_all(SYS_READ, file, (const uint8_t *)to, bytes);
}

uint32_t semihost_write(int32_t file, const void *from, uint32_t bytes)
{
    return transfer_all(SYS_WRITE, file, (const uint8_t *)from, bytes);
}

void semihost_print(const char *text)
{
    static int32_t console; /* 0: not yet opened; the host never gives out this handle */

    if (console == 0) {
        console = semihost_open(":tt", WRITE_TEXT); /* ":tt" opened for writing is the host's stdout */
    }
    (void)semihost_write(console, text, length(text));
}

int32_t semihost_command_line(char *line, uint32_t size)
{
    const uint32_t arguments[2] = {address(line), size - 1u};
    const int32_t answer = request(SYS_GET_CMDLINE, arguments);

    line[answer == 0 ? size - 1u : 0u] = '\0';
    return answer;
}

void semihost_exit(uint32_t code)
{
    const uint32_t arguments[2] = {APPLICATION_EXIT, code};

    /* Probes that do not know the extended request get the plain one, which has no exit code. */
    (void)request(SYS_EXIT_EXTENDED, arguments);
    (void)request(SYS_EXIT, (const void *)(uintptr_t)(code == 0u ? APPLICATION_EXIT : RUN_TIME_ERROR));
    for (;;) {
    }
}
