"""The emitted C: it compiles without a warning, and computes what the interpreter says, bit for bit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from loop_programs import Random, loop, lut, maxpool_rows, planned, program, streamed

from edgec import emit, host, loop_passes, render_c, toolchain
from edgec.errors import EdgecError
from edgec.loop_interp import run
from edgec.loop_verify import verify
from edgec.loops import Bin, Buffer, Call, Const, Fn, Function, Let, Load, Ref, Rows, Set, Store, Var, add, cast

COMPILERS = [c for c in ("gcc", "clang") if shutil.which(c)]
UBSAN = ("-fsanitize=undefined", "-fno-sanitize-recover=all", "-static-libubsan")
I = Var("i")  # noqa: E741


def meta(p, name="m", **kw):
    infos = [
        tuple(emit.TensorInfo(n, p.buffers[n].dtype, (p.buffers[n].size,)) for n in names)
        for names in (p.inputs, p.outputs)
    ]
    return emit.Meta(name, name, "00ff", "edgec 0", ("c99",), *infos, **kw)


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def compiled(folder, p, cc="cc", flags=(), **kw) -> host.HostModel:
    """The program's package on this computer. Every warning is an error."""
    return host.load(write(folder, emit.package(verify(planned(p)), meta(p, **kw))), cc=cc, flags=flags)


def same(want: list[np.ndarray], got: list[np.ndarray]) -> bool:
    """Equal bits; any NaN is as good as any other."""
    return all(
        np.array_equal(np.where(nan, 0, w.view(np.int32)), np.where(nan & np.isnan(g), 0, g.view(np.int32)))
        if w.dtype == np.float32 and (nan := np.isnan(w)).any()
        else w.tobytes() == g.tobytes()
        for w, g in zip(want, got, strict=True)
    )


# --- programs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cc", COMPILERS)
@pytest.mark.parametrize("seed", range(4))
def test_random_programs(tmp_path, cc, seed):
    made = Random(seed + 1000, steps=12)
    p = made.program()
    inputs = made.inputs(p)
    want = run(p, inputs)
    for k, q in enumerate((p, loop_passes.optimise(p))):
        assert same(want, compiled(tmp_path / str(k), q, cc).run(inputs))


@pytest.mark.parametrize("flags", [UBSAN, ("-O3",), ("-O0",)], ids=["ubsan", "O3", "O0"])
def test_random_programs_under_other_options(tmp_path, flags):
    made = Random(77, steps=20)
    p = made.program()
    inputs = made.inputs(p)
    assert same(run(p, inputs), compiled(tmp_path, p, "gcc", flags).run(inputs))


def test_rows_and_rings(tmp_path):
    p = streamed()
    x = np.random.default_rng(0).integers(-128, 128, 120).astype(np.int8)
    for k, q in enumerate((p, loop_passes.optimise(p))):
        assert same(run(p, [x]), compiled(tmp_path / str(k), q, "gcc", UBSAN).run([x]))


def test_rows_known_in_advance(tmp_path):
    """One row, constant rows, a step between rows: each has a form of its own."""
    params = {"in_w": 4, "in_c": 1, "out_w": 4, "kh": 3, "kw": 1, "stride_w": 1, "dilation_w": 1, "pad_left": 0}

    def meaning(args, read, write):
        write(args[2], read(args[0]).reshape(-1, 4).max(0))

    def call(first, count, step, at):
        return Call(
            "maxpool_s8",
            params | {"kh": count},
            (Rows("x", first, count, step, 6, 4, "pad"), Ref("pad"), Ref("y", at)),
            ("y",),
            meaning,
        )

    body = (
        call(Const(-1), 3, 2, Const(0)),
        call(Const(4), 3, 1, Const(4)),
        loop(
            "i",
            2,
            call(add(I, -1), 1, 1, add(Bin("*", I, Const(4)), 8)),
            call(add(I, 1), 3, 2, add(Bin("*", I, Const(4)), 16)),
        ),
    )
    p = program(
        [
            Buffer("x", "int8", 24, "input"),
            Buffer("y", "int8", 24, "output"),
            Buffer("pad", "int8", 4, "rom", data=np.full(4, -128, np.int8)),
        ],
        [Function("s", body)],
        ["x"],
        ["y"],
    )
    x = np.random.default_rng(2).integers(-128, 128, 24).astype(np.int8)
    assert same(run(p, [x]), compiled(tmp_path, p, "gcc", UBSAN).run([x]))


