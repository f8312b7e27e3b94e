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
        if node.op != "DequantizeLinear" or node.attrs.get("block_size"):
            return None
        x, s = r.value(node.inputs[0]), r.value(node.inputs[1])
        if x is None or s is None or s.ndim > 1:
            return None
        z = r.value(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(s.shape, np.int32)
        axis = int(node.attrs.get("axis", 1)) % max(x.ndim, 1)
        grid = QParams.of(s, z.astype(np.int32), axis if s.size > 1 else None)
        old = r.tensors[node.outputs[0]]
        data = dequantise(x, grid)
        r.tensors[node.outputs[0]] = Tensor(old.name, TensorType("float32", data.shape), data, old.source, grid=grid)
        return []
    return rewrite_nodes(graph, rule)


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
