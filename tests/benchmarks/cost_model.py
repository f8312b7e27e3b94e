"""Fits edgec/step_costs.csv, the table of the cost model, to profiles of the networks in EDGEC_MODELS under QEMU.

python tests/benchmarks/cost_model.py [--write]

Prints, for every build that was profiled, the measured cost of a run, the modelled one and their ratio. The unit is
that of `edgec profile`: cycles on a Cortex-M4, instructions on a Cortex-M3, M55 and M0, whose kernels the M4 does not use; of
the M0 those steps alone that other cores have not.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

import edgec
from edgec import board, cost, onnx_in, pipeline, profile

ROOT = Path(__file__).resolve().parents[2]
MODELS = Path(os.environ.get("EDGEC_MODELS", ROOT.parent / "shared" / "models"))
TABLE = Path(cost.__file__).with_name("step_costs.csv")
BUILDS = [("cortex-m4", f"{n}_int8", g) for n in ("kws", "ic", "vww", "sww", "ad") for g in ("balanced", "ram", "time")]
BUILDS += [("cortex-m4", f"{n}_fp32", g) for n in ("kws", "sww", "ad") for g in ("balanced", "ram")]
BUILDS += [("cortex-m3", f"{n}_int8", g) for n in ("kws", "ic") for g in ("balanced", "ram")]
BUILDS += [("cortex-m0", f"{n}_int8", g) for n in ("kws", "ic", "ad") for g in ("balanced", "size")]
BUILDS += [("cortex-m55", f"{n}_int8", g) for n in ("kws", "ic", "vww") for g in ("balanced", "ram")]


def measured(target: str, model: str, goal: str) -> list[tuple[cost.Features, float]]:
    """Features and measured cost of every step."""
    with tempfile.TemporaryDirectory() as out:
        built = edgec.build(MODELS / f"{model}.onnx", board=target, goal=goal, out=Path(out) / "p")
        costs: Counter = Counter()
        for row in profile.run(built.directory)["rows"]:
            costs[row["step"]] += row["cost"]
    compiled = pipeline.compile_graph(onnx_in.load(MODELS / f"{model}.onnx"), board.load(target), goal=goal)
    steps = [(cost.features(f), costs[f.name]) for f in compiled.program.steps]
    return [s for s in steps if target != "cortex-m0" or any(kernel.endswith(("_pair", "_quad")) for kernel, _ in s[0])]


def fit(steps: list[tuple[cost.Features, float]]) -> dict[str, dict[str, float]]:
    """Non-negative numbers with the least relative errors, small steps counting less."""
    keys = sorted({k for found, _ in steps for k in found})
    weight = np.array([1 / (y + 2000) for _, y in steps])
    a = np.array([[found[k] for k in keys] for found, _ in steps], float) * weight[:, None]
    b = np.array([y for _, y in steps]) * weight
    scale = np.abs(a).max(0)
    scale[scale == 0] = 1
    a = np.vstack([a / scale, 1e-4 * np.eye(len(keys))])
    b = np.concatenate([b, np.zeros(len(keys))])
    kept = list(range(len(keys)))
    while True:  # what would be negative is left out, the worst first
        x = np.linalg.lstsq(a[:, kept], b, rcond=None)[0]
        if not len(x) or x.min() >= 0:
            break
        del kept[int(x.argmin())]
    found: dict[str, dict[str, float]] = {}
    for k, value in zip(kept, x, strict=True):
        kernel, term = keys[k]
        found.setdefault(kernel, {})[term] = value / scale[k]
    for kernel, _ in keys:
        found.setdefault(kernel, {})
    kernels = [v for k, v in found.items() if k not in ("loop", "tick")]
    found["other"] = {t: float(np.median([v.get(t, 0) for v in kernels])) for t in cost.TERMS}
    return found


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--write", action="store_true", help="write the table")
    a = p.parse_args()
    runs = {build: measured(*build) for build in BUILDS}
    found = fit([s for steps in runs.values() for s in steps])
    for build, steps in runs.items():
        want = sum(y for _, y in steps)
        got = sum(n * found[k].get(t, 0) for f, _ in steps for (k, t), n in f.items())
        print(f"{' '.join(build):32} measured {want / 1e6:8.3f} M, modelled {got / 1e6:8.3f} M, ratio {got / want:.3f}")
    if a.write:
        for kernel, numbers in cost.table().items():  # those that none of the networks has
            found.setdefault(kernel, dict(zip(cost.TERMS, numbers, strict=True)))
        with open(TABLE, "w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("kernel", *(f"per_{t}" for t in cost.TERMS)))
            for kernel, numbers in sorted(found.items()):
                rows.writerow((kernel, *(f"{abs(numbers.get(t, 0)):.4g}" for t in cost.TERMS)))


if __name__ == "__main__":
    main()
