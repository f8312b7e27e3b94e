/* semihost.h: files, text and exit through the debugger or emulator (Arm semihosting, BKPT 0xAB).
 *
 * Without a debugger nobody answers: the fault handler of startup.c then makes every request return SEMIHOST_ABSENT,
 * so that the same image also runs alone. */
#ifndef SEMIHOST_H
#define SEMIHOST_H

#include <stdint.h>

#define SEMIHOST_ABSENT (-1)

enum { SEMIHOST_READ_BINARY = 1, SEMIHOST_WRITE_BINARY = 5 }; /* the modes "rb" and "wb" of fopen */

/* Opens a file of the host; returns its handle, or SEMIHOST_ABSENT. */
int32_t semihost_open(const char *path, int32_t mode);

/* Closes a file; 0 on success. What was written is on the host's disk only after this. */
int32_t semihost_close(int32_t file);

/* Reads up to `bytes` bytes into `to`; returns how many were read, less than asked for only at the end of the file. */
uint32_t semihost_read(int32_t file, void *to, uint32_t bytes);

/* Writes `bytes` bytes; returns how many were written. */
uint32_t semihost_write(int32_t file, const void *from, uint32_t bytes);

/* Writes text, ended by a NUL, on the host's standard output. */
void semihost_print(const char *text);

/* Puts the command line, ended by a NUL, into line[size]; 0 on success. */
int32_t semihost_command_line(char *line, uint32_t size);

/* Ends the program; the emulator's exit code is `code`. */
void semihost_exit(uint32_t code) __attribute__((noreturn));

#endif
