"""Inputs that arrive row by row (`--stream-input`): camera lines, frames of a spectrogram.

Two kinds. By window: the rows of one input after the other; the region that begins at the input (`stream.regions`)
takes each row when its schedule needs it. Sliding: the window moves on over an endless sequence of rows; all rings
and the rows that the last layer of the region has made are kept, so that a new result costs only the new rows. That
gives the bits of a run over the whole window only where no layer pads in the direction of the rows, because a padded
row belongs to one window alone.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from math import lcm

import numpy as np

from . import stream
from .errors import UnsupportedError
from .ir import Graph, Node
from .onnx_in import evaluate_ir
from .ops.spatial import Reads
from .order import MOVES, cut_positions, last_uses
from .stream import Group, Push, Region

EACH = ("QuantizeLinear", "DequantizeLinear", "Cast", "edgec.Lut", "edgec.Offset")  # between the moves, element by element
MOST_ROWS = 4096  # in the tables of a sliding window


def input_by_rows(graph: Graph) -> Graph:
    """The graph with the reshapes and transpositions at its input taken away: rows come as the first layer reads them,
    channels last. Tensor.perm of the new input says how it was transposed.

    Raises UnsupportedError for more than one input, and where the first layer reads the input in no plain order."""
    if len(graph.inputs) != 1:
        raise UnsupportedError(
            f"row by row one input can be taken, the model has {len(graph.inputs)}",
            where=", ".join(graph.inputs),
            fix="build without --stream-input",
        )
    source, users = graph.inputs[0], graph.consumers()
    t = graph.type(source)
    order, at, chain, moved = np.arange(t.size, dtype=np.int64).reshape(t.shape), source, [], 0
    while at not in graph.outputs and len(users.get(at, ())) == 1 and (users[at][0].op in MOVES or _each(graph, users[at][0])):
        node = users[at][0]
        chain.append(node)
        at = node.outputs[0]
        if node.op in MOVES:
            order = evaluate_ir(node, [order, *(graph.const(i) for i in node.inputs[1:])])[
                0
            ]  # where each element was in the input
            moved = len(chain)
    chain = chain[:moved]
    perm = _as_transposition(order, t.shape)
    if perm is None:
        raise UnsupportedError(
            "the input cannot be taken row by row: its elements are permuted",
            where=", ".join(chain[-1].origin),
            fix="build without --stream-input",
        )
    return _without_moves(graph, source, chain, order.shape, perm) if chain else graph


def _each(graph: Graph, node: Node) -> bool:
    """Whether the node treats all elements alike."""
    return node.op in EACH and all(
        graph.const(i) is not None and (graph.type(i).size == 1 or node.op == "edgec.Lut") for i in node.inputs[1:] if i
    )


def _without_moves(graph: Graph, source: str, chain: list[Node], shape: tuple[int, ...], perm: tuple[int, ...]) -> Graph:
    """The chain's moves are gone; what it does to each element is done to a tensor of the last shape."""
    rename, tensors = {}, dict(graph.tensors)
    for node in chain:
        start = rename.get(node.inputs[0], node.inputs[0])
        if node.op in MOVES:
            rename[node.outputs[0]] = start
            del tensors[node.outputs[0]]
    gone = {n.outputs[0] for n in chain if n.op in MOVES}
    perm = perm if perm != tuple(range(len(perm))) else None
    for name in [source, *(n.outputs[0] for n in chain if n.op not in MOVES)]:
        old = tensors[name]
        tensors[name] = replace(old, type=replace(old.type, shape=tuple(shape)), source=old.source or name, perm=perm)
    nodes = tuple(n.with_(inputs=tuple(rename.get(i, i) for i in n.inputs)) for n in graph.nodes if n.outputs[0] not in gone)
    return replace(graph, nodes=nodes, tensors=tensors)


