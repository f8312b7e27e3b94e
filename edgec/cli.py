"""The command line: parses options, calls api.py, prints. Nothing is decided here."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from . import __version__
from .errors import EdgecError, Exit, UsageError
from .output import Console, plural, size_text, table

app = typer.Typer(
    name="edgec",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Compiles ONNX models to self-contained C99 for microcontrollers, and checks the result.",
    epilog="\b\nStart here:\n"
    "  edgec analyze model.onnx                              what would it need?\n"
    "  edgec build model.onnx --board cortex-m4              C package and firmware\n"
    "  edgec build model.onnx --data calibration.npz         the same in int8\n"
    "  edgec validate build/model/cortex-m4 --on host,qemu   does it compute the same?\n\n"
    "\b\nExit codes: 0 ok, 1 internal error, 2 usage, 3 bad model, 4 unsupported operator, 5 over budget,\n"
    "6 validation failed, 7 compiler, 8 emulator or probe.",
)

_CLICK_USAGE_ERROR = typer.BadParameter.__mro__[1]  # click's UsageError, wherever this version of typer keeps it


class Goal(StrEnum):
    balanced = "balanced"
    ram = "ram"
    time = "time"
    size = "size"


class Io(StrEnum):
    int8 = "int8"
    float32 = "float32"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; everything else goes to stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the Python traceback of an error.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The network, an ONNX file.", show_default=False)]
Package = Annotated[
    Path, typer.Argument(metavar="DIR", help="A directory that `edgec build` wrote.", show_default=False)
]
BoardName = Annotated[
    str, typer.Option("--board", "-b", metavar="BOARD", help="Target: a name from `edgec boards`, or a TOML file.")
]
OtherBoard = Annotated[
    str | None, typer.Option("--board", "-b", metavar="BOARD", help="Another board than the package's own.")
]
Calibration = Annotated[
    str,
    typer.Option(metavar="METHOD", help="How ranges are chosen: auto, minmax, headroom, average, percentile[:99.9], "
                 "mse or entropy."),
]
IoType = Annotated[Io, typer.Option("--io", help="Inputs and outputs of a model that is quantised here.")]
RecipeFile = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="FILE.toml", help="How to quantise: calibration, io, without, keep_float, bits."),
]
Shape = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=N,N,..", help="Shape of an input that the model leaves open. Repeatable."),
]
Const = Annotated[
    list[str] | None,
    typer.Option("--const", metavar="NAME=V,V,..", help="Value of an input that is known now, such as axes. Repeatable."),
]
Optimise = Annotated[Goal, typer.Option("-O", "--goal", help="What to favour.")]
Ram = Annotated[str | None, typer.Option("--ram", metavar="SIZE", help="RAM that the model may use, such as 64k.")]
Flash = Annotated[
    str | None, typer.Option("--flash", metavar="SIZE", help="Flash that the image may use, such as 512k.")
]
CalibrationData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FILE.npz",
        help="Calibration samples: a float model is quantised to int8 with them. One array per input, samples first.",
    ),
]

StreamInput = Annotated[
    bool,
    typer.Option("--stream-input", help="Take the input row by row (NAME_push_row): it is never whole in memory."),
]
Sliding = Annotated[
    bool,
    typer.Option("--sliding", help="--stream-input over a window that moves on: a result costs only its new rows."),
]

EXAMPLES = "\b\nExamples:\n"


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"edgec {__version__}")
        raise typer.Exit()


@app.command(
    epilog=EXAMPLES
    + "  edgec build kws.onnx -b cortex-m4\n  edgec build kws.onnx --data calibration.npz -O ram --ram 20k\n"
    "  edgec build net.onnx --shape input=1,3,96,96 -o out --no-compile"
)
def build(
    model: Model,
    board: BoardName = "cortex-m4",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Where the package goes. [default: build/<name>/<board>]",
            show_default=False,
        ),
    ] = None,
    data: CalibrationData = None,
    goal: Optimise = Goal.balanced,
    ram: Ram = None,
    flash: Flash = None,
    shape: Shape = None,
    const: Const = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Prefix of files and C functions. [default: the file's name]", show_default=False
        ),
    ] = None,
    io: IoType = Io.int8,
    calibration: Calibration = "auto",
    recipe: RecipeFile = None,
    no_compile: Annotated[
        bool, typer.Option("--no-compile", help="Write the C package only; needs no compiler.")
    ] = False,
    dump_ir: Annotated[
        Path | None, typer.Option("--dump-ir", metavar="DIR", help="Write the text of the program after every pass.")
    ] = None,
    stream_input: StreamInput = False,
    sliding: Sliding = False,
    tuned: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The choice of `edgec tune`, in place of -O.", show_default=False),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compile a model to a C package and a firmware image.

    The package holds readable C99 without heap or libc, a Makefile, a firmware image for the board, and reports."""
    from . import api, report, tune as tuner

    console = Console(json)
    r = api.build(
        model,
        board=board,
        out=out,
        name=name,
        data=data,
        recipe=_recipe(recipe, calibration, io),
        goal=goal.value,
        ram=_size("--ram", ram),
        flash=_size("--flash", flash),
        shapes=_shapes(shape),
        constants=_constants(const),
        compile=not no_compile,
        dump_ir=dump_ir,
        stream_input=_stream_input(stream_input, sliding),
        tuned=tuner.read(tuned, model, board) if tuned else None,
        on_event=console.event,
    )
    for line in report.bars(r.report):
        console.line(line)
    _hint_int8(console, r.report)
    console.line(f"  wrote {r.directory}" + (f", firmware {r.firmware.name}" if r.firmware else ""))
    console.line(f"next: edgec validate {r.directory} --on {'host,qemu' if r.firmware else 'host'}")
    console.result(
        {
            "ok": True,
            "directory": str(r.directory),
            "firmware": str(r.firmware) if r.firmware else None,
            "report": r.report,
            "manifest": r.manifest,
        }
    )


