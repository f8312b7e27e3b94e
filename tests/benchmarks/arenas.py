"""Prints the arenas of the networks in EDGEC_MODELS, int8 and float32, with nothing and with everything streamed, and
their lower bounds and the seconds that choosing, lowering and planning take.

python tests/benchmarks/arenas.py [-b BOARD] [network ...]
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from edgec import board, onnx_in, pipeline

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(os.environ.get("EDGEC_MODELS", ROOT.parent / "shared" / "models"))


def plan(path: Path, target: board.Board, goal: str) -> tuple[int, int, float]:
    """Arena, lower bound, seconds."""
    seconds = {}
    start = time.perf_counter()
    made = pipeline.compile_graph(
        onnx_in.load(path), target, goal=goal, on_phase=lambda name, s, info: seconds.update({name: s})
    )
    other = sum(seconds.get(name, 0) for name in ("passes", "emit"))
    return made.program.arena_bytes, made.program.lower_bound, time.perf_counter() - start - other


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("networks", nargs="*", default=["ic", "kws", "vww", "ad", "sww", "ic_large"])
    p.add_argument("-b", "--board", default="cortex-m4")
    a = p.parse_args()
    target = board.load(a.board)
    print(
        f"{'network':14} {'whole B':>9} {'bound B':>9} {'s':>5}   {'rows B':>9} {'bound B':>9} {'s':>5}   rows/whole"
    )
    for network in a.networks:
        for kind in ("int8", "fp32"):
            path = MODELS / f"{network}_{kind}.onnx"
            whole, rows = plan(path, target, "time"), plan(path, target, "ram")
            print(
                f"{network + ' ' + kind:14} {whole[0]:9,} {whole[1]:9,} {whole[2]:5.2f}   {rows[0]:9,} {rows[1]:9,} "
                f"{rows[2]:5.2f}   {rows[0] / whole[0]:10.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
