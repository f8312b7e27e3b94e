"""Gemm and MatMul, float32 and int8: constant weights as kernels, run-time operands as loop nests.

After passes/normalise.py: a Gemm is x [M][K] times constant w [N][K] (transB = 1, alpha = beta = 1) plus constant b [N] or none;
everything else is a MatMul.
"""
from __future__ import annotations

from functools import partial

import numpy as np

from ..fixed import bounds, multiplier, requant
from ..ir import Graph, Node
from ..kernels import c99, dsp
from ..kernels.choice import Packed, integer_kernel
from ..loops import Bin, Call, Const, For, Let, Load, Ref, Rows, Set, Stmt, Store, Var, add, cast, mul
from .base import Lowering, Op
from .conv import fits_kernels, integer_nest, integer_parts, requant_expr, wide_kernel
from .spatial import Window, in_order


def reference_gemm(node, inputs, in_types, out_types):
    x, w = inputs[0], inputs[1]
    bias = inputs[2] if len(inputs) > 2 and inputs[2] is not None else None
    clip, q = node.attrs.get("clip"), in_types[0].q
    if q is None:
        y = in_order(0 if bias is None else bias, x, w)
        return [(np.clip(y, *clip) if clip else y).astype(np.float32)]
    acc = x.astype(np.float64) @ w.astype(np.float64).T  # exact for int8
    folded, mul_ = integer_parts(w, bias, q, in_types[1].q, out_types[0].q, node.attrs.get("top_scale"))
    yq, dtype = out_types[0].q, out_types[0].dtype
    return [requant(acc.astype(np.int64) + folded, mul_, int(yq.zero_point), *bounds(yq, clip, dtype), dtype)]


