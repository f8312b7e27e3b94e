"""A pass Program -> Program: what is only made to be copied is made at its place at once."""

from __future__ import annotations

from dataclasses import replace

from .loop_verify import root, uses
from .loops import For, Function, Load, Program, Stmt, Store, blocks


def write_in_place(p: Program) -> Program:
    """Where a step only copies a buffer that nothing else needs, the step that makes it writes to the copy's place at
    once. Copies are what bodies of loops and branches end in."""
    k = 0
    while k < len(p.steps):
        made = _redirected(p, k)
        p, k = (p, k + 1) if made is None else (made, k)
    return p


def _redirected(p: Program, k: int) -> Program | None:
    """The program without the copy at step k; None where that is none, or is needed."""
    copy = _copy(p, p.steps[k])
    if copy is None:
        return None
    to, of = copy
    found = [uses(p, f) for f in p.steps]
    users = [j for j, u in enumerate(found) if of in u.reads | u.writes]
    start = users[0]
    for opening, (_, end) in reversed(blocks(p.steps).items()):  # outermost first: what makes it may lie in a block
        if opening < start < end < k:
            start = opening
            break
    whole = p.buffers[of].place == "arena" and of not in p.outputs and users[-1] == k and _same_block(p.steps, start, k)
    if not whole or of in found[start].reads and start == users[0] and of not in found[start].writes:
        return None
    between = [j for j in range(start, k) if to in found[j].reads | found[j].writes]
    first = p.steps[start]
    pairs = {(root(p, o).name, root(p, i).name) for o, i in first.inplace}
    over = between == [start] and to not in found[start].writes and (of, to) in pairs and not first.spans
    if between and not over or any(p.steps[j].spans for j in range(start, k)):
        return None
    views = {n for n in p.buffers if root(p, n).name == of}
    buffers = {n: replace(b, alias=to) if n in views else b for n, b in p.buffers.items()}
    steps = []
    for j, f in enumerate(p.steps):
        if j == k:
            continue
        if start <= j < k:
            f = replace(f, inplace=tuple(pair for pair in f.inplace if _apart(p, pair, of, to)),
                        trailing=tuple(t for t in f.trailing if _apart(p, t[:2], of, to)))
            if j == start:
                f = replace(f, body=tuple(s for s in f.body if not _idle(s, of, to)))
        steps.append(f)
    return replace(p, buffers=buffers, steps=tuple(steps))


def _copy(p: Program, f: Function) -> tuple[str, str] | None:
    """(to, of), root buffers, where a step only copies all of one to another of the same size."""
    s = f.body[0].body[0] if f.body and isinstance(f.body[0], For) else f.body[0] if f.body else None
    if f.op != "Copy" or len(f.body) > 1 or not isinstance(s, Store) or not isinstance(s.value, Load):
        return None
    to, of = root(p, s.buffer), root(p, s.value.buffer)
    same = (to.dtype, to.size) == (of.dtype, of.size) and to.align % of.align == 0
    return (to.name, of.name) if same and to is not of else None


def _same_block(steps: tuple[Function, ...], a: int, b: int) -> bool:
    """Whether every way that leads to step a leads on to step b."""
    depth = 0
    for f in steps[a:b]:
        depth += (f.control in ("loop", "if")) - (f.control == "end")
        if depth < 0 or f.control == "else" and not depth:
            return False
    return depth == 0


def _apart(p: Program, pair: tuple[str, str], of: str, to: str) -> bool:
    return {root(p, n).name for n in pair} != {of, to}


def _idle(s: Stmt, of: str, to: str) -> bool:
    """Whether a statement stores nothing but what lies there already, once the two buffers are one."""
    if isinstance(s, For) and len(s.body) == 1:
        return _idle(s.body[0], of, to)
    same = isinstance(s, Store) and isinstance(s.value, Load) and s.index == s.value.index
    return same and (s.buffer, s.value.buffer) == (of, to)
