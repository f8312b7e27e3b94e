"""Prints what Fourier transforms of real signals cost on a Cortex-M4: python tests/benchmarks/fourier.py [n ...]

Powers of two go through the kernel fft_f32 in n log n steps, other lengths are sums over all values. Cycles are those
that `edgec profile` models; bytes are of the arena and of the constants.
"""
from __future__ import annotations

import sys
import tempfile
from math import log2
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import edgec
from edgec import profile


def transform(n: int) -> onnx.ModelProto:
    """The one-sided spectrum of n samples."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, n, 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, n // 2 + 1, 2])
    node = helper.make_node("DFT", ["x", "", "axis"], ["y"], onesided=1)
    graph = helper.make_graph([node], "m", [x], [y], [numpy_helper.from_array(np.array(1), "axis")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def main() -> None:
    print(f"{'n':>6} {'cycles':>11} {'per n log2 n':>13} {'arena B':>8} {'constants B':>11}")
    for n in map(int, sys.argv[1:] or (255, 256, 511, 512, 1024, 2048)):
        with tempfile.TemporaryDirectory() as folder:
            onnx.save(transform(n), Path(folder) / "m.onnx")
            built = edgec.build(Path(folder) / "m.onnx", out=Path(folder) / "p", goal="time")
            cycles = profile.run(built.directory)["total"]["cost"]
        m, f = built.report["memory"], built.report["flash"]
        each = cycles / n / log2(n)
        print(f"{n:6} {cycles:11,} {each:13.2f} {m['arena_bytes']:8,} {f['weights_bytes']:11,}", flush=True)


if __name__ == "__main__":
    main()
