"""runtime_c/ec_math.h against float64: the error bounds it states, special values, and the same bits everywhere."""
from __future__ import annotations

import math
import shutil
from pathlib import Path

import kernel_lib
import numpy as np
import pytest
from arm_core import CORES, build_core
from dsp_program import Case, checksum, missing, qemu, run, write

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
SIMD = kernel_lib.RUNTIME / "simd" / "c99"
erf = np.frompyfunc(math.erf, 1, 1)

# function: (float64 reference, bound in ULP as ec_math.h states it, interval of interest)
FUNCTIONS = {
    "exp": (np.exp, 1.0, (-105, 90)),
    "log": (np.log, 1.0, (0, 3)),
    "log1p": (np.log1p, 1.0, (-1, 3)),
    "tanh": (np.tanh, 1.4, (-10, 10)),
    "sinh": (np.sinh, 1.7, (-91, 91)),
    "cosh": (np.cosh, 1.5, (-91, 91)),
    "asinh": (np.arcsinh, 1.8, (-10, 10)),
    "acosh": (np.arccosh, 2.0, (1, 10)),
    "atanh": (np.arctanh, 2.1, (-1, 1)),
    "erf": (lambda x: erf(x).astype(np.float64), 1.4, (-4.2, 4.2)),
    "sin": (np.sin, 1.5, (-1e5, 1e5)),
    "cos": (np.cos, 1.5, (-1e5, 1e5)),
    "tan": (np.tan, 3.1, (-1e5, 1e5)),
    "asin": (np.arcsin, 2.4, (-1, 1)),
    "acos": (np.arccos, 1.1, (-1, 1)),
    "atan": (np.arctan, 1.9, (-10, 10)),
    "sqrt": (np.sqrt, 0.5, (0, 100)),
    "floor": (np.floor, 0, (-100, 100)),
    "ceil": (np.ceil, 0, (-100, 100)),
    "trunc": (np.trunc, 0, (-100, 100)),
    "round": (np.rint, 0, (-100, 100)),
}
PAIRS = ("pow", "fmod")
SPECIAL = np.array([0, 1e-45, 1e-40, 1.1754944e-38, 1e-8, 0.1, 0.5, 0.625, 1, 1.5, 2, 2.5, 3, 3.5, 88.72, 88.73, 89.41,
                    89.42, 1e5, 8388607.5, 8388608, 8388609, 16777215, 16777216, 2147483648.0, 1e10, 1e30, 3.4028235e38,
                    np.inf], np.float32)
SPECIAL = np.concatenate([SPECIAL, -SPECIAL, [np.float32(np.nan)]])

HEADER = """#include "ec.h"
#include "ec_math.h"
typedef struct {{ int32_t n; }} ec_every_real_t;
EC_KERNEL float ec_one_nan(float v) {{ return ec_isnan(v) ? 0.0f : v; }}
{loops}
/* Every function of every x, and every pair (x, the next one); NaN as 0, for its bits are the target's own. */
EC_KERNEL void ec_every_real(const ec_every_real_t *p, const float *x, float *out)
{{
    for (int32_t i = 0; i < p->n; i++) {{
        const float y = x[i + 1 < p->n ? i + 1 : 0];
        {every}
    }}
}}
"""


def header(folder: Path) -> Path:
    """Writes every_real.h: a loop over an array for each function, and one kernel with all of them."""
    one = [f"EC_KERNEL void ec_many_{n}(const float *x, float *out, int32_t n)\n"
           f"{{ for (int32_t i = 0; i < n; i++) out[i] = ec_{n}f(x[i]); }}" for n in (*FUNCTIONS, "sqrt_digits")]
    two = [f"EC_KERNEL void ec_many_{n}(const float *x, const float *y, float *out, int32_t n)\n"
           f"{{ for (int32_t i = 0; i < n; i++) out[i] = ec_{n}f(x[i], y[i]); }}" for n in PAIRS]
    calls = [f"*out++ = ec_one_nan(ec_{n}f(x[i]));" for n in FUNCTIONS if n != "log1p"]
    calls += [f"*out++ = ec_one_nan(ec_{n}f(x[i], y));" for n in PAIRS]
    loops = "\n".join([*one, *two]).replace("ec_sqrt_digitsf", "ec_sqrtf_digits")
    (folder / "every_real.h").write_text(HEADER.format(loops=loops, every=" ".join(calls)))
    return folder


