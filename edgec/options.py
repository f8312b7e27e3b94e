"""Options of the command line. What several commands share is a group: a record whose fields are options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from .errors import UsageError
from .output import Console


class Goal(StrEnum):
    balanced = "balanced"
    ram = "ram"
    time = "time"
    size = "size"


class Io(StrEnum):
    int8 = "int8"
    float32 = "float32"


def grouped(command: Callable) -> Callable:
    """The command as typer wants it: each parameter whose type is a group stands for the group's fields."""
    hints = get_type_hints(command, include_extras=True)
    groups, parameters = {}, []
    for p in inspect.signature(command).parameters.values():
        kind = hints[p.name]
        if not is_dataclass(kind):
            parameters.append(p.replace(kind=p.KEYWORD_ONLY, annotation=kind))
            continue
        groups[p.name] = kind
        types = get_type_hints(kind, include_extras=True)
        parameters += [p.replace(name=f.name, kind=p.KEYWORD_ONLY, annotation=types[f.name], default=f.default)
                       for f in fields(kind)]

    def run(**given: Any) -> None:
        made = {name: kind(**{f.name: given.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()}
        command(**made, **given)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


# --- what the texts mean -------------------------------------------------------------------------


def size(option: str, text: str) -> int:
    """64k, 512K, 1M, 65536 -> bytes."""
    number, unit = text.strip().lower().removesuffix("b").removesuffix("i"), 1
    for suffix, factor in (("k", 1024), ("m", 1024 * 1024)):
        if number.endswith(suffix):
            number, unit = number[:-1], factor
    try:
        found = round(float(number) * unit)
    except (ValueError, OverflowError):
        found = 0
    if found <= 0:
        raise UsageError(f"{option} {text} is not a size", fix=f"write {option} 65536, {option} 64k or {option} 1M")
    return found


def share(option: str, text: str) -> float:
    """0.5% or 0.5 -> 0.005."""
    try:
        found = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise UsageError(f"{option} {text} is not a percentage", fix=f"write {option} 0.5%")
    return found


def shapes(texts: list[str] | None) -> dict[str, tuple[int, ...]] | None:
    """input=1,3,96,96 -> {"input": (1, 3, 96, 96)}; a name may hold "=" and ":"."""
    found = {}
    for text in texts or ():
        name, _, dims = text.rpartition("=")
        try:
            shape = tuple(int(d) for d in dims.split(","))
        except ValueError:
            shape = ()
        if not name or not shape or min(shape) < 1:
            raise UsageError(
                f"--shape {text} is not NAME=N,N,..", fix="write --shape input=1,3,96,96 with whole numbers from 1 on"
            )
        found[name] = shape
    return found or None


def constants(texts: list[str] | None) -> dict[str, list[float]] | None:
    """axes=0,2 -> {"axes": [0, 2]}; whole numbers stay whole."""
    found = {}
    for text in texts or ():
        name, _, values = text.rpartition("=")
        try:
            found[name] = [float(v) if set(v) & set(".eEnN") else int(v) for v in values.split(",")]
        except ValueError:
            name = ""
        if not name:
            raise UsageError(f"--const {text} is not NAME=V,V,..", fix="write --const axes=0,2 with numbers")
    return found or None


def state(texts: list[str] | None) -> dict[str, str] | None:
    """h=h_out -> {"h": "h_out"}."""
    found = {}
    for text in texts or ():
        i, _, o = text.partition("=")
        if not (i and o) or i in found:
            what = "names an input again" if i in found else "is not IN=OUT"
            raise UsageError(f"--state {text} {what}", fix="write --state h=h_out, once for each input")
        found[i] = o
    return found or None


def widths(texts: list[str] | None) -> dict[str, str]:
    """conv1=16x8 -> {"conv1": "16x8"}; a name may hold "="."""
    found = {}
    for text in texts or ():
        name, _, width = text.rpartition("=")
        if not (name and width):
            raise UsageError(f"--bits {text} is not NODE=WIDTH", fix="write --bits node=16x8")
        found[name] = width
    return found


# --- single options ------------------------------------------------------------------------------

Model = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The network, an ONNX file.", show_default=False)]
Package = Annotated[
    Path, typer.Argument(metavar="DIR", help="A directory that `edgec build` wrote.", show_default=False)
]
CalibrationData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FILE.npz",
        help="Calibration samples: a float model is quantised to int8 with them. One array per input, samples first.",
    ),
]
Samples = Annotated[
    Path,
    typer.Option(metavar="FILE.npz", help="Samples to calibrate with: one array per input, samples first."),
]
OtherBoard = Annotated[
    str | None, typer.Option("--board", "-b", metavar="BOARD", help="Another board than the package's own.")
]


