"""Float model -> quantised model: the order of the steps, and what each of them brings.

Equalise channels, choose ranges, choose weight scales, correct biases, round weights. Each step is tried with one half
of the samples and judged by the error at the network's outputs on the other half (`simulate.py`), both ways round: what
only fits the samples that it was made from shows there. Ranges are searched with some of the judging samples, and
whether the search is kept is judged on others. Only the extremes of tensors are of the first half both times,
so that ranges are judged on samples that they hold and on others alike: two halves judged on each other alone ask for
more room than all samples together need. What was kept is then done with all samples.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..data import Dataset
from ..ir import Graph
from .equalise import equalise
from .plan import Plan, name_of, plan
from .ranges import Range, choose
from .recipe import DEFAULT, IMPROVEMENTS, Recipe
from .refine import refinable, refine_layer, with_biases
from .scales import Scales, scales
from .search import search
from .simulate import Simulator, float_values, judged, snr_db
from .statistics import Profile, collect_statistics, fingerprint
from .unroll import unrolled
from .write import Writer

JUDGED_SAMPLES = 24       # of each half, that errors are measured on
SEARCHED_SAMPLES = 12     # of each half, that ranges are searched with
REFINED_SAMPLES = 100     # that weights are rounded on
SPLIT_SAMPLES = 4         # with fewer, the same samples serve for both

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TensorReport:
    """real = (integer - zero_point) * scale. lo, hi: the range it was chosen from, by which method. source: the tensor
    it was measured on. bits: of the integers."""

    name: str
    lo: float
    hi: float
    scale: float
    zero_point: int
    source: str
    method: str
    bits: int


@dataclass(frozen=True)
class FloatNode:
    """A node that still computes in float, and why."""

    name: str
    op: str
    reason: str


@dataclass(frozen=True)
class Gain:
    """A step of IMPROVEMENTS: the signal to noise ratio of the outputs before and after, on samples that it has not
    seen, and whether the step was kept."""

    step: str
    before_db: float
    after_db: float
    kept: bool


@dataclass(frozen=True)
class Summary:
    """What quantisation did. integer_nodes: how many nodes of the model compute on integers now."""

    method: str
    io: str
    samples: int
    integer_nodes: int
    tensors: tuple[TensorReport, ...]
    float_nodes: tuple[FloatNode, ...]
    gains: tuple[Gain, ...] = ()


@dataclass(frozen=True, eq=False)
class Quantised:
    """float: the graph that was quantised, equalised or not. graph: its QDQ form."""

    float: Graph
    plan: Plan
    ranges: Mapping[str, Range]
    scales: Scales
    graph: Graph
    summary: Summary


def quantise_model(graph: Graph, dataset: Dataset, recipe: Recipe = DEFAULT, *,
                   profiles: dict[str, Profile] | None = None, progress: Progress | None = None) -> Quantised:
    """Calibrates a float graph (ONNX operators, best after `pipeline.simplify`) on the dataset and quantises it; its
    recurrent layers as single steps (`unroll.py`).

    profiles: statistics by the digests of graph and samples, which are used, and to which new ones are added.
    progress(what, done, total).
    UsageError: an unknown option, or the model is quantised already. ModelError: it computes NaN or infinity.
    """
    plan(graph, recipe.checked().io, recipe.bits)
    graph = unrolled(graph, {name for name, width in recipe.bits.items() if width == "float"})
    return _Run(dataset, recipe, {} if profiles is None else profiles, progress).run(graph)


def measured(graph: Graph, io: str = "int8") -> list[str]:
    """The tensors whose ranges `quantize` needs, in topological order."""
    return list(_measured(graph, plan(graph, io)))


def _measured(graph: Graph, p: Plan) -> dict[str, list[str]]:
    """Each of them, and the tensors that its range is of."""
    found = {t: [t] for t in dict.fromkeys(p.source.values()) if t not in p.fixed and graph.const(t) is None}
    for t in (t for a in graph.alike for t in a.tensors):
        if p.source.get(t, t) in found and p.source.get(t) != t:
            found[p.source[t]].append(t)
    return found


def quantize(graph: Graph, ranges: Mapping[str, Range], *, io: str = "int8", method: str = "minmax") -> Graph:
    """The graph in QDQ form from ranges alone, weights to the nearest.

    ranges: of every tensor that `measured` names. io "int8": float inputs and outputs become int8 tensors of the same
    names, with DequantizeLinear as first and QuantizeLinear as last node; "float32": they stay float, with
    QuantizeLinear first and DequantizeLinear last. method: how the ranges were found, for the graph's notes.
    """
    p = plan(graph, io)
    return write(graph, p, scales(graph, p, ranges), io, method)


def write(graph: Graph, p: Plan, s: Scales, io: str, method: str) -> Graph:
    return Writer(graph, p, s, io).write(f"quantised to int8: {method} ranges, {io} inputs and outputs")


def report(graph: Graph, ranges: Mapping[str, Range], *, io: str = "int8", method: str = "minmax",
           samples: int = 0) -> Summary:
    """What `quantize` does with the same arguments, tensor by tensor."""
    p = plan(graph, io)
    return _summary(graph, p, scales(graph, p, ranges), ranges, {}, io, method, samples, ())


def _summary(graph: Graph, p: Plan, s: Scales, ranges: Mapping[str, Range], chosen: Mapping[str, str], io: str,
             method: str, samples: int, gains: tuple[Gain, ...]) -> Summary:
    tensors = []
    for name, source in p.source.items():
        scale, zero = float(s.activations[source].scale), int(s.activations[source].zero_point)
        low, high = (-32768, 32767) if source in p.wide else (-128, 127)
        r = ranges.get(source, Range((low - zero) * scale, (high - zero) * scale))
        if graph.const(name) is None:
            how = "known" if source in p.fixed else chosen.get(source, method)
            tensors.append(TensorReport(name, r.lo, r.hi, scale, zero, source, how, 16 if source in p.wide else 8))
    return Summary(method, io, samples, len(p.integer), tuple(tensors),
                   tuple(FloatNode(name_of(n), n.op, why) for n, why in p.refused.items()), gains)


@dataclass(frozen=True, eq=False)
class _State:
    """A network under quantisation. methods: of each tensor's range."""

    graph: Graph
    plan: Plan
    methods: Mapping[str, str]
    ranges: Mapping[str, Range]
    scales: Scales


