"""One C program out of kernel calls: runs bare on an emulated Cortex-M, or on the host under sanitizers.

The program prints for each call `<number> <FNV-1a of the output> <1 if nothing was written around the buffers>`."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import kernel_lib
import numpy as np

GUARD = 16
C_TYPES = {"float32": "float"}  # where it is not the name of the dtype with _t
TARGETS = {  # emulated machine: (compiler flags, start of code, start of RAM)
    "mps2-an386": (("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"), 0x00000000, 0x20000000),
    "mps2-an505": (("-mcpu=cortex-m33", "-mfloat-abi=soft"), 0x10000000, 0x38000000),
}
HELIUM = {"mps3-an547": (("-mcpu=cortex-m55+nomve.fp", "-mfloat-abi=hard"), 0x10000000, 0x31000000)}


@dataclass(frozen=True, eq=False)
class Case:
    """A kernel call. args: arrays (const data), lists of arrays (row pointers), ints, or "out", "scratch"."""

    kernel: str
    params: dict[str, int]
    args: tuple
    out_bytes: int
    scratch_bytes: int = 0
    expected: np.ndarray | None = None


def checksum(data: bytes) -> int:
    """FNV-1a, 32 bits."""
    h = 0x811C9DC5
    for b in data:
        h = (h ^ b) * 0x01000193 & 0xFFFFFFFF
    return h


RUNTIME = """
#include "ec.h"
#define GUARD 16
#ifdef HOST
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* a heap copy, so that a read around it is seen */
static void *own(const void *data, size_t n) { void *to = malloc(n ? n : 1); memcpy(to, data, n); return to; }
static void print_line(unsigned i, unsigned sum, unsigned ok) { printf("%u %u %u\\n", i, sum, ok); }
#else
static const void *own(const void *data, size_t n) { (void)n; return data; }
static void semihost(int number, const void *argument)
{
    register int r0 __asm__("r0") = number;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}
