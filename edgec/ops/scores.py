"""What classifiers of ai.onnx.ml end in: a label, and scores after `post_transform`; and the linear models.

Two classes may share one score s. Where all weights are positive it is the second one's probability and 1 - s the first
one's; elsewhere its sign decides, and the scores are -s and s, or the logistic function of these.
"""

from __future__ import annotations

import numpy as np

from ..ir import TensorType
from .code import Code, Index, Tensor, written
from .scalar import FLOAT, INTEGER, NUMBER, E, cast, lift, maximum, real, where

ML = "ai.onnx.ml."
LABELS = {"classlabels_ints": None, "classlabels_int64s": None, "post_transform": "NONE"}
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")  # in the order of TreeEnsemble's numbers


def class_labels(a) -> np.ndarray:
    """The classes of a node; labels that are text are numbers since the import (edgec/text_labels.py)."""
    return np.asarray(a.classlabels_int64s or a.classlabels_ints or [0, 1], np.int64)


def logistic(x: E) -> E:
    return 1 / (1 + real.exp(-x))


def transform(c: Code, kind: str, row: Tensor) -> None:
    """post_transform of one row of scores, in place."""
    c.require(kind in TRANSFORMS[:4], f"post_transform {kind}")
    n = row.size
    if kind == "LOGISTIC":
        with c.loop(n) as k:
            row[k] = logistic(row[k])
    if not kind.startswith("SOFTMAX"):
        return
    top, total = c.var(row[0]), c.var(lift(0, row.dtype))
    with c.loop(n) as k:
        top.set(maximum(top, row[k]))
    with c.loop(n) as k:
        v = c.let(row[k])
        power = c.let(real.exp(v - top))
        if kind == "SOFTMAX_ZERO":  # what is zero stays near it
            power = c.let(where((v > 1e-7) | (v < -1e-7), power, v * real.exp(-E(top.expr))))
        row[k] = power
        total.set(total + power)
    with c.loop(n) as k:
        row[k] = row[k] / total


def first_largest(c: Code, row: Tensor) -> Index:
    """The position of the largest element, the first of equal ones."""
    best, at = c.var(row[0]), c.var(0, "int32")
    with c.loop(row.size) as k:
        with c.when(best < row[k]):
            best.set(row[k])
            at.set(E(k.expr))
    return c.index(E(at.expr), row.size, wrap=False)


def classify(c: Code, a, i, scores: Tensor, positive: bool = False) -> None:
    """Label and scores of sample i from its raw scores, one for each class or one for two. positive: whether all weights
    are."""
    names, (label, y) = class_labels(a), (*c.out, None)[:2]
    table = c.rom(names)
    if scores.size == 1 and len(names) == 2:
        s = c.let(scores[0])
        pair = (1 - s, s) if positive else (logistic(-s), logistic(s)) if a.post_transform == "LOGISTIC" else (-s, s)
        if label is not None:
            label.flat[i] = where(
                s > (0.5 if positive else 0.0), lift(int(names[1]), "int64"), lift(int(names[0]), "int64")
            )
        if y is not None:
            for k, value in enumerate(pair):
                y[i, k] = value
        return
    if label is not None:
        label.flat[i] = table[first_largest(c, scores)]
    if y is not None:
        transform(c, a.post_transform, scores)
        with c.loop(scores.size) as k:
            y[i, k] = scores[k]


def rows_of(x: Tensor) -> Tensor:
    """A batch of samples; one sample may come without the axis of the batch."""
    n = x.shape[-1] if x.rank else 1
    return x.reshaped(x.size // n, n)


def label_types(node, types, columns: int | None = None) -> list[TensorType]:
    """Of a classifier's label and scores."""
    a = node.attrs
    classes = len(a.get("classlabels_int64s") or a.get("classlabels_ints") or (0, 1))
    rows = types[0].size // (types[0].shape[-1] if types[0].shape else 1)
    return [TensorType("int64", (rows,)), TensorType("float32", (rows, columns or classes))]


def linear_classifier(c: Code, a, x: Tensor) -> None:
    """w x + b for each class."""
    source, n = rows_of(x), x.shape[-1]
    w = c.rom(np.asarray(a.coefficients, np.float32).reshape(-1, n))
    b = c.rom(np.asarray(a.intercepts or [0.0] * w.shape[0], np.float32))
    scores = c.scratch("float32", w.shape[0])
    c.ctx.macs(source.shape[0] * w.size)
    with c.loop(source.shape[0]) as i:
        with c.loop(w.shape[0]) as k:
            scores[k] = c.sum(n, lambda j, i=i, k=k: cast(source[i, j], "float32") * w[k, j], b[k], "float32")
        classify(c, a, i, scores)


def linear_regressor(c: Code, a, x: Tensor) -> None:
    """w x + b for each target."""
    source, n, targets = rows_of(x), x.shape[-1], a.targets
    w = c.rom(np.asarray(a.coefficients, np.float32).reshape(targets, n))
    b = c.rom(np.asarray(a.intercepts or [0.0] * targets, np.float32))
    y = c.out[0].reshaped(source.shape[0], targets)
    c.require(a.post_transform == "NONE", f"post_transform {a.post_transform}")
    c.ctx.macs(source.shape[0] * w.size)
    with c.loop(source.shape[0]) as i, c.loop(targets) as t:
        y[i, t] = c.sum(n, lambda k, i=i, t=t: cast(source[i, k], "float32") * w[t, k], b[t], "float32")


def _targets(node, types, values):
    return [TensorType("float32", (types[0].size // types[0].shape[-1], node.attrs.get("targets", 1)))]


COEFFICIENTS = {"coefficients": None, "intercepts": None, "post_transform": "NONE"}
OPS = (
    written(ML + "LinearRegressor", linear_regressor, COEFFICIENTS | {"targets": 1}, NUMBER, infer=_targets),
    written(
        ML + "LinearClassifier",
        linear_classifier,
        COEFFICIENTS | LABELS | {"multi_class": 0},
        FLOAT + INTEGER,
        infer=lambda node, types, values: label_types(node, types),
    ),
)
