"""Float model -> int8 model in ONNX's QuantizeLinear/DequantizeLinear form (QDQ), from the ranges of its tensors.

Activations are int8 asymmetric per tensor, weights int8 symmetric per output channel (-127..127), biases int32
with scale s_x * s_w. The result runs as it is in onnxruntime; the compiler absorbs the pairs into integer kernels.
What has no int8 form stays float between a DequantizeLinear and a QuantizeLinear, and is reported.

A tensor's `source` is the tensor whose scale and zero point it takes: itself, or another where the operator between
them only moves elements. An `integer` node computes on quantised tensors; a fused group (MatMul, Add of a bias,
Relu) is several integer nodes with one quantisation at its end.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from . import calibrate
from .calibrate import Range
from .data import Dataset
from .errors import UsageError
from .ir import Graph, Node, QParams, TensorType, attrs
from .ops import table
from .rewrite import Rewriter

IO = ("int8", "float32")
LINEAR = ("Conv", "Gemm", "MatMul")
ELEMENTWISE = ("Add", "Sub", "Mul")
CLAMPS = ("Relu", "Clip")
CLAMPED = (*LINEAR, *ELEMENTWISE, "AveragePool", "GlobalAveragePool")     # a clamp after them is part of their kernel
SIMPLIFIED = {"GlobalAveragePool": "AveragePool", "GlobalMaxPool": "MaxPool"}   # what they become before lowering
# Every quantised range holds zero, where these are not finite or at their steepest.
SINGULAR = ("Log", "Sqrt", "Reciprocal", "Tan", "Asin", "Acos", "Acosh", "Atanh")
# The whole range of these is known. (scale, zero point)
FIXED = {"Softmax": (1 / 256, -128), "Sigmoid": (1 / 256, -128), "Tanh": (1 / 128, 0)}
ALREADY = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")

MIN_SCALE = 2.0**-60       # the product of two scales stays a normal float32
MAX_BIAS = 2**30           # in accumulator steps: the other half of int32 is for the products
# Limits of the integer kernels: an output step is at least this many steps of an accumulator, or this share of an
# input step. Finer steps would resolve nothing but rounding noise.
STEPS_PER_PRODUCT, STEP_PER_INPUT = 4.01, 2.0**-12


@dataclass(frozen=True)
class TensorReport:
    """real = (integer - zero_point) * scale. lo, hi: the range it was chosen from. source: the tensor it was measured
    on."""

    name: str
    lo: float
    hi: float
    scale: float
    zero_point: int
    source: str


@dataclass(frozen=True)
class FloatNode:
    """A node that still computes in float, and why."""

    name: str
    op: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """What quantisation did. integer_nodes: how many nodes of the model compute on int8 now."""

    method: str
    io: str
    samples: int
    integer_nodes: int
    tensors: tuple[TensorReport, ...]
    float_nodes: tuple[FloatNode, ...]

    def as_dict(self) -> dict:
        return asdict(self)


def quantize_model(graph: Graph, dataset: Dataset, method: str = "minmax", io: str = "int8",
                   progress: Callable[[int, int], None] | None = None) -> tuple[Graph, Summary]:
    """Calibrates the float graph (ONNX operators) on the dataset and quantises it.

    method: see `calibrate.collect`; io: see `quantize`; progress(done, total) counts samples. UsageError: unknown
    method or io, or the model is quantised already. ModelError: it computes NaN or infinity.
    """
    calibrate.percent(method)
    ranges = calibrate.collect(graph, dataset, method=method, tensors=measured(graph, io), progress=progress)
    summary = report(graph, ranges, io=io, method=method, samples=len(dataset))
    return quantize(graph, ranges, io=io, method=method), summary


def measured(graph: Graph, io: str = "int8") -> list[str]:
    """The tensors whose ranges `quantize` needs, in topological order."""
    p = _plan(graph, io)
    return [t for t in dict.fromkeys(p.source.values()) if t not in p.fixed and graph.const(t) is None]


def quantize(graph: Graph, ranges: Mapping[str, Range], *, io: str = "int8", method: str = "minmax") -> Graph:
    """The graph in QDQ form, from a graph with ONNX operators; best after `pipeline.simplify`, which leaves fewer of
    them in float.

    ranges: of every tensor that `measured` names. io "int8": float inputs and outputs become int8 tensors of the same
    names, with DequantizeLinear as first and QuantizeLinear as last node; "float32": they stay float, with
    QuantizeLinear first and DequantizeLinear last. method: how the ranges were found, for the graph's notes.
    """
    plan = _plan(graph, io)
    scales = _scales(graph, plan, ranges)
    return _Writer(graph, plan, scales, io).write(f"quantised to int8: {method} ranges, {io} inputs and outputs")


def report(graph: Graph, ranges: Mapping[str, Range], *, io: str = "int8", method: str = "minmax",
           samples: int = 0) -> Summary:
    """What `quantize` does with the same arguments, tensor by tensor."""
    plan = _plan(graph, io)
    q = _scales(graph, plan, ranges).activations
    tensors = []
    for name, source in plan.source.items():
        scale, zero = float(q[source].scale), int(q[source].zero_point)
        r = ranges.get(source, Range((-128 - zero) * scale, (127 - zero) * scale))
        if graph.const(name) is None:
            tensors.append(TensorReport(name, r.lo, r.hi, scale, zero, source))
    return Summary(method, io, samples, len(plan.integer), tuple(tensors),
                   tuple(FloatNode(_name(n), n.op, why) for n, why in plan.refused.items()))


# ---- what becomes integer ----


@dataclass(frozen=True, eq=False)
class _Plan:
    """integer: the nodes that compute on integers. head: node of a fused group -> its first node. result: first node
    -> the group's output. source: every quantised tensor -> the tensor whose parameters it takes. fixed: sources with
    known parameters. refused: nodes that stay float, and why."""

    integer: frozenset[Node]
    head: Mapping[Node, Node]
    result: Mapping[Node, str]
    source: Mapping[str, str]
    fixed: Mapping[str, tuple[float, int]]
    integer_made: frozenset[str]
    refused: Mapping[Node, str]


def _plan(graph: Graph, io: str) -> _Plan:
    if io not in IO:
        raise UsageError(f"unknown type '{io}' for inputs and outputs", fix="choose int8 or float32")
    done = [n for n in graph.nodes if n.op in ALREADY]
    if done:
        raise UsageError("the model is quantised already", where=_name(done[0]),
                         fix="build it as it is, or start from the float model")
    obstacles = {n: why for n in graph.nodes if (why := _obstacle(graph, n))}
    head, result = _groups(graph, obstacles)
    integer, made = _integer_nodes(graph, obstacles, io)
    inner = {n.outputs[0] for n in [*result, *head] if n.outputs[0] != result[head.get(n, n)]}
    fixed = {n.outputs[0]: FIXED[n.op] for n in integer if n.op in FIXED}
    source = _sources(graph, integer, _quantised_tensors(graph, integer, made, inner, io), fixed)
    refused = {n: obstacles.get(n, "moves float data only") for n in graph.nodes
               if n not in integer and _touches_floats(graph, n)}
    return _Plan(frozenset(integer), head, result, source, fixed, frozenset(made), refused)


def _touches_floats(graph: Graph, node: Node) -> bool:
    return any(graph.type(t).dtype.startswith("float") for t in _operands(graph, node) + node.outputs if t)


def _kind(graph: Graph, node: Node) -> str:
    """How the compiler takes the node between Q and DQ (`ops.base.Op.quant`); "" where it does not."""
    if node.op in SINGULAR:
        return ""
    if _of_scalars(graph, node):
        return "lut"
    op = table.OPS.get(SIMPLIFIED.get(node.op, node.op))
    return op.quant if op is not None else ""


def _of_scalars(graph: Graph, node: Node) -> bool:
    """True for a function of one run-time tensor and constant scalars that is finite for every real."""
    if node.op not in (*ELEMENTWISE, "Div", "Pow", "Min", "Max", "PRelu"):
        return False
    run_time = [i for i in node.inputs if graph.const(i) is None]
    scalars = [graph.const(i) for i in node.inputs if graph.const(i) is not None]
    if (len(run_time) != 1 or not scalars or any(s.size != 1 for s in scalars)
            or graph.type(run_time[0]).shape != graph.type(node.outputs[0]).shape):
        return False
    if node.op in ("Div", "Pow", "PRelu") and node.inputs[0] != run_time[0]:
        return False
    exponent = float(scalars[0].reshape(()))
    return node.op != "Pow" or exponent > 0 and exponent.is_integer()


def _operands(graph: Graph, node: Node) -> tuple[str, ...]:
    """The inputs that are data: not shapes, bounds, axes, or a bias."""
    kind = _kind(graph, node)
    if node.op in LINEAR or node.op in ELEMENTWISE and kind == "integer":
        return node.inputs[:2]
    if kind == "lut":
        return tuple(i for i in node.inputs if graph.const(i) is None)[:1]
    return node.inputs[:1] if kind and node.op != "Concat" else node.inputs


def _obstacle(graph: Graph, node: Node) -> str:
    """Why a node cannot compute on integers; "" where it can."""
    if node.op in SINGULAR:
        return "is not finite on every quantised range"
    if not _kind(graph, node):
        return "has no int8 form"
    data = [t for t in _operands(graph, node) + node.outputs[:1] if t]
    if any(graph.type(t).dtype != "float32" for t in data):
        return "is not float32"
    if any(node.outputs[1:]) and node.op != "Split":
        return "has more than one output"
    if node.op in ("Conv", "Gemm") and any(graph.const(i) is None for i in node.inputs[1:] if i):
        return "has weights that are not constant"
    if node.op == "Gemm" and not _plain_gemm(graph, node):
        return "has alpha, beta or a matrix C"
    if node.op == "Clip" and any(graph.const(i) is None for i in node.inputs[1:] if i):
        return "has bounds that are not constant"
    return ""


def _plain_gemm(graph: Graph, node: Node) -> bool:
    bias = graph.const(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(1)
    return node.attrs.get("alpha", 1.0) == node.attrs.get("beta", 1.0) == 1.0 and bias.ndim == 1


def _groups(graph: Graph, obstacles: Mapping[Node, str]) -> tuple[dict[Node, Node], dict[Node, str]]:
    """Follower -> first node, and first node -> the group's output: [MatMul + Add of a bias] or arithmetic, then a
    clamp. Only the group's output is quantised."""
    uses = graph.consumers()
    head: dict[Node, Node] = {}
    result: dict[Node, str] = {}
    for node in graph.nodes:
        if node in head or node in obstacles or node.op not in CLAMPED or _kind(graph, node) != "integer":
            continue
        end = node.outputs[0]
        for joins in (_adds_bias, lambda g, first, t, n: n.op in CLAMPS):
            following = uses.get(end, [])
            if (len(following) == 1 and end not in graph.outputs and following[0] not in obstacles
                    and joins(graph, node, end, following[0])):
                head[following[0]] = node
                end = following[0].outputs[0]
        result[node] = end
    return head, result


