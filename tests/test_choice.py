"""The choice between kernels: what is offered, what a flash budget takes, and that it computes the same."""
from __future__ import annotations

import csv
import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from test_small_models import N, Samples, make, quantised

from edgec import board, host, loop_interp, onnx_in, pipeline, reference
from edgec.kernels.choice import Offer, affordable, integer_kernel
from edgec.kernels.cost import cycles, table
from edgec.ops.conv import faster


def rand(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32) / 4


def convolutions(size):
    """Convolutions, of which the second and the fourth are 3x3 of stride 1 over enough channels, and the third is depthwise."""
    layers = [N("Conv", ["x", "w0"], ["a"], pads=[1, 1, 1, 1]), N("Conv", ["a", "w1"], ["b"], pads=[1, 1, 1, 1]),
              N("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1], group=16), N("Conv", ["c", "w1"], ["d"], pads=[1, 0, 0, 1]),
              N("Conv", ["d", "w1"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2])]
    return make(layers, (1, 3, *size), {"w0": rand(16, 3, 3, 3), "w1": rand(16, 16, 3, 3), "w2": rand(16, 1, 3, 3)})


def built(tmp_path, size, goal="time", target="cortex-m4", **options):
    model = quantised(convolutions(size), tmp_path, "QDQ", "int8", "int8", True)
    return pipeline.compile_graph(onnx_in.from_model(model, "m"), board.load(target), goal=goal, **options)


def kernels(c):
    return [s["kernel"] for s in c.stats["steps"] if s["op"] == "Conv"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [(9, 17), (8, 8), (7, 6), (24, 13)])
def test_computes_the_same(tmp_path, size):
    c = built(tmp_path, size)
    assert kernels(c) == ["stem_s8_dsp", "wino_s8_dsp", "dwplane_s8_dsp", "wino_s8_dsp", "conv_s8_dsp"]
    for path, text in c.files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    run = host.load(tmp_path, simd_on_host=True).run
    for x in (s["x"] for s in iter(Samples((1, 3, *size)).get_next, None)):
        expected = reference.run(c.graph, {"x": x})[c.graph.outputs[0]].reshape(-1)
        np.testing.assert_array_equal(np.asarray(run([x])[0]).reshape(-1), expected)
        np.testing.assert_array_equal(loop_interp.run(c.program, [x])[0].reshape(-1), expected)


@pytest.mark.filterwarnings("ignore")
def test_goals_and_budgets(tmp_path):
    def winograd(goal, **options):
        return kernels(built(tmp_path, (16, 16), goal, **options)).count("wino_s8_dsp")

    assert (winograd("time"), winograd("ram"), winograd("size")) == (2, 0, 0)
    assert winograd("balanced") == 0                 # each would double the weights, and more
    assert winograd("time", flash=55_000) == 1
    assert winograd("time", flash=40_000) == 0
    assert winograd("time", ram=8_300) == 0          # its scratch would not fit


@pytest.mark.filterwarnings("ignore")
def test_weights_in_pairs(tmp_path):
    """On a Cortex-M0, unless size is asked for or flash is short; on other cores a weight is a byte."""
    def paired(goal, target="cortex-m0", **options):
        return " ".join(s["kernel"] for s in built(tmp_path, (8, 8), goal, target, **options).stats["steps"]).count(
            "conv_s8_pair"
        )

    assert [paired(goal) for goal in ("time", "balanced", "size")] == [4, 4, 0]
    assert paired("ram") > 0  # the steps of a region are one
    assert (paired("time", flash=64_000), paired("time", flash=44_000), paired("time", "cortex-m3")) == (4, 0, 0)


def test_offers():
    def offer(op="Conv", **attributes):
        model = make([N(op, ["x", "w"], ["y"], pads=[1, 1, 1, 1], **attributes)], (1, 16, 8, 8), {"w": rand(16, 16, 3, 3)})
        graph = pipeline.run_passes(pipeline.simplify(onnx_in.from_model(model, "m")), pipeline.ABSORB + pipeline.LAYOUT)
        return faster(graph, ("dsp", "c99"))

    assert offer() == {}  # of floats


def test_affordable_takes_what_saves_most_for_its_bytes():
    offers = {"a": Offer("k", 100.0, 50), "b": Offer("k", 90.0, 10), "c": Offer("k", 10.0, 60)}
    assert affordable(offers, 9) == frozenset()
    assert affordable(offers, 59) == {"b"}
    assert affordable(offers, 60) == {"a", "b"}
    assert affordable(offers, 119) == {"a", "b"}
    assert affordable(offers, 120) == {"a", "b", "c"}


TABLE = Path(__file__).with_name("benchmarks") / "kernels_m4.csv"


def measured():
    """layer -> kernel -> cycles per multiply-accumulate or element, of the committed benchmark; the portable kernel first"""
    layers = {}
    with open(TABLE, encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            layers.setdefault(row["layer"], {})[row["kernel"]] = float(row["each"])
    return layers


def test_no_kernel_is_slower_than_the_portable_one(monkeypatch):
    monkeypatch.syspath_prepend(TABLE.parent)
    layers = measured()
    assert list(layers) == list(importlib.import_module("kernels_m4").GRID)
    for layer, kernels in layers.items():
        portable, *others = kernels.values()
        assert all(cycles_each <= portable for cycles_each in others), (layer, kernels)


def test_the_choice_is_that_of_the_measurements():
    """Wherever both kernels were measured, the model names the faster one; where it is close, either."""
    seen = 0
    for layer, kernels in measured().items():
        size = re.fullmatch(r"conv 3x3 (\d+)->(\d+), (\d+) wide", layer)
        if size and "wino_s8_dsp" in kernels:
            c, n, width = map(int, size.groups())
            tiles = -(-width // 8) / 2 if width >= 8 else -(-width // 4) / 4
            model = cycles("wino_s8_dsp", tiles, 9 * c, n) / cycles("conv_s8_dsp", width / 2, 9 * c, n)
            real = kernels["wino_s8_dsp"] / kernels["conv_s8_dsp"]
            assert abs(model / real - 1) < 0.1, (layer, model, real)
            seen += 1
    assert seen > 5


def test_costs():
    assert cycles("wino_s8_dsp", 4, 144, 16) < cycles("conv_s8_dsp", 32, 144, 16)
    assert all(len(numbers) == 4 for numbers in table().values())


@pytest.mark.parametrize("kind, shape, expected", [
    ("fc", (64, 12), "dsp"), ("fc", (9, 1), ""), ("pointwise", (8, 16), "dsp"), ("pointwise", (2, 4), ""),
    ("depthwise", (3, 1), "dsp"), ("depthwise", (2, 2), ""), ("depthwise", (5, 2), "dsp")])
def test_small_layers_keep_the_portable_kernel(kind, shape, expected):
    if kind == "depthwise":
        k, stride = shape
        params = dict(in_w=24, in_c=8, out_w=24 // stride, mult=1, kh=k, kw=k, stride_w=stride, dilation_w=1, pad_left=k // 2)
        w = np.full((8, k, k, 1), 99, np.int8)
    else:
        ic, oc = shape
        params = dict(in_c=ic, out_c=oc)
        params |= {} if kind == "fc" else dict(in_w=9, out_w=9, kh=1, kw=1, stride_w=1, dilation_w=1, pad_left=0, groups=1)
        w = np.full((oc, 1, 1, ic), 99, np.int8)
    own, zeros = params | dict(c=128, f=8, lo=-128, hi=127), np.zeros(len(w), np.int32)
    name = {"fc": "fc", "pointwise": "conv", "depthwise": "dwconv"}[kind]
    chosen = integer_kernel(name, ("dsp", "c99"), own, w, zeros, zeros + 1000).kernel
    assert chosen == f"{name}_s8" + f"_{expected}" * bool(expected)