@app.command(
    epilog=EXAMPLES
    + "  edgec analyze kws.onnx -b nucleo-f446re\n  edgec analyze net.onnx --data calibration.npz --ram 20k\n"
    "  edgec analyze build/kws/cortex-m4 --check"
)
def analyze(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL.onnx|DIR", help="The network, or a package with --check.", show_default=False)
    ],
    board: BoardName = "cortex-m4",
    data: CalibrationData = None,
    goal: Optimise = Goal.balanced,
    ram: Ram = None,
    flash: Flash = None,
    shape: Shape = None,
    io: IoType = Io.int8,
    calibration: Calibration = "auto",
    recipe: RecipeFile = None,
    check: Annotated[
        bool, typer.Option("--check", help="Prove the memory plan: of the model, or plan.json of a package.")
    ] = False,
    stream_input: StreamInput = False,
    sliding: Sliding = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what a model would need on a board: every step, memory, weights. Writes nothing."""
    from . import api, report

    console = Console(json)
    if model.is_dir():
        if not check:
            raise UsageError("a package is analysed already", where=str(model), fix="read its report.txt, or add --check")
        found = api.check(model)
        console.line(_proved(found))
        console.result({"ok": True, "plan": found})
        return
    r = api.analyze(
        model,
        board=board,
        data=data,
        recipe=_recipe(recipe, calibration, io),
        goal=goal.value,
        ram=_size("--ram", ram),
        flash=_size("--flash", flash),
        shapes=_shapes(shape),
        check=check,
        stream_input=_stream_input(stream_input, sliding),
        on_event=console.event,
    )
    console.line()
    console.line(report.text(r.report, width=56).rstrip())
    console.line(report.remedies_text(r.report))
    if r.plan:
        console.line(_proved(r.plan))
    for problem in r.problems:
        console.line(f"  does not fit: {problem}")
    console.line(f"next: edgec build {model} --board {board}")
    console.result({"ok": True, "fits": r.fits, "problems": list(r.problems), "report": r.report, "plan": r.plan})


def _proved(plan: dict) -> str:
    """What the checker of a memory plan has shown."""
    rows = f", {plural(plan['ticks'], 'tick')} of rows in {plural(plan['rings'], 'ring')}" if plan["ticks"] else ""
    return (
        f"  plan checked: {plural(plan['pieces'], 'piece')} in {plural(plan['steps'], 'step')}{rows}: every read meets its data; "
        f"arena {plan['arena_bytes']:,} B, lower bound {plan['lower_bound']:,} B"
    )


@app.command(
    epilog=EXAMPLES + "  edgec quantize net.onnx --data calibration.npz -o net_int8.onnx\n"
    "  edgec quantize net.onnx --data calibration.npz -o net_int8.onnx --calibration percentile --io float32"
)
def quantize(
    model: Model,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="FILE.npz",
            help="Calibration samples: one array per input, samples first.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.onnx", help="The quantised model.", show_default=False)
    ],
    calibration: Calibration = "auto",
    io: IoType = Io.int8,
    recipe: RecipeFile = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="STEP", help="Leave out a step: equalise, ranges, scales, bias, rounding. Repeatable."),
    ] = None,
    keep_float: Annotated[
        list[str] | None, typer.Option("--keep-float", metavar="NODE", help="Leave a node in float. Repeatable.")
    ] = None,
    bits: Annotated[
        list[str] | None,
        typer.Option("--bits", metavar="NODE=16x8", help="Bits of a node's activations and weights. Repeatable."),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option("--profile", metavar="STATS.npz", help="Keep the statistics of calibration here, and reuse them."),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(
            "--max-drop",
            metavar="PERCENT",
            help="Widen nodes until no more than this is lost, at the least cost in time: of accuracy where there are "
            "labels, of samples that keep their class elsewhere.",
        ),
    ] = None,
    board: BoardName = "cortex-m4",
    ram: Ram = None,
    flash: Flash = None,
    shape: Shape = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Quantise a float model to int8 and write it as ONNX.

    The file has QuantizeLinear and DequantizeLinear nodes and runs in onnxruntime as it does here."""
    from . import api

    console = Console(json)
    r = api.quantize(
        model,
        data=data,
        out=out,
        recipe=_recipe(recipe, calibration, io, without, keep_float, bits, profile),
        max_drop=_share("--max-drop", max_drop),
        board=board,
        ram=_size("--ram", ram),
        flash=_size("--flash", flash),
        shapes=_shapes(shape),
        on_event=console.event,
    )
    if r.trials:
        console.line(table(("widened", "extra time", "SNR dB", "drop", "fits", "chosen"), _trial_rows(r.trials)))
    for n in r.summary["float_nodes"]:
        console.line(f"  stays float: {n['op']} ({n['name']}): {n['reason']}")
    console.line(f"  wrote {r.path}")
    console.line(f"next: edgec build {r.path}")
    console.result({"ok": True, "path": str(r.path), "summary": r.summary, "trials": list(r.trials)})


