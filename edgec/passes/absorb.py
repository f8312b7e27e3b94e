"""Q/DQ absorption: DequantizeLinear -> operator -> QuantizeLinear becomes one integer operator on quantised tensors.

What is left as DequantizeLinear ... QuantizeLinear around a float operator is a float island; the report names it.
"""
from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from ..fixed import quantise
from ..ir import Graph, Node, QParams, Tensor, TensorType, attrs, origins
from ..onnx_in import evaluate_ir
from ..ops import curve, norm, table
from ..rewrite import Rewriter, Sweep, rewrite_nodes
from .constants import integers

INTS = ("int8", "uint8", "int16", "uint16")
SIGN = {"uint8": ("int8", 128), "uint16": ("int16", 32768)}     # what `signed` makes of them, and by how much they move
SIGNED = ("int8", "int16")                      # what is left of them after `signed`
WIDE = ("Conv", "Gemm", "Add", "Sub", "Mul", "AveragePool", *norm.NORMS)    # have a form for int16 activations
ACCUMULATING = ("Conv", "Gemm")
CLIPPED = ("Conv", "Gemm", "MatMul", "AveragePool")
BINARY = ("Add", "Sub", "Mul")
MOVES = {name for name, op in table.OPS.items() if op.quant == "move"} - {"Concat", "Pad", "Max", "Min"}


def clip_range(r: Rewriter, node: Node) -> tuple[float, float] | None:
    """The range of a Relu, or of a Clip with constant bounds; None for any other node."""
    if node.op == "Relu":
        return (0.0, float("inf"))
    if node.op != "Clip" or r.type(node.inputs[0]).dtype != "float32":
        return None
    limits = []
    for k, default in ((1, -np.inf), (2, np.inf)):
        given = len(node.inputs) > k and node.inputs[k]
        if given and r.value(node.inputs[k]) is None:
            return None
        limits.append(float(r.value(node.inputs[k]).reshape(-1)[0]) if given else default)
    return tuple(limits)


def fuse_clip(graph: Graph) -> Graph:
    """Relu and Clip go into the kernel before them as its output clamp (attribute `clip`)."""
    def rule(r: Sweep, node: Node):
        clip = clip_range(r, node)
        before = r.made.get(node.inputs[0]) if clip else None
        if before is None or before.op not in CLIPPED or r.uses[node.inputs[0]] > 1:
            return None
        if "clip" in before.attrs:
            old = before.attrs["clip"]
            clip = (max(old[0], clip[0]), min(old[1], clip[1]))
        return [before.with_(outputs=node.outputs, attrs={"clip": clip}, origin=origins([before, node]))]
    return rewrite_nodes(graph, rule)


def annotate(graph: Graph) -> Graph:
    """Integer tensors that Q/DQ nodes touch get their quantisation in the type, through data movement both ways."""
    r = Rewriter(graph)

    def give(name: str, q: QParams) -> bool:
        t = r.type(name)
        if not name or t.dtype not in INTS or t.q is not None:
            return False
        r.retype(name, replace(t, q=q))
        return True

    for node in graph.nodes:
        if node.op in ("QuantizeLinear", "DequantizeLinear"):
            q = _params(r, node)
            if q is not None and q.axis is None:
                give(node.outputs[0] if node.op == "QuantizeLinear" else node.inputs[0], q)
    changed = True
    while changed:
        changed = False
        for node in graph.nodes:
            if node.op in MOVES or node.op == "Concat":
                ends = [t for t in (*node.inputs, *node.outputs) if t and r.value(t) is None and r.type(t).dtype in INTS]
                known = next((r.type(t).q for t in ends if r.type(t).q is not None), None)
                if known is not None:
                    changed |= any([give(t, known) for t in ends])
    return r.done()


