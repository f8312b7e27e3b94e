"""The operator record and what its parts share.

An operator is one `Op` in one file of this package and one word in `ops/table.py`. The graph is
hardware-agnostic: operators have ONNX's names and attribute names; spatial operators are channels last
(N H W C, 1-D as H = length, W = 1) once `passes/layout.py` has run, which sets `channels_last=1` on them.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..ir import Graph, Node, TensorType
from ..loops import Buffer, Function, Stmt

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Op:
    """name: ONNX's. attrs: every attribute with its default (REQUIRED where ONNX has none).

    infer(node, types, values) -> output types; `types`/`values` follow node.inputs (None where absent; values are
        None for run-time tensors). None: ONNX's own inference is trusted (import only).
    reference(node, inputs, in_types, out_types) -> output arrays: what the C must equal bit for bit for integers;
        for floats, equal within rounding to onnx.reference.
    lower(ctx, node) -> statements of the step, or None where the operator became a view.
    rows: the operator as a producer of rows, so that layers can run interleaved: (shape, emit), where
        shape(graph, node) -> spatial.RowShape, None where this node cannot, and
        emit(ctx, node) -> function(oy, sources, target) -> statements that make row oy from rows at `sources`.
    quant: how Q/DQ pairs are absorbed: "integer" (an integer kernel exists for quantised types), "lut" (any unary
        function of int8: a table), "move" (moves elements; input and output share their quantisation), "" (float only).
    dtypes: element types that the lowering takes, for `edgec ops`.
    kernels: hand-written ones in runtime_c/kernel, for `edgec ops`; none: a loop nest.
    static: positions of inputs that must be constants: they decide shapes or the order of loops.
    """

    name: str
    lower: Callable[[Lowering, Node], list[Stmt] | None]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    infer: Callable[..., list[TensorType]] | None = None
    reference: Callable[..., list[Array]] | None = None
    quant: str = ""
    dtypes: tuple[str, ...] = ("float32",)
    rows: tuple[Callable[..., Any], Callable[..., Any]] | None = None
    static: tuple[int, ...] = ()
    kernels: tuple[str, ...] = ()


REQUIRED = object()


class Lowering:
    """What an operator's `lower` may ask of the program under construction (made by edgec/lower.py)."""

    graph: Graph
    isa: tuple[str, ...]
    fast: frozenset[str]  # convolutions, by output, that run on a faster kernel where they run on whole tensors
    unrolled: tuple[str, ...]  # which of conv, stem, fc may have code for one layer's shape
    room: int  # bytes of the largest node's inputs and outputs: scratch of smaller ones that fits in costs nothing

    def type(self, tensor: str) -> TensorType:
        """Shape and quantisation, and the type that its elements have in expressions."""
    def stored(self, tensor: str) -> str:
        """The type of its elements in memory: float16 where `type` says float32."""
    def value(self, tensor: str) -> Array | None: ...
    def buffer(self, tensor: str) -> str:
        """The buffer that holds a tensor (constants become rom buffers on first use)."""
    def bytes(self, tensor: str) -> str:
        """A view of a run-time tensor's buffer as bytes."""
    def rom(self, data: Array, hint: str) -> str:
        """A rom buffer with this content; equal contents share one."""
    def scratch(self, nbytes: int, hint: str) -> str:
        """An int8 arena buffer that lives during this step only, 16-byte aligned."""
    def accumulator(self, dtype: str, elements: int, hint: str) -> str:
        """An arena buffer for partial results that this step alone uses."""
    def require(self, ok: bool, what: str) -> None:
        """Raises UnsupportedError for this node where `ok` is false."""
    def view(self, output: str, input: str) -> None:
        """The output tensor is the input's memory (same size, same bytes); the step is empty."""
    def inplace(self, output: str, input: str) -> None:
        """Output element i is written after the last read of input element i: they may share memory."""
    def trailing(self, output: str, input: str, lead: int) -> None:
        """The output is made front to back, and what of the input it is made from last lies at the end: they may share
        memory where the output begins at least `lead` elements before the input (and ends before it)."""
    def macs(self, n: int) -> None:
        """Multiply-accumulates of this step, for reports."""


def attr(node: Node, name: str, default: Any = None) -> Any:
    return node.attrs.get(name, default)


__all__ = ["Op", "REQUIRED", "Lowering", "Array", "Graph", "Node", "TensorType", "Sequence", "Buffer", "Function", "Stmt", "attr"]
