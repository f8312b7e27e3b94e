"""Ranges of the tensors of a float model over samples: what quantisation chooses its scales from.

The model runs sample by sample with the wanted tensors as outputs; only statistics are kept. onnxruntime and
onnx.reference, whichever runs it, give the same ranges up to the rounding of float32 sums.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from .data import Dataset
from .errors import ModelError, UsageError
from .ir import Graph
from .onnx_out import to_onnx
from .onnx_run import reference

METHODS = ("minmax", "percentile")   # `percentile` keeps PERCENTILE; `percentile:99.9` keeps 99.9 %
PERCENTILE = 99.99
BINS = 8192                          # histogram bins on each side of zero


@dataclass(frozen=True)
class Range:
    """The reals that a tensor takes: lo <= hi."""

    lo: float
    hi: float


def collect(graph: Graph, dataset: Dataset, *, method: str = "minmax", tensors: Iterable[str] | None = None,
            progress: Callable[[int, int], None] | None = None) -> dict[str, Range]:
    """The range of each of `tensors` (None: every float32 run-time tensor) over the dataset.

    graph: a float model with ONNX operators. method: "minmax", or "percentile[:p]", which cuts (100 - p) / 2 % of
    the values off either end. progress(done, total) is called after every sample. ModelError: a tensor becomes NaN
    or infinite. UsageError: unknown method.
    """
    kept = percent(method)
    names = _float_tensors(graph) if tensors is None else list(dict.fromkeys(tensors))
    inner = [n for n in names if n not in graph.inputs]
    model = reference(to_onnx(graph), inner)
    found: dict[str, _Stats] = {}
    for i in range(len(dataset)):
        sample = dataset[i]
        values = sample | dict(zip(model.names, model.run(sample), strict=True))
        for name in names:
            found[name] = _add(found.get(name, _NOTHING), values[name], kept is not None, name, i)
        if progress is not None:
            progress(i + 1, len(dataset))
    return {n: Range(s.lo, s.hi) if kept is None else _percentile(s, kept) for n, s in found.items()}


def percent(method: str) -> float | None:
    """The share of values that a method keeps, in percent; None for minmax. UsageError: not a method."""
    name, _, value = method.partition(":")
    try:
        kept = float(value or PERCENTILE)
    except ValueError:
        kept = math.nan
    if name not in METHODS or (name == "minmax" and value) or not 50 <= kept <= 100:
        raise UsageError(f"unknown calibration method '{method}'",
                         fix="choose minmax, percentile or percentile:<50..100>, as in percentile:99.9")
    return kept if name == "percentile" else None


def _float_tensors(graph: Graph) -> list[str]:
    produced = [o for n in graph.nodes for o in n.outputs if o]
    return [n for n in [*graph.inputs, *produced] if graph.type(n).dtype == "float32"]


@dataclass(frozen=True, eq=False)
class _Stats:
    """What is kept of a tensor. counts: values by equal bins over [-2**exponent, 2**exponent), or None (min-max)."""

    lo: float
    hi: float
    exponent: int = -100
    counts: np.ndarray | None = None


_NOTHING = _Stats(math.inf, -math.inf)


def _add(s: _Stats, x: np.ndarray, histogram: bool, name: str, sample: int) -> _Stats:
    """The statistics with the values of one sample added."""
    low, high = float(x.min()), float(x.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ModelError(f"the float model computes {low if not math.isfinite(low) else high} on sample {sample}",
                         where=f"tensor '{name}'", fix="check the model and its calibration data")
    s = replace(s, lo=min(s.lo, low), hi=max(s.hi, high))
    return _count(s, x, max(-low, high)) if histogram else s


def _count(s: _Stats, x: np.ndarray, largest: float) -> _Stats:
    """Powers of two as histogram limits: a growing histogram merges whole bins, so the order does not matter."""
    exponent = max(s.exponent, math.frexp(largest)[1])
    counts = np.zeros(2 * BINS, np.int64) if s.counts is None else s.counts
    for _ in range(min(exponent - s.exponent, BINS.bit_length() + 1)):
        counts = _merged(counts)
    bins = np.floor(x.reshape(-1).astype(np.float64) * math.ldexp(BINS, -exponent)).astype(np.int64) + BINS
    return replace(s, exponent=exponent, counts=counts + np.bincount(bins, minlength=2 * BINS))


def _merged(counts: np.ndarray) -> np.ndarray:
    """The histogram over twice the limits: pairs of bins become one, in the middle half."""
    wider = np.zeros_like(counts)
    wider[BINS // 2:BINS // 2 + BINS] = counts.reshape(-1, 2).sum(axis=1)
    return wider


def _percentile(s: _Stats, kept: float) -> Range:
    """The outer edges of the bins that the cuts fall into: never cuts more than asked for, by less than a bin."""
    below = np.cumsum(s.counts)
    tail = below[-1] * (100 - kept) / 200
    first = int(np.searchsorted(below, tail, side="right"))
    above = np.cumsum(s.counts[::-1])
    last = 2 * BINS - 1 - int(np.searchsorted(above, tail, side="right"))
    width = math.ldexp(1 / BINS, s.exponent)
    return Range(max(s.lo, (first - BINS) * width), min(s.hi, (last + 1 - BINS) * width))
