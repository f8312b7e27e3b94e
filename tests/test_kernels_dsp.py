"""The kernels of runtime_c/kernel/dsp against numpy: on the host (simd/dsp_on_host) and, as Arm code, under QEMU."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernel_lib
from edgec.kernels import dsp

HEADERS = ("conv_s8.h", "fc_s8.h")
HOST_SIMD = kernel_lib.RUNTIME / "simd" / "dsp_on_host"
CONV = "in_w in_c out_w out_c kh kw stride_w dilation_w pad_left groups c f lo hi".split()
FC = "in_c out_c c f lo hi".split()


@pytest.fixture(scope="module")
def host():
    isa = (kernel_lib.DSP, kernel_lib.C99)
    return kernel_lib.compile_kernels(HEADERS, isa, HOST_SIMD, flags=("-O1", *kernel_lib.UBSAN))


# --- reference ---------------------------------------------------------------------------------


def requant(acc, mult, params):
    """The contract's formula on int64; mult broadcasts over the last axis."""
    high = (acc.astype(np.int64) * mult.astype(np.int64)) >> 32
    return np.clip((high + params["c"]) >> params["f"], params["lo"], params["hi"]).astype(np.int8)


def columns(rows, pad, params):
    """The taps of every output column: [out_w][kh][kw][in_c], from rows [kh][in_w][in_c] and the padding value."""
    kh, in_w, _ = rows.shape
    out = []
    for ox in range(params["out_w"]):
        cols = ox * params["stride_w"] - params["pad_left"] + np.arange(params["kw"]) * params["dilation_w"]
        inside = (cols >= 0) & (cols < in_w)
        out.append(np.where(inside[None, :, None], rows[:, np.clip(cols, 0, in_w - 1)], pad))
    return np.stack(out).astype(np.int64)


def conv_reference(params, rows, pad, w, bias, mult):
    x, groups = columns(rows, pad, params), params["groups"]
    ic, oc = params["in_c"] // groups, params["out_c"] // groups
    acc = [np.einsum("xyzi,oyzi->xo", x[..., g * ic:(g + 1) * ic], w[g * oc:(g + 1) * oc].astype(np.int64)) for g in range(groups)]
    return requant(np.concatenate(acc, 1) + bias, mult, params)


# --- layers ------------------------------------------------------------------------------------


def rescale(rng, channels, bound, f):
    """(c, mult): multipliers that spread sums of about `bound` over int8 at shift f, and an output zero point."""
    scale = np.minimum(rng.uniform(60, 200, channels) / np.maximum(bound, 1), 0.2499 * 2.0 ** (1 - f))
    zero = int(rng.integers(-128, 128))
    return (zero << f) + (1 << (f - 1)), np.rint(scale * 2.0 ** (32 + f)).astype(np.int32)


def clamp(rng):
    return sorted(rng.integers(-128, 128, 2).tolist()) if rng.integers(2) else (-128, 127)


def weights(rng, shape):
    """int8 without -128, with runs of extreme values."""
    w = rng.integers(-127, 128, shape)
    return np.where(rng.random(shape) < 0.2, np.sign(w) * 127, w).astype(np.int8)


def activations(rng, shape):
    x = rng.integers(-128, 128, shape)
    return np.where(rng.random(shape) < 0.1, np.where(x < 0, -128, 127), x).astype(np.int8)