def compiled(folder, cc="cc", flags=("-O2",)):
    ffi, lib = kernel_lib.compile_kernels(["every_real.h"], [folder, kernel_lib.C99], SIMD, cc=cc, flags=flags)

    def array(a):
        return ffi.cast("float *", a.ctypes.data)

    def many(name, *x):
        x = [np.ascontiguousarray(v, np.float32) for v in x]
        out = np.empty_like(x[0])
        getattr(lib, f"ec_many_{name}")(*map(array, x), array(out), out.size)
        return out

    def every(x):
        out = np.empty((len(FUNCTIONS) - 1 + len(PAIRS)) * x.size, np.float32)
        lib.ec_every_real(ffi.new("ec_every_real_t *", [x.size]), array(x), array(out))
        return out

    return many, every


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return header(tmp_path_factory.mktemp("math"))


@pytest.fixture(scope="module")
def many(folder):
    return compiled(folder, flags=("-O1", *kernel_lib.UBSAN))[0]


def ulps(got, want):
    """The error of float32 results in units of the last place of the exact (float64) ones; inf where one is NaN or
    infinite and the other is not."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    unit = np.ldexp(1.0, np.maximum(np.frexp(want)[1], -125) - 24)
    largest = 2.0**128 - 2.0**103  # the first float64 that rounds to infinity
    err = np.abs(got - want) / unit
    over = np.abs(want) >= largest  # infinity is right, the largest float an ULP away
    infinite = np.isinf(got) & (np.sign(got) == np.sign(want))
    err = np.where(over, np.where(infinite, 0, np.where(np.abs(got) > 3.4028234e38, 1, np.inf)), err)
    err = np.where(~over & np.isinf(got), np.where(infinite & (np.abs(want) > 3.4028234e38), 1, np.inf), err)
    err = np.where(np.isnan(want), np.where(np.isnan(got), 0, np.inf), err)
    return np.where(np.isnan(got) & ~np.isnan(want), np.inf, err)


def same(got, want):
    """Equal float32 bits; all NaNs are one."""
    nan = np.isnan(want)
    return np.array_equal(np.isnan(got), nan) and bool(((got.view(np.uint32) == want.view(np.uint32)) | nan).all())


def samples(rng, lo, hi, n=60000):
    bits = rng.integers(0, 2**32, n, dtype=np.uint64).astype(np.uint32).view(np.float32)
    small = rng.uniform(-1, 1, n) * 10.0 ** rng.uniform(-6, 1, n)
    return np.concatenate([bits, rng.uniform(lo, hi, n), small, SPECIAL]).astype(np.float32)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_bound(many, name):
    reference, bound, interval = FUNCTIONS[name]
    x = samples(np.random.default_rng(0), *interval)
    if name == "log1p":
        x = x[(x > -1) & (x < 1e9)]  # an internal function
    got, want = many(name, x), reference(x.astype(np.float64))
    err = ulps(got, want)
    worst = int(np.argmax(err))
    assert err[worst] <= bound, (x[worst], got[worst], want[worst], err[worst])
    zero = (x == 0) & (want == 0)
    assert np.array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


def test_huge_angles(many):
    """Argument reduction is exact: float64 sin of the same number, up to the largest float."""
    x = np.array([2.0**k * (1 + k / 200) for k in range(128)], np.float32)
    for name in ("sin", "cos", "tan"):
        reference, bound, _ = FUNCTIONS[name]
        assert ulps(many(name, x), reference(x.astype(np.float64))).max() <= bound


def test_sqrt_by_digits_is_correctly_rounded(many):
    x = samples(np.random.default_rng(2), 0, 1e3)
    want = np.sqrt(x)  # IEEE: correctly rounded
    for name in ("sqrt", "sqrt_digits"):
        got = many(name, x)
        assert same(got, want)


def test_round_ties_to_even(many):
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 8388607.5, -0.2], np.float32)
    assert many("round", x).tolist() == [-2, -2, -0.0, 0, 2, 2, 0, 8388608, -0.0]
    assert np.signbit(many("round", x)[[2, 8]]).all()
    assert np.signbit(many("ceil", np.array([-0.5], np.float32)))[0]


def test_pow(many):
    rng = np.random.default_rng(3)
    n = 100000
    x = np.concatenate([rng.uniform(0, 10, n), 1 + rng.uniform(-1, 1, n) * 2.0 ** rng.uniform(-23, -1, n),
                        rng.integers(0, 2**31, n).astype(np.uint32).view(np.float32), -rng.integers(1, 30, n)])
    y = np.concatenate([rng.uniform(-30, 30, n), rng.uniform(-1, 1, n) * 2.0 ** rng.uniform(0, 30, n),
                        rng.uniform(-3, 3, n), rng.integers(-20, 20, n)])
    x, y = x.astype(np.float32), y.astype(np.float32)
    got, want = many("pow", x, y), np.power(x.astype(np.float64), y.astype(np.float64))
    err = ulps(got, want)
    worst = int(np.argmax(err))
    assert err[worst] <= 1, (x[worst], y[worst], got[worst], want[worst])


def test_special_pairs(many):
    """C99's table of pow and fmod: every pair of special values, signs of zero included."""
    x, y = (v.ravel() for v in np.meshgrid(SPECIAL, SPECIAL))
    for name, reference, bound in (("pow", np.power, 1), ("fmod", np.fmod, 0)):
        got, want = many(name, x, y), reference(x.astype(np.float64), y.astype(np.float64))
        err = ulps(got, want)
        worst = int(np.argmax(err))
        assert err[worst] <= bound, (name, x[worst], y[worst], got[worst], want[worst])
        zero = (got == 0) & (want == 0)
        assert np.array_equal(np.signbit(got[zero]), np.signbit(want[zero])), name


