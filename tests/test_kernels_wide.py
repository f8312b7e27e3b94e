"""Kernels with int16 activations against numpy, exactly: portable and DSP, on the host and as Arm code under QEMU."""
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

from edgec.kernels import wide

TYPES = tuple(wide.SUFFIX)
KERNELS = tuple(f"{kind}_{s}" for kind in ("conv", "fc", "dwconv") for s in wide.SUFFIX.values())
FIELDS = {
    "conv": "in_w in_c out_w out_c kh kw stride_w dilation_w pad_left groups c f lo hi pre bits wide x16 y16",
    "fc": "in_c out_c c f lo hi pre bits wide x16 y16",
    "dwconv": "in_w in_c out_w kh kw stride_w dilation_w pad_left c f lo hi pre zero x16 y16"}
CONSTANTS = "const int8_t *w, const int32_t *bias, const int32_t *mult"


def declarations() -> str:
    """For cffi."""
    text = []
    for kernel in KERNELS:
        kind = kernel.split("_")[0]
        x, y = (f"{t}_t" for t in next(k for k, v in wide.SUFFIX.items() if kernel == f"{kind}_{v}"))
        rows = f"const {x} *x" if kind == "fc" else f"const {x} *const *rows, const {x} *pad"
        last = "" if kind == "dwconv" else ", int8_t *scratch"
        constants = CONSTANTS.replace("int8", "int16") if kind == "dwconv" else CONSTANTS
        text.append(
            f"typedef struct {{ int32_t {', '.join(FIELDS[kind].split())}; }} ec_{kernel}_t;\n"
            f"void ec_{kernel}(const ec_{kernel}_t *p, {rows}, {constants}, {y} *out{last});"
        )
    return "\n".join(text)


@pytest.fixture(scope="module")
def host():
    simd = kernel_lib.RUNTIME / "simd" / "c99"
    return kernel_lib.compile_kernels(
        [f"{k}.h" for k in KERNELS], (kernel_lib.C99,), simd, declarations(), flags=("-O1", *kernel_lib.UBSAN)
    )


