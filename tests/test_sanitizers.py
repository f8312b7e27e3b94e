"""Emitted C under the sanitizers of gcc and clang, on ordinary and extreme inputs; and several models in a C++ program.

A program holds many packages and runs the one that it is told to, from a file to a file, in an arena of exactly
ARENA_BYTES from the heap: one byte past its ends is found, and what no step has written counts as uninitialised.
"""
from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import op_cases
import pytest
import test_small_models as small
from networks import samples

from edgec import board, host, onnx_in, package, paths, pipeline, store, toolchain

ADDRESS = ("-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all", "-g1")
MEMORY = ("-fsanitize=memory", "-fno-sanitize-recover=all", "-g1")
VARIANTS = {"gcc-address": ("gcc", ADDRESS), "clang-address": ("clang", ADDRESS), "clang-memory": ("clang", MEMORY)}
# Portable and DSP kernels, whole tensors and rows of streamed layers: each under each kind of sanitizer.
BUILDS = (("gcc-address", "cortex-m3", "ram"), ("gcc-address", "cortex-m4", "balanced"),
          ("clang-address", "cortex-m4", "ram"), ("clang-memory", "cortex-m3", "ram"),
          ("clang-memory", "cortex-m4", "balanced"),
          ("gcc-address", "cortex-m55", "ram"))  # not memory: its kernels multiply what lies behind the taps by zero
FLOAT = ("conv_same_upper_stride", "conv_pads_dilation", "conv_groups", "conv_depthwise_multiplier", "batch_of_two",
         "average_pool_pads", "average_pool_include", "max_pool_ceil", "residual", "squeeze_excite", "one_dimensional",
         "attention", "gemm_general", "slices_and_splits")
QUANTISED = ("conv_depthwise", "residual", "squeeze_excite", "one_dimensional", "average_pool_pads", "attention")
NETWORKS = ("kws", "ad", "ic")
OPERATORS = [op for op in sorted(op_cases.GENERATORS) if op != "Upsample"]  # that one is of another opset

HEAD = """
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
"""
ONE_MODEL = """
static int run_NAME(FILE *in, FILE *out)
{
    NAME_t m;
    void *arena;
    size_t left = 1;

    if (posix_memalign(&arena, EC_ARENA_ALIGN, MACRO_ARENA_BYTES) || NAME_init(&m, arena, MACRO_ARENA_BYTES)) {
        return 2;
    }
    for (;;) {
        for (unsigned i = 0; i < MACRO_INPUTS; i++) {
            left = fread(NAME_input(&m, i), NAME_info.inputs[i].bytes, 1, in);
        }
        if (left == 0) {
            break;
        }
        if (NAME_run(&m)) {
            return 3;
        }
        for (unsigned i = 0; i < MACRO_OUTPUTS; i++) {
            fwrite(NAME_output(&m, i), NAME_info.outputs[i].bytes, 1, out);
        }
    }
    free(arena);
    return 0;
}
"""
MAIN = """
int main(int n, char **words)
{
    FILE *in = n == 4 ? fopen(words[2], "rb") : NULL, *out = n == 4 ? fopen(words[3], "wb") : NULL;
    int status = 1;

    if (in == NULL || out == NULL) {
        return 1;
    }
CALLS
    fclose(in);
    return fclose(out) ? 4 : status;
}
"""


@dataclass(frozen=True, eq=False)
class Model:
    """A package, and what it gives by a build without sanitizers: bytes of all samples' inputs and of their outputs."""

    folder: Path
    c_name: str
    given: bytes
    wanted: bytes
    dtypes: tuple[str, ...]
    sizes: tuple[int, ...]

    def one_nan(self, raw: bytes) -> bytes:
        """Raw outputs with one NaN for all: which NaN it is depends on the compiler."""
        at, out = 0, []
        while at < len(raw):
            for dtype, size in zip(self.dtypes, self.sizes, strict=True):
                part = raw[at:at + size]
                if dtype == "float32":
                    x = np.frombuffer(part, np.float32)
                    part = np.where(np.isnan(x), np.float32(np.nan), x).tobytes()
                out.append(part)
                at += size
        return b"".join(out)


