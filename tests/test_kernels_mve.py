"""The kernels of runtime_c/kernel/mve against numpy, exactly: on the host (simd/mve_on_host) through cffi under UBSan
and as a program under ASan, and as Helium code under QEMU."""
from __future__ import annotations

import shutil
import subprocess

import dsp_program
import kernel_lib
import numpy as np
import pytest
import test_kernels_c99 as c99
import test_kernels_dsp as layers
from dsp_program import Case
from hypothesis import given, settings, strategies as st

from edgec.kernels import mve

SAME = ("add", "mul", "lut", "maxpool", "avgpool")  # kernels that take what their c99 namesakes take
HEADERS = ("conv_s8_mve.h", "fc_s8_mve.h", "dwconv_s8_mve.h", *(f"{name}_s8.h" for name in SAME))
SHIFTS = (1, 8, 15, 21)


@pytest.fixture(scope="module")
def host():
    isa = (kernel_lib.RUNTIME / "kernel" / "mve", kernel_lib.C99)
    simd = kernel_lib.RUNTIME / "simd" / "mve_on_host"
    lines = kernel_lib.declarations(HEADERS, isa).splitlines()
    cdef = "\n".join(line for line in lines if "ec_v" not in line)  # vectors are not for cffi
    return kernel_lib.compile_kernels(HEADERS, isa, simd, cdef, flags=("-O1", *kernel_lib.UBSAN))


def case(kind, layer):
    """The call of a layer as test_kernels_dsp makes them; None where the kernel does not take it."""
    params, rows, pad, w, bias, mult = layer
    reference = layers.dwconv_reference if kind == "dwconv" else layers.conv_reference
    expected = reference(params, rows, pad, w, bias, mult)
    inputs = layers._rows(rows, pad)
    if kind == "fc":
        params, w, inputs = {k: params[k] for k in layers.FC}, w.reshape(len(w), -1), (rows.reshape(-1),)
    found = mve.packed(kind, params, w, bias, mult)
    if found is None:
        return None
    weights, scratch, params = found
    args = (*inputs, *(a for _, a in weights), "out", "scratch")
    return Case(f"{kind}_s8_mve", params, args, expected.size, scratch, np.ascontiguousarray(expected))


MULTIPLIED = (dict(in_w=9, in_c=8, kh=3, kw=3, pad=1, mult=2), dict(in_w=7, in_c=5, kh=3, kw=3, dilation=2, pad=2, mult=3),
              dict(in_w=1, in_c=11, kh=4, kw=1, mult=5))


def shape_cases(seed):
    def rng():
        return np.random.default_rng(seed)

    found = [case("conv", layers.conv_layer(rng(), **s, f=f)) for s in layers.CONV_SHAPES.values() for f in SHIFTS]
    shapes = layers.DWCONV_SHAPES.values()
    found += [case("dwconv", layers.dwconv_layer(rng(), **s, f=f)) for s in shapes for f in (1, 8)]
    found += [case("dwconv", layers.dwconv_layer(rng(), **s, f=8)) for s in MULTIPLIED]
    found += [case("fc", layers.conv_layer(rng(), 1, k, n, 1, 1, f=f)) for k, n in layers.FC_SHAPES for f in SHIFTS]
    return [c for c in found if c is not None]


@pytest.mark.parametrize("seed", range(1))
def test_shapes(host, seed):
    for c in shape_cases(seed):
        layers.check(host, c)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_conv_of_any_shape(host, data):
    def draw(lo, hi):
        return data.draw(st.integers(lo, hi))

    groups = draw(1, 3)
    shape = dict(in_w=draw(1, 9), in_c=groups * draw(1, 20), out_c=groups * draw(1, 9), kh=draw(1, 4), kw=draw(1, 4),
                 stride=draw(1, 3), dilation=draw(1, 2), pad=draw(0, 4), right=draw(0, 4), groups=groups,
                 f=data.draw(st.sampled_from(SHIFTS)))
    if shape["in_w"] + shape["pad"] + shape["right"] > (shape["kw"] - 1) * shape["dilation"]:
        layers.check(host, case("conv", layers.conv_layer(np.random.default_rng(draw(0, 10**6)), **shape)))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_dwconv_of_any_shape(host, data):
    def draw(lo, hi):
        return data.draw(st.integers(lo, hi))

    kh, kw = (3, 3) if draw(0, 1) else (draw(1, 6), draw(1, 6))
    shape = dict(in_w=draw(1, 20), in_c=draw(1, 19), kh=kh, kw=kw, stride=draw(1, 3), pad=draw(0, 3), right=draw(0, 3),
                 dilation=draw(1, 3), mult=draw(1, 3), f=data.draw(st.sampled_from(SHIFTS)))
    if shape["in_w"] + shape["pad"] + shape["right"] > (kw - 1) * shape["dilation"]:
        layers.check(host, case("dwconv", layers.dwconv_layer(np.random.default_rng(draw(0, 10**6)), **shape)))


