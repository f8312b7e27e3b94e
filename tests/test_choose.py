"""The choice of streamed layers: real plans from the fastest to the smallest, the cheapest that fits, and prices."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace

import pytest
from networks import final_graph

import edgec
from edgec import board, choose, cost, lower, onnx_in, pipeline, plan_tie, profile, remedies, stream, toolchain
from edgec.errors import BudgetError
from edgec.loops import Call, Const, For, Function, If, Load, Store, Var

M4 = board.load("cortex-m4")
LOWER = pipeline.lowering(M4, frozenset())


def quick(program):
    """A plan without a long search for offsets."""
    return pipeline.planned(program, 2000)


needs_qemu = pytest.mark.skipif(
    None in map(shutil.which, (toolchain.ARM_GCC, "qemu-system-arm")), reason="needs gcc and QEMU"
)


def plans(graph):
    return list(choose.choices(graph, LOWER, quick))


@pytest.mark.parametrize("name", ["kws", "ic"])
def test_choices_shrink_to_the_goal_ram(models, name):
    graph = final_graph(models / f"{name}_int8.onnx")
    found = plans(graph)
    arenas = [c.arena_bytes for c in found]
    assert len(found) >= 4 and arenas == sorted(set(arenas), reverse=True)
    assert not found[0].regions and arenas[-1] == quick(LOWER(graph, stream.regions(graph))).arena_bytes
    assert all(c.cycles > found[0].cycles for c in found[1:])
    for c in found:
        plan_tie.certified(c.program)
    for limit in (arenas[1], arenas[-1] + 700):
        fits = choose.fitting(graph, LOWER, quick, limit)
        assert fits.arena_bytes <= limit
        assert fits.cycles <= 1.005 * min(c.cycles for c in found if c.arena_bytes <= limit)
    nothing = choose.fitting(graph, LOWER, quick, 100)
    assert nothing.arena_bytes == arenas[-1]


def test_a_budget_takes_the_cheapest_plan_that_fits(models):
    graph, said = onnx_in.load(models / "ic_int8.onnx"), {}
    c = pipeline.compile_graph(graph, M4, ram=20_000, on_phase=lambda name, seconds, info: said.update({name: info}))
    assert 14_656 < c.program.arena_bytes <= 20_000
    assert "layers streamed" in said["choose"] and "% cycles" in said["choose"]
    smallest = pipeline.compile_graph(graph, M4, goal="ram").program
    assert cost.cycles(c.program) < cost.cycles(smallest)


def test_a_budget_that_nothing_fits(models, tmp_path):
    with pytest.raises(BudgetError, match="does not fit"):
        edgec.build(models / "kws_int8.onnx", ram=5000, out=tmp_path / "p", compile=False)


def test_cover_is_the_least_of_all_covers():
    """Against every path of a small graph of stretches."""

    def stretch(start, end, alive, region=None):
        return stream.Stretch(start, end, region, alive, start, end)

    found = [
        stretch(0, 1, 90),
        stretch(0, 2, 50),
        stretch(1, 2, 40),
        stretch(0, 3, 20),
        stretch(1, 3, 60),
        stretch(2, 3, 70),
    ]
    weights = [0.0, 5.0, 0.0, 20.0, 3.0, 0.0]

    def paths(at):
        return [()] if at == 3 else [(s, *p) for s in found if s.start == at for p in paths(s.end)]

    weight = {id(s): w for s, w in zip(found, weights, strict=True)}
    for limit in range(10, 100):
        got = stream.cover(found, weights, limit)
        under = [p for p in paths(0) if max(s.alive for s in p) <= limit]
        if under:
            assert sum(weight[id(s)] for s in got) == min(sum(weight[id(s)] for s in p) for p in under)
        else:
            assert max(s.alive for s in got) == min(max(s.alive for s in p) for p in paths(0))


def test_features_count_what_loops_repeat():
    call = Call("conv_s8", {"out_w": 5, "out_c": 8, "in_c": 4, "kh": 3, "kw": 3, "groups": 1}, (), ())
    f = Function(
        "f",
        (
            For("i", Const(0), Const(6), (call,)),
            If(Var("c", "bool"), (Store("b", Const(0), Load("a", Const(1), "int8")),)),
        ),
    )
    found = cost.features(f)
    assert [found["conv_s8", t] for t in cost.TERMS] == [6, 6 * 5 * 36, 6 * 5 * 8, 6 * 5 * 8 * 36]
    assert found["loop", "call"] == 1 + (1 + 1 + 2) / 2


def test_ticks_of_streamed_steps_count_by_group(models):
    graph = final_graph(models / "kws_int8.onnx")
    rows = lower.lower(graph, M4.isa, stream.regions(graph))
    step = next(s for s in rows.steps if s.groups)
    found = cost.features(step)
    assert found["tick", "call"] == len(step.order) == step.ticks
    whole = sum((cost.features(s) for s in lower.lower(graph, M4.isa).steps), Counter())
    for kernel in ("conv_s8_dsp", "dwconv_s8_dsp"):  # the same work in both, call by call
        total = sum((cost.features(s) for s in rows.steps), Counter())
        assert total[kernel, "product"] == whole[kernel, "product"] > 0
    twice = replace(step, order=step.order[:-1], ticks=step.ticks - 1)
    assert cost.step_cycles(twice) < cost.step_cycles(step)


@needs_qemu
@pytest.mark.qemu
def test_the_model_is_near_the_profile(models, tmp_path):
    """Of two plans of one network, in cycles of the Cortex-M4."""
    ratios = []
    for goal in ("balanced", "ram"):
        built = edgec.build(models / "kws_int8.onnx", goal=goal, out=tmp_path / goal)
        compiled = pipeline.compile_graph(onnx_in.load(models / "kws_int8.onnx"), M4, goal=goal)
        ratios.append(cost.cycles(compiled.program) / profile.run(built.directory)["total"]["cost"])
    assert all(0.8 < r < 1.25 for r in ratios) and 0.9 < ratios[0] / ratios[1] < 1.1


def test_remedies_are_real_plans(models):
    compiled = pipeline.compile_graph(onnx_in.load(models / "kws_int8.onnx"), M4)
    found = remedies.remedies(compiled, M4, "balanced")
    assert all(r["arena_bytes"] == compiled.program.arena_bytes + r["change_bytes"] for r in found)
    last, pushed = found[-2:]
    assert last["option"] == "-O ram" and pushed["option"] == "--stream-input"
    assert pushed["change_bytes"] < last["change_bytes"] < -3_000
    assert last["what"].startswith("stream layers 0-9 (")
    again = pipeline.compile_graph(compiled.source, M4, ram=found[0]["arena_bytes"])
    assert again.program.arena_bytes <= found[0]["arena_bytes"]
    rows = pipeline.compile_graph(compiled.source, M4, goal="ram")
    assert remedies.present(rows.program)["rows over rows"] > 0
    assert any(r["change_bytes"] > 0 and r["change_cycles"] < 0 for r in remedies.remedies(rows, M4, "ram"))


def test_float_networks_are_offered_int8(models):
    result = edgec.analyze(models / "kws_fp32.onnx")
    (remedy,) = [r for r in result.report["remedies"] if r["option"].startswith("--data")]
    int8 = pipeline.compile_graph(onnx_in.load(models / "kws_int8.onnx"), M4).program.arena_bytes
    assert remedy["arena_bytes"] == int8 and remedy["change_cycles"] < -0.5
