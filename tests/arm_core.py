"""Programs of dsp_program.py for cores without the DSP extension, soft and hard float."""
from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import kernel_lib
from dsp_program import LINK

CORES = {  # compiler flags, and the machine that runs them: what a Cortex-M0 runs, an M3 runs too
    "cortex-m0": (("-mcpu=cortex-m0", "-mfloat-abi=soft"), "mps2-an385"),
    "cortex-m3": (("-mcpu=cortex-m3", "-mfloat-abi=soft"), "mps2-an385"),
    "cortex-m4": (("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"), "mps2-an386"),
}


def build_core(source: Path, core: str, isa_dirs: Sequence[Path], simd: Path, flags: Sequence[str] = ()) -> Path:
    """The ELF of a program for a core of CORES, with the compiler's soft-float library. Raises CalledProcessError."""
    elf, link = source.with_name(f"{core}.elf"), source.with_name("core.ld")
    link.write_text(LINK.format(code=0, ram=0x20000000))
    subprocess.run(["arm-none-eabi-gcc", *CORES[core][0], "-mthumb", "-std=gnu99", "-O2", "-ffreestanding", "-nostdlib",
                    "-fno-tree-loop-distribute-patterns", *flags, *kernel_lib.include_flags(isa_dirs, simd),
                    str(source), f"-T{link}", "-lgcc", "-o", str(elf)], check=True)
    return elf
