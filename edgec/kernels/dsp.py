"""Kernels of runtime_c/kernel/dsp: what they accept, how their weights are packed, how much scratch they need.

For each kernel (conv, dwconv, fc): `<kernel>_accepts(params, w, bias)` -> None or the reason why not;
`<kernel>_pack(params, w, bias, mult)` -> the stream, uint32; `<kernel>_scratch(params)` -> bytes, aligned to 4
(0: none; the pointer is not used).

params: the fields of ec_<kernel>_s8_dsp_t. bias: int32 [out channels], input zero point folded in; mult: int32
[out channels]. w: int8, [oc][kh][kw][ic / groups] for conv, [oc][ic] for fc, [c][kh][kw] for dwconv (mult = 1).
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Array = np.ndarray
Params = Mapping[str, int]

SHIFTS = (1, 8, 15)  # SSAT wants an immediate: the kernels have an instance for each of these f
SLIDE = 1536         # bytes of scratch for the sliding window of a convolution
BLOCK = 4            # output channels that share a pass over the taps


def round4(n: int) -> int:
    return (n + 3) // 4 * 4


def pays(kind: str, params: Params) -> bool:
    """Whether the kernel is faster than the portable one. Where outputs and taps are few, spreading inputs and starting loops
    cost more than they gain; the limits are measured (tests/benchmarks/kernels_m4.py)."""
    if kind == "fc":
        return params["in_c"] >= 8 and params["in_c"] * params["out_c"] >= 32 and (params["out_c"] > 1 or params["in_c"] >= 64)
    kh, kw, out = params["kh"], params["kw"], params["out_w"]
    if kind == "conv":
        depth, width = params["in_c"] // params["groups"], params["out_c"] // params["groups"]
        if params["groups"] > 1:
            return depth * width >= 32
        taps = kh * kw * depth
        return taps >= 3 and taps * width >= 16 and (depth > 1 or width >= 8)
    if _dw_is_3x3(params):
        return True
    if kw == 1 and out < 4:  # tall
        return kh > 3
    if params["stride_w"] > 1 or params["dilation_w"] > 1:
        return kh > 1 and out > 1 and (kh * kw >= 25 if params["pad_left"] > 0 else kh * kw >= 36 and params["dilation_w"] == 1)
    if kh == 1:
        return kw > 5 and out >= 8
    return kw > 2 and (kh * kw >= 25 and out > 1 or kh * kw >= 12 and out >= 4 or out >= 16)


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


def pair_order(run: int) -> Array:
    """The taps of a run in the order of ec_widen: [pairs][2]; -1 is no tap."""
    quads = np.arange(run // 4 * 4).reshape(-1, 2, 2).transpose(0, 2, 1).reshape(-1, 2)     # (k, k + 2), (k + 1, k + 3)
    rest = np.array([[], [(0, -1)], [(0, 1)], [(0, 2), (1, -1)]][run % 4], int).reshape(-1, 2)
    return np.concatenate([quads, np.where(rest < 0, -1, rest + run // 4 * 4)])


def _mm_pack(grid: Array, run: int, bias: Array, mult: Array) -> Array:
    """The stream of simd/dsp/ec_mm.h from grid [groups][out channels][taps], whose taps come in runs: group by group
    blocks of 4 biases, the weight words, 4 multipliers."""
    groups, n, k = grid.shape
    n4, order = round4(n), pair_order(run)
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


# --- conv_s8_dsp -----------------------------------------------------------------------------------


def _runs(params: Params) -> tuple[int, int]:
    """(number of runs, taps of a run) of a pixel and group, as in kernel/dsp/conv_s8_dsp.h."""
    depth, kh, kw = params["in_c"] // params["groups"], params["kh"], params["kw"]
    joined = kw == 1 or (params["dilation_w"] == params["groups"] == 1)
    return (kh, kw * depth) if joined else (kh * kw, depth)


def _columns(params: Params) -> int:
    """Columns that the sliding window of kernel/dsp/conv_s8_dsp.h holds, 0 where the row is not computed by one."""
    kw, stride, column = params["kw"], params["stride_w"], 4 * params["kh"] * params["in_c"]
    columns = min(((params["out_w"] + 1) // 2 - 1) * stride + kw, SLIDE // column)
    halves = params["out_w"] > 16 or (params["out_w"] > 2 and params["out_w"] % 2 == 0)
    simple = params["dilation_w"] == params["groups"] == 1 and params["in_c"] % 4 == 0
    return columns if simple and halves and kw > 2 * stride and columns >= kw + stride else 0


def conv_unrolled(params: Params) -> int:
    """Tap pairs that an unrolled loop of simd/dsp/ec_mmu.h takes at a time; 0: none divides them."""
    runs, run = _runs(params)
    return _chunk(max(2, runs * ((run + 1) // 2)))


def _chunk(pairs: int) -> int:
    return pairs if pairs <= 32 or pairs == 64 else next((n for n in range(32, 15, -1) if pairs % n == 0), 0)


def conv_pointwise(params: Params) -> bool:
    """Whether kernel/dsp/conv_s8_dsp.h makes each pixel from the one in its place alone, and reads it first."""
    return (params["kh"] == params["kw"] == params["stride_w"] == params["groups"] == 1 and params["pad_left"] == 0
            and params["in_w"] >= params["out_w"] > 1)


def _eight(params: Params) -> bool:
    """Whether kernel/dsp/conv_s8_dsp.h keeps the taps of two pixels in registers."""
    return bool(conv_pointwise(params) and params["unrolled"] and params["in_c"] == 8 and params["out_c"] % BLOCK == 0
                and params["out_c"] <= 32)


def conv_accepts(params: Params, w: Array, bias: Array) -> str | None:
    """None, or why kernel/dsp/conv_s8_dsp.h cannot compute the layer exactly."""
    return _mm_accepts(params, w, bias)


def conv_pack(params: Params, w: Array, bias: Array, mult: Array) -> Array:
    """The stream of kernel/dsp/conv_s8_dsp.h, about one byte a weight, or two."""
    if _eight(params):
        pairs = w.reshape(-1, 8)[:, pair_order(8)].astype(np.int64)
        words = [bias[:, None].astype(np.int64), halves(pairs[..., 0], pairs[..., 1]), mult[:, None].astype(np.int64)]
        return (np.concatenate(words, 1) & 0xFFFFFFFF).astype(np.uint32).reshape(-1)
    if _columns(params):
        return _mm_pack(_grid(params, w.swapaxes(1, 2)), params["in_c"], bias, mult)
    return _mm_pack(_grid(params, w), _runs(params)[1], bias, mult)


def conv_scratch(params: Params) -> int:
    """Bytes of scratch of kernel/dsp/conv_s8_dsp.h: the widened taps of two pixels, or of eight where they are few,
    or a sliding window."""
    runs, run = _runs(params)
    depth, kh, kw = params["in_c"] // params["groups"], params["kh"], params["kw"]
    if _eight(params):
        return 0
    tail = 8 if params["out_c"] // params["groups"] % BLOCK else 0
    if _columns(params):
        return tail + _columns(params) * 4 * kh * depth
    if params["out_w"] == 1 and run % 4 == 0:
        in_place = runs == 1 and params["pad_left"] == 0 and kw <= params["in_w"]
        return tail + (0 if in_place else runs * run)
    pairs, torn = max(2, runs * ((run + 1) // 2)), runs == kh and depth % 4
    if conv_pointwise(params) and params["unrolled"] and params["in_c"] % 4 == params["out_c"] % 4 == 0:
        return 8 * pairs
    batch = 4 if pairs <= 16 and pairs * (params["out_c"] // params["groups"]) <= 512 else 1
    return tail + 8 * pairs * batch + (round4(run) if torn else 0)


# --- stem_s8_dsp -----------------------------------------------------------------------------------

COLUMNS = 2048       # bytes of scratch for the widened columns of a stem, if a window fits


def stem_params(params: Params, stride_h: int, rows: int) -> Params | None:
    """The fields of ec_stem_s8_dsp_t from those of ec_conv_s8_dsp_t; None where that kernel is not meant for the layer.
    rows: output rows that a call may make, at most."""
    few = params["in_c"] <= 3 and params["kw"] > 1 and params["dilation_w"] == params["groups"] == 1
    rows = min(rows, 2)
    if not few or params["out_c"] % BLOCK or (rows == 1 and params["out_w"] % 2):
        return None
    sizes = {k: params[k] for k in ("in_w", "in_c", "out_w", "out_c", "kh", "kw")}
    own = sizes | {"stride_h": stride_h} | {k: params[k] for k in ("stride_w", "pad_left")} | {"rows": rows}
    pairs = (params["kw"] * _column(own) + 1) // 2
    return own | {k: params[k] for k in ("c", "f", "lo", "hi")} | {"unrolled": _chunk(pairs)} if pairs > 1 else None


def stem_pays(params: Params) -> bool:
    """Whether stem_s8_dsp is faster than conv_s8_dsp on whole tensors: columns of colours are made from whole words; others
    take long, but two rows at a time leave no odd pixel. The limit is measured."""
    if params["kh"] == params["in_c"] == 3:
        return True
    return bool(params["out_w"] % 2 and params["kw"] * params["out_c"] > 20 * params["out_w"] * params["stride_w"])


def _column(params: Params) -> int:
    """Elements of a column, of which steps of stride_w columns are whole words."""
    n = params["kh"] * params["in_c"]
    return n + n % 2 * (params["stride_w"] % 2)


def _places(params: Params, kx: int) -> Array:
    """Where the elements [kh][in_c] of a window's column kx lie in it."""
    kh, in_c = params["kh"], params["in_c"]
    if (kh, in_c) != (3, 3):
        return np.arange(kh * in_c)
    even = np.array([[0, 6, 1], [2, 7, 3], [4, 8, 5]])
    odd = np.array([[3, 1, 4], [5, 2, 6], [7, 0, 8]])
    return (odd if _column(params) % 2 and kx % 2 else even).reshape(-1)


