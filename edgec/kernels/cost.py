"""Modelled Cortex-M4 cycles of the kernels between which there is a choice, from costs.csv and costs_widths.csv beside
this file.

A kernel works in units (two pixels, two tiles, ...). A unit of n outputs a pixel from k taps costs
per_unit + per_tap * k + per_output * n + per_product * k * n. tests/benchmarks/kernels_m4.py and
kernels_widths_m4.py measure and fit the numbers; Cortex-M7 and M33 share them, since only ratios count.
"""
from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

TABLE, WIDTHS = (Path(__file__).with_name(name) for name in ("costs.csv", "costs_widths.csv"))
FIELDS = ("per_unit", "per_tap", "per_output", "per_product")


@cache
def table() -> dict[str, tuple[float, float, float, float]]:
    """kernel -> its FIELDS"""
    rows = []
    for path in (TABLE, WIDTHS):
        with open(path, encoding="utf-8", newline="") as f:
            rows += list(csv.reader(f))[1:]
    return {kernel: tuple(map(float, numbers)) for kernel, *numbers in rows}


def cycles(kernel: str, units: int, taps: int, outputs: int) -> float:
    per_unit, per_tap, per_output, per_product = table()[kernel]
    return units * (per_unit + per_tap * taps + per_output * outputs + per_product * taps * outputs)
