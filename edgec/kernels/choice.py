"""Which kernel computes a layer: the best one that the board's ISA has and that accepts the layer's weights."""
from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from . import dsp, dwplane, mve, narrow, pair, wino
from .cost import cycles

Params = Mapping[str, int]

class Packed(NamedTuple):
    """kernel: its name in runtime_c/kernel. weights: its constant arguments in order. scratch: bytes of
    working memory, None where the kernel takes none. params: its parameters. rows: output rows that a call makes."""

    kernel: str
    weights: tuple[tuple[str, np.ndarray], ...]
    scratch: int | None
    params: Params
    rows: int = 1


def integer_kernel(kind: str, isa: tuple[str, ...], params: Params, w: np.ndarray, bias: np.ndarray,
                   mult: np.ndarray, unrolled: int = 0, packed: bool = True, stride_h: int = 1, rows: int = 0) -> Packed:
    """kind: conv, dwconv or fc. w: int8 [OC][KH][KW][C/group]; bias: int32 [OC]; mult: int32 [OC] or [1]. unrolled: code
    for the layer's number of taps, where the kernel has that (fc: 2: with scratch). packed: weights whose values fit 4 or
    2 bits take no more.
    rows: output rows that a call of stem_s8_dsp may make, stride_h input rows apart; 0: not that kernel."""
    oc = w.shape[0]
    mult = np.ascontiguousarray(np.broadcast_to(mult, (oc,)))
    shaped = w if kind == "conv" else w[..., 0] if kind == "dwconv" else w.reshape(oc, -1)
    if "mve" in isa and (found := mve.packed(kind, params, shaped, bias, mult)):
        return Packed(f"{kind}_s8_mve", *found)
    packed = packed and kind != "dwconv" and narrow.width(w) is not None
    if packed and "dsp" in isa and narrow.dsp_accepts(kind, params, shaped, bias) is None:
        weights = (("weights", narrow.dsp_pack(kind, params, shaped, bias, mult)),)
        return Packed(f"{kind}_s8_narrow_dsp", weights, narrow.dsp_scratch(kind, params), params | {"bits": narrow.width(w)})
    if "dsp" in isa:
        accepts, pack, scratch = (getattr(dsp, f"{kind}_{part}") for part in ("accepts", "pack", "scratch"))
        extra = (mult,) if kind == "dwconv" else ()  # a depthwise layer's limits depend on its multipliers too
        if dsp.pays(kind, params) and accepts(params, shaped, bias, *extra) is None:
            if (
                unrolled
                and rows
                and kind == "conv"
                and dsp.stem_pays(params)
                and (own := dsp.stem_params(params, stride_h, rows))
            ):
                stream = dsp.stem_pack(own, shaped, bias, mult)
                return Packed("stem_s8_dsp", (("weights", stream),), dsp.stem_scratch(own), own, own["rows"])
            own = params | ({} if kind == "dwconv" else {"unrolled": int(unrolled)})
            own |= {"unrolled": dsp.conv_unrolled(params)} if unrolled and kind == "conv" else {}
            return Packed(f"{kind}_s8_dsp", (("weights", pack(own, shaped, bias, mult)),), scratch(own), own)
    single = kind != "dwconv" and params.get("groups", 1) == 1
    own = {k: v for k, v in params.items() if k != "groups"}
    if "pair" in isa and single and (chosen := pair.choose(w.reshape(oc, -1))) is not None:
        weights = (("weights", pair.stream(w.reshape(oc, -1), bias, mult, *chosen)),)
        return Packed(f"{kind}_s8_pair", weights, pair.scratch(kind, params), own | {"pairs": chosen[0]})
    if packed and narrow.accepts(params, shaped) is None:
        weights = (("weights", narrow.pack(params, shaped)), ("bias", bias), ("mult", mult))
        return Packed(f"{kind}_s8_narrow", weights, None, params | {"bits": narrow.width(w)})
    plain = shaped.transpose(1, 2, 0) if kind == "dwconv" else shaped
    weights = (("weights", plain), ("bias", bias), ("mult", mult))
    if "thumb" in isa and single and oc >= 4:
        return Packed(f"{kind}_s8_quad", weights, pair.scratch(kind, params), own)
    return Packed(f"{kind}_s8", weights, None, params)


