"""Measures the kernels of other widths than 8x8 on an emulated Cortex-M4, as kernels_m4.py does it, beside those of bytes.

python tests/benchmarks/kernels_widths_m4.py [--write] [part of a name ...]

--write renews kernels_widths_m4.csv beside this file and edgec/kernels/costs_widths.csv, which is fitted to it.
"""
from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import test_kernels_dsp as layers  # noqa: E402
import test_kernels_narrow as narrow  # noqa: E402
import test_kernels_wide as wide  # noqa: E402
from kernels_m4 import C99, DSP, Candidate, Row, measure, small  # noqa: E402

from edgec.kernels import cost  # noqa: E402

CSV = Path(__file__).with_suffix(".csv")
FITTED = {"conv_s8_narrow_dsp 8x4": "conv_s8_narrow_dsp"}  # kernels between which there is a choice, by what they are called here


def conv(**shape) -> Iterator[Candidate]:
    layer = small(layers.conv_layer(np.random.default_rng(5), **shape))
    work = layer[0]["out_w"] * layer[3].size
    yield Candidate("conv_s8_dsp", layers.conv_case(*layer), DSP, work)
    for bits in (4, 2):
        few = narrow.narrowed(layer, bits)
        yield Candidate(f"conv_s8_narrow_dsp 8x{bits}", narrow.conv_case(*few), DSP, work)
        yield Candidate(f"conv_s8_narrow 8x{bits}", narrow.conv_case(*few, "c99"), C99, work)
    yield from wider("conv", layer, work)


def wider(kind: str, layer, work: int) -> Iterator[Candidate]:
    """int16 activations, weights of 8 and 4 bits; and, by weights as large as can be, sums of 64 bits."""
    for low, name in ((-127, "16x8"), (-8, "16x4")):
        c = wide.case(kind, ("int16", "int16"), layer, low)
        if kind != "dwconv" or low == -127:
            yield Candidate(f"{c.kernel} {name}", c, C99, work)
            yield Candidate(f"{c.kernel} {name} (dsp)", c, DSP, work)


def dwconv(**shape) -> Iterator[Candidate]:
    layer = small(layers.dwconv_layer(np.random.default_rng(5), **shape))
    work = layer[0]["out_w"] * layer[3].size
    yield Candidate("dwconv_s8_dsp", layers.dwconv_case(*layer), DSP, work)
    yield from wider("dwconv", layer, work)


def fc(k: int, n: int) -> Iterator[Candidate]:
    layer = small(layers.conv_layer(np.random.default_rng(5), 1, k, n, 1, 1))
    yield Candidate("fc_s8_dsp", layers.fc_case(*layer), DSP, n * k)
    for bits in (4, 2):
        few = narrow.narrowed(layer, bits)
        yield Candidate(f"fc_s8_narrow_dsp 8x{bits}", narrow.fc_case(*few), DSP, n * k)
        yield Candidate(f"fc_s8_narrow 8x{bits}", narrow.fc_case(*few, "c99"), C99, n * k)
    yield from wider("fc", layer, n * k)


GRID = {
    "conv 3x3 16->16, 32 wide": lambda: conv(in_w=32, in_c=16, out_c=16, kh=3, kw=3, pad=1),
    "conv 3x3 64->64, 8 wide": lambda: conv(in_w=8, in_c=64, out_c=64, kh=3, kw=3, pad=1),
    "stem 3x3 s2 3->8, 96 wide": lambda: conv(in_w=96, in_c=3, out_c=8, kh=3, kw=3, stride=2, right=1),
    "pointwise 64->64, 125 pixels": lambda: conv(in_w=125, in_c=64, out_c=64, kh=1, kw=1),
    "pointwise 16->32, 24 pixels": lambda: conv(in_w=24, in_c=16, out_c=32, kh=1, kw=1),
    "pointwise 256->256, 9 pixels": lambda: conv(in_w=9, in_c=256, out_c=256, kh=1, kw=1),
    "depthwise 3x3 32, 24 wide": lambda: dwconv(in_w=24, in_c=32, kh=3, kw=3, pad=1),
    "depthwise 3x3 s2 64, 12 wide": lambda: dwconv(in_w=12, in_c=64, kh=3, kw=3, stride=2, right=1),
    "fc 640->128": lambda: fc(640, 128),
    "fc 128->128": lambda: fc(128, 128),
    "fc 64->12": lambda: fc(64, 12),
}


def costs(rows: list[Row]) -> dict[str, np.ndarray]:
    """The numbers of edgec/kernels/cost.py, least squares of the relative error."""
    cycles = {(r.layer, r.kernel): r.cycles for r in rows}
    fitted: dict[str, tuple[list, list]] = {}
    for layer, make in GRID.items():
        for c in make():
            if c.kernel in FITTED:
                p = c.case.params
                taps, n, units = p["kh"] * p["kw"] * p["in_c"], p["out_c"], -(-p["out_w"] // 2)
                xs, ys = fitted.setdefault(FITTED[c.kernel], ([], []))
                xs.append(np.array([1, taps, n, taps * n]) * units / cycles[layer, c.kernel])
                ys.append(1.0)
    return {kernel: np.linalg.lstsq(np.array(xs), np.array(ys), rcond=None)[0] for kernel, (xs, ys) in fitted.items()}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", help="parts of the names of what to measure")
    p.add_argument("--write", action="store_true", help="renew the committed table")
    a = p.parse_args()
    rows = []
    print(f"{'layer':31} {'kernel':24} {'cycles':>8} {'each':>8} {'scratch B':>9}")
    for layer, make in GRID.items():
        if a.names and not any(part in layer for part in a.names):
            continue
        for c in make():
            rows.append(Row(layer, c.kernel, c.work, measure(c)))
            print(f"{layer:31} {c.kernel:24} {rows[-1].cycles:8} {rows[-1].each:8.3f} {c.case.scratch_bytes:9}", flush=True)
    if a.write:
        with open(CSV, "w", encoding="utf-8", newline="") as f:
            csv.writer(f, lineterminator="\n").writerows([(*Row._fields, "each"), *((*r, f"{r.each:.3f}") for r in rows)])
        with open(cost.WIDTHS, "w", encoding="utf-8", newline="") as f:
            table = [("kernel", *cost.FIELDS), *((k, *(f"{v:.4g}" for v in n)) for k, n in sorted(costs(rows).items()))]
            csv.writer(f, lineterminator="\n").writerows(table)


if __name__ == "__main__":
    main()
