"""If, Loop and Scan, resolved while a model is imported.

What is known goes: a branch whose condition is known is inlined, a loop of one turn too. The rest becomes one of two
nodes, which C has as well:

* `If(condition, read...)` with the attributes then_branch and else_branch, graphs that both read `read...`;
* `Loop(carried..., read...)` with the attribute body, a graph from (carried..., read...) to carried. It runs at most
  `turns` times (0: no bound) and, where `tested`, while carried[0] holds; an input "" starts as zeros. What ONNX adds
  is made of operators: the number of the turn is carried, slices of a Scan are Gather, and outputs row by row are
  ScatterND into a carried tensor.

A Loop whose carried tensors change their type from turn to turn, or are sequences, has no such form: it is unrolled, and
what ends it must be known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from . import structures
from .errors import UnsupportedError
from .ir import Graph, Node, Tensor, TensorType, attrs
from .structures import require, stack

if TYPE_CHECKING:
    from .onnx_in import _Import

TURNS = 512  # that an unrolled loop may have
MOST = 2**31  # a trip count from here on is none


def expand(m: _Import, node: onnx.NodeProto) -> bool:
    """True where the node is one of these, or of sequences and optionals, and is done: its tensors are known then."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in RULES:
        return node.op_type == "Identity" and _pass_on(m, node)
    a = {x.name: helper.get_attribute_value(x) for x in node.attribute}
    return RULES[node.op_type](m, node, a) is not False


def _pass_on(m: _Import, node) -> bool:
    """Identity of a sequence or an optional."""
    if node.input[0] in m.sequences or node.input[0] in m.absent:
        m.bind(node.output[0], node.input[0])
        return True
    return False


@contextmanager
def _apart(m: _Import) -> Iterator[list[Node]]:
    """The nodes that are imported inside are the list's."""
    outer, m.nodes = m.nodes, []
    try:
        yield m.nodes
    finally:
        m.nodes = outer


def _read(m: _Import, nodes: Sequence[Node], inputs: Sequence[str], outputs: Sequence[str]) -> list[str]:
    """What a body reads from outside, besides its inputs."""
    made = {o for n in nodes for o in n.outputs} | set(inputs)
    read = dict.fromkeys([*(i for n in nodes for i in n.inputs), *outputs])
    return [t for t in read if t and t not in made and m.tensors[t].data is None]


