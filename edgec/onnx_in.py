"""ONNX file -> Graph: checked, static shapes, function bodies inlined, constants folded, newest attribute forms."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
import onnx.inliner
import onnx.reference
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper, shape_inference

from . import control, custom, qoperator, text_labels
from .custom import Operator
from .dtypes import NUMBERS, numpy_type
from .errors import ModelError, UnsupportedError, UsageError
from .ir import Graph, Node, Tensor, TensorType, attrs, graphs
from .ops import norm, table

BROADCAST = {"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Greater", "Less", "Equal"}
WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "QLinearConv", "QLinearMatMul"}
NARROW_FLOATS = ("float16", "bfloat16")
NOT_FOLDED = {"DequantizeLinear", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial",
              "Bernoulli"}


def load(path: str | Path, shapes: Mapping[str, tuple[int, ...]] | None = None,
         constants: Mapping[str, np.ndarray] | None = None, own: Mapping[str, Operator] = MappingProxyType({})) -> Graph:
    """Reads an ONNX file. `shapes` fixes symbolic input shapes by input name; `constants` makes inputs constants. own: the
    user's operators by name, beside those that installed packages offer for the model's domains.

    Raises ModelError (missing, damaged, invalid, NaN weights), UsageError (symbolic shape without `shapes`) and
    UnsupportedError (all nodes that edgec has no operator for, at once)."""
    model = read(Path(path))
    own = {**custom.installed(o.domain for o in model.opset_import), **own}
    return from_model(model, Path(path).stem, shapes, where=str(path), constants=constants, own=own)


def read(path: Path) -> onnx.ModelProto:
    """The parsed and checked model, external data included."""
    if not path.exists():
        raise ModelError(f"no such file: {path}", fix="check the path; edgec reads .onnx files")
    if path.is_dir():
        raise ModelError(f"{path} is a folder, not an ONNX file", fix="give the .onnx file inside it")
    try:
        model = onnx.load(path)
    except DecodeError as e:
        head = path.read_bytes()[:4]
        known = {
            b"\xff\xd8\xff": "a JPEG picture",
            b"\x89PNG": "a PNG picture",
            b"PK\x03\x04": "a zip archive (PyTorch .pt, npz?)",
            b"\x1cTFL": "a TensorFlow Lite model",
        }
        kind = next((v for k, v in known.items() if head.startswith(k)), "not an ONNX model, or a truncated one")
        if path.read_bytes()[4:8] == b"TFL3":
            kind = "a TensorFlow Lite model"
        raise ModelError(f"{path.name} cannot be parsed as ONNX: it is {kind}", where=str(path),
                         fix="export the network again, e.g. torch.onnx.export(model, example_input, 'model.onnx')") from e
    except (FileNotFoundError, onnx.checker.ValidationError) as e:
        raise ModelError(f"external weight data of {path.name} cannot be read: {_first_line(e)}", where=str(path),
                         fix="keep the .data file beside the .onnx file, under the name it was exported with") from e
    except OSError as e:
        raise ModelError(f"{path} cannot be read: {e.strerror}", fix="check the file's permissions") from e
    if not model.graph.node and not model.graph.output:
        raise ModelError(f"{path.name} holds no graph: it is empty, truncated or not an ONNX model", where=str(path),
                         fix="export the network again")
    return model


def from_model(model: onnx.ModelProto, name: str, shapes: Mapping[str, tuple[int, ...]] | None = None,
               where: str = "", constants: Mapping[str, np.ndarray] | None = None,
               own: Mapping[str, Operator] = MappingProxyType({})) -> Graph:
    """Graph of a ModelProto in memory; see `load`."""
    model = _with_constants(model, constants or {})
    if any(o.type.HasField("tensor_type") and not o.type.tensor_type.HasField("shape") for o in model.graph.output):
        model = shape_inference.infer_shapes(model)  # the checker wants every output's shape; some exporters leave it out
    _check(model, where)
    notes = _fix_shapes(model, dict(shapes or {}))
    model = onnx.inliner.inline_local_functions(model)
    graph = _Import(model, name, notes, dict(shapes or {}), own).run()
    _refuse(graph)
    return graph


def with_constants_bytes(raw: bytes, constants: Mapping[str, np.ndarray]) -> bytes:
    """A serialised model with inputs replaced by constants."""
    return _with_constants(onnx.ModelProto.FromString(raw), constants).SerializeToString() if constants else raw


def _with_constants(model: onnx.ModelProto, constants: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The model with inputs replaced by constants."""
    if not constants:
        return model
    model = onnx.ModelProto.FromString(model.SerializeToString())
    inputs = {i.name: i for i in model.graph.input}
    for name, value in constants.items():
        if name not in inputs:
            raise UsageError(f"--const names an input that the model does not have: {name}",
                             fix="its inputs: " + ", ".join(inputs))
        t = inputs[name].type.tensor_type
        value = np.asarray(value).astype(helper.tensor_dtype_to_np_dtype(t.elem_type))
        declared = _static(t)
        if declared is not None and declared.shape != value.shape:
            if declared.size != value.size:
                raise UsageError(f"--const {name} has {value.size} values", fix=f"the input is {declared}")
            value = value.reshape(declared.shape)
        model.graph.input.remove(inputs[name])
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model


