"""int8 forms of elementwise operators: any function of one tensor is a table; sums and products are integer arithmetic."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import UnsupportedError
from ..fixed import bounds, multiplier, requant
from ..ir import Node, QParams
from ..loops import Bin, Call, Const, Fn, For, Load, Ref, Stmt, Store, Var, add, cast, mul
from .base import Lowering, Op
from .conv import requant_expr


def reference_lut(node, inputs, in_types, out_types):
    return [inputs[1][inputs[0].astype(np.int64) + 128]]


def lower_lut(ctx: Lowering, node: Node) -> list[Stmt]:
    """Table of 256 in the order of the unsigned index: entry (uint8_t)x, so 0..127 come first."""
    n = ctx.type(node.inputs[0]).size
    table = np.roll(ctx.value(node.inputs[1]), 128)
    x, y = ctx.buffer(node.inputs[0]), ctx.buffer(node.outputs[0])
    ctx.inplace(node.outputs[0], node.inputs[0])

    def meaning(args, read, write):
        write(args[2], table[np.asarray(read(args[0]))[:n].view(np.uint8)])

    return [Call("lut_s8", {"n": n}, (Ref(x), Ref(ctx.rom(table, "table")), Ref(y)), (y,), meaning)]


def add_parts(op: str, qa: QParams, qb: QParams, qy: QParams) -> tuple[int, int, int, int]:
    """(ma, mb, c, f) of y = (a*ma + b*mb + c) >> f, all in int32: the largest f for which no input overflows it."""
    ra, rb = (float(np.float64(q.scale) / np.float64(qy.scale)) for q in (qa, qb))
    for f in range(22, 0, -1):
        ma, mb = round(ra * 2.0**f), round(rb * 2.0**f) * (-1 if op == "Sub" else 1)
        c = (int(qy.zero_point) << f) + (1 << (f - 1)) - int(qa.zero_point) * ma - int(qb.zero_point) * mb
        if 128 * (abs(ma) + abs(mb)) + abs(c) < 2**31:
            return ma, mb, c, f
    raise UnsupportedError(f"{op}: the input scales {qa}, {qb} are too coarse for the output's {qy}", fix="quantise with matching ranges")


def reference_add(node, inputs, in_types, out_types):
    ma, mb, c, f = add_parts(node.op, in_types[0].q, in_types[1].q, out_types[0].q)
    a, b = (x.astype(np.int64) for x in inputs)
    return [np.clip((a * ma + b * mb + c) >> f, *bounds(out_types[0].q, node.attrs.get("clip"))).astype(np.int8)]


def reference_mul(node, inputs, in_types, out_types):
    qa, qb, qy = in_types[0].q, in_types[1].q, out_types[0].q
    acc = (inputs[0].astype(np.int64) - int(qa.zero_point)) * (inputs[1].astype(np.int64) - int(qb.zero_point))
    scale = np.float64(qa.scale) * np.float64(qb.scale) / np.float64(qy.scale)
    return [requant(acc, multiplier(scale), int(qy.zero_point), *bounds(qy, node.attrs.get("clip")))]


def lower_binary(ctx: Lowering, node: Node) -> list[Stmt]:
    """Equal shapes: a kernel. Broadcasting: the same formula as a loop nest."""
    a_t, b_t, y_t = (ctx.type(t) for t in (*node.inputs, node.outputs[0]))
    lo, hi = bounds(y_t.q, node.attrs.get("clip"))
    a, b, y = (ctx.buffer(t) for t in (*node.inputs, node.outputs[0]))
    n = y_t.size
    for i, t in zip(node.inputs, (a_t, b_t), strict=True):
        if t.size == n and ctx.value(i) is None:
            ctx.inplace(node.outputs[0], i)
    if node.op == "Mul":
        za, zb = int(a_t.q.zero_point), int(b_t.q.zero_point)
        mul_ = multiplier(np.float64(a_t.q.scale) * np.float64(b_t.q.scale) / np.float64(y_t.q.scale))
        zy = int(y_t.q.zero_point)

        def formula(p, q):
            acc = Bin("*", Bin("-", cast(p, "int32"), Const(za)), Bin("-", cast(q, "int32"), Const(zb)))
            return requant_expr(acc, Const(int(mul_.m[0])), mul_, zy, lo, hi)

        kernel, params = "mul_s8", {"n": n, "za": za, "zb": zb, "m": int(mul_.m[0]), "c": mul_.offset(zy), "f": mul_.f, "lo": lo, "hi": hi}
        usable, ref = mul_.pre == 0, reference_mul
    else:
        ma, mb, c, f = add_parts(node.op, a_t.q, b_t.q, y_t.q)

        def formula(p, q):
            total = Bin("+", Bin("+", Bin("*", cast(p, "int32"), Const(ma)), Const(c)), Bin("*", cast(q, "int32"), Const(mb)))
            acc = Bin(">>", total, Const(f))
            return Fn("cast", (Bin("min", Bin("max", acc, Const(lo)), Const(hi)),), "int8")

        kernel, params = "add_s8", {"n": n, "ma": ma, "mb": mb, "c": c, "f": f, "lo": lo, "hi": hi}
        usable, ref = True, reference_add
    if a_t.size == b_t.size == n and usable:
        def meaning(args, read, write):
            write(args[2], ref(node, [np.asarray(read(args[k]))[:n] for k in (0, 1)], [a_t, b_t], [y_t])[0])
        return [Call(kernel, params, (Ref(a), Ref(b), Ref(y)), (y,), meaning)]
    shape = y_t.shape
    names = [Var(f"i{d}") for d in range(len(shape))]
    body: tuple[Stmt, ...] = (Store(y, flat(shape, shape, names), formula(Load(a, flat(a_t.shape, shape, names), "int8"),
                                                                       Load(b, flat(b_t.shape, shape, names), "int8"))),)
    for name, size in zip(reversed(names), reversed(shape), strict=True):
        body = (For(name.name, Const(0), Const(size), body),)
    return list(body)


def flat(shape, out_shape, names):
    """The flat index into a tensor of `shape` broadcast to `out_shape`, from one variable per output axis."""
    at, stride = Const(0), 1
    for d in range(1, len(shape) + 1):
        if shape[-d] != 1:
            at = add(mul(names[len(out_shape) - d], stride), at)
        stride *= shape[-d]
    return at


def by_type(op: Op, lower, reference) -> Op:
    """The float record with integer forms for quantised operands."""
    def choose_lower(ctx, node):
        return (lower if ctx.type(node.outputs[0]).q is not None else op.lower)(ctx, node)

    def choose_reference(node, inputs, in_types, out_types):
        return (reference if out_types[0].q is not None else op.reference)(node, inputs, in_types, out_types)

    return replace(op, lower=choose_lower, reference=choose_reference, quant="integer", dtypes=(*op.dtypes, "int8"))


INTEGER = {"Add": (lower_binary, reference_add), "Sub": (lower_binary, reference_add), "Mul": (lower_binary, reference_mul)}
def reference_offset(node, inputs, in_types, out_types):
    return [(inputs[0].astype(np.int32) + (-128 if node.attrs["to"] == "int8" else 128)).astype(node.attrs["to"])]


def lower_offset(ctx: Lowering, node: Node) -> list[Stmt]:
    """uint8 <-> int8 by moving the zero point: every other operator sees int8 alone."""
    x, y, t = ctx.buffer(node.inputs[0]), ctx.buffer(node.outputs[0]), ctx.type(node.inputs[0])
    ctx.inplace(node.outputs[0], node.inputs[0])
    value = Bin("+", cast(Load(x, Var("i"), t.dtype), "int32"), Const(-128 if node.attrs["to"] == "int8" else 128))
    return [For("i", Const(0), Const(t.size), (Store(y, Var("i"), cast(value, node.attrs["to"])),))]


OPS = (
    Op("edgec.Lut", lower_lut, {"function": ""}, None, reference_lut, "", ("int8",)),
    Op("edgec.Offset", lower_offset, {"to": "int8"}, None, reference_offset, "", ("int8", "uint8")),
)
