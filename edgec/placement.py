"""Offsets for pieces of memory: the lowest peak that is found, and what is proved about it.

First fit in several orders; where that misses the lower bound, a search below a given capacity (`placement_search`): at
the bound, which succeeds or raises the bound where it proves that nothing fits, then half-way down to it. All limits
count work, not time: the result depends on the items alone.
"""
from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from .pieces import Item, Placement, load, peaks, placed, round_up
from .placement_search import Search

WORK = 60_000  # positions that the search computes, at most: about half a second


def place(items: Sequence[Item], goal: int = 0, work: int = WORK) -> Placement:
    """Offsets with the smallest size that `work` finds; content with `goal` bytes. Where the search misses the goal,
    it is made again from the bound, so that a goal is never met worse than none."""
    if not items:
        return Placement((), 0, 0)
    grain = min(i.align for i in items)
    bound, moment = load(items)
    target = round_up(max(bound, goal), grain)
    best = min((first_fit(items, order) for order in _orders(items, moment)), key=lambda p: p.size)
    if best.size <= target:
        return Placement(best.offsets, best.size, bound)
    found = _descend(Search(items, grain), best, bound, target, work)
    least = round_up(bound, grain)
    if found.size <= target or target == least:
        return found
    return min(found, _descend(Search(items, grain), best, bound, least, work), key=lambda p: p.size)


def _descend(search: Search, best: Placement, bound: int, target: int, work: int) -> Placement:
    """The target first, raised for as long as it is proved too small; then capacities between it and the best."""
    low, raising = target, True
    while best.size > low and search.work < work:
        capacity = low if raising else max(low + search.grain, round_up((low + best.size) // 2, search.grain))
        if capacity >= best.size:
            break
        found = search.within(capacity, (work - search.work) // 2 + 1)
        if found is not None:
            best = found
        elif search.refuted:
            low = capacity + search.excess
            bound = max(bound, low - search.grain + 1)
        else:
            low, raising = capacity, False
    return Placement(best.offsets, best.size, min(bound, best.size), search.work)


def _orders(items: Sequence[Item], peak: int) -> list[list[int]]:
    """peak: a moment of the largest sum."""
    keys = (
        lambda i: (-i.size, i.start),
        lambda i: (-(i.end - i.start + 1) * i.size, i.start),
        lambda i: (not i.start <= peak <= i.end, -i.size, i.start),
        lambda i: (i.start, -i.size),
        lambda i: (-(i.end - i.start), -i.size),
    )
    return [sorted(range(len(items)), key=lambda k, key=key: key(items[k])) for key in keys]


def first_fit(items: Sequence[Item], order: Sequence[int]) -> Placement:
    """Each item at the lowest offset where none of its parts meets a part placed before that is alive with it."""
    moments = peaks(items)
    offsets = [0] * len(items)
    alive: list[list[int]] = [[] for _ in moments]  # the placed items of each peak: most live for few
    for k in order:
        i = items[k]
        span = range(bisect_left(moments, i.start), bisect_right(moments, i.end))
        taken = []  # forbidden offsets of i: from (exclusive) to (exclusive)
        for j in {j for m in span for j in alive[m]}:
            for b in items[j].parts:
                low, high = offsets[j] + b.offset, offsets[j] + b.offset + b.size
                taken += [(low - a.offset - a.size, high - a.offset)
                          for a in i.parts if a.start <= b.end and b.start <= a.end]
        for low, high in sorted(taken):
            if low < offsets[k] < high:
                offsets[k] = round_up(high, i.align)
        for m in span:
            alive[m].append(k)
    return placed(items, offsets)
