"""Weights of 4 and 2 bits, packed: for kernels *_s8_narrow (portable) and *_s8_narrow_dsp (simd/dsp/ec_nib.h).

A layer is narrow where its weights' values are, whatever type they came in. w: int8, [oc][kh][kw][ic / groups] for conv,
[oc][ic] for fc; bias, mult: int32 [oc], the input zero point folded into the bias.
"""
from __future__ import annotations

import numpy as np

from . import dsp
from .dsp import BLOCK, SHIFTS, Array, Params

LOWEST = {2: -2, 4: -8}  # bits of a weight -> its least value


def width(w: Array) -> int | None:
    """The bits of a packed weight: 2, 4, or None where the values need more."""
    low, high = int(w.min(initial=0)), int(w.max(initial=0))
    return next((b for b, least in LOWEST.items() if low >= least and high < -least), None)


def nbytes(w: Array) -> int:
    """Bytes of packed weights, of others as they are."""
    return w.size * width(w) // 8 if w.dtype == np.int8 and width(w) else w.nbytes


def _grid(params: Params, w: Array) -> Array:
    """w as [groups][out channels of a group][taps]."""
    return w.reshape(params.get("groups", 1), -1, w[0].size).astype(np.int64)


# --- DSP ----------------------------------------------------------------------------------------------


def _order(kind: str, params: Params) -> Array:
    """The taps of a pixel in the order of the widened input: [quads][2 pairs][2], -1 for none."""
    runs, run = dsp._runs(params) if kind == "conv" else (1, params["in_c"])
    if kind == "fc":
        run = dsp.round4(run)
    pairs = dsp.pair_order(run)
    pairs = np.where(pairs < 0, -1, pairs + run * np.arange(runs)[:, None, None]).reshape(-1, 2)
    if kind == "fc":
        pairs = np.where(pairs < params["in_c"], pairs, -1)
    return np.pad(pairs, ((0, len(pairs) % 2), (0, 0)), constant_values=-1).reshape(-1, 2, 2)


def dsp_accepts(kind: str, params: Params, w: Array, bias: Array) -> str | None:
    """None, or why kernel/dsp/<kind>_s8_narrow_dsp.h cannot compute the layer exactly: the four sums of a block share
    words (ec_nib.h)."""
    bits = width(w)
    if bits is None:
        return "a weight needs more than 4 bits"
    if params["f"] not in SHIFTS:
        return f"requantisation shift {params['f']} is not one of {SHIFTS}"
    grid = _grid(params, w)
    sums = np.abs(grid).sum(2) * 128 + np.abs(bias.astype(np.int64)).reshape(grid.shape[:2])
    moved = -LOWEST[bits] * 128 * _order(kind, params).size  # what the offset of the weights adds
    sums = np.pad(sums, ((0, 0), (0, -sums.shape[1] % BLOCK))).reshape(-1, BLOCK)
    limits = (2**31, 2**27 - moved, 2**23 - moved, 2**19 - (0 if bits == 4 else moved))
    return None if (sums < limits).all() else "a sum could exceed its part of a word"


def dsp_pack(kind: str, params: Params, w: Array, bias: Array, mult: Array) -> Array:
    """The stream, uint32."""
    bits, grid, order = width(w), _grid(params, w), _order(kind, params)
    groups, n, k = grid.shape
    n4 = dsp.round4(n)
    taps = np.zeros((groups, n4, k + 1), np.int64)  # tap k is none
    taps[:, :n, :k] = grid
    b, m = np.zeros((2, groups, n4), np.int64)
    b[:, :n], m[:, :n] = bias.reshape(groups, n), mult.reshape(groups, n)
    b = b.reshape(groups, n4 // BLOCK, BLOCK)
    biases = np.stack([b @ [1, 16, 256, 4096], b @ [1, 0, 256, 0], b[..., 0], b @ [1, 16, 0, 0]], -1)
    moved = taps - LOWEST[bits]
    if bits == 4:
        moved[:, 3::BLOCK] = taps[:, 3::BLOCK]
    nibbles = (moved & 15).reshape(groups, n4 // BLOCK, BLOCK, k + 1)
    half = (nibbles << np.arange(0, 16, 4)[:, None]).sum(2)                # [groups][blocks][taps]
    at = np.where(order < 0, k, order)
    words = half[..., at[..., 0]] | half[..., at[..., 1]] << 16            # [groups][blocks][quads][2]
    words = words if bits == 4 else words[..., :1] | words[..., 1:] << 2
    parts = [biases, words.reshape(groups, n4 // BLOCK, -1), m.reshape(groups, -1, BLOCK)]
    return (np.concatenate(parts, -1) & 0xFFFFFFFF).astype(np.uint32).reshape(-1)


def dsp_scratch(kind: str, params: Params) -> int:
    """Bytes of scratch of kernel/dsp/<kind>_s8_narrow_dsp.h."""
    if kind == "fc":
        k, n = params["in_c"], params["out_c"]
        return (dsp.round4(k) if k % 4 else 0) + (4 if n % BLOCK else 0)
    runs, run = dsp._runs(params)
    torn = runs == params["kh"] and params["in_c"] // params["groups"] % 4
    tail = 8 if params["out_c"] // params["groups"] % BLOCK else 0
    return tail + 16 * len(_order(kind, params)) + (dsp.round4(run) if torn else 0)


# --- portable -----------------------------------------------------------------------------------------


def accepts(params: Params, w: Array) -> str | None:
    """None, or why kernel/c99/<kind>_s8_narrow.h does not take the layer."""
    if width(w) is None:
        return "a weight needs more than 4 bits"
    return None if len(w) // params.get("groups", 1) >= BLOCK else f"fewer than {BLOCK} output channels in a group"


def pack(params: Params, w: Array) -> Array:
    """The weights in blocks of four output channels, uint8; the last block of a group ends at its last channel."""
    bits, grid = width(w), _grid(params, w)
    n = grid.shape[1]
    starts = [min(j, n - BLOCK) for j in range(0, n, BLOCK)]
    blocks = grid[:, np.add.outer(starts, np.arange(BLOCK))] & (1 << bits) - 1  # [groups][blocks][4][taps]
    words = (blocks << bits * np.arange(BLOCK)[:, None]).sum(2)                 # [groups][blocks][taps]
    return words.astype("<u2").view(np.uint8) if bits == 4 else words.astype(np.uint8)
