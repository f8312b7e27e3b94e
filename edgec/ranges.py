"""Which integers each channel of a quantised tensor can hold, whatever the inputs: intervals over the integer graph.

Every operator here is monotone in each operand, so the ends of an interval go through the operator's own reference. A
convolution's padding holds the input's zero point: its outputs are bounded for each set of taps that lies inside the
picture at some position, and the range is the hull over these sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from .fixed import bounds, requant
from .ir import Graph, Node, TensorType
from .ops import pool, table
from .ops.conv import integer_parts
from .ops.spatial import Window, window

Array = np.ndarray

SAME = ("edgec.Lut", "edgec.Offset", "MaxPool", "AveragePool", "Pad", "Identity")
BINARY = ("Add", "Sub", "Mul")
VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


@dataclass(frozen=True, eq=False)
class Range:
    """lo, hi: int64, one pair per index of the tensor's channel axis; axis None: one pair for the whole tensor."""

    axis: int | None
    lo: Array
    hi: Array

    @property
    def constant(self) -> Array:
        """bool per channel: it can hold one value only."""
        return self.lo == self.hi

    def along(self, axis: int | None, n: int) -> tuple[Array, Array]:
        """(lo, hi) of n channels of `axis`; the hull of all channels where the range is kept along another axis."""
        if self.axis is not None and self.axis == axis:
            return self.lo, self.hi
        return np.full(n, self.lo.min()), np.full(n, self.hi.max())


@dataclass(frozen=True, eq=False)
class Link:
    """Channel source[k] of tensor `input` is channel target[k] of tensor `output`: both stay or both go."""

    input: str
    source: Array
    output: str
    target: Array


@dataclass(frozen=True, eq=False)
class Flow:
    """axes: the channel axis of each output. links: channels that pass through. free: the node may be rewritten for
    fewer channels; otherwise those of all its tensors stay."""

    axes: Mapping[str, int | None]
    links: tuple[Link, ...] = ()
    free: bool = False


def of_type(t: TensorType) -> Range:
    """Everything that the element type holds."""
    info = np.iinfo(t.dtype)
    return Range(None, np.array([info.min], np.int64), np.array([info.max], np.int64))


def of_constant(value: Array, axis: int | None) -> Range:
    """What a constant holds, per channel of `axis`."""
    rows = value.reshape(1, -1) if axis is None else np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1)
    rows = rows.astype(np.int64)
    return Range(axis, rows.min(1), rows.max(1))


def tracked(t: TensorType) -> bool:
    """Quantised activations: 8-bit integers that stand for reals."""
    return t.q is not None and t.dtype in ("int8", "uint8")


def dense(node: Node) -> bool:
    """A layer in which every output channel reads every input channel: their weights decide which do."""
    return node.op == "Gemm" or node.op == "Conv" and int(node.attrs.get("group", 1)) == 1


def ranges(graph: Graph) -> tuple[dict[str, Range], dict[int, Flow]]:
    """The range of every tracked run-time tensor by name, and the flow of every node by id(node)."""
    found = {n: of_type(graph.type(n)) for n in graph.inputs if tracked(graph.type(n))}
    flows = {}
    for node in graph.nodes:
        flow = _flow(graph, node, {n: r.axis for n, r in found.items()})
        flows[id(node)] = flow
        for name in filter(None, node.outputs):
            if tracked(graph.type(name)):
                found[name] = _range(graph, node, name, flow, found)
    return found, flows


# --- which channel becomes which ---------------------------------------------------------------


def _flow(graph: Graph, node: Node, axes: Mapping[str, int | None]) -> Flow:
    opaque = Flow({o: None for o in node.outputs})
    integer = all(not o or tracked(graph.type(o)) for o in node.outputs) and (
        not node.inputs or tracked(graph.type(node.inputs[0]))
    )
    if not integer:
        return opaque
    if node.op in ("Conv", "Gemm"):
        return _layer_flow(graph, node, axes) or opaque
    rule = {"Transpose": _transpose, "Concat": _concat, "Split": _split, "Slice": _slice}.get(node.op)
    rule = rule or (_same if node.op in SAME else _binary if node.op in BINARY else _view if node.op in VIEWS else None)
    return rule(graph, node, axes) or opaque if rule is not None else opaque


def _identity(graph: Graph, input: str, output: str, axis: int, out_axis: int) -> Link:
    every = np.arange(graph.type(input).shape[axis])
    return Link(input, every, output, np.arange(graph.type(output).shape[out_axis]))


