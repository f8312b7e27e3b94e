"""Region -> one step of the loop IR that runs its layers row by row; the caller's rows too, where it takes those."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from .dtypes import numpy_type
from .ir import Graph, origins
from .loops import Bin, Call, Const, For, Function, If, Layer, Let, Load, RowGroup, RowRead, Stmt, Store, Var, add, cast
from .ops import table
from .ops.spatial import At
from .stream import Group, Push, Region


def lower_region(ctx, region: Region, index: int) -> Function:
    """The step: a loop over the schedule, a branch per group. ctx: the lowering of the program (lower.py); where rows are
    pushed, its `row` and `progress` name the buffers of the row and of how far the window is."""
    graph, sliding = ctx.graph, region.sliding
    ctx.open_pool()
    ctx.graph = _tall(graph, region.push)
    places = {r.tensor: At(ctx.buffer(r.tensor)) for g in region.groups for r in g.reads if r.tensor not in region.depth}
    for tensor, depth in region.depth.items():
        places[tensor] = _ring(ctx, tensor, depth, "state" if sliding else "arena")
    places[region.output], moved = _window_output(ctx, graph, region.output) if sliding else (At(ctx.buffer(region.output)), ())
    ticks = [1 + max((t for j, t in region.order if j == k), default=0) for k in range(len(region.groups))]
    bodies = []
    for k, g in enumerate(region.groups):
        row = Bin("min", Var("row"), Const(ticks[k] - 1)) if ticks[k] < max(ticks) else Var("row")
        bodies.append(_group(ctx, g, dict(places), row) if g.nodes else _taken(ctx, g, places[g.output], row))
    bodies[-1] = (*moved, *bodies[-1])
    ctx.close_pool()
    spans = {ctx.buffers[ctx.of[t]].alias or ctx.of[t]: parts for t, parts in region.spans.items()}
    if region.push and not sliding:  # the row lies there while it is taken
        spans[ctx.row] = tuple((0, region.groups[0].row_bytes, t, t) for t, (k, _) in enumerate(region.order) if k == 0)
    body = _frame(ctx, region, bodies) if region.push else _schedule(ctx, region, bodies)
    groups = tuple(_rows_of(ctx, region, g, places, n) for g, n in zip(region.groups, ticks, strict=True))
    ctx.graph = graph
    return Function(
        ctx.identifier(f"{index}_stream", prefix="step_"),
        body,
        origins(region.nodes),
        (),
        "Stream",
        ctx.count,
        (region.output,),
        1 if sliding else len(region.order),
        spans,
        groups=groups,
        order=tuple(k for k, _ in region.order),
        repeat=region.push.starts[region.push.loop] if sliding else None,
    )


def _ring(ctx, tensor: str, depth: int, place: str) -> At:
    t = ctx.type(tensor)
    ctx.of[tensor] = ctx.add_buffer(tensor, t.dtype, depth * t.shape[2] * t.shape[3], place)
    return At(ctx.of[tensor], depth)


def _group(ctx, g: Group, places: dict[str, At], row) -> tuple[Stmt, ...]:
    """The statements of one tick: each node writes where the next one reads; an in-place one over its input."""
    target = places[g.output]
    targets = [target]
    for k in range(len(g.nodes) - 1, 0, -1):
        t = ctx.type(g.nodes[k - 1].outputs[0])
        if not g.shapes[k].inplace:
            target = At(ctx.shared(f"row_{k % 2}", t.dtype, g.shapes[k - 1].row), 1)
        targets.insert(0, target)
    body: list[Stmt] = []
    for node, shape, target in zip(g.nodes, g.shapes, targets, strict=True):
        ctx.node, before = node, ctx.count
        emit = table.OPS[node.op].rows[1](ctx, node)
        layer = Layer(node.origin, node.op, ctx.count - before)
        body += _of_layer(emit(row, tuple(places[r.tensor] for r in shape.reads), target), layer)
        places[node.outputs[0]] = target
    return tuple(body)


def _of_layer(body: Iterable[Stmt], layer: Layer) -> list[Stmt]:
    """The statements with every kernel call marked as one of this layer."""
    def one(s: Stmt) -> Stmt:
        match s:
            case Call():
                return replace(s, layer=layer)
            case For():
                return replace(s, body=tuple(map(one, s.body)))
            case If():
                return replace(s, then=tuple(map(one, s.then)), orelse=tuple(map(one, s.orelse)))
        return s

    return list(map(one, body))


def _schedule(ctx, region: Region, bodies: list, lo=None, hi=None) -> tuple[Stmt, ...]:
    """The ticks lo .. hi-1 of the region's order; all of them where no bounds are given."""
    if len(bodies) == 1:
        return (For("row", Const(0), Const(region.groups[0].ticks), bodies[0]),)
    kind = _unsigned([t for _, t in region.order])
    which = ctx.rom(np.array([k for k, _ in region.order], np.uint8), f"{region.output}_order")
    rows = ctx.rom(np.array([t for _, t in region.order], kind), f"{region.output}_rows")
    chain = bodies[-1]
    for k in range(len(bodies) - 2, -1, -1):
        chain = (If(Bin("==", Var("group"), Const(k)), bodies[k], chain),)
    tick = Var("tick")
    turn = (
        Let("group", "int32", cast(Load(which, tick, "uint8"), "int32")),
        Let("row", "int32", cast(Load(rows, tick, kind), "int32")),
    )
    return (For("tick", lo or Const(0), hi or Const(len(region.order)), (*turn, *chain)),)


