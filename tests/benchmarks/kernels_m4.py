"""Measures the int8 kernels on an emulated Cortex-M4: modelled cycles of one call, parameters compiled in.

python tests/benchmarks/kernels_m4.py [--write] [part of a name ...]

Every kernel that can compute a layer of the grid is measured, the portable one first, and every output is checked. Fails where
one is slower than the portable one.
--write renews kernels_m4.csv and kernels_m4.svg beside this file and the cost table edgec/kernels/costs.csv, which is
fitted to the measurements; it wants the whole grid.
"""
from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dsp_program  # noqa: E402
import test_kernels_c99 as c99  # noqa: E402
import test_kernels_dsp as layers  # noqa: E402
from dsp_program import Case  # noqa: E402

from edgec import counter, elf  # noqa: E402
from edgec.kernels import cost, dsp, wino  # noqa: E402

MACHINE = "mps2-an386"
CSV, SVG = (Path(__file__).with_suffix(s) for s in (".csv", ".svg"))
C99, DSP = ("c99", "c99"), ("dsp", "dsp")


class Candidate(NamedTuple):
    """A kernel for a layer of the grid. isa: (kernels, simd) where its headers are; work: multiply-accumulates of the
    call, or elements where it has none."""

    kernel: str
    case: Case
    isa: tuple[str, str]
    work: int


class Row(NamedTuple):
    """A line of the table."""

    layer: str
    kernel: str
    work: int
    cycles: int

    @property
    def each(self) -> float:
        return self.cycles / self.work


def small(layer):
    """The layer with weights as small as those of real layers, no clamp."""
    params, rows, pad, w, bias, mult = layer
    return params | {"lo": -128, "hi": 127}, rows, pad, w // 4, bias, mult


def conv(**shape) -> Iterator[Candidate]:
    layer = small(layers.conv_layer(np.random.default_rng(5), **shape))
    params, rows, pad, w, bias, mult = layer
    expected = layers.conv_reference(*layer)
    plain = Case("conv_s8", params, (*layers._rows(rows, pad), w, bias, mult, "out"), expected.size, 0, expected)
    work = expected.size * w[0].size
    yield Candidate("conv_s8", plain, C99, work)
    for unrolled, name in ((0, "conv_s8_dsp"), (1, "conv_s8_dsp unrolled")) if dsp.pays("conv", params) else ():
        yield Candidate(name, layers.conv_case(*layer, unrolled), DSP, work)
    if dsp.stem_pays(params) and dsp.stem_params(params, params["stride_w"], 2):
        case = layers.stem_case(*layer, 2, params["stride_w"])
        yield Candidate("stem_s8_dsp", case, DSP, work * case.params["rows"])
    if wino.accepts(params, w, bias) is None:
        x = layers.extremes(np.random.default_rng(6), (wino.rows(params) + 2, *rows.shape[1:]))
        yield Candidate("wino_s8_dsp", layers.wino_case(params, x, pad, w, bias, mult), DSP, work * wino.rows(params))


def dwconv(height: int = 0, **shape) -> Iterator[Candidate]:
    """height: of the whole picture, which dwplane_s8_dsp computes; 0: none."""
    layer = small(layers.dwconv_layer(np.random.default_rng(5), **shape))
    params, rows, pad, w, bias, mult = layer
    expected = layers.dwconv_reference(*layer)
    constants = (np.ascontiguousarray(w.transpose(1, 2, 0)), bias, mult)
    plain = Case("dwconv_s8", params, (*layers._rows(rows, pad), *constants, "out"), expected.size, 0, expected)
    work = expected.size * w[0].size
    yield Candidate("dwconv_s8", plain, C99, work)
    if dsp.pays("dwconv", params):
        yield Candidate("dwconv_s8_dsp", layers.dwconv_case(*layer), DSP, work)
    if height:
        top = params["pad_left"]  # padded down as it is across
        case = layers.plane_case(layer, height, top, 1)
        yield Candidate("dwplane_s8_dsp", case, DSP, case.expected.size * w[0].size)


