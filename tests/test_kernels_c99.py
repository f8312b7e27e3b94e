"""The kernels of runtime_c/kernel/c99 and thumb against numpy, exactly: through cffi with parameters known only at run time and
under UBSan, and as a program with constant parameters under ASan and, as Arm code, under QEMU."""
from __future__ import annotations

import re
import shutil
import subprocess

import kernel_lib
import numpy as np
import pytest
from arm_core import CORES, build_core
from dsp_program import Case, build_host, checksum, missing, qemu, run, write

from edgec.kernels import c99, pair

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # infinities and NaN on purpose
KERNELS = [kernel_lib.C99, kernel_lib.RUNTIME / "kernel" / "thumb"]
OF_SEVERAL_TYPES = re.compile(r"_wide|_s16|^norm")  # parameters of another header: test_kernels_wide, test_norm
HEADERS = sorted(p.name for d in KERNELS for p in d.glob("*.h") if not OF_SEVERAL_TYPES.search(p.name))
SIMD, THUMB = (kernel_lib.RUNTIME / "simd" / d for d in ("thumb_on_host", "thumb"))
C_TYPES = {"int8": "int8_t", "int32": "int32_t", "uint32": "uint32_t", "float32": "float"}
NO_CLAMP = float(np.finfo(np.float32).max)
GUARD = 64


@pytest.fixture(scope="module")
def kernels():
    return kernel_lib.compile_kernels(HEADERS, KERNELS, SIMD, flags=("-O1", *kernel_lib.UBSAN))


# --- numpy references ----------------------------------------------------------------------------


def requant(acc, m, p):
    high = (np.asarray(acc, np.int64) * np.asarray(m, np.int64)) >> 32
    return np.clip((high + p["c"]) >> p["f"], p["lo"], p["hi"]).astype(np.int8)


def clamp(acc, p):
    """A bound of the largest float is none; a NaN stays."""
    if p["flo"] > -NO_CLAMP:
        acc = np.where(acc < p["flo"], np.float32(p["flo"]), acc)
    if p["fhi"] < NO_CLAMP:
        acc = np.where(acc > p["fhi"], np.float32(p["fhi"]), acc)
    return acc.astype(np.float32)


def taps(p, rows, pad):
    """[out_w][kh][kw][in_c]: what every output column sees."""
    cols = (np.arange(p["out_w"])[:, None] * p["stride_w"] - p["pad_left"]
            + np.arange(p["kw"]) * p.get("dilation_w", 1))
    inside = (cols >= 0) & (cols < p["in_w"])
    x = np.stack(rows).reshape(-1, p["in_w"], p["in_c"])[:, np.clip(cols, 0, p["in_w"] - 1)]
    return np.where(inside[None, :, :, None], x, np.asarray(pad, x.dtype)).transpose(1, 0, 2, 3)


def weighted_sum(x, w, bias):
    """bias + x*w summed over the first axis in order, each product and sum rounded to the dtype of bias."""
    acc = np.broadcast_to(bias, np.broadcast_shapes(x.shape[1:], w.shape[1:])).astype(bias.dtype)
    for xi, wi in zip(x, w, strict=True):
        acc = acc + xi.astype(bias.dtype) * wi.astype(bias.dtype)
    return acc


def conv(p, rows, pad, w, bias):
    """[out_w][out_c]"""
    x, groups = taps(p, rows, pad), p["groups"]
    parts = []
    for xg, wg, bg in zip(np.split(x, groups, 3), np.split(w, groups), np.split(bias, groups), strict=True):
        columns = xg.reshape(p["out_w"], -1).T
        parts.append(weighted_sum(columns[:, :, None], wg.reshape(len(wg), -1).T[:, None, :], bg))
    return np.concatenate(parts, 1)


def dwconv(p, rows, pad, w, bias):
    x = np.repeat(taps(p, rows, pad), p["mult"], 3)
    x = x.transpose(1, 2, 0, 3).reshape(-1, p["out_w"], x.shape[3])
    return weighted_sum(x, w.reshape(-1, 1, x.shape[2]), bias)


