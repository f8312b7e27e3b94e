"""LayerNormalization and RMSNormalization over trailing axes: float32, int8 and int16 (integers only).

Integers: with d = x - zero point, s = sum d (0 for RMS) and v = n * sum d^2 - s^2 + epsilon * n^2 / scale^2, a normalised
element is (n * d - s) / sqrt(v). Its reciprocal root comes from a 64-bit integer root and a 31-bit division, relative
error below 2^-29; epsilon is rounded to 2^-16 of the smallest step of v for rows of up to 512 int8 elements, and coarser
where v is large. With f of at least 8 an output is within 0.52 steps of the exact real value, int16 within 0.6.
"""
from __future__ import annotations

from math import ceil, isqrt, log2, prod
from typing import NamedTuple

import numpy as np

from ..fixed import bounds
from ..ir import Graph, Node, TensorType
from ..loops import Call, Const, For, Ref, Stmt, Var, mul
from .base import Array, Lowering, Op
from .code import Code, Tensor, written
from .nest import axis_of
from .scalar import FLOAT, real

SUFFIX = {("int8", "int8"): "s8", ("int8", "int16"): "s8_s16", ("int16", "int8"): "s16_s8", ("int16", "int16"): "s16"}
MOST = 2**14  # elements: n * d stays below 2^31
SCHEMA = {"axis": -1, "epsilon": 1e-5, "stash_type": 1}


def normalised(node: Node, shape: tuple[int, ...]) -> int:
    """How many elements are normalised together."""
    return prod(shape[axis_of(int(node.attrs.get("axis", -1)), len(shape)):])


class Parts(NamedTuple):
    """epsilon: of v, which has 2 * half bits behind the point; fraction, f: shifts; gain, offset: int32 per element."""

    half: int
    epsilon: int
    fraction: int
    f: int
    gain: Array
    offset: Array


