"""Control flow, sequences and optionals, resolved while a model is imported: nothing of them is left in the graph.

A branch whose condition is known is inlined; of a run-time condition both branches are computed and one is selected. Loop and Scan
are unrolled: their number of turns must be known. A sequence is the list of its tensors, an optional its tensor or nothing.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from .errors import UnsupportedError

if TYPE_CHECKING:
    from .onnx_in import _Import

TURNS = 512  # that an unrolled loop may have


def expand(m: _Import, node: onnx.NodeProto) -> bool:
    """True where the node is one of these and is done; its tensors are known to the importer then."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in _RULES:
        return node.op_type == "Identity" and _pass_on(m, node)
    a = {x.name: helper.get_attribute_value(x) for x in node.attribute}
    return _RULES[node.op_type](m, node, a) is not False


def _pass_on(m: _Import, node) -> bool:
    """Identity of a sequence or an optional."""
    if node.input[0] in m.sequences or node.input[0] in m.absent:
        m.bind(node.output[0], node.input[0])
        return True
    return False


def _require(m: _Import, ok: bool, node, what: str, fix: str = "") -> None:
    if not ok:
        raise UnsupportedError(f"{node.op_type}: {what}", where=m.label(node), fix=fix)


def _scalar(m: _Import, node, k: int, what: str) -> int:
    """The value of an input that must be known."""
    value = m.value(node.input[k])
    _require(m, value is not None, node, f"run-time {what}", "make it a constant, e.g. with --const")
    return int(np.asarray(value).reshape(-1)[0])


# --- If, Loop, Scan ------------------------------------------------------------------------------------


def _if(m, node, a) -> None:
    condition = m.value(node.input[0])
    if condition is not None:
        branch = a["then_branch"] if np.asarray(condition).reshape(-1)[0] else a["else_branch"]
        for o, made in zip(node.output, m.inline(branch, {}, f"{m.label(node)}/"), strict=False):
            m.bind(o, made)
        return
    sides = [m.inline(a[f"{side}_branch"], {}, f"{m.label(node)}/{side}/") for side in ("then", "else")]
    for o, then, otherwise in zip(node.output, *sides, strict=True):
        _select(m, node, node.input[0], then, otherwise, o)


def _select(m, node, condition: str, then: str, otherwise: str, output: str) -> None:
    """output = then where the condition holds, else otherwise."""
    if then == otherwise:
        return m.bind(output, then)
    tensors = all(t in m.tensors for t in (then, otherwise))
    _require(m, tensors and m.tensors[then].type.same(m.tensors[otherwise].type), node,
             "a run-time condition decides the shape or the type of a result")
    m.add("Where", [condition, then, otherwise], output, m.label(node))


def _loop(m, node, a) -> None:
    body, carried = a["body"], list(node.input[2:])
    most = m.value(node.input[0]) if node.input[0] else None
    condition = node.input[1] if len(node.input) > 1 else ""
    known = not condition or m.value(condition) is not None
    _require(m, most is not None, node, "run-time trip count", "give it with --const")
    turns = int(np.asarray(most).reshape(-1)[0])
    if condition and known and not np.asarray(m.value(condition)).reshape(-1)[0]:
        turns = 0
    names = [i.name for i in body.input]
    rows: list[list[str]] = [[] for _ in body.output[1 + len(carried):]]
    alive = "" if known else condition  # "": the turn surely runs
    lives: list[str] = []
    for turn in range(turns):
        _require(m, turn < TURNS, node, f"more than {TURNS} turns")
        prefix = f"{m.label(node)}/{turn}/"
        number = m.constant(prefix + names[0], np.asarray(turn, np.int64))
        true = m.constant(prefix + names[1], np.asarray(True))
        made = m.inline(body, dict(zip(names, [number, true, *carried], strict=True)), prefix)
        go_on, new, scanned = made[0], made[1:1 + len(carried)], made[1 + len(carried):]
        if alive:
            for k, (old, now) in enumerate(zip(carried, new, strict=True)):
                _select(m, node, alive, now, old, f"{prefix}carried{k}")
            new = [f"{prefix}carried{k}" for k in range(len(new))]
            lives.append(alive)
        for row, s in zip(rows, scanned, strict=True):
            row.append(s)
        carried = new
        value = m.value(go_on)
        if value is not None and not np.asarray(value).reshape(-1)[0]:
            break
        if value is None:
            alive = m.add("And", [alive, go_on], f"{prefix}alive", m.label(node)) if alive else go_on
    _require(m, not (rows and lives), node, "a run-time condition decides the number of turns")
    for o, c in zip(node.output, carried, strict=False):
        m.bind(o, c)
    for o, row in zip(node.output[len(carried):], rows, strict=True):
        if o:
            _require(m, bool(row), node, "no turns")
            stack(m, row, 0, o, m.label(node))


