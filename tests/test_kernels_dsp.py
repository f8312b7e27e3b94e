"""The kernels of runtime_c/kernel/dsp against numpy, exactly: on the host (simd/dsp_on_host) through cffi under UBSan
and as a program under ASan, and as Arm code under QEMU, with and without an FPU."""
from __future__ import annotations

import shutil
import subprocess

import dsp_program
import kernel_lib
import numpy as np
import pytest
import test_kernels_c99 as c99
from dsp_program import Case
from hypothesis import given, settings, strategies as st

from edgec.kernels import dsp, dwplane, wino

ISA = (kernel_lib.DSP, kernel_lib.C99)
HEADERS = (
    "conv_s8_dsp.h",
    "stem_s8_dsp.h",
    "fc_s8_dsp.h",
    "dwconv_s8_dsp.h",
    "wino_s8_dsp.h",
    "dwplane_s8_dsp.h",
    "add_s8.h",
    "maxpool_s8.h",
    "avgpool_s8.h",
    "rowsum_s8.h",
)
HOST_SIMD, ARM_SIMD = (kernel_lib.RUNTIME / "simd" / d for d in ("dsp_on_host", "dsp"))
CONV = "in_w in_c out_w out_c kh kw stride_w dilation_w pad_left groups c f lo hi".split()
DWCONV = "in_w in_c out_w mult kh kw stride_w dilation_w pad_left c f lo hi".split()
FC = "in_c out_c c f lo hi".split()
WINO = "in_w in_c out_w out_c pad_left rows c f lo hi".split()


@pytest.fixture(scope="module")
def host():
    return kernel_lib.compile_kernels(HEADERS, ISA, HOST_SIMD, flags=("-O1", *kernel_lib.UBSAN))


# --- numpy reference ---------------------------------------------------------------------------


def requant(acc, mult, params):
    """The exact rounding of DESIGN, "Numbers"; mult broadcasts over the last axis."""
    high = (acc.astype(np.int64) * mult.astype(np.int64)) >> 32
    return np.clip((high + params["c"]) >> params["f"], params["lo"], params["hi"]).astype(np.int8)


def columns(rows, pad, params):
    """The taps of every output column: [out_w][kh][kw][in_c], from rows [kh][in_w][in_c] and the padding value."""
    in_w, out = rows.shape[1], []
    for ox in range(params["out_w"]):
        cols = ox * params["stride_w"] - params["pad_left"] + np.arange(params["kw"]) * params["dilation_w"]
        inside = (cols >= 0) & (cols < in_w)
        out.append(np.where(inside[None, :, None], rows[:, np.clip(cols, 0, in_w - 1)], pad))
    return np.stack(out).astype(np.int64)


def conv_reference(params, rows, pad, w, bias, mult):
    x, groups = columns(rows, pad, params), params["groups"]
    ic, oc = params["in_c"] // groups, params["out_c"] // groups
    parts = [np.einsum("xyzi,oyzi->xo", x[..., g * ic:(g + 1) * ic], w[g * oc:(g + 1) * oc].astype(np.int64))
             for g in range(groups)]
    return requant(np.concatenate(parts, 1) + bias, mult, params)


def dwconv_reference(params, rows, pad, w, bias, mult):
    x = columns(rows, pad, params).repeat(params["mult"], -1)
    acc = np.einsum("xyzc,cyz->xc", x, w.astype(np.int64))
    return requant(acc + bias, mult, params)


# --- random layers -----------------------------------------------------------------------------


def extremes(rng, shape, low=-128):
    """int8 not below `low`, every tenth value as large as can be."""
    x = rng.integers(low, 128, shape)
    return np.where(rng.random(shape) < 0.1, np.where(x < 0, low, 127), x).astype(np.int8)


def rescale(rng, channels, bound, f):
    """(c, mult): multipliers that spread sums of about `bound` over int8 at shift f, and an output zero point."""
    scale = np.minimum(rng.uniform(60, 200, channels) / bound, 0.2499 * 2.0 ** (1 - f))
    zero = int(rng.integers(-128, 128))
    return (zero << f) + (1 << (f - 1)), np.rint(scale * 2.0 ** (32 + f)).astype(np.int32)


def clamp(rng):
    return sorted(rng.integers(-128, 128, 2).tolist()) if rng.integers(2) else (-128, 127)


def out_width(in_w, kw, stride, dilation, pad, right):
    return (in_w + pad + (pad if right is None else right) - (kw - 1) * dilation - 1) // stride + 1