def fc(p, x, w, bias):
    return weighted_sum(x[:, None], w.T, bias)


def average_sum(p, rows, dtype, zero_point=0):
    """(sums [out_w][in_c], elements [out_w]) of the windows' valid elements, summed in order."""
    x = np.stack(rows).reshape(-1, p["in_w"], p["in_c"])
    sums, count = np.zeros((p["out_w"], p["in_c"]), dtype), np.zeros(p["out_w"], int)
    for ox in range(p["out_w"]):
        for y in range(len(x)):
            for col in range(ox * p["stride_w"] - p["pad_left"], ox * p["stride_w"] - p["pad_left"] + p["kw"]):
                if 0 <= col < p["in_w"]:
                    sums[ox] += x[y, col].astype(dtype) - dtype(zero_point)
                    count[ox] += 1
    return sums, count


# --- random layers -------------------------------------------------------------------------------


def int8s(rng, *shape):
    """Random int8, now and then extreme."""
    if rng.random() < 0.15:
        return rng.choice(np.array([-128, -127, 127], np.int8), shape)
    return rng.integers(-128, 128, shape, np.int8)


def floats(rng, *shape):
    """Random float32 of mixed size, now and then with special values."""
    x = (rng.standard_normal(shape) * 2.0 ** rng.integers(-6, 7, shape)).astype(np.float32)
    if rng.random() < 0.2:
        special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3e38], np.float32)
        x = np.where(rng.random(shape) < 0.03, rng.choice(special, shape), x)
    return x.astype(np.float32)


def integer_end(rng, size):
    """c, f, lo, hi and multipliers [size] that spread sums of a few thousand over int8."""
    f = int(rng.choice([1, 8, 15, 21]))
    mult = rng.integers(0, 1 << 31, size, np.int32) if rng.random() < 0.3 else (
        rng.uniform(0.001, 0.03, size) * 2.0 ** (min(f, 1) + 32)).astype(np.int64).clip(0, 2**31 - 1).astype(np.int32)
    zero, lo = int(rng.integers(-128, 128)), int(rng.choice([-128, -128, -20]))
    return {"c": (zero << f) + (1 << (f - 1)), "f": f, "lo": lo, "hi": int(rng.choice([127, 127, 30]))}, mult


def float_end(rng):
    lo, hi = [(-NO_CLAMP, NO_CLAMP), (0.0, NO_CLAMP), (0.0, 6.0), (-NO_CLAMP, 1.5)][rng.integers(4)]
    return {"flo": lo, "fhi": hi}


def window(rng, max_c, dilation=True):
    """The fields of a window along a row: any padding and any width that needs some."""
    kh, kw, stride = int(rng.integers(1, 4)), int(rng.integers(1, 6)), int(rng.integers(1, 4))
    d = int(rng.choice([1, 1, 2, 3])) if dilation else 1
    in_w, pad_left, pad_right = int(rng.integers(1, 13)), int(rng.integers(0, 4)), int(rng.integers(0, 4))
    in_w = max(in_w, (kw - 1) * d + 1 - pad_left - pad_right)
    out_w = (in_w + pad_left + pad_right - (kw - 1) * d - 1) // stride + 1
    return {"in_w": in_w, "in_c": int(rng.integers(1, max_c + 1)), "out_w": out_w, "kh": kh, "kw": kw,
            "stride_w": stride, "dilation_w": d, "pad_left": pad_left}


def ordered(p, names):
    return {k: p[k] for k in names.split()}


def padded_rows(rng, p, make, pad):
    """kh rows, the last one perhaps a row of padding, and the padding row."""
    row = np.full(p["in_w"] * p["in_c"], pad)
    rows = [make(rng, p["in_w"] * p["in_c"]) for _ in range(p["kh"])]
    if rng.random() < 0.3:
        rows[-1] = row
    return rows, row


CONV = "in_w in_c out_w out_c kh kw stride_w dilation_w pad_left groups"
DWCONV = "in_w in_c out_w mult kh kw stride_w dilation_w pad_left"
POOL = "in_w in_c out_w kh kw stride_w dilation_w pad_left"
AVERAGE = "in_w in_c out_w kh kw stride_w pad_left include_pad"


