"""Elementwise operators: one formula each, for the loop nest, the reference and int8 tables alike.

Operands broadcast as numpy's do. Where an operand has the output's shape and dtype, the output may overwrite it.
"""
from __future__ import annotations

from dataclasses import replace
from functools import reduce
from math import pi, prod, sqrt
from operator import add
from types import SimpleNamespace

import numpy as np
from onnx.helper import tensor_dtype_to_np_dtype

from .. import dtypes
from ..ir import QParams, TensorType
from ..loops import Const, For, Load, Var, add as plus
from .base import REQUIRED, Op
from .nest import axis_of, broadcast_strides, collapse, copy, fill, index, loops, operands, options, require, store
from .scalar import (
    ANY,
    FLOAT,
    INTEGER,
    NUMBER,
    E,
    absolute,
    bits,
    cast,
    div,
    is_real,
    is_unsigned,
    lift,
    maximum,
    minimum,
    mod,
    power,
    real,
    where,
)
from .spatial import Reads, RowShape

# --- formulas: (attributes, operands...) -> value ----------------------------------------------


def log1p(e):
    """log(1 + e) for e in [0, 1], accurate for small e (Kahan's correction of the rounding of 1 + e)."""
    u = 1 + e
    return where(u == 1, e, real.log(u) * e / (u - 1))


def sigmoid(x):
    e = real.exp(-absolute(x))  # never overflows
    return where(x < 0, e, 1) / (1 + e)


def softplus(x):
    return maximum(x, 0) + log1p(real.exp(-absolute(x)))