def _adds_bias(graph: Graph, first: Node, end: str, node: Node) -> bool:
    """True for the Add of a constant per output channel to a MatMul by constant weights."""
    if first.op != "MatMul" or node.op != "Add":
        return False
    w, bias = graph.const(first.inputs[1]), graph.const(next((i for i in node.inputs if i != end), ""))
    if w is None or w.ndim != 2 or bias is None:
        return False
    return (bias.size in (1, w.shape[1]) and bias.shape[-1:] in ((), (bias.size,))
            and graph.type(node.outputs[0]).shape == graph.type(end).shape)


def _integer_nodes(graph: Graph, obstacles: Mapping[Node, str], io: str) -> tuple[set[Node], set[str]]:
    """The integer nodes and the tensors that are integers where they are made.

    Arithmetic is integer wherever it can be. Moves follow their input: they are integer behind an integer node, and
    stay float between float nodes.
    """
    moves = {n for n in graph.nodes if _kind(graph, n) == "move"}
    wanted: set[str] = set()      # read by integer arithmetic, directly or through moves
    for node in reversed(graph.nodes):
        if node not in obstacles and (node not in moves or wanted.intersection(node.outputs)):
            wanted.update(_operands(graph, node))
    made = {i for i in graph.inputs if graph.type(i).dtype == "float32" and (io == "int8" or i in wanted)}
    integer: set[Node] = set()
    for node in graph.nodes:
        data = _operands(graph, node)
        follows = made.intersection(data) or (wanted.intersection(node.outputs)
                                              and all(graph.const(i) is not None for i in data))
        if node not in obstacles and (node not in moves or follows):
            integer.add(node)
            made.update(o for o in node.outputs if o)
    return integer, made


