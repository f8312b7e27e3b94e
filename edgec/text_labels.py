"""Labels that are text, resolved while a model is imported: a tensor of strings becomes that of their numbers in a table,
which the package's header holds (`Graph.labels`). A ZipMap is its input: the scores of all labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from .onnx_in import _Import

MOVES = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")
CLASSIFIERS = {
    "TreeEnsembleClassifier": "classlabels_int64s",
    "LinearClassifier": "classlabels_ints",
    "SVMClassifier": "classlabels_ints",
}


def expand(m: _Import, node: onnx.NodeProto) -> bool:
    """True where the node makes or moves text and is done."""
    a = {x.name: x for x in node.attribute}
    if node.op_type == "Constant" and _is_text(a):
        m.text[node.output[0]] = _texts(next(iter(a.values())))
        return True
    if node.domain == "ai.onnx.ml":
        return _of_ml(m, node, a)
    if node.input and node.input[0] in m.text and len(node.input) == 2 and node.op_type == "Gather":
        _number(m, node, m.text[node.input[0]], None)
        return True
    if not node.input or node.input[0] not in m.labels:
        return False
    table = m.labels[node.input[0]]
    if node.op_type == "Cast" and a["to"].i == TensorProto.STRING:
        m.bind(node.output[0], node.input[0])
    elif node.op_type in MOVES:
        m.declared.pop(node.output[0], None)
        del m.labels[node.input[0]]  # as numbers
        m.visit(node)
        m.labels[node.input[0]] = table
    else:
        m.bad.append((f"{node.op_type} of text", m.label(node)))
        return True
    m.labels[node.output[0]] = table
    return True


def _of_ml(m: _Import, node: onnx.NodeProto, a) -> bool:
    if node.op_type == "ZipMap":
        m.notes.append(
            f"output {node.output[0]}: a map for each sample becomes a row of scores, in the order of the labels"
        )
        m.bind(node.output[0], node.input[0])
        return True
    names = a.get("classlabels_strings")
    if node.op_type in CLASSIFIERS and names is not None and names.strings:
        kept = [x for x in node.attribute if x is not names and x.name != CLASSIFIERS[node.op_type]]
        _again(
            m, node, kept, {CLASSIFIERS[node.op_type]: range(len(names.strings))}, [s.decode() for s in names.strings]
        )
        return True
    if node.op_type == "ArrayFeatureExtractor" and node.input[0] in m.text:
        _number(m, node, m.text[node.input[0]], (1, m.tensors[node.input[1]].type.size))
        return True
    values = next((a[k] for k in ("values_strings", "values_tensor") if k in a and _is_text({k: a[k]})), None)
    if node.op_type != "LabelEncoder" or values is None:
        return False
    texts = [*_texts(values).reshape(-1), _default(a)]
    table = list(dict.fromkeys(texts))
    at = [table.index(t) for t in texts]
    kept = [x for x in node.attribute if x is not values and not x.name.startswith("default")]
    _again(m, node, kept, {"values_int64s": at[:-1], "default_int64": at[-1]}, table)
    return True


def _default(a) -> str:
    if "default_tensor" in a:
        return str(_texts(a["default_tensor"]).reshape(-1)[0])
    return a["default_string"].s.decode() if "default_string" in a else "_Unused"


def _is_text(a) -> bool:
    x = next(iter(a.values()), None)
    return x is not None and (bool(x.strings) or x.name == "value_string" or x.t.data_type == TensorProto.STRING)


def _texts(x: onnx.AttributeProto) -> np.ndarray:
    """The strings of an attribute."""
    if x.t.data_type == TensorProto.STRING:
        return texts(x.t)
    return np.array([s.decode() for s in (x.strings or [x.s])], object)


def texts(t: TensorProto) -> np.ndarray:
    """The strings of a tensor."""
    values = numpy_helper.to_array(t)
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values.reshape(-1)], object).reshape(
        values.shape
    )


def _again(m: _Import, node: onnx.NodeProto, kept, numbers, table) -> None:
    """The node with numbers in place of text, whose first output counts in the table."""
    new = helper.make_node(node.op_type, node.input, node.output, name=node.name, domain=node.domain)
    new.attribute.extend(kept)
    new.attribute.extend(helper.make_attribute(k, list(v) if not isinstance(v, int) else v) for k, v in numbers.items())
    for o in node.output[:1]:
        m.declared.pop(o, None)
        m.labels[o] = tuple(table)
    m.visit(new)


def _number(m: _Import, node: onnx.NodeProto, table: np.ndarray, shape) -> None:
    """The text at a run-time index is that index."""
    index, label = node.input[1], m.label(node)
    if shape is not None:
        to = m.constant(f"{node.output[0]}/shape", np.array(shape, np.int64))
        index = m.add("Reshape", [index, to], f"{node.output[0]}/at", label)
    m.add("Cast", [index], node.output[0], label, to=TensorProto.INT64)
    m.labels[node.output[0]] = tuple(table.reshape(-1))
