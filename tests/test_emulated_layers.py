"""An LSTM, a GRU and a transformer block, exported from PyTorch (tests/test_exported.py), on an emulated Cortex-M4."""
from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgec import board, emulator, host, onnx_in, pipeline, store, toolchain

FOLDER = Path(__file__).parent / "exported"
needs_qemu = pytest.mark.skipif(None in map(shutil.which, (toolchain.ARM_GCC, "qemu-system-arm")),
                                reason="needs arm-none-eabi-gcc and qemu-system-arm")


@needs_qemu
@pytest.mark.qemu
@pytest.mark.parametrize("name", ["lstm", "gru", "transformer"])
def test_the_core_has_the_bits_of_the_host(name, tmp_path):
    b = board.load("cortex-m4")
    c = pipeline.compile_graph(onnx_in.load(FOLDER / f"{name}.onnx"), b)
    store.write_files(tmp_path, c.files)
    rng = np.random.default_rng(1)
    samples = [[(scale * rng.normal(size=c.graph.type("x").shape)).astype(np.float32).tobytes()] for scale in (1, 3)]
    wanted = [host.load(tmp_path, simd_on_host=True).run_bytes(s) for s in samples]
    found = emulator.run(toolchain.build_firmware(tmp_path, b).elf, b, samples).outputs
    assert [list(map(bytes, outputs)) for outputs in found] == wanted and np.isfinite(
        np.frombuffer(wanted[0][0], np.float32)
    ).all()
