"""Weights rounded for what they are multiplied by, and biases that take up the mean error: layer by layer, on samples.

Rounding to nearest is best for the weights and not for the layer's output. Here each output channel's integers minimise
the mean square difference between the float layer on float inputs, x, and the quantised layer on the inputs that it
will really see, z: E[(w.x - v.z)^2] = v'Hv - 2 v'Gw + const, H = cov(z, z), G = cov(z, x), by coordinate descent
over the two neighbours of every weight (the problem of AdaRound, Nagel et al., 2020, without gradients). A ridge
towards the float weights, the larger the fewer rows there are per weight, keeps few samples from being learned by
heart. What is left of the mean goes into the bias (empirical bias correction), less what the mean's own uncertainty is
(the positive part of James and Stein's estimate). Layers are done in order, so that each
sees the ones before it as they will be.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..ir import Graph, Node
from ..rewrite import rewrite_nodes
from .plan import Plan
from .scales import Scales, bias_of

Array = np.ndarray
ROWS = 20_000             # of patches per layer: more change nothing
ELEMENTS = 24_000_000     # of patches that are held at a time
RIDGE = 0.02              # of H's mean diagonal, besides the weights' number over the rows'
SWEEPS = 4


def with_biases(graph: Graph) -> Graph:
    """Every Conv with constant weights has a bias, zero where it had none: a correction needs a place."""
    def rule(r, node: Node):
        if node.op != "Conv" or len(node.inputs) > 2 and node.inputs[2] or r.value(node.inputs[1]) is None:
            return None
        zero = np.zeros(r.value(node.inputs[1]).shape[0], np.float32)
        return [node.with_(inputs=(*node.inputs[:2], r.const(node.outputs[0] + "/bias", zero)))]
    return rewrite_nodes(graph, rule)


def refinable(graph: Graph, plan: Plan) -> list[list[Node]]:
    """The layers that can be refined: Conv, and Gemm with weights [outputs][inputs]; nodes with the same weights and
    bias, as the steps of a recurrent layer, are one layer."""
    layers: dict[tuple, list[Node]] = {}
    for n in plan.linear(graph):
        if graph.const(n.inputs[1]) is not None and (
                n.op == "Conv" and len(graph.type(n.inputs[0]).shape) == 4
                or n.op == "Gemm" and n.attrs.get("transB", 0) and len(graph.type(n.inputs[0]).shape) == 2):
            layers.setdefault((n.op, n.attrs.get("strides"), graph.type(n.inputs[0]).shape, *n.inputs[1:]), []).append(n)
    return list(layers.values())


def refine_layer(graph: Graph, plan: Plan, scales: Scales, nodes: list[Node], x: list[Array], z: list[Array], *,
                 rounding: bool, bias: bool) -> Scales:
    """The scales with the integers and the bias of a layer, which are the same for all its nodes. x, z: its inputs in
    the float and in the quantised network, samples first."""
    node = nodes[0]
    w, q = graph.const(node.inputs[1]).astype(np.float64), scales.weights[node]
    group = int(node.attrs.get("group", 1))
    (px, sample), (pz, _) = _all_patches(graph, node, x), _all_patches(graph, node, z)    # [group][rows][taps]
    mx, mz = px.mean(1, dtype=np.float64), pz.mean(1, dtype=np.float64)    # [group][taps]
    by_group = w.reshape(group, w.shape[0] // group, -1)
    step = np.broadcast_to(q.scale.astype(np.float64).reshape(-1), (w.shape[0],)).reshape(group, -1, 1)
    highest = 2 ** (plan.weight_bits.get(node, 8) - 1) - 1
    whole = np.clip(np.rint(by_group / step), -highest, highest)
    if node in scales.values:
        whole = scales.values[node].astype(np.float64).reshape(by_group.shape)
    if rounding:
        zc = pz - mz[:, None].astype(np.float32) if bias else pz
        xc = px - mx[:, None].astype(np.float32) if bias else px
        n = px.shape[1]
        h = np.matmul(zc.swapaxes(1, 2), zc).astype(np.float64) / n
        g = np.matmul(zc.swapaxes(1, 2), xc).astype(np.float64) / n
        whole = np.stack([_descend(by_group[k], whole[k], step[k], h[k], g[k], highest,
                                   RIDGE + h.shape[-1] / n) for k in range(group)])
        scales = replace(scales, values={**scales.values, **dict.fromkeys(nodes, whole.reshape(w.shape).astype(np.int8))})
    name = bias_of(graph, plan, node)
    if bias and name is not None:
        given = np.broadcast_to(graph.const(name).astype(np.float64).reshape(-1), (w.shape[0],))
        want = np.matmul(px, by_group.swapaxes(1, 2).astype(np.float32))
        missing = want - np.matmul(pz, (whole * step).swapaxes(1, 2).astype(np.float32))
        change = _certain_mean(missing.swapaxes(0, 1).reshape(len(sample), -1), sample)
        scales = replace(scales, biases={**scales.biases, **dict.fromkeys(nodes, given + change)})
    return scales


def _certain_mean(rows: Array, sample: Array) -> Array:
    """The mean of each column, shrunk by its uncertainty: rows of one sample are not independent, samples are."""
    starts = np.flatnonzero(np.diff(sample, prepend=-1))
    means = np.add.reduceat(rows, starts, axis=0, dtype=np.float64) / np.diff(starts, append=len(rows))[:, None]
    mean, n = means.mean(0), len(means)
    uncertain = means.var(0) / max(n - 1, 1)
    return mean * np.clip(1 - uncertain / np.maximum(mean**2, 1e-30), 0, 1)


def _descend(w: Array, whole: Array, step: Array, h: Array, g: Array, highest: int, ridge: float) -> Array:
    """Integers [outputs][taps] next to w / step, by sweeps over the taps, all outputs at once."""
    low, high = (np.clip(f(w / step), -highest, highest) for f in (np.floor, np.ceil))
    ridge = ridge * float(np.mean(np.diag(h)))
    if ridge == 0.0:
        return whole
    hr = h + ridge * np.eye(len(h))
    best = whole.copy()
    slope = (best * step) @ hr - w @ (g.T + ridge * np.eye(len(h)))
    for _ in range(SWEEPS):
        moved = 0
        for i in range(len(h)):
            to = np.clip(np.rint(best[:, i] - slope[:, i] / (step[:, 0] * hr[i, i])), low[:, i], high[:, i])
            change = to - best[:, i]
            if change.any():
                rows = np.flatnonzero(change)
                slope[rows] += (change[rows] * step[rows, 0])[:, None] * hr[i]
                best[rows, i] = to[rows]
                moved += len(rows)
        if not moved:
            break
    return best


def _all_patches(graph: Graph, node: Node, inputs: list[Array]) -> tuple[Array, Array]:
    """`_patches` of all inputs, the rows of a sample together."""
    rows, samples = zip(*(_patches(graph, node, x) for x in inputs), strict=True)
    if len(inputs) == 1:
        return rows[0], samples[0]
    sample = np.concatenate(samples)
    order = np.argsort(sample, kind="stable")
    return np.concatenate(rows, axis=1)[:, order], sample[order]


def _patches(graph: Graph, node: Node, x: Array) -> tuple[Array, Array]:
    """What each output element is computed from: float32 [group][rows][taps], taps in the order of the weights, and the
    sample of each row; a fixed choice of rows where there are more than ROWS."""
    if node.op == "Gemm":
        flat = x.reshape(1, -1, x.shape[-1]).astype(np.float32)
        return flat, np.repeat(np.arange(len(x)), flat.shape[1] // len(x))
    w = graph.const(node.inputs[1])
    x = x.reshape(-1, *graph.type(node.inputs[0]).shape[1:])
    group, (kh, kw) = int(node.attrs.get("group", 1)), w.shape[2:]
    top, left, bottom, right = node.attrs.get("pads", (0, 0, 0, 0))
    (sy, sx), (dy, dx) = (tuple(node.attrs.get(k, (1, 1))) for k in ("strides", "dilations"))
    oh, ow = graph.type(node.outputs[0]).shape[2:]
    rows = min(ROWS, ELEMENTS // (x.shape[1] * kh * kw))
    total = len(x) * oh * ow
    at = np.arange(total) if total <= rows else np.sort(np.random.default_rng(0).choice(total, rows, replace=False))
    n, oy, ox = np.unravel_index(at, (len(x), oh, ow))
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    taps = np.empty((x.shape[1], kh, kw, len(at)), np.float32)
    for ky in range(kh):
        for kx in range(kw):
            taps[:, ky, kx] = padded[n, :, oy * sy + ky * dy, ox * sx + kx * dx].T
    return np.ascontiguousarray(taps.reshape(group, -1, len(at)).swapaxes(1, 2)), n
