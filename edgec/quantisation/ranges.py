"""From statistics of a tensor to the range that int8 covers: the calibration methods.

A range is a compromise between values that are cut and the size of a step. The methods are those of the literature:
extremes, extremes and the room that other samples are likely to need (`tail`), moving averages of extremes (Jacob et al., 2018),
percentiles, least mean square error, least Kullback-Leibler divergence between the distributions before and after
(Migacz, 2017). `auto` takes the one with the least square error of the tensor; `search.py` then decides by the error at
the network's outputs.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..data import Dataset
from ..errors import UsageError
from ..ir import Graph
from .statistics import BINS, Stats, collect_statistics

METHODS = ("auto", "minmax", "tail", "average", "percentile", "mse", "entropy")
PERCENTILE = 99.99       # what `percentile` keeps; `percentile:99.9` keeps 99.9 %
TRIED = ("minmax", "tail", "average", "percentile", "percentile:99.9", "mse", "entropy")
SHRINKS = np.exp2(-np.arange(0, 41) / 10)    # of the range, that mse and entropy try: down to a sixteenth
LEVELS = 256


@dataclass(frozen=True)
class Range:
    """The reals that a tensor takes: lo <= hi."""

    lo: float
    hi: float


def collect(graph: Graph, dataset: Dataset, *, method: str = "minmax", tensors: Iterable[str] | None = None,
            progress: Callable[[int, int], None] | None = None) -> dict[str, Range]:
    """The range of each of `tensors` (None: every float32 run-time tensor) over the dataset, by one method.

    See `statistics.collect_statistics`. UsageError: unknown method.
    """
    check(method)
    found = collect_statistics(graph, dataset, tensors, progress).tensors
    return {name: choose(s, method) for name, s in found.items()}


def check(method: str) -> None:
    """UsageError: not a method."""
    name, _, value = method.partition(":")
    if name not in METHODS or method != name and not (name == "percentile" and 50 <= _number(value) <= 100):
        raise UsageError(f"unknown calibration method '{method}'",
                         fix=f"choose one of {', '.join(METHODS)}, or percentile:<50..100> as in percentile:99.9")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


@lru_cache(maxsize=4096)
def choose(s: Stats, method: str) -> Range:
    """The range of one tensor."""
    name, _, value = method.partition(":")
    if name == "percentile":
        return percentile(s, _number(value) if value else PERCENTILE)
    if name == "auto":
        found = candidates(s)
        return min(found.values(), key=lambda r: square_error(s, r))
    return {"minmax": minmax, "average": average, "mse": least_square, "entropy": least_divergence, "tail": tail}[name](s)


def candidates(s: Stats) -> dict[str, Range]:
    """The distinct ranges that the methods give, min-max first; a range is known by the first method that gives it."""
    found: dict[str, Range] = {}
    for method in TRIED:
        r = choose(s, method)
        if not any(_alike(r, other) for other in found.values()):
            found[method] = r
    return found


def _alike(a: Range, b: Range) -> bool:
    """Within half a step of each other."""
    step = max(a.hi - a.lo, b.hi - b.lo) / LEVELS
    return abs(a.lo - b.lo) <= step / 2 and abs(a.hi - b.hi) <= step / 2


def minmax(s: Stats) -> Range:
    return Range(s.lo, s.hi)


def tail(s: Stats) -> Range:
    """Min-max, and at each end the room that is worth having for what other samples exceed it by.

    Taking the samples' extremes to have an exponential tail of mean `spread`, estimated from the outermost ones, a
    further sample exceeds that of n by more than h with a chance of exp(-h / spread) / (n + 1). One of a sample's N
    values cut by `spread` is a root mean square error of spread / sqrt(N), and h of room makes that of rounding larger
    by h / (LEVELS * sqrt(12)): the sum of both is least at h = spread * log(LEVELS * sqrt(12) / ((n + 1) * sqrt(N))).
    Small tensors, such as scores, get room; large ones, or many samples, do not.
    """
    per_sample = s.counts.sum() / s.samples
    room = max(0.0, math.log(LEVELS * math.sqrt(12) / ((s.samples + 1) * math.sqrt(per_sample))))
    return Range(s.lo - room * _spread(-s.lows), s.hi + room * _spread(s.highs))


def _spread(outermost: np.ndarray) -> float:
    """Mean by which the larger half of these (largest first) exceeds the next."""
    k = min(len(outermost) - 1, max(1, len(outermost) // 2))
    return float(outermost[:k].mean() - outermost[k]) if k > 0 else 0.0


def average(s: Stats) -> Range:
    return Range(s.mean_lo, s.mean_hi)


def percentile(s: Stats, kept: float) -> Range:
    """The outer edges of the bins that the cuts fall into: never cuts more than asked for, by less than a bin."""
    below = np.cumsum(s.counts)
    tail = below[-1] * (100 - kept) / 200
    first = int(np.searchsorted(below, tail, side="right"))
    above = np.cumsum(s.counts[::-1])
    last = 2 * BINS - 1 - int(np.searchsorted(above, tail, side="right"))
    return Range(max(s.lo, (first - BINS) * s.width), min(s.hi, (last + 1 - BINS) * s.width))


def least_square(s: Stats) -> Range:
    """One end is shrunk, then the other: the histogram's square error has one valley along each."""
    lo = min(((s.lo * f, s.hi) for f in SHRINKS), key=lambda r: square_error(s, Range(*r)))[0]
    return min((Range(float(lo), float(s.hi * f)) for f in SHRINKS), key=lambda r: square_error(s, r))


