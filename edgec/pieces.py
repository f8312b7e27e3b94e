"""Pieces of memory that each live for a while, and when most of them are alive."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Part:
    """`size` bytes at `offset` of an item, alive from moment `start` to moment `end`, both included."""

    offset: int
    size: int
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Item:
    """Memory that one or more buffers share, placed as one piece; its parts may live for different times. at: byte at which
    each buffer begins."""

    parts: tuple[Part, ...]
    align: int
    buffers: tuple[str, ...] = ()
    at: tuple[int, ...] = ()

    @cached_property
    def size(self) -> int:
        return max(p.offset + p.size for p in self.parts)

    @cached_property
    def start(self) -> int:
        return min(p.start for p in self.parts)

    @cached_property
    def end(self) -> int:
        return max(p.end for p in self.parts)


@dataclass(frozen=True)
class Placement:
    """offsets: one per item. size: bytes in use. bound: no placement is smaller. work: positions computed."""

    offsets: tuple[int, ...]
    size: int
    bound: int
    work: int = 0


def round_up(n: int, align: int) -> int:
    return -(-n // align) * align


def load(items: Sequence[Item]) -> tuple[int, int]:
    """The largest sum of live bytes at any moment, which no placement undercuts, and the first such moment."""
    change: dict[int, int] = {}
    for i in items:
        for p in i.parts:
            change[p.start] = change.get(p.start, 0) + p.size
            change[p.end + 1] = change.get(p.end + 1, 0) - p.size
    most, at, alive = 0, 0, 0
    for moment in sorted(change):
        alive += change[moment]
        if alive > most:
            most, at = alive, moment
    return most, at


def peaks(items: Sequence[Item]) -> list[int]:
    """The moments at which what is alive is not a part of what is alive just before or after: what holds at these holds
    always. It is the last start before each end."""
    events = sorted({(p.start, 1) for i in items for p in i.parts} | {(p.end + 1, 0) for i in items for p in i.parts})
    return [t for (t, starts), (_, next_starts) in zip(events, events[1:], strict=False) if starts and not next_starts]


def placed(items: Sequence[Item], offsets: Sequence[int]) -> Placement:
    return Placement(tuple(offsets), max(o + i.size for o, i in zip(offsets, items, strict=True)), 0)
