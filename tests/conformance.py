"""ONNX's own backend cases through the whole compiler: import, passes, generated C, gcc, and ONNX's expected outputs.

    python tests/conformance.py [--update] [--only REGEX] [--jobs N] [--fresh]

prints the counts by folder and what differs from tests/conformance.txt, one sorted line per case:

    node/test_add pass
    node/test_reduce_sum_do_not_keepdims_example pass, fixed: axes
    node/test_image_decoder_decode_png_rgb refused: ImageDecoder

`fixed`: an input that decides shapes has the value of the case's own data at compile time (`edgec build --const`).
`wrong` and `crash` are defects. Verdicts are kept in a cache by the hash of the case and of edgec's sources, and those of
the compiled C by the hash of the case and of the C.
"""
from __future__ import annotations

import argparse
import functools
import hashlib
import json
import logging
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cffi
import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test import loader

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from edgec import board, dtypes, onnx_in, pipeline, toolchain  # noqa: E402
from edgec.errors import EdgecError, Exit, UnsupportedError  # noqa: E402
from edgec.ops import table  # noqa: E402

HARNESS = Path(__file__).read_bytes()
TABLE = Path(__file__).with_suffix(".txt")
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "light")
BATCH = 40  # cases that one gcc compiles
CACHE = Path(os.environ.get("EDGEC_CONFORMANCE_CACHE", Path(tempfile.gettempdir()) / f"edgec-conformance-{os.getuid()}"))
NUMBERS = 12_000_000  # weights that a case may have: more of them as text take gigabytes to compile


@dataclass(frozen=True, eq=False)
class Case:
    """sets: (inputs, outputs) of each data set, in the model's order."""

    name: str
    model: onnx.ModelProto
    sets: list[tuple[list, list]]
    rtol: float
    atol: float


@dataclass(eq=False)
class Unit:
    """A case on its way: the C of one data set's fixed inputs."""

    case: Case
    inputs: list
    outputs: list
    fixed: tuple[str, ...]
    compiled: pipeline.Compiled | None = None
    verdict: str = ""
    values: dict[str, Any] = field(default_factory=dict)


# --- cases -------------------------------------------------------------------------------------------


@functools.cache
def cases() -> dict[str, Any]:
    """kind/name -> ONNX's test case; `read` loads its data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {f"{k}/{c.name}": c for k in KINDS[:-1] for c in loader.load_model_tests(kind=k)}
        found |= {f"light/{c.name}": c for c in loader.load_model_tests(kind="real")}
    return dict(sorted(found.items()))


def read(name: str) -> Case:
    """A case with its model and data."""
    c = cases()[name]
    if c.model is not None:
        return Case(name, c.model, [([_array(x) for x in i], [_array(x) for x in o]) for i, o in c.data_sets], c.rtol, c.atol)
    if c.url and "/light/" in c.url:
        return _light(name, c)
    folder = Path(c.model_dir)
    model = onnx.load(folder / "model.onnx")
    sets = []
    for data in sorted(folder.glob("test_data_set*")):
        sides = []
        for side, infos in (("input", model.graph.input), ("output", model.graph.output)):
            count = len(list(data.glob(f"{side}_*.pb")))
            sides.append([_proto(data / f"{side}_{k}.pb", infos[k].type) for k in range(count)])
        sets.append(tuple(sides))
    return Case(name, model, sets, c.rtol, c.atol)


def _light(name: str, c) -> Case:
    """As ONNX's runner: the input counts up from 0 to 1."""
    path = Path(onnx.__file__).parent.parent / c.url
    model = onnx.load(path)
    weights = {i.name for i in model.graph.initializer}
    inputs = []
    for i in model.graph.input:
        if i.name not in weights:
            shape = [d.dim_value or 1 for d in i.type.tensor_type.shape.dim]
            inputs.append((np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)).astype(np.float32))
    outputs = [_proto(Path(f"{path.with_suffix('')}_output_{k}.pb"), o.type) for k, o in enumerate(model.graph.output)]
    return Case(name, model, [(inputs, outputs)], c.rtol, c.atol)


