"""Programs for tests: hand-made ones and random ones that verify, with inputs for them."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np

from edgec.loop_index import INT_RANGE, measure
from edgec.loops import (
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
    add,
    cast,
    mul,
)

DTYPES = ("float32", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool")


def program(buffers, steps, inputs, outputs, name="m") -> Program:
    return Program(name, {b.name: b for b in buffers}, tuple(steps), tuple(inputs), tuple(outputs))


def loop(var: str, n: int, *body: Stmt) -> For:
    return For(var, Const(0), Const(n), body)


def planned(p: Program) -> Program:
    """Every buffer at a place of its own."""
    at, buffers = 0, {}
    for n, b in p.buffers.items():
        if b.place != "rom" and not b.alias:
            at = -(-at // 16) * 16
            buffers[n], at = replace(b, offset=at), at + b.nbytes
    buffers = {n: buffers.get(n, b) for n, b in p.buffers.items()}
    return replace(p, buffers=buffers, arena_bytes=at)


def data(rng: np.random.Generator, dtype: str, size: int) -> np.ndarray:
    """Elements that include the extremes of the dtype."""
    if dtype == "float32":
        x = (rng.standard_normal(size) * 10.0 ** rng.integers(-3, 12, size)).astype(np.float32)
        x[:5] = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0], np.float32)[:size]
        return rng.permutation(x)
    if dtype == "bool":
        return rng.integers(0, 2, size).astype(bool)
    lo, hi = INT_RANGE[dtype]
    x = rng.integers(lo, hi, size, dtype, endpoint=True)
    x[:3] = np.array([lo, hi, 0], dtype)[:size]
    return rng.permutation(x)


# --- random expressions --------------------------------------------------------------------------


class Random:
    """Random programs: each step reads buffers of earlier ones and writes a new one."""

    def __init__(self, seed: int, steps: int = 8):
        self.r, self.np = random.Random(seed), np.random.default_rng(seed)
        self.buffers: list[Buffer] = []
        self.readable: list[Buffer] = []
        self.steps: list[Function] = []
        for k, dtype in enumerate(self.r.sample(DTYPES, 3)):
            self.buffer(f"in{k}", dtype, "input")
        self.buffer("table", self.r.choice(DTYPES), "rom")
        for k in range(steps):
            self.step(k)

    def program(self) -> Program:
        last = self.steps[-1].result
        outputs = [last] + [b.name for b in self.readable if b.place == "output" and b.name != last]
        buffers = [replace(b, place="output") if b.name == last else b for b in self.buffers]
        return program(buffers, self.steps, [b.name for b in buffers if b.place == "input"], outputs)

    def inputs(self, p: Program) -> list[np.ndarray]:
        return [data(self.np, p.buffers[i].dtype, p.buffers[i].size) for i in p.inputs]

    def buffer(self, name: str, dtype: str, place: str, size: int = 24) -> Buffer:
        b = Buffer(name, dtype, size, place, data=data(self.np, dtype, size) if place == "rom" else None)
        self.buffers.append(b)
        self.readable.append(b)
        return b

    def step(self, k: int) -> None:
        kind = self.r.choice(
            ["flat", "flat", "flat", "nest", "nest", "reduce", "gather", "pad", "transpose", "guard", "unit"]
        )
        dtype = self.r.choice(DTYPES)
        sources = self.readable[-4:]
        out = Buffer(f"t{k}", dtype, 24, self.r.choice(["arena"] * 4 + ["output"]))
        body = getattr(self, kind)(out, dtype, sources)
        self.buffers.append(out)
        self.readable.append(out)
        self.steps.append(
            Function(f"step{k}", tuple(body), (f"node{k}",), op=kind, outputs=(out.name,), result=out.name)
        )

    def load(self, dtype: str, at: Expr, sources) -> Expr:
        b = self.r.choice(sources)
        return cast(Load(b.name, at, b.dtype), dtype)

    def value(self, dtype: str, at: Expr, sources, depth: int = 3) -> Expr:
        """A random expression over elements `at` of the sources; none of its operations can overflow."""
        if depth == 0 or self.r.random() < 0.15:
            return self.load(dtype, at, sources) if self.r.random() < 0.8 else self.constant(dtype)

        def sub(d=dtype):
            return self.value(d, at, sources, depth - 1)

        other = self.r.choice(DTYPES)
        if dtype == "bool":
            e = self.r.choice(
                [
                    lambda: Bin(self.r.choice(["and", "or", "==", "!=", "&", "|", "^"]), sub(), sub()),
                    lambda: Bin(
                        self.r.choice(["<", "<=", "==", "!="]), sub(wide := self.r.choice(DTYPES[:-1])), sub(wide)
                    ),
                    lambda: Fn("not", (sub(),), "bool"),
                    lambda: Fn(self.r.choice(["isnan", "isinf"]), (sub("float32"),), "bool"),
                    lambda: cast(sub(other), "bool"),
                ]
            )()
        else:
            e = self.r.choice(
                [
                    lambda: Bin(self.r.choice(["+", "-", "*"]), sub(), sub()),
                    lambda: Bin(self.r.choice(["+", "-"]), sub(), sub()),
                    lambda: Bin(self.r.choice(["min", "max"]), sub(), sub()),
                    lambda: Fn("select", (sub("bool"), sub(), sub()), dtype),
                    lambda: Fn(self.r.choice(["neg", "abs"]), (sub(),), dtype),
                    lambda: cast(sub(other), dtype),
                    lambda: self.special(dtype, sub),
                ]
            )()
        safe = measure(e).safe
        return e if safe else Bin(self.r.choice(["min", "max"]), self.small(sub()), self.constant(dtype))

    def special(self, dtype: str, sub) -> Expr:
        if dtype == "float32":
            return self.r.choice(
                [
                    lambda: Bin("/", sub(), sub()),
                    lambda: Fn(self.r.choice(["floor", "ceil", "round", "trunc"]), (sub(),), dtype),
                ]
            )()
        a, b = self.small(sub()), Bin("&", sub(), Const(3, dtype))
        return self.r.choice(
            [
                lambda: Bin(self.r.choice(["+", "-", "*"]), a, self.small(sub())),
                lambda: Bin(self.r.choice(["&", "|", "^"]), sub(), sub()),
                lambda: Bin(self.r.choice([">>", "<<"]), a, b),
                lambda: Bin(">>", sub(), b),
                lambda: Bin(
                    self.r.choice(["//", "%"]), Bin("max", sub(), Const(0, dtype)), Bin("max", sub(), Const(1, dtype))
                ),
            ]
        )()

    def small(self, e: Expr) -> Expr:
        """-4..3 for signed integers, 0..7 for unsigned ones."""
        dtype = e.dtype if not isinstance(e, Bin) else measure(e).dtype
        if dtype == "float32":
            return e
        e = Bin("&", e, Const(7, dtype))
        return e if dtype[0] == "u" else Bin("-", e, Const(4, dtype))

    def constant(self, dtype: str) -> Const:
        value = data(self.np, dtype, 4)[0].item()
        return Const(value, dtype)

    # --- kinds of steps ---

    def flat(self, out, dtype, sources):
        i = Var(self.r.choice("ijk"))
        body: list[Stmt] = []
        if self.r.random() < 0.5:
            body.append(Let("v", dtype, self.value(dtype, i, sources)))
            value = Bin("max", Var("v", dtype), self.load(dtype, i, sources)) if dtype != "bool" else Var("v", "bool")
        else:
            value = self.value(dtype, i, sources)
        return [loop(i.name, 24, *body, Store(out.name, i, value))]

    def nest(self, out, dtype, sources):
        a, b = self.r.choice([(2, 12), (4, 6), (8, 3)])
        i, j = Var("i"), Var("j")
        at = add(mul(i, b), j)
        value = self.value(dtype, at, sources, 2)
        if self.r.random() < 0.5:  # broadcast along one axis
            value = Fn(
                "select", (Bin("<", i, Const(1)), value, self.load(dtype, self.r.choice([i, j]), sources)), dtype
            )
        return [loop("i", a, loop("j", b, Store(out.name, at, value)))]

    def reduce(self, out, dtype, sources):
        i, k = Var("i"), Var("k")
        term = self.load("float32", add(mul(i, 6), k), sources)
        inner = loop("k", 6, Set("acc", Bin("+", Var("acc", "float32"), Bin("*", term, Const(0.25, "float32")))))
        return [
            loop(
                "i",
                4,
                Let("acc", "float32", Const(0.0, "float32")),
                inner,
                loop("c", 6, Store(out.name, add(mul(i, 6), Var("c")), cast(Var("acc", "float32"), dtype))),
            )
        ]

    def gather(self, out, dtype, sources):
        i = Var("i")
        index = Bin("min", Bin("max", self.load("int32", i, sources), Const(0)), Const(23))
        return [loop("i", 24, Let("at", "int32", index), Store(out.name, i, self.load(dtype, Var("at"), sources)))]

    def pad(self, out, dtype, sources):
        """Shifted in two dimensions, 4 x 6, a constant outside."""
        i, j, by = Var("i"), Var("j"), (self.r.randint(-2, 2), self.r.randint(-2, 2))
        y, x = add(i, by[0]), add(j, by[1])
        inside = Bin(
            "and",
            Bin("and", Bin("<=", Const(0), y), Bin("<", y, Const(4))),
            Bin("and", Bin("<=", Const(0), x), Bin("<", x, Const(6))),
        )
        value = Fn("select", (inside, self.load(dtype, add(mul(y, 6), x), sources), self.constant(dtype)), dtype)
        return [loop("i", 4, loop("j", 6, Store(out.name, add(mul(i, 6), j), value)))]

    def transpose(self, out, dtype, sources):
        i = Var("i")
        at = add(mul(Bin("%", i, Const(4)), 6), Bin("//", i, Const(4)))
        return [loop("i", 24, Store(out.name, i, self.load(dtype, at, sources)))]

    def guard(self, out, dtype, sources):
        """A window cut by the border: loop bounds that depend on an outer loop."""
        i, k = Var("i"), Var("k")
        lo, hi = Bin("max", Const(0), Bin("-", Const(2), i)), Bin("min", Const(5), Bin("-", Const(26), i))
        window = For(
            "k",
            lo,
            hi,
            (
                Set(
                    "best",
                    Bin(
                        "max", Var("best", "float32"), self.load("float32", Bin("-", Bin("+", i, k), Const(2)), sources)
                    ),
                ),
            ),
        )
        write = If(
            Bin("<", Var("best", "float32"), Const(3.0, "float32")),
            (Store(out.name, i, cast(Var("best", "float32"), dtype)),),
            (Store(out.name, i, self.load(dtype, i, sources)),),
        )
        return [loop("i", 24, Let("best", "float32", Const(-100.0, "float32")), window, write)]

    def unit(self, out, dtype, sources):
        """Loops of one turn, with the same names in both."""
        i, j = Var("i"), Var("j")
        half = [
            loop(
                "z",
                1,
                Let("v", dtype, self.value(dtype, add(Var("z"), add(i, base)), sources, 2)),
                Store(out.name, add(i, base), Var("v", dtype)),
            )
            for base in (0, 12)
        ]
        return [loop("i", 12, For("j", i, add(i, 1), (Let("same", "int32", j), half[0])), half[1])]


# --- kernels -------------------------------------------------------------------------------------


def lut(x: str, table: Buffer, y: str, n: int) -> Call:
    def meaning(args, read, write):
        write(args[2], table.data[read(args[0])[:n].view(np.uint8)])

    return Call("lut_s8", {"n": n}, (Ref(x), Ref(table.name), Ref(y)), (y,), meaning)


def maxpool_rows(x: str, y: str, pad: str, h: int, w: int, c: int, ring: int = 0) -> For:
    """A 3x3 max pool of an int8 picture with padding 1, one row per call."""
    params = {"in_w": w, "in_c": c, "out_w": w, "kh": 3, "kw": 3, "stride_w": 1, "dilation_w": 1, "pad_left": 1}

    def meaning(args, read, write):
        rows = read(args[0]).reshape(3, w, c)
        wide = np.pad(rows, ((0, 0), (1, 1), (0, 0)), constant_values=-128)
        write(args[2], np.stack([wide[:, i : i + 3].max((0, 1)) for i in range(w)]).reshape(-1))

    oy = Var("oy")
    args = (Rows(x, add(oy, -1), 3, 1, h, w * c, pad, ring=ring), Ref(pad), Ref(y, mul(oy, w * c)))
    return loop("oy", h, Call("maxpool_s8", params, args, (y,), meaning))


def streamed(h: int = 6, w: int = 5, c: int = 4) -> Program:
    """A table and a 3x3 max pool, row by row through a ring of three rows, in one step."""
    rng = np.random.default_rng(3)
    table = Buffer("table", "int8", 256, "rom", data=rng.integers(-128, 128, 256).astype(np.int8))
    row = w * c
    pool = maxpool_rows("ring", "y", "pad", h, w, c, ring=3).body[0]
    r = Var("r")
    pool = replace(pool, args=(replace(pool.args[0], first=add(r, -2)), pool.args[1], Ref("y", mul(add(r, -1), row))))
    fill = lut("x", table, "ring", row)
    fill = replace(fill, args=(Ref("x", mul(r, row)), Ref("table"), Ref("ring", mul(Bin("%", r, Const(3)), row))))
    body = loop("r", h + 1, If(Bin("<", r, Const(h)), (fill,)), If(Bin("<=", Const(1), r), (pool,)))
    buffers = [
        Buffer("x", "int8", h * row, "input"),
        Buffer("ring", "int8", 3 * row, "arena"),
        Buffer("y", "int8", h * row, "output"),
        Buffer("pad", "int8", row, "rom", data=np.full(row, -128, np.int8)),
        table,
    ]
    return program(
        buffers,
        [Function("stream", (body,), ("table", "pool"), op="MaxPool", outputs=("y",), result="y")],
        ["x"],
        ["y"],
    )
