"""RNN, GRU and LSTM as the steps that they stand for, so that each of them can compute on integers.

Gates are Gemms of the input and of the hidden state, int8 by int8; what they make, the functions of the gates and the
cell are int16 (16x8): a state is added to at every step and would lose in 8 bits what it gains. Tensors that stand for the
same thing at different times share one range (`ir.Alike`), so all steps run the same kernels with the same constants.
The result is plain ONNX, a few nodes per gate and step; formulas as in ops/recurrent.py.
"""
from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from ..ir import Alike, Graph, Node, TensorType, attrs
from ..passes.normalise import drop_identities
from ..rewrite import Rewriter, rewrite_nodes

STEPS = 256              # more make long code: such a layer stays as it is
RECURRENT = {"RNN": ("h",), "GRU": ("z", "r", "h"), "LSTM": ("i", "o", "f", "c")}     # the gates in ONNX's order
FUNCTIONS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
ALLOWED = ("Sigmoid", "Tanh", "Relu")
INPUTS = ("x", "w", "r", "b", "lengths", "h0", "c0", "peephole")


def unrolled(graph: Graph, but: Collection[str] = ()) -> Graph:
    """The graph without recurrent layers, where they have constant weights, functions of ALLOWED, no sequence lengths,
    peepholes, clip or coupled gates, and at most STEPS steps. but: ONNX nodes that stay as they are."""
    alike: list[Alike] = []

    def rule(r: Rewriter, node: Node):
        if not _unrollable(r, node) or set(but).intersection(node.origin):
            return None
        layer = _Layer(r, node)
        nodes = layer.run()
        alike.extend(layer.alike())
        return nodes

    taken_apart = drop_identities(rewrite_nodes(graph, rule))
    return replace(taken_apart, alike=(*graph.alike, *alike)) if alike else graph


def _unrollable(r: Rewriter, node: Node) -> bool:
    if node.op not in RECURRENT or r.type(node.inputs[0]).dtype != "float32":
        return False
    given = dict(zip(INPUTS, (*node.inputs, *[""] * len(INPUTS)), strict=False))
    names = [f.capitalize() for f in node.attrs.get("activations") or ()]
    constant = all(not given[k] or r.value(given[k]) is not None for k in "wrb")
    plain = not any(node.attrs.get(k) for k in ("clip", "input_forget")) and not (given["lengths"] or given["peephole"])
    x = r.type(given["x"]).shape
    return constant and plain and set(names) <= set(ALLOWED) and x[1 if node.attrs.get("layout") else 0] <= STEPS


