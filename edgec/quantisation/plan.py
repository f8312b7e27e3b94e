"""Which nodes of a float graph compute on integers, and which tensors share their scale.

A tensor's `source` is the tensor whose scale and zero point it takes: itself, or another where the operator between
them only moves elements. An `integer` node computes on quantised tensors; a fused group (MatMul, Add of a bias,
Relu) is several integer nodes with one quantisation at its end.
"""
from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from ..errors import UsageError
from ..ir import Graph, Node
from ..ops import norm, table
from ..ops.pool import MOST_WIDE
from ..passes.functions import functions

IO = ("int8", "float32")
LINEAR = ("Conv", "Gemm", "MatMul")
ELEMENTWISE = ("Add", "Sub", "Mul")
CLAMPS = ("Relu", "Clip")
CLAMPED = (*LINEAR, *ELEMENTWISE, "AveragePool", "GlobalAveragePool")     # a clamp after them is part of their kernel
SIMPLIFIED = {"GlobalAveragePool": "AveragePool", "GlobalMaxPool": "MaxPool"}   # what they become before lowering
# Every quantised range holds zero, where these are not finite or at their steepest.
SINGULAR = ("Log", "Sqrt", "Reciprocal", "Tan", "Asin", "Acos", "Acosh", "Atanh")
# The whole range of these is known, and both of its ends lie on the grid: (scale, zero point).
FIXED = {"Softmax": (1 / 255, -128), "Sigmoid": (1 / 255, -128), "Tanh": (1 / 127, 0)}
FIXED_WIDE = {"Sigmoid": (1 / 32767, 0), "Tanh": (1 / 32767, 0)}
ALREADY = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")

# What a node may be asked to compute with: bits of activations x bits of weights.
WIDTHS = ("8x8", "16x8", "8x4", "16x4", "8x2", "16x2", "float")
WIDE = ("Conv", "Gemm", "Add", "Sub", "Mul", "AveragePool", "Sigmoid", "Tanh", "Relu", *norm.NORMS)     # have a 16-bit form
NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Plan:
    """integer: the nodes that compute on integers. head: node of a fused group -> its first node. result: first node
    -> the group's output. source: every quantised tensor -> the tensor whose parameters it takes. fixed: sources with
    known parameters. refused: nodes that stay float, and why. wide: sources that are int16. weight_bits: nodes with
    constant weights of fewer than 8 bits."""

    integer: frozenset[Node]
    head: Mapping[Node, Node]
    result: Mapping[Node, str]
    source: Mapping[str, str]
    fixed: Mapping[str, tuple[float, int]]
    integer_made: frozenset[str]
    refused: Mapping[Node, str]
    wide: frozenset[str]
    weight_bits: Mapping[Node, int]

    def linear(self, graph: Graph) -> list[Node]:
        """The integer nodes with constant weights of their own (Conv, Gemm, MatMul), in topological order."""
        return [n for n in graph.nodes if n in self.integer and n.op in LINEAR
                and any(graph.const(i) is not None for i in n.inputs[:2])]


def plan(graph: Graph, io: str, widths: Mapping[str, str] = NONE) -> Plan:
    """widths: by ONNX node name, one of WIDTHS; a node that is not named computes with 8x8. "16x8": its output is
    int16, where every operator that reads it has a 16-bit form. "float": so is its output where integers read it.
    UsageError: a name or a width that does not exist, or a model that is quantised already."""
    if io not in IO:
        raise UsageError(f"unknown type '{io}' for inputs and outputs", fix="choose int8 or float32")
    done = [n for n in graph.nodes if n.op in ALREADY]
    if done:
        raise UsageError("the model is quantised already", where=name_of(done[0]),
                         fix="build it as it is, or start from the float model")
    asked = _asked(graph, widths)
    obstacles = {n: why for n in graph.nodes if (why := _obstacle(graph, n))}
    wanted = _alike_in_16_bits(graph, asked)
    apart = {n for n in graph.nodes if asked.get(n, "").startswith("16") or wanted & {*n.inputs, *n.outputs}}
    head, result = _groups(graph, obstacles, apart)
    kept = {n for n, w in asked.items() if w == "float"}
    kept |= {n for n in graph.nodes if head.get(n) in kept} | {head[n] for n in kept if n in head}
    if kept:
        obstacles = {n: "kept in float as asked" for n in kept} | obstacles
        head, result = _groups(graph, obstacles, apart)
    integer, made = _integer_nodes(graph, obstacles, io)
    inner = {n.outputs[0] for n in [*result, *head] if n.outputs[0] != result[head.get(n, n)]}
    fixed = {n.outputs[0]: FIXED[n.op] for n in integer if n.op in FIXED and n.outputs[0] not in inner}
    source = _sources(graph, integer, _quantised_tensors(graph, integer, made, inner, io), fixed)
    refused = {n: obstacles.get(n, "moves float data only") for n in graph.nodes
               if n not in integer and _touches_floats(graph, n)}
    first = {head.get(n, n) for n, w in asked.items() if w.startswith("16")}
    outputs = {result.get(n, n.outputs[0]) for n in first & integer} | {n.outputs[0] for n in kept}
    outputs |= wanted
    wide = _wide(graph, integer, outputs, head, result, source, fixed, io)
    fixed |= {n.outputs[0]: FIXED_WIDE[n.op] for n in integer if n.outputs[0] in wide and n.op in FIXED_WIDE}
    narrow = {n: int(w[-1]) for n, w in asked.items() if w.endswith(("x4", "x2")) and n in integer and n.op in LINEAR}
    return Plan(frozenset(integer), head, result, source, fixed, frozenset(made), refused, wide, narrow)


