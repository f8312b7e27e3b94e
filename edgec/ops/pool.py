"""MaxPool and AveragePool, float32 and int8, channels last. Global pools become these in passes/normalise.py."""
from __future__ import annotations

import numpy as np

from ..errors import UnsupportedError
from ..fixed import bounds, multiplier
from ..ir import Graph, Node
from ..loops import Bin, Call, Const, For, If, Let, Load, Ref, Rows, Set, Stmt, Store, Var, add, cast, mul
from .base import Lowering, Op
from .conv import requant_expr
from .spatial import Reads, RowShape, Window, patches, whole, window

MOST_WIDE = 512  # int16 values whose sum, shifted by PRE, stays within 32 bits and a sign
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
        taken = patches(image if q is None else image.astype(np.float64) - int(q.zero_point), win, 0)
        taken = taken.reshape(*taken.shape[:2], -1, taken.shape[-1])
        total = taken.sum(2) if q else np.cumsum(taken, 2)[:, :, -1] + np.float32(0)  # floats one after the other
        if node.attrs.get("count_include_pad"):
            count = np.full(total.shape[:2], win.kernel[0] * win.kernel[1])
        else:
            count = patches(np.ones((*win.in_size, 1)), win, 0).sum((2, 3, 4)).astype(int)
        if q is None:
            y = total / count[..., None].astype(np.float32)
            out.append((np.clip(y, *node.attrs["clip"]) if "clip" in node.attrs else y).astype(np.float32))
        else:
            out.append(_integer_mean(node, win, total.astype(np.int64), count, q, out_types[0]))
    return [np.stack(out)]


def _integer_mean(node, win, total, count, xq, y_t):
    """Integers [...][C] of sums int64 [...][C] over `count` [...] elements each, zero points taken off."""
    t, (lo, hi) = _average_table(win, xq, y_t.q), bounds(y_t.q, node.attrs.get("clip"), y_t.dtype)
    wide = (total << (PRE + t.pre)) * t.m.astype(np.int64)[count][..., None]
    return np.clip(((wide >> 32) + t.offset(int(y_t.q.zero_point))) >> t.f, lo, hi).astype(y_t.dtype)


def mean_of(graph: Graph, node: Node, value, inside):
    """int64 [cases][C]: the output of an AveragePool whose window holds inside[case] elements, all of them value [C]."""
    x_t, y_t, win = graph.type(node.inputs[0]), graph.type(node.outputs[0]), _checked(graph, node)
    total = inside[:, None] * (value - int(x_t.q.zero_point))
    count = np.full_like(inside, win.kernel[0] * win.kernel[1]) if node.attrs.get("count_include_pad") else inside
    return _integer_mean(node, win, total, count, x_t.q, y_t).astype(np.int64)


def _average_table(win, xq, yq):
    """Multipliers by the number of elements in the window; entry 0 is that of the whole window."""
    counts = np.arange(win.kernel[0] * win.kernel[1] + 1)
    counts[0] = counts[-1]
    return multiplier(np.float64(xq.scale) / np.float64(yq.scale) / counts / 2**PRE)


def _checked(graph: Graph, node: Node) -> Window:
    x = graph.type(node.inputs[0])
    if any(node.outputs[1:]):
        raise UnsupportedError("MaxPool with an Indices output", where=", ".join(node.origin), fix="use the pooled values alone")
    return window(node, x.shape[1:-1])


def _rows_shape(win: Window, tensor: str, c: int) -> RowShape:
    reads = Reads(tensor, win.kernel[0], win.strides[0], win.dilations[0], win.pads[0], win.in_size[0], win.in_size[1] * c)
    return RowShape((reads,), win.out_size[0], win.out_size[1] * c)


def row_shape(graph: Graph, node: Node) -> RowShape | None:
    x_t, win = graph.type(node.inputs[0]), _checked(graph, node)
    if x_t.shape[0] != 1 or _wide(graph, node):
        return None
    if node.op == "AveragePool" and _is_global(win):
        reads = Reads(node.inputs[0], 1, 1, 1, 0, win.in_size[0], win.in_size[1] * x_t.shape[-1])
        return RowShape((reads,), win.in_size[0], x_t.shape[-1], reduces=True)
    return _rows_shape(win, node.inputs[0], x_t.shape[-1])


def _is_global(win: Window) -> bool:
    return win.kernel == win.in_size and win.out_size == (1, 1) and not any(win.pads) and win.in_size[0] > 1


def lower(ctx: Lowering, node: Node) -> list[Stmt]:
    x_t, win = ctx.type(node.inputs[0]), _checked(ctx.graph, node)
    if _wide(ctx.graph, node):
        return _nest(ctx, node, win)
    emit = _emit_max(ctx, node, win) if node.op == "MaxPool" else _emit_average(ctx, node, win)
    return whole(ctx, _rows_shape(win, node.inputs[0], x_t.shape[-1]), emit, x_t.shape[0], node.outputs[0])


def _wide(graph: Graph, node: Node) -> bool:
    return any(graph.type(t).dtype == "int16" for t in (node.inputs[0], node.outputs[0]))


