"""Selection and placement by data: top k, one-hot, scatter, triangles, and results whose size data decide.

A result of unknown size has its bound's shape and a count beside it (`bounded`): the first `count` entries along the axis are the
result, the rest is zero.
"""
from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from ..dtypes import REAL
from ..ir import TensorType
from .code import Code, Index, Tensor, index_of, select, written
from .nest import axis_of
from .scalar import ANY, NUMBER, E, cast, lift, maximum, minimum, where


def trilu(c: Code, a, x: Tensor, k: Tensor | None = None) -> None:
    """The upper or lower triangle of the last two axes."""
    y, diagonal = c.out[0], cast(k.flat[0], "int64") if k is not None else lift(0, "int64")
    with c.each(x.shape) as i:
        d = cast(E(i[-1].expr), "int64") - cast(E(i[-2].expr), "int64")
        y[i] = where(d >= diagonal if a.upper else d <= diagonal, x[i], lift(0, x.dtype))


def eye_like(c: Code, a, x: Tensor) -> None:
    """Ones on diagonal k."""
    with c.each(x.shape) as i:
        c.out[0][i] = where(E(i[1].expr) == E((i[0] + a.k).expr), lift(1, c.out[0].dtype), lift(0, c.out[0].dtype))


def one_hot(c: Code, a, indices: Tensor, depth: Tensor, values: Tensor) -> None:
    """values[1] where the index along `axis` is the element of indices, values[0] elsewhere; indices wrap."""
    y = c.out[0]
    axis = axis_of(a.axis, y.rank)
    n = y.shape[axis]
    with c.each(y.shape) as i:
        v = cast(indices[[k for d, k in enumerate(i) if d != axis]], "int64")
        v = where(v < 0, v + n, v)
        y[i] = where(v == cast(E(i[axis].expr), "int64"), values.flat[1], values.flat[0])


def top_k(c: Code, a, x: Tensor, k: Tensor | None = None) -> None:
    """The k largest (smallest) along an axis, in order; equal ones by index. Selection: each place takes the best of what is
    behind the one before."""
    values, indices = (*c.out, None)[:2]
    out = c.ctx.type(c.node.outputs[0] or c.node.outputs[1]).shape
    axis = axis_of(a.axis, x.rank)
    n, count = x.shape[axis], out[axis]
    before = (lambda p, q: q < p) if a.largest else (lambda p, q: p < q)
    with c.each(x.shape[:axis]) as head, c.each(x.shape[axis + 1:]) as tail:
        last, at_last = c.var(lift(0, x.dtype)), c.var(-1, "int32")
        with c.loop(count) as j:
            best, at_best = c.var(lift(0, x.dtype)), c.var(-1, "int32")
            with c.loop(n) as i:
                v = c.let(x[(*head, i, *tail)])
                me = E(i.expr)
                free = (at_last < 0) | before(last, v) | ((v == last) & (at_last < me))
                with c.when(free & ((at_best < 0) | before(v, best))):
                    best.set(v)
                    at_best.set(me)
            last.set(best)
            at_last.set(at_best)
            if values is not None:
                values[(*head, j, *tail)] = best
            if indices is not None:
                indices[(*head, j, *tail)] = cast(at_best, "int64")


def _combine(reduction: str, old: E, new: E) -> E:
    return {"none": lambda: new, "add": lambda: old + new, "mul": lambda: old * new, "max": lambda: maximum(old, new),
            "min": lambda: minimum(old, new)}[reduction]()


def _start(c: Code, y: Tensor, x: Tensor) -> None:
    """The output begins as the input; where that dies here, it is its memory."""
    if c.ctx.value(c.node.inputs[0]) is None:
        c.ctx.inplace(c.node.outputs[0], c.node.inputs[0])
    with c.loop(x.size) as i:
        y.flat[i] = x.flat[i]


def scatter_elements(c: Code, a, x, indices, updates) -> None:
    """y = x; y[indices along axis] = updates."""
    y, axis = c.out[0], axis_of(a.axis, x.rank)
    _start(c, y, x)
    with c.each(indices.shape) as i:
        at = (*i[:axis], c.index(indices[i], x.shape[axis]), *i[axis + 1:])
        y[at] = _combine(a.reduction, y[at], updates[i])


