"""Inputs and outputs that are state between runs: which they are, and in what form they are kept.

A state is kept as the integers, and in the order, that its network computes with: what stands between a state's input
and the network and is undone before its output goes away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..errors import UsageError
from ..ir import Graph, Node, QParams
from ..rewrite import Rewriter


def mark(graph: Graph, pairs: Mapping[str, str]) -> Graph:
    """The graph with its inputs paired to the outputs that they take in the next run.

    Raises UsageError for names that are no input or output, tensors that differ, and an output named twice."""
    for i, o in pairs.items():
        option = f"--state {i}={o}"
        for kind, name, known in (("input", i, graph.inputs), ("output", o, graph.outputs)):
            if name not in known:
                raise UsageError(
                    f"{option}: there is no {kind} {name}",
                    where=f"its {kind}s: " + ", ".join(known),
                    fix="write --state INPUT=OUTPUT with names of the model",
                )
        a, b = graph.type(i), graph.type(o)
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            raise UsageError(
                f"{option}: the input is {a}, the output {b}", fix="a state needs one type and shape at both ends"
            )
        if i == o or graph.const(o) is not None:
            raise UsageError(f"{option}: the state never changes", fix="leave it out, or give its value with --const")
    twice = sorted(o for o in pairs.values() if list(pairs.values()).count(o) > 1)
    if twice:
        raise UsageError(f"--state: the output {twice[0]} is the next value of two inputs", fix="name each output once")
    return replace(graph, state=tuple(pairs.items())) if pairs else graph


def integer_state(graph: Graph) -> Graph:
    """A float state that is quantised where it is read and made is kept as integers, of the scale that it is read with;
    so is a uint8 one that the network takes as int8.

    Raises UsageError for a state of integers whose two ends have different scales."""
    for i, o in graph.state:
        graph = _one_scale(_requantised(_moved_inside(graph, i, o), i, o), i, o)
    return graph


def transposed_state(graph: Graph) -> Graph:
    """A state that is transposed where it is read, and back where it is made, is kept transposed."""
    for i, o in graph.state:
        graph = _moved_inside(graph, i, o)
    return graph


def _moved_inside(graph: Graph, i: str, o: str) -> Graph:
    """The state behind its readers and before its maker, where the maker undoes what the readers do; its names stay."""
    readers, maker = _ends(graph, i, o)
    if maker is None or not _undoes(graph, readers[0], maker):
        return graph
    kept, made = graph.tensors[readers[0].outputs[0]], graph.tensors[maker.inputs[0]]
    r, _ = _without_ends(graph, i, o, readers)
    r.nodes = [n.with_(outputs=tuple(o if t == made.name else t for t in n.outputs)) for n in r.nodes]
    r.redirect(made.name, o)
    r.tensors |= {i: replace(kept, name=i), o: replace(made, name=o)}
    return r.done()


def _requantised(graph: Graph, i: str, o: str) -> Graph:
    """A float state whose next value is quantised with another scale than its reader's is kept with the reader's."""
    readers, maker = _ends(graph, i, o)
    if maker is None or (readers[0].op, maker.op) != ("QuantizeLinear", "DequantizeLinear"):
        return graph
    r, real = _without_ends(graph, i, o, readers)
    kept = graph.tensors[readers[0].outputs[0]]
    r.nodes.append(readers[0].with_(inputs=(real, *readers[0].inputs[1:]), outputs=(o,)))
    r.tensors |= {i: replace(kept, name=i), o: replace(kept, name=o)}
    return r.done()


def _without_ends(graph: Graph, i: str, o: str, readers: list[Node]) -> tuple[Rewriter, str]:
    """The graph where the state's input is what its readers made of it, and nothing makes its output; and the name
    under which that is still there for whoever else reads it."""
    r = Rewriter(graph)
    real = r.tensor(f"{o}/real", graph.type(o), source=graph.tensors[o].source)
    names = {n.outputs[0]: i for n in readers} | {o: real}
    r.nodes = [
        n.with_(
            inputs=tuple(names.get(x, x) for x in n.inputs), outputs=tuple(real if x == o else x for x in n.outputs)
        )
        for n in graph.nodes
        if n not in readers
    ]
    return r, real


def _ends(graph: Graph, i: str, o: str) -> tuple[list[Node], Node | None]:
    """The nodes that read the state, all alike, and the one that makes its next value; None for that where they cannot
    be taken away."""
    readers, maker = graph.consumers().get(i, []), graph.producers().get(o)
    if not readers or maker is None or i in graph.outputs or not all(_same(graph, n, readers[0]) for n in readers):
        return readers, None
    inner = {n.outputs[0] for n in readers}
    source = maker.inputs[0]
    if (
        source in inner
        or inner & set(graph.outputs)
        or source in (*graph.inputs, *graph.outputs)
        or graph.const(source) is not None
    ):
        return readers, None
    return readers, maker


def _undoes(graph: Graph, reader: Node, maker: Node) -> bool:
    match reader.op, maker.op:
        case "Transpose", "Transpose":
            there = reader.attrs["perm"]
            return [there[k] for k in maker.attrs["perm"]] == list(range(len(there)))
        case "edgec.Offset", "edgec.Offset":
            return True
        case "QuantizeLinear", "DequantizeLinear":
            same_type = graph.type(reader.outputs[0]).dtype == graph.type(maker.inputs[0]).dtype
            return same_type and _params(graph, reader).same(_params(graph, maker))
    return False


def _same(graph: Graph, a: Node, b: Node) -> bool:
    """Whether two nodes do the same."""
    if (
        a.op != b.op
        or {k: str(v) for k, v in a.attrs.items()} != {k: str(v) for k, v in b.attrs.items()}
        or len(a.inputs) != len(b.inputs)
    ):
        return False
    return all(x == y or _equal(graph.const(x), graph.const(y)) for x, y in zip(a.inputs, b.inputs, strict=True))


def _equal(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b)


def _params(graph: Graph, node: Node) -> QParams:
    zero = graph.const(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.int32(0)
    return QParams.of(graph.const(node.inputs[1]), np.asarray(zero).astype(np.int32))


def _one_scale(graph: Graph, i: str, o: str) -> Graph:
    a, b = graph.type(i), graph.type(o)
    if a.q is not None and b.q is not None and not a.q.same(b.q):
        raise UsageError(
            f"--state {i}={o}: the integers mean {a.q} as input and {b.q} as output",
            fix="quantise both ends with one scale and zero point, or leave them float outside of Q and DQ nodes",
        )
    tensors = {n: replace(graph.tensors[n], type=replace(graph.type(n), q=a.q or b.q)) for n in (i, o)}
    return replace(graph, tensors={**graph.tensors, **tensors})
