"""MaxPool and AveragePool, float32 and int8, channels last. Global pools become these in passes/normalise.py."""
from __future__ import annotations

import numpy as np

from ..errors import UnsupportedError
from ..fixed import bounds, multiplier
from ..ir import Node
from ..loops import Bin, Call, Const, Ref, Rows, Stmt, add, mul
from .base import Lowering, Op
from .spatial import each_row, patches, rows_of, window

PRE = 8  # the sum is shifted left by 8 bits before requantisation, so that a 1x1 window (scale 1) has a multiplier


def _reference(node, inputs, in_types, out_types):
    x, q = inputs[0], in_types[0].q
    win = window(node, x.shape[1:-1])
    out = []
    for image in x:
        if node.op == "MaxPool":
            low = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
            out.append(patches(image, win, low).max((2, 3)))
            continue
        total = patches(image.astype(np.float64) - (int(q.zero_point) if q else 0), win, 0).sum((2, 3))
        if node.attrs.get("count_include_pad"):
            count = np.full(total.shape[:2], win.kernel[0] * win.kernel[1])
        else:
            count = patches(np.ones((*win.in_size, 1)), win, 0).sum((2, 3, 4)).astype(int)
        if q is None:
            y = total / count[..., None]
            out.append((np.clip(y, *node.attrs["clip"]) if "clip" in node.attrs else y).astype(np.float32))
        else:
            t = _average_table(win, q, out_types[0].q)
            lo, hi = bounds(out_types[0].q, node.attrs.get("clip"))
            wide = (total.astype(np.int64) << PRE) * t.m.astype(np.int64)[count][..., None]
            out.append(np.clip(((wide >> 32) + t.offset(int(out_types[0].q.zero_point))) >> t.f, lo, hi).astype(np.int8))
    return [np.stack(out)]


def _average_table(win, xq, yq):
    """Multipliers by the number of elements in the window; entry 0 is that of the whole window."""
    counts = np.arange(win.kernel[0] * win.kernel[1] + 1)
    counts[0] = counts[-1]
    return multiplier(np.float64(xq.scale) / np.float64(yq.scale) / counts / 2**PRE)


def _shape(ctx: Lowering, node: Node):
    x = ctx.type(node.inputs[0])
    if len(node.outputs) > 1 and node.outputs[1]:
        raise UnsupportedError("MaxPool with an Indices output", where=node.origin[0], fix="use the pooled values alone")
    return x, window(node, x.shape[1:-1])


def lower_max(ctx: Lowering, node: Node) -> list[Stmt]:
    x_t, win = _shape(ctx, node)
    n, _, width, c = x_t.shape
    oh, ow = win.out_size
    low, kernel = {"float32": (np.float32(-np.inf), "maxpool_f32"), "int8": (np.int8(-128), "maxpool_s8")}[x_t.dtype]
    far = any((o - 1) * s + d * (k - 1) + 1 > size for size, o, s, d, k in
              zip(win.in_size, win.out_size, win.strides, win.dilations, win.kernel, strict=True))
    pad = ctx.rom(np.full(width * c, low), "pad") if any(win.pads) or far else ""
    params = {"in_w": width, "in_c": c, "out_w": ow, "kh": win.kernel[0], "kw": win.kernel[1], "stride_w": win.strides[1],
              "dilation_w": win.dilations[1], "pad_left": win.pads[1]}
    x, y = ctx.buffer(node.inputs[0]), ctx.buffer(node.outputs[0])
    row = node.with_(attrs={"pads": (0, win.pads[1], 0, win.pads[3]), "strides": (1, win.strides[1]), "dilations": (1, win.dilations[1]),
                            "kernel_shape": win.kernel, "auto_pad": "NOTSET"})

    def meaning(args, read, write):
        rows = np.asarray(read(args[0])).reshape(1, win.kernel[0], width, c)
        write(args[2], _reference(row, [rows], [x_t], [x_t])[0].reshape(-1))

    def call(oy, image):
        args = (rows_of(x, win, c, oy, pad, image), Ref(pad or x), Ref(y, add(mul(oy, ow * c), image * oh * ow * c)))
        return [Call(kernel, params, args, (y,), meaning)]

    return [s for image in range(n) for s in each_row(oh, lambda oy, image=image: call(oy, image))]


