"""Test cases of the generic operators: small random ONNX nodes with inputs, for every check that compares two meanings.

`cases("Add", seed)` gives (node, inputs) pairs. Inputs whose name starts with `CONSTANT` are the node's constants
(shapes, axes, weights); the others arrive at run time. `model` makes a model of a pair, `merged` one of many pairs,
`expected` gives ONNX's own result.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgec.ir import Graph, Node, Tensor, TensorType

Array = np.ndarray
Rng = np.random.Generator
CONSTANT = "c_"
ALONE = {"Upsample": (9, 3), "TreeEnsemble": (onnx.defs.onnx_opset_version(), 5)}  # operators that need opsets of their own
INTS = ("int32", "int64", "int8", "uint8", "int16", "uint16", "uint32", "uint64")


@dataclass(frozen=True, eq=False)
class Const:
    """An input that is a constant of the model."""

    value: Array


def ints(*values) -> Const:
    return Const(np.asarray(values, np.int64))


def floats(*values) -> Const:
    return Const(np.asarray(values, np.float32))


def scalar(value, dtype: str = "float32") -> Const:
    return Const(np.asarray(value, dtype))


def cases(op: str, seed: int = 0, generators=None) -> list[tuple[onnx.NodeProto, dict[str, Array]]]:
    """Nodes of one operator with inputs. KeyError where there is no generator for it."""
    rng = np.random.default_rng([seed, *op.encode()])
    return [_named(op, c) for c in (generators or GENERATORS)[op](rng)]


class Case(NamedTuple):
    """Operands: arrays arrive at run time, `Const`s do not, None is an absent one."""

    operands: tuple
    outputs: int
    attrs: dict


def case(*operands, outputs: int = 1, **attrs) -> Case:
    return Case(operands, outputs, attrs)


def _named(op: str, c: Case) -> tuple[onnx.NodeProto, dict[str, Array]]:
    names = ["" if x is None else f"{CONSTANT * isinstance(x, Const)}x{k}" for k, x in enumerate(c.operands)]
    inputs = {n: x.value if isinstance(x, Const) else x for n, x in zip(names, c.operands, strict=True) if n}
    domain, _, name = op.rpartition(".")
    outputs = [f"y{k}" for k in range(c.outputs)]
    attrs = {k: numpy_helper.from_array(v, k) if isinstance(v, np.ndarray) else v for k, v in c.attrs.items()}
    return helper.make_node(name, names, outputs, name=f"{op}_node", domain=domain, **attrs), inputs


def model(node: onnx.NodeProto, inputs: dict[str, Array]) -> onnx.ModelProto:
    """A model of this one node."""
    results = expected(node, inputs)
    return _model([node], inputs, [_info(o, y) for o, y in zip(node.output, results, strict=True)])


def merged(pairs: Iterable[tuple[onnx.NodeProto, dict[str, Array]]]) -> tuple[onnx.ModelProto, dict[str, Array], list[Array]]:
    """(one model of all pairs side by side, its run-time inputs by name, its outputs by ONNX's evaluator).

    Tensor `x` of pair k is `x_k` there. The pairs need one opset: those of `ALONE` go with none but themselves."""
    nodes, inputs, outputs = [], {}, {}
    for k, (node, given) in enumerate(pairs):
        renamed = onnx.NodeProto.FromString(node.SerializeToString())
        renamed.name = f"{node.name}_{k}"
        renamed.input[:] = [n and f"{n}_{k}" for n in node.input]
        renamed.output[:] = [f"{n}_{k}" for n in node.output]
        nodes.append(renamed)
        inputs |= {f"{n}_{k}": x for n, x in given.items()}
        outputs |= dict(zip(renamed.output, expected(node, given), strict=True))
    return _model(nodes, inputs, [_info(n, y) for n, y in outputs.items()]), run_time(inputs), list(outputs.values())


def graph(node: onnx.NodeProto, inputs: dict[str, Array]) -> Graph:
    """The graph of this one node, as the importer would give it."""
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    attrs = {k: v.decode() if isinstance(v, bytes) else v for k, v in attrs.items()}
    made = zip(node.output, expected(node, inputs), strict=True)
    tensors = {k: Tensor(k, _type(v), v if k.startswith(CONSTANT) else None) for k, v in inputs.items()}
    tensors |= {o: Tensor(o, _type(y)) for o, y in made}
    n = Node(node.op_type, tuple(node.input), tuple(node.output), MappingProxyType(attrs), (node.name,))
    return Graph(node.op_type.lower(), (n,), tensors, tuple(run_time(inputs)), n.outputs)


def _type(x: Array) -> TensorType:
    return TensorType(str(x.dtype), x.shape)


def expected(node: onnx.NodeProto, inputs: dict[str, Array]) -> list[Array]:
    """The outputs by ONNX's reference evaluator."""
    evaluator = ReferenceEvaluator(_model([node], inputs, [onnx.ValueInfoProto(name=o) for o in node.output]))
    with np.errstate(all="ignore"):
        return [np.asarray(y) for y in evaluator.run(None, run_time(inputs))]


def run_time(inputs: dict[str, Array]) -> dict[str, Array]:
    """The inputs that are no constants."""
    return {k: v for k, v in inputs.items() if not k.startswith(CONSTANT)}


def _info(name: str, x: Array) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)