@app.command(
    epilog=EXAMPLES + "  edgec sensitivity net.onnx --data calibration.npz\n"
    "  edgec sensitivity net.onnx --data calibration.npz --out report.html"
)
def sensitivity(
    model: Model,
    data: Annotated[
        Path,
        typer.Option("--data", metavar="FILE.npz", help="Samples, one array per input.", show_default=False),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.html", help="Write the report as a page.")
    ] = None,
    calibration: Calibration = "auto",
    io: IoType = Io.int8,
    recipe: RecipeFile = None,
    shape: Shape = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show where a model loses accuracy in int8, layer by layer, and what would help most."""
    from . import api, store
    from .quantisation.sensitivity import html

    console = Console(json)
    r = api.sensitivity(
        model, data=data, recipe=_recipe(recipe, calibration, io), shapes=_shapes(shape), on_event=console.event
    )
    for t in r.tables:
        console.line(f"\n{t.name}\n{table(t.headers, t.rows[:20])}")
    if out:
        store.write_file(out, html(f"{model.stem}: quantisation", r.tables).encode())
        console.line(f"  wrote {out}")
    console.result({"ok": True, "report": r.report, "summary": r.summary})


@app.command(
    epilog=EXAMPLES
    + "  edgec validate build/kws/cortex-m4 --data test.npz --on host,qemu\n  edgec validate kws.onnx --per-layer\n"
    "\nWithout --data the inputs are pseudo-random: that compares numbers, and says nothing about accuracy."
)
def validate(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|MODEL.onnx", help="A package, or a model that is built for this.", show_default=False
        ),
    ],
    on: Annotated[
        str,
        typer.Option(
            metavar="host,qemu", help="Where to run the C: host, qemu or both, which must give the same bits."
        ),
    ] = "host",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE.npz",
            help="Test samples: one array per input, samples first; `labels` for accuracy.",
        ),
    ] = None,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="Compare the output of every step.")] = False,
    samples: Annotated[
        int | None, typer.Option(metavar="N", help="Use the first N samples.", show_default=False)
    ] = None,
    confusion: Annotated[
        bool, typer.Option("--confusion", help="Print which classes are taken for which, on labelled samples.")
    ] = False,
    poison: Annotated[
        bool, typer.Option("--poison", help="Also overwrite all dead bytes of the arena between steps and rows, on the host.")
    ] = False,
    max_lsb: Annotated[
        float | None,
        typer.Option(
            "--max-lsb",
            metavar="N",
            help="Largest difference of integer outputs. [default: top-1 or the root mean square decides]",
            show_default=False,
        ),
    ] = None,
    max_range: Annotated[
        float,
        typer.Option(
            "--max-range", metavar="X", help="Largest difference of float outputs, as a share of their range."
        ),
    ] = 1e-4,
    min_top1: Annotated[
        float, typer.Option("--min-top1", metavar="X", help="Least share of samples with the same class.")
    ] = 0.99,
    board: OtherBoard = None,
    shape: Shape = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run the emitted C and compare it with the ONNX model.

    The reference is onnxruntime with graph optimisation off, or onnx.reference where that is not installed."""
    from . import api, validation

    console = Console(json)
    result = api.validate(
        target,
        on=[o.strip() for o in on.split(",") if o.strip()],
        data=data,
        per_layer=per_layer,
        samples=samples,
        poison=poison,
        confusion=confusion,
        tolerance=validation.Tolerance(top1=min_top1, max_lsb=max_lsb, max_range=max_range),
        board=board,
        shapes=_shapes(shape),
        on_event=console.event,
    )
    console.line()
    console.line(validation.text(result))
    console.result({"ok": result.ok, "reasons": list(result.reasons), **result.report})
    if not result.ok:
        raise typer.Exit(int(Exit.VALIDATION))


@app.command(epilog=EXAMPLES + "  edgec tune kws.onnx -b cortex-m4\n  edgec build kws.onnx --tuned build/kws/cortex-m4.tuned.json")
def tune(
    model: Model,
    board: BoardName = "cortex-m4",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The choice. [default: build/<name>/<board>.tuned.json]", show_default=False
        ),
    ] = None,
    data: CalibrationData = None,
    ram: Ram = None,
    flash: Flash = None,
    shape: Shape = None,
    io: IoType = Io.int8,
    calibration: Calibration = "auto",
    recipe: RecipeFile = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure builds of a model under QEMU and keep the fastest that fits.

    Candidates: every goal of -O and, where a layer has several kernels, those that measure best for it."""
    from . import tune as tuner

    console = Console(json)
    found = tuner.run(
        model,
        board=board,
        out=out,
        on_event=console.event,
        data=data,
        recipe=_recipe(recipe, calibration, io),
        ram=_size("--ram", ram),
        flash=_size("--flash", flash),
        shapes=_shapes(shape),
    )
    console.line()
    console.line(tuner.text(found))
    console.line(f"next: edgec build {model} -b {board} --tuned {found['path']}")
    console.result({"ok": True, **found})


@app.command(
    epilog=EXAMPLES + "  edgec profile build/kws/cortex-m4\n  edgec profile build/kws/cortex-m55 --json"
)
def profile(
    directory: Package,
    board: OtherBoard = None,
    on: Annotated[
        str, typer.Option(metavar="qemu|board", help="Where to run: the emulator, or the board with its firmware flashed.")
    ] = "qemu",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what each layer of a built package costs: cycles of a Cortex-M4, instructions on other cores.

    Counted under QEMU, where the cycles are a model of the core with memory without wait states; on a board the core's own
    cycle counter tells, read over semihosting through the debug probe."""
    from . import profile as profiler

    console = Console(json)
    if on not in ("qemu", "board"):
        raise UsageError(f"cannot profile on {on}", fix="choose from: qemu, board")
    found = profiler.run(directory, board, on)
    console.line(profiler.text(found))
    console.result({"ok": True, **found})


