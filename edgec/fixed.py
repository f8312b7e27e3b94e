"""The integer arithmetic of quantised operators: one exact rounding, the same on every target (DESIGN, "Numbers").

requant(acc) = clamp(lo, hi, floor((floor(acc * m / 2^32) + c) / 2^f)),  m = round(scale * 2^(32+f)) < 2^31,
c = zero_point * 2^f + 2^(f-1).
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .ir import QParams

SHIFTS = (15, 8, 1)  # few values, so that the kernels need few instances; each leaves m at least 24 significant bits
QMIN, QMAX = -128, 127


@dataclass(frozen=True, eq=False)
class Multiplier:
    """scale as m * 2^-(32+f), after a left shift of the accumulator by `pre` bits (0 unless scale >= 1/4)."""

    m: np.ndarray
    f: int
    pre: int = 0

    def offset(self, zero_point: int) -> int:
        """c of the formula."""
        return zero_point * 2**self.f + 2 ** (self.f - 1)


def multiplier(scale, top: float | None = None) -> Multiplier:
    """scale: float64, scalar or per channel, positive. The shift is one for all channels, by the largest scale (`top`
    where the channel that had it is gone)."""
    scale = np.atleast_1d(np.asarray(scale, np.float64))
    top, pre = float(scale.max()) if top is None else top, 0
    while top >= 0.25 * (1 - 2.0**-31):  # m would reach 2^31
        top, pre = top / 2, pre + 1
    f = next(s for s in SHIFTS if top * 2.0 ** (s + 1) < 1 - 2.0**-31)
    m = np.rint(scale * 2.0 ** (32 + f - pre)).astype(np.int64)
    return Multiplier(np.minimum(m, 2**31 - 1).astype(np.int32), f, pre)


def requant(acc: np.ndarray, mul: Multiplier, zero_point: int, lo: int = QMIN, hi: int = QMAX, dtype: str = "int8") -> np.ndarray:
    """The reference: acc (integers, channel axis last where m is per channel) -> dtype."""
    m = mul.m.astype(np.int64) if mul.m.size > 1 else np.int64(mul.m.reshape(-1)[0])
    wide = (acc.astype(np.int64) << mul.pre) * m
    return np.clip(((wide >> 32) + mul.offset(zero_point)) >> mul.f, lo, hi).astype(dtype)


def quantise(real: np.ndarray, q: QParams, dtype: str = "int8") -> np.ndarray:
    """ONNX QuantizeLinear per tensor: round half to even of a float32 quotient, saturated to the dtype."""
    info = np.iinfo(dtype)
    scaled = np.rint(np.asarray(real, np.float32) / np.float32(q.scale))
    return np.clip(scaled.astype(np.float64) + int(q.zero_point), info.min, info.max).astype(dtype)


def dequantise(x: np.ndarray, q: QParams) -> np.ndarray:
    """ONNX DequantizeLinear, float32; per axis where q has one."""
    shape = [1] * x.ndim
    if q.axis is not None:
        shape[q.axis] = -1
    s, z = q.scale.reshape(shape), q.zero_point.reshape(shape)
    return ((x.astype(np.int64) - z).astype(np.float32) * s).astype(np.float32)


def bounds(q: QParams, clip: tuple[float, float] | None, dtype: str = "int8") -> tuple[int, int]:
    """The integer clamp (lo, hi) of a fused Clip/Relu in real numbers; the dtype's own range without one."""
    info = np.iinfo(dtype)
    if clip is None:
        return int(info.min), int(info.max)
    lo, hi = (int(quantise(np.float32(v), q, dtype)) if np.isfinite(v) else d
              for v, d in zip(clip, (info.min, info.max), strict=True))
    return int(lo), int(hi)