def _model(nodes, inputs, outputs) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(np.asarray(v), k) for k, v in inputs.items() if k.startswith(CONSTANT)]
    given = [_info(k, v) for k, v in run_time(inputs).items()]
    graph = helper.make_graph(nodes, nodes[0].op_type.lower(), given, outputs, constants)
    core, ml = next((ALONE[n.op_type] for n in nodes if n.op_type in ALONE), (onnx.defs.onnx_opset_version(), 3))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", core), helper.make_opsetid("ai.onnx.ml", ml)])


# --- random tensors -----------------------------------------------------------------------------


def shape(rng: Rng, rank: int | None = None) -> tuple[int, ...]:
    rank = int(rng.integers(0, 6)) if rank is None else rank
    return tuple(int(n) for n in rng.integers(1, 5, rank))


def tensor(rng: Rng, of: Sequence[int], dtype: str = "float32", low: float = -4, high: float = 4) -> Array:
    """Floats between the bounds, integers over their whole range."""
    if dtype == "bool":
        return np.asarray(rng.random(of) < 0.5)
    if dtype == "float32":
        return np.asarray(rng.uniform(low, high, of), dtype)
    info = np.iinfo(dtype)
    return np.asarray(rng.integers(info.min, info.max, of, dtype, endpoint=True))


def indices(rng: Rng, n: int, of: Sequence[int]) -> Array:
    """Indices into an axis of n elements, from either end."""
    return np.asarray(rng.integers(-n, n, of), np.int64)


def broadcasting(rng: Rng, count: int = 2) -> list[tuple[int, ...]]:
    """Shapes that broadcast together, with units and missing leading axes."""
    full, found = shape(rng), []
    for _ in range(count):
        missing = int(rng.integers(0, len(full) + 1)) if rng.random() < 0.4 else 0
        found.append(tuple(1 if rng.random() < 0.3 else n for n in full)[missing:])
    return found


# --- elementwise --------------------------------------------------------------------------------


def unary(*options: dict, dtypes=("float32",), low=-4.0, high=4.0) -> Callable:
    def generate(rng):
        for d in dtypes:
            for o in options or ({},):
                yield case(tensor(rng, shape(rng), d, low, high), **o)
    return generate


def nary(dtypes, counts=(2,), low=-4.0, high=4.0, nonzero: bool = False, **attrs) -> Callable:
    """All operands at run time; then with a constant first, a constant last, and a scalar constant last."""
    def generate(rng):
        for d, count, constant in ((d, n, c) for d in dtypes for n in counts for c in (None, 0, n - 1, "scalar")):
            xs = [tensor(rng, s, d, low, high) for s in broadcasting(rng, count)]
            if nonzero:
                xs[1] = np.where(xs[1] == 0, np.asarray(3, d), xs[1])
            if constant == "scalar":
                xs[-1] = xs[-1].reshape(-1)[0].reshape(())
                constant = count - 1
            yield case(*(Const(x) if k == constant and count > 1 else x for k, x in enumerate(xs)), **attrs)
    return generate


