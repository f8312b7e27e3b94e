"""Reductions: sums, products, extremes and norms over axes, ArgMax and ArgMin, cumulative sums and products.

A reduction is one or more passes over the reduced axes, each a start value and a step written for the loop nest and for
numpy alike, and a finish. Elements are taken in memory order, so float32 sums come out with the same bits everywhere.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from ..ir import Shape, TensorType
from ..loops import Bin, Const, For, If, Let, Load, Set, Store, Var, add, mul
from .base import Op
from .nest import axis_of, collapse, index, loops, operands, options, require, store, strides_of
from .scalar import ANY, FLOAT, NUMBER, E, absolute, cast, div, lift, maximum, minimum, real, share


@dataclass(frozen=True)
class Pass:
    """start: the accumulator's first value, None for the first element. step(acc, x, *results of earlier passes)."""

    start: int | None
    step: Callable


TOTAL = Pass(0, lambda acc, x: acc + x)
SQUARES = Pass(0, lambda acc, x: acc + x * x)
LARGEST = Pass(None, lambda acc, x: maximum(acc, x))


def _same(acc, n):
    return acc


# name: passes, finish(accumulators..., number of elements), dtypes
REDUCTIONS = {
    "ReduceSum": ((TOTAL,), _same, NUMBER),
    "ReduceMean": ((TOTAL,), lambda acc, n: div(acc, lift_like(n, acc)), NUMBER),
    "ReduceMax": ((LARGEST,), _same, ANY),
    "ReduceMin": ((Pass(None, lambda acc, x: minimum(acc, x)),), _same, ANY),
    "ReduceProd": ((Pass(1, lambda acc, x: acc * x),), _same, NUMBER),
    "ReduceL1": ((Pass(0, lambda acc, x: acc + absolute(x)),), _same, NUMBER),
    "ReduceL2": ((SQUARES,), lambda acc, n: real.sqrt(acc), FLOAT),
    "ReduceSumSquare": ((SQUARES,), _same, NUMBER),
    "ReduceLogSum": ((TOTAL,), lambda acc, n: real.log(acc), FLOAT),
    "ReduceLogSumExp": ((LARGEST, Pass(0, lambda acc, x, top: acc + real.exp(x - top))),
                        lambda top, acc, n: top + real.log(acc), FLOAT),
}


def lift_like(n: int, x):
    return lift(n, x.dtype) if isinstance(x, E) else np.asarray(n, x.dtype)


def _axes(node, a, shape: Shape, values) -> list[int]:
    given = len(node.inputs) > 1 and node.inputs[1]
    require(not given or values[1] is not None, node, "run-time axes", "export the model with constant axes")
    if not given or not values[1].size:
        return [] if a.noop_with_empty_axes else list(range(len(shape)))
    return sorted({axis_of(int(k), len(shape)) for k in values[1].reshape(-1)})


def _reduced(shape: Shape, axes: list[int], keepdims: int) -> Shape:
    return tuple(1 if k in axes else n for k, n in enumerate(shape) if keepdims or k not in axes)


def reduction(name: str, passes: tuple[Pass, ...], finish: Callable, dtypes) -> Op:
    schema = {"keepdims": 1, "noop_with_empty_axes": 0}
    kind = "move" if finish is _same and passes[0].start is None else ""

    def infer(node, types, values):
        t, a = types[0], options(node, schema)
        shape = _reduced(t.shape, _axes(node, a, t.shape, values), a.keepdims)
        return [TensorType(t.dtype, shape, t.q if kind else None)]

    def reference(node, inputs, in_types, out_types):
        x, axes = inputs[0], _axes(node, options(node, schema), inputs[0].shape, inputs)
        rows = np.moveaxis(x, axes, range(len(axes))).reshape(prod(x.shape[k] for k in axes), -1)
        results = []
        for p in passes:
            acc = rows[0] if p.start is None else np.full_like(rows[0], p.start)
            for row in rows[1:] if p.start is None else rows:
                acc = p.step(acc, row, *results)
            results.append(acc)
        return [np.asarray(finish(*results, len(rows))).astype(x.dtype).reshape(out_types[0].shape)]

    def lower(ctx, node):
        t, out = ctx.type(node.inputs[0]), ctx.buffer(node.outputs[0])
        require(t.dtype in dtypes, node, f"element type {t.dtype}")
        axes = _axes(node, options(node, schema), t.shape, operands(ctx, node)[1])
        steps, x = strides_of(t.shape), ctx.buffer(node.inputs[0])
        kept = [k for k in range(len(t.shape)) if k not in axes]
        shape = [t.shape[k] for k in kept]
        extents, (of, to) = collapse(shape, [steps[k] for k in kept], strides_of(shape))
        inner, (inner_of,) = collapse([t.shape[k] for k in axes], [steps[k] for k in axes])

        def body(at):
            first, stmts, results = index(at, of), [], []
            for k, p in enumerate(passes):
                acc = E(Var(f"acc{k}", t.dtype))
                start = Load(x, first, t.dtype) if p.start is None else lift(p.start, t.dtype).expr
                stmts.append(Let(f"acc{k}", t.dtype, start))

                def step(j, p=p, acc=acc):
                    element = E(Load(x, add(first, index(j, inner_of)), t.dtype))
                    lets, value = share(p.step(acc, element, *results))
                    return [*lets, Set(acc.expr.name, value)]

                stmts += loops(inner, step, "k")
                results.append(acc)
            return stmts + store(out, index(at, to), finish(*results, prod(inner)))

        return loops(extents, body)

    return Op(name, lower, schema, infer, reference, kind, dtypes, static=(1,))


