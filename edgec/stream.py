"""Streaming regions: layers that run interleaved, row by row, with rings of rows between them instead of tensors.

A region is a run of nodes between two cuts of the graph (places where one tensor alone is alive). Its nodes form
groups: a kernel and what follows it one row to one row (a depthwise layer and its pointwise layer, a convolution and the
residual sum). A tick runs one group for one row. The schedule, the order of all ticks, is fixed at compile time: pulled
from the last group, each row made when it is first needed, and every reader of a row served before its place in the
ring is taken again. The same order is the proof: `prove` replays it and checks each row that is read.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import UnsupportedError
from .ir import Graph, Node
from .ops import table
from .ops.spatial import Reads, RowShape
from .order import cut_positions, last_uses, section


@dataclass(frozen=True, eq=False)
class Group:
    """nodes run in this order in one tick. reads: rows of tensors made outside the group. ticks: rows to make (or, for a
    reduction, to eat). row_bytes: of an output row. reduces: the output is there after the last tick."""

    nodes: tuple[Node, ...]
    shapes: tuple[RowShape, ...]
    reads: tuple[Reads, ...]
    output: str
    ticks: int
    row_bytes: int
    reduces: bool


@dataclass(frozen=True, eq=False)
class Push:
    """The region's input comes from the caller, row by row: groups[0] has no nodes, its tick takes a row.

    Row k (counted until `loop` follows the last one) runs the ticks starts[k] .. starts[k+1]-1. progress[k]: rows of
    the window that is being made which are there after row k; the result is there when it is `rows`. sliding: rings and
    the region's output outlive the result, so that the next window needs only its new rows; heights: of the
    tensors inside, in rows, as far as the order counts."""

    tensor: str
    rows: int
    starts: tuple[int, ...]
    progress: tuple[int, ...]
    loop: int = 0
    sliding: bool = False
    heights: dict[str, int] | None = None


@dataclass(frozen=True, eq=False)
class Region:
    """order: (group, tick) pairs. depth: rows in the ring of each tensor between groups. output: the one tensor that
    leaves. spans: tensor -> parts (byte offset, bytes, first tick, last tick). push: where the caller brings the rows."""

    groups: tuple[Group, ...]
    order: tuple[tuple[int, int], ...]
    depth: dict[str, int]
    output: str
    spans: dict[str, tuple[tuple[int, int, int, int], ...]]
    push: Push | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(n for g in self.groups for n in g.nodes)

    @property
    def sliding(self) -> bool:
        return self.push is not None and self.push.sliding


class _Deepen(Exception):
    """The ring of this tensor is too short for any order."""


def shape_of(graph: Graph, node: Node) -> RowShape | None:
    """How the node makes rows; None where it can only run on whole tensors."""
    op = table.OPS[node.op]
    spatial = node.op in ("Conv", "MaxPool", "AveragePool")
    if op.rows is None or (spatial and not node.attrs.get("channels_last")) or any(node.outputs[1:]):
        return None
    return op.rows[0](graph, node)


@dataclass(frozen=True, eq=False)
class Stretch:
    """The nodes lo..hi-1 between two cuts, as one region or (region None) on whole tensors. alive: the most bytes alive
    in it, kernel scratch and working rows not counted. start, end: indices of its cuts."""

    lo: int
    hi: int
    region: Region | None
    alive: int
    start: int
    end: int


def regions(graph: Graph, pushed: bool = False) -> tuple[Region, ...]:
    """The regions that make the largest number of bytes alive at any time smallest; of equals, the fewest rows streamed.

    pushed: the first region's input comes from the caller row by row. Raises UnsupportedError where no region can begin
    at the input."""
    found = smallest(stretches(graph, pushed))
    if not found and graph.nodes:
        raise no_rows(graph, [shape_of(graph, n) for n in graph.nodes])
    return tuple(s.region for s in found if s.region)


def smallest(found: Sequence[Stretch]) -> tuple[Stretch, ...]:
    """The cover with the fewest bytes alive; of equals, with the fewest rows streamed. found: of `stretches`."""
    return cover(found, [float(len(s.region.order)) if s.region else 0.0 for s in found], 0)


def stretches(graph: Graph, pushed: bool = False) -> list[Stretch]:
    """Every region between two cuts, and whole tensors between neighbouring ones: O(cuts^2), in the order of their ends.
    pushed: what begins at the input is a region that takes its rows from the caller."""
    last = last_uses(graph)
    cuts = cut_positions(graph, last)
    shapes = [shape_of(graph, n) for n in graph.nodes]
    users = graph.consumers()
    found = []
    for j in range(1, len(cuts)):
        for i in range(j):
            lo, hi = cuts[i], cuts[j]
            if i == j - 1 and not (pushed and i == 0):
                found.append(Stretch(lo, hi, None, section(graph, lo, hi, last).peak(), i, j))
            if all(shapes[k] is not None for k in range(lo, hi)):
                made = _region(graph, lo, hi, shapes, users, pushed and i == 0)
                if made is not None:
                    found.append(Stretch(lo, hi, *made, i, j))
    return found


def cover(found: Sequence[Stretch], weights: Sequence[float], limit: int) -> tuple[Stretch, ...]:
    """The stretches from the first cut to the last of least weight with at most `limit` bytes alive; where that is not
    possible, with the fewest bytes alive; () where none reach from first to last. found: of `stretches`. Dynamic
    programming over the cuts."""
    best: dict[int, tuple[tuple[int, float], tuple[Stretch, ...]]] = {0: ((limit, 0.0), ())}
    for s, weight in zip(found, weights, strict=True):
        if s.start in best:
            (alive, sum_), before = best[s.start]
            key = max(alive, s.alive), sum_ + weight
            if s.end not in best or key < best[s.end][0]:
                best[s.end] = key, (*before, s)
    return best.get(max((s.end for s in found), default=0), (None, ()))[1]


def no_rows(graph: Graph, shapes: Sequence[RowShape | None]) -> UnsupportedError:
    """Why the input cannot be taken row by row."""
    first = next((n for n, s in zip(graph.nodes, shapes, strict=True) if s is None), graph.nodes[0] if graph.nodes else None)
    return UnsupportedError(f"the input cannot be taken row by row: {first.op if first else 'an empty graph'} needs all of it",
                            where=", ".join(first.origin) if first else graph.name, fix="build without --stream-input")


def _region(graph: Graph, lo: int, hi: int, shapes: Sequence[RowShape | None], users, pushed: bool) -> tuple[Region, int] | None:
    """The nodes lo..hi-1 as one region, and the bytes alive at its worst tick; None where they cannot be one."""
    nodes = graph.nodes[lo:hi]
    groups = groups_of(graph, nodes, shapes[lo:hi], users)
    made = {g.output: k for k, g in enumerate(groups)}
    output = nodes[-1].outputs[0]
    outside = {r.tensor for g in groups for r in g.reads if r.tensor not in made}
    if groups[-1].output != output or len(outside) != 1 or any(o in graph.outputs for o in made if o != output):
        return None
    if len(groups) == 1 and groups[0].ticks == 1:
        return None
    if any(g.reduces for g in groups[:-1]):
        return None
    source = outside.pop()
    if pushed:
        groups.insert(0, push_group(graph, source, groups))
        made = {g.output: k for k, g in enumerate(groups)}
    found = _schedule(groups, made)
    if found is None:
        return None
    order, depth = found
    spans = _spans(graph, groups, order, depth, source, output)
    region = Region(tuple(groups), tuple(order), depth, output, spans, _push(groups[0], order) if pushed else None)
    prove(region)
    return region, _peak(spans, len(order))


def push_group(graph: Graph, source: str, groups: Sequence[Group]) -> Group:
    """The group that takes the rows of the region's input from the caller."""
    reads = next(r for g in groups for r in g.reads if r.tensor == source)
    return Group((), (), (), source, reads.height, reads.row * np.dtype(graph.type(source).dtype).itemsize, False)