def _layer_flow(graph: Graph, node: Node, axes) -> Flow | None:
    x, y = node.inputs[0], node.outputs[0]
    constant = all(graph.const(i) is not None for i in node.inputs[1:] if i)
    if not constant or len(node.inputs) > 3 or (node.op == "Conv" and not node.attrs.get("channels_last")):
        return None
    last = len(graph.type(x).shape) - 1
    if dense(node):
        return Flow({y: last}, free=axes.get(x) in (None, last))
    if axes.get(x) != last:
        return Flow({y: last})
    group, c, oc = int(node.attrs["group"]), graph.type(x).shape[-1], graph.type(y).shape[-1]
    of_x, of_y = np.arange(c) // (c // group), np.arange(oc) // (oc // group)  # a group's channels go together
    return Flow(
        {y: last},
        (Link(x, np.arange(c), y, of_x * (oc // group)), Link(x, of_y * (c // group), y, np.arange(oc))),
        True,
    )


def _same(graph: Graph, node: Node, axes) -> Flow | None:
    x, y = node.inputs[0], node.outputs[0]
    axis = axes.get(x)
    if (
        axis is None
        or node.op in ("MaxPool", "AveragePool")
        and (axis != len(graph.type(x).shape) - 1 or not node.attrs.get("channels_last"))
    ):
        return None
    if node.op == "Pad" and _pad(graph, node, axis) is None:
        return None
    return Flow({y: axis}, (_identity(graph, x, y, axis, axis),), True)


def _pad(graph: Graph, node: Node, axis: int) -> int | None:
    """The integer that a Pad of other axes than `axis` writes; None for any other Pad."""
    t, pads = graph.type(node.inputs[0]), graph.const(node.inputs[1])
    if pads is None or len(node.inputs) > 3 and node.inputs[3] or node.attrs.get("mode", "constant") != "constant":
        return None
    value = graph.const(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    pads = pads.reshape(2, -1)
    if (value is None or value.dtype != t.dtype) or pads[:, axis].any() or (pads < 0).any():
        return None
    return int(value.reshape(()))


def _binary(graph: Graph, node: Node, axes) -> Flow | None:
    y = node.outputs[0]
    rank = len(graph.type(y).shape)
    shape = {i: (1,) * (rank - len(graph.type(i).shape)) + graph.type(i).shape for i in node.inputs}
    run_time = [i for i in dict.fromkeys(node.inputs) if graph.const(i) is None]
    known = {i: axes[i] + rank - len(graph.type(i).shape) for i in run_time if axes.get(i) is not None}
    axis = next((k for i, k in known.items() if shape[i] == graph.type(y).shape), None)
    if axis is None:
        return None
    n = graph.type(y).shape[axis]
    carried = [i for i in run_time if known.get(i) == axis and shape[i][axis] == n]
    whole = all(i in carried for i in run_time) and not any(shape[i][axis] not in (1, n) for i in node.inputs)
    return Flow({y: axis}, tuple(_identity(graph, i, y, axes[i], axis) for i in carried), whole)


def _transpose(graph: Graph, node: Node, axes) -> Flow | None:
    x, y = node.inputs[0], node.outputs[0]
    if axes.get(x) is None:
        return None
    axis = tuple(node.attrs["perm"]).index(axes[x])
    return Flow({y: axis}, (_identity(graph, x, y, axes[x], axis),), True)


def _view(graph: Graph, node: Node, axes) -> Flow | None:
    """A reshape keeps channels apart where one axis of its output alone says which channel an element belongs to."""
    x, y = node.inputs[0], node.outputs[0]
    axis, (x_t, y_t) = axes.get(x), (graph.type(x), graph.type(y))
    if axis is None:
        return None
    channel = np.arange(x_t.shape[axis]).reshape([-1 if k == axis else 1 for k in range(len(x_t.shape))])
    moved = np.broadcast_to(channel, x_t.shape).reshape(y_t.shape)
    for out_axis in range(len(y_t.shape)):
        rows = np.moveaxis(moved, out_axis, 0).reshape(y_t.shape[out_axis], -1)
        if y_t.shape[out_axis] >= x_t.shape[axis] and (rows == rows[:, :1]).all():
            return Flow({y: out_axis}, (Link(x, rows[:, 0], y, np.arange(len(rows))),), True)
    return None


def _concat(graph: Graph, node: Node, axes) -> Flow | None:
    y, at = node.outputs[0], int(node.attrs["axis"]) % len(graph.type(node.outputs[0]).shape)
    run_time = [i for i in node.inputs if graph.const(i) is None]
    if not run_time or any(axes.get(i) is None or axes[i] != axes[run_time[0]] for i in run_time):
        return None
    axis = axes[run_time[0]]
    links, start = [], 0
    for i in node.inputs:
        n = graph.type(i).shape[axis]
        if graph.const(i) is None:
            links.append(Link(i, np.arange(n), y, np.arange(n) + (start if at == axis else 0)))
        start += n
    return Flow({y: axis}, tuple(links), True)


def _split(graph: Graph, node: Node, axes) -> Flow | None:
    x = node.inputs[0]
    axis = axes.get(x)
    if axis is None or not all(node.outputs):
        return None
    at = int(node.attrs.get("axis", 0)) % len(graph.type(x).shape)
    links, start = [], 0
    for o in node.outputs:
        n = graph.type(o).shape[axis]
        links.append(Link(x, np.arange(n) + (start if at == axis else 0), o, np.arange(n)))
        start += n
    return Flow({o: axis for o in node.outputs}, tuple(links), True)


def _slice(graph: Graph, node: Node, axes) -> Flow | None:
    x, y = node.inputs[0], node.outputs[0]
    axis, cut = axes.get(x), slice_of(graph, node)
    if axis is None or cut is None or cut.get(axis, slice(None)).step not in (None, 1):
        return None
    kept = np.arange(graph.type(x).shape[axis])[cut.get(axis, slice(None))]
    return Flow({y: axis}, (Link(x, kept, y, np.arange(len(kept))),), True)


def slice_of(graph: Graph, node: Node) -> dict[int, slice] | None:
    """What a Slice node takes of each axis that it names; None where that is decided at run time."""
    given = [graph.const(i) for i in node.inputs[1:]]
    if any(v is None for v, i in zip(given, node.inputs[1:], strict=True) if i):
        return None
    starts, ends, which, steps = (*given, None, None)[:4]
    rank = len(graph.type(node.inputs[0]).shape)
    which = range(len(starts)) if which is None else [int(k) % rank for k in which]
    return {
        k: slice(int(s), int(e), 1 if steps is None else int(steps[j]))
        for j, (k, s, e) in enumerate(zip(which, starts, ends, strict=True))
    }


# --- which values it can hold ------------------------------------------------------------------


def _range(graph: Graph, node: Node, name: str, flow: Flow, found: Mapping[str, Range]) -> Range:
    axis, t = flow.axes.get(name), graph.type(name)
    if axis is None:
        return of_type(t)
    if node.op in ("Conv", "Gemm"):
        return _layer_range(graph, node, found)
    if node.op in BINARY:
        return _binary_range(graph, node, axis, found)
    n = t.shape[axis]
    lo, hi = np.full(n, np.iinfo(np.int64).max), np.full(n, np.iinfo(np.int64).min)
    for link in flow.links:
        if link.output == name:
            np.minimum.at(lo, link.target, found[link.input].lo[link.source])
            np.maximum.at(hi, link.target, found[link.input].hi[link.source])
    if node.op == "Concat":
        lo, hi = _with_constants(graph, node, axis, lo, hi)
    return Range(axis, *_applied(graph, node, axis, lo, hi))


def _with_constants(graph: Graph, node: Node, axis: int, lo: Array, hi: Array) -> tuple[Array, Array]:
    at, start = int(node.attrs["axis"]) % len(graph.type(node.outputs[0]).shape), 0
    for i in node.inputs:
        n = graph.type(i).shape[axis]
        if graph.const(i) is not None:
            r, part = of_constant(graph.const(i), axis), slice(start, start + n) if at == axis else slice(None)
            lo[part], hi[part] = np.minimum(lo[part], r.lo), np.maximum(hi[part], r.hi)
        start += n
    return lo, hi


def _applied(graph: Graph, node: Node, axis: int, lo: Array, hi: Array) -> tuple[Array, Array]:
    """The ends after an operator that treats each element by itself, or averages some of one channel."""
    if node.op == "edgec.Lut":
        entries = graph.const(node.inputs[1]).astype(np.int64)
        parts = [entries[a + 128 : b + 129] for a, b in zip(lo, hi, strict=True)]
        return np.array([p.min() for p in parts]), np.array([p.max() for p in parts])
    if node.op == "edgec.Offset":
        shift = -128 if node.attrs["to"] == "int8" else 128
        return lo + shift, hi + shift
    if node.op == "Pad":
        value = _pad(graph, node, axis)
        return np.minimum(lo, value), np.maximum(hi, value)
    if node.op == "MaxPool":
        empty = _masks(window(node, graph.type(node.inputs[0]).shape[1:-1])).sum(1).min() == 0
        return np.minimum(lo, np.iinfo(graph.type(node.inputs[0]).dtype).min) if empty else lo, hi
    if node.op == "AveragePool":
        ends = [
            pool.mean_of(graph, node, end, _masks(window(node, graph.type(node.inputs[0]).shape[1:-1])).sum(1))
            for end in (lo, hi)
        ]
        return ends[0].min(0), ends[1].max(0)
    return lo, hi


def _binary_range(graph: Graph, node: Node, axis: int, found: Mapping[str, Range]) -> Range:
    y_t = graph.type(node.outputs[0])
    rank, n = len(y_t.shape), y_t.shape[axis]
    ends = []
    for i in node.inputs:
        own = axis - rank + len(graph.type(i).shape)  # the same axis, counted from the operand's first
        own = own if own >= 0 and graph.type(i).shape[own] == n else None
        value = graph.const(i)
        ends.append(
            (of_constant(value, own) if value is not None else found.get(i, of_type(graph.type(i)))).along(own, n)
        )
    types, out = [graph.type(i) for i in node.inputs], [y_t]
    corners = [
        table.OPS[node.op].reference(node, [a, b], types, out)[0].astype(np.int64) for a in ends[0] for b in ends[1]
    ]
    return Range(axis, np.min(corners, 0), np.max(corners, 0))


@dataclass(frozen=True, eq=False)
class Layer:
    """A Conv or Gemm node as sums: w int64 [groups][outputs of a group][taps][inputs of a group]; masks bool
    [cases][taps]: for each case that occurs which taps lie inside the picture; bias int64 [outputs], zero points
    folded in."""

    w: Array
    masks: Array
    bias: Array
    zero_point: int


def layer(graph: Graph, node: Node) -> Layer:
    """The sums of a Conv or Gemm node with constant weights."""
    x_t, w_t = graph.type(node.inputs[0]), graph.type(node.inputs[1])
    w = graph.const(node.inputs[1]).astype(np.int64)
    group = int(node.attrs.get("group", 1)) if node.op == "Conv" else 1
    masks = np.ones((1, 1), bool) if node.op == "Gemm" else _masks(window(node, x_t.shape[1:-1], w_t.shape[1:-1]))
    return Layer(
        w.reshape(group, w.shape[0] // group, masks.shape[1], w.shape[-1]),
        masks,
        _parts(graph, node)[0],
        int(x_t.q.zero_point),
    )


def _parts(graph: Graph, node: Node):
    bias = graph.const(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    types = [graph.type(i).q for i in (*node.inputs[:2], node.outputs[0])]
    return integer_parts(graph.const(node.inputs[1]), bias, *types, node.attrs.get("top_scale"))


def _masks(win: Window) -> Array:
    """bool [cases][taps]: every set of taps that lies inside the picture at some output position."""
    inside = []
    for k, s, d, p, n, o in zip(
        win.kernel, win.strides, win.dilations, win.pads, win.in_size, win.out_size, strict=False
    ):
        at = (np.arange(o) * s - p)[:, None] + (np.arange(k) * d)[None]
        inside.append(np.unique((at >= 0) & (at < n), axis=0))
    rows, columns = inside
    return (rows[:, None, :, None] & columns[None, :, None, :]).reshape(-1, prod(win.kernel))


def sums(of: Layer, lo: Array, hi: Array) -> tuple[Array, Array]:
    """The ends of every output channel's accumulator, int64 [outputs], for inputs between lo and hi [inputs]."""
    groups, _, _, cg = of.w.shape
    a, b = (of.w * end.reshape(groups, 1, 1, cg) for end in (lo, hi))
    outside = of.zero_point * of.w.sum(-1)
    found = []
    for ends, pick in ((np.minimum(a, b).sum(-1), np.min), (np.maximum(a, b).sum(-1), np.max)):
        cases = [np.where(mask, ends, outside).sum(-1).reshape(-1) for mask in of.masks]
        found.append(pick(cases, 0) + of.bias)
    return found[0], found[1]


def _layer_range(graph: Graph, node: Node, found: Mapping[str, Range]) -> Range:
    x_t, y_t = graph.type(node.inputs[0]), graph.type(node.outputs[0])
    axis, value = len(x_t.shape) - 1, graph.const(node.inputs[0])
    x = of_constant(value, axis) if value is not None else found[node.inputs[0]]
    ends = sums(layer(graph, node), *x.along(axis, x_t.shape[-1]))
    mul, q = _parts(graph, node)[1], y_t.q
    lo, hi = (requant(e, mul, int(q.zero_point), *bounds(q, node.attrs.get("clip"))).astype(np.int64) for e in ends)
    return Range(len(y_t.shape) - 1, lo, hi)