def _nest(ctx: Lowering, node: Node, win: Window) -> list[Stmt]:
    """Pools with int16 on either side, as loops; elements outside the picture are left out."""
    x_t, y_t = ctx.type(node.inputs[0]), ctx.type(node.outputs[0])
    (h, width), (oh, ow), (kh, kw), c = win.in_size, win.out_size, win.kernel, x_t.shape[-1]
    x, y, largest = ctx.buffer(node.inputs[0]), ctx.buffer(node.outputs[0]), node.op == "MaxPool"
    names = ("b", "oy", "ox", "o", "ky", "kx", "iy", "ix", "acc", "count")
    b, oy, ox, o, ky, kx, iy, ix, acc, count = (Var(v) for v in names)
    value = cast(Load(x, add(mul(add(mul(add(mul(b, h), iy), width), ix), c), o), x_t.dtype), "int32")
    if largest:
        first, step = int(np.iinfo(x_t.dtype).min), Bin("max", acc, value)
    else:
        table = _average_table(win, x_t.q, y_t.q)
        most = kh * kw * (2 ** (8 * np.dtype(x_t.dtype).itemsize - 1) + abs(int(x_t.q.zero_point)))
        ctx.require(most << (PRE + table.pre) <= 2**32, f"an average of {kh * kw} {x_t.dtype} values")
        first, step = 0, Bin("+", acc, Bin("-", value, Const(int(x_t.q.zero_point))))
    inside = Bin("and", Bin("and", Bin("<=", Const(0), iy), Bin("<", iy, Const(h))),
                 Bin("and", Bin("<=", Const(0), ix), Bin("<", ix, Const(width))))
    taps = For("kx", Const(0), Const(kw), (
        Let("ix", "int32", add(add(mul(ox, win.strides[1]), mul(kx, win.dilations[1])), -win.pads[1])),
        If(inside, (Set("acc", step), Set("count", add(count, 1))))))
    rows = For("ky", Const(0), Const(kh), (
        Let("iy", "int32", add(add(mul(oy, win.strides[0]), mul(ky, win.dilations[0])), -win.pads[0])), taps))
    result = cast(acc, y_t.dtype)
    if not largest:
        n = Bin("min", Bin("max", count, Const(0)), Const(kh * kw))
        n = Const(0) if node.attrs.get("count_include_pad") else n
        result = requant_expr(Bin("*", cast(acc, "int64"), Const(1 << PRE, "int64")), Load(ctx.rom(table.m, "mult"), n, "int32"),
                              table, int(y_t.q.zero_point), *bounds(y_t.q, node.attrs.get("clip"), y_t.dtype), y_t.dtype)
    body: tuple[Stmt, ...] = (Let("acc", "int32", Const(first)), Let("count", "int32", Const(0)), rows,
                              Store(y, add(mul(add(mul(add(mul(b, oh), oy), ow), ox), c), o), result))
    for var, size in ((o, c), (ox, ow), (oy, oh), (b, x_t.shape[0])):
        body = (For(var.name, Const(0), Const(size), body),)
    return list(body)


def row_emit(ctx: Lowering, node: Node):
    win = _checked(ctx.graph, node)
    if node.op == "MaxPool":
        return _emit_max(ctx, node, win)
    return _emit_sum(ctx, node, win) if _is_global(win) else _emit_average(ctx, node, win)


def _emit_max(ctx: Lowering, node: Node, win: Window):
    x_t = ctx.type(node.inputs[0])
    (h, width), (_, ow), c = win.in_size, win.out_size, x_t.shape[-1]
    ctx.require(x_t.dtype in ("float32", "int8"), f"element type {x_t.dtype}")
    low, kernel = {"float32": (np.float32(-np.inf), "maxpool_f32"), "int8": (np.int8(-128), "maxpool_s8")}[x_t.dtype]
    far = any((o - 1) * s + d * (k - 1) + 1 > size for size, o, s, d, k in
              zip(win.in_size, win.out_size, win.strides, win.dilations, win.kernel, strict=True))
    pad = ctx.rom(np.full(width * c, low), "pad") if any(win.pads) or far else ""
    params = {"in_w": width, "in_c": c, "out_w": ow, "kh": win.kernel[0], "kw": win.kernel[1], "stride_w": win.strides[1],
              "dilation_w": win.dilations[1], "pad_left": win.pads[1]}
    row = node.with_(
        attrs={
            "pads": (0, win.pads[1], 0, win.pads[3]),
            "strides": (1, win.strides[1]),
            "dilations": (1, win.dilations[1]),
            "kernel_shape": win.kernel,
            "auto_pad": "NOTSET",
        }
    )

    def meaning(args, read, write):
        rows = np.asarray(read(args[0])).reshape(1, win.kernel[0], width, c)
        write(args[2], _reference(row, [rows], [x_t], [x_t])[0].reshape(-1))

    def emit(oy, sources, target):
        (x,) = sources
        rows = Rows(
            x.buffer,
            add(mul(oy, win.strides[0]), -win.pads[0]),
            win.kernel[0],
            win.dilations[0],
            h,
            width * c,
            pad,
            x.base,
            x.ring,
        )
        return [Call(kernel, params, (rows, Ref(pad or x.buffer), target.ref(oy, ow * c)), (target.buffer,), meaning)]

    return emit