def scatter_nd(c: Code, a, x, indices, updates) -> None:
    """y = x; y[indices[i]] = updates[i]."""
    y, depth = c.out[0], indices.shape[-1]
    _start(c, y, x)
    with c.each(indices.shape[:-1]) as i:
        head = [c.index(indices[(*i, k)], x.shape[k]) for k in range(depth)]
        with c.each(x.shape[depth:]) as tail:
            y[(*head, *tail)] = _combine(a.reduction, y[(*head, *tail)], updates[(*i, *tail)])


def tensor_scatter(c: Code, a, cache, update, write_indices=None) -> None:
    """A cache with `update` written at a position of its own for each batch, around the end if circular."""
    y, axis = c.out[0], axis_of(a.axis, cache.rank)
    n = cache.shape[axis]
    _start(c, y, cache)
    with c.each(update.shape) as i:
        first = cast(write_indices[i[0]], "int64") if write_indices is not None else lift(0, "int64")
        at = first + cast(E(i[axis].expr), "int64")
        if a.mode == "circular":
            at = where(at >= n, at - n, at)
        y[(*i[:axis], c.index(at, n, wrap=False), *i[axis + 1:])] = update[i]


def reverse_sequence(c: Code, a, x, lengths) -> None:
    """The first lengths[b] entries of the time axis in reverse, for each batch."""
    with c.each(x.shape) as i:
        n = c.index(lengths[i[a.batch_axis]], x.shape[a.time_axis] + 1, wrap=False)
        t = i[a.time_axis]
        last = c.let(index_of(maximum(E((n - 1 - t).expr), 0)))
        back = select(E(t.expr) < E(n.expr), last, t)
        c.out[0][i] = x[[back if k == a.time_axis else v for k, v in enumerate(i)]]


def hardmax(c: Code, a, x) -> None:
    """1 at the first largest element along the axis, 0 elsewhere; before opset 13 the axes from `axis` on are one."""
    axis = axis_of(a.axis, x.rank)
    shape = (
        (prod(x.shape[:axis]), prod(x.shape[axis:]), 1)
        if a.flatten
        else (prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1 :]))
    )
    x, y = x.reshaped(*shape), c.out[0].reshaped(*shape)
    with c.loop(shape[0]) as i, c.loop(shape[2]) as k:
        best, at = c.var(x[i, 0, k]), c.var(0, "int32")
        with c.loop(shape[1]) as j:
            with c.when(best < x[i, j, k]):
                best.set(x[i, j, k])
                at.set(E(j.expr))
        with c.loop(shape[1]) as j:
            y[i, j, k] = where(at == E(j.expr), lift(1, y.dtype), lift(0, y.dtype))


# --- results whose size data decide -------------------------------------------------------------------


def _counter(c: Code, bound: int):
    """(count so far, its value as an index, add one)."""
    n = c.var(0, "int32")
    return n, lambda: Index(c.let(minimum(maximum(n, 0), bound - 1)).expr), lambda: n.set(n + 1)


def _count(c: Code, n: E) -> None:
    c.out[-1].flat[0] = cast(n, "int64")


def non_zero(c: Code, a, x) -> None:
    """Indices of the elements that are not zero, one column each."""
    y = c.out[0]
    n, at, more = _counter(c, x.size)
    c.fill(y, 0)
    with c.each(x.shape) as i:
        with c.when(x[i] != lift(0, x.dtype)):
            column = at()
            for axis, k in enumerate(i):
                y[axis, column] = cast(E(k.expr), "int64")
            more()
    _count(c, n)


def compress(c: Code, a, x, condition) -> None:
    """The slices along an axis whose condition holds."""
    y = c.out[0]
    axis = axis_of(a.axis, x.rank) if a.axis is not None else 0
    x = x if a.axis is not None else x.flat
    n, at, more = _counter(c, y.shape[axis])
    c.fill(y, 0)
    with c.loop(min(x.shape[axis], condition.size)) as k:
        with c.when(condition.flat[k]):
            to = at()
            with c.each(x.shape[:axis]) as head, c.each(x.shape[axis + 1:]) as tail:
                y[(*head, to, *tail)] = x[(*head, k, *tail)]
            more()
    _count(c, n)