def _push(taker: Group, order: Sequence[tuple[int, int]]) -> Push:
    """Each row with the ticks that follow it until the next one; rows that no tick takes are not needed."""
    at = {t: tick for tick, (k, t) in enumerate(order) if k == 0}
    starts = [0, *(at.get(t, len(order)) for t in range(1, taker.ticks)), len(order)]
    return Push(taker.output, taker.ticks, tuple(starts), tuple(range(1, taker.ticks + 1)))


def groups_of(graph: Graph, nodes, shapes, users) -> list[Group]:
    """Each node joins the group of the one whose only reader it is, row for row; the later of two such."""
    inside = {o: k for k, n in enumerate(nodes) for o in n.outputs}
    member: dict[int, list[int]] = {}
    owner: dict[int, int] = {}
    for k, shape in enumerate(shapes):
        join = [inside[r.tensor] for r in shape.reads if r.tensor in inside and r.one_to_one and len(users[r.tensor]) == 1
                and sum(r.tensor == s.tensor for s in shape.reads) == 1 and r.tensor not in graph.outputs]
        join = [j for j in join if not shapes[j].reduces and member[owner[j]][-1] == j]
        if join:
            owner[k] = owner[max(join)]
            member[owner[k]].append(k)
        else:
            owner[k] = k
            member[k] = [k]
    found = []
    for ks in member.values():
        own = {o for k in ks for o in nodes[k].outputs}
        last = ks[-1]
        out = graph.type(nodes[last].outputs[0])
        found.append((last, Group(tuple(nodes[k] for k in ks), tuple(shapes[k] for k in ks),
                                  tuple(r for k in ks for r in shapes[k].reads if r.tensor not in own), nodes[last].outputs[0],
                                  shapes[last].height, shapes[last].row * np.dtype(out.dtype).itemsize, shapes[last].reduces)))
    return [g for _, g in sorted(found, key=lambda f: f[0])]


