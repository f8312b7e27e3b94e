"""One spelling of scalar arithmetic with two readings: loop-IR expressions and numpy arrays.

A formula is a Python function over the operators below. On `E` values it builds the expression that the C code
computes; on arrays it computes the operator's reference (float32) or the reals behind an int8 table (float64).
"""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from operator import mul
from types import SimpleNamespace

import numpy as np

from .. import loops
from ..loops import Bin, Const, Expr, Fn, Let, Stmt, Var, dtype_of

FLOAT = ("float32", "float64")
INTEGER = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
NUMBER = FLOAT + INTEGER
ANY = NUMBER + ("bool",)


class E:
    """A loop-IR expression with numpy's operators. Integer + - * << wrap as numpy's do: they are taken on unsigned
    numbers, where C defines the wrap, and converted back."""

    __slots__ = ("expr", "dtype")
    __hash__ = None
    __array_ufunc__ = None  # numpy scalars on the left side must not swallow an E

    def __init__(self, expr: Expr):
        self.expr, self.dtype = expr, dtype_of(expr)

    def __add__(self, other): return _wrapping("+", self, other)
    def __radd__(self, other): return _wrapping("+", lift(other, self.dtype), self)
    def __sub__(self, other): return _wrapping("-", self, other)
    def __rsub__(self, other): return _wrapping("-", lift(other, self.dtype), self)
    def __mul__(self, other): return _wrapping("*", self, other)
    def __rmul__(self, other): return _wrapping("*", lift(other, self.dtype), self)
    def __lshift__(self, other): return _wrapping("<<", self, other)
    def __truediv__(self, other): return _plain("/", self, other)
    def __rtruediv__(self, other): return _plain("/", lift(other, self.dtype), self)
    def __floordiv__(self, other): return _plain("//", self, other)
    def __mod__(self, other): return _plain("%", self, other)
    def __rshift__(self, other): return _plain(">>", self, other)
    def __lt__(self, other): return _plain("<", self, other)
    def __le__(self, other): return _plain("<=", self, other)
    def __gt__(self, other): return _plain("<", lift(other, self.dtype), self)
    def __ge__(self, other): return _plain("<=", lift(other, self.dtype), self)
    def __eq__(self, other): return _plain("==", self, other)
    def __ne__(self, other): return _plain("!=", self, other)
    def __and__(self, other): return _plain("and" if self.dtype == "bool" else "&", self, other)
    def __or__(self, other): return _plain("or" if self.dtype == "bool" else "|", self, other)
    def __xor__(self, other): return _plain("!=" if self.dtype == "bool" else "^", self, other)
    def __neg__(self): return E(Fn("neg", (self.expr,), self.dtype)) if is_real(self) else 0 - self

    def __invert__(self):
        if self.dtype == "bool":
            return E(Fn("not", (self.expr,), "bool"))
        return self ^ cast(lift(-1, "int64"), self.dtype)


def lift(x, dtype: str) -> E:
    """x as an E: numbers become constants of the dtype, rounded to float32 where that is the dtype."""
    if isinstance(x, E):
        return x
    kind = np.dtype(dtype).kind
    return E(Const(bool(x) if kind == "b" else int(x) if kind in "iu" else float(np.dtype(dtype).type(x)), dtype))


def is_real(x) -> bool:
    return np.dtype(x.dtype).kind == "f"


def is_unsigned(x) -> bool:
    return np.dtype(x.dtype).kind == "u"


def bits(x) -> int:
    return np.dtype(x.dtype).itemsize * 8


def constant(x):
    """The value of a constant E; None otherwise."""
    return x.expr.value if isinstance(x, E) and isinstance(x.expr, Const) else None


FOLDED = {"+": np.add, "-": np.subtract, "*": np.multiply, "<": np.less, "<=": np.less_equal, "==": np.equal,
          "!=": np.not_equal, "min": np.minimum, "max": np.maximum}


def _plain(op: str, a: E, b) -> E:
    b = lift(b, a.dtype)
    if op in FOLDED and constant(a) is not None and constant(b) is not None:
        with np.errstate(all="ignore"):
            value = FOLDED[op](np.asarray(constant(a), a.dtype), np.asarray(constant(b), b.dtype))
        return lift(value.item(), str(value.dtype))
    return E(Bin(op, a.expr, b.expr))


def _wrapping(op: str, a: E, b) -> E:
    if is_real(a):
        return _plain(op, a, b)
    word = "uint64" if bits(a) == 64 else "uint32"
    return cast(_plain(op, cast(a, word), cast(lift(b, a.dtype), word)), a.dtype)


def cast(x, dtype):
    """Float to integer truncates and saturates (NaN gives 0), integer to integer wraps, to bool is x != 0."""
    dtype = str(np.dtype(dtype))
    if str(x.dtype) == dtype:
        return x
    if dtype == "bool":
        return x != 0
    if not isinstance(x, E):
        return _saturate(x, dtype) if is_real(x) and np.dtype(dtype).kind in "iu" else x.astype(dtype)
    if constant(x) is not None:
        return lift(cast(np.asarray(constant(x), x.dtype), dtype).item(), dtype)
    inner = E(x.expr.args[0]) if isinstance(x.expr, Fn) and x.expr.name == "cast" else x
    if inner.dtype == dtype and not is_real(inner) and not is_real(x) and bits(x) >= bits(inner):
        return inner  # there and back between integers, through a type that loses nothing
    return E(loops.cast(x.expr, dtype))


def _saturate(x, dtype: str):
    info = np.iinfo(dtype)
    whole = np.trunc(np.where(np.isnan(x), 0, x)).astype(np.float64)
    low, high = whole <= info.min, whole >= float(info.max)
    return np.where(high, info.max, np.where(low, info.min, np.where(low | high, 0, whole).astype(dtype))).astype(dtype)


