"""Weights of 4 and 2 bits in whole networks: packed in flash, the same numbers everywhere, bytes where speed is asked for."""
from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T, helper, numpy_helper
from test_quantize import normal, samples, tiny

from edgec import board, host, loop_interp, onnx_in, onnx_run, pipeline, reference
from edgec.data import as_model_input
from edgec.onnx_out import to_onnx
from edgec.quantisation.quantise import quantise_model
from edgec.quantisation.recipe import IMPROVEMENTS, Recipe

LAYERS = ("a", "b", "c", "h")


@pytest.fixture(scope="module")
def network():
    """A dense, a grouped and a pointwise convolution, and a Gemm."""
    return tiny(
        [("Conv", ["x", "w1", "b1"], "a", {"pads": [1, 1, 1, 1]}), ("Relu", ["a"], "a2", {}),
         ("Conv", ["a2", "w2"], "b", {"pads": [1, 1, 0, 0], "strides": [2, 2], "group": 2}), ("Relu", ["b"], "b2", {}),
         ("Conv", ["b2", "w3", "b3"], "c", {}), ("Flatten", ["c"], "g", {}), ("Gemm", ["g", "w5", "b5"], "h", {})],
        {"x": (1, 8, 8, 8)},
        {"w1": normal(8, 8, 3, 3), "b1": normal(8), "w2": normal(12, 4, 3, 3), "w3": normal(9, 12, 1, 1), "b3": normal(9),
         "w5": normal(144, 6), "b5": normal(6)})


def quantised(network, width):
    data = samples(network, 8)
    bits = {f"the_{n}": width for n in LAYERS}
    return quantise_model(network, data, Recipe("minmax", without=IMPROVEMENTS, bits=bits)).graph, data


def kernels(c):
    return [s["kernel"] for s in c.stats["steps"] if s["op"] in ("Conv", "Gemm")]


def checked(c, q, data, folder):
    """Reference, interpreter and C are one; within a step of onnxruntime."""
    for path, text in c.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    model, ort = host.load(folder, simd_on_host=True), onnx_run.reference(to_onnx(q)).run
    for k in range(len(data)):
        sample = as_model_input(data, q)[k]
        want = reference.run(c.graph, sample)[c.graph.outputs[0]].reshape(-1)
        np.testing.assert_array_equal(model.run([sample["x"]])[0].reshape(-1), want)
        np.testing.assert_array_equal(loop_interp.run(c.program, [sample["x"]])[0].reshape(-1), want)
        assert np.abs(ort(sample)[0].reshape(-1).astype(int) - want).max() <= 1


@pytest.mark.parametrize("goal", ["balanced", "ram"])
@pytest.mark.parametrize(("target", "suffix"), [("cortex-m4", "narrow_dsp"), ("host", "narrow")])
@pytest.mark.parametrize("width", ["8x4", "8x2"])
def test_packed_everywhere(network, tmp_path, width, target, suffix, goal):
    q, data = quantised(network, width)
    c = pipeline.compile_graph(q, board.load(target), goal=goal, name="few")
    assert goal == "ram" or kernels(c) == [f"{k}_s8_{suffix}" for k in ("conv", "conv", "conv", "fc")]
    checked(c, q, data, tmp_path)
    whole = pipeline.compile_graph(quantised(network, "8x8")[0], board.load(target), goal=goal, name="few")
    weights = 8 * 8 * 9 + 12 * 4 * 9 + 9 * 12 + 144 * 6
    saved = whole.stats["weights_bytes"] - c.stats["weights_bytes"]
    assert saved > 0.75 * weights * (8 - int(width[-1])) / 8


def test_bytes_for_speed_where_flash_allows(network, tmp_path):
    q, data = quantised(network, "8x4")

    def built(**options):
        return pipeline.compile_graph(q, board.load("cortex-m4"), goal="time", name="few", **options)

    fast = built()
    assert kernels(fast).count("conv_s8_narrow_dsp") == 1  # groups of few channels
    checked(fast, q, data, tmp_path)
    assert kernels(built(flash=33_000)).count("conv_s8_narrow_dsp") == 3
    offers = fast.stats["choices"]["offers"]
    assert {o["kernel"] for o in offers} == {"conv_s8_dsp", "wino_s8_dsp"} and all(o["taken"] for o in offers)


def test_pairs_for_speed_on_a_small_core(network):
    q, _ = quantised(network, "8x4")
    used = {
        g: " ".join(kernels(pipeline.compile_graph(q, board.load("cortex-m0"), goal=g, name="few"))) for g in ("balanced", "size")
    }
    assert used["balanced"].count("_pair") == 3 and used["size"].count("_narrow") == 4


def int4_model(kind):
    """DequantizeLinear of 4-bit weights, one scale per output channel -> Conv -> QuantizeLinear."""
    rng = np.random.default_rng(3)
    low, high, zero = {T.INT4: (-8, 8, 0), T.UINT4: (0, 16, 8)}[kind]
    number = numpy_helper.from_array
    w = helper.make_tensor("w", kind, (8, 8, 3, 3), rng.integers(low, high, 576).tolist())
    z = helper.make_tensor("w_z", kind, (8,), [zero] * 8)
    constants = [w, z, number(rng.uniform(0.01, 0.02, 8).astype(np.float32), "w_s"), number(np.float32(0.05), "x_s"),
                 number(np.int8(3), "x_z"), number(np.float32(0.2), "y_s"), number(np.int8(-5), "y_z")]
    nodes = [helper.make_node("DequantizeLinear", ["x", "x_s", "x_z"], ["xf"]),
             helper.make_node("DequantizeLinear", ["w", "w_s", "w_z"], ["wf"], axis=0),
             helper.make_node("Conv", ["xf", "wf"], ["f"], pads=[1, 1, 1, 1]),
             helper.make_node("QuantizeLinear", ["f", "y_s", "y_z"], ["y"])]
    info = helper.make_tensor_value_info
    g = helper.make_graph(nodes, "g", [info("x", T.INT8, (1, 8, 6, 6))], [info("y", T.INT8, (1, 8, 6, 6))], constants)
    return helper.make_model(g, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("kind", [T.INT4, T.UINT4])
def test_four_bit_models_take_the_same_kernels(kind, tmp_path):
    model = int4_model(kind)
    onnx.checker.check_model(model)
    graph = onnx_in.from_model(model, "m")
    c = pipeline.compile_graph(graph, board.load("cortex-m4"), name="few")
    assert kernels(c) == ["conv_s8_narrow_dsp"] and c.stats["weights_bytes"] < 576 // 2 + 8 * 8 + 64
    for path, text in c.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    x = np.random.default_rng(0).integers(-128, 128, (1, 8, 6, 6)).astype(np.int8)
    got = host.load(tmp_path, simd_on_host=True).run([x])[0].reshape(-1).astype(int)
    assert np.abs(got - onnx_run.reference(model).run({"x": x})[0].reshape(-1)).max() <= 1
