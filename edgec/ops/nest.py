"""Loop nests that the generic operators share: index arithmetic, nests over extents, strided copies."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ..errors import UnsupportedError
from ..ir import Node, TensorType
from ..loops import Bin, Const, Expr, Fn, For, Let, Load, Stmt, Store, Var, add, cast, mul
from .base import Array, Lowering
from .scalar import ANY, E, share


def options(node: Node, schema: Mapping[str, Any]) -> SimpleNamespace:
    """The node's attributes with the schema's defaults, by name; `op` is the operator."""
    return SimpleNamespace(**{**schema, **node.attrs, "op": node.op})


def require(condition: bool, node: Node, what: str, fix: str = "") -> None:
    """Raises UnsupportedError unless the condition holds."""
    if not condition:
        raise UnsupportedError(f"{node.op}: {what}", where=", ".join(node.origin) or node.outputs[0], fix=fix)


def operands(ctx: Lowering, node: Node) -> tuple[list[TensorType | None], list[Array | None]]:
    """The inputs' types, and the values of those that are constants; None for absent inputs.

    Raises UnsupportedError for an element type that loop nests do not have."""
    types = [ctx.type(i) if i else None for i in node.inputs]
    for t in types:
        require(t is None or t.dtype in ANY, node, f"element type {t and t.dtype}")
    return types, [ctx.value(i) if i else None for i in node.inputs]


# --- index arithmetic --------------------------------------------------------------------------


def strides_of(shape: Sequence[int]) -> list[int]:
    """Elements between neighbours along each axis of a dense tensor."""
    return [prod(shape[k + 1:]) for k in range(len(shape))]


def broadcast_strides(shape: Sequence[int], out: Sequence[int]) -> list[int]:
    """Strides of a tensor read at the indices of a shape that it broadcasts to: 0 along repeated axes."""
    own = [0 if n == 1 else s for n, s in zip(shape, strides_of(shape), strict=True)]
    return [0] * (len(out) - len(shape)) + own


def collapse(extents: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """The same walk with unit axes dropped, and neighbouring axes merged where every operand steps evenly across."""
    axes: list[tuple[int, ...]] = []
    for n, *steps in zip(extents, *strides, strict=True):
        if n == 1:
            continue
        if axes and all(outer == inner * n for outer, inner in zip(axes[-1][1:], steps, strict=True)):
            n *= axes.pop()[0]
        axes.append((n, *steps))
    return [a[0] for a in axes], [[a[k + 1] for a in axes] for k in range(len(strides))]


def index(at: Sequence[Expr], strides: Sequence[int], base: int = 0) -> Expr:
    """base + sum of at[k] * strides[k]."""
    total: Expr = Const(base)
    for v, s in zip(at, strides, strict=True):
        total = add(total, mul(v, s))
    return total


def loops(extents: Sequence[int], body: Callable[[list[Expr]], Sequence[Stmt]], name: str = "i") -> list[Stmt]:
    """body(indices) inside one loop per extent; an extent of 1 needs none."""
    at: list[Expr] = [Var(f"{name}{k}") if n > 1 else Const(0) for k, n in enumerate(extents)]
    stmts = tuple(body(at))
    for v, n in zip(reversed(at), reversed(extents), strict=True):
        if isinstance(v, Var):
            stmts = (For(v.name, Const(0), Const(n), stmts),)
    return list(stmts)


# --- moving elements ---------------------------------------------------------------------------


def store(buffer: str, at: Expr, value: E) -> list[Stmt]:
    """buffer[at] = value, with common subexpressions in locals."""
    lets, shared = share(value)
    return [*lets, Store(buffer, at, shared)]


def fill(buffer: str, count: int, value: E) -> list[Stmt]:
    """buffer[0..count-1] = value."""
    return loops([count], lambda at: store(buffer, at[0], value))


class Table(NamedTuple):
    """A rom buffer of indices 0..top in the smallest type that holds them."""

    buffer: str
    dtype: str
    top: int


def table(ctx: Lowering, values: Array) -> Table:
    """Puts non-negative indices into rom."""
    top = int(values.max())
    dtype = str(np.min_scalar_type(top))
    return Table(ctx.rom(values.astype(dtype), "index"), dtype, top)


def table_load(t: Table, at: Expr) -> Expr:
    """An index from a table; the bound is said again where the type's range does not imply it."""
    i = cast(Load(t.buffer, at, t.dtype), "int32")
    return i if t.top == np.iinfo(t.dtype).max else Bin("min", i, Const(t.top))


def copy(dst: str, src: str, dtype: str, extents: Sequence[int], to: Sequence[int], of: Sequence[int], to_base: int = 0,
         of_base: int = 0, tables: Sequence[tuple[int, Table, int]] = ()) -> list[Stmt]:
    """dst[to_base + i.to] = src[of_base + i.of] for all indices i below the extents. A table (axis, table, stride)
    adds table[i[axis]] * stride to the source index, for axes that no stride describes."""
    unit = [[int(k == axis) for k in range(len(extents))] for axis, *_ in tables]
    extents, (to, of, *unit) = collapse(extents, to, of, *unit)

    def body(at):
        source = index(at, of, of_base)
        for (_, t, stride), steps in zip(tables, unit, strict=True):
            source = add(source, mul(table_load(t, index(at, steps)), stride))
        return [Store(dst, index(at, to, to_base), Load(src, source, dtype))]

    return loops(extents, body)


def wrapped(load: Load, n: int, name: str) -> list[Stmt]:
    """Declares `name`: the loaded index, from the end where negative, kept within 0..n-1 whatever the data are."""
    raw = Var(name + "_raw")
    from_end = Fn("select", (Bin("<", raw, Const(0)), add(raw, n), raw), "int32")
    return [Let(raw.name, "int32", cast(load, "int32")),
            Let(name, "int32", Bin("min", Bin("max", from_end, Const(0)), Const(n - 1)))]


def wrap_index(i: Array, n: int) -> Array:
    """What `wrapped` computes."""
    return np.clip(np.where(i < 0, i + n, i), 0, n - 1).astype(np.int64)


def axis_of(axis: int, rank: int) -> int:
    """The axis counted from the front."""
    return axis + rank if axis < 0 else axis

