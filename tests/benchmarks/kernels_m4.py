"""Prints modelled Cortex-M4 cycles of the DSP kernels, one output row each, parameters compiled in.

python tests/benchmarks/kernels_m4.py --m4run PATH [part of a name ...]

m4run: a program that counts cycles under QEMU, `m4run ELF --call FUNCTION --json`. Every output is checked as well.
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dsp_program  # noqa: E402
import test_kernels_c99 as c99  # noqa: E402
import test_kernels_dsp as layers  # noqa: E402
from dsp_program import Case  # noqa: E402

MACHINE = "mps2-an386"
Built = tuple[Case, int]  # the call and its multiply-accumulates, or its elements where it has none


def conv(**shape) -> Built:
    return _layer(layers.conv_layer, layers.conv_case, shape)


def dwconv(**shape) -> Built:
    return _layer(layers.dwconv_layer, layers.dwconv_case, shape)


def fc(k: int, n: int) -> Built:
    return _layer(layers.conv_layer, layers.fc_case, dict(in_w=1, in_c=k, out_c=n, kh=1, kw=1))


def _layer(make: Callable, call: Callable, shape: dict) -> Built:
    params, rows, pad, w, bias, mult = make(np.random.default_rng(5), **shape)
    w //= 4  # as small as those of real layers
    case = call(params | {"lo": -128, "hi": 127}, rows, pad, w, bias, mult)
    return case, case.out_bytes * w[0].size


def add(n: int, f: int, ma: int, mb: int) -> Built:
    a, b = (layers.extremes(np.random.default_rng(i), n) for i in range(2))
    p = dict(n=n, ma=ma, mb=mb, c=1 << (f - 1), f=f, lo=-128, hi=127)
    acc = a.astype(np.int64) * ma + b.astype(np.int64) * mb + p["c"]
    return c99.case("add_s8", p, (a, b, "out"), np.clip(acc >> f, -128, 127).astype(np.int8)), n


def maxpool(in_w: int, in_c: int, k: int, stride: int) -> Built:
    out_w = (in_w - k) // stride + 1
    p = dict(in_w=in_w, in_c=in_c, out_w=out_w, kh=k, kw=k, stride_w=stride, dilation_w=1, pad_left=0)
    rows = list(layers.extremes(np.random.default_rng(0), (k, in_w * in_c)))
    best = c99.taps(p, rows, -128).max((1, 2))
    return c99.case("maxpool_s8", p, (rows, rows[0], "out"), best), best.size


def average(h: int, w: int, c: int) -> Built:
    """Over all of a picture; elements: of the input."""
    p = dict(in_w=w, in_c=c, out_w=1, kh=h, kw=w, stride_w=1, pad_left=0, include_pad=1, in_zp=-128)
    p |= dict(c=128, f=8, lo=-128, hi=127)
    rows = list(layers.extremes(np.random.default_rng(0), (h, w * c)))
    m = np.array([2**32 // (h * w)], np.int32)
    sums = np.stack(rows).reshape(h * w, c).astype(np.int64).sum(0) + 128 * h * w
    return c99.case("avgpool_s8", p, (rows, h, m, "out"), layers.requant(256 * sums, m, p)), h * w * c


BENCHES: dict[str, Callable[[], Built]] = {
    "conv 3x3 16->16, 32 wide": lambda: conv(in_w=32, in_c=16, out_c=16, kh=3, kw=3, pad=1),
    "conv 3x3 32->32, 16 wide": lambda: conv(in_w=16, in_c=32, out_c=32, kh=3, kw=3, pad=1),
    "conv 3x3 64->64, 8 wide": lambda: conv(in_w=8, in_c=64, out_c=64, kh=3, kw=3, pad=1),
    "conv 3x3 256->256, 4 wide": lambda: conv(in_w=4, in_c=256, out_c=256, kh=3, kw=3, pad=1),
    "conv 3x3 s2 16->32, 32 wide": lambda: conv(in_w=32, in_c=16, out_c=32, kh=3, kw=3, stride=2, right=1),
    "conv 3x3 s2 32->64, 16 wide": lambda: conv(in_w=16, in_c=32, out_c=64, kh=3, kw=3, stride=2, right=1),
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
    "fc 640->128": lambda: fc(640, 128),
    "fc 128->128": lambda: fc(128, 128),
    "fc 64->12": lambda: fc(64, 12),
    "depthwise 3x3 8, 48 wide": lambda: dwconv(in_w=48, in_c=8, kh=3, kw=3, pad=1),
    "depthwise 3x3 32, 24 wide": lambda: dwconv(in_w=24, in_c=32, kh=3, kw=3, pad=1),
    "depthwise 3x3 64, 25 wide": lambda: dwconv(in_w=25, in_c=64, kh=3, kw=3, pad=1),
    "depthwise 3x3 64, 12 wide": lambda: dwconv(in_w=12, in_c=64, kh=3, kw=3, pad=1),
    "depthwise 3x3 128, 6 wide": lambda: dwconv(in_w=6, in_c=128, kh=3, kw=3, pad=1),
    "depthwise 3x3 64, 5 wide": lambda: dwconv(in_w=5, in_c=64, kh=3, kw=3, pad=1),
    "depthwise 3x3 256, 3 wide": lambda: dwconv(in_w=3, in_c=256, kh=3, kw=3, pad=1),
    "depthwise 3x3 s2 16, 48 wide": lambda: dwconv(in_w=48, in_c=16, kh=3, kw=3, stride=2, right=1),
    "depthwise 3x3 s2 32, 24 wide": lambda: dwconv(in_w=24, in_c=32, kh=3, kw=3, stride=2, right=1),
    "depthwise 3x3 s2 64, 12 wide": lambda: dwconv(in_w=12, in_c=64, kh=3, kw=3, stride=2, right=1),
    "depthwise 3x3 s2 128, 6 wide": lambda: dwconv(in_w=6, in_c=128, kh=3, kw=3, stride=2, right=1),
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
    "maximum 3x3 s2, 16 channels": lambda: maxpool(33, 16, 3, 2),
    "average 25x5, 64 channels": lambda: average(25, 5, 64),
    "average 3x3, 256 channels": lambda: average(3, 3, 256),
}


def measure(case: Case, m4run: Path) -> float:
    """Cycles of one call. Raises SystemExit where its output is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        elf = dsp_program.build_arm(dsp_program.write(Path(folder), [case]), MACHINE)
        if dsp_program.run(dsp_program.qemu(elf, MACHINE)) != [(dsp_program.checksum(case.expected.tobytes()), 1)]:
            raise SystemExit(f"wrong output: {case.kernel} {case.params}")
        done = subprocess.run([m4run, elf, "--call", "case_0", "--json"], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["cycles"]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", help="parts of the names of what to measure")
    p.add_argument("--m4run", type=Path, required=True)
    a = p.parse_args()
    print(f"{'one output row':31} {'cycles':>8} {'per MAC':>8} {'per el.':>8} {'scratch B':>9}")
    for name, make in BENCHES.items():
        if a.names and not any(part in name for part in a.names):
            continue
        case, work = make()
        cycles = measure(case, a.m4run)
        each = f"{cycles / work:8.3f}"
        columns = (each, "") if case.kernel.endswith("_dsp") else ("", each)
        print(f"{name:31} {cycles:8.0f} {columns[0]:>8} {columns[1]:>8} {case.scratch_bytes:9}", flush=True)


if __name__ == "__main__":
    main()