def emitted(graph, folder: Path, target: str, goal: str, more: Sequence[Sequence[np.ndarray]] = ()) -> Model:
    """The package of a graph, all in plain C. more: samples besides the random and extreme ones."""
    b, c_name = board.load(target), folder.name
    c = pipeline.compile_graph(graph, b, name=c_name, goal=goal)
    store.write_files(folder, c.files)
    if b.simd:
        for header in (paths.data("runtime_c") / "simd").glob("*_on_host/*.h"):
            if (folder / "runtime" / header.name).exists():
                shutil.copy(header, folder / "runtime")
    h = host.load(folder)
    given = [[x.tobytes() for x in s] for s in (*extremes(h.inputs), *more)]
    wanted = [h.run_bytes(s) for s in given]
    dtypes, sizes = tuple(t.dtype for t in h.outputs), tuple(t.nbytes for t in h.outputs)
    return Model(folder, c_name, joined(given), joined(wanted), dtypes, sizes)


def joined(samples: Sequence[Sequence[bytes]]) -> bytes:
    return b"".join(part for sample in samples for part in sample)


def extremes(inputs: Sequence[host.TensorInfo]) -> list[list[np.ndarray]]:
    """Random samples, all of a type's lowest value, all of its highest, and a mixture that has NaN and infinities too:
    converting those to integers is defined (ec_scalar.h), so they go into every model."""
    rng = np.random.default_rng(5)

    def ends(t):
        if t.dtype == "float32":
            return np.array([-3.4e38, 3.4e38, -np.inf, np.inf, np.nan, 1e-45, -0.0, 1.5], np.float32)
        if t.dtype == "bool":
            return np.array([False, True])
        info = np.iinfo(t.dtype)
        return np.array([info.min, info.max, 0, 1, 3], t.dtype)

    def random(t):
        if t.dtype in ("float32", "bool"):
            x = rng.normal(size=t.shape)
            return np.asarray(x if t.dtype == "float32" else x > 0, t.dtype)
        info = np.iinfo(t.dtype)
        return np.asarray(rng.integers(info.min, info.max, t.shape, t.dtype, endpoint=True))

    makers = (random, random, lambda t: np.full(t.shape, ends(t)[0]), lambda t: np.full(t.shape, ends(t)[1]),
              lambda t: np.asarray(rng.choice(ends(t), t.shape)))
    return [[make(t) for t in inputs] for make in makers]


def program(models: Sequence[Model], cc: str, flags: Sequence[str], folder: Path) -> Path:
    """The executable of these models: program <name> <input file> <output file>."""
    folder.mkdir()
    text = [HEAD, *(f'#include "{m.folder}/{m.c_name}.h"\n' for m in models)]
    text += [ONE_MODEL.replace("NAME", m.c_name).replace("MACRO", m.c_name.upper()) for m in models]
    calls = [f'    status = strcmp(words[1], "{m.c_name}") ? status : run_{m.c_name}(in, out);' for m in models]
    (folder / "main.c").write_text("".join(text) + MAIN.replace("CALLS", "\n".join(calls)))
    sources = [str(m.folder / s) for m in models for s in package.read(m.folder).sources]
    compile_with(cc, [*toolchain.CFLAGS, "-Werror", "-O1", *flags, "main.c", *sources, "-o", "program"], folder)
    return folder / "program"