def _schedule(groups: list[Group], made: dict[str, int]) -> tuple[list[tuple[int, int]], dict[str, int]] | None:
    """The order of ticks with the shortest rings: each starts at the height of its tallest reader and grows only where
    no order exists."""
    depth, height = {}, {}
    for g in groups:
        for r in g.reads:
            if r.tensor in made:
                height[r.tensor] = r.height
                depth[r.tensor] = min(max(depth.get(r.tensor, 1), r.dilation * (r.kernel - 1) + 1), r.height)
    while True:
        try:
            return _pulled(groups, made, depth), depth
        except _Deepen as e:
            tensor = e.args[0]
            if depth[tensor] >= height[tensor]:
                return None
            depth[tensor] += 1


def _pulled(groups: list[Group], made: dict[str, int], depth: dict[str, int]) -> list[tuple[int, int]]:
    done, order, active = [0] * len(groups), [], set()
    readers: dict[str, list[tuple[int, Reads]]] = {}
    for k, g in enumerate(groups):
        for r in g.reads:
            readers.setdefault(r.tensor, []).append((k, r))

    def tick(k: int) -> None:
        g, t = groups[k], done[k]
        if k in active:
            raise _Deepen(g.output)
        active.add(k)
        for r in g.reads:
            if r.tensor in made:
                maker = made[r.tensor]
                while done[maker] <= r.window(t)[1]:
                    tick(maker)
        if g.output in depth:  # who still needs the row whose place this one takes goes first
            oldest = t - depth[g.output]
            for reader, r in readers[g.output]:
                while oldest >= 0 and done[reader] < groups[reader].ticks and r.window(done[reader])[0] <= oldest:
                    tick(reader)
        order.append((k, t))
        done[k] += 1
        active.discard(k)

    while done[-1] < groups[-1].ticks:
        tick(len(groups) - 1)
    return order


def prove(region: Region) -> None:
    """Replays the order: every row read was made and is still in its ring. Raises AssertionError otherwise."""
    made = {g.output: 0 for g in region.groups}
    for k, t in region.order:
        g = region.groups[k]
        for r in g.reads:
            lo, hi = r.window(t)
            if r.tensor in made:
                assert hi < made[r.tensor] and lo >= made[r.tensor] - region.depth[r.tensor], (g.output, t, r.tensor)
        if not g.reduces:
            assert made[g.output] == t, (g.output, t)
            made[g.output] += 1


def _spans(graph: Graph, groups, order, depth, source: str, output: str) -> dict[str, tuple[tuple[int, int, int, int], ...]]:
    """tensor -> parts (byte offset, bytes, first tick, last tick): rows of the region's input and output, slots of rings."""
    last_read: dict[tuple[str, int], int] = {}
    written: dict[tuple[str, int], int] = {}
    for tick, (k, t) in enumerate(order):
        for r in groups[k].reads:
            for row in r.rows(t):
                last_read[r.tensor, row] = tick
        written[groups[k].output, t] = tick
    end = len(order) - 1
    spans = {}
    for g in groups:
        if g.reduces:
            spans[g.output] = ((0, g.row_bytes, end, end),)
        elif g.output == output:
            spans[output] = tuple((t * g.row_bytes, g.row_bytes, written[output, t], end) for t in range(g.ticks))
        else:
            spans[g.output] = tuple(
                _slot(g, s, depth[g.output], written, last_read) for s in range(depth[g.output]) if (g.output, s) in written
            )
    if source in spans:  # its rows are pushed: a ring like any other
        return spans
    reads = next(r for g in groups for r in g.reads if r.tensor == source)
    row_bytes = reads.row * np.dtype(graph.type(source).dtype).itemsize
    spans[source] = tuple((row * row_bytes, row_bytes, 0, last_read.get((source, row), 0)) for row in range(reads.height))
    return spans


def _slot(g: Group, slot: int, depth: int, written, last_read) -> tuple[int, int, int, int]:
    """One place of a ring: alive from the first row written there to the last read of any, or its writing."""
    rows = [t for t in range(slot, g.ticks, depth) if (g.output, t) in written]
    first = written[g.output, rows[0]]
    return (slot * g.row_bytes, g.row_bytes, first, max(last_read.get((g.output, t), written[g.output, t]) for t in rows))


def _peak(spans, ticks: int) -> int:
    alive = np.zeros(ticks + 1, np.int64)
    for parts in spans.values():
        for _, size, first, last in parts:
            alive[first] += size
            alive[last + 1] -= size
    return int(np.cumsum(alive).max())