def _graph(m: _Import, name: str, nodes: Sequence[Node], inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
    """A body. Its tensors hold nothing of the model that validation could look at."""
    used = dict.fromkeys([*inputs, *outputs, *(t for n in nodes for t in (*n.inputs, *n.outputs) if t)])
    tensors = {t: replace(m.tensors[t], source="") for t in used}
    return Graph(name, tuple(nodes), tensors, tuple(inputs), tuple(outputs))


def _known(m: _Import, name: str) -> bool | None:
    """The truth of a condition; None where it is known at run time only. "" is true."""
    value = np.asarray(True) if not name else m.value(name)
    return None if value is None else bool(value.reshape(-1)[0])


# --- If ------------------------------------------------------------------------------------------------


def _if(m, node, a) -> None:
    condition, label = _known(m, node.input[0]), m.label(node)
    if condition is not None:
        made = m.inline(a["then_branch" if condition else "else_branch"], {}, f"{label}/")
        for o, t in zip(node.output, made, strict=False):
            m.bind(o, t)
        return
    sides = {}
    for side in ("then", "else"):
        with _apart(m) as nodes:
            sides[side] = nodes, m.inline(a[f"{side}_branch"], {}, f"{label}/{side}/")
    wanted = []
    for o, then, otherwise in zip(node.output, sides["then"][1], sides["else"][1], strict=True):
        tensors = all(t in m.tensors and t not in m.counts for t in (then, otherwise))
        require(
            m,
            tensors and m.tensors[then].type.same(m.tensors[otherwise].type),
            node,
            "a run-time condition decides the shape or the type of a result",
        )
        if o:
            wanted.append((o, then, otherwise))
            m.tensors[o] = Tensor(o, m.tensors[then].type, source=o)
    results = {"then": [t for _, t, _ in wanted], "else": [e for _, _, e in wanted]}
    read = list(dict.fromkeys(t for side, (nodes, _) in sides.items() for t in _read(m, nodes, (), results[side])))
    branches = {
        f"{side}_branch": _graph(m, f"{label}/{side}", nodes, read, results[side]) for side, (nodes, _) in sides.items()
    }
    m.nodes.append(Node("If", (node.input[0], *read), tuple(o for o, _, _ in wanted), attrs(**branches), (label,)))


# --- Loop ----------------------------------------------------------------------------------------------


@dataclass
class _Carried:
    """A tensor from turn to turn: before the first one ("": zeros), inside, after a turn, and behind the loop."""

    start: str
    inside: str
    after: str
    last: str


class _Turns:
    """A Loop under construction."""

    def __init__(self, m: _Import, node, turns: int):
        self.m, self.label, self.turns = m, m.label(node), turns
        self.carried: list[_Carried] = []
        self.turn = self.carry("turn", self.constant("first", 0))

    def name(self, hint: str) -> str:
        return f"{self.label}/@{hint}"

    def constant(self, hint: str, value, dtype=np.int64) -> str:
        return self.m.constant(self.name(hint), np.asarray(value, dtype))

    def add(self, op: str, inputs: Sequence[str], hint: str, **attributes) -> str:
        return self.m.add(op, inputs, self.name(hint), self.label, **attributes)

    def carry(self, hint: str, start: str, kind: TensorType | None = None, last: str = "") -> str:
        """The name inside the body of one more carried tensor. last: its name behind the loop."""
        c = _Carried(start, self.name(hint), "", last or self.name(f"{hint}/last"))
        for name in (c.inside, c.last):
            self.m.tensors[name] = Tensor(name, kind or self.m.tensors[start].type, source=last)
        self.carried.append(c)
        return c.inside

    def step(self, inside: str, after: str) -> None:
        """The value of a carried tensor after a turn."""
        next(c for c in self.carried if c.inside == inside).after = after

    def row(self, k: int, value: str, last: str = "", backward: bool = False) -> str:
        """Each turn writes one row of a tensor of zeros. Its name behind the loop: `last` where that is given."""
        t = self.m.tensors[value].type
        rows = self.carry(f"rows{k}", "", TensorType(t.dtype, (self.turns, *t.shape)), last)
        turn = self.backward() if backward else self.turn
        at = self.add("Reshape", [turn, self.constant("one", [1, 1])], f"rows{k}/at")
        row = self.add("Reshape", [value, self.constant(f"rows{k}/shape", (1, *t.shape))], f"rows{k}/row")
        self.step(rows, self.add("ScatterND", [rows, at, row], f"rows{k}/next"))
        return self.carried[-1].last

    def backward(self) -> str:
        """The number of the turn from the last one on."""
        name = self.name("backward")
        if name not in self.m.tensors:
            self.add("Sub", [self.constant("end", self.turns - 1), self.turn], "backward")
        return name

    def done(self, nodes: list[Node], flag: str = "", counted: bool = False) -> None:
        """Adds the node. nodes: of the body. flag: the carried tensor that says whether there is another turn. counted:
        the number of turns is wanted."""
        m = self.m
        if counted or any(self.turn in n.inputs for n in nodes):
            with _apart(m) as more:
                self.step(self.turn, self.add("Add", [self.turn, self.constant("step", 1)], "turn/next"))
            nodes = [*nodes, *more]
        carried = sorted((c for c in self.carried if c.after), key=lambda c: c.inside != flag)
        inside, after = [c.inside for c in carried], [c.after for c in carried]
        read = _read(m, nodes, inside, after)
        body = _graph(m, f"{self.label}/body", nodes, (*inside, *read), after)
        m.nodes.append(
            Node(
                "Loop",
                (*(c.start for c in carried), *read),
                tuple(c.last for c in carried),
                attrs(body=body, turns=self.turns, tested=int(bool(flag))),
                (self.label,),
            )
        )


def _loop(m, node, a) -> None:
    most = m.value(node.input[0]) if node.input[0] else np.asarray(MOST)
    condition = node.input[1] if len(node.input) > 1 else ""
    bound = None if most is None else int(np.asarray(most).reshape(-1)[0])
    if _known(m, condition) is False:
        bound = 0
    if bound is not None and bound <= 1 and _known(m, condition) is not None:
        return _unrolled(m, node, a, bound, condition)
    before = {k: copy(getattr(m, k)) for k in ("tensors", "nodes", "counts", "sequences", "absent", "labels", "scopes")}
    bad = len(m.bad)
    try:
        return _as_loop(m, node, a, bound, condition)
    except UnsupportedError as reason:
        if bound is None or len(m.bad) > bad:
            raise
        vars(m).update(before)
        try:
            _unrolled(m, node, a, bound, condition)
        except UnsupportedError:
            raise reason from None


def _as_loop(m: _Import, node, a, bound: int | None, condition: str) -> None:
    """bound: the trip count, None where it is known at run time."""
    body, states = a["body"], list(node.input[2:])
    outputs, scanned = node.output[: len(states)], node.output[len(states) :]
    require(m, all(s in m.tensors for s in states), node, "a sequence is carried from turn to turn")
    t = _Turns(m, node, 0 if bound is None or bound >= MOST else bound)
    inside = [t.carry(f"carried{k}", s, last=o) for k, (s, o) in enumerate(zip(states, outputs, strict=True))]
    names = [i.name for i in body.input]
    with _apart(m) as nodes:
        given = dict(zip(names, [t.turn, t.constant("true", True, bool), *inside], strict=True))
        go_on, *made = m.inline(body, given, f"{t.label}/")
        for x, new, old in zip(inside, made, states, strict=False):
            plain = new in m.tensors and new not in m.counts
            require(
                m,
                plain and m.tensors[new].type.same(m.tensors[old].type),
                node,
                f"a carried tensor is {m.tensors[old].type} before a turn, not after it",
            )
            t.step(x, new)
        require(
            m,
            t.turns > 0 or not any(scanned),
            node,
            "a run-time trip count decides the size of a result",
            "give it with --const",
        )
        for k, (o, row) in enumerate(zip(scanned, made[len(states) :], strict=True)):
            if o:
                t.row(k, row, o)
        tests = [_scalar(t, "go/after", go_on)] if _known(m, go_on) is not True else []
        if bound is None:
            tests.append(_below(t, node, t.add("Add", [t.turn, t.constant("one", 1)], "turn/after"), "below"))
        next_flag = t.add("And", tests, "go/next") if len(tests) > 1 else (tests or [given[names[1]]])[0]
    starts = [_scalar(t, "go/start", condition)] if _known(m, condition) is None else []
    if bound is None:
        starts.append(_below(t, node, t.constant("none", 0), "any"))
    flag = ""
    if tests or starts:
        flag = t.carry("go", t.add("And", starts, "go/first") if len(starts) > 1 else (starts or [given[names[1]]])[0])
        t.step(flag, next_flag)
    require(m, t.turns > 0 or bool(flag), node, "a loop that nothing ends")
    t.done(nodes, flag, counted=bool(flag) and any(scanned))
    if flag:
        m.counts |= {o: (t.name("turn/last"), 0) for o in scanned if o}


def _scalar(t: _Turns, hint: str, condition: str) -> str:
    """A condition without axes."""
    if not t.m.tensors[condition].type.shape:
        return condition
    return t.add("Reshape", [condition, t.constant(f"{hint}/shape", [])], hint)


def _below(t: _Turns, node, number: str, hint: str) -> str:
    """Whether a turn of this number is within the run-time trip count."""
    most = node.input[0]
    if t.m.tensors[most].type.shape:
        most = t.add("Reshape", [most, t.constant(f"{hint}/shape", [])], f"{hint}/most")
    return t.add("Less", [number, most], hint)


def _unrolled(m, node, a, turns: int, condition: str) -> None:
    body, carried = a["body"], list(node.input[2:])
    names = [i.name for i in body.input]
    rows: list[list[str]] = [[] for _ in body.output[1 + len(carried) :]]
    require(m, _known(m, condition) is not None, node, "a run-time condition decides whether it runs")
    for turn in range(turns):
        require(m, turn < TURNS, node, f"more than {TURNS} turns")
        prefix = f"{m.label(node)}/{turn}/"
        number = m.constant(prefix + names[0], np.asarray(turn, np.int64))
        true = m.constant(prefix + names[1], np.asarray(True))
        made = m.inline(body, dict(zip(names, [number, true, *carried], strict=True)), prefix)
        go_on, carried, scanned = made[0], made[1 : 1 + len(carried)], made[1 + len(carried) :]
        for row, s in zip(rows, scanned, strict=True):
            row.append(s)
        more = _known(m, go_on)
        if more is False:
            break
        last = turn == turns - 1
        require(m, more is True or last, node, "a run-time condition decides the number of turns")
    for o, c in zip(node.output, carried, strict=False):
        m.bind(o, c)
    for o, row in zip(node.output[len(carried) :], rows, strict=True):
        if o:
            require(m, bool(row), node, "no turns")
            stack(m, row, 0, o, m.label(node))


# --- Scan ----------------------------------------------------------------------------------------------


def _scan(m, node, a) -> None:
    body, count, inputs = a["body"], a["num_scan_inputs"], list(node.input)
    label, batched = m.label(node), m.opsets.get("", 1) < 9
    if batched:  # opset 8: lengths first, a batch axis on everything
        require(m, not inputs[0], node, "sequence lengths of opset 8")
        inputs = inputs[1:]
        require(m, m.tensors[inputs[0]].type.shape[0] == 1, node, "a batch in opset 8")
        inputs = [
            _reshaped(m, i, f"{label}/{k}/unbatched", m.tensors[i].type.shape[1:], label) for k, i in enumerate(inputs)
        ]
    states, scans = inputs[: len(inputs) - count], inputs[len(inputs) - count :]
    axes = [
        axis % max(len(m.tensors[s].type.shape), 1)
        for axis, s in zip(a.get("scan_input_axes") or [0] * count, scans, strict=True)
    ]
    back = a.get("scan_input_directions") or a.get("directions") or [0] * count
    t = _Turns(m, node, m.tensors[scans[0]].type.shape[axes[0]])
    inside = [t.carry(f"carried{k}", s) for k, s in enumerate(states)]
    out_back = a.get("scan_output_directions") or [0] * len(body.output)
    with _apart(m) as nodes:
        slices = [
            t.add("Gather", [s, t.backward() if b else t.turn], f"slice{k}", axis=axis)
            for k, (s, axis, b) in enumerate(zip(scans, axes, back, strict=True))
        ]
        made = m.inline(body, dict(zip([i.name for i in body.input], [*inside, *slices], strict=True)), f"{label}/")
        for x, s, old in zip(inside, made, states, strict=False):
            require(m, m.tensors[s].type.same(m.tensors[old].type), node, f"{old} changes its type from turn to turn")
            t.step(x, s)
        ends = [t.name(f"carried{k}/last") for k in range(len(states))]
        ends += [t.row(k, s, backward=bool(out_back[k])) for k, s in enumerate(made[len(states) :])]
    t.done(nodes)
    out_axes = [0] * len(states) + list(a.get("scan_output_axes") or [0] * len(ends))
    for o, name, axis in zip(node.output, ends, out_axes, strict=False):
        if not o:
            continue
        rank = len(m.tensors[name].type.shape)
        axis = axis % max(rank, 1)
        if axis:
            perm = [*range(1, axis + 1), 0, *range(axis + 1, rank)]
            name = m.add("Transpose", [name], f"{name}/turned", label, perm=perm)
        if batched:
            _reshaped(m, name, o, (1, *m.tensors[name].type.shape), label)
        else:
            m.bind(o, name)


def _reshaped(m: _Import, name: str, output: str, shape: Sequence[int], label: str) -> str:
    return m.add("Reshape", [name, m.constant(f"{output}/shape", np.array(shape, np.int64))], output, label)


RULES: dict[str, Callable] = {"If": _if, "Loop": _loop, "Scan": _scan} | structures.RULES
OPERATORS = tuple(RULES)
STATIC = {"If": (0,), "Loop": (0, 1)} | structures.STATIC
