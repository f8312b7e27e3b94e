"""Tree ensembles: TreeEnsemble of ai.onnx.ml 5 and the classifier and the regressor before it, as one form.

A tree is walked from its root, as many turns as the deepest tree has levels; what a node is made of lies in tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir import TensorType
from .base import Array
from .code import Code, Index, Tensor, clamp, index_of, written
from .scalar import FLOAT, INTEGER, E, cast, lift, maximum, minimum, where
from .scores import LABELS, ML, TRANSFORMS, class_labels, classify, label_types, rows_of, transform

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")


@dataclass(frozen=True)
class Forest:
    """Per inner node: the feature that it tests, against what and how (position in MODES), whether a value that is
    missing goes left, and where it leads: an inner node, or ~k for leaf k. Leaf k adds weights[k][j] to targets[k][j]."""

    feature: Array
    split: Array
    mode: Array
    missing: Array
    left: Array
    right: Array
    roots: Array
    weights: Array
    targets: Array

    @property
    def depth(self) -> int:
        """Inner nodes on the longest way."""
        level, deepest = {int(r): 1 for r in self.roots if r >= 0}, 0
        stack = list(level)
        while stack:
            k = stack.pop()
            deepest = max(deepest, level[k])
            for to in (int(self.left[k]), int(self.right[k])):
                if to >= 0:
                    level[to] = level[k] + 1
                    stack.append(to)
        return deepest


def _forest(nodes: Sequence[tuple], roots: Sequence[int], leaves: Sequence[Sequence[tuple[int, float]]]) -> Forest:
    """nodes: (feature, split, mode, missing, left, right) of each; leaves: (target, weight) pairs of each."""
    columns = list(zip(*nodes, strict=True)) if nodes else [()] * 6
    most = max(map(len, leaves))
    padded = [[*leaf, *[(leaf[0][0] if leaf else 0, 0.0)] * (most - len(leaf))] for leaf in leaves]
    return Forest(
        *(
            np.asarray(v, t)
            for v, t in zip(columns, (np.int64, np.float64, np.int64, bool, np.int64, np.int64), strict=True)
        ),
        np.asarray(roots, np.int64),
        np.asarray([[w for _, w in x] for x in padded], np.float64),
        np.asarray([[t for t, _ in x] for x in padded], np.int64),
    )


def forest_of_tables(a) -> Forest:
    """Of TreeEnsemble. A test for membership becomes a chain of tests for equality."""
    sets = [[]]
    for v in np.asarray(a.membership_values if a.membership_values is not None else [], np.float64).reshape(-1):
        sets[-1].append(v) if v == v else sets.append([])
    sides = [
        [int(to) if not leaf else ~int(to) for to, leaf in zip(ids, flags, strict=True)]
        for ids, flags in ((a.nodes_truenodeids, a.nodes_trueleafs), (a.nodes_falsenodeids, a.nodes_falseleafs))
    ]
    missing = a.nodes_missing_value_tracks_true or [0] * len(a.nodes_featureids)
    rows = zip(
        a.nodes_featureids,
        np.asarray(a.nodes_splits),
        np.asarray(a.nodes_modes).reshape(-1).tolist(),
        missing,
        *sides,
        strict=True,
    )
    nodes, more, members = [], [], iter(sets)
    count = len(a.nodes_featureids)
    for feature, split, mode, gone, left, right in rows:
        values = next(members) if mode == 6 else [split]
        for k, value in enumerate(values):
            last = k == len(values) - 1
            node = (
                feature,
                value,
                4 if mode == 6 else mode,
                gone,
                left,
                right if last else count + len(more) + (k > 0),
            )
            (more if k else nodes).append(node)
    leaves = [[(int(t), float(w))] for t, w in zip(a.leaf_targetids, np.asarray(a.leaf_weights), strict=True)]
    return _forest([*nodes, *more], list(a.tree_roots), leaves)


def forest_of_lists(a, side: str) -> Forest:
    """Of TreeEnsembleClassifier (side "class") and TreeEnsembleRegressor ("target"): nodes by tree and number in it."""

    def given(name: str) -> list:
        tensor = getattr(a, f"{name}_as_tensor", None)
        return list(np.asarray(tensor).reshape(-1)) if tensor is not None else list(getattr(a, name) or ())

    keys = list(zip(a.nodes_treeids, a.nodes_nodeids, strict=True))
    inner = [k for k, mode in zip(keys, a.nodes_modes, strict=True) if mode != "LEAF"]
    place = {k: n for n, k in enumerate(inner)}
    leaf = {k: n for n, k in enumerate(k for k in keys if k not in place)}
    leaves: list[list[tuple[int, float]]] = [[] for _ in leaf]
    ids = (getattr(a, f"{side}_{part}") for part in ("treeids", "nodeids", "ids"))
    for tree, node, target, weight in zip(*ids, given(f"{side}_weights"), strict=True):
        leaves[leaf[tree, node]].append((target, float(weight)))

    def to(tree: int, node: int) -> int:
        return place[tree, node] if (tree, node) in place else ~leaf[tree, node]

    missing = a.nodes_missing_value_tracks_true or [0] * len(keys)
    rows = zip(
        keys,
        a.nodes_featureids,
        given("nodes_values"),
        a.nodes_modes,
        missing,
        a.nodes_truenodeids,
        a.nodes_falsenodeids,
        strict=True,
    )
    nodes = [
        (feature, split, MODES.index(mode), gone, to(k[0], left), to(k[0], right))
        for k, feature, split, mode, gone, left, right in rows
        if mode != "LEAF"
    ]
    below = {
        (k[0], n)
        for k, mode, *sides in zip(keys, a.nodes_modes, a.nodes_truenodeids, a.nodes_falsenodeids, strict=True)
        if mode != "LEAF"
        for n in sides
    }
    return _forest(nodes, [to(*k) for k in keys if k not in below], leaves)


def scores_of(c: Code, f: Forest, x: Tensor, i, scores: Tensor, aggregate: str, base: Sequence[float]) -> None:
    """The scores of sample i: the leaves that it reaches, by target."""

    def table(values: Array) -> Tensor:
        low, high = int(values.min(initial=0)), int(values.max(initial=0))
        return c.rom(values.astype(np.promote_types(np.min_scalar_type(low), np.min_scalar_type(high))))

    def number(e: E) -> Index:
        """An element of a table, whose range is known, as an index."""
        return index_of(cast(e, "int32"))

    trees, each, count, leaves = len(f.roots), f.weights.shape[1], len(f.feature), len(f.weights)
    real = x.dtype if x.dtype == "float64" else "float32"
    wide = aggregate in ("MIN", "MAX")
    c.require(not wide or each == scores.size, f"aggregate_function {aggregate} of leaves that leave out targets")
    start = {"MIN": np.inf, "MAX": -np.inf}.get(aggregate, 0.0)
    left, right, roots = (table(np.where(v < 0, count + ~v, v)) for v in (f.left, f.right, f.roots))
    feature, mode, missing, modes = (
        table(f.feature),
        table(f.mode),
        table(f.missing.astype(int)),
        sorted(set(f.mode.tolist())),
    )
    split, weights, targets = c.rom(f.split.astype(real)), c.rom(f.weights.astype(np.float32)), table(f.targets)
    c.fill(scores, lift(start, "float32"))
    with c.loop(trees) as t:
        at = c.var(cast(roots[t], "int32"))
        with c.loop(f.depth):
            with c.when(at < count):
                k = c.let(clamp(index_of(at), 0, count - 1))
                v, s = c.let(cast(x[i, number(feature[k])], real)), c.let(split[k])
                tests = (v <= s, v < s, v >= s, v > s, v == s, v != s)
                yes = tests[modes[-1]]
                for code in modes[-2::-1]:
                    yes = where(mode[k] == code, tests[code], yes)
                if f.missing.any():
                    yes = yes | ((v != v) & (missing[k] != 0))
                at.set(where(c.let(yes), cast(left[k], "int32"), cast(right[k], "int32")))
        leaf = c.let(clamp(index_of(at), count, count + leaves - 1) - count)
        with c.loop(each) as j:
            k = 0 if scores.size == 1 else number(targets[leaf, j])
            w, old = weights[leaf, j], scores[k]
            scores[k] = {"MIN": minimum, "MAX": maximum}[aggregate](old, w) if wide else old + w
    if aggregate == "AVERAGE":
        with c.loop(scores.size) as k:
            scores[k] = scores[k] / float(trees)
    for k, b in enumerate(base):
        if b:
            scores[k] = scores[k] + float(b)


def tree_ensemble(c: Code, a, x: Tensor) -> None:
    _regression(c, forest_of_tables(a), rows_of(x), AGGREGATES[a.aggregate_function], (), TRANSFORMS[a.post_transform])


def tree_regressor(c: Code, a, x: Tensor) -> None:
    _regression(c, forest_of_lists(a, "target"), rows_of(x), a.aggregate_function, _base(a), a.post_transform)


def _regression(c: Code, f: Forest, x: Tensor, aggregate: str, base: Sequence[float], kind: str) -> None:
    y = rows_of(c.out[0])
    scores = c.scratch("float32", y.shape[-1])
    with c.loop(x.shape[0]) as i:
        scores_of(c, f, x, i, scores, aggregate, base)
        transform(c, kind, scores)
        with c.loop(scores.size) as k:
            y[i, k] = cast(scores[k], y.dtype)


def tree_classifier(c: Code, a, x: Tensor) -> None:
    f, source = forest_of_lists(a, "class"), rows_of(x)
    classes, given = len(class_labels(a)), set(a.class_ids)
    base = _base(a)
    one = classes == 2 and len(given) == 1
    if one:  # a single score, whatever class it is written for
        f = Forest(**{**vars(f), "targets": np.zeros_like(f.targets)})
        base = base[-1:]
    scores = c.scratch("float32", 1 if one else classes)
    positive = bool((f.weights >= 0).all())
    with c.loop(source.shape[0]) as i:
        scores_of(c, f, source, i, scores, "SUM", base)
        classify(c, a, i, scores, positive)


def _base(a) -> list[float]:
    tensor = a.base_values_as_tensor
    return [float(v) for v in (np.asarray(tensor).reshape(-1) if tensor is not None else a.base_values or ())]


def _targets(node, types, values):
    kind = "float64" if node.op.endswith("TreeEnsemble") and types[0].dtype == "float64" else "float32"
    return [TensorType(kind, (types[0].size // types[0].shape[-1], node.attrs.get("n_targets", 1)))]


TABLES = dict.fromkeys(
    (
        "leaf_targetids",
        "leaf_weights",
        "nodes_falseleafs",
        "nodes_falsenodeids",
        "nodes_featureids",
        "nodes_hitrates",
        "nodes_missing_value_tracks_true",
        "nodes_modes",
        "nodes_splits",
        "nodes_trueleafs",
        "nodes_truenodeids",
        "tree_roots",
        "membership_values",
    )
)
LISTS = dict.fromkeys(
    (
        "nodes_treeids",
        "nodes_nodeids",
        "nodes_featureids",
        "nodes_values",
        "nodes_values_as_tensor",
        "nodes_hitrates",
        "nodes_hitrates_as_tensor",
        "nodes_modes",
        "nodes_truenodeids",
        "nodes_falsenodeids",
        "nodes_missing_value_tracks_true",
        "base_values",
        "base_values_as_tensor",
    )
)


def _lists(side: str) -> dict:
    return LISTS | dict.fromkeys(
        f"{side}_{part}" for part in ("treeids", "nodeids", "ids", "weights", "weights_as_tensor")
    )


OPS = (
    written(
        ML + "TreeEnsemble",
        tree_ensemble,
        TABLES | {"aggregate_function": 1, "n_targets": 1, "post_transform": 0},
        FLOAT,
        infer=_targets,
    ),
    written(
        ML + "TreeEnsembleRegressor",
        tree_regressor,
        _lists("target") | {"aggregate_function": "SUM", "n_targets": 1, "post_transform": "NONE"},
        FLOAT + INTEGER,
        infer=_targets,
    ),
    written(
        ML + "TreeEnsembleClassifier",
        tree_classifier,
        _lists("class") | LABELS,
        FLOAT + INTEGER,
        infer=lambda node, types, values: label_types(node, types),
    ),
)