@app.command(
    epilog=EXAMPLES
    + "  edgec flash build/kws/nucleo-f446re\n  edgec flash build/kws/nucleo-f446re --tool pyocd --dry-run"
)
def flash(
    directory: Package,
    board: OtherBoard = None,
    tool: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="openocd, pyocd or st-flash. [default: the first that is installed]",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command and do nothing.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a package's firmware into a board."""
    import shlex

    from . import board as boards, flash as flasher, store

    console = Console(json)
    manifest = store.read_manifest(directory)
    with _stdout_to_stderr(json):  # the tool prints as it likes
        command = flasher.flash(directory, boards.load(board or manifest["board"]), tool, dry_run)
    console.line(shlex.join(command) if dry_run else "  flashed")
    console.result({"ok": True, "command": command, "dry_run": dry_run})


@app.command()
def boards(json: Json = False, debug: Debug = False) -> None:
    """List the boards."""
    from . import board as known

    console = Console(json)
    found = [known.load(n) for n in known.names()]
    rows = [
        (
            b.name,
            size_text(b.flash_bytes) if b.flash_bytes else "-",
            size_text(b.ram_bytes) if b.ram_bytes else "-",
            "+".join(b.isa),
            "yes" if b.emulator else "no",
            ", ".join(b.flash) or "-",
            b.description,
        )
        for b in found
    ]
    console.line(
        table(
            ("board", "flash", "RAM", "kernels", "emulated", "flashed with", "description"), rows, indent="", width=80
        )
    )
    console.result(
        {
            "ok": True,
            "boards": [
                {
                    "name": b.name,
                    "description": b.description,
                    "cpu": b.cpu,
                    "isa": list(b.isa),
                    "flash_bytes": b.flash_bytes,
                    "ram_bytes": b.ram_bytes,
                    "emulated": bool(b.emulator),
                    "flash_tools": list(b.flash),
                }
                for b in found
            ],
        }
    )


@app.command()
def ops(json: Json = False, debug: Debug = False) -> None:
    """List the operators that edgec compiles."""
    from . import api

    console = Console(json)
    found = api.operators()
    console.line(
        table(
            ("operator", "opsets", "element types", "int8", "kernels", "constant inputs"),
            [(o["name"], o["opsets"], _types(o["dtypes"]), o["int8"], ", ".join(o["kernels"]) or "loop nest",
              ", ".join(o["constant"])) for o in found],
            indent="",
            width=70,
        )
    )
    console.line(plural(len(found), "operator"))
    console.result({"ok": True, "operators": found})


@app.command()
def doctor(json: Json = False, debug: Debug = False) -> None:
    """Show which compilers, emulators and tools are installed, and how to install the others."""
    from . import doctor as examiner

    console = Console(json)
    found = examiner.doctor()
    console.line(
        table(
            ("tool", "version", "what for", "install"),
            [(t.name, t.version or "missing", t.purpose, "" if t.version else t.install) for t in found],
            indent="",
            width=60,
        )
    )
    console.result(
        {
            "ok": True,
            "tools": [
                {"name": t.name, "version": t.version, "purpose": t.purpose, "install": t.install} for t in found
            ],
        }
    )


# --- options -------------------------------------------------------------------------------------


def _size(option: str, text: str | None) -> int | None:
    """64k, 512K, 1M, 65536 -> bytes."""
    if text is None:
        return None
    number, unit = text.strip().lower().removesuffix("b").removesuffix("i"), 1
    for suffix, factor in (("k", 1024), ("m", 1024 * 1024)):
        if number.endswith(suffix):
            number, unit = number[:-1], factor
    try:
        size = round(float(number) * unit)
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        raise UsageError(f"{option} {text} is not a size", fix=f"write {option} 65536, {option} 64k or {option} 1M")
    return size


def _share(option: str, text: str | None) -> float | None:
    """0.5% or 0.5 -> 0.005."""
    if text is None:
        return None
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"{option} {text} is not a percentage", fix=f"write {option} 0.5%")
    return share


