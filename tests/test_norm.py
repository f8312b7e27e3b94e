"""Layer and RMS normalisation on integers: the reference near the exact value, the C like the reference, no float left."""
from __future__ import annotations

import kernel_lib
import numpy as np
import onnx
import pytest
from hypothesis import given, settings, strategies as st
from onnx import TensorProto as T, helper, numpy_helper

from edgec import board, host, onnx_in, onnx_run, pipeline, reference
from edgec.ir import Node, QParams, TensorType, attrs
from edgec.ops import norm

KERNELS = tuple(f"norm_{s}" for s in norm.SUFFIX.values())
FIELDS = "n, zx, rms, half, eps_high, eps_low, fraction, f, lo, hi, x16, y16"


def exact(node, x, scale, bias, x_t, y_t):
    """Of the integers, in steps of the output, without rounding."""
    d = (x.astype(np.float64) - float(x_t.q.zero_point)) * float(x_t.q.scale)
    d = d if node.op == "RMSNormalization" else np.where(np.ptp(d, 1)[:, None] == 0, 0, d - d.mean(1, keepdims=True))
    y = d / np.sqrt((d * d).mean(1, keepdims=True) + node.attrs["epsilon"]) * scale + bias
    return y / float(y_t.q.scale) + float(y_t.q.zero_point)


def layer(rng, n, types, op="LayerNormalization", epsilon=1e-5):
    """(node, x [rows][n], scale, bias, x_t, y_t) with hard rows: constant ones, a single outlier, extremes."""
    info = np.iinfo(types[0])
    x = rng.integers(info.min, info.max + 1, (8, n))
    x[0], x[1], x[2] = info.min, 3, rng.integers(-2, 3, n)
    x[3] = info.max
    x[3, 0] = info.min
    qx = QParams.of(np.float32(rng.uniform(1e-4, 0.1)), int(rng.integers(-128, 128)) if types[0] == "int8" else 0)
    spread = 127 if types[1] == "int8" else 32767
    qy = QParams.of(np.float32(4 / spread), int(rng.integers(-50, 50)) if types[1] == "int8" else 0)
    scale, bias = rng.normal(1, 0.5, n).astype(np.float32), rng.normal(0, 0.5, n).astype(np.float32)
    node = Node(op, ("x", "s", "b"), ("y",), attrs(axis=-1, epsilon=epsilon))
    return node, x.astype(types[0]), scale, bias, TensorType(types[0], x.shape, qx), TensorType(types[1], x.shape, qy)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 300), st.sampled_from(tuple(norm.SUFFIX)), st.sampled_from(norm.NORMS),
       st.sampled_from((1e-12, 1e-5, 1e-2)))
def test_half_a_step_from_the_exact_value(seed, n, types, op, epsilon):
    """And the bound that the file's head states."""
    node, x, scale, bias, x_t, y_t = layer(np.random.default_rng(seed), n, types, op, epsilon)
    p = norm.parts(node, scale, bias, x_t, y_t)
    got = reference_of(node, x, scale, bias, x_t, y_t)
    info = np.iinfo(types[1])
    want = np.clip(exact(node, x, scale, bias, x_t, y_t), info.min, info.max)
    assert p.f >= 8 and np.abs(got - want).max() <= (0.52 if types[1] == "int8" else 0.6)


def reference_of(node, x, scale, bias, x_t, y_t):
    return norm.reference(node, [x, scale, bias], [x_t, None, None], [y_t])[0].astype(np.int64)


