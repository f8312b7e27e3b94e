"""How a float model is to be quantised: the options, from the command line or a TOML file."""
from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from ..errors import UsageError

# The steps that make it better, in their order; each is kept only where it lowers the error on samples it has not seen.
IMPROVEMENTS = ("equalise", "ranges", "scales", "bias", "rounding")


@dataclass(frozen=True)
class Recipe:
    """calibration: how ranges are chosen, see `ranges.choose`. io: element type of inputs and outputs, "int8" or
    "float32". without: steps of IMPROVEMENTS that are left out. bits: by ONNX node name, one of `plan.WIDTHS`.
    profile: a file that keeps the statistics of calibration; read where it exists, written where it does not."""

    calibration: str = "auto"
    io: str = "int8"
    without: tuple[str, ...] = ()
    bits: Mapping[str, str] = field(default_factory=dict)
    profile: Path | None = None

    @property
    def improve(self) -> tuple[str, ...]:
        return tuple(s for s in IMPROVEMENTS if s not in self.without)

    def checked(self) -> Recipe:
        """Itself. UsageError: an option that does not exist."""
        from .plan import IO, WIDTHS
        from .ranges import check

        check(self.calibration)
        for what, given, allowed in (("type of inputs and outputs", [self.io], IO),
                                     ("width", self.bits.values(), WIDTHS),
                                     ("improvement", self.without, IMPROVEMENTS)):
            wrong = [g for g in given if g not in allowed]
            if wrong:
                raise UsageError(f"unknown {what} '{wrong[0]}'", fix="choose from: " + ", ".join(allowed))
        return self

    def described(self) -> dict:
        """For a manifest: plain values."""
        return {"calibration": self.calibration, "io": self.io, "without": list(self.without), "bits": dict(self.bits)}


DEFAULT = Recipe()


def load(path: Path, base: Recipe = DEFAULT) -> Recipe:
    """`base` with what a TOML file says: calibration, io, without, profile (relative to the file), keep_float (node
    names) and a table `bits`. UsageError: unreadable, or an unknown key."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise UsageError(f"the recipe cannot be read: {e}", where=str(path), fix="see README, Quantisation") from None
    known = [f.name for f in fields(Recipe)] + ["keep_float"]
    wrong = [k for k in given if k not in known]
    if wrong:
        raise UsageError(f"unknown key '{wrong[0]}'", where=str(path), fix="choose from: " + ", ".join(known))
    bits = {**base.bits, **given.pop("bits", {}), **dict.fromkeys(given.pop("keep_float", ()), "float")}
    if "profile" in given:
        given["profile"] = path.parent / given["profile"]
    if "without" in given:
        given["without"] = tuple(given["without"])
    return replace(base, **given, bits=bits)
