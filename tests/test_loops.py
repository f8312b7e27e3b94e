"""The loop IR: what is a program (verify), what it means (interpreter), and the passes that keep the meaning."""

from __future__ import annotations

import operator
import random
import time
from dataclasses import replace

import numpy as np
import pytest
from loop_programs import Random, loop, lut, maxpool_rows, planned, program, streamed

from edgec import loop_passes
from edgec.loop_index import INT_RANGE, Scope, Variable, from_linear, linear, lower, measure, upper
from edgec.loop_interp import MeaningError, run
from edgec.loop_verify import VerifyError, statements, verify
from edgec.loops import (
    Bin,
    Buffer,
    Call,
    Const,
    Fn,
    For,
    Function,
    If,
    Let,
    Load,
    Ref,
    Rows,
    Set,
    Store,
    Var,
    add,
    cast,
    mul,
    program_text,
)

I, J, K = Var("i"), Var("j"), Var("k")  # noqa: E741


def x_of(n=8, dtype="int32", place="input"):
    return Buffer("x", dtype, n, place)


def y_of(n=8, dtype="int32", place="output"):
    return Buffer("y", dtype, n, place)


def one_step(*body, buffers=None, inplace=()):
    """A program of one step from x to y."""
    return program(buffers or [x_of(), y_of()], [Function("step", body, inplace=inplace)], ["x"], ["y"])


def copy(value=None, at=I, n=8):
    return loop("i", n, Store("y", at, Load("x", I, "int32") if value is None else value))


def bits(arrays):
    return [(a.dtype, a.tobytes()) for a in arrays]


# --- verify --------------------------------------------------------------------------------------


