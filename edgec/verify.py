"""The executable specification of Graph: run after every pass; names the pass that broke it."""
from __future__ import annotations

from functools import partial

import numpy as np

from .errors import EdgecError
from .ir import Graph, bodies


class VerifyError(EdgecError):
    """A pass made an invalid graph: a defect of edgec."""


def verify(graph: Graph, after: str = "import") -> Graph:
    """Returns the graph. Raises VerifyError naming the pass, the node and the rule."""
    def fail(rule: str, where: str = "") -> None:
        raise VerifyError(
            f"after pass {after}: {rule}", where=where, fix="this is a defect of edgec: please report it with the model"
        )

    known = {*graph.inputs, *(t.name for t in graph.tensors.values() if t.data is not None)}
    for key, t in graph.tensors.items():
        if key != t.name:
            fail(f"tensor {t.name} is filed under {key}")
        if t.data is not None and (str(t.data.dtype), t.data.shape) != (t.type.dtype, t.type.shape):
            fail(f"constant {key} holds {t.data.dtype}{t.data.shape} but is typed {t.type}")
        if t.data is None and any(n <= 0 for n in t.type.shape):
            fail(f"tensor {key} has shape {t.type.shape}")
        q = t.type.q
        if q is not None:
            if np.dtype(t.type.dtype).kind not in "iu":
                fail(f"{key} is quantised but {t.type.dtype}")
            if q.axis is not None and q.scale.shape != (t.type.shape[q.axis],):
                fail(f"{key}: {q.scale.size} scales on axis {q.axis} of {t.type.shape}")
            if not (q.scale > 0).all() or not np.isfinite(q.scale).all():
                fail(f"{key}: a scale is not positive and finite")
    for node in graph.nodes:
        where = " + ".join(node.origin) or str(node)
        for i in node.inputs:
            if i and i not in graph.tensors:
                fail(f"{node.op} reads {i}, which has no type", where)
            if i and i not in known:
                fail(f"{node.op} reads {i} before it is made", where)
        for o in node.outputs:
            if o and o in known:
                fail(f"{o} is made twice", where)
            if o and o not in graph.tensors:
                fail(f"{node.op} makes {o}, which has no type", where)
        known.update(o for o in node.outputs if o)
        for body in map(partial(verify, after=after), bodies(node).values()):
            read = node.inputs[1:] if node.op == "If" else node.inputs
            for inner, outer in (*zip(body.inputs, read, strict=True), *zip(body.outputs, node.outputs, strict=True)):
                if outer and (body.type(inner).dtype, body.type(inner).shape) != (
                    graph.type(outer).dtype,
                    graph.type(outer).shape,
                ):
                    fail(f"{outer} is {graph.type(outer)}, inside the body {body.type(inner)}", where)
        _node_rules(graph, node, lambda rule, where=where: fail(rule, where))
    for o in graph.outputs:
        if o not in known:
            fail(f"output {o} is made by nothing")
    for i, o in graph.state:
        if i not in graph.inputs or o not in graph.outputs:
            fail(f"state {i} = {o} is no input and output")
        elif (graph.type(i).dtype, graph.type(i).shape) != (graph.type(o).dtype, graph.type(o).shape):
            fail(f"state {i} is {graph.type(i)}, {o} is {graph.type(o)}")
    return graph


def _node_rules(graph: Graph, node, fail) -> None:
    """What must hold between a node's types."""
    types = [graph.type(i) for i in node.inputs if i]
    out = [graph.type(o) for o in node.outputs if o]
    if node.op == "Transpose":
        if out[0].shape != tuple(types[0].shape[k] for k in node.attrs["perm"]):
            fail(f"Transpose {node.attrs['perm']} of {types[0]} gives {out[0]}")
    if node.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze") and types[0].size != out[0].size:
        fail(f"{node.op} of {types[0]} gives {out[0]}")
    if (
        node.op in ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "MaxPool", "Slice")
        and types[0].dtype != out[0].dtype
    ):
        fail(f"{node.op} changes {types[0].dtype} to {out[0].dtype}")
    if node.attrs.get("channels_last") and node.op == "Conv":
        oc, _, _, cg = types[1].shape
        if types[0].shape[3] != cg * int(node.attrs.get("group", 1)) or out[0].shape[3] != oc:
            fail(f"channels: input {types[0]}, weights {types[1]}, output {out[0]}")
    if node.op == "Gemm" and node.attrs.get("transB") and not node.attrs.get("transA") and types[0].shape[1] != types[1].shape[1]:
        fail(f"Gemm of {types[0]} by {types[1]}")
    if node.op == "edgec.Lut" and (types[0].dtype, types[1].shape) != ("int8", (256,)):
        fail(f"table of {types[1]} on {types[0]}")
