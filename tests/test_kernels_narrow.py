"""Kernels with weights of 4 and 2 bits against numpy, exactly: portable and DSP on the host under UBSan, as a program under
ASan, and as Arm code under QEMU."""
from __future__ import annotations

import shutil
import subprocess

import dsp_program
import kernel_lib
import numpy as np
import pytest
import test_kernels_dsp as layers
from dsp_program import Case
from hypothesis import given, settings, strategies as st

from edgec.kernels import dsp, narrow

PORTABLE = ("conv_s8_narrow.h", "fc_s8_narrow.h")
DSP = ("conv_s8_dsp.h", "conv_s8_narrow_dsp.h", "fc_s8_narrow_dsp.h")
FLAGS = ("-O1", *kernel_lib.UBSAN)


@pytest.fixture(scope="module")
def c99():
    return kernel_lib.compile_kernels(PORTABLE, (kernel_lib.C99,), kernel_lib.RUNTIME / "simd" / "c99", flags=FLAGS)


@pytest.fixture(scope="module")
def host():
    return kernel_lib.compile_kernels(DSP, layers.ISA, layers.HOST_SIMD, flags=FLAGS)


def narrowed(layer, bits):
    """The layer with weights of so many bits and sums that fit their parts of a word."""
    params, rows, pad, w, bias, mult = layer
    low = narrow.LOWEST[bits]
    w = np.where(w >= 100, -low - 1, np.where(w <= -100, low, w.astype(np.int64) % -low)).astype(np.int8)
    w.reshape(-1)[0] = low  # so that they need all the bits
    bias = bias % 2000 - 1000
    scale = np.minimum(np.sqrt(w[0].size) * 80 * -low, 2.0**17)
    mult = np.minimum(mult.astype(np.float64) * 5000 * np.sqrt(w[0].size) / scale, 2.0**31 - 1)
    return params, rows, pad, w, bias.astype(np.int32), np.floor(mult).astype(np.int32)


def conv_case(params, rows, pad, w, bias, mult, isa="dsp"):
    expected = layers.conv_reference(params, rows, pad, w, bias, mult)
    params = params | {"bits": narrow.width(w)}
    if isa == "dsp":
        assert narrow.dsp_accepts("conv", params, w, bias) is None
        return layers._call("conv_s8_narrow_dsp", params, layers._rows(rows, pad), narrow.dsp_pack("conv", params, w, bias, mult),
                            narrow.dsp_scratch("conv", params), expected)
    assert narrow.accepts(params, w) is None
    args = (*layers._rows(rows, pad), narrow.pack(params, w), bias, mult, "out")
    return Case("conv_s8_narrow", params, args, expected.size, 0, expected)


def fc_case(params, rows, pad, w, bias, mult, isa="dsp"):
    expected = layers.conv_reference(params, rows, pad, w, bias, mult)
    params, w = {k: params[k] for k in layers.FC} | {"bits": narrow.width(w)}, w.reshape(len(w), -1)
    x = rows.reshape(-1)
    if isa == "dsp":
        assert narrow.dsp_accepts("fc", params, w, bias) is None
        return layers._call("fc_s8_narrow_dsp", params, (x,), narrow.dsp_pack("fc", params, w, bias, mult),
                            narrow.dsp_scratch("fc", params), expected)
    assert narrow.accepts(params, w) is None
    return Case("fc_s8_narrow", params, (x, narrow.pack(params, w), bias, mult, "out"), expected.size, 0, expected)


def cases(seed, isa):
    """A call for every shape, width of weights and shift."""
    found = []
    for bits in narrow.LOWEST:
        for f in dsp.SHIFTS:
            for s in layers.CONV_SHAPES.values():
                if isa == "dsp" or s["out_c"] // s.get("groups", 1) >= 4:
                    found.append(conv_case(*narrowed(layers.conv_layer(np.random.default_rng(seed), **s, f=f), bits), isa))
            for k, n in layers.FC_SHAPES:
                if isa == "dsp" or n >= 4:
                    found.append(
                        fc_case(*narrowed(layers.conv_layer(np.random.default_rng(seed), 1, k, n, 1, 1, f=f), bits), isa)
                    )
    return found