def out(metavar: str, text: str) -> Any:
    """--out of a command."""
    return typer.Option("--out", "-o", metavar=metavar, help=text, show_default=False)


# --- groups --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Output:
    """Of every command."""

    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout; everything else goes to stderr.")
    ] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show the Python traceback of an error.")] = False

    @property
    def console(self) -> Console:
        return Console(self.json)


@dataclass(frozen=True)
class Interface:
    """What is known about a model's inputs."""

    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N,N,..", help="Shape of an input that the model leaves open. Repeatable."),
    ] = None
    const: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=V,V,..", help="Value of an input that is known now, such as axes. Repeatable."),
    ] = None

    state: Annotated[
        list[str] | None,
        typer.Option(metavar="IN=OUT", help="Keep an output between runs: this input of the next. Repeatable."),
    ] = None

    custom: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE.toml", help="Operators of other domains: their C functions and rules. Repeatable."),
    ] = None

    @property
    def arguments(self) -> dict[str, Any]:
        """For api.py."""
        return {"shapes": shapes(self.shape), "constants": constants(self.const), "state": state(self.state),
                "custom": tuple(self.custom or ())}


@dataclass(frozen=True)
class Target:
    """Where a model goes, and what it may take there."""

    board: Annotated[
        str, typer.Option("--board", "-b", metavar="BOARD", help="Target: a name from `edgec boards`, or a TOML file.")
    ] = "cortex-m4"
    ram: Annotated[
        int | None,
        typer.Option(metavar="SIZE", help="RAM that the model may use (64k).", parser=partial(size, "--ram")),
    ] = None
    flash: Annotated[
        int | None,
        typer.Option(metavar="SIZE", help="Flash that the image may use (512k).", parser=partial(size, "--flash")),
    ] = None

    @property
    def arguments(self) -> dict[str, Any]:
        """For api.py."""
        return {"board": self.board, "ram": self.ram, "flash": self.flash}


@dataclass(frozen=True)
class Form:
    """How a model is compiled."""

    goal: Annotated[Goal, typer.Option("-O", "--goal", help="What to favour.")] = Goal.balanced
    stream_input: Annotated[
        bool,
        typer.Option("--stream-input", help="Take the input row by row (NAME_push_row): it is never whole in memory."),
    ] = False
    sliding: Annotated[
        bool,
        typer.Option("--sliding", help="--stream-input over a window that moves on: a result costs only its new rows."),
    ] = False

    @property
    def arguments(self) -> dict[str, Any]:
        """For api.py."""
        return {
            "goal": self.goal.value,
            "stream_input": "sliding" if self.sliding else "window" if self.stream_input else "",
        }


@dataclass(frozen=True)
class Quantising:
    """How a float model becomes an integer one."""

    calibration: Annotated[
        str,
        typer.Option(metavar="METHOD", help="How ranges are chosen: auto, minmax, tail, average, "
                     "percentile[:99.9], mse or entropy."),
    ] = "auto"
    io: Annotated[Io, typer.Option(help="Inputs and outputs of a model that is quantised here.")] = Io.int8
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="STEP", help="Leave out a step: equalise, ranges, scales, bias, rounding. Repeatable."),
    ] = None
    keep_float: Annotated[
        list[str] | None, typer.Option(metavar="NODE", help="Leave a node in float. Repeatable.")
    ] = None
    bits: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE=16x8", help="Bits of a node's activations and weights. Repeatable."),
    ] = None
    profile: Annotated[
        Path | None,
        typer.Option(metavar="STATS.npz", help="Keep the statistics of calibration here, and reuse them."),
    ] = None
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="How to quantise, as a file; it comes first.")
    ] = None

    @property
    def chosen(self):
        """The `recipe.Recipe`."""
        from .quantisation import recipe as recipes

        by_node = widths(self.bits) | dict.fromkeys(self.keep_float or (), "float")
        given = recipes.Recipe(self.calibration, self.io.value, tuple(self.without or ()), by_node, self.profile)
        return (recipes.load(self.recipe, given) if self.recipe else given).checked()
