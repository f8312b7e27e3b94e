"""Models that other tools quantised: integer operators within one step of onnxruntime, and what stays float is named."""

import contextlib
import io
import logging
import warnings
from collections import Counter

import numpy as np
import onnx
import pytest
from networks import held
from onnx import helper, numpy_helper, version_converter

from edgec import board, onnx_in, onnx_run, pipeline
from edgec.reference import run_node
from edgec.report import float_islands

torch = pytest.importorskip("torch")
nn = torch.nn
SHAPE = (1, 3, 8, 8)
INTEGERS = ("int8", "int16")
MOVING = ("QuantizeLinear", "DequantizeLinear", "QuantizeLinear+DequantizeLinear", "Transpose", "edgec.Offset")


class Net(nn.Module):
    """Dense, depthwise and pointwise layers, a sum, a join, pools, Sigmoid and Softmax."""

    def __init__(self):
        super().__init__()
        self.a, self.d = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.p, self.q = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 12, 3, padding=1)
        self.f, self.g, self.r, self.m = nn.Linear(12, 6), nn.Linear(6, 4), nn.ReLU(), nn.MaxPool2d(2)

    def forward(self, x):
        x = nn.functional.relu6(self.p(self.r(self.d(self.r(self.a(x))))))
        x = self.m(self.r(x + self.q(x)))
        x = torch.cat([x, x * 0.5], 1)[:, :12].mean((2, 3))
        return torch.softmax(self.g(torch.sigmoid(self.f(x))), 1)


def exported(model, path, opset=17):
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), (torch.zeros(SHAPE),), str(path), input_names=["x"], output_names=["y"],
                          opset_version=17, dynamo=False)
    if opset != 17:
        onnx.save(version_converter.convert_version(onnx.load(path), opset), path)
    return onnx.load(path)


def check(model: onnx.ModelProto, islands=(), shape=SHAPE, exact=(), seed=3):
    """Every integer operator, fed with onnxruntime's own tensors. islands: operators that stay float, all of them
    named in the report. exact: operators without a difference of one step."""
    compiled = pipeline.compile_graph(onnx_in.from_model(model, "g"), board.load("host"), name="t")
    graph, rng = compiled.graph, np.random.default_rng(seed)
    found = float_islands(compiled.stats["steps"], graph)
    assert {i["op"] for i in found} - set(MOVING) == set(islands) and all(i["origin"] for i in found)
    made = {o for n in model.graph.node for o in n.output}
    sources = [t.source for t in graph.tensors.values() if t.data is None and t.source in made]
    ort, worst, count = onnx_run.reference(model, sources), Counter(), Counter()
    for _ in range(6):
        x = {"x": rng.standard_normal(shape).astype(np.float32)}
        values = {k: _signed(v) for k, v in (x | dict(zip(ort.names, ort.run(x), strict=True))).items()}
        for node in graph.nodes:
            want = held(graph, values, node.outputs[0])
            ins = [held(graph, values, t) for t in node.inputs if t]
            if graph.type(node.outputs[0]).dtype not in INTEGERS or want is None or any(i is None for i in ins):
                continue
            off = np.abs(run_node(graph, node, ins)[0].astype(int) - want.astype(int)).max()
            worst[node.op], count[node.op] = max(worst[node.op], int(off)), count[node.op] + 1
    assert max(worst.values()) <= 1 and all(worst[op] == 0 for op in exact), worst
    assert count["Conv"] >= 6 and sum(count.values()) >= 24, count
    return graph


def _signed(v: np.ndarray) -> np.ndarray:
    """As `passes.absorb.signed` moves it."""
    half = {"uint8": 128, "uint16": 32768}.get(str(v.dtype))
    return v if half is None else (v.astype(int) - half).astype(str(v.dtype)[1:])


# ---- onnxruntime ----


def by_onnxruntime(folder, activations, weights, per_channel, form="QDQ", opset=17, **extra):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    torch.manual_seed(0)
    exported(Net(), folder / "float.onnx", opset)

    class Reader(CalibrationDataReader):
        rest = iter(np.random.default_rng(0).standard_normal((10, *SHAPE)).astype(np.float32))

        def get_next(self):
            sample = next(self.rest, None)
            return None if sample is None else {"x": sample}

    logging.getLogger().setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        quant_pre_process(str(folder / "float.onnx"), str(folder / "prepared.onnx"))
        quantize_static(str(folder / "prepared.onnx"), str(folder / "q.onnx"), Reader(), per_channel=per_channel,
                        quant_format=QuantFormat[form], activation_type=QuantType[activations],
                        weight_type=QuantType[weights], extra_options=extra)
    return onnx.load(folder / "q.onnx")


