"""plan.json: what a memory plan claims, in full, so that `plan_check` can verify it without this program.

A moment is one step, or one tick of a step that streams rows. A piece is memory that one buffer, or several that share
it in place (from byte `at` of it on), hold; its parts (byte offset in the piece, bytes, first moment, last moment) may
live for different times.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from . import plan
from .loop_verify import root, uses
from .loops import Function, Program, RowGroup, Written

FORMAT = 1


def make(p: Program) -> dict:
    """The certificate of a planned program: JSON-ready, sizes and offsets in bytes."""
    found = plan.items(p)
    pieces = [{"offset": p.buffers[i.buffers[0]].offset - i.at[0], "align": i.align,
               "parts": sorted([x.offset, x.size, x.start, x.end] for x in i.parts)} for i in found]
    buffers = [{"name": name, "place": p.buffers[name].place, "bytes": p.buffers[name].nbytes, "piece": k, "at": at}
               for k, i in enumerate(found) for name, at in zip(i.buffers, i.at, strict=True)]
    piece = {b["name"]: b["piece"] for b in buffers}
    inputs, outputs = (_ram(p, names) for names in (() if p.rowwise else p.inputs, p.outputs))
    state = [b["name"] for b in buffers if b["place"] == "state"]
    born, steps = Written([*inputs, *state]), []
    for s in p.steps:
        born.enter(s.control)
        steps.append(_step(p, s, born.now, piece))
        born.now.update(steps[-1]["writes"])
    return {"format": FORMAT, "name": p.name, "arena_bytes": p.arena_bytes,
            "arenas": [[a.offset, a.nbytes] for a in p.arenas] or [[0, p.arena_bytes]], "lower_bound": _bound(p, pieces, buffers),
            "inputs": inputs, "outputs": outputs, "state": state, "pieces": pieces, "buffers": buffers, "steps": steps}


def text(certificate: Mapping) -> str:
    """plan.json: one line for each piece, buffer, step and group."""
    def lines(value, indent: str) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            inner = indent + " "
            return "[\n" + ",\n".join(inner + entry(v, inner) for v in value) + "\n" + indent + "]"
        return json.dumps(value, separators=(",", ":"))

    def entry(value: Mapping, indent: str) -> str:
        return "{" + ", ".join(f"{json.dumps(k)}: {lines(v, indent)}" for k, v in value.items()) + "}"

    return "{\n" + ",\n".join(f" {json.dumps(k)}: {lines(v, ' ')}" for k, v in certificate.items()) + "\n}\n"


def _ram(p: Program, names) -> list[str]:
    """The roots of those buffers that are in RAM, each once, in order."""
    roots = dict.fromkeys(root(p, n).name for n in names)
    return [n for n in roots if p.buffers[n].place in plan.RAM_PLACES]


def _step(p: Program, s: Function, born: set[str], piece: Mapping[str, int]) -> dict:
    touched = _ram(p, plan.touched(s.body))
    reads = [n for n in touched if n in born]
    made = {"name": s.name, "origin": list(s.origin), "ticks": s.ticks, "reads": reads}
    if not s.groups:
        written = uses(p, s).writes
        writes = [n for n in touched if n not in born or n in written]

        def shared(pairs) -> list[list]:
            named = [[root(p, o).name, root(p, i).name, *lead] for o, i, *lead in pairs]
            return [x for x in named if x[0] in writes and x[1] in reads and piece[x[0]] == piece[x[1]]]

        more = {"trailing": shared(s.trailing)} if s.trailing else {}
        return made | {"writes": writes, "inplace": shared(s.inplace)} | more | ({"control": s.control} if s.control else {})
    streamed, taken = {g.output for g in s.groups}, {g.takes for g in s.groups}
    if s.repeat is not None:
        made["repeat"] = s.repeat
    return made | {"writes": [n for n in touched if n in streamed and n not in born],
                   "working": [n for n in touched if n not in streamed and n not in born and n not in taken],
                   "groups": [_group(g) for g in s.groups], "order": list(s.order)}


def _group(g: RowGroup) -> dict:
    more = {"takes": g.takes} if g.takes else {"slides": True} if g.slides else {}
    return {"output": g.output, "ring": g.ring, "rows": g.rows, "row_bytes": g.row_bytes, "reduces": g.reduces, **more,
            "reads": [dict(vars(r)) for r in g.reads]}


def _bound(p: Program, pieces: list[dict], buffers: list[dict]) -> dict:
    """The largest sum of live bytes, the first moment at which it is reached, and what is alive then, largest first."""
    at, starts = 0, []
    for s in p.steps:
        starts.append(at)
        at += s.ticks
    change = [0] * (max(at, 1) + 1)
    for x in pieces:
        for _, size, first, last in x["parts"]:
            change[first] += size
            change[last + 1] -= size
    total, best, moment = 0, 0, 0
    for k, c in enumerate(change):
        total += c
        if total > best:
            best, moment = total, k
    alive = []
    for k, x in enumerate(pieces):
        size = sum(size for _, size, first, last in x["parts"] if first <= moment <= last)
        if size:
            alive.append({"buffers": [b["name"] for b in buffers if b["piece"] == k], "bytes": size})
    alive.sort(key=lambda a: (-a["bytes"], a["buffers"]))
    step = max((k for k, start in enumerate(starts) if start <= moment), default=None)
    return {"bytes": best, "moment": moment, "step": None if step is None else p.steps[step].name,
            "tick": 0 if step is None else moment - starts[step], "alive": alive}
