"""Mixed precision and the sensitivity report."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from edgec import board, cli, compare, onnx_in, pipeline
from edgec.data import Dataset, as_model_input, load
from edgec.errors import UsageError
from edgec.ir import Graph
from edgec.onnx_out import to_onnx
from edgec.quantisation import mixed, sensitivity
from edgec.quantisation.mixed import Option
from edgec.quantisation.quantise import quantise_model
from edgec.quantisation.recipe import IMPROVEMENTS, Recipe
from edgec.quantisation.simulate import float_values
from edgec.reference import run
from edgec.rewrite import Rewriter

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PLAIN = Recipe("minmax", without=IMPROVEMENTS)      # equalisation would undo the outliers


def quiet(what, done, total):
    pass


def prices(graph):
    return mixed.Prices(*pipeline.prices(graph, board.load("cortex-m4")))


# ---- the knapsack ----


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(1, 50)] * 4, st.integers(-9, 9), st.integers(-9, 9)), max_size=5), st.integers(-30, 30))
def test_the_front_is_what_all_assignments_give(items, room):
    choices = [[Option(f"n{k}", "16x8", a, b, f), Option(f"n{k}", "float", c, d, g), Option(f"n{k}", "8x8", 0, 60)]
               for k, (a, b, c, d, f, g) in enumerate(items)]
    error = 7.0
    every = [(sum(o.cost for o in taken), error + sum(o.error for o in taken)) for taken in itertools.product(*choices)
             if sum(o.flash for o in taken) <= room]
    best = {(c, e) for c, e in every if not any((c2 <= c and e2 < e) or (c2 < c and e2 <= e) for c2, e2 in every)}
    front = mixed.pareto(choices, error, room)
    assert {(c, e) for c, e, _ in front} == best
    for cost, left, widths in front:
        taken = [o for c in choices for o in c if widths.get(o.node, "8x8") == o.width]
        assert (sum(o.cost for o in taken), error + sum(o.error for o in taken)) == (cost, left)
        assert sum(o.flash for o in taken) <= room


# ---- a network that is hard on purpose ----


def hard() -> Graph:
    """The digits network with two channels of each inner tensor 300 times the others: the same function in float."""
    g = pipeline.simplify(onnx_in.load(EXAMPLES / "digits_cnn.onnx"))
    r = Rewriter(g)
    convs = [n for n in g.nodes if n.op == "Conv"]
    assert len(convs) >= 2
    nodes = {n: n for n in g.nodes}
    for first, second in itertools.pairwise(convs):
        factor = np.ones(g.const(first.inputs[1]).shape[0], np.float32)
        factor[[1, 5]] = 300
        a, b = nodes[first], nodes[second]
        w, bias, v = (r.value(i) for i in (*a.inputs[1:3], b.inputs[1]))
        scaled = r.const("w", w * factor[:, None, None, None]), r.const("b", bias * factor)
        nodes[first] = a.with_(inputs=(a.inputs[0], *scaled))
        nodes[second] = b.with_(inputs=(b.inputs[0], r.const("v", v / factor[None, :, None, None]), *b.inputs[2:]))
    r.nodes = list(nodes.values())
    return r.done()


@pytest.fixture(scope="module")
def digits():
    g = hard()
    return g, *(load(EXAMPLES / f"digits_{part}.npz", g) for part in ("calib", "test"))


def accuracy(graph: Graph, data: Dataset) -> float:
    """Of the compiled form's integer reference."""
    c = pipeline.run_passes(graph, pipeline.SIMPLIFY + pipeline.ABSORB + pipeline.LAYOUT)
    samples = as_model_input(data, graph)
    return compare.accuracy(np.stack([run(c, samples[k])[c.outputs[0]] for k in range(len(samples))]), data.labels)


def test_mixed_precision_recovers_a_hard_network(digits):
    g, calibration, test = digits
    test = test.first(200)
    done = quantise_model(g, calibration.first(100), PLAIN)
    bits, trials = mixed.choose_widths(done, calibration.first(100), "int8", {}, 0.005, lambda q: True, prices, None, quiet)
    before = accuracy(done.graph, test)
    recipe = Recipe("minmax", without=IMPROVEMENTS, bits=bits)
    after = accuracy(quantise_model(g, calibration.first(100), recipe).graph, test)
    exact = compare.accuracy(float_values(g, test, g.outputs)[g.outputs[0]], test.labels)
    print(f"\nfloat {exact:.4f}, int8 {before:.4f}, mixed {after:.4f}: {bits}")
    assert exact - before > 0.1, "the network is not hard"
    assert exact - after <= 0.1 * (exact - before)
    chosen = [t for t in trials if t.chosen]
    assert len(chosen) == 1 and chosen[0].drop <= 0.005 and set(bits.values()) <= set(sensitivity.LIFTS)
    assert len(bits) < len(done.plan.linear(done.float)), "nothing was left in 8 bits"


