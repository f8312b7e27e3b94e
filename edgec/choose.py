"""Which layers stream: plans from the fastest to the smallest, in modelled cycles, and the cheapest that fits.

Candidates are the ways to cover the graph by streamed regions and whole tensors (`stream.stretches`); the dynamic
program under a limit for the bytes alive gives the cheapest one, whose real plan is then made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from . import cost, stream
from .ir import Graph, Node
from .loops import Program
from .stream import Region

NARROWER = 0.97  # the next limit, as a share of the bytes alive in the plan before
Lower = Callable[[Graph, tuple[Region, ...]], Program]
Plan = Callable[[Program], Program]


@dataclass(frozen=True, eq=False)
class Choice:
    """A plan and its modelled cost of a run."""

    regions: tuple[Region, ...]
    program: Program
    cycles: float

    @property
    def arena_bytes(self) -> int:
        return self.program.arena_bytes


def choices(graph: Graph, lower: Lower, plan: Plan) -> Iterator[Choice]:
    """Plans, each with a smaller arena than the one before; the first streams nothing."""
    made = plan(lower(graph, ()))
    last = Choice((), made, cost.cycles(made))
    yield last
    search = _Search(graph, lower)
    for regions in search.narrowing():
        made = plan(lower(graph, regions))
        if made.arena_bytes < last.arena_bytes:
            last = Choice(regions, made, cost.cycles(made))
            yield last


def fitting(graph: Graph, lower: Lower, plan: Plan, limit: int) -> Choice:
    """The plan with the least cost whose arena has at most `limit` bytes; the smallest found where none fits."""
    search, alive_limit, smallest = _Search(graph, lower), limit, None
    while True:
        regions, alive = search.cheapest(alive_limit)
        if alive > alive_limit:
            regions = search.smallest()
        made = plan(lower(graph, regions))
        if smallest is None or made.arena_bytes < smallest.arena_bytes:
            smallest = Choice(regions, made, cost.cycles(made))
        if made.arena_bytes <= limit or alive > alive_limit:
            return smallest
        alive_limit = min(alive_limit, alive) - (made.arena_bytes - limit)  # scratch is not in the estimate


class _Search:
    """whole: bytes alive where nothing streams."""

    def __init__(self, graph: Graph, lower: Lower):
        self.stretches = stream.stretches(graph)
        self.whole = max((s.alive for s in self.stretches if s.region is None), default=0)
        extra = [_extra(graph, n, lower) for n in graph.nodes]
        self.weights = [
            sum(extra[s.lo : s.hi]) + cost.ticks(len(s.region.order)) if s.region else 0.0 for s in self.stretches
        ]

    def narrowing(self) -> Iterator[tuple[Region, ...]]:
        """Covers for ever lower limits, the last one the smallest of all."""
        limit = self.whole - 1
        while True:
            regions, alive = self.cheapest(limit)
            if alive > limit:
                yield self.smallest()
                return
            yield regions
            limit = int(NARROWER * alive)

    def smallest(self) -> tuple[Region, ...]:
        """As goal "ram" has it."""
        return tuple(s.region for s in stream.smallest(self.stretches) if s.region)

    def cheapest(self, limit: int) -> tuple[tuple[Region, ...], int]:
        """The regions of the cheapest cover with at most `limit` bytes alive, or of the smallest; what is alive."""
        cover = stream.cover(self.stretches, self.weights, limit)
        return tuple(s.region for s in cover if s.region), max((s.alive for s in cover), default=0)


def _extra(graph: Graph, node: Node, lower: Lower) -> float:
    """Modelled cycles that a node costs more by rows than on whole tensors, besides the ticks."""
    if stream.shape_of(graph, node) is None:
        return 0.0
    inputs = tuple(dict.fromkeys(i for i in node.inputs if i and graph.const(i) is None))
    alone = replace(graph, nodes=(node,), inputs=inputs, outputs=node.outputs[:1])
    region = next((s.region for s in stream.stretches(alone) if s.region), None)
    if region is None:
        return 0.0
    whole, rows = (cost.cycles(lower(alone, r)) for r in ((), (region,)))
    return max(rows - cost.ticks(len(region.order)) - whole, 0.0)
