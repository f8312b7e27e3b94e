"""Graph with ONNX operators -> ONNX ModelProto: for `edgec export` and `quantize`, and to run the reference.

ONNX moved some attributes into inputs between opsets (`axes` of Squeeze in 13, of ReduceMean in 18 ...).
A graph may hold either form; the file gets the form of its opset, which is the lowest from 17 on that has
every node.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from . import custom
from .errors import UnsupportedError
from .ir import Graph, Node, TensorType, attrs, bodies, everywhere, graphs
from .rewrite import Rewriter, rewrite_nodes

OPSET = 17


def to_onnx(graph: Graph, metadata: Mapping[str, str] = MappingProxyType({})) -> onnx.ModelProto:
    """The graph as a checked ONNX model that onnxruntime can run.

    Tensor names and the graph's name are kept; a node is named after its `origin`, or its first output where it
    has none; constants that a node reads, or that are graph outputs, become initializers; `metadata` becomes the
    model's metadata_props. UnsupportedError: nodes that are not ONNX operators (all of them at once).
    """
    graph = everywhere(graph, lambda g: rewrite_nodes(g, _modern))
    opset, fitted = _lowest_opset(graph)
    model = helper.make_model(
        helper.make_graph(_make_nodes(graph, fitted, opset), graph.name, [_value_info(n, graph.type(n)) for n in graph.inputs],
                          [_value_info(n, graph.type(n)) for n in graph.outputs], _initializers(graph, fitted),
                          value_info=_inner_value_info(graph)),
        producer_name="edgec",
        opset_imports=[helper.make_opsetid("", opset)] + [helper.make_opsetid(d, 1) for d in _domains(graph)])
    model.ir_version = helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return model


def _modern(r: Rewriter, node: Node) -> list[Node] | None:
    """Operators that no opset from 17 on has, by those that replaced them; the user's own by their names."""
    if node.op == custom.NODE:
        return [replace(node, op=node.attrs["operator"].name, attrs=attrs(**node.attrs["attributes"]))]
    if node.op == "Upsample":
        return [node.with_(op="Resize", inputs=(node.inputs[0], "", node.inputs[1]),
                           attrs={"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"})]
    if node.op not in ("Softmax", "LogSoftmax", "Hardmax") or not node.attrs.get("flatten"):
        return None
    # Before opset 13 the axes from `axis` on were one vector; one axis is enough where the others have length 1.
    t, rest = r.type(node.inputs[0]), {k: v for k, v in node.attrs.items() if k not in ("axis", "flatten")}
    axis = node.attrs["axis"] % len(t.shape)
    long = [d for d in range(axis, len(t.shape)) if t.shape[d] != 1]
    if len(long) <= 1:
        return [replace(node, attrs=attrs(**rest, axis=long[0] if long else axis))]
    name, flat = node.outputs[0], (*t.shape[:axis], prod(t.shape[axis:]))
    x, y = (r.tensor(f"{name}/{part}", replace(t, shape=flat)) for part in ("flat", "vector"))
    shapes = [r.const(f"{name}/shape", np.array(s, np.int64)) for s in (flat, t.shape)]
    return [Node("Reshape", (node.inputs[0], shapes[0]), (x,), origin=node.origin),
            Node(node.op, (x,), (y,), attrs(**rest, axis=axis), node.origin),
            Node("Reshape", (y, shapes[1]), (name,), origin=node.origin)]


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A node in the form of one opset; `constants` are initializers made from its attributes. schema: None for an
    operator of another domain."""

    node: Node
    schema: onnx.defs.OpSchema | None
    inputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    constants: Mapping[str, np.ndarray]


def _lowest_opset(graph: Graph) -> tuple[int, list[_Fitted]]:
    """The lowest opset from 17 on that has every node, and the nodes in its form."""
    versions = range(OPSET, onnx.defs.onnx_opset_version() + 1)
    for version in versions:
        fitted = [_fit(graph, n, version) for n in graph.nodes]
        if all(fitted):
            return version, fitted
    alone = [n for n in graph.nodes if not any(_fit(graph, n, v) for v in versions)]
    if alone:
        raise UnsupportedError("these nodes are not ONNX operators: " + "; ".join(str(n) for n in alone),
                               where=graph.name, fix="write the graph before operators are lowered")
    raise UnsupportedError("no ONNX opset has all these operators in the form they are used in",
                           where=graph.name, fix="export the model with one opset, 17 or newer")


def _fit(graph: Graph, node: Node, version: int) -> _Fitted | None:
    """The node in this opset's form; None where the opset does not have it so."""
    if bodies(node):
        if not all(_fit(b, n, version) for b in bodies(node).values() for n in b.nodes):
            return None
        return _block(graph, node)
    if _domain(node):
        return _Fitted(node, None, node.inputs, node.attrs, {}) if _domain(node) != "edgec" else None
    try:
        schema = onnx.defs.get_schema(node.op, version)
    except onnx.defs.SchemaError:
        return None
    moved = _inputs_to_attrs(graph, node, schema)
    if moved is None:
        return None
    inputs, values = moved
    constants: dict[str, np.ndarray] = {}
    for name in [a for a in values if a not in schema.attributes]:
        at = _position(schema, name)
        if at is None or (at < len(inputs) and inputs[at]):
            return None
        constant = _fresh(graph, f"{node.outputs[0]}/{name}")
        constants[constant] = _as_input(values.pop(name), schema, at, graph.type(inputs[0]).dtype)
        inputs += [""] * (at + 1 - len(inputs))
        inputs[at] = constant
    if not schema.min_input <= len(inputs) <= schema.max_input or not _takes(graph, node, inputs, schema):
        return None
    return _Fitted(node, schema, tuple(inputs), values, constants)