def _quantised_tensors(graph: Graph, integer: set[Node], made: set[str], inner: set[str], io: str) -> list[str]:
    """Every tensor with a scale, in topological order: made or read by an integer node, or an int8 output."""
    found = [i for i in graph.inputs if i in made]
    for node in graph.nodes:
        if node in integer:
            move = _kind(graph, node) == "move"
            found += [t for t in _operands(graph, node) if t and (graph.const(t) is None or move)]
            found += [o for o in node.outputs if o]
    if io == "int8":
        found += [o for o in graph.outputs if graph.type(o).dtype == "float32" and graph.const(o) is None]
    return [t for t in dict.fromkeys(found) if t not in inner]


def _sources(graph: Graph, integer: set[Node], quantised: list[str],
             fixed: Mapping[str, tuple[float, int]]) -> dict[str, str]:
    """Each quantised tensor -> the one whose parameters it takes. The output of a move takes its input's; an input of
    Concat takes the output's where nothing else reads it."""
    moves = [n for n in integer if _kind(graph, n) == "move" and n.op != "Concat"]
    takes = {o: n.inputs[0] for n in moves for o in n.outputs if o}
    uses = graph.consumers()
    for node in (n for n in graph.nodes if n in integer and n.op == "Concat"):
        for i in dict.fromkeys(node.inputs):
            root, alone = i, _read_once(graph, uses, i)
            while root in takes and alone:
                root = takes[root]
                alone = _read_once(graph, uses, root)
            if alone and root not in fixed and graph.const(root) is None:
                takes[root] = node.outputs[0]

    def last(t: str) -> str:
        while t in takes:
            t = takes[t]
        return t

    return {t: last(t) for t in quantised}