def test_shapes(host, c99):
    for case in cases(0, "dsp"):
        layers.check(host, case)
    for case in cases(0, "c99"):
        layers.check(c99, case)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_conv_of_any_shape(host, c99, data):
    def draw(lo, hi):
        return data.draw(st.integers(lo, hi))

    groups = draw(1, 3)
    shape = dict(in_w=draw(1, 9), in_c=groups * draw(1, 9), out_c=groups * draw(1, 9), kh=draw(1, 4), kw=draw(1, 4),
                 stride=draw(1, 3), dilation=draw(1, 2), pad=draw(0, 4), right=draw(0, 4), groups=groups,
                 f=data.draw(st.sampled_from(dsp.SHIFTS)))
    if shape["in_w"] + shape["pad"] + shape["right"] > (shape["kw"] - 1) * shape["dilation"]:
        layer = narrowed(layers.conv_layer(np.random.default_rng(draw(0, 10**6)), **shape), data.draw(st.sampled_from((2, 4))))
        layers.check(host, conv_case(*layer))
        if shape["out_c"] // groups >= 4:
            layers.check(c99, conv_case(*layer, "c99"))


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("bits", "channel", "limit"), [(4, 3, 19), (4, 2, 23), (4, 1, 27), (2, 3, 19), (2, 0, 31)])
def test_sums_up_to_the_limit(host, bits, channel, limit, sign):
    """All weights of a channel and all inputs as large as they can be, and the largest bias that is accepted."""
    k = 64
    params, _, pad, w, bias, _ = layers.conv_layer(np.random.default_rng(0), 2, k, 4, 1, 1)
    low = narrow.LOWEST[bits]
    w[:], bias[:] = -low - 1, 0
    w[0, 0, 0, 0] = low
    w[channel] = low if sign < 0 else -low - 1
    rows = np.full((1, 2, k), -128, np.int8)
    moved = 0 if channel == 0 or channel == 3 and bits == 4 else -low * 128 * k
    room = 2**limit - 1 - moved - 128 * int(np.abs(w[channel].astype(int)).sum())
    bias[channel] = sign * room
    mult = np.full(4, 1 << 13, np.int32)
    layer = params | {"lo": -128, "hi": 127}, rows, pad, w, bias, mult
    layers.check(host, conv_case(*layer))
    layers.check(host, fc_case(layer[0] | {"in_w": 1, "out_w": 1}, rows[:, :1], pad, w, bias, mult))
    bias[channel] += sign
    if limit < 31:
        assert "could exceed" in narrow.dsp_accepts("conv", params, w, bias)


def test_refusals():
    params, _, _, w, bias, _ = layers.conv_layer(np.random.default_rng(0), 4, 8, 5, 1, 1)
    assert narrow.width(w) is None and "4 bits" in narrow.dsp_accepts("conv", params, w, bias) == narrow.accepts(params, w)
    assert [narrow.width(np.array(v, np.int8)) for v in ([0], [1, -2], [2], [-3], [7, -8], [8], [-9])] == [
        2,
        2,
        4,
        4,
        4,
        None,
        None,
    ]
    w = np.clip(w, -8, 7)
    assert "shift 21" in narrow.dsp_accepts("conv", params | {"f": 21}, w, bias)
    assert "channels" in narrow.accepts(params | {"out_c": 3}, w[:3])


def test_flash_is_half_and_a_quarter():
    """Of the bytes of a weight; a bias and a multiplier besides."""
    params, *_ = layers.conv_layer(np.random.default_rng(0), 4, 64, 64, 1, 1)
    for bits in narrow.LOWEST:
        w = np.full((64, 1, 1, 64), narrow.LOWEST[bits], np.int8)
        zeros = np.zeros(64, np.int32)
        assert narrow.dsp_pack("conv", params, w, zeros, zeros).nbytes == w.size * bits // 8 + 64 * 8
        assert narrow.pack(params, w).nbytes == w.size * bits // 8


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    chosen = cases(7, "dsp")[::9]
    expected = [(dsp_program.checksum(c.expected.tobytes()), 1) for c in chosen]
    return dsp_program.write(tmp_path_factory.mktemp("narrow"), chosen), expected


def test_program_on_the_host(program):
    source, expected = program
    assert dsp_program.run([dsp_program.build_host(source)]) == expected


@pytest.mark.skipif(bool(dsp_program.missing()), reason=f"absent: {dsp_program.missing()}")
@pytest.mark.parametrize("machine", dsp_program.TARGETS)
def test_program_under_qemu(program, machine):
    source, expected = program
    assert dsp_program.run(dsp_program.qemu(dsp_program.build_arm(source, machine), machine)) == expected


@pytest.mark.parametrize("compiler", layers.COMPILERS)
def test_no_warnings(tmp_path, compiler):
    cc, simd, *flags = layers.COMPILERS[compiler]
    if not shutil.which(cc):
        pytest.skip(f"absent: {cc}")
    source = tmp_path / "all.c"
    args = "const int8_t *const *rows, const int8_t *pad, const uint32_t *stream, int8_t *out, int8_t *scratch"
    use = f"void use(const ec_conv_s8_narrow_dsp_t *p, {args})"
    source.write_text("".join(f'#include "{h}"\n' for h in DSP) + f"{use};\n{use}\n"
                      "{ ec_conv_s8_narrow_dsp(p, rows, pad, stream, out, scratch); }\n")
    subprocess.run([cc, *flags, *kernel_lib.WARNINGS, *kernel_lib.include_flags(layers.ISA, simd), "-O2", "-c", str(source),
                    "-o", str(tmp_path / "all.o")], check=True)
