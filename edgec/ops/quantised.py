"""int8 forms of elementwise operators: any function of one tensor is a table; sums and products are integer arithmetic."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import UnsupportedError
from ..fixed import bounds, multiplier, requant
from ..ir import Graph, Node, QParams
from ..loops import Bin, Call, Const, Fn, For, Load, Ref, Stmt, Store, Var, add, cast, mul
from .base import Lowering, Op
from .conv import requant_expr
from .spatial import At, Reads, RowShape


def reference_lut(node, inputs, in_types, out_types):
    return [inputs[1][inputs[0].astype(np.int64) + 128]]


def lower_lut(ctx: Lowering, node: Node) -> list[Stmt]:
    n = ctx.type(node.inputs[0]).size
    if ctx.type(node.outputs[0]).dtype == "int16":
        x, table = (Load(ctx.buffer(node.inputs[0]), Var("i"), "int8"), ctx.buffer(node.inputs[1]))
        value = Load(table, Bin("+", cast(x, "int32"), Const(128)), "int16")
        return [For("i", Const(0), Const(n), (Store(ctx.buffer(node.outputs[0]), Var("i"), value),))]
    ctx.inplace(node.outputs[0], node.inputs[0])
    return _emit_lut(ctx, node, n)(Const(0), (At(ctx.buffer(node.inputs[0])),), At(ctx.buffer(node.outputs[0])))


def _emit_lut(ctx: Lowering, node: Node, n: int):
    """Table of 256 in the order of the unsigned index: entry (uint8_t)x, so 0..127 come first."""
    table = np.roll(ctx.value(node.inputs[1]), 128)
    rom = ctx.rom(table, "table")

    def meaning(args, read, write):
        write(args[2], table[np.asarray(read(args[0]))[:n].view(np.uint8)])

    def emit(oy, sources, target):
        return [Call("lut_s8", {"n": n}, (sources[0].ref(oy, n), Ref(rom), target.ref(oy, n)), (target.buffer,), meaning)]

    return emit


def lut_rows(graph: Graph, node: Node) -> RowShape | None:
    return _same_rows(graph, node, node.inputs[:1]) if graph.type(node.outputs[0]).dtype == "int8" else None


def _same_rows(graph: Graph, node: Node, operands) -> RowShape | None:
    """Row by row where all operands have the output's shape [1][H][W][C]."""
    out = graph.type(node.outputs[0])
    if (
        len(out.shape) != 4
        or out.shape[0] != 1
        or any(graph.const(i) is not None or graph.type(i).shape != out.shape for i in operands)
    ):
        return None
    row = out.shape[2] * out.shape[3]
    return RowShape(tuple(Reads(i, 1, 1, 1, 0, out.shape[1], row) for i in operands), out.shape[1], row, inplace=True)


def lut_row_emit(ctx: Lowering, node: Node):
    return _emit_lut(ctx, node, lut_rows(ctx.graph, node).row)


def add_parts(op: str, qa: QParams, qb: QParams, qy: QParams, wide: bool = False) -> tuple[int, int, int, int]:
    """(ma, mb, c, f) of y = (a*ma + b*mb + c) >> f, all in int32: the largest f for which no input overflows it. wide:
    int16 operands, in int64."""
    ra, rb = (float(np.float64(q.scale) / np.float64(qy.scale)) for q in (qa, qb))
    for f in range(22, 0, -1):
        ma, mb = round(ra * 2.0**f), round(rb * 2.0**f) * (-1 if op == "Sub" else 1)
        c = (int(qy.zero_point) << f) + (1 << (f - 1)) - int(qa.zero_point) * ma - int(qb.zero_point) * mb
        if wide or 128 * (abs(ma) + abs(mb)) + abs(c) < 2**31:
            return ma, mb, c, f
    raise UnsupportedError(
        f"{op}: the input scales {qa}, {qb} are too coarse for the output's {qy}", fix="quantise with matching ranges"
    )