@pytest.fixture(scope="module")
def lib():
    cdef = ""
    for types, s in norm.SUFFIX.items():
        x, y = (f"{t}_t" for t in types)
        cdef += (f"typedef struct {{ int32_t {FIELDS}; }} ec_norm_{s}_t;\nvoid ec_norm_{s}(const ec_norm_{s}_t *p, const {x} *x, "
                 f"const int32_t *gain, const int32_t *offset, {y} *out);\n")
    simd = kernel_lib.RUNTIME / "simd" / "c99"
    return kernel_lib.compile_kernels(
        [f"{k}.h" for k in KERNELS], (kernel_lib.C99,), simd, cdef, flags=("-O1", *kernel_lib.UBSAN)
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from((1, 2, 3, 16, 100, 4096)),
    st.sampled_from(tuple(norm.SUFFIX)),
    st.sampled_from(norm.NORMS),
)
def test_kernel_is_the_reference(lib, seed, n, types, op):
    node, x, scale, bias, x_t, y_t = layer(np.random.default_rng(seed), n, types, op)
    p, (ffi, c) = norm.parts(node, scale, bias, x_t, y_t), lib
    info = np.iinfo(types[1])
    values = (n, int(x_t.q.zero_point), int(op == "RMSNormalization"), p.half, p.epsilon >> 32,
              int(np.uint32(p.epsilon & 0xFFFFFFFF).astype(np.int32)), p.fraction, p.f, info.min, info.max,
              int(types[0] == "int16"), int(types[1] == "int16"))
    name = norm.SUFFIX[types]
    want = reference_of(node, x, scale, bias, x_t, y_t)
    for row, expected in zip(x, want, strict=True):
        out = np.zeros(n, types[1])
        getattr(c, f"ec_norm_{name}")(ffi.new(f"ec_norm_{name}_t *", values), ffi.from_buffer(f"{types[0]}_t[]", row),
                                      ffi.from_buffer("int32_t[]", p.gain), ffi.from_buffer("int32_t[]", p.offset),
                                      ffi.from_buffer(f"{types[1]}_t[]", out))
        np.testing.assert_array_equal(out, expected)


def model(op, kind, shape, axis=-1):
    """DequantizeLinear -> normalisation -> QuantizeLinear."""
    rng, number = np.random.default_rng(2), numpy_helper.from_array
    dtype, n = {T.INT8: np.int8, T.UINT8: np.uint8}[kind], int(np.prod(shape[axis:]))
    constants = [
        number(rng.normal(1, 0.3, shape[axis:]).astype(np.float32), "s"),
        number(rng.normal(0, 0.3, shape[axis:]).astype(np.float32), "b"),
        number(np.float32(0.05), "xs"),
        number(dtype(7), "xz"),
        number(np.float32(0.03), "ys"),
        number(dtype(9), "yz"),
    ]
    assert n > 1
    names = ["xf", "s"] + (["b"] if op == "LayerNormalization" else [])
    nodes = [helper.make_node("DequantizeLinear", ["x", "xs", "xz"], ["xf"]), helper.make_node(op, names, ["f"], axis=axis),
             helper.make_node("QuantizeLinear", ["f", "ys", "yz"], ["y"])]
    info = helper.make_tensor_value_info
    g = helper.make_graph(nodes, "g", [info("x", kind, shape)], [info("y", kind, shape)], constants)
    return helper.make_model(g, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)


@pytest.mark.parametrize("kind", [T.INT8, T.UINT8])
@pytest.mark.parametrize(
    ("op", "shape", "axis"), [("LayerNormalization", (1, 5, 24), -1), ("LayerNormalization", (2, 3, 4, 5), 2)]
)
def test_no_float_is_left(tmp_path, kind, op, shape, axis):
    proto = model(op, kind, shape, axis)
    onnx.checker.check_model(proto)
    c = pipeline.compile_graph(onnx_in.from_model(proto, "m"), board.load("host"), name="t")
    assert {n.op for n in c.graph.nodes} <= {op, "edgec.Offset"} and "float" not in c.files["t.c"]
    for path, text in c.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    x = np.random.default_rng(3).integers(0, 100, shape).astype({T.INT8: np.int8, T.UINT8: np.uint8}[kind])
    got = host.load(tmp_path).run([x])[0].reshape(shape).astype(int)
    np.testing.assert_array_equal(got, reference.run(c.graph, {"x": x})["y"])
    assert np.abs(got - onnx_run.reference(proto).run({"x": x})[0]).max() <= 1
