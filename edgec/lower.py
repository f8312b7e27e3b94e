"""Graph -> Program: each operator's record lowers its nodes to one step of the loop IR."""
from __future__ import annotations

import re

import numpy as np

from .errors import UnsupportedError
from .ir import Graph, Node, TensorType
from .loops import Buffer, Function, Program
from .ops import table
from .ops.base import Lowering


def lower(graph: Graph, isa: tuple[str, ...] = ("c99",)) -> Program:
    """The program of a graph whose every node has an operator record; arena offsets are not set yet.

    Raises UnsupportedError that lists every node that cannot be lowered."""
    return _Lowering(graph, isa).run()


class _Lowering(Lowering):
    def __init__(self, graph: Graph, isa: tuple[str, ...]):
        self.graph, self.isa = graph, isa
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
        for name in g.inputs:
            self._add(name, "input")
        steps, problems = [], []
        for node in g.nodes:
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
        return Program(g.name, self.buffers, tuple(steps), tuple(self.of[i] for i in g.inputs), tuple(outputs), notes=g.notes)

    # --- what operators ask ---

    def type(self, tensor: str) -> TensorType:
        return self.graph.type(tensor)

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
            self.buffers[name] = Buffer(name, str(data.dtype), data.size, "rom", data=data)
            self.by_content[key] = name
        return self.by_content[key]

    def scratch(self, nbytes: int, hint: str) -> str:
        name = self._identifier(f"{hint}_scratch")
        self.buffers[name] = Buffer(name, "int8", int(nbytes), "arena", align=16)
        return name

    def view(self, output: str, input: str) -> None:
        source = self.buffer(input)
        if self.buffers[source].place == "rom":  # a constant output: there is nothing to run
            self.of[output] = source
        else:
            t = self.type(output)
            name = self._identifier(output)
            place = "output" if output in self.graph.outputs else "arena"
            root = self.buffers[source].alias or source
            self.buffers[name] = Buffer(name, t.dtype, t.size, place, alias=root)
            self.of[output] = name
        self.is_view = True

    def inplace(self, output: str, input: str) -> None:
        self.pairs.append((self.buffer(output), self.buffer(input)))

    def macs(self, n: int) -> None:
        self.count += int(n)

    def require(self, ok: bool, what: str) -> None:
        """Raises UnsupportedError for this node where `ok` is false."""
        if not ok:
            raise UnsupportedError(f"{self.node.op}: {what}", where=", ".join(self.node.origin))

    # --- names and buffers ---

    def _add(self, tensor: str, place: str) -> None:
        t = self.type(tensor)
        name = self._identifier(tensor)
        self.buffers[name] = Buffer(name, t.dtype, t.size, place)
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
