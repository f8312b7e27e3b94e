"""Whether an internal error is the model's fault: a node that ONNX's own reference evaluator cannot run either.

ONNX's checker and shape inference let many nodes pass whose inputs do not fit each other (a convolution with weights
for other channels). Whatever then fails in a pass fails as a defect of edgec would; the question is asked only then.
"""
from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper, shape_inference

from .errors import ModelError
from .onnx_in import evaluate

LARGEST = 1 << 22  # elements of a node's inputs; larger ones are taken to be right
REFUSALS = (ValueError, IndexError, TypeError, AssertionError, ZeroDivisionError)


def fault(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], constants: Mapping[str, object]
) -> ModelError | None:
    """The first node that cannot run, with every input of the model zero. None: all can, as far as they can be told."""
    known = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    types = _types(model)
    for i in model.graph.input:
        if i.name not in known and (i.name in types or i.name in shapes):
            dtype = helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type)
            value = constants.get(i.name)
            shape = shapes[i.name] if i.name in shapes else types[i.name][1]
            known[i.name] = np.zeros(shape, dtype) if value is None else np.asarray(value, dtype)
    for node in model.graph.node:
        nested = any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute)
        values = [known.get(i) for i in node.input]
        told = all(v is not None for v, i in zip(values, node.input, strict=True) if i)
        if not nested and told and sum(v.size for v in values if v is not None) <= LARGEST:
            try:
                with warnings.catch_warnings(), np.errstate(all="ignore"):
                    warnings.simplefilter("ignore")
                    found = evaluate(node, values, model.opset_import)
            except REFUSALS as e:
                return _error(node, values, str(e).partition("\n")[0])
            except Exception:  # the evaluator does not know the operator, or its type: nothing is said about the model
                found = []
            made = {o: v for o, v in zip(node.output, found, strict=False) if o and isinstance(v, np.ndarray)}
            for o, v in made.items():
                if o in types and not shapes and v.shape != types[o][1]:
                    return _error(node, values, f"output {o} has shape {v.shape}, the model declares {types[o][1]}")
            known |= made
        for o in node.output:
            if o in types and o not in known:
                known[o] = np.zeros(types[o][1], types[o][0])
    return None


def _types(model: onnx.ModelProto) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Element type and shape of the tensors whose shapes are known."""
    graph = shape_inference.infer_shapes(model).graph
    found = {}
    for v in (*graph.input, *graph.value_info, *graph.output):
        t = v.type.tensor_type
        if v.type.HasField("tensor_type") and t.HasField("shape") and all(d.HasField("dim_value") for d in t.shape.dim):
            found[v.name] = helper.tensor_dtype_to_np_dtype(t.elem_type), tuple(d.dim_value for d in t.shape.dim)
    return found


def _error(node: onnx.NodeProto, values, said: str) -> ModelError:
    inputs = ", ".join(f"{i} {v.dtype}[{'x'.join(map(str, v.shape))}]"
                       for i, v in zip(node.input, values, strict=True) if v is not None)
    return ModelError(f"{node.op_type} does not take these inputs: {inputs}; ONNX's reference evaluator: {said}",
                      where=node.name or f"{node.op_type} -> {node.output[0]}", fix="export the network again")