def _trial_rows(trials: Sequence[dict]) -> list[tuple]:
    return [
        (
            ", ".join(f"{n}: {w}" for n, w in t["assignment"]["widths"].items()) or "nothing",
            f"+{100 * t['assignment']['cost']:.0f} %",
            f"{t['snr_db']:.1f}",
            f"{100 * t['drop']:.2f} %",
            t["fits"],
            t["chosen"],
        )
        for t in trials
    ]


def _recipe(
    file: Path | None,
    calibration: str,
    io: Io,
    without: list[str] | None = None,
    keep_float: list[str] | None = None,
    bits: list[str] | None = None,
    profile: Path | None = None,
):
    """The options of quantisation; what the recipe's file says comes first, node by node options add to it."""
    from .quantisation import recipe as recipes

    pairs = [text.rpartition("=") for text in bits or ()]
    wrong = [text for text, (name, _, width) in zip(bits or (), pairs, strict=True) if not (name and width)]
    if wrong:
        raise UsageError(f"--bits {wrong[0]} is not NODE=WIDTH", fix="write --bits node=16x8")
    by_node = {name: width for name, _, width in pairs} | dict.fromkeys(keep_float or (), "float")
    given = recipes.Recipe(calibration, io.value, tuple(without or ()), by_node, profile)
    return (recipes.load(file, given) if file else given).checked()