def _alike_in_16_bits(graph: Graph, asked: Mapping[Node, str]) -> set[str]:
    """The tensors that `Graph.alike` wants in 16 bits, but those whose makers were asked for something else."""
    decided = {o for n in asked for o in n.outputs}
    return {t for a in graph.alike if a.bits == 16 for t in a.tensors} - decided


def _asked(graph: Graph, widths: Mapping[str, str]) -> dict[Node, str]:
    """Nodes of the graph -> the width asked for them, by the names of the ONNX nodes they came from."""
    known = {name for n in graph.nodes for name in n.origin}
    for name, width in widths.items():
        if width not in WIDTHS:
            raise UsageError(f"'{width}' is not a width", where=name, fix="choose from: " + ", ".join(WIDTHS))
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise UsageError(f"there is no node '{name}'", fix=f"did you mean '{near[0]}'?" if near else
                             "the names are listed by `edgec analyze`")
    return {n: widths[name] for n in graph.nodes for name in n.origin if name in widths}


def _has_wide_form(graph: Graph, node: Node) -> bool:
    if node.op == "AveragePool" and np.prod(node.attrs.get("kernel_shape", ())) > MOST_WIDE:
        return False
    return node.op in WIDE or kind(graph, node) == "move"


def _wide(graph: Graph, integer: set[Node], wanted: set[str], head: Mapping[Node, Node], result: Mapping[Node, str],
          source: Mapping[str, str], fixed: Mapping[str, tuple[float, int]], io: str) -> frozenset[str]:
    """The sources that become int16: those of the tensors that are wanted so, where all who touch them can."""
    wanted = {source[t] for t in wanted if t in source}
    blocked = {n.outputs[0] for n in integer if n.outputs[0] in fixed and n.op not in FIXED_WIDE}
    if io == "int8":
        blocked |= {source[t] for t in (*graph.given, *graph.results) if t in source}
    for n in integer:
        function = any(head[m] is n for m in head) and (kind(graph, n) == "lut" or any(
            m.op not in CLAMPS and n.op != "MatMul" for m in head if head[m] is n))
        if n not in head and (function or not _has_wide_form(graph, n)):
            blocked |= {source[t] for t in (*operands(graph, n), result.get(n, n.outputs[0])) if t in source}
    blocked |= {s for s in wanted if graph.const(s) is not None}
    return frozenset(wanted - blocked)


def _touches_floats(graph: Graph, node: Node) -> bool:
    return any(graph.type(t).dtype.startswith("float") for t in operands(graph, node) + node.outputs if t)


def kind(graph: Graph, node: Node) -> str:
    """How the compiler takes the node between Q and DQ (`ops.base.Op.quant`); "" where it does not."""
    if node.op in SINGULAR:
        return ""
    if _of_scalars(graph, node):
        return "lut"
    if node.op == "ReduceMean":      # becomes a Gemm by ones
        return "integer" if _known_axes(graph, node) else ""
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


