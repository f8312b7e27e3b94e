"""Graph -> Program: each operator's record lowers its nodes to one step of the loop IR."""
from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from .dtypes import WIDE, computed, nbytes, numpy_type
from .errors import UnsupportedError
from .ir import Graph, Node, TensorType, origins
from .loops import (
    Bin,
    Buffer,
    Call,
    Const,
    For,
    Function,
    If,
    Layer,
    Let,
    Load,
    Program,
    RowGroup,
    RowRead,
    Rowwise,
    Stmt,
    Store,
    Var,
    add,
    cast,
)
from .ops import table
from .ops.base import Lowering
from .ops.spatial import At
from .stream import Group, Push, Region


def lower(graph: Graph, isa: tuple[str, ...] = ("c99",), regions: tuple[Region, ...] = (), fast: frozenset[str] = frozenset()) -> Program:
    """The program of a graph whose every node has an operator record; arena offsets are not set yet. Each region becomes
    one step that runs its layers interleaved. fast: convolutions, by output tensor, that take the kernel of conv.faster.

    Raises UnsupportedError that lists every node that cannot be lowered."""
    return _Lowering(graph, isa, regions, fast).run()


class _Lowering(Lowering):
    def __init__(self, graph: Graph, isa: tuple[str, ...], regions: tuple[Region, ...], fast: frozenset[str]):
        self.graph, self.isa, self.fast = graph, isa, fast
        self.region_of = {id(n): r for r in regions for n in r.nodes}
        self.pool: dict[str, int] | None = None  # inside a region: bytes of each working buffer that its groups share
        self.buffers: dict[str, Buffer] = {}
        self.of: dict[str, str] = {}  # tensor -> buffer
        self.by_content: dict[tuple, str] = {}
        self.names: set[str] = set()
        self.pairs: list[tuple[str, str]] = []
        self.count = 0
        self.is_view = False
        self.node: Node | None = None

    def run(self) -> Program:
        g = self.graph
        pushed = next((r for r in self.region_of.values() if r.push), None)
        for name in () if pushed else g.inputs:
            self._add(name, "input")
        steps, problems = [], []
        for node in g.nodes:
            region = self.region_of.get(id(node))
            if region is not None:
                if node is region.nodes[0]:
                    self.node, self.pairs, self.count, self.is_view = node, [], 0, False
                    steps.append(self._region(region, len(steps)))
                continue
            self.node, self.pairs, self.count, self.is_view = node, [], 0, False
            kept = dict(self.buffers)
            try:
                body = table.OPS[node.op].lower(self, node)
            except UnsupportedError as e:
                self.buffers = kept
                problems.append((e.what, e.where or ", ".join(node.origin)))
                for o in node.outputs:
                    if o and o not in self.of:
                        self._add(o, "arena")
                continue
            if self.is_view or body is None:
                continue
            steps.append(Function(self._identifier(f"{len(steps)}_{node.op.split('.')[-1].lower()}", prefix="step_"), tuple(body), node.origin,
                                  tuple(self.pairs), node.op, self.count, tuple(o for o in node.outputs if o)))
        if problems:
            raise UnsupportedError(f"{len(problems)} node(s) that edgec cannot compile: " + "; ".join(dict.fromkeys(w for w, _ in problems)),
                                   where="\n         ".join(w for _, w in problems), fix="see `edgec ops`; change these layers before the export")
        outputs = [self.buffer(o) for o in g.outputs]
        inputs = (self.row,) if pushed else tuple(self.of[i] for i in g.inputs)
        rowwise = Rowwise(pushed.push.rows, self.progress) if pushed else None
        return Program(g.name, self.buffers, tuple(steps), inputs, tuple(outputs), notes=g.notes, rowwise=rowwise)

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
                self._add(tensor, "output" if tensor in self.graph.outputs else "arena")
        return self.of[tensor]

    def rom(self, data: np.ndarray, hint: str) -> str:
        data = np.ascontiguousarray(data).reshape(-1)
        key = (str(data.dtype), data.tobytes())
        if key not in self.by_content or self.by_content[key] not in self.buffers:
            owner = self.node.outputs[0] if self.node else ""
            name = self._identifier(f"{owner}_{hint}" if hint in ("weights", "bias", "mult", "pad", "table", "exp", "index") else hint)
            self.buffers[name] = Buffer(name, str(data.dtype), data.size, "rom", data=data, align=_align(str(data.dtype)))
            self.by_content[key] = name
        return self.by_content[key]

    def scratch(self, nbytes: int, hint: str) -> str:
        if self.pool is not None:
            return self._shared("scratch", "int8", nbytes)
        name = self._identifier(f"{hint}_scratch")
        self.buffers[name] = Buffer(name, "int8", int(nbytes), "arena", align=16)
        return name

    def accumulator(self, dtype: str, elements: int, hint: str) -> str:
        name = self._identifier(hint)
        self.buffers[name] = Buffer(name, dtype, elements, "arena", align=_align(dtype))
        return name

    def view(self, output: str, input: str) -> None:
        source = self.buffer(input)
        if self.buffers[source].place == "rom":  # a constant output: there is nothing to run
            self.of[output] = source
        else:
            t = self.graph.type(output)
            name = self._identifier(output)
            place = "output" if output in self.graph.outputs else "arena"
            root = self.buffers[source].alias or source
            self.buffers[name] = Buffer(name, t.dtype, t.size, place, alias=root)
            self.of[output] = name
        self.is_view = True

    def inplace(self, output: str, input: str) -> None:
        types = [self.graph.type(t).dtype for t in (output, input)]
        if types[0] == types[1] or not set(types) & set(WIDE):
            self.pairs.append((self.buffer(output), self.buffer(input)))

    def macs(self, n: int) -> None:
        self.count += int(n)

    def require(self, ok: bool, what: str) -> None:
        """Raises UnsupportedError for this node where `ok` is false."""
        if not ok:
            raise UnsupportedError(f"{self.node.op}: {what}", where=", ".join(self.node.origin))

    # --- streaming regions ---

    def _region(self, region: Region, index: int) -> Function:
        """One step: a loop over the schedule, a branch per group."""
        graph, self.graph = self.graph, _tall(self.graph, region.push)
        sliding = region.push is not None and region.push.sliding
        self.pool, self.pool_names = {}, {}
        places = {r.tensor: At(self.buffer(r.tensor)) for g in region.groups for r in g.reads if r.tensor not in region.depth}
        for tensor, depth in region.depth.items():
            places[tensor] = self._ring(tensor, depth, "state" if sliding else "arena")
        keep: list[Stmt] = []
        if sliding:
            self.graph = graph  # the window's rows of the output, not all that will ever be
            self._add(region.output, "state")
            t = self.type(region.output)
            row = t.shape[2] * t.shape[3]
            places[region.output] = At(self.of[region.output], 1, t.size - row)
            keep = _moved_up(self.of[region.output], t.dtype, t.size, row)
            self.graph = _tall(graph, region.push)
        else:
            places[region.output] = At(self.buffer(region.output))
        bodies = []
        ticks = [1 + max((t for j, t in region.order if j == k), default=0) for k in range(len(region.groups))]
        for k, g in enumerate(region.groups):
            row = Bin("min", Var("row"), Const(ticks[k] - 1)) if ticks[k] < max(ticks) else Var("row")
            if not g.nodes:
                bodies.append(self._taken(g, places[g.output], row))
            else:
                bodies.append((*(keep if k == len(region.groups) - 1 else ()), *self._group(g, dict(places), row)))
        for label, nbytes in self.pool.items():
            name = self.pool_names[label]
            self.buffers[name] = Buffer(name, "int8", nbytes, "arena", align=16)
        spans = {self.buffers[self.of[t]].alias or self.of[t]: parts for t, parts in region.spans.items()}
        self.pool = None
        if region.push is None:
            body = self._schedule(region, bodies)
        else:
            body = self._frame(region, bodies)
            taker = region.groups[0]
            if not sliding:  # the row lies there while it is taken
                spans[self.row] = tuple((0, taker.row_bytes, t, t) for t, (k, _) in enumerate(region.order) if k == 0)
        groups = tuple(self._rows_of(g, region.groups, places, n, sliding) for g, n in zip(region.groups, ticks, strict=True))
        repeat = region.push.starts[region.push.loop] if sliding else None
        self.graph = graph
        name = self._identifier(f"{index}_stream", prefix="step_")
        return Function(name, body, origins(region.nodes), (), "Stream", self.count, (region.output,), 1 if sliding else len(region.order), spans,
                        groups=groups, order=tuple(k for k, _ in region.order), repeat=repeat)

    def _rows_of(self, g: Group, groups: tuple[Group, ...], places: dict[str, At], rows: int, sliding: bool) -> RowGroup:
        """The rows that a group reads and writes, as buffers hold them."""
        def buffer(tensor: str) -> str:
            return self.buffers[places[tensor].buffer].alias or places[tensor].buffer

        reads = [RowRead(buffer(r.tensor), r.kernel, r.stride, r.dilation, r.pad, self.type(r.tensor).shape[1] if sliding else r.height,
                         r.row * np.dtype(self.type(r.tensor).dtype).itemsize, places[r.tensor].ring) for r in g.reads]
        slides = sliding and not any(g.output == r.tensor for h in groups for r in h.reads)
        return RowGroup(tuple(reads), buffer(g.output), rows, g.row_bytes, 0 if slides else places[g.output].ring, g.reduces,
                        "" if g.nodes else self.row, slides)


    def _taken(self, g: Group, ring: At, row) -> tuple:
        """The tick that moves a row of the caller's into its ring."""
        t = self.type(g.output)
        n = t.shape[2] * t.shape[3]
        self.row = self._identifier(f"{g.output}_row")
        self.buffers[self.row] = Buffer(self.row, t.dtype, n, "input", align=_align(t.dtype))
        to = ring.ref(row, n)
        i = Var("i")
        return (For("i", Const(0), Const(n), (Store(to.buffer, add(to.index, i), Load(self.row, i, t.dtype)),)),)

    def _frame(self, region: Region, bodies: list) -> tuple:
        """The ticks of one row, and the state that says which row comes next."""
        p = region.push
        frames = len(p.progress)
        start = self.rom(np.array(p.starts, _unsigned(p.starts)), f"{region.output}_starts")
        progress = self.rom(np.array(p.progress, np.uint16), f"{region.output}_progress")
        state = []
        for hint in ("next_row", "progress"):
            name = self._identifier(hint)
            self.buffers[name] = Buffer(name, "uint16", 1, "state")
            state.append(name)
        count, self.progress = state
        frame = Var("frame")

        def begin(k):
            return cast(Load(start, k, self.buffers[start].dtype), "int32")

        following = (If(Bin("==", frame, Const(frames - 1)), (Store(count, Const(0), Const(p.loop, "uint16")),),
                        (Store(count, Const(0), cast(add(frame, 1), "uint16")),)),)
        return (Let("frame", "int32", Bin("min", cast(Load(count, Const(0), "uint16"), "int32"), Const(frames - 1))),
                *self._schedule(region, bodies, begin(frame), begin(add(frame, 1))), *following,
                Store(self.progress, Const(0), Load(progress, frame, "uint16")))

    def _ring(self, tensor: str, depth: int, place: str) -> At:
        t = self.type(tensor)
        name = self._identifier(tensor)
        self.buffers[name] = Buffer(name, t.dtype, depth * t.shape[2] * t.shape[3], place, align=_align(t.dtype))
        self.of[tensor] = name
        return At(name, depth)

    def _group(self, g: Group, places: dict[str, At], row) -> tuple:
        """The statements of one tick: each node writes where the next one reads; an in-place one over its input."""
        target = places[g.output]
        targets = [target]
        for k in range(len(g.nodes) - 1, 0, -1):
            t = self.type(g.nodes[k - 1].outputs[0])
            if not g.shapes[k].inplace:
                target = At(self._shared(f"row_{k % 2}", t.dtype, g.shapes[k - 1].row), 1)
            targets.insert(0, target)
        body: list = []
        for node, shape, target in zip(g.nodes, g.shapes, targets, strict=True):
            self.node, before = node, self.count
            emit = table.OPS[node.op].rows[1](self, node)
            layer = Layer(node.origin, node.op, self.count - before)
            body += _of_layer(emit(row, tuple(places[r.tensor] for r in shape.reads), target), layer)
            places[node.outputs[0]] = target
        return tuple(body)

    def _schedule(self, region: Region, bodies: list, lo=None, hi=None) -> tuple:
        """The ticks lo .. hi-1 of the region's order; all of them where no bounds are given."""
        if len(bodies) == 1:
            return (For("row", Const(0), Const(region.groups[0].ticks), bodies[0]),)
        kind = _unsigned([t for _, t in region.order])
        which = self.rom(np.array([k for k, _ in region.order], np.uint8), f"{region.output}_order")
        rows = self.rom(np.array([t for _, t in region.order], kind), f"{region.output}_rows")
        chain = bodies[-1]
        for k in range(len(bodies) - 2, -1, -1):
            chain = (If(Bin("==", Var("group"), Const(k)), bodies[k], chain),)
        tick = Var("tick")
        return (For("tick", lo or Const(0), hi or Const(len(region.order)), (Let("group", "int32", cast(Load(which, tick, "uint8"), "int32")),
                                                                 Let("row", "int32", cast(Load(rows, tick, kind), "int32")), *chain)),)

    def _shared(self, label: str, dtype: str, elements: int) -> str:
        """A view of the region's working buffer of this label, which all its groups share: one runs at a time."""
        size = nbytes(dtype, int(elements))
        root = self.pool_names.setdefault(label, "") or self._identifier(f"stream_{label}")
        self.pool_names[label] = root
        self.pool[label] = max(self.pool.get(label, 0), size)
        name = self._identifier(f"{label}_view")
        self.buffers[name] = Buffer(name, dtype, int(elements), "arena", alias=root, align=16)
        return name

    # --- names and buffers ---

    def _add(self, tensor: str, place: str) -> None:
        t = self.graph.type(tensor)
        name = self._identifier(tensor)
        self.buffers[name] = Buffer(name, t.dtype, t.size, place, align=_align(t.dtype))
        self.of[tensor] = name

    def _identifier(self, hint: str, prefix: str = "") -> str:
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


