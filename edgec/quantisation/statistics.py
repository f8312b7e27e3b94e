"""What calibration keeps of a float model's tensors: statistics over samples, collected once, kept in a profile file.

The model runs sample by sample with the wanted tensors as outputs; only statistics are kept. onnxruntime and
onnx.reference, whichever runs it, give the same statistics up to the rounding of float32 sums.
"""
from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .. import store
from ..data import Dataset
from ..errors import ModelError, UsageError
from ..ir import Graph
from ..onnx_run import of_graph

BINS = 8192              # histogram bins on each side of zero
MOMENTUM = 0.9           # of the moving averages of a sample's lowest and highest value
EXTREMES = 9             # of the samples' lowest and highest values, how many are kept
PROFILE_FORMAT = 2

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Stats:
    """What is kept of a tensor. lo, hi: the extremes; mean_lo, mean_hi: moving averages of each sample's extremes.

    counts: values by equal bins over [-2**exponent, 2**exponent). channels, power: the largest magnitude and the
    mean square by index of axis 1 (of all, where there is no axis 1). lows, highs: the EXTREMES lowest of the samples'
    lowest values and the highest of their highest, outermost first. samples: how many these are of.
    """

    lo: float = math.inf
    hi: float = -math.inf
    mean_lo: float = math.nan
    mean_hi: float = math.nan
    exponent: int = -100
    counts: np.ndarray | None = None
    channels: np.ndarray | None = None
    power: np.ndarray | None = None
    lows: np.ndarray = field(default_factory=lambda: np.empty(0))
    highs: np.ndarray = field(default_factory=lambda: np.empty(0))
    samples: int = 0

    @property
    def width(self) -> float:
        """Of a bin, as a real."""
        return math.ldexp(1 / BINS, self.exponent)


@dataclass(frozen=True, eq=False)
class Profile:
    """Statistics of a model's tensors by name."""

    samples: int
    tensors: Mapping[str, Stats]


def collect_statistics(graph: Graph, dataset: Dataset, tensors: Iterable[str] | Mapping[str, list[str]] | None = None,
                       progress: Progress | None = None) -> Profile:
    """Statistics of each of `tensors` (None: every float32 run-time tensor) over the dataset; of a mapping's keys, each
    over all the tensors that it is given.

    graph: a float model with ONNX operators. progress(done, total) is called after every sample. ModelError: a tensor
    becomes NaN or infinite.
    """
    names = float_tensors(graph) if tensors is None else list(dict.fromkeys(tensors))
    parts = tensors if isinstance(tensors, Mapping) else {n: [n] for n in names}
    model = of_graph(graph, [n for ns in parts.values() for n in ns if n not in graph.inputs])
    found = {n: Stats() for n in names}
    for i in range(len(dataset)):
        sample = dataset[i]
        values = sample | dict(zip(model.names, model.run(sample), strict=True))
        for name in names:
            found[name] = _add(found[name], _joined([values[n] for n in parts[name]]), name, i)
        if progress is not None:
            progress(i + 1, len(dataset))
    return Profile(len(dataset), found)


def _joined(values: list[np.ndarray]) -> np.ndarray:
    """As rows, where there are several."""
    return np.concatenate([v.reshape(-1, v.shape[-1]) for v in values]) if len(values) > 1 else values[0]


def float_tensors(graph: Graph) -> list[str]:
    """Every float32 tensor that is computed at run time, inputs first."""
    produced = [o for n in graph.nodes for o in n.outputs if o]
    return [n for n in [*graph.inputs, *produced] if graph.type(n).dtype == "float32"]


def fingerprint(graph: Graph) -> str:
    """SHA-256 of what the float graph computes: its nodes and its constants."""
    h = hashlib.sha256("\n".join(map(str, graph.nodes)).encode())
    for name in sorted(n for n, t in graph.tensors.items() if t.data is not None):
        h.update(name.encode() + graph.tensors[name].data.tobytes())
    return h.hexdigest()


def _add(s: Stats, x: np.ndarray, name: str, sample: int) -> Stats:
    """The statistics with the values of one sample added."""
    low, high = float(x.min()), float(x.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ModelError(f"the float model computes {low if not math.isfinite(low) else high} on sample {sample}",
                         where=f"tensor '{name}'", fix="check the model and its calibration data")
    first, n = s.counts is None, s.samples
    flat = x.swapaxes(0, 1).reshape(x.shape[1], -1) if x.ndim > 1 else x.reshape(1, -1)
    largest, power = np.abs(flat).max(1), np.square(flat, dtype=np.float64).mean(1)
    s = replace(s, lo=min(s.lo, low), hi=max(s.hi, high),
                mean_lo=low if first else MOMENTUM * s.mean_lo + (1 - MOMENTUM) * low,
                mean_hi=high if first else MOMENTUM * s.mean_hi + (1 - MOMENTUM) * high,
                channels=largest if first else np.maximum(s.channels, largest),
                power=power if first else s.power + (power - s.power) / (n + 1),
                lows=np.sort(np.append(s.lows, low))[:EXTREMES],
                highs=-np.sort(-np.append(s.highs, high))[:EXTREMES], samples=n + 1)
    return _count(s, x, max(-low, high))


def _count(s: Stats, x: np.ndarray, largest: float) -> Stats:
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


# ---- the file ----


def save(profiles: Mapping[str, Profile], path: Path) -> None:
    """Writes profiles, by what they are of, as one .npz file of plain arrays."""
    held = {"format": np.int64(PROFILE_FORMAT), "models": np.array(list(profiles), dtype=str)}
    for m, profile in enumerate(profiles.values()):
        names, stats = list(profile.tensors), list(profile.tensors.values())
        held |= {f"{m}/samples": np.int64(profile.samples), f"{m}/names": np.array(names, dtype=str),
                 f"{m}/exponents": np.array([s.exponent for s in stats], np.int64),
                 f"{m}/ranges": np.array([(s.lo, s.hi, s.mean_lo, s.mean_hi) for s in stats]).reshape(-1, 4),
                 f"{m}/counts": np.array([s.counts for s in stats], np.int64).reshape(-1, 2 * BINS)}
        held |= {f"{m}/channels/{k}": s.channels for k, s in enumerate(stats)}
        held |= {f"{m}/power/{k}": s.power for k, s in enumerate(stats)}
        held |= {f"{m}/extremes/{k}": np.stack([s.lows, s.highs]) for k, s in enumerate(stats)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **held)
    store.write_file(path, buffer.getvalue())


def load(path: Path) -> dict[str, Profile]:
    """Profiles that `save` wrote, by what they are of. UsageError: it is no such file."""
    try:
        with np.load(path, allow_pickle=False) as z:
            if int(z["format"]) != PROFILE_FORMAT:
                raise ValueError(f"format {int(z['format'])}")
            return {str(model): _profile(z, m) for m, model in enumerate(z["models"])}
    except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile) as e:
        raise UsageError(f"not a calibration profile: {e}", where=str(path),
                         fix="remove the file: it is written again from --data") from None


def _profile(z: Mapping[str, np.ndarray], m: int) -> Profile:
    n = int(z[f"{m}/samples"])
    ranges, exponents, counts = z[f"{m}/ranges"], z[f"{m}/exponents"], z[f"{m}/counts"]
    return Profile(n, {str(name): Stats(*map(float, ranges[k]), int(exponents[k]), counts[k], z[f"{m}/channels/{k}"],
                                        z[f"{m}/power/{k}"], *z[f"{m}/extremes/{k}"], n)
                       for k, name in enumerate(z[f"{m}/names"])})