def conv_layer(rng, in_w, in_c, out_c, kh, kw, stride=1, dilation=1, pad=0, right=None, groups=1, f=1):
    span = (kw - 1) * dilation + 1
    out_w = (in_w + pad + (pad if right is None else right) - span) // stride + 1
    w = weights(rng, (out_c, kh, kw, in_c // groups))
    bias = rng.integers(-20000, 20000, out_c).astype(np.int32)
    c, mult = rescale(rng, out_c, np.sqrt(w[0].size) * 5000, f)
    lo, hi = clamp(rng)
    params = dict(zip(CONV, (in_w, in_c, out_w, out_c, kh, kw, stride, dilation, pad, groups, c, f, lo, hi), strict=True))
    return params, activations(rng, (kh, in_w, in_c)), int(rng.integers(-128, 128)), w, bias, mult


# --- running on the host -----------------------------------------------------------------------

GUARD = 16


def guarded(ffi, n):
    """(buffer of n bytes, check): check() fails when the bytes after the n-th were written."""
    buffer = ffi.new("int8_t[]", n + GUARD)
    ffi.buffer(buffer)[:] = b"\x5a" * (n + GUARD)

    def check():
        assert bytes(ffi.buffer(buffer))[n:] == b"\x5a" * GUARD, "written past the end"
        return np.frombuffer(bytes(ffi.buffer(buffer)), np.int8)[:n]

    return buffer, check


def run_conv(host, params, rows, pad, w, bias, mult):
    ffi, lib = host
    assert dsp.conv_accepts(params, w, bias) is None
    p = ffi.new("ec_conv_s8_t *", params)
    kept = [ffi.from_buffer("int8_t[]", np.ascontiguousarray(r)) for r in rows]
    pad_row = ffi.from_buffer("int8_t[]", np.full(rows[0].size, pad, np.int8))
    stream = dsp.conv_pack(params, w, bias, mult)
    out, check = guarded(ffi, params["out_w"] * params["out_c"])
    scratch, check_scratch = guarded(ffi, dsp.conv_scratch(params))
    lib.ec_conv_s8(p, ffi.new("int8_t *[]", kept), pad_row, ffi.from_buffer("uint32_t[]", stream), out, scratch)
    check_scratch()
    return check().reshape(params["out_w"], params["out_c"])


def run_fc(host, params, x, w, bias, mult):
    ffi, lib = host
    assert dsp.fc_accepts(params, w, bias) is None
    stream = dsp.fc_pack(params, w, bias, mult)
    out, check = guarded(ffi, params["out_c"])
    scratch, check_scratch = guarded(ffi, dsp.fc_scratch(params))
    lib.ec_fc_s8(ffi.new("ec_fc_s8_t *", params), ffi.from_buffer("int8_t[]", x), ffi.from_buffer("uint32_t[]", stream), out, scratch)
    check_scratch()
    return check()


# --- conv_s8, fc_s8 ----------------------------------------------------------------------------

CONV_SHAPES = {
    "3x3": dict(in_w=8, in_c=16, out_c=16, kh=3, kw=3, pad=1),
    "stem": dict(in_w=9, in_c=3, out_c=8, kh=3, kw=3, stride=2, pad=1),
    "stem, unpadded left": dict(in_w=8, in_c=3, out_c=8, kh=3, kw=3, stride=2, pad=0, right=1),
    "10x4": dict(in_w=10, in_c=1, out_c=12, kh=10, kw=4, stride=2, pad=1),
    "pointwise": dict(in_w=7, in_c=64, out_c=20, kh=1, kw=1),
    "pointwise, one pixel": dict(in_w=1, in_c=20, out_c=9, kh=1, kw=1),
    "pointwise, strided": dict(in_w=9, in_c=12, out_c=5, kh=1, kw=1, stride=2),
    "odd channels": dict(in_w=5, in_c=5, out_c=7, kh=3, kw=3, pad=1),
    "dilated": dict(in_w=11, in_c=4, out_c=6, kh=2, kw=3, dilation=2, pad=2),
    "groups": dict(in_w=6, in_c=12, out_c=15, kh=3, kw=3, pad=1, groups=3),
    "groups of one": dict(in_w=6, in_c=6, out_c=6, kh=3, kw=3, pad=1, groups=6),
    "kernel wider than the row": dict(in_w=2, in_c=4, out_c=4, kh=3, kw=5, pad=2),
    "window all in the padding": dict(in_w=1, in_c=3, out_c=4, kh=1, kw=2, stride=2, pad=2),
    "one output channel": dict(in_w=6, in_c=8, out_c=1, kh=1, kw=3),
    "many taps": dict(in_w=4, in_c=64, out_c=8, kh=3, kw=3, pad=1),
    "one tap": dict(in_w=5, in_c=1, out_c=4, kh=1, kw=1),
}


@pytest.mark.parametrize("f", dsp.SHIFTS)
@pytest.mark.parametrize("shape", CONV_SHAPES.values(), ids=CONV_SHAPES)
def test_conv(host, shape, f):
    for seed in range(3):
        layer = conv_layer(np.random.default_rng(seed), **shape, f=f)
        np.testing.assert_array_equal(run_conv(host, *layer), conv_reference(*layer))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_conv_any_shape(host, data):
    def draw(lo, hi):
        return data.draw(st.integers(lo, hi))

    groups = draw(1, 3)
    shape = dict(in_w=draw(1, 9), in_c=groups * draw(1, 9), out_c=groups * draw(1, 9), kh=draw(1, 4), kw=draw(1, 4),
                 stride=draw(1, 3), dilation=draw(1, 2), pad=draw(0, 4), right=draw(0, 4), groups=groups, f=data.draw(st.sampled_from(dsp.SHIFTS)))
    if shape["in_w"] + shape["pad"] + shape["right"] < (shape["kw"] - 1) * shape["dilation"] + 1:
        return
    layer = conv_layer(np.random.default_rng(draw(0, 10**6)), **shape)
    np.testing.assert_array_equal(run_conv(host, *layer), conv_reference(*layer))


@pytest.mark.parametrize("f", dsp.SHIFTS)
@pytest.mark.parametrize("n", [1, 3, 4, 12, 17])
@pytest.mark.parametrize("k", [1, 4, 6, 31, 32, 36, 64, 640])
def test_fc(host, k, n, f):
    params, rows, pad, w, bias, mult = conv_layer(np.random.default_rng(k + n), 1, k, n, 1, 1, f=f)
    got = run_fc(host, {name: params[name] for name in FC}, rows.reshape(-1), w.reshape(n, k), bias, mult)
    np.testing.assert_array_equal(got, conv_reference(params, rows, pad, w, bias, mult)[0])
