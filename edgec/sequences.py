"""Models with state run over sequences of samples: every run reads what the run before it made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from .data import Dataset, input_q
from .ir import Graph

Feed = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Kept:
    """A state: the output that becomes the input in the next run, and what the input is in the first."""

    input: str
    output: str
    start: np.ndarray


def kept(graph: Graph) -> list[Kept]:
    """The states of a graph as it was imported; all start as real zeros."""
    found = []
    for i, o in graph.state:
        t, q = graph.type(i), input_q(graph, i)
        found.append(Kept(i, o, np.full(t.shape, 0 if q is None else q.zero_point, np.dtype(t.dtype))))
    return found


def fed_back(
    run: Callable[[Feed], Mapping[str, np.ndarray]], states: list[Kept], feeds: Iterable[Feed], steps: int
) -> Iterator[tuple[Feed, Mapping[str, np.ndarray]]]:
    """Each sample with the state that it meets, and what `run` makes of it. steps: samples of a sequence."""
    now: dict[str, np.ndarray] = {}
    for k, feed in enumerate(feeds):
        if k % max(steps, 1) == 0:
            now = {s.input: s.start for s in states}
        full = {**feed, **now}
        made = run(full)
        yield full, made
        now = {s.input: made[s.output] for s in states}


def with_state(graph: Graph, dataset: Dataset) -> Dataset:
    """The samples with the states that a float graph meets on them, so that each can stand alone."""
    if not graph.state:
        return dataset
    from . import onnx_run

    reference = onnx_run.of_graph(graph)
    feeds = (dataset[k] for k in range(len(dataset)))
    met = [
        full
        for full, _ in fed_back(
            lambda feed: dict(zip(reference.names, reference.run(feed), strict=True)), kept(graph), feeds, dataset.steps
        )
    ]
    states = {i: np.stack([full[i] for full in met]) for i, _ in graph.state}
    return replace(dataset, inputs={**dataset.inputs, **states}, steps=0)
