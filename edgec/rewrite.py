"""What passes share: a scratch copy of a graph that is edited and then frozen again."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from .ir import Graph, Node, QParams, Tensor, TensorType


class Rewriter:
    """A graph being edited by one pass. `done()` sorts nodes topologically and drops what nothing needs."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.nodes: list[Node] = list(graph.nodes)
        self.tensors: dict[str, Tensor] = dict(graph.tensors)
        self.inputs, self.outputs = list(graph.inputs), list(graph.outputs)
        self.notes = list(graph.notes)

    def fresh(self, hint: str) -> str:
        """A tensor name not in use, made from the hint."""
        if hint not in self.tensors:
            return hint
        n = 1
        while f"{hint}.{n}" in self.tensors:
            n += 1
        return f"{hint}.{n}"

    def tensor(self, hint: str, type: TensorType, data: np.ndarray | None = None, **more) -> str:
        """Adds a tensor and returns its name."""
        name = self.fresh(hint)
        self.tensors[name] = Tensor(name, type, data, **more)
        return name

    def const(self, hint: str, data: np.ndarray, q: QParams | None = None) -> str:
        """Adds a constant and returns its name."""
        data = np.asarray(data, order="C")
        return self.tensor(hint, TensorType(str(data.dtype), data.shape, q), data)

    def type(self, name: str) -> TensorType:
        return self.tensors[name].type

    def retype(self, name: str, type: TensorType) -> None:
        self.tensors[name] = replace(self.tensors[name], type=type)

    def value(self, name: str) -> np.ndarray | None:
        return self.tensors[name].data if name else None

    def redirect(self, old: str, new: str) -> None:
        """Every use of `old`, graph outputs among them, becomes a use of `new`."""
        self.nodes = [n.with_(inputs=tuple(new if i == old else i for i in n.inputs)) if old in n.inputs else n
                      for n in self.nodes]
        self.outputs = [new if o == old else o for o in self.outputs]

    def done(self) -> Graph:
        nodes = sort_nodes(self.nodes, self.tensors)
        nodes = live_nodes(nodes, self.outputs)
        used = {i for n in nodes for i in n.inputs} | {o for n in nodes for o in n.outputs}
        used |= set(self.inputs) | set(self.outputs)
        tensors = {k: t for k, t in self.tensors.items() if k in used}
        now = dict(zip(self.graph.outputs, self.outputs, strict=True))
        state = tuple((i, now[o]) for i, o in self.graph.state)
        return replace(self.graph, nodes=tuple(nodes), tensors=tensors, inputs=tuple(self.inputs), state=state,
                       outputs=tuple(self.outputs), notes=tuple(dict.fromkeys(self.notes)))


def sort_nodes(nodes: Iterable[Node], tensors: dict[str, Tensor]) -> list[Node]:
    """A stable topological order: an already sorted list comes back as it is."""
    nodes = list(nodes)
    made_by = {o: k for k, n in enumerate(nodes) for o in n.outputs if o}
    order: list[Node] = []
    state = [0] * len(nodes)  # 0 unseen, 1 open, 2 done
    for root in range(len(nodes)):
        stack = [root]
        while stack:
            k = stack[-1]
            if state[k] == 2:
                stack.pop()
                continue
            waiting = [made_by[i] for i in nodes[k].inputs if i in made_by and state[made_by[i]] != 2]
            if state[k] == 1 and any(state[w] == 1 for w in waiting):
                raise ValueError(f"cycle through {nodes[k]}")
            if waiting:
                state[k] = 1
                stack.extend(reversed(waiting))
            else:
                state[k] = 2
                order.append(nodes[k])
                stack.pop()
    return order


def live_nodes(nodes: list[Node], outputs: Iterable[str]) -> list[Node]:
    """The nodes that an output depends on, in their order."""
    wanted, kept = set(outputs), []
    for n in reversed(nodes):
        if any(o in wanted for o in n.outputs):
            kept.append(n)
            wanted.update(n.inputs)
    return kept[::-1]


class Sweep(Rewriter):
    """A Rewriter during `rewrite_nodes`. made: the node that makes each tensor, among those already visited; uses: how
    often each tensor is used, graph outputs included."""

    def __init__(self, graph: Graph):
        super().__init__(graph)
        self.made: dict[str, Node] = {}
        self.renamed: dict[str, str] = {}
        self.uses: dict[str, int] = {}
        for n in graph.nodes:
            for i in n.inputs:
                self.uses[i] = self.uses.get(i, 0) + 1
        for o in graph.outputs:
            self.uses[o] = self.uses.get(o, 0) + 1

    def rename(self, old: str, new: str) -> None:
        """Every later use of `old` becomes a use of `new`."""
        self.renamed[old] = new
        self.uses[new] = self.uses.get(new, 0) + self.uses.get(old, 0) - 1


def rewrite_nodes(graph: Graph, rule: Callable[[Sweep, Node], list[Node] | None]) -> Graph:
    """One sweep in topological order: `rule` sees each node with its inputs up to date; None keeps the node, a list
    replaces it. A node that nothing uses any more afterwards is dropped, so a rule may absorb what came before."""
    r = Sweep(graph)
    out: list[Node] = []
    for node in graph.nodes:
        if any(i in r.renamed for i in node.inputs):
            node = node.with_(inputs=tuple(r.renamed.get(i, i) for i in node.inputs))
        new = rule(r, node)
        for n in [node] if new is None else new:
            out.append(n)
            r.made.update((o, n) for o in n.outputs if o)
    r.nodes = out
    r.outputs = [r.renamed.get(o, o) for o in r.outputs]
    return r.done()
