"""wino_s8_dsp: which convolutions it computes exactly, its transformed weights, its scratch.

params: those of conv_s8_dsp. w: int8 [oc][3][3][ic]; bias: int32 [oc], input zero point folded in; mult: int32 [oc].
"""
from __future__ import annotations

import numpy as np

from .dsp import BLOCK, SHIFTS, Array, Params, halves, pair_order

DOWN = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]])                               # 2 G of F(2, 3)
ALONG = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]])  # 24 G of F(4, 3)
SCALE = 48  # the sums are so many times those of the convolution, 16 times after the division by 3


def rows(params: Params) -> int:
    """Output rows that a call of kernel/dsp/wino_s8_dsp.h makes."""
    return 2 if params["out_w"] >= 8 else 4


def accepts(params: Params, w: Array, bias: Array) -> str | None:
    """None, or why kernel/dsp/wino_s8_dsp.h cannot compute the layer exactly. params: those of conv_s8_dsp."""
    if params["f"] not in SHIFTS:
        return f"requantisation shift {params['f']} is not one of {SHIFTS}"
    if (params["kh"], params["kw"], params["stride_w"], params["dilation_w"], params["groups"]) != (3, 3, 1, 1, 1):
        return "not a 3x3 kernel of stride 1 without dilation and groups"
    if params["in_c"] % 8 or params["out_c"] % 4:
        return "input channels are no multiple of 8, or output channels none of 4"
    if params["out_w"] < 4:
        return "fewer than four outputs in a row"
    bound = np.abs(w.astype(np.int64)).reshape(len(w), -1).sum(1) * 128 + np.abs(bias.astype(np.int64))
    return None if (bound < 2**27).all() else "the accumulator could exceed 28 bits"


def pack(params: Params, w: Array, bias: Array, mult: Array) -> Array:
    """The stream of kernel/dsp/wino_s8_dsp.h, 5.3 bytes a weight: for four output channels [24][in_c / 2][4] words,
    biases times 48, multipliers."""
    n, ic = params["out_c"], params["in_c"]
    u = np.einsum("iy,kx,oyxc->oikc", DOWN, ALONG, w.reshape(n, 3, 3, ic).astype(np.int64))
    assert np.abs(u).max(initial=0) < 2**15
    order = pair_order(ic)
    words = halves(u[..., order[:, 0]], u[..., order[:, 1]]).reshape(n // BLOCK, BLOCK, 24 * ic // 2).swapaxes(1, 2)
    tail = [a.astype(np.int64).reshape(-1, BLOCK) for a in (SCALE * bias.astype(np.int64), mult)]
    return (np.concatenate([words.reshape(n // BLOCK, -1), *tail], 1) & 0xFFFFFFFF).astype(np.uint32).reshape(-1)


def scratch(params: Params) -> int:
    """Bytes of scratch of kernel/dsp/wino_s8_dsp.h: the transformed inputs of two tiles; beside them first their
    columns, then the sums of four channels."""
    return 96 * params["in_c"] + max(24 * 32, (80 if rows(params) == 2 else 96) * params["in_c"])
