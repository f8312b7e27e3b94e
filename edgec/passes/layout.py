"""Channels last: spatial operators work on N H W C; the transpositions that this inserts are moved down and cancelled."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..ir import Graph, Node, TensorType, attrs
from ..ops.spatial import window
from ..rewrite import Rewriter, Sweep, rewrite_nodes
from . import normalise
from .constants import permuted

SPATIAL = ("Conv", "MaxPool", "AveragePool")
LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
TABLES = ("edgec.Lut", "edgec.Curve")
POINTWISE = normalise.POINTWISE | {*TABLES, "edgec.Offset"}


def _has_kernel(r: Rewriter, node: Node) -> bool:
    """What the kernels do not take stays channels first, as a loop nest."""
    x = r.type(node.inputs[0])
    if x.dtype not in ("float32", "int8") and x.q is None or any(node.outputs[1:]):  # indices count in the first layout
        return False
    if node.op == "AveragePool":
        w = window(node, r.type(node.inputs[0]).shape[2:])
        ends = zip(w.out_size, w.strides, w.kernel, w.in_size, w.pads[:2], w.pads[2:], strict=True)
        widened = any((o - 1) * s + k > n + before + after for o, s, k, n, before, after in ends)
        return not widened and all(d == 1 for d in node.attrs.get("dilations") or ())
    return True


def _typed(t: TensorType, perm) -> TensorType:
    return replace(t, shape=tuple(t.shape[k] for k in perm))


def channels_last(graph: Graph) -> Graph:
    """Each spatial operator between a transposition to N H W C and one back; weights become OC KH KW IC."""
    def rule(r: Rewriter, node: Node):
        if node.op not in SPATIAL or node.attrs.get("channels_last") or len(r.type(node.inputs[0]).shape) != 4:
            return None
        if not _has_kernel(r, node):
            return None
        x_t, y_t = r.type(node.inputs[0]), r.type(node.outputs[0])
        x = r.tensor(node.inputs[0] + "/nhwc", _typed(x_t, LAST), source=r.tensors[node.inputs[0]].source, perm=LAST)
        y = r.tensor(node.outputs[0] + "/nhwc", _typed(y_t, LAST), source=r.tensors[node.outputs[0]].source, perm=LAST)
        rest = list(node.inputs[1:])
        if node.op == "Conv":
            if r.value(rest[0]) is None:
                return None
            rest[0] = _weights(r, rest[0])
        return [
            Node("Transpose", (node.inputs[0],), (x,), attrs(perm=LAST), node.origin),
            node.with_(
                inputs=(x, *rest),
                outputs=(y,),
                attrs={"channels_last": 1, **({"ceil_mode": 0} if node.op == "AveragePool" else {})},
            ),
            Node("Transpose", (y,), node.outputs, attrs(perm=FIRST), node.origin),
        ]

    return rewrite_nodes(graph, rule)


def _weights(r: Rewriter, name: str) -> str:
    t = r.tensors[name]
    if t.type.q is None:
        return permuted(r, name, LAST)
    return r.const(name + "/ohwi", t.data.transpose(LAST), t.type.q)  # channels stay axis 0


def cancel_transposes(graph: Graph) -> Graph:
    """Transpositions sink through elementwise operators, Concat, Pad, Slice and reductions, and cancel in pairs."""
    def rule(r: Sweep, node: Node):
        return _compose(r, node) if node.op == "Transpose" else _flatten_gemm(r, node) if node.op == "Gemm" else _sink(r, node)
    return rewrite_nodes(graph, rule)


def _compose(r: Sweep, node: Node) -> list[Node] | None:
    before = r.made.get(node.inputs[0])
    if before is None or before.op != "Transpose":
        return None
    perm = tuple(before.attrs["perm"][k] for k in node.attrs["perm"])
    if perm != tuple(range(len(perm))):
        return [node.with_(inputs=before.inputs, attrs={"perm": perm})]
    if node.outputs[0] in r.outputs:
        return [Node("Identity", before.inputs, node.outputs, attrs(), node.origin)]
    r.rename(node.outputs[0], before.inputs[0])
    return []


def _flatten_gemm(r: Sweep, node: Node) -> list[Node] | None:
    """Gemm over a flattened transposed picture: the weights' columns are permuted instead."""
    flat = r.made.get(node.inputs[0])
    turn = r.made.get(flat.inputs[0]) if flat is not None and flat.op in ("Reshape", "Flatten") else None
    if turn is None or turn.op != "Transpose" or r.uses[flat.outputs[0]] != 1 or r.type(flat.outputs[0]).shape[0] != 1:
        return None
    if r.type(turn.inputs[0]).shape[0] != 1 or turn.attrs["perm"][0] != 0:
        return None
    w = r.tensors[node.inputs[1]]
    perm = turn.attrs["perm"]
    inverse = [perm.index(k) for k in range(len(perm))]
    shape = r.type(turn.outputs[0]).shape[1:]
    if [k for k in perm if r.type(turn.inputs[0]).shape[k] > 1] == sorted(k for k in perm if r.type(turn.inputs[0]).shape[k] > 1):
        return None  # no element moves: it costs nothing as it is
    data = w.data.reshape(-1, *shape).transpose(inverse).reshape(w.data.shape)
    name = r.tensor(w.name + "/columns", w.type, np.ascontiguousarray(data), grid=w.grid)
    plain = r.tensor(flat.outputs[0] + "/plain", r.type(flat.outputs[0]))
    return [
        flat.with_(inputs=(turn.inputs[0], *flat.inputs[1:]), outputs=(plain,)),
        node.with_(inputs=(plain, name, *node.inputs[2:])),
    ]


