"""Graphs in the form that tf2onnx writes (its own dependency is too large to install for tests) and what onnxruntime's
quantiser makes of networks, as C, against onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from edgec import board, host, onnx_in, pipeline, store

N = helper.make_node
CORE = board.load("cortex-m4")


def rand(*shape, scale=0.4):
    return (np.random.default_rng(sum(shape)).normal(size=shape) * scale).astype(np.float32)


def network(nodes, shape, constants, outputs=("y",), opset=15, value="float"):
    kind = {"float": TensorProto.FLOAT}[value]
    graph = helper.make_graph(
        nodes,
        "tf2onnx",
        [helper.make_tensor_value_info("x", kind, ["unk__7", *shape])],
        [helper.make_tensor_value_info(o, kind, None) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="tf2onnx")
    m.ir_version = 8
    return m


def session(m):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(m.SerializeToString(), options)


def compiled(m, folder):
    c = pipeline.compile_graph(onnx_in.from_model(m, "net"), CORE)
    store.write_files(folder, c.files)
    return c, host.load(folder, simd_on_host=True)


def keras_cnn():
    """Channels last outside: transpositions around each layer, a padding, batch norm, depthwise and
    pointwise layers, a mean over the picture, the batch size found out by shape arithmetic, dense layers."""
    last, first = [0, 2, 3, 1], [0, 3, 1, 2]
    nodes = [
        N("Transpose", ["x"], ["x_c"], perm=first),
        N("Pad", ["x_c", "pads"], ["padded"]),
        N("Conv", ["padded", "w1"], ["c1"], strides=[2, 2], kernel_shape=[3, 3]),
        N("BatchNormalization", ["c1", "g", "b", "m", "v"], ["n1"], epsilon=1e-3),
        N("Clip", ["n1", "zero", "six"], ["a1"]),
        N("Transpose", ["a1"], ["a1_l"], perm=last),
        N("Transpose", ["a1_l"], ["a1_c"], perm=first),
        N("Conv", ["a1_c", "w2"], ["c2"], group=4, auto_pad="SAME_UPPER", strides=[1, 1], kernel_shape=[3, 3]),
        N("Transpose", ["c2"], ["c2_l"], perm=last),
        N("Add", ["c2_l", "b2"], ["s2"]),
        N("Relu", ["s2"], ["a2"]),
        N("Transpose", ["a2"], ["a2_c"], perm=first),
        N("Conv", ["a2_c", "w3"], ["c3"], kernel_shape=[1, 1]),
        N("Transpose", ["c3"], ["c3_l"], perm=last),
        N("Add", ["c3_l", "s2"], ["sum"]),
        N("ReduceMean", ["sum"], ["mean"], axes=[1, 2], keepdims=0),
        N("Shape", ["mean"], ["shape"]),
        N("Cast", ["shape"], ["shape32"], to=TensorProto.INT32),
        N("Slice", ["shape32", "i0", "i1", "i0"], ["n"]),
        N("Squeeze", ["n", "i0"], ["n0"]),
        N("Unsqueeze", ["n0", "i0"], ["n1d"]),
        N("Concat", ["n1d", "four"], ["to32"], axis=0),
        N("Cast", ["to32"], ["to"], to=TensorProto.INT64),
        N("Reshape", ["mean", "to"], ["flat"]),
        N("MatMul", ["flat", "w4"], ["d"]),
        N("Add", ["d", "b4"], ["logits"]),
        N("Softmax", ["logits"], ["y"], axis=-1),
    ]
    zero = np.array([0], np.int64)
    constants = {
        "pads": np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64),
        "w1": rand(4, 2, 3, 3),
        "g": rand(4) + 1,
        "b": rand(4),
        "m": rand(4),
        "v": np.abs(rand(4)) + 1,
        "zero": np.float32(0),
        "six": np.float32(6),
        "w2": rand(4, 1, 3, 3),
        "b2": rand(4),
        "w3": rand(4, 4, 1, 1),
        "i0": zero,
        "i1": zero + 1,
        "four": np.array([4], np.int32),
        "w4": rand(4, 3),
        "b4": rand(3),
    }
    return network(nodes, [9, 8, 2], constants)


def keras_lstm():
    """Batch first outside, time first inside, the last step by a slice; states from zeros of the batch's size."""
    nodes = [
        N("Transpose", ["x"], ["x_t"], perm=[1, 0, 2]),
        N("Shape", ["x"], ["shape"]),
        N("Slice", ["shape", "i0", "i1"], ["n"]),
        N("Concat", ["i1", "n", "units"], ["state"], axis=0),
        N("Expand", ["zero", "state"], ["h0"]),
        N("LSTM", ["x_t", "w", "r", "b", "", "h0", "h0"], ["all", "last"], hidden_size=5),
        N("Squeeze", ["all", "i1"], ["seq"]),
        N("Transpose", ["seq"], ["seq_b"], perm=[1, 0, 2]),
        N("Slice", ["seq_b", "end", "most", "i1"], ["tail"]),
        N("Squeeze", ["tail", "i1"], ["y"]),
    ]
    i = np.array([1], np.int64)
    constants = {
        "i0": i * 0,
        "i1": i,
        "units": i * 5,
        "zero": np.zeros(1, np.float32),
        "w": rand(1, 20, 3),
        "r": rand(1, 20, 5),
        "b": rand(1, 40),
        "end": -i,
        "most": i * 2**40,
    }
    return network(nodes, [6, 3], constants)


