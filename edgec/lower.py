"""Graph -> Program: each operator's record lowers its nodes to one step of the loop IR."""
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .dtypes import WIDE, computed, nbytes, numpy_type
from .errors import UnsupportedError
from .ir import Graph, Node, TensorType
from .loops import Buffer, Function, Program, Rowwise
from .lower_control import CONTROL, lower_control
from .lower_rows import lower_region
from .ops import table
from .ops.base import Lowering
from .stream import Region


def lower(graph: Graph, isa: tuple[str, ...] = ("c99",), regions: tuple[Region, ...] = (), fast: frozenset[str] = frozenset(),
          unrolled: tuple[str, ...] = ()) -> Program:
    """The program of a graph whose every node has an operator record; arena offsets are not set yet. Each region becomes
    one step that runs its layers interleaved. fast: convolutions, by output tensor, that take the kernel of conv.faster.
    unrolled: which of conv, stem (first layers), fc get code for their number of taps.

    Raises UnsupportedError that lists every node that cannot be lowered."""
    return _Lowering(graph, isa, regions, fast, unrolled).run()


class _Lowering(Lowering):
    def __init__(
        self, graph: Graph, isa: tuple[str, ...], regions: tuple[Region, ...], fast: frozenset[str], unrolled: tuple[str, ...]
    ):
        self.graph, self.isa, self.fast, self.unrolled = graph, isa, fast, unrolled
        self.outputs = frozenset(graph.outputs)
        self.room = max((self._bytes(n) for n in graph.nodes), default=0)
        self.region_of = {id(n): r for r in regions for n in r.nodes}
        self.pool: dict[str, int] | None = None  # inside a region: bytes of each working buffer that its groups share
        self.buffers: dict[str, Buffer] = {}
        self.of: dict[str, str] = {}  # tensor -> buffer
        self.by_content: dict[tuple, str] = {}
        self.names: set[str] = set()
        self.pairs: list[tuple[str, str]] = []
        self.trails: list[tuple[str, str, int]] = []
        self.count = 0
        self.is_view = False
        self.node: Node | None = None
        self.steps: list[Function] = []
        self.problems: list[tuple[str, str]] = []
        self.times = 1  # how often a run comes by here
        self.row = self.progress = ""  # of a program that takes its input row by row: set by lower_region

    def _bytes(self, node: Node) -> int:
        read = {i for i in node.inputs if i and self.graph.const(i) is None}
        return sum(self.graph.type(t).nbytes for t in (*read, *filter(None, node.outputs)))

    def run(self) -> Program:
        g = self.graph
        pushed = next((r for r in self.region_of.values() if r.push), None)
        for name in () if pushed else g.given:
            self.add(name, "input")
        for name, _ in g.state:
            self.add(name, "state")
            q = g.type(name).q
            self.buffers[self.of[name]] = replace(self.buffers[self.of[name]], reset=int(q.zero_point) if q is not None else 0)
        for node in g.nodes:
            self.lower_node(node)
        if self.problems:
            what = "; ".join(dict.fromkeys(w for w, _ in self.problems))
            raise UnsupportedError(f"{len(self.problems)} node(s) that edgec cannot compile: {what}",
                                   where="\n         ".join(w for _, w in self.problems),
                                   fix="see `edgec ops`; change these layers before the export")
        outputs = [self.buffer(o) for o in g.outputs]
        inputs = (self.row,) if pushed else tuple(self.of[i] for i in g.given)
        state = tuple((self.of[i], self.of[o]) for i, o in g.state)
        rowwise = Rowwise(pushed.push.rows, self.progress) if pushed else None
        return Program(g.name, self.buffers, tuple(self.steps), inputs, tuple(outputs), notes=g.notes, rowwise=rowwise,
                       state=state)

    def lower_node(self, node: Node) -> None:
        """Appends the steps of a node; what cannot be lowered becomes one of the problems."""
        region = self.region_of.get(id(node))
        self.node, self.pairs, self.trails, self.count, self.is_view = node, [], [], 0, False
        if region is not None:
            if node is region.nodes[0]:
                self.steps.append(lower_region(self, region, len(self.steps)))
            return
        if node.op in CONTROL:
            return lower_control(self, node)
        kept = dict(self.buffers), dict(self.of)
        try:
            body = table.OPS[node.op].lower(self, node)
        except UnsupportedError as e:
            self.buffers, self.of = kept
            self.problems.append((e.what, e.where or ", ".join(node.origin)))
            for o in node.outputs:
                if o and o not in self.of:
                    self.add(o, "arena")
            return
        if self.is_view or body is None:
            return
        outputs = tuple(o for o in node.outputs if o)
        self.steps.append(
            Function(
                self.step_name(node.op.split(".")[-1].lower()),
                tuple(body),
                node.origin,
                tuple(self.pairs),
                node.op,
                self.count * self.times,
                outputs,
                times=self.times,
                trailing=tuple(self.trails),
            )
        )

    def inside(self, body: Graph, of: Mapping[str, str]) -> list[str]:
        """Appends the steps of a body, whose inputs are these buffers; returns the buffers of its outputs."""
        outer = self.graph, self.of
        self.graph, self.of = body, dict(of)
        for node in body.nodes:
            self.lower_node(node)
        results = [self.buffer(o) for o in body.outputs]
        self.graph, self.of = outer
        return results

    def step_name(self, what: str) -> str:
        return self.identifier(f"{len(self.steps)}_{what}", prefix="step_")

    # --- what operators ask ---

    def type(self, tensor: str) -> TensorType:
        t = self.graph.type(tensor)
        return t if computed(t.dtype) == t.dtype else replace(t, dtype=computed(t.dtype))

    def stored(self, tensor: str) -> str:
        return self.graph.type(tensor).dtype

    def value(self, tensor: str) -> np.ndarray | None:
        return self.graph.const(tensor)

    def buffer(self, tensor: str) -> str:
        if tensor not in self.of:
            data = self.graph.const(tensor)
            if data is not None:
                self.of[tensor] = self.rom(data, tensor)
            else:
                self.add(tensor, self.place(tensor))
        return self.of[tensor]

    def place(self, tensor: str) -> str:
        return "output" if tensor in self.outputs else "arena"

    def bytes(self, tensor: str) -> str:
        source = self.buffer(tensor)
        b = self.buffers[source]
        name = self.identifier(f"{tensor}_bytes")
        self.buffers[name] = Buffer(name, "uint8", b.nbytes, "arena", alias=b.alias or source)
        return name

    def rom(self, data: np.ndarray, hint: str) -> str:
        data = np.ascontiguousarray(data).reshape(-1)
        key = (str(data.dtype), data.tobytes())
        if key not in self.by_content or self.by_content[key] not in self.buffers:
            owner = self.node.outputs[0] if self.node else ""
            name = self.identifier(
                f"{owner}_{hint}" if hint in ("weights", "bias", "mult", "pad", "table", "exp", "index") else hint
            )
            self.buffers[name] = Buffer(name, str(data.dtype), data.size, "rom", data=data, align=alignment(str(data.dtype)))
            self.by_content[key] = name
        return self.by_content[key]

    def scratch(self, nbytes: int, hint: str) -> str:
        if self.pool is not None:
            return self.shared("scratch", "int8", nbytes)
        name = self.identifier(f"{hint}_scratch")
        self.buffers[name] = Buffer(name, "int8", int(nbytes), "arena", align=16)
        return name

    def accumulator(self, dtype: str, elements: int, hint: str) -> str:
        return self.add_buffer(hint, dtype, elements, "arena")

    def view(self, output: str, input: str) -> None:
        source = self.buffer(input)
        if self.buffers[source].place == "rom":  # a constant output: there is nothing to run
            self.of[output] = source
        else:
            t = self.graph.type(output)
            name = self.identifier(output)
            place = self.place(output)
            root = self.buffers[source].alias or source
            self.buffers[name] = Buffer(name, t.dtype, t.size, place, alias=root)
            self.of[output] = name
        self.is_view = True

    def inplace(self, output: str, input: str) -> None:
        types = [self.graph.type(t).dtype for t in (output, input)]
        if types[0] == types[1] or not set(types) & set(WIDE):
            self.pairs.append((self.buffer(output), self.buffer(input)))

    def trailing(self, output: str, input: str, lead: int) -> None:
        t, source = self.graph.type(output), self.graph.type(input)
        if t.dtype == source.dtype and lead < t.size:
            self.trails.append((self.buffer(output), self.buffer(input), nbytes(t.dtype, lead)))

    def macs(self, n: int) -> None:
        self.count += int(n)

    def require(self, ok: bool, what: str) -> None:
        """Raises UnsupportedError for this node where `ok` is false."""
        if not ok:
            raise UnsupportedError(f"{self.node.op}: {what}", where=", ".join(self.node.origin))

    # --- working buffers of a region ---

    def open_pool(self) -> None:
        """From here on scratch is shared by all that asks: one group of a region runs at a time."""
        self.pool, self.pool_names = {}, {}

    def close_pool(self) -> None:
        """The shared buffers are as large as what asked for most."""
        for label, size in self.pool.items():
            name = self.pool_names[label]
            self.buffers[name] = Buffer(name, "int8", size, "arena", align=16)
        self.pool = None

    def shared(self, label: str, dtype: str, elements: int) -> str:
        """A view of the region's working buffer of this label, which all its groups share: one runs at a time."""
        size = nbytes(dtype, int(elements))
        root = self.pool_names.setdefault(label, "") or self.identifier(f"stream_{label}")
        self.pool_names[label] = root
        self.pool[label] = max(self.pool.get(label, 0), size)
        name = self.identifier(f"{label}_view")
        self.buffers[name] = Buffer(name, dtype, int(elements), "arena", alias=root, align=16)
        return name

    # --- names and buffers ---

    def add(self, tensor: str, place: str) -> str:
        """The buffer that holds a tensor from now on."""
        t = self.graph.type(tensor)
        self.of[tensor] = self.add_buffer(tensor, t.dtype, t.size, place)
        return self.of[tensor]

    def add_buffer(self, hint: str, dtype: str, size: int, place: str) -> str:
        """The name of a new buffer of `size` elements."""
        name = self.identifier(hint)
        self.buffers[name] = Buffer(name, dtype, size, place, align=alignment(dtype))
        return name

    def identifier(self, hint: str, prefix: str = "") -> str:
        """A C identifier of at most 40 characters, unique in the program, readable: the end of an ONNX path says most."""
        text = prefix + re.sub(r"\W+", "_", hint).strip("_")
        text = text[-40:].lstrip("_") or "t"
        if text[0].isdigit():
            text = "t" + text
        name, n = text, 1
        while name in self.names:
            n += 1
            name = f"{text}_{n}"
        self.names.add(name)
        return name


def alignment(dtype: str) -> int:
    """Whole words, so that kernels may load four bytes at a time; 64-bit types by their size."""
    return max(4, numpy_type(dtype).itemsize)
