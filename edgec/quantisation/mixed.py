"""Mixed precision: the cheapest widths, node by node, with which the network is good enough.

What each node adds to the error in each width is measured with all others in float (`sensitivity.Lifted`); noise
powers of independent roundings add, so what several add is taken to add too. Time and flash of a node in a width are
those of its step in a program whose nodes all have that width: modelled cycles, and the bytes of its constants. All
assignments that no other beats in time, error and flash are found exactly, by merging the nodes' choices one after the
other and dropping what is dominated; of those within the flash the cheapest that is good enough is found by measuring.
"""
from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from .. import compare
from ..data import Dataset
from ..errors import UsageError
from ..ir import Graph
from .quantise import Progress, Quantised
from .sensitivity import Lifted, widenable
from .simulate import Simulator, float_values, snr_db

WIDTHS, NARROW = ("8x8", "16x8", "float"), "8x4"    # that nodes choose from; the last only where flash is limited


class Option(NamedTuple):
    """cost, flash: time and bytes more than in 8x8; error: added."""

    node: str
    width: str
    cost: float
    error: float
    flash: int = 0


class Prices(NamedTuple):
    """Modelled cycles of a run and bytes of constants: of all, and of the step of each ONNX node."""

    cycles: float
    flash: int
    nodes: Mapping[str, tuple[float, int]]


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


def pareto(choices: Sequence[Sequence[Option]], error: float, room: float = np.inf) -> list[tuple[float, float, dict]]:
    """All undominated (cost, error, widths) of at most `room` more flash, cheapest first. choices: for each node its
    options, of which it takes exactly one; 8x8 is not mentioned in the widths. error: what there is besides."""
    front: list[tuple[float, float, int, dict]] = [(0.0, error, 0, {})]
    for options in choices:
        merged = [(c + o.cost, e + o.error, f + o.flash, w if o.width == "8x8" else {**w, o.node: o.width})
                  for o in options for c, e, f, w in front]
        front = _undominated(merged)
        if len(front) > MOST_ASSIGNMENTS:
            spaced = np.unique(np.linspace(0, len(front) - 1, MOST_ASSIGNMENTS).astype(int))
            front = [front[k] for k in spaced]
    return [(c, e, w) for c, e, _, w in _undominated([(c, e, 0, w) for c, e, f, w in front if f <= room])]


def _undominated(states: list[tuple[float, float, int, dict]]) -> list[tuple[float, float, int, dict]]:
    """Those of (cost, error, flash, ...) that none is as good as in all three, by cost."""
    kept, errors, flash = [], [], []    # of what is kept, the least flash by error: ascending, descending
    for state in sorted(states, key=lambda s: s[:3]):
        _, e, f, _ = state
        k = bisect_right(errors, e)
        if k and flash[k - 1] <= f:
            continue
        kept.append(state)
        start = end = bisect_left(errors, e)
        while end < len(errors) and flash[end] >= f:
            end += 1
        errors[start:end], flash[start:end] = [e], [f]
    return kept


def measured(done: Quantised, lifted: Lifted, widths: Sequence[str], prices: Callable[[Graph], Prices],
             progress: Progress) -> tuple[list[list[Option]], float]:
    """Each node's options, and the error of the network with all its nodes in float."""
    nodes = [n for n in widenable(done.float, done.plan) if n.origin[0] not in lifted.bits]
    names = [n.origin[0] for n in nodes]
    exact = dict.fromkeys(names, "float")
    base, plain = lifted.error(exact), prices(lifted.graph({}))
    price = {w: prices(lifted.graph(dict.fromkeys(names, w))).nodes if w != "8x8" else plain.nodes for w in widths}
    choices = []
    for k, name in enumerate(names):
        now, options = plain.nodes.get(name, (0.0, 0)), []
        for w in widths:
            cycles, flash = price[w].get(name, now)
            error = lifted.error({**exact, name: w}) - base
            options.append(Option(name, w, (cycles - now[0]) / plain.cycles, error, flash - now[1]))
        choices.append(options)
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
                  fits: Callable[[Graph], bool], prices: Callable[[Graph], Prices], flash: int | None,
                  progress: Progress) -> tuple[Mapping[str, str], list[Trial]]:
    """The cheapest widths with a drop of at most `most` whose network `fits`, and what was tried on the way. bits: of
    nodes that are decided already; flash: bytes of constants that there may be. UsageError: no assignment is good
    enough, or none of those fits.

    A float layer's tensors take four times the RAM: where nothing fits with them, the nodes share the other widths."""
    lifted = Lifted(done, dataset, io, bits)
    given = WIDTHS if flash is None else (*WIDTHS, NARROW)
    choices, base = measured(done, lifted, given, prices, progress)
    room = np.inf if flash is None else flash - prices(lifted.graph({})).flash
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

    for without in ("", "float"):
        allowed = [[o for o in options if o.width != without] for options in choices]
        front = [Assignment(w, c, snr_db(e)) for c, e, w in pareto(allowed, base, room)]
        best = _cheapest(front, lambda a: tried(a).drop <= most) if front else None
        if best is not None and tried(best).fits:
            return best.widths, [replace(t, chosen=t.assignment is best) for t in trials]
    least = min((t.drop for t in trials), default=0.0)
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
