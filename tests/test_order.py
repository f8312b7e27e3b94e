"""The order of operators: as small a peak as any order has, and the same results."""
from __future__ import annotations

import numpy as np
from hypothesis import Phase, given, settings, strategies as st
from test_small_models import N, make, rand

from edgec import board, loop_interp, onnx_in, order, pipeline, reference
from edgec.ir import Graph, Node, Tensor, TensorType


def graph_of(sizes, reads):
    """A graph of Concat-like nodes: node k makes a tensor of sizes[k] bytes from those before it that it reads."""
    tensors = {"x": Tensor("x", TensorType("int8", (sizes[0],)))}
    nodes = []
    for k, (size, read) in enumerate(zip(sizes[1:], reads, strict=True)):
        tensors[f"t{k}"] = Tensor(f"t{k}", TensorType("int8", (size,)))
        nodes.append(Node("Concat", tuple("x" if r == 0 else f"t{r - 1}" for r in sorted(read)), (f"t{k}",), {"axis": 0}))
    return Graph("g", tuple(nodes), tensors, ("x",), (f"t{len(nodes) - 1}",))


def peak_of(graph):
    return order.section(graph, 0, len(graph.nodes), order.last_uses(graph)).peak()


def every_order(graph):
    """All topological orders of the nodes."""
    def extend(done, made):
        if len(done) == len(graph.nodes):
            yield tuple(done)
        for n in graph.nodes:
            if not any(n is d for d in done) and all(i in made for i in n.inputs):
                yield from extend([*done, n], made | set(n.outputs))
    return extend([], {"x"})


@settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.data())
def test_no_order_is_better(data):
    n = data.draw(st.integers(3, 7))
    sizes = [data.draw(st.integers(1, 40)) for _ in range(n + 1)]
    reads = [set(data.draw(st.lists(st.integers(0, k), min_size=1, max_size=3))) for k in range(n)]
    used = {r for read in reads for r in read}
    reads[-1] |= {k for k in range(1, n) if k not in used}  # the last one reads what nothing else does
    graph = graph_of(sizes, reads)
    found = order.smallest_peak(graph)
    assert sorted(n.outputs for n in found.nodes) == sorted(n.outputs for n in graph.nodes)
    assert peak_of(found) == min(peak_of(Graph("g", o, graph.tensors, graph.inputs, graph.outputs)) for o in every_order(graph))
    assert order.smallest_peak(found).nodes == found.nodes


def branches(count=6, channels=32):
    """Branches that each widen, then narrow; written breadth first, as some exporters do: all are wide at once."""
    nodes = [N("Conv", ["x", f"w{k}"], [f"a{k}"], name=f"widen{k}") for k in range(count)]
    nodes += [N("Conv", [f"a{k}", f"v{k}"], [f"b{k}"], name=f"narrow{k}", kernel_shape=[8, 8]) for k in range(count)]
    nodes.append(N("Concat", [f"b{k}" for k in range(count)], ["y"], axis=1))
    weights = {f"w{k}": rand(channels, 2, 1, 1) for k in range(count)} | {f"v{k}": rand(1, channels, 8, 8) for k in range(count)}
    return make(nodes, (1, 2, 8, 8), weights)


def test_branches_run_one_after_the_other():
    graph = onnx_in.from_model(branches(), "m")  # the same weights for both
    c = pipeline.compile_graph(graph, board.load("cortex-m4"), goal="time")
    wide = 32 * 8 * 8 * 4
    assert wide <= c.program.arena_bytes < 2 * wide
    x = rand(1, 2, 8, 8)
    expected = reference.run(graph, {"x": x})[c.graph.outputs[0]]
    np.testing.assert_allclose(loop_interp.run(c.program, [x])[0], expected.reshape(-1), rtol=1e-4, atol=1e-4)


def test_a_search_that_is_given_up_says_so(monkeypatch):
    monkeypatch.setattr(order, "MOST_WORK", 1)
    graph = order.smallest_peak(graph_of([8, 40, 40, 40, 1, 1, 1, 3], [{0}, {0}, {0}, {1}, {2}, {3}, {4, 5, 6}]))
    assert any("no order is known to be better" in n for n in graph.notes)