def _array(x):
    return numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else np.asarray(x) if isinstance(x, np.generic) else x


def _proto(path: Path, type_: onnx.TypeProto):
    raw = path.read_bytes()
    if type_.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(raw))
    if type_.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(raw))
    return numpy_helper.to_array(onnx.TensorProto.FromString(raw))


# --- compiling ---------------------------------------------------------------------------------------


def input_names(model: onnx.ModelProto) -> list[str]:
    """The inputs that data are for: old models list their weights too."""
    weights = {i.name for i in model.graph.initializer}
    return [i.name for i in model.graph.input if i.name not in weights]


def fixed_inputs(model: onnx.ModelProto) -> list[str]:
    """The model's inputs that some operator must know at compile time, through shape arithmetic too."""
    given = [i.name for i in model.graph.input]
    makers: dict[str, list[onnx.NodeProto]] = {}
    for node in _all_nodes(model.graph):
        for o in node.output:
            makers.setdefault(o, []).append(node)
    wanted = [node.input[k] for node in _all_nodes(model.graph) for k in _static(node) if k < len(node.input)]
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name and name not in seen:
            seen.add(name)
            for node in makers.get(name, ()):
                if node.op_type not in ("Shape", "Size"):
                    wanted += [*node.input, *(i for a in node.attribute for n in _all_nodes(a.g) for i in n.input)]
    return [n for n in given if n in seen]


