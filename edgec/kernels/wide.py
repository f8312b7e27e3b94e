"""Layers with int16 input, output or both and weights of 8 bits or fewer: kernels conv_*, fc_* and dwconv_* of
runtime_c/kernel/c99/*_wide.h, the same for all cores over runtime_c/ec_wide.h.

w: int8 [oc][kh][kw][ic / groups]; bias: int64 [oc], the input zero point folded in; params: as of conv_s8, dwconv_s8, fc_s8.
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from . import narrow
from .dsp import BLOCK, Array, round4

Params = Mapping[str, int]
Weights = tuple[tuple[str, Array], ...]
SUFFIX = {("int8", "int16"): "s8_s16", ("int16", "int8"): "s16_s8", ("int16", "int16"): "s16"}  # input, output


def accepts(types: tuple[str, str], w: Array, bias: Array, pre: int) -> str | None:
    """None, or why no kernel computes the layer exactly. types: of input and output; pre: left shift of the sums."""
    if types not in SUFFIX or w.dtype != np.int8:
        return "neither input nor output is int16, or weights are wider than 8 bits"
    if np.abs(bias).max(initial=0) >= 2**31:
        return "a bias exceeds 32 bits"
    return None if int(bound(types[0], w, bias).max(initial=0)) << pre < 2**32 else "a sum exceeds 32 bits and a sign"


def bound(x_type: str, w: Array, bias: Array) -> Array:
    """The largest magnitude of each channel's sums, whatever the inputs."""
    largest = 128 if x_type == "int8" else 32768
    return np.abs(w.reshape(len(w), -1).astype(np.int64)).sum(1) * largest + np.abs(bias.astype(np.int64))


def packed(kind: str, params: Params, types: tuple[str, str], w: Array, bias: Array, mult: Array,
           pre: int, zero: int) -> tuple[str, Weights, int | None, Params]:
    """(kernel, its constants, bytes of scratch, its parameters) for a layer that `accepts` has nothing against. zero: zero
    point of the input."""
    most = int(bound(types[0], w, bias).max(initial=0)) << pre
    mult = np.broadcast_to(mult, bias.shape).astype(np.int32)
    params = dict(params) | {"pre": pre, "x16": int(types[0] == "int16"), "y16": int(types[1] == "int16")}
    if kind == "dwconv":
        if params["mult"] == 1 and most < 2**31:
            del params["mult"]
            params["zero"] = zero
            constants = (
                ("weights", w[..., 0].transpose(1, 2, 0).astype(np.int16)),
                ("bias", bias.astype(np.int32)),
                ("mult", mult),
            )
            return f"dwconv_{SUFFIX[types]}", constants, None, params
        kind, channels = "conv", params["in_c"]
        params = {k: v for k, v in params.items() if k != "mult"} | {"out_c": len(w), "groups": channels}
    bits = 4 if narrow.width(w) is not None and 16 * most < 2**31 else 8
    groups, k = params.get("groups", 1), params["in_c"]
    pairs = (w[0].size + 1) // 2
    scratch = 8 * pairs if kind == "conv" else 4 * pairs if types[0] == "int8" or k % 2 else 4
    constants = (("weights", _blocks(w, groups, bits)), ("bias", _four(bias, groups)), ("mult", _four(mult, groups)))
    return f"{kind}_{SUFFIX[types]}", constants, scratch, params | {"bits": bits, "wide": int(most >= 2**31)}


def _four(values: Array, groups: int) -> Array:
    """[groups][channels in whole fours], flat int32."""
    each = values.astype(np.int32).reshape(groups, -1)
    return np.pad(each, ((0, 0), (0, -each.shape[1] % BLOCK))).reshape(-1)


def _blocks(w: Array, groups: int, bits: int) -> Array:
    """The weights as runtime_c/ec_wide.h takes them, int8: [groups][blocks of four channels][pairs of taps][bits]."""
    grid = w.reshape(groups, len(w) // groups, -1).astype(np.int64)
    n, k = grid.shape[1:]
    full = np.zeros((groups, round4(n), k + k % 2), np.int64)
    full[:, :n, :k] = grid
    four = full.reshape(groups, -1, 2, 2, (k + 1) // 2, 2).transpose(0, 1, 4, 2, 5, 3)  # ..., pair, half, tap, channel of two
    if bits == 4:
        joined = four[..., 0] << 4 | four[..., 1] & 15                    # ..., pair, half, tap
        return joined.swapaxes(-1, -2).astype(np.int8).reshape(-1)
    return four.astype(np.int8).reshape(-1)
