"""Prints how long a build takes without the C compiler: real networks, and chains of 10, 100 and 1,000 int8 layers."""
from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgec import board, onnx_in, pipeline

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(os.environ.get("EDGEC_MODELS", ROOT.parent / "shared" / "models"))


def chain(layers: int) -> onnx.ModelProto:
    """A QDQ network of that many 3x3 convolutions with Relu, 8 channels on 8x8 pixels."""
    rng = np.random.default_rng(0)
    constants = {"s": np.float32(0.05), "z": np.int8(0)}
    nodes, x = [], "x"
    for k in range(layers):
        constants |= {f"w{k}": rng.integers(-127, 128, (8, 8, 3, 3)).astype(np.int8), f"ws{k}": np.full(8, 0.01, np.float32),
                      f"wz{k}": np.zeros(8, np.int8)}
        nodes += [
            helper.make_node("DequantizeLinear", [x, "s", "z"], [f"d{k}"]),
            helper.make_node("DequantizeLinear", [f"w{k}", f"ws{k}", f"wz{k}"], [f"dw{k}"], axis=0),
            helper.make_node("Conv", [f"d{k}", f"dw{k}"], [f"c{k}"], pads=[1, 1, 1, 1], name=f"conv{k}"),
            helper.make_node("Relu", [f"c{k}"], [f"r{k}"]),
            helper.make_node("QuantizeLinear", [f"r{k}", "s", "z"], [f"q{k}"]),
        ]
        x = f"q{k}"
    graph = helper.make_graph(nodes, "chain", [helper.make_tensor_value_info("x", TensorProto.INT8, (1, 8, 8, 8))],
                              [helper.make_tensor_value_info(x, TensorProto.INT8, (1, 8, 8, 8))],
                              [numpy_helper.from_array(v, n) for n, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def measure(label: str, load, layers: int | None) -> None:
    start, phases = time.perf_counter(), []
    graph = load()
    phases.append(f"import {time.perf_counter() - start:.2f}")
    pipeline.compile_graph(
        graph, board.load("cortex-m4"), on_phase=lambda name, seconds, info: phases.append(f"{name} {seconds:.2f}")
    )
    total = time.perf_counter() - start
    per_layer = f"{1000 * total / layers:8.1f} ms/layer" if layers else " " * 17
    print(f"{label:16} {total:7.2f} s {per_layer}   {', '.join(phases)}", flush=True)


def main() -> None:
    for name in ("kws_int8", "ic_large_int8"):
        if (MODELS / f"{name}.onnx").exists():
            measure(name, lambda name=name: onnx_in.load(MODELS / f"{name}.onnx"), None)
    for layers in (10, 100, 1000):
        model = chain(layers)
        measure(f"{layers} layers", lambda model=model: onnx_in.from_model(model, "chain"), layers)


if __name__ == "__main__":
    main()