def case(kernel, p, args, expected):
    expected = np.ascontiguousarray(expected)
    return Case(kernel, p, args, expected.nbytes, expected=expected)


def conv_case(rng, kind):
    p = window(rng, 9)
    groups = int(rng.choice([1, 1, 2, 3]))
    p |= {"groups": groups, "in_c": p["in_c"] * groups, "out_c": int(rng.integers(1, 11)) * groups}
    shape = (p["out_c"], p["kh"], p["kw"], p["in_c"] // groups)
    if kind == "f32":
        rows, pad = padded_rows(rng, p, floats, np.float32(0))
        w, bias = floats(rng, *shape), floats(rng, p["out_c"])
        p = ordered(p, CONV) | float_end(rng)
        return case(
            "conv_f32", p, (rows, pad, c99.blocked(w, c99.CONV, groups), bias, "out"), clamp(conv(p, rows, 0, w, bias), p)
        )
    end, mult = integer_end(rng, p["out_c"])
    rows, pad = padded_rows(rng, p, int8s, np.int8(rng.integers(-128, 128)))
    w, bias = int8s(rng, *shape), rng.integers(-20000, 20000, p["out_c"], np.int32)
    p = ordered(p, CONV) | end
    return case("conv_s8", p, (rows, pad, w, bias, mult, "out"), requant(conv(p, rows, pad[0], w, bias), mult, p))


def dwconv_case(rng, kind):
    p = window(rng, 9) | {"mult": int(rng.choice([1, 1, 1, 2, 3, 5]))}
    p["kh"] = 9 if rng.random() < 0.2 else p["kh"]  # windows of more than 32 taps have a way of their own
    out_c = p["in_c"] * p["mult"]
    shape = (p["kh"], p["kw"], out_c)
    if kind == "f32":
        rows, pad = padded_rows(rng, p, floats, np.float32(0))
        w, bias = floats(rng, *shape), floats(rng, out_c)
        p = ordered(p, DWCONV) | float_end(rng)
        return case("dwconv_f32", p, (rows, pad, w, bias, "out"), clamp(dwconv(p, rows, 0, w, bias), p))
    end, mult = integer_end(rng, out_c)
    rows, pad = padded_rows(rng, p, int8s, np.int8(rng.integers(-128, 128)))
    w, bias = int8s(rng, *shape), rng.integers(-20000, 20000, out_c, np.int32)
    p = ordered(p, DWCONV) | end
    return case("dwconv_s8", p, (rows, pad, w, bias, mult, "out"), requant(dwconv(p, rows, pad[0], w, bias), mult, p))


def fc_case(rng, kind):
    p = {"in_c": int(rng.integers(1, 40)), "out_c": int(rng.integers(1, 20))}
    if kind == "f32":
        x, w, bias = floats(rng, p["in_c"]), floats(rng, p["out_c"], p["in_c"]), floats(rng, p["out_c"])
        p |= float_end(rng)
        return case("fc_f32", p, (x, c99.blocked(w, c99.FC), bias, "out"), clamp(fc(p, x, w, bias), p))
    end, mult = integer_end(rng, p["out_c"])
    x, w = int8s(rng, p["in_c"]), int8s(rng, p["out_c"], p["in_c"])
    bias = rng.integers(-20000, 20000, p["out_c"], np.int32)
    p |= end
    return case("fc_s8", p, (x, w, bias, mult, "out"), requant(fc(p, x, w, bias), mult, p))


def paired(w, bias, mult):
    """(pairs, stream) of weights [oc][...]; the smallest groups now and then, as larger ones make them rare."""
    flat = w.reshape(len(w), -1)
    pairs, groups = pair.choose(flat)
    if flat.sum() % 3 == 0:
        pairs, groups = 1, pair.balanced(flat, 1)
    return pairs, pair.stream(flat, bias, mult, pairs, groups)


def conv_pair_case(rng, kind):
    """Weights of any size: two taps of -128 are what no group can hold."""
    p = window(rng, 9)
    p = ordered(p | {"out_c": int(rng.integers(1, 11))}, CONV.removesuffix(" groups"))
    end, mult = integer_end(rng, p["out_c"])
    rows, pad = padded_rows(rng, p, int8s, np.int8(rng.integers(-128, 128)))
    w = np.maximum(int8s(rng, p["out_c"], p["kh"], p["kw"], p["in_c"]), -127) // int(rng.choice([1, 1, 4, 16]))
    w[rng.random(w.shape) < rng.choice([0.1, 0.9])] = 0
    bias = rng.integers(-20000, 20000, p["out_c"], np.int32)
    pairs, stream = paired(w, bias, mult)
    y = requant(conv(p | {"groups": 1}, rows, pad[0], w, bias), mult, end)
    return Case("conv_s8_pair", p | end | {"pairs": pairs}, (rows, pad, stream, "out", "scratch"), y.nbytes,
                pair.scratch("conv", p), np.ascontiguousarray(y))


def fc_pair_case(rng, kind):
    p = {"in_c": int(rng.integers(1, 80)), "out_c": int(rng.integers(1, 14))}
    end, mult = integer_end(rng, p["out_c"])
    x, w = int8s(rng, p["in_c"]), np.maximum(int8s(rng, p["out_c"], p["in_c"]), -127)
    bias = rng.integers(-20000, 20000, p["out_c"], np.int32)
    pairs, stream = paired(w, bias, mult)
    return case("fc_s8_pair", p | end | {"pairs": pairs}, (x, stream, "out"), requant(fc(p, x, w, bias), mult, end))


def conv_quad_case(rng, kind):
    p = window(rng, 9)
    p = ordered(p | {"out_c": int(rng.integers(4, 13))}, CONV.removesuffix(" groups"))
    end, mult = integer_end(rng, p["out_c"])
    rows, pad = padded_rows(rng, p, int8s, np.int8(rng.integers(-128, 128)))
    w, bias = int8s(rng, p["out_c"], p["kh"], p["kw"], p["in_c"]), rng.integers(-20000, 20000, p["out_c"], np.int32)
    y = requant(conv(p | {"groups": 1}, rows, pad[0], w, bias), mult, end)
    return Case("conv_s8_quad", p | end, (rows, pad, w, bias, mult, "out", "scratch"), y.nbytes, pair.scratch("conv", p),
                np.ascontiguousarray(y))


def fc_quad_case(rng, kind):
    p = ordered({"in_c": int(rng.integers(1, 80)), "out_c": int(rng.integers(4, 14))}, "in_c out_c")
    end, mult = integer_end(rng, p["out_c"])
    x, w, bias = int8s(rng, p["in_c"]), int8s(rng, p["out_c"], p["in_c"]), rng.integers(-20000, 20000, p["out_c"], np.int32)
    return case("fc_s8_quad", p | end, (x, w, bias, mult, "out"), requant(fc(p, x, w, bias), mult, end))


def maxpool_case(rng, kind):
    p = ordered(window(rng, 9), POOL)
    low = np.int8(-128) if kind == "s8" else np.float32(-np.inf)
    rows, pad = padded_rows(rng, p, int8s if kind == "s8" else floats, low)
    best = np.full((p["out_w"], p["in_c"]), low)
    for x in taps(p, rows, low).transpose(1, 2, 0, 3).reshape(-1, *best.shape):
        best = np.where(x > best, x, best)
    return case(f"maxpool_{kind}", p, (rows, pad, "out"), best)


def avgpool_case(rng, kind):
    p = window(rng, 9, dilation=False)
    p = ordered(p | {"include_pad": int(rng.integers(2)), "pad_left": min(p["pad_left"], p["kw"] - 1)}, AVERAGE)
    last = (p["out_w"] - 1) * p["stride_w"] - p["pad_left"]
    p["in_w"] = max(p["in_w"], last + 1)  # every window sees the picture
    n_rows = int(rng.integers(1, p["kh"] + 1))
    if kind == "f32":
        p |= float_end(rng)
        rows = [floats(rng, p["in_w"] * p["in_c"]) for _ in range(n_rows)]
        sums, count = average_sum(p, rows, np.float32)
        divisor = np.where(p["include_pad"], p["kh"] * p["kw"], count).astype(np.float32)
        return case("avgpool_f32", p, (rows, n_rows, "out"), clamp(sums / divisor[:, None], p))
    end, _ = integer_end(rng, 1)
    p |= {"in_zp": int(rng.integers(-128, 128))} | end
    scale = rng.uniform(0.2, 2) / 256 / np.maximum(np.arange(p["kh"] * p["kw"] + 1), 1)
    table = np.minimum(np.rint(scale * 2.0 ** (32 + p["f"])), 2**31 - 1).astype(np.int32)
    rows = [int8s(rng, p["in_w"] * p["in_c"]) for _ in range(n_rows)]
    sums, count = average_sum(p, rows, np.int64, p["in_zp"])
    table = table[-1:] if p["include_pad"] else table
    m = table[0 if p["include_pad"] else count]
    return case("avgpool_s8", p, (rows, n_rows, table, "out"), requant(sums * 256, np.reshape(m, (-1, 1)), p))


def rowsum_case(rng, kind):
    p = {"in_w": int(rng.choice([1, 5, 9, 600])), "in_c": int(rng.integers(1, 14))}
    row = np.where(
        rng.random((p["in_w"], p["in_c"])) < 0.5, int8s(rng, p["in_w"] * p["in_c"]).reshape(p["in_w"], -1), np.int8(-128)
    )
    sums = rng.integers(-(2**30), 2**30, p["in_c"], np.int32)
    return case("rowsum_s8", p, (row.reshape(-1), sums, "out"), sums + row.astype(np.int32).sum(0, dtype=np.int32))


def add_case(rng, kind):
    a, b = int8s(rng, 23), int8s(rng, 23)
    f = int(rng.integers(1, 23))
    p = {"n": a.size, "ma": int(rng.integers(-(1 << f), 1 << f)), "mb": int(rng.integers(0, 1 << f)),
         "c": int(rng.integers(-(1 << f), 1 << f)), "f": f, "lo": -128, "hi": int(rng.choice([127, 50]))}
    acc = a.astype(np.int64) * p["ma"] + b.astype(np.int64) * p["mb"] + p["c"]
    return case("add_s8", p, (a, b, "out"), np.clip(acc >> f, p["lo"], p["hi"]).astype(np.int8))


def mul_case(rng, kind):
    a, b = int8s(rng, 19), int8s(rng, 19)
    end, mult = integer_end(rng, 1)
    p = {"n": a.size, "za": int(rng.integers(-128, 128)), "zb": int(rng.integers(-128, 128)), "m": int(mult[0])} | end
    acc = (a.astype(np.int64) - p["za"]) * (b.astype(np.int64) - p["zb"])
    return case("mul_s8", p, (a, b, "out"), requant(acc, mult, p))


def lut_case(rng, kind):
    x, table = int8s(rng, int(rng.integers(1, 30))), int8s(rng, 256)
    return case("lut_s8", {"n": x.size}, (x, table, "out"), table[x.view(np.uint8)])


def softmax_case(rng, kind):
    n = int(rng.integers(1, 20))
    if kind == "f32":
        x = floats(rng, n)
        return case("softmax_f32", {"n": n}, (x, "out"), x)  # its expected value: test_softmax_f32
    x = int8s(rng, n)
    table = np.rint(np.exp(-np.arange(256) * rng.uniform(0.001, 0.3)) * (2**31 // n - 1)).astype(np.uint32)
    end, mult = integer_end(rng, 1)
    e = table[x.max() - x.astype(int)].astype(np.int64)
    p = {"n": n, "m": int(mult[0])} | end
    return case("softmax_s8", p, (x, table, "out"), requant((e << 16) // e.sum(), mult, p))


INTEGER = {"conv": conv_case, "dwconv": dwconv_case, "fc": fc_case, "conv_pair": conv_pair_case, "fc_pair": fc_pair_case,
           "conv_quad": conv_quad_case, "fc_quad": fc_quad_case,
           "maxpool": maxpool_case, "avgpool": avgpool_case, "rowsum": rowsum_case, "add": add_case, "mul": mul_case,
           "lut": lut_case, "softmax": softmax_case}
FLOAT = {k: INTEGER[k] for k in ("conv", "dwconv", "fc", "maxpool", "avgpool")}
ALL = [(k, "s8") for k in INTEGER] + [(k, "f32") for k in FLOAT]


# --- calls ---------------------------------------------------------------------------------------


def call(kernels, c, inplace=False):
    """The kernel's output (as c.expected); with `inplace` it is written over the first argument."""
    ffi, lib = kernels
    out, scratch = (np.full(n + 2 * GUARD, 0x5A, np.uint8) for n in (c.out_bytes, c.scratch_bytes))
    room = out[GUARD:-GUARD].view(c.expected.dtype)
    if inplace:
        room[:] = c.args[0]
    keep, values = [], []

    def pointer(a):
        a = np.ascontiguousarray(a)
        keep.append(a)
        return ffi.cast(f"{C_TYPES[a.dtype.name]} *", a.ctypes.data)

    for i, a in enumerate(c.args):
        if isinstance(a, list):
            values.append(ffi.new(f"const {C_TYPES[a[0].dtype.name]} *[]", [pointer(r) for r in a]))
        elif isinstance(a, int):
            values.append(a)
        elif isinstance(a, str) and a == "scratch":
            values.append(ffi.cast("int8_t *", scratch.ctypes.data + GUARD))
        else:
            values.append(pointer(room if isinstance(a, str) or (inplace and i == 0) else a))
    getattr(lib, f"ec_{c.kernel}")(ffi.new(f"ec_{c.kernel}_t *", list(c.params.values())), *values)
    assert all((a[:GUARD] == 0x5A).all() and (a[-GUARD:] == 0x5A).all() for a in (out, scratch)), "written outside"
    return room.reshape(c.expected.shape)


def same(got, expected):
    """Equal bits; all NaNs are one."""
    if got.dtype == np.float32:
        nan, expected = np.isnan(expected), expected.astype(np.float32)
        equal = got.reshape(-1).view(np.uint32) == expected.reshape(-1).view(np.uint32)
        return np.array_equal(np.isnan(got), nan) and bool((equal | nan.reshape(-1)).all())
    return np.array_equal(got, expected)


@pytest.mark.parametrize("name, kind", ALL)
def test_random_layers(kernels, name, kind):
    for seed in range(80):
        c = INTEGER[name](np.random.default_rng(seed), kind)
        got = call(kernels, c)
        assert same(got, c.expected), (seed, c.params, got, c.expected)


@pytest.mark.parametrize("name", ["add", "mul", "lut", "softmax"])
def test_in_place(kernels, name):
    for seed in range(20):
        c = INTEGER[name](np.random.default_rng(seed), "s8")
        assert np.array_equal(call(kernels, c, inplace=True), c.expected), (seed, c.params)


def test_groups_of_taps_hold_every_sum():
    """Every input at its end: the sums of a group stay int16, and every tap that weighs something is in one group."""
    rng = np.random.default_rng(7)
    for _ in range(60):
        w = np.maximum(int8s(rng, int(rng.integers(1, 9)), int(rng.integers(1, 60))), -127) // int(rng.choice([1, 2, 9]))
        pairs, groups = pair.choose(w)
        padded = np.pad(w.astype(int), ((0, -len(w) % 4), (0, 0)))
        for block, of in zip(padded.reshape(-1, 4, w.shape[1]), groups, strict=True):
            assert sorted(of[of >= 0]) == np.flatnonzero(block.any(0)).tolist()
            for taps in of:
                g = block[:, taps[taps >= 0]]
                assert np.where(g > 0, 127 * g, -128 * g).sum(1).max() <= 32767
                assert np.where(g > 0, -128 * g, 127 * g).sum(1).min() >= -32768
        assert groups.shape[2] == 2 * pairs


def test_weights_that_no_group_holds():
    assert pair.choose(np.full((4, 2), -128, np.int8)) is None
    assert pair.choose(np.array([[-128, 0], [0, -128]], np.int8)) is not None
    assert pair.choose(np.ones((1, 65537), np.int8)) is None, "places are 16 bits"


def test_softmax_f32(kernels):
    ffi, lib = kernels
    for seed in range(50):
        x = np.random.default_rng(seed).normal(0, 10, seed + 1).astype(np.float32)
        e = np.exp(x.astype(np.float64) - x.max())
        got = call(kernels, case("softmax_f32", {"n": x.size}, (x, "out"), x), inplace=bool(seed % 2))
        assert np.allclose(got, e / e.sum(), rtol=1e-6, atol=1e-12)
    one = np.array([np.inf], np.float32)
    assert np.isnan(call(kernels, case("softmax_f32", {"n": 1}, (one, "out"), one)))


def test_extreme_sum_does_not_overflow(kernels):
    """131071 * 128 * 128 is the largest sum of equal products below 2^31."""
    n = 131071
    x, w = np.full(n, -128, np.int8), np.full((5, n), -128, np.int8)
    p = {"in_c": n, "out_c": 5, "c": 1, "f": 1, "lo": -128, "hi": 127}
    mult = np.array([2**31 - 1, 200, 240, 1, 0], np.int32)
    c = case("fc_s8", p, (x, w, np.zeros(5, np.int32), mult, "out"), requant(np.full(5, n * 128 * 128), mult, p))
    assert np.array_equal(call(kernels, c), c.expected)


# --- ec.h ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ec():
    return kernel_lib.compile_kernels(["ec.h"], [], SIMD, flags=("-O1", *kernel_lib.UBSAN))[1]


def test_requant_is_exact(ec):
    rng = np.random.default_rng(0)
    edge = [-(2**31), -(2**31) + 1, -65536, -65535, -1, 0, 1, 65535, 65536, 2**31 - 1]
    pairs = [(a, m) for a in edge for m in edge] + rng.integers(-(2**31), 2**31, (3000, 2)).tolist()
    for a, m in pairs:
        assert ec.ec_mulh(a, m) == ec.ec_mulh_halves(a, m) == (a * m) >> 32
        for f in (1, 8, 15, 21):
            for zp in (-128, 0, 127):
                c = (zp << f) + (1 << (f - 1))
                assert ec.ec_requant(a, m & 0x7FFFFFFF, c, f) == (((a * (m & 0x7FFFFFFF)) >> 32) + c) >> f


def test_clamps_and_words(ec):
    assert [ec.ec_sat8(v, -128, 127) for v in (-(2**31), -129, -128, 127, 128)] == [-128, -128, -128, 127, 127]
    assert [ec.ec_clampf(v, 0.0, 6.0) for v in (-np.inf, -1.0, 3.0, 7.0)] == [0, 0, 3, 6]
    assert np.isnan(ec.ec_clampf(np.nan, 0.0, 6.0)) and ec.ec_clampf(np.inf, 0.0, NO_CLAMP) == np.inf
    assert np.signbit(ec.ec_clampf(-0.0, 0.0, 6.0))
    data = np.arange(9, dtype=np.uint8) + 250
    ffi = kernel_lib.cffi.FFI()
    assert ec.ec_ld4(ffi.cast("void *", data.ctypes.data + 3)) == int.from_bytes(data[3:7].tobytes(), "little")
    ec.ec_st4(ffi.cast("void *", data.ctypes.data + 1), 0x01020384)
    assert data.tolist() == [250, 0x84, 3, 2, 1, 255, 0, 1, 2]


def test_column_ranges(ec):
    """The windows counted as inside the row are exactly those whose taps all are."""
    rng = np.random.default_rng(1)
    for _ in range(300):
        in_w, out_w, kw, stride, d, pad = (int(v) for v in rng.integers([1, 1, 1, 1, 1, 0], [14, 12, 5, 4, 4, 6]))
        begin = ec.ec_inner_begin(out_w, stride, pad)
        end = ec.ec_inner_end(begin, in_w, out_w, (kw - 1) * d + 1, stride, pad)
        inside = [[0 <= x * stride - pad + k * d < in_w for k in range(kw)] for x in range(out_w)]
        assert [begin <= x < end for x in range(out_w)] == [all(r) for r in inside]
        for x in range(out_w):
            ix = x * stride - pad
            first, last = ec.ec_tap_begin(ix, kw, d), ec.ec_tap_end(ix, in_w, kw, d)
            assert [first <= k < last for k in range(kw)] == inside[x]


# --- compiled with constant parameters -----------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    cases = [c for name, kind in ALL for c in _finite(name, kind, 4)]
    return write(tmp_path_factory.mktemp("c99"), cases), [(checksum(c.expected.tobytes()), 1) for c in cases]


def _finite(name, kind, count):
    """Cases without NaN in the result: its bits are the one thing that differs between targets."""
    made = (INTEGER[name](np.random.default_rng(1000 + seed), kind) for seed in range(1000))
    good = (c for c in made if c.expected.dtype == np.int8 or np.isfinite(c.expected).all())
    return [next(good) for _ in range(count)]


# The program passes every buffer as int8.
FLAGS = ("-ffp-contract=off", "-fno-math-errno", "-Wno-incompatible-pointer-types", "-fno-strict-aliasing",
         *(f"-I{d}" for d in KERNELS))


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
def test_constant_parameters_under_sanitizers(program):
    source, expected = program
    flags = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *FLAGS, f"-I{SIMD}")
    assert run([build_host(source, "gcc", flags)]) == expected


@pytest.mark.qemu
@pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")
@pytest.mark.parametrize("core", CORES)
def test_same_bits_on_arm(program, core):
    source, expected = program
    elf = build_core(source, core, KERNELS, THUMB if core == "cortex-m0" else SIMD, FLAGS)
    assert run(qemu(elf, CORES[core][1])) == expected


# --- every compiler takes every header -----------------------------------------------------------

ARM = ("-mthumb", "-ffreestanding", "-c")
COMPILERS = {
    "gcc": ("gcc", "-O2", "-c"),
    "gcc-gnu11-fma": ("gcc", "-O2", "-c", "-std=gnu11", "-mfma"),
    "clang": ("clang", "-O2", "-c"),
    "clang-cortex-m0": ("clang", "--target=arm-none-eabi", "-mcpu=cortex-m0", "-O2", *ARM),
    "clang-cortex-m4": ("clang", "--target=arm-none-eabi", "-mcpu=cortex-m4", "-mfloat-abi=hard", "-O2", *ARM),
    "arm-cortex-m0": ("arm-none-eabi-gcc", "-mcpu=cortex-m0", "-O2", *ARM),
    "arm-cortex-m3": ("arm-none-eabi-gcc", "-mcpu=cortex-m3", "-Os", *ARM),
    "arm-cortex-m4": ("arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16", "-O2", *ARM),
}


def every_function():
    """C text that calls every kernel and math function with parameters known only at run time."""
    headers = ["ec.h", "ec_math.h", *HEADERS]
    body = kernel_lib.wrappers(kernel_lib.declarations(headers, KERNELS))[0]
    return "".join(f'#include "{h}"\n' for h in headers) + body


@pytest.mark.parametrize("name", COMPILERS)
def test_compiles_without_warnings(name, tmp_path):
    cc, *flags = COMPILERS[name]
    if not shutil.which(cc):
        pytest.skip(f"no {cc}")
    source = tmp_path / "all.c"
    source.write_text(every_function())
    include = kernel_lib.include_flags(KERNELS, THUMB if "m0" in name else SIMD)
    r = subprocess.run([cc, *kernel_lib.WARNINGS, *kernel_lib.FLOAT, *flags, *include, str(source),
                        "-o", str(tmp_path / "all.o")], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    assert not r.stderr


def test_fast_math_is_refused(tmp_path):
    source = tmp_path / "all.c"
    source.write_text('#include "ec.h"\n')
    r = subprocess.run(["cc", "-ffast-math", "-c", f"-I{kernel_lib.RUNTIME}", str(source), "-o", str(tmp_path / "a.o")],
                       capture_output=True, text=True)
    assert r.returncode and "-ffast-math" in r.stderr
