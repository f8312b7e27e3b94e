"""What a well-formed Program is, as a check that runs after every pass.

A verified program reads and writes only inside its buffers, whatever the input data: every index lies within its
buffer (proved from loop bounds and conditions), divisors and shifts are in range, names and dtypes agree.
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .dtypes import NUMBERS, REAL, computed, numpy_type
from .errors import EdgecError
from .loop_index import DTYPES, INT_RANGE, Measure, Scope, linear, lower, measure, upper
from .loops import (
    PLACES,
    Bin,
    Buffer,
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
    Written,
    blocks,
    lines,
    text,
)

REAL_FUNCTIONS = {
    **dict.fromkeys("exp log sqrt tanh erf sin cos tan asin acos atan sinh cosh asinh acosh atanh".split(), 1),
    **dict.fromkeys("floor ceil round rint trunc".split(), 1),
    "pow": 2, "fmod": 2,
}
DOUBLE_FUNCTIONS = frozenset("floor ceil round rint trunc fmod sqrt".split())  # those that float64 has too
PREDICATES = ("isnan", "isinf")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class VerifyError(EdgecError):
    """A program is malformed: an internal error of edgec. `where` names the pass, the step and the statement."""


@dataclass(frozen=True)
class Uses:
    """Root buffers that a step reads and writes, and the names of its variables that a Set changes."""

    reads: frozenset[str]
    writes: frozenset[str]
    changed: frozenset[str]


def verify(p: Program, after: str = "") -> Program:
    """p itself. Raises VerifyError at the first thing wrong with it; `after` names the pass that made it.

    Takes time linear in p's size."""
    _Verifier(p, after).run()
    return p


def root(p: Program, name: str) -> Buffer:
    """The buffer whose memory `name` is: itself, or what it is a view of. Raises KeyError, or ValueError on a cycle."""
    b, hops = p.buffers[name], 0
    while b.alias:
        b, hops = p.buffers[b.alias], hops + 1
        if hops > len(p.buffers):
            raise ValueError(f"{name} is a view of itself")
    return b


def uses(p: Program, f: Function) -> Uses:
    """What a step touches; views count as the buffer that they are views of."""
    reads, writes, changed = set(), set(), set()
    for s in statements(f.body):
        for e in expressions(s):
            for x in nodes(e):
                if isinstance(x, (Load, Ref, Rows)):
                    reads.add(root(p, x.buffer).name)
                if isinstance(x, Rows) and x.pad:
                    reads.add(root(p, x.pad).name)
        match s:
            case Store():
                writes.add(root(p, s.buffer).name)
            case Call():
                writes.update(root(p, w).name for w in s.writes)
            case Set():
                changed.add(s.var)
    return Uses(frozenset(reads), frozenset(writes), frozenset(changed))


def statements(body: tuple[Stmt, ...]) -> Iterator[Stmt]:
    """Every statement, nested ones after the one that holds them."""
    for s in body:
        yield s
        match s:
            case For():
                yield from statements(s.body)
            case If():
                yield from statements(s.then)
                yield from statements(s.orelse)


def expressions(s: Stmt) -> tuple:
    """The expressions and arguments of a statement itself, without those of nested statements."""
    match s:
        case For():
            return s.lo, s.hi
        case If():
            return (s.cond,)
        case Let() | Set():
            return (s.value,)
        case Store():
            return s.index, s.value
        case Call():
            return s.args
    raise TypeError(type(s).__name__)


def nodes(e) -> Iterator:
    """An expression or argument and everything inside it."""
    yield e
    match e:
        case Bin():
            yield from nodes(e.a)
            yield from nodes(e.b)
        case Fn():
            for a in e.args:
                yield from nodes(a)
        case Load() | Ref():
            yield from nodes(e.index)
        case Rows():
            yield from nodes(e.first)