# --- ArgMax, ArgMin -----------------------------------------------------------------------------

ARG = {"axis": 0, "keepdims": 1, "select_last_index": 0}


def _arg_infer(node, types, values):
    a, shape = options(node, ARG), types[0].shape
    return [TensorType("int64", _reduced(shape, [axis_of(a.axis, len(shape))], a.keepdims))]


def _arg_reference(node, inputs, in_types, out_types):
    a, x = options(node, ARG), inputs[0]
    axis, find = axis_of(a.axis, x.ndim), np.argmax if node.op == "ArgMax" else np.argmin
    i = x.shape[axis] - 1 - find(np.flip(x, axis), axis) if a.select_last_index else find(x, axis)
    return [np.asarray(i, np.int64).reshape(out_types[0].shape)]


def _arg_lower(ctx, node):
    a, t = options(node, ARG), ctx.type(node.inputs[0])
    require(t.dtype in NUMBER, node, f"element type {t.dtype}")
    x, out, axis = ctx.buffer(node.inputs[0]), ctx.buffer(node.outputs[0]), axis_of(a.axis, len(t.shape))
    n, inner = t.shape[axis], prod(t.shape[axis + 1:])
    best, at_best, value = Var("best", t.dtype), Var("at", "int32"), Var("value", t.dtype)
    less = "<=" if a.select_last_index else "<"

    def body(at):
        first = index(at, [n * inner, 1])
        found = Bin(less, best, value) if node.op == "ArgMax" else Bin(less, value, best)
        step = (Let("value", t.dtype, Load(x, add(first, mul(Var("k"), inner)), t.dtype)),
                If(found, (Set("best", value), Set("at", Var("k")))))
        return [Let("best", t.dtype, Load(x, first, t.dtype)), Let("at", "int32", Const(0)),
                For("k", Const(1), Const(n), step), Store(out, index(at, [inner, 1]), cast(E(at_best), "int64").expr)]

    return loops([prod(t.shape[:axis]), inner], body)


# --- cumulative sums and products ---------------------------------------------------------------

SCAN = {"exclusive": 0, "reverse": 0}
SCANS = {"CumSum": TOTAL, "CumProd": Pass(1, lambda acc, x: acc * x)}


def _scan_axis(node, shape: Shape, values) -> int:
    require(values[1] is not None, node, "run-time axis", "export the model with a constant axis")
    return axis_of(int(values[1].reshape(-1)[0]), len(shape))


def _scan_infer(node, types, values):
    return [TensorType(types[0].dtype, types[0].shape)]


def _scan_reference(node, inputs, in_types, out_types):
    a, x, p = options(node, SCAN), inputs[0], SCANS[node.op]
    rows = np.moveaxis(x, _scan_axis(node, x.shape, inputs), 0)
    y, acc = np.empty_like(rows), np.full_like(rows[0], p.start)
    for k in reversed(range(len(rows))) if a.reverse else range(len(rows)):
        before, acc = acc, p.step(acc, rows[k])
        y[k] = before if a.exclusive else acc
    return [np.moveaxis(y, 0, _scan_axis(node, x.shape, inputs))]


def _scan_lower(ctx, node):
    a, t, p = options(node, SCAN), ctx.type(node.inputs[0]), SCANS[node.op]
    require(t.dtype in NUMBER, node, f"element type {t.dtype}")
    axis = _scan_axis(node, t.shape, operands(ctx, node)[1])
    x, out = ctx.buffer(node.inputs[0]), ctx.buffer(node.outputs[0])
    n, inner, acc = t.shape[axis], prod(t.shape[axis + 1:]), E(Var("acc", t.dtype))

    def body(at):
        def step(k):
            place = Bin("-", Const(n - 1), k[0]) if a.reverse else k[0]
            i = add(index(at, [n * inner, 1]), mul(place, inner))
            grow = [Let("value", t.dtype, Load(x, i, t.dtype)), Set("acc", p.step(acc, E(Var("value", t.dtype))).expr)]
            keep = [Store(out, i, acc.expr)]
            return [grow[0], *keep, grow[1]] if a.exclusive else [*grow, *keep]

        return [Let("acc", t.dtype, lift(p.start, t.dtype).expr), *loops([n], step, "k")]

    if ctx.value(node.inputs[0]) is None:
        ctx.inplace(node.outputs[0], node.inputs[0])
    return loops([prod(t.shape[:axis]), inner], body)


OPS = (
    *(reduction(name, *r) for name, r in REDUCTIONS.items()),
    *(Op(name, _arg_lower, ARG, _arg_infer, _arg_reference, "", NUMBER) for name in ("ArgMax", "ArgMin")),
    *(Op(name, _scan_lower, SCAN, _scan_infer, _scan_reference, "", NUMBER, static=(1,)) for name in SCANS),
)
