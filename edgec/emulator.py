"""Runs a firmware under its board's emulator; data go in and out through semihosting (runtime_c/port/main.c)."""
from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import package
from .board import Board
from .errors import DeviceError, UsageError

# Exit codes of the firmware: `enum exit_code` of main.c, and startup.c's.
_EXITS = {2: "wrong command line", 3: "fault", 4: "the input file ends within a sample or cannot be read",
          5: "the output file cannot be written", 6: "the model's init failed", 7: "the model's run failed"}
_TRACE_END = 0xFFFFFFFF


@dataclass(frozen=True)
class Run:
    """outputs: per sample the bytes of each output. traces: per sample, step -> the bytes of its output; empty unless
    asked for. stack: the most bytes of stack that were in use; run_stack: the most that <name>_run and all it calls
    (the hook, which records a trace, too) had in use."""

    outputs: list[list[bytes]]
    traces: list[dict[int, bytes]]
    stack: int
    run_stack: int


def run(firmware_elf: Path, board: Board, samples: Sequence[Sequence[bytes]], trace: bool = False,
        steps: int = 0, timeout: float = 300.0) -> Run:
    """Runs the firmware, which must lie in its package's folder, on samples (the bytes of each input).

    timeout: seconds. A model with state sees the samples one after the other, and is reset before every `steps` of them
    (0: at the start alone; one that takes rows before every sample). Raises UsageError for samples that do
    not fit the model; DeviceError where the board has no emulator, the emulator is missing, does not end in time or
    reports an error.
    """
    firmware_elf = Path(firmware_elf).resolve()
    pack = package.read(firmware_elf.parent)
    _check_samples(pack, samples)
    _require_emulator(board)
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        (Path(folder) / "in").write_bytes(b"".join(part for sample in samples for part in sample))
        together = 1 if pack.has_rows else steps
        words = ["edgec", "trace" if trace else "run", "in", "out", *([str(together)] if together else [])]
        printed = _execute(board, board.emulator, firmware_elf, words, folder, timeout)
        raw = (Path(folder) / "out").read_bytes()
    outputs, traces = _split(raw, pack, len(samples), trace, board)
    stack = re.search(r"^stack (\d+) run (\d+)$", printed, re.MULTILINE)
    if not stack:
        raise DeviceError("the firmware did not report its stack", where=board.name, fix="build the firmware again")
    return Run(outputs, traces, int(stack[1]), int(stack[2]))


def run_pattern(firmware_elf: Path, board: Board, plugin: str = "", timeout: float = 300.0) -> str:
    """Runs the firmware once on its own fixed pattern; returns what it prints. plugin: of the emulator, with arguments.

    Raises DeviceError as `run` does."""
    _require_emulator(board)
    command = (board.emulator[0], "-plugin", plugin, *board.emulator[1:]) if plugin else board.emulator
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        return _execute(board, command, Path(firmware_elf).resolve(), [], folder, timeout)


def cycles_on_board(firmware_elf: Path, board: Board, sample: Sequence[bytes], timeout: float = 300.0) -> list[tuple[int, int]]:
    """(step, cycles) of each step as it ran on `sample`, counted by the core's own counter (DWT), the firmware running on the
    board over semihosting through the first installed tool of the board's [run] table.

    Raises UsageError where the sample does not fit, DeviceError where the board has no such tool or no counter."""
    firmware_elf = Path(firmware_elf).resolve()
    pack = package.read(firmware_elf.parent)
    _check_samples(pack, [sample])
    tool = next((t for t in board.run if shutil.which(board.run[t][0])), None)
    if tool is None:
        raise DeviceError("no tool is there that runs a firmware on the board", where=board.name,
                          fix=f"install one of {', '.join(board.run)}" if board.run else
                          "add a [run] table to the board file, as boards/nucleo-f446re.toml has it")
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        (Path(folder) / "in").write_bytes(b"".join(sample))
        words = ["edgec", "profile", "in", "out"]
        _execute(board, board.run[tool], firmware_elf, words, folder, timeout)
        out = Path(folder) / "out"
        raw = out.read_bytes() if out.exists() else b""
    size = len(raw) - sum(pack.outputs) - 4
    if size < 0 or size % 8 or struct.unpack_from("<I", raw, size)[0] != _TRACE_END:
        raise DeviceError("the firmware's output file has the wrong length", where=board.name,
                          fix="flash the package's firmware first: edgec flash")
    counted = list(struct.iter_unpack("<II", raw[:size]))
    if counted and not any(cycles for _, cycles in counted):
        raise DeviceError("the core has no cycle counter that runs", where=board.name,
                          fix="profile under QEMU, without --on board")
    return counted


def _require_emulator(board: Board) -> None:
    if not board.emulator:
        raise DeviceError(f"{board.name} has no emulator", where=board.name,
                          fix="use the generic board of its core, e.g. cortex-m4")
    if shutil.which(board.emulator[0]) is None:
        raise DeviceError(f"{board.emulator[0]} is not installed", where=board.name,
                          fix=f"apt-get install {board.emulator[0]}")


def _check_samples(pack: package.Package, samples: Sequence[Sequence[bytes]]) -> None:
    for n, sample in enumerate(samples):
        sizes = tuple(map(len, sample))
        if sizes != pack.inputs:
            raise UsageError(f"sample {n} has inputs of {sizes} bytes", where=pack.c_name,
                             fix=f"give inputs of {pack.inputs} bytes")


def _execute(board: Board, emulator: Sequence[str], firmware_elf: Path, arguments: Sequence[str], folder: str,
             timeout: float) -> str:
    """Runs the emulator in `folder`, where the firmware's files lie; returns what the firmware printed."""
    forms = {"{elf}": str(firmware_elf), "{arguments}": "".join(f",arg={a}" for a in arguments),
             "{words}": " ".join(arguments), "{probe}": board.probe}
    command = list(emulator)
    for name, value in forms.items():
        command = [c.replace(name, value) for c in command]
    try:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=timeout)
    except subprocess.TimeoutExpired as e:
        raise DeviceError(f"the emulator did not end within {timeout:g} s", where=board.name,
                          fix="give fewer samples or more time") from e
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-500:]
        reason = _EXITS.get(done.returncode, f"exit code {done.returncode}")
        raise DeviceError(f"the firmware failed under the emulator: {reason}{': ' if said else ''}{said}",
                          where=board.name,
                          fix="a fault by stack overflow: raise `stack` in the board file; otherwise report this")
    return done.stdout


def _split(raw: bytes, pack: package.Package, n: int, trace: bool,
           board: Board) -> tuple[list[list[bytes]], list[dict[int, bytes]]]:
    """The output file cut into outputs and traces per sample."""
    at, outputs, traces = 0, [], []
    try:
        for _ in range(n):
            if trace:
                steps, at = _records(raw, at)
                traces.append(steps)
            outputs.append([])
            for size in pack.outputs:
                outputs[-1].append(raw[at:at + size])
                at += size
    except struct.error:
        at = -1
    if at != len(raw):
        raise DeviceError("the firmware's output file has the wrong length", where=board.name,
                          fix="build the package and its firmware again")
    return outputs, traces


def _records(raw: bytes, at: int) -> tuple[dict[int, bytes], int]:
    """A sample's records (main.c describes them) from `at` on, and where they end."""
    steps: dict[int, bytes] = {}
    while True:
        step, = struct.unpack_from("<I", raw, at)
        if step == _TRACE_END:
            return steps, at + 4
        size, = struct.unpack_from("<I", raw, at + 4)
        steps[step] = raw[at + 8:at + 8 + size]
        at += 8 + size
