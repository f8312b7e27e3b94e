"""Sampling a picture at real coordinates: GridSample, RoiAlign. Formulas: the ONNX operator pages."""
from __future__ import annotations

from itertools import product

from .code import Code, Index, Tensor, both, index_of, inside, written
from .scalar import FLOAT, NUMBER, E, cast, lift, maximum, minimum, real, where


def _reflected(x: E, low: float, high: float) -> E:
    """x mirrored at the borders until it is between them."""
    span = max(high - low, 1e-30)
    off = where(x < low, low - x, x - high)
    n = real.trunc(off / span)
    rest = off - n * span
    even = real.fmod(n, lift(2.0, "float32")) == 0
    from_low, from_high = low + rest, high - rest
    return where(x < low, where(even, from_low, from_high), where(x > high, where(even, from_high, from_low), x))


def grid_sample(c: Code, a, x: Tensor, grid: Tensor) -> None:
    """y[n][c][o] = x[n][c] at grid[n][o], coordinates in -1..1, the last axis first."""
    y, size = c.out[0], x.shape[2:]
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(a.mode, a.mode)
    low = [0.0 if a.align_corners else -0.5] * len(size)
    high = [n - 1.0 if a.align_corners else n - 0.5 for n in size]

    def coordinate(n, o, axis):
        g, extent = cast(grid[(n, *o, len(size) - 1 - axis)], "float32"), size[axis]
        at = (g + 1) / 2 * (extent - 1) if a.align_corners else ((g + 1) * extent - 1) / 2
        at = c.let(real.round(at) if mode == "nearest" else at)
        if a.padding_mode == "reflection":
            return c.let(_reflected(at, low[axis], high[axis]))
        beyond = 0 if a.padding_mode == "border" and mode != "cubic" else 3  # there all taps lie outside
        return c.let(minimum(maximum(at, -beyond), extent - 1 + beyond))

    def pixel(n, ch, at: list[E]) -> E:
        """The element at whole coordinates, the padding rule applied."""
        places = []
        for i, extent, lo, hi in zip(at, size, low, high, strict=True):
            if a.padding_mode == "border":
                i = minimum(maximum(i, 0), extent - 1)
            elif a.padding_mode == "reflection":
                i = cast(_reflected(cast(i, "float32"), lo, hi), "int32")
                i = minimum(maximum(i, 0), extent - 1)
            places.append(index_of(c.let(i)))
        if a.padding_mode != "zeros":
            return x[(n, ch, *places)]
        ok = both(*(inside(i, extent) for i, extent in zip(places, size, strict=True)))
        return where(ok, x[(n, ch, *places)], lift(0, x.dtype))

    def weights(f: E) -> list[tuple[int, E]]:
        """(offset from the floor, weight) of each tap along an axis."""
        if mode == "linear":
            return [(0, 1 - f), (1, f)]
        k, g = -0.75, 1 - f
        near = [((k + 2) * t - (k + 3)) * t * t + 1 for t in (f, g)]
        far = [((k * t - 5 * k) * t + 8 * k) * t - 4 * k for t in (f + 1, g + 1)]
        return [(-1, c.let(far[0])), (0, c.let(near[0])), (1, c.let(near[1])), (2, c.let(far[1]))]

    with c.loop(y.shape[0]) as n, c.each(y.shape[2:]) as o:
        at = [coordinate(n, o, axis) for axis in range(len(size))]
        first = [c.let(cast(real.floor(v), "int32")) for v in at]
        taps = [[(0, None)]] * len(size) if mode == "nearest" else \
            [weights(c.let(v - real.floor(v))) for v in at]
        with c.loop(y.shape[1]) as ch:
            total = c.var(lift(0, "float32"))
            for choice in product(*taps):
                value = cast(pixel(n, ch, [f + d for f, (d, _) in zip(first, choice, strict=True)]), "float32")
                for _, w in choice:
                    value = value if w is None else value * w
                total.set(total + value)
            y[(n, ch, *o)] = total


def roi_align(c: Code, a, x: Tensor, rois: Tensor, batches: Tensor) -> None:
    """The mean (or largest) of bilinear samples in each bin of each region."""
    y, (h, w) = c.out[0], x.shape[2:]
    bins = y.shape[2:]
    half = 0.5 if a.coordinate_transformation_mode == "half_pixel" else 0.0
    with c.loop(y.shape[0]) as r:
        n = c.index(batches[r], x.shape[0], wrap=False)
        left, top, right, bottom = (c.let(cast(rois[r, k], "float32") * a.spatial_scale - half) for k in range(4))
        high, wide = bottom - top, right - left
        if not half:
            high, wide = maximum(high, 1), maximum(wide, 1)
        step = [c.let(high / float(bins[0])), c.let(wide / float(bins[1]))]
        count = [lift(a.sampling_ratio, "int32") if a.sampling_ratio > 0 else
                 c.let(minimum(maximum(cast(real.ceil(s), "int32"), 0), 1 << 12)) for s in step]
        with c.loop(y.shape[1]) as ch, c.each(bins) as bin_:
            total, seen = c.var(lift(0, "float32")), c.var(0, "int32")
            with c.loop(index_of(count[0])) as iy, c.loop(index_of(count[1])) as ix:
                at = [start + (cast(E(b.expr), "float32") + (cast(E(k.expr), "float32") + 0.5) / cast(m, "float32")) * s
                      for start, b, k, m, s in zip((top, left), bin_, (iy, ix), count, step, strict=True)]
                yy, xx = (c.let(v) for v in at)
                ok = (yy >= -1) & (yy <= h) & (xx >= -1) & (xx <= w)
                yy, xx = c.let(maximum(yy, 0)), c.let(maximum(xx, 0))
                y0, x0 = (_whole(c, v, m) for v, m in ((yy, h), (xx, w)))
                y1, x1 = (c.let(Index(minimum(E((i + 1).expr), m - 1).expr)) for i, m in ((y0, h), (x0, w)))
                fy = c.let(where(E(y0.expr) >= h - 1, lift(0, "float32"), yy - cast(E(y0.expr), "float32")))
                fx = c.let(where(E(x0.expr) >= w - 1, lift(0, "float32"), xx - cast(E(x0.expr), "float32")))
                zero = lift(0, "float32")
                parts = [c.let(where(ok, wy * wx * cast(x[n, ch, i, j], "float32"), zero)) for wy, wx, i, j in (
                    (1 - fy, 1 - fx, y0, x0), (1 - fy, fx, y0, x1), (fy, 1 - fx, y1, x0), (fy, fx, y1, x1))]
                if a.mode == "avg":
                    total.set(total + parts[0] + parts[1] + parts[2] + parts[3])
                else:
                    best = maximum(maximum(parts[0], parts[1]), maximum(parts[2], parts[3]))
                    total.set(where((seen == 0) | (total < best), best, total))
                seen.set(seen + 1)
            y[(r, ch, *bin_)] = total / cast(maximum(seen, 1), "float32") if a.mode == "avg" else total


def _whole(c: Code, v: E, n: int) -> Index:
    return index_of(c.let(minimum(maximum(cast(v, "int32"), 0), n - 1)))


OPS = (
    written("GridSample", grid_sample, {"align_corners": 0, "mode": "linear", "padding_mode": "zeros"}, NUMBER),
    written("RoiAlign", roi_align, {"coordinate_transformation_mode": "half_pixel", "mode": "avg", "output_height": 1,
                                    "output_width": 1, "sampling_ratio": 0, "spatial_scale": 1.0}, FLOAT),
)