Step = Callable[[_State, Dataset], _State | None]     # None: does not apply


def _searching(count: int) -> np.ndarray:
    """Which of `count` judging samples ranges are searched with: a third."""
    return np.arange(0, count, 3)


def _judging(count: int) -> np.ndarray:
    """The others; the same ones where there are too few."""
    return np.delete(np.arange(count), _searching(count)) if count > 2 else _searching(count)


class _Run:
    """One quantisation: what its steps share. A step is made of a state and samples."""

    def __init__(self, dataset: Dataset, recipe: Recipe, profiles: dict[str, Profile], progress: Progress | None):
        self.dataset, self.method, self.io, self.improve = dataset, recipe.calibration, recipe.io, recipe.improve
        self.widths, self.profiles = recipe.bits, profiles
        self.tell = progress or (lambda what, done, total: None)
        self.gains: list[Gain] = []

    def run(self, graph: Graph) -> Quantised:
        if "bias" in self.improve:
            graph = with_biases(graph)
        wanted = judged(graph) if self.improve else {}
        steps = self.decided(graph, wanted) if wanted else []
        self.measured_on = self.dataset
        done = self.calibrated(graph, self.dataset)
        for step in steps:
            done = step(done, self.dataset)
        quantised = self.write(done)
        return Quantised(done.graph, done.plan, done.ranges, done.scales, quantised, self.summary(done))

    def decided(self, graph: Graph, wanted: Mapping[str, int | None]) -> list[Step]:
        """The steps that lower the error on samples that they were not made from."""
        halves = [self.dataset.every(2, k) for k in (0, 1)] if len(self.dataset) >= SPLIT_SAMPLES else [self.dataset]
        self.measured_on = halves[0]
        others = [h.first(SEARCHED_SAMPLES + JUDGED_SAMPLES) for h in reversed(halves)]
        self.searchers, self.judges = ([Simulator(h.part(at(len(h))), graph, wanted) for h in others]
                                       for at in (_searching, _judging))
        states, kept = [self.calibrated(graph, h) for h in halves], []
        before = self.error(states)
        for name in (s for s in IMPROVEMENTS if s in self.improve):
            tried = []
            for step in self.variants(name, states):
                made = [step(s, h) for s, h in zip(states, halves, strict=True)]
                if None not in made:
                    tried.append((self.error(made), step, made))
            if not tried:
                continue
            after, step, made = min(tried, key=lambda t: t[0])
            self.gains.append(Gain(name, snr_db(before), snr_db(after), after < before))
            if after < before:
                states, before = made, after
                kept = [s for s in kept if not (name == "rounding" and s == self.bias)] + [step]
        return kept

    def error(self, states: list[_State], judges: list[Simulator] | None = None) -> float:
        """On samples of the half that each state was not made from."""
        return sum(j.error(self.write(s)) for j, s in zip(judges or self.judges, states, strict=True)) / len(states)

    def variants(self, name: str, states: list[_State]) -> list[Step]:
        """The steps that go by a name of IMPROVEMENTS."""
        if name == "equalise":
            return [partial(self.equalise, most=most) for most in (1.0, 0.5)]
        if name == "ranges":
            if self.method != "auto":
                return []
            narrow = [t for t in states[0].methods if t not in states[0].plan.wide]
            return [partial(self.by_methods, methods=self.searched(states, narrow))]
        return [getattr(self, name)]

    def write(self, state: _State) -> Graph:
        return write(state.graph, state.plan, state.scales, self.io, self.method)

    def summary(self, s: _State) -> Summary:
        return _summary(s.graph, s.plan, s.scales, s.ranges, s.methods, self.io, self.method, len(self.dataset),
                        tuple(self.gains))

    def calibrated(self, graph: Graph, samples: Dataset) -> _State:
        """With ranges by the method, each tensor for itself; `auto` starts from `tail` where ranges are searched."""
        p = plan(graph, self.io, self.widths)
        first = "tail" if self.method == "auto" and "ranges" in self.improve else self.method
        methods = {t: "minmax" if t in p.wide else first for t in _measured(graph, p)}
        return self.ranged(_State(graph, p, methods, {}, None), samples)

    def ranged(self, s: _State, samples: Dataset) -> _State:
        """The state with ranges of these samples, weights to the nearest."""
        stats = self.profile(s.graph, s.plan).tensors
        found = {t: choose(stats[t], m) for t, m in s.methods.items()}
        return replace(s, ranges=found, scales=scales(s.graph, s.plan, found))

    def profile(self, graph: Graph, p: Plan) -> Profile:
        """Of `measured_on`."""
        samples, names = self.measured_on, _measured(graph, p)
        key = f"{fingerprint(graph)}/{samples.digest()}"
        known = self.profiles.get(key)
        if known is None or any(t not in known.tensors for t in names):
            known = collect_statistics(graph, samples, names, lambda d, n: self.tell("calibrating", d, n))
            self.profiles[key] = known
        return known

    def equalise(self, s: _State, samples: Dataset, most: float) -> _State | None:
        new, pairs = equalise(s.graph, self.profile(s.graph, s.plan), most)
        return self.calibrated(new, samples) if pairs else None

    def by_methods(self, s: _State, samples: Dataset, methods: Mapping[str, str]) -> _State:
        return self.ranged(replace(s, methods={**s.methods, **methods}), samples)

    def searched(self, states: list[_State], names: list[str]) -> Mapping[str, str]:
        """Each tensor's best method."""
        stats = self.profile(states[0].graph, states[0].plan).tensors

        def error(methods: Mapping[str, str]) -> float:
            ranges = {t: choose(stats[t], m) for t, m in methods.items()}
            return self.error([replace(s, scales=scales(s.graph, s.plan, ranges)) for s in states], self.searchers)

        return search({t: stats[t] for t in names}, states[0].methods, error,
                      lambda d, n: self.tell("choosing ranges", d, n))

    def scales(self, s: _State, samples: Dataset) -> _State:
        return replace(s, scales=scales(s.graph, s.plan, s.ranges, by_error=True))

    def bias(self, s: _State, samples: Dataset) -> _State:
        return self.refined(s, samples, rounding=False, bias=True)

    def rounding(self, s: _State, samples: Dataset) -> _State:
        return self.refined(s, samples, rounding=True, bias="bias" in self.improve)

    def refined(self, s: _State, samples: Dataset, rounding: bool, bias: bool) -> _State:
        layers = refinable(s.graph, s.plan)
        some = samples.first(REFINED_SAMPLES)
        simulator = Simulator(some, s.graph, {})
        for k, nodes in enumerate(layers):
            names = list(dict.fromkeys(n.inputs[0] for n in nodes))
            x, z = float_values(s.graph, some, names), simulator.values(self.write(s), names)
            s = replace(s, scales=refine_layer(s.graph, s.plan, s.scales, nodes, *(
                [v[n].reshape(-1, *s.graph.type(n).shape) for n in names] for v in (x, z)), rounding=rounding, bias=bias))
            self.tell("rounding weights" if rounding else "correcting biases", k + 1, len(layers))
        return s
