"""Weights of the kernels of runtime_c/kernel/thumb/*_s8_pair.h: two output channels to a word, so that one multiplication
serves both (runtime_c/simd/*/ec_pair.h).

A word w0 + 65536 * w1 times an input x is x*w0 + 65536 * x*w1; sums of such products hold the two sums in their halves as
long as both fit 16 bits. So the taps come in groups whose sums are bounded by their weights, and as every tap carries the
place of its input, any taps may share a group: large weights go with small ones."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Array = np.ndarray
BLOCK = 4  # output channels that share a pass over the taps
FULL = 255  # the weights of a group whose sums fit 16 bits: 255 * 128 < 2^15
SIZES = (4, 3, 2, 1)  # pairs of taps in a group, best first: a group costs ten instructions besides its taps


def _blocks(w: Array) -> Array:
    """[blocks][4][taps]"""
    return np.pad(w.astype(np.int64), ((0, -len(w) % BLOCK), (0, 0))).reshape(-1, BLOCK, w.shape[1])


def choose(w: Array) -> tuple[int, Array] | None:
    """(pairs in a group, groups) for w int8 [OC][taps]: the largest groups whose sums fit 16 bits. groups: int32
    [blocks][groups][taps of a group], numbers of taps, -1 for none. None where no group of two taps fits.

    The groups come from a greedy balance: heaviest taps first, each to the group where the sums grow least in the fourth
    power, as that keeps the largest sums low."""
    if w.shape[1] > 65536:
        return None
    blocks = _blocks(w)
    total, some = np.abs(blocks).sum(2).max(1), blocks.any(1).sum(1)
    for pairs in SIZES:
        if (total > FULL * np.maximum(-(-some // (2 * pairs)), 1)).any():
            continue  # not even if all groups weighed the same
        groups = balanced(w, pairs)
        if _fits(blocks, groups):
            return pairs, groups
    return None


def balanced(w: Array, pairs: int) -> Array:
    """The groups of `choose` for a given size; their sums need not fit. Taps without weight are left out."""
    a, size = np.abs(_blocks(w)).swapaxes(1, 2), 2 * pairs
    blocks = len(a)
    some = a.any(2).sum(1)
    capacity = np.maximum(-(-some // size), 1)
    m = int(capacity.max())
    order = np.argsort(-(a.astype(np.float64) ** 2).sum(2), 1, kind="stable")
    load, height, count = np.zeros((blocks, m, BLOCK)), np.zeros((blocks, m)), np.zeros((blocks, m), int)
    groups, rows = np.full((blocks, m, size), -1, np.int32), np.arange(blocks)
    closed = np.arange(m) >= capacity[:, None]
    for k in range(int(some.max(initial=0))):
        tap = order[:, k]
        grown = load + a[rows, tap][:, None]
        square = grown * grown
        higher = (square * square).sum(2)
        cost = higher - height + 1e12 * (grown.max(2) > FULL)
        cost[closed] = np.inf
        at = cost.argmin(1)
        real = rows[k < some]
        to = at[real]
        load[real, to], height[real, to] = grown[real, to], higher[real, to]
        groups[real, to, count[real, to]] = tap[real]
        count[real, to] += 1
        closed[real, to] = count[real, to] == size
    return groups


def _fits(w: Array, groups: Array) -> bool:
    """Whether the sums of every group are int16 whatever the int8 inputs. w: [blocks][4][taps]."""
    taps = np.pad(w, ((0, 0), (0, 0), (0, 1)))  # tap -1 is none
    g = taps[np.arange(len(w))[:, None, None], :, groups]  # [blocks][groups][taps of a group][4]
    most = np.where(g > 0, 127 * g, -128 * g).sum(2)
    least = np.where(g > 0, -128 * g, 127 * g).sum(2)
    return bool(most.max(initial=0) < 2**15 and least.min(initial=0) >= -2**15)


def stream(w: Array, bias: Array, mult: Array, pairs: int, groups: Array) -> Array:
    """uint32, as runtime_c/simd/thumb_on_host/ec_pair.h reads it. w: int8 [OC][taps]; bias, mult: int32 [OC]."""
    b, m = (_blocks(v[:, None])[..., 0] for v in (bias, mult))
    w = np.pad(_blocks(w), ((0, 0), (0, 0), (0, 1)))  # tap -1 is none
    out: list[Array] = []
    for k, of in enumerate(groups):
        used = of[(of >= 0).any(1)] if (of >= 0).any() else of[:1]
        taps = used.reshape(-1, pairs, 2)
        words = w[k, 0::2][:, taps] + (w[k, 1::2][:, taps] << 16)  # [channels / 2][groups][pairs][tap of the pair]
        at = np.maximum(taps, 0)
        at = at[..., 0] | at[..., 1] << 16
        five = np.stack([words[0, ..., 0], words[1, ..., 0], at, words[0, ..., 1], words[1, ..., 1]], -1)
        five[:, 0, :3] = five[:, 0, [2, 0, 1]]
        out += [np.array([five.size]), b[k], five.reshape(-1), m[k]]
    return (np.concatenate(out) & 0xFFFFFFFF).astype(np.uint32)


def scratch(kind: str, params: Mapping[str, int]) -> int | None:
    """Bytes of scratch: None where the kernel takes none."""
    if kind == "fc":
        return None
    taps = params["kh"] * params["kw"]
    return 0 if taps == 1 else taps * params["in_c"]