def _emit_average(ctx: Lowering, node: Node, win: Window):
    x_t, y_t = ctx.type(node.inputs[0]), ctx.type(node.outputs[0])
    (h, width), (_, ow), c = win.in_size, win.out_size, x_t.shape[-1]
    ctx.require(win.dilations == (1, 1), "dilations in AveragePool")
    include = bool(node.attrs.get("count_include_pad")) or not any(win.pads)
    ctx.require(
        not (bool(node.attrs.get("count_include_pad")) and node.attrs.get("ceil_mode")), "ceil_mode with count_include_pad"
    )
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

    def emit(oy, sources, target):
        (x,) = sources
        first = add(mul(oy, win.strides[0]), -win.pads[0])
        top = Bin("max", first, Const(0)) if win.pads[0] else first
        end = Bin("min", add(first, win.kernel[0]), Const(h))
        rows = Rows(x.buffer, top, win.kernel[0], 1, h, width * c, x.buffer, x.base, x.ring)
        count = Bin("-", end, top) if any(win.pads) or node.attrs.get("ceil_mode") else Const(win.kernel[0])
        return [Call(kernel, params, (rows, count, *map(Ref, tables), target.ref(oy, ow * c)), (target.buffer,), meaning)]

    def meaning(args, read, write):
        n_rows = int(read(args[1]))
        rows = np.asarray(read(args[0]))[:n_rows].reshape(1, n_rows, width, c)
        clipped = node.with_(
            attrs={
                "pads": (0, win.pads[1], win.kernel[0] - n_rows, win.pads[3]),
                "strides": (1, win.strides[1]),
                "kernel_shape": win.kernel,
                "auto_pad": "NOTSET",
                "count_include_pad": int(include),
                "ceil_mode": 0,
            }
        )
        y_row = _reference(clipped, [rows], [x_t], [y_t])[0]
        write(args[-1], y_row[:, :, :ow].reshape(-1))

    return emit


def _emit_sum(ctx: Lowering, node: Node, win: Window):
    """A global average row by row: running sums per channel, the mean after the last row. Same bits as the kernels."""
    x_t, y_t = ctx.type(node.inputs[0]), ctx.type(node.outputs[0])
    (h, width), c = win.in_size, x_t.shape[-1]
    kind = "float32" if x_t.q is None else "int32"
    sums = ctx.accumulator(kind, c, "sums")
    ch, px = Var("ch"), Var("px")
    total = Load(sums, ch, kind)
    clip = node.attrs.get("clip")
    if x_t.q is None:
        start: Const = Const(0.0, kind)
        mean = Bin("/", total, Const(float(h * width), kind))
        if clip:
            mean = Bin("min", Bin("max", mean, Const(float(np.float32(clip[0])), kind)), Const(float(np.float32(clip[1])), kind))
    else:
        t = _average_table(win, x_t.q, y_t.q)
        ctx.require(h * width < 2**15, "a pool over more than 32767 elements")
        start = Const(-int(x_t.q.zero_point) * h * width)
        mean = requant_expr(Bin("*", total, Const(2**PRE)), Const(int(t.m[0])), t, int(y_t.q.zero_point), *bounds(y_t.q, clip))

    def meaning(args, read, write):
        pixels = np.asarray(read(args[0]))[:width * c].reshape(width, c)
        write(args[2], (np.asarray(read(args[1]))[:c] + pixels.astype(np.int32).sum(0, dtype=np.int32)).astype(np.int32))

    def emit(oy, sources, target):
        (x,) = sources
        row = x.ref(oy, width * c)
        value = cast(Load(row.buffer, add(row.index, add(mul(px, c), ch)), x_t.dtype), kind)
        if x_t.q is None:  # float sums keep the order of the pixels
            added: Stmt = For(
                "px", Const(0), Const(width), (For("ch", Const(0), Const(c), (Store(sums, ch, Bin("+", total, value)),)),)
            )
        else:
            added = Call("rowsum_s8", {"in_w": width, "in_c": c}, (row, Ref(sums), Ref(sums)), (sums,), meaning)
        return [If(Bin("==", oy, Const(0)), (For("ch", Const(0), Const(c), (Store(sums, ch, start),)),)),
                added,
                If(Bin("==", oy, Const(h - 1)), (For("ch", Const(0), Const(c), (Store(target.buffer, ch, mean),)),))]

    return emit


_WINDOW = {"auto_pad": "NOTSET", "ceil_mode": 0, "kernel_shape": None, "pads": None, "strides": None, "dilations": None}
OPS = (
    Op(
        "MaxPool",
        lower,
        _WINDOW | {"storage_order": 0},
        None,
        _reference,
        "move",
        ("float32", "int8", "uint8"),
        (row_shape, row_emit),
    ),
    Op(
        "AveragePool",
        lower,
        _WINDOW | {"count_include_pad": 0},
        None,
        _reference,
        "integer",
        ("float32", "int8", "uint8"),
        (row_shape, row_emit),
    ),
)
