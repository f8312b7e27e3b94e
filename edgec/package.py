"""What an emitted package says about itself: its name and the sizes of its tensors, read from its header."""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .custom import FOLDER as CUSTOM
from .errors import UsageError


@dataclass(frozen=True)
class Package:
    """folder: absolute; c_name: the prefix of files and functions; inputs, outputs: bytes of each tensor.
    arena_bytes: of all arenas; arenas: bytes of each, where there are several. has_rows: the input comes row by row.
    own: C files and headers of the user's operators, relative to the folder."""

    folder: Path
    c_name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    arena_bytes: int
    arenas: tuple[int, ...]
    has_reset: bool
    has_rows: bool
    own: tuple[str, ...]

    @property
    def run(self) -> str:
        """The function that is called for each run: a sample, or a row of one."""
        return f"{self.c_name}_push_row" if self.has_rows else f"{self.c_name}_run"

    @property
    def sources(self) -> tuple[str, ...]:
        """The C files of the library, relative to the folder: the model, which wants -O2, first."""
        return (f"{self.c_name}.c", f"{self.c_name}_weights.c", *(f for f in self.own if f.endswith(".c")))

    @property
    def firmware_sources(self) -> tuple[str, ...]:
        return tuple(f"firmware/{n}.c" for n in FIRMWARE)


FIRMWARE = ("startup", "main", "semihost", "memory")


def read(folder: Path) -> Package:
    """The package in this folder. Raises UsageError where there is none."""
    folder = Path(folder).resolve()
    names = [p.stem for p in sorted(folder.glob("*.h"))
             if p.with_suffix(".c").exists() and (folder / f"{p.stem}_weights.c").exists()]
    if len(names) != 1:
        raise UsageError("not an emitted package", where=str(folder), fix="give the folder that `edgec build` wrote")
    text = (folder / f"{names[0]}.h").read_text(encoding="utf-8")
    prefix = re.escape(names[0].upper())

    def number(macro: str) -> int:
        found = re.search(rf"^#define\s+{prefix}_{macro}\s+(\d+)u?\b", text, re.MULTILINE)
        if not found:
            raise UsageError(f"{names[0]}.h does not define {names[0].upper()}_{macro}", where=str(folder),
                             fix="build the package again")
        return int(found[1])

    def has(function: str) -> bool:
        return bool(re.search(rf"\b{re.escape(names[0])}_{function}\s*\(", text))

    several = re.search(rf"^#define {prefix}_ARENAS\b", text, re.MULTILINE)
    return Package(folder, names[0],
                   tuple(number(f"INPUT_{i}_BYTES") for i in range(number("INPUTS"))),
                   tuple(number(f"OUTPUT_{i}_BYTES") for i in range(number("OUTPUTS"))),
                   number("ARENA_BYTES"),
                   tuple(number(f"ARENA_{i}_BYTES") for i in range(number("ARENAS") if several else 0)),
                   has("reset"), has("push_row"),
                   tuple(f"{CUSTOM}/{f.name}" for f in sorted((folder / CUSTOM).glob("*.[ch]"))))
