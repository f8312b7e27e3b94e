"""Support vector machines of ai.onnx.ml: regression and one class, classification by pairs of classes, probabilities.

Formulas: libsvm (Chang and Lin, 2011), section 8 for the probabilities of more than two classes, as ONNX's operators
take their parameters from it.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from ..ir import TensorType
from .code import Code, Tensor, written
from .scalar import FLOAT, INTEGER, E, absolute, cast, lift, maximum, minimum, real, where
from .scores import LABELS, ML, class_labels, first_largest, label_types, rows_of, transform

ROUNDS = 100  # of the iteration for probabilities, at least


def kernel(c: Code, a, x, vector: Tensor, n: int) -> E:
    """K(x, vector), both of n elements."""
    gamma, coef0, degree = (*(a.kernel_params or ()), 0.0, 0.0, 0.0)[:3]
    if a.kernel_type == "RBF":
        total = c.var(lift(0, "float32"))
        with c.loop(n) as k:
            d = c.let(x(k) - vector[k])
            total.set(total + d * d)
        return c.let(real.exp(E(total.expr) * -gamma))
    dot = E(c.sum(n, lambda k: x(k) * vector[k], lift(0, "float32"), "float32").expr)
    if a.kernel_type == "LINEAR":
        return c.let(dot)
    inner = dot * gamma + coef0
    return c.let(real.tanh(inner) if a.kernel_type == "SIGMOID" else real.pow(inner, lift(degree, "float32")))


def svm_regressor(c: Code, a, x: Tensor) -> None:
    """The sum over the support vectors; of one class its sign."""
    source, n = rows_of(x), x.shape[-1]
    weights = np.asarray(a.coefficients, np.float32)
    vectors = c.rom(np.asarray(a.support_vectors or a.coefficients, np.float32).reshape(-1, n))
    linear = not a.n_supports
    coefficients, rho = c.rom(weights), float(a.rho[0])
    y = rows_of(c.out[0])
    c.ctx.macs(source.shape[0] * vectors.size)
    with c.loop(source.shape[0]) as i:

        def element(k, i=i):
            return cast(source[i, k], "float32")

        total = c.var(lift(rho, "float32"))
        if linear:
            with c.loop(n) as k:
                total.set(total + element(k) * coefficients[k])
        else:
            with c.loop(vectors.shape[0]) as v:
                total.set(total + kernel(c, a, element, vectors.sub(v), n) * coefficients[v])
        value = where(total > 0, lift(1, "float32"), lift(-1, "float32")) if a.one_class else E(total.expr)
        y[i, 0] = value
        transform(c, a.post_transform, y.sub(i))


def svm_classifier(c: Code, a, x: Tensor) -> None:
    """A decision for each pair of classes; the class with most votes, or the most probable one."""
    source, n, classes = rows_of(x), x.shape[-1], len(class_labels(a))
    names, (label, y) = c.rom(class_labels(a)), (*c.out, None)[:2]
    counts = list(a.vectors_per_class or ())
    c.require(bool(counts), "a linear SVMClassifier without support vectors")
    vectors = c.rom(np.asarray(a.support_vectors, np.float32).reshape(sum(counts), n))
    coefficients = c.rom(np.asarray(a.coefficients, np.float32).reshape(classes - 1, sum(counts)))
    starts = np.cumsum([0, *counts]).tolist()
    pairs = list(combinations(range(classes), 2))
    kernels, decisions = c.scratch("float32", sum(counts)), c.scratch("float32", len(pairs))
    votes, probable = c.scratch("float32", classes), bool(a.prob_a)
    chances = c.scratch("float32", classes) if probable else None
    room = (
        (c.scratch("float32", classes, classes), c.scratch("float32", classes, classes), c.scratch("float32", classes))
        if probable
        else ()
    )
    c.ctx.macs(source.shape[0] * vectors.size)
    with c.loop(source.shape[0]) as i:

        def element(k, i=i):
            return cast(source[i, k], "float32")

        with c.loop(sum(counts)) as v:
            kernels[v] = kernel(c, a, element, vectors.sub(v), n)
        c.fill(votes, 0)
        for at, (p, q) in enumerate(pairs):
            total = c.var(lift(0, "float32"))
            for side, row in ((p, q - 1), (q, p)):
                with c.loop(starts[side + 1], starts[side]) as v:
                    total.set(total + coefficients[row, v] * kernels[v])
            total.set(total + float(a.rho[at]))
            decisions[at] = total
            with c.when(total > 0):
                votes[p] = votes[p] + 1
            with c.otherwise():
                votes[q] = votes[q] + 1
        if probable:
            _probabilities(c, a, pairs, decisions, chances, *room)
        if label is not None:
            label.flat[i] = names[first_largest(c, chances if probable else votes)]
        if y is not None and probable:
            with c.loop(classes) as k:
                y[i, k] = chances[k]
        elif y is not None and len(pairs) == 1:  # the label is that of the votes
            y[i, 0], y[i, 1] = -decisions[0], decisions[0]
        elif y is not None:
            transform(c, a.post_transform, decisions)
            with c.loop(len(pairs)) as k:
                y[i, k] = decisions[k]


def _probabilities(c: Code, a, pairs, decisions: Tensor, p: Tensor, r: Tensor, q: Tensor, qp: Tensor) -> None:
    """Pairwise probabilities by the logistic function of the decisions, coupled to one for each class."""
    k = p.size
    for at, (i, j) in enumerate(pairs):
        f = c.let(decisions[at] * float(a.prob_a[at]) + float(a.prob_b[at]))
        chance = c.let(minimum(maximum(1 / (1 + real.exp(E(f.expr))), 1e-7), 1 - 1e-7))
        r[i, j], r[j, i] = chance, 1 - chance
    if k == 2:
        p[0], p[1] = r[0, 1], r[1, 0]
        return
    with c.loop(k) as t:
        p[t] = lift(1 / k, "float32")
        q[t, t] = lift(0, "float32")
        for lo, hi in ((0, t), (t + 1, k)):
            with c.loop(hi, lo) as j:
                q[t, t] = q[t, t] + r[j, t] * r[j, t]
                q[t, j] = -(r[j, t] * r[t, j])
    busy = c.var(1, "int32")
    with c.loop(max(ROUNDS, k)):
        with c.when(busy == 1):
            pqp, worst = c.var(lift(0, "float32")), c.var(lift(0, "float32"))
            with c.loop(k) as t:
                total = c.sum(k, lambda j, t=t: q[t, j] * p[j], lift(0, "float32"), "float32")
                qp[t] = total
                pqp.set(pqp + p[t] * total)
            with c.loop(k) as t:
                worst.set(maximum(E(worst.expr), absolute(qp[t] - E(pqp.expr))))
            with c.when(worst < 0.005 / k):
                busy.set(lift(0, "int32"))
            with c.otherwise(), c.loop(k) as t:
                d = c.let((E(pqp.expr) - qp[t]) / q[t, t])
                p[t] = p[t] + d
                pqp.set((pqp + d * (d * q[t, t] + 2 * qp[t])) / (1 + d) / (1 + d))
                with c.loop(k) as j:
                    qp[j] = (qp[j] + d * q[t, j]) / (1 + d)
                    p[j] = p[j] / (1 + d)


def _classifier_types(node, types, values) -> list[TensorType]:
    n = len(node.attrs.get("classlabels_int64s") or node.attrs.get("classlabels_ints") or (0, 1))
    return label_types(node, types, n if node.attrs.get("prob_a") or n == 2 else n * (n - 1) // 2)


def _regressor_types(node, types, values) -> list[TensorType]:
    return [TensorType("float32", (types[0].size // types[0].shape[-1], 1))]


MACHINE = {
    "kernel_type": "LINEAR",
    "kernel_params": None,
    "support_vectors": None,
    "coefficients": None,
    "rho": None,
    "post_transform": "NONE",
}
OPS = (
    written(
        ML + "SVMRegressor",
        svm_regressor,
        MACHINE | {"n_supports": 0, "one_class": 0},
        FLOAT + INTEGER,
        infer=_regressor_types,
    ),
    written(
        ML + "SVMClassifier",
        svm_classifier,
        MACHINE | LABELS | {"vectors_per_class": None, "prob_a": None, "prob_b": None},
        FLOAT + INTEGER,
        infer=_classifier_types,
    ),
)
