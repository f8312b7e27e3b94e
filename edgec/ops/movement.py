"""Operators that move elements: shapes, order, selection, repetition, padding, gathering, resizing.

Most of them are one of two things, and their record follows from it:
* a numpy view (`viewed`): the view's strides are the loop nest; a view in memory order needs no code at all;
* an index map per axis (`mapped`): out[i, j, ...] = x[map0[i], map1[j], ...]. Maps that step evenly become strides,
  the others tables; -1 stands for a fill value.
Quantised tensors keep their quantisation.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from ..errors import UnsupportedError
from ..fixed import quantise
from ..ir import Node, QParams, Shape, TensorType
from ..loops import Load, Stmt, Store, Var, add
from . import resize
from .base import REQUIRED, Array, Lowering, Op
from .nest import axis_of, copy, fill, index, loops, operands, options, require, strides_of, table, wrap_index, wrapped
from .scalar import ANY, lift

# --- views -------------------------------------------------------------------------------------

View = tuple[Array, Shape]  # a numpy view of x, and the shape that its elements, in order, are given


def viewed(name: str, views: Callable[..., list[View]], schema=None, static=(), in_order: bool = False) -> Op:
    """views(node, attributes, x, *constant inputs) -> a view per output. in_order: the elements keep their order, so the
    output's shape says all."""
    schema = schema or {}

    def found(node, x, values):
        missing = [i for i, v in zip(node.inputs[1:], values[1:], strict=True) if i and v is None]
        require(not missing, node, f"run-time {', '.join(missing)}", "export the model with constant shapes and axes")
        return views(node, options(node, schema), x, *values[1:])

    def infer(node, types, values):
        kept = [tuple(map(int, shape)) for _, shape in found(node, _model(types[0].shape), values)]
        moves = [lambda x, k=k: found(node, x, values)[k][0] for k in range(len(kept))]
        return [TensorType(types[0].dtype, s, _moved_q(types[0], s, move)) for s, move in zip(kept, moves, strict=True)]

    def reference(node, inputs, in_types, out_types):
        return [np.array(v).reshape(shape) for v, shape in found(node, inputs[0], inputs)]

    def lower(ctx, node):
        if in_order:
            return ctx.view(node.outputs[0], node.inputs[0])
        x = _model(ctx.type(node.inputs[0]).shape)
        kept = [(o, v) for o, (v, _) in zip(node.outputs, found(node, x, operands(ctx, node)[1]), strict=True) if o]
        if len(kept) == 1 and kept[0][1].size == x.size and kept[0][1].flags.c_contiguous:
            return ctx.view(kept[0][0], node.inputs[0])
        source, dtype = ctx.buffer(node.inputs[0]), ctx.type(node.inputs[0]).dtype
        return [s for o, v in kept for s in copy(ctx.buffer(o), source, dtype, v.shape, strides_of(v.shape), v.strides,
                                                 of_base=_offset(v) - _offset(x))]

    return Op(name, lower, schema, infer, reference, "move", ANY, static=static)


def _model(shape: Shape) -> Array:
    """One byte per element: a view's strides in bytes are strides in elements."""
    return np.zeros(shape, np.uint8)


def _offset(a: Array) -> int:
    return a.__array_interface__["data"][0]


def _moved_q(t: TensorType, shape: Shape, move: Callable[[Array], Array]) -> QParams | None:
    """The quantisation after a move; a channel axis is looked for among the new axes."""
    if t.q is None or t.q.axis is None:
        return t.q
    n = t.shape[t.q.axis]
    channel = np.arange(n).reshape([-1 if k == t.q.axis else 1 for k in range(len(t.shape))])
    moved = np.array(move(np.broadcast_to(channel, t.shape))).reshape(shape)
    for axis, size in enumerate(shape):
        if size == n and (np.moveaxis(moved, axis, -1) == np.arange(n)).all():
            return QParams(t.q.scale, t.q.zero_point, axis)
    raise UnsupportedError(f"per-channel quantisation of {t} does not survive the move to {shape}")


