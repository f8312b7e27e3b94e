"""Which kernel computes a layer: the best one that the board's ISA has and that accepts the layer's weights."""
from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from . import dsp


class Packed(NamedTuple):
    """kernel: its name in runtime_c/kernel. weights: its constant arguments in order. scratch: bytes of
    working memory, None where the kernel takes none."""

    kernel: str
    weights: tuple[tuple[str, np.ndarray], ...]
    scratch: int | None


def integer_kernel(kind: str, isa: tuple[str, ...], params: Mapping[str, int], w: np.ndarray, bias: np.ndarray, mult: np.ndarray) -> Packed:
    """kind: conv, dwconv or fc. w: int8 [OC][KH][KW][C/group]; bias: int32 [OC]; mult: int32 [OC] or [1]."""
    oc = w.shape[0]
    mult = np.ascontiguousarray(np.broadcast_to(mult, (oc,)))
    shaped = w if kind == "conv" else w[..., 0] if kind == "dwconv" else w.reshape(oc, -1)
    if "dsp" in isa:
        accepts, pack, scratch = (getattr(dsp, f"{kind}_{part}") for part in ("accepts", "pack", "scratch"))
        extra = (mult,) if kind == "dwconv" else ()  # a depthwise layer's limits depend on its multipliers too
        if accepts(params, shaped, bias, *extra) is None:
            return Packed(f"{kind}_s8_dsp", (("weights", pack(params, shaped, bias, mult)),), scratch(params))
    plain = shaped.transpose(1, 2, 0) if kind == "dwconv" else shaped
    return Packed(f"{kind}_s8", (("weights", plain), ("bias", bias), ("mult", mult)), None)