def _read_once(graph: Graph, uses: Mapping[str, list[Node]], t: str) -> bool:
    """True when one node reads the tensor, and that node has one output."""
    return t not in graph.outputs and len(uses.get(t, ())) == 1 and len(uses[t][0].outputs) == 1


# ---- scales ----


@dataclass(frozen=True, eq=False)
class _Scales:
    """activations: parameters by source tensor. weights: by first node of a group with constant weights."""

    activations: Mapping[str, QParams]
    weights: Mapping[Node, QParams]


def activation_q(lo: float, hi: float, least: float = MIN_SCALE) -> QParams:
    """int8 asymmetric parameters of a range, widened to hold zero, which is exact; a range of zeros gets scale 1.

    Every real in [lo, hi] is at most scale / 2 from its dequantised value. least: the smallest scale allowed.
    """
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    if lo == hi:
        return QParams.of(max(1.0, least), 0)
    scale = np.float32(max((hi - lo) / 255, least))
    return QParams.of(scale, int(np.clip(np.rint(-128 - lo / float(scale)), -128, 127)))


def weight_q(w: np.ndarray, axis: int | None, bias: np.ndarray | None = None, input_scale: float = 1.0) -> QParams:
    """int8 symmetric parameters of weights, -127..127, one scale per index of `axis` (None: one for all).

    A bias (one value per scale, or None) that would exceed MAX_BIAS steps of input_scale * scale makes the scale
    coarser. A channel of zeros takes the coarsest scale of the others, so that its bias is as fine as theirs.
    """
    others = None if axis is None else tuple(d for d in range(w.ndim) if d != axis)
    largest = np.abs(w.astype(np.float64)).max(axis=others)
    scale = np.maximum(largest / 127, MIN_SCALE)
    top = scale.max() if largest.any() else 1 / 127
    scale = np.where(largest > 0, scale, top)
    if bias is not None:
        by_bias = np.abs(bias.astype(np.float64)).reshape(-1) / (input_scale * MAX_BIAS)
        scale = np.maximum(scale, by_bias if axis is not None else by_bias.max())
    return QParams.of(scale.astype(np.float32), 0, axis)