def _as_transposition(order: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The axes of a transposition of `shape` that gives the flat order; None where no transposition does."""
    plain = np.arange(order.size).reshape(shape)
    return next(
        (p for p in permutations(range(len(shape))) if np.array_equal(plain.transpose(p).reshape(-1), order.reshape(-1))), None
    )


# --- sliding windows ----------------------------------------------------------------------------


def sliding_region(graph: Graph) -> Region:
    """The longest run of layers from the input whose rows do not depend on where the window begins.

    Raises UnsupportedError where the first layer's rows do."""
    shapes = [stream.shape_of(graph, n) for n in graph.nodes]
    users = graph.consumers()
    best = None
    for hi in cut_positions(graph, last_uses(graph))[1:]:
        if not all(s is not None and _moves_along(s) for s in shapes[:hi]):
            break
        output = graph.nodes[hi - 1].outputs[0]
        groups = stream.groups_of(graph, graph.nodes[:hi], shapes[:hi], users)
        if groups[-1].output == output and not any(g.output in graph.outputs for g in groups[:-1]):
            best = groups
    if best is None:
        first = next((n for n, s in zip(graph.nodes, shapes, strict=True) if s is None or not _moves_along(s)), graph.nodes[0])
        raise UnsupportedError(
            f"no sliding window: the rows of {first.op} depend on where the window begins (padding, or it needs all rows)",
            where=", ".join(first.origin),
            fix="export the model without padding along time, or use --stream-input alone",
        )
    return _sliding(graph, best)


def _moves_along(shape) -> bool:
    """Row t of the output is made from rows t*stride .. alone, and none is padding."""
    return not shape.reduces and all(
        r.pad == 0 and (shape.height - 1) * r.stride + r.dilation * (r.kernel - 1) < r.height for r in shape.reads)


def _sliding(graph: Graph, groups: list[Group]) -> Region:
    source = graph.inputs[0]
    groups = [stream.push_group(graph, source, groups), *groups]
    made = {g.output: k for k, g in enumerate(groups)}
    stride = {source: 1}
    for g in groups[1:]:
        for r in g.reads:
            if stride.setdefault(g.output, stride[r.tensor] * r.stride) != stride[r.tensor] * r.stride:
                raise UnsupportedError("no sliding window: two branches have different strides along time",
                                       where=", ".join(g.nodes[-1].origin), fix="use --stream-input alone")
    rows, hop, output = groups[0].ticks, stride[groups[-1].output], groups[-1].output
    depth = _depths(groups, made, stride, rows)
    period = lcm(*(stride[t] * d for t, d in depth.items()), hop)
    if rows + period > MOST_ROWS:  # powers of two have a small common multiple
        depth = {t: 1 << (d - 1).bit_length() for t, d in depth.items()}
        period = lcm(*(stride[t] * d for t, d in depth.items()), hop)
    frames = rows - 1 + period
    order, starts = [], []
    for ticks in _eager(groups, made, frames):
        starts.append(len(order))
        order += ticks
    progress = tuple(min(f + 1, rows) if f < rows else rows - (hop - (f - rows + 1) % hop) % hop for f in range(frames))
    heights = {source: frames} | {o: frames for g in groups for n in g.nodes for o in n.outputs}
    region = Region(tuple(groups), tuple(order), depth, output, {},
                    Push(source, rows, (*starts, len(order)), progress, rows - 1, True, heights))
    prove(region, made)
    return region


def _eager(groups: Sequence[Group], made: dict[str, int], frames: int):
    """The ticks of each frame: every group makes its row as soon as the rows that it reads are there."""
    done = [0] * len(groups)
    for _ in range(frames):
        ticks = []
        for k, g in enumerate(groups):
            if all(done[made[r.tensor]] > _last(r, done[k]) for r in g.reads):
                ticks.append((k, done[k]))
                done[k] += 1
        yield ticks


def _last(r: Reads, t: int) -> int:
    return t * r.stride + r.dilation * (r.kernel - 1)


def _depths(groups: Sequence[Group], made: dict[str, int], stride: dict[str, int], rows: int) -> dict[str, int]:
    """Rows that each ring must hold: what a reader's first row spans, and how far the maker has gone by then."""
    depth: dict[str, int] = {}
    done = [0] * len(groups)
    for ticks in _eager(groups, made, 3 * rows):
        for k, t in ticks:
            for r in groups[k].reads:
                depth[r.tensor] = max(depth.get(r.tensor, 1), done[made[r.tensor]] - t * r.stride)
            done[k] += 1
    return depth


def prove(region: Region, made: dict[str, int]) -> None:
    """Replays the order with its loop taken twice: every row read is there and still in its ring, and after the loop
    every ring is where it was. Raises AssertionError otherwise."""
    p, groups = region.push, region.groups
    done = [0] * len(groups)
    frames = [*range(len(p.progress)), *range(p.loop, len(p.progress))]
    for f in frames:
        for k, t in region.order[p.starts[f]:p.starts[f + 1]]:
            g = groups[k]
            assert t % region.depth.get(g.output, 1) == done[k] % region.depth.get(g.output, 1), (g.output, t)
            for r in g.reads:
                ring, first = region.depth[r.tensor], done[k] * r.stride
                assert t * r.stride % ring == first % ring, (g.output, t, r.tensor)
                assert _last(r, done[k]) < done[made[r.tensor]] <= first + ring, (g.output, t, r.tensor)
            done[k] += 1
