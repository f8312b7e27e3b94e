"""Elementwise, movement and reduction operators: reference against ONNX, loop nest against reference."""
import operator

import numpy as np
import op_cases
import pytest

from edgec import loop_interp, loop_verify
from edgec.errors import UnsupportedError
from edgec.ir import Graph, Node, QParams, Tensor, TensorType, attrs
from edgec.loops import Store
from edgec.lower import lower
from edgec.ops import elementwise, movement, reduce

OPS = {op.name: op for family in (elementwise, movement, reduce) for op in family.OPS}
SEEDS = (1, 2, 3)


def close(found, wanted):
    """Integers exactly; float32 within rounding of a different order of operations."""
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    if wanted.dtype.kind == "f":
        np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-6)
    else:
        np.testing.assert_array_equal(found, wanted)


def one_node(op, inputs, out, constants=(), types=None, **attributes) -> Graph:
    """A graph of one node. inputs: name -> array; out: the output's type; types: others than the arrays' own."""
    own = {k: TensorType(str(v.dtype), v.shape) for k, v in inputs.items()} | (types or {})
    tensors = {k: Tensor(k, own[k], v if k in constants else None) for k, v in inputs.items()}
    node = Node(op, tuple(inputs), ("y",), attrs(**attributes), ("the_node",))
    run_time = tuple(k for k in inputs if k not in constants)
    return Graph("t", (node,), tensors | {"y": Tensor("y", out)}, run_time, ("y",))


def meanings(graph: Graph, inputs) -> tuple[list, list]:
    """(by the reference, by the loop nest) of a graph of one node."""
    node, op = graph.nodes[0], OPS[graph.nodes[0].op]
    types = [graph.type(i) if i else None for i in node.inputs]
    outs = [graph.type(o) for o in node.outputs]
    by_reference = op.reference(node, [inputs[i] if i else None for i in node.inputs], types, outs)
    program = lower(graph)
    loop_verify.verify(program)
    flat = loop_interp.run(program, [inputs[i] for i in graph.inputs])
    return by_reference, [y.reshape(t.shape) for y, t in zip(flat, outs, strict=True)]


def test_every_operator_has_cases():
    assert set(OPS) == set(op_cases.GENERATORS)


@pytest.mark.parametrize("op", sorted(OPS))
@pytest.mark.parametrize("seed", SEEDS)
def test_onnx_reference_and_nest_agree(op, seed):
    for node, inputs in op_cases.cases(op, seed):
        graph = op_cases.graph(node, inputs)
        n = graph.nodes[0]
        types = [graph.type(i) if i else None for i in n.inputs]
        inferred = OPS[op].infer(n, types, [graph.const(i) for i in n.inputs])
        assert [(t.dtype, t.shape) for t in inferred] == [(graph.type(o).dtype, graph.type(o).shape) for o in n.outputs]
        by_reference, by_nest = meanings(graph, inputs)
        for found, wanted in zip(by_reference, op_cases.expected(node, inputs), strict=True):
            close(found, wanted)
        for found, wanted in zip(by_nest, by_reference, strict=True):
            close(found, wanted)


@pytest.mark.parametrize("op", sorted(elementwise.UNARY))
def test_real_function_of_a_table_is_the_operator(op):
    for node, inputs in op_cases.cases(op, 5):
        graph = op_cases.graph(node, inputs)
        n, x = graph.nodes[0], inputs["x0"]
        if x.dtype != np.float32 or len(n.inputs) > 1:
            continue
        real = elementwise.UNARY[op](x.astype(np.float64), n.attrs)
        assert real.dtype == np.float64
        np.testing.assert_allclose(real, op_cases.expected(node, inputs)[0], rtol=1e-5, atol=1e-6)


def test_clip_table_has_its_bounds_in_attributes():
    assert elementwise.UNARY["Clip"](np.array([-2.0, 0.5, 9.0]), {"min": 0.0, "max": 6.0}).tolist() == [0.0, 0.5, 6.0]


@pytest.mark.parametrize("op,wanted", [
    ("Sigmoid", [0, 0, 1, 1]), ("Softplus", [0, 0, 88, 1000]), ("Mish", [0, 0, 88, 1000]), ("Swish", [0, 0, 88, 1000]),
    ("Elu", [-1, -1, 88, 1000]), ("Selu", [-1.7580993, -1.7580993, 92.4617, 1050.701])])
def test_stable_far_from_zero(op, wanted):
    x = np.array([-1000, -90, 88, 1000], np.float32)
    for y in meanings(one_node(op, {"x": x}, TensorType("float32", (4,))), {"x": x}):
        np.testing.assert_allclose(y[0], wanted, rtol=1e-6, atol=1e-30)


