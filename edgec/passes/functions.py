"""Functions of one tensor: groups of elementwise nodes that are one table when their tensor is int8.

GELU, SiLU, HardSwish and others reach us as several nodes; between quantised tensors they are one function.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ..fixed import quantise
from ..ir import Graph, Node, QParams, attrs, origins
from ..onnx_in import evaluate_ir
from ..ops import table
from ..rewrite import Rewriter

BINARY = ("Add", "Sub", "Mul")
SCALAR = (*BINARY, "Div", "Pow", "Min", "Max", "PRelu", "Clip")  # elementwise with constants of one element


class Function(NamedTuple):
    """nodes: in order, the last one makes the result; leaf: the tensor it is a function of."""

    nodes: tuple[Node, ...]
    leaf: str


def elementwise(graph: Graph, node: Node) -> bool:
    """Whether the node computes each element from the same element of its run-time inputs and from scalars."""
    if len(node.outputs) != 1 or not node.inputs or graph.type(node.outputs[0]).dtype != "float32":
        return False
    op, shape = table.OPS.get(node.op), graph.type(node.outputs[0]).shape
    known = node.op in SCALAR or op is not None and op.quant == "lut"
    return known and all(graph.type(i).size == 1 if graph.const(i) is not None else graph.type(i).shape == shape
                         for i in node.inputs if i)


def functions(graph: Graph, allowed: Callable[[Node], bool], same: Mapping[str, str] | None = None) -> list[Function]:
    """Groups of two nodes and more whose inner tensors nothing else reads, the largest ones. allowed: which nodes may be
    in one, beyond being elementwise. same: tensors that hold the same values -> one name for all of them."""
    same, made, uses = same or {}, graph.producers(), graph.consumers()
    inside = {n for n in graph.nodes if elementwise(graph, n) and allowed(n)}
    leaves: dict[str, tuple[str, ...]] = {}  # tensor -> what it is a function of alone, nearest first

    def known(t: str) -> tuple[str, ...]:
        return leaves.get(t, (same.get(t, t),))

    for n in graph.nodes:
        if n in inside:
            first, *others = [known(i) for i in n.inputs if i and graph.const(i) is None] or [()]
            leaves[n.outputs[0]] = (n.outputs[0], *(t for t in first if all(t in o for o in others)))
    taken: set[Node] = set()
    found = []
    for n in reversed(graph.nodes):
        if n not in inside or n in taken:
            continue
        for leaf in reversed(leaves[n.outputs[0]][1:]):
            group = _between(n, leaf, made, inside, same)
            inner = {m.outputs[0] for m in group} - {n.outputs[0]}
            alone = all(u in group for t in inner for u in uses.get(t, ())) and not inner & {*graph.outputs}
            if len(group) > 1 and alone and not group & taken:
                taken |= group
                found.append(Function(tuple(m for m in graph.nodes if m in group), leaf))
                break
    return found


def _between(last: Node, leaf: str, made: Mapping[str, Node], inside: set[Node], same: Mapping[str, str]) -> set[Node]:
    """The nodes from the leaf to the last one."""
    group, todo = set(), [last]
    while todo:
        n = todo.pop()
        group.add(n)
        todo += [made[i] for i in n.inputs if same.get(i, i) != leaf and i in made and made[i] in inside
                 and made[i] not in group]
    return group


def fuse_functions(graph: Graph) -> Graph:
    """DequantizeLinear -> a function of one int8 tensor -> QuantizeLinear becomes a table."""
    r, uses = Rewriter(graph), graph.consumers()
    real = {n.outputs[0]: n.inputs[0] for n in graph.nodes if n.op == "DequantizeLinear" and _int8(graph, n.inputs[0])}
    for f in functions(graph, lambda n: True, real):
        result = f.nodes[-1].outputs[0]
        readers = uses.get(result, [])
        if f.leaf not in real.values() or result in graph.outputs or len(readers) != 1:
            continue
        q = readers[0]
        if q.op != "QuantizeLinear" or q.inputs[0] != result or not _int8(graph, q.outputs[0]):
            continue
        y = q.outputs[0]
        entries = r.const(y + "/table", tabled(graph, f, graph.type(f.leaf).q, graph.type(y).q, real))
        lut = Node("edgec.Lut", (f.leaf, entries), (y,), attrs(function="+".join(n.op for n in f.nodes)), origins(f.nodes))
        r.nodes = [lut if n is q else n for n in r.nodes if n not in f.nodes]
    return r.done()


def _int8(graph: Graph, t: str) -> bool:
    return graph.type(t).dtype == "int8" and graph.type(t).q is not None and graph.const(t) is None


def tabled(graph: Graph, f: Function, qx: QParams, qy: QParams, same: Mapping[str, str]) -> np.ndarray:
    """Entry k: the function of the integer k - 128."""
    x = ((np.arange(-128, 128) - int(qx.zero_point)) * np.float32(qx.scale)).astype(np.float32)
    values: dict[str, np.ndarray] = {}
    for n in f.nodes:
        given = [None if not i else graph.const(i).reshape(()) if graph.const(i) is not None else
                 x if same.get(i, i) == f.leaf else values[i] for i in n.inputs]
        with np.errstate(all="ignore"):
            values[n.outputs[0]] = np.asarray(evaluate_ir(n, given)[0], np.float32)
    return quantise(np.nan_to_num(values[f.nodes[-1].outputs[0]]), qy)
