"""Linear algebra beyond Gemm: einsum, determinants, integer matrix products, norms over windows and axes."""
from __future__ import annotations

from math import prod

from .code import ZERO, Code, Tensor, inside, written
from .nest import axis_of
from .scalar import FLOAT, NUMBER, E, absolute, cast, lift, maximum, minimum, real, where


def matmul(c: Code, a, x: Tensor, y: Tensor, zero_x=None, zero_y=None) -> None:
    """Sums over K in order, in the output's type; batch axes broadcast. MatMulInteger takes zero points off first."""
    out = c.out[0]
    x = x if x.rank > 1 else x.reshaped(1, x.size)
    y = y if y.rank > 1 else y.reshaped(y.size, 1)
    m, k, n = x.shape[-2], x.shape[-1], y.shape[-1]
    batch = out.shape[:-2] if out.rank >= 2 and x.rank + y.rank > 4 else tuple(
        max(p, q) for p, q in zip((1,) * (y.rank - x.rank) + x.shape[:-2], (1,) * (x.rank - y.rank) + y.shape[:-2], strict=True))
    full = out.reshaped(*batch, m, n)
    c.ctx.macs(full.size * k)

    def value(t, zero, at, axis):
        v = cast(t.spread(at, (*batch, *t.shape[-2:])), out.dtype)
        return v if zero is None else v - cast(zero.flat[at[axis] if zero.size > 1 else 0], out.dtype)

    with c.each((*batch, m, n)) as (*b, i, j):
        total = c.sum(k, lambda q: value(x, zero_x, (*b, i, q), -2) * value(y, zero_y, (*b, q, j), -1), 0, out.dtype)
        full[(*b, i, j)] = total if a.clip is None else minimum(maximum(total, float(a.clip[0])), float(a.clip[1]))


def einsum(c: Code, a, *xs: Tensor) -> None:
    """Sums of products by the equation; an ellipsis stands for broadcast axes."""
    y = c.out[0]
    left, _, right = a.equation.replace(" ", "").partition("->")
    terms = left.split(",")
    wide = max((x.rank - len(t.replace("...", "")) for t, x in zip(terms, xs, strict=True) if "..." in t), default=0)
    dots = [f"#{k}" for k in range(wide)]

    def letters(term: str, rank: int | None) -> list[str]:
        head, found, tail = term.partition("...")
        n = wide if rank is None else rank - len(head) - len(tail)
        return [*head, *(dots[wide - n:] if found else []), *tail]

    named = [letters(t, x.rank) for t, x in zip(terms, xs, strict=True)]
    if "->" in a.equation:
        result = letters(right, None)
    else:  # the letters that occur once, in order
        flat = [v for n in named for v in n if v not in dots]
        result = [*dots, *sorted(v for v in set(flat) if flat.count(v) == 1)]
    size: dict[str, int] = {}
    for n, x in zip(named, xs, strict=True):
        for v, extent in zip(n, x.shape, strict=True):
            size[v] = max(size.get(v, 1), extent)
    inner = [v for v in size if v not in result]
    c.ctx.macs(y.size * prod(size[v] for v in inner))
    with c.each([size[v] for v in result]) as i:
        acc = c.var(lift(0, y.dtype))
        with c.each([size[v] for v in inner]) as k:
            at = dict(zip((*result, *inner), (*i, *k), strict=True))
            product = None
            for n, x in zip(named, xs, strict=True):
                v = x[[at[name] if extent > 1 else ZERO for name, extent in zip(n, x.shape, strict=True)]]
                product = v if product is None else product * v
            acc.set(acc + product)
        y[i] = acc


def det(c: Code, a, x: Tensor) -> None:
    """Elimination with the largest pivot of each column."""
    y, n = c.out[0], x.shape[-1]
    m = c.scratch(x.dtype, n, n)
    with c.each(x.shape[:-2]) as b:
        with c.loop(n) as i, c.loop(n) as j:
            m[i, j] = x[(*b, i, j)]
        d = c.var(lift(1, x.dtype))
        with c.loop(n) as k:
            row = c.var(E(k.expr))
            with c.loop(n, k + 1) as i:
                with c.when(absolute(m[c.index(row, n), k]) < absolute(m[i, k])):
                    row.set(E(i.expr))
            pivot = c.index(row, n)
            with c.when(E(pivot.expr) != E(k.expr)):
                d.set(-d)
                with c.loop(n) as j:
                    old = c.let(m[k, j])
                    m[k, j] = m[pivot, j]
                    m[pivot, j] = old
            d.set(d * m[k, k])
            with c.loop(n, k + 1) as i:
                f = c.let(where(m[k, k] == 0, lift(0, x.dtype), m[i, k] / m[k, k]))
                with c.loop(n) as j:
                    m[i, j] = m[i, j] - f * m[k, j]
        y[b] = d


def lp_normalization(c: Code, a, x: Tensor) -> None:
    """x by its norm along an axis; 0 where that is 0."""
    y, axis = c.out[0], axis_of(a.axis, x.rank)
    shape = (prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1:]))
    x, y = x.reshaped(*shape), y.reshaped(*shape)
    with c.loop(shape[0]) as i, c.loop(shape[2]) as k:
        norm = c.sum(shape[1], lambda j: absolute(x[i, j, k]) if a.p == 1 else x[i, j, k] * x[i, j, k], 0, x.dtype)
        norm = c.let(norm if a.p == 1 else real.sqrt(norm))
        with c.loop(shape[1]) as j:
            y[i, j, k] = where(norm == 0, lift(0, x.dtype), x[i, j, k] / norm)