def real_functions():
    names = "exp log sqrt tanh erf sin cos tan asin acos atan sinh cosh asinh acosh atanh".split()
    names += "floor ceil round rint trunc abs".split()
    x = Load("x", I, "float32")
    body = [Store("y", add(Bin("*", I, Const(len(names) + 2)), k), Fn(n, (x,))) for k, n in enumerate(names)]
    body += [
        Store("y", add(Bin("*", I, Const(len(names) + 2)), len(names) + k), Fn(n, (x, Const(0.75, "float32"))))
        for k, n in enumerate(("pow", "fmod"))
    ]
    buffers = [Buffer("x", "float32", 16, "input"), Buffer("y", "float32", 16 * (len(names) + 2), "output")]
    return program(buffers, [Function("s", (loop("i", 16, *body),))], ["x"], ["y"])


def test_real_functions_have_their_names_in_c(tmp_path):
    p = real_functions()
    x = np.linspace(0.05, 0.95, 16).astype(np.float32)
    (got,) = compiled(tmp_path, p).run([x])
    np.testing.assert_allclose(got, run(p, [x])[0], rtol=1e-6)


def test_a_loop_bound_keeps_its_first_value(tmp_path):
    body = [
        Let("n", "int32", Const(3)),
        loop("i", 8, Store("y", I, Const(0))),
        replace(
            loop("i", 8, Set("n", Const(1)), Store("y", Bin("min", I, Const(7)), Const(5))),
            hi=Bin("min", Var("n"), Const(8)),
        ),
    ]
    p = program([Buffer("y", "int32", 8, "output")], [Function("s", tuple(body))], [], ["y"])
    (got,) = compiled(tmp_path, p).run([])
    assert got.tolist() == [5, 5, 5, 0, 0, 0, 0, 0] == run(p, [])[0].tolist()


def test_comparisons_that_the_types_decide(tmp_path):
    """Compilers warn about these; the text holds their results."""
    x = Load("x", I, "uint8")
    unread = Let("v", "uint8", x)
    value = Fn(
        "select",
        (
            Bin("and", Bin("<=", Const(0, "uint8"), x), Bin("<=", Var("v", "uint8"), Const(255, "uint8"))),
            Const(1),
            Const(0),
        ),
        "int32",
    )
    p = program(
        [Buffer("x", "uint8", 8, "input"), Buffer("y", "int32", 8, "output")],
        [Function("s", (loop("i", 8, unread, Store("y", I, value)),))],
        ["x"],
        ["y"],
    )
    for k, cc in enumerate(COMPILERS):
        assert compiled(tmp_path / str(k), p, cc).run([np.zeros(8, np.uint8)])[0].tolist() == [1] * 8


def test_state_lasts_until_reset(tmp_path):
    step = Function(
        "s",
        (
            loop(
                "i",
                4,
                Store("s", I, Bin("+", Bin("&", Load("s", I, "int32"), Const(255)), Const(1))),
                Store("y", I, Load("s", I, "int32")),
            ),
        ),
    )
    p = program([Buffer("s", "int32", 4, "state"), Buffer("y", "int32", 4, "output")], [step], [], ["y"])
    model = compiled(tmp_path, p)
    assert [model.run([])[0][0] for _ in range(3)] == [1, 2, 3]
    model.reset()
    assert model.run([])[0][0] == 1


