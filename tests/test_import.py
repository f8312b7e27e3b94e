"""Import: wrong files, shapes, function bodies, old opsets, constants."""
from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec import api, onnx_in, pipeline, reference
from edgec.errors import ModelError, UnsupportedError, UsageError

F = TensorProto.FLOAT


def model(nodes, inputs, outputs, initializers=(), opset=17, functions=()):
    graph = helper.make_graph(list(nodes), "g", [helper.make_tensor_value_info(n, F, s) for n, s in inputs],
                              [helper.make_tensor_value_info(n, F, s) for n, s in outputs],
                              [numpy_helper.from_array(np.asarray(v), k) for k, v in initializers])
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], functions=list(functions))
    m.ir_version = 8
    return m


def relu(shape=(1, 4), **more):
    return model([helper.make_node("Relu", ["x"], ["y"], name="act")], [("x", shape)], [("y", shape)], **more)


def save(tmp_path, m, name="m.onnx"):
    onnx.save(m, tmp_path / name)
    return tmp_path / name


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        onnx_in.load(tmp_path / "nothing.onnx")


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"\xff\xd8\xff\xe0" + b"\x10" * 500, "JPEG"),
        (b"\x89PNG\r\n" + b"\xff" * 400, "PNG"),
        (b"\x1c\x00\x00\x00TFL3" + b"\xff" * 200, "TensorFlow Lite"),
    ],
)
def test_other_formats_are_named(tmp_path, head, says):
    (tmp_path / "m.onnx").write_bytes(head)
    with pytest.raises(ModelError, match=says):
        onnx_in.load(tmp_path / "m.onnx")


@pytest.mark.parametrize("keep", [0, 1, 10, 30, 60, 90])
def test_truncated_model(tmp_path, keep):
    data = relu().SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data[:len(data) * keep // 100])
    with pytest.raises(ModelError):
        onnx_in.load(path)


def test_opsets_from_the_future(tmp_path):
    m = relu()
    m.opset_import[0].version = onnx.defs.onnx_opset_version() + 1
    with pytest.raises(ModelError, match="opset"):
        onnx_in.from_model(m, "m")


def test_all_unsupported_nodes_at_once():
    m = model(
        [
            helper.make_node("StringNormalizer", ["s"], ["t"], name="first"),
            helper.make_node("Multinomial", ["x"], ["y"], name="second", sample_size=2),
            helper.make_node("RandomNormalLike", ["x"], ["z"], name="third"),
        ],
        [("x", (2, 2))],
        [("y", (2, 2)), ("z", (2, 2))],
    )
    m.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT32
    del m.graph.node[0]
    with pytest.raises(UnsupportedError) as e:
        onnx_in.from_model(m, "m")
    assert "second" in e.value.where and "third" in e.value.where and e.value.exit_code == 4


def test_symbolic_shapes():
    m = relu(("batch", 4))
    g = onnx_in.from_model(m, "m")
    assert g.type("x").shape == (1, 4) and "batch" in g.notes[0]
    wide = relu((1, "width"))
    with pytest.raises(UsageError, match="dynamic") as e:
        onnx_in.from_model(wide, "m")
    assert "--shape x=" in e.value.fix
    assert onnx_in.from_model(wide, "m", {"x": (1, 7)}).type("y").shape == (1, 7)
    with pytest.raises(UsageError, match="does not fit"):
        onnx_in.from_model(relu((1, 4)), "m", {"x": (1, 5)})
    with pytest.raises(UsageError, match="does not have"):
        onnx_in.from_model(relu((1, 4)), "m", {"q": (1, 4)})


def test_empty_tensors_are_left_out():
    graph = onnx_in.from_model(relu((1, 0)), "m")
    assert not graph.inputs and not graph.outputs and any("no elements" in n for n in graph.notes)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_inf_weights(bad):
    w = np.ones((4, 3), np.float32)
    w[2, 1] = bad
    m = model([helper.make_node("Gemm", ["x", "w"], ["y"], name="fc")], [("x", (1, 4))], [("y", (1, 3))], [("w", w)])
    with pytest.raises(ModelError, match=r"\(2, 1\)") as e:
        onnx_in.from_model(m, "m")
    assert "fc" in e.value.where


def test_minus_infinity_masks_are_no_error():
    mask = np.array([[0, -np.inf, 0, 0]], np.float32)
    m = model([helper.make_node("Add", ["x", "mask"], ["y"])], [("x", (1, 4))], [("y", (1, 4))], [("mask", mask)])
    assert len(onnx_in.from_model(m, "m").nodes) == 1


def test_constants_and_shape_arithmetic_fold():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "i"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "a"], ["n1"]),
        helper.make_node("Concat", ["one", "n1"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    m = model(
        nodes, [("x", (2, 3))], [("y", None)], [("i", np.int64(0)), ("a", np.array([0])), ("one", np.array([-1], np.int64))]
    )
    g = onnx_in.from_model(m, "m")
    assert [n.op for n in g.nodes] == ["Reshape"] and g.type("y").shape == (3, 2)


def test_function_bodies_are_inlined():
    """An operator without a record but with an ONNX function body, and a model-local function."""
    m = model(
        [helper.make_node("MeanVarianceNormalization", ["x"], ["y"], name="norm")], [("x", (1, 2, 3, 3))], [("y", (1, 2, 3, 3))]
    )
    g = onnx_in.from_model(m, "m")
    assert "MeanVarianceNormalization" not in {n.op for n in g.nodes}
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 3)).astype(np.float32)
    want = onnx.reference.ReferenceEvaluator(m).run(None, {"x": x})[0]
    assert np.allclose(reference.run(g, {"x": x})["y"], want, atol=1e-5)
    f = helper.make_function(
        "mine", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    m = model([helper.make_node("Twice", ["x"], ["y"], domain="mine")], [("x", (1, 4))], [("y", (1, 4))], functions=[f])
    m.opset_import.append(helper.make_opsetid("mine", 1))
    assert [n.op for n in onnx_in.from_model(m, "m").nodes] == ["Add"]


@pytest.mark.parametrize(("opset", "node", "initializers"), [
    (10, helper.make_node("Clip", ["x"], ["y"], min=-1.0, max=1.0), ()),
    (9, helper.make_node("Slice", ["x"], ["y"], starts=[0, 1], ends=[1, 3]), ()),
    (10, helper.make_node("Pad", ["x"], ["y"], pads=[0, 1, 0, 1], value=2.0), ()),
    (12, helper.make_node("Squeeze", ["x"], ["y"], axes=[0]), ()),
    (12, helper.make_node("ReduceSum", ["x"], ["y"], axes=[1], keepdims=1), ()),
    (17, helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0), ()),
    (12, helper.make_node("Softmax", ["x"], ["y"], axis=0), ()),
])
def test_old_attribute_forms(opset, node, initializers):
    ort = pytest.importorskip("onnxruntime")
    m = model([node], [("x", (1, 4))], [("y", None)], initializers, opset=opset)
    x = np.random.default_rng(1).normal(size=(1, 4)).astype(np.float32)
    want = ort.InferenceSession(m.SerializeToString()).run(None, {"x": x})[0]  # onnx.reference has no old Softmax
    got = reference.run(pipeline.simplify(onnx_in.from_model(m, "m")), {"x": x})["y"]
    assert got.shape == want.shape and np.allclose(got, want, atol=1e-6)