def _params(r: Rewriter, node: Node) -> QParams | None:
    s = r.value(node.inputs[1])
    z = r.value(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros((), np.int32)
    if s is None or z is None or s.ndim > 1:
        return None
    return QParams.of(s, z.astype(np.int32), int(node.attrs.get("axis", 1)) if s.size > 1 else None)


def _movable(r: Rewriter, node: Node) -> bool:
    kind = node.op in MOVES or node.op == "Pad" and node.attrs.get("mode", "constant") == "constant"
    return kind and r.type(node.inputs[0]).dtype == "float32"


def sink_dequantize(graph: Graph) -> Graph:
    """DequantizeLinear moves below data movement, so that integers are moved."""
    def rule(r: Sweep, node: Node):
        dq = r.made.get(node.inputs[0]) if node.inputs and _movable(r, node) else None
        q = _params(r, dq) if dq is not None and dq.op == "DequantizeLinear" else None
        if q is None or q.axis is not None:
            return None
        inner = r.type(dq.inputs[0])
        moved = tuple(o and r.tensor(o + "/int", TensorType(inner.dtype, r.type(o).shape, q)) for o in node.outputs)
        return [node.with_(inputs=(dq.inputs[0], *_pad_value(r, node, q, inner.dtype)), outputs=moved),
                *(dq.with_(inputs=(m, *dq.inputs[1:]), outputs=(o,)) for m, o in zip(moved, node.outputs, strict=True) if o)]
    return rewrite_nodes(graph, rule)


def raise_quantize(graph: Graph) -> Graph:
    """QuantizeLinear moves above data movement that it alone consumes: sweeps until it meets what computes."""
    moved_any = False

    def rule(r: Sweep, node: Node):
        nonlocal moved_any
        move = r.made.get(node.inputs[0]) if node.op == "QuantizeLinear" else None
        if (
            move is None
            or not _movable(r, move)
            or len(move.outputs) > 1
            or r.uses[node.inputs[0]] != 1
            or r.uses[move.inputs[0]] != 1
        ):
            return None
        q = _params(r, node)
        if q is None or q.axis is not None or move.inputs[0] not in r.made:
            return None
        moved_any = True
        outer = r.type(node.outputs[0])
        early = r.tensor(node.outputs[0] + "/early", TensorType(outer.dtype, r.type(move.inputs[0]).shape, q))
        return [node.with_(inputs=(move.inputs[0], *node.inputs[1:]), outputs=(early,)),
                move.with_(inputs=(early, *_pad_value(r, move, q, outer.dtype)), outputs=node.outputs)]
    out = rewrite_nodes(graph, rule)
    return raise_quantize(out) if moved_any else out


def _pad_value(r: Rewriter, node: Node, q: QParams, dtype: str) -> tuple[str, ...]:
    """The moved node's other inputs; a Pad's value is quantised."""
    if node.op != "Pad":
        return node.inputs[1:]
    value = r.value(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.float32(0)
    return (
        node.inputs[1],
        r.const(node.outputs[0] + "/value", quantise(np.asarray(value).reshape(()), q, dtype)),
        *node.inputs[3:],
    )


def absorb(graph: Graph) -> Graph:
    """The pass of this file's heading; `signed` ran before, so that there is no uint8."""
    return _Absorb(graph).run()


class _Absorb:
    def __init__(self, graph: Graph):
        self.r = Rewriter(graph)
        self.users = graph.consumers()
        self.real = {
            n.outputs[0]: n.inputs[0]
            for n in graph.nodes
            if n.op == "DequantizeLinear" and graph.type(n.inputs[0]).q is not None and graph.type(n.inputs[0]).dtype in SIGNED
        }
        self.gone: set[int] = set()

    def run(self) -> Graph:
        nodes: list[Node] = []
        for node in self.r.nodes:
            if id(node) in self.gone:
                continue
            nodes.extend(self.node(node) or [node])
        self.r.nodes = nodes
        return self.r.done()

    def node(self, node: Node) -> list[Node] | None:
        """The integer nodes that replace this one and the QuantizeLinear after it; None to leave it."""
        if node.op == "QuantizeLinear" and node.inputs[0] in self.real:
            return self.requantise(node)
        op = table.OPS.get(node.op)
        if op is None or node.op in ("QuantizeLinear", "DequantizeLinear") or len([o for o in node.outputs if o]) != 1:
            return None
        chain = self.chain(node)
        if chain is None:
            return None
        tail, clip, q_node = chain
        y = q_node.outputs[0]
        wide = [i for i in (*node.inputs, y) if i and self.r.type(self.real.get(i, i)).dtype == "int16"]
        if wide and node.op not in WIDE and op.quant not in ("move", "lut"):
            return None
        new = self.integer(node, y, clip) if op.quant == "integer" else None
        if node.op in ("Min", "Max") and clip is None:
            new = self.concat(node, y)
        if node.op == "ReduceMean" and clip is None:
            new = self.mean(node, y)
        if new is None and clip is None:
            if op.quant == "move" and (node.op == "Concat" or node.inputs[0] in self.real):
                new = self.concat(node, y) if node.op == "Concat" else self.move(node, y)
            elif new is None:
                new = self.lut(node, y)
        if new is None:
            return None
        self.gone |= {id(n) for n in (*tail, q_node)}
        joined = origins([node, *tail])
        return [n.with_(origin=joined) for n in new]

    def chain(self, node: Node):
        """(activation nodes, their clip, the QuantizeLinear) where they alone consume the node's output."""
        out, tail, clip = node.outputs[0], [], None
        while True:
            follow = self.users.get(out, [])
            if len(follow) != 1 or out in self.r.outputs or follow[0].inputs.count(out) != 1:
                return None
            n = follow[0]
            if n.op == "QuantizeLinear" and n.inputs[0] == out:
                t = self.r.type(n.outputs[0])
                return (tail, clip, n) if t.q is not None and t.dtype in SIGNED else None
            bound = clip_range(self.r, n) if node.op in BINARY and n.inputs[0] == out else None
            if bound is None:
                return None
            clip = bound if clip is None else (max(clip[0], bound[0]), min(clip[1], bound[1]))
            tail.append(n)
            out = n.outputs[0]

    def quantised(self, name: str) -> str | None:
        """The int8 tensor behind a real one: a DequantizeLinear's input, or a per-tensor constant on a grid."""
        if name in self.real:
            return self.real[name]
        t = self.r.tensors[name]
        if t.data is None or t.grid is None or t.grid.axis is not None:
            return None
        whole = integers(t)
        if whole.min() < -128 or whole.max() > 127:
            return None
        return self.r.const(name + "/int", whole.astype(np.int8), QParams.of(t.grid.scale, 0))

    def integer(self, node: Node, y: str, clip) -> list[Node] | None:
        extra = {"clip": clip} if clip is not None else {}
        if node.op in ACCUMULATING:
            return self.accumulating(node, y, extra)
        if node.op in norm.NORMS:
            return self.norm(node, y) if clip is None else None
        if node.op in BINARY:
            scalar = [i for i in node.inputs if self.r.value(i) is not None and self.r.type(i).size == 1]
            if scalar:
                return None if clip is not None else self.lut(node, y)
        ins = [self.quantised(i) for i in node.inputs if i]
        if any(i is None for i in ins) or not any(i in self.real for i in node.inputs):
            return None
        return [node.with_(inputs=tuple(ins), outputs=(y,), attrs=extra)]

    def accumulating(self, node: Node, y: str, extra) -> list[Node] | None:
        """Conv and Gemm: int8 activations, constant weights on a symmetric grid, int32 bias in accumulator units."""
        x, w = self.real.get(node.inputs[0]), self.r.tensors[node.inputs[1]]
        b = self.r.tensors[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else None
        if x is None or w.data is None or w.grid is None or w.grid.axis not in (None, 0) or (b is not None and b.data is None):
            return None
        whole = integers(w)
        dtype = np.int8 if whole.min() >= -128 and whole.max() <= 127 else np.int16
        wq = QParams.of(_without_dead_scales(w.grid.scale, whole), 0, w.grid.axis)
        weights = self.r.const(w.name + "/int", whole.astype(dtype), wq)
        ins = [x, weights]
        if b is not None:
            unit = np.float64(self.r.type(x).q.scale) * wq.scale.astype(np.float64)
            bias = np.rint(b.data.astype(np.float64).reshape(-1) / unit)
            if np.abs(bias).max(initial=0) >= 2**31:
                return None
            ins.append(self.r.const(b.name + "/int", bias.astype(np.int32), QParams.of(unit.astype(np.float32), 0, 0)))
        return [node.with_(inputs=tuple(ins), outputs=(y,), attrs=extra)]

    def norm(self, node: Node, y: str) -> list[Node] | None:
        """Gains and biases stay real constants: the lowering makes integers of them."""
        x = self.real.get(node.inputs[0])
        constants = [self.r.value(i) if i else None for i in (*node.inputs[1:], "", "")[:2]]
        if x is None or constants[0] is None or any(i and self.r.value(i) is None for i in node.inputs[1:]):
            return None
        if norm.parts(node, *constants, self.r.type(x), self.r.type(y)) is None:
            return None
        return [node.with_(inputs=(x, *node.inputs[1:]), outputs=(y,))]

    def move(self, node: Node, y: str) -> list[Node] | None:
        x = self.real[node.inputs[0]]
        if self.r.type(x).dtype == self.r.type(y).dtype and self.r.type(x).q.same(self.r.type(y).q):
            return [node.with_(inputs=(x, *node.inputs[1:]), outputs=(y,))]
        mid = self.r.tensor(y + "/moved", TensorType(self.r.type(x).dtype, self.r.type(y).shape, self.r.type(x).q))
        after = self.function(mid, y, lambda v: v, "Requantize", node.origin)
        return after and [node.with_(inputs=(x, *node.inputs[1:]), outputs=(mid,)), *after]

    def concat(self, node: Node, y: str) -> list[Node] | None:
        """Concat, and Min and Max, which rounding does not disturb: on operands with the output's scale."""
        ins = [self.quantised(i) for i in node.inputs]
        if any(i is None for i in ins):
            return None
        nodes, aligned, want = [], [], self.r.type(y)
        for i in ins:
            if self.r.type(i).dtype == want.dtype and self.r.type(i).q.same(want.q):
                aligned.append(i)
                continue
            t = self.r.tensor(i + "/rescaled", replace(self.r.type(i), dtype=want.dtype, q=want.q))
            after = self.function(i, t, lambda v: v, "Requantize", node.origin)
            if after is None:
                return None
            nodes += after
            aligned.append(t)
        return [*nodes, node.with_(inputs=tuple(aligned), outputs=(y,))]

    def mean(self, node: Node, y: str) -> list[Node] | None:
        """ReduceMean: the reduced axes last, as the columns of a Gemm by ones."""
        x = self.real.get(node.inputs[0])
        axes = self.r.value(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else None
        if x is None or axes is None or axes.size == 0:
            return None
        shape, q = self.r.type(x).shape, self.r.type(x).q
        last = sorted({int(a) % len(shape) for a in axes.reshape(-1)})
        perm = (*(d for d in range(len(shape)) if d not in last), *last)
        columns = prod(shape[d] for d in last)
        nodes: list[Node] = []

        def step(op: str, label: str, sizes: tuple[int, ...], **more) -> None:
            out = self.r.tensor(f"{y}/{label}", TensorType("int8", sizes, q))
            nodes.append(Node(op, (nodes[-1].outputs[0] if nodes else x, *self.shape_of(out, op)), (out,), attrs(**more)))

        if perm != tuple(range(len(shape))):
            step("Transpose", "moved", tuple(shape[d] for d in perm), perm=perm)
        step("Reshape", "rows", (prod(shape) // columns, columns))
        ones = self.r.const(f"{y}/ones", np.ones((1, columns), np.int8), QParams.of(np.float32(1 / columns), 0))
        total = self.r.tensor(f"{y}/mean", TensorType("int8", (prod(shape) // columns, 1), self.r.type(y).q))
        nodes.append(Node("Gemm", (nodes[-1].outputs[0], ones), (total,), attrs(transB=1)))
        return [*nodes, Node("Reshape", (total, *self.shape_of(y, "Reshape")), (y,))]

    def shape_of(self, tensor: str, op: str) -> tuple[str, ...]:
        """The constant that a Reshape to the tensor's shape reads; nothing for other operators."""
        return (self.r.const(f"{tensor}/shape", np.array(self.r.type(tensor).shape, np.int64)),) if op == "Reshape" else ()

    def lut(self, node: Node, y: str) -> list[Node] | None:
        """Any function of one quantised tensor and scalar constants."""
        run_time = [i for i in node.inputs if i and self.r.value(i) is None]
        op = table.OPS[node.op]
        elementwise = op.quant == "lut" or node.op in (*BINARY, "Div", "Pow", "Min", "Max", "PRelu", "Clip")
        if not elementwise or len(set(run_time)) != 1 or run_time[0] not in self.real:
            return None
        if any(i and i not in run_time and self.r.type(i).size != 1 for i in node.inputs):
            return None
        if self.r.type(node.outputs[0]).shape != self.r.type(run_time[0]).shape:
            return None

        def function(v: np.ndarray) -> np.ndarray:
            values = [v if i in run_time else (self.r.value(i).reshape(()) if i else None) for i in node.inputs]
            return evaluate_ir(node, values)[0]

        return self.function(self.real[run_time[0]], y, function, node.op, node.origin)

    def requantise(self, node: Node) -> list[Node] | None:
        x, y = self.real[node.inputs[0]], node.outputs[0]
        if self.r.type(x).dtype == self.r.type(y).dtype == "int16" and self.r.type(x).q.same(self.r.type(y).q):
            return [Node("Identity", (x,), (y,), attrs(), node.origin)]
        return self.function(x, y, lambda v: v, "Requantize", node.origin) if self.r.type(y).q is not None else None

    def function(self, x: str, y: str, function, name: str, origin) -> list[Node] | None:
        """Any function of one quantised tensor: a table of an int8 one, points of an int16 one where they are near enough."""
        if self.r.type(x).dtype == "int8":
            return [self.table(x, y, function, name, origin)]
        found = curve.points(self.r.type(x).q, self.r.type(y).q, self.r.type(y).dtype, function)
        if found is None:
            return None
        points, reach = found
        return [Node("edgec.Curve", (x, self.r.const(y + "/points", points)), (y,), attrs(function=name, reach=reach), origin)]

    def table(self, x: str, y: str, function, name: str, origin) -> Node:
        """A 256-entry table node, entry k for the integer k - 128."""
        qx, qy = self.r.type(x).q, self.r.type(y).q
        real = ((np.arange(-128, 128) - int(qx.zero_point)) * np.float32(qx.scale)).astype(np.float32)
        with np.errstate(all="ignore"):
            value = np.nan_to_num(np.asarray(function(real), np.float32))
        entries = self.r.const(y + "/table", quantise(value, qy, self.r.type(y).dtype))
        return Node("edgec.Lut", (x, entries), (y,), attrs(function=name), origin)


def _without_dead_scales(scale: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """A channel whose weights are all zero is its bias alone. Quantisers give it a scale near 1e-9 and a bias near 2^30,
    which a multiplier with one shift per layer renders badly; any scale is right, so it takes 1/64 of the largest."""
    dead = ~np.any(whole.reshape(whole.shape[0], -1), axis=1)
    if scale.ndim == 0 or not dead.any() or dead.all():
        return scale
    return np.where(dead, scale[~dead].max() / np.float32(64), scale).astype(np.float32)


def fuse_tables(graph: Graph) -> Graph:
    """A table of a table is a table; a table that changes nothing goes."""
    def rule(r: Sweep, node: Node):
        if node.op != "edgec.Lut":
            return None
        if r.type(node.outputs[0]).dtype != "int8":
            return [node]
        before = r.made.get(node.inputs[0])
        if before is not None and before.op == "edgec.Lut" and r.uses[node.inputs[0]] == 1:
            both = r.value(node.inputs[1])[r.value(before.inputs[1]).astype(np.int64) + 128]
            node = node.with_(
                inputs=(before.inputs[0], r.const(node.outputs[0] + "/table", both)),
                origin=origins([before, node]),
                attrs={"function": f"{before.attrs['function']}+{node.attrs['function']}"},
            )
        idle = np.array_equal(r.value(node.inputs[1]), np.arange(-128, 128)) and node.outputs[0] not in r.outputs
        if idle and r.type(node.inputs[0]).same(r.type(node.outputs[0])):
            r.rename(node.outputs[0], node.inputs[0])
            return []
        return [node]
    return rewrite_nodes(graph, rule)


def islands(graph: Graph) -> list[str]:
    """ONNX nodes computed in float although the model quantises around them: for the report."""
    made, users = graph.producers(), graph.consumers()
    found = []
    for node in graph.nodes:
        if node.op in ("QuantizeLinear", "DequantizeLinear"):
            continue
        before = any(made.get(i) is not None and made[i].op == "DequantizeLinear" for i in node.inputs)
        after = any(u.op == "QuantizeLinear" for o in node.outputs for u in users.get(o, []))
        if before or after:
            found.extend(node.origin[:1])
    return found


def signed(graph: Graph) -> Graph:
    """uint8 and uint16 tensors between Q/DQ nodes become signed with the zero point moved by half their range; uint8
    graph inputs and outputs keep their type behind a Cast-like offset."""
    r = Rewriter(graph)
    made, users = graph.producers(), graph.consumers()
    allowed = MOVES | {"Concat", "QuantizeLinear", "DequantizeLinear", "MaxPool", "Pad"}
    shifted = {}
    for t in graph.tensors.values():
        if t.type.dtype not in SIGN or t.type.q is None or t.data is not None:
            continue
        if t.type.dtype == "uint16" and t.name in (*graph.inputs, *graph.outputs):
            continue
        around = [*users.get(t.name, []), *([made[t.name]] if t.name in made else [])]
        if all(n.op in allowed for n in around):
            shifted[t.name] = QParams.of(t.type.q.scale, t.type.q.zero_point - SIGN[t.type.dtype][1])
    nodes: list[Node] = []
    rename: dict[str, str] = {}
    for name, q in shifted.items():
        t = r.type(name)
        new = r.tensor(name + "/signed", TensorType(SIGN[t.dtype][0], t.shape, q), source="")
        rename[name] = new
    for name in graph.inputs:
        if name in rename:
            nodes.append(Node("edgec.Offset", (name,), (rename[name],), attrs(to="int8"), ()))
    for node in graph.nodes:
        touched = [t for t in (*node.inputs, *node.outputs) if t in rename]
        if not touched:
            nodes.append(node)
            continue
        ins = [rename.get(i, i) for i in node.inputs]
        outs = tuple(rename.get(o, o) for o in node.outputs)
        dtype, half = SIGN[r.type(touched[0]).dtype]
        if node.op in ("QuantizeLinear", "DequantizeLinear"):
            z = r.value(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.uint8(0)
            zero = r.const(touched[0] + "/zero", np.asarray(z.astype(np.int32) - half, dtype))
            ins = [ins[0], ins[1], zero]
        elif node.op == "Pad" and len(node.inputs) > 2 and node.inputs[2]:
            ins[2] = r.const(node.inputs[2] + "/signed", np.asarray(r.value(node.inputs[2]).astype(np.int32) - half, dtype))
        nodes.append(node.with_(inputs=tuple(ins), outputs=outs))
    for name in graph.outputs:
        if name in rename and name not in graph.inputs:
            nodes.append(Node("edgec.Offset", (rename[name],), (name,), attrs(to="uint8"), ()))
    for old, new in rename.items():
        r.tensors[new] = Tensor(new, r.type(new), source=graph.tensors[old].source)
    r.nodes = nodes
    return r.done()