def test_constants_of_every_dtype_come_through(tmp_path):
    rng = np.random.default_rng(4)
    buffers, steps = [], []
    for dtype in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"):
        info = np.iinfo(dtype)
        data = np.concatenate([np.array([info.min, info.max], dtype), rng.integers(info.min, info.max, 30, dtype)])
        buffers += [Buffer(f"c_{dtype}", dtype, 32, "rom", data=data), Buffer(f"y_{dtype}", dtype, 32, "output")]
    reals = np.array(
        [0.1, -0.0, 1e-45, 1.1754942e-38, 3.4028235e38, np.inf, -np.inf, np.nan, 1 / 3, 16777216.0, 1e10, 123456.79],
        np.float32,
    )
    buffers += [
        Buffer("c_float32", "float32", 12, "rom", data=reals),
        Buffer("y_float32", "float32", 12, "output"),
        Buffer("c_bool", "bool", 3, "rom", data=np.array([True, False, True])),
        Buffer("y_bool", "bool", 3, "output"),
    ]
    for c, y in zip(buffers[::2], buffers[1::2], strict=True):
        steps.append(Function(f"copy_{c.dtype}", (loop("i", c.size, Store(y.name, I, Load(c.name, I, c.dtype))),)))
    steps.append(
        Function("literals", tuple(Store("z", Const(k), Const(float(v), "float32")) for k, v in enumerate(reals)))
    )
    p = program([*buffers, Buffer("z", "float32", 12, "output")], steps, [], [b.name for b in buffers[1::2]] + ["z"])
    assert same(run(p, []), compiled(tmp_path, p).run([]))


# --- kernels shared or stamped -------------------------------------------------------------------


def two_tables(n_second=8):
    table = Buffer("table", "int8", 256, "rom", data=np.random.default_rng(1).integers(-128, 128, 256).astype(np.int8))
    steps = [Function("a", (lut("x", table, "t", 8),), ("first/*",)), Function("b", (lut("t", table, "y", n_second),))]
    return program(
        [Buffer("x", "int8", 8, "input"), Buffer("t", "int8", 8, "arena"), Buffer("y", "int8", 8, "output"), table],
        steps,
        ["x"],
        ["y"],
    )


def test_a_kernel_of_several_steps_is_compiled_once():
    c = emit.package(planned(two_tables()), meta(two_tables()))["m.c"]
    assert c.count("static EC_NOINLINE EC_CODE void m_lut_s8(const ec_lut_s8_t *p,") == 1
    assert c.count("m_lut_s8(&lut_s8_params, ") == 2 and c.count(" ec_lut_s8(") == 1


@pytest.mark.parametrize("stamp", [True, {"lut_s8"}])
def test_stamping_compiles_each_set_of_parameters_once(stamp):
    one = emit.package(planned(two_tables()), meta(two_tables(), stamp=stamp))["m.c"]
    assert "m_lut_s8(const int8_t *a0," in one and one.count("{.n = 8}") == 1
    two = emit.package(planned(two_tables(7)), meta(two_tables(), stamp=stamp))["m.c"]
    assert "m_lut_s8(" not in two and two.count(" ec_lut_s8(&") == 2


@pytest.mark.parametrize("stamp", [False, True])
def test_shared_and_stamped_kernels_compute_the_same(tmp_path, stamp):
    p = two_tables()
    x = np.arange(-4, 4, dtype=np.int8)
    assert same(run(p, [x]), compiled(tmp_path, p, stamp=stamp).run([x]))


def test_kernels_work_in_place(tmp_path):
    """A shared kernel gets pointers to const from one step and to what it overwrites from another."""
    table = two_tables().buffers["table"]
    steps = [Function("a", (lut("x", table, "y", 8),)), Function("b", (lut("y", table, "y", 8),))]
    p = program([Buffer("x", "int8", 8, "input"), Buffer("y", "int8", 8, "output"), table], steps, ["x"], ["y"])
    x = np.arange(-4, 4, dtype=np.int8)
    assert same(run(p, [x]), compiled(tmp_path, p).run([x]))


