"""Counts of a firmware under QEMU, function by function: the plugin runtime_c/port/qemu_profile.c and its answers."""
from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import elf, emulator, paths, toolchain
from .board import Board
from .errors import DeviceError, ToolchainError

_SOURCE = "port/qemu_profile.c"


@dataclass(frozen=True)
class Entry:
    """What ran on behalf of a function without the functions of the list that it called. parent: place of the entry
    that called it, -1 for the run. cycles: those of a Cortex-M4, a model."""

    parent: int
    function: str
    calls: int
    instructions: int
    cycles: int


def count(firmware_elf: Path, board: Board, run: str, functions: Sequence[str]) -> list[Entry]:
    """Runs the firmware once on its own input and counts inside the function `run`, which is entry 0.

    functions: those that are counted apart; a call of one out of the run is an entry of its own, in the order of calls,
    calls further down are counted together. One that the compiler joined with an equal one is counted as that. Raises
    DeviceError where the board has no emulator or the firmware does not call `run`, ToolchainError where no plugin can
    be built."""
    wanted = {run, *functions}
    found: dict[int, str] = {}
    for s in elf.read(firmware_elf).symbols:
        name = s.name.split(".", 1)[0]  # gcc's clones: kws_step_1_conv.constprop.0
        if name in wanted:
            found.setdefault(s.address & ~1, name)
    places = sorted(found, key=lambda a: (found[a] != run, a))
    if not places or found[places[0]] != run:
        raise DeviceError(f"the firmware has no function {run}", where=str(firmware_elf), fix="build the package again")
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        listing, out = Path(folder) / "functions", Path(folder) / "counts"
        listing.write_text("".join(f"{a:x}\n" for a in places), "ascii")
        emulator.run_pattern(firmware_elf, board, f"{plugin()},functions={listing},out={out}")
        lines = out.read_text("ascii").splitlines() if out.exists() else []
    if not lines:
        raise DeviceError(f"the firmware never called {run}", where=str(firmware_elf), fix="build the package again")
    numbers = [tuple(map(int, line.split())) for line in lines]
    return [Entry(p, found[places[f]], calls, instructions, cycles) for p, f, calls, instructions, cycles in numbers]


def plugin() -> Path:
    """The plugin as a shared library, compiled for this computer once for each version of its source."""
    source = paths.data("runtime_c") / _SOURCE
    compiler = toolchain.find_host()
    key = hashlib.sha256(source.read_bytes() + repr(compiler).encode()).hexdigest()[:16]
    target = _cache() / f"qemu_profile-{key}.so"
    if not target.exists():
        part = target.with_suffix(f".{os.getpid()}")
        done = subprocess.run([*compiler.command, "-O2", "-shared", "-fPIC", "-o", str(part), str(source)],
                              capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise ToolchainError(f"compiling the emulator's plugin failed: {done.stderr.strip()[-2000:]}",
                                 where=str(source), fix="install a C compiler for this computer (edgec doctor)")
        part.replace(target)
    return target


def _cache() -> Path:
    """The user's cache folder, or a temporary one where that cannot be written."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgec"
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError:
        home = Path(tempfile.gettempdir()) / f"edgec-{os.getuid()}"
        home.mkdir(exist_ok=True)
    if not os.access(home, os.W_OK):
        raise ToolchainError("no folder for the emulator's plugin can be written", where=str(home),
                             fix="set XDG_CACHE_HOME to one that can")
    return home
