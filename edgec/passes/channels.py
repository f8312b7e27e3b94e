"""Channels that can hold one value only, and those that nothing reads, are removed with all that only feeds them.

A channel's constant goes into the bias of the layers that read it. Exact: every output keeps its bits for every input.
The integer graph is read as layers (Conv, Gemm), whose weights say which inputs an output depends on, and everything
between them, which passes channels on: those must go together. Padding holds the zero point, not the channel's
constant, so a padded layer lets a constant go only where it contributes the same at the border as inside.

Kernels compute channels in blocks of four, so a removed channel that fills a block costs nothing: it stays as a filler
that holds no meaning, whose row and column of weights are zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..fixed import multiplier
from ..flow import BINARY, VIEWS, dense, slice_of, tracked
from ..ir import Channels, Graph, Node, QParams, attrs
from ..ranges import Layer, Range, layer, of_constant, ranges, sums
from ..reference import run_node
from ..rewrite import Rewriter, Sweep, rewrite_nodes

Array = np.ndarray

BLOCK = 4  # channels that kernels compute together


def constant_layers(graph: Graph) -> Graph:
    """A layer whose every channel can hold one value only becomes that constant; so does what reads constants alone."""
    found, _ = ranges(graph)
    changed = False

    def rule(r: Sweep, node: Node):
        nonlocal changed
        y = node.outputs[0]
        if len(node.outputs) != 1 or not tracked(r.type(y)):
            return None
        inputs = [r.value(i) for i in node.inputs]
        if node.op != "Identity" and all(v is not None for v, i in zip(inputs, node.inputs, strict=True) if i):
            data = run_node(r, node, inputs)[0]
        elif found[y].axis is not None and found[y].constant.all():
            shape = [-1 if k == found[y].axis else 1 for k in range(len(r.type(y).shape))]
            data = np.broadcast_to(found[y].lo.astype(r.type(y).dtype).reshape(shape), r.type(y).shape)
        else:
            return None
        changed = True
        value = r.const(y + "/value", data, r.type(y).q)
        if y in r.outputs:
            return [Node("Identity", (value,), (y,), attrs(), node.origin)]
        r.rename(y, value)
        return []

    out = rewrite_nodes(graph, rule)
    return constant_layers(out) if changed else graph


def constant_channels(graph: Graph, block: int = BLOCK) -> Graph:
    """The pass of this file's heading."""
    return _Channels(graph, block).run()


