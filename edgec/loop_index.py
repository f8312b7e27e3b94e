"""What is known of index expressions: intervals, linear forms, and bounds under loops and conditions.

Three questions are answered here, for the verifier and the loop passes: in which interval does an expression lie
(`measure`), what is it as a sum of multiples (`linear`), and how large can that sum get (`upper`, which knows loop
bounds that depend on outer loops and conditions around the statement)? All are sound: the true value never leaves
what they say, provided that signed arithmetic does not overflow.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from .loops import COMPARISONS, Bin, Const, Expr, Fn, For, Let, Load, Var, dtype_of

Interval = tuple[int, int]
Terms = dict[Expr, int]  # expression -> multiple; never 0

INT_RANGE: dict[str, Interval] = {
    **{f"int{b}": (-(1 << b - 1), (1 << b - 1) - 1) for b in (8, 16, 32, 64)},
    **{f"uint{b}": (0, (1 << b) - 1) for b in (8, 16, 32, 64)},
    "bool": (0, 1),
}
DTYPES = frozenset(INT_RANGE) | {"float32", "float64"}  # of expressions
FUEL = 200  # rewrites that one proof may try


class Measure(NamedTuple):
    """dtype; interval (None for floats); `safe`: no int32 arithmetic inside can overflow."""

    dtype: str
    interval: Interval | None
    safe: bool = True


@dataclass(frozen=True)
class Variable:
    """A variable in scope. `lo`/`hi`: inclusive symbolic bounds of a loop variable, or both the value of a `Let`."""

    dtype: str
    interval: Interval | None
    lo: Expr | None = None
    hi: Expr | None = None
    depth: int = 0
    mutable: bool = False
    safe: bool = True
    loop: bool = False


@dataclass(frozen=True)
class Scope:
    """Variables in scope and what conditions say: each fact is (terms, bound) for sum(terms) <= bound.

    `volatile`: buffers that the step writes, whose elements may change under a condition. `contents`: intervals of the
    elements of constant integer buffers."""

    vars: Mapping[str, Variable] = field(default_factory=dict)
    facts: tuple[tuple[Terms, int], ...] = ()
    volatile: frozenset[str] = frozenset()
    contents: Mapping[str, Interval] = field(default_factory=dict)

    def bind(self, name: str, v: Variable) -> Scope:
        return replace(self, vars={**self.vars, name: replace(v, depth=len(self.vars))})

    def enter(self, loop: For) -> Scope | None:
        """The scope of a loop's body; None where the body never runs."""
        lo, hi = measure(loop.lo, self), measure(loop.hi, self)
        if lo.interval is None or hi.interval is None:
            return self.bind(loop.var, Variable("int32", INT_RANGE["int32"], loop=True))
        first, last = lo.interval[0], hi.interval[1] - 1
        if first == lo.interval[1]:
            last = first + (last - first) // loop.step * loop.step
        if last < first:
            return None
        fixed = isinstance(loop.lo, Const) and isinstance(loop.hi, Const)
        symbolic = not fixed and self.stable(loop.lo) and self.stable(loop.hi)
        bounds = (loop.lo, Bin("-", loop.hi, Const(1))) if symbolic else (None, None)
        return self.bind(loop.var, Variable("int32", (first, last), *bounds, safe=lo.safe and hi.safe, loop=True))

    def let(self, s: Let, m: Measure, mutable: bool) -> Scope:
        """The scope after a Let whose value measures m."""
        if mutable:
            return self.bind(s.var, Variable(s.dtype, INT_RANGE.get(s.dtype), mutable=True))
        exact = s.value if s.dtype == "int32" and m.safe and self.stable(s.value) else None
        return self.bind(s.var, Variable(s.dtype, m.interval, exact, exact, safe=m.safe))

    def assume(self, cond: Expr, truth: bool = True) -> Scope:
        """The scope where a condition is known to hold (or not to hold)."""
        match cond:
            case Fn("not", (a,)):
                return self.assume(a, not truth)
            case Bin("and", a, b) if truth:
                return self.assume(a).assume(b)
            case Bin("or", a, b) if not truth:
                return self.assume(a, False).assume(b, False)
            case Bin("<" | "<=" | "==" as op, a, b) if (dtype := dtype_of(a)) in INT_RANGE:
                if op == "==":
                    return self._at_most(a, b, 0, dtype)._at_most(b, a, 0, dtype) if truth else self
                slack = -1 if op == "<" else 0
                return self._at_most(a, b, slack, dtype) if truth else self._at_most(b, a, -1 - slack, dtype)
        return self

    def _at_most(self, a: Expr, b: Expr, slack: int, dtype: str) -> Scope:
        """a - b <= slack."""
        if not (self.stable(a) and self.stable(b)):
            return self
        (ta, ca), (tb, cb) = linear(a, dtype), linear(b, dtype)
        terms, bound = combine(ta, tb, -1), slack - ca + cb
        if len(terms) == 1:
            (atom, c), = terms.items()
            if isinstance(atom, Var) and atom.name in self.vars:
                v = self.vars[atom.name]
                lo, hi = v.interval
                hi, lo = (min(hi, bound // c), lo) if c > 0 else (hi, max(lo, -(bound // -c)))
                return replace(self, vars={**self.vars, atom.name: replace(v, interval=(lo, max(lo, hi)))})
        return replace(self, facts=(*self.facts, (terms, bound))) if terms else self

    def stable(self, e: Expr) -> bool:
        """True where e keeps its value while the scope lasts."""
        match e:
            case Var(name):
                return name in self.vars and not self.vars[name].mutable
            case Bin():
                return self.stable(e.a) and self.stable(e.b)
            case Fn():
                return all(map(self.stable, e.args))
            case Load():
                return e.buffer not in self.volatile and self.stable(e.index)
        return True


EMPTY = Scope()

# --- intervals -----------------------------------------------------------------------------------

Visit = Callable[[Expr, list[Measure], Scope], None]


def measure(e: Expr, scope: Scope = EMPTY, visit: Visit | None = None) -> Measure:
    """dtype and interval of an expression. `visit` sees every node after its operands, with their measures.

    Operands of and, or and select are measured knowing what their condition says."""
    match e:
        case Const():
            args = []
            m = Measure(e.dtype, (int(e.value),) * 2 if e.dtype in INT_RANGE else None)
        case Var():
            args = []
            v = scope.vars.get(e.name)
            known = v is not None and v.dtype == e.dtype
            m = Measure(e.dtype, v.interval, v.safe) if known else Measure(e.dtype, INT_RANGE.get(e.dtype))
        case Bin():
            a = measure(e.a, scope, visit)
            guard = scope.assume(e.a, e.op == "and") if e.op in ("and", "or") else scope
            args = [a, measure(e.b, guard, visit)]
            m = _binary(e, *args)
        case Fn("select", (cond, a, b)):
            args = [measure(cond, scope, visit), measure(a, scope.assume(cond), visit),
                    measure(b, scope.assume(cond, False), visit)]
            m = _union(args[1], args[2])
        case Fn():
            args = [measure(a, scope, visit) for a in e.args]
            m = _function(e, args)
        case Load():
            args = [measure(e.index, scope, visit)]
            m = Measure(e.dtype, scope.contents.get(e.buffer) or INT_RANGE.get(e.dtype))
        case _:
            raise TypeError(f"not an expression: {type(e).__name__}")
    if scope.facts and args and m.dtype in INT_RANGE and m.dtype != "bool":
        m = m._replace(interval=_under_facts(e, m, scope))
    if visit:
        visit(e, args, scope)
    return m


def _union(a: Measure, b: Measure) -> Measure:
    if a.interval is None or b.interval is None:
        return Measure(a.dtype, INT_RANGE.get(a.dtype), a.safe and b.safe)
    return Measure(a.dtype, (min(a.interval[0], b.interval[0]), max(a.interval[1], b.interval[1])), a.safe and b.safe)


def _binary(e: Bin, a: Measure, b: Measure) -> Measure:
    safe = a.safe and b.safe
    if e.op in COMPARISONS:
        return Measure("bool", _compare(e.op, a.interval, b.interval), safe)
    if a.interval is None or b.interval is None:
        return Measure(a.dtype, INT_RANGE.get(a.dtype), safe)
    full = INT_RANGE[a.dtype]
    raw = _arithmetic(e.op, a.interval, b.interval) or full
    if full[0] <= raw[0] and raw[1] <= full[1]:
        return Measure(a.dtype, raw, safe)
    if a.dtype.startswith("u"):  # wraps
        return Measure(a.dtype, full, safe)
    lo, hi = max(raw[0], full[0]), min(raw[1], full[1])
    return Measure(a.dtype, (lo, hi) if lo <= hi else full, False)


def _arithmetic(op: str, a: Interval, b: Interval) -> Interval | None:
    """The exact interval of a op b; None where nothing better than the dtype's range is known."""
    (al, ah), (bl, bh) = a, b
    match op:
        case "+":
            return al + bl, ah + bh
        case "-":
            return al - bh, ah - bl
        case "*":
            corners = (al * bl, al * bh, ah * bl, ah * bh)
            return min(corners), max(corners)
        case "min":
            return min(al, bl), min(ah, bh)
        case "max":
            return max(al, bl), max(ah, bh)
        case "//" if bl > 0:
            corners = (al // bl, al // bh, ah // bl, ah // bh)
            return min(corners), max(corners)
        case "%" if bl > 0 and al >= 0:
            if bl == bh and al // bl == ah // bl:
                return al % bl, ah % bl
            return 0, min(ah, bh - 1)
        case ">>" if 0 <= bl and bh < 64:
            corners = (al >> bl, al >> bh, ah >> bl, ah >> bh)
            return min(corners), max(corners)
        case "<<" if 0 <= bl and bh < 64:
            corners = (al << bl, al << bh, ah << bl, ah << bh)
            return min(corners), max(corners)
        case "&" if al >= 0 or bl >= 0:
            return 0, min(h for low, h in (a, b) if low >= 0)
        case "|" | "^" if al >= 0 and bl >= 0:
            return 0, (1 << max(ah, bh).bit_length()) - 1
    return None


def _compare(op: str, a: Interval | None, b: Interval | None) -> Interval:
    """(1, 1): always true, (0, 0): never, (0, 1): not known."""
    if a is None or b is None:
        return 0, 1
    (al, ah), (bl, bh) = a, b
    apart = ah < bl or bh < al
    same = al == ah == bl == bh
    yes, no = {
        "<": (ah < bl, al >= bh), "<=": (ah <= bl, al > bh), "==": (same, apart), "!=": (apart, same),
        "and": (al == bl == 1, 0 in (ah, bh)), "or": (1 in (al, bl), ah == bh == 0),
    }[op]
    return (1, 1) if yes else (0, 0) if no else (0, 1)


def _function(e: Fn, args: list[Measure]) -> Measure:
    safe = all(a.safe for a in args)
    full = INT_RANGE.get(e.dtype)
    x = args[0].interval if args else None
    if full is None or x is None:
        return Measure(e.dtype, full, safe)
    lo, hi = x
    match e.name:
        case "cast" if e.dtype == "bool":
            return Measure(e.dtype, (int(lo > 0 or hi < 0), int((lo, hi) != (0, 0))), safe)
        case "cast":
            if not safe and full[1] < 2**31 - 1:    # an element of a tensor, as if it were stored and loaded
                return Measure(e.dtype, full)
            return Measure(e.dtype, x if full[0] <= lo and hi <= full[1] else full, safe)
        case "not":
            return Measure(e.dtype, (1 - hi, 1 - lo), safe)
        case "neg":
            raw = (-hi, -lo)
        case "abs":
            raw = (max(0, lo, -hi), max(-lo, hi))
        case _:
            return Measure(e.dtype, full, safe)
    inside = full[0] <= raw[0] and raw[1] <= full[1]
    if inside:
        return Measure(e.dtype, raw, safe)
    unsigned = e.dtype.startswith("u")
    return Measure(e.dtype, full if unsigned else (max(raw[0], full[0]), min(raw[1], full[1])), safe and unsigned)


def _under_facts(e: Expr, m: Measure, scope: Scope) -> Interval:
    """The interval of e where a fact about just this sum is known."""
    terms, const = linear(e, m.dtype)
    lo, hi = m.interval
    for fact, bound in scope.facts:
        if fact == terms:
            hi = min(hi, bound + const)
        elif len(fact) == len(terms) and all(fact.get(a) == -c for a, c in terms.items()):
            lo = max(lo, const - bound)
    return (lo, hi) if lo <= hi else m.interval


# --- linear forms --------------------------------------------------------------------------------


def linear(e: Expr, dtype: str = "int32") -> tuple[Terms, int]:
    """An integer expression as sum(multiple * term) + constant; what is not linear is a term of its own, and so is
    unsigned arithmetic, which may wrap."""
    match e:
        case Const():
            return {}, int(e.value)
        case Bin() if dtype[0] == "u":
            return {e: 1}, 0
        case Bin("+" | "-" as op, a, b):
            ta, ca = linear(a)
            tb, cb = linear(b)
            sign = 1 if op == "+" else -1
            return combine(ta, tb, sign), ca + sign * cb
        case Bin("*", a, b):
            (ta, ca), (tb, cb) = linear(a), linear(b)
            if ta and tb:
                return {e: 1}, 0
            terms, c, k = (ta, ca, cb) if not tb else (tb, cb, ca)
            return ({t: v * k for t, v in terms.items()} if k else {}), c * k
    return {e: 1}, 0


def combine(a: Terms, b: Terms, times: int = 1) -> Terms:
    """a + times * b."""
    out = dict(a)
    for t, c in b.items():
        out[t] = out.get(t, 0) + times * c
        if out[t] == 0:
            del out[t]
    return out


def from_linear(terms: Terms, const: int, order: Callable[[Expr], int] = lambda t: 0) -> Expr:
    """The expression of a linear form: terms by `order`, positive before negative ones, the constant last."""
    positive = sorted((t for t, c in terms.items() if c > 0), key=order)
    negative = sorted((t for t, c in terms.items() if c < 0), key=order)
    e: Expr | None = None
    if not positive:
        e, const = Const(const), 0
    for t in (*positive, *negative):
        c = abs(terms[t])
        part = t if c == 1 else Bin("*", t, Const(c))
        e = part if e is None else Bin("+" if terms[t] > 0 else "-", e, part)
    if const:
        e = Bin("+" if const > 0 else "-", e, Const(abs(const)))
    return e


def upper(terms: Terms, const: int, scope: Scope, target: int) -> int:
    """An upper bound of sum(terms) + const; the search ends at the first one that is at most `target`."""
    return _upper(terms, const, scope, target, [FUEL])


def lower(terms: Terms, const: int, scope: Scope, target: int) -> int:
    """A lower bound of sum(terms) + const; the search ends at the first one that is at least `target`."""
    return -upper({t: -c for t, c in terms.items()}, -const, scope, -target)


def _upper(terms: Terms, const: int, scope: Scope, target: int, fuel: list[int]) -> int:
    best = const + sum(c * _extreme(t, c, scope) for t, c in terms.items())
    for choice in _rewrites(terms, const, scope):
        if best <= target or fuel[0] <= 0:
            break
        fuel[0] -= 1
        best = min(best, max(_upper(t, c, scope, target, fuel) for t, c in choice))
    return best


def _extreme(term: Expr, multiple: int, scope: Scope) -> int:
    lo, hi = measure(term, scope).interval
    return hi if multiple > 0 else lo


def _rewrites(terms: Terms, const: int, scope: Scope) -> Iterable[list[tuple[Terms, int]]]:
    """Forms that bound the sum from above; each choice is a list, the largest of which is a bound."""
    for fact, bound in scope.facts:
        if all(t in terms and terms[t] // c >= 1 for t, c in fact.items()):
            k = min(terms[t] // c for t, c in fact.items())
            yield [(combine(terms, fact, -k), const + k * bound)]
    inner = max((t for t in terms if isinstance(t, Var) and t.name in scope.vars and scope.vars[t.name].hi is not None),
                key=lambda t: scope.vars[t.name].depth, default=None)
    if inner is not None:
        v, c = scope.vars[inner.name], terms[inner]
        yield [_replaced(terms, const, inner, v.hi if c > 0 else v.lo)]
    for t, c in terms.items():
        if isinstance(t, Bin) and t.op in ("min", "max"):
            a, b = _replaced(terms, const, t, t.a), _replaced(terms, const, t, t.b)
            if (t.op == "min") == (c > 0):
                yield from ([a], [b])
            else:
                yield [a, b]


def _replaced(terms: Terms, const: int, old: Expr, new: Expr) -> tuple[Terms, int]:
    t, c = linear(new)
    k = terms[old]
    return combine({x: v for x, v in terms.items() if x != old}, t, k), const + k * c
