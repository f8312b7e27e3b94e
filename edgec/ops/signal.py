"""Fourier transforms: radix 2 in n log n steps for powers of two, sums for other lengths; float32 tables of exact angles."""
from __future__ import annotations

import numpy as np

from ..ir import TensorType
from .code import Code, Tensor, inside, select, written
from .nest import axis_of, require
from .scalar import FLOAT, E, cast, lift, where


def _angles(c: Code, n: int, sign: int) -> tuple[Tensor, Tensor]:
    """cos and sin of sign * 2 pi k / n for k < n."""
    phase = sign * 2 * np.pi * np.arange(n) / n
    return c.rom(np.cos(phase).astype(np.float32)), c.rom(np.sin(phase).astype(np.float32))


def transform(c: Code, n: int, inverse: bool, read, write, count: int) -> None:
    """write(k, real, imaginary) for the first `count` terms of the transform of read(i) -> (real, imaginary), i < n."""
    cos, sin = _angles(c, n, 1 if inverse else -1)
    gain = 1 / n if inverse else 1.0

    def scaled(v: E) -> E:
        return v * gain if inverse else v

    re, im = c.scratch("float32", n), c.scratch("float32", n)
    if n & (n - 1):
        with c.loop(n) as i:
            re[i], im[i] = read(i)
        with c.loop(count) as k:
            total = [c.var(lift(0, "float32")) for _ in range(2)]
            with c.loop(n) as i:
                at = k * i % n if n * count < 2**31 else c.index(cast(E(k.expr), "int64") * cast(E(i.expr), "int64"), n)
                p, q, u, v = (c.let(x) for x in (re[i], im[i], cos[at], sin[at]))
                total[0].set(total[0] + (p * u - q * v))
                total[1].set(total[1] + (p * v + q * u))
            write(k, scaled(total[0]), scaled(total[1]))
        return
    bits = n.bit_length() - 1
    order = c.rom(np.array([int(f"{i:0{bits}b}"[::-1] or "0", 2) if bits else 0 for i in range(n)], np.min_scalar_type(n - 1)))
    with c.loop(n) as i:
        to = c.index(order[i], n, wrap=False)
        re[to], im[to] = read(i)
    for stage in range(bits):
        half = 1 << stage
        with c.loop(n // (2 * half)) as block, c.loop(half) as k:
            low, high = c.let(block * (2 * half) + k), c.let(block * (2 * half) + k + half)
            u, v = c.let(cos[k * (n // (2 * half))]), c.let(sin[k * (n // (2 * half))])
            p, q, s, t = (c.let(x) for x in (re[low], im[low], re[high], im[high]))
            x, y = c.let(s * u - t * v), c.let(s * v + t * u)
            re[low], im[low], re[high], im[high] = p + x, q + y, p - x, q - y
    with c.loop(count) as k:
        write(k, scaled(re[k]), scaled(im[k]))


def dft(c: Code, a, x: Tensor, length: Tensor | None = None, axis: Tensor | None = None) -> None:
    """The transform along an axis of pairs (real, imaginary), or of reals; padded or cut to `length`."""
    y = c.out[0]
    k = axis_of(int(axis.value.reshape(-1)[0]) if axis is not None else a.axis, x.rank)
    real_out = a.inverse and a.onesided  # half a spectrum to a real signal
    if length is not None:
        n = int(length.value.reshape(-1)[0])
    else:
        n = 2 * (x.shape[k] - 1) if real_out else x.shape[k]
    have = x.shape[k]
    with c.each(x.shape[:k]) as head, c.each(x.shape[k + 1:-1]) as tail:
        def part(i, which):
            if which >= x.shape[-1]:
                return lift(0, "float32")
            return cast(x[(*head, i, *tail, which)], "float32")

        def read(i):
            if real_out:  # the other half is its mirror image
                mirrored = E(i.expr) > n // 2
                j = c.let(select(mirrored, n - i, i))
                ok = c.let(inside(j, have))
                sign = where(mirrored, lift(-1, "float32"), lift(1, "float32"))
                imaginary = where((E(i.expr) == 0) | (E(i.expr) * 2 == n), lift(0, "float32"), sign)
                zero = lift(0, "float32")
                return where(ok, part(j, 0), zero), where(ok, part(j, 1), zero) * imaginary
            if n <= have:
                return part(i, 0), part(i, 1)
            ok = inside(i, have)
            return tuple(where(ok, part(i, w), lift(0, "float32")) for w in (0, 1))

        def write(i, p, q):
            for which, v in enumerate((p, q)[:y.shape[-1]]):
                y[(*head, i, *tail, which)] = v

        transform(c, n, bool(a.inverse), read, write, y.shape[k])


def stft(c: Code, a, signal: Tensor, frame_step: Tensor, window: Tensor | None = None, frame_length: Tensor | None = None) -> None:
    """The transforms of windowed frames of a signal [batch][length][1 or 2]."""
    y, step = c.out[0], int(frame_step.value.reshape(-1)[0])
    n = int(frame_length.value.reshape(-1)[0]) if frame_length is not None else window.size
    with c.loop(y.shape[0]) as b, c.loop(y.shape[1]) as frame:
        def read(i):
            at = frame * step + i
            parts = [cast(signal[b, at, w], "float32") if w < signal.shape[-1] else lift(0, "float32") for w in (0, 1)]
            return tuple(v * cast(window.flat[i], "float32") if window is not None else v for v in parts)

        def write(k, p, q):
            y[b, frame, k, 0] = p
            y[b, frame, k, 1] = q

        transform(c, n, False, read, write, y.shape[2])


def _stft_infer(node, types, values):
    (batch, length, _), window = types[0].shape, types[2] if len(types) > 2 else None
    require(all(values[k] is not None for k in range(1, len(types), 2) if types[k]), node, "run-time frame step or length")
    n = int(values[3].reshape(-1)[0]) if len(values) > 3 and values[3] is not None else window.size
    frames = (length - n) // int(values[1].reshape(-1)[0]) + 1
    return [TensorType(types[0].dtype, (batch, frames, n // 2 + 1 if node.attrs.get("onesided", 1) else n, 2))]


OPS = (
    written("DFT", dft, {"axis": -2, "inverse": 0, "onesided": 0}, FLOAT, static=(1, 2)),
    written("STFT", stft, {"onesided": 1}, FLOAT, static=(1, 3), infer=_stft_infer),
)
