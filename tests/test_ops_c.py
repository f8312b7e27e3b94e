"""Every generic operator through the whole compiler: its C on the host, and on emulated cores, against its meanings."""
from __future__ import annotations

import shutil

import numpy as np
import op_cases
import pytest

from edgec import board, emulator, host, loop_interp, loop_verify, onnx_in, pipeline, store, toolchain
from edgec.loops import Fn

SEED = 4
# Against ONNX's evaluator: a few roundings of another order of operations. Resize sums weights of both signs.
RTOL, ATOL = 1e-6, {"Resize": 4e-6}
# Against the loop interpreter: the same operations in the same order, so the same bits, except where a program uses one
# of these functions. The interpreter's are numpy's in float64, rounded once; ec_math.h's are float32 arithmetic within
# a stated error of a few units in the last place, and what is computed from that (exp(x) - 1) keeps the absolute error.
INEXACT = frozenset(loop_verify.REAL_FUNCTIONS) - set("sqrt floor ceil round rint trunc fmod".split())
INTERPRETER = 5e-7, 2.5e-7  # relative, absolute
needs_qemu = pytest.mark.skipif(None in map(shutil.which, (toolchain.ARM_GCC, "qemu-system-arm")),
                                reason="needs arm-none-eabi-gcc and qemu-system-arm")


def compiled(model, folder, target):
    """(what the pipeline gave, the model's C on this computer) of an ONNX model; the package lies in `folder` then."""
    c = pipeline.compile_graph(onnx_in.from_model(model, "m"), board.load(target))
    store.write_files(folder, c.files)
    return c, host.load(folder, simd_on_host=board.load(target).simd)


def same_kind(a, b) -> bool:
    """Same type and shape; NaN, inf and -inf in the same places."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    return a.dtype.kind != "f" or np.array_equal(np.nan_to_num(a, nan=5, posinf=6, neginf=7) * ~np.isfinite(a),
                                                 np.nan_to_num(b, nan=5, posinf=6, neginf=7) * ~np.isfinite(b))


def functions(steps) -> set[str]:
    """The names of the scalar functions that steps of a program call."""
    statements = (s for f in steps for s in loop_verify.statements(f.body))
    expressions = (e for s in statements for e in loop_verify.expressions(s))
    return {x.name for e in expressions for x in loop_verify.nodes(e) if isinstance(x, Fn)}


@pytest.mark.parametrize("op", sorted(op_cases.GENERATORS))
def test_c_equals_onnx_and_the_interpreter(op, tmp_path):
    model, inputs, expected = op_cases.merged(op_cases.cases(op, SEED))
    c, h = compiled(model, tmp_path, "cortex-m3")
    given = [inputs[i] for i in c.source.inputs]
    interpreted = loop_interp.run(c.program, given)
    for name, got, want, meant in zip(c.source.outputs, h.run(given), expected, interpreted, strict=True):
        meant = meant.reshape(want.shape)
        assert same_kind(got, want) and same_kind(got, meant), name
        if want.dtype.kind != "f":
            np.testing.assert_array_equal(got, want, name)
            np.testing.assert_array_equal(got, meant, name)
        else:
            np.testing.assert_allclose(got, want, rtol=RTOL, atol=ATOL.get(op, 5e-7), err_msg=name)
            rtol, atol = INTERPRETER if INEXACT & functions(c.program.steps) else (0, 0)
            np.testing.assert_allclose(got, meant, rtol=rtol, atol=atol, err_msg=name)


# --- the same bits on x86-64, on a core without floating-point unit and on one with it ---------------------------

ON_CORES = """
    Acos Asin Asinh Atanh Cast Cosh CumProd DequantizeLinear Div Elu Erf Exp Gelu HardSwish LeakyRelu Log Mean Mish Mod
    Mul Pow PRelu QuantizeLinear ReduceL2 ReduceLogSumExp ReduceMean ReduceSumSquare Resize Round Sigmoid Sin Sinh
    Softplus Softsign Sqrt Sub Sum Tan Tanh""".split()
CASES = 5  # of each operator, the float ones first
SPECIAL = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 1.17e-38, 3.4e38, 88.8, -104, 0.5], np.float32)


def floats_first(op: str) -> list:
    found = op_cases.cases(op, SEED) + op_cases.cases(op, SEED + 1)
    return sorted(found, key=lambda c: all(x.dtype != np.float32 for x in op_cases.run_time(c[1]).values()))[:CASES]


def any_floats(inputs, seed: int):
    """The inputs with floats of all magnitudes and signs in place of the tame ones; half of them special."""
    rng = np.random.default_rng(seed)

    def wild(x):
        patterns = np.asarray(rng.integers(0, 2**32, x.shape, np.uint32)).view(np.float32)
        return np.asarray(np.where(rng.random(x.shape) < 0.5, rng.choice(SPECIAL, x.shape), patterns), np.float32)
    return [wild(x) if x.dtype == np.float32 else x for x in inputs]


def bits(raw: bytes, dtype: str) -> bytes:
    """Raw bytes with one NaN for all: sign and payload of a NaN are the one thing that differs between targets."""
    if dtype != "float32":
        return raw
    x = np.frombuffer(raw, np.float32)
    return np.where(np.isnan(x), np.float32(np.nan), x).tobytes()


@needs_qemu
@pytest.mark.qemu
def test_float_operators_have_the_same_bits_everywhere(tmp_path):
    model, inputs, _ = op_cases.merged(case for op in ON_CORES for case in floats_first(op))
    found = {}
    for target in ("cortex-m3", "cortex-m4"):
        b = board.load(target)
        c, h = compiled(model, tmp_path / target, target)
        tame = [inputs[i] for i in c.source.inputs]
        samples = [[x.tobytes() for x in sample] for sample in (tame, any_floats(tame, 1), any_floats(tame, 2))]
        firmware = toolchain.build_firmware(tmp_path / target, b)
        found[target] = emulator.run(firmware.elf, b, samples).outputs
        found[f"host as {target}"] = [h.run_bytes(s) for s in samples]
    dtypes = [t.dtype for t in h.outputs]
    assert dtypes.count("float32") > 100
    wanted = found.pop("host as cortex-m3")
    for name, outputs in found.items():
        for k, (got, want) in enumerate(zip(outputs, wanted, strict=True)):
            same = (bits(g, d) == bits(w, d) for g, w, d in zip(got, want, dtypes, strict=True))
            different = [o for o, s in zip(c.source.outputs, same, strict=True) if not s]
            assert not different, f"{name}, sample {k}: {different}"
