"""Where a quantised network loses accuracy: each layer's noise, how it uses its range, and what would help.

The effect of a remedy is measured: the network with that one node in other widths, everything else as it was.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..data import Dataset
from ..ir import Graph, Node
from .plan import Plan, name_of, plan
from .quantise import JUDGED_SAMPLES, Gain, Progress, Quantised, write
from .ranges import Range, choose
from .scales import Scales, scales
from .simulate import Simulator, float_values, judged, noise, snr_db
from .statistics import collect_statistics

WORST = 3                   # channels that are named
LIFTS = ("16x8", "float")
CHOSEN = ("Conv", "Gemm", "Add", "Sub", "Mul", "AveragePool")      # whose widths are worth a trial


@dataclass(frozen=True)
class Layer:
    """snr_db: of the layer's output in the quantised network, all noise before it included. range_use: the share of its
    integers' range that its values span. saturated: the share of its values beyond what its integers reach. worst:
    (channel, SNR in dB) of the channels with the most noise for their size."""

    name: str
    op: str
    bits: int
    snr_db: float
    range_use: float
    saturated: float
    worst: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Remedy:
    """What a change brings: the signal to noise ratio of the outputs without and with it. node: "" for a step on the
    whole network."""

    node: str
    change: str
    before_db: float
    after_db: float


@dataclass(frozen=True)
class Sensitivity:
    """outputs: SNR in dB of each judged tensor. remedies: those that help most first."""

    outputs: Mapping[str, float]
    layers: tuple[Layer, ...]
    remedies: tuple[Remedy, ...]


def widenable(graph: Graph, p: Plan) -> list[Node]:
    """The integer nodes whose widths can be chosen: those with a 16-bit form, the first of each fused group, and of
    those that one ONNX node became."""
    nodes = [n for n in graph.nodes if n in p.integer and n not in p.head and n.op in CHOSEN and n.origin]
    return list({n.origin[0]: n for n in reversed(nodes)}.values())[::-1]


class Lifted:
    """The quantised network with other widths for some of its nodes, on samples: what they cost in error."""

    def __init__(self, done: Quantised, dataset: Dataset, io: str, bits: Mapping[str, str]):
        self.done, self.io, self.bits = done, io, bits
        self.dataset = dataset.first(2 * JUDGED_SAMPLES)
        self.stats = collect_statistics(done.float, self.dataset).tensors
        self.wanted = judged(done.float)

    def graph(self, lifts: Mapping[str, str]) -> Graph:
        """The network with the lifts, its other scales and weights as they were."""
        p = plan(self.done.float, self.io, {**self.bits, **lifts})
        ranges = {t: self.done.ranges[t] if t in self.done.ranges and t not in p.wide else choose(s, "minmax")
                  for t, s in self.stats.items()}
        return write(self.done.float, p, _with_weights(self.done, p, ranges), self.io, "other widths,")

    def error(self, lifts: Mapping[str, str]) -> float:
        return Simulator(self.dataset, self.done.float, self.wanted).error(self.graph(lifts))


def _with_weights(done: Quantised, p: Plan, ranges: Mapping[str, Range]) -> Scales:
    """Scales of other widths that keep the refined weights and biases of the nodes that are integer still."""
    s = scales(done.float, p, ranges)
    same = {n for n in s.weights if n in done.scales.weights and p.weight_bits.get(n) == done.plan.weight_bits.get(n)}
    return replace(s, weights={**s.weights, **{n: done.scales.weights[n] for n in same}},
                   values={n: v for n, v in done.scales.values.items() if n in same},
                   biases={n: v for n, v in done.scales.biases.items() if n in p.integer})


def analyse(done: Quantised, dataset: Dataset, io: str, bits: Mapping[str, str], progress: Progress) -> Sensitivity:
    """Every integer layer, and the remedies by their effect."""
    lifted = Lifted(done, dataset, io, bits)
    simulator = Simulator(lifted.dataset, done.float, lifted.wanted)
    errors = simulator.errors(done.graph)
    firsts = [n for n in done.float.nodes if n in done.plan.integer and n not in done.plan.head]
    results = {n: done.plan.result.get(n, n.outputs[0]) for n in firsts}
    results = {n: t for n, t in results.items() if t in done.plan.source and done.float.type(t).dtype == "float32"}
    names = list(dict.fromkeys(results.values()))
    want = float_values(done.float, lifted.dataset, names)
    got = simulator.values(done.graph, names)
    layers: dict[str, Layer] = {}      # the worst of those that one ONNX node became, as the steps of a recurrent layer
    for n, t in results.items():
        y = _layer(done, n, t, got[t].reshape(want[t].shape), want[t])
        layers[y.name] = min(layers.get(y.name, y), y, key=lambda y: y.snr_db)
    before = sum(errors.values())
    remedies = [Remedy("", f"without {g.step}" if g.kept else f"with {g.step}", g.after_db if g.kept else g.before_db,
                       g.before_db if g.kept else g.after_db) for g in done.summary.gains]
    nodes = [n for n in widenable(done.float, done.plan) if n.origin[0] not in bits]
    for k, node in enumerate(nodes):
        for lift in LIFTS:
            after = lifted.error({node.origin[0]: lift})
            remedies.append(Remedy(node.origin[0], lift, snr_db(before), snr_db(after)))
        progress("trying remedies", k + 1, len(nodes))
    remedies.sort(key=lambda r: r.before_db - r.after_db)
    return Sensitivity({t: snr_db(e) for t, e in errors.items()}, tuple(layers.values()), tuple(remedies))


def _layer(done: Quantised, node: Node, tensor: str, got: np.ndarray, want: np.ndarray) -> Layer:
    source = done.plan.source[tensor]
    q, wide = done.scales.activations[source], source in done.plan.wide
    low, high = (-32768, 32767) if wide else (-128, 127)
    lo, hi = ((b - int(q.zero_point)) * float(q.scale) for b in (low, high))
    half = float(q.scale) / 2
    return Layer(name_of(node), node.op, 16 if wide else 8, snr_db(noise(got, want)),
                 float(np.clip((min(want.max(), hi) - max(want.min(), lo)) / (hi - lo), 0, 1)),
                 float(np.mean((want < lo - half) | (want > hi + half))), _worst(got, want))


def _worst(got: np.ndarray, want: np.ndarray) -> tuple[tuple[int, float], ...]:
    """Channels on axis 1 of a sample; samples come first."""
    if want.ndim < 3 or want.shape[2] < 2:
        return ()
    axes = tuple(d for d in range(want.ndim) if d != 2)
    signal = np.square(want, dtype=np.float64).sum(axes)
    power = np.square(got - want, dtype=np.float64).sum(axes)
    live = np.flatnonzero(signal > 0)
    ratio = [(int(c), snr_db(power[c] / signal[c])) for c in live]
    return tuple(sorted(ratio, key=lambda r: r[1])[:WORST])


@dataclass(frozen=True)
class Table:
    """Of the report, for people."""

    name: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(s: Sensitivity, gains: Iterable[Gain]) -> list[Table]:
    """The report: steps, layers, remedies."""
    steps = [(g.step, f"{g.before_db:.1f}", f"{g.after_db:.1f}", "kept" if g.kept else "left out") for g in gains]
    layers = [(y.name, y.op, str(y.bits), f"{y.snr_db:.1f}", f"{100 * y.range_use:.0f} %", f"{100 * y.saturated:.3f} %",
               ", ".join(f"{c} ({d:.0f} dB)" for c, d in y.worst)) for y in s.layers]
    remedies = [(r.change, r.node or "the network", f"{r.before_db:.1f}", f"{r.after_db:.1f}",
                 f"{r.after_db - r.before_db:+.1f}") for r in s.remedies]
    return [Table("Outputs", ("tensor", "SNR dB"), tuple((t, f"{v:.1f}") for t, v in s.outputs.items())),
            Table("Steps", ("step", "SNR dB before", "after", ""), tuple(steps)),
            Table("Layers", ("layer", "operator", "bits", "SNR dB", "range used", "saturated", "worst channels"),
                  tuple(layers)),
            Table("Remedies", ("change", "of", "outputs' SNR dB now", "then", "gain"), tuple(remedies))]


def html(title: str, report: list[Table]) -> str:
    from .. import paths

    return paths.template("report/quantisation.html.j2").render(title=title, tables=report)