def decoder():
    """Transposed convolution, nearest and bilinear resizing as keras has them, a concatenation of channels."""
    nodes = [
        N("Transpose", ["x"], ["x_c"], perm=[0, 3, 1, 2]),
        N("ConvTranspose", ["x_c", "w"], ["up"], strides=[2, 2], kernel_shape=[3, 3], pads=[0, 0, 1, 1]),
        N(
            "Resize",
            ["x_c", "", "scales"],
            ["near"],
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        N("Resize", ["x_c", "", "scales"], ["linear"], mode="linear", coordinate_transformation_mode="half_pixel"),
        N("Concat", ["up", "near", "linear"], ["all"], axis=1),
        N("Transpose", ["all"], ["all_l"], perm=[0, 2, 3, 1]),
        N("Sigmoid", ["all_l"], ["y"]),
    ]
    return network(nodes, [4, 5, 2], {"w": rand(2, 3, 3, 3), "scales": np.array([1, 1, 2, 2], np.float32)})


FLOATS = {"keras_cnn": keras_cnn, "keras_lstm": keras_lstm, "decoder": decoder}


def sample(m, seed=0):
    shape = [d.dim_value or 1 for d in m.graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", FLOATS)
def test_graphs_of_tf2onnx(name, tmp_path):
    m = FLOATS[name]()
    c, h = compiled(m, tmp_path)
    x = sample(m)
    np.testing.assert_allclose(h.run([x])[0], session(m).run(None, {"x": x})[0], rtol=1e-4, atol=1e-5)
    if name == "keras_cnn":  # all the transpositions cancel, the padding is the kernel's
        assert not {s.op for s in c.program.steps} & {"Transpose", "Pad", "BatchNormalization"}


class Calibration(CalibrationDataReader):
    def __init__(self, m):
        self.samples = iter([{"x": sample(m, k)} for k in range(8)])

    def get_next(self):
        return next(self.samples, None)


@pytest.mark.parametrize(
    "form, activations, per_channel",
    [
        (QuantFormat.QDQ, QuantType.QInt8, True),
        (QuantFormat.QDQ, QuantType.QUInt8, False),
        (QuantFormat.QOperator, QuantType.QInt8, False),
        (QuantFormat.QOperator, QuantType.QUInt8, True),
    ],
    ids=str,
)
def test_what_the_quantiser_of_onnxruntime_makes(form, activations, per_channel, tmp_path):
    m = keras_cnn()
    m.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    source, target = tmp_path / "f.onnx", tmp_path / "q.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(m), source)
    quantize_static(
        source,
        target,
        Calibration(m),
        quant_format=form,
        activation_type=activations,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
    )
    q = onnx.load(target)
    c, h = compiled(q, tmp_path / "p")
    kernels = {step["kernel"] for step in c.stats["steps"]}
    assert any("conv_s8" in k for k in kernels) and any("fc_s8" in k for k in kernels)
    for seed in range(20, 24):
        x = sample(m, seed)
        want = session(q).run(None, {"x": x})[0]
        np.testing.assert_allclose(h.run([x])[0], want, atol=0.02)
