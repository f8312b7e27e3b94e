"""Quantised tensors of fewer bits than their element type, as QAT tools write them: QuantizeLinear, Clip of the integers."""
from __future__ import annotations

import numpy as np

from ..fixed import dequantise
from ..ir import Graph, Node, QParams
from ..rewrite import Sweep, rewrite_nodes


def clip_before_quantize(graph: Graph) -> Graph:
    """A Clip of what QuantizeLinear makes, with constant bounds, becomes a Clip of the reals before it, where kernels
    take it in: bounds lie on the grid and rounding keeps order, so the integers are the same."""
    def rule(r: Sweep, node: Node):
        q_node = r.made.get(node.inputs[0]) if node.op == "Clip" else None
        if q_node is None or q_node.op != "QuantizeLinear" or r.uses[node.inputs[0]] != 1 or node.inputs[0] in r.outputs:
            return None
        scale, zero = (r.value(i) if i else None for i in (*q_node.inputs[1:3], "")[:2])
        bounds = [(r.value(i), i) for i in node.inputs[1:3]]
        if scale is None or scale.size != 1 or any(i and v is None for v, i in bounds):
            return None
        q = QParams.of(scale, np.int32(0) if zero is None else zero.astype(np.int32))
        real = r.tensor(node.outputs[0] + "/real", r.type(q_node.inputs[0]))
        limits = [
            r.const(f"{real}/{k}", dequantise(np.asarray(v).reshape(()), q)) if i else "" for k, (v, i) in enumerate(bounds)
        ]
        return [node.with_(inputs=(q_node.inputs[0], *limits), outputs=(real,)),
                q_node.with_(inputs=(real, *q_node.inputs[1:]), outputs=node.outputs)]
    return rewrite_nodes(graph, rule)
