"""Which integers each channel of a quantised tensor can hold, whatever the inputs: intervals over the integer graph.

Every operator here but a table is monotone in each operand, so the ends of intervals go through its own reference. A
convolution's padding holds the input's zero point: its outputs are bounded for each set of taps that lies inside the
picture at some position, and the range is the hull over these sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from .fixed import bounds, requant
from .flow import BINARY, Flow, flow, pad_value, tracked
from .ir import Graph, Node, TensorType
from .ops import pool, table
from .ops.conv import integer_parts
from .ops.spatial import Window, window

Array = np.ndarray


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


def of_type(t: TensorType) -> Range:
    """Everything that the element type holds."""
    info = np.iinfo(t.dtype)
    return Range(None, np.array([info.min], np.int64), np.array([info.max], np.int64))


def of_constant(value: Array, axis: int | None) -> Range:
    """What a constant holds, per channel of `axis`."""
    rows = value.reshape(1, -1) if axis is None else np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1)
    rows = rows.astype(np.int64)
    return Range(axis, rows.min(1), rows.max(1))


def ranges(graph: Graph) -> tuple[dict[str, Range], dict[int, Flow]]:
    """The range of every tracked run-time tensor by name, and the flow of every node by id(node)."""
    found = {n: of_type(graph.type(n)) for n in graph.inputs if tracked(graph.type(n))}
    flows = {}
    for node in graph.nodes:
        flows[id(node)] = flow(graph, node, {n: r.axis for n, r in found.items()})
        for name in filter(None, node.outputs):
            if tracked(graph.type(name)):
                found[name] = _range(graph, node, name, flows[id(node)], found)
    return found, flows


def _range(graph: Graph, node: Node, name: str, of: Flow, found: Mapping[str, Range]) -> Range:
    axis, t = of.axes.get(name), graph.type(name)
    if axis is None:
        return of_type(t)
    if node.op in ("Conv", "Gemm"):
        return _layer_range(graph, node, found)
    if node.op in BINARY:
        return _binary_range(graph, node, axis, found)
    n = t.shape[axis]
    lo, hi = np.full(n, np.iinfo(np.int64).max), np.full(n, np.iinfo(np.int64).min)
    for link in of.links:
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
        value = pad_value(graph, node, axis)
        return np.minimum(lo, value), np.maximum(hi, value)
    if node.op in ("MaxPool", "AveragePool"):
        x_t = graph.type(node.inputs[0])
        inside = _masks(window(node, x_t.shape[1:-1])).sum(1)
        if node.op == "AveragePool":
            return pool.mean_of(graph, node, lo, inside).min(0), pool.mean_of(graph, node, hi, inside).max(0)
        return np.minimum(lo, np.iinfo(x_t.dtype).min) if inside.min() == 0 else lo, hi
    return lo, hi


def _binary_range(graph: Graph, node: Node, axis: int, found: Mapping[str, Range]) -> Range:
    y_t = graph.type(node.outputs[0])
    rank, n = len(y_t.shape), y_t.shape[axis]
    ends = []
    for i in node.inputs:
        own = axis - rank + len(graph.type(i).shape)  # the same axis, counted from the operand's first
        own = own if own >= 0 and graph.type(i).shape[own] == n else None
        held = of_constant(graph.const(i), own) if graph.const(i) is not None else found.get(i, of_type(graph.type(i)))
        ends.append(held.along(own, n))
    types, reference = [graph.type(i) for i in node.inputs], table.OPS[node.op].reference
    corners = [reference(node, [a, b], types, [y_t])[0].astype(np.int64) for a in ends[0] for b in ends[1]]
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