static char *digits(char *to, unsigned v)
{
    char text[12];
    int n = 0;
    do { text[n++] = (char)('0' + v % 10); v /= 10; } while (v);
    while (n) *to++ = text[--n];
    return to;
}
static void print_line(unsigned i, unsigned sum, unsigned ok)
{
    char line[48], *to = digits(line, i);
    *to++ = ' '; to = digits(to, sum); *to++ = ' '; to = digits(to, ok); *to++ = '\\n'; *to = 0;
    semihost(4, line);
}
void *memset(void *to, int v, size_t n) { for (char *p = to; n; n--) *p++ = (char)v; return to; }
void *memcpy(void *to, const void *from, size_t n)
{
    for (char *p = to, *end = p + n; p < end; from = (const char *)from + 1) *p++ = *(const char *)from;
    return to;
}
int main(void);
extern char stack_top[];
void reset(void)
{
#ifdef __ARM_FP
    *(volatile unsigned *)0xE000ED88 |= 0xFu << 20;
#endif
    main();
    semihost(0x18, (const void *)0x20026);
    for (;;) ;
}
__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, (void *)reset, (void *)reset, (void *)reset };
#endif
static int8_t out_room[OUT + 2 * GUARD] __attribute__((aligned(16)));
static int8_t scratch_room[SCRATCH + 2 * GUARD] __attribute__((aligned(16)));
static unsigned fnv(const int8_t *p, size_t n)
{
    unsigned h = 0x811C9DC5u;
    for (; n; n--) h = (h ^ (uint8_t)*p++) * 0x01000193u;
    return h;
}
static unsigned untouched(const int8_t *room, size_t n)
{
    for (size_t i = 0; i < GUARD; i++) if (room[i] != 0x5a || room[GUARD + n + i] != 0x5a) return 0;
    return 1;
}
static void fill(int8_t *room, size_t n) { for (size_t i = 0; i < n + 2 * GUARD; i++) room[i] = 0x5a; }
"""

LINK = """
MEMORY {{ rom (rx) : ORIGIN = {code:#x}, LENGTH = 4M  ram (rwx) : ORIGIN = {ram:#x}, LENGTH = 2M }}
ENTRY(reset)
SECTIONS {{
  .text : {{ KEEP(*(.vectors)) *(.text*) *(.rodata*) }} > rom
  .bss (NOLOAD) : {{ *(.bss*) *(COMMON) *(.data*) }} > ram
  stack_top = ORIGIN(ram) + LENGTH(ram); /DISCARD/ : {{ *(.ARM*) }} }}
"""


def write(folder: Path, cases: Sequence[Case]) -> Path:
    """Writes program.c and the data it includes; returns its path."""
    data: dict[bytes, str] = {}

    def array(a) -> str:
        raw = np.ascontiguousarray(a).tobytes()
        if raw not in data:
            data[raw] = f"d{len(data)}"
            (folder / f"{data[raw]}.bin").write_bytes(raw)
        return data[raw]

    headers = sorted({f"{c.kernel}.h" for c in cases})
    body, names = [], []
    for i, c in enumerate(cases):
        before, args = [], []
        for j, a in enumerate(c.args):
            if isinstance(a, str):
                typed = a == "out" and c.expected is not None and c.expected.dtype == np.int16
                args.append("(int16_t *)(void *)out" if typed else {"out": "out", "scratch": "scratch"}[a])
            elif isinstance(a, int):
                args.append(str(a))
            elif isinstance(a, list):
                kind = C_TYPES.get(a[0].dtype.name, f"{a[0].dtype.name}_t")
                before.append(f"const {kind} *a{j}[] = {{{', '.join(f'own({array(r)}, {r.nbytes})' for r in a)}}};")
                args.append(f"a{j}")
            else:
                args.append(f"own({array(a)}, {np.asarray(a).nbytes})")
        fields = ", ".join(f".{k} = {v}" for k, v in c.params.items())
        body.append(f"__attribute__((noinline)) void case_{i}(int8_t *out, int8_t *scratch)\n{{\n"
                    f"    static const ec_{c.kernel}_t p = {{{fields}}};\n    {' '.join(before)}\n    (void)scratch;\n"
                    f"    ec_{c.kernel}(&p, {', '.join(args)});\n}}\n")
        names.append(f"    fill(out_room, {c.out_bytes}); fill(scratch_room, {c.scratch_bytes});\n"
                     f"    case_{i}(OUT_AT({c.out_bytes}), SCRATCH_AT({c.scratch_bytes}));\n"
                     f"    print_line({i}, fnv(out_room + GUARD, {c.out_bytes}),"
                     f" untouched(out_room, {c.out_bytes}) && untouched(scratch_room, {c.scratch_bytes}));\n")
    head = f"#define OUT {max(c.out_bytes for c in cases)}\n#define SCRATCH {max(c.scratch_bytes for c in cases)}\n"
    blobs = "".join(f'__asm__(".section .rodata\\n.balign 16\\n{n}: .incbin \\"{folder / n}.bin\\"\\n.text\\n");\n'
                    f"extern const char {n}[];\n" for n in data.values())
    at = "#define OUT_AT(n) (out_room + GUARD)\n#define SCRATCH_AT(n) (scratch_room + GUARD)\n"
    source = folder / "program.c"
    source.write_text(head + RUNTIME + at + "".join(f'#include "{h}"\n' for h in headers) + blobs + "".join(body)
                      + "int main(void)\n{\n" + "".join(names) + "    return 0;\n}\n")
    return source


def include_flags(isa: str, simd: str) -> list[str]:
    """-I options for the kernels of an isa ("dsp" or "mve") over simd/<simd>."""
    kernels = kernel_lib.RUNTIME / "kernel" / isa
    return kernel_lib.include_flags((kernels, kernel_lib.C99), kernel_lib.RUNTIME / "simd" / simd)


def build_arm(source: Path, machine: str, cc: str = "arm-none-eabi-gcc", flags: Sequence[str] = ("-O2",),
              kernels: tuple[str, str] | None = None) -> Path:
    """The ELF of a program for an emulated machine. kernels: (isa, simd) for include_flags, those of the machine by
    default. Raises CalledProcessError."""
    cpu, code, ram = (TARGETS | HELIUM)[machine]
    isa = "mve" if machine in HELIUM else "dsp"
    elf, link = source.with_name(f"{machine}.elf"), source.with_name(f"{machine}.ld")
    link.write_text(LINK.format(code=code, ram=ram))
    bare = ("-ffreestanding", "-nostdlib", "-static", "-fno-builtin", "-fno-tree-loop-distribute-patterns")
    subprocess.run([cc, *cpu, "-mthumb", "-std=gnu99", *kernel_lib.WARNINGS[2:4], *flags, *bare,
                    *include_flags(*(kernels or (isa, isa))), str(source),
                    f"-T{link}", "-Wl,--gc-sections", "-o", str(elf)], check=True)
    return elf


SANITIZE = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def build_host(source: Path, cc: str = "cc", flags: Sequence[str] = SANITIZE, isa: str = "dsp") -> Path:
    """The program for this machine, with simd/<isa>_on_host. Raises CalledProcessError."""
    exe = source.with_name("host")
    include = include_flags(isa, f"{isa}_on_host")
    subprocess.run([cc, "-DHOST", "-std=gnu99", *flags, *include, str(source), "-o", str(exe)], check=True)
    return exe


def run(command: Sequence[str], timeout: float = 60) -> list[tuple[int, int]]:
    """[(checksum, untouched)] of the calls. Raises RuntimeError with the program's messages when it fails."""
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    r = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=timeout,
                       stdin=subprocess.DEVNULL, env=env)
    lines = re.findall(r"^\d+ (\d+) (\d)\s*$", r.stdout + r.stderr, re.M)
    if r.returncode:
        raise RuntimeError(f"{command[0]} ended with {r.returncode} after {len(lines)} calls: {r.stderr[-2000:]}")
    return [(int(a), int(b)) for a, b in lines]


def qemu(elf: Path, machine: str) -> list[str]:
    """The command that runs an ELF."""
    return ["qemu-system-arm", "-M", machine, "-nographic", "-semihosting-config", "enable=on,target=native",
            "-kernel", str(elf)]


def missing() -> str:
    """What the emulated runs lack on this machine; empty when nothing."""
    return ", ".join(t for t in ("arm-none-eabi-gcc", "qemu-system-arm") if not shutil.which(t))
