"""Loop nests written as Python: `with c.loop(n) as i: y[i] = x[i] * 2` appends the statements that do so.

An operator of this kind is a function `body(c, a, *operands)`: c is the code under construction, a its attributes with their
defaults, each operand a `Tensor` (None where absent) that is indexed by loop variables, numbers and sums of them; `c.out` are
the outputs. Values are the `E` of scalar.py. Loop variables are `Index`: sums and products of them stay plain, so that the
verifier can prove every index; an index that comes from data passes `c.index`, which keeps it inside an axis.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from ..dtypes import computed
from ..ir import Node, Shape
from ..loops import Bin, Const, Expr, Fn, For, If, Let, Load, Set, Stmt, Store, Var, add, mul
from . import scalar
from .base import Array, Lowering, Op
from .nest import broadcast_strides, options, require, strides_of
from .scalar import ANY, E, lift, share


class Index(E):
    """An int32 whose arithmetic cannot wrap: + - * // % with Index or int."""

    __slots__ = ()

    def __add__(self, other): return Index(add(self.expr, _index(other)))
    def __radd__(self, other): return Index(add(_index(other), self.expr))

    def __sub__(self, other):
        return Index(add(self.expr, -other) if isinstance(other, int) else Bin("-", self.expr, _index(other)))

    def __rsub__(self, other): return Index(Bin("-", _index(other), self.expr))
    def __mul__(self, other): return Index(mul(self.expr, _index(other)))
    def __rmul__(self, other): return Index(mul(self.expr, _index(other)))
    def __floordiv__(self, other): return Index(Bin("//", self.expr, _index(other)))
    def __mod__(self, other): return Index(Bin("%", self.expr, _index(other)))
    def __neg__(self): return 0 - self


ZERO = Index(Const(0))


def _index(x) -> Expr:
    return x.expr if isinstance(x, E) else Const(int(x))


class Tensor:
    """A buffer seen as a tensor. shape; dtype: of its elements in expressions; stored: in memory; value: a constant's."""

    def __init__(self, code: Code, buffer: str, shape: Sequence[int], dtype: str, value: Array | None = None, base: Any = 0):
        self.code, self.buffer, self.shape, self.stored, self.value, self.base = code, buffer, tuple(shape), dtype, value, base
        self.dtype, self.size, self.rank = computed(dtype), prod(shape), len(shape)

    def _at(self, where) -> Expr:
        where = tuple(where) if isinstance(where, (tuple, list)) else (where,)
        if len(where) != self.rank:
            raise ValueError(f"{len(where)} indices for {self.shape}")
        total = _index(self.base)
        for i, stride in zip(where, strides_of(self.shape), strict=True):
            total = add(total, mul(_index(i), stride))
        return total

    def __getitem__(self, where) -> E:
        return E(Load(self.buffer, self._at(where), self.dtype))

    def __setitem__(self, where, value) -> None:
        lets, expr = share(scalar.cast(lift(value, self.dtype), self.dtype), self.code.name("s"))
        self.code.emit(*lets, Store(self.buffer, self._at(where), expr))

    def reshaped(self, *shape: int) -> Tensor:
        """The same memory with other axes."""
        return Tensor(
            self.code, self.buffer, shape, self.stored, None if self.value is None else self.value.reshape(shape), self.base
        )

    @property
    def flat(self) -> Tensor:
        return self.reshaped(self.size)

    def sub(self, *where) -> Tensor:
        """The part at these leading indices."""
        n = len(where)
        base = add(
            _index(self.base), Tensor(self.code, self.buffer, self.shape, self.stored)._at((*where, *[0] * (self.rank - n)))
        )
        return Tensor(self.code, self.buffer, self.shape[n:], self.stored, None, E(base))

    def spread(self, at: Sequence, out: Shape) -> E:
        """The element that stands at index `at` of `out`, to which the tensor broadcasts."""
        total = _index(self.base)
        for i, stride in zip(at, broadcast_strides(self.shape, out), strict=True):
            total = add(total, mul(_index(i), stride))
        return E(Load(self.buffer, total, self.dtype))


class Mutable(E):
    """A local that changes: `v.set(value)`."""

    __slots__ = ("code",)

    def __init__(self, code: Code, expr: Var):
        super().__init__(expr)
        self.code = code

    def set(self, value) -> None:
        lets, expr = share(lift(value, self.dtype), self.code.name("s"))
        self.code.emit(*lets, Set(self.expr.name, expr))


