"""Others' quantised graphs become integer operators within one step of onnxruntime: blocked weights, Min, Max."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T, helper, numpy_helper

from edgec import board, onnx_in, onnx_run, pipeline
from edgec.passes import constants
from edgec.reference import run


def qdq(op, shapes, out, weights=(), dtype=T.INT8, **attributes):
    """DequantizeLinear of each input -> op -> QuantizeLinear. weights: (initializers, nodes, names the op reads)."""
    initializers, nodes, extra = weights or ([], [], [])
    number = {T.INT8: np.int8, T.UINT8: np.uint8}[dtype]
    for k, name in enumerate(["y", *shapes]):
        initializers += [numpy_helper.from_array(np.float32(0.11 - 0.02 * k), f"{name}_s"),
                         numpy_helper.from_array(number(5 + 3 * k), f"{name}_z")]
    before = [helper.make_node("DequantizeLinear", [i, f"{i}_s", f"{i}_z"], [f"{i}_f"]) for i in shapes]
    after = [helper.make_node(op, [*(f"{i}_f" for i in shapes), *extra], ["f"], name="it", **attributes),
             helper.make_node("QuantizeLinear", ["f", "y_s", "y_z"], ["y"])]
    info = helper.make_tensor_value_info
    graph = helper.make_graph([*before, *nodes, *after], "g", [info(i, dtype, s) for i, s in shapes.items()],
                              [info("y", dtype, out)], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def blocked(shape, axis, block, kind, seed):
    """Weights with a scale (and for uint4 a zero point) per block along an axis."""
    rng = np.random.default_rng(seed)
    low, high = {T.INT4: (-8, 8), T.UINT4: (0, 16), T.INT8: (-128, 128)}[kind]
    values = rng.integers(low, high, shape)
    scales = list(shape)
    scales[axis] = -(-shape[axis] // block)
    s = rng.uniform(0.002, 0.02, scales).astype(np.float32)
    made = [helper.make_tensor("w", kind, shape, values.flatten().tolist()), numpy_helper.from_array(s, "w_s")]
    names = ["w", "w_s"]
    if kind == T.UINT4:
        made.append(helper.make_tensor("w_z", kind, scales, rng.integers(0, 16, scales).flatten().tolist()))
        names.append("w_z")
    return made, [helper.make_node("DequantizeLinear", names, ["w_f"], axis=axis, block_size=block)], ["w_f"]


def check(model: onnx.ModelProto, ops: set[str], most=1):
    """The compiled graph has these operators alone, and is within `most` of onnxruntime."""
    graph = pipeline.compile_graph(onnx_in.from_model(model, "g"), board.load("host"), name="t").graph
    assert {n.op for n in graph.nodes} <= ops, [str(n) for n in graph.nodes]
    reference, rng = onnx_run.reference(model).run, np.random.default_rng(1)
    for _ in range(20):
        x = {}
        for name in graph.inputs:
            info = np.iinfo(graph.type(name).dtype)
            x[name] = rng.integers(info.min, info.max + 1, graph.type(name).shape).astype(graph.type(name).dtype)
        got, want = run(graph, x)["y"].astype(int), reference(x)[0].astype(int)
        assert np.abs(got - want).max() <= most


@pytest.mark.parametrize("dtype", [T.INT8, T.UINT8])
@pytest.mark.parametrize(("shape", "axes"), [((1, 4, 6), [2]), ((2, 3, 5), [1]), ((1, 3, 4, 5), [1]), ((1, 7), [0, 1]),
                                             ((2, 3, 4, 5), [0, -1])])
@pytest.mark.parametrize("keep", [0, 1])
def test_means_over_any_axes(shape, axes, keep, dtype):
    out = np.zeros(shape).mean(tuple(axes), keepdims=bool(keep)).shape
    given = [numpy_helper.from_array(np.array(axes, np.int64), "axes")], [], ["axes"]
    check(qdq("ReduceMean", {"x": shape}, out, given, dtype, keepdims=keep), {"Gemm", "AveragePool", "edgec.Offset", *MOVED})


MOVED = {"Transpose", "Reshape", "Flatten"}


@pytest.mark.parametrize("kind", [T.INT4, T.UINT4, T.INT8])
@pytest.mark.parametrize(("op", "shape", "axis", "x", "out", "attributes"), [
    ("Gemm", (8, 12), 1, (1, 12), (1, 8), {"transB": 1}),
    ("MatMul", (12, 8), 0, (3, 12), (3, 8), {}),
    ("Conv", (6, 4, 3, 3), 1, (1, 4, 6, 6), (1, 6, 4, 4), {}),
])
def test_blocked_weights(op, shape, axis, x, out, attributes, kind):
    check(qdq(op, {"x": x}, out, blocked(shape, axis, 4, kind, 7), **attributes), {op, "Gemm", *MOVED})


def test_a_last_block_may_be_short_and_the_grid_is_fine():
    rng = np.random.default_rng(3)
    x, s = rng.integers(-8, 8, (5, 10)), rng.uniform(0.01, 1, (5, 3)).astype(np.float32)
    data, grid = constants._blocked(x, s, np.int32(0), 1, 4)
    want = x * np.repeat(s, 4, 1)[:, :10]
    assert grid.axis == 0 and (np.abs(data - want) <= np.abs(want).max(1, keepdims=True) * 2.0**-16).all()


@pytest.mark.parametrize("dtype", [T.INT8, T.UINT8])
@pytest.mark.parametrize("op", ["Min", "Max"])
def test_min_and_max_of_two_tensors(op, dtype):
    check(qdq(op, {"a": (1, 4, 5), "b": (1, 4, 5)}, (1, 4, 5), dtype=dtype), {"edgec.Lut", "edgec.Offset", op})
