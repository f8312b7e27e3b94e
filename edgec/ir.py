"""Graph: the hardware-agnostic IR. Immutable values; passes are pure functions Graph -> Graph.

An edge is a tensor's name. A tensor with `data` is a constant. A tensor whose type carries `q` holds
integers that stand for real numbers, (integer - zero_point) * scale; an operator all of whose data
tensors carry `q` is an integer operator: its meaning is the operator's integer reference
(`ops.base.Op.reference`), one exact rounding at the end. Nodes stand in topological order.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np

from .dtypes import nbytes

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class QParams:
    """Affine quantisation: real = (integer - zero_point) * scale.

    scale: float32, shape () or (channels,); zero_point: int32 of the same shape; axis: the channel axis, None per tensor.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int | None = None

    @staticmethod
    def of(scale, zero_point, axis: int | None = None) -> QParams:
        s = np.asarray(scale, np.float32)
        z = np.broadcast_to(np.asarray(zero_point, np.int32), s.shape)
        if s.size == 1:
            s, z, axis = s.reshape(()), z.reshape(()), None
        return QParams(s, z, axis)

    def same(self, other: QParams | None) -> bool:
        """True when both map integers to the same reals."""
        return (other is not None and self.axis == other.axis and np.array_equal(self.scale, other.scale)
                and np.array_equal(self.zero_point, other.zero_point))

    def __str__(self) -> str:
        if self.axis is None:
            return f"q({float(self.scale):.6g},{int(self.zero_point)})"
        return f"q(axis={self.axis},{self.scale.size} scales)"


@dataclass(frozen=True, eq=False)
class TensorType:
    """dtype: a numpy type name ("float32", "int8", "bool" ...); shape: static."""

    dtype: str
    shape: Shape
    q: QParams | None = None

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return nbytes(self.dtype, self.size)

    def same(self, other: TensorType) -> bool:
        return (self.dtype == other.dtype and self.shape == other.shape
                and (self.q.same(other.q) if self.q is not None else other.q is None))

    def __str__(self) -> str:
        return f"{self.dtype}[{'x'.join(map(str, self.shape))}]" + (f" {self.q}" if self.q else "")


@dataclass(frozen=True)
class Channels:
    """The channels that are left of a tensor: their axis, how many there were, and for each one left its number then;
    -1 is a filler that holds no meaning."""

    axis: int
    count: int
    kept: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Tensor:
    """A named edge. `data` makes it a constant. `source` is the ONNX tensor that it holds, `perm` the transposition
    that was applied to that (None: none) and `channels` what is left of it then (None: all), so that validation can
    compare the two. `grid`: the values of a float constant are exactly (integer - zero_point) * scale, so that an
    integer operator can take them back."""

    name: str
    type: TensorType
    data: np.ndarray | None = None
    source: str = ""
    perm: tuple[int, ...] | None = None
    channels: Channels | None = None
    grid: QParams | None = None


@dataclass(frozen=True, eq=False)
class Node:
    """One operator. `inputs` may hold "" for an absent optional input. `origin` names the ONNX nodes it came from."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    origin: tuple[str, ...] = ()

    def with_(self, **changes) -> Node:
        """A copy with fields replaced; `attrs` are merged into the present ones."""
        if "attrs" in changes:
            changes["attrs"] = MappingProxyType({**self.attrs, **changes["attrs"]})
        return replace(self, **changes)

    def __str__(self) -> str:
        attrs = " ".join(f"{k}={_short(v)}" for k, v in sorted(self.attrs.items()) if not isinstance(v, Graph))
        return f"{', '.join(self.outputs)} = {self.op}({', '.join(self.inputs)}){' {' + attrs + '}' if attrs else ''}"


@dataclass(frozen=True)
class Alike:
    """Float tensors that stand for the same thing at different times: they take one scale when they are quantised, with
    so many bits where all that touch them can."""

    tensors: tuple[str, ...]
    bits: int


@dataclass(frozen=True, eq=False)
class Graph:
    """tensors: every edge by name, constants among them; inputs/outputs: names in the model's order. counts: of outputs
    whose size data decide: (the tensor that holds the number of entries, their axis). state: pairs (input, output) that
    are kept between runs: a run reads as input what the run before gave as output. labels: of outputs that are numbers of texts:
    these texts. alike: what quantisation ties together."""

    name: str
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = ()
    counts: Mapping[str, tuple[str, int]] = field(default_factory=lambda: MappingProxyType({}))
    state: tuple[tuple[str, str], ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    alike: tuple[Alike, ...] = ()

    @property
    def given(self) -> tuple[str, ...]:
        """The inputs that the caller gives: those that are no state."""
        kept = {i for i, _ in self.state}
        return tuple(i for i in self.inputs if i not in kept)

    @property
    def results(self) -> tuple[str, ...]:
        """The outputs that the caller gets: those that are no state."""
        kept = {o for _, o in self.state}
        return tuple(o for o in self.outputs if o not in kept)

    def type(self, name: str) -> TensorType:
        return self.tensors[name].type

    def const(self, name: str) -> np.ndarray | None:
        """The value of a constant; None for "" and for run-time tensors."""
        return self.tensors[name].data if name else None

    def producers(self) -> dict[str, Node]:
        return {o: n for n in self.nodes for o in n.outputs if o}

    def consumers(self) -> dict[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for n in self.nodes:
            for i in dict.fromkeys(n.inputs):
                if i:
                    found.setdefault(i, []).append(n)
        return found

    def __str__(self) -> str:
        lines = [f"graph {self.name}"]
        lines += [f"  input  {i}: {self.type(i)}" for i in self.inputs]
        lines += [f"  const  {t.name}: {t.type}" for t in self.tensors.values() if t.data is not None]
        for n in self.nodes:
            lines.append(f"  {n}")
            lines += [f"      {o}: {self.type(o)}" for o in n.outputs if o]
            if n.origin:
                lines.append(f"      # {' + '.join(n.origin)}")
            for key, body in bodies(n).items():
                lines += [f"    {key} {body}".rstrip().replace("\n", "\n    ")]
        lines += [f"  output {o}: {self.type(o)}" for o in self.outputs]
        lines += [f"  state  {i} = {o}" for i, o in self.state]
        return "\n".join(lines) + "\n"


def bodies(node: Node) -> dict[str, Graph]:
    """The graphs that a node runs inside, by attribute: what is computed in them is theirs alone, what they read is among
    the node's inputs."""
    return {k: v for k, v in node.attrs.items() if isinstance(v, Graph)}


def graphs(graph: Graph) -> Iterator[Graph]:
    """The graph and all bodies inside it."""
    yield graph
    for node in graph.nodes:
        for body in bodies(node).values():
            yield from graphs(body)


def everywhere(graph: Graph, change: Callable[[Graph], Graph]) -> Graph:
    """`change` applied to the bodies and then to the graph."""
    nodes = tuple(n.with_(attrs={k: everywhere(b, change) for k, b in inner.items()}) if (inner := bodies(n)) else n
                  for n in graph.nodes)
    return change(replace(graph, nodes=nodes) if any(map(bodies, nodes)) else graph)


def _short(v: Any) -> str:
    text = str(v.tolist() if isinstance(v, np.ndarray) else v).replace(" ", "")
    return text if len(text) < 60 else text[:57] + "..."


def attrs(**values) -> Mapping[str, Any]:
    """A read-only attribute mapping."""
    return MappingProxyType(values)


def origins(nodes: Iterable[Node]) -> tuple[str, ...]:
    """The joined origins of nodes that become one, each name once, in order."""
    return tuple(dict.fromkeys(o for n in nodes for o in n.origin))