def lower_gemm(ctx: Lowering, node: Node) -> list[Stmt]:
    """One row: a fully connected kernel. More rows: a pointwise convolution over M pixels."""
    x_t, w_t, y_t = ctx.type(node.inputs[0]), ctx.type(node.inputs[1]), ctx.type(node.outputs[0])
    (m, k), n = x_t.shape, w_t.shape[0]
    w = ctx.value(node.inputs[1])
    bias = ctx.value(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    ctx.macs(m * n * k)
    if x_t.q is not None and not fits_kernels(ctx.graph, node):
        return integer_nest(ctx, node, Window((1, 1), (1, 1), (1, 1), (0, 0, 0, 0), (1, m), (1, m)), 1)
    kind = "fc" if m == 1 else "conv"
    params = (
        {"in_c": k, "out_c": n}
        if m == 1
        else {
            "in_w": m,
            "in_c": k,
            "out_w": m,
            "out_c": n,
            "kh": 1,
            "kw": 1,
            "stride_w": 1,
            "dilation_w": 1,
            "pad_left": 0,
            "groups": 1,
        }
    )
    scratch = []
    if x_t.q is None:
        lo, hi = node.attrs.get("clip") or (-np.inf, np.inf)
        params |= {"flo": float(lo), "fhi": float(hi)}
        kernel = f"{kind}_f32"
        weights = [
            ctx.rom(c99.blocked(w, c99.FC if m == 1 else c99.CONV), "weights"),
            ctx.rom(np.zeros(n, np.float32) if bias is None else bias.astype(np.float32), "bias"),
        ]
    else:
        chosen = wide_kernel if "int16" in (x_t.dtype, y_t.dtype) else partial(_byte_kernel, ctx)
        best = chosen(ctx.graph, node, kind, params)
        if best.kernel == "conv_s8_dsp" and dsp.conv_pointwise(best.params):
            ctx.trailing(node.outputs[0], node.inputs[0], max(0, y_t.size - x_t.size))
        kernel, params, weights = best.kernel, best.params, [ctx.rom(data, hint) for hint, data in best.weights]
        scratch = (
            [] if best.scratch is None else [ctx.scratch(best.scratch, kernel) if best.scratch else ctx.buffer(node.outputs[0])]
        )
    x, y = ctx.buffer(node.inputs[0]), ctx.buffer(node.outputs[0])
    source = (Ref(x),) if m == 1 else (Rows(x, Const(0), 1, 1, 1, m * k), Ref(x))

    def meaning(args, read, write):
        value = np.asarray(read(args[0])).reshape(-1)[:m * k].reshape(m, k)
        write(args[len(source) + len(weights)], reference_gemm(node, [value, w, bias], [x_t, w_t], [y_t])[0].reshape(-1))

    return [Call(kernel, params, (*source, *map(Ref, weights), Ref(y), *map(Ref, scratch)), (y, *scratch), meaning)]


def _byte_kernel(ctx: Lowering, graph: Graph, node: Node, kind: str, params: dict[str, int]) -> Packed:
    """Of int8 input and output."""
    x_t, w_t, y_t = graph.type(node.inputs[0]), graph.type(node.inputs[1]), graph.type(node.outputs[0])
    w, bias = graph.const(node.inputs[1]), graph.const(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
    folded, mul_ = integer_parts(w, bias, x_t.q, w_t.q, y_t.q, node.attrs.get("top_scale"))
    lo, hi = bounds(y_t.q, node.attrs.get("clip"))
    params = params | {"c": mul_.offset(int(y_t.q.zero_point)), "f": mul_.f, "lo": lo, "hi": hi}
    in_room = 2 * x_t.size + x_t.nbytes + y_t.nbytes <= ctx.room  # 2: the input is widened in scratch
    unrolled = 0 if kind not in ctx.unrolled else 2 if in_room else 1
    return integer_kernel(kind, ctx.isa, params, w.reshape(len(w), 1, 1, -1), folded.astype(np.int32), mul_.m, unrolled)


def reference_matmul(node, inputs, in_types, out_types):
    a, b = inputs[:2]
    qa, qb, qy = in_types[0].q, in_types[1].q, out_types[0].q
    clip = node.attrs.get("clip")
    if qa is None:
        y = np.matmul(a.astype(np.float64), b.astype(np.float64)) if a.dtype.kind == "f" else np.matmul(a, b)
        return [(np.clip(y, *clip) if clip else y).astype(a.dtype)]
    acc = np.matmul(a.astype(np.int64) - int(qa.zero_point), b.astype(np.int64) - qb.zero_point.astype(np.int64))
    scale = np.float64(qa.scale) * qb.scale.astype(np.float64) / np.float64(qy.scale)
    return [requant(acc, multiplier(scale), int(qy.zero_point), *bounds(qy, clip))]


def lower_matmul(ctx: Lowering, node: Node) -> list[Stmt]:
    """Any ranks with broadcast batch dimensions: for each output element a sum over K, in order."""
    a_t, b_t, y_t = (ctx.type(t) for t in (*node.inputs[:2], node.outputs[0]))
    a_shape = a_t.shape if len(a_t.shape) > 1 else (1, *a_t.shape)
    b_shape = b_t.shape if len(b_t.shape) > 1 else (*b_t.shape, 1)
    m, k, n = a_shape[-2], a_shape[-1], b_shape[-1]
    batch = np.broadcast_shapes(a_shape[:-2], b_shape[:-2])
    count = int(np.prod(batch)) if batch else 1
    ctx.macs(count * m * n * k)
    a, b, y = ctx.buffer(node.inputs[0]), ctx.buffer(node.inputs[1]), ctx.buffer(node.outputs[0])
    i, j, inner = Var("i"), Var("j"), Var("l")
    names = [Var(f"b{d}") for d in range(len(batch))]

    def base(shape, size):
        at, stride = Const(0), size
        for d in range(1, len(shape) - 1):
            if shape[-2 - d] != 1:
                at = add(at, mul(names[-d], stride))
            stride *= shape[-2 - d]
        return at

    x = Load(a, add(base(a_shape, m * k), add(mul(i, k), inner)), a_t.dtype)
    z = Load(b, add(base(b_shape, k * n), add(mul(inner, n), j)), b_t.dtype)
    if a_t.q is None:
        kind, finish = a_t.dtype, Var("acc", a_t.dtype)
        ctx.require(kind in ("float32", "int32", "int64", "uint32", "uint64"), f"MatMul of {kind}")
        term = Bin("*", x, z)
        if node.attrs.get("clip"):
            lo, hi = node.attrs["clip"]
            finish = Bin("min", Bin("max", finish, Const(float(lo), kind)), Const(float(hi), kind))
    else:
        ctx.require(k * 255 * 255 < 2**31, "MatMul over more than 33,000 elements")
        kind = "int32"
        zb = b_t.q.zero_point.reshape(-1)
        ctx.require(zb.size == 1 or not zb.any(), "per-channel zero points")
        term = Bin("*", Bin("-", cast(x, kind), Const(int(a_t.q.zero_point))), Bin("-", cast(z, kind), Const(int(zb[0]))))
        mul_ = multiplier(np.float64(a_t.q.scale) * b_t.q.scale.astype(np.float64) / np.float64(y_t.q.scale))
        m_of = Const(int(mul_.m[0])) if mul_.m.size == 1 else Load(ctx.rom(mul_.m, "mult"), j, "int32")
        finish = requant_expr(Var("acc"), m_of, mul_, int(y_t.q.zero_point), *bounds(y_t.q, node.attrs.get("clip")))
    zero = Const(0.0 if kind == "float32" else 0, kind)
    at = add(base((*batch, m, n), m * n), add(mul(i, n), j))
    body: tuple[Stmt, ...] = (
        Let("acc", kind, zero),
        For("l", Const(0), Const(k), (Set("acc", Bin("+", Var("acc", kind), term)),)),
        Store(y, at, finish),
    )
    for var, size in ((j, n), (i, m), *zip(reversed(names), reversed(batch), strict=True)):
        body = (For(var.name, Const(0), Const(int(size)), body),)
    return list(body)


OPS = (
    Op(
        "Gemm",
        lower_gemm,
        {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0},
        None,
        reference_gemm,
        "integer",
        ("float32", "int8", "uint8"),
    ),
    Op("MatMul", lower_matmul, {}, None, reference_matmul, "integer", ("float32", "int8", "uint8", "int32", "int64")),
)
