"""Modelled cost of a program: cycles on a Cortex-M4, instructions for kernels that only other cores run.

A call of a kernel costs per_call + per_input * (elements gathered) + per_output * (elements made) + per_product *
(multiply or combine), with the numbers of step_costs.csv; generated loops cost a number per node of what they
evaluate; a tick of a streamed step costs one more. Good for comparing plans of one network, not for promises: `edgec
profile` measures. tests/benchmarks/cost_model.py fits the table to profiles of real networks.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path

from .loops import Call, Const, For, Function, If, Let, Program, Rows, Set, Store, tick_loop

TERMS = ("call", "input", "output", "product")
Features = (
    Counter  # (kernel, term) -> how often; kernels "loop" (nodes of generated loops) and "tick" have the term call
)


@cache
def table() -> Mapping[str, tuple[float, ...]]:
    """kernel -> cost of one of each of TERMS"""
    with open(Path(__file__).with_name("step_costs.csv"), encoding="utf-8", newline="") as f:
        rows = list(csv.reader(f))[1:]
    return {kernel: tuple(map(float, numbers)) for kernel, *numbers in rows}


def cycles(p: Program) -> float:
    """Of one run of the program."""
    return sum(step_cycles(f) for f in p.steps)


def step_cycles(f: Function) -> float:
    """Of one step, as often as a run executes it."""
    known = table()
    once = sum(n * known.get(kernel, known["other"])[TERMS.index(term)] for (kernel, term), n in features(f).items())
    return once * f.times


def features(f: Function) -> Features:
    """What a step does, as often as it does it."""
    found: Features = Counter()
    loop = tick_loop(f)
    for s in f.body:
        if s is not loop:
            _count((s,), 1, found)
    if loop is None:
        return found
    found["tick", "call"] += f.ticks
    turns, rest = Counter(f.order), loop.body
    for k in range(len(f.groups)):
        branch = next((s for s in rest if isinstance(s, If)), None) if k < len(f.groups) - 1 else None
        _count(branch.then if branch else rest, turns[k], found)
        rest = branch.orelse if branch else ()
    return found


def _count(body, times: float, found: Features) -> None:
    for s in body:
        match s:
            case For():
                known = isinstance(s.lo, Const) and isinstance(s.hi, Const)
                _count(s.body, times * (max(0, -(-(s.hi.value - s.lo.value) // s.step)) if known else 1), found)
            case If():
                found["loop", "call"] += times * _nodes(s.cond)
                _count(s.then, times / 2, found)
                _count(s.orelse, times / 2, found)
            case Let() | Set():
                found["loop", "call"] += times * _nodes(s.value)
            case Store():
                found["loop", "call"] += times * (1 + _nodes(s.index) + _nodes(s.value))
            case Call():
                for term, n in zip(TERMS, _work(s), strict=True):
                    found[s.kernel, term] += times * n


def _nodes(e) -> int:
    """Nodes of an expression."""
    inner = (getattr(e, f.name) for f in fields(e)) if is_dataclass(e) else e if isinstance(e, tuple) else ()
    return is_dataclass(e) + sum(_nodes(x) for x in inner)


def _work(s: Call) -> tuple[int, int, int, int]:
    """The TERMS of one call, from what its parameters are named."""
    p = s.params
    pixels = p.get("out_w", 1) * p.get("rows", 1) * p.get("out_n", 1) * p.get("out_lines", 1)
    window = p.get("kh", 1) * p.get("kw", 1)
    if "out_c" in p:
        taps = window * p["in_c"] // p.get("groups", 1)
        return 1, pixels * taps, pixels * p["out_c"], pixels * p["out_c"] * taps
    if "in_c" in p:
        made = pixels * p["in_c"] * p.get("mult", 1)
        rows = next((a.count for a in s.args if isinstance(a, Rows)), 1)
        return 1, p.get("in_w", 1) * p.get("in_n", 1) * p.get("in_lines", 1) * p["in_c"] * rows, made, made * window
    return 1, 0, p.get("n", 1), 0


def ticks(n: int) -> float:
    """Of n turns of the loop over ticks, with its tables and branches."""
    return n * table()["tick"][0]