def _static(node: onnx.NodeProto) -> tuple[int, ...]:
    op = table.OPS.get(f"{node.domain}.{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type)
    return table.STATIC.get(node.op_type, ()) + (op.static if op is not None else ())


def _all_nodes(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for a in node.attribute:
            yield from _all_nodes(a.g)


def prepare(case: Case, k: int) -> Unit:
    """The case's C for one data set, or a verdict. Inputs are fixed only where it is refused otherwise."""
    unit = _prepare(case, k, [])
    if unit.verdict.startswith("refused"):
        names = dict(zip(input_names(case.model), case.sets[k][0], strict=False))
        fixed = [n for n in fixed_inputs(case.model) if isinstance(names.get(n), np.ndarray)]
        again = _prepare(case, k, fixed) if fixed else unit
        return again
    return unit


def _prepare(case: Case, k: int, fixed: list[str]) -> Unit:
    inputs, outputs = case.sets[k]
    values = dict(zip(input_names(case.model), inputs, strict=False))
    unit = Unit(case, inputs, outputs, tuple(fixed), values=values)
    try:
        shapes = {n: _shape(v) for n, v in values.items() if n not in fixed and _dynamic(case.model, n)}
        graph = onnx_in.from_model(case.model, "x", shapes, constants={n: values[n] for n in fixed})
        weights = sum(t.type.size for t in graph.tensors.values() if t.data is not None)
        if weights > NUMBERS:
            raise UnsupportedError(f"{weights:,} weights")
        unit.compiled = pipeline.compile_graph(graph, board.load("host"), name="x")
    except UnsupportedError as e:
        unit.verdict = f"refused: {_line(e.what)}"
    except EdgecError as e:
        kind = "crash" if e.exit_code == Exit.INTERNAL else "refused"
        unit.verdict = f"{kind}: {type(e).__name__}: {_line(e.what)}"
    except Exception as e:  # noqa: BLE001 - a crash is a verdict
        last = traceback.extract_tb(e.__traceback__)[-1]
        unit.verdict = f"crash: {type(e).__name__}: {_line(str(e))} ({Path(last.filename).name}:{last.lineno})"
    return unit


def _shape(value):
    """As the importer takes it: None for an absent optional, a list for a sequence."""
    return [_shape(v) for v in value] if isinstance(value, list) else None if value is None else np.asarray(value).shape


def _dynamic(model: onnx.ModelProto, name: str) -> bool:
    kind = next(i for i in model.graph.input if i.name == name).type
    if not kind.HasField("tensor_type"):
        return True
    t = kind.tensor_type
    return not t.HasField("shape") or any(not d.HasField("dim_value") for d in t.shape.dim)


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:150]


def build(units: list[Unit], folder: Path):
    """(run functions by number, error text): the C of all units in one library."""
    lines = ["#include <string.h>", "#include <stddef.h>", "#include <stdint.h>"]
    for k, u in enumerate(units):
        name = f"c{k}"
        for path, text in u.compiled.files.items():
            if path.startswith("runtime/"):
                (folder / "runtime").mkdir(exist_ok=True)
                (folder / path).write_text(text)
            elif path in ("x.h", "x.c", "x_weights.c"):
                text = re.sub(r"\bx_(?=[a-z])|\bX_(?=[A-Z])", lambda m, k=k: f"{m[0][0]}{k}_", text)
                text = text.replace('"x.h"', f'"{name}.h"').replace(f"x{k}_weights", f"c{k}_weights")
                (folder / path.replace("x", name, 1)).write_text(text)
        for part in (f"{name}.c", f"{name}_weights.c"):
            lines.append(f'#include "{part}"')
        lines += _glue(k, u)
    (folder / "all.c").write_text("\n".join(lines) + "\n")
    flags = [*toolchain.CFLAGS, "-Werror", "-O1", "-w" if len(units) < 0 else "-Wno-unused", "-shared", "-fPIC"]
    done = subprocess.run([*toolchain.find_host(None).command, *flags, "all.c", "-o", "all.so"], cwd=folder, capture_output=True,
                          text=True)
    if done.returncode:
        return None, done.stderr
    ffi = cffi.FFI()
    ffi.cdef("".join(f"int run_{k}(void *arena, void **in, void **out);" for k in range(len(units))))
    return (ffi, ffi.dlopen(str(folder / "all.so"))), ""


def _glue(k: int, u: Unit) -> list[str]:
    p = u.compiled.program
    copy_in = [f"    memcpy(x{k}_input(&m, {i}u), in[{i}], X{k}_INPUT_{i}_BYTES);" for i in range(len(p.inputs))]
    copy_out = [f"    memcpy(out[{i}], x{k}_output(&m, {i}u), X{k}_OUTPUT_{i}_BYTES);" for i in range(len(p.outputs))]
    return [f"int run_{k}(void *arena, void **in, void **out);", f"int run_{k}(void *arena, void **in, void **out)", "{",
            f"    x{k}_t m;", f"    int s = (int)x{k}_init(&m, arena, X{k}_ARENA_BYTES);", "    (void)in; (void)out;",
            "    if (s != 0) { return s; }", *copy_in, f"    s = (int)x{k}_run(&m);", *copy_out, "    return s;", "}"]


def run(library, k: int, u: Unit) -> str:
    """The verdict of one compiled unit."""
    ffi, lib = library
    graph, p = u.compiled.graph, u.compiled.program
    arena = np.full(max(p.arena_bytes, 1) + 16, 0xA5, np.uint8)
    start = -arena.ctypes.data % 16
    given = [np.frombuffer(dtypes.to_bytes(np.asarray(_leaf(u.values, n))), np.uint8).copy() for n in graph.inputs]
    made = [np.zeros(max(p.buffers[o].nbytes, 1), np.uint8) for o in p.outputs]
    pointers = [ffi.new("void *[]", [ffi.cast("void *", a.ctypes.data) for a in arrays] or 1) for arrays in (given, made)]
    status = getattr(lib, f"run_{k}")(ffi.cast("void *", arena.ctypes.data + start), *pointers)
    if status:
        return f"crash: status {status}"
    found = {
        o: dtypes.from_bytes(raw.tobytes(), graph.type(o).dtype, graph.type(o).shape)
        for o, raw in zip(graph.outputs, made, strict=True)
    }
    return compare(u, found)


def _leaf(values: Mapping[str, Any], name: str):
    """The value of an input, or element k of a sequence input called name/k."""
    if name in values:
        return values[name]
    base, _, k = name.rpartition("/")
    return values[base][int(k)]


def compare(u: Unit, found: dict[str, np.ndarray]) -> str:
    graph = u.compiled.source
    for info, want in zip(u.case.model.graph.output, u.outputs, strict=False):
        if not info.name:
            continue
        got = outcome(graph, info.name, found, want)
        for g, w in zip(got, want if isinstance(want, list) else [want], strict=True):
            problem = difference(g, w, u.case)
            if problem:
                return f"wrong: {info.name}: {problem}"
    return "pass" + (f", fixed: {' '.join(u.fixed)}" if u.fixed else "")


def outcome(graph, name: str, found: Mapping[str, np.ndarray], want) -> list:
    """The arrays of an output: the elements of a sequence, or the counted part of one that data decide the size of."""
    if isinstance(want, list):
        return [found[f"{name}/{k}"] if f"{name}/{k}" in found else graph.const(f"{name}/{k}") for k in range(len(want))]
    if name not in found:  # an output without elements, or absent
        return [graph.const(name)]
    count = graph.counts.get(name) if hasattr(graph, "counts") else None
    if count is not None:
        n = int(found[count[0]].reshape(-1)[0])
        return [np.take(found[name], range(n), count[1])]
    return [found[name]]


def difference(got, want, case: Case) -> str:
    if want is None or got is None:
        return "" if want is None and got is None else "absent"
    want = np.asarray(want)
    if got.shape != want.shape:
        return f"shape {got.shape}, expected {want.shape}"
    if got.dtype != want.dtype:
        return f"{got.dtype}, expected {want.dtype}"
    if want.dtype.kind in "iub":
        bad = got != want
        return f"{int(bad.sum())} of {bad.size} integers differ, {got[bad][:3]} for {want[bad][:3]}" if bad.any() else ""
    rtol = max(case.rtol, 2**-6) if want.dtype.name == "bfloat16" else case.rtol  # as ONNX's runner
    wide = "float64" if want.dtype.kind != "c" else "complex128"
    bad = ~np.isclose(got.astype(wide), want.astype(wide), rtol=rtol, atol=case.atol, equal_nan=True)
    return f"{int(bad.sum())} of {bad.size} differ, {got[bad][:3]} for {want[bad][:3]}" if bad.any() else ""


# --- a run -------------------------------------------------------------------------------------------


def judge(names: list[str]) -> dict[str, str]:
    """The verdicts of a batch of cases."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    verdicts: dict[str, str] = {}
    units: list[tuple[Unit, str]] = []
    for name in names:
        case = read(name)
        key = hashlib.sha256(sources() + _content(case)).hexdigest()
        known = _cached(key)
        if known is not None:
            verdicts[name] = known
            continue
        for k in range(len(case.sets)):
            u = prepare(case, k)
            if u.verdict:
                verdicts[name] = _worse(verdicts.get(name), u.verdict)
                _keep(key, u.verdict)
                continue
            units.append((u, key))
    for u, key, verdict in compiled(units):
        verdicts[u.case.name] = _worse(verdicts.get(u.case.name), verdict)
        _keep(key, verdicts[u.case.name])
    return verdicts


def compiled(units: list[tuple[Unit, str]]) -> Iterable[tuple[Unit, str, str]]:
    """(unit, key, verdict) of units that have C."""
    todo = []
    for u, key in units:
        text = hashlib.sha256(HARNESS + repr(sorted(u.compiled.files.items())).encode() + _content(u.case)).hexdigest()
        known = _cached(text)
        if known is not None:
            yield u, key, known
        else:
            todo.append((u, key, text))
    if not todo:
        return
    with tempfile.TemporaryDirectory(prefix="edgec-conformance-") as folder:
        library, error = build([u for u, _, _ in todo], Path(folder))
        if library is None and len(todo) > 1:
            half = len(todo) // 2
            for part in (todo[:half], todo[half:]):
                yield from compiled([(u, key) for u, key, _ in part])
            return
        for k, (u, key, text) in enumerate(todo):
            if library is None:
                first = next((line for line in error.splitlines() if "error" in line), error[:100])
                verdict = f"crash: gcc: {_line(re.sub(r'^.*?error: ', '', first))}"
            else:
                try:
                    verdict = run(library, k, u)
                except Exception as e:  # noqa: BLE001 - a crash is a verdict
                    last = traceback.extract_tb(e.__traceback__)[-1]
                    verdict = f"crash: {type(e).__name__}: {_line(str(e))} ({Path(last.filename).name}:{last.lineno})"
            _keep(text, verdict)
            yield u, key, verdict


def _worse(a: str | None, b: str) -> str:
    return b if a is None or a.startswith("pass") else a


def _content(case: Case) -> bytes:
    h = hashlib.sha256(case.model.SerializeToString())
    h.update(
        repr(
            [[np.asarray(x).tobytes() if isinstance(x, np.ndarray) else x for side in s for x in side] for s in case.sets]
        ).encode()
    )
    return h.digest()


@functools.cache
def sources() -> bytes:
    """The hash of everything that a verdict depends on besides the case."""
    h = hashlib.sha256(onnx.__version__.encode() + HARNESS)
    for folder in ("edgec", "templates", "runtime_c"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                h.update(path.read_bytes())
    return h.digest()


def _cached(key: str) -> str | None:
    path = CACHE / key[:2] / key
    return json.loads(path.read_text()) if path.exists() else None


def _keep(key: str, verdict: str) -> None:
    path = CACHE / key[:2] / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(verdict))


def run_all(names: list[str], jobs: int) -> dict[str, str]:
    """The verdicts of cases, in several processes."""
    sources()  # before the processes part: what they compile is what is loaded now
    small = [n for n in names if not n.startswith("light")]
    batches = [[n] for n in names if n.startswith("light")] + [small[k:k + BATCH] for k in range(0, len(small), BATCH)]
    if jobs == 1 or len(batches) == 1:
        return dict(sorted(item for b in batches for item in judge(b).items()))
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=8) as pool:
        return dict(sorted(item for found in pool.imap_unordered(judge, batches) for item in found.items()))


def recorded() -> dict[str, str]:
    """tests/conformance.txt."""
    return dict(line.split(" ", 1) for line in TABLE.read_text().splitlines()) if TABLE.exists() else {}


def summary(verdicts: Mapping[str, str]) -> str:
    """Counts by folder."""
    lines = [f"{'':20}{'cases':>7}{'pass':>7}{'of them with fixed inputs':>28}{'refused':>9}{'defects':>9}"]
    for kind in (*KINDS, ""):
        of = [v for n, v in verdicts.items() if n.startswith(kind + "/" * bool(kind))]
        good = [v for v in of if v.startswith("pass")]
        refused = sum(v.startswith("refused") for v in of)
        fixed, wrong = sum("fixed" in v for v in good), len(of) - len(good) - refused
        lines.append(f"{kind or 'all':20}{len(of):7}{len(good):7}{fixed:28}{refused:9}{wrong:9}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="write tests/conformance.txt")
    parser.add_argument("--only", default="", help="cases whose name matches this regular expression")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--fresh", action="store_true", help="use no cached verdicts")
    parser.add_argument("--reasons", action="store_true", help="a histogram of what does not pass")
    options = parser.parse_args()
    if options.fresh:
        global CACHE
        CACHE = Path(tempfile.mkdtemp(prefix="edgec-conformance-"))
    names = [n for n in cases() if re.search(options.only, n)]
    start = time.perf_counter()
    found = run_all(names, options.jobs)
    before = recorded()
    changed = [n for n in names if found.get(n) != before.get(n)]
    for n in changed:
        print(f"{n}: {before.get(n, 'new')} -> {found[n]}")
    print(summary(found))
    if options.reasons:
        for reason, count in Counter(v for v in found.values() if not v.startswith("pass")).most_common():
            print(f"{count:5} {reason}")
    print(f"{len(names)} cases in {time.perf_counter() - start:.0f} s, {len(changed)} changed")
    if options.update:
        TABLE.write_text("".join(f"{n} {v}\n" for n, v in sorted({**before, **found}.items()) if n in cases()))
        return 0
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
