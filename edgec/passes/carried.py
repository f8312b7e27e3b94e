"""Loops without the tensors that nothing needs: exporters carry whatever a loop touches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..ir import Graph, Node
from ..rewrite import Rewriter, live_nodes


def drop_unread_carried(graph: Graph) -> Graph:
    """A tensor that a loop carries goes where nothing behind the loop reads it and, inside, only its own next value does."""
    read = {i for n in live_nodes(list(graph.nodes), graph.outputs) for i in n.inputs} | set(graph.outputs)
    r = Rewriter(graph)
    r.nodes = [_smaller(n, read) if n.op == "Loop" else n for n in graph.nodes]
    return r.done()


def _smaller(node: Node, read: Iterable[str]) -> Node:
    body, n = node.attrs["body"], len(node.outputs)
    kept = {k for k, o in enumerate(node.outputs) if o in read} | ({0} if node.attrs["tested"] else set())
    while True:
        outputs = [body.outputs[k] for k in sorted(kept)]
        used = set(outputs).union(*(m.inputs for m in live_nodes(list(body.nodes), outputs)))
        more = {k for k in range(n) if body.inputs[k] in used} | kept
        if more == kept:
            break
        kept = more
    inputs = [k for k in range(len(node.inputs)) if k in kept or k >= n and body.inputs[k] in used]
    if not kept or len(inputs) == len(node.inputs):
        return node
    body = replace(body, inputs=tuple(body.inputs[k] for k in inputs), outputs=tuple(outputs))
    return node.with_(
        inputs=tuple(node.inputs[k] for k in inputs),
        outputs=tuple(node.outputs[k] for k in sorted(kept)),
        attrs={"body": Rewriter(body).done()},
    )
