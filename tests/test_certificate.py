"""plan.json holds for every network and for random streamed graphs, and the checker notices what is wrong in one."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from networks import NETWORKS, final_graph
from random_graphs import all_regions, graphs

import edgec
from edgec import board, certificate, lower, onnx_in, pipeline, plan, plan_check, plan_tie, stream
from edgec.errors import ValidationError


def program_of(graph, regions):
    return plan.plan(lower.lower(graph, board.load("cortex-m4").isa, regions))


@pytest.fixture(scope="module")
def ic(models):
    """ResNet-8 as one region: 3 x 3 layers, strides, two residual branches, a pool."""
    graph = final_graph(models / "ic_int8.onnx")
    return certificate.make(program_of(graph, stream.regions(graph)))


def refused(wrong, text="."):
    with pytest.raises(plan_check.PlanError, match=text):
        plan_check.check(wrong)


@pytest.mark.parametrize("kind", ["int8", "fp32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_plans_of_networks_hold(models, name, kind):
    graph = final_graph(models / f"{name}_{kind}.onnx")
    for regions in ((), stream.regions(graph)):
        program = program_of(graph, regions)
        made = plan_tie.certified(program)
        assert json.loads(certificate.text(made)) == made
        assert made["lower_bound"]["bytes"] == program.lower_bound <= program.arena_bytes == made["arena_bytes"]


@settings(
    max_examples=40, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate)
)  # shrinking takes minutes
@given(graphs())
def test_plans_of_random_graphs_hold(graph):
    for regions in ((), *((r,) for r in all_regions(graph))):
        plan_tie.certified(program_of(graph, regions))


def test_any_piece_that_moves_is_noticed(ic):
    """At the lower bound nothing has room to go, so that every piece alive there is where it must be."""
    assert ic["arena_bytes"] == ic["lower_bound"]["bytes"]
    now = ic["lower_bound"]["moment"]
    for k, piece in enumerate(ic["pieces"]):
        if any(first <= now <= last for _, _, first, last in piece["parts"]):
            for by in (-piece["align"], piece["align"]):
                wrong = copy.deepcopy(ic)
                wrong["pieces"][k]["offset"] += by
                refused(wrong)


def test_an_offset_that_is_not_aligned_is_noticed(ic):
    wrong = copy.deepcopy(ic)
    wrong["pieces"][0]["offset"] += 1
    refused(wrong, "aligned")


def test_a_shorter_ring_is_noticed(ic):
    (step,) = [s for s in ic["steps"] if "groups" in s]
    rings = {g["output"]: g["ring"] for g in step["groups"] if g["ring"] > 1}
    assert len(rings) > 5
    for name in rings:
        wrong = copy.deepcopy(ic)
        for g in next(s for s in wrong["steps"] if "groups" in s)["groups"]:
            g["ring"] -= g["output"] == name
            for r in g["reads"]:
                r["ring"] -= r["buffer"] == name
        refused(wrong, "other data")


def test_ticks_in_another_order_are_noticed(ic):
    """A tick that reads what the one before it has made cannot go first."""
    at = next(k for k, s in enumerate(ic["steps"]) if "groups" in s)
    groups, order = ic["steps"][at]["groups"], ic["steps"][at]["order"]
    done, swaps = [0] * len(groups), 0
    for k, (a, b) in enumerate(zip(order, order[1:], strict=False)):
        row, made = done[a], groups[a]["output"]
        done[a] += 1
        if any(
            r["buffer"] == made and row == done[b] * r["stride"] - r["pad"] + (r["kernel"] - 1) * r["dilation"]
            for r in groups[b]["reads"]
            if b != a
        ):
            wrong = copy.deepcopy(ic)
            wrong["steps"][at]["order"][k : k + 2] = [b, a]
            refused(wrong, "other data|not alive")
            swaps += 1
    assert swaps > 50


@pytest.mark.parametrize("by", [-4, 4])
def test_a_wrong_lower_bound_is_noticed(ic, by):
    wrong = copy.deepcopy(ic)
    wrong["lower_bound"]["bytes"] += by
    refused(wrong, "lower bound")


def test_a_lower_bound_of_things_that_need_not_be_alive_is_noticed(models):
    graph = final_graph(models / "kws_int8.onnx")
    wrong = certificate.make(program_of(graph, ()))
    last = sum(s["ticks"] for s in wrong["steps"]) - 1
    wrong["pieces"] = [p | {"parts": [[0, sum(x[1] for x in p["parts"]), 0, last]]} for p in wrong["pieces"]]
    at = 0
    for p in wrong["pieces"]:  # side by side, so that nothing else is wrong
        p["offset"] = -(-at // 16) * 16
        at = p["offset"] + p["parts"][0][1]
    wrong["arena_bytes"], wrong["arenas"] = at, [[0, at]]
    names = [[b["name"] for b in wrong["buffers"] if b["piece"] == k] for k in range(len(wrong["pieces"]))]
    wrong["lower_bound"] |= {
        "bytes": sum(p["parts"][0][1] for p in wrong["pieces"]),
        "alive": [{"buffers": n, "bytes": p["parts"][0][1]} for n, p in zip(names, wrong["pieces"], strict=True)],
    }
    refused(wrong, "need not be alive")


def test_a_life_that_ends_before_the_last_read_is_noticed(ic):
    for k in range(len(ic["pieces"])):
        wrong = copy.deepcopy(ic)
        part = max(wrong["pieces"][k]["parts"], key=lambda p: p[3])
        if part[3] > part[2] and any(b["place"] != "input" for b in ic["buffers"] if b["piece"] == k):
            part[3] -= 1
            refused(wrong)


def test_another_program_is_noticed(models):
    graph = final_graph(models / "kws_int8.onnx")
    program = program_of(graph, stream.regions(graph))
    made = plan_tie.certified(program)
    at = next(k for k, s in enumerate(program.steps) if s.groups)
    table = next(n for n in program.buffers if n.endswith("_order"))
    other_order = replace(program.buffers[table], data=program.buffers[table].data[::-1].copy())
    for other in (
        replace(program, steps=program.steps[:-1]),
        replace(program, arena_bytes=program.arena_bytes + 4),
        replace(program, buffers={**program.buffers, table: other_order}),
    ):
        with pytest.raises(plan_tie.PlanError):
            plan_tie.check(other, made)
    for key in ("kernel", "stride", "pad", "dilation", "height", "ring", "row_bytes"):
        wrong = copy.deepcopy(made)
        wrong["steps"][at]["groups"][1]["reads"][0][key] += 1
        with pytest.raises(plan_tie.PlanError):
            plan_tie.check(program, wrong)


def test_packages_carry_their_plan(models, tmp_path):
    graph = onnx_in.load(models / "kws_int8.onnx")
    c = pipeline.compile_graph(graph, board.load("cortex-m4"), goal="ram")
    assert json.loads(c.files["plan.json"]) == c.plan
    (tmp_path / "plan.json").write_text(c.files["plan.json"])
    alone = [sys.executable, "-I", plan_check.__file__, str(tmp_path / "plan.json")]
    assert subprocess.run(alone).returncode == 0
    (tmp_path / "plan.json").write_text(c.files["plan.json"].replace('"arena_bytes": ', '"arena_bytes": 1'))
    assert subprocess.run(alone, capture_output=True).returncode == 0  # more room harms nothing
    wrong = copy.deepcopy(c.plan)
    wrong["arena_bytes"] -= 4
    (tmp_path / "plan.json").write_text(json.dumps(wrong))
    assert subprocess.run(alone, capture_output=True).returncode != 0


def test_analyze_checks_a_package(models, tmp_path):
    out = tmp_path / "p"
    edgec.build(models / "kws_int8.onnx", out=out, goal="ram", compile=False)
    assert edgec.check(out)["rings"] >= 4
    path = out / "plan.json"
    path.write_text(path.read_text().replace('"ring": 3', '"ring": 2'))
    with pytest.raises(ValidationError, match="changed since"):
        edgec.check(out)
    assert edgec.analyze(models / "kws_int8.onnx", goal="ram", check=True).plan == edgec.check(rebuilt(models, out))


def rebuilt(models, out):
    edgec.build(models / "kws_int8.onnx", out=out, goal="ram", compile=False)
    return out
