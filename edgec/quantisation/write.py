"""The quantised graph: ONNX's QuantizeLinear/DequantizeLinear form (QDQ) of a float graph with a plan and its scales.

Activations are int8 asymmetric per tensor (int16 symmetric where asked), weights symmetric per output channel,
biases int32 with scale s_x * s_w. The result runs as it is in onnxruntime; the compiler absorbs the pairs into integer
kernels. What has no integer form stays float between a DequantizeLinear and a QuantizeLinear, and is reported.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..ir import Graph, Node, QParams, TensorType, attrs
from ..rewrite import Rewriter
from .plan import LINEAR, Plan, operands
from .scales import Scales, bias_of, weight_q


class Writer:
    """Writes the QDQ graph in one walk over the nodes."""

    def __init__(self, graph: Graph, plan: Plan, scales: Scales, io: str):
        self.graph, self.plan, self.scales = graph, plan, scales
        self.whole = {*graph.given, *graph.results} if io == "int8" else frozenset()    # integers at the interface
        self.r = Rewriter(graph)
        self.r.nodes = []
        self.parameters: dict[str, tuple[str, str]] = {}    # source -> names of scale and zero point
        self.constants: dict[tuple, str] = {}               # a constant and its parameters -> its real values
        self.integers: dict[str, str] = {}                  # quantised tensor -> its integers
        self.floats: dict[str, str] = {}                    # quantised tensor -> its real values again

    def write(self, note: str) -> Graph:
        for i in self.graph.inputs:
            if i in self.plan.source:
                self.begin(i)
        for node in self.graph.nodes:
            self.node(node)
        for o in self.graph.outputs:
            if self.is_float_output(o):
                self.read_integers(o)
        self.r.notes.append(note)
        return self.r.done()

    def tensor(self, hint: str, type: TensorType) -> str:
        """A new tensor; its source is itself, for the reference of a quantised model is its own ONNX form."""
        name = self.r.fresh(hint)
        return self.r.tensor(name, type, source=name)

    def is_float_output(self, t: str) -> bool:
        """True for a graph output that DequantizeLinear makes."""
        return (t in self.graph.outputs and t not in self.whole and t in self.plan.integer_made
                and t in self.plan.source and t not in self.graph.inputs)

    def begin(self, name: str) -> None:
        """A float graph input: quantised at once, or turned into integers."""
        if name in self.whole:
            self.integers[name] = name
            self.r.retype(name, TensorType("int8", self.graph.type(name).shape))
        else:
            self.quantise(name, name)

    def node(self, node: Node) -> None:
        inputs = tuple(self.operand(node, k) if i else "" for k, i in enumerate(node.inputs))
        outputs = tuple(self.raw(o) if o else "" for o in node.outputs)
        self.r.nodes.append(replace(node, inputs=inputs, outputs=outputs))
        for old, new in zip(node.outputs, outputs, strict=True):
            if old in self.plan.source:
                self.quantise(old, new)

    def raw(self, name: str) -> str:
        """The name under which a node writes the float tensor, which Q reads: another one where `name` is to be the
        graph output on the other side."""
        int8_output = name in self.whole and name in self.graph.outputs and name in self.plan.source
        if int8_output or self.is_float_output(name):
            return self.tensor(f"{name}/f", self.graph.type(name))
        return name

    def quantise(self, name: str, raw: str) -> None:
        """QuantizeLinear of a float tensor."""
        t = TensorType(str(np.dtype(self.dtype(name))), self.graph.type(name).shape)
        if name in self.graph.outputs and name in self.whole:
            self.integers[name] = name
            self.r.retype(name, t)
        else:
            self.integers[name] = self.tensor(f"{name}/q", t)
        self.r.nodes.append(Node("QuantizeLinear", (raw, *self.scale_of(name)), (self.integers[name],)))

    def read_integers(self, name: str) -> str:
        """The float tensor that DequantizeLinear makes of a quantised one; made on first use."""
        if name not in self.floats:
            out = name if self.is_float_output(name) else self.tensor(f"{name}/dq", self.graph.type(name))
            self.floats[name] = out
            self.r.nodes.append(Node("DequantizeLinear", (self.integers[name], *self.scale_of(name)), (out,)))
        return self.floats[name]

    def scale_of(self, name: str) -> tuple[str, str]:
        source = self.plan.source[name]
        if source not in self.parameters:
            q = self.scales.activations[source]
            self.parameters[source] = self.parameter_constants(source, q, self.dtype(name))
        return self.parameters[source]

    def dtype(self, name: str) -> type:
        return np.int16 if self.plan.source[name] in self.plan.wide else np.int8

    def parameter_constants(self, hint: str, q: QParams, dtype: np.dtype | type) -> tuple[str, str]:
        return (self.constant_tensor(f"{hint}/scale", q.scale),
                self.constant_tensor(f"{hint}/zero_point", q.zero_point.astype(dtype)))

    def constant_tensor(self, hint: str, data: np.ndarray) -> str:
        return self.r.tensor(hint, TensorType(str(data.dtype), data.shape), data)

    def operand(self, node: Node, k: int) -> str:
        """What a node reads in place of its input k."""
        name, integer = node.inputs[k], node in self.plan.integer
        if self.graph.const(name) is None:
            quantised = name in self.plan.source and (integer or name in self.plan.integer_made)
            return self.read_integers(name) if quantised else name
        first = self.plan.head.get(node, node)
        if integer and first.op in LINEAR and name == bias_of(self.graph, self.plan, first):
            return self.bias(name, first)
        if not integer or name not in operands(self.graph, node):
            return name
        value = self.graph.const(name)
        q = self.scales.weights.get(node) or weight_q(value, None)
        own = node if node in self.scales.values else None
        return self.constant(name, q, self.scales.values[node] if own else integers_of(value, q, np.int8), own)

    def bias(self, name: str, first: Node) -> str:
        """int32 with scale s_x * s_w."""
        w, own = self.scales.weights[first], first if first in self.scales.biases else None
        value = self.scales.biases[first] if own else self.graph.const(name)
        x = next(i for i in operands(self.graph, first) if self.graph.const(i) is None)
        scale = self.scales.activations[self.plan.source[x]].scale * w.scale
        if w.axis is not None:
            value = np.broadcast_to(value.reshape(-1), scale.shape)
        q = QParams.of(scale, 0, 0)
        return self.constant(name, q, integers_of(value, q, np.int32), own)

    def constant(self, name: str, q: QParams, whole: np.ndarray, own: Node | None) -> str:
        """An integer constant and its DequantizeLinear; one for all readers with the same parameters and, where a node has
        integers of its own, the same of these."""
        key = (name, q.axis, q.scale.tobytes(), whole.tobytes() if own else whole.dtype)
        if key not in self.constants:
            data = self.constant_tensor(f"{name}/q", whole)
            out = self.constants[key] = self.tensor(f"{name}/dq", TensorType("float32", whole.shape))
            axis = attrs() if q.axis is None else attrs(axis=q.axis)
            inputs = (data, *self.parameter_constants(name, q, whole.dtype))
            self.r.nodes.append(Node("DequantizeLinear", inputs, (out,), axis))
        return self.constants[key]


def integers_of(real: np.ndarray, q: QParams, dtype: type) -> np.ndarray:
    """Symmetric: rounded half to even from float64 quotients, saturated to plus or minus the type's highest."""
    shape = [1] * real.ndim
    if q.axis is not None:
        shape[q.axis] = -1
    steps = np.rint(real.astype(np.float64) / q.scale.astype(np.float64).reshape(shape))
    highest = np.iinfo(dtype).max
    return np.clip(steps, -highest, highest).astype(dtype)