def compile_with(cc: str, options: Sequence[str], folder: Path) -> None:
    done = subprocess.run([cc, *options], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def execute(command: Sequence[str], folder: Path) -> None:
    env = os.environ | {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", env=env)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[:3000]


def check(models: Sequence[Model], variant: str, folder: Path) -> None:
    """Every model runs without a finding and gives what it gives without sanitizers."""
    cc, flags = VARIANTS[variant]
    built = program(models, cc, flags, folder / "built")
    for m in models:
        (folder / "in").write_bytes(m.given)
        execute([built, m.c_name, folder / "in", folder / "out"], folder)
        assert m.one_nan((folder / "out").read_bytes()) == m.one_nan(m.wanted), m.c_name


def require(cc: str, flags: Sequence[str], folder: Path) -> None:
    """Skips the test unless the compiler is there with the run-time library of these sanitizers."""
    (folder / "empty.c").write_text("int main(void) { return 0; }\n")
    if shutil.which(cc) is None or subprocess.run([cc, *flags, "empty.c"], cwd=folder, capture_output=True).returncode:
        pytest.skip(f"needs {cc} and its sanitizers: apt-get install gcc g++ clang libclang-rt-dev")


@pytest.fixture(params=sorted(VARIANTS))
def variant(request, tmp_path):
    require(*VARIANTS[request.param], tmp_path)
    return request.param


@pytest.fixture(scope="module")
def emitted_once(tmp_path_factory):
    """name -> Model, made by a function when it is asked for first."""
    made: dict[str, Model] = {}

    def get(name: str, make) -> Model:
        if name not in made:
            made[name] = make(tmp_path_factory.mktemp("packages") / name)
        return made[name]
    return get


def from_small(name: str, folder: Path) -> Model:
    return emitted(onnx_in.from_model(small.MODELS[name](), name), folder, "cortex-m3", "ram")


def test_float_models(variant, emitted_once, tmp_path):
    check([emitted_once(f"f_{n}", partial(from_small, n)) for n in FLOAT], variant, tmp_path)


def quantised(name: str, target: str, goal: str, folder: Path) -> Model:
    scratch = folder.with_name("onnx")
    scratch.mkdir(parents=True)
    model = small.quantised(small.MODELS[name](), scratch, "QDQ", "int8", "int8", True)
    return emitted(onnx_in.from_model(model, name), folder, target, goal)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant,target,goal", BUILDS, indirect=["variant"])
def test_quantised_models(target, goal, variant, emitted_once, tmp_path):
    def one(name):
        return emitted_once(f"q_{name}_{target[-2:]}_{goal}", partial(quantised, name, target, goal))
    check([one(n) for n in QUANTISED], variant, tmp_path)


@pytest.mark.parametrize("variant,target,goal", BUILDS, indirect=["variant"])
def test_networks(target, goal, variant, models, emitted_once, tmp_path):
    def make(name, folder):
        real = [[samples(models, name, "int8")[0]]]
        return emitted(onnx_in.load(models / f"{name}_int8.onnx"), folder, target, goal, real)
    check([emitted_once(f"{n}_{target[-2:]}_{goal}", partial(make, n)) for n in NETWORKS], variant, tmp_path)


@pytest.mark.parametrize("variant", ["gcc-address", "clang-memory"], indirect=True)
@pytest.mark.parametrize("part", range(4))
def test_operators(part, variant, emitted_once, tmp_path):
    """Every generic operator; run-time indices, shifts and divisors are extreme as well."""
    def make(folder):
        cases = (case for op in OPERATORS[part::4] for case in op_cases.cases(op, 7))
        return emitted(onnx_in.from_model(op_cases.merged(cases)[0], "operators"), folder, "cortex-m3", "balanced")
    check([emitted_once(f"operators_{part}", make)], variant, tmp_path)


# --- the sanitizers see what they must see -------------------------------------------------------------------------


@pytest.mark.parametrize("variant,file,old,new,finding", [
    ("gcc-address", "conv.h", "ARENA_BYTES {0}u", "ARENA_BYTES {1}u", "heap-buffer-overflow"),
    ("clang-address", "conv.h", "ARENA_BYTES {0}u", "ARENA_BYTES {1}u", "heap-buffer-overflow"),
    ("clang-memory", "conv.c", "_run(conv_t *m)\n{{", "_run(conv_t *m)\n{{\n    if (m != NULL) {{ return EC_OK; }}",
     "use-of-uninitialized-value"),
], indirect=["variant"], ids=["past_the_end-gcc", "past_the_end-clang", "unwritten-clang"])
def test_a_planted_fault_is_found(variant, file, old, new, finding, tmp_path):
    m = from_small("conv", tmp_path / "conv")
    size = package.read(m.folder).arena_bytes
    old, new = (text.format(size, size - 1) for text in (old, new))
    text = (m.folder / file).read_text()
    assert text.count(old) == 1
    (m.folder / file).write_text(text.replace(old, new))
    with pytest.raises(AssertionError, match=finding):
        check([m], variant, tmp_path)


# --- C++, several models, several instances ------------------------------------------------------------------------

SIDE_BY_SIDE = r"""
#include "{a.folder}/{a.c_name}.h"
#include "{b.folder}/{b.c_name}.h"
#include <cstdio>
#include <cstring>
#include <vector>

alignas(EC_ARENA_ALIGN) static uint8_t first[{A}_ARENA_BYTES + EC_ARENA_ALIGN];
alignas(EC_ARENA_ALIGN) static uint8_t second[{A}_ARENA_BYTES];
alignas(EC_ARENA_ALIGN) static uint8_t other[{B}_ARENA_BYTES];

static std::vector<unsigned char> contents(const char *name)
{{
    std::vector<unsigned char> bytes;
    std::FILE *f = std::fopen(name, "rb");
    for (int c = f ? std::fgetc(f) : EOF; c != EOF; c = std::fgetc(f)) {{
        bytes.push_back(static_cast<unsigned char>(c));
    }}
    if (f) {{
        std::fclose(f);
    }}
    return bytes;
}}

static int refusals()
{{
    {a.c_name}_t m = {a.c_name}_t();
    if ({a.c_name}_run(&m) != EC_ERR_NULL || {a.c_name}_input(&m, 0) != NULL || {a.c_name}_output(&m, 0) != NULL) {{
        return 11;
    }}
    if ({a.c_name}_init(&m, NULL, sizeof first) != EC_ERR_NULL ||
        {a.c_name}_init(NULL, first, sizeof first) != EC_ERR_NULL) {{
        return 12;
    }}
    if ({a.c_name}_init(&m, first, {A}_ARENA_BYTES - 1u) != EC_ERR_ARENA || {a.c_name}_run(&m) != EC_ERR_NULL) {{
        return 13;
    }}
    if ({a.c_name}_init(&m, first + 1, {A}_ARENA_BYTES) != EC_ERR_ALIGN || {a.c_name}_run(NULL) != EC_ERR_NULL) {{
        return 14;
    }}
    if ({a.c_name}_init(&m, first, {A}_ARENA_BYTES) != EC_OK || {a.c_name}_input(&m, {A}_INPUTS) != NULL ||
        {a.c_name}_output(&m, {A}_OUTPUTS) != NULL) {{
        return 15;
    }}
    return 0;
}}

int main()
{{
    const std::vector<unsigned char> in_a = contents("in_a"), out_a = contents("out_a");
    const std::vector<unsigned char> in_b = contents("in_b"), out_b = contents("out_b");
    const unsigned char *x = in_a.data(), *y = in_b.data();
    {a.c_name}_t p, q;
    {b.c_name}_t r;
    if (const int wrong = refusals()) {{
        return wrong;
    }}
    if ({a.c_name}_init(&p, first, sizeof first) || {a.c_name}_init(&q, second, sizeof second) ||
        {b.c_name}_init(&r, other, sizeof other)) {{
        return 2;
    }}
    /* inputs of all three, then all run, then all are read: sample 0 and 1 of a, sample 0 of b */
    std::memcpy({a.c_name}_input(&p, 0), x, {A}_INPUT_0_BYTES);
    std::memcpy({b.c_name}_input(&r, 0), y, {B}_INPUT_0_BYTES);
    std::memcpy({a.c_name}_input(&q, 0), x + {A}_INPUT_0_BYTES, {A}_INPUT_0_BYTES);
    if ({a.c_name}_run(&q) || {b.c_name}_run(&r) || {a.c_name}_run(&p)) {{
        return 3;
    }}
    if (std::memcmp({a.c_name}_output(&p, 0), out_a.data(), {A}_OUTPUT_0_BYTES)) {{
        return 4;
    }}
    if (std::memcmp({a.c_name}_output(&q, 0), out_a.data() + {A}_OUTPUT_0_BYTES, {A}_OUTPUT_0_BYTES)) {{
        return 5;
    }}
    if (std::memcmp({b.c_name}_output(&r, 0), out_b.data(), {B}_OUTPUT_0_BYTES)) {{
        return 6;
    }}
    return {a.c_name}_info.arena_bytes == {A}_ARENA_BYTES && {b.c_name}_info.n_steps == {B}_STEPS ? 0 : 7;
}}
"""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cc,cxx", [("gcc", "g++"), ("clang", "clang++")])
def test_models_and_instances_side_by_side_in_cplusplus(cc, cxx, tmp_path):
    """Two models and two instances of one, interleaved, in a C++ program; what init and the accessors refuse."""
    require(cc, ADDRESS, tmp_path)
    if shutil.which(cxx) is None:
        pytest.skip(f"needs {cxx}")
    a = quantised("residual", "cortex-m4", "ram", tmp_path / "1" / "first")
    b = from_small("attention", tmp_path / "2" / "other")
    for name, m in (("a", a), ("b", b)):
        (tmp_path / f"in_{name}").write_bytes(m.given)
        (tmp_path / f"out_{name}").write_bytes(m.wanted)
    text = SIDE_BY_SIDE.format(a=a, b=b, A=a.c_name.upper(), B=b.c_name.upper())
    (tmp_path / "main.cpp").write_text(text)
    sources = [str(m.folder / s) for m in (a, b) for s in package.read(m.folder).sources]
    compile_with(cc, [*toolchain.CFLAGS, "-Werror", "-O1", *ADDRESS, "-c", *sources], tmp_path)
    objects = [Path(s).with_suffix(".o").name for s in sources]
    warnings = ("-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror")
    compile_with(cxx, [*warnings, *ADDRESS, "main.cpp", *objects, "-o", "program"], tmp_path)
    execute([str(tmp_path / "program")], tmp_path)
