"""Prints RAM, flash and cost of a run of the networks in EDGEC_MODELS, for each goal, beside others' figures.

python tests/benchmarks/networks.py [-b BOARD] [--float] [-O ram -O balanced ...] [network ...]

The cost is what `edgec profile` counts under QEMU: modelled cycles on a Cortex-M4, instructions on other cores. TFLM is
TensorFlow Lite Micro with CMSIS-NN at its default optimisation levels, counted in the same way; with --float, its float
kernels. The records are published results of real STM32L4R5 boards, whose memories have wait states.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import edgec
from edgec import profile

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(os.environ.get("EDGEC_MODELS", ROOT.parent / "shared" / "models"))
TFLM = {  # millions, of a board's unit
    "float": {"ic": 168.0, "kws": 58.2, "vww": 136.0, "ad": 2.95},  # on a Cortex-M4
    "cortex-m4": {"ic": 36.8, "kws": 9.272, "vww": 29.4, "ad": 0.7283, "sww": 2.726},
    "cortex-m0": {"ic": 97.6, "kws": 29.0, "vww": 86.9, "ad": 1.76, "sww": 9.32},
    "cortex-m55": {"ic": 4.81, "kws": 1.79, "vww": 6.43, "ad": 0.150, "sww": 0.411},
}
RECORDS = {"cortex-m4": {"ic": 19.8, "kws": 5.18, "vww": 10.7, "ad": 0.486}}


def row(network: str, board: str, goal: str, kind: str) -> str:
    with tempfile.TemporaryDirectory() as out:
        r = edgec.build(MODELS / f"{network}_{kind}.onnx", board=board, goal=goal, out=Path(out) / "p")
        total = profile.run(r.directory)["total"]
    m, f, name = r.report["memory"], r.report["flash"], r.report["name"]
    run = next((x["bytes"] for x in m["stack"] if x["function"] == f"{name}_run"), None)
    column = board if kind == "int8" else "float" if board == "cortex-m4" else ""
    others = [table.get(column, {}).get(network) for table in (TFLM, RECORDS)]
    return (f"{network:9} {goal:9} {m['arena_bytes']:8} {m['lower_bound']:8} {f['weights_bytes']:9} {f['code_bytes']:7} "
            f"{run if run is not None else '-':>7} {total['cost'] / 1e6:8.3f} {total['per_mac']:8.3f} "
            + " ".join(f"{'-' if x is None else f'{x:g}':>7}" for x in others))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("networks", nargs="*", default=["ic", "kws", "vww", "ad", "sww", "ic_large"])
    p.add_argument("-b", "--board", default="cortex-m4")
    p.add_argument("-O", dest="goals", action="append", choices=("ram", "balanced", "time", "size"))
    p.add_argument("--float", action="store_const", dest="kind", const="fp32", default="int8", help="the float32 networks")
    a = p.parse_args()
    print(f"{a.board}, millions of {'cycles (model)' if a.board == 'cortex-m4' else 'instructions'}")
    print(f"{'network':9} {'goal':9} {'arena B':>8} {'bound B':>8} {'weights B':>9} {'code B':>7} {'stack B':>7} "
          f"{'cost':>8} {'per MAC':>8} {'TFLM':>7} {'record':>7}")
    for network in a.networks:
        for goal in a.goals or ("balanced", "ram"):
            print(row(network, a.board, goal, a.kind), flush=True)


if __name__ == "__main__":
    main()
