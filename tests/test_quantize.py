"""Calibration, quantisation to QDQ and the ONNX writer: rules on tiny graphs, accuracy on real networks."""

import os
import re
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings, strategies as st
from onnx import helper, numpy_helper

from edgec import onnx_in, onnx_run, pipeline
from edgec.data import Dataset, as_model_input, input_q, load
from edgec.errors import ModelError, UnsupportedError, UsageError
from edgec.fixed import dequantise, quantise
from edgec.ir import Graph, Node, QParams, Tensor, TensorType, attrs
from edgec.onnx_out import to_onnx
from edgec.onnx_run import reference
from edgec.quantisation.quantise import measured, quantise_model, quantize, report
from edgec.quantisation.ranges import Range, collect
from edgec.quantisation.recipe import IMPROVEMENTS, Recipe
from edgec.quantisation.scales import MAX_BIAS, activation_q, weight_q
from edgec.quantisation.statistics import BINS

REPO = Path(__file__).resolve().parents[1]
MODELS = Path(os.environ.get("EDGEC_MODELS", REPO.parent / "shared" / "models"))
RNG = np.random.default_rng(11)
BOTH = ("QuantizeLinear", "DequantizeLinear")


def normal(*shape, scale=1.0):
    return (RNG.standard_normal(shape) * scale).astype(np.float32)


def tiny(nodes, inputs, constants, outputs=None, opset=17) -> Graph:
    """nodes: (op, inputs, output, attributes); named after their outputs. inputs: name -> shape."""
    made = [helper.make_node(op, i, o.split(), name=f"the_{o.split()[0]}", **a) for op, i, o, a in nodes]
    outputs = outputs or [nodes[-1][2].split()[0]]
    given = {n: helper.make_tensor_value_info(n, 1, s) for n, s in inputs.items()}
    graph = helper.make_graph(
        made,
        "tiny",
        list(given.values()),
        [given.get(o, onnx.ValueInfoProto(name=o)) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
    )
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))
    return onnx_in.from_model(model, "tiny")


def quantize_model(graph: Graph, data: Dataset, calibration="minmax", io="int8", progress=None):
    """Without improvements: weights are the nearest integers."""
    done = quantise_model(graph, data, Recipe(calibration, io, without=IMPROVEMENTS), progress=progress)
    return done.graph, done.summary


def samples(graph: Graph, n=40, scale=1.0) -> Dataset:
    return Dataset({i: normal(n, *graph.type(i).shape, scale=scale) for i in graph.inputs}, None, "random")


def outputs(graph: Graph, data: Dataset) -> np.ndarray:
    """The first output on every sample, as reals."""
    run = reference(to_onnx(graph)).run
    y = np.stack([run(s)[0] for s in as_model_input(data, graph)])
    return dequantise(y, parameters(graph, graph.producers()[graph.outputs[0]])) if y.dtype == np.int8 else y


def parameters(graph: Graph, node: Node) -> QParams:
    """Of a QuantizeLinear or DequantizeLinear."""
    return QParams.of(graph.const(node.inputs[1]), graph.const(node.inputs[2]).astype(np.int32), node.attrs.get("axis"))


def behind(graph: Graph, tensor: str) -> QParams | None:
    """The parameters with which a tensor is quantised where it is made; None: it is not."""
    found = [n for n in graph.nodes if n.op == "QuantizeLinear" and n.inputs[0] in (tensor, f"{tensor}/f")]
    assert len(found) <= 1
    return parameters(graph, found[0]) if found else None


def constant_of(graph: Graph, node: Node, k: int) -> tuple[np.ndarray, QParams]:
    """The integers and parameters of a constant input."""
    dq = graph.producers()[node.inputs[k]]
    assert dq.op == "DequantizeLinear"
    return graph.const(dq.inputs[0]), parameters(graph, dq)


def one(graph: Graph, op: str) -> Node:
    found = [n for n in graph.nodes if n.op == op]
    assert len(found) == 1
    return found[0]


def snr(want: np.ndarray, got: np.ndarray) -> float:
    noise = np.sum((got.astype(np.float64) - want) ** 2)
    return float(10 * np.log10(np.sum(want.astype(np.float64) ** 2) / noise)) if noise else np.inf


def check(graph: Graph, data: Dataset | None = None, least=30.0, **options) -> Graph:
    """Quantises, runs both, demands a signal to noise ratio in dB. Returns the quantised graph."""
    data = data or samples(graph)
    q, _ = quantize_model(graph, data, **options)
    want = outputs(graph, data)
    assert snr(want, outputs(q, data).reshape(want.shape)) > least
    return q


# ---- scales ----

REALS = st.floats(-1e6, 1e6, width=32)


@given(REALS, REALS, st.floats(0, 1))
def test_an_activation_is_off_by_half_a_step_at_most(a, b, at):
    lo, hi = sorted((a, b))
    q = activation_q(lo, hi)
    x = np.float32(lo + (hi - lo) * at)
    assert abs(float(dequantise(quantise(x, q), q)) - float(x)) <= float(q.scale) / 2 * (1 + 1e-4)
    assert float(dequantise(quantise(np.float32(0), q), q)) == 0.0


