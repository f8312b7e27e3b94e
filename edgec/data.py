"""Calibration and test data: read from files, folders or a function, checked against the model's inputs.

Whatever is wrong with a file is a UsageError that says what, where and how to fix it: data that silently do
not fit give a network that silently does not work.
"""
from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from . import folders
from .errors import UsageError
from .fixed import quantise
from .ir import Graph, QParams, TensorType

LABELS = "labels"
ALIASES = ("x", "input", "data")     # names that are taken for the only input of a model


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples for a model. inputs: by input name, [samples, *input shape]; labels: int64 [samples] (-1: unknown).
    steps: where so many samples each follow one another in a sequence, for a model with state; 0: they do not."""

    inputs: Mapping[str, np.ndarray]
    labels: np.ndarray | None
    path: str
    steps: int = 0

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        """Sample i: by input name, an array of the graph's input shape. IndexError past the last one."""
        return {name: a[i] for name, a in self.inputs.items()}

    def first(self, n: int) -> Dataset:
        """The first n samples (all where there are fewer)."""
        return self.part(slice(n))

    def digest(self) -> str:
        """SHA-256 of the inputs: names and values."""
        h = hashlib.sha256()
        for name, a in self.inputs.items():
            h.update(name.encode() + np.ascontiguousarray(a).tobytes())
        return h.hexdigest()

    def every(self, n: int, start: int) -> Dataset:
        """Samples start, start + n, start + 2n ..."""
        return self.part(slice(start, None, n))

    def part(self, at: slice | np.ndarray) -> Dataset:
        """The samples at these indices."""
        return replace(self, inputs={k: a[at] for k, a in self.inputs.items()},
                       labels=None if self.labels is None else self.labels[at])


def load(path: str | Path, graph: Graph) -> Dataset:
    """Samples for the graph's inputs from `path`.

    .npz: one array per input under the input's name, sample axis first, with or without the model's batch axis of
    1; `labels` is optional. A model with one input also takes the only other array, or the one named x, input or
    data. .npy: the array of the only input. A folder, or a .toml that declares one: see `folders`. "module:function":
    a function that returns the arrays. Float data become float32 (also for a quantised input, see
    `as_model_input`), integer data the input's type. UsageError says what does not fit.

    For a graph with state the samples are one sequence, or [sequences, steps, ...] several; labels are then one for
    each step, or one for each sequence, which is that of its last step.
    """
    path = Path(path)
    arrays, keys = _read(path, graph)
    sequences = {_sequences(arrays[key], graph.type(name)) for name, key in keys.items()} if graph.state else {None}
    if len(sequences) > 1:
        raise UsageError("the inputs have different sequences", where=str(path),
                         fix="give every input as many sequences and steps")
    lengths = sequences.pop()
    inputs = {name: _checked(_joined(arrays[key], lengths), name, key, graph, path) for name, key in keys.items()}
    counts = {name: len(a) for name, a in inputs.items()}
    if len(set(counts.values())) > 1:
        raise UsageError("the inputs have different numbers of samples: "
                         + ", ".join(f"{n}: {c}" for n, c in counts.items()), where=str(path),
                         fix="give every input the same samples in the same order")
    samples = next(iter(counts.values()))
    labels = _labels(_of_steps(arrays.get(LABELS), lengths), samples, path)
    return Dataset(inputs, labels, str(path), (lengths[1] if lengths else samples) if graph.state else 0)


def _sequences(a: np.ndarray, t: TensorType) -> tuple[int, int] | None:
    """(sequences, steps of each) of an array that has an axis for both; None where it has one axis for all."""
    forms = (t.shape, t.shape[1:] if t.shape[:1] == (1,) else t.shape)
    return a.shape[:2] if a.ndim > 2 and a.shape[1:] not in forms and a.shape[2:] in forms else None


def _joined(a: np.ndarray, lengths: tuple[int, int] | None) -> np.ndarray:
    return a.reshape(-1, *a.shape[2:]) if lengths else a


def _of_steps(labels: np.ndarray | None, lengths: tuple[int, int] | None) -> np.ndarray | None:
    """A label for each step: that of a sequence is its last step's, the others are unknown."""
    if labels is None or lengths is None or labels.dtype.kind not in "iu":
        return labels
    if labels.shape == lengths:
        return labels.reshape(-1)
    if labels.shape != lengths[:1]:
        return labels
    spread = np.full(lengths, -1, np.int64)
    spread[:, -1] = labels
    return spread.reshape(-1)


