"""Which memory of a board holds which piece, where it has several: the least bytes accessed times cycles per access.

Fastest memory first: the most accessed pieces that are never alive with more bytes than it has room for, by branch and
bound; then the next with what is left, and the last takes the rest.
"""
from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .loop_verify import root
from .loops import Program
from .pieces import Item, Placement, peaks
from .placement import WORK, place

NODES = 20_000  # of the branch and bound over one memory


@dataclass(frozen=True)
class Room:
    """size: bytes that an arena may take of a memory; cycles: what an access costs there."""

    memory: str
    size: int
    cycles: int


def traffic(p: Program, items: Sequence[Item], touched) -> list[int]:
    """About how many bytes a run accesses of each item. A model, not measured: a step accesses each byte it touches
    once or, where it multiplies, one per multiply-accumulate, spread over what it touches by size. touched: of a body."""
    of = {name: k for k, i in enumerate(items) for name in i.buffers}
    found = [0] * len(items)
    for step in p.steps:
        names = {root(p, n).name for n in touched(step.body)} & of.keys()
        total = sum(p.buffers[n].nbytes for n in names)
        for n in names:
            nbytes = p.buffers[n].nbytes
            found[of[n]] += max(nbytes * step.times, step.macs * nbytes // max(total, 1))
    return found


def assign(items: Sequence[Item], accessed: Sequence[int],
           rooms: Sequence[Room], work: int = WORK) -> list[tuple[Room, list[int], Placement]]:
    """The memories in use, which items each holds and where. rooms: fastest first; the last is taken to be enough."""
    found, left = [], list(range(len(items)))
    for room in rooms:
        best = place([items[k] for k in left], work=work)
        chosen = left
        if room is not rooms[-1] and best.size > room.size:
            chosen, best = _filled(items, accessed, left, room.size, work)
        if chosen:
            found.append((room, chosen, best))
            left = sorted(set(left) - set(chosen))
    return found


def _filled(items: Sequence[Item], accessed: Sequence[int], left: list[int], size: int,
            work: int) -> tuple[list[int], Placement]:
    """The most accessed of the items that can be placed in `size` bytes; where gaps remain, less may be alive at once."""
    limit = size
    while True:
        chosen = _chosen(items, accessed, left, limit)
        best = place([items[k] for k in chosen], work=work)
        if best.size <= size:
            return chosen, best
        limit = min(limit - 1, limit - (best.size - size) // 2)


def _chosen(items: Sequence[Item], accessed: Sequence[int], left: list[int], limit: int) -> list[int]:
    """Items of the largest sum of accesses of which never more than `limit` bytes are alive, or the best in NODES."""
    moments = peaks(items)
    order = sorted((k for k in left if items[k].size <= limit), key=lambda k: (-accessed[k] / items[k].size, k))
    alive = []
    for k in order:
        profile = np.zeros(len(moments), np.int64)
        for x in items[k].parts:
            profile[bisect_left(moments, x.start):bisect_right(moments, x.end)] += x.size
        alive.append(profile)
    rest = np.cumsum([0, *(accessed[k] for k in reversed(order))])[::-1]  # all from the n-th on
    best, best_gain, nodes = None, -1, 0
    stack = [(0, np.zeros(len(moments), np.int64), 0, None)]  # next item, bytes alive, accesses, chosen (linked list)
    while stack and (nodes < NODES or best_gain < 0):
        n, used, gain, chosen = stack.pop()
        nodes += 1
        if n == len(order):
            if gain > best_gain:
                best, best_gain = chosen, gain
            continue
        if gain + rest[n] <= best_gain:
            continue
        stack.append((n + 1, used, gain, chosen))
        more = used + alive[n]
        if more.max(initial=0) <= limit:
            stack.append((n + 1, more, gain + accessed[order[n]], (order[n], chosen)))
    found = []
    while best is not None:
        found.append(best[0])
        best = best[1]
    return sorted(found)
