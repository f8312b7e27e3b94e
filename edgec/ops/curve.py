"""Functions of one int16 tensor, integers only: points at equal distances and straight lines between them.

y = clamp((p[i] * (2^b - r) + p[i + 1] * r + half) >> (b + up)), where u = clamp(x, -reach, reach - 1) + reach, i = u >> b
and r the lower b bits of u; the points are the function's values as integers of the output, times 2^up. There are as few
points, over as wide a reach, as keep every one of the 65,536 results within one step of the exact one, and for an int8
output nearly all equal.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from ..fixed import quantise
from ..ir import Node, QParams
from ..loops import Bin, Const, For, Let, Load, Stmt, Store, Var, cast
from .base import Lowering, Op

SEGMENTS = (64, 128, 256, 512, 1024, 2048, 4096)
REACHES = tuple(2**k for k in range(15, 9, -1))      # beyond a smaller one the function has to be flat
UP = {"int16": 0, "int8": 7}      # of an int8 output, so that points are finer than its steps
UNEQUAL = {"int16": 1.0, "int8": 0.01}      # share of the results that may be one step off
ALL = np.arange(-2**15, 2**15)
MOST = 2**20      # of a point: beyond what the output holds, so that a line may end there


def points(x: QParams, y: QParams, dtype: str,
           function: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, int] | None:
    """(int16 or, where the output saturates, int32 [segments + 1], reach); None where no number of points is enough.
    function: of float32 reals."""
    real = ((np.arange(-2**15, 2**15 + 1) - int(x.zero_point)) * np.float32(x.scale)).astype(np.float32)
    with np.errstate(all="ignore"):
        exact = np.nan_to_num(np.asarray(function(real), np.float32))
    return _points(exact.tobytes(), float(y.scale), int(y.zero_point), dtype)


@lru_cache(maxsize=64)
def _points(function: bytes, scale: float, zero: int, dtype: str) -> tuple[np.ndarray, int] | None:
    """function: its values at -2^15 to 2^15."""
    exact = np.frombuffer(function, np.float32)
    want = quantise(exact[:-1], QParams.of(scale, zero), dtype).astype(np.int64)
    whole = (exact.astype(np.float64) / scale + zero) * 2 ** UP[dtype]
    steps = np.clip(np.rint(whole), -MOST, MOST).astype(np.int32)
    for n in SEGMENTS:
        for reach in REACHES:
            found = steps[2**15 - reach:2**15 + reach + 1:max(2 * reach // n, 1)]
            off = np.abs(values(found, reach, ALL, dtype) - want) if 2 * reach > n else np.array([2])
            if off.max() <= 1 and np.mean(off) <= UNEQUAL[dtype]:
                return found.astype(np.int16 if np.abs(found).max() < 2**15 else np.int32), reach
    return None


def values(p: np.ndarray, reach: int, x: np.ndarray, dtype: str) -> np.ndarray:
    """The formula, int64."""
    b, up = _bits(p, reach), UP[dtype]
    u, p = np.clip(x.astype(np.int64), -reach, reach - 1) + reach, p.astype(np.int64)
    i, r = u >> b, u & (2**b - 1)
    total = p[i] * (2**b - r) + p[i + 1] * r + _half(b + up)
    info = np.iinfo(dtype)
    return np.clip(total >> (b + up), info.min, info.max)


def _bits(p: np.ndarray, reach: int) -> int:
    return (2 * reach // (len(p) - 1)).bit_length() - 1


def _half(shift: int) -> int:
    return 1 << (shift - 1)


def reference(node, inputs, in_types, out_types):
    y = out_types[0]
    return [values(inputs[1], node.attrs["reach"], inputs[0], y.dtype).astype(y.dtype)]


def lower(ctx: Lowering, node: Node) -> list[Stmt]:
    y_t, reach = ctx.type(node.outputs[0]), node.attrs["reach"]
    x, y, p = (ctx.buffer(t) for t in (node.inputs[0], node.outputs[0], node.inputs[1]))
    b, up, info = _bits(ctx.value(node.inputs[1]), reach), UP[y_t.dtype], np.iinfo(y_t.dtype)
    if y_t.dtype == "int16":
        ctx.inplace(node.outputs[0], node.inputs[0])
    i, u, r = Var("i"), Var("u"), Var("r")
    at = Bin(">>", u, Const(b))
    kind = str(ctx.value(node.inputs[1]).dtype)
    near, far = (cast(Load(p, k, kind), "int32") for k in (at, Bin("+", at, Const(1))))
    total = Bin("+", Bin("+", Bin("*", near, Bin("-", Const(2**b), r)), Bin("*", far, r)), Const(_half(b + up)))
    clamped = Bin("min", Bin("max", Bin(">>", total, Const(b + up)), Const(int(info.min))), Const(int(info.max)))
    near_zero = Bin("min", Bin("max", cast(Load(x, i, "int16"), "int32"), Const(-reach)), Const(reach - 1))
    return [For("i", Const(0), Const(y_t.size), (
        Let("u", "int32", Bin("+", near_zero, Const(reach))),
        Let("r", "int32", Bin("&", u, Const(2**b - 1))),
        Store(y, i, cast(clamped, y_t.dtype))))]


OPS = (Op("edgec.Curve", lower, {"function": "", "reach": 2**15}, None, reference, "", ("int16",)),)
