"""dwplane_s8_dsp: which depthwise convolutions it computes exactly, how it cuts them into lines and bands, its weights.

w: int8 [c][3][3]; bias: int32 [c], input zero point folded in; mult: int32 [c].
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .dsp import DW_SHIFT, LANES, Array, dw_room, halves

SCRATCH = 4096  # bytes that a tile may take, unless the output or one line takes more
WIDEST = 48     # outputs of a line that the kernel has code for


class Plane(NamedTuple):
    """A depthwise layer on whole tensors. h, w, out_h, out_w: sizes; pads: top, left."""

    h: int
    w: int
    out_h: int
    out_w: int
    c: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int]


class Cut(NamedTuple):
    """turned: lines are columns. width, band: outputs of a line and lines that go together; scratch: bytes for them;
    cycles: about those of a run."""

    turned: bool
    width: int
    band: int
    scratch: int
    cycles: float


def cut(p: Plane) -> Cut | None:
    """The faster of rows and columns as lines; None where the kernel cannot."""
    if p.kernel != (3, 3) or p.dilations != (1, 1) or p.strides not in ((1, 1), (2, 2)) or max(p.pads) > 1 or p.c < LANES:
        return None
    if any((o - 1) * s - q >= n for o, s, q, n in zip((p.out_h, p.out_w), p.strides, p.pads, (p.h, p.w), strict=True)):
        return None  # a window without any input
    return min((_cut(p, turned) for turned in (False, True)), key=lambda c: c.cycles)


def _cut(p: Plane, turned: bool, band: int | None = None) -> Cut:
    """band: instead of the largest that fits."""
    n, lines = (p.out_h, p.out_w) if turned else (p.out_w, p.out_h)
    stride, tiles = p.strides[0], -(-n // WIDEST)
    width = -(-n // tiles)
    pitch = 4 * ((width + 3) // 2 if stride == 1 else width + 1)
    made = p.out_h * p.out_w * p.c
    most = max((max(SCRATCH, made) // (LANES * pitch) - 3) // stride + 1, 1)
    if _over_input(p) and tiles == 1 and LANES * pitch * (lines + 2) <= SCRATCH + made:
        most = lines  # what the scratch takes, the output does not
    band = min(band or -(-lines // -(-lines // most)), lines)
    read = (band - 1) * stride + 3
    block, each = (19, 11.2) if stride == 1 else (16, 13.7)
    channel = 36 + band * (10 + block * -(-width // 8) + each * width)
    tile = 100 + LANES * channel + read * (25 + 15 * pitch // 4)
    return Cut(turned, width, band, LANES * pitch * read, -(-p.c // LANES) * tiles * -(-lines // band) * tile)


def _over_input(p: Plane) -> bool:
    return (p.h, p.w) == (p.out_h, p.out_w) and p.c % LANES == 0


def in_place(p: Plane, c: Cut) -> bool:
    """Whether the output may lie over the input."""
    return _over_input(p) and (c.width, c.band) == ((p.out_h, p.out_w) if c.turned else (p.out_w, p.out_h))


def code(c: Cut, stride: int) -> int:
    """Bytes of code of an instance, about."""
    return 550 + (45 if stride == 1 else 52) * c.width


def params(p: Plane, c: Cut, layer: Mapping[str, int], zero_point: int) -> dict[str, int]:
    """The kernel's parameters. layer: c, f, lo, hi of the layer; zero_point: of its input."""
    size = {"in_n": p.w, "in_lines": p.h, "out_n": p.out_w, "out_lines": p.out_h, "lead": p.pads[1],
            "top": p.pads[0], "in_step": p.c, "in_line": p.w * p.c, "out_step": p.c, "out_line": p.out_w * p.c}
    if c.turned:
        other = {"in_n": "in_lines", "out_n": "out_lines", "lead": "top", "in_step": "in_line", "out_step": "out_line"}
        other |= {b: a for a, b in other.items()}
        size = {k: size[other.get(k, k)] for k in size}
    shift = layer["c"] << (DW_SHIFT - layer["f"])
    size |= {"in_c": p.c, "pad": zero_point, "stride": p.strides[0], "width": c.width, "band": c.band}
    return size | {"c": shift, "lo": layer["lo"], "hi": layer["hi"]}


def accepts(f: int, w: Array, bias: Array, mult: Array) -> str | None:
    """None, or why the layer cannot be computed exactly."""
    if f not in (1, DW_SHIFT):
        return f"requantisation shift {f} is not one of {(1, DW_SHIFT)}"
    room = dw_room({"f": f}, w, bias) | (mult.astype(np.int64) << (DW_SHIFT - f) < 2**31)
    return None if room.all() else f"the accumulator could exceed {31 - DW_SHIFT + f} bits"


def pack(c: Cut, f: int, w: Array, bias: Array, mult: Array) -> Array:
    """The stream of kernel/dsp/dwplane_s8_dsp.h, 32 bytes a channel."""
    up = np.where(dw_room({"f": f}, w, bias), DW_SHIFT - f, 0)  # what is not in the sums is in the multiplier
    taps = w.astype(np.int64) << up[:, None, None]
    taps = taps.swapaxes(1, 2) if c.turned else taps
    rows = np.stack([halves(taps[..., 0], taps[..., 1]), halves(taps[..., 1], taps[..., 2])], -1).reshape(len(w), 6)
    words = [rows, (bias.astype(np.int64) << up)[:, None], (mult.astype(np.int64) << (DW_SHIFT - f - up))[:, None]]
    return (np.concatenate(words, 1) & 0xFFFFFFFF).astype(np.uint32).reshape(-1)