def _sink(r: Sweep, node: Node) -> list[Node] | None:
    """node(Transpose(x), ...) as Transpose(node(x, ...)), where every run-time operand is transposed alike."""
    tensors = [i for i in node.inputs if i and r.value(i) is None]
    turns = [r.made.get(i) for i in tensors]
    if not turns or any(t is None or t.op != "Transpose" for t in turns) or len({tuple(t.attrs["perm"]) for t in turns}) != 1:
        return None
    if len([o for o in node.outputs if o]) != 1:
        return None
    perm = tuple(turns[0].attrs["perm"])
    y_t = r.type(node.outputs[0])
    rank = len(perm)
    if len(y_t.shape) != rank:
        return None
    inverse = tuple(perm.index(k) for k in range(rank))
    source = {i: t.inputs[0] for i, t in zip(tensors, turns, strict=True)}
    ins, extra = _operands(r, node, source, inverse, rank, perm)
    if ins is None:
        return None
    old = r.tensors[node.outputs[0]]
    y = r.tensor(node.outputs[0] + "/moved", _typed(y_t, inverse), source=old.source, perm=inverse if old.perm is None else None)
    return [
        node.with_(inputs=tuple(ins), outputs=(y,), attrs=extra),
        Node("Transpose", (y,), node.outputs, attrs(perm=perm), node.origin),
    ]


def _operands(r: Rewriter, node: Node, source, inverse, rank, perm):
    """The node's inputs and changed attributes before the transposition; (None, None) where it cannot pass."""
    if node.op in POINTWISE:
        if node.attrs.get("axis") is not None and node.op in ("QuantizeLinear", "DequantizeLinear"):
            if any(r.value(i) is not None and r.type(i).size > 1 for i in node.inputs[1:] if i):
                return None, None
        ins = []
        for i in node.inputs:
            if not i or i in source:
                ins.append(source.get(i, i))
            elif r.type(i).size == 1 or node.op in TABLES:
                ins.append(i)
            else:
                v = r.value(i)
                if v is None or v.ndim > rank:
                    return None, None
                wide = r.const(i + "/wide", v.reshape((1,) * (rank - v.ndim) + v.shape), r.type(i).q)
                ins.append(r.const(i + "/moved", r.value(wide).transpose(inverse), r.type(i).q))
        return ins, {}
    ins = [source.get(i, i) for i in node.inputs]
    if node.op == "Concat":
        if len(source) != len(set(node.inputs)):
            return None, None
        return ins, {"axis": perm[int(node.attrs["axis"]) % rank]}
    if (
        node.op == "Pad"
        and r.value(node.inputs[1]) is not None
        and r.type(node.inputs[1]).size == 2 * rank
        and len(node.inputs) < 4
    ):
        pads = r.value(node.inputs[1]).reshape(2, rank)
        ins[1] = r.const(node.inputs[1] + "/moved", pads[:, list(inverse)].reshape(-1))
        return ins, {}
    if node.op == "Slice" and len(node.inputs) > 3 and node.inputs[3] and r.value(node.inputs[3]) is not None:
        axes = np.array([perm[int(a) % rank] for a in r.value(node.inputs[3])], np.int64)
        ins[3] = r.const(node.inputs[3] + "/moved", axes)
        return ins, {}
    if node.op == "Resize" and not node.attrs.get("axes"):
        for k in range(2, len(ins)):
            if ins[k]:
                v = r.value(ins[k])
                if v is None or v.size != rank:
                    return None, None
                ins[k] = r.const(ins[k] + "/moved", v[list(inverse)])
        if len(ins) > 1:
            ins[1] = ""
        return ins, {}
    if (
        node.op.startswith("Reduce")
        and node.attrs.get("keepdims", 1)
        and len(node.inputs) > 1
        and node.inputs[1]
        and r.value(node.inputs[1]) is not None
    ):
        axes = np.array([perm[int(a) % rank] for a in r.value(node.inputs[1])], np.int64)
        ins[1] = r.const(node.inputs[1] + "/moved", axes)
        return ins, {}
    return None, None
