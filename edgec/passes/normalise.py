"""Graph -> Graph at ONNX's level: fewer operators, one form each. What is here is valid ONNX before and after."""
from __future__ import annotations

import numpy as np

from ..ir import Graph, Node, TensorType, attrs, origins
from ..ops import table
from ..ops.spatial import window
from ..rewrite import Rewriter, Sweep, rewrite_nodes
from .constants import permuted, reshaped, scaled


def drop_identities(graph: Graph) -> Graph:
    """Identity, inference-time Dropout, and Cast, Reshape or Transpose that change nothing."""
    def rule(r: Sweep, node: Node):
        x, y = (node.inputs or ("",))[0], node.outputs[0]
        if not x or y in r.outputs or any(r.uses.get(o) for o in node.outputs[1:]) or not r.type(x).same(r.type(y)):
            return None
        idle = (node.op in ("Identity", "Dropout", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze")
                or node.op == "Transpose" and list(node.attrs.get("perm", ())) == list(range(len(r.type(x).shape))))
        if not idle:
            return None
        r.rename(y, x)
        return []
    return rewrite_nodes(graph, rule)


def global_pools(graph: Graph) -> Graph:
    """Global pools, and means over all spatial axes, become pools whose window is the picture."""
    def rule(r: Rewriter, node: Node):
        if node.op in ("GlobalAveragePool", "GlobalMaxPool"):
            spatial = r.type(node.inputs[0]).shape[2:]
            return [Node(node.op.removeprefix("Global"), node.inputs, node.outputs, attrs(kernel_shape=spatial), node.origin)]
        rank = len(r.type(node.inputs[0]).shape) if node.inputs and node.inputs[0] else 0
        if node.op == "ReduceMean" and rank in (3, 4) and r.type(node.inputs[0]).dtype == "float32":
            axes = r.value(node.inputs[1]) if len(node.inputs) > 1 else None
            if axes is None or sorted(int(a) % rank for a in axes) != list(range(2, rank)):
                return None
            shape = r.type(node.inputs[0]).shape
            pooled = r.tensor(node.outputs[0] + "/pool", TensorType("float32", (*shape[:2], *(1,) * (rank - 2))))
            target = r.const(node.outputs[0] + "/shape", np.array(r.type(node.outputs[0]).shape, np.int64))
            return [Node("AveragePool", node.inputs[:1], (pooled,), attrs(kernel_shape=shape[2:]), node.origin),
                    Node("Reshape", (pooled, target), node.outputs, attrs(), node.origin)]
        return None
    return rewrite_nodes(graph, rule)


def fold_affine(graph: Graph) -> Graph:
    """BatchNormalization, and Mul/Add/Sub/Div by a constant per channel, go into the convolution or Gemm before them;
    a batch norm with nothing before it becomes Mul and Add."""
    def rule(r: Sweep, node: Node):
        found = _affine(r, node) if node.op in ("BatchNormalization", "Mul", "Add", "Sub", "Div") else None
        if found is None:
            return None
        x, gain, shift = found
        before = r.made.get(x)
        weighted = (
            before is not None
            and r.uses[x] == 1
            and before.op in ("Conv", "Gemm")
            and r.value(before.inputs[1]) is not None
            and (len(before.inputs) < 3 or not before.inputs[2] or r.value(before.inputs[2]) is not None)
            and (before.op == "Conv" or _canonical_gemm(before))
        )
        if weighted:
            return [_folded(r, before, node, gain, shift)]
        if node.op != "BatchNormalization":
            return None
        shape = (-1, *[1] * (len(r.type(node.inputs[0]).shape) - 2))
        mid = r.tensor(node.outputs[0] + "/scaled", r.type(node.inputs[0]))
        g = r.const(node.outputs[0] + "/gain", gain.astype(np.float32).reshape(shape))
        s = r.const(node.outputs[0] + "/shift", shift.astype(np.float32).reshape(shape))
        return [Node("Mul", (x, g), (mid,), attrs(), node.origin), Node("Add", (mid, s), node.outputs[:1], attrs(), node.origin)]
    return rewrite_nodes(graph, rule)


def _canonical_gemm(node: Node) -> bool:
    a = node.attrs
    return a.get("alpha", 1.0) == 1.0 and a.get("beta", 1.0) == 1.0 and not a.get("transA", 0)


def _affine(r: Sweep, node: Node) -> tuple[str, np.ndarray, np.ndarray] | None:
    """(x, gain, shift) per channel in float64 when node is y = gain * x + shift along axis 1."""
    if node.op == "BatchNormalization":
        scale, bias, mean, var = (r.value(i) for i in node.inputs[1:5])
        if any(v is None for v in (scale, bias, mean, var)) or node.attrs.get("training_mode"):
            return None
        gain = scale.astype(np.float64) / np.sqrt(var.astype(np.float64) + node.attrs.get("epsilon", 1e-5))
        return node.inputs[0], gain, bias - mean * gain
    a, b = node.inputs
    if r.value(a) is not None and node.op in ("Mul", "Add"):
        a, b = b, a
    value = r.value(b)
    if value is None or r.value(a) is not None or value.dtype != np.float32:
        return None
    shape = r.type(a).shape
    if len(shape) < 2 or r.type(node.outputs[0]).shape != shape or r.made.get(a) is None or r.made[a].op not in ("Conv", "Gemm"):
        return None
    channels = shape[1]
    full = (1,) * (len(shape) - value.ndim) + value.shape
    if len(full) != len(shape) or any(n != 1 for k, n in enumerate(full) if k != 1) or full[1] not in (1, channels):
        return None
    v = np.broadcast_to(value.astype(np.float64).reshape(-1), (channels,))
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op == "Div" and (v == 0).any():
        return None
    return {"Mul": (a, v, zero), "Div": (a, 1 / v, zero) if node.op == "Div" else None, "Add": (a, one, v), "Sub": (a, one, -v)}[
        node.op
    ]


def _folded(r: Rewriter, conv: Node, node: Node, gain: np.ndarray, shift: np.ndarray) -> Node:
    axis = 0 if conv.op == "Conv" or conv.attrs.get("transB", 0) else 1
    w = conv.inputs[1] if (gain == 1).all() else scaled(r, conv.inputs[1], gain, axis)
    old = r.value(conv.inputs[2]).astype(np.float64) if len(conv.inputs) > 2 and conv.inputs[2] else 0.0
    b = r.const(node.outputs[0] + "/bias", (old * gain + shift).astype(np.float32).reshape(-1))
    return conv.with_(inputs=(conv.inputs[0], w, b), outputs=node.outputs[:1], origin=origins([conv, node]))


def fold_pad(graph: Graph) -> Graph:
    """A zero Pad before a convolution becomes the convolution's own padding."""
    def rule(r: Sweep, node: Node):
        pad = r.made.get(node.inputs[0]) if node.op == "Conv" else None
        if pad is None or pad.op != "Pad" or pad.attrs.get("mode", "constant") != "constant":
            return None
        pads = r.value(pad.inputs[1])
        value = r.value(pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] else None
        rank = len(r.type(node.inputs[0]).shape)
        if (
            pads is None
            or len(pads) != 2 * rank
            or (value is not None and np.any(value != 0))
            or (len(pad.inputs) > 3 and pad.inputs[3])
        ):
            return None
        if (
            (pads < 0).any()
            or any(pads[k] for k in (0, 1, rank, rank + 1))
            or node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
        ):
            return None
        own = node.attrs.get("pads") or (0,) * (2 * (rank - 2))
        extra = [*pads[2:rank], *pads[rank + 2:]]
        total = tuple(int(a + b) for a, b in zip(own, extra, strict=True))
        return [
            node.with_(
                inputs=(pad.inputs[0], *node.inputs[1:]), attrs={"pads": total, "auto_pad": "NOTSET"}, origin=origins([pad, node])
            )
        ]

    return rewrite_nodes(graph, rule)


def canonical_gemm(graph: Graph) -> Graph:
    """Gemm and MatMul with constant weights become Gemm x [M][K], w [N][K], b [N]; the rest become MatMul and Add."""
    users = graph.consumers()
    taken: set[str] = set()

    def bias_after(r: Rewriter, node: Node, n: int) -> tuple[Node, str] | None:
        """The Add of a constant [N] that alone consumes the node's output."""
        if r.uses.get(node.outputs[0]) != 1 or node.outputs[0] in r.outputs:
            return None
        follow = users[node.outputs[0]][0]
        if follow.op != "Add":
            return None
        other = [i for i in follow.inputs if i != node.outputs[0]]
        value = r.value(other[0]) if other else None
        if (
            value is None
            or value.dtype != np.float32
            or value.size not in (1, n)
            or (value.ndim and value.shape[-1] != value.size)
        ):
            return None
        return (follow, other[0]) if r.type(follow.outputs[0]).shape == r.type(node.outputs[0]).shape else None

    def rule(r: Rewriter, node: Node):
        if node.outputs[0] in taken:
            return []
        if node.op == "MatMul" and r.value(node.inputs[1]) is not None and r.type(node.inputs[1]).dtype == "float32" \
                and len(r.type(node.inputs[1]).shape) == 2 and r.value(node.inputs[0]) is None:
            x, w = node.inputs
            k, n = r.type(w).shape
            outputs, origin, b = node.outputs, node.origin, ""
            found = bias_after(r, node, n)
            if found is not None:
                follow, other = found
                taken.add(follow.outputs[0])
                outputs, origin = follow.outputs, origins([node, follow])
                b = _bias(r, other, n)
            return _as_2d(r, x, permuted(r, w, (1, 0)), b, outputs, origin, k, n)
        if node.op != "Gemm":
            return None
        a = node.attrs
        w, c = r.value(node.inputs[1]), node.inputs[2] if len(node.inputs) > 2 and node.inputs[2] else ""
        m, n = r.type(node.outputs[0]).shape
        plain = (
            w is not None
            and r.type(node.inputs[1]).dtype == "float32"
            and (
                not c
                or r.value(c) is not None
                and r.type(c).size in (1, n)
                and (not r.type(c).shape or r.type(c).shape[-1] == r.type(c).size)
            )
        )
        if not plain:
            return _gemm_parts(r, node)
        weights = node.inputs[1] if a.get("transB", 0) else permuted(r, node.inputs[1], (1, 0))
        if a.get("alpha", 1.0) != 1.0:
            weights = scaled(r, weights, np.full(n, a["alpha"]), 0)
        b = _bias(r, c, n) if c else ""
        if b and a.get("beta", 1.0) != 1.0:
            b = scaled(r, b, np.full(n, a["beta"]), 0)
        x, extra = node.inputs[0], []
        if a.get("transA", 0):
            x = r.tensor(node.outputs[0] + "/transA", TensorType("float32", r.type(x).shape[::-1]))
            extra = [Node("Transpose", node.inputs[:1], (x,), attrs(perm=(1, 0)), node.origin)]
        return [*extra, Node("Gemm", (x, weights, b) if b else (x, weights), node.outputs, attrs(transB=1), node.origin)]
    return rewrite_nodes(graph, rule)


def _bias(r: Rewriter, name: str, n: int) -> str:
    """The constant as a bias [N]; its grid stays where the shape alone changes."""
    t = r.tensors[name]
    if t.type.shape == (n,):
        return name
    return reshaped(r, name, (n,)) if t.data.size == n else r.const(name + "/bias", np.full(n, t.data.reshape(-1)[0], np.float32))


def _as_2d(r: Rewriter, x: str, w: str, b: str, outputs, origin, k: int, n: int) -> list[Node]:
    """Gemm over x with all leading axes flattened."""
    inputs = lambda v: (v, w, b) if b else (v, w)  # noqa: E731
    shape = r.type(x).shape
    if len(shape) == 2:
        return [Node("Gemm", inputs(x), outputs, attrs(transB=1), origin)]
    m = int(np.prod(shape[:-1], dtype=np.int64)) if len(shape) > 1 else 1
    flat = r.tensor(outputs[0] + "/rows", TensorType("float32", (m, k)))
    out = r.tensor(outputs[0] + "/flat", TensorType("float32", (m, n)))
    to_flat = r.const(flat + "/shape", np.array((m, k), np.int64))
    back = r.const(out + "/shape", np.array(r.type(outputs[0]).shape, np.int64))
    return [Node("Reshape", (x, to_flat), (flat,), attrs(), origin), Node("Gemm", inputs(flat), (out,), attrs(transB=1), origin),
            Node("Reshape", (out, back), outputs, attrs(), origin)]


def _gemm_parts(r: Rewriter, node: Node) -> list[Node]:
    """alpha * A' * B' + beta * C by Transpose, MatMul, Mul and Add."""
    a, nodes = node.attrs, []
    y_t = r.type(node.outputs[0])

    def step(op: str, inputs, type, **more) -> str:
        out = r.tensor(f"{node.outputs[0]}/{op.lower()}", type)
        nodes.append(Node(op, tuple(inputs), (out,), attrs(**more), node.origin))
        return out

    sides = []
    for name, key in zip(node.inputs[:2], ("transA", "transB"), strict=True):
        t = r.type(name)
        sides.append(step("Transpose", (name,), TensorType(t.dtype, t.shape[::-1]), perm=(1, 0)) if a.get(key, 0) else name)
    y = step("MatMul", sides, y_t)
    if a.get("alpha", 1.0) != 1.0:
        y = step("Mul", (y, r.const(y + "/alpha", np.asarray(a["alpha"], y_t.dtype))), y_t)
    if len(node.inputs) > 2 and node.inputs[2]:
        c = node.inputs[2]
        if a.get("beta", 1.0) != 1.0:
            c = step("Mul", (c, r.const(c + "/beta", np.asarray(a["beta"], y_t.dtype))), r.type(c))
        y = step("Add", (y, c), y_t)
    nodes[-1] = nodes[-1].with_(outputs=node.outputs)
    return nodes


def two_dimensional(graph: Graph) -> Graph:
    """1-D convolutions and pools [N][C][L] become 2-D over [N][C][L][1]: rows are time, so that they can stream."""
    def rule(r: Rewriter, node: Node):
        if node.op not in ("Conv", "MaxPool", "AveragePool") or len(r.type(node.inputs[0]).shape) != 3 or len(node.outputs) > 1:
            return None
        x_t, y_t = r.type(node.inputs[0]), r.type(node.outputs[0])
        wide = [TensorType(t.dtype, (*t.shape, 1), t.q) for t in (x_t, y_t)]
        x, y = (r.tensor(f"{node.outputs[0]}/2d", t) for t in wide)
        to, back = (r.const(f"{node.outputs[0]}/shape", np.array(s, np.int64)) for s in (wide[0].shape, y_t.shape))
        w = (
            [reshaped(r, node.inputs[1], (*r.type(node.inputs[1]).shape, 1))]
            if node.op == "Conv" and r.value(node.inputs[1]) is not None
            else []
        )
        if node.op == "Conv" and not w:
            return None
        pads = node.attrs.get("pads") or (0, 0)
        kernel = node.attrs.get("kernel_shape") or r.type(node.inputs[1]).shape[2:]
        new = {"kernel_shape": (*kernel, 1), "strides": (*(node.attrs.get("strides") or (1,)), 1),
               "dilations": (*(node.attrs.get("dilations") or (1,)), 1), "pads": (pads[0], 0, pads[1], 0)}
        return [Node("Reshape", (node.inputs[0], to), (x,), attrs(), node.origin),
                node.with_(inputs=(x, *w, *node.inputs[2:]), outputs=(y,), attrs=new),
                Node("Reshape", (y, back), node.outputs, attrs(), node.origin)]
    return rewrite_nodes(graph, rule)


def sink_reshapes(graph: Graph) -> Graph:
    """What `two_dimensional` put after a layer, [N][C][L][1] -> [N][C][L], sinks through elementwise operators and meets its
    inverse before the next layer: the whole stretch stays 2-D. Two reshapes in a row become one."""
    def rule(r: Sweep, node: Node):
        before = r.made.get(node.inputs[0]) if node.op in ("Reshape", "Flatten") else None
        if before is not None and before.op == "Reshape":
            x, y = before.inputs[0], node.outputs[0]
            if r.type(x).same(r.type(y)) and y not in r.outputs:
                r.rename(y, x)
                return []
            return [Node("Reshape", (x, r.const(y + "/shape", np.array(r.type(y).shape, np.int64))), (y,), attrs(), node.origin)]
        return _sunk(r, node) if node.op in POINTWISE and len(node.outputs) == 1 else None
    return rewrite_nodes(graph, rule)


POINTWISE = frozenset(op.name for op in table.elementwise.OPS)


def _squeezed(r: Sweep, name: str) -> str | None:
    """x where `name` is x without its last axis of one element."""
    made = r.made.get(name)
    if made is None or made.op != "Reshape" or r.type(made.inputs[0]).shape != (*r.type(name).shape, 1):
        return None
    return made.inputs[0]


def _sunk(r: Sweep, node: Node) -> list[Node] | None:
    y_t = r.type(node.outputs[0])
    ins = []
    for i in node.inputs:
        if not i or r.value(i) is not None:
            wide = i and r.type(i).size > 1 and not node.attrs.get("axis")
            ins.append(reshaped(r, i, (*r.type(i).shape, 1)) if wide else i)
        elif r.type(i).shape == y_t.shape and _squeezed(r, i):
            ins.append(_squeezed(r, i))
        else:
            return None
    if all(not i or r.value(i) is not None for i in node.inputs):
        return None
    y = r.tensor(node.outputs[0] + "/2d", TensorType(y_t.dtype, (*y_t.shape, 1), y_t.q), source=r.tensors[node.outputs[0]].source)
    back = r.const(node.outputs[0] + "/shape", np.array(y_t.shape, np.int64))
    return [node.with_(inputs=tuple(ins), outputs=(y,)), Node("Reshape", (y, back), node.outputs, attrs(), node.origin)]


def softmax_last(graph: Graph) -> Graph:
    """Softmax over one inner axis, or over several as before opset 13, becomes a Softmax over the last axis."""
    def rule(r: Rewriter, node: Node):
        if node.op != "Softmax":
            return None
        t = r.type(node.inputs[0])
        rank = len(t.shape)
        axis = int(node.attrs.get("axis", -1)) % max(rank, 1)
        if node.attrs.get("flatten") and axis != rank - 1:
            shape = (int(np.prod(t.shape[:axis], dtype=np.int64)), int(np.prod(t.shape[axis:], dtype=np.int64)))
            flat = TensorType(t.dtype, shape)
            x, y = (r.tensor(node.outputs[0] + "/flat", flat) for _ in range(2))
            to, back = (r.const(node.outputs[0] + "/shape", np.array(s, np.int64)) for s in (shape, t.shape))
            return [
                Node("Reshape", (node.inputs[0], to), (x,), attrs(), node.origin),
                Node("Softmax", (x,), (y,), attrs(axis=-1), node.origin),
                Node("Reshape", (y, back), node.outputs, attrs(), node.origin),
            ]
        if axis == rank - 1:
            return [Node("Softmax", node.inputs, node.outputs, attrs(axis=-1), node.origin)]
        perm = (*(k for k in range(rank) if k != axis), axis)
        moved = TensorType(t.dtype, tuple(t.shape[k] for k in perm))
        x, y = (r.tensor(node.outputs[0] + "/last", moved) for _ in range(2))
        inverse = tuple(perm.index(k) for k in range(rank))
        return [
            Node("Transpose", node.inputs, (x,), attrs(perm=perm), node.origin),
            Node("Softmax", (x,), (y,), attrs(axis=-1), node.origin),
            Node("Transpose", (y,), node.outputs, attrs(perm=inverse), node.origin),
        ]

    return rewrite_nodes(graph, rule)


def explicit_windows(graph: Graph) -> Graph:
    """auto_pad becomes pads, and the kernel's shape is written out."""
    def rule(r: Rewriter, node: Node):
        if node.op not in ("Conv", "MaxPool", "AveragePool") or len(r.type(node.inputs[0]).shape) != 4:
            return None
        kernel = r.type(node.inputs[1]).shape[2:] if node.op == "Conv" else None
        w = window(node, r.type(node.inputs[0]).shape[2:], kernel)
        new = {"auto_pad": "NOTSET", "pads": w.pads, "kernel_shape": w.kernel, "strides": w.strides}
        if node.op != "AveragePool" or any(d != 1 for d in w.dilations):  # a pool has dilations only since opset 19
            new["dilations"] = w.dilations
        return [node.with_(attrs=new)]
    return rewrite_nodes(graph, rule)
