"""The reference that outputs are compared with: the ONNX model itself, run by onnxruntime or by onnx.reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from . import custom
from .custom import Operator
from .errors import EdgecError, ModelError
from .ir import Graph
from .onnx_in import attribute

Array = np.ndarray
REFERENCE_OPSET = 21


@dataclass(frozen=True, eq=False)
class Reference:
    """engine: what runs it and its version. run(inputs by name) -> the tensors of `names`, in order."""

    engine: str
    names: tuple[str, ...]
    run: Callable[[Mapping[str, Array]], list[Array]]


def reference(model: onnx.ModelProto, extra: Sequence[str] = (), own: Sequence[Operator] = ()) -> Reference:
    """A runner for the model's outputs and the inner tensors `extra` (those that the model does not have are left out;
    see `names`). onnxruntime with graph optimisation off and one thread where it is installed and can run the model.
    own: operators of other domains, which onnx.reference alone can run, by their references."""
    outputs = [o.name for o in model.graph.output]
    known = {o for n in model.graph.node for o in n.output}
    names = tuple(dict.fromkeys([*outputs, *(e for e in extra if e in known)]))
    if len(names) > len(outputs):
        model = _with_outputs(model, names[len(outputs) :])
    refusals = []
    engines = {"onnxruntime": _onnxruntime, "onnx_reference": lambda m, n: _onnx_reference(m, n, own)}
    for label, engine in engines.items():
        try:
            return engine(model, names)
        except EdgecError:
            raise
        except Exception as e:  # neither has an error type of its own: not installed, a newer opset, a missing kernel
            refusals.append(f"{label}: {_line(e)}")
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
        return [np.asarray(a) for a in session.run(list(names), {k: np.asarray(v) for k, v in inputs.items()})]

    return Reference(f"onnxruntime {ort.__version__}, graph optimisation off", names, run)


def of_graph(graph: Graph, extra: Sequence[str] = ()) -> Reference:
    """A runner for a graph of ONNX operators and the user's own."""
    from .onnx_out import to_onnx

    return reference(to_onnx(graph), extra, custom.used(graph))


def _onnx_reference(model: onnx.ModelProto, names: tuple[str, ...], own: Sequence[Operator]) -> Reference:
    from onnx.reference import ReferenceEvaluator

    known = [_evaluated(o) for o in own]
    try:
        evaluator = ReferenceEvaluator(model, new_ops=known)
    except RuntimeError:  # it implements QuantizeLinear and others in their newest versions only
        newer = onnx.version_converter.convert_version(model, REFERENCE_OPSET)
        evaluator = ReferenceEvaluator(newer, new_ops=known)

    def run(inputs: Mapping[str, Array]) -> list[Array]:
        return [np.asarray(a) for a in evaluator.run(list(names), {k: np.asarray(v) for k, v in inputs.items()})]

    return Reference(f"onnx.reference {onnx.__version__}", names, run)


def _evaluated(operator: Operator) -> type:
    """The operator as onnx.reference wants it."""
    from onnx.reference.op_run import OpRun

    domain, _, name = operator.name.rpartition(".")

    def run(self, *inputs, **_):
        given = {a.name: attribute(a) for a in self.onnx_node.attribute}
        return tuple(custom.referred(operator, inputs, given))

    return type(name, (OpRun,), {"op_domain": domain, "_run": run})


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    more = onnx.ModelProto()
    more.CopyFrom(model)
    more.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    return more


def _line(e: Exception) -> str:
    return " ".join(str(e).split())[:160]
