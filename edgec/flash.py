"""Writes a firmware into a board, with the first installed of the tools that the board's file knows."""
from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from . import package
from .board import Board
from .errors import DeviceError, UsageError

INSTALL = {"openocd": "apt-get install openocd", "pyocd": "pip install 'edgec[flash]'",
           "st-flash": "apt-get install stlink-tools"}


def flash(package_dir: Path, board: Board, tool: str | None = None, dry_run: bool = False) -> list[str]:
    """Flashes the package's firmware; returns the command line, which with dry_run is all that happens.

    tool: one of the board's tools; default: the first that is installed (with dry_run: or the first). Raises
    UsageError where the board has no such tool or the firmware is not built, DeviceError where no tool is installed
    or it fails.
    """
    pack = package.read(package_dir)
    elf = pack.folder / f"{pack.c_name}.elf"
    if not elf.exists():
        raise UsageError("the package has no firmware", where=str(pack.folder), fix="build it first: edgec build")
    template = board.flash[_choose(board, tool, dry_run)]
    names = {"{elf}": str(elf), "{bin}": str(elf.with_suffix(".bin")), "{probe}": board.probe}
    command = [_fill(word, names) for word in template]
    if dry_run:
        return command
    try:
        code = subprocess.run(command).returncode
    except OSError as e:
        raise DeviceError(f"{command[0]} does not run: {e}", where=board.name, fix="install it again") from e
    if code:
        raise DeviceError(f"{command[0]} failed with exit code {code}", where=board.name,
                          fix="check that the board is plugged in and that its probe may be used by this user")
    return command


def _choose(board: Board, tool: str | None, dry_run: bool) -> str:
    if not board.flash:
        raise UsageError(f"{board.name} is not a board that can be flashed", where=board.name,
                         fix="choose a real board (edgec boards), or write a board file with a [flash] table")
    if tool is not None:
        if tool not in board.flash:
            raise UsageError(f"{board.name} cannot be flashed with {tool!r}", where=board.name,
                             fix=f"tools: {', '.join(board.flash)}")
        candidates = [tool]
    else:
        candidates = list(board.flash)
    installed = [t for t in candidates if shutil.which(board.flash[t][0])]
    if installed or dry_run:
        return (installed or candidates)[0]
    how = "; ".join(f"{t}: {INSTALL.get(t, 'see its documentation')}" for t in candidates)
    raise DeviceError("no flash tool is installed", where=board.name, fix=how)


def _fill(word: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        word = word.replace(name, value)
    return word
