"""Properties of every operator over cases of its own strategy: the loop interpreter, portable C and the DSP kernels on the
host give the same bits; floats are near ONNX's evaluator, quantised operators within one step of it.

A run takes few examples; with EDGEC_NO_SKIP, as CI sets it, it takes many."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import layer_cases
import numpy as np
import onnx
import op_cases
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from test_ops_c import INEXACT, INTERPRETER, bits, functions

from edgec import board, host, loop_interp, onnx_in, pipeline, reference, store
from edgec.loop_verify import statements
from edgec.loops import Call
from edgec.ops import table

THOROUGH = bool(os.environ.get("EDGEC_NO_SKIP"))
TARGETS = ("cortex-m3", "cortex-m4", "cortex-m55")  # portable C, DSP and Helium kernels in plain C
GENERATORS = layer_cases.GENERATORS
ELSEWHERE = {  # operators without a strategy here, and what tests them
    "If": "test_control",
    "Loop": "test_control",
    "Scatter": "ScatterElements, by its old name, which ONNX's evaluator does not know",
}
SINGULAR = "Sqrt Log Reciprocal Tan Asin Acos Acosh Atanh".split()  # not finite on every quantised range
UNARY = sorted(n for n, op in table.OPS.items() if op.quant == "lut" and n not in SINGULAR and n != "Clip")


def test_every_operator_has_a_strategy():
    known = {n for n in table.OPS if not n.startswith("edgec.")}  # those are made by passes, of others
    assert known - set(GENERATORS) == set(ELSEWHERE), "give a new operator a generator in layer_cases.py"
    for op in layer_cases.OWN:
        assert op_cases.cases(op, 0, GENERATORS), op


# --- floats and whole numbers -------------------------------------------------------------------


def check(pairs) -> None:
    """Every meaning of these nodes side by side in one model."""
    model, inputs, wanted = op_cases.merged(pairs)
    first = None
    for target in TARGETS[:2]:
        c = pipeline.compile_graph(onnx_in.from_model(model, "m"), board.load(target))
        given = [inputs[i] for i in c.source.inputs]
        with tempfile.TemporaryDirectory() as folder:
            store.write_files(Path(folder), c.files)
            outputs = host.load(Path(folder), simd_on_host=board.load(target).simd).run(given)
        got = dict(zip(c.source.outputs, outputs, strict=True))
        inexact = {n.rpartition("_")[2] for f in c.program.steps if _exponentials(f) for n in f.origin}
        for (name, y), z in zip(got.items(), loop_interp.run(c.program, given), strict=True):
            if y.dtype.kind == "f" and name.rpartition("_")[2] in inexact:
                rtol, atol = INTERPRETER
                np.testing.assert_allclose(y.reshape(-1), z, rtol, atol * magnitude(z), err_msg=name)
            else:
                assert bits(y.tobytes(), str(y.dtype)) == bits(z.tobytes(), str(z.dtype)), f"{name} on {target}"
        first = first or got
        for name, y in got.items():
            assert bits(y.tobytes(), str(y.dtype)) == bits(first[name].tobytes(), str(y.dtype)), f"{name} on {target}"
    for name, want in zip((o.name for o in model.graph.output), wanted, strict=True):
        if name in c.source.counts:
            of, axis = c.source.counts[name]
            got[name] = got[name].take(range(int(got[of].reshape(-1)[0])), axis)
        near(got[name], want, name)


def _exponentials(step) -> bool:
    """Whether the interpreter's real functions, which are a unit in the last place from C's, are in a step."""
    calls = (s.kernel for s in statements(step.body) if isinstance(s, Call))
    return bool(INEXACT & functions([step])) or "softmax_f32" in calls


def near(got, want, name: str) -> None:
    assert (got.dtype, got.shape) == (want.dtype, want.shape), name
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, name)
        return
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=4e-6 * magnitude(want), err_msg=name)


def magnitude(x) -> float:
    """The largest number, at least 1: sums may cancel."""
    return max(1.0, float(np.abs(x[np.isfinite(x)]).max(initial=0)))


TOGETHER = [op for op in sorted(layer_cases.OWN) if op not in op_cases.ALONE]
CHUNKS = [TOGETHER[k::4] for k in range(4)] + [["ai.onnx.ml.TreeEnsemble"]]


@pytest.mark.parametrize("ops", CHUNKS, ids=lambda ops: ops[0])
def test_one_of_each_layer(ops):
    check([pair for op in ops for pair in op_cases.cases(op, 3, GENERATORS)])


ANY = sorted(set(GENERATORS) - set(op_cases.ALONE))


@settings(max_examples=12 if THOROUGH else 3, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(ANY), st.integers(0, 999), st.integers(0, 99)), min_size=6, max_size=12))
def test_any_operators_side_by_side(drawn):
    pairs = []
    for op, seed, k in drawn:
        cases = op_cases.cases(op, seed, GENERATORS)
        pairs.append(cases[k % len(cases)])
    check(pairs)


# --- quantised ----------------------------------------------------------------------------------


class Net:
    """A model of quantised operators side by side, under construction."""

    def __init__(self, rng):
        self.rng, self.nodes, self.constants, self.inputs, self.outputs = rng, [], {}, {}, []

    def const(self, value) -> str:
        self.constants[f"c{len(self.constants)}"] = np.asarray(value)
        return f"c{len(self.constants) - 1}"

    def add(self, op: str, *inputs: str, **attrs) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"t{len(self.nodes)}"], name=f"n{len(self.nodes)}", **attrs))
        return self.nodes[-1].output[0]

    def grid(self, scale=None, zero=None) -> tuple[str, str, np.float32]:
        scale = np.float32(self.rng.uniform(0.01, 0.1) if scale is None else scale)
        zero = np.int8(self.rng.integers(-40, 40) if zero is None else zero)
        return self.const(scale), self.const(zero), scale

    def given(self, *shape: int, grid=None) -> tuple[str, np.float32]:
        """A quantised input's real values, and their step."""
        name = f"x{len(self.inputs)}"
        self.inputs[name] = self.rng.integers(-128, 128, shape).astype(np.int8)
        s, z, scale = grid or self.grid()
        return self.add("DequantizeLinear", name, s, z), scale

    def weights(self, step: np.float32, *shape: int, axis: int = 0) -> list[str]:
        """Weights with a scale for each output channel, and their bias."""
        n = shape[axis]
        scales = self.rng.uniform(0.002, 0.02, n).astype(np.float32)
        w = self.const(self.rng.integers(-127, 128, shape).astype(np.int8))
        b = self.const(self.rng.integers(-2000, 2000, n).astype(np.int32))
        return [
            self.add("DequantizeLinear", w, self.const(scales), self.const(np.zeros(n, np.int8)), axis=axis),
            self.add("DequantizeLinear", b, self.const(step * scales), self.const(np.zeros(n, np.int32)), axis=0),
        ]

    def result(self, real: str, scale=None, zero=None) -> None:
        s, z, _ = self.grid(scale, zero)
        self.outputs.append(self.add("QuantizeLinear", real, s, z))

    def model(self) -> onnx.ModelProto:
        given = [helper.make_tensor_value_info(n, TensorProto.INT8, x.shape) for n, x in self.inputs.items()]
        made = [helper.make_tensor_value_info(n, TensorProto.INT8, None) for n in self.outputs]
        constants = [numpy_helper.from_array(v, n) for n, v in self.constants.items()]
        graph = helper.make_graph(self.nodes, "m", given, made, constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", onnx.defs.onnx_opset_version())])


def _conv(net: Net) -> None:
    depthwise, h, w = net.rng.random() < 0.4, *net.rng.integers(3, 8, 2)
    cin, tall, wide = (int(n) for n in net.rng.integers(1, 9, 3) % (8, 3, 3) + 1)
    group, cout = (cin, cin) if depthwise else (1, int(net.rng.integers(1, 9)))
    x, step = net.given(1, cin, int(h), int(w))
    pads = [int(net.rng.integers(0, tall)), int(net.rng.integers(0, wide))] * 2
    y = net.add(
        "Conv",
        x,
        *net.weights(step, cout, cin // group, tall, wide),
        group=group,
        pads=pads,
        strides=net.rng.integers(1, 3, 2).tolist(),
    )
    net.result(net.add("Relu", y) if net.rng.random() < 0.3 else y)


def _dense(net: Net) -> None:
    rows, k, n = (int(v) for v in net.rng.integers(1, 20, 3))
    x, step = net.given(min(rows, 3), k)
    net.result(net.add("Gemm", x, *net.weights(step, n, k), transB=1))


def _binary(net: Net) -> None:
    shape = tuple(int(n) for n in net.rng.integers(1, 6, 3))
    x, y = net.given(1, *shape)[0], net.given(1, *shape)[0]
    net.result(net.add(str(net.rng.choice(["Add", "Sub", "Mul"])), x, y))


def _pool(net: Net) -> None:
    x, _ = net.given(1, int(net.rng.integers(1, 6)), 6, int(net.rng.integers(3, 7)))
    size, same = net.rng.integers(1, 4, 2).tolist(), net.grid()
    net.result(net.add("AveragePool", x, kernel_shape=size, strides=net.rng.integers(1, 3, 2).tolist()))
    x, _ = net.given(1, 3, 5, 5, grid=same)
    net.outputs.append(net.add("QuantizeLinear", net.add("MaxPool", x, kernel_shape=size, strides=[2, 1]), *same[:2]))


def _softmax(net: Net) -> None:
    net.result(
        net.add("Softmax", net.given(int(net.rng.integers(1, 4)), int(net.rng.integers(2, 12)))[0], axis=-1),
        1 / 256,
        -128,
    )


def _unary(net: Net) -> None:
    net.result(net.add(str(net.rng.choice(UNARY)), net.given(2, 7)[0]), 0.05)


def _move(net: Net) -> None:
    x, _ = net.given(1, 4, 3, 5)
    kind = int(net.rng.integers(0, 5))
    if kind == 0:
        x = net.add("Transpose", x, perm=[0, *(int(k) + 1 for k in net.rng.permutation(3))])
    elif kind == 1:
        x = net.add("Slice", x, *map(net.const, (np.array([1, 0]), np.array([3, 4]), np.array([1, 3]))))
    elif kind == 2:
        x = net.add("Concat", x, net.given(1, 2, 3, 5)[0], axis=1)
    elif kind == 3:
        x = net.add("ReduceMax", x, net.const(np.array([2])), keepdims=0)
    else:
        x = net.add("Pad", x, net.const(np.array([0, 0, 1, 0, 0, 0, 0, 2])))
    net.result(x)


KINDS = (_conv, _conv, _dense, _binary, _pool, _softmax, _unary, _move)


@settings(max_examples=12 if THOROUGH else 3, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(KINDS), min_size=4, max_size=9), st.integers(0, 9999))
def test_quantised_operators_have_one_meaning(kinds, seed):
    net = Net(np.random.default_rng(seed))
    for kind in kinds:
        kind(net)
    model = net.model()
    wanted = dict(zip(net.outputs, ReferenceEvaluator(model).run(net.outputs, net.inputs), strict=True))
    for target in TARGETS:
        c = pipeline.compile_graph(onnx_in.from_model(model, "m"), board.load(target))
        given = [net.inputs[i] for i in c.source.inputs]
        with tempfile.TemporaryDirectory() as folder:
            store.write_files(Path(folder), c.files)
            outputs = host.load(Path(folder), simd_on_host=board.load(target).simd).run(given)
        meant, interpreted = reference.run(c.graph, net.inputs), loop_interp.run(c.program, given)
        for name, got, z in zip(c.source.outputs, outputs, interpreted, strict=True):
            np.testing.assert_array_equal(got, meant[name], f"{name} on {target}: C and reference")
            np.testing.assert_array_equal(got.reshape(-1), z, f"{name} on {target}: C and interpreter")
            away = np.abs(got.astype(int) - wanted[name].astype(int))
            assert away.max() <= 1, f"{name} on {target} is {away.max()} steps from ONNX's"
