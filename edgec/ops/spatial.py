"""The geometry that convolutions and pools share: ONNX attributes -> window, padding, output size; row-band calls."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UnsupportedError
from ..ir import Node
from ..loops import Const, For, Rows, Stmt, Var, add, mul


@dataclass(frozen=True)
class Window:
    """A 2-D window over H x W. pads: top, left, bottom, right."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    in_size: tuple[int, int]
    out_size: tuple[int, int]


def window(node: Node, spatial: tuple[int, ...], kernel: tuple[int, ...] | None = None) -> Window:
    """The window of a Conv or pool node over `spatial` (H, W), auto_pad and ceil_mode resolved.

    Formula: ONNX operator pages, Conv and MaxPool. Raises UnsupportedError for other than two spatial axes."""
    if len(spatial) != 2:
        raise UnsupportedError(f"{node.op} over {len(spatial)} spatial axes", where=node.origin[0] if node.origin else node.op,
                               fix="1-D and 2-D are supported")
    kernel = tuple(node.attrs.get("kernel_shape", kernel))
    strides = tuple(node.attrs.get("strides") or (1,) * len(kernel))
    dilations = tuple(node.attrs.get("dilations") or (1,) * len(kernel))
    pads = list(node.attrs.get("pads") or (0,) * (2 * len(kernel)))
    auto = node.attrs.get("auto_pad", "NOTSET")
    out = []
    for k, (n, size, s, d) in enumerate(zip(spatial, kernel, strides, dilations, strict=True)):
        extent = d * (size - 1) + 1
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            o = -(-n // s)
            total = max((o - 1) * s + extent - n, 0)
            low = total // 2 if auto == "SAME_UPPER" else total - total // 2
            pads[k], pads[k + 2] = low, total - low
        elif auto == "VALID":
            pads[k] = pads[k + 2] = 0
        room = n + pads[k] + pads[k + 2] - extent
        o = room // s + 1
        if node.attrs.get("ceil_mode"):
            o = -(-room // s) + 1
            if (o - 1) * s >= n + pads[k]:  # ONNX: no window starts in the far padding
                o -= 1
        out.append(o)
    return Window(kernel, strides, dilations, tuple(pads), tuple(spatial), tuple(out))


def patches(x: np.ndarray, w: Window, fill) -> np.ndarray:
    """All windows of x [H][W][C] as [OH][OW][KH][KW][C]; `fill` outside."""
    (kh, kw), (sh, sw), (dh, dw) = w.kernel, w.strides, w.dilations
    oh, ow = w.out_size
    need_h, need_w = (oh - 1) * sh + dh * (kh - 1) + 1, (ow - 1) * sw + dw * (kw - 1) + 1
    padded = np.full((max(need_h, w.pads[0] + x.shape[0]), max(need_w, w.pads[1] + x.shape[1]), x.shape[2]), fill, x.dtype)
    padded[w.pads[0]:w.pads[0] + x.shape[0], w.pads[1]:w.pads[1] + x.shape[1]] = x
    iy = (np.arange(oh) * sh)[:, None] + (np.arange(kh) * dh)[None]
    ix = (np.arange(ow) * sw)[:, None] + (np.arange(kw) * dw)[None]
    return padded[iy[:, None, :, None], ix[None, :, None, :]]


def rows_of(buffer: str, w: Window, channels: int, oy, pad: str, image: int = 0) -> Rows:
    """The input rows of output row `oy` (an index expression) of image `image`."""
    first = add(mul(oy, w.strides[0]), -w.pads[0])
    h, width = w.in_size
    return Rows(buffer, first, w.kernel[0], w.dilations[0], h, width * channels, pad, base=image * h * width * channels)


def each_row(out_h: int, body) -> list[Stmt]:
    """body(oy expression) for each output row; no loop around a single row."""
    if out_h == 1:
        return list(body(Const(0)))
    return [For("oy", Const(0), Const(out_h), tuple(body(Var("oy"))))]