def test_the_ends_of_int8_are_used():
    q = activation_q(-1.0, 2.0)
    assert quantise(np.float32([-1, 2]), q).tolist() == [-128, 127]
    assert int(activation_q(0.0, 5.0).zero_point) == -128 and int(activation_q(-5.0, 0.0).zero_point) == 127
    assert int(activation_q(2.0, 5.0).zero_point) == -128  # zero is part of the range


def test_a_range_of_zeros_has_scale_one():
    q = activation_q(0.0, 0.0)
    assert float(q.scale) == 1.0 and quantise(np.float32(0), q) == int(q.zero_point)


@given(st.lists(REALS, min_size=6, max_size=6), st.sampled_from([None, 0, 1]))
def test_a_weight_is_off_by_half_a_step_at_most(values, axis):
    w = np.array(values, np.float32).reshape(2, 3)
    q = weight_q(w, axis)
    shape = [1, 1]
    if q.axis is not None:
        shape[q.axis] = -1
    steps = np.rint(w / q.scale.astype(np.float64).reshape(shape))
    assert np.abs(steps).max() <= 127 and (q.zero_point == 0).all()
    assert (np.abs(steps * q.scale.reshape(shape) - w) <= q.scale.reshape(shape) / 2 * (1 + 1e-4)).all()


def test_a_channel_of_zeros_keeps_its_bias():
    w = np.array([[1.27, 0], [0, 0], [0.1, -0.5]], np.float32)
    np.testing.assert_allclose(weight_q(w, 0, np.ones(3), 0.1).scale, [0.01, 0.01, 0.5 / 127], rtol=1e-6)
    assert np.isfinite(weight_q(np.zeros((2, 2), np.float32), 0, np.ones(2), 0.1).scale).all()


def test_a_huge_bias_makes_the_weights_coarser():
    w, bias = np.full((2, 1), 1e-6, np.float32), np.array([1e4, 0.0])
    q = weight_q(w, 0, bias, input_scale=1e-3)
    assert bias[0] / (1e-3 * float(q.scale[0])) <= MAX_BIAS * (1 + 1e-6) and q.scale[1] == np.float32(1e-6 / 127)


# ---- structure of the QDQ form ----


def convolution(activation=("Relu", {}), more=(), **constants):
    op, a = activation
    limits = ["lo", "hi"] if op == "Clip" else []
    return tiny(
        [("Conv", ["x", "w", "b"], "c", {"pads": [1, 1, 1, 1]}), (op, ["c", *limits], "r", a), *more],
        {"x": (1, 3, 6, 5)},
        {
            "w": normal(4, 3, 3, 3) * np.float32([[[[1]]], [[[10]]], [[[0.1]]], [[[3]]]]),
            "b": normal(4),
            "lo": np.float32(0),
            "hi": np.float32(6),
            **constants,
        },
    )


def test_conv_and_relu_are_quantised_as_one():
    g = convolution()
    q = check(g)
    conv = one(q, "Conv")
    assert q.consumers()[conv.outputs[0]] == [one(q, "Relu")]
    assert behind(q, "c") is None and int(behind(q, "r").zero_point) == -128
    w, wq = constant_of(q, conv, 1)
    assert (
        w.dtype == np.int8
        and wq.axis == 0
        and (np.abs(w).reshape(4, -1).max(1) == 127).all()
        and not wq.zero_point.any()
    )
    np.testing.assert_array_equal(wq.scale, (np.abs(g.const("w")).reshape(4, -1).max(1) / 127).astype(np.float32))
    b, bq = constant_of(q, conv, 2)
    assert b.dtype == np.int32 and not bq.zero_point.any()
    np.testing.assert_array_equal(bq.scale, wq.scale * input_q(q, "x").scale)
    assert (np.abs(b * bq.scale - g.const("b")) <= bq.scale / 2 * (1 + 1e-4)).all()


def test_conv_and_clip_use_the_clipped_range():
    g = convolution(("Clip", {}), w=normal(4, 3, 3, 3))
    q = check(g, samples(g, scale=3.0))
    assert behind(q, "c") is None and float(behind(q, "r").scale) == pytest.approx(6 / 255)


def test_a_tensor_between_that_others_read_is_quantised():
    for g in (
        convolution(more=[("Add", ["c", "r"], "y", {})]),
        tiny([("Relu", ["x"], "c", {}), ("Sigmoid", ["c"], "y", {})], {"x": (1, 4)}, {}, ["y", "c"]),
    ):
        q = check(g)
        assert behind(q, "c") is not None


def test_int8_inputs_and_outputs():
    q = check(convolution(), io="int8")
    assert [q.type(n).dtype for n in (*q.inputs, *q.outputs)] == ["int8", "int8"]
    assert (q.inputs, q.outputs) == (("x",), ("r",))
    assert (
        q.consumers()["x"][0].op == "DequantizeLinear"
        and q.nodes[-1].op == "QuantizeLinear"
        and q.nodes[-1].outputs == ("r",)
    )
    assert len([n for n in q.nodes if n.op == "QuantizeLinear"]) == 1
    assert "int8" in q.notes[-1]