# --- text ----------------------------------------------------------------------------------------


def test_identifiers():
    names = [
        "/conv1/Conv_output_0",
        "a;b:0",
        "",
        "9x",
        "int",
        "class",
        "ec_requant",
        "arena",
        "größe",
        "_",
        "x" * 200,
        "__a",
    ]
    out = [render_c.identifier(n) for n in names]
    assert all(o.isidentifier() and o.isascii() and len(o) <= 50 for o in out)
    assert out[:4] == ["conv1_Conv_output_0", "a_b_0", "t", "t_9x"] and not {*out} & {
        "int",
        "class",
        "arena",
        "ec_requant",
    }


def test_names_stay_apart():
    name = render_c.Namer(["m_run"])
    assert [name(n) for n in ("a/b", "a.b", "a_b", "m_run")] == ["a_b", "a_b_2", "a_b_3", "m_run_2"]
    inner = render_c.Namer(outer=name)
    assert inner("a/b") == "a_b_4"


def test_strings_and_comments_hold_any_text(tmp_path):
    nasty = 'a"b\\c??/\n*/ /* é % \x01 // \\'
    p = two_tables()
    p = replace(p, steps=tuple(replace(f, origin=(nasty,)) for f in p.steps))
    m = replace(meta(p), title=nasty, hash=nasty, tool=nasty, inputs=(emit.TensorInfo(nasty, "int8", (8,)),))
    model = host.load(write(tmp_path, emit.package(planned(p), m)))
    assert model.name == nasty and model.inputs[0].name == nasty and model.steps[0].name == nasty