class Code:
    """Statements under construction. out: the node's outputs, None where absent."""

    def __init__(self, ctx: Lowering, node: Node):
        self.ctx, self.node, self.count = ctx, node, 0
        self.blocks: list[list[Stmt]] = [[]]
        self.out = [self.tensor(o) if o else None for o in node.outputs]

    def tensor(self, name: str) -> Tensor:
        t, value = self.ctx.type(name), self.ctx.value(name)
        return Tensor(self, self.ctx.buffer(name), t.shape, self.ctx.stored(name), value)

    def name(self, hint: str) -> str:
        self.count += 1
        return f"{hint}{self.count}_" if hint == "s" else f"{hint}{self.count}"

    def emit(self, *stmts: Stmt) -> None:
        self.blocks[-1].extend(stmts)

    def require(self, ok: bool, what: str) -> None:
        require(ok, self.node, what)

    def scratch(self, dtype: str, *shape: int) -> Tensor:
        """Working memory of this step."""
        return Tensor(self, self.ctx.accumulator(dtype, prod(shape), f"{self.node.outputs[0]}_work"), shape, dtype)

    def rom(self, data: Array) -> Tensor:
        """A constant."""
        return Tensor(self, self.ctx.rom(data, "table"), data.shape, str(data.dtype), data)

    def let(self, value, hint: str = "v") -> E:
        """A local with this value; an Index stays one."""
        value = value if isinstance(value, E) else Index(Const(int(value)))
        lets, expr = share(value, self.name("s"))
        v = Var(self.name(hint), value.dtype)
        self.emit(*lets, Let(v.name, v.dtype, expr))
        return Index(v) if isinstance(value, Index) else E(v)

    def var(self, value, dtype: str = "", hint: str = "m") -> Mutable:
        """A local that changes."""
        value = lift(value, dtype or value.dtype)
        v = Var(self.name(hint), value.dtype)
        lets, expr = share(value, self.name("s"))
        self.emit(*lets, Let(v.name, v.dtype, expr))
        return Mutable(self, v)

    @contextmanager
    def loop(self, n, start=0, step: int = 1) -> Iterator[Index]:
        """for i in range(start, n, step). A loop of one turn is none."""
        if isinstance(n, int) and isinstance(start, int) and (n, start) == (1, 0):
            yield Index(Const(0))
            return
        v = Var(self.name("i"))
        self.blocks.append([])
        yield Index(v)
        body = tuple(self.blocks.pop())
        self.emit(For(v.name, _index(start), _index(n), body, step))

    @contextmanager
    def each(self, shape: Sequence[int]) -> Iterator[tuple[Index, ...]]:
        """One loop for each extent."""
        if not shape:
            yield ()
            return
        with self.loop(shape[0]) as i, self.each(shape[1:]) as rest:
            yield (i, *rest)

    @contextmanager
    def when(self, condition: E) -> Iterator[None]:
        self.blocks.append([])
        yield
        self.emit(If(condition.expr, tuple(self.blocks.pop())))

    @contextmanager
    def otherwise(self) -> Iterator[None]:
        """The other branch of the `when` that stands directly before."""
        before = self.blocks[-1].pop()
        self.blocks.append([])
        yield
        self.emit(If(before.cond, before.then, tuple(self.blocks.pop())))

    def index(self, value: E, n: int, wrap: bool = True) -> Index:
        """A number from data as an index of an axis of n elements: from the end where negative, kept inside."""
        raw = self.let(scalar.cast(value, "int64"))
        raw = scalar.where(raw < 0, raw + n, raw) if wrap else raw
        inside = scalar.minimum(scalar.maximum(raw, 0), n - 1)
        return Index(self.let(scalar.cast(inside, "int32")).expr)

    def sum(self, n, term: Callable[[Index], E], start, dtype: str) -> E:
        """start + term(0) + ... in this order."""
        acc = self.var(start, dtype)
        with self.loop(n) as i:
            acc.set(acc + term(i))
        return acc

    def fill(self, t: Tensor, value) -> None:
        with self.loop(t.size) as i:
            t.flat[i] = value

    def done(self) -> list[Stmt]:
        return self.blocks[0]


def index_of(e: E) -> Index:
    """An int32 expression that is known not to wrap, as an index."""
    return Index(e.expr)


def select(condition: E, a, b) -> Index:
    """a where the condition holds, else b: indices."""
    return Index(Fn("select", (condition.expr, _index(a), _index(b)), "int32"))


def clamp(i: Index, low: int, high: int) -> Index:
    return Index(Bin("min", Bin("max", _index(i), Const(low)), Const(high)))


def both(*conditions: E) -> E:
    """Whether all hold."""
    total = conditions[0]
    for c in conditions[1:]:
        total = total & c
    return total


def inside(i: Index, n: int) -> E:
    return E(Bin("and", Bin("<=", Const(0), _index(i)), Bin("<", _index(i), Const(n))))


def written(name: str, body: Callable[..., None], schema: Mapping[str, Any] | None = None, dtypes=ANY, static=(), infer=None,
            quant: str = "") -> Op:
    """The record of an operator whose nest is `body(c, attributes, *operands)`."""
    schema = dict(schema or {})

    def lower(ctx: Lowering, node: Node) -> list[Stmt]:
        for k in static:
            known = k >= len(node.inputs) or not node.inputs[k] or ctx.value(node.inputs[k]) is not None
            require(known, node, f"run-time {node.inputs[k] if k < len(node.inputs) else k}", "give it with --const")
        for i in (*node.inputs, *node.outputs):
            require(not i or ctx.type(i).dtype in ANY, node, f"element type {i and ctx.type(i).dtype}")
        c = Code(ctx, node)
        body(c, options(node, schema), *[c.tensor(i) if i else None for i in node.inputs])
        return c.done()

    return Op(name, lower, schema, infer, None, quant, dtypes, static=tuple(static))


def ints(t: Tensor | None) -> list[int]:
    """The value of a constant tensor of integers; [] where absent."""
    return [] if t is None else [int(v) for v in np.asarray(t.value).reshape(-1)]
