"""Nodes that a C function of the model's user computes (edgec/custom.py)."""
from __future__ import annotations

import numpy as np

from .. import custom
from ..loops import Call, Ref
from .base import Array, Lowering, Node, Op


def _reference(node: Node, inputs: list[Array], in_types, out_types) -> list[Array]:
    return custom.referred(node.attrs["operator"], inputs, node.attrs["attributes"])


def _lower(ctx: Lowering, node: Node) -> list[Call]:
    """One call: the struct of parameters (where there are any), inputs, outputs, scratch (where it needs some)."""
    operator, outputs = node.attrs["operator"], [o for o in node.outputs if o]
    ctx.require(all(node.inputs) and len(outputs) == len(node.outputs), "every input and output must be there")
    args = [Ref(ctx.buffer(t)) for t in (*node.inputs, *outputs)]
    writes = [a.buffer for a in args[len(node.inputs):]]
    if node.attrs["scratch"]:
        args.append(Ref(ctx.scratch(node.attrs["scratch"], operator.function)))
        writes.append(args[-1].buffer)
    for o, i in operator.inplace:
        if ctx.value(node.inputs[i]) is None:
            ctx.inplace(node.outputs[o], node.inputs[i])
    types = [ctx.type(t) for t in node.inputs]

    def meaning(given, read, write):
        values = [np.array(read(a))[:t.size].reshape(t.shape) for a, t in zip(given, types, strict=False)]
        for target, value in zip(given[len(types):], custom.referred(operator, values, node.attrs["attributes"]), strict=False):
            write(target, value)

    return [Call(operator.function, node.attrs["params"], tuple(args), tuple(writes), meaning, headers=operator.library.headers)]


OPS = [Op(custom.NODE, _lower, reference=_reference, dtypes=())]