def _check(model: onnx.ModelProto, where: str) -> None:
    newest = onnx.defs.onnx_opset_version()
    for o in model.opset_import:
        if o.domain in ("", "ai.onnx") and o.version > newest:
            raise ModelError(f"the model uses opset {o.version}; the installed onnx package knows up to {newest}", where=where,
                             fix=f"pip install -U onnx, or export with opset_version={newest}")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as e:
        raise ModelError(f"not a valid ONNX model: {_first_line(e)}", where=where,
                         fix="run onnx.checker.check_model on the exported file, and export it again") from e
    except ValueError:  # over 2 GB: cannot be checked in memory, and cannot fit a microcontroller either
        raise ModelError("the model is larger than 2 GB", where=where, fix="this cannot fit a microcontroller") from None


def _fix_shapes(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Makes every graph input static in place; a symbolic batch alone becomes 1. Returns notes for the user."""
    notes, constants = [], {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in constants]
    for name in shapes:
        if name not in {i.name for i in inputs}:
            raise UsageError(f"--shape names an input that the model does not have: {name}",
                             fix="its inputs: " + ", ".join(i.name for i in inputs))
    changed = False
    for i in inputs:
        if not i.type.HasField("tensor_type"):
            if i.type.HasField("map_type"):
                raise UnsupportedError(f"input {i.name} is a map", where=i.name, fix="export with tensor inputs")
            if i.name not in shapes and not i.type.HasField("optional_type"):
                raise UsageError(f"input {i.name} is a sequence of unknown length", where=i.name,
                                 fix="give the shape of each of its elements")
            continue
        t = i.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else (d.dim_param or "?") for d in t.shape.dim]
        if i.name in shapes:
            want = shapes[i.name]
            if not t.HasField("shape"):
                dims = ["?"] * len(want)
            if len(want) != len(dims) or any(isinstance(d, int) and d != w for d, w in zip(dims, want, strict=True)):
                raise UsageError(
                    f"--shape {i.name}={','.join(map(str, want))} does not fit the model's {dims}",
                    where=f"input {i.name}",
                    fix="give one number per dimension; fixed dimensions must keep their value",
                )
            new = list(want)
        elif not t.HasField("shape") or any(not isinstance(d, int) for d in dims[1:]):
            raise UsageError(
                f"input {i.name} has a dynamic shape {dims if t.HasField('shape') else '(unknown rank)'}",
                where=f"input {i.name}",
                fix=f"give it with --shape {i.name}="
                + (",".join("1" if not isinstance(d, int) and k == 0 else str(d) for k, d in enumerate(dims)) or "1,..."),
            )
        elif dims and not isinstance(dims[0], int):
            notes.append(f"input {i.name}: symbolic batch {dims[0]!r} becomes 1")
            new = [1, *dims[1:]]
        else:
            new = dims
        if new != dims:
            changed = True
            i.CopyFrom(helper.make_tensor_value_info(i.name, t.elem_type, new))
    if changed:  # what the exporter inferred for the symbolic shape no longer holds
        del model.graph.value_info[:]
    return notes


class _Import:
    """Walks the nodes once: folds what is constant, infers the rest's types, and upgrades old attribute forms."""

    def __init__(self, model: onnx.ModelProto, name: str, notes: list[str], shapes: Mapping[str, tuple[int, ...]],
                 own: Mapping[str, Operator]):
        self.model, self.name, self.notes, self.shapes, self.own = model, name, notes, shapes, own
        self.opsets = {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self.bad: list[tuple[str, str]] = []
        self.counts: dict[str, tuple[str, int]] = {}
        self.text: dict[str, np.ndarray] = {}  # constants that are text
        self.labels: dict[str, tuple[str, ...]] = {}  # of tensors that count in a table of text
        self.sequences: dict[str, list[str]] = {}
        self.absent: set[str] = set()  # optionals without an element
        self.scopes: list[dict[str, str]] = []  # of inlined bodies, innermost last: their names -> tensors

    def run(self) -> Graph:
        g = self.model.graph
        for init in g.initializer:
            if init.data_type == TensorProto.STRING:
                self.text[init.name] = text_labels.texts(init)
            else:
                self.constant(init.name, _array(init))
        if g.sparse_initializer:
            raise UnsupportedError("sparse initializers", where=g.sparse_initializer[0].values.name, fix="export dense weights")
        declared = [*g.value_info, *g.output]
        self.declared = {v.name: t for v in declared if (t := _static(v.type.tensor_type)) is not None}
        inputs = []
        for i in g.input:
            if i.name not in self.tensors:
                shape = () if not i.type.HasField("tensor_type") else tuple(d.dim_value for d in i.type.tensor_type.shape.dim)
                if 0 in shape:  # nothing to read: its value is known
                    self.notes.append(f"input {i.name} has no elements and is left out")
                    self.constant(i.name, np.zeros(shape, numpy_type(_dtype(i.type.tensor_type.elem_type, i.name))))
                    continue
                if not i.type.HasField("tensor_type"):
                    inputs += self.structure(i.name, i.type, self.shapes.get(i.name))
                    continue
                inputs.append(i.name)
                self.tensors[i.name] = Tensor(
                    i.name, TensorType(_dtype(i.type.tensor_type.elem_type, i.name), shape), source=i.name
                )
        for node in g.node:
            self.visit(node)
        if self.bad:
            raise UnsupportedError(
                f"{len(self.bad)} node{'s' * (len(self.bad) > 1)} that edgec cannot compile: "
                + ", ".join(sorted({op for op, _ in self.bad})),
                where="\n         ".join(f"{where}: {op}" for op, where in self.bad),
                fix="see `edgec ops` for what it can; replace or remove these layers before the export"
                + (", or give their C functions with --custom" if any("." in op for op, _ in self.bad) else ""))
        outputs = []
        for o in g.output:
            if o.name in self.sequences:
                parts = [f"{o.name}/{k}" for k in range(len(self.sequences[o.name]))]
                for part, source in zip(parts, self.sequences[o.name], strict=True):
                    self.bind(part, source)
                outputs += parts
            elif o.name not in self.absent:
                outputs.append(o.name)
        for o in outputs:
            if o not in self.tensors:
                raise ModelError(f"output {o} is made by no node", where=o, fix="export the network again")
        empty = [o for o in outputs if self.tensors[o].type.size == 0]
        self.notes += [f"output {o} has no elements and is left out" for o in empty]
        kept = tuple(o for o in outputs if o not in empty)
        counts = {o: c for o, c in self.counts.items() if o in kept}
        self.notes += [f"output {o}: the first {c} entries of axis {axis} are the result" for o, (c, axis) in counts.items()]
        kept += tuple(dict.fromkeys(c for c, _ in counts.values()))
        labels = {o: self.labels[o] for o in kept if o in self.labels}
        return Graph(self.name, tuple(self.nodes), self.tensors, tuple(inputs), kept, tuple(self.notes), counts, labels=labels)

    def structure(self, name: str, kind: onnx.TypeProto, shape) -> list[str]:
        """Makes an input that is a sequence or an optional known; returns the inputs that it becomes. shape: one shape for each
        element of a sequence; None for an absent optional."""
        if kind.HasField("optional_type"):
            if shape is None:
                self.absent.add(name)
                return []
            return self.structure(name, kind.optional_type.elem_type, shape)
        if kind.HasField("tensor_type"):
            self.tensors[name] = Tensor(name, TensorType(_dtype(kind.tensor_type.elem_type, name), tuple(shape)), source=name)
            return [name]
        self.sequences[name] = [f"{name}/{k}" for k in range(len(shape or ()))]
        return [i for part, s in zip(self.sequences[name], shape or (), strict=True)
                for i in self.structure(part, kind.sequence_type.elem_type, s)]

    def constant(self, name: str, data: np.ndarray) -> str:
        self.tensors[name] = Tensor(name, TensorType(str(data.dtype), data.shape), data, source=name)
        return name

    def bind(self, name: str, source: str) -> None:
        """`name` is another name of a tensor, a sequence or an optional."""
        if not name:
            return
        if source in self.sequences:
            self.sequences[name] = self.sequences[source]
        elif source in self.absent:
            self.absent.add(name)
        elif self.tensors[source].data is not None:
            self.tensors[name] = replace(self.tensors[source], name=name)
        else:
            self.tensors[name] = Tensor(name, self.tensors[source].type, source=name)
            self.nodes.append(Node("Identity", (source,), (name,), attrs(), (name,)))

    def add(self, op: str, inputs: Sequence[str], output: str, label: str, **attributes) -> str:
        """Imports one more node, in the form of the newest opset, and returns the name of its output."""
        opsets, self.opsets = self.opsets, self.opsets | {"": onnx.defs.onnx_opset_version()}
        try:
            self.visit(helper.make_node(op, list(inputs), [output], name=label, **attributes))
        finally:
            self.opsets = opsets
        return output

    def imports(self) -> list[onnx.OperatorSetIdProto]:
        return [helper.make_opsetid(domain, version) for domain, version in self.opsets.items()]

    def inline(self, body: onnx.GraphProto | onnx.FunctionProto, scope: dict[str, str], prefix: str) -> list[str]:
        """Imports the nodes of a body under names of their own and returns its outputs. scope: its names -> tensors."""
        self.scopes.append(scope)
        for init in getattr(body, "initializer", ()):
            scope[init.name] = self.constant(prefix + init.name, _array(init))
        for k, inner in enumerate(body.node):
            n = onnx.NodeProto()
            n.CopyFrom(inner)
            n.name = prefix + (inner.name or f"{inner.op_type}_{k}") if len(body.node) > 1 else prefix.rstrip("/")
            n.input[:] = [self.lookup(i) for i in n.input]
            for o in n.output:
                if o:
                    scope[o] = scope.get(f"output {o}", prefix + o)
            n.output[:] = [scope[o] if o else "" for o in n.output]
            self.visit(n)
        outputs = [self.lookup(o if isinstance(o, str) else o.name) for o in body.output]
        self.scopes.pop()
        return outputs

    def lookup(self, name: str) -> str:
        """The tensor that a name means inside the bodies that are being inlined."""
        return next((s[name] for s in reversed(self.scopes) if name in s), name)

    def value(self, name: str) -> np.ndarray | None:
        return self.tensors[name].data if name in self.tensors else None

    def label(self, node: onnx.NodeProto) -> str:
        """The name that messages give the node: its own, or its first output's."""
        return node.name or f"{node.op_type} -> {node.output[0] if node.output else '?'}"

    def visit(self, node: onnx.NodeProto) -> None:
        domain = "" if node.domain == "ai.onnx" else node.domain
        if node.op_type == "CastLike" and domain == "" and node.input[1] in self.tensors:
            like = helper.np_dtype_to_tensor_dtype(numpy_type(self.tensors[node.input[1]].type.dtype))
            kept = {x.name: helper.get_attribute_value(x) for x in node.attribute}
            node = helper.make_node("Cast", node.input[:1], node.output, name=node.name, to=like, **kept)
        if node.op_type == "STFT" and node.input[0] in self.tensors and len(self.tensors[node.input[0]].type.shape) == 2:
            signal = f"{node.output[0]}/signal"  # torch.onnx leaves out the axis of real and imaginary part
            shape = self.constant(f"{signal}/shape", np.array((*self.tensors[node.input[0]].type.shape, 1), np.int64))
            self.add("Reshape", [node.input[0], shape], signal, self.label(node))
            node = helper.make_node("STFT", [signal, *node.input[1:]], node.output, name=node.name,
                                    **{x.name: helper.get_attribute_value(x) for x in node.attribute})
        values = [self.tensors[i].data if i in self.tensors else None for i in node.input if i]
        known = (self.tensors, self.sequences, self.absent, self.text)
        missing = [i for i in node.input if i and not any(i in names for names in known)]
        if missing:
            if any(True for _ in self.bad):  # the producer was refused already: its consumers are not to blame
                return
            raise ModelError(f"tensor {missing[0]} is made by no node", where=self.label(node), fix="export the network again")
        counted = next((i for i in node.input if i in self.counts), None)
        if counted is not None:
            return self.bad.append((f"{node.op_type} of a tensor whose size data decide", self.label(node)))
        if not missing and (control.expand(self, node) or text_labels.expand(self, node)):
            return
        parts = qoperator.expand(node, f"{domain}.{node.op_type}" if domain else node.op_type, self.value, self.constant)
        if parts is not None:
            for part in parts:
                self.visit(part)
        elif node.op_type == "Constant":
            self.constant(node.output[0], _constant(node))
        elif node.op_type in ("Shape", "Size") or (
            node.op_type not in NOT_FOLDED
            and domain == ""
            and all(v is not None for v in values)
            and len(values) == sum(map(bool, node.input))
            and node.op_type not in control.OPERATORS
        ):
            self.fold(node)
        elif f"{domain}.{node.op_type}" in self.own:
            self.call(node, self.own[f"{domain}.{node.op_type}"])
        elif not table.known(domain, node.op_type) or not self.taken(node, domain):
            body = self.function_body(node, domain)
            if body is None:
                self.bad.append((f"{domain + '.' if domain else ''}{node.op_type}", self.label(node)))
            elif not self.widened(node, domain):
                self.inline_function(node, body)
        else:
            self.keep(node, domain)

    def call(self, node: onnx.NodeProto, operator: Operator) -> None:
        """Imports a node of an operator of the user's own."""
        given = {x.name: attribute(x) for x in node.attribute}
        tensors = [self.tensors[i] for i in node.input if i]
        inputs = [custom.Input(t.type.dtype, t.type.shape, t.data) for t in tensors]
        types, params, scratch = custom.ruled(operator, inputs, given, self.label(node))
        if len(types) != len(node.output):
            raise UsageError(f"the rule of {operator.name} gives {len(types)} outputs, the node has {len(node.output)}",
                             where=self.label(node), fix="correct the rule, or the node")
        for o, t in zip(node.output, types, strict=True):
            self.tensors[o] = Tensor(o, t, source=o)
        self.nodes.append(Node(custom.NODE, tuple(node.input), tuple(node.output), attrs(
            operator=operator, attributes=given, params=params, scratch=scratch), (self.label(node),)))

    def widened(self, node: onnx.NodeProto, domain: str) -> bool:
        """Imports a node that its function body defines on float32 in place of narrow floats, so that it rounds once, as
        every operator does. False where none of its inputs are narrow, or its types are not known before."""
        narrow = {i for i in node.input if i in self.tensors and self.tensors[i].type.dtype in NARROW_FLOATS}
        if not narrow:
            return False
        try:
            types = self.types(node, domain)
        except UnsupportedError:
            return False
        label = self.label(node)
        wide = onnx.NodeProto()
        wide.CopyFrom(node)
        for k, i in enumerate(node.input):
            if i in narrow:
                wide.input[k] = self.add("Cast", [i], f"{node.output[0]}/wide{k}", label, to=TensorProto.FLOAT)
        for k, (o, t) in enumerate(zip(node.output, types, strict=False)):
            if o and t.dtype in NARROW_FLOATS:
                wide.output[k] = f"{o}/wide"
        self.visit(wide)
        for o, made, t in zip(node.output, wide.output, types, strict=False):
            if o and o != made and made in self.tensors:
                self.add("Cast", [made], o, label, to=helper.np_dtype_to_tensor_dtype(numpy_type(t.dtype)))
        return True

    def fold(self, node: onnx.NodeProto) -> None:
        """Computes a node of constants with ONNX's reference evaluator (Shape and Size need the type alone)."""
        if node.op_type in ("Shape", "Size"):
            shape = np.array(self.tensors[node.input[0]].type.shape, np.int64)
            a = {x.name: helper.get_attribute_value(x) for x in node.attribute}
            value = shape[a.get("start", 0):a.get("end", None)] if node.op_type == "Shape" else np.int64(shape.prod())
            return self.constant(node.output[0], np.asarray(value, np.int64))
        for output, value in zip(node.output, evaluate(node, [self.tensors[i].data if i else None for i in node.input],
                                                       self.imports()), strict=False):
            if output:
                self.constant(output, np.asarray(value))

    def types(self, node: onnx.NodeProto, domain: str) -> list[TensorType]:
        """The output types by ONNX's own inference for this node, or by the operator record's."""
        op = table.OPS.get(f"{domain}.{node.op_type}" if domain else node.op_type)
        if node.op_type in table.BOUNDED and domain == "":
            return self.bounded(node, domain)
        if node.op_type == "STFT" and all(
            i in self.tensors for i in node.input[1::2] if i
        ):  # ONNX's inference forgets `onesided`
            n = self.upgrade(node, domain)
            return op.infer(n, [self.tensors[i].type if i else None for i in n.inputs], [self.value(i) for i in n.inputs])
        present = [i for i in node.input if i]
        if domain in ("", "ai.onnx.ml") and onnx.defs.has(node.op_type, domain):
            schema = onnx.defs.get_schema(node.op_type, self.opsets.get(domain, 1), domain)
            try:
                found = shape_inference.infer_node_outputs(
                    schema, node, {i: _type_proto(self.tensors[i].type) for i in present},
                    {i: numpy_helper.from_array(self.tensors[i].data, i) for i in present
                     if self.tensors[i].data is not None and self.tensors[i].type.size <= 4096},
                    opset_imports=self.imports())
            except shape_inference.InferenceError as e:
                raise ModelError(
                    f"shapes do not fit: {_first_line(e)}", where=self.label(node), fix="export the network again"
                ) from e
            types = [_static(found[o].tensor_type) if o in found else None for o in node.output]
            if all(t is not None for t, o in zip(types, node.output, strict=True) if o):
                return types
        if all(o in self.declared for o in node.output if o):
            return [self.declared.get(o) for o in node.output]
        if op is not None and op.infer is not None:
            n = self.upgrade(node, domain)
            return op.infer(n, [self.tensors[i].type if i else None for i in n.inputs],
                            [self.tensors[i].data if i else None for i in n.inputs])
        raise UnsupportedError(f"the output shape of {node.op_type} depends on data", where=self.label(node),
                               fix="make its shape inputs constants before the export (onnx-simplifier may do it)")

    def bounded(self, node: onnx.NodeProto, domain: str) -> list[TensorType]:
        """The types of outputs whose size data decide, at their bounds; the node gets one more output, the count."""
        n = self.upgrade(node, domain)
        types = table.OPS[node.op_type].infer(n, [self.tensors[i].type if i else None for i in n.inputs],
                                              [self.tensors[i].data if i else None for i in n.inputs])
        axes = table.BOUNDED[node.op_type](n, len(types[0].shape))
        node.output.extend([""] * (len(axes) - len(node.output)))
        count = f"{next(o for o in node.output if o)}/count"
        for o, axis in zip(node.output, axes, strict=True):
            if o and axis is not None:
                self.counts[o] = (count, axis)
        node.output.append(count)
        return types

    def keep(self, node: onnx.NodeProto, domain: str) -> None:
        types = self.types(node, domain)
        outputs = list(node.output)
        for output, t in zip(outputs, types, strict=False):
            if output:
                if t.size == 0:
                    self.constant(output, np.zeros(t.shape, numpy_type(t.dtype)))
                    node.output[node.output[:].index(output)] = ""
                    continue
                self.tensors[output] = Tensor(output, t, source=output)
        if any(o and self.tensors[o].data is None for o in outputs):
            made = self.upgrade(node, domain)
            if made.op == "Concat":
                made = made.with_(inputs=tuple(i for i in made.inputs if self.tensors[i].type.size))
            self.nodes.append(made)

    def upgrade(self, node: onnx.NodeProto, domain: str) -> Node:
        """The node in the newest attribute form: what became an input in a later opset becomes a constant input."""
        a = {x.name: attribute(x) for x in node.attribute}
        inputs, op, opset = list(node.input), node.op_type, self.opsets.get(domain, 1)
        name = self.label(node)

        def const(key: str, value, dtype) -> str:
            t = f"{node.output[0]}/{key}"
            self.constant(t, np.asarray(value, dtype))
            return t

        if domain == "":
            dtype = self.tensors[inputs[0]].type.dtype if inputs and inputs[0] in self.tensors else "float32"
            if opset < 7:  # attributes of memory reuse, training and explicit broadcasting
                first, second = (len(self.tensors[i].type.shape) if i in self.tensors else 0 for i in (inputs + ["", ""])[:2])
                if a.get("broadcast") and "axis" in a and op != "Gemm" and second and a["axis"] + second < first:
                    shape = (*self.tensors[inputs[1]].type.shape, *[1] * (first - a["axis"] - second))
                    to = const("operand_shape", shape, np.int64)
                    wide = f"{node.output[0]}/operand"
                    self.tensors[wide] = Tensor(wide, TensorType(dtype, shape), None, source=wide)
                    if self.value(inputs[1]) is not None:
                        self.constant(wide, self.value(inputs[1]).reshape(shape))
                    else:
                        self.nodes.append(Node("Reshape", (inputs[1], to), (wide,), attrs(), (name,)))
                    inputs[1] = wide
                if a.get("broadcast") or op in BROADCAST:
                    a.pop("axis", None)
                for k in ("broadcast", "consumed_inputs", "is_test"):
                    a.pop(k, None)
                if (
                    op == "PRelu"
                    and second == 1
                    and first > 2
                    and self.tensors[inputs[1]].type.size > 1
                    and self.value(inputs[1]) is not None
                ):
                    inputs[1] = const("slope", self.value(inputs[1]).reshape(-1, *[1] * (first - 2)), dtype)
                if op == "Reshape" and "shape" in a:
                    inputs.append(const("shape", a.pop("shape"), np.int64))
                if op == "Pad" and "paddings" in a:
                    a["pads"] = a.pop("paddings")
                if op == "Concat":
                    a.setdefault("axis", 1)
            if op == "Clip" and opset < 11:
                inputs += [const(k, a.pop(k), dtype) if k in a else "" for k in ("min", "max")]
            elif op == "Pad" and opset < 11:
                inputs += [const("pads", a.pop("pads"), np.int64), const("value", a.pop("value", 0.0), dtype)]
            elif op == "Slice" and opset < 10:
                starts = a.pop("starts")
                inputs += [const("starts", starts, np.int64), const("ends", a.pop("ends"), np.int64),
                           const("axes", a.pop("axes", list(range(len(starts)))), np.int64)]
            elif op in ("Squeeze", "Unsqueeze", "ReduceSum") and opset < 13 or op.startswith("Reduce") and opset < 18:
                if "axes" in a:
                    inputs.append(const("axes", a.pop("axes"), np.int64))
            elif op == "Split" and opset < 13 and "split" in a:
                inputs.append(const("split", a.pop("split"), np.int64))
            elif op in ("Softmax", "LogSoftmax", "Hardmax") and opset < 13:
                a["flatten"] = 1  # before opset 13 the axes from `axis` on are one vector
                a.setdefault("axis", 1)
            elif op == "Upsample" and "scales" in a:
                inputs.append(const("scales", a.pop("scales"), np.float32))
            elif op == "Transpose":
                a.setdefault("perm", tuple(reversed(range(len(self.tensors[inputs[0]].type.shape)))))
            elif op == "Dropout" and len(inputs) > 2 and inputs[2]:
                training, ratio = self.value(inputs[2]), self.value(inputs[1]) if inputs[1] else np.float32(0.5)
                if training is None or ratio is None or training.any() and ratio.any():
                    raise UnsupportedError("Dropout in training mode: random numbers", where=name, fix="export with model.eval()")
                inputs = inputs[:1]
            elif op == "DFT" and opset < 20:
                a.setdefault("axis", 1)
            elif op == "Dropout":
                a.pop("ratio", None)
                inputs = inputs[:1]
            elif op == "Resize" and opset < 11:
                inputs = [inputs[0], "", inputs[1]]
                a.update(coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        full = f"{domain}.{op}" if domain else op
        return Node(full, tuple(inputs), tuple(node.output), attrs(**a), (name,))

    def taken(self, node: onnx.NodeProto, domain: str) -> bool:
        """Whether the operator's record takes this node; its function body is inlined otherwise."""
        if domain or node.op_type not in norm.NORMS:
            return True
        types = [self.tensors[i].type if i else None for i in node.input]
        axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
        return norm.takes(types, axis, sum(map(bool, node.output)))

    def function_body(self, node: onnx.NodeProto, domain: str) -> onnx.FunctionProto | None:
        """ONNX's own definition of the operator by simpler ones; None where it has none."""
        if not onnx.defs.has(node.op_type, domain):
            return None
        version = self.opsets.get(domain, 1)
        schema = onnx.defs.get_schema(node.op_type, version, domain)
        if schema.has_function:
            usable = [v for v in schema.function_opset_versions if v <= version]
            body = schema.get_function_with_opset_version(max(usable)) if usable else schema.function_body
            if isinstance(body, bytes):
                body = onnx.FunctionProto.FromString(body)
        elif schema.has_context_dependent_function:
            usable = [v for v in schema.context_dependent_function_opset_versions if v <= version]
            if not usable:
                return None
            types = [self.type_proto(i).SerializeToString() if i else b"" for i in node.input]
            body = onnx.FunctionProto()
            body.ParseFromString(
                schema.get_context_dependent_function_with_opset_version(max(usable), node.SerializeToString(), types)
            )
        else:
            return None
        return body

    def type_proto(self, name: str) -> onnx.TypeProto:
        """ONNX's type of a tensor, or of a sequence by its first element."""
        if name in self.tensors:
            return _type_proto(self.tensors[name].type)
        parts = self.sequences[name]
        element = self.type_proto(parts[0]) if parts else helper.make_tensor_type_proto(TensorProto.FLOAT, None)
        return helper.make_sequence_type_proto(element)

    def inline_function(self, node: onnx.NodeProto, body: onnx.FunctionProto) -> None:
        """Imports a node by its function body: attributes of the node take the places of references to them."""
        schema = onnx.defs.get_schema(node.op_type, self.opsets.get(node.domain, 1), node.domain)
        given = {x.name: x for x in node.attribute}
        given = {k: v.default_value for k, v in schema.attributes.items() if v.default_value.type} | given
        body = onnx.FunctionProto.FromString(body.SerializeToString())
        for inner in body.node:
            _set_attributes(inner, given)
        scope = dict(zip(body.input, node.input, strict=False)) | {i: "" for i in body.input[len(node.input):]}
        scope |= {f"output {name}": o for name, o in zip(body.output, node.output, strict=False) if o}
        outputs = self.inline(body, scope, f"{self.label(node)}/")
        for o, made in zip(node.output, outputs, strict=False):
            if o and o != made:
                self.bind(o, made)


def _set_attributes(node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto]) -> None:
    """References to a function's attributes, in nested bodies too, become their values; those that are not given go."""
    kept = []
    for x in node.attribute:
        if x.ref_attr_name:
            if x.ref_attr_name not in given:
                continue
            y = onnx.AttributeProto()
            y.CopyFrom(given[x.ref_attr_name])
            y.name = x.name
            x = y
        elif x.type == onnx.AttributeProto.GRAPH:
            for inner in x.g.node:
                _set_attributes(inner, given)
        kept.append(x)
    kept = [onnx.AttributeProto.FromString(x.SerializeToString()) for x in kept]
    del node.attribute[:]
    node.attribute.extend(kept)


def evaluate(node: onnx.NodeProto, values: list[np.ndarray | None], opsets) -> list[np.ndarray]:
    """One node's outputs by ONNX's reference evaluator."""
    names = [i for i in dict.fromkeys(node.input) if i]
    by_name = {i: v for i, v in zip(node.input, values, strict=True) if i}
    infos = [helper.make_tensor_value_info(i, helper.np_dtype_to_tensor_dtype(by_name[i].dtype), by_name[i].shape) for i in names]
    outs = [o for o in node.output if o]
    graph = helper.make_graph([node], "one", infos, [onnx.ValueInfoProto(name=o) for o in outs])
    model = helper.make_model(graph, opset_imports=list(opsets))
    found = dict(zip(outs, onnx.reference.ReferenceEvaluator(model).run(None, by_name), strict=True))
    return [found.get(o) for o in node.output]


def _refuse(graph: Graph) -> None:
    """NaN in any constant and Inf in weights are errors of the model."""
    for part in graphs(graph):
        _refuse_damaged(part)


def _refuse_damaged(graph: Graph) -> None:
    users = graph.consumers()
    for t in graph.tensors.values():
        if t.data is None or t.data.dtype.kind != "f":
            continue
        using = users.get(t.name, [])
        bad = np.isnan(t.data) if not any(n.op in WEIGHTED for n in using) else ~np.isfinite(t.data)
        if using and bad.any():
            at = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ModelError(
                f"weight {t.name} holds {int(bad.sum())} NaN or Inf value(s), the first at {at}",
                where=", ".join(n.origin[0] for n in using[:3]),
                fix="the training diverged or the export is damaged: check the checkpoint",
            )


def _array(t: TensorProto) -> np.ndarray:
    try:
        return np.asarray(numpy_helper.to_array(t), order="C")
    except (ValueError, TypeError) as e:
        raise ModelError(
            f"initializer {t.name} is damaged: {_first_line(e)}", where=t.name, fix="export the network again"
        ) from e


def _constant(node: onnx.NodeProto) -> np.ndarray:
    a = node.attribute[0]
    if a.name == "value":
        return _array(a.t)
    if a.name.startswith("value_float"):
        return np.asarray(helper.get_attribute_value(a), np.float32)
    if a.name.startswith("value_int"):
        return np.asarray(helper.get_attribute_value(a), np.int64)
    raise UnsupportedError(
        f"Constant with attribute {a.name}", where=node.name or node.output[0], fix="use dense numeric constants"
    )


def attribute(a: onnx.AttributeProto):
    """Its value: numbers, texts, tuples of them, an array."""
    v = helper.get_attribute_value(a)
    if isinstance(v, bytes):
        return v.decode()
    if isinstance(v, TensorProto):
        return numpy_helper.to_array(v)
    if a.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
        return tuple(v)
    if a.type == onnx.AttributeProto.STRINGS:
        return tuple(s.decode() for s in v)
    return v


def _dtype(elem_type: int, where: str) -> str:
    try:
        name = str(helper.tensor_dtype_to_np_dtype(elem_type))
    except KeyError:
        name = f"number {elem_type}"
    if name not in NUMBERS:
        kind = "string" if name == "object" else name
        raise UnsupportedError(f"element type {kind}", where=where, fix="use real, integer or bool tensors")
    return name


def _type_proto(t: TensorType) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(numpy_type(t.dtype)), t.shape)


def _static(t: onnx.TypeProto.Tensor) -> TensorType | None:
    if not t.HasField("shape") or any(not d.HasField("dim_value") for d in t.shape.dim) or t.elem_type in (0, TensorProto.STRING):
        return None
    return TensorType(_dtype(t.elem_type, ""), tuple(d.dim_value for d in t.shape.dim))


def _first_line(e: Exception) -> str:
    text = re.sub(r"\s+", " ", str(e)).strip()
    return text[:200]


def evaluate_ir(node: Node, values: list[np.ndarray | None]) -> list[np.ndarray]:
    """A graph node of ONNX's own operators on arrays, by ONNX's reference evaluator at the newest opset that it has."""
    names = [f"i{k}" if v is not None else "" for k, v in enumerate(values)]
    kept = {k: v for k, v in node.attrs.items() if v is not None and k not in ("clip", "channels_last", "flatten")}
    proto = helper.make_node(node.op, names, [f"o{k}" if o else "" for k, o in enumerate(node.outputs)], **kept)
    return evaluate(proto, values, [helper.make_opsetid("", onnx.defs.onnx_opset_version())])