def test_hostile_names(tmp_path):
    """Buffers, variables and steps called like C's words, like each other and like the interface."""
    names = ["int", "m", "m_run", "arena", "a/b", "a.b", "NULL", "rows", "k", "r", "ec_lut_s8", "bool", "step"]
    buffers = [
        Buffer(n, "int8", 8, "input" if n == names[0] else "output" if n == names[-1] else "arena") for n in names
    ]
    steps = []
    for k, (a, b) in enumerate(zip(names, names[1:], strict=False)):
        v = Var(["for", "i", a, b, "k"][k % 5])
        body = (loop(v.name, 8, Let("while", "int8", Load(a, v, "int8")), Store(b, v, Var("while", "int8"))),)
        steps.append(Function(["run", "init", "hook", "t", "info"][k % 5] + "_" * (k // 5), body))
    p = program(buffers, steps, [names[0]], [names[-1]])
    x = np.arange(8, dtype=np.int8)
    assert same([x], compiled(tmp_path, p).run([x]))


@pytest.mark.parametrize("value", [0.1, 1e-45, 3.4028235e38, 1 / 3, -2.5, 1e10, 65504, 1e-7, 5e-324])
def test_float_literals_are_exact(value):
    x = np.float32(value)
    text = render_c.real(x)
    assert text.endswith("f") and np.float32(text[:-1]) == x and len(text) < 16


@pytest.mark.parametrize(
    "value, dtype, text",
    [
        (-(2**31), "int32", "INT32_MIN"),
        (-(2**63), "int64", "INT64_MIN"),
        (2**63, "uint64", "UINT64_C(9223372036854775808)"),
        (-5, "int64", "-INT64_C(5)"),
        (7, "uint32", "7u"),
        (-7, "int8", "-7"),
        (True, "bool", "true"),
        (float("inf"), "float32", "EC_INFINITY"),
    ],
)
def test_literals(value, dtype, text):
    assert render_c.literal(value, dtype) == text


def test_an_infinite_kernel_bound_is_no_clamp():
    assert [render_c.param(v) for v in (-np.inf, np.finfo(np.float32).max, 6.0, 3)] == [
        "-EC_INF",
        "EC_INF",
        "6.0f",
        "3",
    ]


# --- the package ---------------------------------------------------------------------------------


def test_files_and_headers():
    files = emit.package(planned(two_tables()), meta(two_tables()))
    assert list(files) == ["m.c", "m.h", "m_weights.c", "runtime/ec.h", "runtime/lut_s8.h"]
    assert "ec_scalar.h" in "".join(emit.package(planned(Random(1).program()), meta(Random(1).program())))


def test_overlays_take_the_first_folder_that_has_a_header():
    base = emit.paths.data("runtime_c")
    shared = sorted(
        {p.name for p in (base / "kernel" / "dsp").glob("*.h")}
        & {p.name for p in (base / "kernel" / "c99").glob("*.h")}
    )
    assert shared
    for isa, folder in ((("dsp", "c99"), "dsp"), (("c99",), "c99")):
        found = emit.runtime([shared[0]], isa)
        assert found[shared[0]] == (base / "kernel" / folder / shared[0]).read_text()
        included = {name for text in found.values() for name in emit._INCLUDE.findall(text)}
        assert included <= set(found) and not any("/" in name for name in included)
    with pytest.raises(EdgecError, match="no nope.h"):
        emit.runtime(["nope.h"], ("c99",))


def test_a_tensor_must_fit_its_buffer():
    p = planned(two_tables())
    with pytest.raises(EdgecError, match=r"input q is int8\[9\], its buffer int8\[8\]"):
        emit.package(p, replace(meta(p), inputs=(emit.TensorInfo("q", "int8", (9,)),)))


MAIN = r"""
#include "m.h"
#include <stddef.h>
static uint8_t arena[M_ARENA_BYTES + 16] EC_ALIGNED(16);
static unsigned steps;
void m_hook(const m_t *m, unsigned step) { if (m->arena == arena && step == steps) { steps++; } }
#define CHECK(n, x) if (!(x)) { return n; }
int main(void)
{
    m_t m = {NULL}, other;
    CHECK(1, m_run(&m) == EC_ERR_NULL && m_run(NULL) == EC_ERR_NULL)
    CHECK(2, m_input(&m, 0) == NULL && m_output(&m, 0) == NULL && m_input(NULL, 0) == NULL && m_output(NULL, 0) == NULL)
    CHECK(3, m_init(NULL, arena, sizeof arena) == EC_ERR_NULL && m_init(&m, NULL, sizeof arena) == EC_ERR_NULL)
    CHECK(4, m_init(&m, arena, M_ARENA_BYTES - 1) == EC_ERR_ARENA && m_run(&m) == EC_ERR_NULL)
    CHECK(5, m_init(&m, arena + 8, M_ARENA_BYTES) == EC_ERR_ALIGN && m_run(&m) == EC_ERR_NULL)
    CHECK(6, m_init(&m, arena, M_ARENA_BYTES) == EC_OK)
    CHECK(7, m_input(&m, M_INPUTS) == NULL && m_output(&m, M_OUTPUTS) == NULL && m_output(&m, 99) == NULL)
    for (int i = 0; i < 8; i++) { ((int8_t *)m_input(&m, 0))[i] = (int8_t)i; }
    CHECK(8, m_run(&m) == EC_OK && steps == M_STEPS && M_STEPS == 2)
    CHECK(9, m_info.n_inputs == 1 && m_info.n_outputs == 1 && m_info.n_steps == 2)
    CHECK(10, m_info.inputs[0].dtype == EC_INT8 && m_info.inputs[0].rank == 2 && m_info.inputs[0].shape[1] == 4)
    CHECK(11, m_info.inputs[0].bytes == M_INPUT_0_BYTES && M_INPUT_0_ELEMENTS == 8 && M_INPUT_0_DTYPE == EC_INT8)
    CHECK(12, M_OUTPUT_0_SCALE == 0.1f && m_info.outputs[0].scale == 0.1f && m_info.arena_bytes == M_ARENA_BYTES)
    CHECK(15, M_OUTPUT_0_ZERO_POINT == -3 && m_info.outputs[0].zero_point == -3)
    CHECK(13, &arena[m_steps[1].offset] == m_output(&m, 0) && m_steps[1].bytes == 8 && m_steps[0].name[0] == 'f')
    CHECK(14, m_init(&other, arena, sizeof arena) == EC_OK)
    return 0;
}
"""


def interface_package(name="m"):
    p = two_tables()
    m = replace(
        meta(p, name),
        inputs=(emit.TensorInfo("in", "int8", (2, 4)),),
        outputs=(emit.TensorInfo("out", "int8", (8,), 0.1, -3),),
    )
    return emit.package(planned(p), m)


def compile_run(folder, sources, *flags, cc="gcc", run=True):
    done = subprocess.run(
        [cc, *flags, "-Wall", "-Wextra", "-Werror", *sources, "-o", "prog"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return subprocess.run([folder / "prog"], capture_output=True, text=True).returncode if run else 0


@pytest.mark.parametrize("cc", COMPILERS)
def test_the_c_interface(tmp_path, cc):
    write(tmp_path, interface_package() | {"main.c": MAIN})
    assert compile_run(tmp_path, ["main.c", "m.c", "m_weights.c"], "-std=c99", "-pedantic", "-Wconversion", cc=cc) == 0


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_the_header_is_cpp_too(tmp_path):
    main = """
#include "m.h"
int main()
{
    m_t m;
    const bool ok = m_init(&m, nullptr, 0) == EC_ERR_NULL && m_info.n_steps == 2 && m_steps[0].bytes == 8;
    return ok ? 0 : 1;
}
"""
    write(tmp_path, interface_package() | {"main.cpp": main})
    for c in ("m", "m_weights"):
        subprocess.run(["gcc", "-std=c99", "-c", f"{c}.c", "-o", f"{c}.o"], cwd=tmp_path, check=True)
    assert compile_run(tmp_path, ["main.cpp", "m.o", "m_weights.o"], "-std=c++11", "-pedantic", cc="g++") == 0


def test_two_models_in_one_program(tmp_path):
    other = planned(streamed())
    main = """
#include "a/m.h"
#include "b/other.h"
static uint8_t first[M_ARENA_BYTES] EC_ALIGNED(16), second[OTHER_ARENA_BYTES] EC_ALIGNED(16);
int main(void)
{
    m_t m;
    other_t o;
    return m_init(&m, first, sizeof first) + other_init(&o, second, sizeof second) + m_run(&m) + other_run(&o);
}
"""
    write(tmp_path / "a", interface_package())
    write(tmp_path / "b", emit.package(other, meta(other, "other")))
    write(tmp_path, {"main.c": main})
    assert (
        compile_run(
            tmp_path, ["main.c", "a/m.c", "a/m_weights.c", "b/other.c", "b/other_weights.c"], "-std=c99", "-pedantic"
        )
        == 0
    )


@pytest.mark.skipif(not shutil.which(toolchain.ARM_GCC), reason="no ARM compiler")
@pytest.mark.parametrize("cpu", ["cortex-m0", "cortex-m4"])
def test_it_compiles_for_arm_without_a_warning(tmp_path, cpu):
    for seed in (5, 6):
        p = Random(seed, steps=20).program()
        folder = write(tmp_path / str(seed), emit.package(planned(p), meta(p)))
        for source in ("m.c", "m_weights.c"):
            done = subprocess.run(
                [toolchain.ARM_GCC, f"-mcpu={cpu}", "-mthumb", *toolchain.CFLAGS, "-Werror", "-O2", "-c", source],
                cwd=folder,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr


def test_a_model_without_steps_or_inputs(tmp_path):
    x = Buffer("x", "int8", 4, "input")
    model = compiled(tmp_path / "through", program([x], [], ["x"], ["x"]))
    assert model.run([np.arange(4, dtype=np.int8)])[0].tolist() == [0, 1, 2, 3] and model.steps == ()
    constant = Buffer("c", "float32", 2, "rom", data=np.array([1.5, -np.inf], np.float32))
    assert compiled(tmp_path / "constant", program([constant], [], [], ["c"])).run([])[0].tolist() == [1.5, -np.inf]


def test_the_text_is_the_same_everywhere(tmp_path):
    """Another hash seed, locale, time zone and directory."""
    script = (
        "import sys; sys.path[:0] = sys.argv[1:]\nfrom test_render import *\n"
        "import json\np = loop_passes.optimise(Random(3, steps=15).program())\n"
        "print(json.dumps(emit.package(planned(p), meta(p))))"
    )
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    out = [
        subprocess.run(
            [sys.executable, "-c", script, *paths], cwd=cwd, check=True, capture_output=True, env={**os.environ, **env}
        ).stdout
        for cwd, env in (
            ("/", {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "UTC"}),
            (tmp_path, {"PYTHONHASHSEED": "2", "LC_ALL": "de_DE.UTF-8", "TZ": "Asia/Tokyo"}),
        )
    ]
    assert out[0] == out[1] and len(out[0]) > 1000


def test_steps_tell_where_their_result_is():
    p = planned(two_tables())
    assert emit.result(p, p.steps[0]).name == "t"
    assert emit.result(p, replace(p.steps[0], result="x")).name == "x"
    scratch = Call("k", {}, (Ref("y"), Ref("t")), ("y", "t"))
    assert emit.result(p, Function("s", (Store("t", Const(0), Const(0, "int8")), scratch))).name == "y"
    assert emit.result(p, Function("s", ())) is None


def test_a_pool_row_by_row(tmp_path):
    """Padding rows, one of each kind of border."""
    pad = Buffer("pad", "int8", 20, "rom", data=np.full(20, -128, np.int8))
    p = program(
        [Buffer("x", "int8", 120, "input"), Buffer("y", "int8", 120, "output"), pad],
        [Function("pool", (maxpool_rows("x", "y", "pad", 6, 5, 4),))],
        ["x"],
        ["y"],
    )
    x = np.random.default_rng(0).integers(-128, 128, 120).astype(np.int8)
    assert same(run(p, [x]), compiled(tmp_path, p, "gcc", UBSAN).run([x]))


def test_bool_memory_may_hold_any_byte(tmp_path):
    p = program(
        [Buffer("x", "bool", 8, "input"), Buffer("y", "int32", 8, "output")],
        [Function("s", (loop("i", 8, Store("y", I, cast(Load("x", I, "bool"), "int32"))),))],
        ["x"],
        ["y"],
    )
    got = compiled(tmp_path, p, "gcc", UBSAN).run_bytes([bytes([0, 1, 2, 128, 255, 0, 1, 7])])
    assert np.frombuffer(got[0], np.int32).tolist() == [0, 1, 1, 1, 1, 0, 1, 1]


@pytest.mark.parametrize("dtype", ["int8", "uint32", "int32", "float32"])
def test_weights_read_back_as_they_are(dtype):
    rng = np.random.default_rng(0)
    n = 20_000 // np.dtype(dtype).itemsize
    data = (
        rng.standard_normal(n).astype(dtype)
        if dtype == "float32"
        else rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, n, dtype)
    )
    text = emit.array_text(data)
    assert max(map(len, text.splitlines())) <= render_c.WIDTH
    words = [w.strip().rstrip("uf" if dtype == "float32" else "u") for w in text.split(",")]
    read = np.float32 if dtype == "float32" else lambda w: int(w, 0)
    np.testing.assert_array_equal(np.array([read(w) for w in words]).astype(dtype), data)
