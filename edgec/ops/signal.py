"""Fourier transforms: a kernel in n log n steps for powers of two, sums for other lengths; float32 tables of exact
angles."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..ir import TensorType
from ..loops import Call, Ref
from .code import Code, Index, Tensor, inside, select, written
from .nest import axis_of, require
from .scalar import FLOAT, E, cast, lift, where

Pair = tuple[E, E]  # real and imaginary part


def transform(c: Code, n: int, inverse: bool, read: Callable[[Index], Pair], write: Callable[..., None], count: int,
              real: bool = False) -> None:
    """write(k, real, imaginary) for the first `count` terms of the transform of read(i) -> (real, imaginary), i < n.
    real: all imaginary parts are 0."""
    gain = np.float32(1 / n)

    def scaled(k, p: E, q: E) -> None:
        write(k, p * gain, q * gain)

    if n < 2 or n & (n - 1):
        _sums(c, n, 1 if inverse else -1, read, scaled if inverse else write, count)
    elif inverse:  # the transform of the values with their parts exchanged, exchanged again
        z = _fast(c, n, 1, lambda i: read(i)[::-1])
        with c.loop(count) as k:
            scaled(k, z[k, 1], z[k, 0])
    elif real and n >= 4 and count in (n // 2 + 1, n):
        _fast_real(c, n, read, write, count == n)
    else:
        z = _fast(c, n, 1, read)
        with c.loop(count) as k:
            write(k, z[k, 0], z[k, 1])


def _sums(c: Code, n: int, sign: int, read, write, count: int) -> None:
    """Each term as a sum over all values."""
    phase = sign * 2 * np.pi * np.arange(n) / n
    cos, sin = c.rom(np.cos(phase).astype(np.float32)), c.rom(np.sin(phase).astype(np.float32))
    re, im = c.scratch("float32", n), c.scratch("float32", n)
    with c.loop(n) as i:
        re[i], im[i] = read(i)
    with c.loop(count) as k:
        total = [c.var(lift(0, "float32")) for _ in range(2)]
        with c.loop(n) as i:
            at = k * i % n if n * count < 2**31 else c.index(cast(E(k.expr), "int64") * cast(E(i.expr), "int64"), n)
            p, q, u, v = (c.let(x) for x in (re[i], im[i], cos[at], sin[at]))
            total[0].set(total[0] + (p * u - q * v))
            total[1].set(total[1] + (p * v + q * u))
        write(k, *total)


def _fast(c: Code, n: int, step: int, read) -> Tensor:
    """The transform [n][2] of n values by the kernel, whose table is that of n * step values."""
    bits = n.bit_length() - 1
    order = np.array([int(f"{i:0{bits}b}"[::-1], 2) for i in range(n)], np.min_scalar_type(n - 1))
    table, order, z = c.rom(turns(n * step)), c.rom(order), c.scratch("float32", n, 2)
    with c.loop(n) as i:
        to = c.index(order[i], n, wrap=False)
        z[to, 0], z[to, 1] = read(i)

    def meaning(args, get, put):
        put(args[0], fft(get(args[0])[:2 * n].reshape(n, 2), get(args[1]).reshape(-1, 2), step))

    c.emit(Call("fft_f32", {"n": n, "step": step}, (Ref(z.buffer), Ref(table.buffer)), (z.buffer,), meaning))
    return z


def _fast_real(c: Code, n: int, read, write, mirrored: bool) -> None:
    """Even and odd values as the two parts of one transform of half the length, taken apart again."""
    m = n // 2
    z = _fast(c, m, 2, lambda j: (read(j * 2)[0], read(j * 2 + 1)[0]))
    table = c.rom(turns(n))
    write(0, z[0, 0] + z[0, 1], lift(0, "float32"))
    with c.loop(m, start=1) as k:
        p, q, u, v = (c.let(x) for x in (z[k, 0], z[k, 1], z[m - k, 0], z[m - k, 1]))
        even, odd = (c.let((p + u) * 0.5), c.let((q - v) * 0.5)), (c.let((q + v) * 0.5), c.let((u - p) * 0.5))
        cos, sin = c.let(table[k, 0]), c.let(table[k, 1])
        x, y = c.let(even[0] + (odd[0] * cos - odd[1] * sin)), c.let(even[1] + (odd[0] * sin + odd[1] * cos))
        write(k, x, y)
        if mirrored:
            write(n - k, x, -y)
    write(m, z[0, 0] - z[0, 1], lift(0, "float32"))


def turns(n: int) -> np.ndarray:
    """cos and -sin of 2 pi k / n, float32 [3/4 n][2]: the factors of fft_f32."""
    phase = 2 * np.pi * np.arange(3 * n // 4) / n
    return np.stack([np.cos(phase), -np.sin(phase)], 1).astype(np.float32)


def fft(z: np.ndarray, w: np.ndarray, step: int) -> np.ndarray:
    """What fft_f32 computes, with its order of operations. z: float32 [n][2], bits of the index reversed."""
    n = len(z)

    def merged(a, b, c, d):
        (sr, si), (er, ei) = (a[0] + b[0], a[1] + b[1]), (a[0] - b[0], a[1] - b[1])
        (tr, ti), (fr, fi) = (c[0] + d[0], c[1] + d[1]), (c[0] - d[0], c[1] - d[1])
        return (sr + tr, si + ti), (er + fi, ei - fr), (sr - tr, si - ti), (er - fi, ei + fr)

    def times(v, u):
        return v[0] * u[:, 0] - v[1] * u[:, 1], v[0] * u[:, 1] + v[1] * u[:, 0]

    h = 1
    if n.bit_length() % 2 == 0:
        pairs = z.reshape(-1, 2, 2)
        z, h = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1).reshape(n, 2), 2
    while h < n:
        k = np.arange(h) * (n // (4 * h)) * step
        a, b, c, d = (np.moveaxis(x, 2, 0) for x in np.moveaxis(z.reshape(-1, 4, h, 2), 1, 0))
        if h > 1:
            b, c, d = times(b, w[2 * k]), times(c, w[k]), times(d, w[3 * k])
        z = np.stack([np.stack(v, -1) for v in merged(a, b, c, d)], 1).reshape(n, 2)
        h *= 4
    return z


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
            at = c.let(i)
            ok = inside(at, have)
            return tuple(where(ok, part(at, w), lift(0, "float32")) for w in (0, 1))

        def write(i, p, q):
            for which, v in enumerate((p, q)[:y.shape[-1]]):
                y[(*head, i, *tail, which)] = v

        transform(c, n, bool(a.inverse), read, write, y.shape[k], x.shape[-1] == 1)


def stft(
    c: Code, a, signal: Tensor, frame_step: Tensor, window: Tensor | None = None, frame_length: Tensor | None = None
) -> None:
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

        transform(c, n, False, read, write, y.shape[2], signal.shape[-1] == 1)


def _stft_infer(node, types, values):
    (batch, length, _), window = types[0].shape, types[2] if len(types) > 2 else None
    require(all(values[k] is not None for k in range(1, len(types), 2) if types[k]), node, "run-time frame step or length")
    n = int(values[3].reshape(-1)[0]) if len(values) > 3 and values[3] is not None else window.size
    frames = (length - n) // int(values[1].reshape(-1)[0]) + 1
    return [TensorType(types[0].dtype, (batch, frames, n // 2 + 1 if node.attrs.get("onesided", 1) else n, 2))]


OPS = tuple(replace(op, kernels=("fft_f32",)) for op in (
    written("DFT", dft, {"axis": -2, "inverse": 0, "onesided": 0}, FLOAT, static=(1, 2)),
    written("STFT", stft, {"onesided": 1}, FLOAT, static=(1, 3), infer=_stft_infer),
))