def test_float_inputs_and_outputs():
    q = check(convolution(), io="float32")
    assert [q.type(n).dtype for n in (*q.inputs, *q.outputs)] == ["float32", "float32"]
    assert (
        q.consumers()["x"][0].op == "QuantizeLinear"
        and q.nodes[-1].op == "DequantizeLinear"
        and q.nodes[-1].outputs == ("r",)
    )


@pytest.mark.parametrize("trans", [0, 1])
def test_gemm_scales_by_output(trans):
    w = normal(6, 3) * np.float32([1, 20, 0.1])
    g = tiny(
        [("Gemm", ["x", "w", "b"], "y", {"transB": trans}), ("Relu", ["y"], "r", {})],
        {"x": (1, 6)},
        {"w": np.ascontiguousarray(w.T) if trans else w, "b": normal(3)},
    )
    q = check(g)
    values, wq = constant_of(q, one(q, "Gemm"), 1)
    assert wq.axis == 1 - trans and (np.abs(values).max(axis=trans) == 127).all()
    np.testing.assert_array_equal(constant_of(q, one(q, "Gemm"), 2)[1].scale, wq.scale * input_q(q, "x").scale)


@pytest.mark.parametrize("bias", [normal(3), normal(1, 3), normal(1), np.float32(0.5)])
def test_matmul_add_and_relu_are_quantised_as_one(bias):
    g = tiny(
        [("MatMul", ["x", "w"], "m", {}), ("Add", ["b", "m"], "a", {}), ("Relu", ["a"], "r", {})],
        {"x": (1, 6)},
        {"w": normal(6, 3), "b": bias},
    )
    q = check(g)
    assert behind(q, "m") is None and behind(q, "a") is None and behind(q, "r") is not None
    values, wq = constant_of(q, one(q, "MatMul"), 1)
    assert wq.axis == 1 and (np.abs(values).max(axis=0) == 127).all()
    b, bq = constant_of(q, one(q, "Add"), 0)
    assert b.dtype == np.int32 and bq.scale.shape == (3,)
    assert (np.abs(b * bq.scale - bias) <= bq.scale / 2 * (1 + 1e-4)).all()


def test_an_add_that_is_no_bias():
    """A constant that differs along other axes."""
    for b in (normal(3, 3), normal(3, 1)):
        g = tiny(
            [("MatMul", ["x", "w"], "m", {}), ("Add", ["m", "b"], "y", {})], {"x": (3, 6)}, {"w": normal(6, 3), "b": b}
        )
        q = check(g)
        assert behind(q, "m") is not None
        assert constant_of(q, one(q, "Add"), 1)[0].dtype == np.int8


def test_matmul_of_two_tensors():
    g = tiny([("MatMul", ["x", "y"], "m", {}), ("Relu", ["m"], "r", {})], {"x": (1, 4, 5), "y": (1, 5, 4)}, {})
    q = check(g)
    assert behind(q, "m") is None and {q.type(n).dtype for n in q.inputs} == {"int8"}


def test_matmul_weights_without_a_kernel_of_their_own():
    """Three axes, and constants on the left: one scale for all."""
    g = tiny(
        [("MatMul", ["x", "w"], "m", {}), ("MatMul", ["v", "m"], "y", {})],
        {"x": (2, 3, 4)},
        {"w": normal(2, 4, 5), "v": normal(6, 3)},
    )
    q = check(g)
    first, second = (n for n in q.nodes if n.op == "MatMul")
    for node, k in ((first, 1), (second, 0)):
        values, wq = constant_of(q, node, k)
        assert values.dtype == np.int8 and wq.axis is None and np.abs(values).max() == 127


def test_a_graph_output_inside_a_group():
    g = tiny(
        [("Conv", ["x", "w"], "c", {}), ("Relu", ["c"], "r", {})],
        {"x": (1, 2, 4, 4)},
        {"w": normal(3, 2, 1, 1)},
        ["r", "c"],
    )
    for io, dtype in (("int8", "int8"), ("float32", "float32")):
        q = check(g, io=io)
        assert behind(q, "c") is not None and [q.type(o).dtype for o in q.outputs] == [dtype, dtype]


def test_moves_keep_the_scale():
    g = convolution(
        more=[
            ("MaxPool", ["r"], "p", {"kernel_shape": [2, 2]}),
            ("Transpose", ["p"], "t", {"perm": [0, 2, 3, 1]}),
            ("Flatten", ["t"], "f", {}),
            ("Slice", ["f", "from", "to"], "s", {}),
            ("Gemm", ["s", "v"], "y", {}),
        ],
        **{"from": np.array([0, 3]), "to": np.array([1, 33])},
        v=normal(30, 4),
    )
    q = check(g)
    for t in "ptfs":
        assert behind(q, t).same(behind(q, "r"))
    assert not behind(q, "y").same(behind(q, "r"))
    assert "p" not in measured(g) and "r" in measured(g)


def concat(*more, **constants):
    return tiny(
        [
            ("Relu", ["x"], "a", {}),
            ("Neg", ["x"], "b", {}),
            ("Reshape", ["b", "shape"], "c", {}),
            ("Concat", ["a", "c"], "y", {"axis": 1}),
            *more,
        ],
        {"x": (1, 6)},
        {"shape": np.array([1, 6]), **constants},
    )


def test_concat_gives_its_scale_to_its_inputs():
    q = check(concat())
    assert all(behind(q, t).same(behind(q, "y")) for t in "abc")


