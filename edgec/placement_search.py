"""A depth-first search for offsets within a capacity.

Time is a row of sections, one per moment at which most is alive. Each section has a floor, below which all is
decided, and the sum of the sizes still to lie above it: a branch ends where the two exceed the capacity. The floor
rises to the lowest place of any item left there.

The search takes a section in a valley of the floors, where all items that could lie on the floor fill the valley's
ground without a gap, and asks which of them does, or whether none: then the floor rises to where one could next lie.
So the search is complete for items that are one part and equally aligned; for others a placement may be missed, and
nothing is called impossible. Stretches that no item left crosses are searched one after the other, none again when
another fails.

It takes the section with the fewest choices, but rather one that failed often and one with little to spare; after
some failures it starts anew with what was learned and a perturbed order of items. The longest-lived lie lowest: above
them time falls apart into independent stretches.
"""
from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import sub

from .pieces import Item, Placement, peaks, placed, round_up

FAILURES = 40  # of a short descent; every second one is longer, every fourth longer still
NOISE = 0.3  # of the logarithm of an item's rank, from the second descent on
LOOSE = 0.3  # how much an all-free section counts, where a choice more counts 1
NEVER = 1 << 60


class Search:
    """The state is mutable: it is taken back step by step with a trail. `work` counts positions computed.

    After `within`: refuted: that capacity is impossible; excess: a capacity must be larger by at least this."""

    def __init__(self, items: Sequence[Item], grain: int):
        """grain: the smallest alignment of the items."""
        self.items, self.grain = items, grain
        self.align = [i.align for i in items]
        self.complete = all(len(i.parts) == 1 and i.align == grain for i in items)
        moments = peaks(items)
        self.sections = len(moments)
        self.first = [bisect_left(moments, i.start) for i in items]
        self.last = [bisect_right(moments, i.end) for i in items]  # exclusive
        self.low: list[list[int] | None] = []  # per section where the item's live bytes start, None: always at 0
        self.high: list[list[int]] = []  # and where they end
        for i, a, b in zip(items, self.first, self.last, strict=True):
            low, high = _profile(i, moments, a, b, grain)
            self.low.append(low if any(low) else None)
            self.high.append(high)
        self.raised: list[dict[int, int]] = [{} for _ in moments]  # per section: item -> where it starts, unless at 0
        for k, low in enumerate(self.low):
            for s, start in enumerate(low or (), self.first[k]):
                if 0 < start < NEVER:
                    self.raised[s][k] = start
        self.starting: list[list[int]] = [[] for _ in range(self.sections)]
        for k, s in enumerate(self.first):
            self.starting[s].append(k)
        self.weight = [1.0] * self.sections
        self.random = random.Random(0)
        self.work = self.failures = 0

    def within(self, capacity: int, work: int) -> Placement | None:
        """A placement of at most `capacity` bytes, or None: refuted, or not found with so much more work."""
        self.capacity, self.excess, self.refuted = capacity, NEVER, False
        end, descent = self.work + work, 0
        while self.work < end:
            noise = NOISE if descent else 0.0
            descent += 1
            self.rank = [-math.exp(noise * self.random.random()) * ((b - a) * capacity + 10 * i.size)
                         for i, a, b in zip(self.items, self.first, self.last, strict=True)]
            found = self._descent(self.failures + FAILURES * (descent & -descent), end)
            if found:
                return placed(self.items, self.at)
            if found is False:
                self.refuted = self.complete
                break
        return None

    def _descent(self, failures: int, work: int) -> bool | None:
        """Whether there is a placement; None: one of the limits is reached.

        A frame of the stack: stretch, choices left, length of the trail, and the stretches still to do with the height
        that the stack had when they split off: what lies above that height is solved, and independent of them."""
        self._reset()
        if not self._settle(range(self.sections)):
            return False
        todo, stack = self._queue(self._split(0, self.sections, range(1, self.sections)), 0, None), []
        while todo:
            (low, high), height, todo = todo
            del stack[height:]
            stack.append((low, high, self._choices(low, high), len(self.trail), todo))
            while True:
                if not stack:
                    return False
                if self.failures > failures or self.work > work:
                    return None
                low, high, choices, mark, rest = stack[-1]
                self._undo(mark)
                choice = next(choices, None)
                if choice is None:
                    stack.pop()
                elif self._put(choice) if choice >= 0 else self._lift(~choice):
                    break
            changed = range(self.first[choice], self.last[choice] + 1) if choice >= 0 else ()
            todo = self._queue(self._split(low, high, changed), len(stack), rest)
        return True

    def _split(self, low: int, high: int, changed: Sequence[int]) -> list[tuple[int, int]]:
        """The stretches of this one that have items left; it may be cut only where something changed."""
        edges = [low, *(s for s in changed if low < s < high and not self.crossing[s]), high]
        return [(a, b) for a, b in zip(edges, edges[1:], strict=False) if self.left[a]]

    def _queue(self, stretches, height: int, todo):
        """A linked list, because frames share its ends; what failed most comes first."""
        for s in sorted(stretches, key=lambda s: max(self.weight[s[0]:s[1]])):
            todo = (s, height, todo)
        return todo

    def _reset(self) -> None:
        self.floor = [0] * self.sections
        self.above = [0] * self.sections  # bytes of the items left
        self.left: list[set[int]] = [set() for _ in range(self.sections)]
        self.crossing = [0] * (self.sections + 1)  # how many items left are in a section and in the one before
        self.at = [0] * len(self.items)  # the lowest place above the floors, and of a placed item its place
        self.flush = [False] * len(self.items)  # whether it would lie there without a gap below
        self.trail: list[tuple] = []
        for k in range(len(self.items)):
            self._leave(k, 1)

    def _leave(self, k: int, sign: int) -> None:
        """Item k is left to place (1) or no longer (-1)."""
        a, b = self.first[k], self.last[k]
        for s, low, high in zip(range(a, b), self.low[k] or [0] * (b - a), self.high[k], strict=True):
            if high >= 0:
                self.above[s] += sign * (high - low)
                (self.left[s].add if sign > 0 else self.left[s].discard)(k)
        for s in range(a + 1, b):
            self.crossing[s] += sign

    def _set(self, array: list, k: int, value) -> None:
        self.trail.append((array, k, array[k]))
        array[k] = value

    def _undo(self, mark: int) -> None:
        while len(self.trail) > mark:
            array, k, old = self.trail.pop()
            if array is None:
                self._leave(k, 1)
            else:
                array[k] = old

    def _put(self, k: int) -> bool:
        """Places item k as low as it can; False: then the rest does not fit."""
        self.trail.append((None, k, None))
        self._leave(k, -1)
        sections = range(self.first[k], self.last[k])
        for s, high in zip(sections, self.high[k], strict=True):
            if high >= 0:
                self._set(self.floor, s, self.at[k] + high)
        return self._settle(sections)

    def _lift(self, s: int) -> bool:
        """Leaves a gap above the floor of section s, up to where an item could next lie."""
        level = min(map(self._next_place(s).__getitem__, self.left[s]))
        excess = level + self.above[s] - self.capacity
        if excess > 0:
            self.excess = min(self.excess, excess)
            return False
        self._set(self.floor, s, level)
        return self._settle((s,))

    def _next_place(self, s: int) -> dict[int, int]:
        """Where the items of section s could lie if none lies on its floor: one that could, lies on an item outside."""
        found = {}
        for k in self.left[s]:
            found[k] = self.at[k] + self.raised[s].get(k, 0)
            if found[k] - self.floor[s] < self.grain:
                if self.complete:
                    below = set().union(*self.left[self.first[k]:self.last[k]]) - self.left[s]
                    found[k] = min((self.at[j] + self.high[j][0] for j in below), default=NEVER)
                else:
                    found[k] = self.floor[s] + self.grain
        return found

    def _settle(self, dirty: Sequence[int]) -> bool:
        """Raises places and floors until neither moves, after the floors of these sections did; False: no room."""
        floor, left, at, flush, low = self.floor, self.left, self.at, self.flush, self.low
        while dirty:
            worst = max(dirty, key=lambda s: floor[s] + self.above[s])
            excess = floor[worst] + self.above[worst] - self.capacity
            if excess > 0:
                self.excess = min(self.excess, excess)
                self.weight[worst] += 1
                self.failures += 1
                return False
            moved = set(dirty)
            touched = set().union(*[left[s] for s in dirty])
            self.work += len(touched)
            for k in touched:
                a, b = self.first[k], self.last[k]
                grounds = floor[a:b] if low[k] is None else list(map(sub, floor[a:b], low[k]))
                align = self.align[k]
                place = max(-(-max(grounds) // align) * align, 0)
                if place != at[k]:
                    self._set(at, k, place)
                    moved.update(range(a, b))
                if flush[k] != (place - min(grounds) < self.grain):
                    self._set(flush, k, not flush[k])
            dirty = []
            for s in sorted(moved):
                if left[s]:
                    raised = self.raised[s]
                    lowest = (min(at[k] + raised.get(k, 0) for k in left[s]) if raised  # the same, and slower
                              else min(map(at.__getitem__, left[s])))
                    if lowest > floor[s]:
                        self._set(floor, s, lowest)
                        dirty.append(s)
        return True

    def _choices(self, low: int, high: int) -> Iterator[int]:
        """Of one section of the stretch: the items that could lie on its floor, then ~section for none of them."""
        change = [0] * (high - low + 1)
        for s in range(low, high):
            for k in self.starting[s]:
                if self.flush[k] and k in self.left[s]:
                    change[s - low] += 1
                    change[self.last[k] - low] -= 1
        self.work += (high - low) // 8
        count, found = 0, []
        for s in range(low, high):
            count += change[s - low]
            if count:
                slack = self.capacity - self.floor[s] - self.above[s]
                found.append(((count + 0.9 * (slack > 0)) / self.weight[s] + LOOSE * slack / self.capacity, s, count))
        s = next((s for _, s, count in sorted(found) if self._valley(s, low, high, count)), None)
        if s is None:  # only where shapes or alignments differ
            s = min((s for s in range(low, high) if self.left[s]), key=self.floor.__getitem__)
        alike: dict[tuple, int] = {}  # of items that are the same in all, one is enough
        for k in sorted(self._grounded(s), key=self.rank.__getitem__):
            alike.setdefault((self.first[k], self.last[k], *self.high[k], *(self.low[k] or ()), self.align[k]), k)
        return iter([*alike.values(), ~s])

    def _grounded(self, s: int) -> list[int]:
        """The items left that could lie on the floor of section s."""
        raised, top = self.raised[s], self.floor[s] + self.grain
        return [k for k in self.left[s] if self.at[k] + raised.get(k, 0) < top]

    def _valley(self, s: int, low: int, high: int, flush: int) -> bool:
        """Whether the floors left and right of s are higher where they change first, and whatever could lie on that of
        s lies flush, as `flush` items do."""
        a, b, level = s, s, self.floor[s]
        while a > low and self.floor[a] == level:
            a -= 1
        while b < high - 1 and self.floor[b] == level:
            b += 1
        return self.floor[a] >= level and self.floor[b] >= level and len(self._grounded(s)) == flush


def _profile(item: Item, moments: list[int], first: int, last: int, grain: int) -> tuple[list[int], list[int]]:
    """Where the live bytes of an item start and end at each peak that it lives through: holes between its parts count
    as alive. Where none is alive: start beyond reach, end -1. An item of one part ends on a whole grain."""
    low, high = [NEVER] * (last - first), [-1] * (last - first)
    for p in item.parts:
        for s in range(bisect_left(moments, p.start) - first, bisect_right(moments, p.end) - first):
            low[s] = min(low[s], p.offset)
            high[s] = max(high[s], p.offset + p.size)
    return low, [round_up(high[0], grain)] * len(high) if len(item.parts) == 1 else high