def _pow(rng):
    base = tensor(rng, (3, 4), "float32", 0.1, 3)
    yield case(base, tensor(rng, (4,), "float32", -2, 2))
    yield case(base, np.array([2], np.int32))
    for e in (0.5, 1, 2, 3, -1, 1.7):
        yield case(base, scalar(e))
    for d in ("int32", "int64"):
        whole = np.asarray(rng.integers(-9, 9, (2, 5)), d)
        yield case(whole, np.asarray(rng.integers(0, 7, (5,)), d))
        for e in (0, 1, 5):
            yield case(whole, scalar(e, d))
        yield case(np.asarray([-1, 0, 1, 2, 3], d), np.asarray([129, 128, 200, 64, 63], d))
    yield case(np.arange(1, 6, dtype=np.int32), np.array([2], np.float32))


def _mod(rng):
    for f in (0, 1):
        yield from nary(INTS, nonzero=True, fmod=f)(rng)
    yield from nary(("float32",), low=0.5, high=3, fmod=1)(rng)


def _shift(rng):
    for d in ("uint8", "uint16", "uint32", "uint64", "int8", "int32", "int64"):
        for way in ("LEFT", "RIGHT"):
            yield case(tensor(rng, (2, 3), d), np.asarray(rng.integers(0, 70, (3,)), d), direction=way)


def _equal(rng):
    for d in ("float32", "int8", "int64", "bool"):
        x = tensor(rng, (3, 4), d)
        yield case(x, x[0])
        yield case(x, x[:, ::-1].copy())


def _where(rng):
    for d in ("float32", "int32", "int8", "bool"):
        c, a, b = broadcasting(rng, 3)
        yield case(tensor(rng, c, "bool"), tensor(rng, a, d), tensor(rng, b, d))
        yield case(tensor(rng, c, "bool"), Const(tensor(rng, (), d)), tensor(rng, b, d))
    yield case(tensor(rng, (2, 3), "bool"), scalar(-np.inf), tensor(rng, (3,)))


def _clip(rng):
    for d in ("float32", "int32", "int8", "uint8", "int64"):
        x, low, high = tensor(rng, shape(rng), d), scalar(1, d), scalar(3, d)
        for bounds in ((low, high), (low.value, high.value), (None, high), (low,), ()):
            yield case(x, *bounds)


def _prelu(rng):
    for s in ((3, 1), (4,), (1,), (2, 3, 4)):
        yield case(tensor(rng, (2, 3, 4)), Const(tensor(rng, s)))
    yield case(tensor(rng, (2, 3)), tensor(rng, (3,)))


def _is_inf(rng):
    for n, p in ((0, 0), (0, 1), (1, 0), (1, 1)):
        yield case(np.array([1, np.nan, np.inf, -np.inf], np.float32), detect_negative=n, detect_positive=p)


def _mean(rng):
    """The first operand has the output's shape: ONNX's evaluator adds in place."""
    for more in ((), (tensor(rng, (3, 1)),), (tensor(rng, (4,)), Const(tensor(rng, ())))):
        yield case(tensor(rng, (2, 3, 4)), *more)


def _dtype(name: str) -> int:
    return helper.np_dtype_to_tensor_dtype(np.dtype(name))


def _cast(rng):
    """Between all types; floats that their integer type holds, since ONNX leaves the others open."""
    for b in ("float32", "bool", *INTS):
        for a in ("bool", *INTS, *(("float32",) if b in ("float32", "bool") else ())):
            yield case(tensor(rng, (2, 5), a), to=_dtype(b))
    for b in INTS:
        low = [-100.7, -1.5] if b[0] == "i" else []
        yield case(np.array([*low, -0.0, 0.5, 1.9, 77.5, 99.99], np.float32), to=_dtype(b))


def _cast_like(rng):
    for a in ("bool", "int32", "int8"):
        yield case(tensor(rng, (2, 3), a), np.zeros(2, np.float32))
        yield case(tensor(rng, (2, 3), a), ints(0))


def _scales(rng, d: str):
    return Const(np.asarray(rng.uniform(0.01, 0.1, 3), np.float32)), Const(np.asarray(rng.integers(0, 5, 3), d))


