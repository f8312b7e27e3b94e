"""Real networks: the graph's integer operators against onnxruntime, and the lowered program against the graph."""
from __future__ import annotations

import numpy as np
import pytest
from networks import NETWORKS, Inner, final_graph, held, meaningful, samples

from edgec import loop_interp, loop_verify, lower, plan, plan_tie, reference

ARENAS = {"kws": 16100, "ic": 49200, "vww": 55400, "sww": 6700, "ad": 900}
# A mean of 64 values of one scale is an exact tie once in 64 times. onnxruntime decides those by the rounding errors of
# its float sums (neither up, down nor even), so for them a difference of one is right either way.
TIES = {"AveragePool"}


@pytest.mark.parametrize("name", NETWORKS)
def test_each_integer_operator_equals_onnxruntime(models, name):
    path = models / f"{name}_int8.onnx"
    graph, inner = final_graph(path), Inner(path)
    counts: dict[str, list[int]] = {}
    unmatched = []
    for x in samples(models, name, "int8")[:8]:
        values = inner(x.reshape(graph.type(graph.inputs[0]).shape))
        for node in graph.nodes:
            inputs = [held(graph, values, i) if i else None for i in node.inputs]
            expected = held(graph, values, node.outputs[0])
            if expected is None or any(v is None for v, i in zip(inputs, node.inputs, strict=True) if i):
                unmatched.append(node.op)
                continue
            got = reference.run_node(graph, node, inputs)[0]
            difference = np.abs(meaningful(graph, node.outputs[0], got.astype(int) - expected.astype(int)))
            assert difference.max() <= 1, (node.op, node.origin)
            total = counts.setdefault(node.op, [0, 0])
            total[0] += difference.size
            total[1] += int((difference != 0).sum())
    assert set(unmatched) <= {"Reshape", "Transpose"}
    for op, (elements, different) in counts.items():
        assert different <= elements * (0.02 if op in TIES else 0.001), (op, different, elements)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", ["int8", "fp32"])
def test_program_means_what_the_graph_means(models, name, kind):
    graph = final_graph(models / f"{name}_{kind}.onnx")
    program = lower.lower(graph, ("c99",))
    loop_verify.verify(program)
    program = plan.plan(program)
    plan_tie.certified(program)
    t = graph.type(graph.inputs[0])
    x = samples(models, name, kind)[0].reshape(t.shape).astype(t.dtype)
    got = loop_interp.run(program, [x])[0].reshape(-1)
    expected = reference.run(graph, {graph.inputs[0]: x})[graph.outputs[0]].reshape(-1)
    if kind == "int8":
        assert np.array_equal(got, expected)
    else:
        assert np.abs(got - expected).max() <= 1e-5 * np.ptp(expected)


@pytest.mark.parametrize("name", sorted(ARENAS))
def test_arena_is_the_lower_bound_and_within_the_budget(models, name):
    program = plan.plan(lower.lower(final_graph(models / f"{name}_int8.onnx"), ("c99",)))
    assert program.arena_bytes == program.lower_bound <= ARENAS[name]