def test_concat_leaves_inputs_that_others_read():
    x = np.clip(normal(40, 1, 6), -1, 3)
    x[0, 0, :2] = -1, 3  # a in [0, 3], b in [-3, 1], y and o in [-3, 3]
    q = check(
        concat(("Sigmoid", ["b"], "z", {}), ("Concat", ["y", "z"], "o", {"axis": 1})), Dataset({"x": x}, None, "")
    )
    assert not behind(q, "b").same(behind(q, "y"))
    assert behind(q, "c").same(behind(q, "b"))  # a move of b, which keeps its own scale
    assert behind(q, "y").same(behind(q, "o")) and behind(q, "a").same(behind(q, "o"))  # a concat of a concat
    assert behind(q, "z").same(QParams.of(1 / 255, -128))  # known, not shared


def test_concat_of_a_tensor_with_itself():
    nodes = [("Neg", ["x"], "b", {}), ("Concat", ["b", "b"], "c", {"axis": 1}), ("Sigmoid", ["c"], "y", {})]
    q = check(tiny(nodes, {"x": (1, 6)}, {}))
    assert behind(q, "b").same(behind(q, "c"))


def test_concat_leaves_outputs_and_parts():
    """A graph output keeps its own range, and so does a tensor of which Concat takes a part."""
    ranges = {"x": Range(-4, 4), "a": Range(0, 4), "y": Range(-1, 4)}
    nodes = [("Relu", ["x"], "a", {}), ("Concat", ["a", "x"], "y", {"axis": 1})]
    q = quantize(tiny(nodes, {"x": (1, 6)}, {}, ["y", "a"]), ranges)
    assert behind(q, "a").same(activation_q(0, 4)) and behind(q, "y").same(activation_q(-1, 4))
    nodes = [
        ("Relu", ["x"], "a", {}),
        ("Split", ["a"], "s t", {"axis": 1}),
        ("Neg", ["t"], "n", {}),
        ("Concat", ["s", "n"], "y", {"axis": 1}),
    ]
    q = quantize(tiny(nodes, {"x": (1, 6)}, {}), {**ranges, "n": Range(-1, 0)})
    assert all(behind(q, t).same(activation_q(0, 4)) for t in "ast") and behind(q, "n").same(behind(q, "y"))


@pytest.mark.parametrize(
    ("op", "scale", "zero"), [("Softmax", 1 / 255, -128), ("Sigmoid", 1 / 255, -128), ("Tanh", 1 / 127, 0)]
)
def test_known_ranges(op, scale, zero):
    g = tiny([(op, ["x"], "y", {})], {"x": (1, 9)}, {})
    q = check(g)
    assert behind(q, "y").same(QParams.of(scale, zero)) and measured(g) == ["x"]


@pytest.mark.parametrize("op", ["LeakyRelu", "HardSwish", "Erf", "Abs", "Neg", "Softplus", "Elu", "Exp", "Relu"])
def test_unary_functions(op):
    q = check(tiny([(op, ["x"], "y", {})], {"x": (1, 50)}, {}))
    assert behind(q, "y") is not None and input_q(q, "x") is not None


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_elementwise(op):
    two = tiny([(op, ["x", "y"], "z", {}), ("Relu", ["z"], "r", {})], {"x": (1, 50), "y": (1, 50)}, {})
    q = check(two)
    assert behind(q, "z") is None and behind(q, "r") is not None
    g = tiny([(op, ["x", "c"], "z", {})], {"x": (1, 3, 5)}, {"c": normal(3, 1)})
    values, cq = constant_of(check(g), one(check(g), op), 1)
    assert values.dtype == np.int8 and np.abs(values).max() == 127 and cq.axis is None and int(cq.zero_point) == 0


@pytest.mark.parametrize(
    ("op", "first"), [("Add", True), ("Sub", False), ("Mul", False), ("Div", True), ("Pow", True), ("Min", False)]
)
def test_scalars_stay_exact(op, first):
    """A function of one tensor and scalars becomes a table: the scalar is not rounded."""
    g = tiny(
        [(op, ["x", "c"] if first else ["c", "x"], "y", {}), ("Relu", ["y"], "r", {})],
        {"x": (1, 50)},
        {"c": np.float32(2)},
    )
    q = check(g)
    assert one(q, op).inputs[1 if first else 0] == "c" and behind(q, "r") is not None
    assert behind(q, "y") is None  # one function with the Relu
    assert not report(g, collect(g, samples(g))).float_nodes


@pytest.mark.parametrize(("op", "inputs", "constant"), [("Div", ["c", "x"], 2), ("Pow", ["x", "c"], 0.5)])
def test_functions_of_scalars_with_poles_stay_float(op, inputs, constant):
    g = tiny([(op, inputs, "y", {})], {"x": (1, 50)}, {"c": np.float32(constant)})
    summary = report(g, {"x": Range(0, 1), "y": Range(0, 1)})
    assert [n.op for n in summary.float_nodes] == [op]