def outer_scope(p: Program, f: Function, u: Uses) -> Scope:
    """What is known where a step begins: which buffers it writes, what its integer tables hold."""
    tables = {x.buffer for s in statements(f.body) for e in expressions(s) for x in nodes(e) if isinstance(x, Load)}
    contents = {n: (int(p.buffers[n].data.min()), int(p.buffers[n].data.max())) for n in sorted(tables)
                if p.buffers[n].place == "rom" and p.buffers[n].dtype in INT_RANGE}
    views = frozenset(n for n in tables if root(p, n).name in u.writes)
    return Scope(volatile=u.writes | views, contents=contents)


class _Verifier:
    def __init__(self, p: Program, after: str):
        self.p, self.after = p, after
        self.step, self.stmt = "", ""
        self.changed: frozenset[str] = frozenset()

    def fail(self, what: str) -> None:
        where = [f"program {self.p.name}" + (f" after {self.after}" if self.after else "")]
        stmt = self.stmt if isinstance(self.stmt, str) else lines((self.stmt,))[0].strip()
        where += [x for x in (self.step and f"step {self.step}", stmt) if x]
        raise VerifyError(what, where=": ".join(where), fix="this is a defect of edgec, not of the model")

    def need(self, ok: bool, what: str, about=None) -> None:
        if not ok:
            self.fail(what if about is None else f"{what}: {text(about)}")

    def run(self) -> None:
        self.check_buffers()
        names = [f.name for f in self.p.steps]
        for n in names:
            self.need(IDENTIFIER.fullmatch(n) is not None, f"the step name {n!r} is not a C identifier")
        if len(set(names)) < len(names):
            self.fail(f"two steps are called {next(n for n in names if names.count(n) > 1)}")
        try:
            blocks(self.p.steps)
        except ValueError as e:
            self.fail(str(e))
        known = Written(root(self.p, n).name for n in self.p.inputs)
        known.now |= {n for n, b in self.p.buffers.items() if b.place in ("rom", "state")}
        for f in self.p.steps:
            known.enter(f.control)
            known.now |= self.check_step(f, known.now)
        written = known.now
        self.step = ""
        for o in self.p.outputs:
            self.need(root(self.p, o).name in written, f"no step writes the output {o}")

    # --- buffers ---

    def check_buffers(self) -> None:
        for name, b in self.p.buffers.items():
            self.stmt = f"buffer {name}"
            self.need(b.name == name, f"it is called {b.name}")
            self.need(b.dtype in NUMBERS, f"unknown dtype {b.dtype}")
            self.need(b.place in PLACES, f"unknown place {b.place}")
            self.need(b.size >= 1, f"a size of {b.size} elements")
            self.need(b.align >= 1 and b.align & b.align - 1 == 0, f"an alignment of {b.align}")
            self.check_data(b)
            self.check_memory(b)
        self.stmt = ""
        for kind, names in (("input", self.p.inputs), ("output", self.p.outputs)):
            for n in names:
                self.need(n in self.p.buffers, f"the {kind} {n} is no buffer")
                place = self.p.buffers[n].place
                self.need(kind == "output" or place == "input", f"the input {n} is in {place}")
        self.need(len(set(self.p.inputs)) == len(self.p.inputs), "an input is listed twice")

    def check_data(self, b: Buffer) -> None:
        if b.place == "rom":
            self.need(b.data is not None and not b.alias, "a rom buffer needs data of its own")
        if b.data is not None:
            self.need(b.place == "rom", f"data in {b.place}")
            self.need(b.data.shape == (b.size,) and b.data.dtype == numpy_type(b.dtype),
                      f"data are {b.data.dtype}{list(b.data.shape)}, not {b.dtype}[{b.size}]")

    def check_memory(self, b: Buffer) -> None:
        if b.alias:
            try:
                r = root(self.p, b.name)
            except (KeyError, ValueError) as e:
                self.fail(f"a view of {b.alias}, which does not exist or is a view of it ({e})")
            self.need(r.place != "rom", f"a view of the rom buffer {r.name}")
            self.need(b.nbytes <= r.nbytes, f"a view of {b.nbytes} bytes of {r.name}, which has {r.nbytes}")
            self.need(b.offset in (-1, r.offset), f"a view at {b.offset} of {r.name} at {r.offset}")
        elif b.place != "rom" and self.p.arena_bytes >= 0 and b.offset >= 0:
            align, end = max(b.align, numpy_type(b.dtype).itemsize), b.offset + b.nbytes
            self.need(b.offset % align == 0, f"offset {b.offset} is not aligned to {align}")
            self.need(end <= self.p.arena_bytes, f"it ends at {end}, the arena has {self.p.arena_bytes}")

    # --- steps ---

    def check_step(self, f: Function, written: set[str]) -> frozenset[str]:
        """Checks one step and returns the root buffers that it writes."""
        self.step, self.stmt = f.name, ""
        self.check_names(f)
        test = len(f.body) == 1 and isinstance(f.body[0], If) and not f.body[0].then and not f.body[0].orelse
        self.need(not f.control or test or f.control != "if" and not f.body, f"a step of control {f.control} that is no test")
        u = uses(self.p, f)
        self.changed = u.changed
        for n in sorted(u.reads - u.writes - written):
            self.fail(f"it reads {n}, which nothing has written")
        planned = self.p.arena_bytes >= 0
        for n in u.reads | u.writes:
            b = self.p.buffers[n]
            self.need(not planned or b.place == "rom" or b.offset >= 0, f"{n} has no place in the arena")
        for out, source in (*f.inplace, *(t[:2] for t in f.trailing)):
            known = out in self.p.buffers and source in self.p.buffers
            self.need(known, f"in-place pair of unknown buffers {out}, {source}")
            a, b = self.p.buffers[out].dtype, self.p.buffers[source].dtype
            # C compilers may reorder accesses of two types to one place, except through the byte types
            ok = a == b or numpy_type(a).itemsize == numpy_type(b).itemsize == 1
            self.need(ok, f"in-place pair of {a} and {b}: {out}, {source}")
        self.check_body(f.body, outer_scope(self.p, f, u))
        return u.writes

    def check_names(self, f: Function) -> None:
        """Buffers exist, before anything resolves them."""
        for s in statements(f.body):
            names = [x.buffer for e in expressions(s) for x in nodes(e) if isinstance(x, (Load, Ref, Rows))]
            names += [x.pad for e in expressions(s) for x in nodes(e) if isinstance(x, Rows) and x.pad]
            names += [s.buffer] if isinstance(s, Store) else s.writes if isinstance(s, Call) else []
            for n in names:
                if n not in self.p.buffers:
                    self.stmt = lines((s,))[0].strip()
                    self.fail(f"there is no buffer {n}")

    def check_body(self, body: tuple[Stmt, ...], scope: Scope) -> None:
        for s in body:
            self.stmt = s
            scope = self.check_statement(s, scope)

    def check_statement(self, s: Stmt, scope: Scope) -> Scope:
        """The scope of the next statement."""
        match s:
            case For():
                self.declare(s.var, scope)
                self.need(isinstance(s.step, int) and s.step > 0, f"a loop step of {s.step}")
                for e in (s.lo, s.hi):
                    self.need(self.measure(e, scope).dtype == "int32", "loop bounds must be int32")
                top = measure(s.hi, scope).interval[1]
                self.need(top + s.step - 1 <= INT_RANGE["int32"][1], "the loop variable may overflow")
                inner = scope.enter(s)
                if inner is not None:
                    self.check_body(s.body, inner)
            case If():
                self.need(self.measure(s.cond, scope).dtype == "bool", "a condition must be bool")
                self.check_body(s.then, scope.assume(s.cond))
                self.check_body(s.orelse, scope.assume(s.cond, False))
            case Let():
                self.declare(s.var, scope)
                m = self.measure(s.value, scope)
                self.need(m.dtype == s.dtype, f"{s.var} is {s.dtype}, its value {m.dtype}")
                return scope.let(s, m, s.var in self.changed)
            case Set():
                v = scope.vars.get(s.var)
                self.need(v is not None, f"{s.var} is not in scope")
                self.need(not v.loop, f"{s.var} is a loop variable")
                m = self.measure(s.value, scope)
                self.need(m.dtype == v.dtype, f"{s.var} is {v.dtype}, its value {m.dtype}")
            case Store():
                b = self.p.buffers[s.buffer]
                self.need(b.place not in ("rom", "input"), f"{s.buffer} is in {b.place}")
                self.check_index(s.index, b.size, scope, s.buffer)
                m = self.measure(s.value, scope)
                self.need(m.dtype == computed(b.dtype), f"{s.buffer} is {b.dtype}, the value {m.dtype}")
            case Call():
                self.check_call(s, scope)
            case _:
                self.fail(f"not a statement: {type(s).__name__}")
        return scope

    def declare(self, name: str, scope: Scope) -> None:
        self.need(name not in scope.vars, f"{name} shadows a variable of the same name")

    def check_call(self, s: Call, scope: Scope) -> None:
        self.need(IDENTIFIER.fullmatch(s.kernel) is not None, f"the kernel name {s.kernel!r} is not a C identifier")
        for k, v in ((k, x) for k, given in s.params.items() for x in (given if isinstance(given, tuple) else (given,))):
            (lo, hi), real = INT_RANGE["int32"], isinstance(v, (float, np.floating))
            self.need(real or lo <= v <= hi, f"the parameter {k}={v} is not int32")
        refs = {a.buffer for a in s.args if isinstance(a, Ref)}
        for w in s.writes:
            self.need(w in refs, f"it writes {w}, which is no argument")
            place = self.p.buffers[w].place
            self.need(place not in ("rom", "input"), f"it writes {w}, which is in {place}")
        for a in s.args:
            match a:
                case Ref():
                    self.check_index(a.index, self.p.buffers[a.buffer].size, scope, a.buffer)
                case Rows():
                    self.check_rows(a, scope)
                case _:
                    self.measure(a, scope)

    def check_rows(self, a: Rows, scope: Scope) -> None:
        m = self.measure(a.first, scope)
        self.need(m.dtype == "int32" and m.safe, "the first row must be int32 that cannot overflow", a)
        self.need(min(a.count, a.step, a.height, a.row) >= 1 and min(a.base, a.ring) >= 0, "impossible geometry", a)
        b = self.p.buffers[a.buffer]
        need = a.base + (a.ring or a.height) * a.row
        self.need(need <= b.size, f"it needs {need} elements, {b.name} has {b.size}", a)
        if a.pad:
            pad = self.p.buffers[a.pad]
            fits = pad.dtype == b.dtype and pad.size >= a.row
            self.need(fits, f"its padding {pad.name} is {pad.dtype}[{pad.size}]", a)
        else:
            self.check_index(a.first, a.height - (a.count - 1) * a.step, scope, "first row of " + a.buffer)

    # --- expressions ---

    def measure(self, e: Expr, scope: Scope) -> Measure:
        return measure(e, scope, self.visit)

    def check_index(self, index: Expr, size: int, scope: Scope, what: str, m: Measure | None = None) -> None:
        """index is proved to lie in 0..size-1. m: its measure, where the caller has it."""
        m = m or self.measure(index, scope)
        self.need(m.dtype == "int32", f"an index of {what} must be int32, not {m.dtype}", index)
        self.need(m.safe, f"the index arithmetic of {what} may overflow; clamp what comes from data first", index)
        lo, hi = m.interval
        if lo < 0 or hi >= size:
            terms, const = linear(index)
            lo, hi = max(lo, lower(terms, const, scope, 0)), min(hi, upper(terms, const, scope, size - 1))
        if lo < 0 or hi >= size:
            self.fail(f"an index of {what} is in {lo}..{hi}, allowed is 0..{size - 1}; "
                      f"one from data needs a clamp or a condition: {text(index)}")

    def visit(self, e: Expr, args: list[Measure], scope: Scope) -> None:
        match e:
            case Const():
                self.check_const(e)
            case Var():
                v = scope.vars.get(e.name)
                self.need(v is not None, f"{e.name} is not in scope")
                self.need(v.dtype == e.dtype, f"{e.name} is {v.dtype}, used as {e.dtype}")
            case Bin():
                self.check_bin(e, *args)
            case Fn():
                self.check_fn(e, args)
            case Load():
                b = self.p.buffers[e.buffer]
                self.need(computed(b.dtype) == e.dtype, f"{e.buffer} is {b.dtype}, loaded as {e.dtype}")
                self.check_index(e.index, b.size, scope, e.buffer, args[0])

    def check_const(self, e: Const) -> None:
        self.need(e.dtype in DTYPES, f"unknown dtype {e.dtype}")
        if e.dtype in INT_RANGE:
            lo, hi = INT_RANGE[e.dtype]
            ok = not isinstance(e.value, (float, np.floating)) and lo <= e.value <= hi
            self.need(ok, f"the constant {e.value} is not {e.dtype}")

    def check_bin(self, e: Bin, a: Measure, b: Measure) -> None:
        self.need(a.dtype == b.dtype, f"operands of {e.op} are {a.dtype} and {b.dtype}", e)
        boolean, real = a.dtype == "bool", a.dtype in REAL
        match e.op:
            case "+" | "-" | "*" | "min" | "max" | "<" | "<=":
                self.need(not boolean, f"{e.op} of bool", e)
            case "/":
                self.need(real, f"/ of {a.dtype}", e)
            case "//" | "%":
                self.need(not boolean and not real, f"{e.op} of {a.dtype}", e)
                self.need(a.interval[0] >= 0 and b.interval[0] > 0, f"{e.op} needs a non-negative left and "
                          f"a positive right side, not {a.interval} and {b.interval}", e)
            case "<<" | ">>":
                self.need(not boolean and not real, f"{e.op} of {a.dtype}", e)
                bits = np.dtype(a.dtype).itemsize * 8 - (e.op == "<<" and not a.dtype.startswith("u"))
                self.need(0 <= b.interval[0] and b.interval[1] < bits, f"a shift by {b.interval}", e)
            case "&" | "|" | "^":
                self.need(not real, f"{e.op} of {a.dtype}", e)
            case "and" | "or":
                self.need(boolean, f"{e.op} of {a.dtype}", e)
            case "==" | "!=":
                pass
            case _:
                self.fail(f"unknown operation {e.op}")

    def check_fn(self, e: Fn, args: list[Measure]) -> None:
        dtypes = [a.dtype for a in args]
        self.need(e.dtype in DTYPES, f"unknown dtype {e.dtype}")
        match e.name:
            case "cast":
                ok = len(dtypes) == 1
            case "select":
                ok = dtypes == ["bool", e.dtype, e.dtype]
            case "neg" | "abs":
                ok = dtypes == [e.dtype] and e.dtype != "bool"
            case "not":
                ok = dtypes == ["bool"] and e.dtype == "bool"
            case _ if e.name in PREDICATES:
                ok = len(dtypes) == 1 and dtypes[0] in REAL and e.dtype == "bool"
            case _ if e.name in REAL_FUNCTIONS:
                ok = dtypes == [e.dtype] * REAL_FUNCTIONS[e.name] and (
                    e.dtype == "float32" or e.dtype == "float64" and e.name in DOUBLE_FUNCTIONS
                )
            case _:
                self.fail(f"unknown function {e.name}")
        self.need(ok, f"{e.name} of {', '.join(dtypes)} to {e.dtype}", e)
