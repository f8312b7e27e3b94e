"""Resize and Upsample: sampling coordinates, the nearest element, interpolation by tables of neighbours and weights.

All of it is known at compile time: formulas of ONNX's Resize page, in float64 as its reference evaluator has them.
"""
from __future__ import annotations

from math import floor
from types import SimpleNamespace

import numpy as np

from ..ir import Shape, TensorType
from ..loops import Const, Let, Load, Set, Store, Var, add, mul
from .base import Array, Op
from .nest import axis_of, index, loops, operands, options, require, strides_of, table, table_load
from .scalar import FLOAT, INTEGER, E, cast, real

SCHEMA = {"antialias": 0, "axes": None, "coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.75,
          "exclude_outside": 0, "extrapolation_value": 0.0, "keep_aspect_ratio_policy": "stretch", "mode": "nearest",
          "nearest_mode": "round_prefer_floor"}
CROP = "tf_crop_and_resize"
COORDINATES = {  # output index i -> input coordinate; n, m: input and output size, s: scale, r: region of interest
    "half_pixel": lambda i, n, m, s, r: (i + 0.5) / s - 0.5,
    "half_pixel_symmetric": lambda i, n, m, s, r: n / 2 * (1 - m / (s * n)) + (i + 0.5) / s - 0.5,
    "pytorch_half_pixel": lambda i, n, m, s, r: (i + 0.5) / s - 0.5 if s * n != 1 else i * 0 - 0.5,
    "align_corners": lambda i, n, m, s, r: i * (n - 1) / (s * n - 1) if s * n != 1 else i * 0.0,
    "asymmetric": lambda i, n, m, s, r: i / s,
    "tf_half_pixel_for_nn": lambda i, n, m, s, r: (i + 0.5) / s,
    CROP: lambda i, n, m, s, r: r[0] * (n - 1) + (i * (r[1] - r[0]) * (n - 1) / (s * n - 1) if s * n != 1 else
                                                 i * 0 + (r[1] - r[0]) * (n - 1) / 2),
}
NEAREST = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def as_resize(a: SimpleNamespace) -> SimpleNamespace:
    """An Upsample's attributes as those of a Resize."""
    fixed = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return SimpleNamespace(**{**SCHEMA, **vars(a), **fixed})


def coordinates(node, a, shape: Shape, roi, scales, sizes) -> list[Array | None]:
    """Per axis the input coordinate of each output index (float64); None for axes that stay as they are."""
    axes = range(len(shape)) if a.axes is None else [axis_of(int(k), len(shape)) for k in a.axes]
    of = [shape[k] for k in axes]
    crop = roi is not None and a.coordinate_transformation_mode == CROP
    regions = roi.reshape(2, -1).T.tolist() if crop else [[0.0, 1.0]] * len(of)
    if scales is not None and scales.size:
        factors = scales.tolist()
        sizes = [floor(n * s) for n, s in zip(of, factors, strict=True)]
    else:
        require(sizes is not None, node, "run-time scales or sizes", "export the model with constant sizes")
        factors = [m / n for n, m in zip(of, sizes.tolist(), strict=True)]
        if a.keep_aspect_ratio_policy != "stretch":
            factors = [(min if a.keep_aspect_ratio_policy == "not_larger" else max)(factors)] * len(of)
            sizes = [floor(n * s + 0.5) for n, s in zip(of, factors, strict=True)]
    found: list[Array | None] = [None] * len(shape)
    for k, n, m, s, r in zip(axes, of, map(int, sizes), factors, regions, strict=True):
        if s != 1 or m != n or r != [0.0, 1.0]:
            found[k] = COORDINATES[a.coordinate_transformation_mode](np.arange(m), n, m, s, r)
    return found


def nearest(a, x: Array, n: int) -> Array:
    """The index of the element nearest to each coordinate; -1 outside of a cropped picture."""
    i = np.clip(NEAREST[a.nearest_mode](x), 0, n - 1).astype(np.int64)
    return np.where((x < 0) | (x > n - 1), -1, i) if a.coordinate_transformation_mode == CROP else i