def _quantize(rng):
    for d in ("int8", "uint8", "int16", "uint16"):
        x, (scale, zero), one = tensor(rng, (2, 3, 4)), _scales(rng, d), scalar(3, d)
        yield case(x, scalar(0.03), one)
        yield case(x, scalar(0.03).value, one.value)
        yield case(x, scale, zero, axis=1)
        yield case(x, scale, zero, axis=-2)
        yield case(np.arange(-8, 9, dtype=np.float32) / 2, scalar(1), one)
    yield case(tensor(rng, (2, 6)), scalar(0.03))
    yield case(tensor(rng, (3,)), scalar(0.03), output_dtype=_dtype("int8"))
    blocks = Const(np.asarray(rng.uniform(0.01, 0.1, (2, 3)), np.float32))
    yield case(tensor(rng, (2, 6)), blocks, Const(np.ones((2, 3), np.int8)), axis=1, block_size=2)


def _dequantize(rng):
    for d in ("int8", "uint8", "int16", "uint16"):
        x, (scale, zero), one = tensor(rng, (2, 3, 4), d), _scales(rng, d), scalar(3, d)
        yield case(x, scalar(0.03), one)
        yield case(x, scalar(0.03).value, one.value)
        yield case(x, scalar(0.03))
        yield case(x, scale, zero, axis=1)
    yield case(tensor(rng, (2, 3), "int32") >> 8, scalar(0.001))


# --- movement -----------------------------------------------------------------------------------

MOVED = ("float32", "int8", "int64", "bool")


def moving(of: Sequence[int], *options: tuple, dtypes=MOVED) -> Callable:
    """A tensor of this shape of each dtype; options: (constant inputs, attributes)."""
    def generate(rng):
        for d in dtypes:
            for inputs, attrs in options:
                yield case(tensor(rng, of, d), *(ints(*i) for i in inputs), **attrs)
    return generate


def _transpose(rng):
    for rank in (1, 2, 3, 4, 5):
        yield case(tensor(rng, shape(rng, rank)), perm=rng.permutation(rank).tolist())
    for d in MOVED:
        yield case(tensor(rng, (2, 3, 4), d))
    yield case(tensor(rng, (1, 3, 1, 4)), perm=[0, 2, 1, 3])
    yield case(tensor(rng, (1, 1, 4)), perm=[1, 2, 0])


def _expand(rng):
    for s, to in (((3, 1), (2, 3, 4)), ((1,), (2, 3)), ((2, 3), (1, 1)), ((), (4,))):
        yield from moving(s, ([to], {}))(rng)


def _split(rng):
    x = tensor(rng, (5, 6))
    yield case(x, ints(2, 4), axis=1, outputs=2)
    yield case(x, ints(1, 1, 3), axis=-2, outputs=3)
    yield case(x, axis=0, num_outputs=3, outputs=3)
    yield case(x, num_outputs=2, outputs=2)
    yield case(tensor(rng, (4,), "int8"), num_outputs=2, outputs=2)


def _pad(rng):
    for d in ("float32", "int8", "int64"):
        x = tensor(rng, (3, 4), d)
        yield case(x, ints(1, 0, 2, 3))
        yield case(x, ints(0, 2, 1, 1), scalar(7, d), mode="constant")
        yield case(x, ints(1, 2), scalar(5, d), ints(-1))
        for mode in ("reflect", "edge", "wrap"):
            yield case(x, ints(2, 3, 1, 2), mode=mode)
    yield case(tensor(rng, (2,), "bool"), ints(1, 1))
    yield case(tensor(rng, (1, 2, 3, 3)), ints(0, 0, 1, 1, 0, 0, 1, 1))


def _gather(rng):
    for d in MOVED:
        x, i = tensor(rng, (4, 3, 5), d), indices(rng, 3, (2, 2))
        yield case(x, i.astype(np.int32))
        yield case(x, i, axis=1)
        yield case(x, Const(i), axis=-1)
        yield case(x, scalar(-2, "int64"), axis=1)
        yield case(x, np.asarray(2, np.int64))
        yield case(x, ints(0, 2, 1, 0, 2, 1), axis=1)
        yield case(x, ints(1, 3), axis=2)


def _gather_elements(rng):
    for axis, n, of in ((0, 3, (5, 4, 2)), (1, 4, (3, 1, 2)), (-1, 2, (3, 4, 2))):
        yield case(tensor(rng, (3, 4, 2)), indices(rng, n, of), axis=axis)


def _gather_nd(rng):
    for batch, of in ((0, (2, 2)), (0, (3, 1)), (0, (2, 2, 3)), (1, (2, 1)), (1, (2, 2, 1))):
        yield case(tensor(rng, (2, 3, 4)), indices(rng, 2, of), batch_dims=batch)


