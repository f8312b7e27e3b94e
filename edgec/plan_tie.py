"""That a plan.json is the plan of this program: its buffers, what each step touches, the rows of each tick.

`plan_check` proves a plan from plan.json alone; this is what makes it a proof about the program. The statements are
walked by a way of their own, field by field, whatever their kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass

import numpy as np

from . import certificate, loop_interp, plan_check
from .errors import EdgecError
from .loops import Call, Const, For, Function, Let, Load, Program, Ref, Rows, Store, Written, tick_loop

NOT_BUFFERS = ("kernel", "params", "meaning", "layer", "var", "dtype", "op", "name")


class PlanError(EdgecError):
    """The memory plan is wrong: a defect of edgec."""


def certified(p: Program) -> dict:
    """The certificate of a planned program, checked and tied to the program. Raises PlanError."""
    made = certificate.make(p)
    check(p, made)
    return made


def check(p: Program, plan: Mapping) -> None:
    """Raises PlanError where the plan does not hold or is not the plan of this program."""
    try:
        plan_check.check(plan)
        _tie(p, plan)
    except plan_check.PlanError as e:
        raise PlanError(f"{p.name}: {e}", fix="report this") from None


def _tie(p: Program, plan: Mapping) -> None:
    demand = plan_check.demand
    ram = {n for n, b in p.buffers.items() if b.place in ("arena", "state", "input", "output")}

    def roots(names) -> set[str]:
        return {p.buffers[n].alias or n for n in names if n in ram} & ram

    known = {b["name"]: (b["place"], b["bytes"], plan["pieces"][b["piece"]]["offset"] + b["at"]) for b in plan["buffers"]}
    used = roots(n for s in p.steps for n in _mentioned(s.body, ram)) | roots(p.inputs) | roots(p.outputs)
    used |= {n for n in ram if p.buffers[n].place == "state" and not p.buffers[n].alias}
    demand(set(known) == used, "the plan's buffers are not the program's:", sorted(set(known) ^ used))
    for n in ram:
        b = p.buffers[n]
        if (b.alias or n) in used:
            place, size, offset = known[b.alias or n]
            demand(b.offset == offset and b.nbytes <= size, n, "lies elsewhere in the program")
            demand(b.alias or (place, size) == (b.place, b.nbytes), n, "is another buffer in the program")
            demand(offset % b.align == 0, n, "is not aligned to", b.align)
    demand(plan["arena_bytes"] == p.arena_bytes, "the program's arena has", p.arena_bytes, "bytes")
    demand(not p.arenas or plan["arenas"] == [[a.offset, a.nbytes] for a in p.arenas], "the program's arenas differ")
    inputs, state = roots(() if p.rowwise else p.inputs), {n for n in used if p.buffers[n].place == "state"}
    demand((set(plan["inputs"]), set(plan["outputs"])) == (inputs, roots(p.outputs)), "inputs or outputs differ")
    demand(set(plan["state"]) == state, "the state differs")
    demand([s["name"] for s in plan["steps"]] == [s.name for s in p.steps], "the steps differ")
    born = Written(inputs | state)
    for said, step in zip(plan["steps"], p.steps, strict=True):
        demand(said.get("control", "") == step.control, step.name, "directs other steps")
        born.enter(step.control)
        earlier = born.now
        taken = {g["takes"] for g in said.get("groups", ()) if "takes" in g}
        demand(taken == (roots(p.inputs) if p.rowwise and said is plan["steps"][0] else set()), step.name, "takes other rows")
        names = roots(_mentioned(step.body, ram)) - taken
        written = roots(_written(step.body)) - (state if "groups" in said else set())
        reads, makes = set(said["reads"]), {*said["writes"], *said.get("working", ())}
        demand(said["ticks"] == step.ticks, step.name, "has", step.ticks, "ticks")
        demand(reads == names & earlier, step.name, "reads", sorted(names & earlier), "not", sorted(reads))
        demand(
            makes == names - earlier | written,
            step.name,
            "writes",
            sorted(names - earlier | written),
            "not",
            sorted(makes),
        )
        for how, pairs in (("inplace", step.inplace), ("trailing", step.trailing)):
            allowed = {(p.buffers[o].alias or o, p.buffers[i].alias or i, *lead) for o, i, *lead in pairs}
            for out, into, *lead in said.get(how, ()):
                demand((out, into, *lead) in allowed, step.name, "may not write", out, "over", into)
        born.now |= makes
        demand(("groups" in said) == (step.ticks > 1 or bool(step.groups)), step.name, "streams rows, or does not")
        if "groups" in said:
            for body, group, turns in _ticks(p, step, said):
                _tie_group(p, body, group, turns, set(said["working"]), step.name)


def _mentioned(value, names: set[str]) -> Iterator[str]:
    """Every buffer name that occurs anywhere in a statement."""
    if isinstance(value, str):
        if value in names:
            yield value
    elif isinstance(value, tuple):
        for v in value:
            yield from _mentioned(v, names)
    elif is_dataclass(value):
        for f in fields(value):
            if f.name not in NOT_BUFFERS:
                yield from _mentioned(getattr(value, f.name), names)


def _nodes(value) -> Iterator:
    """Every statement, argument and expression below a value, itself included."""
    if isinstance(value, tuple):
        for v in value:
            yield from _nodes(v)
    elif is_dataclass(value):
        yield value
        for f in fields(value):
            yield from _nodes(getattr(value, f.name))


def _written(body) -> Iterator[str]:
    for x in _nodes(body):
        if isinstance(x, Store):
            yield x.buffer
        elif isinstance(x, Call):
            yield from x.writes


def _ticks(p: Program, step: Function, said: Mapping) -> Iterator[tuple]:
    """(statements, group, the environment of each of its ticks) of a step, whose tables must hold its order."""
    loop = tick_loop(step)
    groups = said["groups"]
    plan_check.demand(said.get("repeat") == step.repeat, step.name, "goes on elsewhere after its end")
    if p.rowwise and step is p.steps[0]:
        _tie_frames(p, loop, step, said)
    if len(groups) == 1:
        plan_check.demand(loop.hi == Const(step.ticks), step.name, "is no loop over its ticks")
        yield loop.body, groups[0], [{loop.var: t} for t in range(step.ticks)]
        return
    tables = {
        s.var: p.buffers[x.buffer].data
        for s in loop.body
        if isinstance(s, Let)
        for x in _nodes(s.value)
        if isinstance(x, Load)
    }
    done = [iter(range(len(said["order"]))) for _ in groups]
    rows = [next(done[which]) for which in said["order"]]
    plan_check.demand(
        np.array_equal(tables["group"], said["order"]) and np.array_equal(tables["row"], rows),
        step.name,
        "runs another order",
    )
    rest = loop.body[-1:]
    for k, group in enumerate(groups):
        last = k == len(groups) - 1
        yield rest if last else rest[0].then, group, [{"row": t} for t in range(group["rows"])]
        rest = () if last else rest[0].orelse


def _tie_frames(p: Program, loop: For, step: Function, said: Mapping) -> None:
    """The runs of a rowwise program take the ticks one stretch after the other; a row is taken first in its run."""
    starts = {x.buffer for e in (loop.lo, loop.hi) for x in _nodes(e) if isinstance(x, Load)}
    plan_check.demand(len(starts) == 1, step.name, "has no table of its runs")
    at = p.buffers[starts.pop()].data.astype(int)
    takes = [k for k, which in enumerate(said["order"]) if "takes" in said["groups"][which]]
    plan_check.demand(at[0] == 0 and at[-1] == len(said["order"]) and np.all(np.diff(at) >= 0), step.name, "leaves out ticks")
    plan_check.demand(set(takes) <= set(at.tolist()) | {takes[0]}, step.name, "takes a row in the middle of a run")
    plan_check.demand(step.repeat is None or step.repeat in at, step.name, "goes on in the middle of a run")


def _tie_group(p: Program, body, group: Mapping, turns: list[dict], working: set[str], step: str) -> None:
    """The rows and addresses that the statements of a group name are those of the plan's reads and output."""
    demand, reads = plan_check.demand, group["reads"]
    known = {r["buffer"] for r in reads} | {group["output"], group.get("takes")} | working
    for x in _nodes(body):
        if not isinstance(x, (Rows, Ref, Load, Store)) or p.buffers[x.buffer].place == "rom":
            continue
        b = p.buffers[x.buffer]
        name, item = b.alias or b.name, np.dtype(b.dtype).itemsize
        demand(name in known, step, "touches", name, "in a tick that the plan does not list")
        if name in working:
            continue
        if isinstance(x, Rows):
            at = (name, x.count, x.step, x.height, x.row * item, x.ring)
            fitting = [
                r
                for r in reads
                if at == tuple(r[k] for k in ("buffer", "kernel", "dilation", "height", "row_bytes", "ring"))
            ]
            firsts = [loop_interp.value(x.first, env) for env in turns]
            demand(
                x.base == 0
                and any(
                    all(v in (f, max(f, 0)) for v, f in zip(firsts, _firsts(r, len(turns)), strict=True))
                    for r in fitting
                ),
                step,
                "reads other rows of",
                name,
            )
        elif isinstance(x, Ref) and x.index != Const(0):  # that one stands in where a kernel has no padding or scratch
            for t, env in enumerate(turns):
                rows = {
                    (r["ring"], r["row_bytes"], t * r["stride"] - r["pad"] + k * r["dilation"])
                    for r in reads
                    if r["buffer"] == name
                    for k in range(r["kernel"])
                }
                rows |= {(group["ring"], group["row_bytes"], t)} if name == group["output"] else set()
                if "slides" in group and name == group["output"]:
                    rows = {(0, b.nbytes - group["row_bytes"], 1)}
                starts = {(row % ring if ring else row) * size for ring, size, row in rows}
                found = loop_interp.value(x.index, env) * item
                demand(
                    found in starts,
                    step,
                    "has byte",
                    found,
                    "of",
                    name,
                    "in tick",
                    t,
                    "where the plan has",
                    sorted(starts),
                )


def _firsts(read: Mapping, ticks: int) -> list[int]:
    """The first row that each tick asks for; below 0 it is padding."""
    return [t * read["stride"] - read["pad"] for t in range(ticks)]
