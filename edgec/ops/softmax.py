"""Softmax over the last axis, float32 and int8 (integer arithmetic only)."""
from __future__ import annotations

import math

import numpy as np

from ..fixed import bounds, multiplier, requant
from ..ir import Node
from ..loops import Call, Const, For, Ref, Stmt, Var, mul
from .base import Lowering, Op

FRACTION = 16  # bits of the quotient before requantisation


def exp_table(scale: float, n: int) -> np.ndarray:
    """e^(-d*scale) for d = 0..255 as fixed point, scaled so that n of them sum below 2^31. uint32 [256]."""
    bits = 30 - math.ceil(math.log2(n)) if n > 1 else 30
    return np.rint(np.exp(-np.arange(256) * np.float64(scale)) * 2.0**bits).astype(np.uint32)


def reference(node, inputs, in_types, out_types):
    x = inputs[0]
    if in_types[0].q is None:
        e = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
        return [(e / e.sum(-1, keepdims=True)).astype(np.float32)]
    qx, qy = in_types[0].q, out_types[0].q
    e = exp_table(float(qx.scale), x.shape[-1]).astype(np.int64)[x.max(-1, keepdims=True).astype(np.int64) - x]
    quotient = (e << FRACTION) // e.sum(-1, keepdims=True)
    return [requant(quotient, multiplier(2.0**-FRACTION / np.float64(qy.scale)), int(qy.zero_point), *bounds(qy, None))]


def lower(ctx: Lowering, node: Node) -> list[Stmt]:
    x_t, y_t = ctx.type(node.inputs[0]), ctx.type(node.outputs[0])
    n = x_t.shape[-1]
    count = x_t.size // n
    x, y = ctx.buffer(node.inputs[0]), ctx.buffer(node.outputs[0])
    if x_t.q is None:
        kernel, params, tables = "softmax_f32", {"n": n}, []
    else:
        mul_ = multiplier(2.0**-FRACTION / np.float64(y_t.q.scale))
        ctx.require(mul_.pre == 0, "an output scale below 2^-14")
        lo, hi = bounds(y_t.q, None)
        kernel = "softmax_s8"
        params = {"n": n, "m": int(mul_.m[0]), "c": mul_.offset(int(y_t.q.zero_point)), "f": mul_.f, "lo": lo, "hi": hi}
        tables = [ctx.rom(exp_table(float(x_t.q.scale), n), "exp")]
    ctx.inplace(node.outputs[0], node.inputs[0])

    def meaning(args, read, write):
        write(args[-1], reference(node, [np.asarray(read(args[0]))[:n].reshape(1, n)], [x_t], [y_t])[0].reshape(-1))

    def call(at):
        return Call(kernel, params, (Ref(x, at), *map(Ref, tables), Ref(y, at)), (y,), meaning)

    if count == 1:
        return [call(Const(0))]
    return [For("i", Const(0), Const(count), (call(mul(Var("i"), n)),))]


OPS = (Op("Softmax", lower, {"axis": -1}, None, reference, "integer", ("float32", "int8", "uint8")),)
