"""Scales and zero points of activations and weights from ranges and weights."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import UsageError
from ..ir import Graph, Node, QParams
from .plan import ELEMENTWISE, LINEAR, Plan, kind, operands
from .ranges import Range

MIN_SCALE = 2.0**-60       # the product of two scales stays a normal float32
MAX_BIAS = 2**30           # in accumulator steps: the other half of int32 is for the products
# Limits of the integer kernels: an output step is at least this many steps of an accumulator, or this share of an
# input step. Finer steps would resolve nothing but rounding noise.
STEPS_PER_PRODUCT, STEP_PER_INPUT = 4.01, 2.0**-12
SHRINKS = np.arange(100, 49, -2) / 100    # of a channel's largest weight, that `by_error` tries


@dataclass(frozen=True, eq=False)
class Scales:
    """activations: parameters by source tensor. weights: by first node of a group with constant weights. values: the
    weights' integers, where they are not the nearest ones. biases: real biases, where they are not the model's."""

    activations: Mapping[str, QParams]
    weights: Mapping[Node, QParams]
    values: Mapping[Node, np.ndarray] = field(default_factory=dict)
    biases: Mapping[Node, np.ndarray] = field(default_factory=dict)


def activation_q(lo: float, hi: float, least: float = MIN_SCALE) -> QParams:
    """int8 asymmetric parameters of a range, widened to hold zero, which is exact; a range of zeros gets scale 1.

    Every real in [lo, hi] is at most scale / 2 from its dequantised value. least: the smallest scale allowed.
    """
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    if lo == hi:
        return QParams.of(max(1.0, least), 0)
    scale = np.float32(max((hi - lo) / 255, least))
    return QParams.of(scale, int(np.clip(np.rint(-128 - lo / float(scale)), -128, 127)))


def wide_q(lo: float, hi: float, least: float = MIN_SCALE) -> QParams:
    """int16 symmetric parameters of a range; a range of zeros gets scale 1."""
    largest = max(-lo, hi)
    return QParams.of(np.float32(max(largest / 32767, least)) if largest > 0 else np.float32(max(1.0, least)), 0)


def weight_q(w: np.ndarray, axis: int | None, bias: np.ndarray | None = None, input_scale: float = 1.0,
             bits: int = 8, by_error: bool = False) -> QParams:
    """Symmetric parameters of weights, -127..127 for 8 bits, one scale per index of `axis` (None: one for all).

    A bias (one value per scale, or None) that would exceed MAX_BIAS steps of input_scale * scale makes the scale
    coarser. A channel of zeros takes the coarsest scale of the others, so that its bias is as fine as theirs. by_error:
    the largest weight of a channel may be cut where that makes the square error smaller.
    """
    highest = 2 ** (bits - 1) - 1
    others = None if axis is None else tuple(d for d in range(w.ndim) if d != axis)
    largest = np.abs(w.astype(np.float64)).max(axis=others)
    scale = np.maximum(largest / highest * (_least_error(w, axis, largest, highest) if by_error else 1), MIN_SCALE)
    top = scale.max() if largest.any() else 1 / 127
    scale = np.where(largest > 0, scale, top)
    if bias is not None:
        by_bias = np.abs(bias.astype(np.float64)).reshape(-1) / (input_scale * MAX_BIAS)
        scale = np.maximum(scale, by_bias if axis is not None else by_bias.max())
    return QParams.of(scale.astype(np.float32), 0, axis)


def _least_error(w: np.ndarray, axis: int | None, largest: np.ndarray, highest: int) -> np.ndarray:
    """The share of each channel's largest weight, from SHRINKS, whose grid has the least square error."""
    rows = 1 if axis is None else w.shape[axis]
    flat = np.moveaxis(w, axis or 0, 0).astype(np.float64).reshape(rows, -1)
    errors = []
    for share in SHRINKS:
        step = np.maximum(largest.reshape(-1, 1) * share / highest, MIN_SCALE)
        errors.append(((np.clip(np.rint(flat / step), -highest, highest) * step - flat) ** 2).sum(1))
    return SHRINKS[np.argmin(errors, axis=0)].reshape(largest.shape)


def scales(graph: Graph, plan: Plan, ranges: Mapping[str, Range], by_error: bool = False) -> Scales:
    """Topological, for a result's scale may have to be coarser than its range asks (STEPS_PER_PRODUCT). by_error: of
    weights, see `weight_q`."""
    sources = dict.fromkeys(plan.source.values())
    bounds = {s: _range(s, ranges) for s in sources if s not in plan.fixed and graph.const(s) is None}
    q = ({s: QParams.of(*p) for s, p in plan.fixed.items()} | {s: _activation(plan, s, r) for s, r in bounds.items()}
         | {s: weight_q(graph.const(s), None) for s in sources if graph.const(s) is not None})
    weights: dict[Node, QParams] = {}
    for node in graph.nodes:
        if node not in plan.integer or node in plan.head or kind(graph, node) != "integer":
            continue
        given, data = [], operands(graph, node)
        for k, name in enumerate(data):
            if name in plan.source:
                given.append(q[plan.source[name]])
            elif node.op in LINEAR:
                other = data[1 - k]
                weights[node] = _weights(graph, plan, node, k, float(q[plan.source[other]].scale), by_error)
                given.append(weights[node])
            else:
                given.append(weight_q(graph.const(name), None))
        source = plan.source[plan.result.get(node, node.outputs[0])]
        least = _least_scale(node, given)
        if source in bounds and float(q[source].scale) < least:
            q[source] = _activation(plan, source, bounds[source], least)
    return Scales(q, weights)


def _activation(plan: Plan, source: str, r: Range, least: float = MIN_SCALE) -> QParams:
    return (wide_q if source in plan.wide else activation_q)(r.lo, r.hi, least)


def _range(name: str, ranges: Mapping[str, Range]) -> Range:
    if name not in ranges:
        raise UsageError(f"no range for tensor '{name}'", fix="calibrate the same model that is quantised")
    return ranges[name]


def _least_scale(node: Node, given: list[QParams]) -> float:
    steps = [float(q.scale.max()) for q in given]
    if node.op in LINEAR or node.op == "Mul":
        return STEPS_PER_PRODUCT * steps[0] * steps[1]
    return max(steps) * STEP_PER_INPUT if node.op in ELEMENTWISE else MIN_SCALE


def _weights(graph: Graph, plan: Plan, node: Node, position: int, input_scale: float, by_error: bool) -> QParams:
    """The parameters of the constant operand at `position` of a Conv, Gemm or MatMul."""
    w = graph.const(node.inputs[position])
    axis = output_axis(node, position, w)
    bias = bias_of(graph, plan, node)
    value, bits = None if bias is None else graph.const(bias), plan.weight_bits.get(node, 8)
    return weight_q(w, axis, value, input_scale, bits, by_error)


def output_axis(node: Node, position: int, w: np.ndarray) -> int | None:
    """The axis of the weights that becomes the output's channel; None where there is none to give scales to."""
    if node.op == "MatMul":       # more axes, or constants on the left, have no kernel with a scale per channel
        return 1 if position == 1 and w.ndim == 2 else None
    return 0 if node.op == "Conv" or node.attrs.get("transB", 0) else 1


def bias_of(graph: Graph, plan: Plan, first: Node) -> str | None:
    """The bias of a group, its own third input or the constant that the following Add adds."""
    if first.op != "MatMul":
        return first.inputs[2] if len(first.inputs) > 2 and first.inputs[2] else None
    adds = (n for n, h in plan.head.items() if h is first and n.op == "Add")
    return next((i for n in adds for i in n.inputs if graph.const(i) is not None), None)