@pytest.mark.parametrize(("form", "activations", "weights", "per_channel"), [
    ("QDQ", "QInt8", "QInt8", True), ("QDQ", "QUInt8", "QUInt8", False),
    ("QOperator", "QUInt8", "QInt8", True), ("QOperator", "QInt8", "QInt8", False)])
def test_8_bits(form, activations, weights, per_channel, tmp_path):
    check(by_onnxruntime(tmp_path, activations, weights, per_channel, form))


@pytest.mark.parametrize(("weights", "per_channel"), [("QInt4", True), ("QUInt4", False)])
def test_4_bit_weights(weights, per_channel, tmp_path):
    check(by_onnxruntime(tmp_path, weights.replace("4", "8"), weights, per_channel, opset=21))


@pytest.mark.parametrize(("activations", "opset", "extra"), [("QInt16", 21, {"ActivationSymmetric": True}),
                                                             ("QInt16", 17, {"UseQDQContribOps": True}), ("QUInt16", 21, {})])
def test_16_bit_activations(activations, opset, extra, tmp_path):
    """With zero points and without; written by the ONNX operators or onnxruntime's own."""
    graph = check(by_onnxruntime(tmp_path, activations, "QInt8", True, opset=opset, **extra), {"Softmax"})
    assert any(n.op == "edgec.Curve" for n in graph.nodes)


# ---- PyTorch, quantisation-aware training ----


def test_qat_graph_mode(tmp_path):
    from torch.ao import quantization as tq
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        mapping = tq.get_default_qat_qconfig_mapping("qnnpack", version=0)
        model = prepare_qat_fx(Net().train(), mapping, (torch.zeros(SHAPE),))
        for _ in range(5):
            model(torch.randn(4, *SHAPE[1:]))
        model.apply(tq.disable_observer)
    check(exported(model, tmp_path / "qat.onnx"), {"Softmax"})


class Eager(nn.Module):
    def __init__(self, tq):
        super().__init__()
        self.q, self.dq = tq.QuantStub(), tq.DeQuantStub()
        self.c, self.b, self.r = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.c2, self.f, self.add = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5), torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x):
        x = self.r(self.b(self.c(self.q(x))))
        x = self.add.add_relu(x, self.c2(x))
        return self.dq(self.f(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)))


def test_qat_eager_mode_with_folded_normalisation(tmp_path):
    """It quantises nothing between the pool and the layer behind it: both are float, as in onnxruntime."""
    from torch.ao import quantization as tq

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = Eager(tq).train()
        model.qconfig = tq.get_default_qat_qconfig("qnnpack", version=0)
        model = tq.prepare_qat(tq.fuse_modules_qat(model, [["c", "b", "r"]]))
        for _ in range(5):
            model(torch.randn(4, *SHAPE[1:]))
        model.apply(tq.disable_observer)
    check(exported(model, tmp_path / "qat.onnx"), {"AveragePool", "Gemm"})


# ---- graphs as Brevitas and tf2onnx write them ----


