"""Weights of the kernels of runtime_c/kernel/c99 that take them in blocks of output channels."""
from __future__ import annotations

import numpy as np

CONV, FC = 4, 8  # output channels that share a pass over the inputs, in conv_f32 and fc_f32


def blocked(w: np.ndarray, block: int, groups: int = 1) -> np.ndarray:
    """For every group [channels / block][taps][block], then [channels % block][taps], flat. w: [OC][...], group by group."""
    parts = []
    for g in w.reshape(groups, len(w) // groups, -1):
        whole = len(g) // block * block
        parts += [g[:whole].reshape(-1, block, g.shape[1]).swapaxes(1, 2).reshape(-1), g[whole:].reshape(-1)]
    return np.concatenate(parts)