def test_softplus_keeps_its_small_values():
    x = np.array([-20, -12, -5], np.float32)
    for y in meanings(one_node("Softplus", {"x": x}, TensorType("float32", (3,))), {"x": x}):
        np.testing.assert_allclose(y[0], np.log1p(np.exp(x.astype(np.float64))), rtol=1e-6)


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Mod", "BitwiseXor", "Max"])
@pytest.mark.parametrize("dtype", op_cases.INTS)
def test_integers_wrap_at_their_ends(op, dtype):
    info = np.iinfo(dtype)
    ends = np.array([info.min, info.min + 1, info.max - 1, info.max, 1, 3], dtype)
    inputs = {"a": ends.reshape(-1, 1), "b": ends[ends != 0]}
    reference, nest = meanings(one_node(op, inputs, TensorType(dtype, (6, inputs["b"].size))), inputs)
    np.testing.assert_array_equal(nest[0], reference[0])
    exact = {"Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Mod": operator.mod, "Max": max,
             "Div": lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1), "BitwiseXor": operator.xor}[op]
    wanted = [[exact(int(a), int(b)) % 2**info.bits for b in inputs["b"]] for a in ends]
    np.testing.assert_array_equal(nest[0], np.array(wanted, "u" + dtype.removeprefix("u")).astype(dtype))


@pytest.mark.parametrize("op,x,attributes", [
    ("Reshape", (2, 6), {}), ("Flatten", (2, 3, 2), {}), ("Identity", (3,), {}), ("Dropout", (3,), {}),
    ("Transpose", (1, 3, 1, 4), {"perm": (1, 2, 0, 3)})])
def test_what_keeps_the_order_is_a_view(op, x, attributes):
    inputs = {"x": np.zeros(x, np.float32)} | ({"shape": np.array([3, 4])} if op == "Reshape" else {})
    node = one_node(op, inputs, TensorType("float32", x), ("shape",), **attributes).nodes[0]
    out, *_ = OPS[op].infer(node, [TensorType("float32", x), None][:len(inputs)], [None, *list(inputs.values())[1:]])
    program = lower(one_node(op, inputs, out, ("shape",), **attributes))
    assert not program.steps and program.buffers[program.outputs[0]].alias


def test_in_place_where_elements_correspond():
    f, i = TensorType("float32", (2, 3)), TensorType("int32", (2, 3))
    inputs = {"a": np.zeros((2, 3), np.float32), "b": np.zeros((3,), np.float32)}
    assert [p[1] for p in lower(one_node("Add", inputs, f)).steps[0].inplace] == ["a"]
    assert not lower(one_node("Cast", {"a": inputs["a"]}, i, to=6)).steps[0].inplace


def test_constants_of_one_value_are_written_into_the_formula():
    inputs = {"a": np.zeros((2, 3), np.float32), "b": np.full((3,), 2.5, np.float32)}
    program = lower(one_node("Mul", inputs, TensorType("float32", (2, 3)), ("b",)))
    assert all(b.place != "rom" for b in program.buffers.values()) and "2.5" in str(program.steps[0].body)


@pytest.mark.parametrize("op,index,wanted", [
    ("Gather", [5, -9, 2**31 - 1, -(2**31)], [3, 0, 3, 0]), ("GatherElements", [7, -7, 2, -1], [3, 0, 2, 3])])
def test_run_time_indices_never_leave_the_buffer(op, index, wanted):
    inputs = {"x": np.arange(4, dtype=np.float32) + 10, "i": np.array(index, np.int64)}
    reference, nest = meanings(one_node(op, inputs, TensorType("float32", (4,))), inputs)
    assert nest[0].tolist() == reference[0].tolist() == [w + 10 for w in wanted]


def test_index_tables_take_the_smallest_type():
    i = np.random.default_rng(0).permutation(300)
    inputs = {"x": np.arange(300, dtype=np.float32), "i": i}
    graph = one_node("Gather", inputs, TensorType("float32", (300,)), ("i",))
    assert {b.dtype for b in lower(graph).buffers.values() if b.place == "rom"} == {"uint16"}
    assert meanings(graph, inputs)[1][0].tolist() == i.tolist()


def test_quantised_padding_is_the_zero_point():
    t = TensorType("int8", (2,), QParams.of(0.5, -7))
    inputs = {"x": np.array([1, 2], np.int8), "pads": np.array([1, 2])}
    out = TensorType("int8", (5,), t.q)
    for more, value in (({}, -7), ({"v": np.array(1.0, np.float32)}, -5), ({"v": np.array(3, np.int8)}, 3)):
        given = inputs | more
        for y in meanings(one_node("Pad", given, out, ("pads", "v"), {"x": t}), given):
            assert y[0].tolist() == [value, 1, 2, value, value]


