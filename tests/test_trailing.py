"""Outputs that lie over their own input, a few rows before it: how far they must lead, and that plans say so."""
from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from networks import final_graph

from edgec import certificate, lower, onnx_in, pipeline, plan, plan_check, plan_tie
from edgec.board import load
from edgec.loop_interp import run
from edgec.ops.spatial import Reads, RowShape, _lead


def intact(shape: RowShape, images: int, rows: int, lead: int) -> bool:
    """Whether every row is read before it is overwritten, row by row on an array of names."""
    (r,) = shape.reads
    memory = np.full(lead + max(images * r.height * r.row, images * shape.height * shape.row), -1)
    memory[lead:lead + images * r.height * r.row] = np.arange(images * r.height * r.row)
    for b in range(images):
        for t in range(0, shape.height, rows):
            t = min(t, shape.height - rows)
            first, last = r.window(t)[0], r.window(t + rows - 1)[1]
            at = slice((b * r.height + first) * r.row, (b * r.height + last + 1) * r.row)
            made = slice((b * shape.height + t) * shape.row, (b * shape.height + t + rows) * shape.row)
            for _ in "before", "after":  # a call may write while it reads
                if at.start < at.stop and (memory[lead + at.start:lead + at.stop] != np.arange(at.start, at.stop)).any():
                    return False
                memory[made] = -2
    return True


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_lead_is_enough_and_no_more(data):
    def draw(lo, hi):
        return data.draw(st.integers(lo, hi))

    kernel, stride, dilation, height = draw(1, 4), draw(1, 3), draw(1, 2), draw(1, 12)
    pad = draw(0, dilation * (kernel - 1))
    room = height + pad + draw(0, pad) - dilation * (kernel - 1) - 1
    if room < 0:
        return
    out = room // stride + 1
    shape = RowShape((Reads("x", kernel, stride, dilation, pad, height, draw(1, 9)),), out, draw(1, 9))
    images, rows = draw(1, 2), draw(1, min(out, 3))
    lead = _lead(shape, images, rows)
    assert intact(shape, images, rows, lead)
    in_size = height * shape.reads[0].row
    if 0 < lead < images * in_size and dilation == stride == 1:  # every row is read, so one element less meets one
        assert not intact(shape, images, rows, lead - 1)


@pytest.fixture(scope="module")
def program(models):
    return pipeline.compile_graph(onnx_in.load(models / "vww_int8.onnx"), load("cortex-m4"), goal="time").program


def test_a_plan_that_leads_too_little_is_refused(program):
    made = certificate.make(program)
    trailing = [(s, pair) for s in made["steps"] for pair in s.get("trailing", ())]
    assert trailing
    for _, (out, into, _) in trailing:
        for name, by in ((out, 4), (into, -4)):
            wrong = copy.deepcopy(made)
            next(b for b in wrong["buffers"] if b["name"] == name)["at"] += by
            with pytest.raises(plan_check.PlanError):
                plan_check.check(wrong)
        wrong = copy.deepcopy(made)
        for s in wrong["steps"]:
            s["trailing"] = [[o, i, max(n - 4, 0)] for o, i, n in s["trailing"]] if "trailing" in s else []
        with pytest.raises(plan_tie.PlanError):
            plan_tie.check(program, wrong)


def test_trailing_outputs_have_the_same_bits(models):
    """The interpreter on the planned arena against the one whose buffers lie apart."""
    graph = final_graph(models / "ic_int8.onnx")
    p = lower.lower(graph, ("c99",))
    apart = replace(p, steps=tuple(replace(s, trailing=()) for s in p.steps))
    planned, free = plan.plan(p), plan.plan(apart)
    assert planned.arena_bytes < 0.8 * free.arena_bytes
    x = np.random.default_rng(0).integers(-128, 128, graph.type(graph.inputs[0]).shape).astype(np.int8)
    for a, b in zip(run(planned, [x]), run(free, [x]), strict=True):
        np.testing.assert_array_equal(a, b)