def fc(k: int, n: int) -> Iterator[Candidate]:
    layer = small(layers.conv_layer(np.random.default_rng(5), 1, k, n, 1, 1))
    params, rows, pad, w, bias, mult = layer
    expected = layers.conv_reference(*layer)
    plain = Case(
        "fc_s8", {f: params[f] for f in layers.FC}, (rows.reshape(-1), w.reshape(n, k), bias, mult, "out"), n, 0, expected
    )
    yield Candidate("fc_s8", plain, C99, n * k)
    forms = ((0, "fc_s8_dsp"), (1, "fc_s8_dsp unrolled"), (2, "fc_s8_dsp widened"))
    for unrolled, name in forms if dsp.pays("fc", {"in_c": k, "out_c": n}) else ():
        yield Candidate(name, layers.fc_case(*layer, unrolled), DSP, n * k)


def same(case: Case, work: int) -> Iterator[Candidate]:
    """A kernel of which both instruction sets have one by the same name."""
    yield Candidate(case.kernel, case, C99, work)
    yield Candidate(f"{case.kernel} (dsp)", case, DSP, work)


def add(n: int, f: int, ma: int, mb: int) -> Iterator[Candidate]:
    a, b = (layers.extremes(np.random.default_rng(i), n) for i in range(2))
    p = dict(n=n, ma=ma, mb=mb, c=1 << (f - 1), f=f, lo=-128, hi=127)
    acc = a.astype(np.int64) * ma + b.astype(np.int64) * mb + p["c"]
    return same(c99.case("add_s8", p, (a, b, "out"), np.clip(acc >> f, -128, 127).astype(np.int8)), n)


def maxpool(in_w: int, in_c: int, k: int, stride: int) -> Iterator[Candidate]:
    out_w = (in_w - k) // stride + 1
    p = dict(in_w=in_w, in_c=in_c, out_w=out_w, kh=k, kw=k, stride_w=stride, dilation_w=1, pad_left=0)
    rows = list(layers.extremes(np.random.default_rng(0), (k, in_w * in_c)))
    best = c99.taps(p, rows, -128).max((1, 2))
    return same(c99.case("maxpool_s8", p, (rows, rows[0], "out"), best), best.size)