@pytest.mark.parametrize("name", SAME)
def test_as_c99(host, name):
    for seed in range(40):
        c = c99.INTEGER[name](np.random.default_rng(seed), "s8")
        np.testing.assert_array_equal(c99.call(host, c), c.expected)


@pytest.mark.parametrize("name", ["add", "mul", "lut"])
def test_in_place(host, name):
    for seed in range(20):
        c = c99.INTEGER[name](np.random.default_rng(seed), "s8")
        np.testing.assert_array_equal(c99.call(host, c, inplace=True), c.expected)


def test_sums_up_to_the_limit(host):
    k = 512
    layers.check(host, case("conv", layers.heavy(1, k, 2**31 - 1 - 127 * 127 * k)))
    params, rows, *rest = layers.heavy(0, k, 2**31 - 1 - 127 * 127 * k)
    layers.check(host, case("fc", (params | {"in_w": 1, "out_w": 1}, rows[:, :1], *rest)))


def test_row_left_to_the_portable_kernel():
    params, _, _, w, bias, mult = layers.dwconv_layer(np.random.default_rng(0), 9, 8, 3, 3, pad=1)
    assert mve.packed("dwconv", params, w, bias, mult) is not None
    assert mve.packed("dwconv", params | {"out_w": 4000}, w, bias, mult) is None


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    cases = shape_cases(7)
    cases += [c99.INTEGER[name](np.random.default_rng(100 + i), "s8") for name in SAME for i in range(6)]
    expected = [(dsp_program.checksum(c.expected.tobytes()), 1) for c in cases]
    return dsp_program.write(tmp_path_factory.mktemp("mve"), cases[::3]), expected[::3]


def test_program_on_the_host(program):
    source, expected = program
    assert dsp_program.run([dsp_program.build_host(source, isa="mve")]) == expected


@pytest.mark.skipif(bool(dsp_program.missing()), reason=f"absent: {dsp_program.missing()}")
@pytest.mark.parametrize("machine", dsp_program.HELIUM)
def test_program_under_qemu(program, machine):
    source, expected = program
    assert dsp_program.run(dsp_program.qemu(dsp_program.build_arm(source, machine), machine)) == expected


ARM = (*dsp_program.HELIUM["mps3-an547"][0], "-mthumb", "-ffreestanding")
COMPILERS = {
    "gcc": ("cc", "mve_on_host"), "clang": ("clang", "mve_on_host"), "arm gcc": ("arm-none-eabi-gcc", "mve", *ARM),
    "arm clang": ("clang", "mve", "--target=arm-none-eabi", *ARM),
}


@pytest.mark.parametrize("level", ["-O1", "-O2", "-Os"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_warnings(tmp_path, compiler, level):
    cc, simd, *flags = COMPILERS[compiler]
    if not shutil.which(cc):
        pytest.skip(f"absent: {cc}")
    text = "".join(f'#include "{h}"\n' for h in HEADERS)
    for kernel in ("conv_s8_mve", "dwconv_s8_mve"):  # parameters known only at run time
        args = ("const int8_t *const *rows, const int8_t *pad, const int8_t *w, const int32_t *bias, "
                "const int32_t *mult, int8_t *out, int8_t *scratch")
        text += (f"void use_{kernel}(const ec_{kernel}_t *p, {args});\n"
                 f"void use_{kernel}(const ec_{kernel}_t *p, {args})\n"
                 f"{{ ec_{kernel}(p, rows, pad, w, bias, mult, out, scratch); }}\n")
    source = tmp_path / "all.c"
    source.write_text(text)
    subprocess.run([cc, *flags, *kernel_lib.WARNINGS, *dsp_program.include_flags("mve", simd), level, "-c", str(source),
                    "-o", str(tmp_path / "all.o")], check=True)