def least_divergence(s: Stats) -> Range:
    return min((Range(float(s.lo * f), float(s.hi * f)) for f in SHRINKS), key=lambda r: divergence(s, r))


def _occupied(s: Stats) -> tuple[np.ndarray, np.ndarray]:
    """The centres of the bins that hold values, and their shares. The bin of zero stands for zero itself, which most
    of its values are behind a Relu and which quantisation keeps exactly."""
    at = np.flatnonzero(s.counts)
    centres = np.clip((at - BINS + 0.5) * s.width, s.lo, s.hi)
    return np.where(at == BINS, 0.0, centres), s.counts[at] / s.counts.sum()


def _levels(values: np.ndarray, r: Range) -> tuple[np.ndarray, float]:
    """The integers 0..255 of values over a range that holds zero, and the step."""
    lo, hi = min(r.lo, 0.0), max(r.hi, 0.0)
    step = (hi - lo) / (LEVELS - 1) or 1.0
    zero = np.rint(-lo / step)
    return np.clip(np.rint(values / step) + zero, 0, LEVELS - 1) - zero, step


def square_error(s: Stats, r: Range) -> float:
    """Mean square of what quantisation over the range changes: rounding within, a twelfth of a step squared where bins
    are finer than steps, and cutting outside."""
    values, share = _occupied(s)
    level, step = _levels(values, r)
    return float(np.sum(share * (level * step - values) ** 2))


def divergence(s: Stats, r: Range) -> float:
    """Kullback-Leibler divergence of the values from what is left of them: each level's share spread evenly over its
    occupied bins. Values outside the range count at its ends before, and are missing after."""
    values, share = _occupied(s)
    level, _ = _levels(values, r)
    inside = (values >= r.lo) & (values <= r.hi)
    if not inside.any():
        return math.inf
    index = (level - level.min()).astype(np.int64)
    kept = np.bincount(index[inside], share[inside], LEVELS)
    bins = np.bincount(index[inside], minlength=LEVELS)
    p = share[inside].copy()
    outside = share[~inside], values[~inside]
    p[0] += outside[0][outside[1] < r.lo].sum()
    p[-1] += outside[0][outside[1] > r.hi].sum()
    q = kept[index[inside]] / bins[index[inside]]
    return float(np.sum(p * np.log(p / (q / q.sum()))))
