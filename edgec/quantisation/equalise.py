"""Cross-layer equalisation: channels that one scale has to serve are brought to similar sizes (Nagel et al., 2019).

Behind a convolution and through what is positively homogeneous (Relu, pools), channel c may be divided by s[c] if the
next layer's weights for c are multiplied by it: the float network computes the same. s[c] = (r[c] / max r)^a, r the
channel's largest magnitude over the samples. The exponent a, between nothing and everything, is the one with the least
predicted noise at the next layer: of rounding the activations to one step, weighted by the weights that they meet, and
of rounding those weights, weighted by the activations' power.
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..ir import Graph, Node
from ..rewrite import Rewriter
from .statistics import Profile, Stats

EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
LEAST = 2.0**-10          # of a channel's factor: beyond this the channel is as good as empty
PASSES = ("Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")


def equalise(graph: Graph, profile: Profile, most: float = 1.0) -> tuple[Graph, int]:
    """The same network with equalised channels, and between how many pairs of layers. profile: of its tensors.

    most: the largest exponent to try; below 1 a channel keeps room for values larger than the samples showed."""
    r, uses, count = Rewriter(graph), graph.consumers(), 0
    nodes = {n.outputs[0]: n for n in graph.nodes}
    for first in graph.nodes:
        second = _next_layer(graph, uses, first)
        if second is None or second.inputs[0] not in profile.tensors:
            continue
        factor = _factors(_by_channel(r.value(nodes[second.outputs[0]].inputs[1]), second, graph),
                          profile.tensors[second.inputs[0]], most)
        if np.ptp(factor) == 0:
            continue
        count += 1
        nodes[first.outputs[0]] = _scaled_outputs(r, nodes[first.outputs[0]], 1 / factor)
        nodes[second.outputs[0]] = _scaled_inputs(r, nodes[second.outputs[0]], factor, graph)
    r.nodes = [nodes[n.outputs[0]] for n in graph.nodes]
    return r.done(), count


def _next_layer(graph: Graph, uses: Mapping[str, list[Node]], first: Node) -> Node | None:
    """The layer that alone reads what `first` makes, through operators that a factor per channel passes."""
    if not _is_layer(graph, first):
        return None
    name = first.outputs[0]
    channels = graph.type(name).shape[1] if len(graph.type(name).shape) > 1 else 0
    while True:
        following = uses.get(name, [])
        if name in graph.outputs or len(following) != 1:
            return None
        node = following[0]
        if node.inputs[0] != name or name in node.inputs[1:]:
            return None
        if _is_layer(graph, node):
            return node if _input_channels(graph, node) == channels else None
        shape = graph.type(node.outputs[0]).shape
        squeezed = node.op in ("Reshape", "Flatten", "Squeeze") and graph.type(name).size == channels == shape[-1]
        if node.op not in PASSES and not (squeezed and len(shape) == 2):
            return None
        name = node.outputs[0]


def _is_layer(graph: Graph, node: Node) -> bool:
    a = node.attrs
    if node.op == "Gemm" and not (a.get("transB", 0) and a.get("alpha", 1.0) == a.get("beta", 1.0) == 1.0):
        return False
    return node.op in ("Conv", "Gemm") and all(graph.const(i) is not None for i in node.inputs[1:] if i)


def _input_channels(graph: Graph, node: Node) -> int:
    return graph.const(node.inputs[1]).shape[1] * int(node.attrs.get("group", 1))


def _by_channel(w: np.ndarray, node: Node, graph: Graph) -> np.ndarray:
    """Weights as [outputs, input channels, taps]; zero where an output does not read a channel."""
    group, channels = int(node.attrs.get("group", 1)), _input_channels(graph, node)
    per, outs = channels // group, w.shape[0] // group
    full = np.zeros((w.shape[0], channels, int(np.prod(w.shape[2:]))))
    for g in range(group):
        full[g * outs:(g + 1) * outs, g * per:(g + 1) * per] = w[g * outs:(g + 1) * outs].reshape(outs, per, -1)
    return full


def _factors(w: np.ndarray, s: Stats, most: float) -> np.ndarray:
    """s[c] with the least predicted noise; ones where nothing helps."""
    largest = np.asarray(s.channels, np.float64)
    power = s.power
    if largest.max() == 0:
        return np.ones(len(largest))
    ratio = np.maximum(largest / largest.max(), LEAST)
    ratio = np.where(largest == 0, 1.0, ratio)

    def predicted(f: np.ndarray) -> float:
        scaled = w * f[None, :, None]
        step = (largest / f).max() / 255
        steps = np.abs(scaled).max(axis=(1, 2)) / 127
        taps = (w != 0).sum(axis=2)
        return step**2 * np.sum(scaled**2) + np.sum(steps[:, None] ** 2 * taps * (power / f**2)[None, :])

    return min((ratio**a for a in EXPONENTS if a <= most), key=predicted)


def _scaled_outputs(r: Rewriter, node: Node, factor: np.ndarray) -> Node:
    ins = list(node.inputs)
    w = r.value(ins[1])
    ins[1] = r.const(ins[1], (w * factor.reshape(-1, *[1] * (w.ndim - 1))).astype(np.float32))
    if len(ins) > 2 and ins[2]:
        bias = np.broadcast_to(r.value(ins[2]).reshape(-1), factor.shape)
        ins[2] = r.const(ins[2], (bias * factor).astype(np.float32))
    return node.with_(inputs=tuple(ins))


def _scaled_inputs(r: Rewriter, node: Node, factor: np.ndarray, graph: Graph) -> Node:
    w, group = r.value(node.inputs[1]), int(node.attrs.get("group", 1))
    by_group = factor.reshape(group, 1, -1, *[1] * (w.ndim - 2))
    scaled = w.reshape(group, w.shape[0] // group, *w.shape[1:]) * by_group
    new = r.const(node.inputs[1], scaled.reshape(w.shape).astype(np.float32))
    return node.with_(inputs=(node.inputs[0], new, *node.inputs[2:]))