def _known_axes(graph: Graph, node: Node) -> bool:
    axes = graph.const(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else None
    return axes is not None and axes.size > 0


def operands(graph: Graph, node: Node) -> tuple[str, ...]:
    """The inputs that are data: not shapes, bounds, axes, or a bias."""
    how = kind(graph, node)
    if node.op in LINEAR or node.op in ELEMENTWISE and how == "integer":
        return node.inputs[:2]
    if how == "lut":
        return tuple(i for i in node.inputs if graph.const(i) is None)[:1]
    return node.inputs[:1] if how and node.op != "Concat" else node.inputs


def _obstacle(graph: Graph, node: Node) -> str:
    """Why a node cannot compute on integers; "" where it can."""
    if node.op in SINGULAR:
        return "is not finite on every quantised range"
    if not kind(graph, node):
        return "has no int8 form"
    data = [t for t in operands(graph, node) + node.outputs[:1] if t]
    if any(graph.type(t).dtype != "float32" for t in data):
        return "is not float32"
    if any(node.outputs[1:]) and node.op != "Split":
        return "has more than one output"
    if node.op in ("Conv", "Gemm") and any(graph.const(i) is None for i in node.inputs[1:] if i):
        return "has weights that are not constant"
    if node.op in norm.NORMS and not norm.integer_form(graph, node):
        return "has gains that are not constant, or too many elements"
    if node.op == "Gemm" and not _plain_gemm(graph, node):
        return "has alpha, beta or a matrix C"
    if node.op == "Clip" and any(graph.const(i) is None for i in node.inputs[1:] if i):
        return "has bounds that are not constant"
    return ""


def _plain_gemm(graph: Graph, node: Node) -> bool:
    bias = graph.const(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(1)
    return node.attrs.get("alpha", 1.0) == node.attrs.get("beta", 1.0) == 1.0 and bias.ndim == 1


def _groups(graph: Graph, obstacles: Mapping[Node, str], apart: set[Node]) -> tuple[dict[Node, Node], dict[Node, str]]:
    """Follower -> first node, and first node -> the group's output: a function of one tensor; [MatMul + Add of a bias]
    or arithmetic, then a clamp. Only the group's output is quantised. apart: nodes that are in no function, for those
    have no 16-bit form."""
    uses, made = graph.consumers(), graph.producers()
    head: dict[Node, Node] = {}
    result: dict[Node, str] = {}

    def in_function(node: Node) -> bool:
        before = made.get(node.inputs[0])
        clamp = node.op in CLAMPS and before is not None and before.op in CLAMPED and kind(graph, before) == "integer"
        return node not in obstacles and node not in apart and not clamp and kind(graph, node) in ("lut", "integer")

    for f in functions(graph, in_function):
        result[f.nodes[0]] = f.nodes[-1].outputs[0]
        head |= {n: f.nodes[0] for n in f.nodes[1:]}
    for node in graph.nodes:
        if node in head or node in result or node in obstacles or node.op not in CLAMPED or kind(graph, node) != "integer":
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
    moves = {n for n in graph.nodes if kind(graph, n) == "move"}
    wanted: set[str] = set()      # read by integer arithmetic, directly or through moves
    for node in reversed(graph.nodes):
        if node not in obstacles and (node not in moves or wanted.intersection(node.outputs)):
            wanted.update(operands(graph, node))
    whole = graph.given if io == "int8" else ()
    made = {i for i in graph.inputs if graph.type(i).dtype == "float32" and (i in whole or i in wanted)}
    integer: set[Node] = set()
    for node in graph.nodes:
        data = operands(graph, node)
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
            move = kind(graph, node) == "move"
            found += [t for t in operands(graph, node) if t and (graph.const(t) is None or move)]
            found += [o for o in node.outputs if o]
    if io == "int8":
        found += [o for o in graph.results if graph.type(o).dtype == "float32" and graph.const(o) is None]
    return [t for t in dict.fromkeys(found) if t not in inner]


def _sources(graph: Graph, integer: set[Node], quantised: list[str],
             fixed: Mapping[str, tuple[float, int]]) -> dict[str, str]:
    """Each quantised tensor -> the one whose parameters it takes. The output of a move takes its input's; an input of
    Concat takes the output's where nothing else reads it."""
    moves = [n for n in integer if kind(graph, n) == "move" and n.op != "Concat"]
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

    for a in graph.alike:
        roots = list(dict.fromkeys(last(t) for t in a.tensors if t in quantised))
        one = next((t for t in roots if t in fixed), roots[0] if roots else "")
        takes |= {t: one for t in roots if t != one and t not in fixed and graph.const(t) is None}
    for i, o in graph.state:  # one scale at both ends, of the range that holds the other
        if i in quantised and o in quantised and last(i) != last(o):
            wide, narrow = (last(o), last(i)) if last(i) == i or last(o) in fixed else (last(i), last(o))
            if narrow not in fixed and graph.const(narrow) is None:
                takes[narrow] = wide
    return {t: last(t) for t in quantised}


def _read_once(graph: Graph, uses: Mapping[str, list[Node]], t: str) -> bool:
    """True when one node reads the tensor, and that node has one output."""
    return t not in graph.outputs and len(uses.get(t, ())) == 1 and len(uses[t][0].outputs) == 1


def name_of(node: Node) -> str:
    """The ONNX nodes that a node came from; its output where there is none."""
    return "+".join(node.origin) or node.outputs[0]
