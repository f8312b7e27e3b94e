"""What edgec does, as functions: the command line only parses options, calls these and prints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import source
from .errors import UsageError, ValidationError
from .output import Event, OnEvent, phase, plural, progress, silent
from .quantisation.recipe import Recipe
from .source import Constants, Shapes, State

if TYPE_CHECKING:
    from .board import Board
    from .ir import Graph
    from .pipeline import Compiled
    from .toolchain import Firmware
    from .tune import Choice
    from .validation import Tolerance, ValidationResult

GOALS = ("balanced", "ram", "time", "size")
STREAM_INPUT = ("", "window", "sliding")
DEFAULT_BOARD = "cortex-m4"
PLAN = "plan.json"



@dataclass(frozen=True, eq=False)
class BuildResult:
    """directory: the package. report: the content of report.json. manifest: of manifest.json. firmware: the ELF file,
    None where nothing was compiled for a target."""

    directory: Path
    report: dict
    manifest: dict
    firmware: Path | None


@dataclass(frozen=True, eq=False)
class AnalyzeResult:
    """report: as report.json, without compiled sizes, and with `remedies` (see remedies.py). fits: False where weights
    or arena exceed the board or budget. plan: what the checker of the memory plan found, where asked for."""

    report: dict
    fits: bool
    problems: tuple[str, ...]
    plan: dict | None = None


@dataclass(frozen=True, eq=False)
class QuantizeResult:
    """path: the ONNX file that was written. summary: what became integer, with which ranges, and what did not. trials:
    the assignments of widths that were tried for max_drop."""

    path: Path
    summary: dict
    trials: tuple[dict, ...] = ()


@dataclass(frozen=True, eq=False)
class SensitivityResult:
    """report: per layer noise, range use, saturation and worst channels, and remedies by their effect. tables: the same
    for people. summary: of the quantisation."""

    report: dict
    tables: list
    summary: dict


def build(
    model: str | Path,
    *,
    board: str = DEFAULT_BOARD,
    out: str | Path | None = None,
    name: str | None = None,
    data: str | Path | None = None,
    recipe: Recipe | None = None,
    goal: str = "balanced",
    ram: int | None = None,
    flash: int | None = None,
    shapes: Shapes | None = None,
    constants: Constants | None = None,
    state: State | None = None,
    custom: Sequence[str | Path] = (),
    compile: bool = True,
    dump_ir: str | Path | None = None,
    stream_input: str = "",
    tuned: Choice | None = None,
    on_event: OnEvent | None = None,
) -> BuildResult:
    """Compiles an ONNX file to a C99 package in `out` (default build/<name>/<board>), and that to firmware.

    data: calibration samples (see `data.load`): a float model is quantised with them, as `recipe` says (default: all
    improvements, int8 inputs and outputs). goal: one of GOALS.
    ram, flash: budgets in bytes, below what the board has. shapes: symbolic input shapes by input name.
    constants: values of inputs that are known now and leave the interface, such as axes and target shapes.
    state: input -> output whose value it has in the next run; neither is part of the interface.
    custom: files of operators of other domains (edgec/custom.py).
    compile False: the package only. dump_ir: a directory for the text of the IR after every pass.
    stream_input: "window" or "sliding": the input is pushed row by row and never whole in memory; see edgec/push.py.
    tuned: the goal and the kernels that `edgec tune` found (tune.read), instead of `goal`.

    Raises UsageError, ModelError, UnsupportedError, BudgetError or ToolchainError; nothing is left then.
    """
    from . import board as boards, fit, manifest, report, store

    tell = on_event or silent
    goal = goal if tuned is None else tuned.goal
    _check_choices(goal, stream_input)
    target = boards.load(board)
    prefix = c_name(model, name)
    directory = Path(out) if out is not None else Path("build") / prefix / target.name
    compiler = _find_compiler(target) if compile else None
    with store.staged(directory) as stage:
        known = source.Known(shapes, constants, state, custom)
        with source.explained(model, known):
            taken = source.make(model, data, recipe, known, tell)
            compiled = _compile_graph(
                taken.graph, target, prefix, tell, dump_ir, goal=goal, ram=ram, flash=flash, stream_input=stream_input,
                layers=tuned.layers if tuned else None,
            )
        fit.check(report.make(compiled, target, None), ram, flash, "the weights alone", goal, stream_input)
        store.write_files(stage, compiled.files)
        store.write_files(stage, taken.references)
        firmware = _build_firmware(stage, target, compiler, goal, tell) if compiler and not target.is_host else None
        made = report.make(compiled, target, firmware, taken.summary)
        fit.check(made, ram, flash, "code and weights", goal, stream_input)
        store.write_files(
            stage,
            {
                store.REPORT: store.json_text(made),
                "report.txt": report.text(made),
                "report.html": report.as_html(made),
            },
        )
        options = {
            "board": board if board.endswith(".toml") else target.name,
            "goal": goal,
            "stream_input": stream_input,
            "tuned": None if tuned is None else sorted(tuned.layers),
            "name": prefix,
            "shapes": {k: list(v) for k, v in sorted((shapes or {}).items())},
            "state": dict(state or {}),
            "custom": [Path(p).name for p in custom],
            "data": bool(taken.summary),
            "quantisation": (recipe or Recipe()).described() if taken.summary else None,
        }
        about = manifest.make(
            compiled, taken, options, compiler.version if compiler else None, made, store.hashes(stage)
        )
        store.write_files(stage, {store.MANIFEST: store.json_text(about)})
    elf = directory / firmware.elf.name if firmware else None
    return BuildResult(directory, made, about, elf)


def analyze(
    model: str | Path,
    *,
    board: str = DEFAULT_BOARD,
    data: str | Path | None = None,
    recipe: Recipe | None = None,
    goal: str = "balanced",
    ram: int | None = None,
    flash: int | None = None,
    shapes: Shapes | None = None,
    constants: Constants | None = None,
    state: State | None = None,
    custom: Sequence[str | Path] = (),
    check: bool = False,
    stream_input: str = "",
    on_event: OnEvent | None = None,
) -> AnalyzeResult:
    """What the model would need on the board: every step, arena, weights; writes nothing. Arguments as for `build`.
    check: plan.json, as `build` would write it, goes through its checker.

    Raises what `build` raises, but a model that does not fit is a result here, not an error.
    """
    from . import board as boards, fit, remedies, report

    tell = on_event or silent
    _check_choices(goal, stream_input)
    target = boards.load(board)
    known = source.Known(shapes, constants, state, custom)
    with source.explained(model, known):
        taken = source.make(model, data, recipe, known, tell)
        compiled = _compile_graph(
            taken.graph, target, c_name(model, None), tell, goal=goal, ram=ram, flash=flash, stream_input=stream_input
        )
    made = report.make(compiled, target, None, taken.summary)
    problems = tuple(fit.excesses(made, ram, flash, "the weights alone"))
    checked = _checked_plan(json.loads(compiled.files[PLAN]), model) if check else None
    with phase(tell, "remedies") as said:
        made["remedies"] = remedies.remedies(compiled, target, goal, flash)
        made["memory"]["saved"] = remedies.present(compiled.program)
        said["info"] = plural(len(made["remedies"]), "plan")
    return AnalyzeResult(made, not problems, problems, checked)


def check(directory: str | Path) -> dict:
    """Checks the memory plan of a built package: plan.json holds, and is the one of this package. Returns its summary.

    Raises UsageError where the directory is no package, ValidationError where the plan is wrong."""
    from . import package, store

    folder = Path(directory)
    manifest, pack = store.read_manifest(folder), package.read(folder)
    try:
        plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UsageError(f"{PLAN} cannot be read: {e}", where=str(folder), fix="build the package again") from None
    tied = (PLAN, f"{pack.c_name}.c", f"{pack.c_name}.h")
    changed = [f for f in tied if manifest["files"].get(f) != store.sha256_file(folder / f)]
    if changed:
        raise ValidationError("changed since the build: " + ", ".join(changed), where=str(folder), fix="build it again")
    if plan["arena_bytes"] != pack.arena_bytes and pack.arena_bytes > 1:
        what = f"the plan is of an arena of {plan['arena_bytes']} bytes, the header of {pack.arena_bytes}"
        raise ValidationError(what, where=str(folder), fix="build it again")
    return _checked_plan(plan, folder)


def _checked_plan(plan: Mapping, where: str | Path) -> dict:
    """What a plan proves, in numbers. Raises ValidationError where it does not hold."""
    from . import plan_check

    try:
        plan_check.check(plan)
    except plan_check.PlanError as e:
        raise ValidationError(f"the memory plan is wrong: {e}", where=str(where), fix="report this") from None
    streamed = [s for s in plan["steps"] if "groups" in s]
    return {
        "arena_bytes": plan["arena_bytes"],
        "lower_bound": plan["lower_bound"]["bytes"],
        "pieces": len(plan["pieces"]),
        "steps": len(plan["steps"]),
        "ticks": sum(s["ticks"] for s in streamed),
        "rings": sum(1 for s in streamed for g in s["groups"] if g["ring"]),
    }


def quantize(
    model: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    recipe: Recipe | None = None,
    max_drop: float | None = None,
    board: str = DEFAULT_BOARD,
    ram: int | None = None,
    flash: int | None = None,
    shapes: Shapes | None = None,
    constants: Constants | None = None,
    state: State | None = None,
    custom: Sequence[str | Path] = (),
    on_event: OnEvent | None = None,
) -> QuantizeResult:
    """Quantises a float model and writes it as a standard ONNX file with QuantizeLinear and DequantizeLinear.

    max_drop: the most that may be lost (see `quantisation.mixed.drop`), as a share: nodes get wider until it holds, at
    the least cost in time, where arena and weights stay within `ram` and `flash` on the board.

    Raises UsageError (data that do not fit, a model that is quantised already, an unwritable `out`), ModelError,
    UnsupportedError.
    """
    from . import store

    tell, recipe, trials = on_event or silent, recipe or Recipe(), ()
    if Path(out).is_dir():
        raise UsageError(f"the output is a directory: {out}", fix="give a file name, such as -o quantised.onnx")
    known = source.Known(shapes, constants, state, custom)
    with source.explained(model, known):
        if max_drop is not None:
            bits, trials = _widths(model, data, recipe, max_drop, board, ram, flash, known, tell)
            recipe = replace(recipe, bits={**recipe.bits, **bits})
        taken = source.make(model, data, recipe, known, tell)
    if taken.summary is None:
        raise UsageError("the model is quantised already", where=str(model), fix="build it as it is, without --data")
    store.write_file(Path(out), taken.references[source.REFERENCE])
    return QuantizeResult(Path(out), taken.summary, trials)


def sensitivity(
    model: str | Path,
    *,
    data: str | Path,
    recipe: Recipe | None = None,
    shapes: Shapes | None = None,
    constants: Constants | None = None,
    state: State | None = None,
    custom: Sequence[str | Path] = (),
    on_event: OnEvent | None = None,
) -> SensitivityResult:
    """Where the quantised form of a float model loses accuracy, and what would help. Raises what `quantize` raises."""
    from .quantisation import sensitivity as examiner

    tell, recipe = on_event or silent, recipe or Recipe()
    known = source.Known(shapes, constants, state, custom)
    with source.explained(model, known):
        done, dataset = source.quantised(model, data, recipe, known, tell)
    with phase(tell, "analyse") as said:
        found = examiner.analyse(done, dataset, recipe.io, recipe.bits, progress(tell))
        said["info"] = f"{plural(len(found.layers), 'layer')}, {len(found.remedies)} remedies tried"
    tables = examiner.tables(found, done.summary.gains)
    return SensitivityResult(source.plain(found), tables, source.plain(done.summary))


def _widths(
    model: str | Path, data: str | Path, recipe: Recipe, max_drop: float, board: str, ram: int | None,
    flash: int | None, known: source.Known, tell: OnEvent,
) -> tuple[Mapping[str, str], tuple[dict, ...]]:
    """The cheapest widths by node, and what was tried."""
    from . import board as boards, pipeline
    from .quantisation import mixed

    target = boards.load(board)
    done, dataset = source.quantised(model, data, recipe, known, tell)

    def fits(graph: Graph) -> bool:
        if ram is None and flash is None:
            return True
        stats = pipeline.compile_graph(graph, target, goal="ram", name="trial").stats
        return (ram is None or stats["arena_bytes"] <= ram) and (flash is None or stats["weights_bytes"] <= flash)

    def prices(graph: Graph) -> mixed.Prices:
        return mixed.Prices(*pipeline.prices(graph, target))

    with phase(tell, "widths") as said:
        bits, trials = mixed.choose_widths(
            done, dataset, recipe.io, recipe.bits, max_drop, fits, prices, flash, progress(tell)
        )
        said["info"] = ", ".join(f"{n}: {w}" for n, w in bits.items()) or "8x8 everywhere"
    return bits, tuple(map(source.plain, trials))


def validate(
    target: str | Path,
    *,
    on: Sequence[str] = ("host",),
    data: str | Path | None = None,
    per_layer: bool = False,
    samples: int | None = None,
    tolerance: Tolerance | None = None,
    poison: bool = False,
    confusion: bool = False,
    board: str | None = None,
    shapes: Shapes | None = None,
    constants: Constants | None = None,
    state: State | None = None,
    custom: Sequence[str | Path] = (),
    on_event: OnEvent | None = None,
) -> ValidationResult:
    """Runs the emitted C on the host and/or in the emulator and compares it with the ONNX model.

    target: a package directory, or an .onnx file that is built first (for `board`, into a temporary directory).
    board: default the package's own, or cortex-m4.
    on: "host", "qemu" or both; both must give equal bits. data: samples; without, deterministic pseudo-random inputs.
    per_layer: compare every step. confusion: tables of labels against classes. poison: run on the host once more with
    all dead bytes of the arena overwritten between steps and ticks, which must give the same bits. samples: use the
    first so many. A result that is not `ok` is returned, not raised.

    Raises UsageError, ModelError, ToolchainError, DeviceError, and what `build` raises.
    """
    import tempfile

    from . import validation

    tell, chosen = on_event or silent, tolerance or validation.Tolerance()
    unknown = [o for o in on if o not in validation.TARGETS]
    if unknown or not on:
        raise UsageError(
            f"cannot validate on {', '.join(unknown) or 'nothing'}", fix="choose from: " + ", ".join(validation.TARGETS)
        )
    if samples is not None and samples < 1:
        raise UsageError(f"--samples must be at least 1, not {samples}", fix="leave it out to use all")
    target = Path(target)
    if target.suffix != ".onnx" or target.is_dir():
        return validation.run(target, on, data, per_layer, samples, chosen, tell, board, poison, confusion)
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        built = build(
            target,
            board=board or DEFAULT_BOARD,
            out=Path(folder) / "package",
            shapes=shapes,
            constants=constants,
            state=state,
            custom=custom,
            compile="qemu" in on,
            on_event=tell,
        )
        return validation.run(built.directory, on, data, per_layer, samples, chosen, tell, board, poison, confusion)


# --- stages --------------------------------------------------------------------------------------


def c_name(model: str | Path, name: str | None) -> str:
    """The prefix of files and C names: `name`, which must be usable as it is, or made from the file's name."""
    from . import pipeline

    fitted = pipeline.c_identifier(name or Path(model).stem)
    if name and fitted != name:
        raise UsageError(
            f"{name!r} cannot be the C name of the model", fix=f"use a plain C identifier: --name {fitted}"
        )
    return fitted