def _shapes(texts: list[str] | None) -> dict[str, tuple[int, ...]] | None:
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


def _constants(texts: list[str] | None) -> dict[str, list[float]] | None:
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


def _stream_input(rows: bool, sliding: bool) -> str:
    return "sliding" if sliding else "window" if rows else ""


def _types(dtypes: list[str]) -> str:
    """Element types with whole families shortened: int8, int16, int32, int64 -> int8-64."""
    found = []
    for family in ("int", "uint"):
        members = [f"{family}{bits}" for bits in (8, 16, 32, 64)]
        if all(m in dtypes for m in members):
            dtypes = [d for d in dtypes if d not in members]
            found.append(f"{family}8-64")
    return ", ".join(dtypes + found)


def _hint_int8(console: Console, report: dict) -> None:
    saving = report["int8_would_save"]
    if saving:
        console.line(
            f"  float model: as int8 (--data calibration.npz) about {size_text(saving['weights_bytes'])} less flash "
            f"and {size_text(saving['arena_bytes'])} less RAM"
        )


@contextmanager
def _stdout_to_stderr(wanted: bool) -> Iterator[None]:
    """For programs that are run: what they write to stdout must not get between us and the reader of --json."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


# --- entry ---------------------------------------------------------------------------------------


def run(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit code. Errors are printed, not raised."""
    console = Console("--json" in arguments)
    try:
        code = app(args=list(arguments) or ["--help"], prog_name="edgec", standalone_mode=False)
        return code if isinstance(code, int) else int(Exit.OK)
    except EdgecError as e:
        _trace(arguments)
        console.error(e)
        return int(e.exit_code)
    except _CLICK_USAGE_ERROR as e:
        console.error(
            UsageError(e.format_message().rstrip("."), fix=f"{e.ctx.command_path if e.ctx else 'edgec'} --help")
        )
        return int(Exit.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        console.clear()
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `edgec ops | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except Exception as e:
        _trace(arguments)
        console.error(
            EdgecError(
                f"internal error: {type(e).__name__}: {e}",
                where=_last_frame(e),
                fix="this is a bug in edgec: please report it with the model, and the output of --debug",
            )
        )
        return int(Exit.INTERNAL)


def _trace(arguments: Sequence[str]) -> None:
    if "--debug" in arguments:
        traceback.print_exc()


def _last_frame(e: Exception) -> str:
    frames = traceback.extract_tb(e.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""


def main() -> None:
    sys.exit(run(sys.argv[1:]))