def taps(node, a, x: Array, n: int) -> tuple[Array, Array]:
    """Indices and float32 weights [output size][taps] of the neighbours of each coordinate."""
    require(a.mode in ("linear", "bilinear", "cubic"), node, f"mode {a.mode}")
    outside = (x < 0) | (x > n - 1) if a.coordinate_transformation_mode == CROP else np.zeros(len(x), bool)
    reach = 2 if a.mode == "cubic" else 1
    step = float(x[1] - x[0]) if len(x) > 1 else n / len(x)
    stretch = 1 / max(step, 1.0) if a.antialias else 1.0  # the filter covers all pixels that become one
    first = int(np.floor(-reach / stretch)) + 1
    i = np.floor(x)[:, None] + np.arange(first, 2 - first)
    d, c = np.abs(x[:, None] - i) * stretch, a.cubic_coeff_a
    near, far = ((c + 2) * d - (c + 3)) * d * d + 1, ((c * d - 5 * c) * d + 8 * c) * d - 4 * c
    w = np.clip(1 - d, 0, 1) if reach == 1 else np.where(d <= 1, near, np.where(d < 2, far, 0))
    if a.antialias:
        w /= w.sum(1, keepdims=True)
    w = np.where(outside[:, None], 0, w)
    if a.exclude_outside:
        w = np.where((i < 0) | (i >= n), 0, w)
        w /= w.sum(1, keepdims=True)
    return np.clip(i, 0, n - 1).astype(np.int64), w.astype(np.float32)


def _plan(node, types, values) -> list[tuple[Array, Array] | None]:
    """The taps of each interpolated axis."""
    if node.op == "Upsample":
        a, given = as_resize(options(node, {"mode": "linear"})), (None, values[1], None)
    else:
        a, given = options(node, SCHEMA), (*values[1:], None, None, None)[:3]
    found = coordinates(node, a, types[0].shape, *given)
    return [None if x is None else taps(node, a, x, n) for x, n in zip(found, types[0].shape, strict=True)]


def _infer(node, types, values):
    t = types[0]
    sizes = (len(p[0]) if p else n for p, n in zip(_plan(node, types, values), t.shape, strict=True))
    return [TensorType(t.dtype, tuple(sizes), t.q)]


def _base(node) -> float:
    """What is interpolated is the difference to this: the value outside of a cropped picture, where all weights are 0."""
    a = options(node, SCHEMA)
    return a.extrapolation_value if node.op == "Resize" and a.coordinate_transformation_mode == CROP else 0.0


def _finish(y, dtype: str):
    """Integers (quantised: interpolation keeps the quantisation) are rounded."""
    return y if dtype == "float32" else cast(real.round(y), dtype)


def _reference(node, inputs, in_types, out_types):
    base = np.float32(_base(node))
    y = inputs[0].astype(np.float32) - base
    for axis, p in enumerate(_plan(node, in_types, inputs)):
        if p:
            y = np.moveaxis((np.moveaxis(y, axis, -1)[..., p[0]] * p[1]).sum(-1), -1, axis)
    return [_finish(y + base, out_types[0].dtype)]


def _lower(ctx, node):
    x, y = ctx.type(node.inputs[0]), ctx.type(node.outputs[0])
    source, out = ctx.buffer(node.inputs[0]), ctx.buffer(node.outputs[0])
    plan = _plan(node, *operands(ctx, node))
    counts = [p[0].shape[1] if p else 1 for p in plan]
    indices = [table(ctx, p[0]) if p else None for p in plan]
    weights = [ctx.rom(p[1], "weights") if p else None for p in plan]
    total, base = E(Var("total", "float32")), _base(node)

    def body(at):
        def add_tap(tap):
            entries = [add(mul(i, n), k) for i, n, k in zip(at, counts, tap, strict=True)]
            of = [table_load(t, e) if t else i for t, e, i in zip(indices, entries, at, strict=True)]
            value = cast(E(Load(source, index(of, strides_of(x.shape)), x.dtype)), "float32")
            value = value - base if base else value
            for w, e in zip(weights, entries, strict=True):
                value = value * E(Load(w, e, "float32")) if w else value
            return [Set("total", (total + value).expr)]

        return [Let("total", "float32", Const(float(np.float32(base)), "float32")), *loops(counts, add_tap, "k"),
                Store(out, index(at, strides_of(y.shape)), _finish(total, y.dtype).expr)]

    return loops(y.shape, body)


INTERPOLATED = Op("Resize", _lower, SCHEMA, _infer, _reference, "move", FLOAT + INTEGER)