def test_fmod_is_exact(many):
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 2**32, (2, 100000), dtype=np.uint64).astype(np.uint32).view(np.float32)
    y[::2] = x[::2] * 2.0 ** -rng.integers(0, 30, x[::2].size) * rng.uniform(0.5, 1, x[::2].size)
    y[::16] = rng.integers(1, 2**25, y[::16].size).astype(np.uint32).view(np.float32)  # around the subnormals
    got, want = many("fmod", x, y), np.fmod(x, y)
    assert same(got, want)


# --- the same bits --------------------------------------------------------------------------------


def few():
    """Some hundred values that reach every branch."""
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2**32, 150, dtype=np.uint64).astype(np.uint32).view(np.float32)
    drawn = [rng.normal(0, 1, 100), rng.uniform(-1, 1, 100), rng.normal(0, 100, 100)]
    return np.concatenate([bits, *drawn, SPECIAL]).astype(np.float32)


@pytest.fixture(scope="module")
def expected(folder):
    return compiled(folder)[1](few())


def has_fma():
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and " fma " in cpuinfo.read_text()


BUILDS = {
    "gcc -O0": ("gcc", ("-O0",)),
    "gcc -O3": ("gcc", ("-O3",)),
    "gcc with errno": ("gcc", ("-O2", "-fmath-errno")),
    "gcc, fused allowed": ("gcc", ("-O2", "-std=gnu11", "-mfma", "-ffp-contract=fast")),
    "clang -O0": ("clang", ("-O0",)),
    "clang -O3": ("clang", ("-O3",)),
    "clang, fused allowed": ("clang", ("-O2", "-std=gnu11", "-mfma", "-ffp-contract=on")),
}


@pytest.mark.parametrize("build", BUILDS)
def test_same_bits_from_every_compiler(folder, expected, build):
    cc, flags = BUILDS[build]
    if not shutil.which(cc):
        pytest.skip(f"no {cc}")
    if "-mfma" in flags and not has_fma():
        flags = tuple(f for f in flags if f != "-mfma")
    got = compiled(folder, cc, flags)[1](few())
    assert np.array_equal(got.view(np.uint32), expected.view(np.uint32))


@pytest.mark.qemu
@pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")
@pytest.mark.parametrize("core", CORES)
def test_same_bits_on_arm(folder, expected, core):
    """Soft float and hard float give the bits of this machine."""
    x = few()
    source = write(folder, [Case("every_real", {"n": x.size}, (x, "out"), expected.nbytes)])
    flags = ("-ffp-contract=off", "-Wno-incompatible-pointer-types", "-fno-strict-aliasing")
    elf = build_core(source, core, [folder, kernel_lib.C99], SIMD, flags)
    assert run(qemu(elf, CORES[core][1])) == [(checksum(expected.tobytes()), 1)]