def _reshape(node, a, x, shape):
    kept = [x.shape[k] if n == 0 and not a.allowzero else int(n) for k, n in enumerate(shape)]
    if -1 in kept:
        kept[kept.index(-1)] = x.size // -prod(kept)
    return [(x, tuple(kept))]


def _flatten(node, a, x):
    k = axis_of(a.axis, x.ndim)
    return [(x, (prod(x.shape[:k]), prod(x.shape[k:])))]


def _squeeze(node, a, x, axes=None):
    units = [k for k, n in enumerate(x.shape) if n == 1]
    gone = units if axes is None else [axis_of(int(k), x.ndim) for k in axes.reshape(-1)]
    return [(x, tuple(n for k, n in enumerate(x.shape) if k not in gone))]


def _unsqueeze(node, a, x, axes):
    rank = x.ndim + axes.size
    new = {axis_of(int(k), rank) for k in axes.reshape(-1)}
    old = iter(x.shape)
    return [(x, tuple(1 if k in new else next(old) for k in range(rank)))]


def _transpose(node, a, x):
    v = x.transpose(a.perm)
    return [(v, v.shape)]


def _slice(node, a, x, starts, ends, axes=None, steps=None):
    cut = [slice(None)] * x.ndim
    for k, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        step = int(steps[k]) if steps is not None else 1
        axis = axis_of(int(axes[k]), x.ndim) if axes is not None else k
        cut[axis] = slice(start, end, step)
    v = x[tuple(cut)]
    return [(v, v.shape)]


def _split(node, a, x, sizes=None):
    n, axis = x.shape[axis_of(a.axis, x.ndim)], axis_of(a.axis, x.ndim)
    each = -(-n // (a.num_outputs or len(node.outputs)))
    ends = np.cumsum(sizes)[:-1] if sizes is not None else np.arange(each, n, each)
    return [(v, v.shape) for v in np.split(x, ends, axis)]


def _expand(node, a, x, shape):
    v = np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(map(int, shape))))
    return [(v, v.shape)]


def _tile(node, a, x, repeats):
    pairs = [m for n, r in zip(x.shape, repeats.tolist(), strict=True) for m in (r, n)]
    ones = [m for n in x.shape for m in (1, n)]
    return [(np.broadcast_to(x.reshape(ones), pairs), tuple(n * int(r) for n, r in zip(x.shape, repeats, strict=True)))]


