"""Streaming: rows give the bits of whole tensors, rings hold every row that is read, arenas are as small as they should be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from networks import NETWORKS, final_graph, samples
from test_small_models import MODELS, quantised

from edgec import board, host, loop_interp, loop_verify, lower, onnx_in, order, pipeline, plan, plan_tie, stream

# At most these many bytes on a Cortex-M4, inputs, outputs and all scratch inside.
ARENAS = {"ic": 16500, "kws": 6500, "vww": 33500, "sww": 4600, "ad": 800, "ic_large": 43000}


def graph_of(model):
    return pipeline.run_passes(pipeline.simplify(onnx_in.from_model(model, "m")), pipeline.ABSORB + pipeline.LAYOUT)


def planned(graph, regions, isa=("c99",)):
    program = lower.lower(graph, isa, regions)
    loop_verify.verify(program)
    program = plan.plan(program)
    plan_tie.certified(program)
    return program


def widest(graph):
    """The longest region that the graph allows, whether it saves memory or not."""
    cuts, shapes, users = (
        order.cut_positions(graph, order.last_uses(graph)),
        [stream.shape_of(graph, n) for n in graph.nodes],
        graph.consumers(),
    )
    stretches = sorted(((b - a, a, b) for a in cuts for b in cuts if b > a and all(shapes[a:b])), reverse=True)
    for _, a, b in stretches:
        found = stream._region(graph, a, b, shapes, users, False)
        if found is not None:
            return (found[0],)
    return ()


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_stream_to_the_same_bits(models, name):
    graph = final_graph(models / f"{name}_int8.onnx")
    regions = stream.regions(graph)
    whole, rows = planned(graph, ()), planned(graph, regions)
    assert bool(regions) == (name != "ad")
    t = graph.type(graph.inputs[0])
    for x in samples(models, name, "int8")[:2]:
        x = x.reshape(t.shape)
        assert np.array_equal(loop_interp.run(whole, [x])[0], loop_interp.run(rows, [x])[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_arenas_of_networks(models, name):
    graph = final_graph(models / f"{name}_int8.onnx")
    program = planned(graph, stream.regions(graph), board.load("cortex-m4").isa)
    assert program.arena_bytes <= ARENAS[name]
    assert program.arena_bytes <= program.lower_bound + 4


@pytest.mark.parametrize("name", ["kws", "vww"])
def test_float_networks_gain_in_the_same_ratio(models, name):
    graph = final_graph(models / f"{name}_fp32.onnx")
    whole, rows = planned(graph, ()), planned(graph, stream.regions(graph))
    assert rows.arena_bytes < 0.52 * whole.arena_bytes
    x = samples(models, name, "fp32")[0].reshape(graph.type(graph.inputs[0]).shape)
    assert np.allclose(loop_interp.run(whole, [x])[0], loop_interp.run(rows, [x])[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", ["cortex-m3", "cortex-m4"])
@pytest.mark.parametrize("name", ["kws", "sww", "ic", "vww"])
def test_emitted_c_streams_to_the_same_bits(models, name, target, tmp_path):
    b = board.load(target)
    outputs = []
    for goal in ("time", "ram"):
        c = pipeline.compile_graph(onnx_in.load(models / f"{name}_int8.onnx"), b, goal=goal)
        for path, text in c.files.items():
            (tmp_path / goal / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / goal / path).write_text(text)
        h = host.load(tmp_path / goal, simd_on_host=b.simd)
        t = c.graph.type(c.graph.inputs[0])
        outputs.append([h.run([x.reshape(t.shape)])[0] for x in samples(models, name, "int8")[:4]])
    assert all(np.array_equal(a, b) for a, b in zip(*outputs, strict=True))


@pytest.mark.parametrize(
    "name", sorted(set(MODELS) - {"attention", "softmax_inner_axis", "gemm_general", "gemm_two_inputs", "matmul_batched"})
)
def test_small_float_models_as_one_region(name):
    graph = graph_of(MODELS[name]())
    regions = widest(graph)
    if not regions:
        return  # nothing in it runs by rows (a batch of two, Split ...): the other tests cover it
    whole, rows = planned(graph, ()), planned(graph, regions)
    x = np.random.default_rng(3).normal(size=graph.type("x").shape).astype(np.float32)
    for a, b in zip(loop_interp.run(whole, [x]), loop_interp.run(rows, [x]), strict=True):
        assert np.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["residual", "one_dimensional", "conv_depthwise", "average_pool_pads"])
def test_small_int8_models_as_one_region(name, tmp_path):
    graph = graph_of(quantised(MODELS[name](), tmp_path, "QDQ", "int8", "int8", True))
    regions = widest(graph)
    assert regions
    whole, rows = planned(graph, ()), planned(graph, regions)
    x = np.random.default_rng(3).normal(size=graph.type("x").shape).astype(np.float32)
    for a, b in zip(loop_interp.run(whole, [x]), loop_interp.run(rows, [x]), strict=True):
        assert np.array_equal(a, b)


def test_the_proof_notices_a_short_ring_and_the_checker_a_moved_one(models):
    graph = final_graph(models / "ic_int8.onnx")
    (region,) = stream.regions(graph)
    for tensor, depth in region.depth.items():
        if depth > 1:
            with pytest.raises(AssertionError):
                stream.prove(replace(region, depth={**region.depth, tensor: depth - 1}))
    program = planned(graph, (region,))
    name = max(
        (b for b in program.buffers.values() if b.place == "arena" and not b.alias and b.name in program.steps[0].spans),
        key=lambda b: b.offset,
    ).name
    moved = {**program.buffers, name: replace(program.buffers[name], offset=0)}
    with pytest.raises(plan_tie.PlanError):
        plan_tie.certified(replace(program, buffers=moved))


def test_balanced_streams_only_where_the_budget_asks(models):
    graph, m4 = onnx_in.load(models / "ic_int8.onnx"), board.load("cortex-m4")
    assert pipeline.compile_graph(graph, m4).program.arena_bytes > 30000
    assert pipeline.compile_graph(graph, m4, ram=20000).program.arena_bytes <= 20000
