"""The command line: parses options, calls api.py, prints. Nothing is decided here."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from . import __version__, options
from .errors import EdgecError, Exit, UsageError
from .options import CalibrationData, Form, Interface, Model, OtherBoard, Output, Package, Quantising, Samples, Target
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


def _command(*examples: str, note: str = "") -> Callable:
    """Registers a command whose parameters may be groups of options. examples: lines of its help."""
    text = "\b\nExamples:\n" + "".join(f"  edgec {e}\n" for e in examples) if examples else None
    return lambda command: app.command(epilog=text and text + note)(options.grouped(command))


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"edgec {__version__}")
        raise typer.Exit()


@_command(
    "build kws.onnx -b cortex-m4",
    "build kws.onnx --data calibration.npz -O ram --ram 20k",
    "build net.onnx --shape input=1,3,96,96 -o out --no-compile",
)
def build(
    model: Model,
    *,
    target: Target,
    form: Form,
    data: CalibrationData = None,
    out: Annotated[
        Path | None, options.out("DIR", "Where the package goes. [default: build/<name>/<board>]")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Prefix of files and C functions. [default: the file's name]", show_default=False
        ),
    ] = None,
    no_compile: Annotated[
        bool, typer.Option("--no-compile", help="Write the C package only; needs no compiler.")
    ] = False,
    dump_ir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the text of the program after every pass.")
    ] = None,
    tuned: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The choice of `edgec tune`, in place of -O.", show_default=False),
    ] = None,
    interface: Interface,
    quantising: Quantising,
    output: Output,
) -> None:
    """Compile a model to a C package and a firmware image.

    The package holds readable C99 without heap or libc, a Makefile, a firmware image for the board, and reports."""
    from . import api, report, tune as tuner

    console = output.console
    r = api.build(
        model,
        out=out,
        name=name,
        data=data,
        recipe=quantising.chosen,
        compile=not no_compile,
        dump_ir=dump_ir,
        tuned=tuner.read(tuned, model, target.board) if tuned else None,
        on_event=console.event,
        **target.arguments,
        **form.arguments,
        **interface.arguments,
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


@_command(
    "analyze kws.onnx -b nucleo-f446re",
    "analyze net.onnx --data calibration.npz --ram 20k",
    "analyze build/kws/cortex-m4 --check",
)
def analyze(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL.onnx|DIR", help="The network, or a package with --check.", show_default=False),
    ],
    *,
    target: Target,
    form: Form,
    data: CalibrationData = None,
    check: Annotated[
        bool, typer.Option("--check", help="Prove the memory plan: of the model, or plan.json of a package.")
    ] = False,
    interface: Interface,
    quantising: Quantising,
    output: Output,
) -> None:
    """Show what a model would need on a board: every step, memory, weights. Writes nothing."""
    from . import api, report

    console = output.console
    if model.is_dir():
        if not check:
            fix = "read its report.txt, or add --check"
            raise UsageError("a package is analysed already", where=str(model), fix=fix)
        found = api.check(model)
        console.line(_proved(found))
        console.result({"ok": True, "plan": found})
        return
    r = api.analyze(
        model,
        data=data,
        recipe=quantising.chosen,
        check=check,
        on_event=console.event,
        **target.arguments,
        **form.arguments,
        **interface.arguments,
    )
    console.line()
    console.line(report.text(r.report, width=56).rstrip())
    console.line(report.remedies_text(r.report))
    if r.plan:
        console.line(_proved(r.plan))
    for problem in r.problems:
        console.line(f"  does not fit: {problem}")
    console.line(f"next: edgec build {model} --board {target.board}")
    console.result({"ok": True, "fits": r.fits, "problems": list(r.problems), "report": r.report, "plan": r.plan})


def _proved(plan: dict) -> str:
    """What the checker of a memory plan has shown."""
    rows = f", {plural(plan['ticks'], 'tick')} of rows in {plural(plan['rings'], 'ring')}" if plan["ticks"] else ""
    return (
        f"  plan checked: {plural(plan['pieces'], 'piece')} in {plural(plan['steps'], 'step')}{rows}: "
        f"every read meets its data; arena {plan['arena_bytes']:,} B, lower bound {plan['lower_bound']:,} B"
    )


@_command(
    "quantize net.onnx --data calibration.npz -o net_int8.onnx",
    "quantize net.onnx --data calibration.npz -o net_int8.onnx --calibration percentile --io float32",
)
def quantize(
    model: Model,
    *,
    data: Samples,
    out: Annotated[Path, options.out("FILE.onnx", "The quantised model.")],
    target: Target,
    max_drop: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            help="Widen nodes until no more than this is lost, at the least cost in time: of accuracy where there are "
            "labels, of samples that keep their class elsewhere.",
            parser=partial(options.share, "--max-drop"),
        ),
    ] = None,
    interface: Interface,
    quantising: Quantising,
    output: Output,
) -> None:
    """Quantise a float model to int8 and write it as ONNX.

    The file has QuantizeLinear and DequantizeLinear nodes and runs in onnxruntime as it does here."""
    from . import api

    console = output.console
    r = api.quantize(
        model,
        data=data,
        out=out,
        recipe=quantising.chosen,
        max_drop=max_drop,
        on_event=console.event,
        **target.arguments,
        **interface.arguments,
    )
    if r.trials:
        console.line(table(("widened", "extra time", "SNR dB", "drop", "fits", "chosen"), _trial_rows(r.trials)))
    for n in r.summary["float_nodes"]:
        console.line(f"  stays float: {n['op']} ({n['name']}): {n['reason']}")
    console.line(f"  wrote {r.path}")
    console.line(f"next: edgec build {r.path}")
    console.result({"ok": True, "path": str(r.path), "summary": r.summary, "trials": list(r.trials)})


@_command(
    "sensitivity net.onnx --data calibration.npz",
    "sensitivity net.onnx --data calibration.npz --out report.html",
)
def sensitivity(
    model: Model,
    *,
    data: Samples,
    out: Annotated[Path | None, options.out("FILE.html", "Write the report as a page.")] = None,
    interface: Interface,
    quantising: Quantising,
    output: Output,
) -> None:
    """Show where a model loses accuracy in int8, layer by layer, and what would help most."""
    from . import api, store
    from .quantisation.sensitivity import html

    console = output.console
    r = api.sensitivity(model, data=data, recipe=quantising.chosen, on_event=console.event, **interface.arguments)
    for t in r.tables:
        console.line(f"\n{t.name}\n{table(t.headers, t.rows[:20])}")
    if out:
        store.write_file(out, html(f"{model.stem}: quantisation", r.tables).encode())
        console.line(f"  wrote {out}")
    console.result({"ok": True, "report": r.report, "summary": r.summary})


@_command(
    "validate build/kws/cortex-m4 --data test.npz --on host,qemu",
    "validate kws.onnx --per-layer",
    note="\nWithout --data the inputs are pseudo-random: that compares numbers, and says nothing about accuracy.",
)
def validate(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|MODEL.onnx", help="A package, or a model that is built for this.", show_default=False
        ),
    ],
    *,
    on: Annotated[
        str,
        typer.Option(
            metavar="host,qemu", help="Where to run the C: host, qemu or both, which must give the same bits."
        ),
    ] = "host",
    data: Annotated[
        Path | None,
        typer.Option(
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
        bool,
        typer.Option("--poison", help="Also overwrite dead bytes of the arena between steps and rows, on the host."),
    ] = False,
    max_lsb: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Largest difference of integer outputs. [default: top-1 or the root mean square decides]",
            show_default=False,
        ),
    ] = None,
    max_range: Annotated[
        float, typer.Option(metavar="X", help="Largest difference of float outputs, as a share of their range.")
    ] = 1e-4,
    min_top1: Annotated[float, typer.Option(metavar="X", help="Least share of samples with the same class.")] = 0.99,
    board: OtherBoard = None,
    interface: Interface,
    output: Output,
) -> None:
    """Run the emitted C and compare it with the ONNX model.

    The reference is onnxruntime with graph optimisation off, or onnx.reference where that is not installed."""
    from . import api, validation

    console = output.console
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
        on_event=console.event,
        **interface.arguments,
    )
    console.line()
    console.line(validation.text(result))
    console.result({"ok": result.ok, "reasons": list(result.reasons), **result.report})
    if not result.ok:
        raise typer.Exit(int(Exit.VALIDATION))


@_command("tune kws.onnx -b cortex-m4", "build kws.onnx --tuned build/kws/cortex-m4.tuned.json")
def tune(
    model: Model,
    *,
    target: Target,
    out: Annotated[
        Path | None, options.out("FILE", "The choice. [default: build/<name>/<board>.tuned.json]")
    ] = None,
    data: CalibrationData = None,
    interface: Interface,
    quantising: Quantising,
    output: Output,
) -> None:
    """Measure builds of a model under QEMU and keep the fastest that fits.

    Candidates: every goal of -O and, where a layer has several kernels, those that measure best for it."""
    from . import tune as tuner

    console = output.console
    found = tuner.run(
        model,
        out=out,
        on_event=console.event,
        data=data,
        recipe=quantising.chosen,
        **target.arguments,
        **interface.arguments,
    )
    console.line()
    console.line(tuner.text(found))
    console.line(f"next: edgec build {model} -b {target.board} --tuned {found['path']}")
    console.result({"ok": True, **found})


@_command("profile build/kws/cortex-m4", "profile build/kws/cortex-m55 --json")
def profile(
    directory: Package,
    *,
    board: OtherBoard = None,
    on: Annotated[
        str,
        typer.Option(metavar="qemu|board", help="Where to run: the emulator, or the board with its firmware flashed."),
    ] = "qemu",
    output: Output,
) -> None:
    """Show what each layer of a built package costs: cycles of a Cortex-M4, instructions on other cores.

    Counted under QEMU, where the cycles are a model of the core with memory without wait states; on a board the core's
    own cycle counter tells, read over semihosting through the debug probe."""
    from . import profile as profiler

    if on not in ("qemu", "board"):
        raise UsageError(f"cannot profile on {on}", fix="choose from: qemu, board")
    found = profiler.run(directory, board, on)
    output.console.line(profiler.text(found))
    output.console.result({"ok": True, **found})


@_command("flash build/kws/nucleo-f446re", "flash build/kws/nucleo-f446re --tool pyocd --dry-run")
def flash(
    directory: Package,
    *,
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
    output: Output,
) -> None:
    """Write a package's firmware into a board."""
    import shlex

    from . import board as boards, flash as flasher, store

    console = output.console
    manifest = store.read_manifest(directory)
    with _stdout_to_stderr(output.json):  # the tool prints as it likes
        command = flasher.flash(directory, boards.load(board or manifest["board"]), tool, dry_run)
    console.line(shlex.join(command) if dry_run else "  flashed")
    console.result({"ok": True, "command": command, "dry_run": dry_run})


@_command()
def boards(output: Output) -> None:
    """List the boards."""
    from . import board as known

    console = output.console
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


@_command()
def ops(output: Output) -> None:
    """List the operators that edgec compiles."""
    from . import api

    console = output.console
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


@_command()
def doctor(output: Output) -> None:
    """Show which compilers, emulators and tools are installed, and how to install the others."""
    from . import doctor as examiner

    console = output.console
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


# --- lines ---------------------------------------------------------------------------------------


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