def case(kind, types, layer, low=-127, huge=False, pre=0):
    """A call from a layer of test_kernels_dsp with activations of these types. low: weights are at least; huge: with sums
    beyond 32 bits."""
    params, rows, pad, w, bias, mult = layer
    rng = np.random.default_rng(w.size)
    x_type, y_type = types
    if x_type == "int16":
        rows = np.where(rng.random(rows.shape) < 0.1, np.where(rows < 0, -32768, 32767), rng.integers(-32768, 32768, rows.shape))
        rows, pad = rows.astype(np.int16), 0 if pad % 2 else int(rng.integers(-32768, 32768))
    w = w if low == -127 else (w % (-2 * low) + low).astype(np.int8)
    bias = bias.astype(np.int64)
    if huge:
        w[0], rows[:] = 127, 32767
        bias[0] = min(2**31 - 1, 2**32 - 1 - 127 * w[0].size * 32768)
    w, depth = (w[..., None], 1) if kind == "dwconv" else (w, params["in_c"] // params.get("groups", 1))
    bound = int(wide.bound(x_type, w, bias).max())
    pre = min(pre, 32 - bound.bit_length())
    spread = 60 if y_type == "int8" else 20000
    f = params["f"]
    m = np.minimum(np.rint(spread / max(np.sqrt(bound) * 40, bound / 20) * 2.0 ** (32 + f - pre)), 2.0**31 - 1)
    mult = np.maximum(m * rng.uniform(0.4, 1, len(w)), 1).astype(np.int32)
    zero = int(rng.integers(-100, 100))
    info = np.iinfo(y_type)
    lo, hi = sorted(rng.integers(info.min, info.max, 2).tolist()) if rng.integers(2) else (info.min, info.max)
    given_params = {k: v for k, v in params.items()} | {"c": (zero << f) + (1 << (f - 1)), "lo": lo, "hi": hi}
    assert wide.accepts(types, w, bias, pre) is None
    kernel, constants, scratch, own = wide.packed(
        kind, given_params if kind != "fc" else {k: given_params[k] for k in layers.FC}, types, w, bias, mult, pre, pad
    )
    taps = layers.columns(rows, pad, params)
    if kind == "dwconv":
        acc = np.einsum("xyzc,cyz->xc", taps, w[..., 0].astype(np.int64))
    else:
        groups = params["groups"]
        n = len(w) // groups
        acc = np.concatenate(
            [
                np.einsum("xyzi,oyzi->xo", taps[..., g * depth : (g + 1) * depth], w[g * n : (g + 1) * n].astype(np.int64))
                for g in range(groups)
            ],
            1,
        )
    high = (((acc + bias) << pre) * mult) >> 32
    expected = np.ascontiguousarray(np.clip((high + own["c"]) >> f, lo, hi).astype(y_type))
    source = (rows.reshape(-1),) if kernel.startswith("fc") else (list(rows), np.full(rows[0].size, pad, x_type))
    args = (*source, *(a for _, a in constants), "out", *(() if scratch is None else ("scratch",)))
    return Case(kernel, {k: own[k] for k in FIELDS[kernel.split("_")[0]].split()}, args, expected.nbytes, scratch or 0, expected)


def check(host, c):
    """Runs the call on the host: the expected output, and nothing written behind it or the scratch."""
    ffi, lib = host
    rooms = {
        "out": ffi.new("char[]", b"\x5a" * (c.out_bytes + 16)),
        "scratch": ffi.new("char[]", b"\x5a" * (c.scratch_bytes + 16)),
    }
    kept, args = [], []
    for a in c.args:
        if isinstance(a, str):
            args.append(ffi.cast(f"{c.expected.dtype.name}_t *" if a == "out" else "int8_t *", rooms[a]))
        elif isinstance(a, list):
            kept.append([ffi.from_buffer(f"{r.dtype.name}_t[]", np.ascontiguousarray(r)) for r in a])
            args.append(ffi.new(f"{a[0].dtype.name}_t *[]", kept[-1]))
        else:
            args.append(ffi.from_buffer(f"{a.dtype.name}_t[]", np.ascontiguousarray(a)))
    getattr(lib, f"ec_{c.kernel}")(ffi.new(f"ec_{c.kernel}_t *", c.params), *args)
    out = np.frombuffer(bytes(ffi.buffer(rooms["out"])[:c.out_bytes]), c.expected.dtype)
    np.testing.assert_array_equal(out.reshape(c.expected.shape), c.expected)
    for name, size in (("out", c.out_bytes), ("scratch", c.scratch_bytes)):
        assert bytes(ffi.buffer(rooms[name]))[size:-1] == b"\x5a" * 16, f"written past the end of {name}"


def shape_cases(seed):
    found = []
    for types in TYPES:
        for k, s in enumerate(layers.CONV_SHAPES.values()):
            layer = layers.conv_layer(np.random.default_rng(seed + k), **s, f=(1, 8, 15)[k % 3])
            found += [case("conv", types, layer), case("conv", types, layer, low=-8), case("conv", types, layer, pre=3)]
        for k, (n_in, n) in enumerate(layers.FC_SHAPES):
            layer = layers.conv_layer(np.random.default_rng(seed + k), 1, n_in, n, 1, 1)
            found += [case("fc", types, layer), case("fc", types, layer, low=-8)]
        for k, s in enumerate(layers.DWCONV_SHAPES.values()):
            found.append(case("dwconv", types, layers.dwconv_layer(np.random.default_rng(seed + k), **s, f=(1, 8, 15)[k % 3])))
    for types in TYPES[1:]:
        for kind, shape in (
            ("conv", dict(in_w=5, in_c=64, out_c=6, kh=3, kw=3, pad=1)),
            ("fc", dict(in_w=1, in_c=640, out_c=6, kh=1, kw=1)),
        ):
            found.append(case(kind, types, layers.conv_layer(np.random.default_rng(seed), **shape), huge=True))
    return found


def test_shapes(host):
    cases = shape_cases(0)
    assert {c.kernel for c in cases} == set(KERNELS)
    assert any(c.params.get("wide") for c in cases) and any(c.params.get("bits") == 4 for c in cases)
    for c in cases:
        check(host, c)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_conv_of_any_shape(host, data):
    def draw(lo, hi):
        return data.draw(st.integers(lo, hi))

    groups, f = draw(1, 3), data.draw(st.sampled_from((1, 8, 15)))
    shape = dict(in_w=draw(1, 9), in_c=groups * draw(1, 9), out_c=groups * draw(1, 9), kh=draw(1, 4), kw=draw(1, 4),
                 stride=draw(1, 3), dilation=draw(1, 2), pad=draw(0, 4), right=draw(0, 4), groups=groups, f=f)
    if shape["in_w"] + shape["pad"] + shape["right"] > (shape["kw"] - 1) * shape["dilation"]:
        layer = layers.conv_layer(np.random.default_rng(draw(0, 10**6)), **shape)
        check(
            host,
            case("conv", data.draw(st.sampled_from(TYPES)), layer, data.draw(st.sampled_from((-127, -8, -2))), pre=draw(0, 4)),
        )


def test_refusals():
    w, none = np.full((4, 1, 1, 8), 127, np.int8), np.zeros(4, np.int64)
    assert "int16" in wide.accepts(("int8", "int8"), w, none, 0) and "wider" in wide.accepts(
        TYPES[1], w.astype(np.int16), none, 0
    )
    assert "bias" in wide.accepts(TYPES[1], w, none + 2**31, 0)
    assert wide.accepts(TYPES[1], w, none, 6) is None and "sum" in wide.accepts(TYPES[1], w, none, 8)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    cases = shape_cases(7)
    cases = [*cases[:-4][::7], *cases[-4:]]
    expected = [(dsp_program.checksum(c.expected.tobytes()), 1) for c in cases]
    return dsp_program.write(tmp_path_factory.mktemp("wide"), cases), expected


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
    text = "".join(f'#include "{k}.h"\n' for k in KERNELS)
    for line in declarations().splitlines():
        if line.startswith("void"):
            name = line.split("(")[0].split("ec_")[1]
            names = ", ".join(a.split("*")[-1].strip() for a in line[line.index("(") + 1:-2].split(","))
            own = line.replace(f"void ec_{name}", f"void use_{name}")
            text += f"{own}\n{own[:-1]}\n{{ ec_{name}({names}); }}\n"
    source = tmp_path / "all.c"
    source.write_text(text)
    subprocess.run([cc, *flags, *kernel_lib.WARNINGS, *kernel_lib.include_flags(layers.ISA, simd), "-O2", "-c", str(source),
                    "-o", str(tmp_path / "all.o")], check=True)
