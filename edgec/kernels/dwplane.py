"""dwplane_s8_dsp: which depthwise convolutions it computes exactly, how it cuts them into lines and bands, its weights.

w: int8 [c][3][3]; bias: int32 [c], input zero point folded in; mult: int32 [c].
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .dsp import DW_SHIFT, LANES, Array, dw_room, halves

SCRATCH = 4096               # bytes that a band may take, unless one line needs more
PITCHES = (16, 32, 64, 128, 256)


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
    """turned: lines are columns. pitch: bytes of a torn line of a channel; band: output lines that go together; cycles:
    about those of a run."""

    turned: bool
    pitch: int
    band: int
    cycles: float


def cut(p: Plane) -> Cut | None:
    """The faster of rows and columns as lines; None where the kernel cannot."""
    if p.kernel != (3, 3) or p.dilations != (1, 1) or p.strides != (1, 1) or max(p.pads) > 1 or p.c < LANES:
        return None
    return min(filter(None, (_cut(p, turned) for turned in (False, True))), key=lambda c: c.cycles, default=None)


def _cut(p: Plane, turned: bool) -> Cut | None:
    n, lines = (p.out_h, p.out_w) if turned else (p.out_w, p.out_h)
    pairs = (n + 3) // 2
    pitch = next((b for b in PITCHES if b >= 4 * pairs), None)
    if pitch is None:
        return None
    bands = -(-lines // max(SCRATCH // (LANES * pitch) - 2, 1))
    band = -(-lines // bands)
    channel = 45 + band * (11 + 22 * -(-n // 8) + 11.5 * n)
    return Cut(turned, pitch, band, -(-p.c // LANES) * bands * (LANES * channel + (band + 2) * (16 + 18 * pairs)))


def scratch(c: Cut) -> int:
    """Bytes of scratch of kernel/dsp/dwplane_s8_dsp.h."""
    return LANES * c.pitch * (c.band + 2)


def in_place(p: Plane, c: Cut) -> bool:
    """Whether the output may lie over the input."""
    return (p.h, p.w) == (p.out_h, p.out_w) and p.c % LANES == 0 and c.band == (p.out_w if c.turned else p.out_h)


def params(p: Plane, c: Cut, layer: Mapping[str, int], zero_point: int) -> dict[str, int]:
    """The kernel's parameters. layer: c, f, lo, hi of the layer; zero_point: of its input."""
    size = {"in_n": p.w, "in_lines": p.h, "out_n": p.out_w, "out_lines": p.out_h, "lead": p.pads[1],
            "top": p.pads[0], "in_step": p.c, "in_line": p.w * p.c, "out_step": p.c, "out_line": p.out_w * p.c}
    if c.turned:
        other = {"in_n": "in_lines", "out_n": "out_lines", "lead": "top", "in_step": "in_line", "out_step": "out_line"}
        other |= {b: a for a, b in other.items()}
        size = {k: size[other.get(k, k)] for k in size}
    shift = layer["c"] << (DW_SHIFT - layer["f"])
    return size | {"in_c": p.c, "pad": zero_point, "pitch": c.pitch, "band": c.band, "c": shift, "lo": layer["lo"], "hi": layer["hi"]}


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