def _block(graph: Graph, node: Node) -> _Fitted:
    """An If, which reads what its bodies read by name, or a Loop in ONNX's form: with a trip count, and with a condition
    that stands before what is carried."""
    if node.op == "If":
        return _Fitted(node, None, node.inputs[:1], {}, {})
    constants: dict[str, np.ndarray] = {}

    def constant(label: str, value: np.ndarray) -> str:
        name = _fresh(graph, f"{node.outputs[0]}/{label}")
        constants[name] = value
        return name

    most = constant("turns", np.array(node.attrs["turns"], np.int64)) if node.attrs["turns"] else ""
    types = [graph.type(o) for o in node.outputs]
    carried = [
        i or constant(f"zeros{k}", np.zeros(t.shape, t.dtype)) for k, (i, t) in enumerate(zip(node.inputs, types, strict=False))
    ]
    return _Fitted(node, None, (most, carried[0] if node.attrs["tested"] else "", *carried), {}, constants)


def _subgraph(node: Node, key: str, version: int) -> onnx.GraphProto:
    """The graph attribute of an If or a Loop. Tensors that the body reads from outside have their names there."""
    body, n = bodies(node)[key], len(node.outputs) if node.op == "Loop" else 0
    outside = dict(zip(body.inputs[n:], node.inputs[n or 1:], strict=True))
    own = {t: f"{body.name}/{t}" if x.data is not None else t for t, x in body.tensors.items()} | outside | {"": ""}
    fitted = [_fit(body, inner, version) for inner in body.nodes]
    nodes = _make_nodes(body, fitted, version)
    for inner in nodes:
        inner.input[:] = [own.get(i, i) for i in inner.input]
    outputs = [f"{body.name}/result{k}" for k in range(len(body.outputs))]
    nodes += [helper.make_node("Identity", [own[o]], [made]) for o, made in zip(body.outputs, outputs, strict=True)]
    inputs = [_value_info(i, body.type(i)) for i in body.inputs[:n]]
    infos = [_value_info(name, body.type(o)) for name, o in zip(outputs, body.outputs, strict=True)]
    if node.op == "Loop":
        turn, go, more = (f"{body.name}/{label}" for label in ("turn", "go", "more"))
        condition = own[body.outputs[0]] if node.attrs["tested"] else go
        nodes.append(helper.make_node("Identity", [condition], [more]))
        inputs = [_value_info(turn, TensorType("int64", ())), _value_info(go, TensorType("bool", ())), *inputs]
        infos = [_value_info(more, TensorType("bool", ())), *infos]
    constants = _initializers(body, fitted)
    for c in constants:
        c.name = own.get(c.name, c.name)
    return helper.make_graph(nodes, body.name, inputs, infos, constants)


def _inputs_to_attrs(graph: Graph, node: Node, schema: onnx.defs.OpSchema) -> tuple[list[str], dict] | None:
    """Constant inputs that this opset still has as attributes become attributes. None: not constant or unknown."""
    inputs, values = list(node.inputs), dict(node.attrs)
    newest = onnx.defs.get_schema(node.op)
    while len(inputs) > schema.max_input:
        name = inputs.pop()
        if not name:
            continue
        value = graph.const(name)
        attr = newest.inputs[len(inputs)].name if len(inputs) < len(newest.inputs) else ""
        if value is None or attr not in schema.attributes:
            return None
        values[attr] = value.reshape(-1).tolist()
    return inputs, values


