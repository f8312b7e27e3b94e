"""Prints what int8 costs each network: accuracy, and signal to noise ratio of the outputs against the float model's.

python tests/benchmarks/quantisation.py [--ways edgec,published,ort] [--json FILE] [network ...]

Networks are those of EDGEC_MODELS and of examples/. Where there are no calibration data of their own, every second
sample calibrates and the others are measured; where there are fewer than 100, all of them do both, for every way.
`edgec` is the integer reference, which the emitted C equals bit for bit; `published` is the int8 file that came with
the float one; `ort` is onnxruntime's static quantiser (QDQ, per channel) with each of its three calibrations, run in
onnxruntime with graph optimisation off.
"""
from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edgec import compare, onnx_in, onnx_run, pipeline
from edgec.data import Dataset, as_model_input
from edgec.fixed import dequantise
from edgec.quantisation.quantise import quantise_model
from edgec.reference import run

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
MODELS = Path(os.environ.get("EDGEC_MODELS", ROOT.parent / "shared" / "models"))
TINY = ("ad", "ic", "ic_large", "kws", "sww", "vww")
ANOMALY = {"vibration_ae": 4.04e-4}     # as its training script printed it
OWN = {"digits_cnn": "digits", "digits_dscnn": "digits", "vibration_ae": "vibration"}


@dataclass(frozen=True, eq=False)
class Case:
    """A float network, samples to calibrate with and others to measure on. classes: the labels are of classes, which
    the largest output tells. threshold: where the labels are of anomalies, which a mean square difference of output and
    input above it tells; SNR is then that of the normal samples, for the others leave every calibrated range on
    purpose. published: the int8 file that came with it, None where there is none."""

    name: str
    model: Path
    calibration: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    classes: bool
    threshold: float | None
    published: Path | None

    def accuracy(self, outputs: np.ndarray) -> float | None:
        """Of the labelled samples; None without labels."""
        if self.threshold is not None:
            error = np.mean((outputs - self.test.reshape(outputs.shape)) ** 2, axis=1)
            return float(np.mean((error > self.threshold) == (self.labels > 0)))
        return compare.accuracy(outputs, self.labels) if self.classes and (self.labels >= 0).any() else None

    def snr(self, got: np.ndarray, want: np.ndarray) -> float | None:
        kept = slice(None) if self.threshold is None else self.labels == 0
        return compare.difference(got[kept].astype(np.float32), want[kept]).snr_db


def case(name: str) -> Case:
    if name in OWN:
        calibration, test = (np.load(EXAMPLES / f"{OWN[name]}_{part}.npz") for part in ("calib", "test"))
        key = next(k for k in test.files if k != "labels")
        return Case(name, EXAMPLES / f"{name}.onnx", calibration[key], test[key], test["labels"], OWN[name] == "digits",
                    ANOMALY.get(name), None)
    z = np.load(MODELS / f"{name}.npz")
    x = z["x"] if "x" in z.files else (z["x_int8"].astype(np.float32) - z["in_zp"]) * z["in_scale"]
    x = x.astype(np.float32)
    fit, rest = (slice(0, None, 2), slice(1, None, 2)) if len(x) >= 100 else (slice(None), slice(None))
    return Case(name, MODELS / f"{name}_fp32.onnx", x[fit], x[rest], z["labels"][rest], name != "ad", None,
                MODELS / f"{name}_int8.onnx")


def through(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The first output of a float model on every sample."""
    runner = onnx_run.reference(model)
    i = model.graph.input[0]
    shape = [d.dim_value for d in i.type.tensor_type.shape.dim]
    return np.stack([runner.run({i.name: s.reshape(shape)})[0] for s in x]).reshape(len(x), -1)


def through_integers(graph, x: np.ndarray) -> np.ndarray:
    """The first output as reals of a quantised graph, by the integer reference of the compiled form."""
    compiled = pipeline.run_passes(graph, pipeline.SIMPLIFY + pipeline.ABSORB + pipeline.LAYOUT)
    name, out = graph.inputs[0], graph.outputs[0]
    data = as_model_input(Dataset({name: x.reshape(len(x), *graph.type(name).shape)}, None, "samples"), graph)
    y = np.stack([run(compiled, data[k])[out] for k in range(len(x))]).reshape(len(x), -1)
    return dequantise(y, compiled.type(out).q) if y.dtype == np.int8 else y


def by_edgec(c: Case) -> np.ndarray:
    graph = onnx_in.load(c.model)
    name = graph.inputs[0]
    data = Dataset({name: c.calibration.reshape(len(c.calibration), *graph.type(name).shape)}, None, "samples")
    return through_integers(quantise_model(pipeline.simplify(graph), data).graph, c.test)


def by_onnxruntime(c: Case, method: str) -> np.ndarray:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    graph = onnx_in.load(c.model)
    name, shape = graph.inputs[0], graph.type(graph.inputs[0]).shape

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rest = iter(c.calibration)

        def get_next(self):
            s = next(self.rest, None)
            return None if s is None else {name: s.reshape(shape)}

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        prepared, made = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(str(c.model), str(prepared))
        quantize_static(str(prepared), str(made), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
                        calibrate_method=getattr(CalibrationMethod, method))
        return through(onnx.load(made), c.test)


def ways(c: Case, chosen: set[str]):
    """(name, function that gives the outputs as reals) of each way to quantise."""
    if "edgec" in chosen:
        yield "edgec", lambda: by_edgec(c)
    if "published" in chosen and c.published:
        yield "published int8", lambda: through_integers(onnx_in.load(c.published), c.test)
    if "ort" in chosen:
        for method in ("MinMax", "Percentile", "Entropy"):
            yield f"onnxruntime {method}", lambda m=method: by_onnxruntime(c, m)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("networks", nargs="*", default=[*OWN, *TINY])
    p.add_argument("--ways", default="edgec,published,ort")
    p.add_argument("--json", type=Path)
    a = p.parse_args()
    found = []
    print(f"{'network':12} {'way':24} {'accuracy':>8} {'drop':>6} {'top-1':>6} {'SNR dB':>7} {'s':>6}")
    for c in map(case, a.networks):
        want = through(onnx.load(c.model), c.test)
        exact = c.accuracy(want)

        def show(way: str, got: np.ndarray, seconds: float, c=c, want=want, exact=exact) -> None:
            accuracy, snr = c.accuracy(got), c.snr(got, want)
            top1 = float(np.mean(got.argmax(1) == want.argmax(1))) if c.classes else None
            found.append({"network": c.name, "way": way, "accuracy": accuracy, "float_accuracy": exact, "top1": top1,
                          "snr_db": snr, "samples": len(want), "seconds": seconds})
            drop = None if accuracy is None else 100 * (exact - accuracy)
            cells = [f"{v:{w}.2f}" if v is not None else f"{'-':>{w}}" for v, w in
                     ((accuracy and 100 * accuracy, 8), (drop, 6), (top1 and 100 * top1, 6), (snr, 7))]
            print(f"{c.name:12} {way:24} {' '.join(cells)} {seconds:6.1f}", flush=True)

        show("float", want, 0.0)
        for way, outputs in ways(c, set(a.ways.split(","))):
            start = time.perf_counter()
            got = outputs()
            show(way, got, time.perf_counter() - start)
    if a.json:
        a.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