def _of_layer(body: Iterable[Stmt], layer: Layer) -> list[Stmt]:
    """The statements with every kernel call marked as one of this layer."""
    def one(s: Stmt) -> Stmt:
        match s:
            case Call():
                return replace(s, layer=layer)
            case For():
                return replace(s, body=tuple(map(one, s.body)))
            case If():
                return replace(s, then=tuple(map(one, s.then)), orelse=tuple(map(one, s.orelse)))
        return s

    return list(map(one, body))
def _tall(graph: Graph, push: Push | None) -> Graph:
    """The graph in which the tensors of a sliding region have as many rows as its order counts: none of them is padding."""
    if push is None or not push.heights:
        return graph
    inside = push.heights
    tensors = {n: replace(t, type=replace(t.type, shape=(1, inside[n], *t.type.shape[2:]))) if n in inside else t
               for n, t in graph.tensors.items()}
    return replace(graph, tensors=tensors)


def _moved_up(buffer: str, dtype: str, size: int, row: int) -> list[Stmt]:
    """The rows of the window each move one place up: the last one is to be made."""
    if size == row:
        return []
    i = Var("i")
    return [For("i", Const(0), Const(size - row), (Store(buffer, i, Load(buffer, add(i, row), dtype)),))]


def _unsigned(values) -> str:
    return "uint8" if max(values) < 256 else "uint16" if max(values) < 65536 else "uint32"


def _align(dtype: str) -> int:
    """Whole words, so that kernels may load four bytes at a time; 64-bit types by their size."""
    return max(4, numpy_type(dtype).itemsize)
