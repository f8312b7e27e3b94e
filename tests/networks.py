"""The real networks that tests share: their graphs after all passes, their inputs, and onnxruntime's inner tensors."""
from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx

from edgec import onnx_in, pipeline
from edgec.ir import Graph

NETWORKS = ("ad", "kws", "ic", "vww", "sww", "ic_large")


@cache
def final_graph(path: Path) -> Graph:
    """The graph after all passes."""
    passes = pipeline.ABSORB + pipeline.LAYOUT + pipeline.CHANNELS
    return pipeline.run_passes(pipeline.simplify(onnx_in.load(path)), passes)


def samples(folder: Path, name: str, kind: str) -> np.ndarray:
    """Real inputs of the int8 or fp32 network, sample axis first."""
    d = np.load(folder / f"{name}.npz")
    if kind == "int8":
        return d["x_int8"]
    return d["x"] if "x" in d else ((d["x_int8"].astype(np.float32) - d["in_zp"]) * d["in_scale"]).astype(np.float32)


class Inner:
    """onnxruntime with every tensor of the model as an output, graph optimisation off."""

    def __init__(self, path: Path):
        import onnxruntime as ort

        model = onnx.load(path)
        self.input = model.graph.input[0].name
        names = {o for n in model.graph.node for o in n.output if o}
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in sorted(names))
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        self.session = ort.InferenceSession(model.SerializeToString(), options)

    def __call__(self, x: np.ndarray) -> dict[str, np.ndarray]:
        found = self.session.run(None, {self.input: x})
        return {self.input: x, **{o.name: v for o, v in zip(self.session.get_outputs(), found, strict=True)}}


def held(graph: Graph, values: dict[str, np.ndarray], tensor: str) -> np.ndarray | None:
    """The reference's value of a graph tensor, 0 in fillers; None where the reference has no such tensor."""
    t = graph.tensors[tensor]
    if t.data is not None:
        return t.data
    v = values.get(t.source)
    if v is None:
        return None
    v = v if t.perm is None else v.transpose(t.perm)
    if t.channels is None:
        return v.reshape(t.type.shape)
    at, kept = t.channels.axis, np.array(t.channels.kept)
    whole = v.reshape([t.channels.count if k == at else n for k, n in enumerate(t.type.shape)])
    means = np.expand_dims(kept >= 0, [k for k in range(whole.ndim) if k != at])
    return np.where(means, whole.take(kept, at), 0).astype(v.dtype)


def meaningful(graph: Graph, tensor: str, value: np.ndarray) -> np.ndarray:
    """A graph tensor's value without fillers."""
    channels = graph.tensors[tensor].channels
    return value if channels is None else value.compress(np.array(channels.kept) >= 0, channels.axis)