class Offer(NamedTuple):
    """What a faster kernel for whole tensors would bring. kernel: its name; saves: cycles of a run; flash: bytes more
    than the weights of integer_kernel, and code where the kernel is unrolled for the layer."""

    kernel: str
    saves: float
    flash: int


def conv_offer(params: Params, out_h: int, dense: bool, w: np.ndarray, bias: np.ndarray) -> Offer | None:
    """Of a convolution: what saves most of wino_s8_dsp and, for weights that are packed else, bytes. None where nothing is
    faster. params: of conv_s8_dsp; dense: neither strides nor dilation."""
    taps, oc, out_w, groups = w[0].size, params["out_c"], params["out_w"], params["groups"]
    direct, size = cycles("conv_s8_dsp", groups * out_h * -(-out_w // 2), taps, oc // groups), w.size
    now, found = direct, []
    if narrow.dsp_accepts("conv", params, w, bias) is None:
        now, size = cycles("conv_s8_narrow_dsp", groups * out_h * -(-out_w // 2), taps, oc // groups), narrow.nbytes(w)
        if dsp.conv_accepts(params, w, bias) is None and dsp.pays("conv", params):
            found.append(Offer("conv_s8_dsp", now - direct, w.size - size))
    if dense and wino.accepts(params, w, bias) is None and out_h >= wino.rows(params):
        band = wino.rows(params)
        tiles = -(-out_h // band) * -(-out_w // (8 if band == 2 else 4))
        found.append(Offer("wino_s8_dsp", now - cycles("wino_s8_dsp", tiles, taps, oc), 48 * w.size // 9 - size))
    best = max(found, key=lambda o: o.saves, default=None)
    return best if best is not None and best.saves > 0 else None


def winograd_kernel(params: Params, w: np.ndarray, bias: np.ndarray, mult: np.ndarray) -> Packed:
    """For a layer that conv_offer has an offer of it for; arguments as for integer_kernel."""
    mult = np.ascontiguousarray(np.broadcast_to(mult, bias.shape))
    own = {k: params[k] for k in ("in_w", "in_c", "out_w", "out_c", "pad_left")} | {"rows": wino.rows(params)}
    own |= {k: params[k] for k in ("c", "f", "lo", "hi")}
    weights = (("weights", wino.pack(params, w, bias, mult)),)
    return Packed("wino_s8_dsp", weights, wino.scratch(params), own, wino.rows(params))


def plane_offer(plane: dwplane.Plane, f: int, w: np.ndarray, bias: np.ndarray, mult: np.ndarray) -> Offer | None:
    """Of a depthwise convolution; None where dwplane_s8_dsp cannot compute it or is no faster. w: int8 [C][3][3]"""
    cut = dwplane.cut(plane)
    if cut is None or dwplane.accepts(f, w, bias, np.broadcast_to(mult, bias.shape)) is not None:
        return None
    row = f"dwconv_s8_dsp/{plane.strides[1]}"
    saves = cycles(row, plane.out_h * -(-plane.c // 4), 9, plane.out_w) - cut.cycles
    return Offer("dwplane_s8_dsp", saves, dwplane.code(cut, plane.strides[1])) if saves > 0 else None


def plane_kernel(plane: dwplane.Plane, zero_point: int, params: Params, w: np.ndarray, bias: np.ndarray,
                 mult: np.ndarray) -> Packed:
    """For a layer that plane_offer has an offer for. zero_point: of the input; params: c, f, lo, hi; w: int8 [C][3][3]"""
    cut, mult = dwplane.cut(plane), np.broadcast_to(mult, bias.shape)
    own = dwplane.params(plane, cut, params, zero_point)
    weights = (("weights", dwplane.pack(cut, params["f"], w, bias, mult)),)
    return Packed("dwplane_s8_dsp", weights, cut.scratch, own, plane.out_h)


def affordable(offers: Mapping[str, Offer], room: int) -> frozenset[str]:
    """The layers whose offers are taken: those that save most for their bytes first, while flash lasts."""
    taken = set()
    for layer, offer in sorted(offers.items(), key=lambda o: -o[1].saves / max(o[1].flash, 1)):
        if offer.flash <= room:
            taken.add(layer)
            room -= offer.flash
    return frozenset(taken)
