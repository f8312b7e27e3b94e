"""Dead bytes may hold anything: in the interpreter on random graphs, in C on real networks; and a wrong plan shows."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from random_graphs import all_regions, graphs

import edgec
from edgec import board, certificate, host, loop_interp, lower, onnx_in, pipeline, plan
from edgec.poison import Poison

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


def interpreted(program, made, x, seed):
    """The outputs with poison in the dead bytes. The inputs are there before the first step alone."""
    poison, first = Poison(made, seed), []

    def watch(arena, step, tick):
        first.append(step)
        poison.after(arena, step, tick)

    found = loop_interp.run(program, [x], watch=watch)
    assert len(first) == sum(s.ticks for s in program.steps) + sum(1 for s in program.steps if s.groups)
    return np.concatenate(found)


@settings(max_examples=15, deadline=None, phases=PHASES)
@given(graphs())
def test_random_graphs_in_the_interpreter(graph):
    x = np.random.default_rng(1).normal(size=graph.type("x").shape).astype(np.float32)
    for regions in ((), *((r,) for r in all_regions(graph)[-2:])):
        program = plan.plan(lower.lower(graph, ("c99",), regions))
        clean = np.concatenate(loop_interp.run(program, [x]))
        assert np.array_equal(clean, interpreted(program, certificate.make(program), x, 0), equal_nan=True)


@pytest.fixture(scope="module")
def package(models, tmp_path_factory):
    """kws, streamed, for a core with SIMD instructions: its folder, its plan and a sample."""
    out = tmp_path_factory.mktemp("kws") / "p"
    edgec.build(models / "kws_int8.onnx", goal="ram", out=out, compile=False)
    return out, json.loads((out / "plan.json").read_text()), np.load(models / "kws.npz")["x_int8"][0].tobytes()


def test_shorter_lives_are_noticed(package):
    """Every ring slot and every tensor: were it dead a tick earlier, an output would change."""
    folder, made, x = package
    model = host.load(folder, simd_on_host=True)
    clean = model.run_bytes([x])
    noticed = total = 0
    for k, piece in enumerate(made["pieces"]):
        for j, (_, _, first, last) in enumerate(piece["parts"]):
            if first == last or not any(b["place"] == "arena" for b in made["buffers"] if b["piece"] == k):
                continue
            wrong = copy.deepcopy(made)
            wrong["pieces"][k]["parts"][j][3] -= 1
            total += 1
            noticed += any(model.run_bytes([x], Poison(wrong, seed)) != clean for seed in range(2))
    assert model.run_bytes([x], Poison(made, 0)) == clean
    assert noticed > 0.6 * total > 10  # some bytes carry too little to change a class score


def test_another_offset_is_noticed(package):
    """The C lies elsewhere than the plan says."""
    folder, made, x = package
    model = host.load(folder, simd_on_host=True)
    clean = model.run_bytes([x])
    k = max(range(len(made["pieces"])), key=lambda k: sum(p[1] for p in made["pieces"][k]["parts"]))
    wrong = copy.deepcopy(made)
    wrong["pieces"][k]["offset"] += 64 if wrong["pieces"][k]["offset"] == 0 else -64
    assert model.run_bytes([x], Poison(wrong, 0)) != clean


@pytest.mark.parametrize("name", ["kws", "ic", "sww"])
@pytest.mark.parametrize("goal", ["ram", "time"])
def test_networks_in_c(models, name, goal, tmp_path):
    c = pipeline.compile_graph(onnx_in.load(models / f"{name}_int8.onnx"), board.load("cortex-m4"), goal=goal)
    for path, text in c.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    model = host.load(tmp_path, simd_on_host=True)
    for x in np.load(models / f"{name}.npz")["x_int8"][:2]:
        clean = model.run_bytes([x.tobytes()])
        assert all(model.run_bytes([x.tobytes()], Poison(c.plan, seed)) == clean for seed in (0, 1))


def test_validate_poison(package, models):
    folder, made, _ = package
    assert edgec.validate(folder, samples=2, poison=True).report["poisoned_equal"] is True
    wrong = copy.deepcopy(made)
    rings = {g["output"] for s in made["steps"] for g in s.get("groups", ()) if g["ring"]}
    in_rings = {b["piece"] for b in made["buffers"] if b["name"] in rings}
    for piece in (wrong["pieces"][k] for k in in_rings):
        piece["parts"] = [[at, size, first, first] for at, size, first, _ in piece["parts"]]
    (folder / "plan.json").write_text(json.dumps(wrong))
    result = edgec.validate(folder, samples=2, poison=True)
    assert not result.ok and any("calls dead" in r for r in result.reasons)
    (folder / "plan.json").write_text(certificate.text(made))
