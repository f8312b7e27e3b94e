"""Conv: float32 and int8, dense, grouped and depthwise, as row-band kernels.

After layout: x [N][H][W][C], w [OC][KH][KW][C/group], b [OC] or absent. Attribute `clip` (lo, hi) is a fused activation,
`top_scale` the largest output scale that the layer had before channels were removed: it decides the multipliers' shift.
"""
from __future__ import annotations

import numpy as np

from ..fixed import Multiplier, bounds, multiplier, requant
from ..ir import Graph, Node
from ..kernels import c99, dsp, wide
from ..kernels.choice import Offer, Packed, conv_offer, integer_kernel, plane_kernel, plane_offer, winograd_kernel
from ..kernels.dwplane import Plane, cut, in_place
from ..loops import Bin, Call, Const, Fn, For, If, Let, Load, Ref, Rows, Set, Stmt, Store, Var, add, cast, mul
from .base import Array, Lowering, Op
from .spatial import Reads, RowShape, Window, in_order, patches, whole, window


def _window(node: Node, x_shape, w_shape) -> Window:
    return window(node, tuple(x_shape[1:-1]), tuple(w_shape[1:-1]))


def integer_parts(w: Array, bias: Array | None, xq, wq, yq, top: float | None = None) -> tuple[Array, Multiplier]:
    """bias int32 [OC] with the input zero point folded in, and the output multipliers [OC].

    w: int8 [OC][...]; bias: int32 or None. top: the node's attribute `top_scale`."""
    oc = w.shape[0]
    zx = int(xq.zero_point)
    total = np.zeros(oc, np.int64) if bias is None else bias.astype(np.int64).reshape(-1)
    folded = total - zx * w.reshape(oc, -1).astype(np.int64).sum(1)
    scale = np.float64(xq.scale) * np.broadcast_to(wq.scale.astype(np.float64).reshape(-1), (oc,)) / np.float64(yq.scale)
    return folded, multiplier(scale, top)


def accumulator_bound(w: Array, folded_bias: Array, largest: int = 128) -> int:
    """max |acc| over all int8 inputs, per layer: sum |w| * largest + |bias|."""
    oc = w.shape[0]
    return int((np.abs(w.reshape(oc, -1).astype(np.int64)).sum(1) * largest + np.abs(folded_bias)).max())


