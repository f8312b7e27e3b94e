"""Functions of one tensor as several nodes: one table in int8; a transformer block without float."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_quantize import normal, samples, snr, tiny

from edgec import board, host, onnx_in, pipeline, reference
from edgec.data import Dataset, as_model_input
from edgec.passes import absorb, functions
from edgec.quantisation.quantise import quantise_model
from edgec.quantisation.recipe import IMPROVEMENTS, Recipe
from edgec.quantisation.simulate import float_values

PLAIN = Recipe("minmax", without=IMPROVEMENTS)
NUMBERS = {
    "half": np.float32(0.5),
    "one": np.float32(1),
    "root": np.float32(2**0.5),
    "three": np.float32(3),
    "zero": np.float32(0),
    "six": np.float32(6),
}
FUNCTIONS = {
    "gelu": [
        ("Div", ["a", "root"], "u", {}),
        ("Erf", ["u"], "v", {}),
        ("Add", ["v", "one"], "w", {}),
        ("Mul", ["a", "w"], "k", {}),
        ("Mul", ["k", "half"], "f", {}),
    ],
    "silu": [("Sigmoid", ["a"], "u", {}), ("Mul", ["a", "u"], "f", {})],
    "hard swish": [
        ("Add", ["a", "three"], "u", {}),
        ("Clip", ["u", "zero", "six"], "v", {}),
        ("Mul", ["a", "v"], "w", {}),
        ("Div", ["w", "six"], "f", {}),
    ],
}


def network(nodes, outputs=()):
    """A convolution, the function of its output, another convolution."""
    return tiny([("Conv", ["x", "w1", "b1"], "a", {"pads": [1, 1, 1, 1]}), *nodes, ("Conv", ["f", "w2"], "y", {}), *outputs],
                {"x": (1, 3, 6, 6)}, {"w1": normal(6, 3, 3, 3), "b1": normal(6), "w2": normal(4, 6, 1, 1), **NUMBERS})


def written(c, folder):
    for path, text in c.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_one_table(name, tmp_path):
    g = network(FUNCTIONS[name])
    data = samples(g, 12)
    done = quantise_model(g, data, PLAIN)
    c = pipeline.compile_graph(done.graph, board.load("host"), name="t")
    assert [n.op for n in c.graph.nodes if n.op != "Transpose"] == ["Conv", "edgec.Lut", "Conv"] and not done.summary.float_nodes
    sample = as_model_input(data, done.graph)[0]
    got = host.load(written(c, tmp_path)).run([sample["x"]])[0]
    np.testing.assert_array_equal(got.reshape(-1), reference.run(c.graph, sample)["y"].reshape(-1))
    lut = next(n for n in c.graph.nodes if n.op == "edgec.Lut")
    x, y = c.graph.type(lut.inputs[0]).q, c.graph.type(lut.outputs[0]).q
    real = ((np.arange(-128, 128) - int(x.zero_point)) * np.float32(x.scale)).astype(np.float32).reshape(1, 1, 16, 16)
    values = float_values(tiny(FUNCTIONS[name], {"a": (1, 1, 16, 16)}, NUMBERS), Dataset({"a": real[None]}, None, ""), ["f"])["f"]
    want = np.clip(values.reshape(-1) / float(y.scale) + int(y.zero_point), -128, 127)
    assert np.abs(c.graph.const(lut.inputs[1]) - want).max() <= 0.51  # one rounding


def test_what_others_read_is_no_part_of_a_function():
    nodes = [("Sigmoid", ["a"], "u", {}), ("Mul", ["a", "u"], "f", {}), ("Conv", ["u", "w2"], "z", {})]
    assert functions.functions(network(nodes), lambda n: True) == []
    two = [("Sigmoid", ["a"], "u", {}), ("Conv", ["a", "w3"], "v", {}), ("Mul", ["u", "v"], "f", {})]
    g = tiny([("Conv", ["x", "w1"], "a", {}), *two], {"x": (1, 3, 6, 6)}, {"w1": normal(6, 3, 1, 1), "w3": normal(6, 6, 1, 1)})
    assert functions.functions(g, lambda n: True) == []
    found = functions.functions(network(FUNCTIONS["silu"]), lambda n: True)
    assert [(tuple(n.op for n in f.nodes), f.leaf) for f in found] == [(("Sigmoid", "Mul"), "a")]


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0"])
def test_a_transformer_block_without_float(target, tmp_path):
    g = pipeline.simplify(onnx_in.load(Path(__file__).with_name("exported") / "transformer.onnx"))
    (name,) = g.inputs
    rng = np.random.default_rng(0)
    data = Dataset({name: rng.normal(size=(40, *g.type(name).shape)).astype(np.float32)}, None, "")
    done = quantise_model(g, data, PLAIN)
    c = pipeline.compile_graph(done.graph, board.load(target), name="t")
    assert not done.summary.float_nodes and not absorb.islands(c.graph)
    assert not any(t.type.dtype.startswith("float") for t in c.graph.tensors.values() if t.data is None)
    (out,) = g.outputs
    want = float_values(g, data, [out])[out]
    run = host.load(written(c, tmp_path), simd_on_host=True).run
    q = c.graph.type(c.graph.outputs[0]).q
    got = []
    for k in range(len(data)):
        sample = as_model_input(data, done.graph)[k]
        y = run([sample[name]])[0].reshape(want.shape[1:])
        np.testing.assert_array_equal(y, reference.run(c.graph, sample)[c.graph.outputs[0]])
        got.append((y.astype(np.float32) - float(q.zero_point)) * float(q.scale))
    assert snr(want, np.stack(got)) > 25
