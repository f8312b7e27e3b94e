"""Constants that carry a quantisation grid, and edits of constants that keep it."""
from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..fixed import dequantise
from ..ir import Graph, Node, QParams, Tensor, TensorType
from ..rewrite import Rewriter, rewrite_nodes


def constant_grids(graph: Graph) -> Graph:
    """DequantizeLinear of a constant becomes a float constant that remembers its grid."""
    def rule(r: Rewriter, node: Node):
        if node.op != "DequantizeLinear":
            return None
        x, s = r.value(node.inputs[0]), r.value(node.inputs[1])
        z = r.value(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.int32(0)
        if x is None or s is None or z is None:
            return None
        axis, old = int(node.attrs.get("axis", 1)) % max(x.ndim, 1), r.tensors[node.outputs[0]]
        if node.attrs.get("block_size"):
            data, grid = _blocked(x, s, z, axis, int(node.attrs["block_size"]))
            r.tensors[old.name] = Tensor(old.name, TensorType("float32", data.shape), data, old.source, grid=grid)
            return []
        if s.ndim > 1:
            return None
        grid = QParams.of(s, z.astype(np.int32), axis if s.size > 1 else None)
        data = dequantise(x, grid)
        r.tensors[node.outputs[0]] = Tensor(old.name, TensorType("float32", data.shape), data, old.source, grid=grid)
        return []
    return rewrite_nodes(graph, rule)


def _blocked(x: np.ndarray, s: np.ndarray, z: np.ndarray, axis: int, block: int) -> tuple[np.ndarray, QParams]:
    """Constants with one scale per block along an axis, on a grid of 16 bits per index of the other axis of weights: an
    integer kernel has one scale per output channel. Off by 2^-17 of the channel's largest at most."""
    n = x.shape[axis]
    each = [np.repeat(np.broadcast_to(v, s.shape), block, axis).take(range(n), axis) for v in (s, z)]
    scale, zero = (v.astype(np.float64) for v in each)
    real = (x.astype(np.float64) - zero) * scale
    channels = {0: 1, 1: 0}[axis] if axis < 2 <= x.ndim and (x.ndim == 2 or axis == 1) else None
    others = None if channels is None else tuple(d for d in range(x.ndim) if d != channels)
    step = np.maximum(np.abs(real).max(axis=others, keepdims=True) / 32767, 2.0**-60).astype(np.float32)
    data = (np.rint(real / step.astype(np.float64)) * step.astype(np.float64)).astype(np.float32)
    return data, QParams.of(step.reshape(-1), 0, channels)


def integers(t: Tensor) -> np.ndarray:
    """The integers behind a constant with a grid, minus their zero point, as int64: data = integers * scale."""
    shape = [1] * t.data.ndim
    if t.grid.axis is not None:
        shape[t.grid.axis] = -1
    return np.rint(t.data.astype(np.float64) / t.grid.scale.astype(np.float64).reshape(shape)).astype(np.int64)


def permuted(r: Rewriter, name: str, perm: tuple[int, ...]) -> str:
    """The constant transposed; its grid's axis follows."""
    t = r.tensors[name]
    data = np.ascontiguousarray(t.data.transpose(perm))
    grid = t.grid and replace(t.grid, axis=None if t.grid.axis is None else perm.index(t.grid.axis))
    return r.tensor(name, TensorType(t.type.dtype, data.shape), data, grid=grid)


def reshaped(r: Rewriter, name: str, shape: tuple[int, ...]) -> str:
    """The constant with axes of one element added or dropped; its grid's axis follows by the channel count."""
    t = r.tensors[name]
    grid = t.grid
    if grid is not None and grid.axis is not None:
        axes = [k for k, n in enumerate(shape) if n == grid.scale.size]
        grid = replace(grid, axis=axes[0]) if axes else None
    return r.tensor(name, TensorType(t.type.dtype, shape), t.data.reshape(shape), grid=grid)


def scaled(r: Rewriter, name: str, factor: np.ndarray, axis: int) -> str:
    """The constant times one factor per entry of `axis`; a grid stays where every factor is positive."""
    t = r.tensors[name]
    shape = [1] * t.data.ndim
    shape[axis] = -1
    grid = None
    if t.grid is not None and (factor > 0).all() and t.grid.axis in (None, axis):
        n = t.data.shape[axis]
        scale = (np.broadcast_to(t.grid.scale, (n,)) * factor).astype(np.float32)
        grid = QParams(scale, np.broadcast_to(t.grid.zero_point, (n,)).copy(), axis)
    data = (t.data * factor.reshape(shape)).astype(np.float32)
    return r.tensor(name, TensorType("float32", data.shape), data, grid=grid)
