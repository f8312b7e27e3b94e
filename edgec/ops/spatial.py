"""The geometry that convolutions and pools share: ONNX attributes -> window, padding, output size; row-band calls."""
from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ..errors import UnsupportedError
from ..ir import Node
from ..loops import Bin, Const, For, Ref, Stmt, Var, add, mul


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


def in_order(start, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """start + a[:, 0] b[:, 0] + a[:, 1] b[:, 1] + ..., each product and each sum rounded: how float kernels sum, bit for
    bit. start: [n] or a number; a: [m][k], b: [n][k], float32 -> [m][n]."""
    total = np.empty((len(a), len(b)), np.float32)
    total[:] = start
    for k in range(a.shape[1]):
        total += a[:, k, None] * b[None, :, k]
    return total


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


def each_row(out_h: int, body) -> list[Stmt]:
    """body(oy expression) for each output row; no loop around a single row."""
    if out_h == 1:
        return list(body(Const(0)))
    return [For("oy", Const(0), Const(out_h), tuple(body(Var("oy"))))]


# --- rows: how one output row is made from input rows, whatever holds them ---------------------


@dataclass(frozen=True)
class Reads:
    """Which rows of an input tensor output row t needs: t*stride - pad + {0 .. kernel-1} * dilation, inside 0 .. height-1.

    row: elements of one row."""

    tensor: str
    kernel: int
    stride: int
    dilation: int
    pad: int
    height: int
    row: int

    def window(self, t: int) -> tuple[int, int]:
        """The first and the last row that exist among those of output row t."""
        first = t * self.stride - self.pad
        return max(first, 0), min(first + self.dilation * (self.kernel - 1), self.height - 1)

    def rows(self, t: int) -> list[int]:
        """The rows that exist among those of output row t: with a dilation not all of its window."""
        first = t * self.stride - self.pad
        return [r for r in range(first, first + self.dilation * self.kernel, self.dilation) if 0 <= r < self.height]

    @property
    def one_to_one(self) -> bool:
        return (self.kernel, self.stride, self.pad) == (1, 1, 0)


@dataclass(frozen=True)
class RowShape:
    """An operator as a producer of rows. reads: its run-time inputs. height, row: rows of the output and elements of one.

    inplace: the row may be written over that of any one-to-one input. reduces: it eats its input row by row (`height` of
    them) and its output, `row` elements, is there after the last."""

    reads: tuple[Reads, ...]
    height: int
    row: int
    inplace: bool = False
    reduces: bool = False


@dataclass(frozen=True)
class At:
    """Where the rows of a tensor lie: whole in a buffer (ring 0), or in a ring of that many rows; from element `base`."""

    buffer: str
    ring: int = 0
    base: int = 0

    def ref(self, row, elements: int) -> Ref:
        """The address of a row."""
        if self.ring == 1:
            return Ref(self.buffer, Const(self.base))
        return Ref(self.buffer, add(mul(Bin("%", row, Const(self.ring)) if self.ring else row, elements), self.base))


def _lead(shape: RowShape, images: int, rows: int) -> int:
    """How many elements the output must begin before the input so that no row is written over one that is still to be
    read, by the same call or a later one. As for `whole`."""
    (r,), starts = shape.reads, [min(t, shape.height - rows) for t in range(0, shape.height, rows)]
    written = [(b * shape.height + t + rows) * shape.row for b in range(images) for t in starts]
    read = [(b * r.height + min(r.window(t)[0], r.height)) * r.row for b in range(images) for t in starts]
    needed = list(accumulate(reversed(read), min))[::-1]
    return max(max(w - n for w, n in zip(written, needed, strict=True)), 0)


def whole(ctx, shape: RowShape, emit, images: int, output: str, rows: int = 1) -> list[Stmt]:
    """The loop over all rows of all images, tensors being whole buffers. rows (<= height): those that a call of emit makes;
    the last ones may be made twice."""
    if len(shape.reads) == 1:
        ctx.trailing(output, shape.reads[0].tensor, _lead(shape, images, rows))

    def at(tensor: str, size: int, image: int) -> At:
        return At(ctx.buffer(tensor), 0, image * size)

    def first(tick):
        oy = mul(tick, rows)
        return Bin("min", oy, Const(shape.height - rows)) if shape.height % rows else oy

    return [
        s
        for image in range(images)
        for s in each_row(
            -(-shape.height // rows),
            lambda tick, image=image: emit(
                first(tick),
                tuple(at(r.tensor, r.height * r.row, image) for r in shape.reads),
                at(output, shape.height * shape.row, image),
            ),
        )
    ]
