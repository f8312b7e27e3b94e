"""Operators of ai.onnx.ml on numbers, and n-gram counts: trees, scalers, linear models, labels."""
from __future__ import annotations

import numpy as np

from ..ir import TensorType
from .code import Code, Tensor, written
from .scalar import FLOAT, INTEGER, NUMBER, cast, lift, where

ML = "ai.onnx.ml."


def binarizer(c: Code, a, x: Tensor) -> None:
    """1 where x is above the threshold, else 0."""
    with c.loop(x.size) as i:
        c.out[0].flat[i] = where(x.flat[i] > a.threshold, lift(1, x.dtype), lift(0, x.dtype))


def array_feature_extractor(c: Code, a, x: Tensor, columns: Tensor) -> None:
    """The given columns of the last axis."""
    rows, n = x.size // x.shape[-1], x.shape[-1]
    source, y = x.reshaped(rows, n), c.out[0].reshaped(rows, columns.size)
    with c.loop(rows) as i, c.loop(columns.size) as k:
        y[i, k] = source[i, c.index(columns.flat[k], n)]


def _per_column(values, n: int) -> np.ndarray:
    values = np.asarray(values, np.float32)
    return np.broadcast_to(values, (n,)) if values.size == 1 else values


def scaler(c: Code, a, x: Tensor) -> None:
    """(x - offset) * scale, by column."""
    n = x.shape[-1]
    offset, scale = (c.rom(np.ascontiguousarray(_per_column(v, n))) for v in (a.offset or [0.0], a.scale or [1.0]))
    source, y = x.reshaped(x.size // n, n), c.out[0].reshaped(x.size // n, n)
    with c.loop(x.size // n) as i, c.loop(n) as k:
        y[i, k] = (cast(source[i, k], "float32") - offset[k]) * scale[k]


def label_encoder(c: Code, a, x: Tensor) -> None:
    """The value of each key; the default for others. Numbers and numbers: strings are no data of a microcontroller."""
    keys, values, default = _pairs(c, a)
    keys, values = c.rom(keys), c.rom(values)
    with c.loop(x.size) as i:
        found = c.var(lift(default, values.dtype))
        with c.loop(keys.size) as k:
            same = keys[k] == cast(x.flat[i], keys.dtype)
            if "float" in keys.dtype:
                same = same | ((keys[k] != keys[k]) & (x.flat[i] != x.flat[i]))
            with c.when(same):
                found.set(values[k])
        c.out[0].flat[i] = found


def _pairs(c: Code, a):
    def given(kind: str):
        for suffix, dtype in (("tensor", None), ("floats", np.float32), ("int64s", np.int64)):
            v = getattr(a, f"{kind}_{suffix}", None)
            if v is not None:
                return np.asarray(v, dtype or np.asarray(v).dtype).reshape(-1)
        c.require(False, f"string {kind}")

    keys, values = given("keys"), given("values")
    c.require(keys.dtype != object and values.dtype != object, "strings")
    default = a.default_tensor if a.default_tensor is not None else a.default_float if values.dtype.kind == "f" else a.default_int64
    return keys, values, np.asarray(default).reshape(-1)[0].item()


def linear_regressor(c: Code, a, x: Tensor) -> None:
    """x w + b for each target."""
    n, targets = x.shape[-1], a.targets
    w = c.rom(np.asarray(a.coefficients, np.float32).reshape(targets, n))
    b = c.rom(np.asarray(a.intercepts or [0.0] * targets, np.float32))
    source, y = x.reshaped(x.size // n, n), c.out[0].reshaped(x.size // n, targets)
    c.require(a.post_transform == "NONE", f"post_transform {a.post_transform}")
    with c.loop(x.size // n) as i, c.loop(targets) as t:
        y[i, t] = c.sum(n, lambda k, i=i, t=t: cast(source[i, k], "float32") * w[t, k], b[t], "float32")


def tree_ensemble(c: Code, a, x: Tensor) -> None:
    """Sums of leaf weights: from each root, left where the feature meets the node's condition."""
    y, n = c.out[0], x.shape[-1]
    c.require(a.post_transform == 0 and a.aggregate_function in (0, 1), "post_transform or aggregation other than a sum or a mean")
    nodes, leaves = len(a.nodes_modes), len(a.leaf_weights)
    c.require(set(np.asarray(a.nodes_modes).reshape(-1).tolist()) <= set(range(6)), "set membership in nodes")
    tables = {k: c.rom(np.asarray(v).reshape(-1)) for k, v in {
        "feature": np.asarray(a.nodes_featureids, np.int32), "split": np.asarray(a.nodes_splits, np.float32),
        "mode": np.asarray(a.nodes_modes, np.uint8), "left": np.asarray(a.nodes_truenodeids, np.int32),
        "right": np.asarray(a.nodes_falsenodeids, np.int32), "left_leaf": np.asarray(a.nodes_trueleafs, np.uint8),
        "right_leaf": np.asarray(a.nodes_falseleafs, np.uint8), "root": np.asarray(a.tree_roots, np.int32),
        "weight": np.asarray(a.leaf_weights, np.float32), "target": np.asarray(a.leaf_targetids, np.int32)}.items()}
    source, out = x.reshaped(x.size // n, n), y.reshaped(x.size // n, a.n_targets)
    c.fill(y, 0)
    with c.loop(x.size // n) as i, c.loop(len(a.tree_roots)) as t:
        at, leaf = c.var(tables["root"][t]), c.var(0, "int32")
        # a tree of one leaf has a root whose branches are both that leaf
        with c.loop(nodes):
            with c.when(leaf == 0):
                k = c.index(at, nodes, wrap=False)
                v, s, mode = (c.let(z) for z in (cast(source[i, c.index(tables["feature"][k], n, wrap=False)], "float32"),
                                                 tables["split"][k], tables["mode"][k]))
                tests = (v <= s, v < s, v >= s, v > s, v == s, v != s)
                yes = tests[-1]
                for code in range(4, -1, -1):
                    yes = where(mode == code, tests[code], yes)
                yes = c.let(yes)
                at.set(where(yes, tables["left"][k], tables["right"][k]))
                leaf.set(cast(where(yes, tables["left_leaf"][k], tables["right_leaf"][k]), "int32"))
        end = c.index(at, leaves, wrap=False)
        target = c.index(tables["target"][end], a.n_targets, wrap=False)
        weight = cast(tables["weight"][end], y.dtype)
        out[i, target] = out[i, target] + (weight / float(len(a.tree_roots)) if a.aggregate_function == 0 else weight)


def tf_idf(c: Code, a, x: Tensor) -> None:
    """Counts of n-grams of min to max elements with up to max_skip_count skips; TF, IDF or TFIDF."""
    c.require(a.pool_int64s is not None, "strings")
    starts = [*a.ngram_counts, len(a.pool_int64s)]
    pool, grams = np.asarray(a.pool_int64s), []
    for size, (first, end) in enumerate(zip(starts, starts[1:], strict=False), 1):
        grams += [(size, pool[k:k + size]) for k in range(first, end, size)]
    y, n = c.out[0], x.shape[-1]
    rows, columns = x.size // n, c.out[0].shape[-1]
    source, out = x.reshaped(rows, n), y.reshaped(rows, columns)
    c.fill(y, 0)
    weights = a.weights or [1.0] * len(grams)
    for (size, gram), column, weight in zip(grams, a.ngram_indexes, weights, strict=True):
        if not a.min_gram_length <= size <= a.max_gram_length:
            continue
        with c.loop(rows) as i:
            count = c.var(lift(0, "float32"))
            for skip in range(a.max_skip_count + 1 if size > 1 else 1):
                span = (size - 1) * (skip + 1)
                if span < n:
                    with c.loop(n - span) as k:
                        same = lift(True, "bool")
                        for j, value in enumerate(gram.tolist()):
                            same = same & (cast(source[i, k + j * (skip + 1)], "int64") == value)
                        count.set(count + cast(same, "float32"))
            value = {"TF": count, "IDF": where(count > 0, lift(weight, "float32"), lift(0, "float32")), "TFIDF": count * weight}[a.mode]
            out[i, column] = value


def bit_cast(c: Code, a, x: Tensor) -> None:
    """The same bytes as another type."""
    source, y = (Tensor(c, c.ctx.bytes(t), (c.ctx.graph.type(t).nbytes,), "uint8") for t in (c.node.inputs[0], c.node.outputs[0]))
    with c.loop(y.size) as i:
        y[i] = source[i]


def _targets(key: str):
    def infer(node, types, values):
        return [TensorType("float32", (types[0].size // types[0].shape[-1], node.attrs.get(key, 1)))]

    return infer


LABELS = {f"{side}_{kind}": None for side in ("keys", "values") for kind in ("tensor", "floats", "int64s", "strings")}
TREES = ("leaf_targetids", "leaf_weights", "nodes_falseleafs", "nodes_falsenodeids", "nodes_featureids", "nodes_hitrates",
         "nodes_missing_value_tracks_true", "nodes_modes", "nodes_splits", "nodes_trueleafs", "nodes_truenodeids", "tree_roots",
         "membership_values")
OPS = (
    written(ML + "Binarizer", binarizer, {"threshold": 0.0}, NUMBER),
    written(ML + "ArrayFeatureExtractor", array_feature_extractor, {}, NUMBER),
    written(ML + "Scaler", scaler, {"offset": None, "scale": None}, NUMBER),
    written(ML + "LabelEncoder", label_encoder, LABELS | {"default_float": -0.0, "default_int64": -1, "default_string": "_Unused",
                                                          "default_tensor": None}, FLOAT + INTEGER),
    written(ML + "LinearRegressor", linear_regressor, {"coefficients": None, "intercepts": None, "post_transform": "NONE",
                                                       "targets": 1}, NUMBER, infer=_targets("targets")),
    written(ML + "TreeEnsemble", tree_ensemble, dict.fromkeys(TREES) | {"aggregate_function": 1, "n_targets": 1,
                                                                        "post_transform": 0}, FLOAT, infer=_targets("n_targets")),
    written("TfIdfVectorizer", tf_idf, {"max_gram_length": 1, "max_skip_count": 0, "min_gram_length": 1, "mode": "TF",
                                        "ngram_counts": None, "ngram_indexes": None, "pool_int64s": None, "pool_strings": None,
                                        "weights": None}, ("int32", "int64")),
    written("BitCast", bit_cast, {"to": 0}),
)