def test_pools():
    g = tiny(
        [("AveragePool", ["x"], "a", {"kernel_shape": [2, 2]}), ("GlobalAveragePool", ["a"], "y", {})],
        {"x": (1, 2, 6, 6)},
        {},
    )
    q = check(g, Dataset({"x": np.abs(normal(30, 1, 2, 6, 6))}, None, ""))
    assert not behind(q, "a").same(input_q(q, "x")) and not behind(q, "y").same(behind(q, "a"))


def test_one_pair_for_all_readers():
    g = convolution(more=[("Sigmoid", ["r"], "s", {}), ("Mul", ["r", "s"], "y", {})])
    q = check(g)
    assert len([n for n in q.nodes if n.op == "DequantizeLinear" and n.inputs[0] == "r/q"]) == 1


def test_weights_of_two_nodes():
    g = tiny(
        [("MatMul", ["x", "w"], "a", {}), ("Relu", ["a"], "r", {}), ("MatMul", ["r", "w"], "y", {})],
        {"x": (1, 5)},
        {"w": normal(5, 5)},
    )
    q = check(g)
    assert len({n.inputs[1] for n in q.nodes if n.op == "MatMul"}) == 1 and "w" not in q.tensors


def test_the_same_graph_gives_the_same_file():
    g, data = convolution(), samples(convolution())
    files = {to_onnx(quantize_model(g, data)[0]).SerializeToString(deterministic=True) for _ in range(2)}
    assert len(files) == 1


# ---- float islands ----


def island():
    return convolution(
        more=[("Div", ["r", "d"], "v", {}), ("Flatten", ["v"], "f", {}), ("Add", ["f", "f"], "s", {})],
        d=np.abs(normal(6, 5)) + 1,
    )


def test_what_has_no_int8_form_stays_float():
    g = island()
    data = samples(g)
    q, summary = quantize_model(g, data)
    assert [(n.name, n.op) for n in summary.float_nodes] == [("the_v", "Div"), ("the_f", "Flatten")]
    assert summary.float_nodes[0].reason == "has no int8 form"
    div = one(q, "Div")
    assert q.producers()[div.inputs[0]].op == "DequantizeLinear" and div.inputs[1] == "d"
    assert behind(q, "v") is None and behind(q, "f") is not None  # Q only where integers are read again
    assert snr(outputs(g, data), outputs(q, data)) > 30


def test_a_float_node_reads_what_is_there():
    """Behind a float node other float nodes read floats, though an integer node reads the quantised tensor."""
    g = tiny(
        [
            ("Div", ["x", "x"], "v", {}),
            ("Mod", ["v", "v"], "m", {"fmod": 1}),
            ("Mul", ["v", "v"], "k", {}),
            ("Add", ["k", "m"], "y", {}),
        ],
        {"x": (1, 4)},
        {},
    )
    q, summary = quantize_model(g, samples(g))
    assert one(q, "Mod").inputs == ("v", "v") and one(q, "Mul").inputs == ("v/dq", "v/dq")
    assert [n.op for n in summary.float_nodes] == ["Div", "Mod"]


def test_singular_functions_and_run_time_weights_stay_float():
    g = tiny(
        [
            ("Log", ["x"], "l", {}),
            ("Conv", ["y", "w"], "c", {}),
            ("Reshape", ["c", "shape"], "d", {}),
            ("Add", ["l", "d"], "z", {}),
        ],
        {"x": (1, 4), "y": (1, 1, 2, 2), "w": (4, 1, 2, 2)},
        {"shape": np.array([1, 4])},
    )
    _, summary = quantize_model(g, Dataset({n: np.abs(normal(9, *g.type(n).shape)) for n in g.inputs}, None, ""))
    assert [(n.op, n.reason) for n in summary.float_nodes] == [
        ("Log", "is not finite on every quantised range"),
        ("Conv", "has weights that are not constant"),
        ("Reshape", "moves float data only"),
    ]


def test_a_graph_of_float_nodes_alone():
    g = tiny([("Div", ["x", "y"], "z", {})], {"x": (1, 4), "y": (1, 4)}, {})
    data = Dataset({n: np.abs(normal(9, 1, 4)) + 1 for n in "xy"}, None, "")
    q, _ = quantize_model(g, data, io="float32")
    assert [n.op for n in q.nodes] == ["Div"]
    q, _ = quantize_model(g, data, io="int8")
    assert sorted(n.op for n in q.nodes) == ["DequantizeLinear", "DequantizeLinear", "Div", "QuantizeLinear"]
    assert snr(outputs(g, data), outputs(q, data)) > 30


def test_integer_tensors_are_left_alone():
    made = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "n"], ["e"], name="g"),
            helper.make_node("Relu", ["e"], ["r"], name="r"),
            helper.make_node("ArgMax", ["r"], ["y"], axis=2, name="a"),
        ],
        "tokens",
        [helper.make_tensor_value_info("n", 7, (1, 3))],
        [helper.make_tensor_value_info("y", 7, (1, 3, 1))],
        [numpy_helper.from_array(RNG.permutation(36).reshape(9, 4).astype(np.float32), "table")],
    )
    g = onnx_in.from_model(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)]), "tokens")
    data = Dataset({"n": RNG.integers(0, 9, (20, 1, 3))}, None, "")
    q, summary = quantize_model(g, data)
    assert (
        q.type("n").dtype == "int64"
        and q.type("y").dtype == "int64"
        and [n.op for n in summary.float_nodes] == ["ArgMax"]
    )
    assert q.const(q.producers()[one(q, "Gather").inputs[0]].inputs[0]).dtype == np.int8
    np.testing.assert_array_equal(outputs(g, data), outputs(q, data))


