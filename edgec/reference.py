"""The graph's interpreter: what a Graph means. Integer operators by their integer reference, the rest by ONNX's evaluator."""
from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .ir import Graph, Node
from .onnx_in import evaluate_ir
from .ops import table


def run_node(graph: Graph, node: Node, inputs: list[np.ndarray | None]) -> list[np.ndarray]:
    """The outputs of one node. inputs follow node.inputs, None where absent."""
    if node.op in ("If", "Loop"):
        return _block(node, inputs)
    op = table.OPS.get(node.op)
    own = (
        op is not None
        and op.reference is not None
        and (node.op not in ("Conv", "MaxPool", "AveragePool") or node.attrs.get("channels_last"))
    )
    if not own:
        return evaluate_ir(node, inputs)
    types = [graph.type(i) if i else None for i in node.inputs]
    out_types = [graph.type(o) if o else None for o in node.outputs]
    found = op.reference(node, inputs, types, out_types)
    return [
        np.asarray(y).astype(t.dtype, copy=False).reshape(t.shape) if t is not None else y
        for y, t in zip(found, out_types, strict=False)
    ]


def _block(node: Node, inputs: list[np.ndarray | None]) -> list[np.ndarray]:
    """An If, or a Loop turn by turn."""
    def once(body: Graph, values) -> list[np.ndarray]:
        found = run(body, dict(zip(body.inputs, values, strict=True)))
        return [found[o] for o in body.outputs]

    if node.op == "If":
        return once(node.attrs["then_branch" if inputs[0].reshape(-1)[0] else "else_branch"], inputs[1:])
    body, turns, n = node.attrs["body"], node.attrs["turns"], len(node.outputs)
    types = map(body.type, body.inputs)
    carried = [np.zeros(t.shape, t.dtype) if v is None else v for v, t in zip(inputs[:n], types, strict=False)]
    turn = 0
    while (not turns or turn < turns) and (not node.attrs["tested"] or carried[0].reshape(-1)[0]):
        carried = once(body, [*carried, *inputs[n:]])
        turn += 1
    return carried


def run(
    graph: Graph, inputs: Mapping[str, np.ndarray], keep: Callable[[str], bool] = lambda name: False
) -> dict[str, np.ndarray]:
    """Graph outputs by name, and every tensor for which keep(name)."""
    values: dict[str, np.ndarray] = {t.name: t.data for t in graph.tensors.values() if t.data is not None}
    for name in graph.inputs:
        t = graph.type(name)
        values[name] = np.asarray(inputs[name], t.dtype).reshape(t.shape)
    last = {i: k for k, n in enumerate(graph.nodes) for i in n.inputs}
    kept: dict[str, np.ndarray] = {}
    for k, node in enumerate(graph.nodes):
        for name, value in zip(
            node.outputs, run_node(graph, node, [values[i] if i else None for i in node.inputs]), strict=False
        ):
            if name:
                values[name] = value
                if keep(name) or name in graph.outputs:
                    kept[name] = value
        for i in node.inputs:
            if last.get(i) == k and i not in graph.outputs and graph.tensors.get(i) is not None and graph.const(i) is None:
                values.pop(i, None)
    for name in graph.outputs:
        kept.setdefault(name, values[name])
    return kept
