"""Mixed precision: the cheapest widths, node by node, with which the network is good enough.

What each node adds to the error in each width is measured with all others in float (`sensitivity.Lifted`); noise
powers of independent roundings add, so what several add is taken to add too. Cost is time, in units of an int8
multiply-accumulate. All assignments that no other beats in both are found exactly, by merging the nodes' choices one
after the other and dropping what is dominated; then the cheapest that is good enough is found by measuring.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .. import compare
from ..data import Dataset
from ..errors import UsageError
from ..ir import Graph, Node
from .plan import LINEAR
from .quantise import Progress, Quantised
from .sensitivity import Lifted, widenable
from .simulate import Simulator, float_values, snr_db

# Time of a multiply-accumulate over that of the int8 kernels: the loop nest with 64-bit accumulators, and float.
TIMES = {"8x8": 1.0, "16x8": 8.0, "float": 4.0}
Option = tuple[str, str, float, float]        # node, width, cost, error added
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


def pareto(choices: Sequence[Sequence[Option]], error: float) -> list[tuple[float, float, dict]]:
    """All undominated (cost, error, widths), cheapest first. choices: for each node its options, of which it takes
    exactly one; 8x8 is not mentioned in the widths. error: what there is besides."""
    front: list[tuple[float, float, dict]] = [(0.0, error, {})]
    for options in choices:
        merged = [(c + cost, e + more, w if width == "8x8" else {**w, name: width})
                  for name, width, cost, more in options for c, e, w in front]
        merged.sort(key=lambda s: s[:2])
        front, best = [], np.inf
        for state in merged:
            if state[1] < best:
                front.append(state)
                best = state[1]
        if len(front) > MOST_ASSIGNMENTS:
            spaced = np.unique(np.linspace(0, len(front) - 1, MOST_ASSIGNMENTS).astype(int))
            front = [front[k] for k in spaced]
    return front


def macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of a Conv, Gemm or MatMul; elements of what another node makes."""
    out = graph.type(node.outputs[0])
    w = next((graph.const(i) for i in node.inputs[:2] if graph.const(i) is not None), None)
    if node.op not in LINEAR or w is None:
        return out.size
    return w.size * out.size // (out.shape[1] if node.op == "Conv" else out.shape[-1])


def measured(done: Quantised, lifted: Lifted, progress: Progress) -> tuple[list[list[Option]], float]:
    """Each node's options (name, width, cost, error added to the network whose other nodes are in float), and the error
    with all of them in float."""
    nodes = [n for n in widenable(done.float, done.plan) if n.origin[0] not in lifted.bits]
    total = sum(macs(done.float, n) for n in nodes) or 1
    exact = {n.origin[0]: "float" for n in nodes}
    base = lifted.error(exact)
    choices = []
    for k, node in enumerate(nodes):
        name, share = node.origin[0], macs(done.float, node) / total
        errors = {w: lifted.error({**exact, name: w}) for w in TIMES}
        choices.append([(name, w, (TIMES[w] - 1) * share, errors[w] - base) for w in TIMES])
        progress("measuring widths", k + 1, len(nodes))
    return choices, base


def drop(got: np.ndarray, want: np.ndarray, labels: np.ndarray | None) -> float:
    """What quantisation costs: accuracy on labelled samples; without labels the share of samples whose class changes;
    where the output is one number, noise power over signal power."""
    if want.reshape(len(want), -1).shape[1] < 2:
        return float(np.sum((got - want) ** 2) / max(np.sum(want**2), 1e-30))
    if labels is not None and (labels >= 0).any():
        return compare.accuracy(want, labels) - compare.accuracy(got, labels)
    return 1.0 - float(np.mean(got.reshape(len(got), -1).argmax(1) == want.reshape(len(want), -1).argmax(1)))


def choose_widths(done: Quantised, dataset: Dataset, io: str, bits: Mapping[str, str], most: float,
                  fits: Callable[[Graph], bool], progress: Progress) -> tuple[Mapping[str, str], list[Trial]]:
    """The cheapest widths with a drop of at most `most` whose network `fits`, and what was tried on the way. bits: of
    nodes that are decided already. UsageError: no assignment is good enough, or none of those fits.

    Float weights take four times the memory: where nothing fits with them, the nodes share 8x8 and 16x8."""
    lifted = Lifted(done, dataset, io, bits)
    choices, base = measured(done, lifted, progress)
    outputs = done.float.outputs[:1]
    want = float_values(done.float, dataset, outputs)
    trials: list[Trial] = []

    def tried(a: Assignment) -> Trial:
        known = next((t for t in trials if t.assignment.widths == a.widths), None)
        if known is None:
            graph = lifted.graph(a.widths)
            got = Simulator(dataset, done.float, {}).values(graph, outputs)[outputs[0]].reshape(want[outputs[0]].shape)
            lost = drop(got, want[outputs[0]], dataset.labels)
            known = Trial(a, snr_db(lifted.error(a.widths)), lost, fits(graph), False)
            trials.append(known)
        return known

    for widths in (tuple(TIMES), ("8x8", "16x8")):
        allowed = [[o for o in options if o[1] in widths] for options in choices]
        front = [Assignment(w, c, snr_db(e)) for c, e, w in pareto(allowed, base)]
        best = _cheapest(front, lambda a: tried(a).drop <= most)
        if best is not None and tried(best).fits:
            return best.widths, [replace(t, chosen=t.assignment is best) for t in trials]
    least = min(t.drop for t in trials)
    if least > most:
        raise UsageError(f"no assignment of widths keeps the drop below {100 * most:g} %; the best loses "
                         f"{100 * least:.2f} %", fix="allow more with --max-drop")
    raise UsageError("no assignment that is accurate enough stays within --ram and --flash",
                     fix="allow a larger drop or more memory")


def _cheapest(front: Sequence[Assignment], good: Callable[[Assignment], bool]) -> Assignment | None:
    """The first that is good, by bisection: neighbours differ in little, and each is predicted better than the one
    before. None: the last is not."""
    if not good(front[-1]):
        return None
    low, high = 0, len(front) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if good(front[middle]) else (middle + 1, high)
    return front[low]