BAD = {
    "no buffer z": one_step(copy(Load("z", I, "int32"))),
    "x is int32, loaded as int8": one_step(copy(cast(Load("x", I, "int8"), "int32"))),
    "y is int32, the value float32": one_step(copy(Const(1.0, "float32"))),
    "operands of + are int32 and int8": one_step(copy(Bin("+", Load("x", I, "int32"), Const(1, "int8")))),
    "q is not in scope": one_step(copy(Var("q"))),
    "i shadows": one_step(loop("i", 2, loop("i", 2, Store("y", I, Const(0))))),
    "v is not in scope": one_step(loop("i", 8, Let("v", "int32", Const(0))), Store("y", Const(0), Var("v"))),
    "i is a loop variable": one_step(loop("i", 8, Set("i", Const(0)))),
    "loop bounds must be int32": one_step(
        For("i", Const(0, "int64"), Const(8, "int64"), (Store("y", Const(0), Const(0)),))
    ),
    "a loop step of 0": one_step(For("i", Const(0), Const(8), (), 0)),
    "index of y is in 0..8, allowed is 0..7": one_step(copy(n=9, value=Const(0))),
    "index of y is in -1..6": one_step(copy(at=add(I, -1), value=Const(0))),
    "needs a clamp": one_step(copy(Load("x", Load("x", I, "int32"), "int32"))),
    "may overflow": one_step(
        copy(Load("x", Bin("min", Bin("max", Bin("+", Load("x", I, "int32"), Const(8)), Const(0)), Const(7)), "int32"))
    ),
    "a positive right side": one_step(copy(Bin("//", Const(1), Load("x", I, "int32")))),
    "a shift by": one_step(copy(Bin("<<", Const(1), Load("x", I, "int32")))),
    "unknown function nope": one_step(copy(Fn("nope", (Const(0),), "int32"))),
    "unknown operation nope": one_step(copy(Bin("nope", Const(0), Const(0)))),
    "a condition must be bool": one_step(If(Const(1), (Store("y", Const(0), Const(0)),))),
    "the constant 300 is not int8": one_step(copy(cast(Const(300, "int8"), "int32"))),
    "x is in input": one_step(Store("x", Const(0), Const(0))),
    "it writes y, which is no argument": one_step(Call("k", {}, (Ref("x"),), ("y",))),
    "parameter n=4294967296": one_step(Call("k", {"n": 2**32}, (Ref("y"),), ("y",))),
    "first row of x is in -1..6": one_step(
        loop("i", 8, Call("k", {}, (Rows("x", add(I, -1), 1, 1, 8, 1), Ref("y")), ("y",)))
    ),
    "it needs 16 elements, x has 8": one_step(Call("k", {}, (Rows("x", Const(0), 1, 1, 8, 2), Ref("y")), ("y",))),
    "no step writes the output y": one_step(),
    "reads t, which nothing has written": one_step(
        copy(Load("t", I, "int32")), buffers=[x_of(), y_of(), Buffer("t", "int32", 8, "arena")]
    ),
    "two steps are called a": program(
        [x_of(), y_of()], [Function("a", (copy(),)), Function("a", (copy(),))], ["x"], ["y"]
    ),
    "is not a C identifier": program([x_of(), y_of()], [Function("a b", (copy(),))], ["x"], ["y"]),
    "a view of 36 bytes of x, which has 32": one_step(
        copy(), buffers=[x_of(), y_of(), Buffer("v", "int32", 9, "arena", alias="x")]
    ),
    "does not exist": one_step(copy(), buffers=[x_of(), y_of(), Buffer("v", "int32", 8, "arena", alias="w")]),
    "is a view of itself": one_step(copy(), buffers=[x_of(), y_of(), Buffer("v", "int32", 8, "arena", alias="v")]),
    "a view of the rom buffer": one_step(
        copy(),
        buffers=[
            x_of(),
            y_of(),
            Buffer("r", "int32", 8, "rom", data=np.zeros(8, np.int32)),
            Buffer("v", "int32", 8, "arena", alias="r"),
        ],
    ),
    "data are int8[8], not int32[8]": one_step(
        copy(), buffers=[x_of(), y_of(), Buffer("r", "int32", 8, "rom", data=np.zeros(8, np.int8))]
    ),
    "in-place pair of int32 and float32": one_step(
        copy(), buffers=[x_of(), y_of(), Buffer("f", "float32", 8, "arena")], inplace=(("y", "f"),)
    ),
    "offset 2 is not aligned": replace(
        one_step(copy(), buffers=[replace(x_of(), offset=2), replace(y_of(), offset=48)]), arena_bytes=80
    ),
    "it ends at 80, the arena has 79": replace(
        one_step(copy(), buffers=[replace(x_of(), offset=0), replace(y_of(), offset=48)]), arena_bytes=79
    ),
    "y has no place in the arena": replace(
        one_step(copy(), buffers=[replace(x_of(), offset=0), y_of()]), arena_bytes=79
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_verify_refuses(message):
    with pytest.raises(VerifyError) as e:
        verify(BAD[message], "some_pass")
    assert message in e.value.what or message in e.value.where
    assert "program m after some_pass" in e.value.where


def test_verify_names_step_and_statement():
    with pytest.raises(VerifyError) as e:
        verify(one_step(copy(n=9, value=Const(0))))
    assert e.value.where == "program m: step step: y[i] = 0"
    assert e.value.exit_code == 1


def window(lo, hi, index):
    """y[i] = x[index(i, k)] for k in lo..hi: loop bounds that depend on i."""
    return one_step(loop("i", 8, For("k", lo, hi, (Store("y", I, Load("x", index, "int32")),))))


GOOD = {
    "border window": window(
        Bin("max", Const(0), Bin("-", Const(2), I)),
        Bin("min", Const(5), Bin("-", Const(10), I)),
        Bin("-", Bin("+", I, K), Const(2)),
    ),
    "triangle": window(Const(0), add(I, 1), Bin("-", I, K)),
    "tiles": one_step(
        For(
            "j",
            Const(0),
            Const(8),
            (For("i", J, Bin("min", add(J, 3), Const(8)), (Store("y", I, Load("x", I, "int32")),)),),
            3,
        )
    ),
    "condition on a sum": one_step(
        copy(
            Fn(
                "select",
                (
                    Bin("and", Bin("<=", Const(3), add(I, J)), Bin("<", add(I, J), Const(11))),
                    Load("x", add(add(J, I), -3), "int32"),
                    Const(0),
                ),
                "int32",
            )
        )
    ),
    "negated condition": one_step(
        loop("i", 20, If(Bin("<=", Const(8), I), (), (Store("y", I, Load("x", I, "int32")),)))
    ),
    "clamped gather": one_step(
        copy(Load("x", Bin("min", Bin("max", Load("x", I, "int32"), Const(0)), Const(7)), "int32"))
    ),
    "wrapped gather": one_step(
        loop(
            "i",
            8,
            Let("v", "int32", Load("x", I, "int32")),
            Let(
                "w",
                "int32",
                Bin(
                    "min",
                    Bin(
                        "max",
                        Fn("select", (Bin("<", Var("v"), Const(0)), add(Var("v"), 8), Var("v")), "int32"),
                        Const(0),
                    ),
                    Const(7),
                ),
            ),
            Store("y", I, Load("x", Var("w"), "int32")),
        )
    ),
    "rows without padding": one_step(loop("i", 6, Call("k", {}, (Rows("x", I, 3, 1, 8, 1), Ref("y")), ("y",)))),
    "never runs": one_step(copy(), For("j", Const(4), Const(4), (Store("y", Const(99), Const(0)),))),
    "guarded division": one_step(
        copy(Bin("//", Bin("max", Load("x", I, "int32"), Const(0)), Bin("max", Load("x", I, "int32"), Const(1))))
    ),
    "table of indices": one_step(
        copy(Load("x", Load("r", I, "int32"), "int32")),
        buffers=[x_of(), y_of(), Buffer("r", "int32", 8, "rom", data=np.arange(8, dtype=np.int32)[::-1].copy())],
    ),
}
GOOD["condition on a sum"] = replace(
    GOOD["condition on a sum"], steps=(Function("step", (loop("j", 9, *GOOD["condition on a sum"].steps[0].body),)),)
)


@pytest.mark.parametrize("name", GOOD)
def test_verify_proves(name):
    assert verify(GOOD[name]) is GOOD[name]
    verify(loop_passes.simplify(GOOD[name]), "simplify")


def test_an_index_is_not_guarded_by_what_the_step_overwrites():
    t = Buffer("t", "int32", 8, "arena")
    body = (
        loop("i", 8, Store("t", I, Const(0))),
        loop(
            "i",
            8,
            If(
                Bin("and", Bin("<=", Const(0), Load("t", I, "int32")), Bin("<", Load("t", I, "int32"), Const(8))),
                (Store("t", Const(0), Const(9)), Store("y", I, Load("x", Load("t", I, "int32"), "int32"))),
            ),
        ),
    )
    with pytest.raises(VerifyError, match="clamp"):
        verify(one_step(*body, buffers=[x_of(), y_of(), t]))


def test_verify_takes_linear_time():
    def chain(n):
        buffers = [
            Buffer(f"b{k}", "int8", 4096, "input" if k == 0 else "output" if k == n else "arena") for k in range(n + 1)
        ]
        steps = [Function(f"s{k}", (maxpool_rows(f"b{k}", f"b{k + 1}", "pad", 16, 16, 16),)) for k in range(n)]
        pad = Buffer("pad", "int8", 256, "rom", data=np.zeros(256, np.int8))
        return program([*buffers, pad], steps, ["b0"], [f"b{n}"])

    def seconds(p):
        start = time.perf_counter()
        verify(p)
        return time.perf_counter() - start

    small, large = chain(200), chain(2000)
    assert min(seconds(large) for _ in range(3)) < 25 * min(seconds(small) for _ in range(3)) + 0.05


# --- bounds --------------------------------------------------------------------------------------


def test_intervals_and_bounds_are_sound():
    """Against all values that the variables take."""
    r = random.Random(5)

    def expression(depth):
        if depth == 0:
            return r.choice([I, J, Const(r.randint(-9, 9))])
        op = r.choice(["+", "-", "*", "min", "max", "+", "-"])
        return Bin(op, expression(depth - 1), expression(depth - 1))

    def value(e, i, j):
        match e:
            case Const(v):
                return v
            case Var(name):
                return i if name == "i" else j
        a, b = value(e.a, i, j), value(e.b, i, j)
        return {"+": a + b, "-": a - b, "*": a * b, "min": min(a, b), "max": max(a, b)}[e.op]

    for _ in range(300):
        lo, hi = expression(1), Bin("+", expression(1), Const(6))
        outer = Scope().bind("i", Variable("int32", (-3, 5), loop=True))
        lo, hi = (loop_passes.map_expr(e, lambda x: I if x == J else x) for e in (lo, hi))
        scope = outer.enter(For("j", lo, hi, ()))
        e = expression(3)
        cond = Bin(r.choice(["<", "<=", "=="]), expression(1), expression(1))
        points = [(i, j) for i in range(-3, 6) for j in range(value(lo, i, 0), value(hi, i, 0))]
        holds = {"<": operator.lt, "<=": operator.le, "==": operator.eq}[cond.op]
        inside = [p for p in points if holds(value(cond.a, *p), value(cond.b, *p))]
        for known, where in ((scope, points), (scope.assume(cond) if scope else None, inside)):
            values = [value(e, *p) for p in where]
            if not values:
                continue
            low, high = measure(e, known).interval
            assert low <= min(values) and max(values) <= high
            terms, const = linear(e)
            assert lower(terms, const, known, 10**9) <= min(values)
            assert upper(terms, const, known, -(10**9)) >= max(values)
            assert [value(from_linear(terms, const), *p) for p in where] == values


def test_measure_knows_dtypes():
    byte = cast(Load("x", I, "uint8"), "int32")
    assert measure(byte).interval == (0, 255)
    assert measure(cast(add(byte, 1), "uint8")).interval == INT_RANGE["uint8"]
    assert measure(Bin("+", Load("x", I, "int32"), Const(1))).safe is False
    assert measure(Bin("<=", byte, Const(255))).interval == (1, 1)
    assert measure(Fn("exp", (Const(0.0, "float32"),))).interval is None


# --- interpreter ---------------------------------------------------------------------------------


def values(p, *inputs):
    return run(verify(p), [np.asarray(x) for x in inputs])[0]


def test_signed_overflow_is_an_error():
    with pytest.raises(MeaningError, match="overflow: 2147483648 is not int32"):
        values(one_step(copy(Bin("+", Load("x", I, "int32"), Const(1)))), np.full(8, 2**31 - 1, np.int32))


def test_unsigned_arithmetic_wraps():
    p = one_step(
        loop("i", 8, Store("y", I, Bin("-", Load("x", I, "uint8"), Const(3, "uint8")))),
        buffers=[x_of(8, "uint8"), y_of(8, "uint8")],
    )
    np.testing.assert_array_equal(values(p, np.arange(8, dtype=np.uint8)), [253, 254, 255, 0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    "dtype, want",
    [
        ("int8", [0, 1, -1, 127, -128, 127, -128, 0]),
        ("uint8", [0, 1, 0, 200, 0, 255, 0, 0]),
        ("int32", [0, 1, -1, 200, -200, 2**31 - 1, -(2**31), 0]),
        ("int64", [0, 1, -1, 200, -200, 10**10, -(2**63), 0]),
        ("bool", [1, 1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_casts_truncate_and_saturate(dtype, want):
    p = one_step(
        loop("i", 8, Store("y", I, cast(Load("x", I, "float32"), dtype))), buffers=[x_of(8, "float32"), y_of(8, dtype)]
    )
    x = np.array([0.9, 1.9, -1.9, 200.5, -200.5, 1e10, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(values(p, x), want)


def test_float_results_are_rounded_at_each_operation():
    x = Load("x", I, "float32")
    p = one_step(
        loop("i", 8, Store("y", I, Bin("-", Bin("+", x, Const(1.0, "float32")), Const(1.0, "float32")))),
        buffers=[x_of(8, "float32"), y_of(8, "float32")],
    )
    assert not values(p, np.full(8, 1e-8, np.float32)).any()


def test_nan_wins_a_minimum_from_both_sides():
    nan = Const(float("nan"), "float32")
    x = Load("x", I, "float32")
    for value in (Bin("min", x, nan), Bin("max", nan, x)):
        p = one_step(loop("i", 8, Store("y", I, value)), buffers=[x_of(8, "float32"), y_of(8, "float32")])
        assert np.isnan(values(p, np.ones(8, np.float32))).all()


def test_an_index_outside_is_an_error():
    with pytest.raises(MeaningError, match=r"x\[9\]"):
        run(one_step(copy(Load("x", Load("x", I, "int32"), "int32"))), [np.full(8, 9, np.int32)])


def test_rows_ring_and_padding():
    p = streamed()
    x = np.random.default_rng(0).integers(-128, 128, (6, 5, 4)).astype(np.int8)
    t = np.pad(p.buffers["table"].data[x.view(np.uint8)], ((1, 1), (1, 1), (0, 0)), constant_values=-128)
    want = np.max([t[a : a + 6, b : b + 5] for a in range(3) for b in range(3)], axis=0)
    np.testing.assert_array_equal(values(p, x), want.reshape(-1))


def test_a_plan_that_overlaps_shows():
    steps = [
        Function("a", (loop("i", 8, Store("t", I, add(Load("x", I, "int32"), 0))),)),
        Function("b", (loop("i", 8, Store("y", I, Load("t", Bin("-", Const(7), I), "int32"))),)),
    ]
    p = program([x_of(), y_of(), Buffer("t", "int32", 8, "arena")], steps, ["x"], ["y"])
    x = np.arange(8, dtype=np.int32)
    np.testing.assert_array_equal(values(planned(p), x), x[::-1])
    overlapping = {n: replace(b, offset=0) for n, b in p.buffers.items()}
    assert not np.array_equal(values(replace(p, buffers=overlapping, arena_bytes=32), x), x[::-1])


def test_state_lasts_and_views_share_memory():
    buffers = [x_of(), y_of(), Buffer("s", "int32", 8, "state"), Buffer("v", "uint8", 32, "output", alias="y")]
    step = Function(
        "sum",
        (
            loop(
                "i",
                8,
                Store("s", I, Bin("+", Bin("&", Load("s", I, "int32"), Const(255)), Const(1))),
                Store("y", I, Load("s", I, "int32")),
            ),
        ),
    )
    p = verify(program(buffers, [step], ["x"], ["y", "v"]))
    state = {}
    for turn in (1, 2):
        y, v = run(p, [np.zeros(8, np.int32)], state=state)
        assert (y == turn).all() and v.view(np.int32).tolist() == y.tolist()
    assert (run(p, [np.zeros(8, np.int32)])[0] == 1).all()


def test_after_each_step():
    seen = []
    run(streamed(), [np.zeros(120, np.int8)], after=lambda f, memory: seen.append((f.name, memory["y"].shape)))
    assert seen == [("stream", (120,))]


def test_a_kernel_may_write_only_what_it_lists():
    call = replace(lut("x", Buffer("t", "int8", 256, "rom", data=np.zeros(256, np.int8)), "y", 8), writes=())
    p = one_step(
        call, buffers=[x_of(8, "int8"), y_of(8, "int8"), Buffer("t", "int8", 256, "rom", data=np.zeros(256, np.int8))]
    )
    with pytest.raises(MeaningError, match="does not list"):
        run(p, [np.zeros(8, np.int8)])


@pytest.mark.parametrize("inputs", [[], [np.zeros(8, np.int8)], [np.zeros(9, np.int32)]])
def test_wrong_inputs(inputs):
    with pytest.raises(MeaningError):
        run(one_step(copy()), inputs)


# --- passes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", dict.fromkeys(p.__name__ for p in loop_passes.PASSES))
def test_a_pass_keeps_the_meaning_of_random_programs(name):
    changed = 0
    for seed in range(40):
        made = Random(seed)
        p = verify(made.program())
        inputs = made.inputs(p)
        if name != "simplify":
            p = verify(loop_passes.simplify(p))
        q = verify(getattr(loop_passes, name)(p), name)
        changed += program_text(p) != program_text(q)
        assert bits(run(q, inputs)) == bits(run(p, inputs)), seed
    assert changed or name in ("drop_dead", "write_in_place")  # these programs have no step that copies


def test_all_passes_keep_the_meaning_of_random_programs():
    for seed in range(100, 160):
        made = Random(seed)
        p = made.program()
        inputs = made.inputs(p)
        assert bits(run(planned(loop_passes.optimise(p)), inputs)) == bits(run(p, inputs)), seed


def test_optimise_offers_the_text_after_each_pass():
    seen = []
    loop_passes.optimise(one_step(copy()), lambda name, text: seen.append((name, text[:9])))
    assert seen == [(p.__name__, "program m") for p in loop_passes.PASSES]


def text_of(*body, run_pass=loop_passes.simplify, **kw):
    p = run_pass(verify(one_step(*body, **kw)))
    return [
        line.strip()
        for line in program_text(verify(p)).splitlines()
        if line.startswith("  ") and ":" not in line or " let " in line
    ]


def test_simplify_folds():
    x = Load("x", I, "int32")
    assert text_of(copy(Bin("+", Bin("*", x, Const(1)), Const(0)))) == ["for i in 0..8", "y[i] = x[i]"]
    assert text_of(copy(Bin("min", Bin("&", x, Const(3)), Const(5)))) == ["for i in 0..8", "y[i] = (x[i] & 3)"]
    assert text_of(copy(Bin("//", add(mul(I, 4), 3), Const(4)))) == ["for i in 0..8", "y[i] = i"]
    assert text_of(copy(Bin("%", add(mul(I, 5), 1), Const(5)))) == ["for i in 0..8", "y[i] = 1"]
    assert text_of(copy(cast(cast(x, "int64"), "int32"))) == ["for i in 0..8", "y[i] = x[i]"]
    assert text_of(copy(Fn("select", (Bin("<", I, Const(8)), x, Const(0)), "int32"))) == [
        "for i in 0..8",
        "y[i] = x[i]",
    ]


def test_simplify_keeps_minus_zero():
    x = Load("x", I, "float32")
    p = one_step(
        loop("i", 8, Store("y", I, Bin("+", x, Const(0.0, "float32")))),
        buffers=[x_of(8, "float32"), y_of(8, "float32")],
    )
    zero = np.full(8, -0.0, np.float32)
    assert bits(run(loop_passes.simplify(p), [zero])) == bits(run(p, [zero]))


def test_simplify_unrolls_loops_of_one_turn_and_removes_what_is_not_read():
    body = For(
        "j",
        I,
        add(I, 1),
        (Let("v", "int32", J), Let("w", "int32", Const(3)), Store("y", J, Load("x", Var("v"), "int32"))),
    )
    assert text_of(loop("i", 8, body)) == ["for i in 0..8", "y[i] = x[i]"]


def test_simplify_makes_names_unique_where_bodies_join():
    def half(base):
        return loop(
            "z",
            1,
            Let("v", "int32", Load("x", add(I, base), "int32")),
            Set("v", Bin("min", Var("v"), Const(5))),
            Store("y", add(I, base), Var("v")),
        )

    p = one_step(loop("i", 4, half(0), half(4)))
    x = np.arange(8, dtype=np.int32)
    q = verify(loop_passes.simplify(verify(p)))
    np.testing.assert_array_equal(values(q, x), np.minimum(x, 5))
    assert sum(isinstance(s, For) for s in statements(q.steps[0].body)) == 1


def test_simplify_drops_padding_that_is_not_needed():
    def rows(first, n):
        call = Call("k", {}, (Rows("x", first, 3, 1, 8, 1, "x"), Ref("y")), ("y",))
        return loop_passes.simplify(verify(one_step(loop("i", n, call)))).steps[0].body[0].body[0].args[0].pad

    assert rows(I, 6) == "" and rows(I, 7) == "x" and rows(add(I, -1), 6) == "x"


def test_collapse_joins_contiguous_loops_only():
    flat = loop("i", 2, loop("j", 4, Store("y", add(mul(I, 4), J), Load("x", add(mul(I, 4), J), "int32"))))
    assert text_of(flat, run_pass=loop_passes.collapse_loops) == ["for i in 0..8", "y[i] = x[i]"]
    turned = loop("i", 2, loop("j", 4, Store("y", add(mul(I, 4), J), Load("x", add(I, mul(J, 2)), "int32"))))
    assert text_of(turned, run_pass=loop_passes.collapse_loops)[0] == "for i in 0..2"
    broadcast = loop("i", 2, loop("j", 4, Store("y", add(mul(I, 4), J), Load("x", J, "int32"))))
    assert text_of(broadcast, run_pass=loop_passes.collapse_loops)[0] == "for i in 0..2"


def chain(*bodies, place="arena", extra=()):
    """Steps x -> t0 -> t1 ... -> y."""
    names = ["x", *(f"t{k}" for k in range(len(bodies) - 1)), "y"]
    steps = [
        Function(f"s{k}", tuple(body(a, b)), (f"n{k}",), ((b, a),), "Op", outputs=(b,))
        for k, (body, a, b) in enumerate(zip(bodies, names, names[1:], strict=False))
    ]
    buffers = [x_of(), y_of(), *(Buffer(n, "int32", 8, place) for n in names[1:-1])]
    return program(buffers, [*steps, *extra], ["x"], ["y"] + names[1:-1] * (place == "output"))


def plus(c):
    return lambda a, b: [
        loop(
            "i",
            8,
            Let("v", "int32", Load(a, I, "int32")),
            Store(b, I, Bin("+", Bin("&", Var("v"), Const(255)), Const(c))),
        )
    ]


def nested(a, b):
    at = add(mul(I, 4), J)
    return [loop("i", 2, loop("j", 4, Store(b, at, Bin("min", Load(a, at, "int32"), Load("x", J, "int32")))))]


def test_fuse_makes_one_step_of_a_chain():
    p = chain(plus(1), nested, plus(2), plus(3))
    q = verify(loop_passes.fuse_elementwise(verify(p)))
    assert len(q.steps) == 1 and set(q.buffers) == {"x", "y"}
    assert (
        q.steps[0].origin == ("n0", "n1", "n2", "n3")
        and q.steps[0].outputs == ("y",)
        and q.steps[0].op == "Op+Op+Op+Op"
    )
    assert not q.steps[0].inplace  # the second step reads x in another order
    x = np.arange(100, 108, dtype=np.int32)
    np.testing.assert_array_equal(values(q, x), values(p, x))


def test_fuse_keeps_in_place_pairs_that_hold():
    q = loop_passes.fuse_elementwise(chain(plus(1), plus(2)))
    assert q.steps[0].inplace == (("y", "x"),)


def test_fuse_looks_through_views():
    p = chain(plus(1), plus(2))
    load = Load("view", I, "int32")
    steps = (p.steps[0], replace(p.steps[1], body=(loop("i", 8, Store("y", I, load)),)))
    p = replace(p, steps=steps, buffers={**p.buffers, "view": Buffer("view", "int32", 8, "arena", alias="t0")})
    assert set(verify(loop_passes.fuse_elementwise(verify(p))).buffers) == {"x", "y"}


def backward(a, b):
    return [loop("i", 8, Store(b, I, Load(a, Bin("-", Const(7), I), "int32")))]


REFUSED = {
    "the buffer is an output": chain(plus(1), plus(2), place="output"),
    "another order": chain(plus(1), backward),
    "a second reader": chain(
        plus(1), plus(2), extra=[Function("late", (loop("i", 8, Store("y", I, Load("t0", I, "int32"))),))]
    ),
    "it is written twice": chain(lambda a, b: [*plus(1)(a, b), Store(b, Const(0), Const(0))], plus(2)),
    "it is written under a condition": chain(
        lambda a, b: [
            loop("i", 8, Store(b, I, Const(0))),
            loop("i", 8, If(Bin("<", I, Const(3)), (Store(b, I, Const(1)),))),
        ],
        plus(2),
    ),
    "the second step overwrites what the first reads": replace(
        chain(plus(1), plus(2)),
        buffers={**chain(plus(1), plus(2)).buffers, "y": Buffer("y", "int32", 8, "output", alias="x")},
    ),
}


REFUSED["the plan counts on its ticks"] = replace(
    chain(plus(1), plus(2)), steps=tuple(replace(f, ticks=2) for f in chain(plus(1), plus(2)).steps)
)


@pytest.mark.parametrize("why", REFUSED)
def test_fuse_refuses_where(why):
    p = verify(REFUSED[why])
    assert len(loop_passes.fuse_elementwise(p).steps) == len(p.steps)


def test_drop_dead():
    p = chain(plus(1))
    p = replace(
        p,
        steps=(Function("nothing", ()), *p.steps),
        buffers={**p.buffers, "z": Buffer("z", "int8", 4, "arena"), "w": Buffer("w", "int8", 4, "arena", alias="z")},
    )
    q = verify(loop_passes.drop_dead(verify(p)))
    assert [f.name for f in q.steps] == ["s0"] and set(q.buffers) == {"x", "y"}


def test_streaming_regions_survive_the_passes():
    p = streamed()
    x = np.random.default_rng(1).integers(-128, 128, 120).astype(np.int8)
    np.testing.assert_array_equal(values(planned(loop_passes.optimise(p)), x), values(p, x))
