"""Operators of ai.onnx.ml that prepare features: scalers, encoders, labels; and n-gram counts."""
from __future__ import annotations

import numpy as np

from ..ir import TensorType
from .code import Code, Tensor, written
from .scalar import FLOAT, INTEGER, NUMBER, E, absolute, cast, lift, maximum, real, where
from .scores import ML


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


def _extracted(node, types, values):
    shape = types[0].shape if len(types[0].shape) > 1 else (1, *types[0].shape)
    return [TensorType(types[0].dtype, (*shape[:-1], types[1].size))]


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


def normalizer(c: Code, a, x: Tensor) -> None:
    """Each sample over its largest, summed or Euclidean absolute value; a sample of zeros stays."""
    n = x.shape[-1]
    source, y = x.reshaped(x.size // n, n), c.out[0].reshaped(x.size // n, n)
    with c.loop(x.size // n) as i:
        norm = c.var(lift(0, "float32"))
        with c.loop(n) as k:
            v = c.let(cast(source[i, k], "float32"))
            norm.set({"MAX": lambda v=v: maximum(E(norm.expr), absolute(v)), "L1": lambda v=v: norm + absolute(v),
                      "L2": lambda v=v: norm + v * v}[a.norm]())
        by = c.let(where(norm == 0, lift(1, "float32"), real.sqrt(E(norm.expr)) if a.norm == "L2" else E(norm.expr)))
        with c.loop(n) as k:
            y[i, k] = cast(source[i, k], "float32") / by


def imputer(c: Code, a, x: Tensor) -> None:
    """What equals the replaced value (or is no number, where that is) becomes the column's."""
    n, is_real = x.shape[-1], "float" in x.dtype
    given = a.imputed_value_floats if is_real else a.imputed_value_int64s
    values = c.rom(np.ascontiguousarray(_per_column(given, n)).astype(x.dtype))
    old = a.replaced_value_float if is_real else a.replaced_value_int64
    source, y = x.reshaped(x.size // n, n), c.out[0].reshaped(x.size // n, n)
    with c.loop(x.size // n) as i, c.loop(n) as k:
        v = c.let(source[i, k])
        y[i, k] = where(v != v if old != old else v == old, values[k], v)


def one_hot_encoder(c: Code, a, x: Tensor) -> None:
    """A column for each category: 1 where the element is it."""
    c.require(a.cats_int64s is not None, "categories that are text")
    cats = c.rom(np.asarray(a.cats_int64s, np.int64))
    y = c.out[0].reshaped(x.size, cats.size)
    with c.loop(x.size) as i, c.loop(cats.size) as k:
        y[i, k] = cast(cast(x.flat[i], "int64") == cats[k], "float32")


def _categories(node, types, values):
    return [TensorType("float32", (*types[0].shape, len(node.attrs.get("cats_int64s") or node.attrs["cats_strings"])))]


def feature_vectorizer(c: Code, a, *parts: Tensor) -> None:
    """All columns beside each other, as floats."""
    rows, start = c.out[0].shape[0], 0
    for x in parts:
        source = x.reshaped(rows, x.size // rows)
        with c.loop(rows) as i, c.loop(source.shape[1]) as k:
            c.out[0][i, k + start] = cast(source[i, k], "float32")
        start += source.shape[1]


def _joined(node, types, values):
    rows = types[0].shape[0] if len(types[0].shape) > 1 else 1
    return [TensorType("float32", (rows, sum(t.size // rows for t in types)))]


def _as_float(node, types, values):
    return [TensorType("float32", types[0].shape)]


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
    default = (
        a.default_tensor if a.default_tensor is not None else a.default_float if values.dtype.kind == "f" else a.default_int64
    )
    return keys, values, np.asarray(default).reshape(-1)[0].item()


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
            value = {"TF": count, "IDF": where(count > 0, lift(weight, "float32"), lift(0, "float32")), "TFIDF": count * weight}[
                a.mode
            ]
            out[i, column] = value


def bit_cast(c: Code, a, x: Tensor) -> None:
    """The same bytes as another type."""
    source, y = (Tensor(c, c.ctx.bytes(t), (c.ctx.graph.type(t).nbytes,), "uint8") for t in (c.node.inputs[0], c.node.outputs[0]))
    with c.loop(y.size) as i:
        y[i] = source[i]


LABELS = {f"{side}_{kind}": None for side in ("keys", "values") for kind in ("tensor", "floats", "int64s", "strings")}
OPS = (
    written(ML + "Binarizer", binarizer, {"threshold": 0.0}, NUMBER),
    written(ML + "ArrayFeatureExtractor", array_feature_extractor, {}, NUMBER, infer=_extracted),
    written(ML + "Scaler", scaler, {"offset": None, "scale": None}, NUMBER, infer=_as_float),
    written(ML + "LabelEncoder", label_encoder, LABELS | {"default_float": -0.0, "default_int64": -1, "default_string": "_Unused",
                                                          "default_tensor": None}, FLOAT + INTEGER),
    written(ML + "Normalizer", normalizer, {"norm": "MAX"}, NUMBER, infer=_as_float),
    written(ML + "Imputer", imputer, {"imputed_value_floats": None, "imputed_value_int64s": None, "replaced_value_float": 0.0,
                                      "replaced_value_int64": 0}, NUMBER,
            infer=lambda node, types, values: [types[0]]),
    written(ML + "OneHotEncoder", one_hot_encoder, {"cats_int64s": None, "zeros": 1}, NUMBER, infer=_categories),
    written(ML + "FeatureVectorizer", feature_vectorizer, {"inputdimensions": None}, NUMBER, infer=_joined),
    written("TfIdfVectorizer", tf_idf, {"max_gram_length": 1, "max_skip_count": 0, "min_gram_length": 1, "mode": "TF",
                                        "ngram_counts": None, "ngram_indexes": None, "pool_int64s": None, "pool_strings": None,
                                        "weights": None}, ("int32", "int64")),
    written("BitCast", bit_cast, {"to": 0}),
)
