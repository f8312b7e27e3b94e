"""The quantised network run many times with other scales, weights and biases: what choices are judged by.

The session is made once; constants that QuantizeLinear and DequantizeLinear read are its inputs, and every graph of the
same structure feeds its own. The error is that of the tensors that `judged` names, summed.
"""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
from onnx import helper

from .. import custom
from ..data import Dataset, as_model_input
from ..fixed import dequantise
from ..ir import Graph, QParams
from ..onnx_out import to_onnx
from ..onnx_run import Reference, of_graph, reference

Array = np.ndarray
SATURATING = ("Softmax", "Sigmoid", "Tanh", "LogSoftmax", "HardSigmoid")
SHIFTLESS = ("Softmax", "LogSoftmax")


def judged(graph: Graph) -> Mapping[str, int | None]:
    """The tensors of a float graph by which quantisation is judged: its float outputs, and what goes into the
    saturating functions that make them; of a Softmax that alone, with the axis along which it ignores what is added to
    all (other tensors: None). Behind a Softmax a few samples near a decision make all the noise."""
    made = graph.producers()
    found: dict[str, int | None] = {}
    for o in graph.outputs:
        if graph.type(o).dtype != "float32" or o not in made:
            continue
        last = made[o]
        inner = last.op in SATURATING and graph.const(last.inputs[0]) is None and last.inputs[0] in made
        if inner and last.op in SHIFTLESS:
            found[last.inputs[0]] = int(last.attrs.get("axis", -1)) % len(graph.type(o).shape)
        else:
            found |= {o: None} | ({last.inputs[0]: None} if inner else {})
    return found


def float_values(graph: Graph, dataset: Dataset, names: Sequence[str]) -> dict[str, Array]:
    """The named tensors of a float graph over the dataset, samples first."""
    model = of_graph(graph, [n for n in names if n not in graph.inputs])
    rows = _each(model, [dataset[k] for k in range(len(dataset))])
    return {n: np.stack([r[n] for r in rows]) if rows and n in rows[0] else dataset.inputs[n] for n in names}


class Simulator:
    """Runs quantised graphs of one structure (`quantisation.write`) on a dataset.

    graph: the float one. wanted: its tensors that are to come out the same, as `judged` gives them."""

    def __init__(self, dataset: Dataset, graph: Graph, wanted: Mapping[str, int | None]):
        self.dataset, self.axes = dataset, wanted
        self.wanted = {n: _centred(v, wanted[n]) for n, v in float_values(graph, dataset, tuple(wanted)).items()}
        self.key, self.model, self.samples = None, None, None

    def values(self, graph: Graph, names: Sequence[str]) -> dict[str, Array]:
        """Tensors of the float graph as the quantised one computes them: what its readers read."""
        inner = {n: _read_as(graph, n) for n in names}
        constants = _parameters(graph)
        key = (tuple(graph.nodes[k].outputs for k in range(len(graph.nodes))), tuple(constants), tuple(inner.values()))
        if key != self.key:
            self.model = _open(graph, list(constants), list(inner.values()))
            self.key = key
        samples = as_model_input(self.dataset, graph)
        rows = _each(self.model, [samples[k] | constants for k in range(len(samples))])
        found = {}
        for name, held in inner.items():
            v = np.stack([r[held] for r in rows]) if held in rows[0] else samples.inputs[held]
            found[name] = dequantise(v, _q_of(graph, held)) if v.dtype.kind == "i" else v
        return found

    def error(self, graph: Graph) -> float:
        """Noise over signal, summed over the wanted tensors."""
        return sum(self.errors(graph).values())

    def errors(self, graph: Graph) -> dict[str, float]:
        """Noise over signal of each wanted tensor."""
        got = self.values(graph, tuple(self.wanted))
        return {n: noise(_centred(got[n].reshape(want.shape), self.axes[n]), want) for n, want in self.wanted.items()}


def _centred(v: Array, axis: int | None) -> Array:
    """Less the mean along an axis of a sample; samples come first."""
    return v if axis is None else v - v.mean(axis + 1, keepdims=True)


def noise(got: Array, want: Array) -> float:
    """Noise power over signal power; 0 where nothing differs. The noise is the mean over the samples of its root mean
    square, squared: a single sample near a decision must not outvote the others."""
    change = (got.reshape(want.shape) - want.astype(np.float64)).reshape(len(want), -1)
    power = float(np.sqrt(np.square(change).mean(1)).mean() ** 2)
    signal = float(np.square(want.astype(np.float64)).mean())
    return power / signal if signal else power


def snr_db(ratio: float) -> float:
    return float(-10 * np.log10(max(ratio, 1e-30)))


def _read_as(graph: Graph, name: str) -> str:
    """The tensor of a quantised graph that stands for one of the float graph: dequantised, integers, or itself."""
    return next(t for t in (f"{name}/dq", f"{name}/q", name) if t in graph.tensors)


def _q_of(graph: Graph, name: str) -> QParams:
    """How an integer tensor is quantised, by the QuantizeLinear that makes it or the DequantizeLinear that reads it."""
    node = next(n for n in graph.nodes if n.op == "QuantizeLinear" and name in n.outputs
                or n.op == "DequantizeLinear" and n.inputs[0] == name)
    return QParams.of(graph.const(node.inputs[1]), graph.const(node.inputs[2]).astype(np.int32))


def _parameters(graph: Graph) -> dict[str, Array]:
    """The constants that QuantizeLinear and DequantizeLinear read."""
    names = dict.fromkeys(i for n in graph.nodes if n.op in ("QuantizeLinear", "DequantizeLinear") for i in n.inputs)
    return {n: graph.const(n) for n in names if graph.const(n) is not None}


def _open(graph: Graph, constants: list[str], extra: list[str]) -> Reference:
    model = to_onnx(graph)
    kept = [i for i in model.graph.initializer if i.name not in constants]
    for i in model.graph.initializer:
        if i.name in constants:
            model.graph.input.append(helper.make_tensor_value_info(i.name, i.data_type, list(i.dims)))
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return reference(onnx.load_model_from_string(model.SerializeToString()), extra, custom.used(graph))


def _each(model: Reference, feeds: list[Mapping[str, Array]]) -> list[dict[str, Array]]:
    """One result per feed, on all cores: onnxruntime computes outside Python's lock."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return [dict(zip(model.names, r, strict=True)) for r in pool.map(model.run, feeds)]
