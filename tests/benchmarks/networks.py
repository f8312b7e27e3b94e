"""Prints RAM, flash and Cortex-M4 cycles of the int8 networks in EDGEC_MODELS for each goal.

python tests/benchmarks/networks.py [--m4run PATH] [-O ram -O balanced ...] [network ...]

Cycles need a program that counts them under QEMU: `m4run ELF --call FUNCTION --json`; without it they are left out.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path

import edgec

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(os.environ.get("EDGEC_MODELS", ROOT.parent / "shared" / "models"))


def cycles(m4run: Path, elf: Path, function: str) -> str:
    """Millions of cycles of one run; "-" where they cannot be counted."""
    if not m4run.exists():
        return "-"
    done = subprocess.run([m4run, elf, "--call", function, "--json"], capture_output=True, text=True, check=True)
    return f"{json.loads(done.stdout)['cycles'] / 1e6:.3f}"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("networks", nargs="*", default=["ic", "kws", "vww", "ad", "sww", "ic_large"])
    p.add_argument("-O", dest="goals", action="append", choices=("ram", "balanced", "time", "size"))
    p.add_argument("--m4run", type=Path, default=MODELS.parent / "tools" / "m4run")
    a = p.parse_args()
    print(f"{'network':10} {'goal':9} {'arena B':>8} {'bound B':>8} {'weights B':>9} {'code B':>7} {'stack B':>7} {'Mcycles':>8}")
    for network in a.networks:
        for goal in a.goals or ("balanced", "ram"):
            with tempfile.TemporaryDirectory() as out:
                r = edgec.build(MODELS / f"{network}_int8.onnx", board="cortex-m4", goal=goal, out=Path(out) / "p")
                m, f, name = r.report["memory"], r.report["flash"], r.report["name"]
                run = next((x["bytes"] for x in m["stack"] if x["function"] == f"{name}_run"), None)
                print(f"{network:10} {goal:9} {m['arena_bytes']:8} {m['lower_bound']:8} {f['weights_bytes']:9} {f['code_bytes']:7} "
                      f"{run if run is not None else '-':>7} {cycles(a.m4run, r.firmware, f'{name}_run'):>8}", flush=True)


if __name__ == "__main__":
    main()
