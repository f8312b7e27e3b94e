"""The reference that outputs are compared with: the ONNX model itself, run by onnxruntime or by onnx.reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from .errors import ModelError

Array = np.ndarray
REFERENCE_OPSET = 21


@dataclass(frozen=True, eq=False)
class Reference:
    """engine: what runs it and its version. run(inputs by name) -> the tensors of `names`, in order."""

    engine: str
    names: tuple[str, ...]
    run: Callable[[Mapping[str, Array]], list[Array]]


def reference(model: onnx.ModelProto, extra: Sequence[str] = ()) -> Reference:
    """A runner for the model's outputs and the inner tensors `extra` (those that the model does not have are left out;
    see `names`). onnxruntime with graph optimisation off and one thread where it is installed and can run the model."""
    outputs = [o.name for o in model.graph.output]
    known = {o for n in model.graph.node for o in n.output}
    names = tuple(dict.fromkeys([*outputs, *(e for e in extra if e in known)]))
    if len(names) > len(outputs):
        model = _with_outputs(model, names[len(outputs) :])
    refusals = []
    for engine in (_onnxruntime, _onnx_reference):
        try:
            return engine(model, names)
        except Exception as e:  # neither has an error type of its own: not installed, a newer opset, a missing kernel
            refusals.append(f"{engine.__name__.strip('_')}: {_line(e)}")
    raise ModelError(
        "no reference can run the model",
        where="\n         ".join(refusals),
        fix="pip install -U 'edgec[ort]' (onnxruntime)",
    )


def _onnxruntime(model: onnx.ModelProto, names: tuple[str, ...]) -> Reference:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Array]) -> list[Array]:
        return [np.asarray(a) for a in session.run(list(names), dict(inputs))]

    return Reference(f"onnxruntime {ort.__version__}, graph optimisation off", names, run)


def _onnx_reference(model: onnx.ModelProto, names: tuple[str, ...]) -> Reference:
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator = ReferenceEvaluator(model)
    except RuntimeError:  # it implements QuantizeLinear and others in their newest versions only
        evaluator = ReferenceEvaluator(onnx.version_converter.convert_version(model, REFERENCE_OPSET))

    def run(inputs: Mapping[str, Array]) -> list[Array]:
        return [np.asarray(a) for a in evaluator.run(list(names), dict(inputs))]

    return Reference(f"onnx.reference {onnx.__version__}", names, run)


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    more = onnx.ModelProto()
    more.CopyFrom(model)
    more.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    return more


def _line(e: Exception) -> str:
    return " ".join(str(e).split())[:160]
