"""Fourier transforms and the front ends of audio networks, against ONNX's reference, in C, on an emulated core."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgec import board, cost, emulator, host, loop_interp, onnx_in, onnx_run, pipeline, store, toolchain
from edgec.loop_verify import statements
from edgec.loops import Call
from edgec.ops import signal

needs_qemu = pytest.mark.skipif(
    None in map(shutil.which, (toolchain.ARM_GCC, "qemu-system-arm")), reason="no emulator or compiler"
)


def model(nodes, inputs, outputs, constants, opset=20):
    info = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in side.items()] for side in (inputs, outputs)
    ]
    values = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    graph = helper.make_graph([helper.make_node(op, i, o, **a) for op, i, o, a in nodes], "m", *info, values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def compiled(made, folder, target="cortex-m4"):
    c = pipeline.compile_graph(onnx_in.from_model(made, "m"), board.load(target))
    folder.mkdir(exist_ok=True)
    store.write_files(folder, c.files)
    return c, host.load(folder, simd_on_host=True)


def kernels(program):
    return [s.kernel for f in program.steps for s in statements(f.body) if isinstance(s, Call)]


# --- the kernel ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(1, 12))
@pytest.mark.parametrize("step", [1, 2])
def test_its_meaning_is_the_transform(bits, step):
    n = 1 << bits
    x = np.random.default_rng(bits).normal(size=(n, 2)).astype(np.float32)
    order = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(n)]
    found = signal.fft(x[order], signal.turns(n * step), step)
    wanted = np.fft.fft(x[:, 0].astype(np.float64) + 1j * x[:, 1])
    error = np.abs(found[:, 0] + 1j * found[:, 1] - wanted).max()
    assert found.dtype == np.float32 and error < 4e-7 * np.sqrt(n) * bits


@settings(max_examples=25 if os.environ.get("EDGEC_NO_SKIP") else 8, deadline=None)
@given(st.data())
def test_any_transform_in_c_and_in_the_interpreter(data):
    """The interpreter's bits are the C's; both are near the transform in float64."""
    n = data.draw(st.sampled_from([1, 2, 3, 4, 5, 8, 12, 16, 32, 64, 128]))
    parts = data.draw(st.sampled_from([1, 2]))
    inverse = data.draw(st.booleans())
    onesided = data.draw(st.booleans()) and (parts == 1) != inverse and n > 1
    have = n // 2 + 1 if inverse and onesided else data.draw(st.sampled_from([n, max(1, n - 1), n + 2]))
    rest, axis = data.draw(st.sampled_from([(), (3,)])), data.draw(st.sampled_from([1, -2]))
    shape = (2, *rest, have, parts) if axis == -2 else (2, have, *rest, parts)
    count = n if not onesided or inverse else n // 2 + 1
    out = (
        (2, *rest, count, 1 if inverse and onesided else 2)
        if axis == -2
        else (2, count, *rest, 1 if inverse and onesided else 2)
    )
    made = model(
        [("DFT", ["x", "n", "axis"], ["y"], {"inverse": int(inverse), "onesided": int(onesided)})],
        {"x": shape},
        {"y": out},
        {"n": np.int64(n), "axis": np.int64(axis)},
    )
    x = np.random.default_rng(data.draw(st.integers(0, 9))).normal(size=shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        c, h = compiled(made, Path(folder) / "p")
        (got,) = h.run([x])
    meant = loop_interp.run(c.program, [x])[0]
    assert got.tobytes() == meant.tobytes()
    assert ("fft_f32" in kernels(c.program)) == (n > 1 and n & (n - 1) == 0)
    want = _transform(x, n, inverse, onesided, axis)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-6 * max(4, np.abs(want).max()))


def _transform(x, n, inverse, onesided, axis):
    """The transform in float64."""
    z = np.moveaxis(
        x[..., 0].astype(np.float64) + (1j * x[..., 1] if x.shape[-1] == 2 else 0), axis if axis > 0 else -1, -1
    )
    if inverse and onesided:
        y = np.fft.irfft(z, n)[..., None]
    else:
        full = (np.fft.ifft if inverse else np.fft.fft)(z, n)
        full = full[..., : n // 2 + 1] if onesided else full
        y = np.stack([full.real, full.imag], -1)
    return np.moveaxis(y, -2, axis if axis > 0 else -2)


def test_what_is_left_for_loops_is_linear():
    """All but the kernel: filling it, taking the spectrum of a real signal apart."""
    loops = {}
    for n in (256, 1024):
        made = model(
            [("DFT", ["x", "", "axis"], ["y"], {"onesided": 1})],
            {"x": (1, n, 1)},
            {"y": (1, n // 2 + 1, 2)},
            {"axis": np.int64(1)},
        )
        program = pipeline.compile_graph(onnx_in.from_model(made, "m"), board.load("cortex-m4")).program
        (call,) = (s for f in program.steps for s in statements(f.body) if isinstance(s, Call))
        assert (call.kernel, dict(call.params)) == ("fft_f32", {"n": n // 2, "step": 2})
        loops[n] = sum(cost.features(f)["loop", "call"] for f in program.steps)
    assert 3.5 < loops[1024] / loops[256] < 4.1


# --- front ends ----------------------------------------------------------------------------------

RATE, FRAME, HOP, BANDS = 16000, 256, 128, 20


def front_end(frames=4, frame=FRAME):
    """Samples -> the logarithm of the power in mel bands, frame by frame."""
    length = frame + (frames - 1) * HOP
    return model(
        [
            ("HannWindow", ["frame"], ["window"], {"periodic": 1}),
            ("STFT", ["samples", "hop", "window", "frame"], ["spectrum"], {"onesided": 1}),
            ("Mul", ["spectrum", "spectrum"], ["squares"], {}),
            ("ReduceSum", ["squares", "last"], ["power"], {"keepdims": 0}),
            ("MelWeightMatrix", ["bands", "frame", "rate", "low", "high"], ["mel"], {}),
            ("MatMul", ["power", "mel"], ["energy"], {}),
            ("Add", ["energy", "floor"], ["above"], {}),
            ("Log", ["above"], ["y"], {}),
        ],
        {"samples": (1, length, 1)},
        {"y": (1, frames, BANDS)},
        {
            "hop": np.int64(HOP),
            "frame": np.int64(frame),
            "last": np.array([-1]),
            "bands": np.int64(BANDS),
            "rate": np.int64(RATE),
            "low": np.float32(60),
            "high": np.float32(7600),
            "floor": np.float32(1e-4),
        },
        opset=17,
    )


def sound(length, seed):
    """A chord with noise."""
    t = np.arange(length) / RATE
    rng = np.random.default_rng(seed)
    chord = sum(np.sin(2 * np.pi * f * t + rng.uniform(0, 6)) for f in rng.uniform(100, 7000, 4))
    return (0.2 * chord + rng.normal(0, 0.05, length)).astype(np.float32).reshape(1, length, 1)


def test_a_mel_front_end_is_that_of_onnx(tmp_path):
    made = front_end()
    c, h = compiled(made, tmp_path / "p")
    reference = onnx_run.reference(made)
    assert reference.engine.startswith("onnxruntime") and kernels(c.program).count("fft_f32") == 1
    for seed in range(4):
        x = sound(FRAME + 3 * HOP, seed)
        (got,) = h.run([x])
        (want,) = reference.run({"samples": x})
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(got.reshape(-1), loop_interp.run(c.program, [x])[0], rtol=1e-6, atol=1e-6)


def test_a_frame_that_is_no_power_of_two(tmp_path):
    made = front_end(2, 200)
    c, h = compiled(made, tmp_path / "p")
    x = sound(200 + HOP, 5)
    assert "fft_f32" not in kernels(c.program)
    (want,) = onnx_run.reference(made).run({"samples": x})  # by a convolution in float32, which is less exact
    np.testing.assert_allclose(h.run([x])[0], want, rtol=3e-4, atol=3e-4)


@needs_qemu
@pytest.mark.qemu
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0"])
def test_the_core_has_the_bits_of_the_host(target, tmp_path):
    c, h = compiled(front_end(2), tmp_path / "p", target)
    samples = [[sound(FRAME + HOP, seed).tobytes()] for seed in range(3)]
    firmware = toolchain.build_firmware(tmp_path / "p", board.load(target))
    assert emulator.run(firmware.elf, board.load(target), samples).outputs == [h.run_bytes(s) for s in samples]