def conv_layer(rng, in_w, in_c, out_c, kh, kw, stride=1, dilation=1, pad=0, right=None, groups=1, f=1):
    """(params, rows [kh][in_w][in_c], padding, w, bias, mult)"""
    w = extremes(rng, (groups, out_c // groups, kh, kw, in_c // groups), -127)
    w[:, 0::2][rng.random(w[:, 0::2].shape) < 0.05] = -128
    c, mult = rescale(rng, out_c, np.sqrt(w[0, 0].size) * 5000, f)
    out_w = out_width(in_w, kw, stride, dilation, pad, right)
    sizes = (in_w, in_c, out_w, out_c, kh, kw, stride, dilation, pad, groups)
    params = dict(zip(CONV, (*sizes, c, f, *clamp(rng)), strict=True))
    w, bias = w.reshape(out_c, kh, kw, -1), rng.integers(-20000, 20000, out_c).astype(np.int32)
    return params, extremes(rng, (kh, in_w, in_c)), int(rng.integers(-128, 128)), w, bias, mult


def dwconv_layer(rng, in_w, in_c, kh, kw, stride=1, dilation=1, pad=0, right=None, f=1, mult=1):
    """As conv_layer; w: [in_c * mult][kh][kw]"""
    outs = in_c * mult
    c, m = rescale(rng, outs, np.sqrt(kh * kw) * 5000, f)
    sizes = (in_w, in_c, out_width(in_w, kw, stride, dilation, pad, right), mult, kh, kw, stride, dilation, pad)
    params = dict(zip(DWCONV, (*sizes, c, f, *clamp(rng)), strict=True))
    w, bias = extremes(rng, (outs, kh, kw)), rng.integers(-20000, 20000, outs).astype(np.int32)
    return params, extremes(rng, (kh, in_w, in_c)), int(rng.integers(-128, 128)), w, bias, m


# --- layers as calls ---------------------------------------------------------------------------


def _call(kernel, params, inputs, packed, scratch, expected):
    args = (*inputs, packed, "out", "scratch")
    return Case(kernel, params, args, expected.size, scratch, np.ascontiguousarray(expected))


def _rows(rows, pad):
    return list(rows), np.full(rows[0].size, pad, np.int8)


def conv_case(params, rows, pad, w, bias, mult, unrolled=0):
    assert dsp.conv_accepts(params, w, bias) is None
    params = params | {"unrolled": dsp.conv_unrolled(params) if unrolled else 0}
    return _call("conv_s8_dsp", params, _rows(rows, pad), dsp.conv_pack(params, w, bias, mult),
                 dsp.conv_scratch(params), conv_reference(params, rows, pad, w, bias, mult))


def stem_case(params, rows, pad, w, bias, mult, height=2, stride_h=1):
    """rows: only their size counts. height: output rows that the call makes."""
    own = dsp.stem_params(params, stride_h, height)
    x = extremes(np.random.default_rng(height), ((own["rows"] - 1) * stride_h + params["kh"], *rows.shape[1:]))
    starts = range(0, own["rows"] * stride_h, stride_h)
    expected = np.stack([conv_reference(params, x[i:i + params["kh"]], pad, w, bias, mult) for i in starts])
    return _call("stem_s8_dsp", own, _rows(x, pad), dsp.stem_pack(own, w, bias, mult), dsp.stem_scratch(own), expected)


def dwconv_case(params, rows, pad, w, bias, mult):
    assert dsp.dwconv_accepts(params, w, bias, mult) is None
    return _call("dwconv_s8_dsp", params, _rows(rows, pad), dsp.dwconv_pack(params, w, bias, mult),
                 dsp.dwconv_scratch(params), dwconv_reference(params, rows, pad, w, bias, mult))


def fc_case(params, rows, pad, w, bias, mult, unrolled=0):
    """A fully connected layer from a pointwise one of one pixel."""
    expected = conv_reference(params, rows, pad, w, bias, mult)
    params, w = {k: params[k] for k in FC} | {"unrolled": unrolled}, w.reshape(len(w), -1)
    assert dsp.fc_accepts(params, w, bias) is None
    packed = dsp.fc_pack(params, w, bias, mult)
    return _call("fc_s8_dsp", params, (rows.reshape(-1),), packed, dsp.fc_scratch(params), expected)


def wino_case(params, rows, pad, w, bias, mult):
    """rows: as many input rows as a call takes, two more than it makes."""
    assert wino.accepts(params, w, bias) is None
    made = wino.rows(params)
    expected = np.stack([conv_reference(params, rows[i:i + 3], pad, w, bias, mult) for i in range(made)])
    packed, scratch, params = wino.pack(params, w, bias, mult), wino.scratch(params), params | {"rows": made}
    return _call("wino_s8_dsp", {k: params[k] for k in WINO}, _rows(rows, pad), packed, scratch, expected)


def wino_layer(rng, in_w, in_c, out_c, pad=1, f=1):
    """As conv_layer, with the rows that wino_case takes."""
    params, _, fill, *rest = conv_layer(rng, in_w, in_c, out_c, 3, 3, pad=pad, f=f)
    return params, extremes(rng, (wino.rows(params) + 2, in_w, in_c)), fill, *rest


def plane_case(layer, h, top=1, bottom=1, turned=None, band=None):
    """A depthwise layer over h rows; layer: of dwconv_layer, its rows are replaced. turned, band: instead of the compiler's
    choice."""
    params, _, pad, w, bias, mult = layer
    width, c, stride = params["in_w"], params["in_c"], params["stride_w"]
    out_h = (h + top + bottom - 3) // stride + 1
    x = extremes(np.random.default_rng(h), (h, width, c))
    plane = dwplane.Plane(h, width, out_h, params["out_w"], c, (3, 3), (stride, stride), (1, 1), (top, params["pad_left"]))
    cut = dwplane.cut(plane)
    if turned is not None:
        cut = dwplane._cut(plane, turned, band)
    assert dwplane.accepts(params["f"], w, bias, mult) is None
    whole = np.full((h + top + bottom, width, c), pad, np.int8)
    whole[top:top + h] = x
    expected = np.stack([dwconv_reference(params, whole[stride * y:stride * y + 3], pad, w, bias, mult) for y in range(out_h)])
    packed = dwplane.pack(cut, params["f"], w, bias, mult)
    return _call("dwplane_s8_dsp", dwplane.params(plane, cut, params, pad), (x,), packed, cut.scratch, expected)


GUARD = 16


def check(host, case):
    """Runs a call on the host: the output is the expected one, and nothing behind it or the scratch was written."""
    ffi, lib = host
    rooms = {"out": ffi.new("int8_t[]", b"\x5a" * (case.out_bytes + GUARD)),
             "scratch": ffi.new("int8_t[]", b"\x5a" * (case.scratch_bytes + GUARD))}
    kept, args = [], []
    for a in case.args:
        if isinstance(a, str):
            args.append(rooms[a])
        elif isinstance(a, list):
            kept.append([ffi.from_buffer("int8_t[]", np.ascontiguousarray(r)) for r in a])
            args.append(ffi.new("int8_t *[]", kept[-1]))
        else:
            args.append(ffi.from_buffer(f"{a.dtype.name}_t[]", np.ascontiguousarray(a)))
    getattr(lib, f"ec_{case.kernel}")(ffi.new(f"ec_{case.kernel}_t *", case.params), *args)
    sizes = {"out": case.out_bytes, "scratch": case.scratch_bytes}
    got = {k: bytes(ffi.buffer(v))[:sizes[k] + GUARD] for k, v in rooms.items()}
    out = np.frombuffer(got["out"][:case.out_bytes], np.int8)
    np.testing.assert_array_equal(out.reshape(case.expected.shape), case.expected)
    assert all(got[k][n:] == b"\x5a" * GUARD for k, n in sizes.items()), "written past the end"


CONV_SHAPES = {
    "3x3": dict(in_w=8, in_c=16, out_c=16, kh=3, kw=3, pad=1),
    "stem": dict(in_w=9, in_c=3, out_c=8, kh=3, kw=3, stride=2, pad=1),
    "stem, unpadded left": dict(in_w=8, in_c=3, out_c=8, kh=3, kw=3, stride=2, pad=0, right=1),
    "10x4": dict(in_w=10, in_c=1, out_c=12, kh=10, kw=4, stride=2, pad=1),
    "pointwise": dict(in_w=7, in_c=64, out_c=20, kh=1, kw=1),
    "pointwise, one pixel": dict(in_w=1, in_c=20, out_c=9, kh=1, kw=1),
    "pointwise, strided": dict(in_w=9, in_c=12, out_c=5, kh=1, kw=1, stride=2),
    "pointwise, many pixels": dict(in_w=15, in_c=8, out_c=16, kh=1, kw=1),
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
STEM_SHAPES = {  # with how many output rows, and their stride
    "3x3": (dict(in_w=8, in_c=3, out_c=8, kh=3, kw=3, pad=1), 2, 1),
    "3x3, stride 2": (dict(in_w=12, in_c=3, out_c=4, kh=3, kw=3, stride=2, pad=0, right=1), 2, 2),
    "3x3, stride 2, odd": (dict(in_w=13, in_c=3, out_c=4, kh=3, kw=3, stride=2, pad=1), 2, 2),
    "3x3, one row": (dict(in_w=96, in_c=3, out_c=8, kh=3, kw=3, stride=2, pad=0, right=1), 1, 2),
    "3x3, wide": (dict(in_w=70, in_c=3, out_c=4, kh=3, kw=3, pad=1), 2, 1),
    "3x3, stride 3": (dict(in_w=16, in_c=3, out_c=4, kh=3, kw=3, stride=3, pad=1), 2, 1),
    "10x4": (dict(in_w=10, in_c=1, out_c=8, kh=10, kw=4, stride=2, pad=1), 2, 2),
    "10x4, one row": (dict(in_w=12, in_c=1, out_c=8, kh=10, kw=4, stride=2, pad=1), 1, 2),
    "5x5": (dict(in_w=9, in_c=1, out_c=4, kh=5, kw=5, pad=2), 2, 1),
    "two channels": (dict(in_w=7, in_c=2, out_c=4, kh=3, kw=2, pad=1), 2, 1),
    "7x7": (dict(in_w=20, in_c=3, out_c=4, kh=7, kw=7, stride=2, pad=3), 2, 2),
    "one pixel": (dict(in_w=1, in_c=3, out_c=4, kh=3, kw=3, pad=1), 2, 1),
    "all padding": (dict(in_w=1, in_c=1, out_c=4, kh=2, kw=2, stride=2, pad=2), 2, 1),
}
DWCONV_SHAPES = {
    "3x3": dict(in_w=9, in_c=8, kh=3, kw=3, pad=1),
    "3x3, five wide": dict(in_w=5, in_c=12, kh=3, kw=3, pad=1),
    "3x3, six wide": dict(in_w=6, in_c=8, kh=3, kw=3, pad=1),
    "3x3, three wide, odd channels": dict(in_w=3, in_c=7, kh=3, kw=3, pad=1),
    "3x3, unpadded": dict(in_w=10, in_c=4, kh=3, kw=3),
    "3x3, one column": dict(in_w=1, in_c=4, kh=3, kw=3, pad=1, right=2),
    "3x3, far padding": dict(in_w=4, in_c=4, kh=3, kw=3, pad=0, right=7),
    "3x3, stride 2": dict(in_w=16, in_c=8, kh=3, kw=3, stride=2, pad=1),
    "3x3, stride 2, TensorFlow": dict(in_w=12, in_c=8, kh=3, kw=3, stride=2, right=1),
    "3x3, stride 2, odd": dict(in_w=13, in_c=5, kh=3, kw=3, stride=2, pad=1),
    "3x3, stride 3": dict(in_w=13, in_c=5, kh=3, kw=3, stride=3, pad=1),
    "5x5": dict(in_w=9, in_c=8, kh=5, kw=5, pad=2),
    "5x5, stride 2": dict(in_w=11, in_c=6, kh=5, kw=5, stride=2, pad=2),
    "7x7, few outputs": dict(in_w=7, in_c=6, kh=7, kw=7, pad=1),
    "3x3, dilated": dict(in_w=9, in_c=8, kh=3, kw=3, dilation=2, pad=2),
    "4x2": dict(in_w=7, in_c=9, kh=4, kw=2),
    "tall": dict(in_w=1, in_c=16, kh=10, kw=1),
    "tall, odd": dict(in_w=1, in_c=10, kh=15, kw=1),
    "tall, padded": dict(in_w=2, in_c=6, kh=3, kw=1, stride=2, pad=1),
    "very tall": dict(in_w=1, in_c=4, kh=40, kw=1),
    "long": dict(in_w=24, in_c=8, kh=1, kw=15),
    "long, strided": dict(in_w=24, in_c=8, kh=1, kw=6, stride=2, pad=3),
    "two outputs": dict(in_w=4, in_c=8, kh=3, kw=3, stride=3, pad=1),
    "pointwise": dict(in_w=5, in_c=4, kh=1, kw=1),
}
UNROLLED = (*range(3, 67, 4), 128, 144, 170, 256, 296)  # taps
WINO_SHAPES = [  # in_w, in_c, out_c, pad
    (16, 16, 8, 1),
    (4, 8, 4, 1),
    (5, 8, 4, 1),
    (9, 8, 4, 1),
    (12, 24, 4, 0),
    (17, 32, 4, 1),
    (8, 40, 4, 2),
    (6, 48, 4, 1),
    (8, 56, 4, 1),
    (8, 64, 12, 1),
    (9, 72, 4, 0),
    (8, 80, 4, 1),
    (4, 128, 4, 1),
    (8, 88, 4, 1),
]
PLANE_SHAPES = [  # h, in_w, in_c, stride, pad left, pad right, turned, band
    (5, 6, 8, 1, 1, 1, False, 0), (3, 3, 4, 1, 1, 1, True, 0), (4, 7, 7, 1, 1, 0, False, 0), (9, 25, 4, 1, 1, 1, True, 0),
    (25, 5, 4, 1, 1, 1, True, 0), (7, 30, 4, 1, 0, 0, False, 0), (9, 40, 4, 1, 1, 1, False, 4), (9, 12, 4, 1, 1, 1, False, 4),
    (4, 70, 5, 1, 0, 1, False, 2), (1, 9, 4, 1, 1, 1, False, 0), (6, 4, 4, 1, 0, 3, False, 0), (8, 18, 4, 1, 1, 1, True, 5),
    (7, 16, 4, 2, 0, 1, False, 0), (8, 9, 6, 2, 1, 1, True, 0), (5, 101, 4, 2, 1, 1, False, 2), (12, 13, 4, 2, 1, 0, False, 2),
    (3, 99, 4, 1, 1, 1, False, 0), (50, 5, 4, 2, 0, 0, True, 0)]
FC_SHAPES = [(k, n) for k in (1, 4, 6, 31, 32, 36, 64, 640) for n in (1, 4, 12, 17)] + [(64, 32), (128, 36), (640, 32)]


def shape_cases(seed):
    """A call for every shape above and every shift."""
    def rng():
        return np.random.default_rng(seed)

    cases = [conv_case(*conv_layer(rng(), **s, f=f), u) for s in CONV_SHAPES.values() for f in dsp.SHIFTS for u in (0, 1)]
    cases += [conv_case(*conv_layer(rng(), 3, k, 5, 1, 1, f=f), 1) for k in UNROLLED for f in dsp.SHIFTS]
    cases += [stem_case(*conv_layer(rng(), **s, f=f), *tall) for s, *tall in STEM_SHAPES.values() for f in dsp.SHIFTS]
    cases += [dwconv_case(*dwconv_layer(rng(), **s, f=f)) for s in DWCONV_SHAPES.values() for f in (1, 8)]
    cases += [wino_case(*wino_layer(rng(), *s, f=f)) for s in WINO_SHAPES for f in dsp.SHIFTS]
    for h, in_w, c, stride, left, right, turned, band in PLANE_SHAPES:
        drawn = (dwconv_layer(rng(), in_w, c, 3, 3, stride, pad=left, right=right, f=f) for f in (1, 8))
        cases += [plane_case(layer, h, turned=turned, band=band) for layer in drawn]
    return cases + [
        fc_case(*conv_layer(rng(), 1, k, n, 1, 1, f=f), u) for k, n in FC_SHAPES for f in dsp.SHIFTS for u in (0, 1, 2)
    ]


# --- on the host -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_shapes(host, seed):
    for case in shape_cases(seed):
        check(host, case)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_conv_of_any_shape(host, data):
    def draw(lo, hi):
        return data.draw(st.integers(lo, hi))

    groups = draw(1, 3)
    shape = dict(in_w=draw(1, 9), in_c=groups * draw(1, 9), out_c=groups * draw(1, 9), kh=draw(1, 4), kw=draw(1, 4),
                 stride=draw(1, 3), dilation=draw(1, 2), pad=draw(0, 4), right=draw(0, 4), groups=groups,
                 f=data.draw(st.sampled_from(dsp.SHIFTS)))
    if shape["in_w"] + shape["pad"] + shape["right"] > (shape["kw"] - 1) * shape["dilation"]:
        check(host, conv_case(*conv_layer(np.random.default_rng(draw(0, 10**6)), **shape), draw(0, 1)))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_stem_of_any_shape(host, data):
    def draw(lo, hi):
        return data.draw(st.integers(lo, hi))

    colour = draw(0, 1)
    shape = dict(
        in_w=draw(1, 40),
        in_c=3 if colour else draw(1, 3),
        out_c=4 * draw(1, 2),
        kh=3 if colour else draw(1, 5),
        kw=draw(2, 5),
        stride=draw(1, 3),
        pad=draw(0, 3),
        right=draw(0, 3),
        f=data.draw(st.sampled_from(dsp.SHIFTS)),
    )
    if shape["in_w"] + shape["pad"] + shape["right"] >= shape["kw"]:
        layer = conv_layer(np.random.default_rng(draw(0, 10**6)), **shape)
        rows = draw(1, 2) if layer[0]["out_w"] % 2 == 0 else 2
        stride_h = draw(1, 2)
        if dsp.stem_params(layer[0], stride_h, rows) is not None:
            check(host, stem_case(*layer, rows, stride_h))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_dwconv_of_any_shape(host, data):
    def draw(lo, hi):
        return data.draw(st.integers(lo, hi))

    square = draw(0, 1)
    kh, kw = (3, 3) if square else (draw(1, 6), draw(1, 6))
    shape = dict(in_w=draw(1, 20), in_c=draw(4, 13), kh=kh, kw=kw, stride=draw(1, 3),
                 dilation=1 if square else draw(1, 2), pad=draw(0, 3), right=draw(0, 3), f=draw(0, 1) * 7 + 1)
    if shape["in_w"] + shape["pad"] + shape["right"] > (kw - 1) * shape["dilation"]:
        check(host, dwconv_case(*dwconv_layer(np.random.default_rng(draw(0, 10**6)), **shape)))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_wino_of_any_shape(host, data):
    def draw(lo, hi):
        return data.draw(st.integers(lo, hi))

    pad = draw(0, 2)
    shape = dict(
        in_w=draw(6 - 2 * pad, 20), in_c=8 * draw(1, 9), out_c=4 * draw(1, 3), pad=pad, f=data.draw(st.sampled_from(dsp.SHIFTS))
    )
    check(host, wino_case(*wino_layer(np.random.default_rng(draw(0, 10**6)), **shape)))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_planes_of_any_shape(host, data):
    def draw(lo, hi):
        return data.draw(st.integers(lo, hi))

    left, right, top, bottom, stride = draw(0, 1), draw(0, 2), draw(0, 1), draw(0, 2), draw(1, 2)
    layer = dwconv_layer(np.random.default_rng(draw(0, 10**6)), draw(3, 60), draw(4, 9), 3, 3, stride, pad=left, right=right,
                         f=draw(0, 1) * 7 + 1)
    h, turned = draw(3, 60), bool(draw(0, 1))
    check(host, plane_case(layer, h, top, bottom, turned, draw(1, 40)))


@pytest.mark.parametrize("stride", [1, 2])
def test_planes_of_every_width(host, stride):
    """Each instance of the line kernel, and widths that are cut."""
    for n in (*range(1, 49), 49, 62, 125):
        layer = dwconv_layer(np.random.default_rng(n), (n - 1) * stride + 2, 4, 3, 3, stride, pad=1, right=0)
        check(host, plane_case(layer, 2, turned=False))


def test_plane_in_place(host):
    for case in (plane_case(dwconv_layer(np.random.default_rng(h), 9, 8, 3, 3, pad=1), h) for h in (3, 8, 9)):
        ffi, lib = host
        x = ffi.new("int8_t[]", case.args[0].tobytes())
        params = ffi.new("ec_dwplane_s8_dsp_t *", case.params)
        lib.ec_dwplane_s8_dsp(params, x, ffi.from_buffer("uint32_t[]", case.args[1]), x, ffi.new("int8_t[]", case.scratch_bytes))
        np.testing.assert_array_equal(np.frombuffer(ffi.buffer(x)[:case.out_bytes], np.int8), case.expected.reshape(-1))


@pytest.mark.parametrize("unrolled", (0, 1))
def test_pointwise_over_its_input(host, unrolled):
    ffi, lib = host
    for seed in range(120):
        rng = np.random.default_rng(seed)
        pixels, k, n = (int(v) for v in (rng.integers(2, 12), rng.integers(1, 40), rng.integers(1, 40)))
        if seed % 3:  # the kernels of whole words
            k, n = k * 4, n * 4
        case = conv_case(*conv_layer(rng, pixels, k, n, 1, 1, f=int(rng.choice(dsp.SHIFTS))), unrolled)
        lead = max(0, pixels * (n - k))
        memory = np.full(lead + pixels * k + GUARD, 0x5A, np.int8)
        memory[lead:lead + pixels * k] = case.args[0][0].reshape(-1)
        at = ffi.from_buffer("int8_t[]", memory)
        lib.ec_conv_s8_dsp(ffi.new("ec_conv_s8_dsp_t *", case.params), ffi.new("int8_t *[]", [at + lead]), at + lead,
                           ffi.from_buffer("uint32_t[]", case.args[2]), at, ffi.new("int8_t[]", case.scratch_bytes + 1))
        np.testing.assert_array_equal(memory[:case.expected.size], case.expected.reshape(-1))
        assert (memory[-GUARD:] == 0x5A).all()


SAME = ("add", "maxpool", "avgpool", "rowsum")  # kernels that take what their c99 namesakes take


@pytest.mark.parametrize("name", SAME)
def test_as_c99(host, name):
    for seed in range(150):
        case = c99.INTEGER[name](np.random.default_rng(seed), "s8")
        np.testing.assert_array_equal(c99.call(host, case), case.expected)


def test_add_in_place(host):
    for seed in range(20):
        case = c99.add_case(np.random.default_rng(seed), "s8")
        np.testing.assert_array_equal(c99.call(host, case, inplace=True), case.expected)


def test_avgpool_of_a_large_window(host):
    """More elements than an int16 lane can sum."""
    rng, h, w, c = np.random.default_rng(0), 31, 23, 6
    rows = [np.where(rng.random(w * c) < 0.9, np.int8(v), 7).astype(np.int8) for v in [-128, 127] * h][:h]
    params = dict(in_w=w, in_c=c, out_w=1, kh=h, kw=w, stride_w=1, pad_left=0, include_pad=1, in_zp=3,
                  c=(5 << 8) + 128, f=8, lo=-128, hi=127)
    table = np.array([np.rint(2.0**32 / (h * w))], np.int32)
    sums = np.stack(rows).reshape(h * w, c).astype(np.int64).sum(0) - 3 * h * w
    case = c99.case("avgpool_s8", params, (rows, h, table, "out"), requant(sums * 256, table, params))
    np.testing.assert_array_equal(c99.call(host, case), case.expected)


# --- limits ------------------------------------------------------------------------------------


def heavy(channel, k, bias):
    """A pointwise layer of two channels whose `channel` has all weights 127, and inputs that make its sum largest."""
    params, _, pad, w, b, mult = conv_layer(np.random.default_rng(0), 2, k, 2, 1, 1)
    w[channel], b[channel] = 127, bias
    return params | {"lo": -128, "hi": 127}, np.full((1, 2, k), 127, np.int8), pad, w, b, np.full(2, 1 << 16, np.int32)


def test_sums_up_to_the_limit(host):
    k = 512
    check(host, conv_case(*heavy(1, k, 2**23 - 1 - 127 * 127 * k)))
    check(host, conv_case(*heavy(0, k, 2**31 - 1 - 128 * 127 * k)))
    params, _, _, w, bias, _ = heavy(1, k, 2**23 - 127 * 127 * k)
    assert "24 bits" in dsp.conv_accepts(params, w, bias)
    assert dsp.conv_accepts(*(heavy(0, k, 2**23)[i] for i in (0, 3, 4))) is None


@pytest.mark.parametrize("sign", [-1, 1])
def test_winograd_of_the_largest_values(host, sign):
    """Every transformed weight and input as large as it can be, and a bias up to the limit."""
    params, rows, _, w, bias, mult = wino_layer(np.random.default_rng(0), 8, 64, 4)
    w[:], mult[:] = (np.where(np.arange(3) == 1, -sign, sign) * 127)[:, None], 1 << 10
    rows[:] = np.where((np.add.outer(np.arange(4), np.arange(8)) % 2)[..., None] == 0, -128, 127)
    check(host, wino_case(params, rows, -128, w, bias, mult))
    w[:], rows[:] = -128, -128
    bias[:] = 2**27 - 1 - w[0].size * 128 * 128
    check(host, wino_case(params, rows, -128, w, bias, mult))
    assert "28 bits" in wino.accepts(params, w, bias + 1)


def test_depthwise_sums_up_to_the_limit(host):
    for f, top in ((1, 2**24), (8, 2**31)):
        params, rows, pad, w, bias, mult = dwconv_layer(np.random.default_rng(0), 5, 4, 3, 3, pad=1, f=f)
        w[:], rows[:], mult[:] = -128, -128, 1 << 12
        bias[:] = top - 1 - 9 * 128 * 128
        check(host, dwconv_case(params, rows, -128, w, bias, mult))
        assert "could exceed" in dsp.dwconv_accepts(params, w, bias + 1)
        assert dsp.dwconv_accepts(params, w, bias) is None


def test_depthwise_channel_with_a_huge_bias_and_a_tiny_multiplier(host):
    params, rows, pad, w, bias, mult = dwconv_layer(np.random.default_rng(0), 5, 4, 3, 3, pad=1)
    bias[2], mult[2] = 2**31 - 1 - 9 * 128 * 128, 7
    assert "could exceed" in dsp.dwconv_accepts(params, w, bias)
    check(host, dwconv_case(params, rows, pad, w, bias, mult))
    mult[2] = 2**24
    assert "could exceed" in dsp.dwconv_accepts(params, w, bias, mult)


def test_refusals():
    plane = dwplane.Plane(8, 8, 8, 8, 8, (3, 3), (1, 1), (1, 1), (1, 1))
    assert dwplane.cut(plane) and not dwplane.cut(plane._replace(strides=(2, 1))) and not dwplane.cut(plane._replace(c=3))
    assert not dwplane.cut(plane._replace(out_h=10))
    params, _, _, w, bias, _ = conv_layer(np.random.default_rng(0), 4, 8, 5, 1, 1)
    w[1, 0, 0, 3], w[0, 0, 0, 3] = -128, -1
    assert "-128" in dsp.conv_accepts(params, w, bias)
    w[0, 0, 0, 3] = 0
    assert dsp.conv_accepts(params, w, bias) is None
    assert "shift 21" in dsp.conv_accepts(params | {"f": 21}, w, bias)
    params, _, _, w, bias, _ = wino_layer(np.random.default_rng(0), 8, 8, 4)
    assert "shift 21" in wino.accepts(params | {"f": 21}, w, bias)
    assert "stride" in wino.accepts(params | {"stride_w": 2}, w, bias)
    assert "channels" in wino.accepts(params | {"in_c": 12}, w, bias)
    assert "outputs" in wino.accepts(params | {"out_w": 3}, w, bias)
    params, _, _, w, bias, _ = dwconv_layer(np.random.default_rng(0), 4, 8, 3, 3)
    assert "shift 15" in dsp.dwconv_accepts(params | {"f": 15}, w, bias)
    assert "per channel" in dsp.dwconv_accepts(params | {"mult": 2}, w, bias)
    assert "channels" in dsp.dwconv_accepts(params | {"in_c": 3}, w[:3], bias[:3])


# --- compiled with constant parameters -----------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    rng = np.random.default_rng(7)
    cases = shape_cases(7)[::8]
    cases += [dwconv_case(*dwconv_layer(rng, in_w, 8, 3, 3, stride, pad=pad, right=1, f=8))
              for in_w in range(2, 12) for pad in (0, 1) for stride in (1, 2)]
    cases += [
        plane_case(dwconv_layer(rng, stride * n, 4, 3, 3, stride, pad=n % 2, right=1), 5)
        for n in range(3, 50)
        for stride in (1, 2)
    ]
    cases += [c99.INTEGER[name](np.random.default_rng(100 + i), "s8") for name in SAME for i in range(5)]
    expected = [(dsp_program.checksum(c.expected.tobytes()), 1) for c in cases]
    return dsp_program.write(tmp_path_factory.mktemp("dsp"), cases), expected


def test_program_on_the_host(program):
    source, expected = program
    assert dsp_program.run([dsp_program.build_host(source)]) == expected


@pytest.mark.skipif(bool(dsp_program.missing()), reason=f"absent: {dsp_program.missing()}")
@pytest.mark.parametrize("machine", dsp_program.TARGETS)
def test_program_under_qemu(program, machine):
    source, expected = program
    assert dsp_program.run(dsp_program.qemu(dsp_program.build_arm(source, machine), machine)) == expected


ARM = ("-mcpu=cortex-m4", "-mthumb", "-ffreestanding")
COMPILERS = {
    "gcc": ("cc", HOST_SIMD), "clang": ("clang", HOST_SIMD), "arm gcc": ("arm-none-eabi-gcc", ARM_SIMD, *ARM),
    "arm clang": ("clang", ARM_SIMD, "--target=arm-none-eabi", *ARM),
}


@pytest.mark.parametrize("level", ["-O0", "-O2"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_warnings(tmp_path, compiler, level):
    cc, simd, *flags = COMPILERS[compiler]
    if not shutil.which(cc):
        pytest.skip(f"absent: {cc}")
    text = "".join(f'#include "{h}"\n' for h in HEADERS)
    for i, declaration in enumerate(("conv_s8_dsp", "dwconv_s8_dsp", "wino_s8_dsp")):  # shared: parameters known only at run time
        args = "const int8_t *const *rows, const int8_t *pad, const uint32_t *stream, int8_t *out, int8_t *scratch"
        text += (f"void use_{i}(const ec_{declaration}_t *p, {args});\n"
                 f"void use_{i}(const ec_{declaration}_t *p, {args})\n"
                 f"{{ ec_{declaration}(p, rows, pad, stream, out, scratch); }}\n")
    source = tmp_path / "all.c"
    source.write_text(text)
    subprocess.run([cc, *flags, *kernel_lib.WARNINGS, *kernel_lib.include_flags(ISA, simd), level, "-c", str(source),
                    "-o", str(tmp_path / "all.o")], check=True)