class Maker:
    """Builds a graph node by node."""

    def __init__(self):
        self.nodes, self.constants, self.rng = [], [], np.random.default_rng(0)

    def const(self, name, value):
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, op, inputs, out, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [out], name=f"the_{out}", **attributes))
        return out

    def quantised(self, x, tag, scale, zero, limits=None):
        given = [self.const(f"{tag}_s", np.float32(scale)), self.const(f"{tag}_z", zero)]
        now = self.op("QuantizeLinear", [x, *given], f"{tag}_q")
        if limits is not None:
            bounds = [self.const(f"{tag}_{k}", zero.dtype.type(v)) for k, v in enumerate(limits)]
            now = self.op("Clip", [now, *bounds], f"{tag}_c")
        return self.op("DequantizeLinear", [now, *given], f"{tag}_f")

    def weights(self, tag, values, scale, zero, limits=None):
        now = self.const(f"{tag}_i", values)
        if limits is not None:
            bounds = [self.const(f"{tag}_{k}", values.dtype.type(v)) for k, v in enumerate(limits)]
            now = self.op("Clip", [now, *bounds], f"{tag}_c")
        axis = {"axis": 0} if np.ndim(scale) else {}
        return self.op("DequantizeLinear", [now, self.const(f"{tag}_s", scale), self.const(f"{tag}_z", zero)], f"{tag}_f", **axis)

    def model(self, shape, out):
        info = helper.make_tensor_value_info
        graph = helper.make_graph(self.nodes, "g", [info("x", 1, shape)], [info("y", 1, out)], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        return model


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_brevitas(bits):
    """QuantizeLinear, Clip, DequantizeLinear; scales that are powers of two, of weights per channel; int32 biases."""
    m, top = Maker(), 2 ** (bits - 1) - 1
    narrow = (-top, top) if bits < 8 else None

    def w(tag, *shape):
        scale = 2.0 ** -m.rng.integers(4, 7, shape[0])
        return m.weights(tag, m.rng.integers(-top, top + 1, shape).astype(np.int8), scale.astype(np.float32),
                         np.zeros(shape[0], np.int8), narrow)

    def b(tag, n):
        return m.weights(tag, m.rng.integers(-50, 50, n).astype(np.int32), np.full(n, 2.0**-8, np.float32), np.zeros(n, np.int32))

    x = m.quantised("x", "xq", 2.0**-5, np.int8(0))
    a = m.op("Relu", [m.op("Conv", [x, w("w1", 8, 3, 3, 3), b("b1", 8)], "c1", pads=[1, 1, 1, 1])], "r1")
    a = m.quantised(a, "rq", 2.0**-3, np.uint8(0), (0, 2**bits - 1) if bits < 8 else None)
    a = m.quantised(m.op("Conv", [a, w("w2", 8, 8, 3, 3), b("b2", 8)], "c2", strides=[2, 2]), "cq", 2.0**-2, np.int8(0), narrow)
    a = m.op("Flatten", [m.quantised(m.op("GlobalAveragePool", [a], "p"), "pq", 2.0**-4, np.int8(0))], "fl")
    a = m.quantised(m.op("Gemm", [a, w("w3", 5, 8), b("b3", 5)], "fc", transB=1), "yq", 2.0**-3, np.int8(0))
    m.op("Identity", [a], "y")
    check(m.model(SHAPE, (1, 5)))


def test_tf2onnx():
    """TFLite's own: uint8 with zero points everywhere, weights per tensor, channels last outside, uneven padding."""
    m = Maker()

    def w(tag, *shape):
        return m.weights(tag, m.rng.integers(0, 256, shape).astype(np.uint8), np.float32(0.01), np.uint8(119))

    def b(tag, n, scale):
        return m.weights(tag, m.rng.integers(-500, 500, n).astype(np.int32), np.float32(scale), np.int32(0))

    def q(x, tag, scale, zero):
        return m.quantised(x, tag, scale, np.uint8(zero))

    x = q(m.op("Transpose", [q("x", "xq", 0.03, 128)], "t", perm=[0, 3, 1, 2]), "tq", 0.03, 128)
    a = m.op("Conv", [x, w("w1", 6, 3, 3, 3), b("b1", 6, 3e-4)], "c1", pads=[0, 0, 1, 1], strides=[2, 2])
    a = q(m.op("Clip", [a, m.const("lo", np.float32(0)), m.const("hi", np.float32(6))], "r"), "rq", 6 / 255, 0)
    d = q(m.op("Conv", [a, w("w2", 6, 1, 3, 3), b("b2", 6, 6e-2 / 255)], "c2", group=6, pads=[1, 1, 1, 1]), "dq", 0.02, 100)
    s = q(m.op("Add", [a, d], "s"), "sq", 0.04, 60)
    s = m.op("Reshape", [m.op("Transpose", [s], "u", perm=[0, 2, 3, 1]), m.const("to", np.array([1, -1]))], "f")
    s = m.op("MatMul", [q(s, "fq", 0.04, 60), w("w3", 96, 5)], "mm")
    s = q(m.op("Softmax", [q(m.op("Add", [s, b("b3", 5, 4e-4)], "mb"), "mq", 0.1, 128)], "sm", axis=-1), "yq", 1 / 256, 0)
    m.op("Identity", [s], "y")
    check(m.model((1, 8, 8, 3), (1, 5)), shape=(1, 8, 8, 3), exact=("Softmax",))