def where(condition, a, b):
    """a where the condition holds, else b; in C only the chosen one is evaluated."""
    if not isinstance(condition, E):
        return np.where(condition, a, b)
    dtype = a.dtype if isinstance(a, E) else b.dtype
    if constant(condition) is not None:
        return lift(a if constant(condition) else b, dtype)
    return E(Fn("select", (condition.expr, lift(a, dtype).expr, lift(b, dtype).expr), dtype))


def _extreme(op: str, on_bool: str, on_arrays: Callable) -> Callable:
    def apply(a, b):
        if not isinstance(a, E):
            return on_arrays(a, b)
        return _plain(on_bool if a.dtype == "bool" else op, a, b)

    return apply


minimum = _extreme("min", "and", np.minimum)
maximum = _extreme("max", "or", np.maximum)


IN_DOUBLE = frozenset("abs floor ceil round trunc fmod sqrt isnan isinf".split())


def _real(name: str, on_arrays: Callable, dtype: str = "") -> Callable:
    def apply(*x):
        if not isinstance(x[0], E):
            return on_arrays(*x)
        if x[0].dtype == "float64" and name not in IN_DOUBLE:  # with the precision of float32
            return cast(apply(*(cast(v, "float32") for v in x)), "float64")
        return E(Fn(name, tuple(v.expr for v in x), dtype or x[0].dtype))

    return apply


def _erf(x):
    return np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype)


# The real functions of ec_math.h, by their names in the loop IR.
_SAME_NAME = "exp log sqrt tanh sin cos tan sinh cosh floor ceil trunc fmod abs".split()
_NUMPY = {name: getattr(np, name) for name in _SAME_NAME} | {
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "pow": np.power, "round": np.rint, "erf": _erf}
real = SimpleNamespace(**{name: _real(name, f) for name, f in _NUMPY.items()},
                       isnan=_real("isnan", np.isnan, "bool"), isinf=_real("isinf", np.isinf, "bool"))


def absolute(x):
    """|x|; the most negative integer stays, as in numpy."""
    return real.abs(x) if is_real(x) else x if is_unsigned(x) else where(x < 0, -x, x)


def _magnitude(x):
    return cast(absolute(x), "u" + str(x.dtype).removeprefix("u"))


def _divisor(x):
    """|x|, but 1 for 0: an integer division by zero has no meaning in ONNX, and must not trap."""
    return maximum(_magnitude(x), 1)


def div(a, b):
    """a / b; for integers truncated toward zero."""
    if is_real(a):
        return a / b
    q = cast(_magnitude(a) // _divisor(b), a.dtype)
    return q if is_unsigned(a) else where((a < 0) != (b < 0), -q, q)


def mod(a, b, fmod: bool):
    """The remainder with the sign of a (fmod) or of b."""
    r = real.fmod(a, b) if is_real(a) else cast(_magnitude(a) % _divisor(b), a.dtype)
    if is_unsigned(a):
        return r
    if not is_real(a):
        r = where(a < 0, -r, r)
    return r if fmod else where((r != 0) & ((r < 0) != (b < 0)), r + b, r)


def power(a, b):
    """a ** b in a's dtype. Constant small exponents become products; integer ones go by squaring."""
    if not isinstance(a, E):
        return cast(np.power(a, b), a.dtype)
    e = constant(b)
    if is_real(a):
        short = {0.5: lambda: real.sqrt(a), 1: lambda: a, 2: lambda: a * a, 3: lambda: a * a * a, -1: lambda: 1 / a}
        return short[e]() if e in short else real.pow(a, cast(b, a.dtype))
    if is_real(b):
        return cast(real.pow(cast(a, b.dtype), b), a.dtype)
    factors, square = [lift(1, a.dtype)], a
    e = int(e) if e is not None else cast(b, "uint64")
    steps = e.bit_length() if isinstance(e, int) else 7  # 2**64 is 0 in every integer type already
    e = minimum(e, 126 + (e & 1)) if isinstance(e, E) else e
    for _ in range(steps):
        bit = e & 1
        factors += [where(bit != 0, square, 1)] if isinstance(e, E) else [square] * bit
        e, square = e >> 1, square * square
    return reduce(mul, factors[1:] or factors)


def _operands(e: Expr) -> tuple[Expr, ...]:
    return (e.a, e.b) if isinstance(e, Bin) else e.args if isinstance(e, Fn) else ()


def _with_operands(e: Expr, operands: list[Expr]) -> Expr:
    if isinstance(e, Bin):
        return Bin(e.op, *operands)
    return Fn(e.name, tuple(operands), e.dtype) if isinstance(e, Fn) else e


def share(value: E, prefix: str = "t") -> tuple[list[Stmt], Expr]:
    """Locals for the subexpressions that occur more than once, and the value in terms of them."""
    uses: dict[Expr, int] = {}
    names: dict[Expr, Var] = {}
    lets: list[Stmt] = []

    def count(e: Expr) -> None:
        uses[e] = uses.get(e, 0) + 1
        if uses[e] == 1:
            for c in _operands(e):
                count(c)

    def emit(e: Expr) -> Expr:
        if isinstance(e, (Const, Var)) or e in names:
            return names.get(e, e)
        new = _with_operands(e, [emit(c) for c in _operands(e)])
        if uses[e] == 1:
            return new
        names[e] = Var(f"{prefix}{len(lets)}", dtype_of(e))
        lets.append(Let(names[e].name, names[e].dtype, new))
        return names[e]

    count(value.expr)
    return lets, emit(value.expr)