def lrn(c: Code, a, x: Tensor) -> None:
    """x / (bias + alpha / size * sum of squares of the neighbouring channels) ** beta."""
    y, channels = c.out[0], x.shape[1]
    low = (a.size - 1) // 2
    with c.loop(x.shape[0]) as n, c.loop(channels) as ch, c.each(x.shape[2:]) as i:
        acc = c.var(lift(0, x.dtype))
        with c.loop(a.size) as k:
            at = c.let(ch + k - low)
            with c.when(inside(at, channels)):
                acc.set(acc + x[(n, at, *i)] * x[(n, at, *i)])
        y[(n, ch, *i)] = x[(n, ch, *i)] / real.pow(a.bias + acc * (a.alpha / a.size), lift(a.beta, x.dtype))


def instance_normalization(c: Code, a, x: Tensor, scale: Tensor, b: Tensor) -> None:
    """Each channel of each sample to mean 0 and variance 1, then scaled."""
    y, count = c.out[0], prod(x.shape[2:])
    x, y = x.reshaped(*x.shape[:2], count), y.reshaped(*x.shape[:2], count)
    with c.loop(x.shape[0]) as n, c.loop(x.shape[1]) as ch:
        mean = c.let(c.sum(count, lambda i: x[n, ch, i], 0, x.dtype) / float(count))
        spread = c.sum(count, lambda i: (x[n, ch, i] - mean) * (x[n, ch, i] - mean), 0, x.dtype)
        gain = c.let(scale[ch] / real.sqrt(spread / float(count) + a.epsilon))
        with c.loop(count) as i:
            y[n, ch, i] = (x[n, ch, i] - mean) * gain + b[ch]


def batch_normalization(c: Code, a, x, scale, b, mean, var) -> None:
    """By running statistics, or, in training mode, by those of the batch, which move the running ones."""
    y, channels, count = c.out[0], x.shape[1] if x.rank > 1 else 1, x.size // x.shape[0] // (x.shape[1] if x.rank > 1 else 1)
    x, y = x.reshaped(x.shape[0], channels, count), y.reshaped(x.shape[0], channels, count)
    with c.loop(channels) as ch:
        m, v = mean[ch], var[ch]
        if a.training_mode:
            total, squares = c.var(lift(0, x.dtype)), c.var(lift(0, x.dtype))
            with c.loop(x.shape[0]) as n, c.loop(count) as i:
                total.set(total + x[n, ch, i])
            m = c.let(total / float(x.shape[0] * count))
            with c.loop(x.shape[0]) as n, c.loop(count) as i:
                squares.set(squares + (x[n, ch, i] - m) * (x[n, ch, i] - m))
            v = c.let(squares / float(x.shape[0] * count))
            for out, old, new in zip(c.out[1:3], (mean, var), (m, v), strict=False):
                if out is not None:
                    out[ch] = old[ch] * a.momentum + new * (1 - a.momentum)
        gain = c.let(scale[ch] / real.sqrt(v + a.epsilon))
        shift = c.let(b[ch] - m * gain)
        with c.loop(x.shape[0]) as n, c.loop(count) as i:
            y[n, ch, i] = x[n, ch, i] * gain + shift


def softmax(c: Code, a, x: Tensor) -> None:
    """exp(x - largest) by its sum along the axis; LogSoftmax is its logarithm."""
    y, axis = c.out[0], axis_of(a.axis, x.rank)
    shape = (prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1:]))
    if a.flatten:
        shape = (prod(x.shape[:axis]), prod(x.shape[axis:]), 1)
    x, y = x.reshaped(*shape), y.reshaped(*shape)
    with c.loop(shape[0]) as i, c.loop(shape[2]) as k:
        top = c.var(x[i, 0, k])
        with c.loop(shape[1]) as j:
            top.set(maximum(top, x[i, j, k]))
        total = c.sum(shape[1], lambda j: real.exp(x[i, j, k] - top), 0, x.dtype)
        with c.loop(shape[1]) as j:
            y[i, j, k] = x[i, j, k] - top - real.log(total) if a.op == "LogSoftmax" else real.exp(x[i, j, k] - top) / total


NORM = {"epsilon": 1e-5}
SOFTMAX = {"axis": -1, "flatten": 0}
SOFTMAX_NEST, MATMUL_NEST = written("Softmax", softmax, SOFTMAX), written("MatMul", matmul, {"clip": None})
OPS = (
    written("MatMulInteger", matmul, {"clip": None}, ("int8", "uint8")),
    written("Einsum", einsum, {"equation": ""}, NUMBER),
    written("Det", det, {}, FLOAT),
    written("LpNormalization", lp_normalization, {"axis": -1, "p": 2}, FLOAT),
    written("LRN", lrn, {"alpha": 0.0001, "beta": 0.75, "bias": 1.0, "size": 1}, FLOAT),
    written("InstanceNormalization", instance_normalization, NORM, FLOAT),
    written(
        "BatchNormalization", batch_normalization, NORM | {"momentum": 0.9, "training_mode": 0, "spatial": 1, "is_test": 0}, FLOAT
    ),
    written("LogSoftmax", softmax, SOFTMAX, FLOAT),
)