def _check_choices(goal: str, stream_input: str = "") -> None:
    for option, value, allowed in (("-O", goal, GOALS), ("stream_input", stream_input, STREAM_INPUT)):
        if value not in allowed:
            raise UsageError(f"{option} {value} does not exist", fix="choose from: " + ", ".join(allowed))


def _compile_graph(
    graph: Graph, board: Board, name: str, tell: OnEvent, dump_ir: str | Path | None = None, **asked: Any
) -> Compiled:
    """asked: the goal, budgets and the like of `pipeline.compile_graph`."""
    from . import pipeline

    if dump_ir is not None:
        try:
            Path(dump_ir).mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise UsageError(
                f"cannot write {dump_ir}: {(e.strerror or str(e)).lower()}", fix="choose another place with --dump-ir"
            ) from None

    def on_phase(name: str, seconds: float, info: object = "") -> None:
        tell(Event("phase", name, str(info or ""), seconds))

    return pipeline.compile_graph(graph, board, name=name, dump_ir=dump_ir, on_phase=on_phase, **asked)


def _find_compiler(board: Board):
    """Found before the long work, so that a missing compiler costs nothing."""
    from . import toolchain

    return None if board.is_host else toolchain.find_arm()


def _build_firmware(stage: Path, board: Board, compiler, goal: str, tell: OnEvent) -> Firmware:
    from . import toolchain

    with phase(tell, "compile") as said:
        firmware = toolchain.build_firmware(stage, board, compiler, goal)
        said["info"] = f"{compiler.version}"
    if firmware.warnings:
        tell(Event("text", info=firmware.warnings))
    return firmware


def operators() -> list[dict]:
    """The ONNX operators that edgec compiles: name, opsets, element types, how each runs on int8 ("" where in float),
    kernels (none: a loop nest), and the inputs that must be constants."""
    from .ops import catalogue

    return catalogue.operators()