def test_an_input_that_is_an_output():
    g = tiny([("Relu", ["x"], "y", {})], {"x": (1, 4)}, {}, ["y", "x"])
    assert [q.type(o).dtype for q in [check(g, io="int8")] for o in q.outputs] == ["int8", "int8"]
    q = check(g, io="float32")
    sample = samples(g, 1)[0]
    np.testing.assert_array_equal(reference(to_onnx(q)).run(sample)[1], sample["x"])


# ---- limits of the integer kernels ----


def test_an_output_step_is_never_finer_than_the_accumulator():
    """A result that its clamp cuts to almost nothing would need a multiplier above the kernels' limit."""
    g = convolution(b=np.float32([-300, -300, -300, -300]), w=np.full((4, 3, 3, 3), 1.0, np.float32))
    data = samples(g, scale=3.0)
    ranges = {**collect(g, data), "r": Range(0.0, 1e-6)}
    q = quantize(g, ranges)
    product = float(input_q(q, "x").scale) * float(constant_of(q, one(q, "Conv"), 1)[1].scale.max())
    assert product / float(behind(q, "r").scale) < 0.25
    g = tiny([("Sub", ["x", "y"], "z", {})], {"x": (1, 4), "y": (1, 4)}, {})
    q = quantize(g, {"x": Range(-1e6, 1e6), "y": Range(-1e6, 1e6), "z": Range(-1e-6, 1e-6)})
    assert float(input_q(q, "x").scale) / float(behind(q, "z").scale) < 2**14


def test_biases_fit_int32():
    g = convolution(w=normal(4, 3, 3, 3, scale=1e-9), b=np.float32([1e3, -1e3, 0, 1]))
    b, _ = constant_of(check(g), one(check(g), "Conv"), 2)
    assert 2**28 < np.abs(b.astype(np.int64)).max() <= MAX_BIAS * (1 + 1e-6)


def test_zero_networks():
    for zero in ("w", "b"):
        g = convolution(**{zero: np.zeros_like(convolution().const(zero))})
        check(g)
    g = convolution(w=np.zeros((4, 3, 3, 3), np.float32), b=np.zeros(4, np.float32))
    q, summary = quantize_model(g, samples(g))
    assert not outputs(q, samples(g)).any() and [t.scale for t in summary.tensors if t.name == "r"] == [1.0]


# ---- summary and errors ----


def test_summary():
    g = convolution(more=[("Flatten", ["r"], "f", {})])
    data = samples(g)
    seen = []
    q, s = quantize_model(g, data, "percentile:99.9", "float32", lambda what, done, total: seen.append((done, total)))
    assert seen == [(k + 1, 40) for k in range(40)]
    assert (s.method, s.io, s.samples, s.integer_nodes, s.float_nodes) == ("percentile:99.9", "float32", 40, 3, ())
    assert [(t.name, t.source) for t in s.tensors] == [("x", "x"), ("r", "r"), ("f", "r")]
    assert s.tensors[2].scale == float(behind(q, "r").scale) and s.tensors[1].lo == 0.0 < s.tensors[1].hi


def test_usage_errors():
    g = convolution()
    data = samples(g)
    for method in ("mean", "minmax:3", "percentile:101", "percentile:abc", "percentile:nan"):
        with pytest.raises(UsageError, match="unknown calibration method"):
            quantize_model(g, data, method)
    with pytest.raises(UsageError, match="unknown type of inputs and outputs 'uint8'"):
        quantize_model(g, data, io="uint8")
    with pytest.raises(UsageError, match="quantised already"):
        quantize_model(quantize_model(g, data)[0], data)
    with pytest.raises(UsageError, match="no range for tensor 'r'"):
        quantize(g, {"x": Range(0, 1)})


# ---- calibration ----


def test_minmax_is_the_range():
    g = convolution()
    data = samples(g)
    r = collect(g, data)
    assert set(r) == {"x", "c", "r"}
    y = outputs(g, data)
    assert (r["r"].lo, r["r"].hi) == (pytest.approx(float(y.min()), rel=1e-6), pytest.approx(float(y.max()), rel=1e-6))
    x = data.inputs["x"]
    assert (r["x"].lo, r["x"].hi) == (float(x.min()), float(x.max()))
    assert set(collect(g, data, tensors=["r"])) == {"r"}


@pytest.mark.parametrize("kept", [99.99, 99.9, 90, 100])
def test_percentile_is_within_a_bin(kept):
    g = tiny([("Relu", ["x"], "y", {})], {"x": (1, 500)}, {})
    data = samples(g)
    r = collect(g, data, method=f"percentile:{kept}", tensors=["x", "y"])
    for name, v in (("x", data.inputs["x"]), ("y", np.maximum(data.inputs["x"], 0))):
        tail, width = (100 - kept) / 2, 2 * np.abs(v).max() / BINS
        assert np.percentile(v, tail, method="lower") - width <= r[name].lo <= np.percentile(v, tail, method="higher")
        assert (
            np.percentile(v, 100 - tail, method="lower")
            <= r[name].hi
            <= np.percentile(v, 100 - tail, method="higher") + width
        )
    assert (r["x"].lo == data.inputs["x"].min()) == (kept == 100)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)))
