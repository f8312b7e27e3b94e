"""Runs a package on the host and under its board's emulator, and compares it with the ONNX model inside the package."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import compare, custom, data as datasets, store
from .compare import Difference
from .data import Dataset
from .errors import EdgecError, UsageError, ValidationError
from .ir import Graph, QParams, Tensor, TensorType
from .output import Event, plural, table
from .sequences import Kept, fed_back

Array = np.ndarray

TARGETS = ("host", "qemu")
RANDOM_SAMPLES = 8
MOST_CLASSES = 1000
BATCH_SECONDS = 10.0  # the emulator is started for about so much work at a time, so that progress shows
QUANTISED_FLOAT_RMS = 1 / 256  # float outputs of an integer model: one step of 8 bits of their range


@dataclass(frozen=True)
class Tolerance:
    """What passes, per output.

    top1: least share of samples with the same class (outputs that are a vector of classes, on real data).
    max_lsb: largest difference of integers; None: the classes decide, or where there are none rms_lsb, the root of
    the mean square. max_range: largest difference of floats as a share of the reference's range.
    """

    top1: float = 0.99
    max_lsb: float | None = None
    rms_lsb: float = 1.0
    max_range: float = 1e-4


@dataclass(frozen=True, eq=False)
class ValidationResult:
    """ok: every output within tolerance and all targets equal bit for bit. reasons: why not. report: for JSON."""

    ok: bool
    reasons: tuple[str, ...]
    report: dict

    def check(self) -> ValidationResult:
        """Itself where ok; raises ValidationError otherwise."""
        if not self.ok:
            raise ValidationError(
                self.reasons[0],
                where="\n         ".join(self.reasons[1:]),
                fix="`edgec validate --per-layer` shows where the difference begins",
            )
        return self


@dataclass(frozen=True, eq=False)
class _Ran:
    """What a target computed. outputs: per output [samples, ...]. traces: per sample, step -> bytes. stack, run_stack: the
    most bytes in use, of the whole firmware and of <name>_run."""

    outputs: list[Array]
    traces: list[dict[int, bytes]]
    stack: int | None = None
    run_stack: int | None = None


def run(
    directory: Path,
    on: Sequence[str],
    data: str | Path | None,
    per_layer: bool,
    samples: int | None,
    tolerance: Tolerance,
    tell: Callable[[Event], None],
    board: str | None = None,
    poison: bool = False,
    confusion: bool = False,
) -> ValidationResult:
    """Validates the package in `directory`; see `api.validate`."""
    manifest = store.read_manifest(directory)
    if "qemu" in on and not _firmware(directory, manifest).exists():
        raise UsageError(
            "the package holds no firmware",
            where=str(directory),
            fix="build it again without --no-compile, for a board with an emulator (edgec boards)",
        )
    inputs = _input_graph(manifest)
    dataset, as_given = _samples(inputs, data, samples, RANDOM_SAMPLES if samples is None else samples)
    feeds = [dataset[i] for i in range(len(dataset))]
    steps = dataset.steps
    layers = [s for s in manifest["steps"] if s["source"]] if per_layer else []
    engine, wanted, inner = _run_reference(directory, manifest, feeds, steps, layers, tell)
    ran = {t: _run_target(t, directory, manifest, feeds, steps, per_layer, board, tell) for t in dict.fromkeys(on)}

    reasons: list[str] = []
    classes = [_is_classes(o, manifest["inputs"]) for o in manifest["outputs"]]
    outputs = []
    for k, entry in enumerate(manifest["outputs"]):
        for target, r in ran.items():
            d = compare.difference(
                r.outputs[k], wanted[k], grid=entry["grid"], zero_point=entry["zero_point"], classes=classes[k]
            )
            why = _refuse(d, tolerance, real=data is not None, integer_model=manifest["quantised"])
            reasons += [f"{entry['name']} on {target}: {why}"] if why else []
            outputs.append({"output": entry["name"], "on": target, "ok": not why, **d.as_dict()})
    equal, differing = _equality(directory, manifest, ran, feeds, steps, board)
    spoiled = _poisoned(directory, manifest, feeds, steps, board, tell) if poison else []
    stack = _run_stack(directory, manifest, ran)
    deep = [f"stack: the run used {stack['bytes']} bytes, its bound is {stack['bound']}"] if stack and not stack["ok"] else []
    reasons = differing + spoiled + deep + reasons
    classified = _classified(directory, manifest, as_given, wanted, ran, classes, tell)
    report = {
        "name": manifest["name"],
        "board": manifest["board"],
        "on": list(ran),
        "reference": engine,
        "samples": len(feeds),
        "inputs": "random inputs: numerics only, no accuracy" if data is None else Path(data).name,
        "outputs": outputs,
        "host_equals_qemu": equal,
        "poisoned_equal": not spoiled if poison else None,
        "accuracy": _accuracies(classified),
        "confusion": _confusions(classified) if confusion else None,
        "layers": _layers(layers, manifest, ran, inner),
        "stack_bytes": next((r.stack for r in ran.values() if r.stack is not None), None),
        "run_stack": stack,
        "notes": _notes(directory, manifest, dataset, classes),
    }
    return ValidationResult(not reasons, tuple(reasons), report)


# --- inputs --------------------------------------------------------------------------------------


def _input_graph(manifest: Mapping) -> Graph:
    """A graph of the package's inputs alone, which is what data are checked against."""
    tensors = {}
    for e in manifest["inputs"]:
        q = QParams.of(e["scale"], e["zero_point"]) if e["scale"] else None
        tensors[e["name"]] = Tensor(e["name"], TensorType(e["dtype"], tuple(e["shape"]), q))
    state = tuple((s["name"], s["output"]) for s in manifest["state"])
    return Graph(manifest["name"], (), tensors, tuple(tensors), (), state=state)


