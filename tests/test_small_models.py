"""Small models of every shape that users bring, the whole way: import, passes, C on the host, against onnxruntime."""
from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec import board, host, loop_interp, onnx_in, pipeline
from edgec.errors import UnsupportedError

ort = pytest.importorskip("onnxruntime")
F = TensorProto.FLOAT
rng = np.random.default_rng(7)


def rand(*shape, scale=0.4):
    return (rng.normal(size=shape) * scale).astype(np.float32)


def make(nodes, x_shape, initializers, opset=17, outputs=("y",), x_type=F, y_type=F):
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", x_type, x_shape)],
                              [helper.make_tensor_value_info(o, y_type, None) for o in outputs],
                              [numpy_helper.from_array(np.asarray(v), k) for k, v in initializers.items()])
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    m.ir_version = 8
    return onnx.shape_inference.infer_shapes(m)


N = helper.make_node


def conv(shape=(1, 3, 9, 7), oc=5, k=(3, 3), group=1, **more):
    return make([N("Conv", ["x", "w", "b"], ["y"], name="conv", group=group, **more)], shape,
                {"w": rand(oc, shape[1] // group, *k), "b": rand(oc)})


def residual():
    return make(
        [
            N("Conv", ["x", "w0", "b0"], ["a"], pads=[1, 1, 1, 1]),
            N("BatchNormalization", ["a", "g", "h", "mu", "var"], ["n"]),
            N("Relu", ["n"], ["r"]),
            N("Conv", ["r", "w1", "b1"], ["c"], pads=[1, 1, 1, 1]),
            N("Add", ["r", "c"], ["s"]),
            N("Clip", ["s", "lo", "hi"], ["t"]),
            N("MaxPool", ["t"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            N("GlobalAveragePool", ["p"], ["q"]),
            N("Flatten", ["q"], ["f"]),
            N("Gemm", ["f", "w2", "b2"], ["l"], transB=1),
            N("Softmax", ["l"], ["y"], axis=1),
        ],
        (1, 3, 8, 10),
        {
            "w0": rand(8, 3, 3, 3),
            "b0": rand(8),
            "g": 1 + rand(8),
            "h": rand(8),
            "mu": rand(8),
            "var": 1 + np.abs(rand(8)),
            "w1": rand(8, 8, 3, 3),
            "b1": rand(8),
            "lo": np.float32(0),
            "hi": np.float32(6),
            "w2": rand(6, 8),
            "b2": rand(6),
        },
    )


def squeeze_excite():
    return make(
        [
            N("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1], group=4),
            N("HardSwish", ["a"], ["h"]),
            N("GlobalAveragePool", ["h"], ["g"]),
            N("Conv", ["g", "w1", "b1"], ["e"]),
            N("Sigmoid", ["e"], ["s"]),
            N("Mul", ["h", "s"], ["m"]),
            N("Concat", ["m", "x"], ["c"], axis=1),
            N(
                "Resize",
                ["c", "", "scales"],
                ["u"],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            ),
            N("Conv", ["u", "w2"], ["y"], strides=[2, 2]),
        ],
        (1, 4, 5, 6),
        {
            "w": rand(4, 1, 3, 3),
            "w1": rand(4, 4, 1, 1),
            "b1": rand(4),
            "scales": np.array([1, 1, 2, 2], np.float32),
            "w2": rand(3, 8, 2, 2),
        },
    )


def flatten_picture():
    return make(
        [
            N("Conv", ["x", "w"], ["a"]),
            N("LeakyRelu", ["a"], ["r"], alpha=0.1),
            N("Reshape", ["r", "shape"], ["f"]),
            N("MatMul", ["f", "v"], ["m"]),
            N("Add", ["m", "b"], ["y"]),
        ],
        (1, 2, 6, 5),
        {"w": rand(4, 2, 3, 3), "shape": np.array([1, -1]), "v": rand(48, 7), "b": rand(7)},
    )


def one_dimensional():
    return make(
        [
            N("Conv", ["x", "w", "b"], ["a"], strides=[2], pads=[2, 1], dilations=[2]),
            N("Relu", ["a"], ["r"]),
            N("MaxPool", ["r"], ["p"], kernel_shape=[2]),
            N("Conv", ["p", "v"], ["c"], group=6),
            N("AveragePool", ["c"], ["y"], kernel_shape=[3], strides=[2], pads=[1, 1]),
        ],
        (1, 3, 21),
        {"w": rand(6, 3, 3), "b": rand(6), "v": rand(6, 1, 3)},
    )


def attention():
    return make(
        [
            N("MatMul", ["x", "wq"], ["q"]),
            N("MatMul", ["x", "wk"], ["k"]),
            N("MatMul", ["x", "wv"], ["v"]),
            N("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
            N("MatMul", ["q", "kt"], ["s"]),
            N("Mul", ["s", "d"], ["sd"]),
            N("Softmax", ["sd"], ["a"], axis=-1),
            N("MatMul", ["a", "v"], ["o"]),
            N("Add", ["o", "x"], ["r"]),
            N("ReduceMean", ["r"], ["m"], axes=[1], keepdims=0),
            N("Tanh", ["m"], ["y"]),
        ],
        (1, 5, 8),
        {"wq": rand(8, 8), "wk": rand(8, 8), "wv": rand(8, 8), "d": np.float32(0.35)},
    )


MODELS = {
    "conv": lambda: conv(),
    "conv_same_upper_stride": lambda: conv(auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv_same_lower": lambda: conv(auto_pad="SAME_LOWER", k=(2, 4)),
    "conv_pads_dilation": lambda: conv(pads=[2, 1, 0, 3], dilations=[2, 1]),
    "conv_groups": lambda: conv((1, 6, 7, 8), 9, group=3),
    "conv_depthwise": lambda: conv((1, 8, 9, 9), 8, group=8, pads=[1, 1, 1, 1]),
    "conv_depthwise_stride": lambda: conv((1, 12, 9, 11), 12, group=12, pads=[0, 0, 1, 1], strides=[2, 2]),
    "conv_depthwise_multiplier": lambda: conv((1, 4, 9, 9), 8, group=4),
    "conv_tall": lambda: conv((1, 16, 12, 1), 16, k=(5, 1), group=16),
    "conv_pointwise": lambda: conv((1, 16, 5, 5), 10, k=(1, 1)),
    "conv_pointwise_stride": lambda: conv((1, 16, 5, 5), 10, k=(1, 1), strides=[2, 2]),
    "conv_one_pixel": lambda: conv((1, 3, 3, 3), 5),
    "conv_wide": lambda: conv((1, 1, 20, 10), 7, k=(10, 4), strides=[2, 2], pads=[4, 1, 5, 1]),
    "batch_of_two": lambda: conv((2, 3, 6, 5), 4, pads=[1, 1, 1, 1]),
    "residual": residual,
    "squeeze_excite": squeeze_excite,
    "flatten_picture": flatten_picture,
    "one_dimensional": one_dimensional,
    "attention": attention,
    "max_pool_ceil": lambda: make(
        [N("MaxPool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)], (1, 5, 8, 7), {}
    ),
    "max_pool_dilated": lambda: make(
        [N("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 2], pads=[1, 1, 1, 1])], (1, 3, 8, 7), {}
    ),
    "average_pool_pads": lambda: make(
        [N("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 1])], (1, 5, 8, 7), {}
    ),
    "average_pool_include": lambda: make(
        [N("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)], (1, 5, 8, 7), {}
    ),
    "pad_then_conv": lambda: make(
        [N("Pad", ["x", "p"], ["a"]), N("Conv", ["a", "w"], ["y"])],
        (1, 2, 6, 6),
        {"p": np.array([0, 0, 1, 2, 0, 0, 1, 0]), "w": rand(3, 2, 3, 3)},
    ),
    "softmax_inner_axis": lambda: make([N("Softmax", ["x"], ["y"], axis=1)], (2, 5, 3), {}),
    "gemm_general": lambda: make(
        [N("Gemm", ["x", "w", "c"], ["y"], alpha=0.5, beta=2.0, transA=1)], (4, 3), {"w": rand(4, 6), "c": rand(1, 6)}
    ),
    "gemm_two_inputs": lambda: make([N("Relu", ["x"], ["a"]), N("Gemm", ["x", "a"], ["y"], transB=1, alpha=0.3)], (3, 4), {}),
    "matmul_batched": lambda: make(
        [N("Reshape", ["x", "s"], ["a"]), N("MatMul", ["a", "w"], ["y"])], (2, 12), {"s": np.array([2, 3, 4]), "w": rand(2, 4, 5)}
    ),
    "batch_norm_alone": lambda: make(
        [N("BatchNormalization", ["x", "g", "h", "mu", "var"], ["y"])],
        (1, 4, 3, 3),
        {"g": 1 + rand(4), "h": rand(4), "mu": rand(4), "var": 1 + np.abs(rand(4))},
    ),
    "scale_after_conv": lambda: make(
        [N("Conv", ["x", "w"], ["a"]), N("Mul", ["a", "s"], ["m"]), N("Sub", ["m", "t"], ["d"]), N("Div", ["d", "u"], ["y"])],
        (1, 3, 5, 5),
        {"w": rand(4, 3, 2, 2), "s": -1 + rand(4, 1, 1), "t": rand(1, 4, 1, 1), "u": np.float32(3)},
    ),
    "slices_and_splits": lambda: make(
        [
            N("Conv", ["x", "w"], ["c"]),
            N("Split", ["c"], ["a", "b"], axis=1),
            N("Slice", ["a", "st", "en", "ax"], ["s"]),
            N("Slice", ["b", "st", "en", "ax"], ["t"]),
            N("Mul", ["s", "t"], ["y"]),
        ],
        (1, 3, 6, 6),
        {"w": rand(8, 3, 3, 3), "st": np.array([1]), "en": np.array([4]), "ax": np.array([2])},
    ),
    "two_outputs": lambda: make(
        [N("Conv", ["x", "w"], ["y"]), N("Relu", ["y"], ["z"])], (1, 3, 5, 5), {"w": rand(4, 3, 3, 3)}, outputs=("y", "z")
    ),
    "prelu_argmax": lambda: make(
        [N("Conv", ["x", "w"], ["c"]), N("PRelu", ["c", "s"], ["y"])], (1, 3, 5, 5), {"w": rand(4, 3, 3, 3), "s": rand(4, 1, 1)}
    ),
}


def reference_of(model, x):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options).run(None, {model.graph.input[0].name: x})


def compiled(model, tmp_path, board_name):
    return through_c(onnx_in.from_model(model, "m"), tmp_path, board_name)


def through_c(graph, tmp_path, board_name):
    b = board.load(board_name)
    c = pipeline.compile_graph(graph, b)
    for path, text in c.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return c, host.load(tmp_path, simd_on_host=b.simd)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_float(name, tmp_path):
    model = MODELS[name]()
    c, h = compiled(model, tmp_path, "cortex-m3")
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=c.graph.type("x").shape).astype(np.float32)
        interpreted = loop_interp.run(c.program, [x])
        for want, got, meant in zip(reference_of(model, x), h.run([x]), interpreted, strict=True):
            assert np.allclose(got, want, rtol=1e-5, atol=1e-5), np.abs(got - want).max()
            assert np.allclose(meant.reshape(want.shape), want, rtol=1e-5, atol=1e-5)


class Samples:
    """Calibration input for onnxruntime's quantiser."""

    def __init__(self, shape):
        self.left = [np.random.default_rng(k).normal(size=shape).astype(np.float32) for k in range(8)]

    def get_next(self):
        return {"x": self.left.pop()} if self.left else None


def quantised(model, tmp_path, form, activations, weights, per_channel):
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    types = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
    source, target = tmp_path / "float.onnx", tmp_path / "quantised.onnx"
    onnx.save(model, source)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    quantize_static(
        str(source),
        str(target),
        Samples(shape),
        quant_format=getattr(QuantFormat, form),
        activation_type=types[activations],
        weight_type=types[weights],
        per_channel=per_channel,
        extra_options={"ForceQuantizeNoInputCheck": True},
    )
    return onnx.load(target)


FORMS = [
    ("QDQ", "int8", "int8", True),
    ("QDQ", "uint8", "uint8", False),
    ("QDQ", "uint8", "int8", True),
    ("QOperator", "int8", "int8", False),
    ("QOperator", "uint8", "uint8", False),
]
QUANTISED = [
    "conv_pads_dilation",
    "conv_depthwise",
    "residual",
    "squeeze_excite",
    "flatten_picture",
    "one_dimensional",
    "average_pool_pads",
    "attention",
    "slices_and_splits",
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("form", FORMS, ids=lambda f: "-".join(map(str, f)))
@pytest.mark.parametrize("target", ["cortex-m3", "cortex-m4", "cortex-m55"])
def test_quantised_by_onnxruntime(target, name, form, tmp_path):
    """Integer kernels from end to end, a few steps of the output scale at most from onnxruntime after several layers."""
    model = quantised(MODELS[name](), tmp_path, *form)
    c, h = compiled(model, tmp_path / "c", target)
    weighted = [n for n in c.graph.nodes if n.op in ("Conv", "Gemm")]
    integer = weighted or [n for n in c.graph.nodes if n.op == "AveragePool"]
    assert integer and all(c.graph.type(n.inputs[0]).dtype == "int8" for n in integer), [str(n) for n in integer]
    last = [n for n in c.graph.nodes if n.op == "DequantizeLinear"]
    step = max((float(c.graph.const(n.inputs[1]).max()) for n in last), default=0.0)
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=c.graph.type("x").shape).astype(np.float32)
        meant = loop_interp.run(c.program, [x])
        for want, got, interpreted in zip(reference_of(model, x), h.run([x]), meant, strict=True):
            assert np.allclose(np.asarray(got).reshape(-1), interpreted.reshape(-1), atol=1e-6)  # the last operator may be float
            assert np.abs(got - want).max() <= 2.01 * step, (np.abs(got - want).max(), step)


def test_what_cannot_be_lowered_is_listed_at_once(tmp_path):
    m = make([N("CumSum", ["x", "axis"], ["a"], name="first"), N("CumSum", ["a", "axis"], ["y"], name="second")], (2, 3), {})
    m.graph.input.append(helper.make_tensor_value_info("axis", TensorProto.INT64, ()))
    with pytest.raises(UnsupportedError) as e:
        compiled(m, tmp_path, "cortex-m3")
    assert "first" in e.value.where and "second" in e.value.where