def test_the_order_of_samples_does_not_matter(order):
    g = tiny([("Relu", ["x"], "y", {})], {"x": (1, 300)}, {})
    x = (
        np.random.default_rng(3).standard_normal((6, 1, 300)).astype(np.float32)
        * np.float32([1e-3, 1, 50, 1e4, 0, 7])[:, None, None]
    )
    assert collect(g, Dataset({"x": x[list(order)]}, None, ""), method="percentile:99") == collect(
        g, Dataset({"x": x}, None, ""), method="percentile:99"
    )


def test_an_outlier_is_cut():
    g = tiny([("Relu", ["x"], "y", {})], {"x": (1, 1000)}, {})
    data = samples(g, 30)
    spoiled = data.inputs["x"].copy()
    spoiled[4, 0, 17] = 100.0
    r = collect(g, Dataset({"x": spoiled}, None, ""), method="percentile")
    assert 3 < r["x"].hi < 5 and collect(g, Dataset({"x": spoiled}, None, ""))["x"].hi == 100.0


def test_without_onnxruntime(monkeypatch):
    g = convolution()
    data = samples(g, 5)
    want = collect(g, data, method="percentile")

    def missing(*args):
        raise ImportError("onnxruntime")

    monkeypatch.setattr(onnx_run, "_onnxruntime", missing)
    got = collect(g, data, method="percentile")
    for t, r in want.items():
        assert (got[t].lo, got[t].hi) == (pytest.approx(r.lo, rel=1e-3, abs=1e-6), pytest.approx(r.hi, rel=1e-3))


def test_a_model_that_overflows():
    g = tiny([("Exp", ["x"], "y", {}), ("Relu", ["y"], "z", {})], {"x": (1, 4)}, {})
    x = np.zeros((3, 1, 4), np.float32)
    x[1] = 1000
    with pytest.raises(ModelError, match="inf on sample 1") as e:
        collect(g, Dataset({"x": x}, None, ""))
    assert e.value.where == "tensor 'y'"


# ---- the ONNX writer ----


def test_the_file_is_the_graph():
    g = convolution(("Clip", {}), more=[("ReduceMean", ["r"], "y", {"axes": [2, 3], "keepdims": 0})])
    model = to_onnx(g, {"tool": "edgec", "data": "abc"})
    assert model.graph.name == "tiny" and {p.key: p.value for p in model.metadata_props} == {
        "tool": "edgec",
        "data": "abc",
    }
    assert [n.name for n in model.graph.node] == ["the_c", "the_r", "the_y"] and model.opset_import[0].version == 17
    assert [o.name for o in model.graph.output] == ["y"]
    assert helper.get_attribute_value(model.graph.node[2].attribute[0]) == [2, 3]  # an input in the graph
    assert {i.name: tuple(i.dims) for i in model.graph.initializer} == {
        "w": (4, 3, 3, 3),
        "b": (4,),
        "lo": (),
        "hi": (),
    }
    again = onnx_in.from_model(model, "tiny")
    data = samples(g, 3)
    np.testing.assert_array_equal(outputs(g, data), outputs(again, data))


def test_an_operator_of_a_newer_opset():
    g = tiny([("Relu", ["x"], "y", {})], {"x": (1, 4)}, {})
    wide = {
        **g.tensors,
        "y": Tensor("y", TensorType("int16", (1, 4))),
        "s": Tensor("s", TensorType("float32", ()), np.array(0.5, np.float32)),
        "z": Tensor("z", TensorType("int16", ()), np.array(0, np.int16)),
    }
    q = Graph("wide", (Node("QuantizeLinear", ("x", "s", "z"), ("y",)),), wide, ("x",), ("y",))
    model = to_onnx(q)
    assert model.opset_import[0].version == 21 and model.graph.node[0].name == "y"


def test_forms_older_than_opset_17():
    """Clip's bounds and Squeeze's axes as attributes; Softmax over several axes; Upsample."""
    t = {
        "x": TensorType("float32", (1, 2, 3, 1)),
        "c": TensorType("float32", (1, 2, 3, 1)),
        "u": TensorType("float32", (1, 2, 6, 2)),
        "s": TensorType("float32", (1, 2, 6, 2)),
        "y": TensorType("float32", (2, 6, 2)),
    }
    tensors = {n: Tensor(n, v) for n, v in t.items()} | {
        "scales": Tensor("scales", TensorType("float32", (4,)), np.float32([1, 1, 2, 2]))
    }
    nodes = (
        Node("Clip", ("x",), ("c",), attrs(min=-0.5, max=0.5), ("a",)),
        Node("Upsample", ("c", "scales"), ("u",), attrs(mode="nearest"), ("a",)),
        Node("Softmax", ("u",), ("s",), attrs(axis=1, flatten=1), ("a",)),
        Node("Squeeze", ("s",), ("y",), attrs(axes=(0,)), ("a",)),
    )
    g = Graph("old", nodes, tensors, ("x",), ("y",))
    model = to_onnx(g)
    assert len({n.name for n in model.graph.node}) == len(model.graph.node)
    x = normal(1, 2, 3, 1)
    y = reference(model).run({"x": x})[0]
    big = np.exp(np.clip(x, -0.5, 0.5).repeat(2, 2).repeat(2, 3))
    np.testing.assert_allclose(y, (big / big.sum())[0], rtol=1e-5)


