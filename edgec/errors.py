"""The errors edgec raises on purpose: what went wrong, where, how to fix it, and the exit code."""
from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line (README, "Exit codes")."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    MODEL = 3
    UNSUPPORTED = 4
    BUDGET = 5
    VALIDATION = 6
    TOOLCHAIN = 7
    DEVICE = 8


class EdgecError(Exception):
    """An error the user can act on. `where` names the ONNX node, tensor or file; `fix` says what to do."""

    exit_code = Exit.INTERNAL

    def __init__(self, what: str, *, where: str = "", fix: str = ""):
        super().__init__(what)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.fix:
            lines.append(f"  fix:   {self.fix}")
        return "\n".join(lines)

    def as_dict(self) -> dict:
        """The error as the `--json` object's "error" member."""
        return {"kind": type(self).__name__, "what": self.what, "where": self.where, "fix": self.fix,
                "exit_code": int(self.exit_code)}


class UsageError(EdgecError):
    """A wrong option, board name or data file."""

    exit_code = Exit.USAGE


class ModelError(EdgecError):
    """The ONNX file is missing, damaged or not a valid model."""

    exit_code = Exit.MODEL


class UnsupportedError(EdgecError):
    """A valid model that edgec cannot compile; lists every unsupported node at once."""

    exit_code = Exit.UNSUPPORTED


class BudgetError(EdgecError):
    """The result does not fit the board's or the user's RAM or flash."""

    exit_code = Exit.BUDGET


class ValidationError(EdgecError):
    """Outputs differ by more than the tolerance."""

    exit_code = Exit.VALIDATION


class ToolchainError(EdgecError):
    """A compiler is missing or failed."""

    exit_code = Exit.TOOLCHAIN


class DeviceError(EdgecError):
    """The emulator or the debug probe is missing or failed."""

    exit_code = Exit.DEVICE