def _states(manifest: Mapping) -> list[Kept]:
    """As the reference takes them."""
    return [Kept(s["name"], s["output"], np.full(s["start"]["shape"], s["start"]["value"], s["start"]["dtype"]))
            for s in manifest["state"]]


def _samples(
    inputs: Graph, data: str | Path | None, limit: int | None, random_count: int
) -> tuple[Dataset, Dataset | None]:
    """The samples in the package's element types, and as they are in the file (None: they are pseudo-random)."""
    if data is None:
        return _random(inputs, random_count), None
    given = datasets.load(data, inputs)
    given = given.first(limit) if limit else given
    return datasets.as_model_input(given, inputs), given


def _random(inputs: Graph, count: int) -> Dataset:
    """The same numbers every time: all values of 8-bit types, -2..2 for floats, else 0 and 1 (valid as indices)."""
    rng = np.random.default_rng(20240229)
    made = {}
    for name in inputs.inputs:
        t = inputs.type(name)
        shape, dtype = (count, *t.shape), np.dtype(t.dtype)
        if dtype.kind == "f":
            made[name] = rng.uniform(-2.0, 2.0, shape).astype(dtype)
        elif dtype.itemsize == 1 and dtype.kind in "iu":
            info = np.iinfo(dtype)
            made[name] = rng.integers(info.min, info.max + 1, shape).astype(dtype)
        else:
            made[name] = rng.integers(0, 2, shape).astype(dtype)
    return Dataset(made, None, "", (count + 1) // 2 if inputs.state else 0)


# --- running -------------------------------------------------------------------------------------


def _run_reference(
    directory: Path, manifest: Mapping, feeds: list[dict[str, Array]], steps: int, layers: list[dict],
    tell: Callable[[Event], None],
) -> tuple[str, list[Array], dict[str, Array]]:
    """engine, the outputs [samples, ...] in order, and the inner tensors of `layers` by name."""
    return _run_onnx(
        directory / manifest["reference"],
        manifest,
        feeds,
        steps,
        [e["source"] for e in layers],
        "reference",
        tell,
    )


def _run_onnx(
    path: Path,
    manifest: Mapping,
    feeds: list[dict[str, Array]],
    steps: int,
    inner: list[str],
    label: str,
    tell: Callable[[Event], None],
) -> tuple[str, list[Array], dict[str, Array]]:
    from . import onnx_in, onnx_run

    start = time.perf_counter()
    reference = onnx_run.reference(onnx_in.read(path), inner, custom.in_package(path.parent.parent))
    columns: dict[str, list[Array]] = {}

    def ran(feed: Mapping[str, Array]) -> dict[str, Array]:
        return _as_package(manifest, dict(zip(reference.names, reference.run(feed), strict=True)))

    for k, (_, made) in enumerate(fed_back(ran, _states(manifest), feeds, steps)):
        for name, value in made.items():
            columns.setdefault(name, []).append(value)
        tell(Event("progress", label, done=k + 1, total=len(feeds)))
    found = {n: np.stack(c) for n, c in columns.items()}
    tell(Event("phase", label, reference.engine, time.perf_counter() - start))
    return reference.engine, [found[o["name"]] for o in manifest["outputs"]], found


def _as_package(manifest: Mapping, found: dict[str, Array]) -> dict[str, Array]:
    """What ONNX makes, in the form of the package: labels by their numbers, maps as rows of scores, results whose size data
    decide at their bound, and the counts of these."""
    made = dict(found)
    for o in manifest["outputs"]:
        value = found.get(o["name"])
        if value is not None and value.dtype.kind in "OU":
            flat = value.reshape(-1).tolist()
            rows = [[*v.values()] if isinstance(v, dict) else o["labels"].index(str(v)) for v in flat]
            value = made[o["name"]] = np.array(rows, o["dtype"]).reshape(o["shape"])
        if value is not None and o["count"]:
            count, axis = o["count"]
            bound = np.zeros(o["shape"], value.dtype)
            bound[tuple(slice(n) for n in value.shape)] = value
            made[o["name"]] = bound
            t = next(e for e in manifest["outputs"] if e["name"] == count)
            made[count] = np.full(t["shape"], value.shape[axis], t["dtype"])
    return made


def _run_target(
    target: str,
    directory: Path,
    manifest: Mapping,
    feeds: list[dict[str, Array]],
    steps: int,
    trace: bool,
    board: str | None,
    tell: Callable[[Event], None],
) -> _Ran:
    start = time.perf_counter()
    ran = (_run_host if target == "host" else _run_qemu)(
        directory, manifest, _as_bytes(manifest, feeds), steps, trace, board, tell
    )
    tell(Event("phase", target, f"{plural(len(feeds), 'sample')}", time.perf_counter() - start))
    return ran


def _firmware(directory: Path, manifest: Mapping) -> Path:
    return directory / f"{manifest['name']}.elf"


def _as_bytes(manifest: Mapping, feeds: list[dict[str, Array]]) -> list[list[bytes]]:
    """Each sample's inputs as the package takes them: transposed where rows are pushed in another order than ONNX's."""
    return [[_ordered(feed[e["name"]], e.get("perm")).tobytes() for e in manifest["inputs"]] for feed in feeds]


def _ordered(x: Array, perm: Sequence[int] | None) -> Array:
    return np.transpose(x, perm) if perm else x


def _run_host(
    directory: Path,
    manifest: Mapping,
    samples: list[list[bytes]],
    steps: int,
    trace: bool,
    board: str | None,
    tell: Callable[[Event], None],
) -> _Ran:
    from . import board as boards, host

    model = host.load(directory, simd_on_host=boards.load(board or manifest["board"]).simd)
    outputs, traces = [], []
    for k, sample in enumerate(samples):
        if steps and k % steps == 0:
            model.reset()
        if trace:
            raw, made = model.trace_bytes(sample)
            traces.append(made)
        else:
            raw = model.run_bytes(sample)
        outputs.append(raw)
        tell(Event("progress", "host", done=k + 1, total=len(samples)))
    return _Ran(_stacked(manifest, outputs), traces)


def _run_qemu(
    directory: Path,
    manifest: Mapping,
    samples: list[list[bytes]],
    steps: int,
    trace: bool,
    board: str | None,
    tell: Callable[[Event], None],
) -> _Ran:
    from . import board as boards, emulator, package

    target = boards.load(board or manifest["board"])
    elf = _firmware(directory, manifest)
    batch = steps or (len(samples) if package.read(directory).has_reset else 1)  # no batch ends within a sequence
    outputs, traces, stack, run_stack = [], [], 0, 0
    while len(outputs) < len(samples):
        start = time.perf_counter()
        got = emulator.run(elf, target, samples[len(outputs) : len(outputs) + batch], trace, steps)
        outputs += got.outputs
        traces += got.traces
        stack, run_stack = max(stack, got.stack), max(run_stack, got.run_stack)
        tell(Event("progress", "qemu", done=len(outputs), total=len(samples)))
        possible = int(BATCH_SECONDS * len(got.outputs) / (time.perf_counter() - start))
        batch = max(1, possible // max(steps, 1)) * max(steps, 1)
    return _Ran(_stacked(manifest, outputs), traces, stack, run_stack)


def _stacked(manifest: Mapping, raw: list[list[bytes]]) -> list[Array]:
    return [
        np.stack([np.frombuffer(sample[k], e["dtype"]).reshape(e["shape"]) for sample in raw])
        for k, e in enumerate(manifest["outputs"])
    ]


# --- judging -------------------------------------------------------------------------------------


def _is_classes(output: Mapping, inputs: Sequence[Mapping]) -> bool:
    """True for one vector of 2..MOST_CLASSES scores. An output as large as an input is a reconstruction, not scores."""
    long = [n for n in output["shape"] if n > 1]
    return len(long) == 1 and long[0] <= MOST_CLASSES and all(np.prod(i["shape"]) != long[0] for i in inputs)


def _refuse(d: Difference, t: Tolerance, *, real: bool, integer_model: bool) -> str:
    """Why the difference is too large; "" where it is not."""
    same_class = d.top1 is not None and d.top1 >= t.top1
    if d.unit == "range" and not integer_model:
        return (
            f"differs by {d.max_abs:.3g} of the output's range, allowed are {t.max_range:g}"
            if d.max_abs > t.max_range
            else ""
        )
    if d.unit == "lsb" and t.max_lsb is not None:
        return f"differs by {d.max_abs:g} LSB, allowed are {t.max_lsb:g}" if d.max_abs > t.max_lsb else ""
    if d.top1 is not None and real:
        return (
            ""
            if same_class
            else f"the class is the same for {d.top1 * 100:.2f} % of the samples, demanded are {t.top1 * 100:g} %"
        )
    limit, unit = (t.rms_lsb, "LSB") if d.unit == "lsb" else (QUANTISED_FLOAT_RMS, "of the output's range")
    return (
        ""
        if same_class or d.rms <= limit
        else f"differs by {d.rms:.3g} {unit} in the root mean square, allowed are {limit:.3g}"
    )


def _equality(
    directory: Path, manifest: Mapping, ran: Mapping[str, _Ran], feeds: list[dict[str, Array]], steps: int,
    board: str | None,
) -> tuple[bool | None, list[str]]:
    """Whether host and emulator gave the same bits (None: only one ran), and where not, the first difference."""
    if len(ran) < 2:
        return None, []
    host, qemu = ran["host"], ran["qemu"]
    for entry, a, b in zip(manifest["outputs"], host.outputs, qemu.outputs, strict=True):
        at = compare.first_mismatch(a, b)
        if at is not None:
            begin = at[0] - at[0] % steps if steps else at[0]
            step = _first_differing_step(directory, manifest, feeds[begin : at[0] + 1], steps, board)
            return False, [
                f"host and qemu differ: sample {at[0]}, {entry['name']}{list(at[1:])} is {a[at]} and {b[at]}{step}"
            ]
    for k, (a, b) in enumerate(zip(host.traces, qemu.traces, strict=True)):
        for s in sorted(a.keys() | b.keys()):
            if a.get(s) != b.get(s):
                return False, [f"host and qemu differ: sample {k}, first at {_step_name(manifest, s)}"]
    return True, []


def _poisoned(
    directory: Path,
    manifest: Mapping,
    feeds: list[dict[str, Array]],
    steps: int,
    board: str | None,
    tell: Callable[[Event], None],
) -> list[str]:
    """Where outputs change when what plan.json calls dead is overwritten in the host's arena; each sample twice."""
    from . import board as boards, host
    from .poison import Poison

    start, found = time.perf_counter(), []
    plan = json.loads((directory / "plan.json").read_text(encoding="utf-8"))
    model = host.load(directory, simd_on_host=boards.load(board or manifest["board"]).simd)
    samples, size = _as_bytes(manifest, feeds), max(steps, 1)
    for begin in range(0, len(samples), size):
        sequence, runs = samples[begin : begin + size], []
        for poison in (None, Poison(plan, 0), Poison(plan, 1)):
            model.reset()
            runs.append([model.run_bytes(sample, poison) for sample in sequence])
        wrong = next((k for k, ran in enumerate(zip(*runs, strict=True)) if ran[1:] != ran[:1] * 2), None)
        if wrong is not None and not found:
            which = f"the outputs of sample {begin + wrong}"
            found.append(f"poisoned arena: {which} depend on bytes that plan.json calls dead")
    tell(Event("phase", "poisoned", plural(len(feeds), "sample"), time.perf_counter() - start))
    return found


def _run_stack(directory: Path, manifest: Mapping, ran: Mapping[str, _Ran]) -> dict | None:
    """What <name>_run had on the stack in the emulator, and the bound of it in this firmware, whose hook records traces."""
    from . import package, stack

    if "qemu" not in ran:
        return None
    function = package.read(directory).run
    bound = stack.bound(_firmware(directory, manifest), function)
    measured = ran["qemu"].run_stack
    return {"function": function, "bytes": measured, "bound": bound.bytes, "ok": bound.bytes is None or measured <= bound.bytes}


def _first_differing_step(
    directory: Path, manifest: Mapping, feeds: list[dict[str, Array]], steps: int, board: str | None
) -> str:
    """Runs the last sample again, after those before it in its sequence, with traces; only for the message."""
    samples = _as_bytes(manifest, feeds)
    quiet: Callable[[Event], None] = lambda event: None  # noqa: E731
    try:
        a, b = (f(directory, manifest, samples, steps, True, board, quiet).traces[-1] for f in (_run_host, _run_qemu))
    except EdgecError:
        return ""
    return next(
        (f"; the first step that differs is {_step_name(manifest, s)}" for s in sorted(a) if a[s] != b.get(s)), ""
    )


def _step_name(manifest: Mapping, step: int) -> str:
    s = manifest["steps"][step]
    return f"step {step}, {s['op']} ({' + '.join(s['origin'])})"


def _classified(
    directory: Path,
    manifest: Mapping,
    given: Dataset | None,
    wanted: list[Array],
    ran: Mapping[str, _Ran],
    classes: list[bool],
    tell: Callable[[Event], None],
) -> tuple[Array, dict[str, Array]] | None:
    """The labels, and the outputs of the reference, each target and, where edgec quantised, of the float model; None
    without labels that fit."""
    k = next((k for k, c in enumerate(classes) if c), None)
    if given is None or given.labels is None or k is None:
        return None
    labels = given.labels
    if not (labels >= 0).any() or labels.max() >= wanted[k][0].size:
        return None
    exact = {"float": _run_float(directory, manifest, given, tell)[k]} if manifest["float_reference"] else {}
    return labels, exact | {"reference": wanted[k]} | {t: r.outputs[k] for t, r in ran.items()}


def _accuracies(classified: tuple[Array, dict[str, Array]] | None) -> dict | None:
    """Share of right classes, by what computed the outputs."""
    if classified is None:
        return None
    labels, outputs = classified
    return {"samples": int((labels >= 0).sum())} | {n: compare.accuracy(y, labels) for n, y in outputs.items()}


def _confusions(classified: tuple[Array, dict[str, Array]] | None) -> dict | None:
    """Rows: labels; columns: classes found."""
    if classified is None:
        return None
    labels, outputs = classified
    return {n: compare.confusion(y, labels).tolist() for n, y in outputs.items()}


def _run_float(directory: Path, manifest: Mapping, given: Dataset, tell: Callable[[Event], None]) -> list[Array]:
    """The outputs of the model before it was quantised here."""
    feeds = []
    for i in range(len(given)):
        sample = given[i]
        for e in manifest["inputs"]:
            x = sample[e["name"]]
            if x.dtype.kind != "f" and e["scale"]:
                sample[e["name"]] = (
                    (x.astype(np.float32) - np.float32(e["zero_point"])) * np.float32(e["scale"])
                ).astype(np.float32)
        feeds.append(sample)
    return _run_onnx(
        directory / manifest["float_reference"],
        manifest,
        feeds,
        given.steps,
        [],
        "float model",
        tell,
    )[1]


def _layers(layers: list[dict], manifest: Mapping, ran: Mapping[str, _Ran], inner: Mapping[str, Array]) -> list[dict]:
    """Each step's output beside the reference's tensor, both computed from the network's inputs. One target serves:
    the others are equal to it, or the result says so."""
    if not layers:
        return []
    traces = next(iter(ran.values())).traces
    found = []
    for index, entry in enumerate(manifest["steps"]):
        if entry["source"] not in inner or any(index not in t for t in traces):  # steps that the run left out
            continue
        got = np.stack([np.frombuffer(t[index], entry["dtype"]).reshape(entry["shape"]) for t in traces])
        want = _as_step(inner[entry["source"]], entry)
        if want is not None and entry["channels"]:  # fillers stand for nothing, channels that are gone for a constant
            at, kept = entry["channels"]["axis"] + 1, np.array(entry["channels"]["kept"])
            got, want = got.compress(kept >= 0, at), want.take(kept[kept >= 0], at)
        if want is not None and want.shape == got.shape:
            d = compare.difference(got, want, zero_point=entry["zero_point"])
            found.append(
                {
                    "step": index,
                    "op": entry["op"],
                    "origin": entry["origin"],
                    "tensor": entry["source"],
                    "dtype": entry["dtype"],
                    **d.as_dict(),
                }
            )
    return found


def _as_step(want: Array, entry: Mapping) -> Array | None:
    """The reference's tensor [samples, ...] with all its channels, in the layout and element type of the step's; None
    where it cannot be."""
    if entry["perm"]:
        if want.ndim != len(entry["perm"]) + 1:
            return None
        want = want.transpose(0, *(p + 1 for p in entry["perm"]))
    dtype, shape = np.dtype(entry["dtype"]), list(entry["shape"])
    if entry["channels"]:
        shape[entry["channels"]["axis"]] = entry["channels"]["count"]
    if want[0].size != int(np.prod(shape)):
        return None
    want = want.reshape(len(want), *shape)
    if want.dtype == dtype:
        return want
    if want.dtype == np.uint8 and dtype == np.int8:  # stored with its zero point moved by 128
        return (want.astype(np.int16) - 128).astype(np.int8)
    if want.dtype.kind == "f" and dtype.kind in "iu" and entry["scale"]:
        return datasets.quantise(
            want.astype(np.float32), QParams.of(entry["scale"], entry["zero_point"]), entry["dtype"]
        )
    if want.dtype.kind in "iu" and dtype.kind in "iu":
        return want.astype(dtype)
    return None


def _notes(directory: Path, manifest: Mapping, dataset: Dataset, classes: list[bool]) -> list[str]:
    changed = [
        p
        for p, h in manifest["files"].items()
        if not (directory / p).is_file() or store.sha256_file(directory / p) != h
    ]
    notes = [f"changed since the build: {', '.join(changed)}"] if changed else []
    if dataset.labels is not None and not any(classes):
        notes.append("the data hold labels, but no output is a vector of classes: no accuracy")
    return notes


# --- text ----------------------------------------------------------------------------------------


def text(result: ValidationResult) -> str:
    """The result as `edgec validate` prints it."""
    r = result.report
    rows = [
        (
            o["output"],
            o["on"],
            _percent(o["equal"]),
            _amount(o["max_abs"], o["unit"]),
            _amount(o["rms"], o["unit"]),
            o["max_ulp"],
            _decibel(o["snr_db"]),
            f"{o['cosine']:.7f}",
            _percent(o["top1"]),
        )
        for o in r["outputs"]
    ]
    lines = [
        f"{r['name']} for {r['board']}: {plural(r['samples'], 'sample')} ({r['inputs']}), against {r['reference']}",
        "",
        table(("output", "on", "equal", "max", "rms", "ULP", "SNR", "cosine", "top-1"), rows),
        "",
    ]
    lines += [
        f"  differences of {o['output']} on {o['on']} in LSB: "
        + ", ".join(f"{int(k):+d}: {n:,}" if k != "0" else f"0: {n:,}" for k, n in o["histogram"].items())
        for o in r["outputs"]
        if o["histogram"]
    ]
    if r["host_equals_qemu"] is not None:
        lines.append("  host and qemu: " + ("the same bits" if r["host_equals_qemu"] else "DIFFERENT BITS"))
    if r["poisoned_equal"] is not None:
        lines.append("  poisoned arena: " + ("the same bits" if r["poisoned_equal"] else "DIFFERENT BITS"))
    if r["accuracy"]:
        lines.append(
            f"  accuracy on {plural(r['accuracy']['samples'], 'labelled sample')}: "
            + ", ".join(f"{k} {_percent(v)}" for k, v in r["accuracy"].items() if k != "samples")
        )
    for name, matrix in (r["confusion"] or {}).items():
        rows = [(str(k), *row) for k, row in enumerate(matrix)]
        lines += ["", f"  {name}: rows are labels, columns classes found", table(("", *map(str, range(len(rows)))), rows)]
    if r["stack_bytes"] is not None:
        lines.append(f"  stack in use on the target: {r['stack_bytes']:,} B")
    if r["run_stack"]:
        run = r["run_stack"]
        bound = f"at most {run['bound']:,} B by its machine code" if run["bound"] is not None else "no bound is known"
        lines.append(f"  stack of {run['function']}: {run['bytes']:,} B measured, {bound}")
    if r["layers"]:
        lines += [
            "",
            table(
                ("step", "operator", "ONNX nodes", "type", "equal", "max", "rms", "SNR", "cosine"),
                [
                    (
                        x["step"],
                        x["op"],
                        " + ".join(x["origin"]),
                        x["dtype"],
                        _percent(x["equal"]),
                        _amount(x["max_abs"], x["unit"]),
                        _amount(x["rms"], x["unit"]),
                        _decibel(x["snr_db"]),
                        f"{x['cosine']:.7f}",
                    )
                    for x in r["layers"]
                ],
            ),
        ]
    lines += [f"  note: {n}" for n in r["notes"]]
    return "\n".join([*lines, "", "PASS" if result.ok else "FAIL: " + "\n      ".join(result.reasons)])


def _amount(value: float, unit: str) -> str:
    return f"{value:.3g} LSB" if unit == "lsb" else f"{value:.2e}"


def _decibel(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f} dB"


def _percent(share: float | None) -> str:
    """Rounded down: 100 % is said of all only."""
    return "-" if share is None else f"{math.floor(share * 10_000) / 100:.2f} %"