def _concat(rng):
    for d in MOVED:
        for a in (1, -2):
            yield case(*(tensor(rng, (2, n, 3), d) for n in (1, 4, 2)), axis=a)
    yield case(tensor(rng, (3,)), Const(tensor(rng, (2,))), axis=0)
    yield case(tensor(rng, (2, 2)), axis=0)


def _resize(rng):
    """Sizes that keep sampling points off ties of float rounding."""
    x = tensor(rng, (1, 2, 4, 5))
    for c in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"):
        a = {"coordinate_transformation_mode": c}
        for near in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
            yield case(x, None, floats(1, 1, 2, 2), nearest_mode=near, **a)
            yield case(x, None, floats(1, 1, 1.5, 0.5), nearest_mode=near, **a)
        yield case(x, None, None, ints(1, 2, 7, 3), mode="linear", **a)
        yield case(x, None, None, ints(1, 2, 7, 3), mode="cubic", **a)
    for policy in ("not_larger", "not_smaller"):
        for mode in ("nearest", "linear"):
            yield case(x, None, None, ints(8, 10), axes=[2, 3], keep_aspect_ratio_policy=policy, mode=mode)
    yield case(x, None, None, ints(1, 2, 7, 3), mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5)
    yield case(x, floats(0, 0, 0.2, -0.35, 1, 1, 0.7, 1.2), None, ints(1, 2, 3, 6), extrapolation_value=9.0,
               coordinate_transformation_mode="tf_crop_and_resize")
    yield case(tensor(rng, (1, 3, 3, 2), "uint8"), None, floats(1, 2, 2, 1), nearest_mode="floor",
               coordinate_transformation_mode="asymmetric")
    yield case(tensor(rng, (1, 2, 6)), None, floats(1, 1, 0.5), mode="linear")


def _upsample(rng):
    for scales in ((1, 1, 2, 2), (1, 1, 3, 1)):
        yield case(tensor(rng, (1, 2, 3, 4)), floats(*scales), mode="nearest")


SLICES = [[(1, -3), (4, 6)], [(0,), (2**31 - 1,), (-1,)], [(-1,), (-2**31,), (1,), (-1,)], [(1,), (-1,), (2,), (2,)],
          [(4, 0, 3), (0, 6, -5), (0, 1, 2), (-2, 3, -1)]]


# --- reductions ---------------------------------------------------------------------------------


def reduction(*dtypes, low=-2.0, high=2.0) -> Callable:
    def generate(rng):
        for d in dtypes:
            x = tensor(rng, (2, 3, 4, 2), d, low, high)
            for axes in ((1,), (2, 1), (-1, 0)):
                yield case(x, ints(*axes))
                yield case(x, ints(*axes), keepdims=0)
            yield case(x)
            yield case(x, keepdims=0)
            yield case(tensor(rng, (3,), d, low, high))
            yield case(np.abs(tensor(rng, (2, 3), d)), noop_with_empty_axes=1)
    return generate


def _arg(rng):
    for d in ("float32", "int8", "uint8", "int32", "int64"):
        x = np.asarray(rng.integers(0, 4, (3, 4, 3)), d)  # ties are likely
        for axis, keep, last in ((0, 1, 0), (1, 0, 1), (-1, 0, 0), (2, 1, 1)):
            yield case(x, axis=axis, keepdims=keep, select_last_index=last)


def _scan(rng):
    for d in ("float32", "int32", "int64"):
        for axis, e, r in ((a, e, r) for a in (0, 1, -1) for e in (0, 1) for r in (0, 1)):
            yield case(tensor(rng, (2, 3, 4), d), scalar(axis, "int32"), exclusive=e, reverse=r)


def _each(names: str, generator: Callable) -> dict[str, Callable]:
    return dict.fromkeys(names.split(), generator)