def _rows_of(ctx, region: Region, g: Group, places: dict[str, At], rows: int) -> RowGroup:
    """The rows that a group reads and writes, as buffers hold them."""
    def buffer(tensor: str) -> str:
        return ctx.buffers[places[tensor].buffer].alias or places[tensor].buffer

    reads = [
        RowRead(
            buffer(r.tensor),
            r.kernel,
            r.stride,
            r.dilation,
            r.pad,
            region.push.heights[r.tensor] if region.sliding else r.height,
            r.row * numpy_type(ctx.type(r.tensor).dtype).itemsize,
            places[r.tensor].ring,
        )
        for r in g.reads
    ]
    slides = region.sliding and g.output == region.output
    return RowGroup(tuple(reads), buffer(g.output), rows, g.row_bytes, 0 if slides else places[g.output].ring, g.reduces,
                    "" if g.nodes else ctx.row, slides)


# --- rows that the caller pushes ------------------------------------------------------------------


def _taken(ctx, g: Group, ring: At, row) -> tuple[Stmt, ...]:
    """The tick that moves a row of the caller's into its ring."""
    t = ctx.type(g.output)
    n = t.shape[2] * t.shape[3]
    ctx.row = ctx.add_buffer(f"{g.output}_row", t.dtype, n, "input")
    to, i = ring.ref(row, n), Var("i")
    return (For("i", Const(0), Const(n), (Store(to.buffer, add(to.index, i), Load(ctx.row, i, t.dtype)),)),)


def _frame(ctx, region: Region, bodies: list) -> tuple[Stmt, ...]:
    """The ticks of one row, and the state that says which row comes next."""
    p = region.push
    frames = len(p.progress)
    start = ctx.rom(np.array(p.starts, _unsigned(p.starts)), f"{region.output}_starts")
    progress = ctx.rom(np.array(p.progress, np.uint16), f"{region.output}_progress")
    count = ctx.add_buffer("next_row", "uint16", 1, "state")
    ctx.progress = ctx.add_buffer("progress", "uint16", 1, "state")
    frame = Var("frame")

    def begin(k):
        return cast(Load(start, k, ctx.buffers[start].dtype), "int32")

    following = If(Bin("==", frame, Const(frames - 1)), (Store(count, Const(0), Const(p.loop, "uint16")),),
                   (Store(count, Const(0), cast(add(frame, 1), "uint16")),))
    return (Let("frame", "int32", Bin("min", cast(Load(count, Const(0), "uint16"), "int32"), Const(frames - 1))),
            *_schedule(ctx, region, bodies, begin(frame), begin(add(frame, 1))), following,
            Store(ctx.progress, Const(0), Load(progress, frame, "uint16")))


def _tall(graph: Graph, push: Push | None) -> Graph:
    """The graph in which the tensors of a sliding region have as many rows as its order counts: none of them is padding."""
    if push is None or not push.heights:
        return graph
    tensors = dict(graph.tensors)
    for name, rows in push.heights.items():
        t = tensors[name]
        tensors[name] = replace(t, type=replace(t.type, shape=(1, rows, *t.type.shape[2:])))
    return replace(graph, tensors=tensors)


def _window_output(ctx, graph: Graph, output: str) -> tuple[At, tuple[Stmt, ...]]:
    """The window's rows of a sliding region's output: where a new one is made, and how the others move up before."""
    t = graph.type(output)
    row, i = t.shape[2] * t.shape[3], Var("i")
    buffer = ctx.of[output] = ctx.add_buffer(output, t.dtype, t.size, "state")
    if t.size == row:
        return At(buffer, 1), ()
    moved = For("i", Const(0), Const(t.size - row), (Store(buffer, i, Load(buffer, add(i, row), t.dtype)),))
    return At(buffer, 1, t.size - row), (moved,)


def _unsigned(values) -> str:
    return "uint8" if max(values) < 256 else "uint16" if max(values) < 65536 else "uint32"