def reference_add(node, inputs, in_types, out_types):
    y_t = out_types[0]
    ma, mb, c, f = add_parts(node.op, in_types[0].q, in_types[1].q, y_t.q, _wide(*in_types, y_t))
    a, b = (x.astype(np.int64) for x in inputs)
    return [np.clip((a * ma + b * mb + c) >> f, *bounds(y_t.q, node.attrs.get("clip"), y_t.dtype)).astype(y_t.dtype)]


def _wide(*types) -> bool:
    return any(t.dtype == "int16" for t in types)


def reference_mul(node, inputs, in_types, out_types):
    qa, qb, qy = in_types[0].q, in_types[1].q, out_types[0].q
    acc = (inputs[0].astype(np.int64) - int(qa.zero_point)) * (inputs[1].astype(np.int64) - int(qb.zero_point))
    scale = np.float64(qa.scale) * np.float64(qb.scale) / np.float64(qy.scale)
    dtype = out_types[0].dtype
    return [requant(acc, multiplier(scale), int(qy.zero_point), *bounds(qy, node.attrs.get("clip"), dtype), dtype)]


def lower_binary(ctx: Lowering, node: Node) -> list[Stmt]:
    """Equal shapes: a kernel. Broadcasting: the same formula as a loop nest."""
    a_t, b_t, y_t = (ctx.type(t) for t in (*node.inputs, node.outputs[0]))
    a, b, y = (ctx.buffer(t) for t in (*node.inputs, node.outputs[0]))
    n = y_t.size
    for i, t in zip(node.inputs, (a_t, b_t), strict=True):
        if t.size == n and t.dtype == y_t.dtype and ctx.value(i) is None:
            ctx.inplace(node.outputs[0], i)
    formula, has_kernel = _formula(ctx, node)
    if a_t.size == b_t.size == n and has_kernel:
        return _emit_binary(ctx, node, n)(Const(0), (At(a), At(b)), At(y))
    shape = y_t.shape
    names = [Var(f"i{d}") for d in range(len(shape))]
    body: tuple[Stmt, ...] = (Store(y, flat(shape, shape, names), formula(Load(a, flat(a_t.shape, shape, names), a_t.dtype),
                                                                       Load(b, flat(b_t.shape, shape, names), b_t.dtype))),)
    for name, size in zip(reversed(names), reversed(shape), strict=True):
        body = (For(name.name, Const(0), Const(size), body),)
    return list(body)


def _formula(ctx: Lowering, node: Node):
    """The loop-IR expression of one element, and whether a kernel computes it."""
    a_t, b_t, y_t = (ctx.type(t) for t in (*node.inputs, node.outputs[0]))
    lo, hi = bounds(y_t.q, node.attrs.get("clip"), y_t.dtype)
    if node.op == "Mul":
        mul_ = _mul_parts(a_t.q, b_t.q, y_t.q)

        def product(p, q):
            acc = Bin(
                "*",
                Bin("-", cast(p, "int32"), Const(int(a_t.q.zero_point))),
                Bin("-", cast(q, "int32"), Const(int(b_t.q.zero_point))),
            )
            return requant_expr(acc, Const(int(mul_.m[0])), mul_, int(y_t.q.zero_point), lo, hi, y_t.dtype)

        return product, mul_.pre == 0 and not _wide(a_t, b_t, y_t)
    wide = _wide(a_t, b_t, y_t)
    ma, mb, c, f = add_parts(node.op, a_t.q, b_t.q, y_t.q, wide)
    k = "int64" if wide else "int32"

    def total(p, q):
        acc = Bin("+", Bin("+", Bin("*", cast(p, k), Const(ma, k)), Const(c, k)), Bin("*", cast(q, k), Const(mb, k)))
        return Fn("cast", (Bin("min", Bin("max", Bin(">>", acc, Const(f, k)), Const(lo, k)), Const(hi, k)),), y_t.dtype)

    return total, not wide


def _mul_parts(qa: QParams, qb: QParams, qy: QParams):
    return multiplier(np.float64(qa.scale) * np.float64(qb.scale) / np.float64(qy.scale))