def _scan(m, node, a) -> None:
    body, count = a["body"], a["num_scan_inputs"]
    inputs = list(node.input)
    batched = m.opsets.get("", 1) < 9
    if batched:  # opset 8: lengths first, a batch axis on everything
        _require(m, not inputs[0], node, "sequence lengths of opset 8")
        inputs = inputs[1:]
        batch = m.tensors[inputs[0]].type.shape[0]
        _require(m, batch == 1, node, "a batch in opset 8")
        inputs = [m.add("Reshape", [i, m.constant(f"{i}/unbatched_shape", np.array(m.tensors[i].type.shape[1:], np.int64))],
                        f"{m.label(node)}/{k}/unbatched", m.label(node)) for k, i in enumerate(inputs)]
    states, scans = inputs[:len(inputs) - count], inputs[len(inputs) - count:]
    axes = [axis % max(len(m.tensors[s].type.shape), 1) for axis, s in zip(a.get("scan_input_axes") or [0] * count, scans, strict=True)]
    directions = a.get("scan_input_directions") or a.get("directions") or [0] * count
    turns = m.tensors[scans[0]].type.shape[axes[0]]
    _require(m, turns <= TURNS, node, f"more than {TURNS} turns")
    outputs = body.output[len(states):]
    rows: list[list[str]] = [[] for _ in outputs]
    for turn in range(turns):
        prefix = f"{m.label(node)}/{turn}/"
        slices = []
        for k, (s, axis, back) in enumerate(zip(scans, axes, directions, strict=True)):
            at = m.constant(f"{prefix}at{k}", np.asarray(turns - 1 - turn if back else turn, np.int64))
            slices.append(m.add("Gather", [s, at], f"{prefix}slice{k}", m.label(node), axis=axis))
        made = m.inline(body, dict(zip([i.name for i in body.input], [*states, *slices], strict=True)), prefix)
        states = made[:len(states)]
        for row, s in zip(rows, made[len(states):], strict=True):
            row.append(s)
    ends = [*states]
    out_axes = a.get("scan_output_axes") or [0] * len(rows)
    back = a.get("scan_output_directions") or [0] * len(rows)
    for k, (row, axis, reverse) in enumerate(zip(rows, out_axes, back, strict=True)):
        name = f"{m.label(node)}/stacked{k}"
        stack(m, row[::-1] if reverse else row, axis, name, m.label(node))
        ends.append(name)
    for o, t in zip(node.output, ends, strict=True):
        if o and batched:
            shape = m.constant(f"{o}/batched_shape", np.array((1, *m.tensors[t].type.shape), np.int64))
            m.add("Reshape", [t, shape], o, m.label(node))
        elif o:
            m.bind(o, t)


def stack(m: _Import, rows: Sequence[str], axis: int, output: str, label: str) -> None:
    """output: the tensors side by side along a new axis."""
    shape = m.tensors[rows[0]].type.shape
    axis = axis + len(shape) + 1 if axis < 0 else axis
    wide = (*shape[:axis], 1, *shape[axis:])
    to = m.constant(f"{output}/row_shape", np.array(wide, np.int64))
    parts = [m.add("Reshape", [r, to], f"{output}/row{k}", label) for k, r in enumerate(rows)]
    m.add("Concat", parts, output, label, axis=axis)


