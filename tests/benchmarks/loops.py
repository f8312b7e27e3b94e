"""What a loop costs beside the same network written out turn by turn: cycles of a Cortex-M4 (modelled), code and arena.

    python tests/benchmarks/loops.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import edgec  # noqa: E402
from edgec import profile, store  # noqa: E402

N = helper.make_node


def _info(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _cell(x: str, h: str, made: str) -> list[onnx.NodeProto]:
    """made = tanh(W x + R h)"""
    return [
        N("MatMul", [h, "r"], [f"{made}/m"]),
        N("MatMul", [x, "w"], [f"{made}/n"]),
        N("Add", [f"{made}/m", f"{made}/n"], [f"{made}/a"]),
        N("Tanh", [f"{made}/a"], [made]),
    ]


def network(turns: int, units: int, unrolled: bool) -> onnx.ModelProto:
    """A recurrent cell over `turns` steps that returns all its states."""
    rng = np.random.default_rng(0)
    weights = {k: (rng.normal(size=(units, units)) * 0.2).astype(np.float32) for k in "rw"}
    if unrolled:
        nodes, h = [N("Split", ["x"], [f"x{t}" for t in range(turns)], axis=0, num_outputs=turns)], "h0"
        for t in range(turns):
            nodes += [N("Squeeze", [f"x{t}", "first"], [f"v{t}"]), *_cell(f"v{t}", h, f"h{t + 1}")]
            h = f"h{t + 1}"
            nodes.append(N("Unsqueeze", [h, "first"], [f"row{t}"]))
        nodes.append(N("Concat", [f"row{t}" for t in range(turns)], ["y"], axis=0))
    else:
        inner = [*_cell("v", "h", "h1"), N("Identity", ["h1"], ["row"])]
        one = (1, units)
        read, made = [_info("h", *one), _info("v", *one)], [_info("h1", *one), _info("row", *one)]
        body = helper.make_graph(inner, "body", read, made)
        nodes = [N("Scan", ["h0", "x"], ["last", "y"], body=body, num_scan_inputs=1)]
    constants = weights | {"first": np.array([0], np.int64)}
    graph = helper.make_graph(
        nodes,
        "cell",
        [_info("h0", 1, units), _info("x", turns, 1, units)],
        [_info("y", turns, 1, units)],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    made.ir_version = 9
    return made


def main() -> None:
    print("turns  units   cycles: loop  unrolled   code B: loop  unrolled   arena B: loop  unrolled")
    for turns, units in ((2, 4), (2, 16), (4, 4), (4, 16), (16, 4), (16, 16)):
        found = []
        for unrolled in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "cell.onnx"
                onnx.save(network(turns, units, unrolled), file)
                built = edgec.build(file, board="cortex-m4", out=Path(folder) / "p")
                report = store.read_report(built.directory)
                cycles = profile.run(built.directory)["total"]["cost"]
                found.append((cycles, report["flash"]["code_bytes"], report["memory"]["arena_bytes"]))
        print(f"{turns:5}  {units:5}" + "".join(f"   {a:12,}  {b:8,}" for a, b in zip(*found, strict=True)))


if __name__ == "__main__":
    main()