def _depth_to_space(node, a, x):
    (n, c, h, w), b = x.shape, a.blocksize
    if a.mode == "DCR":
        v = x.reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        v = x.reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return [(v, (n, c // b**2, h * b, w * b))]


def _space_to_depth(node, a, x):
    (n, c, h, w), b = x.shape, a.blocksize
    order = (0, 3, 5, 1, 2, 4) if a.mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return [(x.reshape(n, c, h // b, b, w // b, b).transpose(order), (n, c * b**2, h // b, w // b))]


# --- index maps ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Maps:
    """of: per input axis the input index of each output index, -1 for the fill; shape: the output's, where it is not
    the maps' lengths."""

    of: list[Array]
    shape: Shape | None = None
    fill: float | int | bool = 0

    @property
    def out_shape(self) -> Shape:
        return tuple(len(m) for m in self.of) if self.shape is None else self.shape


def take(x: Array, m: Maps) -> Array:
    """What the maps mean."""
    y = x[np.ix_(*[np.maximum(i, 0) for i in m.of])]
    for axis, i in enumerate(m.of):
        np.moveaxis(y, axis, 0)[i < 0] = m.fill
    return y.reshape(m.out_shape)


def gather_maps(ctx: Lowering, node: Node, m: Maps) -> list[Stmt] | None:
    """out = take(x, maps): a fill where the maps leave gaps, then one copy."""
    t = ctx.type(node.inputs[0])
    if all(np.array_equal(i, np.arange(n)) for i, n in zip(m.of, t.shape, strict=True)):
        return ctx.view(node.outputs[0], node.inputs[0])
    source, out = ctx.buffer(node.inputs[0]), ctx.buffer(node.outputs[0])
    stmts = fill(out, prod(m.out_shape), lift(m.fill, t.dtype)) if any((i < 0).any() for i in m.of) else []
    extents: list[int] = []
    to: list[int] = []
    of: list[int] = []
    tables, to_base, of_base = [], 0, 0
    for i, to_step, of_step in zip(m.of, strides_of([len(i) for i in m.of]), strides_of(t.shape), strict=True):
        inside = np.flatnonzero(i >= 0)
        if not inside.size:
            return stmts
        i = i[inside]  # what is inside lies together: gaps are borders
        to_base += int(inside[0]) * to_step
        steps = even_steps(i)
        if steps is None:
            tables.append((len(extents), table(ctx, i), of_step))
            steps = ((len(i), 0),)
        else:
            of_base += int(i[0]) * of_step
        for k, (n, step) in enumerate(steps):
            extents.append(n)
            to.append(to_step * prod(n for n, _ in steps[k + 1:]))
            of.append(step * of_step)
    return stmts + copy(out, source, t.dtype, extents, to, of, to_base, of_base, tables)


def even_steps(i: Array) -> tuple[tuple[int, int], ...] | None:
    """((n, step), ...) with one or two loops whose sum of steps from i[0] on is i; None where there is none."""
    n = len(i)
    for inner in [n] + [d for d in range(2, n // 2 + 1) if n % d == 0]:
        grid = i.reshape(-1, inner)
        step = [int(grid[0, 1] - grid[0, 0]) if inner > 1 else 0, int(grid[1, 0] - grid[0, 0]) if inner < n else 0]
        if np.array_equal(grid, i[0] + step[0] * np.arange(inner) + step[1] * np.arange(n // inner)[:, None]):
            return ((inner, step[0]),) if inner == n else ((n // inner, step[1]), (inner, step[0]))
    return None


def mapped(name: str, maps: Callable[..., Maps | None], schema=None, otherwise: Op | None = None, static=()) -> Op:
    """maps(node, attributes, types, values) -> Maps, or None where `otherwise` serves."""
    schema = schema or {}

    def infer(node, types, values):
        m = maps(node, options(node, schema), types, values)
        t = types[0]
        return [TensorType(t.dtype, m.out_shape, t.q)] if m else otherwise.infer(node, types, values)

    def reference(node, inputs, in_types, out_types):
        m = maps(node, options(node, schema), in_types, inputs)
        return [take(inputs[0], m)] if m else otherwise.reference(node, inputs, in_types, out_types)

    def lower(ctx, node):
        m = maps(node, options(node, schema), *operands(ctx, node))
        return gather_maps(ctx, node, m) if m else otherwise.lower(ctx, node)

    return Op(name, lower, schema, infer, reference, "move", ANY, static=static)


def stored(value, t: TensorType):
    """A real fill value as the tensor stores it."""
    value = np.asarray(value)
    return (value.astype(t.dtype) if t.q is None else quantise(value, t.q, t.dtype)).item()


def _pad(node, a, types, values):
    t, (pads, value, axes) = types[0], (*values[1:], None, None)[:3]
    has_value = len(node.inputs) > 2 and node.inputs[2]
    require(pads is not None and (value is not None or not has_value), node, "run-time pads or value")
    axes = range(len(t.shape)) if axes is None else [axis_of(int(k), len(t.shape)) for k in axes]
    begin, end = pads.reshape(2, -1).tolist()
    of = [np.arange(n) for n in t.shape]
    for k, low, high in zip(axes, begin, end, strict=True):
        i = np.arange(max(-low, 0), t.shape[k] - max(-high, 0))
        extra = {"constant_values": -1} if a.mode == "constant" else {}
        of[k] = np.pad(i, (max(low, 0), max(high, 0)), a.mode, **extra)
    value = np.float32(0) if value is None else value.reshape(())
    own = value.dtype == t.dtype  # a quantised tensor's padding may be given as an integer or as a real
    return Maps(of, None, value.item() if own else stored(value, t))


def _gather(node, a, types, values):
    if values[1] is None:
        return None
    t, axis = types[0], axis_of(a.axis, len(types[0].shape))
    of = [np.arange(n) for n in t.shape]
    of[axis] = wrap_index(values[1].reshape(-1), t.shape[axis])
    return Maps(of, t.shape[:axis] + values[1].shape + t.shape[axis + 1:])


def _resize(node, a, types, values):
    if a.mode != "nearest":
        return None
    t = types[0]
    coordinates = resize.coordinates(node, a, t.shape, *(*values[1:], None, None, None)[:3])
    of = [np.arange(n) if x is None else resize.nearest(a, x, n) for x, n in zip(coordinates, t.shape, strict=True)]
    return Maps(of, None, stored(a.extrapolation_value, t))


def _upsample(node, a, types, values):
    return _resize(node, resize.as_resize(a), types, [values[0], None, values[1]])


# --- joining and run-time indices -----------------------------------------------------------------


def _concat_infer(node, types, values):
    axis = axis_of(node.attrs["axis"], len(types[0].shape))
    total = sum(t.shape[axis] for t in types)
    return [TensorType(types[0].dtype, types[0].shape[:axis] + (total,) + types[0].shape[axis + 1:], types[0].q)]


def _concat_lower(ctx, node):
    (types, _), y = operands(ctx, node), ctx.type(node.outputs[0])
    axis = axis_of(node.attrs["axis"], len(y.shape))
    to, start, stmts = strides_of(y.shape), 0, []
    for i, t in zip(node.inputs, types, strict=True):
        stmts += copy(ctx.buffer(node.outputs[0]), ctx.buffer(i), y.dtype, t.shape, to, strides_of(t.shape), start)
        start += t.shape[axis] * to[axis]
    return stmts


def gatherer(name: str, schema, plan: Callable, reference: Callable) -> Op:
    """Selection by run-time indices. plan(attributes, x shape, indices shape) -> (output shape, rows, inner, at):
    rows x inner elements are copied, and at(row, load) -> (statements, source index of a row's first element), where
    load(k) loads an element of the indices. Indices count from the end where negative and are kept inside."""

    def infer(node, types, values):
        shape, *_ = plan(options(node, schema), types[0].shape, types[1].shape)
        return [TensorType(types[0].dtype, shape, types[0].q)]

    def lower(ctx, node):
        (x, i), _ = operands(ctx, node)
        _, rows, inner, at = plan(options(node, schema), x.shape, i.shape)
        source, indices, out = (ctx.buffer(t) for t in (*node.inputs, node.outputs[0]))

        def row(r):
            stmts, first = at(r, lambda k: Load(indices, k, i.dtype))
            first_out = index(r, [n * inner for n in strides_of(rows)])

            def element(j):
                return [Store(out, add(first_out, j[0]), Load(source, add(first, j[0]), x.dtype))]

            return [*stmts, *loops([inner], element, "j")]

        return loops(rows, row)

    return Op(name, lower, schema, infer, reference, "move", ANY)


def _gather_plan(a, x, i):
    axis = axis_of(a.axis, len(x))
    inner = prod(x[axis + 1:])

    def at(r, load):
        return wrapped(load(r[1]), x[axis], "at"), index([r[0], Var("at")], [x[axis] * inner, inner])

    return x[:axis] + i + x[axis + 1:], [prod(x[:axis]), prod(i)], inner, at


def _gather_elements_plan(a, x, i):
    axis, steps = axis_of(a.axis, len(x)), strides_of(x)

    def at(r, load):
        picked = [Var("at") if k == axis else v for k, v in enumerate(r)]
        return wrapped(load(index(r, strides_of(i))), x[axis], "at"), index(picked, steps)

    return i, list(i), 1, at


def _gather_nd_plan(a, x, i):
    b, depth = a.batch_dims, i[-1]
    inner, steps = prod(x[b + depth:]), strides_of(x)[b:b + depth]

    def at(r, load):
        first = index(r, [prod(i[b:]), depth])
        names = [f"at{k}" for k in range(depth)]
        stmts = [s for k, n in enumerate(names) for s in wrapped(load(add(first, k)), x[b + k], n)]
        return stmts, index([r[0], *map(Var, names)], [prod(x[b:]), *steps])

    return i[:-1] + x[b + depth:], [prod(x[:b]), prod(i[b:-1])], inner, at


def _gather_elements_reference(node, inputs, in_types, out_types):
    x, i = inputs
    axis = axis_of(node.attrs.get("axis", 0), x.ndim)
    grid = list(np.indices(i.shape))
    grid[axis] = wrap_index(i, x.shape[axis])
    return [x[tuple(grid)]]


def _gather_nd_reference(node, inputs, in_types, out_types):
    x, i = inputs
    b = node.attrs.get("batch_dims", 0)
    batches = zip(x.reshape(-1, *x.shape[b:]), i.reshape(prod(x.shape[:b]), -1, i.shape[-1]), strict=True)
    picked = [xb[tuple(wrap_index(k, n) for k, n in zip(ib.T, xb.shape, strict=False))] for xb, ib in batches]
    return [np.stack(picked).reshape(out_types[0].shape)]


def _gather_reference(node, inputs, in_types, out_types):
    axis = axis_of(node.attrs.get("axis", 0), inputs[0].ndim)
    return [np.take(inputs[0], wrap_index(inputs[1], inputs[0].shape[axis]), axis)]


OPS = (
    viewed("Reshape", _reshape, {"allowzero": 0}, static=(1,), in_order=True),
    viewed("Flatten", _flatten, {"axis": 1}, static=(1,), in_order=True),
    viewed("Squeeze", _squeeze, static=(1,), in_order=True),
    viewed("Unsqueeze", _unsqueeze, static=(1,), in_order=True),
    viewed("Transpose", _transpose, {"perm": None}),
    viewed("Slice", _slice, static=(1, 2, 3, 4)),
    viewed("Split", _split, {"axis": 0, "num_outputs": None}, static=(1,)),
    viewed("Expand", _expand, static=(1,)),
    viewed("Tile", _tile, static=(1,)),
    viewed("DepthToSpace", _depth_to_space, {"blocksize": REQUIRED, "mode": "DCR"}),
    viewed("SpaceToDepth", _space_to_depth, {"blocksize": REQUIRED, "mode": "DCR"}),
    mapped("Pad", _pad, {"mode": "constant"}, static=(1, 2, 3)),
    mapped("Gather", _gather, {"axis": 0}, gatherer("Gather", {"axis": 0}, _gather_plan, _gather_reference)),
    mapped("Resize", _resize, resize.SCHEMA, resize.INTERPOLATED, (1, 2, 3)),
    mapped("Upsample", _upsample, {"mode": "nearest"}, resize.INTERPOLATED, (1,)),
    gatherer("GatherElements", {"axis": 0}, _gather_elements_plan, _gather_elements_reference),
    gatherer("GatherND", {"batch_dims": 0}, _gather_nd_plan, _gather_nd_reference),
    Op("Concat", _concat_lower, {"axis": REQUIRED}, _concat_infer,
       lambda node, inputs, in_types, out_types: [np.concatenate(inputs, node.attrs["axis"])], "move", ANY),
)
