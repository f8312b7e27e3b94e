"""Memory planning: lifetimes, in-place sharing, offsets in one arena, and lower bounds."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from .arenas import Room, assign, traffic
from .loops import Arena, Bin, Buffer, Call, Fn, For, If, Let, Load, Program, Ref, Rows, Set, Store, blocks
from .pieces import Item, Part, load, round_up
from .placement import WORK, place

RAM_PLACES = ("arena", "state", "input", "output")


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


def root(p: Program, name: str) -> Buffer:
    b = p.buffers[name]
    return p.buffers[b.alias] if b.alias else b


def lifetimes(p: Program) -> dict[str, tuple[int, int]]:
    """First and last step of each root RAM buffer. Inputs are there before step 0; outputs stay after the last; state
    is there always. A step that one way of a run leaves out counts as if it ran; what is there before a loop and used in
    it stays until its end."""
    live: dict[str, tuple[int, int]] = {
        n: (0, max(len(p.steps) - 1, 0)) for n, b in p.buffers.items() if b.place == "state" and not b.alias
    }

    def use(name: str, at: int) -> None:
        b = root(p, name)
        if b.place in RAM_PLACES:
            lo, hi = live.get(b.name, (at, at))
            live[b.name] = (min(lo, at), max(hi, at))

    for name in p.inputs:
        use(name, 0)
    there = set(live)
    for k, step in enumerate(p.steps):
        for name in touched(step.body):
            use(name, k)
    for start, (_, end) in blocks(p.steps).items():  # what a loop meets already there, its next turn may need again
        if p.steps[start].control == "loop":
            for name, (lo, hi) in live.items():
                if (lo < start or name in there) and start <= hi < end:
                    live[name] = (lo, end)
    for name in p.outputs:
        use(name, max(len(p.steps) - 1, 0))
    return live


def items(p: Program) -> list[Item]:
    """Lifetimes with in-place pairs joined where the input dies as the output is born."""
    live = lifetimes(p)
    groups = {name: {name: 0} for name in live}  # leader -> its members, and where each begins beside it
    leader = {name: name for name in live}
    outputs = {root(p, o).name for o in p.outputs}
    span = dict(live)
    for k, step in enumerate(p.steps):
        for out, source, lead in (*((o, i, 0) for o, i in step.inplace), *step.trailing):
            o, i = root(p, out), root(p, source)
            if {i.place, o.place} & {"rom", "state"}:
                continue
            a, b = leader[o.name], leader[i.name]
            start = groups[b][i.name] - round_up(lead, o.align)
            fits = start + o.nbytes <= max(at + p.buffers[m].nbytes for m, at in groups[b].items())
            if a != b and fits and span[b][1] == k and span[a][0] == k and i.name not in outputs:
                shift = start - groups[a][o.name]
                for m, at in groups.pop(a).items():
                    groups[b][m], leader[m] = at + shift, b
                span[b] = (span[b][0], max(span[a][1], span[b][1]))
                break
    moments = _moments(p)
    return [_item(p, groups[leader], live, moments) for leader in groups]


def _item(p: Program, members: Mapping[str, int], live: Mapping[str, tuple[int, int]], moments) -> Item:
    """One piece of memory for buffers of which each begins at the given byte, from any origin."""
    first = min(members.values())
    parts = [replace(x, offset=x.offset + at - first) for m, at in members.items() for x in _parts(p, m, live[m], moments)]
    return Item(tuple(_joined(parts) if len(members) > 1 else parts), max(p.buffers[m].align for m in members),
                tuple(members), tuple(at - first for at in members.values()))


def _joined(parts: list[Part]) -> list[Part]:
    """The same bytes at the same times without counting any twice: what buffers that share memory in place are together."""
    edges = sorted({e for x in parts for e in (x.offset, x.offset + x.size)})
    found: list[Part] = []
    for lo, hi in zip(edges, edges[1:], strict=False):
        for start, end in sorted((x.start, x.end) for x in parts if x.offset <= lo and hi <= x.offset + x.size):
            if found and found[-1].offset == lo and start <= found[-1].end:
                found[-1] = replace(found[-1], end=max(end, found[-1].end))
            else:
                found.append(Part(lo, hi - lo, start, end))
    return found


def _moments(p: Program) -> list[tuple[int, int]]:
    """First and last moment of each step: a step lasts as many moments as it has ticks."""
    found, at = [], 0
    for step in p.steps:
        found.append((at, at + step.ticks - 1))
        at += step.ticks
    return found or [(0, 0)]


def _parts(p: Program, name: str, live: tuple[int, int], moments) -> list[Part]:
    """When the parts of a buffer are alive: in a step with spans only from and to the ticks that it gives."""
    lo, hi = live
    start, end = moments[lo][0], moments[hi][1]
    if p.buffers[name].place == "state":
        return [Part(0, p.buffers[name].nbytes, start, end)]
    if p.rowwise and name in p.inputs and name in p.steps[0].spans:  # there at the ticks that take it
        return [Part(o, n, first, last) for o, n, first, last in p.steps[0].spans[name]]
    born, dies = {}, {}
    if p.steps and name not in {root(p, i).name for i in p.inputs}:
        born = {(o, n): moments[lo][0] + first for o, n, first, _ in p.steps[lo].spans.get(name, ())}
    if p.steps and name not in {root(p, o).name for o in p.outputs}:
        dies = {(o, n): moments[hi][0] + last for o, n, _, last in p.steps[hi].spans.get(name, ())}
    rows = born or dies
    if born and dies and born.keys() != dies.keys():  # rows of different heights: the end is taken as common
        dies = {}
    return [Part(o, n, born.get((o, n), start), dies.get((o, n), end)) for o, n in rows] or [
        Part(0, p.buffers[name].nbytes, start, end)
    ]


def _alive(found: list[Item], moments: list[tuple[int, int]]) -> list[int]:
    """The sum of live bytes at each moment."""
    change = [0] * (moments[-1][1] + 2)
    for i in found:
        for part in i.parts:
            change[part.start] += part.size
            change[part.end + 1] -= part.size
    return list(accumulate(change))


def alive_in_steps(p: Program) -> list[int]:
    """The most bytes of the arena that are alive at once in each step."""
    moments = _moments(p)
    alive = _alive(items(p), moments)
    return [max(alive[first:last + 1]) for first, last in moments[:len(p.steps)]]


def plan(p: Program, work: int = WORK, rooms: Sequence[Room] = ()) -> Program:
    """The program with offsets, arena size and bounds set. work: of each search for offsets, see `place`.
    rooms: the memories of a board that has several, fastest first:
    the arena is then cut into one stretch per memory in use, each a multiple of 16 bytes but the last."""
    p = _needed(p)
    found = items(p)
    if not rooms:
        best = place(found, work=work)
        return _at(p, found, best.offsets, round_up(best.size, 4), best.bound)
    offsets, cuts, end = [0] * len(found), [], 0
    for room, chosen, best in assign(found, traffic(p, found, touched), rooms, work):
        start = round_up(end, 16)
        cuts[-1:] = [replace(c, nbytes=start - c.offset) for c in cuts[-1:]]
        end = start + round_up(best.size, 4)
        cuts.append(Arena(room.memory, start, end - start))
        for k, offset in zip(chosen, best.offsets, strict=True):
            offsets[k] = start + offset
    bound = load(found)[0] if len(cuts) > 1 else best.bound if found else 0
    return replace(_at(p, found, offsets, end, bound), arenas=tuple(cuts))


def _needed(p: Program) -> Program:
    """The program whose outputs trail their inputs only in the steps that would else be the largest: what lies freely is
    placed better."""
    apart = replace(p, steps=tuple(replace(s, trailing=()) for s in p.steps))
    bound, alive = load(items(p))[0], alive_in_steps(apart)
    return replace(p, steps=tuple(s if size > bound else free for s, free, size in zip(p.steps, apart.steps, alive, strict=True)))


def _at(p: Program, found: list[Item], offsets: Sequence[int], size: int, bound: int) -> Program:
    at = {name: offset + begin for item, offset in zip(found, offsets, strict=True)
          for name, begin in zip(item.buffers, item.at, strict=True)}
    buffers = {name: replace(b, offset=at.get(b.alias or name, b.offset)) for name, b in p.buffers.items()}
    return replace(p, buffers=buffers, arena_bytes=size, lower_bound=load(found)[0], placement_bound=bound)
