"""int16 activations: quantised here, absorbed, the same in the reference and the C; near onnxruntime."""

import numpy as np
import pytest
from test_quantize import normal, samples, snr, tiny

from edgec import board, host, onnx_run, pipeline, reference
from edgec.data import as_model_input
from edgec.onnx_out import to_onnx
from edgec.quantisation.quantise import quantise_model
from edgec.quantisation.recipe import IMPROVEMENTS, Recipe
from edgec.quantisation.simulate import Simulator, float_values


def network():
    """Dense, strided, depthwise and 1x1 convolutions, a residual sum, moves, a Gemm, and int8 around them."""
    return tiny(
        [("Conv", ["x", "w1", "b1"], "a", {"pads": [1, 1, 1, 1]}), ("Relu", ["a"], "a2", {}),
         ("Conv", ["a2", "w2", "b2"], "d", {"pads": [1, 1, 1, 1], "group": 6}), ("Relu", ["d"], "d2", {}),
         ("Conv", ["d2", "w3", "b1"], "e", {}), ("Add", ["e", "a2"], "s", {}), ("Relu", ["s"], "s2", {}),
         ("MaxPool", ["s2"], "p", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
         ("AveragePool", ["p"], "v", {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1]}),
         ("Conv", ["v", "w4", "b4"], "f", {"strides": [2, 2]}), ("Flatten", ["f"], "g", {}),
         ("Gemm", ["g", "w5", "b5"], "h", {}), ("Softmax", ["h"], "y", {})],
        {"x": (1, 3, 6, 6)},
        {"w1": normal(6, 3, 3, 3), "b1": normal(6), "w2": normal(6, 1, 3, 3), "b2": normal(6), "w3": normal(6, 6, 1, 1),
         "w4": normal(4, 6, 2, 2), "b4": normal(4), "w5": normal(36, 5), "b5": normal(5)})


WIDE = {f"the_{n}": "16x8" for n in ("d", "e", "s", "v", "f", "h")}


def compiled(graph):
    return pipeline.run_passes(graph, pipeline.SIMPLIFY + pipeline.ABSORB + pipeline.LAYOUT)


@pytest.mark.parametrize("bits", [WIDE, {"the_e": "16x8"}, {"the_s": "16x8"}, {"the_f": "16x8", "the_h": "16x8"}])
def test_wide_networks_are_integer_and_the_same_everywhere(bits, tmp_path):
    g = network()
    data = samples(g, 12)
    q = quantise_model(g, data, Recipe("minmax", without=IMPROVEMENTS, bits=bits)).graph
    assert any(t.type.dtype == "int16" for t in q.tensors.values())
    c = pipeline.compile_graph(q, board.load("host"), name="wide")
    assert not any(n.op in ("QuantizeLinear", "DequantizeLinear") for n in c.graph.nodes)
    path = tmp_path / "p"
    for name, text in c.files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    model = host.load(path)
    ort = onnx_run.reference(to_onnx(q)).run
    off = 0
    for sample in [as_model_input(data, q)[k] for k in range(len(data))]:
        want = reference.run(c.graph, sample)["y"]
        np.testing.assert_array_equal(model.run([sample["x"]])[0].reshape(want.shape), want)
        off = max(off, np.abs(ort(sample)[0].astype(int) - want.astype(int)).max())
    assert off <= 1


def test_sixteen_bits_are_better_than_eight():
    """At the last tensor that is wide; both have int8 inputs."""
    g = network()
    data = samples(g, 12)
    want = float_values(g, data, ["f"])["f"]
    found = []
    for bits in ({}, WIDE):
        q = quantise_model(g, data, Recipe("minmax", without=IMPROVEMENTS, bits=bits)).graph
        found.append(snr(want, Simulator(data, g, {}).values(q, ["f"])["f"].reshape(want.shape)))
    assert found[1] > found[0] + 2


def test_each_wide_operator_is_within_one_step_of_onnxruntime():
    """Fed with onnxruntime's own tensors."""
    g = network()
    data = samples(g, 12)
    q = quantise_model(g, data, Recipe("minmax", without=IMPROVEMENTS, bits=WIDE)).graph
    c = compiled(q)
    named = {t.source: n for n, t in c.tensors.items() if t.source}
    ort = onnx_run.reference(to_onnx(q), [s for s in named if s in q.tensors])
    worst, count = 0, 0
    for sample in [as_model_input(data, q)[k] for k in range(len(data))]:
        found = dict(zip(ort.names, ort.run(sample), strict=True)) | sample
        for node in c.nodes:
            types = [c.tensors[t] for t in (*node.inputs, *node.outputs) if t]
            known = all(t.data is not None or t.source in found for t in types)
            if c.type(node.outputs[0]).dtype != "int16" or not known:
                continue
            ins = [t.data if t.data is not None else _as(found[t.source], t) for t in (c.tensors[i] for i in node.inputs)]
            got = reference.run_node(c, node, ins)[0]
            want = _as(found[c.tensors[node.outputs[0]].source], c.tensors[node.outputs[0]])
            worst, count = max(worst, np.abs(got.astype(int) - want.astype(int)).max()), count + 1
    assert count >= 4 * 12 and worst <= 1


def _as(value, tensor):
    return (value.transpose(tensor.perm) if tensor.perm else value).reshape(tensor.type.shape)


