"""How far two sets of outputs lie apart: pure functions on arrays, samples on the first axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Difference:
    """The distance between what the C computed and the reference.

    unit: "lsb" (integers, or reals on an integer grid) or "range" (floats: the range of the reference is 1).
    max_abs, rms: in that unit. max_ulp: floats only. histogram: integer differences and how often they occur.
    equal: share of the elements that are the same. snr_db: None when there is no difference. top1: share of the
    samples with the same largest element, None where the output is not a vector of classes.
    """

    unit: str
    max_abs: float
    rms: float
    max_ulp: int | None
    equal: float
    snr_db: float | None
    cosine: float
    histogram: dict[int, int] | None
    top1: float | None

    def as_dict(self) -> dict:
        d = {k: (float(f"{v:.9g}") if isinstance(v, float) else v) for k, v in vars(self).items()}
        if self.histogram is not None:
            d["histogram"] = {str(k): v for k, v in self.histogram.items()}
        return d


def difference(got: Array, want: Array, *, grid: float = 0.0, zero_point: int = 0, classes: bool = False) -> Difference:
    """got, want: (samples, ...), equal shapes and dtypes. grid: for floats that lie on an integer grid (dequantised
    values), its step. zero_point: subtracted from integers before SNR and cosine."""
    g, w = got.reshape(len(got), -1), want.reshape(len(want), -1)
    if g.shape != w.shape or g.dtype != w.dtype:
        raise TypeError(f"{g.dtype}{list(g.shape)} against {w.dtype}{list(w.shape)}")
    top1 = float(np.mean(g.argmax(1) == w.argmax(1))) if classes else None
    real_g, real_w = g.astype(np.float64) - zero_point, w.astype(np.float64) - zero_point
    bits_equal = g == w
    if g.dtype.kind == "f":
        bits_equal |= np.isnan(g) & np.isnan(w)
    error = np.where(bits_equal, 0.0, real_g - real_w)
    error[~np.isfinite(error)] = np.inf  # infinite or not a number on one side only
    integer = g.dtype.kind != "f"
    step = 1.0 if integer else (grid or _range(real_w))
    steps = error / step
    histogram = None
    if integer or grid:
        finite = np.where(np.isfinite(steps), np.rint(steps), 2**31 - 1).astype(np.int64)
        values, counts = np.unique(finite, return_counts=True)
        histogram = dict(zip(values.tolist(), counts.tolist(), strict=True))
    return Difference(
        unit="lsb" if histogram is not None else "range",
        max_abs=_finite(np.abs(steps).max(initial=0.0)),
        rms=_finite(np.sqrt(np.mean(steps**2)) if steps.size else 0.0),
        max_ulp=None if integer else int(ulps(g, w).max(initial=0)),
        equal=float(bits_equal.mean()) if g.size else 1.0,
        snr_db=_snr(real_w, error),
        cosine=_cosine(real_g, real_w),
        histogram=histogram,
        top1=top1,
    )


def ulps(a: Array, b: Array) -> Array:
    """The number of representable floats between a and b, elementwise (int64); 0 for two NaNs, -0.0 and 0.0."""
    bits = np.dtype(f"int{a.dtype.itemsize * 8}")
    if a.dtype.itemsize == 8:  # the distance itself may not fit 64 bits: saturate by way of float
        return np.minimum(np.abs(_ordered(a, bits).astype(np.float64) - _ordered(b, bits)), 2.0**62).astype(np.int64)
    d = np.abs(_ordered(a, bits) - _ordered(b, bits))
    return np.where(np.isnan(a) & np.isnan(b), 0, d)


def first_mismatch(a: Array, b: Array) -> tuple[int, ...] | None:
    """The index of the first element whose bits differ, None where all are the same."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return ()
    x, y = (np.ascontiguousarray(v).view(np.uint8).reshape(v.size, -1) for v in (a, b))
    bad = np.flatnonzero((x != y).any(axis=1))
    return None if bad.size == 0 else tuple(int(i) for i in np.unravel_index(int(bad[0]), a.shape))


def accuracy(outputs: Array, labels: Array) -> float:
    """Share of the samples (labels >= 0) whose largest output is the label. outputs: (samples, ...)."""
    known = labels >= 0
    return float(np.mean(outputs.reshape(len(outputs), -1)[known].argmax(1) == labels[known]))


def confusion(outputs: Array, labels: Array) -> Array:
    """How often the largest output is column c on a sample labelled row r (labels >= 0): int64 (classes, classes)."""
    flat, known = outputs.reshape(len(outputs), -1), labels >= 0
    found = np.zeros((flat.shape[1], flat.shape[1]), np.int64)
    np.add.at(found, (labels[known], flat[known].argmax(1)), 1)
    return found


def _ordered(x: Array, bits: np.dtype) -> Array:
    """Float bits mapped to integers in the order of the floats."""
    i = np.ascontiguousarray(x).view(bits).astype(np.int64)
    return np.where(i < 0, np.int64(-(2 ** (bits.itemsize * 8 - 1))) - i, i)


def _range(values: Array) -> float:
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 1.0
    return float(finite.max() - finite.min()) or float(np.abs(finite).max()) or 1.0


def _snr(signal: Array, noise: Array) -> float | None:
    power = float(np.sum(noise**2))
    if power == 0.0:
        return None
    signal = signal[np.isfinite(signal)]
    s = float(np.sum(signal**2))
    return max(-999.0, 10.0 * float(np.log10(s / power))) if s > 0.0 and np.isfinite(power) else -999.0


def _cosine(a: Array, b: Array) -> float:
    """Of all samples as one vector; 1 for two zero vectors."""
    ok = np.isfinite(a) & np.isfinite(b)
    a, b = a[ok], b[ok]
    na, nb = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if na == 0.0 or nb == 0.0:
        return 1.0 if na == nb else 0.0
    return float(np.dot(a / na, b / nb))


def _finite(x: float) -> float:
    """JSON has no infinity: the largest float stands for it."""
    return float(x) if np.isfinite(x) else float(np.finfo(np.float64).max)
