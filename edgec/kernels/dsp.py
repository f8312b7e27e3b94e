"""Kernels of runtime_c/kernel/dsp: what they accept, how their weights are packed, how much scratch they need.

For each kernel: `<kernel>_accepts(params, w, bias)` -> None or the reason why not; `<kernel>_pack(params, w, bias, mult)`
-> the stream, uint32; `<kernel>_scratch(params)` -> bytes, aligned to 4 (0: none; the pointer is not used).

params: the fields of ec_<kernel>_t. bias: int32 [out channels], input zero point folded in; mult: int32 [out channels].
w: int8, [oc][kh][kw][ic / groups] for conv_s8, [oc][ic] for fc_s8, [c][kh][kw] for dwconv_s8 (mult = 1).
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Array = np.ndarray
Params = Mapping[str, int]

SHIFTS = (1, 8, 15)  # SSAT wants an immediate: the kernels have an instance for each of these f
BLOCK = 4            # output channels that share a pass over the taps


def _round4(n: int) -> int:
    return (n + 3) // 4 * 4


def _grid(params: Params, w: Array) -> Array:
    """w as [groups][out channels of a group][taps]."""
    return w.reshape(params.get("groups", 1), -1, w[0].size)


def _mm_accepts(params: Params, w: Array, bias: Array) -> str | None:
    """Whether simd/dsp/ec_mm.h computes this layer exactly.

    A halfword 256 * odd + even must be an int16, and the sum of an odd channel an int24, or it is lost in 256 * sum."""
    if params["f"] not in SHIFTS:
        return f"requantisation shift {params['f']} is not one of {SHIFTS}"
    grid = _grid(params, w).astype(np.int32)
    even, odd = grid[:, 0::2], grid[:, 1::2]
    if (256 * odd + even[:, :odd.shape[1]] < -2**15).any():
        return "a weight of an odd output channel is -128"
    b = bias.reshape(grid.shape[:2])[:, 1::2].astype(np.int64)
    top = b + np.where(odd > 0, 127 * odd, -128 * odd).sum(-1, dtype=np.int64)
    low = b - np.where(odd > 0, 128 * odd, -127 * odd).sum(-1, dtype=np.int64)
    if odd.size and (top.max() >= 2**23 or low.min() < -2**23):
        return "the accumulator of an odd output channel could exceed 24 bits"
    return None


def _pair_order(run: int) -> Array:
    """The taps of a run in the order of ec_widen: [pairs][2]; -1 is no tap."""
    quads = np.arange(run // 4 * 4).reshape(-1, 2, 2).transpose(0, 2, 1).reshape(-1, 2)     # (k, k + 2), (k + 1, k + 3)
    rest = np.array([[], [(0, -1)], [(0, 1)], [(0, 2), (1, -1)]][run % 4], int).reshape(-1, 2)
    return np.concatenate([quads, np.where(rest < 0, -1, rest + run // 4 * 4)])


def _mm_pack(grid: Array, run: int, bias: Array, mult: Array) -> Array:
    """The stream of simd/dsp/ec_mm.h from grid [groups][out channels][taps], whose taps come in runs: group by group
    blocks of 4 biases, the weight words, 4 multipliers."""
    groups, n, k = grid.shape
    n4, order = _round4(n), _pair_order(run)
    order = np.where(order < 0, k, order + run * np.arange(k // run)[:, None, None]).reshape(-1, 2)
    if len(order) < 2:
        order = np.concatenate([order, [[k, k]]])
    taps = np.zeros((groups, n4, k + 1), np.int32)                      # tap k is none
    taps[:, :n, :k] = grid
    b, m = np.zeros((2, groups, n4), np.int64)
    b[:, :n], m[:, :n] = bias.reshape(groups, n), mult.reshape(groups, n)
    b[:, 1::2] = 256 * b[:, 1::2] + b[:, 0::2]
    half = ((256 * taps[:, 1::2] + taps[:, 0::2]) & 0xFFFF).astype(np.uint32)
    words = half[..., order[:, 0]] | half[..., order[:, 1]] << 16       # [groups][n4 / 2][pairs]
    words = words.reshape(groups, n4 // 4, 2, -1).swapaxes(2, 3).reshape(groups, n4 // 4, -1)
    block = [(a & 0xFFFFFFFF).astype(np.uint32).reshape(groups, -1, BLOCK) for a in (b, m)]
    return np.concatenate([block[0], words, block[1]], -1).reshape(-1)


# --- conv_s8 -----------------------------------------------------------------------------------


def _runs(params: Params) -> tuple[int, int]:
    """(number of runs, taps of a run) of a pixel and group, as in kernel/dsp/conv_s8.h."""
    depth, kh, kw = params["in_c"] // params["groups"], params["kh"], params["kw"]
    joined = kw == 1 or (params["dilation_w"] == params["groups"] == 1)
    return (kh, kw * depth) if joined else (kh * kw, depth)


def conv_accepts(params: Params, w: Array, bias: Array) -> str | None:
    """None, or why kernel/dsp/conv_s8.h cannot compute the layer exactly."""
    return _mm_accepts(params, w, bias)


def conv_pack(params: Params, w: Array, bias: Array, mult: Array) -> Array:
    """The stream of kernel/dsp/conv_s8.h, about one byte a weight."""
    return _mm_pack(_grid(params, w), _runs(params)[1], bias, mult)


def conv_scratch(params: Params) -> int:
    """Bytes of scratch of kernel/dsp/conv_s8.h: the widened taps of two pixels, or of eight where they are few."""
    runs, run = _runs(params)
    depth, kh, kw = params["in_c"] // params["groups"], params["kh"], params["kw"]
    tail = 8 if params["out_c"] // params["groups"] % BLOCK else 0
    if params["out_w"] == 1 and run % 4 == 0:
        in_place = runs == 1 and params["pad_left"] == 0 and kw <= params["in_w"]
        return tail + (0 if in_place else runs * run)
    pairs, torn = max(2, runs * ((run + 1) // 2)), runs == kh and depth % 4
    batch = 4 if pairs <= 16 and pairs * (params["out_c"] // params["groups"]) <= 512 else 1
    return tail + 8 * pairs * batch + (_round4(run) if torn else 0)


# --- fc_s8 -------------------------------------------------------------------------------------


def fc_accepts(params: Params, w: Array, bias: Array) -> str | None:
    """None, or why kernel/dsp/fc_s8.h cannot compute the layer exactly."""
    return _mm_accepts(params, w, bias)


def fc_pack(params: Params, w: Array, bias: Array, mult: Array) -> Array:
    """The stream of kernel/dsp/fc_s8.h, one byte a weight."""
    grid = _grid(params, w)
    padded = np.pad(grid, ((0, 0), (0, 0), (0, -grid.shape[2] % 4)))
    return _mm_pack(padded, padded.shape[2], bias, mult)


def fc_scratch(params: Params) -> int:
    """Bytes of scratch of kernel/dsp/fc_s8.h: only what does not come in fours."""
    k, n = params["in_c"], params["out_c"]
    return (_round4(k) if k % 4 else 0) + (4 if n % BLOCK else 0)