def as_model_input(dataset: Dataset, graph: Graph) -> Dataset:
    """The dataset in the element types of this graph's inputs.

    Float data for a quantised input are quantised with its scale and zero point as QuantizeLinear does; data that
    already have the input's type pass. UsageError where neither holds.
    """
    converted = {}
    for name, a in dataset.inputs.items():
        t = graph.type(name)
        if a.dtype.kind == "f" and np.dtype(t.dtype).kind in "iu":
            a = quantise(a, _known_q(graph, name, dataset.path), t.dtype)
        elif a.dtype != np.dtype(t.dtype):
            raise UsageError(f"the data of input '{name}' are {a.dtype}, this model takes {t.dtype}",
                             where=dataset.path, fix="give the values before quantisation, as float32")
        converted[name] = a
    return replace(dataset, inputs=converted)


def input_q(graph: Graph, name: str) -> QParams | None:
    """How the integers of an input map to reals: its type's `q`, or the DequantizeLinear that reads it.

    Looks through operators that only move elements. None: not a quantised input.
    """
    if graph.type(name).q is not None:
        return graph.type(name).q
    for node in graph.consumers().get(name, ()):
        if node.op == "DequantizeLinear" and graph.const(node.inputs[1]) is not None:
            zero = graph.const(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.int32(0)
            return QParams.of(graph.const(node.inputs[1]), zero.astype(np.int32))
        if node.op in ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"):
            found = input_q(graph, node.outputs[0])
            if found is not None:
                return found
    return None


def _known_q(graph: Graph, name: str, where: str) -> QParams:
    q = input_q(graph, name)
    if q is None:
        raise UsageError(f"the data of input '{name}' are floats, the model takes {graph.type(name).dtype} and does "
                         "not say how they are quantised", where=where,
                         fix=f"store integers of type {graph.type(name).dtype}")
    return q


def _read(path: Path, graph: Graph) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays that are needed, labels among them where present, and which array each input takes."""
    fix = "save the samples with numpy.savez(path, name=array, ...), or numpy.save for a model with one input"
    made = _made(path, graph)
    if made is not None:
        keys = _match(list(made), graph, path)
        return {k: a for k, a in made.items() if k in {*keys.values(), LABELS}}, keys
    if path.suffix not in (".npz", ".npy"):
        raise UsageError(f"data must be a .npz or .npy file, not '{path.name}'", where=str(path), fix=fix)
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            keys = _single(graph, path)
            return {k: loaded for k in keys}, keys
        with loaded:
            keys = _match(loaded.files, graph, path)
            return {k: loaded[k] for k in loaded.files if k in {*keys.values(), LABELS}}, keys
    except FileNotFoundError:
        raise UsageError("there is no such data file", where=str(path), fix="check the path") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise UsageError(f"the data file cannot be read: {e}", where=str(path), fix=fix) from e


def _made(path: Path, graph: Graph) -> dict[str, np.ndarray] | None:
    """The arrays of a folder, a declaration of one, or a function; None for a file."""
    if ":" in path.name and not path.exists():
        return folders.from_function(str(path))
    if path.suffix != ".toml" and not path.is_dir():
        return None
    if len(graph.given) != 1:
        raise UsageError(f"a folder holds one array, the model has {len(graph.given)} inputs", where=str(path),
                         fix="save a .npz with one array per input name, or write a function: --data module:function")
    shape = graph.type(graph.given[0]).shape
    return folders.from_folder(path, {}, shape) if path.is_dir() else folders.from_declaration(path, shape)


def _single(graph: Graph, path: Path) -> dict[str, str]:
    if len(graph.given) != 1:
        raise UsageError(f"a .npy file holds one array, the model has {len(graph.given)} inputs: "
                         + ", ".join(graph.given), where=str(path), fix="save a .npz with one array per input name")
    return {graph.given[0]: graph.given[0]}


def _match(arrays: list[str], graph: Graph, path: Path) -> dict[str, str]:
    """Input name -> array name."""
    if not graph.given:
        raise UsageError("the model has no inputs", where=str(path), fix="build it without data")
    missing = [n for n in graph.given if n not in arrays]
    if not missing:
        return {n: n for n in graph.given}
    others = [k for k in arrays if k != LABELS]
    named = [k for k in others if k in ALIASES]
    for candidates in (named, others):
        if len(graph.given) == 1 and len(candidates) == 1:
            return {graph.given[0]: candidates[0]}
    raise UsageError("no array for the input" + ("s " if len(missing) > 1 else " ")
                     + ", ".join(f"'{m}' {_wanted(graph.type(m))}" for m in missing)
                     + f"; the file holds {', '.join(others) or 'no samples'}", where=str(path),
                     fix=f"save the samples under the input's name: numpy.savez(path, **{{'{missing[0]}': samples}})")


def _checked(a: np.ndarray, name: str, key: str, graph: Graph, path: Path) -> np.ndarray:
    """The array as [samples, *input shape] in the type to keep, read-only."""
    where = f"{path}, array '{key}' for input '{name}'"
    a = _typed(_shaped(a, graph.type(name), where), name, graph, where)
    if a.dtype.kind == "f" and not np.isfinite(a).all():
        bad = int(np.argmin(np.isfinite(a).reshape(len(a), -1).all(axis=1)))
        raise UsageError(f"sample {bad} holds NaN or infinity", where=where, fix="remove or repair these samples")
    a.flags.writeable = False
    return a


def _shaped(a: np.ndarray, t: TensorType, where: str) -> np.ndarray:
    if a.ndim and a.size == 0:
        raise UsageError(f"the array is empty, shape {_dims(a.shape)}", where=where, fix="give at least one sample")
    inner = t.shape[1:] if t.shape[:1] == (1,) else t.shape
    if a.ndim and a.shape[1:] in (t.shape, inner):
        return a.reshape(len(a), *t.shape)
    what = f"the array has the shape {_dims(a.shape)}, the model needs {_wanted(t)}"
    raise UsageError(what, where=where, fix=_shape_fix(a, t.shape, inner))


def _shape_fix(a: np.ndarray, full: tuple[int, ...], inner: tuple[int, ...]) -> str:
    if a.shape in (full, inner):
        return "this is one sample without the sample axis: save array[None]"
    sample = a.shape[1:]
    if len(inner) == 3 and sample == (*inner[1:], inner[0]):
        return "the samples are channels last: save numpy.moveaxis(array, -1, 1)"
    if len(inner) == 3 and sample == (inner[2], *inner[:2]):
        return "the samples are channels first: save numpy.moveaxis(array, 1, -1)"
    if a.ndim and np.prod(sample) == np.prod(inner):
        return f"the samples have the right number of elements: save array.reshape(-1, {', '.join(map(str, inner))})"
    return "prepare the samples as for training"


def _typed(a: np.ndarray, name: str, graph: Graph, where: str) -> np.ndarray:
    dtype = np.dtype(graph.type(name).dtype)
    what = f"the array is {a.dtype}, the model's input is {dtype}"
    if dtype.kind == "f":
        if a.dtype.kind != "f":
            raise UsageError(what, where=where, fix="scale the values as for training and save them as float32")
        with np.errstate(over="ignore"):        # what does not fit becomes infinity, which the caller reports
            return a.astype(dtype)
    if a.dtype.kind == "f" and dtype.kind in "iu":
        _known_q(graph, name, where)
        return a.astype(np.float32)
    if a.dtype.kind not in "iub":
        raise UsageError(what, where=where, fix=f"save the array as {dtype}")
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if int(a.min()) < low or int(a.max()) > high:
        raise UsageError(f"the values {a.min()} to {a.max()} do not fit {dtype}", where=where,
                         fix=f"save values from {low} to {high}")
    return a.astype(dtype)


def _labels(a: np.ndarray | None, samples: int, path: Path) -> np.ndarray | None:
    if a is None:
        return None
    if a.shape != (samples,) or a.dtype.kind not in "iu":
        raise UsageError(f"labels are {a.dtype} {_dims(a.shape)}, expected one integer for each of {samples} samples",
                         where=f"{path}, array '{LABELS}'", fix="save the class numbers as int64, or leave labels out")
    return a.astype(np.int64)


def _wanted(t: TensorType) -> str:
    return _dims(("samples", *(t.shape[1:] if t.shape[:1] == (1,) else t.shape))) + f" {t.dtype}"


def _dims(shape: tuple) -> str:
    return f"[{', '.join(map(str, shape))}]"
