"""State between runs in a program: where the next value of each state comes to lie.

Lowering gives a state two buffers: one of place "state", which the run reads, and one that its next value is made in.
Here they become one where the run has read the old value before the first byte of the next is written; elsewhere a last
step copies.
"""

from __future__ import annotations

from dataclasses import replace

from .dtypes import computed
from .loop_passes import fresh
from .loop_verify import root, uses
from .loops import Buffer, Const, For, Function, Load, Program, Store, Var


def settle(p: Program) -> Program:
    """The program, not planned yet, with the next values of its states in their state buffers at the end of a run; they
    are no outputs any more."""
    if not p.state:
        return p
    names = {new for _, new in p.state}
    buffers = {n: replace(b, place="arena") if n in names and b.place == "output" else b for n, b in p.buffers.items()}
    p = replace(p, buffers=buffers, outputs=tuple(o for o in p.outputs if o not in names))
    p, pairs = _kept_apart(p)
    for old, new in pairs:
        if root(p, new).name != old:
            p = _shared(p, old, root(p, new).name) if _may_share(p, old, root(p, new)) else _with_step(p, new, old)
    return p


def _kept_apart(p: Program) -> tuple[Program, list[tuple[str, str]]]:
    """The program and its states, where each old value that is an output, or the next value of another state, is copied
    before the run."""
    states = {old for old, _ in p.state}
    lent = [root(p, o).name for o in p.outputs] + [
        root(p, new).name for old, new in p.state if root(p, new).name != old
    ]
    copies: dict[str, str] = {}
    for name in dict.fromkeys(n for n in lent if n in states):
        b = p.buffers[name]
        place = "output" if name in {root(p, o).name for o in p.outputs} else "arena"
        copies[name] = fresh(f"{name}_before", set(p.buffers))
        p = replace(p, buffers={**p.buffers, copies[name]: replace(b, name=copies[name], place=place, reset=0)})
        p = _with_step(p, name, copies[name], first=True)

    def apart(name: str) -> str:
        return copies.get(root(p, name).name, name)

    pairs = [(old, new if root(p, new).name == old else apart(new)) for old, new in p.state]
    return replace(p, outputs=tuple(map(apart, p.outputs))), pairs


def _may_share(p: Program, old: str, new: Buffer) -> bool:
    """Whether the next value can be made where the old one lies."""
    state = p.buffers[old]
    if new.place not in ("arena", "output") or (new.dtype, new.size) != (state.dtype, state.size):
        return False
    touching = [(k, f, uses(p, f)) for k, f in enumerate(p.steps)]
    touching = [(k, f, u) for k, f, u in touching if new.name in u.reads | u.writes]
    if not touching or any(f.groups for _, f, _ in touching):
        return False
    first, step, used = touching[0]
    if any(old in uses(p, f).reads for f in p.steps[first + 1 :]):
        return False
    pairs = {(root(p, o).name, root(p, i).name) for o, i in step.inplace}
    return old not in used.reads or (new.name, old) in pairs


def _shared(p: Program, old: str, new: str) -> Program:
    """`new` and its views are views of the state."""
    return replace(p, buffers={n: replace(b, alias=old) if new in (n, b.alias) else b for n, b in p.buffers.items()})


def _with_step(p: Program, source: str, to: str, first: bool = False) -> Program:
    """The program with a step more, its first or its last, that copies a buffer."""
    buffers, size, dtype = dict(p.buffers), p.buffers[source].size, p.buffers[source].dtype
    names = [source, to]
    if computed(dtype) != dtype:  # a load would widen: the bytes as they are
        size, dtype = p.buffers[source].nbytes, "uint8"
        for k, name in enumerate((source, to)):
            names[k] = fresh(f"{name}_bytes", set(buffers))
            buffers[names[k]] = Buffer(names[k], dtype, size, "arena", alias=root(p, name).name)
    i = Var("i")
    body = For("i", Const(0), Const(size), (Store(names[1], i, Load(names[0], i, dtype)),))
    name = fresh(f"step_{'first' if first else len(p.steps)}_state", {f.name for f in p.steps})
    step = Function(name, (body,), (), (), "State", result=to)
    return replace(p, buffers=buffers, steps=(step, *p.steps) if first else (*p.steps, step))
