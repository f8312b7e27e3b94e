"""Memory planning: lifetimes, in-place sharing, offsets in one arena, and the lower bound."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from .loops import Bin, Buffer, Call, Fn, For, If, Let, Load, Program, Ref, Rows, Set, Store

RAM_PLACES = ("arena", "input", "output")


def touched(body) -> Iterator[str]:
    """Every buffer that statements, expressions or arguments name (repeats included)."""
    for s in body:
        match s:
            case For():
                yield from _expr(s.lo)
                yield from _expr(s.hi)
                yield from touched(s.body)
            case If():
                yield from _expr(s.cond)
                yield from touched(s.then)
                yield from touched(s.orelse)
            case Let() | Set():
                yield from _expr(s.value)
            case Store():
                yield s.buffer
                yield from _expr(s.index)
                yield from _expr(s.value)
            case Call():
                yield from s.writes
                for a in s.args:
                    yield from _expr(a)


def _expr(e) -> Iterator[str]:
    match e:
        case Bin():
            yield from _expr(e.a)
            yield from _expr(e.b)
        case Fn():
            for a in e.args:
                yield from _expr(a)
        case Load() | Ref():
            yield e.buffer
            yield from _expr(e.index)
        case Rows():
            yield e.buffer
            if e.pad:
                yield e.pad
            yield from _expr(e.first)


@dataclass(frozen=True)
class Item:
    """Memory that one or more buffers share: live from step `start` to step `end`, both included."""

    size: int
    align: int
    start: int
    end: int
    buffers: tuple[str, ...]


def root(p: Program, name: str) -> Buffer:
    b = p.buffers[name]
    return p.buffers[b.alias] if b.alias else b


def lifetimes(p: Program) -> dict[str, tuple[int, int]]:
    """First and last step of each root RAM buffer. Inputs are there before step 0; outputs stay after the last."""
    live: dict[str, tuple[int, int]] = {}

    def use(name: str, at: int) -> None:
        b = root(p, name)
        if b.place in RAM_PLACES:
            lo, hi = live.get(b.name, (at, at))
            live[b.name] = (min(lo, at), max(hi, at))

    for name in p.inputs:
        use(name, 0)
    for k, step in enumerate(p.steps):
        for name in touched(step.body):
            use(name, k)
    for name in p.outputs:
        use(name, max(len(p.steps) - 1, 0))
    return live


def items(p: Program) -> list[Item]:
    """Lifetimes with in-place pairs joined where the input dies as the output is born."""
    live = lifetimes(p)
    leader = {name: name for name in live}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    outputs = {root(p, o).name for o in p.outputs}
    span = dict(live)
    for k, step in enumerate(p.steps):
        for out, source in step.inplace:
            if p.buffers[source].place == "rom" or p.buffers[out].place == "rom":
                continue
            a, b = find(root(p, out).name), find(root(p, source).name)
            fits = root(p, out).nbytes <= max(p.buffers[m].nbytes for m in live if find(m) == b)
            if a != b and fits and span[b][1] == k and span[a][0] == k and root(p, source).name not in outputs:
                leader[a] = b
                span[b] = (span[b][0], max(span[a][1], span[b][1]))
                break
    groups: dict[str, list[str]] = {}
    for name in live:
        groups.setdefault(find(name), []).append(name)
    return [Item(max(p.buffers[m].nbytes for m in members), max(p.buffers[m].align for m in members), *span[lead], tuple(members))
            for lead, members in groups.items()]


def lower_bound(found: list[Item]) -> tuple[int, int]:
    """The largest sum of live bytes at any step, and that step: no placement can be smaller."""
    at: dict[int, int] = {}
    for i in found:
        for k in range(i.start, i.end + 1):
            at[k] = at.get(k, 0) + i.size
    step = max(at, key=lambda k: (at[k], -k), default=0)
    return at.get(step, 0), step


def place(found: list[Item]) -> dict[Item, int]:
    """Offsets: first fit in several orders, the best kept; stops at the lower bound."""
    bound, peak = lower_bound(found)
    orders = (
        lambda i: (-i.size, i.start),
        lambda i: (-(i.end - i.start + 1) * i.size, i.start),
        lambda i: (not i.start <= peak <= i.end, -i.size, i.start),
        lambda i: (i.start, -i.size),
        lambda i: (-(i.end - i.start), -i.size),
    )
    best: dict[Item, int] = {}
    best_size = None
    for key in orders:
        offsets = _first_fit(sorted(found, key=key))
        size = max((o + i.size for i, o in offsets.items()), default=0)
        if best_size is None or size < best_size:
            best, best_size = offsets, size
        if best_size <= bound:
            break
    return best


def _first_fit(order: list[Item]) -> dict[Item, int]:
    placed: dict[Item, int] = {}
    for i in order:
        at = 0
        for o, size in sorted((o, j.size) for j, o in placed.items() if j.start <= i.end and i.start <= j.end):
            if at + i.size <= o:
                break
            at = max(at, -(-(o + size) // i.align) * i.align)
        placed[i] = at
    return placed


def plan(p: Program) -> Program:
    """The program with offsets, arena size and lower bound set."""
    found = items(p)
    offsets = place(found)
    buffers = dict(p.buffers)
    for item, at in offsets.items():
        for name in item.buffers:
            buffers[name] = replace(buffers[name], offset=at)
    for name, b in buffers.items():
        if b.alias:
            buffers[name] = replace(b, offset=buffers[b.alias].offset)
    size = max((o + i.size for i, o in offsets.items()), default=0)
    return replace(p, buffers=buffers, arena_bytes=-(-size // 4) * 4, lower_bound=lower_bound(found)[0])