def lower_average(ctx: Lowering, node: Node) -> list[Stmt]:
    x_t, win = _shape(ctx, node)
    y_t = ctx.type(node.outputs[0])
    n, h, width, c = x_t.shape
    oh, ow = win.out_size
    ctx.require(win.dilations == (1, 1), "dilations in AveragePool")
    include = bool(node.attrs.get("count_include_pad")) or not any(win.pads)
    ctx.require(not (bool(node.attrs.get("count_include_pad")) and node.attrs.get("ceil_mode")), "ceil_mode with count_include_pad")
    params = {"in_w": width, "in_c": c, "out_w": ow, "kh": win.kernel[0], "kw": win.kernel[1], "stride_w": win.strides[1],
              "pad_left": win.pads[1], "include_pad": int(include)}
    if x_t.q is None:
        lo, hi = node.attrs.get("clip") or (-np.inf, np.inf)
        kernel, tables, params = "avgpool_f32", [], params | {"flo": float(lo), "fhi": float(hi)}
    else:
        t = _average_table(win, x_t.q, y_t.q)
        ctx.require(win.kernel[0] * win.kernel[1] < 2**15, "a pool over more than 32767 elements")
        lo, hi = bounds(y_t.q, node.attrs.get("clip"))
        params |= {"in_zp": int(x_t.q.zero_point), "c": t.offset(int(y_t.q.zero_point)), "f": t.f, "lo": lo, "hi": hi}
        kernel, tables = "avgpool_s8", [ctx.rom(t.m[:1] if include else t.m, "mult")]
    x, y = ctx.buffer(node.inputs[0]), ctx.buffer(node.outputs[0])

    def call(oy, image):
        first = add(mul(oy, win.strides[0]), -win.pads[0])
        top = Bin("max", first, Const(0)) if win.pads[0] else first
        end = Bin("min", add(first, win.kernel[0]), Const(h))
        rows = Rows(x, top, win.kernel[0], 1, h, width * c, x, base=image * h * width * c)
        count = Bin("-", end, top) if any(win.pads) or node.attrs.get("ceil_mode") else Const(win.kernel[0])
        args = (rows, count, *map(Ref, tables), Ref(y, add(mul(oy, ow * c), image * oh * ow * c)))
        return [Call(kernel, params, args, (y,), meaning)]

    def meaning(args, read, write):
        n_rows = int(read(args[1]))
        rows = np.asarray(read(args[0]))[:n_rows].reshape(1, n_rows, width, c)
        clipped = node.with_(attrs={"pads": (0, win.pads[1], win.kernel[0] - n_rows, win.pads[3]), "strides": (1, win.strides[1]),
                                    "kernel_shape": win.kernel, "auto_pad": "NOTSET", "count_include_pad": int(include), "ceil_mode": 0})
        y_row = _reference(clipped, [rows], [x_t], [y_t])[0]
        write(args[-1], y_row[:, :, :ow].reshape(-1))

    return [s for image in range(n) for s in each_row(oh, lambda oy, image=image: call(oy, image))]


_WINDOW = {"auto_pad": "NOTSET", "ceil_mode": 0, "kernel_shape": None, "pads": None, "strides": None, "dilations": None}
OPS = (
    Op("MaxPool", lower_max, _WINDOW | {"storage_order": 0}, None, _reference, "move", ("float32", "int8", "uint8")),
    Op("AveragePool", lower_average, _WINDOW | {"count_include_pad": 0}, None, _reference, "integer", ("float32", "int8", "uint8")),
)