def unique(c: Code, a, x) -> None:
    """The different slices along an axis, sorted or in order of appearance: first index, inverse, number of each."""
    y, first, inverse, counts = c.out[:4]
    axis = axis_of(a.axis, x.rank) if a.axis is not None else 0
    x = x if a.axis is not None else x.flat
    head, tail, total = x.shape[:axis], x.shape[axis + 1:], x.shape[axis]
    leads = c.scratch("int32", total)  # the first slice that equals this one
    place = c.scratch("int32", total)  # of a leading slice: its place in the result

    def order(i, j):
        """-1, 0 or 1 as slice i comes before, equals or follows slice j."""
        sign = c.var(0, "int32")
        with c.each(head) as h, c.each(tail) as t:
            p, q = c.let(x[(*h, i, *t)]), c.let(x[(*h, j, *t)])
            with c.when(sign == 0):
                sign.set(cast(q < p, "int32") - cast(p < q, "int32"))
        return sign

    n = c.var(0, "int32")
    with c.loop(total) as i:
        leads[i] = E(i.expr)
        with c.loop(total) as j:
            with c.when((E(j.expr) < E(i.expr)) & (leads[i] == E(i.expr))):
                with c.when(order(i, j) == 0):
                    leads[i] = leads[c.index(leads[j], total, wrap=False)]
        with c.when(leads[i] == E(i.expr)):
            n.set(n + 1)
    with c.loop(total) as i:
        rank = c.var(0, "int32")
        with c.loop(total) as j:
            with c.when((leads[j] == E(j.expr)) & (leads[i] == E(i.expr))):
                before = order(j, i) < 0 if a.sorted else E(j.expr) < E(i.expr)
                rank.set(rank + cast(before, "int32"))
        place[i] = rank
    for t in (y, first, counts):
        if t is not None:
            c.fill(t, 0)
    with c.loop(total) as i:
        lead = c.index(leads[i], total, wrap=False)
        to = c.index(place[lead], total, wrap=False)
        if inverse is not None:
            inverse[i] = cast(E(to.expr), "int64")
        if counts is not None:
            counts[to] = counts[to] + 1
        with c.when(E(lead.expr) == E(i.expr)):
            if first is not None:
                first[to] = cast(E(i.expr), "int64")
            if y is not None:
                with c.each(head) as h, c.each(tail) as t:
                    y[(*h, to, *t)] = x[(*h, i, *t)]
    _count(c, n)


def non_max_suppression(c: Code, a, boxes, scores, most=None, iou=None, least=None) -> None:
    """(batch, class, box) of the best boxes of each class that overlap no better one by more than `iou`."""
    y = c.out[0]
    batches, classes, count = scores.shape
    n, at, more = _counter(c, y.shape[0])
    dead = c.scratch("bool", count)
    limit = cast(most.flat[0], "int64") if most is not None else lift(0, "int64")
    overlap = iou.flat[0] if iou is not None else lift(0, "float32")
    c.fill(y, 0)

    def corners(b, k):
        p = [boxes[b, k, d] for d in range(4)]
        if a.center_point_box:  # x, y, width, height
            return p[1] - p[3] / 2, p[0] - p[2] / 2, p[1] + p[3] / 2, p[0] + p[2] / 2
        return minimum(p[0], p[2]), minimum(p[1], p[3]), maximum(p[0], p[2]), maximum(p[1], p[3])

    with c.loop(batches) as b, c.loop(classes) as k:
        c.fill(dead, False)
        taken = c.var(0, "int64")
        with c.loop(min(count, y.shape[0])):
            best, value = c.var(-1, "int32"), c.var(lift(0, "float32"))
            with c.loop(count) as i:
                s = c.let(scores[b, k, i])
                good = ~dead[i] & (s > least.flat[0] if least is not None else lift(True, "bool"))
                with c.when(good & ((best < 0) | (value < s))):
                    best.set(E(i.expr))
                    value.set(s)
            with c.when((best >= 0) & (taken < limit)):
                taken.set(taken + 1)
                row, chosen = at(), c.index(best, count, wrap=False)
                for column, v in enumerate((b, k, chosen)):
                    y[row, column] = cast(E(v.expr), "int64")
                more()
                p = [c.let(v) for v in corners(b, chosen)]
                with c.loop(count) as i:
                    q = [c.let(v) for v in corners(b, i)]
                    high = maximum(minimum(p[2], q[2]) - maximum(p[0], q[0]), 0)
                    wide = maximum(minimum(p[3], q[3]) - maximum(p[1], q[1]), 0)
                    both_ = c.let(high * wide)
                    union = (p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1]) - both_
                    with c.when((both_ > overlap * union) | (E(i.expr) == E(chosen.expr))):
                        dead[i] = True
    _count(c, n)