def reference(node, inputs, in_types, out_types):
    x, w = inputs[0], inputs[1]
    bias = inputs[2] if len(inputs) > 2 else None
    win = _window(node, x.shape, w.shape)
    group, oc, cg = int(node.attrs.get("group", 1)), w.shape[0], w.shape[3]
    q = in_types[0].q
    images = []
    for image in x:
        p = patches(image, win, 0 if q is None else int(q.zero_point))
        oh, ow = p.shape[:2]
        outs = []
        for g in range(group):
            a = p[..., g * cg:(g + 1) * cg].reshape(oh * ow, -1)
            b = w[g * (oc // group):(g + 1) * (oc // group)].reshape(oc // group, -1)
            if q is None:
                part = slice(g * (oc // group), (g + 1) * (oc // group))
                outs.append(in_order(0 if bias is None else bias.reshape(-1)[part], a, b))
            else:  # float64 holds int8 x int8 sums exactly
                outs.append(a.astype(np.float64) @ b.astype(np.float64).T)
        images.append(np.concatenate(outs, 1).reshape(oh, ow, oc))
    acc = np.stack(images)
    clip = node.attrs.get("clip")
    if q is None:
        return [acc if clip is None else np.clip(acc, *clip).astype(np.float32)]
    folded, mul_ = integer_parts(w, bias, q, in_types[1].q, out_types[0].q, node.attrs.get("top_scale"))
    yq, dtype = out_types[0].q, out_types[0].dtype
    return [requant(acc.astype(np.int64) + folded, mul_, int(yq.zero_point), *bounds(yq, clip, dtype), dtype)]


def row_shape(graph: Graph, node: Node) -> RowShape | None:
    x_t, w_t = graph.type(node.inputs[0]), graph.type(node.inputs[1])
    if x_t.shape[0] != 1 or (x_t.q is not None and not fits_kernels(graph, node)):
        return None
    return _shape(_window(node, x_t.shape, w_t.shape), node, x_t.shape[-1], w_t.shape[0])


def _shape(win: Window, node: Node, c: int, oc: int) -> RowShape:
    reads = Reads(
        node.inputs[0], win.kernel[0], win.strides[0], win.dilations[0], win.pads[0], win.in_size[0], win.in_size[1] * c
    )
    return RowShape((reads,), win.out_size[0], win.out_size[1] * oc)


def row_emit(ctx: Lowering, node: Node):
    win = _window(node, ctx.type(node.inputs[0]).shape, ctx.type(node.inputs[1]).shape)
    return _emit(ctx, node, win, _packed(ctx, node, win))


def lower(ctx: Lowering, node: Node) -> list[Stmt]:
    x_t, w_t, y_t = ctx.type(node.inputs[0]), ctx.type(node.inputs[1]), ctx.type(node.outputs[0])
    win = _window(node, x_t.shape, w_t.shape)
    n, h, width, c = x_t.shape
    if x_t.q is not None and not fits_kernels(ctx.graph, node):
        ctx.macs(n * win.out_size[0] * win.out_size[1] * w_t.size)
        return integer_nest(ctx, node, win, n)
    if win.kernel == (1, 1) and win.strides == (1, 1) and not any(win.pads):  # a pointwise layer is one long row
        win = Window((1, 1), (1, 1), (1, 1), (0, 0, 0, 0), (1, h * width), (1, h * width))
    elif width == 1 and win.kernel[1] == 1 and win.pads[1] == win.pads[3] == 0:  # one column is the same memory as one row
        win = Window(
            win.kernel[::-1],
            win.strides[::-1],
            win.dilations[::-1],
            (0, win.pads[0], 0, win.pads[2]),
            (1, h),
            (1, win.out_size[0]),
        )
    packed = _packed(ctx, node, win, node.outputs[0] in ctx.fast, win.out_size[0])
    if packed.kernel == "conv_s8_dsp" and dsp.conv_pointwise(packed.params):
        ctx.trailing(node.outputs[0], node.inputs[0], max(0, y_t.size - x_t.size))
    if packed.kernel == "dwplane_s8_dsp":
        return _whole_planes(ctx, node, win, packed)
    return whole(ctx, _shape(win, node, c, w_t.shape[0]), _emit(ctx, node, win, packed), n, node.outputs[0], packed.rows)


def _params(node: Node, win: Window, c: int, oc: int) -> tuple[str, dict[str, int]]:
    """(conv or dwconv, the geometry of its rows)"""
    group = int(node.attrs.get("group", 1))
    kind = "dwconv" if group > 1 and group == c else "conv"
    params = {"in_w": win.in_size[1], "in_c": c, "out_w": win.out_size[1]}
    params |= {"mult": oc // c} if kind == "dwconv" else {"out_c": oc}
    params |= {
        "kh": win.kernel[0],
        "kw": win.kernel[1],
        "stride_w": win.strides[1],
        "dilation_w": win.dilations[1],
        "pad_left": win.pads[1],
    }
    return kind, params | ({} if kind == "dwconv" else {"groups": group})


def faster(graph: Graph, isa: tuple[str, ...]) -> dict[str, Offer]:
    """By output tensor: the convolutions that kernels for whole tensors could compute faster, for more flash."""
    offers = {}
    for node in graph.nodes if "dsp" in isa else ():
        if node.op != "Conv" or graph.type(node.inputs[0]).q is None or not fits_bytes(graph, node):
            continue
        x_t, w_t, y_t = graph.type(node.inputs[0]), graph.type(node.inputs[1]), graph.type(node.outputs[0])
        win = _window(node, x_t.shape, w_t.shape)
        kind, params = _params(node, win, x_t.shape[-1], w_t.shape[0])
        w, bias = _constants(graph, node)
        folded, mul_ = integer_parts(w, bias, x_t.q, w_t.q, y_t.q, node.attrs.get("top_scale"))
        offer = None
        if kind == "conv":
            offer = conv_offer(params | {"f": mul_.f}, win.out_size[0], _dense(win), w, folded)
        elif kind == "dwconv" and params["mult"] == 1:
            offer = plane_offer(_plane(win, w.shape[0]), mul_.f, w[..., 0], folded, mul_.m)
        if offer is not None:
            offers[node.outputs[0]] = offer
    return offers


def _plane(win: Window, c: int) -> Plane:
    return Plane(*win.in_size, *win.out_size, c, win.kernel, win.strides, win.dilations, win.pads[:2])


def _whole_planes(ctx: Lowering, node: Node, win: Window, packed: Packed) -> list[Stmt]:
    """One call for each image."""
    x_t, w_t, y_t = ctx.type(node.inputs[0]), ctx.type(node.inputs[1]), ctx.type(node.outputs[0])
    x, y = ctx.buffer(node.inputs[0]), ctx.buffer(node.outputs[0])
    n, *size = x_t.shape
    ctx.macs(y_t.size * w_t.size // w_t.shape[0])
    plane = _plane(win, x_t.shape[-1])
    if in_place(plane, cut(plane)):
        ctx.inplace(node.outputs[0], node.inputs[0])
    weights, scratch = ctx.rom(packed.weights[0][1], "weights"), ctx.scratch(packed.scratch, packed.kernel)
    w, bias = _constants(ctx.graph, node)

    def meaning(args, read, write):
        image = np.asarray(read(args[0]))[:x_t.size // n].reshape(1, *size)
        write(args[2], reference(node, [image, w, bias], [x_t, w_t], [y_t])[0].reshape(-1))

    return [
        Call(
            packed.kernel,
            packed.params,
            (Ref(x, Const(b * x_t.size // n)), Ref(weights), Ref(y, Const(b * y_t.size // n)), Ref(scratch)),
            (y, scratch),
            meaning,
        )
        for b in range(n)
    ]


def _packed(ctx: Lowering, node: Node, win: Window, fast: bool = False, rows: int = 1) -> Packed:
    """The kernel of the layer and what it takes. fast: the one of `faster`. rows: output rows that a call may make."""
    x_t, w_t, y_t = ctx.type(node.inputs[0]), ctx.type(node.inputs[1]), ctx.type(node.outputs[0])
    oc = w_t.shape[0]
    kind, params = _params(node, win, x_t.shape[-1], oc)
    w, bias = _constants(ctx.graph, node)
    if x_t.q is None:
        lo, hi = node.attrs.get("clip") or (-np.inf, np.inf)
        bias = np.zeros(oc, np.float32) if bias is None else bias.astype(np.float32)
        packed = c99.blocked(w, c99.CONV, params["groups"]) if kind == "conv" else w.reshape(oc, *w.shape[1:3]).transpose(1, 2, 0)
        return Packed(f"{kind}_f32", (("weights", packed), ("bias", bias)), None, params | {"flo": float(lo), "fhi": float(hi)})
    if "int16" in (x_t.dtype, y_t.dtype):
        return wide_kernel(ctx.graph, node, kind, params)
    folded, mul_ = integer_parts(w, bias, x_t.q, w_t.q, y_t.q, node.attrs.get("top_scale"))
    lo, hi = bounds(y_t.q, node.attrs.get("clip"))
    params |= {"c": mul_.offset(int(y_t.q.zero_point)), "f": mul_.f, "lo": lo, "hi": hi}
    if fast and kind == "dwconv":
        return plane_kernel(_plane(win, oc), int(x_t.q.zero_point), params, w[..., 0], folded.astype(np.int32), mul_.m)
    offer = conv_offer(params, win.out_size[0], _dense(win), w, folded) if fast else None
    if offer is not None and offer.kernel == "wino_s8_dsp":
        return winograd_kernel(params, w, folded.astype(np.int32), mul_.m)
    return integer_kernel(kind, ctx.isa, params, w, folded.astype(np.int32), mul_.m, int("conv" in ctx.unrolled), not fast,
                          win.strides[0], 0 if "stem" not in ctx.unrolled else rows if win.dilations[0] == 1 else 1)


def _dense(win: Window) -> bool:
    return win.strides == win.dilations == (1, 1)


def _constants(graph: Graph, node: Node) -> tuple[Array, Array | None]:
    """w [OC][KH][KW][C/group], bias [OC] or None"""
    w = graph.const(node.inputs[1])
    return w, graph.const(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None


def _emit(ctx: Lowering, node: Node, win: Window, packed: Packed):
    """The kernel call for packed.rows output rows."""
    x_t, w_t, y_t = ctx.type(node.inputs[0]), ctx.type(node.inputs[1]), ctx.type(node.outputs[0])
    (h, width), (oh, ow) = win.in_size, win.out_size
    c, oc, kernel, scratch = x_t.shape[-1], w_t.shape[0], packed.kernel, packed.scratch
    ctx.macs(x_t.shape[0] * oh * ow * w_t.size)
    weights = [ctx.rom(data, hint) for hint, data in packed.weights]
    count = (packed.rows - 1) * win.strides[0] + win.kernel[0]
    fill = np.float32(0) if x_t.q is None else np.dtype(x_t.dtype).type(x_t.q.zero_point)
    pad = ctx.rom(np.full(width * c, fill), "pad") if any(win.pads) or _reaches_out(win) else ""
    meaning = _meaning(node, win, *_constants(ctx.graph, node), (x_t, w_t, y_t), len(weights))
    working = ctx.scratch(scratch, kernel) if scratch else ""

    def emit(oy, sources, target):
        (source,) = sources
        first = add(mul(oy, win.strides[0]), -win.pads[0])
        rows = Rows(source.buffer, first, count, win.dilations[0], h, width * c, pad, source.base, source.ring)
        extra = [] if scratch is None else [working or target.buffer]  # a kernel that needs no bytes gets any int8 buffer
        args = (rows, Ref(pad or source.buffer), *map(Ref, weights), target.ref(oy, ow * oc), *map(Ref, extra))
        return [Call(kernel, packed.params, args, tuple(dict.fromkeys((target.buffer, *extra))), meaning)]

    return emit


def _reaches_out(win: Window) -> bool:
    """True when a window crosses the far border although no padding was asked for (ceil_mode)."""
    return any((o - 1) * s + d * (k - 1) + 1 > n for n, o, s, d, k in
               zip(win.in_size, win.out_size, win.strides, win.dilations, win.kernel, strict=True))


def fits_kernels(graph: Graph, node: Node) -> bool:
    """The kernels take int8 and int16 activations with int8 weights, accumulators and output scales within their reach;
    anything else is a loop nest."""
    return fits_bytes(graph, node) or _wide_parts(graph, node) is not None


def fits_bytes(graph: Graph, node: Node) -> bool:
    """int8 activations and weights, int32 accumulators, output scales below 1/4."""
    x_t, w_t, y_t = graph.type(node.inputs[0]), graph.type(node.inputs[1]), graph.type(node.outputs[0])
    w, bias = _constants(graph, node)
    folded, mul_ = integer_parts(w, bias, x_t.q, w_t.q, y_t.q, node.attrs.get("top_scale"))
    narrow = x_t.dtype == y_t.dtype == "int8" and w.dtype == np.int8
    return narrow and mul_.pre == 0 and accumulator_bound(w, folded) < 2**31


def _wide_parts(graph: Graph, node: Node) -> tuple[Array, Multiplier] | None:
    """Folded bias and multiplier of a layer with int16 input or output that kernels compute; None of any other."""
    x_t, w_t, y_t = graph.type(node.inputs[0]), graph.type(node.inputs[1]), graph.type(node.outputs[0])
    w, bias = _constants(graph, node)
    folded, mul_ = integer_parts(w, bias, x_t.q, w_t.q, y_t.q, node.attrs.get("top_scale"))
    return (folded, mul_) if wide.accepts((x_t.dtype, y_t.dtype), w, folded, mul_.pre) is None else None


def wide_kernel(graph: Graph, node: Node, kind: str, params: dict[str, int]) -> Packed:
    """The kernel of a layer with int16 input or output. params: its geometry, as of conv_s8, dwconv_s8 or fc_s8."""
    x_t, y_t = graph.type(node.inputs[0]), graph.type(node.outputs[0])
    folded, mul_ = _wide_parts(graph, node)
    lo, hi = bounds(y_t.q, node.attrs.get("clip"), y_t.dtype)
    params = params | {"c": mul_.offset(int(y_t.q.zero_point)), "f": mul_.f, "lo": lo, "hi": hi}
    w = graph.const(node.inputs[1])
    kernel, constants, scratch, params = wide.packed(kind, params, (x_t.dtype, y_t.dtype), w, folded, mul_.m, mul_.pre,
                                                     int(x_t.q.zero_point))
    return Packed(kernel, constants, scratch, params)


def integer_nest(ctx: Lowering, node: Node, win: Window, n: int) -> list[Stmt]:
    """The general integer convolution (or Gemm, a 1x1 window over its rows): activations and weights of any width, 64-bit
    accumulator; a tap outside the picture adds nothing."""
    x_t, w_t, y_t = ctx.type(node.inputs[0]), ctx.type(node.inputs[1]), ctx.type(node.outputs[0])
    (h, width), (oh, ow), (kh, kw) = win.in_size, win.out_size, win.kernel
    c, oc, depth = x_t.shape[-1], w_t.shape[0], w_t.size // w_t.shape[0] // kh // kw
    w = ctx.value(node.inputs[1])
    bias = ctx.value(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(oc, np.int32)
    _, mul_ = integer_parts(w, bias, x_t.q, w_t.q, y_t.q, node.attrs.get("top_scale"))
    largest = 2 ** (8 * np.dtype(x_t.dtype).itemsize - 1) + abs(int(x_t.q.zero_point))
    ctx.require(accumulator_bound(w, bias, largest) << mul_.pre < 2**32, "sums of more than 32 bits and a sign")
    x, y, weights = ctx.buffer(node.inputs[0]), ctx.buffer(node.outputs[0]), ctx.rom(w, "weights")
    biases, mult = ctx.rom(bias.astype(np.int64), "bias"), ctx.rom(np.broadcast_to(mul_.m, (oc,)).copy(), "mult")
    b, oy, ox, o, ky, kx, i, iy, ix = (Var(v) for v in ("b", "oy", "ox", "o", "ky", "kx", "i", "iy", "ix"))
    group_width = oc // int(node.attrs.get("group", 1))
    channel = add(mul(Bin("//", o, Const(group_width)), depth), i)
    at = add(mul(add(mul(add(mul(b, h), iy), width), ix), c), channel)
    tap = add(mul(add(mul(add(mul(o, kh), ky), kw), kx), depth), i)
    term = Bin("*", Bin("-", cast(Load(x, at, x_t.dtype), "int64"), Const(int(x_t.q.zero_point), "int64")),
               cast(Load(weights, tap, str(w.dtype)), "int64"))
    inside = Bin(
        "and",
        Bin("and", Bin("<=", Const(0), iy), Bin("<", iy, Const(h))),
        Bin("and", Bin("<=", Const(0), ix), Bin("<", ix, Const(width))),
    )
    taps = For("kx", Const(0), Const(kw), (
        Let("ix", "int32", add(add(mul(ox, win.strides[1]), mul(kx, win.dilations[1])), -win.pads[1])),
        If(inside, (For("i", Const(0), Const(depth), (Set("acc", Bin("+", Var("acc", "int64"), term)),)),))))
    rows = For(
        "ky",
        Const(0),
        Const(kh),
        (Let("iy", "int32", add(add(mul(oy, win.strides[0]), mul(ky, win.dilations[0])), -win.pads[0])), taps),
    )
    result = requant_expr(Var("acc", "int64"), Load(mult, o, "int32"), mul_, int(y_t.q.zero_point),
                          *bounds(y_t.q, node.attrs.get("clip"), y_t.dtype), y_t.dtype)
    body: tuple[Stmt, ...] = (Let("acc", "int64", Load(biases, o, "int64")), rows,
                              Store(y, add(mul(add(mul(add(mul(b, oh), oy), ow), ox), oc), o), result))
    for var, size in ((o, oc), (ox, ow), (oy, oh), (b, n)):
        body = (For(var.name, Const(0), Const(size), body),)
    return list(body)


def requant_expr(acc, m, mul_: Multiplier, zero_point: int, lo: int, hi: int, dtype: str = "int8"):
    """The requantisation formula as a loop-IR expression: int32 or int64 acc -> dtype."""
    wide = cast(acc, "int64")
    if mul_.pre:
        wide = Bin("*", wide, Const(1 << mul_.pre, "int64"))
    high = Bin("+", Bin(">>", Bin("*", wide, cast(m, "int64")), Const(32, "int64")), Const(mul_.offset(zero_point), "int64"))
    clamped = Bin("min", Bin("max", Bin(">>", high, Const(mul_.f, "int64")), Const(lo, "int64")), Const(hi, "int64"))
    return Fn("cast", (clamped,), dtype)


def _meaning(node, win, w, bias, types, n_weights):
    """The reference of one call, from the arguments the kernel gets."""
    x_t, w_t, y_t = types
    c = x_t.shape[-1]
    row_node = node.with_(
        attrs={
            "pads": (0, win.pads[1], 0, win.pads[3]),
            "strides": (1, win.strides[1]),
            "dilations": (1, win.dilations[1]),
            "kernel_shape": win.kernel,
            "auto_pad": "NOTSET",
        }
    )

    def meaning(args, read, write):
        rows = np.asarray(read(args[0])).reshape(1, args[0].count, -1, c)
        y = reference(row_node, [rows, w, bias], [x_t, w_t], [y_t])[0]
        write(args[2 + n_weights], y.reshape(-1))

    return meaning


OPS = (
    Op(
        "Conv",
        lower,
        {"auto_pad": "NOTSET", "dilations": None, "group": 1, "kernel_shape": None, "pads": None, "strides": None},
        None,
        reference,
        "integer",
        ("float32", "int8", "uint8"),
        (row_shape, row_emit),
    ),
)
