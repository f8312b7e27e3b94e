"""Prints what int8 costs each network: accuracy, and signal to noise ratio (SNR) against the float model, each way.

python tests/benchmarks/quantisation.py [--ways edgec,published,ort] [--repeats N] [--json FILE] [network ...]

Networks are those of EDGEC_MODELS, of examples/ and of `fresh.py`, which trains them on the spot; `fresh` names all of
these with three seeds each. No sample both calibrates and is measured: samples are shuffled and cut in four, each
quarter is measured on networks calibrated with the other three; with fewer than 100 samples that is done twice over.
Where a test file exists, all of it is measured, on networks calibrated with three quarters of the calibration file.
Every way to quantise sees the same samples. SNR is that of all folds' signal to all folds' noise, with the standard
deviation of the folds' own; `lead` is by how much edgec is ahead of a way, with that of the differences in the same
fold, and `ahead` the share of the folds where it is. Behind a Softmax one sample near a decision moves the SNR of a
fold by several dB, or there is none, so it is shown for what goes into the Softmax, too.

`edgec` is the integer reference, which the emitted C equals bit for bit; `published` is the int8 file that came with
the float one, calibrated by its authors; `ort` is onnxruntime's static quantiser (QDQ, per channel) with each of its
three calibrations, run in onnxruntime with graph optimisation off.
"""
from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import fresh
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
FOLDS = 4
FEW, REPEATS = 100, 2      # samples below which the folds are repeated with another shuffle

NO_NOISE = 99.0            # dB

Outputs = tuple[np.ndarray, np.ndarray | None]     # as reals, and what goes into the last Softmax


