"""Ranges by the error that they cause at the outputs: one sweep over the tensors, the methods' candidates each."""
from __future__ import annotations

from collections.abc import Callable, Mapping

from .ranges import candidates, choose
from .statistics import Stats

# A change has to bring the error below this share of the best so far. Less is noise; and a range that cuts values that
# occurred will cut more of those that did not.
WORTH, WORTH_CUTTING = 0.995, 0.95


def search(stats: Mapping[str, Stats], start: Mapping[str, str], error: Callable[[Mapping[str, str]], float],
           progress: Callable[[int, int], None]) -> dict[str, str]:
    """The calibration method of each tensor. stats: which methods differ; start: where the sweep begins;
    error(methods) -> what is to be small; progress(done, total) counts tensors."""
    methods = dict(start)
    best = error(methods)
    for k, (name, s) in enumerate(stats.items()):
        for method, r in candidates(s).items():
            now = choose(s, methods[name])
            if r == now:
                continue
            trial = error({**methods, name: method})
            if trial < (WORTH_CUTTING if r.lo > now.lo or r.hi < now.hi else WORTH) * best:
                best, methods[name] = trial, method
        progress(k + 1, len(stats))
    return methods
