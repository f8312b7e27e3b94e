"""Sequences and optionals, resolved while a model is imported: a sequence is the list of its tensors, an optional its
tensor or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .errors import UnsupportedError

if TYPE_CHECKING:
    from .onnx_in import _Import


def require(m: _Import, ok: bool, node, what: str, fix: str = "") -> None:
    if not ok:
        raise UnsupportedError(f"{node.op_type}: {what}", where=m.label(node), fix=fix)


def scalar(m: _Import, node, k: int, what: str) -> int:
    """The value of an input that must be known."""
    value = m.value(node.input[k])
    require(m, value is not None, node, f"run-time {what}", "make it a constant, e.g. with --const")
    return int(np.asarray(value).reshape(-1)[0])


def stack(m: _Import, rows: Sequence[str], axis: int, output: str, label: str) -> None:
    """output: the tensors side by side along a new axis."""
    shape = m.tensors[rows[0]].type.shape
    axis = axis + len(shape) + 1 if axis < 0 else axis
    wide = (*shape[:axis], 1, *shape[axis:])
    to = m.constant(f"{output}/row_shape", np.array(wide, np.int64))
    parts = [m.add("Reshape", [r, to], f"{output}/row{k}", label) for k, r in enumerate(rows)]
    m.add("Concat", parts, output, label, axis=axis)


def _at(m, node, length: int, k: int, end: int) -> int:
    if len(node.input) <= k or not node.input[k]:
        return end
    at = scalar(m, node, k, "position in a sequence")
    at += length if at < 0 else 0
    require(m, 0 <= at <= length, node, f"position {at} of a sequence of {length}")
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
    m.sequences[node.output[0]] = [*old[:at], *old[at + 1 :]]


def _sequence_at(m, node, a) -> None:
    m.bind(node.output[0], m.sequences[node.input[0]][_at(m, node, len(m.sequences[node.input[0]]), 1, 0)])


def _length(m, node, a) -> None:
    m.constant(node.output[0], np.asarray(len(m.sequences[node.input[0]]), np.int64))


def _concat(m, node, a) -> None:
    parts = m.sequences[node.input[0]]
    require(m, bool(parts), node, "an empty sequence")
    if a.get("new_axis"):
        return stack(m, parts, a["axis"], node.output[0], m.label(node))
    m.add("Concat", parts, node.output[0], m.label(node), axis=a["axis"])


def _split(m, node, a) -> None:
    t = m.tensors[node.input[0]].type
    axis = a.get("axis", 0) % len(t.shape)
    n, sizes = t.shape[axis], None
    if len(node.input) > 1 and node.input[1]:
        given = m.value(node.input[1])
        require(m, given is not None, node, "run-time split", "give it with --const")
        step = int(np.asarray(given).reshape(-1)[0])
        sizes = [int(v) for v in given] if given.ndim else [min(step, n - k) for k in range(0, n, step)]
    drop = sizes is None and not a.get("keepdims", 1)
    sizes = sizes or [1] * n
    parts, start = [], 0
    for k, size in enumerate(sizes):
        at = np.asarray(start, np.int64) if drop else np.arange(start, start + size)
        at = m.constant(f"{node.output[0]}/at{k}", at)
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
    require(m, node.input[0] not in m.absent, node, "an optional that is absent")
    m.bind(node.output[0], node.input[0])


RULES: dict[str, Callable] = {
    "SequenceEmpty": _empty,
    "SequenceConstruct": _construct,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceAt": _sequence_at,
    "SequenceLength": _length,
    "ConcatFromSequence": _concat,
    "SplitToSequence": _split,
    "Optional": _optional,
    "OptionalHasElement": _has_element,
    "OptionalGetElement": _get_element,
}
STATIC = {"SplitToSequence": (1,), "SequenceInsert": (2,), "SequenceErase": (1,), "SequenceAt": (1,)}
