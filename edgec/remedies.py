"""What would change the arena of a network and at which price: real plans of every alternative, modelled cycles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from . import choose, cost, pipeline, plan
from .board import Board
from .data import Dataset
from .errors import EdgecError
from .ir import Graph
from .loops import Program
from .pipeline import Compiled
from .quantisation.quantise import quantise_model
from .quantisation.recipe import IMPROVEMENTS, Recipe
from .stream import Region

WORK = 5_000  # of the search for offsets: there are many plans, and a build that is asked for one finds no worse


@dataclass(frozen=True)
class Remedy:
    """what: in words; option: how to ask for it; arena_bytes: of the real plan; cycles: modelled, of a run."""

    what: str
    option: str
    arena_bytes: int
    cycles: float

    def as_dict(self, now: int, cycles: float) -> dict:
        """For reports, beside the arena and the cycles of the present plan."""
        return {
            "what": self.what,
            "option": self.option,
            "arena_bytes": self.arena_bytes,
            "change_bytes": self.arena_bytes - now,
            "change_cycles": self.cycles / cycles - 1 if cycles else 0.0,
        }


def remedies(compiled: Compiled, board: Board, goal: str, flash: int | None = None) -> list[dict]:
    """Everything that changes the arena, the cheapest first: streamed layers, int8 in place of float."""
    now, cycles = compiled.program.arena_bytes, cost.cycles(compiled.program)
    found = [*_streams(compiled.graph, board, flash), *_pushed(compiled, board, goal), *_int8(compiled, board, goal)]
    return [r.as_dict(now, cycles) for r in found if r.arena_bytes != now]


def _streams(graph: Graph, board: Board, flash: int | None) -> Iterator[Remedy]:
    """Streamed layers, with the kernels of goal "balanced" and, since those need scratch, without."""
    kinds = dict.fromkeys((pipeline.fast_layers(graph, board, "balanced", flash), frozenset()))
    plans = [c for fast in kinds for c in choose.choices(graph, pipeline.lowering(board, fast), _quick)]
    plans.sort(key=lambda c: (c.cycles, c.arena_bytes))
    layers = next(c for c in plans if not c.regions).program
    for k, c in enumerate(plans):
        if all(c.arena_bytes < other.arena_bytes for other in plans[:k]):
            option = "-O ram" if c.arena_bytes == min(p.arena_bytes for p in plans) else f"--ram {c.arena_bytes}"
            yield Remedy(_words(c.regions, layers), option if c.regions else "-O balanced", c.arena_bytes, c.cycles)


def _quick(p: Program) -> Program:
    return pipeline.planned(p, WORK)


def _words(regions: tuple[Region, ...], layers: Program) -> str:
    """Which layers, by their numbers where nothing streams, and their first and last ONNX node."""
    at = {o: k for k, s in enumerate(layers.steps) for o in s.outputs}
    parts = []
    for r in regions:
        steps = sorted({at[o] for n in r.nodes for o in n.outputs if o in at})
        first, last = ((n.origin or ("",))[0] for n in (r.nodes[0], r.nodes[-1]))
        parts.append(
            f"{steps[0]}-{steps[-1]} ({_short(first)} .. {_short(last)})"
            if len(steps) > 1
            else f"{steps[0]} ({_short(first)})"
        )
    return "stream layers " + ", ".join(parts) if parts else "stream nothing"


def _short(name: str) -> str:
    return name if len(name) <= 24 else "…" + name[-23:]


def _pushed(compiled: Compiled, board: Board, goal: str) -> Iterator[Remedy]:
    """The input taken row by row, so that it is never whole; cycles are those of all rows of a window."""
    if compiled.source.state:
        return
    try:
        made = pipeline.compile_graph(compiled.source, board, goal=goal, stream_input="window")
    except EdgecError:  # several inputs, or a first layer that needs all rows
        return
    yield Remedy("take the input row by row", "--stream-input", made.program.arena_bytes, cost.cycles(made.program))


def _int8(compiled: Compiled, board: Board, goal: str) -> Iterator[Remedy]:
    """The plan as int8: its sizes do not depend on the calibration, so random numbers stand in for samples."""
    graph = compiled.source
    if any(t.type.q is not None for t in compiled.graph.tensors.values()):
        return
    if not any(graph.type(i).dtype == "float32" for i in graph.inputs):
        return
    rng = np.random.default_rng(0)
    sample = {i: rng.random((1, *graph.type(i).shape)).astype(graph.type(i).dtype) for i in graph.inputs}
    try:
        plain = Recipe("minmax", without=IMPROVEMENTS)
        small = quantise_model(pipeline.simplify(graph), Dataset(sample, None, ""), plain).graph
        made = pipeline.compile_graph(small, board, goal=goal)
    except EdgecError:  # what cannot be quantised needs no remedy
        return
    yield Remedy("quantise to int8", "--data calibration.npz", made.program.arena_bytes, cost.cycles(made.program))


def present(p: Program) -> dict[str, int]:
    """Bytes of arena that the plan saves already: by writing in place, and by rows that come and go one by one."""
    apart = replace(p, steps=tuple(replace(s, inplace=(), trailing=()) for s in p.steps))
    still = replace(p, steps=tuple(replace(s, spans={}) for s in p.steps))
    return {
        "in place": plan.plan(apart, WORK).arena_bytes - p.arena_bytes,
        "rows over rows": plan.plan(still, WORK).arena_bytes - p.arena_bytes,
    }
