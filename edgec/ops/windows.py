"""Convolutions and pools over any number of axes, of any element type, as loop nests; channels first.

The kernels of conv.py and pool.py serve the common 2-D layers; everything else comes here: 3-D, run-time weights, transposed and
deformable convolutions, pools with indices, narrow floats.
"""
from __future__ import annotations

from dataclasses import dataclass
from math import prod
from types import SimpleNamespace

import numpy as np

from .code import ZERO, Code, Index, Tensor, both, clamp, index_of, inside, written
from .nest import strides_of
from .scalar import FLOAT, INTEGER, NUMBER, E, absolute, cast, lift, maximum, minimum, real

WINDOW = {"auto_pad": "NOTSET", "ceil_mode": 0, "kernel_shape": None, "pads": None, "strides": None, "dilations": None,
          "storage_order": 0, "count_include_pad": 0, "clip": None}


@dataclass(frozen=True)
class Geometry:
    """kernel, strides, dilations, pads before and after, by spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    def tap(self, o, k) -> list[Index]:
        """The input position of tap k of output position o."""
        return [i * s + j * d - p for i, j, s, d, p in zip(o, k, self.strides, self.dilations, self.before, strict=True)]


def geometry(a: SimpleNamespace, size, out, kernel) -> Geometry:
    """The window of a node's attributes over axes of these input and output sizes."""
    n = len(size)
    kernel = tuple(a.kernel_shape or kernel)
    strides, dilations = tuple(a.strides or (1,) * n), tuple(a.dilations or (1,) * n)
    pads = tuple(a.pads or (0,) * (2 * n))
    before, after = pads[:n], pads[n:]
    if a.auto_pad.startswith("SAME"):
        total = [
            max((o - 1) * s + (k - 1) * d + 1 - i, 0) for i, o, s, k, d in zip(size, out, strides, kernel, dilations, strict=True)
        ]
        less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        before, after = (less, more) if a.auto_pad == "SAME_UPPER" else (more, less)
    elif a.auto_pad == "VALID":
        before = after = (0,) * n
    return Geometry(kernel, strides, dilations, before, after)


def _taps(c: Code, g: Geometry, size, o, visit) -> None:
    """visit(k, i) for each tap k that lies inside, at input position i."""
    with c.each(g.kernel) as k:
        at = [c.let(i, "at") for i in g.tap(o, k)]
        with c.when(both(*(inside(i, n) for i, n in zip(at, size, strict=True)))):
            visit(k, at)


def clipped(a, value: E) -> E:
    """With the activation that was fused into the node."""
    return value if a.clip is None else minimum(maximum(value, float(a.clip[0])), float(a.clip[1]))


