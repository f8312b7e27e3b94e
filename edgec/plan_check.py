"""An independent check of a memory plan: it shares no code with the planner and reads the program alone."""
from __future__ import annotations

from dataclasses import fields, is_dataclass

from .errors import EdgecError
from .loops import Function, Program


class PlanError(EdgecError):
    """The plan lets two live buffers share bytes: a defect of edgec."""


def mentioned(value, names: set[str], found: set[str]) -> set[str]:
    """Every buffer name that occurs anywhere in a statement: by walking all fields, whatever the statement's kind."""
    if isinstance(value, str):
        if value in names:
            found.add(value)
    elif isinstance(value, tuple):
        for v in value:
            mentioned(v, names, found)
    elif is_dataclass(value):
        for f in fields(value):
            if f.name not in ("kernel", "params", "meaning", "layer", "var", "dtype", "op", "name"):
                mentioned(getattr(value, f.name), names, found)
    return found


def check(p: Program) -> None:
    """Raises PlanError when a buffer lies outside the arena or is misaligned, or when a step uses a buffer whose bytes
    an earlier step gave to another one in between (except where the step allows the pair to share)."""
    ram = {n for n, b in p.buffers.items() if b.place in ("arena", "input", "output")}
    for n in ram:
        b = p.buffers[n]
        if b.offset < 0 or b.offset + b.nbytes > p.arena_bytes or b.offset % b.align != 0:
            raise PlanError(f"buffer {n} of {b.nbytes} B at offset {b.offset} does not fit the arena of {p.arena_bytes} B")
    owner: list[str] = [""] * p.arena_bytes  # which root buffer's data each byte holds

    def base(n: str) -> str:
        return p.buffers[n].alias or n

    def claim(n: str) -> None:
        b = p.buffers[n]
        owner[b.offset:b.offset + b.nbytes] = [base(n)] * b.nbytes

    def intact(n: str) -> bool:
        b = p.buffers[n]
        return all(o == base(n) for o in owner[b.offset:b.offset + b.nbytes])

    born = set()
    for n in p.inputs:
        claim(n)
        born.add(base(n))
    for step in p.steps:
        used = mentioned(step.body, ram, set())
        shared = {base(o): {base(i) for out, i in step.inplace if base(out) == base(o)} for o, _ in step.inplace}
        fresh = {n for n in used if base(n) not in born}
        for n in used - fresh:
            if not intact(n):
                raise PlanError(f"step {step.name} uses {n}, whose bytes an earlier step overwrote", where=" + ".join(step.origin))
        if step.spans:
            _ticks_apart(p, step, {base(n) for n in used})
            for n in sorted(fresh, key=lambda n, step=step: (max((s[3] for s in step.spans.get(n, ())), default=-1), n)):
                claim(n)  # what lives longest in the step last: it may lie where others were
                born.add(base(n))
            continue
        for n in fresh:
            b = p.buffers[n]
            under = set(owner[b.offset:b.offset + b.nbytes]) & {base(u) for u in used - fresh}
            if under - shared.get(base(n), set()):
                raise PlanError(f"step {step.name}: {n} overlaps {', '.join(sorted(under))}, which it reads", where=" + ".join(step.origin))
        for n in fresh:
            for other in fresh:
                a, b = p.buffers[n], p.buffers[other]
                if base(n) != base(other) and a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes:
                    raise PlanError(f"step {step.name}: {n} and {other} overlap", where=" + ".join(step.origin))
        for n in fresh:
            claim(n)
            born.add(base(n))
    for n in p.outputs:
        if not intact(n) and base(n) in born:
            raise PlanError(f"output {n} is overwritten before the run ends")


def _ticks_apart(p: Program, step: Function, used: set[str]) -> None:
    """In a step of many ticks, no two buffers hold the same byte at the same tick; parts without a span of their own are
    taken to live for the whole step."""
    pieces = []
    for n in sorted(used):
        b = p.buffers[n]
        parts = step.spans.get(n) or ((0, b.nbytes, 0, step.ticks - 1),)
        pieces += [(b.offset + at, b.offset + at + size, first, last, n) for at, size, first, last in parts]
    pieces.sort()
    for k, (_, end, first, last, n) in enumerate(pieces):
        for start2, _, first2, last2, m in pieces[k + 1:]:
            if start2 >= end:
                break
            if n != m and first <= last2 and first2 <= last:
                raise PlanError(f"step {step.name}: {n} and {m} share bytes at tick {max(first, first2)}", where=" + ".join(step.origin))