NUMBERS = ("float32", *INTS)
GENERATORS: dict[str, Callable[[Rng], Iterable[Case]]] = {
    **_each("Sin Cos Tan Atan Sinh Cosh Asinh Erf Tanh Ceil Floor Exp", unary()),
    **_each("Reciprocal Sigmoid Softplus Mish HardSwish", unary()),
    **_each("Acos Asin Atanh", unary(low=-0.95, high=0.95)),
    **_each("Sqrt Log", unary(low=0.01, high=9)),
    "Acosh": unary(low=1.01, high=9),
    "Softsign": lambda rng: [case(tensor(rng, shape(rng, 2)))],  # ONNX's evaluator fails on scalars
    "Round": lambda rng: [case(np.arange(-9, 10, dtype=np.float32) / 2), case(tensor(rng, (5,)))],
    "LeakyRelu": unary({}, {"alpha": 0.3}),
    "ThresholdedRelu": unary({}, {"alpha": 0.5}),
    "Elu": unary({}, {"alpha": 0.5}),
    "Celu": unary({}, {"alpha": 2.0}),
    "Selu": unary({}, {"alpha": 1.5, "gamma": 1.2}),
    "Shrink": unary({}, {"lambd": 1.5, "bias": 0.5}),
    "HardSigmoid": unary({}, {"alpha": 0.3, "beta": 0.4}),
    "Swish": unary({}, {"alpha": 0.5}),
    "Gelu": unary({}, {"approximate": "tanh"}),
    **_each("Neg Sign Abs Relu", unary(dtypes=("float32", "int8", "int16", "int32", "int64"))),
    "Clip": _clip,
    **_each("Add Sub Mul Less LessOrEqual Greater GreaterOrEqual", nary(NUMBERS)),
    "Div": nary(NUMBERS, low=0.5, nonzero=True),
    "Mod": _mod,
    "Pow": _pow,
    "PRelu": _prelu,
    "Sum": nary(("float32",), (1, 2, 3)),
    "Mean": _mean,
    **_each("Min Max", nary(("float32", "int32", "int64", "uint8", "int8"), (1, 2, 3))),
    **_each("And Or Xor", nary(("bool",))),
    "Not": unary(dtypes=("bool",)),
    **_each("BitwiseAnd BitwiseOr BitwiseXor", nary(INTS)),
    "BitwiseNot": unary(dtypes=INTS),
    "BitShift": _shift,
    "Equal": _equal,
    "Where": _where,
    "IsNaN": lambda rng: [case(np.array([1, np.nan, np.inf, -np.inf], np.float32))],
    "IsInf": _is_inf,
    "Cast": _cast,
    "CastLike": _cast_like,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "Identity": unary(dtypes=MOVED),
    "Dropout": lambda rng: [case(tensor(rng, (2, 3)), outputs=n) for n in (1, 2)],
    "Reshape": moving((2, 3, 4), ([(4, 6)], {}), ([(-1,)], {}), ([(0, -1)], {}), ([(4, 0, -1)], {}),
                      ([(2, 3, 2, 2)], {"allowzero": 1})),
    "Flatten": moving((2, 3, 4), *(([], {"axis": a}) for a in (0, 1, 2, 3, -1)), dtypes=("float32",)),
    "Squeeze": moving((1, 3, 1, 2), ([], {}), ([(0,)], {}), ([(-2,)], {}), ([(2, 0)], {})),
    "Unsqueeze": moving((2, 3), ([(0,)], {}), ([(-1,)], {}), ([(1, 3)], {})),
    "Transpose": _transpose,
    "Slice": moving((5, 6, 4), *((s, {}) for s in SLICES)),
    "Split": _split,
    "Expand": _expand,
    "Tile": moving((2, 3), *(([r], {}) for r in ((2, 1), (1, 3), (2, 2)))),
    "DepthToSpace": moving((2, 8, 2, 3), ([], {"blocksize": 2, "mode": "DCR"}), ([], {"blocksize": 2, "mode": "CRD"})),
    "SpaceToDepth": moving((2, 2, 4, 6), ([], {"blocksize": 2})),
    "Concat": _concat,
    "Pad": _pad,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Resize": _resize,
    "Upsample": _upsample,
    **_each("ReduceSum ReduceL1", reduction("float32", "int32", "int64")),
    **_each("ReduceProd ReduceMean", reduction("float32", "int32")),
    "ReduceSumSquare": reduction("float32", "int64"),
    **_each("ReduceMax ReduceMin", reduction("float32", "int32", "int8", "uint8")),
    **_each("ReduceL2 ReduceLogSumExp", reduction("float32")),
    "ReduceLogSum": reduction("float32", low=0.1, high=3),
    **_each("ArgMax ArgMin", _arg),
    **_each("CumSum CumProd", _scan),
}
