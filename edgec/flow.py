"""Which channel becomes which: how channels pass through the operators of the integer graph.

A layer (Conv, Gemm) mixes its inputs' channels; what lies between layers passes them on, so that a channel before and
the one that it becomes stay or go together. An operator that this file does not know keeps all its channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .ir import Graph, Node, TensorType

Array = np.ndarray

SAME = ("edgec.Lut", "edgec.Offset", "MaxPool", "AveragePool", "Pad", "Identity")
BINARY = ("Add", "Sub", "Mul")
VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


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


def tracked(t: TensorType) -> bool:
    """Quantised activations: 8-bit integers that stand for reals."""
    return t.q is not None and t.dtype in ("int8", "uint8")


def dense(node: Node) -> bool:
    """A layer in which every output channel reads every input channel: their weights decide which do."""
    return node.op == "Gemm" or node.op == "Conv" and int(node.attrs.get("group", 1)) == 1


def flow(graph: Graph, node: Node, axes: Mapping[str, int | None]) -> Flow:
    """The flow of a node; axes: the channel axis of every tracked tensor before it."""
    opaque = Flow({o: None for o in node.outputs})
    if not all(tracked(graph.type(t)) for t in (*node.inputs[:1], *node.outputs) if t):
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
    pool, last = node.op in ("MaxPool", "AveragePool"), len(graph.type(x).shape) - 1
    if axis is None or pool and (axis != last or not node.attrs.get("channels_last")):
        return None
    if node.op == "Pad" and pad_value(graph, node, axis) is None:
        return None
    return Flow({y: axis}, (_identity(graph, x, y, axis, axis),), True)


def pad_value(graph: Graph, node: Node, axis: int) -> int | None:
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
