"""Kernels of runtime_c/kernel/mve whose weights are packed: what they accept, the packing, the scratch.

params: the fields of the kernel's struct. bias: int32 [out channels], input zero point folded in; mult: int32 [out
channels]. w: int8, [oc][kh][kw][ic / groups] for conv, [oc][ic] for fc, [oc][kh][kw] for dwconv.
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Array = np.ndarray
Params = Mapping[str, int]
Packing = tuple[tuple[tuple[str, Array], ...], int, Params]

VECTOR = 16              # int8 lanes
BLOCK = (0, 2, 1, 3)     # the order of the four output channels that a kernel computes at a time
SPREAD = 8               # channels that a depthwise layer spreads out at a time


def packed(kind: str, params: Params, w: Array, bias: Array, mult: Array) -> Packing | None:
    """The weights of a layer (conv, dwconv or fc), by name, the bytes of scratch its kernel <kind>_s8_mve takes, and its
    parameters; None where that does not take the layer."""
    if kind == "fc":
        return _dots(w[None], bias, mult), _up(params["in_c"], VECTOR) if params["in_c"] % VECTOR else 0, params
    if kind == "conv":
        return _dots(w.reshape(params["groups"], -1, w[0].size), bias, mult), _conv_scratch(params, w[0].size), params
    return _dwconv(params, w, bias, mult)


def _up(n: int, step: int) -> int:
    return -(-n // step) * step


def _dots(grid: Array, bias: Array, mult: Array) -> tuple[tuple[str, Array], ...]:
    """grid: [groups][out channels][taps] -> [groups][blocks of 4][vectors][4][16], zeros where there is no weight."""
    groups, n, taps = grid.shape
    full = np.zeros((groups, _up(n, 4), _up(taps, VECTOR)), np.int8)
    full[:, :n, :taps] = grid
    blocks = full.reshape(groups, -1, 4, full.shape[2] // VECTOR, VECTOR)[:, :, BLOCK]
    weights = np.ascontiguousarray(blocks.swapaxes(2, 3)).reshape(-1)
    return (("weights", weights), *_constants(groups, n, 4, bias, mult))


def _constants(groups: int, n: int, step: int, bias: Array, mult: Array) -> tuple[tuple[str, Array], ...]:
    """bias and mult of each group in whole steps of channels."""
    found = []
    for name, values in (("bias", bias), ("mult", mult)):
        full = np.zeros((groups, _up(n, step)), np.int32)
        full[:, :n] = values.reshape(groups, n)
        found.append((name, full.reshape(-1)))
    return tuple(found)


def _conv_scratch(p: Params, taps: int) -> int:
    """The taps of two pixels; none where those of every pixel stand in order in the input, in whole vectors."""
    joined = p["groups"] == 1 and (p["kw"] == 1 or p["dilation_w"] == 1)
    inside = p["pad_left"] == 0 and (p["out_w"] - 1) * p["stride_w"] + p["kw"] <= p["in_w"]
    if p["kh"] == 1 and joined and inside and taps % VECTOR == 0:
        return 0
    return 2 * _up(taps, VECTOR)


def _dwconv(p: Params, w: Array, bias: Array, mult: Array) -> Packing | None:
    """The taps of a channel column by column: w becomes [input channels in whole eights][mult][taps in whole vectors]. A
    dilation becomes columns of zeros: up to 3x3 by 2 a window is one vector still."""
    kh, kw, dilation, m = p["kh"], p["kw"], p["dilation_w"], p["mult"]
    dense = np.zeros((len(w), kh, (kw - 1) * dilation + 1), np.int8)
    dense[..., ::dilation] = w.reshape(-1, kh, kw)
    taps, columns = dense[0].size, (p["out_w"] - 1) * p["stride_w"] + dense.shape[2]
    if (SPREAD - 1) * columns * kh >= 2**16:
        return None
    full = np.zeros((_up(p["in_c"], SPREAD) * m, _up(taps, VECTOR)), np.int8)
    full[:len(w), :taps] = dense.transpose(0, 2, 1).reshape(len(w), taps)
    constants = _constants(1, len(w), SPREAD * m, bias, mult)
    scratch = _up(SPREAD * columns * kh + full.shape[1], 4)
    return (("weights", full.reshape(-1)), *constants), scratch, p | {"kw": dense.shape[2], "dilation_w": 1}
