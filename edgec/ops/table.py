"""All operators. Adding one: write its record in a family's file; the family's OPS list puts it here."""
from __future__ import annotations

from dataclasses import replace

from ..control import STATIC as CONTROL
from ..dtypes import WIDE
from ..ir import Node
from . import (
    conv,
    curve,
    custom,
    elementwise,
    gemm,
    linear,
    ml,
    movement,
    norm,
    pool,
    quantised,
    recurrent,
    reduce,
    sampling,
    scalar,
    scores,
    selecting,
    signal,
    softmax,
    svm,
    trees,
    windows,
)
from .base import Lowering, Op

FAMILIES = (conv, gemm, pool, softmax, elementwise, movement, reduce, quantised, curve, windows, linear, recurrent,
            selecting, sampling, signal, ml, scores, trees, svm, custom, norm)
OPS: dict[str, Op] = {op.name: op for family in FAMILIES for op in family.OPS}
OPS |= {name: quantised.by_type(OPS[name]) for name in quantised.INTEGER}



def _has_kernel(ctx: Lowering, node: Node) -> bool:
    """Whether the hand-written kernels of conv.py, pool.py, softmax.py and gemm.py take the node."""
    t = ctx.type(node.inputs[0])
    plain = t.q is not None or t.dtype == "float32" and not {ctx.stored(i) for i in node.inputs if i} & set(WIDE)
    if node.op in ("Conv", "MaxPool", "AveragePool"):
        return plain and bool(node.attrs.get("channels_last"))
    return plain and (node.op != "Softmax" or not node.attrs.get("flatten"))


def _either(op: Op, nest: Op) -> Op:
    """The operator with a loop nest for what its kernels do not take."""
    def lower(ctx, node):
        return (op if _has_kernel(ctx, node) else nest).lower(ctx, node)

    return replace(op, lower=lower, dtypes=tuple(dict.fromkeys(op.dtypes + nest.dtypes)))


OPS |= {
    n.name: _either(OPS[n.name], n) for n in (windows.CONV_NEST, *windows.POOL_NESTS, linear.SOFTMAX_NEST, linear.MATMUL_NEST)
}
# Operators whose output sizes depend on data: node, rank -> the counted axis of each output, None for one of full size.
BOUNDED = {name: lambda node, rank: selecting.counted_axes(node.op, node.attrs, rank) for name in selecting.BOUNDED}
FUNCTIONS = {
    "Range": (0, 1, 2),
    "ConstantOfShape": (0,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "CenterCropPad": (1,),
    "AffineGrid": (1,),
    **dict.fromkeys(("HannWindow", "HammingWindow", "BlackmanWindow"), (0,)),
    "Dropout": (1, 2),
}
STATIC: dict[str, tuple[int, ...]] = CONTROL | FUNCTIONS  # as Op.static, for operators that become others at import

# Operators that passes/normalise.py rewrites into others; they have no lowering of their own.
REWRITTEN = frozenset({"GlobalAveragePool", "GlobalMaxPool"})


def _block(ctx: Lowering, node: Node) -> None:
    raise TypeError(f"{node.op} is steps of its own: edgec/lower_control.py")


OPS |= {name: Op(name, _block, dtypes=scalar.ANY, kernels=("control flow",)) for name in ("If", "Loop")}

KERNELS = {"Conv": ("conv", "dwconv"), "Gemm": ("fc", "conv"), "MaxPool": ("maxpool",), "AveragePool": ("avgpool",),
           "Softmax": ("softmax",), "Add": ("add_s8",), "Sub": ("add_s8",), "Mul": ("mul_s8",),
           **{name: ("lut_s8",) for name, op in OPS.items() if op.quant == "lut"}}
OPS |= {name: replace(OPS[name], kernels=kernels) for name, kernels in KERNELS.items()}


def known(domain: str, op: str) -> bool:
    """Whether edgec compiles the ONNX operator."""
    name = f"{domain}.{op}" if domain else op
    return name in OPS or name in REWRITTEN
