"""What is compiled: a model as the caller knows it, quantised where there are samples for that."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import EdgecError, Exit
from .output import Event, OnEvent, phase, plural, progress
from .quantisation.recipe import Recipe

if TYPE_CHECKING:
    from .data import Dataset
    from .ir import Graph

ALREADY_QUANTISED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
)
REFERENCE = "reference/model.onnx"  # in the package: what is compiled, as ONNX
FLOAT_REFERENCE = "reference/float.onnx"  # what it was before it was quantised

Shapes = Mapping[str, Sequence[int]]
Constants = Mapping[str, Any]
State = Mapping[str, str]


@dataclass(frozen=True)
class Known:
    """What the caller says about a model's inputs; see `build`."""

    shapes: Shapes | None
    constants: Constants | None
    state: State | None
    custom: Sequence[str | Path]

    def load(self, path: Path) -> Graph:
        from . import custom, onnx_in
        from .passes import feedback

        shapes = {k: tuple(v) for k, v in (self.shapes or {}).items()}
        own = custom.libraries(self.custom)
        return feedback.mark(onnx_in.load(path, shapes or None, self.constants, own), self.state or {})


@dataclass(frozen=True, eq=False)
class Source:
    """graph: what is compiled. references: the ONNX files that the package carries. summary: of quantisation here."""

    graph: Graph
    references: dict[str, bytes]
    summary: dict | None
    files: dict[str, Any]


@contextmanager
def explained(model: str | Path, known: Known):
    """What fails in the block as a defect of edgec would is a ModelError where the model itself is wrong."""
    from . import diagnose, onnx_in

    try:
        yield
    except Exception as e:
        if isinstance(e, EdgecError) and e.exit_code != Exit.INTERNAL:
            raise
        found = diagnose.fault(onnx_in.read(Path(model)), known.shapes or {}, known.constants or {})
        if found is None:
            raise
        raise found from e


def make(
    model: str | Path, data: str | Path | None, recipe: Recipe | None, known: Known, tell: OnEvent
) -> Source:
    """Imports the model, and quantises it where there are data and it is not quantised yet."""
    from . import data as datasets, onnx_in, sequences, store

    path = Path(model)
    with phase(tell, "import") as said:
        graph = known.load(path)
        said["info"] = plural(len(graph.nodes), "node")
    for note in graph.notes:
        tell(Event("note", info=note))
    original = onnx_in.with_constants_bytes(_self_contained(path), known.constants or {})
    files = {"model": {"file": path.name, "sha256": store.sha256_file(path)}, "data": None}
    if data is None:
        return Source(graph, {REFERENCE: original}, None, files)
    files["data"] = {"file": Path(data).name, "sha256": store.sha256_file(Path(data)) if Path(data).is_file() else ""}
    dataset = datasets.load(data, graph)
    if any(n.op in ALREADY_QUANTISED for n in graph.nodes):
        tell(Event("note", info="the model is quantised already: it keeps its own scales, --data is not used"))
        return Source(graph, {REFERENCE: original}, None, files)
    graph, summary, made = _quantise(graph, sequences.with_state(graph, dataset), recipe or Recipe(), tell)
    return Source(graph, {REFERENCE: made, FLOAT_REFERENCE: original}, summary, files)


def _quantise(graph: Graph, dataset: Dataset, recipe: Recipe, tell: OnEvent) -> tuple[Graph, dict, bytes]:
    from . import onnx_out, pipeline
    from .quantisation import quantise, statistics

    kept = recipe.profile
    known = statistics.load(kept) if kept is not None and kept.exists() else {}
    profiles = dict(known)
    with phase(tell, "quantise") as said:
        done = quantise.quantise_model(
            pipeline.simplify(graph),
            dataset,
            recipe,
            profiles=profiles,
            progress=progress(tell),
        )
        summary = plain(done.summary)
        proto = onnx_out.to_onnx(done.graph, _metadata(recipe, summary))
        said["info"] = f"{plural(summary['integer_nodes'], 'node')} to integers from {plural(len(dataset), 'sample')}"
        if summary["float_nodes"]:
            said["info"] += f", {len(summary['float_nodes'])} stay float"
    if kept is not None and profiles.keys() != known.keys():
        statistics.save(profiles, kept)
    for g in summary["gains"]:
        change = f"{g['before_db']:.1f} -> {g['after_db']:.1f} dB" + ("" if g["kept"] else ", left out")
        tell(Event("text", info=f"    {g['step']:<10} {change}"))
    return done.graph, summary, proto.SerializeToString(deterministic=True)


def _metadata(recipe: Recipe, summary: dict) -> dict[str, str]:
    """What was done, for the metadata of the ONNX file."""
    return {
        "edgec.version": __version__,
        "edgec.quantisation": json.dumps(recipe.described()),
        "edgec.samples": str(summary["samples"]),
        "edgec.gains": json.dumps(summary["gains"]),
    }


def _self_contained(path: Path) -> bytes:
    """The model as one file: its own bytes, or with external weights moved inside."""
    import onnx

    raw = path.read_bytes()
    if b"location" not in raw:  # the key that every external tensor has
        return raw
    model = onnx.load(path)
    return model.SerializeToString(deterministic=True)


def quantised(model: str | Path, data: str | Path, recipe: Recipe, known: Known, tell: OnEvent):
    """The quantised model and its samples. UsageError: it is quantised already."""
    from . import data as datasets, pipeline, sequences
    from .quantisation import quantise

    graph = known.load(Path(model))
    dataset = sequences.with_state(graph, datasets.load(data, graph))
    with phase(tell, "quantise"):
        return quantise.quantise_model(pipeline.simplify(graph), dataset, recipe, progress=progress(tell)), dataset


def plain(value: Any) -> dict:
    """A record as JSON would give it back."""
    return json.loads(json.dumps(asdict(value)))