def gelu(a, x):
    if a.approximate == "tanh":
        return 0.5 * x * (1 + real.tanh(sqrt(2 / pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + real.erf(x * sqrt(0.5)))


def clip(a, x, low=None, high=None):
    x = x if low is None else maximum(x, low)
    return x if high is None else minimum(x, high)


def is_inf(a, x):
    if a.detect_negative and a.detect_positive:
        return real.isinf(x)
    never = real.isnan(x)  # nothing is both infinite and not a number
    return real.isinf(x) & (x < 0 if a.detect_negative else x > 0 if a.detect_positive else never)


def shift(a, x, by):
    """Shifts by the width or more give 0, or the sign for signed numbers to the right."""
    by = cast(by, "u" + str(x.dtype).removeprefix("u"))
    inside = cast(minimum(by, bits(x) - 1), x.dtype)
    if a.direction == "RIGHT" and not is_unsigned(x):
        return x >> inside
    return where(by < bits(x), x << inside if a.direction == "LEFT" else x >> inside, 0)


def quantize(a, x, scale, zero_point=None):
    """Rounds half to even and saturates; the integer type is the zero point's, or output_dtype, or uint8."""
    dtype = a.stored[2] if zero_point is not None else _dtype(a.output_dtype) if a.output_dtype else "uint8"
    y = cast(x, scale.dtype) / scale
    y = y if "float" in dtype else real.round(y)
    y = y if zero_point is None else y + cast(zero_point, scale.dtype)
    if dtype in dtypes.PACKED:
        low, high = dtypes.limits(dtype)
        y = maximum(minimum(y, high), low)
    return stored(y, dtype, a.saturate)


def stored(x, dtype: str, saturate: int = 1):
    """x for a tensor of this element type: floats that are too large for a narrow one become the largest where `saturate`
    says so; integers below a byte take the low bits."""
    if not isinstance(x, E):
        x = np.asarray(x)
        return x.astype(dtypes.numpy_type(dtype)) if dtype in dtypes.WIDE else cast(x, dtype)
    wide = dtypes.computed(dtype)
    if dtype.startswith("float8") and is_real(x) and saturate:
        low, high = dtypes.limits(dtype)
        x = maximum(minimum(cast(x, "float32"), high), low)
    if dtype in dtypes.PACKED and "int" in dtype and is_real(x):
        x = cast(x, "int32")
    return cast(x, wide)


def dequantize(a, x, scale, zero_point=None):
    """(x - zero point) * scale: the difference in int32, then one rounding to the scale's type and one product."""
    if is_real(x):
        return (x if zero_point is None else x - zero_point) * scale
    wide = cast(x, "int32")
    return cast(wide if zero_point is None else wide - cast(zero_point, "int32"), scale.dtype) * scale


def _function(name: str):
    f = getattr(real, name)
    return lambda a, x: f(x)


def _dtype(onnx_type: int) -> str:
    return str(tensor_dtype_to_np_dtype(onnx_type))


# name: formula, or (formula, attributes). Real functions of one variable: int8 inputs become a table.
REAL = {name: _function(name.lower()) for name in (
    "Sqrt Exp Log Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh Erf Tanh Ceil Floor Round").split()} | {
    "Reciprocal": lambda a, x: 1 / x,
    "Sigmoid": lambda a, x: sigmoid(x),
    "Softplus": lambda a, x: softplus(x),
    "Softsign": lambda a, x: x / (1 + absolute(x)),
    "Mish": lambda a, x: x * real.tanh(softplus(x)),
    "HardSwish": lambda a, x: x * minimum(maximum(x * (1 / 6) + 0.5, 0), 1),
    "HardSigmoid": (lambda a, x: minimum(maximum(x * a.alpha + a.beta, 0), 1), {"alpha": 0.2, "beta": 0.5}),
    "LeakyRelu": (lambda a, x: where(x < 0, x * a.alpha, x), {"alpha": 0.01}),
    "ThresholdedRelu": (lambda a, x: where(x > a.alpha, x, 0), {"alpha": 1.0}),
    "Elu": (lambda a, x: where(x < 0, a.alpha * (real.exp(minimum(x, 0)) - 1), x), {"alpha": 1.0}),
    "Selu": (lambda a, x: a.gamma * where(x < 0, a.alpha * (real.exp(minimum(x, 0)) - 1), x),
             {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}),
    "Celu": (lambda a, x: maximum(x, 0) + a.alpha * (real.exp(minimum(x, 0) / a.alpha) - 1), {"alpha": 1.0}),
    "Shrink": (lambda a, x: where(x < -a.lambd, x + a.bias, where(x > a.lambd, x - a.bias, 0)),
               {"lambd": 0.5, "bias": 0.0}),
    "Swish": (lambda a, x: x * sigmoid(a.alpha * x), {"alpha": 1.0}),
    "Gelu": (gelu, {"approximate": "none"}),
}
SIMPLE = {  # the same for integers
    "Neg": lambda a, x: -x,
    "Abs": lambda a, x: absolute(x),
    "Sign": lambda a, x: cast(x > 0, x.dtype) - cast(x < 0, x.dtype),
    "Relu": lambda a, x: maximum(x, 0),
    "Clip": clip,
}
NUMERIC = {
    "Add": lambda a, x, y: x + y,
    "Sub": lambda a, x, y: x - y,
    "Mul": lambda a, x, y: x * y,
    "Div": lambda a, x, y: div(x, y),
    "Pow": lambda a, x, y: power(x, y),
    "Mod": (lambda a, x, y: mod(x, y, a.fmod), {"fmod": 0}),
    "PRelu": lambda a, x, slope: where(x < 0, x * slope, x),
    "Min": lambda a, *x: reduce(minimum, x),
    "Max": lambda a, *x: reduce(maximum, x),
    "Less": lambda a, x, y: x < y,
    "LessOrEqual": lambda a, x, y: x <= y,
    "Greater": lambda a, x, y: x > y,
    "GreaterOrEqual": lambda a, x, y: x >= y,
}
REAL_ONLY = {
    "Sum": lambda a, *x: reduce(add, x),
    "Mean": lambda a, *x: reduce(add, x) / len(x),
    "IsNaN": lambda a, x: real.isnan(x),
    "IsInf": (is_inf, {"detect_negative": 1, "detect_positive": 1}),
}
LOGIC = {
    "And": lambda a, x, y: x & y,
    "Or": lambda a, x, y: x | y,
    "Xor": lambda a, x, y: x ^ y,
    "Not": lambda a, x: ~x,
}
BITWISE = {f"Bitwise{k}": f for k, f in LOGIC.items()} | {"BitShift": (shift, {"direction": REQUIRED})}
MIXED = {
    "Equal": lambda a, x, y: x == y,
    "Where": lambda a, c, x, y: where(c, x, y),
    "Cast": (lambda a, x: stored(x, _dtype(a.to), a.saturate), {"to": REQUIRED, "saturate": 1, "round_mode": "up"}),
}


def unary(name: str):
    """The real function of a "lut" operator: float64 array, node attributes -> float64 array. Clip's bounds are the
    attributes min and max."""
    formula, schema = FORMULAS[name]

    def apply(x, given):
        a = SimpleNamespace(**{**schema, **given})
        bounds = (getattr(a, "min", None), getattr(a, "max", None)) if name == "Clip" else ()
        with np.errstate(all="ignore"):
            return np.asarray(formula(a, x, *bounds), np.float64)

    return apply


def _first(x, shape):
    """x in this shape; where it has more elements, only their dtype matters."""
    return np.asarray(x).reshape(-1)[:prod(shape)].reshape(shape)


# --- the record ---------------------------------------------------------------------------------


def pointwise(name: str, formula, schema, quant: str, types_, shapes=None) -> Op:
    """shapes(node, a, types): the operands' shapes where they are not simply broadcast; the output then has the
    first input's elements."""

    def spread(node, a, types):
        own = shapes(node, a, types) if shapes else [t.shape if t else () for t in types]
        return own, np.broadcast_shapes(*own)

    def infer(node, types, values):
        a = options(node, schema)
        a.stored = [t.dtype if t else "" for t in types]
        own, out = spread(node, a, types)
        probe = formula(a, *[E(Var("x", t.dtype)) if t else None for t in types])
        return [TensorType(probe.dtype, types[0].shape if shapes else out)]

    def reference(node, inputs, in_types, out_types):
        a = options(node, schema)
        a.stored = [t.dtype if t else "" for t in in_types]
        own, _ = spread(node, a, in_types)
        xs = [None if x is None else _first(x, s) for x, s in zip(inputs, own, strict=True)]
        with np.errstate(all="ignore"):
            return [np.asarray(formula(a, *xs)).astype(out_types[0].dtype).reshape(out_types[0].shape)]

    def lower(ctx, node):
        a, (types, values), out = options(node, schema), operands(ctx, node), ctx.type(node.outputs[0])
        a.stored = [ctx.stored(i) if i else "" for i in node.inputs]
        for dtype in (types[0].dtype, out.dtype):
            require(dtype in (types_ if dtype == types[0].dtype else ANY), node, f"element type {dtype}")
        own, full = spread(node, a, types)
        extents, (to, *of) = collapse(full, broadcast_strides(full, full), *[broadcast_strides(s, full) for s in own])
        target = ctx.buffer(node.outputs[0])

        def operand(k, at):
            if types[k] is None:
                return None
            flat = None if values[k] is None else values[k].reshape(-1)
            if flat is not None and not flat.size:  # its type alone matters
                return lift(0, types[k].dtype)
            if flat is not None and (flat == flat[0]).all():
                return lift(flat[0].item(), types[k].dtype)
            return E(Load(ctx.buffer(node.inputs[k]), index(at, of[k]), types[k].dtype))

        for k, i in enumerate(node.inputs):
            if i and values[k] is None and types[k].shape == out.shape and types[k].dtype == out.dtype:
                ctx.inplace(node.outputs[0], i)

        def body(at):
            return store(target, index(at, to), formula(a, *[operand(k, at) for k in range(len(types))]))

        return loops(extents, body)

    def uniform(value):
        return value is not None and (value == value.reshape(-1)[0]).all()

    def row_shape(graph, node):
        out, given = graph.type(node.outputs[0]), [i for i in node.inputs if i]
        run_time = [i for i in given if graph.const(i) is None]
        quantises = name in ("QuantizeLinear", "DequantizeLinear")  # these with scalars only: `uniform` below
        if (shapes or out.q is not None) and not quantises or len(out.shape) != 4 or out.shape[0] != 1 or not run_time:
            return None
        if any(graph.type(i).shape != out.shape for i in run_time) or not all(
            uniform(graph.const(i)) for i in given if i not in run_time
        ):
            return None
        row = out.shape[2] * out.shape[3]
        return RowShape(tuple(Reads(i, 1, 1, 1, 0, out.shape[1], row) for i in run_time), out.shape[1], row,
                        all(graph.type(i).dtype == out.dtype for i in run_time))

    def row_emit(ctx, node):
        a, shape, i = options(node, schema), row_shape(ctx.graph, node), Var("i")
        a.stored = [ctx.stored(i) if i else "" for i in node.inputs]

        def emit(oy, sources, target):
            rows = iter(sources)

            def operand(name):
                if not name:
                    return None
                value, dtype = ctx.value(name), ctx.type(name).dtype
                if value is not None:
                    return lift(value.reshape(-1)[0].item(), dtype)
                row = next(rows).ref(oy, shape.row)
                return E(Load(row.buffer, at(row), dtype))

            def at(row):
                return plus(row.index, i)

            out = target.ref(oy, shape.row)
            return [
                For("i", Const(0), Const(shape.row), tuple(store(out.buffer, at(out), formula(a, *map(operand, node.inputs)))))
            ]

        return emit

    return Op(name, lower, schema, infer, reference, quant, types_, (row_shape, row_emit))


# --- quantisation and casts: operands that do not broadcast -------------------------------------


BLOCKS = {"axis": 1, "block_size": 0, "output_dtype": 0}


def _blocks(node, a, types):
    """Per-tensor, per-axis and blocked scales. A blocked axis counts as two: block, element of the block."""
    x, scale = types[0].shape, types[1].shape
    if len(scale) == 0 or scale == (1,):
        return [x] + [()] * (len(types) - 1)
    k = axis_of(a.axis, len(x))
    if len(scale) == 1:
        per = tuple(n if j == k else 1 for j, n in enumerate(x))
    else:
        require(a.block_size > 0 and scale[k] * a.block_size == x[k], node, "blocks that do not divide the axis")
        per = scale[:k + 1] + (1,) + scale[k + 1:]
        x = x[:k] + (scale[k], a.block_size) + x[k + 1:]
    return [x] + [per if t else () for t in types[1:]]


def _with_q(op: Op) -> Op:
    """QuantizeLinear's output carries its quantisation where the scale is constant and not blocked."""

    def infer(node, types, values):
        (t,), a = op.infer(node, types, values), options(node, op.attrs)
        if values[1] is None or values[1].ndim > 1:
            return [t]
        zero_point = values[2] if len(values) > 2 and values[2] is not None else 0
        return [TensorType(t.dtype, t.shape, QParams.of(values[1], zero_point, axis_of(a.axis, len(t.shape))))]

    return replace(op, infer=infer)


def _keep_infer(node, types, values):
    return [types[0], TensorType("bool", types[0].shape)][:len(node.outputs)]


def _keep_reference(node, inputs, in_types, out_types):
    return [inputs[0], np.ones(inputs[0].shape, bool)][:len(node.outputs)]


def _keep(ctx, node):
    """Identity, and Dropout at inference: a view, unless the mask (all true) is wanted too."""
    mask = node.outputs[1] if len(node.outputs) > 1 else ""
    if not mask:
        return ctx.view(node.outputs[0], node.inputs[0])
    t, moved = ctx.type(node.inputs[0]), []
    if node.outputs[0]:
        moved = copy(ctx.buffer(node.outputs[0]), ctx.buffer(node.inputs[0]), t.dtype, [t.size], [1], [1])
    return moved + fill(ctx.buffer(mask), t.size, lift(True, "bool"))


def _group(formulas, quant: str, types_) -> list[Op]:
    return [pointwise(name, *FORMULAS[name], quant, types_) for name in formulas]


FORMULAS = {name: f if isinstance(f, tuple) else (f, {}) for group in
            (REAL, SIMPLE, NUMERIC, REAL_ONLY, LOGIC, BITWISE, MIXED) for name, f in group.items()}
UNARY = {name: unary(name) for name in (*REAL, *SIMPLE)}
OPS = (
    Op("Identity", _keep, {}, _keep_infer, _keep_reference, "move", ANY),
    Op("Dropout", _keep, {"seed": None}, _keep_infer, _keep_reference, "move", ANY),
    *_group(REAL, "lut", FLOAT), *_group(SIMPLE, "lut", NUMBER),
    *_group(NUMERIC, "", NUMBER), *_group(REAL_ONLY, "", FLOAT),
    *_group(LOGIC, "", ("bool",)), *_group(BITWISE, "", INTEGER), *_group(MIXED, "", ANY),
    pointwise("CastLike", lambda a, x, like: stored(x, a.stored[1], a.saturate), {"saturate": 1, "round_mode": "up"}, "", ANY,
              lambda node, a, types: [types[0].shape, ()]),
    _with_q(pointwise("QuantizeLinear", quantize, {**BLOCKS, "saturate": 1, "precision": 0}, "", FLOAT + ("int32",),
                      _blocks)),
    pointwise("DequantizeLinear", dequantize, BLOCKS, "", NUMBER, _blocks),
)