def _misfit(op: str, shapes: dict[str, tuple[int, ...]], out: tuple[int, ...], **attrs) -> onnx.ModelProto:
    """One node; its first input arrives at run time, the others are weights."""
    weights = [(n, np.ones(s, np.float32)) for n, s in shapes.items() if n != "x"]
    return model([helper.make_node(op, [*shapes], ["y"], name="wrong", **attrs)], [("x", shapes["x"])], [("y", out)], weights, 18)


@pytest.mark.parametrize("op, shapes, out, attrs", [
    ("Conv", {"x": (1, 5, 8, 8), "w": (4, 3, 3, 3)}, (1, 4, 6, 6), {}),
    ("Conv", {"x": (1, 3, 8, 8), "w": (4, 3, 3)}, (1, 4, 6, 6), {}),
    ("ConvTranspose", {"x": (1, 3, 4, 4), "w": (2, 4, 3, 3)}, (1, 4, 6, 6), {}),
    ("PRelu", {"x": (1, 3, 4), "w": (5,)}, (1, 3, 4), {}),
    ("GRU", {"x": (2, 1, 4), "w": (1, 9, 5), "r": (1, 9, 3)}, (2, 1, 1, 3), {"hidden_size": 3}),
    ("DepthToSpace", {"x": (1, 6, 2, 2)}, (1, 1, 4, 4), {"blocksize": 2}),
])
def test_shapes_that_do_not_fit_are_the_models_fault(tmp_path, op, shapes, out, attrs):
    path = save(tmp_path, _misfit(op, shapes, out, **attrs))
    with pytest.raises(ModelError) as e:
        api.build(path, board="host", out=tmp_path / "out")
    assert e.value.where == "wrong" and not (tmp_path / "out").exists()


def test_an_internal_error_on_a_right_model_stays_one(tmp_path, monkeypatch):
    path = save(tmp_path, _misfit("Conv", {"x": (1, 3, 8, 8), "w": (4, 3, 3, 3)}, (1, 4, 6, 6)))
    monkeypatch.setattr(pipeline, "compile_graph", lambda *a, **k: [][0])
    with pytest.raises(IndexError):
        api.build(path, board="host", out=tmp_path / "out")