def _scales(graph: Graph, plan: _Plan, ranges: Mapping[str, Range]) -> _Scales:
    """Topological, for a result's scale may have to be coarser than its range asks (STEPS_PER_PRODUCT)."""
    sources = dict.fromkeys(plan.source.values())
    bounds = {s: _range(s, ranges) for s in sources if s not in plan.fixed and graph.const(s) is None}
    q = ({s: QParams.of(*p) for s, p in plan.fixed.items()} | {s: activation_q(r.lo, r.hi) for s, r in bounds.items()}
         | {s: weight_q(graph.const(s), None) for s in sources if graph.const(s) is not None})
    weights: dict[Node, QParams] = {}
    for node in graph.nodes:
        if node not in plan.integer or node in plan.head or _kind(graph, node) != "integer":
            continue
        operands = []
        for k, name in enumerate(_operands(graph, node)):
            if name in plan.source:
                operands.append(q[plan.source[name]])
            elif node.op in LINEAR:
                other = _operands(graph, node)[1 - k]
                weights[node] = _weights(graph, plan, node, k, float(q[plan.source[other]].scale))
                operands.append(weights[node])
            else:
                operands.append(weight_q(graph.const(name), None))
        source = plan.source[plan.result.get(node, node.outputs[0])]
        least = _least_scale(node, operands)
        if source in bounds and float(q[source].scale) < least:
            q[source] = activation_q(bounds[source].lo, bounds[source].hi, least)
    return _Scales(q, weights)


def _range(name: str, ranges: Mapping[str, Range]) -> Range:
    if name not in ranges:
        raise UsageError(f"no range for tensor '{name}'", fix="calibrate the same model that is quantised")
    return ranges[name]


def _least_scale(node: Node, operands: list[QParams]) -> float:
    steps = [float(q.scale.max()) for q in operands]
    if node.op in LINEAR or node.op == "Mul":
        return STEPS_PER_PRODUCT * steps[0] * steps[1]
    return max(steps) * STEP_PER_INPUT if node.op in ELEMENTWISE else MIN_SCALE


def _weights(graph: Graph, plan: _Plan, node: Node, position: int, input_scale: float) -> QParams:
    """The parameters of the constant operand at `position` of a Conv, Gemm or MatMul."""
    w = graph.const(node.inputs[position])
    axis = _output_axis(node, position, w)
    bias = _bias(graph, plan, node)
    return weight_q(w, axis, None if bias is None else graph.const(bias), input_scale)


def _output_axis(node: Node, position: int, w: np.ndarray) -> int | None:
    """The axis of the weights that becomes the output's channel; None where there is none to give scales to."""
    if node.op == "MatMul":       # more axes, or constants on the left, have no kernel with a scale per channel
        return 1 if position == 1 and w.ndim == 2 else None
    return 0 if node.op == "Conv" or node.attrs.get("transB", 0) else 1


