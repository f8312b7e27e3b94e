"""Mixed precision: the cheapest widths, node by node, with which the network is good enough.

Each node's gain in each width is measured alone (`sensitivity.Lifted`); noise powers of independent roundings add, so
the gains of several are taken to add too. Cost is time, in units of an int8 multiply-accumulate. All assignments that no
other beats in both are found exactly, by merging the nodes' choices one after the other and dropping what is
dominated; then the cheapest that is good enough is found by measuring.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .. import compare
from ..data import Dataset
from ..errors import UsageError
from ..ir import Graph, Node
from .quantise import Progress, Quantised
from .sensitivity import LIFTS, Lifted
from .simulate import Simulator, float_values, judged, snr_db

# Time of a multiply-accumulate on a Cortex-M4 with FPU over that of int8 in the DSP kernel: the loop nest with 64-bit
# accumulators, and the float kernel.
TIMES = {"16x8": 8.0, "float": 4.0}
MOST_ASSIGNMENTS = 4000      # that are kept while merging: beyond this, evenly spaced ones


@dataclass(frozen=True)
class Assignment:
    """Widths by node name. cost: extra time, as a share of the int8 network's. snr_db: predicted."""

    widths: Mapping[str, str]
    cost: float
    snr_db: float


@dataclass(frozen=True)
class Trial:
    """An assignment that was tried: its measured SNR and drop (see `drop`), and whether it meets everything asked."""

    assignment: Assignment
    snr_db: float
    drop: float
    fits: bool
    chosen: bool


def pareto(choices: Sequence[Sequence[tuple[str, str, float, float]]], error: float) -> list[tuple[float, float, dict]]:
    """All undominated (cost, remaining error, widths), cheapest first. choices: for each node its (name, width, cost,
    gain in error); at most one of them is taken. error: without any."""
    front: list[tuple[float, float, dict]] = [(0.0, 0.0, {})]       # cost, gain
    for options in choices:
        merged = front + [(c + cost, g + gain, {**w, name: width}) for name, width, cost, gain in options if gain > 0
                          for c, g, w in front]
        merged.sort(key=lambda s: (s[0], -s[1]))
        front, best = [], -np.inf
        for state in merged:
            if state[1] > best:
                front.append(state)
                best = state[1]
        if len(front) > MOST_ASSIGNMENTS:
            spaced = np.unique(np.linspace(0, len(front) - 1, MOST_ASSIGNMENTS).astype(int))
            front = [front[k] for k in spaced]
    return [(c, max(error - g, 0.0), w) for c, g, w in front]


def macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of a Conv, Gemm or MatMul."""
    w = next(graph.const(i) for i in node.inputs[:2] if graph.const(i) is not None)
    out = graph.type(node.outputs[0])
    return w.size * out.size // (out.shape[1] if node.op == "Conv" else out.shape[-1])


def assignments(done: Quantised, lifted: Lifted, progress: Progress) -> list[Assignment]:
    """The undominated assignments, the all-int8 network first."""
    nodes = [n for n in done.plan.linear(done.float) if n.origin]
    total = sum(macs(done.float, n) for n in nodes) or 1
    base = lifted.error({})
    choices = []
    for k, node in enumerate(nodes):
        name = node.origin[0]
        cost = macs(done.float, node) / total
        choices.append([(name, w, (TIMES[w] - 1) * cost, base - lifted.error({name: w})) for w in LIFTS])
        progress("measuring widths", k + 1, len(nodes))
    return [Assignment(w, c, snr_db(e)) for c, e, w in pareto(choices, base)]


def drop(got: np.ndarray, want: np.ndarray, labels: np.ndarray | None) -> float:
    """What quantisation costs: accuracy on labelled samples; without labels the share of samples whose class changes;
    where the output is one number, noise power over signal power."""
    if want.reshape(len(want), -1).shape[1] < 2:
        return float(np.sum((got - want) ** 2) / max(np.sum(want**2), 1e-30))
    if labels is not None and (labels >= 0).any():
        return compare.accuracy(want, labels) - compare.accuracy(got, labels)
    return 1.0 - float(np.mean(got.reshape(len(got), -1).argmax(1) == want.reshape(len(want), -1).argmax(1)))


def choose_widths(done: Quantised, dataset: Dataset, io: str, most: float, fits: Callable[[Graph], bool],
                  progress: Progress) -> tuple[Mapping[str, str], list[Trial]]:
    """The cheapest widths with a drop of at most `most` whose network `fits`, and what was tried on the way.

    Adjacent assignments differ in little: the first that is good enough is found by bisection over the predicted order,
    then confirmed. UsageError: no assignment is good enough."""
    lifted = Lifted(done, dataset, io, {})
    found = assignments(done, lifted, progress)
    outputs = judged(done.float)[:1]
    want = float_values(done.float, dataset, outputs)
    trials: dict[int, Trial] = {}

    def good(k: int) -> bool:
        if k not in trials:
            graph = lifted.graph(found[k].widths)
            got = Simulator(dataset, want).values(graph, outputs)[outputs[0]].reshape(want[outputs[0]].shape)
            lost = drop(got, want[outputs[0]], dataset.labels)
            trials[k] = Trial(found[k], snr_db(lifted.error(found[k].widths)), lost, fits(graph), False)
        return trials[k].drop <= most

    low, high = 0, len(found) - 1
    if not good(high):
        raise UsageError(f"no assignment of widths keeps the drop below {100 * most:g} %; the best loses "
                         f"{100 * trials[high].drop:.2f} %", fix="allow more with --max-drop")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle + 1, high)
    good(low)
    fitting = [k for k in sorted(trials) if trials[k].fits and trials[k].drop <= most]
    if not fitting:
        raise UsageError("every assignment that is accurate enough exceeds --ram or --flash",
                         fix="allow a larger drop or more memory")
    best = fitting[0]
    trials[best] = replace(trials[best], chosen=True)
    return found[best].widths, [trials[k] for k in sorted(trials)]