def _bounds(of):
    """infer of an operator whose outputs have a bound: of(node, types, values) -> (shape, type) per output; the count follows."""
    def infer(node, types, values):
        return [TensorType(d, s) for s, d in of(node, types, values)] + [TensorType("int64", ())]

    return infer


def _compressed(node, types, values):
    t, axis = types[0], node.attrs.get("axis")
    if axis is None:
        return [((min(t.size, types[1].size),), t.dtype)]
    k = axis_of(axis, len(t.shape))
    return [(tuple(min(n, types[1].size) if j == k else n for j, n in enumerate(t.shape)), t.dtype)]


def _uniques(node, types, values):
    t, axis = types[0], node.attrs.get("axis")
    n = t.size if axis is None else t.shape[axis_of(axis, len(t.shape))]
    return [(t.shape if axis is not None else (n,), t.dtype), ((n,), "int64"), ((n,), "int64"), ((n,), "int64")]


def _suppressed(node, types, values):
    batches, classes, n = types[1].shape
    most = values[2] if len(values) > 2 else None
    each = n if most is None else min(n, int(np.asarray(most).reshape(-1)[0]))
    return [((max(batches * classes * each, 1), 3), "int64")]


# operator: the axis along which each output is counted, None for one of full size
BOUNDED = {"NonZero": (1,), "Compress": (0,), "Unique": (0, 0, None, 0), "NonMaxSuppression": (0,)}


def counted_axes(op: str, attrs, rank: int) -> tuple[int | None, ...]:
    """BOUNDED with the node's own axis."""
    axes = BOUNDED[op]
    if op in ("Compress", "Unique") and attrs.get("axis") is not None:
        axes = (axis_of(attrs["axis"], rank), *axes[1:])
    return axes


def _bounded(name, body, of, schema, dtypes=NUMBER):
    return replace(written(name, body, schema, dtypes), infer=_bounds(of))


OPS = (
    written("Trilu", trilu, {"upper": 1}),
    written("EyeLike", eye_like, {"k": 0, "dtype": None}),
    written("OneHot", one_hot, {"axis": -1}, static=(1,)),
    written("TopK", top_k, {"axis": -1, "largest": 1, "sorted": 1}, NUMBER, static=(1,)),
    written("ScatterElements", scatter_elements, {"axis": 0, "reduction": "none"}),
    written("Scatter", scatter_elements, {"axis": 0, "reduction": "none"}),
    written("ScatterND", scatter_nd, {"reduction": "none"}),
    written("TensorScatter", tensor_scatter, {"axis": -2, "mode": "linear"}),
    written("ReverseSequence", reverse_sequence, {"batch_axis": 1, "time_axis": 0}),
    written("Hardmax", hardmax, {"axis": -1, "flatten": 0}, REAL),
    _bounded("NonZero", non_zero, lambda node, types, values: [((len(types[0].shape), types[0].size), "int64")], {}, ANY),
    _bounded("Compress", compress, _compressed, {"axis": None}, ANY),
    _bounded("Unique", unique, _uniques, {"axis": None, "sorted": 1}),
    _bounded("NonMaxSuppression", non_max_suppression, _suppressed, {"center_point_box": 0}, REAL),
)