def _bias(graph: Graph, plan: _Plan, first: Node) -> str | None:
    """The bias of a group, its own third input or the constant that the following Add adds."""
    if first.op != "MatMul":
        return first.inputs[2] if len(first.inputs) > 2 and first.inputs[2] else None
    adds = (n for n, h in plan.head.items() if h is first and n.op == "Add")
    return next((i for n in adds for i in n.inputs if graph.const(i) is not None), None)


# ---- the new graph ----


class _Writer:
    """Writes the QDQ graph in one walk over the nodes."""

    def __init__(self, graph: Graph, plan: _Plan, scales: _Scales, io: str):
        self.graph, self.plan, self.scales, self.io = graph, plan, scales, io
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
        return (t in self.graph.outputs and self.io == "float32" and t in self.plan.integer_made
                and t in self.plan.source and t not in self.graph.inputs)

    def begin(self, name: str) -> None:
        """A float graph input: quantised at once, or turned into integers."""
        if self.io == "int8":
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
        int8_output = self.io == "int8" and name in self.graph.outputs and name in self.plan.source
        if int8_output or self.is_float_output(name):
            return self.tensor(f"{name}/f", self.graph.type(name))
        return name

    def quantise(self, name: str, raw: str) -> None:
        """QuantizeLinear of a float tensor."""
        t = TensorType("int8", self.graph.type(name).shape)
        if name in self.graph.outputs and self.io == "int8":
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
            self.parameters[source] = self.parameter_constants(source, self.scales.activations[source], np.int8)
        return self.parameters[source]

    def parameter_constants(self, hint: str, q: QParams, dtype: type) -> tuple[str, str]:
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
        if integer and first.op in LINEAR and name == _bias(self.graph, self.plan, first):
            return self.bias(name, first)
        if not integer or name not in _operands(self.graph, node):
            return name
        value = self.graph.const(name)
        return self.constant(name, value, self.scales.weights.get(node) or weight_q(value, None), np.int8)

    def bias(self, name: str, first: Node) -> str:
        """int32 with scale s_x * s_w."""
        w, value = self.scales.weights[first], self.graph.const(name)
        x = next(i for i in _operands(self.graph, first) if self.graph.const(i) is None)
        scale = self.scales.activations[self.plan.source[x]].scale * w.scale
        if w.axis is not None:
            value = np.broadcast_to(value.reshape(-1), scale.shape)
        return self.constant(name, value, QParams.of(scale, 0, 0), np.int32)

    def constant(self, name: str, real: np.ndarray, q: QParams, dtype: type) -> str:
        """An integer constant and its DequantizeLinear; one for all readers with the same parameters."""
        key = (name, q.axis, q.scale.tobytes(), dtype)
        if key not in self.constants:
            data = self.constant_tensor(f"{name}/q", _integers(real, q, dtype))
            out = self.constants[key] = self.tensor(f"{name}/dq", TensorType("float32", real.shape))
            axis = attrs() if q.axis is None else attrs(axis=q.axis)
            inputs = (data, *self.parameter_constants(name, q, dtype))
            self.r.nodes.append(Node("DequantizeLinear", inputs, (out,), axis))
        return self.constants[key]


def _integers(real: np.ndarray, q: QParams, dtype: type) -> np.ndarray:
    """Symmetric: rounded half to even from float64 quotients, saturated to plus or minus the type's highest."""
    shape = [1] * real.ndim
    if q.axis is not None:
        shape[q.axis] = -1
    steps = np.rint(real.astype(np.float64) / q.scale.astype(np.float64).reshape(shape))
    highest = np.iinfo(dtype).max
    return np.clip(steps, -highest, highest).astype(dtype)


def _name(node: Node) -> str:
    return "+".join(node.origin) or node.outputs[0]