def conv(c: Code, a, x: Tensor, w: Tensor, b: Tensor | None = None, zero_x=None, zero_w=None) -> None:
    """y[n][m] = b[m] + sum over group channels and taps of x * w."""
    y = c.out[0]
    spatial, out = x.shape[2:], y.shape[2:]
    g = geometry(a, spatial, out, w.shape[2:])
    per, channels = w.shape[0] // a.group, w.shape[1]
    c.ctx.macs(y.size * w.size // w.shape[0])
    with c.loop(y.shape[0]) as n, c.loop(w.shape[0]) as m, c.each(out) as o:
        first = m // per * channels if a.group > 1 else ZERO
        acc = c.var(b[m] if b is not None else lift(0, y.dtype))

        def visit(k, at, n=n, m=m, first=first, acc=acc):
            with c.loop(channels) as i:
                p, q = x[n, first + i, *at], w[m, i, *k]
                if y.dtype == "int32":
                    p, q = cast(p, "int32") - (zero_x or 0), cast(q, "int32") - (zero_w(m) if zero_w else 0)
                acc.set(acc + p * q)

        _taps(c, g, spatial, o, visit)
        y[n, m, *o] = clipped(a, acc)


def conv_integer(c: Code, a, x, w, zero_x=None, zero_w=None) -> None:
    """Sums of (x - zero_x) * (w - zero_w) in int32; padding is zero_x, so taps outside add nothing."""
    zx = cast(zero_x.flat[0], "int32") if zero_x is not None else None
    zw = (lambda m: cast(zero_w.flat[m if zero_w.size > 1 else 0], "int32")) if zero_w is not None else None
    conv(c, a, x, w, None, zx, zw)


def conv_transpose(c: Code, a, x: Tensor, w: Tensor, b: Tensor | None = None) -> None:
    """y[n][m][o] = b[m] + sum of x[i] * w[k] over the i and k with i * stride + k * dilation - pad == o."""
    y = c.out[0]
    spatial, out = x.shape[2:], y.shape[2:]
    axes = len(spatial)
    kernel = tuple(a.kernel_shape or w.shape[2:])
    strides, dilations = tuple(a.strides or (1,) * axes), tuple(a.dilations or (1,) * axes)
    extra = tuple(a.output_padding or (0,) * axes)
    total = [s * (n - 1) + e + (k - 1) * d + 1 - o
             for s, n, e, k, d, o in zip(strides, spatial, extra, kernel, dilations, out, strict=True)]
    if a.output_shape or a.auto_pad.startswith("SAME"):
        before = [t // 2 if a.auto_pad == "SAME_UPPER" else t - t // 2 for t in total]
    else:
        before = list(a.pads or (0,) * axes)[:axes]
    per_in, per = x.shape[1] // a.group, w.shape[1]
    c.ctx.macs(x.size * w.size // w.shape[0])
    with c.loop(x.shape[0]) as n, c.loop(a.group) as group, c.loop(per) as m, c.each(out) as o:
        acc = c.var(b[group * per + m] if b is not None else lift(0, y.dtype))
        with c.each(kernel) as k:
            at, conditions = [], []
            for i, j, s, d, p, size in zip(o, k, strides, dilations, before, spatial, strict=True):
                t = c.let(i + p - j * d, "t")
                conditions += [t >= 0, t < size * s]
                at.append((t, s))
            with c.when(both(*conditions)):
                whole = [t % s == 0 for t, s in at if s > 1]
                with c.when(both(*whole) if whole else lift(True, "bool")):
                    i = [t // s for t, s in at]
                    with c.loop(per_in) as ch:
                        acc.set(acc + x[n, group * per_in + ch, *i] * w[group * per_in + ch, m, *k])
        y[n, group * per + m, *o] = acc


def bilinear(c: Code, read, y: E, x: E, h: int, w: int) -> E:
    """The value between four pixels at real coordinates; 0 outside. read(row, column)."""
    top, left = c.let(real.floor(y), "fy"), c.let(real.floor(x), "fx")
    wy, wx = c.let(y - top, "wy"), c.let(x - left, "wx")
    total = c.var(0.0, "float32")
    rows, columns = cast(top, "int32"), cast(left, "int32")
    for dy in (0, 1):
        for dx in (0, 1):
            iy, ix = c.let(rows + dy, "iy"), c.let(columns + dx, "ix")
            iy, ix = index_of(iy), index_of(ix)
            with c.when(both(inside(iy, h), inside(ix, w))):
                weight = (wy if dy else 1 - wy) * (wx if dx else 1 - wx)
                total.set(total + cast(read(iy, ix), "float32") * weight)
    return total


def deform_conv(c: Code, a, x, w, offset, b=None, mask=None) -> None:
    """A convolution whose taps are moved by `offset` and weighted by `mask`, sampled bilinearly."""
    y = c.out[0]
    c.require(x.rank == 4, "other than two spatial axes")
    (h, width), (kh, kw), out = x.shape[2:], w.shape[2:], y.shape[2:]
    g = geometry(a, (h, width), out, (kh, kw))
    per, channels, each = w.shape[0] // a.group, w.shape[1], x.shape[1] // a.offset_group
    with c.loop(y.shape[0]) as n, c.loop(w.shape[0]) as m, c.each(out) as o:
        acc = c.var(b[m] if b is not None else lift(0, y.dtype))
        with c.loop(channels) as i, c.loop(kh) as ky, c.loop(kw) as kx:
            ch = c.let(m // per * channels + i)
            tap = c.let((ch // each * kh + ky) * kw + kx)
            row, column = g.tap(o, (ky, kx))
            py = c.let(cast(E(row.expr), "float32") + offset[n, tap * 2, *o])
            px = c.let(cast(E(column.expr), "float32") + offset[n, tap * 2 + 1, *o])
            with c.when((py > -1) & (py < h) & (px > -1) & (px < width)):
                value = bilinear(c, lambda r, q, n=n, ch=ch: x[n, ch, r, q], py, px, h, width)
                if mask is not None:
                    value = value * mask[n, tap, *o]
                acc.set(acc + value * w[m, i, ky, kx])
        y[n, m, *o] = acc


def pool(c: Code, a, x: Tensor) -> None:
    """MaxPool with its indices, AveragePool and LpPool."""
    y, indices = c.out[0], c.out[1] if len(c.out) > 1 else None
    spatial = x.shape[2:]
    out = c.ctx.type(c.node.outputs[0] or c.node.outputs[1]).shape[2:]
    g = geometry(a, spatial, out, a.kernel_shape)
    with c.loop(x.shape[0]) as n, c.loop(x.shape[1]) as ch, c.each(out) as o:
        if a.op == "MaxPool":
            best = c.var(lift(lowest(x.dtype), x.dtype))
            at_best, seen = c.var(0, "int32"), c.var(0, "int32")

            def visit(k, at, n=n, ch=ch, best=best, at_best=at_best, seen=seen):
                value = c.let(x[n, ch, *at])
                with c.when((best < value) | (seen == 0)):
                    best.set(value)
                    seen.set(1)
                    if indices is not None:
                        order = list(zip(at, spatial, strict=True))
                        flat = ZERO
                        for i, size in order if not a.storage_order else order[::-1]:
                            flat = flat * size + i
                        at_best.set(E(((n * x.shape[1] + ch) * (x.size // x.shape[0] // x.shape[1]) + flat).expr))

            _taps(c, g, spatial, o, visit)
            if y is not None:
                y[n, ch, *o] = best
            if indices is not None:
                indices[n, ch, *o] = cast(at_best, "int64")
        else:
            acc, count = c.var(lift(0, x.dtype)), c.var(0, "int32")
            power = getattr(a, "p", 1)

            def visit(k, at, n=n, ch=ch, acc=acc, count=count, power=power):
                value = x[n, ch, *at]
                if a.op == "LpPool":
                    value = real.pow(absolute(value), lift(float(power), x.dtype)) if power not in (1, 2) else \
                        absolute(value) if power == 1 else value * value
                acc.set(acc + value)
                if not a.count_include_pad:
                    count.set(count + 1)

            _taps(c, g, spatial, o, visit)
            if a.op == "LpPool":
                y[n, ch, *o] = acc if power == 1 else real.sqrt(acc) if power == 2 else real.pow(acc, lift(1 / power, x.dtype))
            else:
                if a.count_include_pad:  # taps in the padding count, those that ceil_mode adds do not
                    with c.each(g.kernel) as k:
                        at = [c.let(i, "at") for i in g.tap(o, k)]
                        with c.when(both(*(i < size + end for i, size, end in zip(at, spatial, g.after, strict=True)))):
                            count.set(count + 1)
                y[n, ch, *o] = clipped(a, acc / cast(count, x.dtype))


def lowest(dtype: str):
    """The least value of a type."""
    return -np.inf if dtype in FLOAT else np.iinfo(dtype).min


def max_unpool(c: Code, a, x, indices, shape=None) -> None:
    """Each element at its index, which counts in the tensor that the pool came from; zeros elsewhere."""
    y, spatial = c.out[0], x.shape[2:]
    axes = len(spatial)
    strides, pads = a.strides or (1,) * axes, a.pads or (0,) * (2 * axes)
    inner = [
        (n - 1) * s - pads[k] - pads[k + axes] + w
        for k, (n, s, w) in enumerate(zip(spatial, strides, a.kernel_shape, strict=True))
    ]
    whole = (*x.shape[:2], *inner)
    c.fill(y, 0)
    with c.each(x.shape) as i:
        at = c.index(indices[i], prod(whole), wrap=False)
        place = [at // stride % n for stride, n in zip(strides_of(whole), whole, strict=True)]
        with c.when(both(*(inside(c.let(p), n) for p, n in zip(place, y.shape, strict=True)))):
            y[[clamp(p, 0, n - 1) for p, n in zip(place, y.shape, strict=True)]] = x[i]


def col2im(c: Code, a, x, image_shape, block_shape) -> None:
    """Sums of blocks at their places in the image."""
    y = c.out[0]
    spatial, kernel = y.shape[2:], [int(n) for n in block_shape.value]
    g = geometry(
        SimpleNamespace(**{**WINDOW, "strides": a.strides, "dilations": a.dilations, "pads": a.pads}), spatial, (), kernel
    )
    blocks = [(size + p + q - (k - 1) * d - 1) // s + 1 for size, p, q, k, d, s in
              zip(spatial, g.before, g.after, g.kernel, g.dilations, g.strides, strict=True)]
    source = x.reshaped(x.shape[0], y.shape[1], *kernel, *blocks)
    c.fill(y, 0)
    with c.loop(x.shape[0]) as n, c.loop(y.shape[1]) as ch, c.each(blocks) as o:
        def visit(k, at, n=n, ch=ch, o=o):
            y[n, ch, *at] = y[n, ch, *at] + source[n, ch, *k, *o]

        _taps(c, g, spatial, o, visit)


CONV = {"auto_pad": "NOTSET", "dilations": None, "group": 1, "kernel_shape": None, "pads": None, "strides": None, "clip": None}
CONV_NEST = written("Conv", conv, CONV, FLOAT)
POOL_NESTS = (written("MaxPool", pool, WINDOW, NUMBER), written("AveragePool", pool, WINDOW, FLOAT))
OPS = (
    written("ConvInteger", conv_integer, CONV, ("int8", "uint8")),
    written("ConvTranspose", conv_transpose, CONV | {"output_padding": None, "output_shape": None}, FLOAT),
    written("DeformConv", deform_conv, CONV | {"offset_group": 1}, FLOAT),
    written("LpPool", pool, WINDOW | {"p": 2}, FLOAT),
    written("MaxUnpool", max_unpool, {"kernel_shape": None, "pads": None, "strides": None}, NUMBER, static=(2,)),
    written("Col2Im", col2im, {"dilations": None, "pads": None, "strides": None}, FLOAT + INTEGER, static=(1, 2)),
)
