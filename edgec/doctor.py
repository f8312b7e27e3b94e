"""What is installed of the programs that edgec can use."""
from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from . import toolchain
from .errors import ToolchainError
from .flash import INSTALL


@dataclass(frozen=True)
class Tool:
    """version: None where it is not installed (or does not run)."""

    name: str
    version: str | None
    purpose: str
    install: str


def doctor() -> list[Tool]:
    """Every outside program and optional package, in the order in which a build needs them."""
    return [
        Tool("host C compiler", _compiler(toolchain.find_host), "runs the model on this computer",
             "apt-get install gcc"),
        Tool(os.environ.get("EDGEC_ARM_GCC") or toolchain.ARM_GCC, _arm_gcc(), "compiles firmware for Cortex-M",
             "apt-get install gcc-arm-none-eabi"),
        Tool("ziglang", _package("ziglang"), "compiles where there is no other compiler", "pip install 'edgec[zig]'"),
        Tool("qemu-system-arm", _program("qemu-system-arm"), "runs firmware without a board",
             "apt-get install qemu-system-arm"),
        Tool("onnxruntime", _package("onnxruntime"), "reference results, fast calibration", "pip install 'edgec[ort]'"),
        *(Tool(t, _program(t), "writes firmware into a board", how) for t, how in INSTALL.items()),
    ]


def _compiler(find) -> str | None:
    try:
        return find().version
    except ToolchainError:
        return None


def _arm_gcc() -> str | None:
    gcc = shutil.which(os.environ.get("EDGEC_ARM_GCC") or toolchain.ARM_GCC)
    return _first_line(gcc) if gcc else None


def _program(name: str) -> str | None:
    path = shutil.which(name)
    return _first_line(path) if path else None


def _first_line(path: str) -> str | None:
    """What `--version` prints first; openocd prints to stderr."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, errors="replace", timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if re.search(r"\d", line)]
    return lines[0] if done.returncode == 0 and lines else None


def _package(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