def test_linear_upsample_is_an_asymmetric_resize():
    x, out = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3), TensorType("float32", (1, 1, 4, 6))
    inputs = {"x": x, "s": np.array([1, 1, 2, 2], np.float32)}
    of_upsample = meanings(one_node("Upsample", inputs, out, ("s",), mode="linear"), inputs)
    inputs = {"x": x, "roi": np.zeros(0, np.float32), "s": inputs["s"]}
    of_resize = meanings(one_node("Resize", inputs, out, ("roi", "s"), mode="linear",
                                  coordinate_transformation_mode="asymmetric"), inputs)
    for a, b in zip(of_upsample, of_resize, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
    assert of_resize[1][0][0, 0, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2]


def test_quantised_resize_rounds_in_place():
    t = TensorType("int8", (1, 1, 1, 2), QParams.of(0.1, 3))
    inputs = {"x": np.array([[[[-10, 5]]]], np.int8), "r": np.zeros(0, np.float32), "s": np.array([1, 1, 1, 2], "f4")}
    graph = one_node("Resize", inputs, TensorType("int8", (1, 1, 1, 4), t.q), ("r", "s"), {"x": t}, mode="linear")
    for y in meanings(graph, inputs):
        assert y[0].reshape(-1).tolist() == [-10, -6, 1, 5]


def test_moves_carry_the_quantisation():
    per_tensor, channels = QParams.of(0.5, 3), QParams.of([0.1, 0.2, 0.3], [0, 0, 0], 0)
    x = TensorType("int8", (3, 2, 2), channels)
    turned = OPS["Transpose"].infer(Node("Transpose", ("x",), ("y",), attrs(perm=(1, 2, 0))), [x], [None])[0]
    assert turned.shape == (2, 2, 3) and turned.q.axis == 2
    flat = OPS["Flatten"].infer(Node("Flatten", ("x",), ("y",)), [x], [None])[0]
    assert flat.shape == (3, 4) and flat.q.axis == 0
    top = OPS["ReduceMax"].infer(Node("ReduceMax", ("x",), ("y",)), [TensorType("int8", (4,), per_tensor)], [None])[0]
    assert top.q.same(per_tensor)
    with pytest.raises(UnsupportedError, match="per-channel"):
        OPS["Reshape"].infer(Node("Reshape", ("x", "s"), ("y",)), [x, None], [None, np.array([2, 6])])


def test_quantize_linear_types_its_output():
    node = Node("QuantizeLinear", ("x", "s", "z"), ("y",), attrs(axis=-1))
    types = [TensorType("float32", (2, 2)), TensorType("float32", (2,)), TensorType("int8", (2,))]
    t = OPS["QuantizeLinear"].infer(node, types, [None, np.array([0.1, 0.2], np.float32), np.array([1, 2], np.int8)])[0]
    assert str(t) == "int8[2x2] q(axis=1,2 scales)" and t.q.zero_point.tolist() == [1, 2]


def test_float_sums_have_the_bits_of_the_nest():
    x = np.random.default_rng(3).normal(size=(7, 50)).astype(np.float32)
    axes = np.array([1])
    graph = one_node("ReduceSum", {"x": x, "axes": axes}, TensorType("float32", (7, 1)), ("axes",))
    reference, nest = meanings(graph, {"x": x, "axes": axes})
    assert reference[0].tobytes() == nest[0].tobytes()


def test_one_nest_for_equal_shapes():
    x = np.zeros((2, 3, 4, 5), np.float32)
    (loop,) = lower(one_node("Add", {"a": x, "b": x}, TensorType("float32", x.shape))).steps[0].body
    assert loop.hi.value == 120 and all(isinstance(s, Store) for s in loop.body)


@pytest.mark.parametrize(
    "op,inputs,out,attributes,message",
    [
        (
            "Slice",
            {"x": np.zeros(3, np.float32), "s": np.zeros(1, np.int64), "e": np.zeros(1, np.int64)},
            "float32",
            {},
            "run-time s",
        ),
        ("ReduceSum", {"x": np.zeros(3, np.float32), "s": np.zeros(1, np.int64)}, "float32", {}, "run-time axes"),
        ("CumSum", {"x": np.zeros(3, np.float32), "s": np.zeros(1, np.int64)}, "float32", {}, "run-time axis"),
        ("Pad", {"x": np.zeros(3, np.float32), "s": np.zeros(2, np.int64)}, "float32", {}, "run-time pads"),
        ("ReduceL2", {"x": np.zeros(3, np.int32)}, "int32", {}, "element type int32"),
    ],
)
def test_refusals_name_the_node(op, inputs, out, attributes, message):
    with pytest.raises(UnsupportedError, match=message) as e:
        lower(one_node(op, inputs, TensorType(out, (3,)), **attributes))
    assert "the_node" in str(e.value)