def average(h: int, w: int, c: int) -> Iterator[Candidate]:
    """Over all of a picture; elements: of the input."""
    p = dict(in_w=w, in_c=c, out_w=1, kh=h, kw=w, stride_w=1, pad_left=0, include_pad=1, in_zp=-128)
    p |= dict(c=128, f=8, lo=-128, hi=127)
    rows = list(layers.extremes(np.random.default_rng(0), (h, w * c)))
    m = np.array([2**32 // (h * w)], np.int32)
    sums = np.stack(rows).reshape(h * w, c).astype(np.int64).sum(0) + 128 * h * w
    return same(c99.case("avgpool_s8", p, (rows, h, m, "out"), layers.requant(256 * sums, m, p)), h * w * c)


GRID = {
    "conv 3x3 16->16, 32 wide": lambda: conv(in_w=32, in_c=16, out_c=16, kh=3, kw=3, pad=1),
    "conv 3x3 32->32, 16 wide": lambda: conv(in_w=16, in_c=32, out_c=32, kh=3, kw=3, pad=1),
    "conv 3x3 64->64, 8 wide": lambda: conv(in_w=8, in_c=64, out_c=64, kh=3, kw=3, pad=1),
    "conv 3x3 256->256, 4 wide": lambda: conv(in_w=4, in_c=256, out_c=256, kh=3, kw=3, pad=1),
    "conv 3x3 8->32, 16 wide": lambda: conv(in_w=16, in_c=8, out_c=32, kh=3, kw=3, pad=1),
    "conv 3x3 16->64, 16 wide": lambda: conv(in_w=16, in_c=16, out_c=64, kh=3, kw=3, pad=1),
    "conv 3x3 64->16, 16 wide": lambda: conv(in_w=16, in_c=64, out_c=16, kh=3, kw=3, pad=1),
    "conv 3x3 40->40, 24 wide": lambda: conv(in_w=24, in_c=40, out_c=40, kh=3, kw=3, pad=1),
    "conv 3x3 128->64, 8 wide": lambda: conv(in_w=8, in_c=128, out_c=64, kh=3, kw=3, pad=1),
    "conv 3x3 12->20, 16 wide": lambda: conv(in_w=16, in_c=12, out_c=20, kh=3, kw=3, pad=1),
    "conv 3x3 s2 16->32, 32 wide": lambda: conv(in_w=32, in_c=16, out_c=32, kh=3, kw=3, stride=2, right=1),
    "conv 3x3 s2 32->64, 16 wide": lambda: conv(in_w=16, in_c=32, out_c=64, kh=3, kw=3, stride=2, right=1),
    "conv 3x3 d2 16->16, 24 wide": lambda: conv(in_w=24, in_c=16, out_c=16, kh=3, kw=3, dilation=2, pad=2),
    "conv 3x3 4 groups 32->32, 16 wide": lambda: conv(in_w=16, in_c=32, out_c=32, kh=3, kw=3, pad=1, groups=4),
    "conv 3x3 8 groups 16->16, 16 wide": lambda: conv(in_w=16, in_c=16, out_c=16, kh=3, kw=3, pad=1, groups=8),
    "conv 3x3 16->3, 16 wide": lambda: conv(in_w=16, in_c=16, out_c=3, kh=3, kw=3, pad=1),
    "conv 3x3 5->7, 7 wide": lambda: conv(in_w=7, in_c=5, out_c=7, kh=3, kw=3, pad=1),
    "conv 3x3 16->16, 3 wide": lambda: conv(in_w=3, in_c=16, out_c=16, kh=3, kw=3, pad=1),
    "conv 5x5 8->8, 16 wide": lambda: conv(in_w=16, in_c=8, out_c=8, kh=5, kw=5, pad=2),
    "conv 1x3 8->8, 30 wide": lambda: conv(in_w=30, in_c=8, out_c=8, kh=1, kw=3, pad=1),
    "conv 2x2 s2 16->32, 16 wide": lambda: conv(in_w=16, in_c=16, out_c=32, kh=2, kw=2, stride=2),
    "stem 5x5 s2 3->16, 48 wide": lambda: conv(in_w=48, in_c=3, out_c=16, kh=5, kw=5, stride=2, pad=2),
    "stem 3x3 1->4, 28 wide": lambda: conv(in_w=28, in_c=1, out_c=4, kh=3, kw=3, pad=1),
    "stem 3x3 3->16, 32 wide": lambda: conv(in_w=32, in_c=3, out_c=16, kh=3, kw=3, pad=1),
    "stem 3x3 s2 3->8, 96 wide": lambda: conv(in_w=96, in_c=3, out_c=8, kh=3, kw=3, stride=2, right=1),
    "stem 10x4 s2 1->64, 10 wide": lambda: conv(in_w=10, in_c=1, out_c=64, kh=10, kw=4, stride=2, pad=1),
    "pointwise 64->64, 125 pixels": lambda: conv(in_w=125, in_c=64, out_c=64, kh=1, kw=1),
    "pointwise 64->64, 5 pixels": lambda: conv(in_w=5, in_c=64, out_c=64, kh=1, kw=1),
    "pointwise 64->64, 1 pixel": lambda: conv(in_w=1, in_c=64, out_c=64, kh=1, kw=1),
    "pointwise 8->16, 48 pixels": lambda: conv(in_w=48, in_c=8, out_c=16, kh=1, kw=1),
    "pointwise 16->32, 24 pixels": lambda: conv(in_w=24, in_c=16, out_c=32, kh=1, kw=1),
    "pointwise 128->128, 36 pixels": lambda: conv(in_w=36, in_c=128, out_c=128, kh=1, kw=1),
    "pointwise 256->256, 9 pixels": lambda: conv(in_w=9, in_c=256, out_c=256, kh=1, kw=1),
    "pointwise 60->54, 36 pixels": lambda: conv(in_w=36, in_c=60, out_c=54, kh=1, kw=1),
    "pointwise 30->18, 12 pixels": lambda: conv(in_w=12, in_c=30, out_c=18, kh=1, kw=1),
    "pointwise 10->6, 12 pixels": lambda: conv(in_w=12, in_c=10, out_c=6, kh=1, kw=1),
    "fc 640->128": lambda: fc(640, 128),
    "fc 128->128": lambda: fc(128, 128),
    "pointwise s2 16->32, 16 pixels": lambda: conv(in_w=16, in_c=16, out_c=32, kh=1, kw=1, stride=2),
    "pointwise 3->5, 12 pixels": lambda: conv(in_w=12, in_c=3, out_c=5, kh=1, kw=1),
    "pointwise 4->4, 3 pixels": lambda: conv(in_w=3, in_c=4, out_c=4, kh=1, kw=1),
    "fc 1024->10": lambda: fc(1024, 10),
    "fc 30->3": lambda: fc(30, 3),
    "fc 9->1": lambda: fc(9, 1),
    "fc 64->12": lambda: fc(64, 12),
    "depthwise 3x3 8, 48 wide": lambda: dwconv(height=48, in_w=48, in_c=8, kh=3, kw=3, pad=1),
    "depthwise 3x3 32, 24 wide": lambda: dwconv(height=24, in_w=24, in_c=32, kh=3, kw=3, pad=1),
    "depthwise 3x3 64, 25 wide": lambda: dwconv(height=5, in_w=25, in_c=64, kh=3, kw=3, pad=1),
    "depthwise 3x3 64, 12 wide": lambda: dwconv(height=12, in_w=12, in_c=64, kh=3, kw=3, pad=1),
    "depthwise 3x3 128, 6 wide": lambda: dwconv(height=6, in_w=6, in_c=128, kh=3, kw=3, pad=1),
    "depthwise 3x3 64, 5 wide": lambda: dwconv(height=25, in_w=5, in_c=64, kh=3, kw=3, pad=1),
    "depthwise 3x3 256, 3 wide": lambda: dwconv(height=3, in_w=3, in_c=256, kh=3, kw=3, pad=1),
    "depthwise 3x3 s2 16, 48 wide": lambda: dwconv(height=48, in_w=48, in_c=16, kh=3, kw=3, stride=2, right=1),
    "depthwise 3x3 s2 32, 24 wide": lambda: dwconv(height=24, in_w=24, in_c=32, kh=3, kw=3, stride=2, right=1),
    "depthwise 3x3 s2 64, 12 wide": lambda: dwconv(height=12, in_w=12, in_c=64, kh=3, kw=3, stride=2, right=1),
    "depthwise 3x3 s2 128, 6 wide": lambda: dwconv(height=6, in_w=6, in_c=128, kh=3, kw=3, stride=2, right=1),
    "depthwise 3x3 7, 9 wide": lambda: dwconv(height=9, in_w=9, in_c=7, kh=3, kw=3, pad=1),
    "depthwise 3x3 4, 2 wide": lambda: dwconv(height=2, in_w=2, in_c=4, kh=3, kw=3, pad=1),
    "depthwise 3x3 12, 112 wide": lambda: dwconv(height=8, in_w=112, in_c=12, kh=3, kw=3, pad=1),
    "depthwise 3x3 s2 12, 112 wide": lambda: dwconv(height=8, in_w=112, in_c=12, kh=3, kw=3, stride=2, pad=1),
    "depthwise 3x3 s2 6, 7 wide": lambda: dwconv(height=7, in_w=7, in_c=6, kh=3, kw=3, stride=2, pad=1),
    "depthwise 3x3 8, 3 wide, unpadded": lambda: dwconv(in_w=3, in_c=8, kh=3, kw=3),
    "depthwise 4x3 16, 24 wide": lambda: dwconv(in_w=24, in_c=16, kh=4, kw=3),
    "depthwise 2x3 16, 24 wide": lambda: dwconv(in_w=24, in_c=16, kh=2, kw=3),
    "depthwise 4x4 s2 16, 24 wide": lambda: dwconv(in_w=24, in_c=16, kh=4, kw=4, stride=2),
    "depthwise 5x5 16, 7 wide, unpadded": lambda: dwconv(in_w=7, in_c=16, kh=5, kw=5),
    "depthwise 7x7 s2 16, 24 wide, unpadded": lambda: dwconv(in_w=24, in_c=16, kh=7, kw=7, stride=2),
    "depthwise 1x6 16, 9 wide": lambda: dwconv(in_w=9, in_c=16, kh=1, kw=6),
    "depthwise 3x3 s3 16, 24 wide": lambda: dwconv(in_w=24, in_c=16, kh=3, kw=3, stride=3, pad=1),
    "depthwise 3x3 d2 32, 24 wide": lambda: dwconv(in_w=24, in_c=32, kh=3, kw=3, dilation=2, pad=2),
    "depthwise 2x2 s2 16, 24 wide": lambda: dwconv(in_w=24, in_c=16, kh=2, kw=2, stride=2),
    "depthwise 3x1 16, 24 wide": lambda: dwconv(in_w=24, in_c=16, kh=3, kw=1),
    "depthwise 7x7 16, 24 wide": lambda: dwconv(in_w=24, in_c=16, kh=7, kw=7, pad=3),
    "depthwise 7x7 16, 7 wide": lambda: dwconv(in_w=7, in_c=16, kh=7, kw=7),
    "depthwise 5x5 d2 8, 12 wide": lambda: dwconv(in_w=12, in_c=8, kh=5, kw=5, dilation=2, pad=4),
    "depthwise 5x5 32, 24 wide": lambda: dwconv(in_w=24, in_c=32, kh=5, kw=5, pad=2),
    "depthwise 5x5 s2 32, 24 wide": lambda: dwconv(in_w=24, in_c=32, kh=5, kw=5, stride=2, pad=2),
    "depthwise 5x1 128, 1 wide": lambda: dwconv(in_w=1, in_c=128, kh=5, kw=1),
    "depthwise 10x1 128, 1 wide": lambda: dwconv(in_w=1, in_c=128, kh=10, kw=1),
    "depthwise 15x1 128, 1 wide": lambda: dwconv(in_w=1, in_c=128, kh=15, kw=1),
    "depthwise 1x5 128, 30 wide": lambda: dwconv(in_w=30, in_c=128, kh=1, kw=5),
    "depthwise 1x10 128, 30 wide": lambda: dwconv(in_w=30, in_c=128, kh=1, kw=10),
    "depthwise 1x15 128, 30 wide": lambda: dwconv(in_w=30, in_c=128, kh=1, kw=15),
    "add, factors of 16 bits": lambda: add(4096, 14, 16001, -9001),
    "add, factors of 21 bits": lambda: add(4096, 20, 1000001, -700001),
    "maximum 2x2, 16 channels": lambda: maxpool(32, 16, 2, 2),
    "maximum 2x2, 3 channels": lambda: maxpool(32, 3, 2, 2),
    "maximum 3x3 s2, 16 channels": lambda: maxpool(33, 16, 3, 2),
    "average 25x5, 64 channels": lambda: average(25, 5, 64),
    "average 2x2, 3 channels": lambda: average(2, 2, 3),
    "average 3x3, 256 channels": lambda: average(3, 3, 256),
}


def measure(c: Candidate) -> int:
    """Cycles of one call. Raises SystemExit where its output is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        program = dsp_program.build_arm(dsp_program.write(Path(folder), [c.case]), MACHINE, kernels=c.isa)
        listing, out = Path(folder, "functions"), Path(folder, "counts")
        address = next(s.address for s in elf.read(program).symbols if s.name == "case_0") & ~1
        listing.write_text(f"{address:x}\n")
        command = [*dsp_program.qemu(program, MACHINE), "-plugin", f"{counter.plugin()},functions={listing},out={out}"]
        if dsp_program.run(command) != [(dsp_program.checksum(c.case.expected.tobytes()), 1)]:
            raise SystemExit(f"wrong output: {c.kernel} {c.case.params}")
        return int(out.read_text().split()[4])


def plot(rows: list[Row]) -> str:
    """A bar for each kernel of each layer: cycles per multiply-accumulate or element, as SVG."""
    colours = ("#b0b0b0", "#4e79a7", "#59a14f", "#e15759")
    top, scale, parts, y, before = 12.0, 40, [], 16, ""
    for r in rows:
        first = r.layer != before
        place = 0 if first else place + 1  # noqa: F821
        y += 8 if first else 0
        if first:
            parts.append(f'<text x="4" y="{y + 9}" font-weight="bold">{r.layer}</text>'.replace("->", "-&gt;"))
        width = min(r.each, top) * scale
        parts.append(f'<rect x="420" y="{y}" width="{width:.1f}" height="10" fill="{colours[place % 4]}"/>'
                     f'<text x="260" y="{y + 9}">{r.kernel}</text><text x="{424 + width:.1f}" y="{y + 9}">{r.each:.2f}</text>')
        y, before = y + 12, r.layer
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="960" height="{y + 12}" font-family="sans-serif" font-size="10">\n'
            '<text x="4" y="14">Cycles per multiply-accumulate, or per element (add, pools), modelled Cortex-M4</text>\n'
            + "\n".join(parts) + "\n</svg>\n")


def costs(rows: list[Row]) -> dict[str, np.ndarray]:
    """The numbers of edgec/kernels/cost.py for each kernel that there is a choice about, least squares of the relative error."""
    cycles = {(r.layer, r.kernel): r.cycles for r in rows}
    fitted: dict[str, tuple[list, list]] = {}
    for layer, make in GRID.items():
        for c in make():
            p = c.case.params
            if c.kernel in ("conv_s8_dsp", "wino_s8_dsp") and (layer, "wino_s8_dsp") in cycles:
                units = p["out_w"] / 2 if c.kernel == "conv_s8_dsp" else -(-p["out_w"] // (8 if p["rows"] == 2 else 4))
                taps, n = 9 * p["in_c"], p["out_c"]
                features = [1, taps, n, taps * n]
            elif (
                c.kernel == "dwconv_s8_dsp" and layer.startswith("depthwise 3x3 ") and p["stride_w"] < 3 and p["dilation_w"] == 1
            ):
                units, features = -(-p["in_c"] // 4), [1, 0, p["out_w"], 0]
            else:
                continue
            name = f"{c.kernel}/{p['stride_w']}" if c.kernel == "dwconv_s8_dsp" else c.kernel
            xs, ys = fitted.setdefault(name, ([], []))
            xs.append(np.array(features) * units / cycles[layer, c.kernel])
            ys.append(1.0)
    return {kernel: np.linalg.lstsq(np.array(xs), np.array(ys), rcond=None)[0] for kernel, (xs, ys) in fitted.items()}


def slower(rows: list[Row]) -> list[str]:
    """What is slower than the portable kernel, the first of each layer."""
    portable: dict[str, Row] = {}
    for r in rows:
        portable.setdefault(r.layer, r)
    return [f"{r.layer}: {r.kernel} {r.each:.3f}, {portable[r.layer].kernel} {portable[r.layer].each:.3f}" for r in rows
            if r.each > portable[r.layer].each]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", help="parts of the names of what to measure")
    p.add_argument("--write", action="store_true", help="renew the committed table, plot and costs")
    a = p.parse_args()
    rows = []
    print(f"{'layer':38} {'kernel':21} {'cycles':>8} {'each':>8} {'scratch B':>9}")
    for layer, make in GRID.items():
        if a.names and not any(part in layer for part in a.names):
            continue
        for c in make():
            rows.append(Row(layer, c.kernel, c.work, measure(c)))
            print(f"{layer:38} {c.kernel:21} {rows[-1].cycles:8} {rows[-1].each:8.3f} {c.case.scratch_bytes:9}", flush=True)
    if found := slower(rows):
        raise SystemExit("\n".join(("slower than the portable kernel:", *found)))
    if a.write:
        with open(CSV, "w", encoding="utf-8", newline="") as f:
            csv.writer(f, lineterminator="\n").writerows([(*Row._fields, "each"), *((*r, f"{r.each:.3f}") for r in rows)])
        SVG.write_text(plot(rows), encoding="utf-8")
        with open(cost.TABLE, "w", encoding="utf-8", newline="") as f:
            table = [("kernel", *cost.FIELDS), *((k, *(f"{v:.4g}" for v in n)) for k, n in sorted(costs(rows).items()))]
            csv.writer(f, lineterminator="\n").writerows(table)


if __name__ == "__main__":
    main()