def _emit_binary(ctx: Lowering, node: Node, n: int):
    a_t, b_t, y_t = (ctx.type(t) for t in (*node.inputs, node.outputs[0]))
    lo, hi = bounds(y_t.q, node.attrs.get("clip"))
    if node.op == "Mul":
        mul_, zy = _mul_parts(a_t.q, b_t.q, y_t.q), int(y_t.q.zero_point)
        kernel, ref = "mul_s8", reference_mul
        params = {
            "n": n,
            "za": int(a_t.q.zero_point),
            "zb": int(b_t.q.zero_point),
            "m": int(mul_.m[0]),
            "c": mul_.offset(zy),
            "f": mul_.f,
        }
    else:
        ma, mb, c, f = add_parts(node.op, a_t.q, b_t.q, y_t.q)
        kernel, ref, params = "add_s8", reference_add, {"n": n, "ma": ma, "mb": mb, "c": c, "f": f}
    params |= {"lo": lo, "hi": hi}

    def meaning(args, read, write):
        write(args[2], ref(node, [np.asarray(read(args[k]))[:n] for k in (0, 1)], [a_t, b_t], [y_t])[0])

    def emit(oy, sources, target):
        return [
            Call(kernel, params, (sources[0].ref(oy, n), sources[1].ref(oy, n), target.ref(oy, n)), (target.buffer,), meaning)
        ]

    return emit


def binary_row_emit(ctx: Lowering, node: Node):
    return _emit_binary(ctx, node, binary_rows(ctx.graph, node).row)


def binary_rows(graph: Graph, node: Node) -> RowShape | None:
    types = [graph.type(t) for t in (*node.inputs, node.outputs[0])]
    if _wide(*types):
        return None
    qs = [t.q for t in types]
    return None if node.op == "Mul" and _mul_parts(*qs).pre else _same_rows(graph, node, node.inputs)


def flat(shape, out_shape, names):
    """The flat index into a tensor of `shape` broadcast to `out_shape`, from one variable per output axis."""
    at, stride = Const(0), 1
    for d in range(1, len(shape) + 1):
        if shape[-d] != 1:
            at = add(mul(names[len(out_shape) - d], stride), at)
        stride *= shape[-d]
    return at


def by_type(op: Op) -> Op:
    """The float record of Add, Sub or Mul with integer forms for quantised operands."""
    def lower(ctx, node):
        return (op.lower if ctx.type(node.outputs[0]).q is None else lower_binary)(ctx, node)

    def reference(node, inputs, in_types, out_types):
        integer = reference_mul if op.name == "Mul" else reference_add
        return (op.reference if out_types[0].q is None else integer)(node, inputs, in_types, out_types)

    def row_shape(graph, node):
        return (op.rows[0] if graph.type(node.outputs[0]).q is None else binary_rows)(graph, node)

    def row_emit(ctx, node):
        return (op.rows[1] if ctx.type(node.outputs[0]).q is None else binary_row_emit)(ctx, node)

    return replace(
        op,
        lower=lower,
        reference=reference,
        rows=(row_shape, row_emit),
        quant="integer",
        dtypes=(*op.dtypes, *(d for d in ("int8",) if d not in op.dtypes)),
    )


INTEGER = ("Add", "Sub", "Mul")


def reference_offset(node, inputs, in_types, out_types):
    return [(inputs[0].astype(np.int32) + (-128 if node.attrs["to"] == "int8" else 128)).astype(node.attrs["to"])]


def lower_offset(ctx: Lowering, node: Node) -> list[Stmt]:
    """uint8 <-> int8 by moving the zero point: every other operator sees int8 alone."""
    x, y, t = ctx.buffer(node.inputs[0]), ctx.buffer(node.outputs[0]), ctx.type(node.inputs[0])
    ctx.inplace(node.outputs[0], node.inputs[0])
    value = Bin("+", cast(Load(x, Var("i"), t.dtype), "int32"), Const(-128 if node.attrs["to"] == "int8" else 128))
    return [For("i", Const(0), Const(t.size), (Store(y, Var("i"), cast(value, node.attrs["to"])),))]


OPS = (
    Op("edgec.Lut", lower_lut, {"function": ""}, None, reference_lut, "", ("int8",), (lut_rows, lut_row_emit)),
    Op("edgec.Offset", lower_offset, {"to": "int8"}, None, reference_offset, "", ("int8", "uint8")),
)