def parts(node: Node, scale: Array, bias: Array | None, x_t: TensorType, y_t: TensorType) -> Parts | None:
    """What the kernel needs; None where it cannot compute the node."""
    n = normalised(node, x_t.shape)
    if (x_t.dtype, y_t.dtype) not in SUFFIX or n > MOST or scale.size != n or bias is not None and bias.size != n:
        return None
    step = np.float64(y_t.q.scale)
    half = min(8, (62 - 2 * (n.bit_length() + 8 * np.dtype(x_t.dtype).itemsize + 1)) // 2)
    if half < 0:
        return None
    epsilon = round(float(node.attrs.get("epsilon", 1e-5)) * n * n / float(x_t.q.scale) ** 2 * 4**half)
    fraction = 30 - ceil(log2(n) / 2)
    gain = scale.astype(np.float64).reshape(-1) / step
    offset = (0 if bias is None else bias.astype(np.float64).reshape(-1)) / step + int(y_t.q.zero_point) + np.zeros(n)
    for f in range(20, 0, -1):
        g, c = np.rint(gain * 2.0 ** (32 + f - fraction)), np.rint(offset * 2.0**f) + 2 ** (f - 1)
        if np.abs(g).max() < 2**31 and np.abs(c).max() < 2**30 and epsilon < 2**61:
            return Parts(half, epsilon, fraction, f, g.astype(np.int32), c.astype(np.int32))
    return None


def reference(node, inputs, in_types, out_types):
    x, scale = inputs[0], inputs[1]
    bias = inputs[2] if len(inputs) > 2 else None
    n, rms = normalised(node, x.shape), node.op == "RMSNormalization"
    if in_types[0].q is None:
        rows = x.astype(np.float64).reshape(-1, n)
        rows = rows if rms else rows - rows.mean(1, keepdims=True)
        y = rows / np.sqrt((rows * rows).mean(1, keepdims=True) + node.attrs.get("epsilon", 1e-5)) * scale.reshape(-1)
        return [(y + (0 if bias is None else bias.reshape(-1))).reshape(x.shape).astype(np.float32)]
    y_t = out_types[0]
    p = parts(node, scale, bias, in_types[0], y_t)
    d = x.astype(np.int64).reshape(-1, n) - int(in_types[0].q.zero_point)
    out = np.empty_like(d)
    for k, row in enumerate(d):
        s = 0 if rms else int(row.sum())
        v = (n * int((row * row).sum()) - s * s << 2 * p.half) + p.epsilon or 1
        up = (64 - v.bit_length()) // 2
        inverse = 2**62 // isqrt(v << 2 * up)
        z = ((n * row - s) * inverse) >> max(1, 62 - up - p.fraction - p.half)
        out[k] = ((z * p.gain >> 32) + p.offset) >> p.f
    return [np.clip(out, *bounds(y_t.q, None, y_t.dtype)).astype(y_t.dtype).reshape(x.shape)]


def lower(ctx: Lowering, node: Node) -> list[Stmt]:
    x_t, y_t = ctx.type(node.inputs[0]), ctx.type(node.outputs[0])
    scale = ctx.value(node.inputs[1])
    bias = ctx.value(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    p, n = parts(node, scale, bias, x_t, y_t), normalised(node, x_t.shape)
    lo, hi = bounds(y_t.q, None, y_t.dtype)
    params = {
        "n": n,
        "zx": int(x_t.q.zero_point),
        "rms": int(node.op == "RMSNormalization"),
        "half": p.half,
        "eps_high": p.epsilon >> 32,
        "eps_low": int(np.uint32(p.epsilon & 0xFFFFFFFF).astype(np.int32)),
        "fraction": p.fraction,
        "f": p.f,
        "lo": lo,
        "hi": hi,
        "x16": int(x_t.dtype == "int16"),
        "y16": int(y_t.dtype == "int16"),
    }
    x, y = ctx.buffer(node.inputs[0]), ctx.buffer(node.outputs[0])
    gain, offset = ctx.rom(p.gain, "gain"), ctx.rom(p.offset, "offset")
    if x_t.dtype == y_t.dtype:
        ctx.inplace(node.outputs[0], node.inputs[0])

    def meaning(args, read, write):
        row = np.asarray(read(args[0]))[:n].reshape(1, n)
        write(args[3], reference(node.with_(attrs={"axis": -1}), [row, scale, bias], [x_t], [y_t])[0].reshape(-1))

    at = mul(Var("i"), n)
    call = Call(f"norm_{SUFFIX[x_t.dtype, y_t.dtype]}", params, (Ref(x, at), Ref(gain), Ref(offset), Ref(y, at)), (y,), meaning)
    return [For("i", Const(0), Const(x_t.size // n), (call,))]


def nest(c: Code, a, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> None:
    """Floats: mean and variance in two passes."""
    y, n = c.out[0], prod(x.shape[axis_of(a.axis, x.rank):])
    x, y, scale = x.reshaped(x.size // n, n), y.reshaped(x.size // n, n), scale.reshaped(n)
    bias = None if bias is None else bias.reshaped(n)
    with c.loop(x.shape[0]) as b:
        mean = None if a.op == "RMSNormalization" else c.let(c.sum(n, lambda i: x[b, i], 0, x.dtype) / float(n))

        def centred(i):
            return x[b, i] if mean is None else x[b, i] - mean

        spread = c.sum(n, lambda i: centred(i) * centred(i), 0, x.dtype)
        root = c.let(real.sqrt(spread / float(n) + a.epsilon))
        with c.loop(n) as i:
            v = centred(i) / root * scale[i]
            y[b, i] = v if bias is None else v + bias[i]


def _record(name: str) -> Op:
    floats = written(name, nest, SCHEMA, FLOAT)

    def lowered(ctx: Lowering, node: Node) -> list[Stmt]:
        return (floats.lower if ctx.type(node.inputs[0]).q is None else lower)(ctx, node)

    return Op(name, lowered, SCHEMA, None, reference, "integer", (*floats.dtypes, "int8", "int16"), kernels=("norm",))


def takes(types: list[TensorType | None], axis: int, outputs: int) -> bool:
    """Whether the record computes a node of ONNX: one output, scale and bias of one element for each normalised one. Any
    other is inlined by ONNX's function body."""
    shape = types[0].shape
    n = prod(shape[axis_of(axis, len(shape)):])
    return outputs == 1 and types[0].dtype == "float32" and all(t is None or t.size == n for t in types[1:])


NORMS = ("LayerNormalization", "RMSNormalization")
OPS = tuple(map(_record, NORMS))


def integer_form(graph: Graph, node: Node) -> bool:
    """Whether quantisation may count on the kernel: scale and bias are constants."""
    n = normalised(node, graph.type(node.inputs[0]).shape)
    return n <= MOST and all(graph.const(i) is not None for i in node.inputs[1:] if i)
