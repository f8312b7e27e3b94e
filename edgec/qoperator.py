"""QOperator form -> QDQ form at import: QLinearX(...) is QuantizeLinear(X(DequantizeLinear(...))), by definition."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper

MS = "com.microsoft."

# operator -> (float operator, positions of the (tensor, scale, zero point) inputs, position of the output's scale and zero point,
# position of the int32 bias)
FORMS = {
    "QLinearConv": ("Conv", (0, 3), 6, 8),
    "QLinearMatMul": ("MatMul", (0, 3), 6, None),
    MS + "QGemm": ("Gemm", (0, 3), 7, 6),
    MS + "QLinearAdd": ("Add", (0, 3), 6, None),
    MS + "QLinearMul": ("Mul", (0, 3), 6, None),
    MS + "QLinearSigmoid": ("Sigmoid", (0,), 3, None),
    MS + "QLinearLeakyRelu": ("LeakyRelu", (0,), 3, None),
    MS + "QLinearSoftmax": ("Softmax", (0,), 3, None),
    MS + "QLinearGlobalAveragePool": ("GlobalAveragePool", (0,), 3, None),
    MS + "QLinearAveragePool": ("AveragePool", (0,), 3, None),
    MS + "QLinearConcat": ("Concat", None, 0, None),
}
SAME = {MS + "QuantizeLinear": "QuantizeLinear", MS + "DequantizeLinear": "DequantizeLinear"}
NOT_ONNX = {"channels_last", "opset"}


def expand(node: onnx.NodeProto, full_name: str, value: Callable[[str], np.ndarray | None],
           constant: Callable[[str, np.ndarray], str]) -> list[onnx.NodeProto] | None:
    """The ONNX nodes that a QOperator node stands for; None for any other node.

    value(tensor) -> its contents if constant; constant(name, contents) makes one and returns its name."""
    if full_name in SAME:
        axis = {a.name: a.i for a in node.attribute if a.name in ("axis", "block_size")}
        return [_node(SAME[full_name], node.input, node.output, node.name, **axis)]
    if full_name not in FORMS:
        return None
    op, starts, out, bias = FORMS[full_name]
    if starts is None:
        starts = tuple(range(2, len(node.input), 3))
    y, nodes, reals = node.output[0], [], []
    given = list(node.input) + [""] * 12
    trans_b = any(a.name == "transB" and a.i for a in node.attribute)

    def dequantise(x: str, s: str, z: str, axis: int, label: str) -> None:
        per_axis = value(s) is not None and value(s).size > 1
        real = f"{y}/{label}"
        nodes.append(_node("DequantizeLinear", [x, s] + [z] * bool(z), [real], node.name, **({"axis": axis} if per_axis else {})))
        reals.append(real)

    for k, at in enumerate(starts):
        axis = 0 if op == "Conv" or trans_b else -1
        dequantise(given[at], given[at + 1], given[at + 2], axis, f"real{k}")
    if bias is not None and given[bias]:  # int32 in steps of s_x * s_w
        scale = value(given[1]).astype(np.float64).reshape(-1) * value(given[4]).astype(np.float64).reshape(-1)
        scale = scale.astype(np.float32) if scale.size > 1 else scale.astype(np.float32).reshape(())
        dequantise(given[bias], constant(f"{y}/bias_scale", scale), "", 0, "bias")
    kept = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name not in NOT_ONNX}
    nodes.append(_node(op, reals, [f"{y}/real"], node.name, **kept))
    nodes.append(_node("QuantizeLinear", [f"{y}/real", given[out]] + [given[out + 1]] * bool(given[out + 1]), [y], node.name))
    return nodes


def _node(op: str, inputs, outputs, name: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), name=name, **attributes)