class _Channels:
    """The channels of all tensors numbered through: `slots(tensor)` are those of one.

    live: an output depends on the channel. kept: it is live or a filler."""

    def __init__(self, graph: Graph, block: int):
        self.graph, self.block = graph, block
        self.ranges, self.flows = ranges(graph)
        self.start, self.count = {}, 0
        for name, r in self.ranges.items():
            if r.axis is not None:
                self.start[name] = self.count
                self.count += len(r.lo)
        self.unit = self._units()
        self.live = self._live()
        self.kept = self._kept()

    def slots(self, tensor: str) -> slice | None:
        """None where the tensor has no channel axis: nothing of it can go."""
        first = self.start.get(tensor)
        return None if first is None else slice(first, first + len(self.ranges[tensor].lo))

    def _units(self) -> Array:
        """Per channel the lowest-numbered one of those that must go together with it."""
        links = [k for f in self.flows.values() for k in f.links]
        a = np.concatenate([np.zeros(0, int), *(self.start[k.input] + k.source for k in links)])
        b = np.concatenate([np.zeros(0, int), *(self.start[k.output] + k.target for k in links)])
        unit, before = np.arange(self.count), None
        while before is None or not np.array_equal(unit, before):
            before = unit.copy()
            lowest = np.minimum(unit[a], unit[b])
            np.minimum.at(unit, a, lowest)
            np.minimum.at(unit, b, lowest)
        return unit

    def _pinned(self) -> Array:
        """Channels of the graph's outputs and inputs, and of operators that are not rewritten."""
        fixed = {*self.graph.inputs, *self.graph.outputs}
        for node in self.graph.nodes:
            if not self.flows[id(node)].free:
                fixed.update((*node.inputs, *node.outputs))
        pinned = np.zeros(self.count, bool)
        for name in fixed & self.start.keys():
            pinned[self.slots(name)] = True
        return pinned

    def _live(self) -> Array:
        live = self._pinned()
        layers = [n for n in self.graph.nodes if dense(n) and self.flows[id(n)].free and n.inputs[0] in self.start]
        reads = [(self.slots(n.inputs[0]), self.slots(n.outputs[0]), self._reads(n)) for n in layers]
        before = -1
        while before != live.sum():
            before = live.sum()
            for x, y, needed in reversed(reads):
                live = self._together(live)
                live[x] |= needed[live[y]].any(0)
        return self._together(live)

    def _together(self, chosen: Array) -> Array:
        """All channels that go together with a chosen one."""
        units = np.zeros(self.count, bool)
        units[self.unit[chosen]] = True
        return units[self.unit]

    def _reads(self, node: Node) -> Array:
        """bool [outputs][inputs] of a dense layer: the output depends on the input by more than a constant."""
        of, x, y = layer(self.graph, node), self.ranges[node.inputs[0]], self.ranges[node.outputs[0]]
        w = of.w[0]
        seen = _inside(of, 0)
        alike = np.all([_inside(of, k) == seen for k in range(len(of.masks))], 0)
        folds = x.constant & (alike | (x.lo == of.zero_point))
        return (w != 0).any(1) & ~folds & ~y.constant[:, None]

    def _kept(self) -> Array:
        """Fills the blocks of what layers make; of every other tensor at least one channel stays."""
        kept = self.live.copy()
        for node in self.graph.nodes:
            for name in node.outputs:
                s = self.slots(name)
                if s is None:
                    continue
                n = int(kept[s].sum())
                short = -n % self.block if n and node.op in ("Conv", "Gemm") else 0
                spare = np.unique(self.unit[s][~kept[s]])
                if n == 0 or len(spare) >= short > 0:
                    chosen = np.zeros(self.count, bool)
                    chosen[spare[: max(short, 1)]] = True
                    kept |= self._together(chosen)
        return kept

    # --- the smaller graph ---

    def run(self) -> Graph:
        if self.kept.all():
            return self.graph
        r = Rewriter(self.graph)
        for name in self.start:
            self._shrink(r, name)
        r.nodes = [self._node(r, node) for node in self.graph.nodes]
        return r.done()

    def _shrink(self, r: Rewriter, name: str) -> None:
        s, t = self.slots(name), r.tensors[name]
        kept = np.flatnonzero(self.kept[s])
        if self.live[s].all():
            return
        axis = self.ranges[name].axis
        shape = tuple(len(kept) if k == axis else n for k, n in enumerate(t.type.shape))
        channels = Channels(axis, t.type.shape[axis], tuple(np.where(self.live[s][kept], kept, -1).tolist()))
        r.tensors[name] = replace(t, type=replace(t.type, shape=shape), channels=channels)

    def _changed(self, name: str) -> bool:
        s = self.slots(name)
        return s is not None and not self.live[s].all()

    def _node(self, r: Rewriter, node: Node) -> Node:
        if not any(self._changed(t) for t in (*node.inputs, *node.outputs) if t):
            return node
        if dense(node):
            return self._dense(r, node)
        if node.op == "Conv":
            return self._grouped(r, node)
        if node.op in VIEWS:
            shape = r.const(node.outputs[0] + "/shape", np.array(r.type(node.outputs[0]).shape, np.int64))
            return Node("Reshape", (node.inputs[0], shape), node.outputs, attrs(), node.origin)
        if node.op in ("Concat", *BINARY):
            return self._operands(r, node)
        if node.op == "Split":
            axis = int(node.attrs.get("axis", 0))
            sizes = np.array([r.type(o).shape[axis] for o in node.outputs], np.int64)
            ins = (node.inputs[0], r.const(node.outputs[0] + "/sizes", sizes))
            return Node("Split", ins, node.outputs, attrs(axis=axis), node.origin)
        return self._slice(r, node) if node.op == "Slice" else node

    def _state(self, name: str, n: int) -> tuple[Array, Array]:
        """(kept, live) of a tensor's n channels."""
        s = self.slots(name)
        return (np.ones(n, bool), np.ones(n, bool)) if s is None else (self.kept[s], self.live[s])

    def _dense(self, r: Rewriter, node: Node) -> Node:
        """The layer without dead rows and columns: what those contributed, and constant rows, are in the bias."""
        x, y = self._operand(node), self.ranges[node.outputs[0]]
        of, shape = layer(self.graph, node), self.graph.type(node.inputs[1]).shape
        x_kept, x_live = self._state(node.inputs[0], shape[-1])
        y_kept, y_live = self._state(node.outputs[0], shape[0])
        w = of.w[0].copy()
        gone = np.where(x.constant & ~x_live, x.lo - of.zero_point, 0)
        bias = of.bias + of.zero_point * w.sum((1, 2)) + _inside(of, 0) @ gone
        bias = np.where(y.constant, sums(of, x.lo, x.hi)[0], bias)
        idle = y.constant | ~y_live
        w[:, :, ~x_live] = 0
        w[idle] = 0
        bias[~y_live] = 0
        w = w[y_kept][:, :, x_kept].reshape(-1, *shape[1:-1], int(x_kept.sum()))
        return self._layer(r, node, w, bias[y_kept], y_kept)

    def _operand(self, node: Node) -> Range:
        """The range of a layer's input along its last axis."""
        name, t = node.inputs[0], self.graph.type(node.inputs[0])
        value = self.graph.const(name)
        r = of_constant(value, len(t.shape) - 1) if value is not None else self.ranges[name]
        return Range(len(t.shape) - 1, *r.along(len(t.shape) - 1, t.shape[-1]))

    def _grouped(self, r: Rewriter, node: Node) -> Node:
        of, w = layer(self.graph, node), self.graph.const(node.inputs[1])
        y_kept, _ = self._state(node.outputs[0], w.shape[0])
        bias = of.bias + of.zero_point * w.astype(np.int64).reshape(w.shape[0], -1).sum(1)
        new = self._layer(r, node, w[y_kept], bias[y_kept], y_kept)
        return new.with_(attrs={"group": r.type(node.inputs[0]).shape[-1] // w.shape[-1]})

    def _layer(self, r: Rewriter, node: Node, w: Array, bias: Array, rows: Array) -> Node:
        """The node with these weights int [outputs][...] and biases, the kept `rows` of the old ones' scales."""
        old = r.tensors[node.inputs[1]]
        q = _rows(old.type.q, rows)
        weights = r.const(old.name + "/kept", w.astype(old.type.dtype), q)
        whole = np.iinfo(np.int32)
        dtype = np.int32 if whole.min <= bias.min() and bias.max() <= whole.max else np.int64
        unit = np.float64(self.graph.type(node.inputs[0]).q.scale) * q.scale.astype(np.float64)
        biases = r.const(node.outputs[0] + "/bias", bias.astype(dtype), QParams.of(unit.astype(np.float32), 0, 0))
        scale = np.float64(self.graph.type(node.inputs[0]).q.scale) / np.float64(r.type(node.outputs[0]).q.scale)
        all_scales, scales = (scale * np.float64(s.scale) for s in (old.type.q, q))
        one, other = multiplier(all_scales), multiplier(scales)
        extra = {"top_scale": float(all_scales.max())} if (one.f, one.pre) != (other.f, other.pre) else {}
        return node.with_(inputs=(node.inputs[0], weights, biases), attrs=extra)

    def _operands(self, r: Rewriter, node: Node) -> Node:
        """Constant operands lose the channels that the output lost; a Concat loses a constant with nothing left."""
        y, inputs, start = node.outputs[0], [], 0
        y_t, axis = self.graph.type(y), self.ranges[y].axis
        joined = node.op == "Concat" and int(node.attrs["axis"]) % len(y_t.shape) == axis
        y_kept, _ = self._state(y, y_t.shape[axis])
        for i in node.inputs:
            t = self.graph.tensors[i]
            own = axis - len(y_t.shape) + len(t.type.shape)
            n = t.type.shape[own] if own >= 0 else 1
            part = y_kept[start : start + n] if joined else y_kept
            start += n
            if t.data is None or len(part) != n:
                inputs.append(i)
            elif part.any():
                inputs.append(r.const(i + "/kept", np.compress(part, t.data, own), t.type.q))
        return node.with_(inputs=tuple(inputs))

    def _slice(self, r: Rewriter, node: Node) -> Node:
        """The same channels at their new places."""
        x, axis = node.inputs[0], self.ranges[node.inputs[0]].axis
        cut = slice_of(self.graph, node)
        if axis in cut:
            first = range(self.graph.type(x).shape[axis])[cut[axis]][0]
            begin = int(self.kept[self.slots(x)][:first].sum())
            cut[axis] = slice(begin, begin + r.type(node.outputs[0]).shape[axis], 1)
        numbers = np.array([(c.start, c.stop, axis, c.step) for axis, c in cut.items()], np.int64)  # of one axis each
        return node.with_(inputs=(x, *(r.const(node.outputs[0] + "/cut", column) for column in numbers.T)))


def _inside(of: Layer, case: int) -> Array:
    """The weights of a dense layer summed over the taps inside the picture: int64 [outputs][inputs]."""
    return of.w[0][:, of.masks[case]].sum(1)


def _rows(q: QParams, rows: Array) -> QParams:
    return q if q.axis is None else QParams.of(q.scale[rows], q.zero_point[rows], q.axis)


@dataclass(frozen=True)
class Loss:
    """What a layer lost: output channels and multiply-accumulates before and now (0: the layer is gone)."""

    origin: tuple[str, ...]
    channels_before: int
    channels: int
    macs_before: int
    macs: int


def losses(before: Graph, after: Graph) -> list[Loss]:
    """Every Conv and Gemm node of `before` that is smaller in `after`, which constant_channels made of it."""
    left = {n.outputs[0]: n for n in after.nodes}
    found = []
    for node in before.nodes:
        if node.op not in ("Conv", "Gemm") or before.const(node.inputs[1]) is None:
            continue
        now = left.get(node.outputs[0])
        gone = now is None or now.op != node.op
        axis = -1 if node.op == "Gemm" or node.attrs.get("channels_last") else 1
        new = Loss(
            node.origin,
            before.type(node.outputs[0]).shape[axis],
            0 if gone else after.type(now.outputs[0]).shape[axis],
            _macs(before, node),
            0 if gone else _macs(after, now),
        )
        if new.macs < new.macs_before:
            found.append(new)
    return found


def _macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of a Conv or Gemm node: one per weight and output pixel."""
    w = graph.type(node.inputs[1])
    return graph.type(node.outputs[0]).size // w.shape[0] * w.size