def stem_pack(params: Params, w: Array, bias: Array, mult: Array) -> Array:
    """The stream of kernel/dsp/stem_s8_dsp.h; w, bias, mult as for conv_pack."""
    column, kw = _column(params), params["kw"]
    taps = np.zeros((1, len(w), (kw * column + 1) // 2 * 2), np.int8)
    for kx in range(kw):
        taps[0][:, kx * column + _places(params, kx)] = w[:, :, kx].reshape(len(w), -1)
    return _mm_pack(taps, 2, bias, mult)


def stem_scratch(params: Params) -> int:
    """Bytes of scratch of kernel/dsp/stem_s8_dsp.h: the widened columns of as many pixel pairs as they may take."""
    column, kw, stride = _column(params), params["kw"], params["stride_w"]
    pixels = params["out_w"] if params["rows"] == 2 else params["out_w"] // 2
    most = max(min((COLUMNS // (4 * column) - kw) // stride + 1, pixels), 1)
    return 8 * (((most - 1) * stride + kw) * column // 2 + 1)


# --- fc_s8_dsp -------------------------------------------------------------------------------------


def fc_accepts(params: Params, w: Array, bias: Array) -> str | None:
    """None, or why kernel/dsp/fc_s8_dsp.h cannot compute the layer exactly."""
    return _mm_accepts(params, w, bias)


def fc_pack(params: Params, w: Array, bias: Array, mult: Array) -> Array:
    """The stream of kernel/dsp/fc_s8_dsp.h, one byte a weight."""
    grid = _grid(params, w)
    padded = np.pad(grid, ((0, 0), (0, 0), (0, -grid.shape[2] % 4)))
    return _mm_pack(padded, padded.shape[2], bias, mult)


def fc_scratch(params: Params) -> int:
    """Bytes of scratch of kernel/dsp/fc_s8_dsp.h: only what does not come in fours, or the widened input."""
    k, n = params["in_c"], params["out_c"]
    if params["unrolled"] == 2 and k % 64 == 0 and n % BLOCK == 0 and n >= 32:
        return 2 * k
    return (round4(k) if k % 4 else 0) + (4 if n % BLOCK else 0)


# --- dwconv_s8_dsp ---------------------------------------------------------------------------------

DW_SHIFT = 8         # of every depthwise layer: f = 1 becomes 8 with weights and biases, or the multiplier, times 128
LANES = 4            # channels that are torn apart together


def _dw_is_3x3(params: Params) -> bool:
    """Whether kernel/dsp/dwconv_s8_dsp.h computes the layer by simd/dsp/ec_dw.h."""
    return (params["kh"] == params["kw"] == 3 and params["dilation_w"] == 1 and params["stride_w"] <= 2
            and params["pad_left"] <= 1 and params["out_w"] > 1)


def dw_room(params: Params, w: Array, bias: Array) -> Array:
    """Per channel: whether its sums, brought to DW_SHIFT, fit an int32."""
    bound = np.abs(w.astype(np.int64)).reshape(len(w), -1).sum(1) * 128 + np.abs(bias.astype(np.int64))
    return bound << (DW_SHIFT - params["f"]) < 2**31


def dwconv_accepts(params: Params, w: Array, bias: Array, mult: Array | None = None) -> str | None:
    """None, or why kernel/dsp/dwconv_s8_dsp.h cannot compute the layer exactly. Without mult the answer is on the safe
    side: a channel with a tiny multiplier may have a huge bias."""
    if params["mult"] != 1:
        return "more than one output per channel"
    if params["in_c"] < LANES:
        return f"fewer than {LANES} channels"
    if params["f"] not in (1, DW_SHIFT):
        return f"requantisation shift {params['f']} is not one of {(1, DW_SHIFT)}"
    room = dw_room(params, w, bias)
    if mult is not None:
        room |= mult.astype(np.int64) << (DW_SHIFT - params["f"]) < 2**31
    return None if room.all() else f"the accumulator could exceed {31 - DW_SHIFT + params['f']} bits"


def halves(a: Array, b: Array) -> Array:
    """Words with a in the low and b in the high half."""
    return a & 0xFFFF | (b & 0xFFFF) << 16


def dwconv_pack(params: Params, w: Array, bias: Array, mult: Array) -> Array:
    """The stream of kernel/dsp/dwconv_s8_dsp.h: 28 bytes a channel for 3x3, else about two bytes a weight."""
    n, kh, kw = params["in_c"], params["kh"], params["kw"]
    up = np.where(dw_room(params, w, bias), DW_SHIFT - params["f"], 0)  # what is not in the sums is in the multiplier
    channels = np.arange(round4(n))
    channels[-LANES:] = np.arange(n - LANES, n)                         # the last four may overlap the ones before
    taps = (w.reshape(n, kh, kw).astype(np.int64) << up[:, None, None])[channels]
    b = (bias.astype(np.int64) << up)[channels, None]
    m = (mult.astype(np.int64) << (DW_SHIFT - params["f"] - up))[channels, None]
    if _dw_is_3x3(params):
        words = [halves(taps[:, 0], taps[:, 1]), halves(taps[:, 2, :2], taps[:, 2, 1:]), b, m]
        return (np.concatenate(words, 1) & 0xFFFFFFFF).astype(np.uint32).reshape(-1)
    even = taps[:, :kh // 2 * 2]
    words = [b, m, halves(even[:, 0::2], even[:, 1::2]).reshape(len(channels), -1)]
    if kh % 2:
        last = np.pad(taps[:, -1], ((0, 0), (0, kw % 2)))
        words.append(halves(last[:, 0::2], last[:, 1::2]))
    words = np.concatenate(words, 1).reshape(-1, LANES, 2 + kh // 2 * kw + kh % 2 * ((kw + 1) // 2)).swapaxes(1, 2)
    return (words & 0xFFFFFFFF).astype(np.uint32).reshape(-1)


def dwconv_scratch(params: Params) -> int:
    """Bytes of scratch of kernel/dsp/dwconv_s8_dsp.h: the columns of four channels, torn apart."""
    if _dw_is_3x3(params):
        return (((params["out_w"] - 1) * params["stride_w"] + 4) // 2) * 48
    few = params["out_w"] < 4
    if few and params["kw"] == 1 and params["kh"] <= 32:
        return 0
    columns = (max(params["out_w"], 4) - 1) * params["stride_w"] + (params["kw"] - 1) * params["dilation_w"] + 1
    return columns * ((params["kh"] + 1) // 2) * 4 * LANES + (4 * LANES if few else 0)