def test_what_is_not_onnx_is_refused():
    g = tiny([("Relu", ["x"], "y", {}), ("Neg", ["y"], "z", {})], {"x": (1, 4)}, {})
    bad = (g.nodes[0].with_(op="edgec.Lut"), g.nodes[1].with_(attrs={"channels_last": 1}))
    with pytest.raises(UnsupportedError, match=r"edgec.Lut.*Neg.*channels_last"):
        to_onnx(Graph("bad", bad, g.tensors, g.inputs, g.outputs))
    gone = (g.nodes[0], g.nodes[1].with_(op="Scatter", inputs=("y", "y", "y")))  # not in ONNX since opset 11
    with pytest.raises(UnsupportedError, match="Scatter"):
        to_onnx(Graph("gone", gone, g.tensors, g.inputs, g.outputs))


# ---- real networks ----


def shared(name: str):
    """Graph, float samples, float outputs and published int8 outputs as reals; labels."""
    path = MODELS / f"{name}_fp32.onnx"
    if not path.exists():
        pytest.skip(f"no reference networks in {MODELS} (EDGEC_MODELS)")
    g, z = pipeline.simplify(onnx_in.load(path)), np.load(MODELS / f"{name}.npz")
    x = z["x"] if "x" in z else ((z["x_int8"].astype(np.float32) - int(z["in_zp"])) * np.float32(z["in_scale"]))
    published = (z["y_ort_int8"].astype(np.float32) - float(z["out_zp"])) * np.float32(z["out_scale"])
    return (
        g,
        Dataset({g.inputs[0]: x.reshape(len(x), *g.type(g.inputs[0]).shape)}, None, ""),
        z["y_ort_fp32"],
        published,
    )


@pytest.mark.parametrize(("name", "least_top1"), [("ad", 0), ("kws", 0.97), ("ic", 0.97), ("sww", 0.97), ("vww", 0.97)])
def test_reference_networks(name, least_top1):
    """Within 1 dB of the published int8 files' signal to noise ratio, or better, and the float model's classes."""
    g, data, want, published = shared(name)
    start = time.perf_counter()
    q, summary = quantize_model(g, data.first(100))
    seconds = time.perf_counter() - start
    got = outputs(q, data).reshape(want.shape)
    top1 = float(np.mean(got.argmax(1) == want.argmax(1)))
    theirs = float(np.mean(published.argmax(1) == want.argmax(1)))
    print(
        f"\n{name}: SNR {snr(want, got):.1f} dB (published {snr(want, published):.1f}), top-1 as float {top1:.3f} "
        f"(published {theirs:.3f}), {len(data.first(100))} samples in {seconds:.2f} s"
    )
    assert not summary.float_nodes
    assert snr(want, got) > snr(want, published) - 1 and top1 >= least_top1
    assert not any(n.op in BOTH for n in pipeline.run_passes(q, pipeline.ABSORB).nodes)


@pytest.mark.parametrize(
    ("name", "data", "least"),
    [("digits_cnn", "digits", 35), ("digits_dscnn", "digits", 20), ("vibration_ae", "vibration", 25)],
)
@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_examples(name, data, least, method):
    path = REPO / "examples" / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"no {path.name} in examples/")
    g = pipeline.simplify(onnx_in.load(path))
    calibration, test = (load(REPO / "examples" / f"{data}_{part}.npz", g) for part in ("calib", "test"))
    q, summary = quantize_model(g, calibration.first(100), method)
    # the spectra of faulty machines go beyond the calibrated range on purpose
    healthy = test if data == "digits" else Dataset({k: v[test.labels == 0] for k, v in test.inputs.items()}, None, "")
    want, got = outputs(g, healthy), outputs(q, healthy)
    top1 = float(np.mean(want.reshape(len(want), -1).argmax(1) == got.reshape(len(got), -1).argmax(1)))
    print(f"\n{name} {method}: SNR {snr(want, got):.1f} dB, top-1 as float {top1:.3f}")
    assert not summary.float_nodes and snr(want, got) > least
    if data == "digits":
        assert top1 >= 0.97
        accuracy = np.mean(got.reshape(len(got), -1).argmax(1) == test.labels)
        assert accuracy > np.mean(want.reshape(len(want), -1).argmax(1) == test.labels) - 0.02


def test_quantised_files_come_back_the_same():
    """Through a file, and through the importer, the integers are the same."""
    g = island()
    data = samples(g, 4)
    q, _ = quantize_model(g, data)
    model = to_onnx(q)
    again = onnx_in.from_model(onnx.load_model_from_string(model.SerializeToString()), "again")
    assert [n.op for n in again.nodes] == [n.op for n in q.nodes]
    np.testing.assert_array_equal(outputs(q, data), outputs(again, data))
    assert not re.search(r"/dq", " ".join(o for n in again.nodes for o in n.origin if n.op not in BOTH))
