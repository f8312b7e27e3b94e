"""Recurrent layers on integers: the steps that they become, functions of int16 tensors, and what they cost."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings, strategies as st
from onnx.reference import ReferenceEvaluator
from test_quantize import outputs, snr, tiny
from test_wide import compiled

import edgec
from edgec import board, host, onnx_run, pipeline, reference
from edgec.data import Dataset, as_model_input
from edgec.fixed import quantise
from edgec.ir import QParams
from edgec.onnx_out import to_onnx
from edgec.ops import curve
from edgec.passes.normalise import drop_identities
from edgec.quantisation import sensitivity
from edgec.quantisation.quantise import quantise_model
from edgec.quantisation.recipe import IMPROVEMENTS, Recipe
from edgec.quantisation.unroll import RECURRENT, unrolled


def drawn(seed):
    """Normal numbers, the same whatever other tests draw."""
    rng = np.random.default_rng(seed)
    return lambda *shape, scale=1.0: (rng.standard_normal(shape) * scale).astype(np.float32)


PLAIN = Recipe("minmax", without=IMPROVEMENTS)
HIDDEN, INPUTS = 6, 4


def recurrent(op="LSTM", time=5, direction="forward", layout=0, batch=1, initial=False, more=(), outs=None, **attributes):
    """One layer; W is of a size that drives gates to both ends. initial: h (and c) as inputs h0 (and c0)."""
    both, normal = 2 if direction == "bidirectional" else 1, drawn(1)
    rows = len(RECURRENT[op]) * HIDDEN
    constants = {"w": normal(both, rows, INPUTS), "r": normal(both, rows, HIDDEN, scale=0.7),
                 "b": normal(both, 2 * rows, scale=0.5)}
    states = ["h0", "c0"][:1 + (op == "LSTM")] if initial else []
    shape = (batch, time, INPUTS) if layout else (time, batch, INPUTS)
    state = (batch, both, HIDDEN) if layout else (both, batch, HIDDEN)
    a = {"hidden_size": HIDDEN, "direction": direction, "layout": layout, **attributes}
    names = "y yh" + (" yc" if op == "LSTM" else "")
    node = (op, ["x", "w", "r", "b", *([""] if states else []), *states], names, a)
    return tiny([node, *more], {"x": shape, **{s: state for s in states}}, constants, outs or ["y", "yh"], opset=17)


def data_for(g, n=40):
    normal = drawn(2)
    return Dataset({i: normal(n, *g.type(i).shape, scale=0.5 if i != "x" else 1.0) for i in g.inputs}, None, "")


CASES = [("LSTM", {}), ("LSTM", {"direction": "bidirectional"}), ("LSTM", {"direction": "reverse", "initial": True}),
         ("LSTM", {"layout": 1, "batch": 2}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}),
         ("GRU", {"linear_before_reset": 1, "initial": True, "batch": 2}), ("GRU", {"direction": "bidirectional", "time": 3}),
         ("RNN", {}), ("RNN", {"activations": ["Relu"], "initial": True}), ("LSTM", {"time": 1, "initial": True})]


@pytest.mark.parametrize(("op", "options"), CASES)
def test_single_steps_compute_the_same(op, options):
    g = recurrent(op, **options)
    u = unrolled(g)
    assert not any(n.op in RECURRENT for n in u.nodes) and {o for n in u.nodes for o in n.origin} == {"the_y"}
    data = data_for(g, 5)
    if options.get("layout"):      # which onnxruntime does not compute
        evaluator = ReferenceEvaluator(to_onnx(g))
        want = [evaluator.run(None, s) for s in data]
    else:
        want = [onnx_run.reference(to_onnx(g)).run(s) for s in data]
    got = [onnx_run.reference(to_onnx(u)).run(s) for s in data]
    for a, b in zip(want, got, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("op", "options"), [c for c in CASES if not c[1].get("layout")])
def test_integers_from_end_to_end(op, options, tmp_path):
    """No float node is left; all steps share scales and weights; the C equals the reference, which follows onnxruntime."""
    g = recurrent(op, **options, outs=["y"])
    data = data_for(g)
    done = quantise_model(g, data, PLAIN)
    c = pipeline.compile_graph(done.graph, board.load("host"), name="cell")
    assert not any(n.op in ("QuantizeLinear", "DequantizeLinear", "Sigmoid", "Tanh") for n in c.graph.nodes)
    weights = {n.inputs[1] for n in done.graph.nodes if n.op == "Gemm"}
    gates, both = len(RECURRENT[op]), 1 + (options.get("direction") == "bidirectional")
    assert len(weights) == gates * both * (1 if options.get("time") == 1 and not options.get("initial") else 2)
    for name, text in c.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    model, ort = host.load(tmp_path), onnx_run.reference(to_onnx(done.graph)).run
    off = []
    for sample in as_model_input(data.first(10), done.graph):
        want = reference.run(c.graph, sample)["y"]
        np.testing.assert_array_equal(model.run([sample[i] for i in c.graph.inputs])[0].reshape(want.shape), want)
        off.append(np.abs(ort(sample)[0].astype(int) - want).max())
    assert max(off) <= 2      # a step apart at one time is fed back
    want, got = outputs(g, data), outputs(done.graph, data)
    print(f"\n{op} {options}: {snr(want, got.reshape(want.shape)):.1f} dB, off by {max(off)}")
    assert snr(want, got.reshape(want.shape)) > 25


def test_each_step_is_within_one_of_onnxruntime():
    g = recurrent("LSTM", time=3, initial=True)
    data = data_for(g)
    q = quantise_model(g, data, PLAIN).graph
    c = compiled(q)
    named = {t.source: n for n, t in c.tensors.items() if t.source}
    ort = onnx_run.reference(to_onnx(q), [s for s in named if s in q.tensors])
    count = 0
    for sample in as_model_input(data.first(8), q):
        found = dict(zip(ort.names, ort.run(sample), strict=True)) | sample
        for node in c.nodes:
            tensors = [c.tensors[t] for t in (*node.inputs, *node.outputs) if t]
            if any(t.data is None and t.source not in found or t.perm for t in tensors):
                continue
            ins = [t.data if t.data is not None else found[t.source].reshape(t.type.shape) for t in tensors[:len(node.inputs)]]
            got, want = reference.run_node(c, node, ins)[0], found[tensors[-1].source].reshape(tensors[-1].type.shape)
            assert np.abs(got.astype(int) - want.astype(int)).max() <= 1, node
            count += 1
    assert count >= 8 * 3 * 15


def test_the_cell_needs_16_bits():
    """Over 60 steps, beside the same layer with 8 bits everywhere."""
    g = recurrent("LSTM", time=60, outs=["y"])
    data = data_for(g, 12)
    want = outputs(g, data)
    found = {bits: snr(want, outputs(quantise_model(g, data, Recipe("minmax", without=IMPROVEMENTS, bits=b)).graph, data)
                       .reshape(want.shape)) for bits, b in (("16x8", {}), ("8x8", {"the_y": "8x8"}))}
    print(f"\n{found}")
    assert found["16x8"] > found["8x8"] + 3


def test_what_is_not_taken_apart():
    for options in ({"clip": 0.5}, {"input_forget": 1}, {"activations": ["Sigmoid", "Softsign", "Tanh"]}):
        g = recurrent("LSTM", **options)
        assert any(n.op == "LSTM" for n in unrolled(g).nodes)
    recipe = Recipe("minmax", without=IMPROVEMENTS, bits={"the_y": "float"})
    done = quantise_model(recurrent(), data_for(recurrent()), recipe)
    assert [(n.op, n.reason) for n in done.summary.float_nodes] == [("LSTM", "has no int8 form")]


@pytest.mark.parametrize(("op", "state"), [("GRU", {"h0": "yh"}), ("LSTM", {"h0": "yh", "c0": "yc"})])
def test_state_between_runs_in_integers(op, state, tmp_path):
    """One step a run: h is kept in 8 bits, c in 16, over sequences of 15 steps."""
    g = recurrent(op, time=1, initial=True, outs=["y", *state.values()])
    onnx.save(to_onnx(g), tmp_path / "cell.onnx")
    np.savez(tmp_path / "data.npz", x=drawn(4)(8, 15, 1, 1, INPUTS))
    built = edgec.build(tmp_path / "cell.onnx", out=tmp_path / "p", board="host", state=state, data=tmp_path / "data.npz")
    kinds = {s["name"]: s["dtype"] for s in built.report["state"]}
    assert kinds == {"h0": "int8", "c0": "int16"} if op == "LSTM" else {"h0": "int8"}
    assert built.report["float_islands"] == []
    found, = edgec.validate(tmp_path / "p", data=tmp_path / "data.npz").report["outputs"]
    assert found["ok"] and found["max_abs"] <= 2 and found["equal"] > 0.9


def test_attention():
    """Two heads and a Softmax between products of activations: integers, but for a mean's root in the normalisation."""
    d, time = 8, 5
    nodes = [("LayerNormalization", ["x", "s", "t"], "n", {"axis": -1}),
             *((("MatMul", ["n", f"w{k}"], f"p{k}", {})) for k in "qkv"),
             *(("Reshape", [f"p{k}", "heads"], f"r{k}", {}) for k in "qkv"),
             *(("Transpose", [f"r{k}"], f"h{k}", {"perm": [0, 2, 3, 1] if k == "k" else [0, 2, 1, 3]}) for k in "qkv"),
             ("MatMul", ["hq", "hk"], "m", {}), ("Mul", ["m", "half"], "u", {}), ("Softmax", ["u"], "a", {"axis": -1}),
             ("MatMul", ["a", "hv"], "o", {}), ("Transpose", ["o"], "o2", {"perm": [0, 2, 1, 3]}),
             ("Reshape", ["o2", "whole"], "o3", {}), ("MatMul", ["o3", "wo"], "o4", {}), ("Add", ["o4", "x"], "y", {})]
    normal = drawn(6)
    g = pipeline.simplify(tiny(nodes, {"x": (1, time, d)}, {
        "s": np.ones(d, np.float32), "t": np.zeros(d, np.float32), **{f"w{k}": normal(d, d, scale=d**-0.5) for k in "qkvo"},
        "heads": np.array([1, time, 2, d // 2]), "whole": np.array([1, time, d]), "half": np.float32(0.5)}))
    done = quantise_model(g, data_for(g), Recipe("minmax", without=IMPROVEMENTS))
    assert {n.op for n in done.summary.float_nodes} <= {"LayerNormalization", "Sqrt", "Div", "Reciprocal"}
    other = Dataset({"x": normal(40, 1, time, d)}, None, "")
    want = outputs(g, other)
    assert snr(want, outputs(done.graph, other).reshape(want.shape)) > 24


def test_the_report_names_a_recurrent_layer_once():
    g = recurrent("GRU", time=3, outs=["y"])
    done = quantise_model(g, data_for(g, 8), PLAIN)
    found = sensitivity.analyse(done, data_for(g, 8), "int8", {}, lambda *a: None)
    assert [y.name for y in found.layers] == ["the_y"] and {r.node for r in found.remedies} == {"the_y"}


def test_rounding_is_one_for_all_steps():
    g = recurrent("GRU", time=4, outs=["y"])
    data = data_for(g)
    done = quantise_model(g, data, Recipe("minmax", without=("equalise", "ranges", "scales")))
    assert {x.step for x in done.summary.gains} == {"bias", "rounding"}
    assert len({n.inputs[1] for n in done.graph.nodes if n.op == "Gemm"}) == 6


# ---- functions of int16 ----

FUNCTIONS = {"Sigmoid": lambda v: 1 / (1 + np.exp(-v)), "Tanh": np.tanh, "Relu": lambda v: np.maximum(v, 0),
             "Requantize": lambda v: v}


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(sorted(FUNCTIONS)), st.floats(0.5, 100), st.sampled_from(["int16", "int8"]),
       st.integers(-60, 60))
def test_points_are_within_one_step(name, largest, dtype, zero):
    f = FUNCTIONS[name]
    zero = 0 if name == "Relu" or largest > 8 else zero      # a bend between points, and too few of them, stay float
    bound = max(float(np.abs(f(np.float32(largest))).max()), 1e-3)
    y = QParams.of(bound / 32000, 400 * zero) if dtype == "int16" else QParams.of(bound / 60, zero)
    x = QParams.of(largest / 32767, 500 * zero)
    p, reach = curve.points(x, y, dtype, f)
    assert len(p) - 1 in curve.SEGMENTS
    every = np.arange(-2**15, 2**15)
    exact = quantise(f((every.astype(np.float64) - int(x.zero_point)) * float(x.scale)).astype(np.float32), y, dtype).astype(int)
    assert np.abs(curve.values(p, reach, every, dtype) - exact).max() <= 1


def test_a_curve_too_steep_stays_float():
    assert curve.points(QParams.of(1e-3, 0), QParams.of(1e-3, 0), "int16", np.round) is None
    g = tiny([("Conv", ["x", "w"], "c", {}), ("Tanh", ["c"], "y", {})], {"x": (1, 2, 3, 3)}, {"w": drawn(3)(2, 2, 1, 1)})
    done = quantise_model(g, data_for(g), Recipe("minmax", without=IMPROVEMENTS, bits={"the_c": "16x8"}))
    assert any(n.op == "edgec.Curve" for n in compiled(drop_identities(done.graph)).nodes)