class _Layer:
    """One recurrent node on its way to single steps."""

    def __init__(self, r: Rewriter, node: Node):
        self.r, self.node, self.kind = r, node, node.op
        self.given = dict(zip(INPUTS, (*node.inputs, *[""] * len(INPUTS)), strict=False))
        self.layout = int(node.attrs.get("layout", 0))
        x = r.type(self.given["x"]).shape
        self.time, self.batch = (x[1], x[0]) if self.layout else x[:2]
        self.w, self.rec = (r.value(self.given[k]).astype(np.float32) for k in "wr")
        self.directions, self.hidden = self.w.shape[0], self.rec.shape[-1]
        gates = len(RECURRENT[self.kind])
        b = r.value(self.given["b"])
        self.b = (np.zeros((self.directions, 2 * gates * self.hidden), np.float32) if b is None else b).reshape(
            self.directions, 2, gates, self.hidden).astype(np.float32)
        names = [f.capitalize() for f in node.attrs.get("activations") or FUNCTIONS[self.kind] * self.directions]
        per = len(FUNCTIONS[self.kind])
        self.functions = [names[d * per:(d + 1) * per] for d in range(self.directions)]
        self.base = next(o for o in node.outputs if o)
        self.nodes: list[Node] = []
        self.roles: dict[str, list[str]] = {}
        self.constants: dict[tuple, str] = {}

    def alike(self) -> list[Alike]:
        return [Alike(tuple(names), 8 if role == "h" or role.startswith("rh") else 16) for role, names in self.roles.items()]

    def run(self) -> list[Node]:
        states = [self.direction(d) for d in range(self.directions)]     # (h of every time, last c)
        for output, what in zip(self.node.outputs, ("all", "h", "c"), strict=False):
            if not output:
                continue
            if what == "all":
                times = [self.joined([h[t] for h, _ in states], (1, 1, self.batch, self.hidden), 1, f"y.{t}")
                         for t in range(self.time)]
                self.output(self.concat(times, 0, "all"), output, (2, 0, 1, 3))
            else:
                last = [(h[-1 if d == 0 and not self.backward(d) else 0] if what == "h" else c)
                        for d, (h, c) in enumerate(states)]
                self.output(self.joined(last, (1, self.batch, self.hidden), 0, f"last.{what}"), output, (1, 0, 2))
        return [n.with_(origin=self.node.origin) for n in self.nodes]

    def backward(self, d: int) -> bool:
        return d == 1 or self.node.attrs.get("direction", "forward") == "reverse"

    def direction(self, d: int) -> tuple[list[str], str]:
        h, c = (self.start(k, d) for k in ("h0", "c0"))
        found: dict[int, str] = {}
        for t in (reversed(range(self.time)) if self.backward(d) else range(self.time)):
            x = self.at(t)
            h, c = {"RNN": self.rnn, "GRU": self.gru, "LSTM": self.lstm}[self.kind](d, t, x, h, c)
            found[t] = h
        return [found[t] for t in range(self.time)], c

    # ---- cells: the new (h, c); a state that is None is zero ----

    def rnn(self, d, t, x, h, c):
        return self.function(self.functions[d][0], self.sum(0, d, t, x, h), "h", t), c

    def lstm(self, d, t, x, h, c):
        f, g, last = self.functions[d]
        i, o, forget, new = (self.function(fn, self.sum(k, d, t, x, h), f"g{k}{d}", t)
                             for k, fn in enumerate((f, f, f, g)))
        now = self.op("Mul", [i, new], f"c{d}" if c is None else f"ig{d}", t)
        if c is not None:
            now = self.op("Add", [self.op("Mul", [forget, c], f"fc{d}", t), now], f"c{d}", t)
        return self.op("Mul", [o, self.function(last, now, f"tc{d}", t)], "h", t), now

    def gru(self, d, t, x, h, c):
        """h' = n + z * (h - n), which is (1 - z) * n + z * h."""
        f, g = self.functions[d]
        z, r = (self.function(f, self.sum(k, d, t, x, h), f"g{k}{d}", t) for k in (0, 1))
        if h is None:
            after = self.after_reset and self.b[d, 1, 2].any()
            own = self.gemm(x, self.w, 2, d, self.b[d, 0, 2] + (0 if self.after_reset else self.b[d, 1, 2]),
                            f"x2{d}" if after else f"s2{d}", t)
            if after:
                bias = self.op("Mul", [r, self.constant(f"rb{d}", self.b[d, 1, 2][None])], f"rr{d}", t)
                own = self.op("Add", [own, bias], f"s2{d}", t)
            n = self.function(g, own, f"n{d}", t)
            return self.op("Sub", [n, self.op("Mul", [z, n], f"zn{d}", t)], "h", t), c
        if self.after_reset:
            own = self.gemm(x, self.w, 2, d, self.b[d, 0, 2], f"x2{d}", t)
            inner = self.op("Mul", [r, self.gemm(h, self.rec, 2, d, self.b[d, 1, 2], f"r2{d}", t)], f"rr{d}", t)
        else:
            own = self.gemm(x, self.w, 2, d, self.b[d].sum(0)[2], f"x2{d}", t)
            inner = self.gemm(self.op("Mul", [r, h], f"rh{d}", t), self.rec, 2, d, None, f"r2{d}", t)
        n = self.function(g, self.op("Add", [own, inner], f"s2{d}", t), f"n{d}", t)
        change = self.op("Mul", [z, self.op("Sub", [h, n], f"dn{d}", t)], f"zd{d}", t)
        return self.op("Add", [n, change], "h", t), c

    @property
    def after_reset(self) -> bool:
        return bool(self.node.attrs.get("linear_before_reset", 0))

    # ---- pieces ----

    def sum(self, k: int, d: int, t: int, x: str, h: str | None) -> str:
        """What goes into gate k."""
        own = self.gemm(x, self.w, k, d, self.b[d].sum(0)[k], f"x{k}{d}" if h is not None else f"s{k}{d}", t)
        return own if h is None else self.op("Add", [own, self.gemm(h, self.rec, k, d, None, f"r{k}{d}", t)], f"s{k}{d}", t)

    def function(self, name: str, x: str, role: str, t: int) -> str:
        return self.op(name, [x], role, t)

    def gemm(self, x: str, weights: np.ndarray, k: int, d: int, bias: np.ndarray | None, role: str, t: int) -> str:
        rows = slice(k * self.hidden, (k + 1) * self.hidden)
        if bias is None:
            bias = np.zeros(self.hidden, np.float32)      # a place for the correction of the mean
        return self.op("Gemm", [x, *(self.constant(f"{role[1:]}.{label}", v) for label, v in
                                     (("w" if weights is self.w else "r", weights[d, rows]), ("b", bias)))], role, t, transB=1)

    def constant(self, hint: str, value: np.ndarray) -> str:
        key = (hint, value.tobytes())
        if key not in self.constants:
            self.constants[key] = self.r.const(f"{self.base}/{hint}", np.asarray(value, np.float32))
        return self.constants[key]

    def op(self, op: str, inputs: list[str], role: str, t: int, **more) -> str:
        """A node that makes [batch][hidden]; its output stands for `role` at time t."""
        out = self.r.tensor(f"{self.base}/{role}.{t}", TensorType("float32", (self.batch, self.hidden)))
        self.nodes.append(Node(op, tuple(inputs), (out,), attrs(**more)))
        self.roles.setdefault(role, []).append(out)
        return out

    def at(self, t: int) -> str:
        """The input at time t: [batch][inputs]."""
        x, axis = self.given["x"], 1 if self.layout else 0
        shape = list(self.r.type(x).shape)
        if self.time > 1:
            shape[axis] = 1
            bounds = [self.r.const(f"{self.base}/{k}", np.array([v], np.int64)) for k, v in
                      (("from", t), ("to", t + 1), ("axis", axis))]
            x = self.node_of("Slice", [x, *bounds], tuple(shape), f"x.{t}")
        return self.reshaped(x, (self.batch, shape[-1]), f"xt.{t}")

    def start(self, which: str, d: int) -> str | None:
        """An initial state of direction d, [batch][hidden]; None where it is zero."""
        name = self.given[which]
        if not name or self.r.value(name) is not None and not self.r.value(name).any():
            return None
        axis = 1 if self.layout else 0
        if self.directions > 1:
            shape = tuple(1 if k == axis else n for k, n in enumerate(self.r.type(name).shape))
            bounds = [self.r.const(f"{self.base}/{k}", np.array([v], np.int64)) for k, v in
                      (("from", d), ("to", d + 1), ("axis", axis))]
            name = self.node_of("Slice", [name, *bounds], shape, f"{which}.{d}")
        held = self.reshaped(name, (self.batch, self.hidden), f"{which}.{d}.start")
        self.roles.setdefault("h" if which == "h0" else f"c{d}", []).append(held)
        return held

    def joined(self, parts: list[str], shape: tuple[int, ...], axis: int, hint: str) -> str:
        return self.concat([self.reshaped(p, shape, f"{hint}.{k}") for k, p in enumerate(parts)], axis, hint)

    def concat(self, parts: list[str], axis: int, hint: str) -> str:
        if len(parts) == 1:
            return parts[0]
        shape = list(self.r.type(parts[0]).shape)
        shape[axis] *= len(parts)
        return self.same_role(self.node_of("Concat", parts, tuple(shape), hint, axis=axis), parts[0])

    def same_role(self, name: str, source: str) -> str:
        """`name`, which now stands for the same as what was moved into `source`."""
        made = {n.outputs[0]: n for n in self.nodes}
        while source in made and made[source].op in ("Reshape", "Concat", "Transpose"):
            source = made[source].inputs[0]
        for names in self.roles.values():
            if source in names:
                names.append(name)
        return name

    def output(self, value: str, name: str, perm: tuple[int, ...]) -> None:
        """The node's output from the form [time][direction][batch][hidden] or [direction][batch][hidden]."""
        self.same_role(name, value)
        if self.layout:
            self.nodes.append(Node("Transpose", (value,), (name,), attrs(perm=perm)))
        else:
            self.nodes.append(Node("Identity", (value,), (name,), attrs()))

    def reshaped(self, x: str, shape: tuple[int, ...], hint: str) -> str:
        return self.node_of("Reshape", [x, self.r.const(f"{self.base}/shape", np.array(shape, np.int64))], shape, hint)

    def node_of(self, op: str, inputs: list[str], shape: tuple[int, ...], hint: str, **more) -> str:
        out = self.r.tensor(f"{self.base}/{hint}", TensorType("float32", shape))
        self.nodes.append(Node(op, tuple(inputs), (out,), attrs(**more)))
        return out
