"""Passes Program -> Program that keep the meaning: fewer loops, fewer steps, fewer buffers, plainer indices.

They run before planning; each is pure and the program is verified after each.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from .dtypes import REAL, WIDE
from .loop_copies import write_in_place
from .loop_index import INT_RANGE, Scope, from_linear, linear, lower, measure, upper
from .loop_interp import MeaningError, binary, function
from .loop_verify import Uses, expressions, nodes, outer_scope, root, statements, uses, verify
from .loops import (
    COMPARISONS,
    Arg,
    Bin,
    Call,
    Const,
    Expr,
    Fn,
    For,
    Function,
    If,
    Let,
    Load,
    Program,
    Ref,
    Rows,
    Set,
    Stmt,
    Store,
    Var,
    dtype_of,
    program_text,
)


def optimise(p: Program, dump: Callable[[str, str], None] = lambda name, text: None) -> Program:
    """All PASSES in order; verifies p and the result of each, and offers its text form to dump(pass name, text)."""
    verify(p, "lowering")
    for run in PASSES:
        p = verify(run(p), run.__name__)
        dump(run.__name__, program_text(p))
    return p


# --- rebuilding ----------------------------------------------------------------------------------


def map_expr(e: Expr, f: Callable[[Expr], Expr]) -> Expr:
    """e with f applied to every node, operands first."""
    match e:
        case Bin():
            e = Bin(e.op, map_expr(e.a, f), map_expr(e.b, f))
        case Fn():
            e = Fn(e.name, tuple(map_expr(a, f) for a in e.args), e.dtype)
        case Load():
            e = Load(e.buffer, map_expr(e.index, f), e.dtype)
    return f(e)


def map_arg(a: Arg, f: Callable[[Expr], Expr]) -> Arg:
    """A kernel argument with f applied to its index, or to itself where it is a scalar."""
    match a:
        case Ref():
            return Ref(a.buffer, f(a.index))
        case Rows():
            return replace(a, first=f(a.first))
    return f(a)


def map_body(body: Iterable[Stmt], f: Callable[[Expr], Expr], names: Mapping[str, str] = {}) -> tuple[Stmt, ...]:
    """Statements with f applied to each whole expression, and the variables that they declare or set renamed."""
    def one(s: Stmt) -> Stmt:
        match s:
            case For():
                return For(names.get(s.var, s.var), f(s.lo), f(s.hi), map_body(s.body, f, names), s.step)
            case If():
                return If(f(s.cond), map_body(s.then, f, names), map_body(s.orelse, f, names))
            case Let():
                return Let(names.get(s.var, s.var), s.dtype, f(s.value))
            case Set():
                return Set(names.get(s.var, s.var), f(s.value))
            case Store():
                return Store(s.buffer, f(s.index), f(s.value))
            case Call():
                return replace(s, args=tuple(map_arg(a, f) for a in s.args))
        raise TypeError(type(s).__name__)

    return tuple(map(one, body))


def substitute(body: Iterable[Stmt], values: Mapping[str, Expr], names: Mapping[str, str] = {}) -> tuple[Stmt, ...]:
    """Variables replaced by expressions; those in `names` are renamed, declarations included."""
    def leaf(e: Expr) -> Expr:
        if not isinstance(e, Var):
            return e
        return values[e.name] if e.name in values else Var(names.get(e.name, e.name), e.dtype)

    return map_body(body, lambda e: map_expr(e, leaf), names)


def declared(body: Iterable[Stmt]) -> Iterable[str]:
    return (s.var for s in statements(tuple(body)) if isinstance(s, (For, Let)))


def fresh(hint: str, taken: set[str]) -> str:
    """A name that is not taken yet, and now is."""
    name, n = hint, 1
    while name in taken:
        n += 1
        name = f"{hint}_{n}"
    taken.add(name)
    return name


# --- simplify ------------------------------------------------------------------------------------


def simplify(p: Program) -> Program:
    """Folds constants and what intervals decide; index sums become sums of multiples of variables, outer loops first;
    loops of one turn, decided conditions, copies and unread variables go."""
    return replace(p, steps=tuple(f if f.control else replace(f, body=_Simplifier(p, f).run()) for f in p.steps))


class _Simplifier:
    def __init__(self, p: Program, f: Function):
        u = uses(p, f)
        self.f, self.changed, self.scope = f, u.changed, outer_scope(p, f, u)
        self.times = Counter(declared(f.body))
        self.taken = set(self.times)
        self.env: dict[str, Expr] = {}

    def run(self) -> tuple[Stmt, ...]:
        return _without_unread(self.body(self.f.body, self.scope))

    def body(self, body: Iterable[Stmt], scope: Scope) -> tuple[Stmt, ...]:
        out: list[Stmt] = []
        for s in body:
            scope = self.statement(s, scope, out)
        return tuple(out)

    def statement(self, s: Stmt, scope: Scope, out: list[Stmt]) -> Scope:
        """Appends what s becomes; returns the scope of the next statement."""
        match s:
            case For():
                return self.loop(s, scope, out)
            case If():
                return self.branch(s, scope, out)
            case Let():
                value = self.expr(s.value, scope)
                copy = isinstance(value, Const) or isinstance(value, Var) and value.name not in self.changed
                if copy and s.var not in self.changed:
                    self.env[s.var] = value
                    return scope
                self.env.pop(s.var, None)
                out.append(Let(s.var, s.dtype, value))
                return scope.let(out[-1], measure(value, scope), s.var in self.changed)
            case _:
                out.extend(map_body((s,), lambda e: self.expr(e, scope)))
                if isinstance(s, Call):
                    out[-1] = replace(out[-1], args=tuple(_unpadded(a, scope) for a in out[-1].args))
                return scope

    def loop(self, s: For, scope: Scope, out: list[Stmt]) -> Scope:
        lo, hi = self.expr(s.lo, scope), self.expr(s.hi, scope)
        turns, length = linear(Bin("-", hi, lo))
        if not turns and length <= s.step and scope.stable(lo):  # at most one turn
            if length > 0:
                self.env[s.var] = lo
                scope = self.inline(s.body, scope, out)
            return scope
        self.env.pop(s.var, None)
        loop = For(s.var, lo, hi, s.body, s.step)
        inner = scope.enter(loop)
        body = self.body(s.body, inner) if inner is not None else ()
        if body:
            out.append(replace(loop, body=body))
        return scope

    def branch(self, s: If, scope: Scope, out: list[Stmt]) -> Scope:
        cond = self.expr(s.cond, scope)
        if isinstance(cond, Const):
            return self.inline(s.then if cond.value else s.orelse, scope, out)
        then, orelse = self.body(s.then, scope.assume(cond)), self.body(s.orelse, scope.assume(cond, False))
        if then:
            out.append(If(cond, then, orelse))
        elif orelse:
            out.append(If(Fn("not", (cond,), "bool"), orelse))
        return scope

    def inline(self, body: tuple[Stmt, ...], scope: Scope, out: list[Stmt]) -> Scope:
        """A nested body becomes part of the enclosing one: names that occur elsewhere too are made unique."""
        names = {s.var: fresh(s.var, self.taken) for s in body if isinstance(s, Let) and self.times[s.var] > 1}
        self.changed |= {new for old, new in names.items() if old in self.changed}
        for s in substitute(body, {}, names) if names else body:
            scope = self.statement(s, scope, out)
        return scope

    def expr(self, e: Expr, scope: Scope) -> Expr:
        return simplified(map_expr(e, lambda x: self.env.get(x.name, x) if isinstance(x, Var) else x), scope)


def _unpadded(a: Arg, scope: Scope) -> Arg:
    """Rows that never leave the buffer need no padding, so the code for it goes."""
    if isinstance(a, Rows) and a.pad:
        terms, const = linear(a.first)
        last = a.height - 1 - (a.count - 1) * a.step
        if lower(terms, const, scope, 0) >= 0 and upper(terms, const, scope, last) <= last:
            return replace(a, pad="")
    return a


def _without_unread(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    """Without variables that nothing reads."""
    read = {x.name for s in statements(body) for e in expressions(s) for x in nodes(e) if isinstance(x, Var)}

    def keep(body):
        for s in body:
            match s:
                case Let() | Set() if s.var not in read:
                    continue
                case For():
                    yield replace(s, body=tuple(keep(s.body)))
                case If():
                    yield replace(s, then=tuple(keep(s.then)), orelse=tuple(keep(s.orelse)))
                case _:
                    yield s

    return tuple(keep(body))


def simplified(e: Expr, scope: Scope) -> Expr:
    """An equal expression, simpler. Operands that are evaluated only under a condition know the condition."""
    match e:
        case Bin("and" | "or"):
            a = simplified(e.a, scope)
            return _simpler_bin(Bin(e.op, a, simplified(e.b, scope.assume(a, e.op == "and"))), scope)
        case Bin():
            return _simpler_bin(Bin(e.op, simplified(e.a, scope), simplified(e.b, scope)), scope)
        case Fn("select", (cond, a, b)):
            cond = simplified(cond, scope)
            if isinstance(cond, Const):
                return simplified(a if cond.value else b, scope)
            a, b = simplified(a, scope.assume(cond)), simplified(b, scope.assume(cond, False))
            return Fn("select", (cond, a, b), e.dtype)
        case Fn():
            return _simpler_fn(Fn(e.name, tuple(simplified(a, scope) for a in e.args), e.dtype), scope)
        case Load():
            return Load(e.buffer, simplified(e.index, scope), e.dtype)
    return e


def _simpler_bin(e: Bin, scope: Scope) -> Expr:
    a, b = measure(e.a, scope), measure(e.b, scope)
    if isinstance(e.a, Const) and isinstance(e.b, Const):
        return _folded(e, lambda: binary(e.op, a.dtype, *_values(e.a, e.b)))
    if e.op in COMPARISONS:
        lo, hi = measure(e, scope).interval
        if lo == hi:
            return Const(bool(lo), "bool")
    match e:
        case Bin("and", Const(), x) | Bin("and", x, Const()) | Bin("or", Const(), x) | Bin("or", x, Const()):
            return x  # the constant does not decide it
        case Bin("min" | "max") if a.dtype in INT_RANGE:
            (al, ah), (bl, bh) = a.interval, b.interval
            if ah <= bl or bh <= al:
                return e.a if (ah <= bl) == (e.op == "min") else e.b
        case Bin("*" | "/", x, Const(1.0)) | Bin("*", Const(1.0), x) if a.dtype in REAL:
            return x
        case Bin("+" | "-" | "*") if a.dtype == "int32":
            return _linear_form(e, scope)
        case Bin("//" | "%", x, Const(d)) if a.dtype == "int32" and d > 0:
            return _divided(e, x, int(d), scope)
    return e


def _folded(e: Expr, compute: Callable[[], object]) -> Expr:
    """The constant, or e where C would leave it undefined."""
    try:
        with np.errstate(all="ignore"):
            value = compute()
    except MeaningError:
        return e
    dtype = dtype_of(e)
    return Const(float(value) if dtype in REAL else value, dtype)


def _values(*constants: Const) -> list:
    """As loop_interp has them."""
    return [function("cast", c.dtype, c.dtype, [c.value]) for c in constants]


def _simpler_fn(e: Fn, scope: Scope) -> Expr:
    x = e.args[0]
    if isinstance(x, Const) and e.name in ("cast", "neg", "abs", "not", "floor", "ceil", "trunc"):
        return _folded(e, lambda: function(e.name, e.dtype, x.dtype, _values(x)))
    match e:
        case Fn("not", (Fn("not", (inner,)),)):
            return inner
        case Fn("cast", (Fn("cast", (inner,)),)) if x.dtype in INT_RANGE and dtype_of(inner) == e.dtype != "bool":
            m = measure(inner, scope)  # there and back: the same where the way there loses nothing
            if m.interval and INT_RANGE[x.dtype][0] <= m.interval[0] and m.interval[1] <= INT_RANGE[x.dtype][1]:
                return inner
        case Fn("cast", (inner,)) if dtype_of(inner) == e.dtype:
            return inner
    return e


def _linear_form(e: Bin, scope: Scope) -> Expr:
    """A sum of multiples of terms; the same expression wherever that may overflow."""
    terms, const = linear(e)
    depth = {n: v.depth for n, v in scope.vars.items()}
    new = from_linear(terms, const, lambda t: depth.get(t.name, 0) if isinstance(t, Var) else len(depth))
    fits = all(abs(c) <= INT_RANGE["int32"][1] for c in (const, *terms.values()))
    return new if fits and measure(new, scope).safe else e


def _divided(e: Bin, x: Expr, d: int, scope: Scope) -> Expr:
    """(d * q + r) // d is q and % d is r where r is known to lie in 0..d-1."""
    terms, const = linear(x)
    rest = from_linear({t: c % d for t, c in terms.items() if c % d}, const % d)
    lo, hi = measure(rest, scope).interval
    if lo < 0 or hi >= d:
        return e
    return rest if e.op == "%" else from_linear({t: c // d for t, c in terms.items() if c // d}, const // d)


# --- collapse ------------------------------------------------------------------------------------


class _NotLinear(Exception):
    pass


def collapse_loops(p: Program) -> Program:
    """Two loops, one directly inside the other, become one where every index steps evenly across both; but not the loop
    over the ticks of a streamed step, which the plan is checked against."""
    def body(f: Function) -> tuple[Stmt, ...]:
        if not f.groups:
            return _collapsed(f.body)
        return tuple(replace(s, body=_collapsed(s.body)) if isinstance(s, For) else s for s in f.body)

    return replace(p, steps=tuple(replace(f, body=body(f)) for f in p.steps))


def _collapsed(body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
    return tuple(_collapse(s) for s in body)


def _collapse(s: Stmt) -> Stmt:
    match s:
        case If():
            return If(s.cond, _collapsed(s.then), _collapsed(s.orelse))
        case For():
            s = replace(s, body=_collapsed(s.body))
            if _plain(s) and len(s.body) == 1 and _plain(s.body[0]):
                return _merged(s, s.body[0])
    return s


def _plain(s: Stmt) -> bool:
    """for var in 0..constant"""
    return isinstance(s, For) and s.lo == Const(0) and isinstance(s.hi, Const) and s.step == 1


def _merged(outer: For, inner: For) -> For:
    n, m = int(outer.hi.value), int(inner.hi.value)
    if n * m > INT_RANGE["int32"][1]:
        return outer

    def flat(e: Expr) -> Expr:
        """e in terms of outer * m + inner, which is called as the outer variable was."""
        match e:
            case Var(name) if name in (outer.var, inner.var):
                raise _NotLinear
            case Bin("+" | "-" | "*") if dtype_of(e) == "int32":
                terms, const = linear(e)
                i, j = terms.pop(Var(outer.var), 0), terms.pop(Var(inner.var), 0)
                if i != j * m:
                    raise _NotLinear
                if not i:
                    return Bin(e.op, flat(e.a), flat(e.b)) if terms else e
                rest: dict[Expr, int] = {Var(outer.var): j}
                for t, c in terms.items():
                    t = flat(t)
                    rest[t] = rest.get(t, 0) + c
                return from_linear({t: c for t, c in rest.items() if c}, const)
            case Bin():
                return Bin(e.op, flat(e.a), flat(e.b))
            case Fn():
                return Fn(e.name, tuple(map(flat, e.args)), e.dtype)
            case Load():
                return Load(e.buffer, flat(e.index), e.dtype)
        return e

    try:
        return For(outer.var, Const(0), Const(n * m), map_body(inner.body, flat))
    except _NotLinear:
        return outer


# --- fuse ----------------------------------------------------------------------------------------


def fuse_elementwise(p: Program) -> Program:
    """Two steps after each other become one where the second is the only reader of what the first writes, element by
    element in the same order: the element stays in a variable and its buffer goes."""
    family: dict[str, set[str]] = {}
    for n in p.buffers:
        family.setdefault(root(p, n).name, set()).add(n)
    found = [uses(p, f) for f in p.steps]
    last = {root(p, o).name: len(p.steps) for o in p.outputs}
    first: dict[str, int] = {}
    for k, u in enumerate(found):
        for n in u.reads | u.writes:
            first.setdefault(n, k)
            last[n] = max(last.get(n, 0), k)
    done: list[_Work] = []
    gone: set[str] = set()
    for k, (f, u) in enumerate(zip(p.steps, found, strict=True)):
        work = _Work(f, u, k)
        start = done[-1].start if done else k
        private = {n for n in u.reads if p.buffers[n].place == "arena" and last[n] == k and start <= first[n] < k}
        fused, t = _fuse(p, done[-1], work, family, private) if private else (None, "")
        if fused:
            done[-1] = fused
            gone |= family[t]
        else:
            done.append(work)
    return replace(p, steps=tuple(w.f for w in done), buffers={n: b for n, b in p.buffers.items() if n not in gone})


@dataclass(frozen=True)
class _Work:
    """A step, what it touches, and the number of the first step that went into it."""

    f: Function
    uses: Uses
    start: int


def _fuse(p: Program, a: _Work, b: _Work, family: Mapping[str, set[str]],
          private: set[str]) -> tuple[_Work | None, str]:
    """(the two steps as one, the root buffer that it does without), or (None, "").

    private: buffers that only these two use."""
    between = sorted(a.uses.writes & b.uses.reads)
    if a.f.control or b.f.control:
        return None, ""
    streamed = any(w.f.ticks > 1 or w.f.spans for w in (a, b))  # its plan counts on its order
    if streamed or len(between) != 1 or between[0] not in private:
        return None, ""
    t, = between
    if p.buffers[t].dtype in WIDE:  # a store rounds
        return None, ""
    if t in a.uses.reads | b.uses.writes or b.uses.writes & (a.uses.reads | a.uses.writes):
        return None, ""
    body = _fused_body(p, a.f.body, b.f.body, t, family[t])
    if body is None:
        return None, ""
    fa, fb = a.f, b.f
    others = fa.outputs[1:] if len(a.uses.writes) > 1 else ()
    f = replace(fb, body=body, origin=tuple(dict.fromkeys(fa.origin + fb.origin)), inplace=_inplace(p, a, b, t),
                op="+".join(filter(None, (fa.op, fb.op))), macs=fa.macs + fb.macs, outputs=fb.outputs + others)
    touched = Uses((a.uses.reads | b.uses.reads) - {t}, (a.uses.writes | b.uses.writes) - {t},
                   a.uses.changed | b.uses.changed)
    return _Work(f, touched, a.start), t


def _inplace(p: Program, a: _Work, b: _Work, t: str) -> tuple[tuple[str, str], ...]:
    """Pairs (output, input) that may still share memory: each half that reads the input reads an element in time."""
    pa = {(root(p, o).name, root(p, i).name) for o, i in a.f.inplace}
    pb = {(root(p, o).name, root(p, i).name) for o, i in b.f.inplace}
    through = ((o, i) for o, m in b.f.inplace if root(p, m).name == t for _, i in a.f.inplace)
    pairs = dict.fromkeys((*a.f.inplace, *b.f.inplace, *through))

    def holds(out: str, source: str) -> bool:
        if t in (out, source) or p.buffers[out].dtype != p.buffers[source].dtype:
            return False
        if out in a.uses.writes:
            return (out, source) in pa and source not in b.uses.reads
        return ((source not in a.uses.reads or (t, source) in pa and (out, t) in pb)
                and (source not in b.uses.reads or (out, source) in pb))

    return tuple((o, i) for o, i in pairs if holds(root(p, o).name, root(p, i).name))


def _fused_body(p: Program, first: tuple[Stmt, ...], second: tuple[Stmt, ...], t: str,
                family: set[str]) -> tuple[Stmt, ...] | None:
    """The nest that computes each element of t and uses it at once; None where the nests do not allow it."""
    (va, ea, a), (vb, eb, b) = _nest(first), _nest(second)
    if {_product(ea), _product(eb)} != {p.buffers[t].size} or ea != eb and 1 not in (len(ea), len(eb)):
        return None
    if any(isinstance(s, Call) for s in (*statements(a), *statements(b))):
        return None
    dtype, at = p.buffers[t].dtype, _only_store(a, family)
    if at is None or linear(a[at].index) != linear(_flat(va, ea)) or p.buffers[a[at].buffer].dtype != dtype:
        return None

    def is_element(x) -> bool:
        return isinstance(x, Load) and x.buffer in family

    loads = [x for s in statements(b) for e in expressions(s) for x in nodes(e) if is_element(x)]
    if any(x.dtype != dtype or linear(x.index) != linear(_flat(vb, eb)) for x in loads):
        return None
    taken = {*va, *vb, *declared(a), *declared(b)}
    element = fresh(t, taken)
    names_a = {n: fresh(n, taken) for n in dict.fromkeys(declared(a)) if n in vb}
    names_b = {n: fresh(n, taken) for n in dict.fromkeys(declared(b)) if n in {*va, *declared(a)}}
    b = map_body(b, lambda e: map_expr(e, lambda x: Var(element, dtype) if is_element(x) else x))
    (variables, extents), values_a, values_b = (va, ea), {}, _variables(vb, eb, va, ea)
    if len(ea) < len(eb):
        (variables, extents), values_a, values_b = (vb, eb), _variables(va, ea, vb, eb), {}
    a = (*a[:at], Let(element, dtype, a[at].value), *a[at + 1:])
    body = (*substitute(a, values_a, names_a), *substitute(b, values_b, names_b))
    for v, n in zip(reversed(variables), reversed(extents), strict=True):
        body = (For(v, Const(0), Const(n), body),)
    return body


def _only_store(body: tuple[Stmt, ...], family: set[str]) -> int | None:
    """Where in body the one store into the family stands; None where there is none, another or a nested one."""
    stores = [s for s in statements(body) if isinstance(s, Store) and s.buffer in family]
    return next((k for k, s in enumerate(body) if len(stores) == 1 and s is stores[0]), None)


def _variables(old: list[str], extents: list[int], new: list[str], shape: list[int]) -> dict[str, Expr]:
    """What the variables of one nest are in another over the same elements: the same shape, or one flat loop."""
    if extents == shape:
        return {o: Var(n) for o, n in zip(old, new, strict=True)}
    return {old[0]: _flat(new, shape)}


def _nest(body: tuple[Stmt, ...]) -> tuple[list[str], list[int], tuple[Stmt, ...]]:
    """Variables, extents and body of the loops that stand directly inside each other."""
    names, extents = [], []
    while len(body) == 1 and _plain(body[0]):
        names.append(body[0].var)
        extents.append(int(body[0].hi.value))
        body = body[0].body
    return names, extents, body


def _flat(names: list[str], extents: list[int]) -> Expr:
    """The number of a turn of a nest, counted in the order in which they run."""
    terms, stride = {}, 1
    for v, n in zip(reversed(names), reversed(extents), strict=True):
        terms[Var(v)] = stride
        stride *= n
    return from_linear(dict(reversed(terms.items())), 0)


def _product(extents: list[int]) -> int:
    n = 1
    for e in extents:
        n *= e
    return n if extents else 0


# --- dead code -----------------------------------------------------------------------------------


def drop_dead(p: Program) -> Program:
    """Without steps that do nothing and buffers that nothing uses."""
    steps = tuple(f for f in p.steps if f.body or f.control)
    used = {*p.inputs, *p.outputs, *(old for old, _ in p.state)}
    for f in steps:
        for s in statements(f.body):
            used |= {x.buffer for e in expressions(s) for x in nodes(e) if isinstance(x, (Load, Ref, Rows))}
            used |= {x.pad for e in expressions(s) for x in nodes(e) if isinstance(x, Rows)}
            used |= {s.buffer} if isinstance(s, Store) else set()
    used |= {root(p, n).name for n in used if n in p.buffers}
    inplace = {f.name: tuple((o, i) for o, i in f.inplace if o in used and i in used) for f in steps}
    return replace(p, steps=tuple(replace(f, inplace=inplace[f.name]) for f in steps),
                   buffers={n: b for n, b in p.buffers.items() if n in used})


PASSES = (simplify, collapse_loops, fuse_elementwise, simplify, write_in_place, drop_dead)