def test_budgets_exclude_assignments(digits):
    g, calibration, _ = digits
    done = quantise_model(g, calibration.first(40), PLAIN)

    few = calibration.first(40)
    with pytest.raises(UsageError, match="within --ram and --flash"):
        mixed.choose_widths(done, few, "int8", {}, 0.005, lambda q: False, prices, None, quiet)
    with pytest.raises(UsageError, match="no assignment of widths keeps the drop below 0.5 %"):
        mixed.choose_widths(done, few, "int8", {n.origin[0]: "8x8" for n in g.nodes}, 0.005, lambda q: True, prices, None, quiet)

    def fits(q: Graph) -> bool:      # no room for float weights
        return all(q.const(n.inputs[1]) is None for n in q.nodes if n.op in ("Conv", "Gemm"))

    bits, trials = mixed.choose_widths(done, few, "int8", {}, 0.1, fits, prices, None, quiet)
    assert set(bits.values()) == {"16x8"} and any(not t.fits for t in trials)


def test_flash_makes_weights_narrow(digits):
    """Three quarters of the flash of int8: some layers go to 4 bits, and the budget holds."""
    g, few = pipeline.simplify(onnx_in.load(EXAMPLES / "digits_cnn.onnx")), digits[1].first(40)
    done = quantise_model(g, few, PLAIN)
    whole = prices(done.graph).flash
    bits, _ = mixed.choose_widths(done, few, "int8", {}, 1.0, lambda q: True, prices, 3 * whole // 4, quiet)
    lifted = sensitivity.Lifted(done, few, "int8", {})
    assert "8x4" in bits.values() and prices(lifted.graph(bits)).flash <= 3 * whole // 4
    assert len(bits) < len(sensitivity.widenable(done.float, done.plan))
    with pytest.raises(UsageError, match="within --ram and --flash"):
        mixed.choose_widths(done, few, "int8", {}, 1.0, lambda q: True, prices, whole // 4, quiet)


def test_the_report_names_the_layer_and_the_remedy(digits):
    g, calibration, _ = digits
    done = quantise_model(g, calibration.first(60), PLAIN)
    s = sensitivity.analyse(done, calibration.first(60), "int8", {}, quiet)
    gains = [r.after_db - r.before_db for r in s.remedies]
    assert gains == sorted(gains, reverse=True) and gains[0] > 1
    assert {y.op for y in s.layers} >= {"Conv", "Gemm"} and all(0 <= y.range_use <= 1 for y in s.layers)
    first = next(y for y in s.layers if y.op == "Conv")
    outliers = {1, 5}
    assert first.worst and not outliers & {c for c, _ in first.worst}      # the small channels drown
    done = quantise_model(g, calibration.first(60), Recipe("percentile:90", without=IMPROVEMENTS))
    cut = sensitivity.analyse(done, calibration.first(60), "int8", {}, quiet)
    assert max(y.saturated for y in cut.layers) > 0.02 > max(y.saturated for y in s.layers)


def test_from_the_command_line(tmp_path, digits, capsys):
    g, calibration, _ = digits
    (tmp_path / "hard.onnx").write_bytes(to_onnx(g).SerializeToString())
    np.savez(tmp_path / "d.npz", **calibration.first(30).inputs)
    model, data = str(tmp_path / "hard.onnx"), ["--data", str(tmp_path / "d.npz"), "--calibration", "minmax"]
    assert cli.run(["sensitivity", model, *data, "--json", "-o", str(tmp_path / "r.html")]) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    assert report["layers"] and report["remedies"] and "Remedies" in (tmp_path / "r.html").read_text()
    steps = [a for s in IMPROVEMENTS for a in ("--without", s)]
    out = ["-o", str(tmp_path / "q.onnx"), "--max-drop", "10%", *steps, "--json"]
    assert cli.run(["quantize", model, *data, *out]) == 0
    done = json.loads(capsys.readouterr().out)
    assert sum(t["chosen"] for t in done["trials"]) == 1 and (tmp_path / "q.onnx").exists()
    assert cli.run(["quantize", model, *data, "-o", str(tmp_path / "q.onnx"), "--max-drop", "x"]) == 2
