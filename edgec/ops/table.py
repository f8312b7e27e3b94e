"""All operators. Adding one: write its record in a family's file; the family's OPS list puts it here."""
from __future__ import annotations

from . import conv, elementwise, gemm, movement, pool, quantised, reduce, softmax
from .base import Op

FAMILIES = (conv, gemm, pool, softmax, elementwise, movement, reduce, quantised)
OPS: dict[str, Op] = {op.name: op for family in FAMILIES for op in family.OPS}
OPS |= {name: quantised.by_type(OPS[name]) for name in quantised.INTEGER}

STATIC: dict[str, tuple[int, ...]] = {}  # as Op.static, for operators that become others at import

# Operators that passes/normalise.py rewrites into others; they have no lowering of their own.
REWRITTEN = frozenset({"GlobalAveragePool", "GlobalMaxPool", "BatchNormalization"})


def known(domain: str, op: str) -> bool:
    """Whether edgec compiles the ONNX operator."""
    name = f"{domain}.{op}" if domain else op
    return name in OPS or name in REWRITTEN