def _position(schema: onnx.defs.OpSchema, name: str) -> int | None:
    return next((i for i, p in enumerate(schema.inputs) if p.name == name), None)


def _as_input(value: Any, schema: onnx.defs.OpSchema, at: int, dtype: str) -> np.ndarray:
    """An attribute's value as the input that replaced it: a scalar of the data's type (Clip's `min`) or int64[n]."""
    if schema.inputs[at].type_str == schema.inputs[0].type_str:
        return np.asarray(value, dtype)
    value = np.asarray(value)
    return value.astype(np.float32) if value.dtype.kind == "f" else np.atleast_1d(value).astype(np.int64)


def _takes(graph: Graph, node: Node, inputs: list[str], schema: onnx.defs.OpSchema) -> bool:
    """True when the operator is defined for the element types of the node's own inputs and outputs."""
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}

    def admits(params, names) -> bool:
        for i, name in enumerate(names):
            if name in graph.tensors and params:
                kind = params[min(i, len(params) - 1)].type_str    # a variadic parameter is the last one
                if _type_string(graph.type(name)) not in allowed.get(kind, (kind,)):
                    return False
        return True

    return admits(schema.inputs, inputs) and admits(schema.outputs, node.outputs)


def _type_string(t: TensorType) -> str:
    """ONNX's spelling in operator schemas, e.g. "tensor(float)"."""
    return f"tensor({ {'float32': 'float', 'float64': 'double'}.get(t.dtype, t.dtype)})"


def _domain(node: Node) -> str:
    """"com.microsoft" of "com.microsoft.QGemm"; "" for ONNX's own."""
    return node.op.rpartition(".")[0]


def _domains(graph: Graph) -> list[str]:
    return sorted({_domain(n) for g in graphs(graph) for n in g.nodes} - {""})


def _make_nodes(graph: Graph, fitted: list[_Fitted], version: int) -> list[onnx.NodeProto]:
    return [_make_node(f, name, version) for f, name in zip(fitted, _node_names(graph), strict=True)]


def _make_node(fitted: _Fitted, name: str, version: int) -> onnx.NodeProto:
    node, schema = fitted.node, fitted.schema
    made = helper.make_node(node.op.rpartition(".")[2], fitted.inputs, node.outputs, name=name, domain=_domain(node))
    for key, value in sorted(fitted.attrs.items()):
        made.attribute.append(_make_attribute(key, value, schema.attributes[key].type) if schema
                              else helper.make_attribute(key, value))
    made.attribute.extend(helper.make_attribute(key, _subgraph(node, key, version)) for key in bodies(node))
    return made


def _make_attribute(key: str, value: Any, kind: onnx.defs.OpSchema.AttrType) -> onnx.AttributeProto:
    """The schema's type decides, for an empty list or a numpy value does not say what it is."""
    if kind.name == "TENSOR":
        return helper.make_attribute(key, numpy_helper.from_array(np.asarray(value)))
    plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if kind.name in ("INTS", "FLOATS", "STRINGS"):
        return helper.make_attribute(key, list(plain), attr_type=kind.value)
    return helper.make_attribute(key, {"INT": int, "FLOAT": float}.get(kind.name, lambda v: v)(plain))


def _initializers(graph: Graph, fitted: list[_Fitted]) -> list[onnx.TensorProto]:
    made = {k: v for f in fitted for k, v in f.constants.items()}
    used = dict.fromkeys([i for f in fitted for i in f.inputs if i] + list(graph.outputs))
    values = ((n, made[n] if n in made else graph.const(n)) for n in used)
    return [numpy_helper.from_array(v, n) for n, v in values if v is not None]


def _inner_value_info(graph: Graph) -> list[onnx.ValueInfoProto]:
    inner = (o for n in graph.nodes for o in n.outputs if o and o not in graph.outputs)
    return [_value_info(o, graph.type(o)) for o in inner]


def _value_info(name: str, t: TensorType) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(t.dtype)), t.shape)


def _node_names(graph: Graph) -> list[str]:
    """Each node's origin (or first output), made unique by a number where two share one."""
    seen: dict[str, int] = {}
    names = []
    for n in graph.nodes:
        base = name = "+".join(n.origin) or next(o for o in n.outputs if o)
        while name in seen:
            seen[base] += 1
            name = f"{base}/{seen[base]}"
        seen[name] = 0
        names.append(name)
    return names


def _fresh(graph: Graph, name: str) -> str:
    while name in graph.tensors:
        name += "_"
    return name
