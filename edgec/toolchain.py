"""Compilers: finding them, and building the firmware of an emitted package."""
from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from . import elf, package
from .board import Board
from .errors import BudgetError, ToolchainError, UsageError
from .stack import StackBound, bounds

WARNINGS = ("-pedantic", "-Wall", "-Wextra", "-Wconversion")
# -ffp-contract=off: a fused multiply-add would change bits. -fno-math-errno: sqrtf becomes one instruction.
CFLAGS = ("-std=c99", *WARNINGS, "-ffp-contract=off", "-fno-math-errno", "-ffunction-sections", "-fdata-sections")
# Measured on the Cortex-M4 over four networks: -Os costs up to 0.3 % more cycles than -O2 and saves 3 to 7 % of the code,
# -O3 saves up to 2 % of the cycles for a quarter more code.
MODEL_OPT, GLUE_OPT = {"ram": "-O2", "balanced": "-O2", "size": "-Os", "time": "-O3"}, "-Os"
# The firmware brings its own start and memory functions; of the compiler's libraries only the arithmetic is linked.
LDFLAGS = ("-nostartfiles", "-Wl,--gc-sections", "-Wl,--build-id=none")
LINKER_SCRIPT = "firmware/link.ld"
GCC_LDFLAGS, GCC_LIBRARY = ("-nostdlib", *LDFLAGS), ("-lgcc",)
# zig adds debug information, unwind tables and frame pointers unless told not to, and links its arithmetic by itself.
ZIG_CFLAGS = ("-g0", "-fomit-frame-pointer", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables")
ZIG_LDFLAGS = (*LDFLAGS, "-Wl,-e,reset_handler")
# The debug information of zig's arithmetic holds paths of this computer; its own option would drop the symbols too.
ZIG_LINKER_SCRIPT = "SECTIONS { /DISCARD/ : { *(.debug_*) } }\n"
ARM_GCC = "arm-none-eabi-gcc"
JOBS = 2


@dataclass(frozen=True)
class Compiler:
    """kind: "gcc" (or clang, which takes the same options) or "zig"; command: what starts it; version: for reports."""

    kind: str
    command: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class Firmware:
    """What a build gave. Sizes are bytes.

    elf, hex, bin: the files (bin is None where the memories lie too far apart for a flat image).
    sections: every allocated section. flash_used: all that is loaded. ram_used: variables and arena, without the
    reserve for the stack, which is sections[".stack"]. symbols: largest first.
    stack: frame of each function, as gcc reports it; empty with zig. stack_bounds: worst case of <name>_init and
    <name>_run with all they call, the hook being empty, and of reset_handler, which is the whole firmware. warnings:
    what compiler and linker had to say.
    """

    elf: Path
    hex: Path
    bin: Path | None
    sections: Mapping[str, int]
    flash_used: int
    ram_used: int
    symbols: tuple[elf.Symbol, ...]
    stack: Mapping[str, int]
    stack_bounds: Mapping[str, StackBound]
    compiler: Compiler
    warnings: str


# --- finding compilers --------------------------------------------------------------------------


def find_arm() -> Compiler:
    """The compiler for Cortex-M: $EDGEC_ARM_GCC, else arm-none-eabi-gcc, else the ziglang package.

    Raises ToolchainError where there is none.
    """
    wanted = os.environ.get("EDGEC_ARM_GCC", "")
    gcc = shutil.which(wanted or ARM_GCC)
    if gcc:
        return _compiler("gcc", (gcc,))
    if wanted:
        raise ToolchainError(f"EDGEC_ARM_GCC names {wanted!r}, which is not a program", fix="correct it or unset it")
    return zig() or _missing("no compiler for Cortex-M found",
                             "apt-get install gcc-arm-none-eabi, or pip install 'edgec[zig]'")


def find_host(cc: str | None = None) -> Compiler:
    """The compiler for this computer: `cc`, else $CC, else cc, gcc, clang, else the ziglang package.

    Raises ToolchainError where there is none.
    """
    wanted = cc or os.environ.get("CC", "")
    for words in [shlex.split(wanted)] if wanted else [["cc"], ["gcc"], ["clang"]]:
        path = shutil.which(words[0])
        if path:
            return _compiler("gcc", (path, *words[1:]))
    if wanted:
        raise ToolchainError(f"the host compiler {wanted!r} is not a program", fix="correct CC or --cc, or unset it")
    return zig() or _missing("no C compiler for this computer found",
                             "apt-get install gcc, or pip install 'edgec[zig]'")


def zig() -> Compiler | None:
    """The C compiler inside the ziglang package, if that is installed."""
    if importlib.util.find_spec("ziglang") is None:
        return None
    return _compiler("zig", (sys.executable, "-m", "ziglang", "cc"))


def _missing(what: str, fix: str) -> Compiler:
    raise ToolchainError(what, fix=fix)


def _compiler(kind: str, command: tuple[str, ...]) -> Compiler:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise ToolchainError(f"{command[0]} does not run: {done.stderr.strip()[-300:]}", fix="install it again")
    return Compiler(kind, command, f"{'zig cc: ' if kind == 'zig' else ''}{done.stdout.splitlines()[0].strip()}")


# --- building firmware --------------------------------------------------------------------------


def build_firmware(package_dir: Path, board: Board, compiler: Compiler | None = None, goal: str = "balanced") -> Firmware:
    """Compiles and links the package in `package_dir`; writes <name>.elf, .hex and .bin into it. goal: as for `edgec.build`.

    The same package and compiler give the same bytes wherever the folder lies. Raises UsageError for the host board,
    ToolchainError where a tool is missing or fails, BudgetError where a memory of the board overflows.
    """
    if board.is_host:
        raise UsageError("the host has no firmware", where=board.name, fix="choose a board with a Cortex-M")
    compiler = compiler or find_arm()
    pack = package.read(package_dir)
    with tempfile.TemporaryDirectory(prefix="edgec-") as temporary:
        objects, stack, warnings = _compile(pack, board, compiler, Path(temporary), MODEL_OPT[goal])
        image = Path(temporary) / f"{pack.c_name}.elf"
        warnings += _link(pack, board, compiler, objects, image)
        shutil.copyfile(image, pack.folder / image.name)
    return _firmware(pack, board, compiler, stack, warnings)


def _target(board: Board, compiler: Compiler) -> tuple[str, ...]:
    """What starts the compiler for the board's core."""
    return (*compiler.command, *(board.zig_flags if compiler.kind == "zig" else board.flags))


def _compile(
    pack: package.Package, board: Board, compiler: Compiler, out: Path, model_opt: str
) -> tuple[list[Path], dict[str, int], str]:
    """Object files in the order of the sources, stack frame per function, warnings."""
    sources = (*pack.sources, *pack.firmware_sources)
    objects = [out / (s.replace("/", "_") + ".o") for s in sources]
    command = (*_target(board, compiler), *CFLAGS, *(ZIG_CFLAGS if compiler.kind == "zig" else ("-fstack-usage",)))

    def one(i: int) -> str:
        opt = model_opt if sources[i] in (pack.sources[0], *pack.own) else GLUE_OPT
        return _run([*command, opt, "-c", sources[i], "-o", str(objects[i])], pack.folder, f"compiling {sources[i]}")

    with ThreadPoolExecutor(JOBS) as pool:
        warnings = "".join(pool.map(one, range(len(sources))))
    return objects, _stack_frames(out), warnings


def _run(command: Sequence[str], folder: Path, what: str) -> str:
    """Runs a tool in the package's folder, where all paths are relative and none gets into its output."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise ToolchainError(f"{what} failed: {done.stderr.strip()[-2000:]}", where=str(folder),
                             fix="if the package is as edgec wrote it, report this with the message above")
    return done.stderr


def _stack_frames(folder: Path) -> dict[str, int]:
    """function -> bytes, from the .su files of -fstack-usage; the larger where two static functions share a name."""
    frames: dict[str, int] = {}
    for file in sorted(folder.glob("*.su")):
        for line in file.read_text(encoding="utf-8").splitlines():
            place, size, _ = line.split("\t")
            function = place.rsplit(":", 1)[-1]
            frames[function] = max(int(size), frames.get(function, 0))
    return dict(sorted(frames.items()))


def _link(pack: package.Package, board: Board, compiler: Compiler, objects: list[Path], image: Path) -> str:
    flags, library, script = GCC_LDFLAGS, GCC_LIBRARY, Path(LINKER_SCRIPT)
    if compiler.kind == "zig":
        flags, library, script = ZIG_LDFLAGS, (), image.with_suffix(".ld")
        script.write_text(ZIG_LINKER_SCRIPT + (pack.folder / LINKER_SCRIPT).read_text("utf-8"), "utf-8")
    line = [*_target(board, compiler), *flags, "-T", str(script), *map(str, objects), *library, "-o", str(image)]
    done = subprocess.run(line, cwd=pack.folder, capture_output=True, text=True, errors="replace")
    if done.returncode == 0:
        return done.stderr
    over = _overflows(done.stderr)
    if not over:
        raise ToolchainError(f"linking failed: {done.stderr.strip()[-2000:]}", where=str(pack.folder),
                             fix="if the package is as edgec wrote it, report this with the message above")
    # Link once more without the check, to see what is large.
    subprocess.run([*line, "-Wl,--noinhibit-exec"], cwd=pack.folder, capture_output=True)
    raise _budget_error(board, over, elf.read(image) if image.exists() else elf.Elf((), (), ()))


_OVERFLOW = re.compile(r"region [`']?(\w+)'?:? overflowed by (\d+) bytes")


def _overflows(messages: str) -> dict[str, int]:
    """memory name -> bytes too many, from the messages of GNU ld or lld."""
    over: dict[str, int] = {}
    for region, count in _OVERFLOW.findall(messages):
        over[region.lower()] = max(int(count), over.get(region.lower(), 0))
    return over


def _budget_error(board: Board, over: Mapping[str, int], image: elf.Elf) -> BudgetError:
    lines = []
    for name, excess in over.items():
        memory = board.memory(name)
        inside = {s.name for s in image.sections
                  if memory.origin <= s.address and (s.address < memory.origin + memory.size + excess)}
        largest = [f"{s.name} {s.size}" for s in image.symbols if s.section in inside][:5]
        lines.append(f"{name} ({memory.size} bytes) is exceeded by {excess} bytes; largest: {', '.join(largest)}")
    return BudgetError(f"the firmware does not fit {board.name}: {'; '.join(lines)}", where=board.name,
                       fix="quantise to int8 (--data), choose -O ram or -O size, or a board with more memory")


def _firmware(pack: package.Package, board: Board, compiler: Compiler, stack: dict[str, int],
              warnings: str) -> Firmware:
    path = pack.folder / f"{pack.c_name}.elf"
    image = elf.read(path)
    path.with_suffix(".hex").write_text(elf.intel_hex(image), encoding="ascii")
    flat = elf.flat_binary(image)
    if flat is not None:
        path.with_suffix(".bin").write_bytes(flat)
    sections = {s.name: s.size for s in image.sections}
    ram = {m.origin: m for m in board.memories if m.kind == "ram"}.values()
    model = bounds(path, (f"{pack.c_name}_init", pack.run), stack, without=(f"{pack.c_name}_hook",))
    worst = model | bounds(path, ("reset_handler",), stack)
    in_ram = sum(s.size for s in image.sections if any(m.origin <= s.address < m.origin + m.size for m in ram))
    return Firmware(
        elf=path, hex=path.with_suffix(".hex"), bin=path.with_suffix(".bin") if flat is not None else None,
        sections=MappingProxyType(sections), flash_used=sum(s.size for s in image.sections if s.loaded),
        ram_used=in_ram - sections.get(".stack", 0), symbols=image.symbols, stack=MappingProxyType(stack),
        stack_bounds=MappingProxyType(worst), compiler=compiler, warnings=warnings)