# --- sequences and optionals -----------------------------------------------------------------------------


def _at(m, node, length: int, k: int, end: int) -> int:
    if len(node.input) <= k or not node.input[k]:
        return end
    at = _scalar(m, node, k, "position in a sequence")
    at += length if at < 0 else 0
    _require(m, 0 <= at <= length, node, f"position {at} of a sequence of {length}")
    return at


def _empty(m, node, a) -> None:
    m.sequences[node.output[0]] = []


def _construct(m, node, a) -> None:
    m.sequences[node.output[0]] = list(node.input)


def _insert(m, node, a) -> None:
    old = m.sequences[node.input[0]]
    at = _at(m, node, len(old), 2, len(old))
    m.sequences[node.output[0]] = [*old[:at], node.input[1], *old[at:]]


def _erase(m, node, a) -> None:
    old = m.sequences[node.input[0]]
    at = _at(m, node, len(old), 1, len(old) - 1)
    m.sequences[node.output[0]] = [*old[:at], *old[at + 1:]]


def _sequence_at(m, node, a) -> None:
    m.bind(node.output[0], m.sequences[node.input[0]][_at(m, node, len(m.sequences[node.input[0]]), 1, 0)])


def _length(m, node, a) -> None:
    m.constant(node.output[0], np.asarray(len(m.sequences[node.input[0]]), np.int64))


def _concat(m, node, a) -> None:
    parts = m.sequences[node.input[0]]
    _require(m, bool(parts), node, "an empty sequence")
    if a.get("new_axis"):
        return stack(m, parts, a["axis"], node.output[0], m.label(node))
    m.add("Concat", parts, node.output[0], m.label(node), axis=a["axis"])


def _split(m, node, a) -> None:
    t = m.tensors[node.input[0]].type
    axis = a.get("axis", 0) % len(t.shape)
    n, sizes = t.shape[axis], None
    if len(node.input) > 1 and node.input[1]:
        given = m.value(node.input[1])
        _require(m, given is not None, node, "run-time split", "give it with --const")
        step = int(np.asarray(given).reshape(-1)[0])
        sizes = [int(v) for v in given] if given.ndim else [min(step, n - k) for k in range(0, n, step)]
    drop = sizes is None and not a.get("keepdims", 1)
    sizes = sizes or [1] * n
    parts, start = [], 0
    for k, size in enumerate(sizes):
        at = m.constant(f"{node.output[0]}/at{k}", np.asarray(start, np.int64) if drop else np.arange(start, start + size))
        parts.append(m.add("Gather", [node.input[0], at], f"{node.output[0]}/part{k}", m.label(node), axis=axis))
        start += size
    m.sequences[node.output[0]] = parts


def _optional(m, node, a) -> None:
    if node.input and node.input[0]:
        m.bind(node.output[0], node.input[0])
    else:
        m.absent.add(node.output[0])


def _has_element(m, node, a) -> None:
    there = bool(node.input) and bool(node.input[0]) and node.input[0] not in m.absent
    m.constant(node.output[0], np.asarray(there))


def _get_element(m, node, a) -> None:
    _require(m, node.input[0] not in m.absent, node, "an optional that is absent")
    m.bind(node.output[0], node.input[0])


_RULES: dict[str, Callable] = {
    "If": _if, "Loop": _loop, "Scan": _scan, "SequenceEmpty": _empty, "SequenceConstruct": _construct,
    "SequenceInsert": _insert, "SequenceErase": _erase, "SequenceAt": _sequence_at, "SequenceLength": _length,
    "ConcatFromSequence": _concat, "SplitToSequence": _split, "Optional": _optional, "OptionalHasElement": _has_element,
    "OptionalGetElement": _get_element,
}
OPERATORS = tuple(_RULES)
STATIC = {"If": (0,), "Loop": (0, 1), "SplitToSequence": (1,), "SequenceInsert": (2,), "SequenceErase": (1,), "SequenceAt": (1,)}