@dataclass(frozen=True, eq=False)
class Case:
    """A float network and its samples. calibration: those that calibrate; None: the measured ones do, in folds.
    classes: the labels are of classes, which the largest output tells. threshold: where the labels are of anomalies,
    which a mean square difference of output and input above it tells; SNR is then that of the normal samples, for the
    others leave every calibrated range on purpose. published: the int8 file that came with it."""

    name: str
    model: Path
    samples: np.ndarray
    labels: np.ndarray
    classes: bool
    threshold: float | None = None
    published: Path | None = None
    calibration: np.ndarray | None = None

    def folds(self, repeats: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(samples to calibrate with, indices of those to measure)"""
        pool = self.samples if self.calibration is None else self.calibration
        for repeat in range(repeats or (REPEATS if len(pool) < FEW else 1)):
            order = np.random.default_rng(repeat).permutation(len(pool))
            for k in range(FOLDS):
                rest = np.sort(np.delete(order, slice(k, None, FOLDS)))
                measured = np.arange(len(self.samples)) if self.calibration is not None else np.sort(order[k::FOLDS])
                yield pool[rest], measured

    def accuracy(self, outputs: np.ndarray, at: np.ndarray) -> float | None:
        """Of the labelled samples among `at`, whose outputs these are; None without any."""
        labels = self.labels[at]
        if self.threshold is not None:
            error = np.mean((outputs - self.samples[at].reshape(outputs.shape)) ** 2, axis=1)
            return float(np.mean((error > self.threshold) == (labels > 0)))
        return compare.accuracy(outputs, labels) if self.classes and (labels >= 0).any() else None

    def snr(self, got: np.ndarray, want: np.ndarray, at: np.ndarray) -> float:
        """In dB; NO_NOISE where nothing differs."""
        kept = slice(None) if self.threshold is None else self.labels[at] == 0
        return min(compare.difference(got[kept].astype(np.float32), want[kept]).snr_db or NO_NOISE, NO_NOISE)


def case(name: str) -> Case:
    if name in OWN:
        calibration, test = (np.load(EXAMPLES / f"{OWN[name]}_{part}.npz") for part in ("calib", "test"))
        key = next(k for k in test.files if k != "labels")
        return Case(name, EXAMPLES / f"{name}.onnx", test[key], test["labels"], OWN[name] == "digits",
                    ANOMALY.get(name), None, calibration[key])
    if name.partition("-")[0] in fresh.MAKERS:
        made = fresh.trained(name)
        return Case(name, made.model, made.test, made.labels, True, None, None, made.calibration)
    z = np.load(MODELS / f"{name}.npz")
    x = z["x"] if "x" in z.files else (z["x_int8"].astype(np.float32) - z["in_zp"]) * z["in_scale"]
    return Case(name, MODELS / f"{name}_fp32.onnx", x.astype(np.float32), z["labels"], name != "ad", None,
                MODELS / f"{name}_int8.onnx")


def through(model: onnx.ModelProto, x: np.ndarray) -> Outputs:
    """A float or QDQ model on every sample."""
    softmax = _into_softmax(model)
    runner = onnx_run.reference(model, [softmax] if softmax else [])
    i = model.graph.input[0]
    shape = [d.dim_value for d in i.type.tensor_type.shape.dim]
    rows = [runner.run({i.name: s.reshape(shape)}) for s in x]
    outputs = [np.stack([r[k] for r in rows]).reshape(len(x), -1) for k in range(len(runner.names))]
    return outputs[0], outputs[1] if softmax else None


def _into_softmax(model: onnx.ModelProto) -> str | None:
    """What the Softmax reads that makes the model's first output, quantised or not."""
    makers = {o: n for n in model.graph.node for o in n.output}
    last = makers.get(model.graph.output[0].name)
    while last is not None and last.op_type in ("QuantizeLinear", "DequantizeLinear"):
        last = makers.get(last.input[0])
    return last.input[0] if last is not None and last.op_type == "Softmax" else None


def through_integers(graph, x: np.ndarray) -> Outputs:
    """A quantised graph, by the integer reference of the compiled form."""
    compiled = pipeline.run_passes(graph, pipeline.SIMPLIFY + pipeline.ABSORB + pipeline.LAYOUT)
    name, out = graph.inputs[0], graph.outputs[0]
    softmax = next((n.inputs[0] for n in compiled.nodes if n.op == "Softmax"), None)
    data = as_model_input(Dataset({name: x.reshape(len(x), *graph.type(name).shape)}, None, "samples"), graph)
    rows = [run(compiled, data[k], lambda t: t == softmax) for k in range(len(x))]

    def reals(t: str) -> np.ndarray:
        y = np.stack([r[t] for r in rows]).reshape(len(x), -1)
        return dequantise(y, compiled.type(t).q) if y.dtype.kind == "i" else y

    return reals(out), reals(softmax) if softmax else None


def by_edgec(c: Case, calibration: np.ndarray, x: np.ndarray) -> Outputs:
    graph = onnx_in.load(c.model)
    name = graph.inputs[0]
    data = Dataset({name: calibration.reshape(len(calibration), *graph.type(name).shape)}, None, "samples")
    return through_integers(quantise_model(pipeline.simplify(graph), data).graph, x)


def by_onnxruntime(c: Case, calibration: np.ndarray, x: np.ndarray, method: str) -> Outputs:
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
            self.rest = iter(calibration)

        def get_next(self):
            s = next(self.rest, None)
            return None if s is None else {name: s.reshape(shape)}

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        prepared, made = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(str(c.model), str(prepared))
        quantize_static(str(prepared), str(made), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
                        calibrate_method=getattr(CalibrationMethod, method))
        return through(onnx.load(made), x)


def ways(c: Case, chosen: set[str]) -> Iterator[tuple[str, Callable[[np.ndarray, np.ndarray], Outputs]]]:
    """(name, function of the calibration samples and the indices to measure) of each way to quantise."""
    if "edgec" in chosen:
        yield "edgec", lambda fit, at: by_edgec(c, fit, c.samples[at])
    if "published" in chosen and c.published:
        yield "published int8", lambda fit, at: through_integers(onnx_in.load(c.published), c.samples[at])
    if "ort" in chosen:
        for method in ("MinMax", "Percentile", "Entropy"):
            yield f"onnxruntime {method}", lambda fit, at, m=method: by_onnxruntime(c, fit, c.samples[at], m)


def measure(c: Case, chosen: set[str], repeats: int | None) -> list[dict]:
    """One entry per way and fold."""
    want, logits = through(onnx.load(c.model), c.samples)
    found = []
    for fold, (fit, at) in enumerate(c.folds(repeats)):
        for way, outputs in ways(c, chosen):
            start = time.perf_counter()
            y, before = outputs(fit, at)
            both = logits is not None and before is not None
            found.append({"network": c.name, "way": way, "fold": fold, "samples": len(at),
                          "labelled": int((c.labels[at] >= 0).sum()),
                          "accuracy": c.accuracy(y, at), "float_accuracy": c.accuracy(want[at], at),
                          "top1": float(np.mean(y.argmax(1) == want[at].argmax(1))) if c.classes else None,
                          "snr_db": c.snr(y, want[at], at),
                          "before_softmax_db": c.snr(before, logits[at], at) if both else None,
                          "seconds": time.perf_counter() - start})
    return found


def table(found: list[dict]) -> Iterator[str]:
    """Lines: a network and a way each."""
    yield (f"{'network':14} {'way':22} {'folds':>5} {'accuracy':>8} {'drop':>6} {'top-1':>6} {'SNR dB':>11} {'lead':>11} "
           f"{'ahead':>5} {'bef. Softmax':>12} {'lead':>11} {'ahead':>5} {'s':>6}")
    for network in dict.fromkeys(f["network"] for f in found):
        own = [f for f in found if f["network"] == network and f["way"] == "edgec"]
        for way in dict.fromkeys(f["way"] for f in found if f["network"] == network):
            rows = [f for f in found if f["network"] == network and f["way"] == way]
            exact, accuracy = (_mean(rows, k, "labelled") for k in ("float_accuracy", "accuracy"))
            drop = None if accuracy is None else exact - accuracy
            snrs = [cell for key in ("snr_db", "before_softmax_db") for cell in _cells(rows, own, key)]
            yield (f"{network:14} {way:22} {len(rows):5} {_percent(accuracy, 8)} {_percent(drop, 6)} "
                   f"{_percent(_mean(rows, 'top1', 'samples'), 6)} {' '.join(snrs)} "
                   f"{np.mean([f['seconds'] for f in rows]):6.1f}")


def _cells(rows: list[dict], own: list[dict], key: str) -> tuple[str, str, str]:
    """SNR, lead of `own`, share of the folds where it is ahead."""
    values, mine = (np.array([f[key] for f in r if f[key] is not None]) for r in (rows, own))
    if not len(values):
        return f"{'-':>11}", f"{'-':>11}", f"{'-':>5}"
    snr = f"{_pooled(values):.1f} ± {values.std():.1f}"
    if rows is own or rows[0]["way"] == "edgec" or len(mine) != len(values):
        return f"{snr:>11}", f"{'-':>11}", f"{'-':>5}"
    lead = f"{_pooled(mine) - _pooled(values):+.1f} ± {(mine - values).std():.1f}"
    return f"{snr:>11}", f"{lead:>11}", f"{np.mean(mine > values):>5.0%}"


def _pooled(snr_db: np.ndarray) -> float:
    """Of the mean of noise over signal."""
    return float(-10 * np.log10(np.mean(10 ** (-snr_db / 10))))


def _mean(rows: list[dict], key: str, weight: str) -> float | None:
    known = [f for f in rows if f[key] is not None]
    return float(np.average([f[key] for f in known], weights=[f[weight] for f in known])) if known else None


def _percent(v: float | None, width: int) -> str:
    return f"{'-':>{width}}" if v is None else f"{100 * v:{width}.2f}"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("networks", nargs="*", default=[*OWN, *TINY])
    p.add_argument("--ways", default="edgec,published,ort")
    p.add_argument("--repeats", type=int, help="of the folds, each time with another shuffle")
    p.add_argument("--json", type=Path)
    a = p.parse_args()
    found = []
    for name in [n for given in a.networks for n in (fresh.ALL if given == "fresh" else [given])]:
        now = measure(case(name), set(a.ways.split(",")), a.repeats)
        lines = list(table(now))
        print("\n".join(lines if not found else lines[1:]), flush=True)
        found += now
        if a.json:
            a.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
