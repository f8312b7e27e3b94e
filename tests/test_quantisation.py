"""What makes quantisation better: range methods, equalisation, rounding, bias correction, profiles, recipes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings, strategies as st
from test_quantize import MODELS, convolution, normal, outputs, samples, shared, snr, tiny

import edgec
from edgec import compare, onnx_run, validation
from edgec.data import Dataset
from edgec.errors import UsageError
from edgec.onnx_out import to_onnx
from edgec.quantisation import equalise, refine, statistics
from edgec.quantisation.plan import plan
from edgec.quantisation.quantise import quantise_model
from edgec.quantisation.ranges import TRIED, Range, candidates, choose, square_error
from edgec.quantisation.recipe import IMPROVEMENTS, Recipe, load
from edgec.quantisation.scales import scales, weight_q
from edgec.quantisation.simulate import Simulator, float_values, judged, noise, snr_db

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def stats_of(x: np.ndarray) -> statistics.Stats:
    g = tiny([("Relu", ["x"], "y", {})], {"x": (1, x.shape[-1])}, {})
    return statistics.collect_statistics(g, Dataset({"x": x[:, None]}, None, ""), ["x"]).tensors["x"]


def quantised_error(x, r: Range) -> float:
    lo, hi = min(r.lo, 0), max(r.hi, 0)
    step = (hi - lo) / 255
    zero = np.rint(-lo / step)
    q = np.clip(np.rint(x / step) + zero, 0, 255) - zero
    return float(np.mean((q * step - x) ** 2))


# ---- ranges ----


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["normal", "relu", "heavy"]))
def test_the_square_error_of_a_histogram_is_that_of_the_values(seed, kind):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, 2000)).astype(np.float32)
    x = {"normal": x, "relu": np.maximum(x, 0), "heavy": x**3}[kind]
    s = stats_of(x)
    for r in candidates(s).values():
        assert square_error(s, r) == pytest.approx(quantised_error(x, r), rel=0.05)
    best = square_error(s, choose(s, "auto"))
    assert all(best <= square_error(s, choose(s, m)) * (1 + 1e-9) for m in TRIED)


def test_methods_cut_or_widen():
    x = normal(40, 500)
    x[3, 7] = 60.0
    s = stats_of(x)
    assert choose(s, "minmax").hi == pytest.approx(60)
    assert choose(s, "average").hi < 20 and choose(s, "percentile").hi < 10


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_room_for_other_samples_pays_in_small_tensors(seed):
    """By the error on samples that calibration did not see; large tensors and many samples get no room."""
    rng = np.random.default_rng(seed)

    def error(method, size, seen):
        def one():
            x = rng.laplace(size=(seen + 200, size)).astype(np.float32)
            r, other = choose(stats_of(x[:seen]), method), x[seen:]
            step = (r.hi - r.lo) / 255
            return np.sqrt(np.mean((np.clip(np.rint(other / step) * step, r.lo, r.hi) - other) ** 2, 1)).mean()
        return np.mean([one() for _ in range(30)])

    assert error("tail", 3, 20) < 0.9 * error("minmax", 3, 20)
    wide = stats_of(rng.laplace(size=(20, 5000)).astype(np.float32))
    assert choose(wide, "tail") == choose(wide, "minmax")
    once = stats_of(rng.laplace(size=(1, 3)).astype(np.float32))
    assert choose(once, "tail") == choose(once, "minmax")


# ---- equalisation ----


def outliers(second="dense"):
    """Two layers between which the channels differ in size by 10,000."""
    scale = np.float32([1, 100, 1, 0.01])
    rows, columns = scale[:, None, None, None], scale[None, :, None, None]
    w = normal(4, 3, 3, 3) * rows
    v = normal(5, 4, 1, 1) / columns if second == "dense" else normal(4, 1, 3, 3) / rows
    layer = {} if second == "dense" else {"group": 4}
    return tiny([("Conv", ["x", "w", "b"], "c", {}), ("Relu", ["c"], "r", {}), ("Conv", ["r", "v", "d"], "y", layer)],
                {"x": (1, 3, 8, 8)}, {"w": w, "b": normal(4) * scale, "v": v, "d": normal(len(v))})


@pytest.mark.parametrize("second", ["dense", "depthwise"])
def test_equalisation_keeps_the_function_and_saves_the_channels(second):
    g = outliers(second=second)
    data = samples(g)
    profile = statistics.collect_statistics(g, data)
    e, pairs = equalise.equalise(g, profile)
    assert pairs == 1
    np.testing.assert_allclose(outputs(g, data), outputs(e, data), rtol=1e-3, atol=1e-4)
    channels = statistics.collect_statistics(e, data).tensors["r"].channels
    before = profile.tensors["r"].channels
    assert channels.max() / channels.min() < 30 < before.max() / before.min()
    plain = quantise_model(g, data, Recipe("minmax", without=IMPROVEMENTS)).graph
    better = quantise_model(g, data, Recipe(without=tuple(set(IMPROVEMENTS) - {"equalise"})))
    assert better.summary.gains[0].kept
    assert snr(outputs(g, data), outputs(better.graph, data)) > snr(outputs(g, data), outputs(plain, data)) + 10


def test_equalisation_passes_pools_and_stops_at_other_readers():
    w, v, b = normal(4, 2, 1, 1) * np.float32([1, 9, 1, 1])[:, None, None, None], normal(3, 4), normal(4)
    nodes = [("Conv", ["x", "w", "b"], "c", {}), ("Relu", ["c"], "r", {}), ("GlobalAveragePool", ["r"], "p", {}),
             ("Flatten", ["p"], "f", {}), ("Gemm", ["f", "v"], "y", {"transB": 1})]
    for more, outs, pairs in (([], None, 1), ([("Neg", ["r"], "n", {})], ["y", "n"], 0), ([], ["y", "r"], 0)):
        g = tiny(nodes + more, {"x": (1, 2, 4, 4)}, {"w": w, "v": v, "b": b}, outs)
        assert equalise.equalise(g, statistics.collect_statistics(g, samples(g)))[1] == pairs


# ---- weights ----


def test_weight_scales_by_error_cut_an_outlier():
    w = normal(2, 400)
    w[0, 3] = 40
    for bits in (4, 8):
        by_range, by_error = (weight_q(w, 0, bits=bits, by_error=b).scale for b in (False, True))
        assert (by_error <= by_range).all()
    assert by_range[0] == pytest.approx(40 / 127, rel=1e-6)

    def error(scale, highest=7):
        return (((np.clip(np.rint(w / scale[:, None]), -highest, highest) * scale[:, None]) - w) ** 2).sum(1)

    assert error(weight_q(w, 0, bits=4, by_error=True).scale)[1] < error(weight_q(w, 0, bits=4).scale)[1]


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("bits", [8, 4])
def test_rounding_lowers_the_error_of_the_layer_on_other_samples(group, bits):
    """Correlated inputs, strides, pads and dilations; the layer with its new weights computed by onnxruntime."""
    a = {"group": group, "strides": [2, 1], "pads": [1, 2, 0, 1], "dilations": [1, 2]}
    layer = [("Conv", ["x", "w", "b"], "y", a)], {"x": (1, 6, 9, 8)}
    g = tiny(*layer, {"w": normal(6, 6 // group, 3, 2), "b": normal(6)})
    mix = normal(6, 6) + 2

    def data(n):
        return Dataset({"x": np.einsum("oc,nbchw->nbohw", mix, normal(n, 1, 6, 9, 8)) + 3}, None, "")

    node, fit, other = g.nodes[0], data(30), data(30)
    p = plan(g, "int8", {"the_y": f"8x{bits}"})
    s = scales(g, p, {t: choose(v, "minmax") for t, v in statistics.collect_statistics(g, fit).tensors.items()})
    x, step = fit.inputs["x"], s.weights[node].scale.astype(np.float64).reshape(-1, 1, 1, 1)
    rounded = refine.refine_layer(g, p, s, [node], [x], [x], rounding=True, bias=True)
    whole = rounded.values[node]
    assert (np.abs(whole - g.const("w") / step) < 1 + 1e-6).all() and np.abs(whole).max() < 2 ** (bits - 1)

    def error(w, b):
        changed = tiny(*layer, {"w": w.astype(np.float32), "b": b.astype(np.float32)})
        return np.mean((outputs(changed, other) - outputs(g, other)) ** 2)

    assert error(whole * step, rounded.biases[node]) < 0.6 * error(np.rint(g.const("w") / step) * step, g.const("b"))


def test_bias_correction_removes_the_mean_error_and_no_more():
    rows, sample = normal(400, 3) * np.float32([1, 1, 0]) + np.float32([5, 0, 2]), np.repeat(np.arange(20), 20)
    mean = refine._certain_mean(rows, sample)
    assert mean[0] == pytest.approx(rows[:, 0].mean(), rel=0.01) and mean[2] == pytest.approx(2)
    assert abs(mean[1]) < abs(rows[:, 1].mean())
    assert (refine._certain_mean(np.float32([[1.0], [-0.9]]), np.arange(2)) == 0).all()


def test_every_step_reports_its_gain_and_none_makes_it_worse():
    g = outliers()
    data = samples(g, 60)
    done = quantise_model(g, data)
    assert [x.step for x in done.summary.gains] == list(IMPROVEMENTS)
    for x in done.summary.gains:
        assert x.kept == (x.after_db > x.before_db)
    kept = [x for x in done.summary.gains if x.kept]
    assert all(b.before_db == pytest.approx(a.after_db) for a, b in zip(kept, kept[1:], strict=False))
    without = quantise_model(g, data, Recipe(without=("rounding", "equalise")))
    assert [x.step for x in without.summary.gains] == ["ranges", "scales", "bias"]
    other = samples(g, 60)
    plain = quantise_model(g, data, Recipe("minmax", without=IMPROVEMENTS)).graph
    assert snr(outputs(g, other), outputs(done.graph, other)) > snr(outputs(g, other), outputs(plain, other)) + 5


def test_the_same_data_give_the_same_file():
    g = outliers()
    data = samples(g, 8)
    files = {to_onnx(quantise_model(g, data).graph).SerializeToString(deterministic=True) for _ in range(2)}
    assert len(files) == 1


# ---- widths by hand ----


def test_a_node_kept_in_float():
    g = outliers()
    data = samples(g)
    done = quantise_model(g, data, Recipe("minmax", without=IMPROVEMENTS, bits={"the_c": "float"}))
    assert [n.name for n in done.summary.float_nodes] == ["the_c", "the_r"]
    assert {n.reason for n in done.summary.float_nodes} == {"kept in float as asked"}
    conv = next(n for n in done.graph.nodes if n.outputs == ("c",))
    assert conv.inputs[1] == "w"


def test_names_and_widths_that_do_not_exist():
    g = convolution()
    with pytest.raises(UsageError, match="no node 'the_cc'") as e:
        quantise_model(g, samples(g), Recipe(bits={"the_cc": "float"}))
    assert "the_c" in e.value.fix
    with pytest.raises(UsageError, match="unknown width '7x7'"):
        quantise_model(g, samples(g), Recipe(bits={"the_c": "7x7"}))


# ---- profiles and recipes ----


def test_a_profile_is_collected_once(tmp_path, monkeypatch):
    g = outliers()
    data = samples(g, 10)
    profiles = {}
    first = quantise_model(g, data, profiles=profiles)
    statistics.save(profiles, tmp_path / "stats.npz")
    again = statistics.load(tmp_path / "stats.npz")

    def never(*a, **k):
        raise AssertionError("collected again")

    monkeypatch.setattr("edgec.quantisation.quantise.collect_statistics", never)
    second = quantise_model(g, data, profiles=again)
    assert to_onnx(first.graph) == to_onnx(second.graph)


def test_a_profile_is_of_its_samples():
    """The half that steps are tried on has statistics of its own, and so have other samples."""
    g, profiles = outliers(), {}
    for data in (samples(g, 10), samples(g, 10)):
        quantise_model(g, data, Recipe("minmax", without=("equalise", "bias", "rounding")), profiles=profiles)
    assert len(profiles) == 4 and len({float(p.tensors["x"].mean_hi) for p in profiles.values()}) == 4


def test_a_file_that_is_no_profile(tmp_path):
    for content in (b"PK", b""):
        (tmp_path / "p.npz").write_bytes(content)
        with pytest.raises(UsageError, match="not a calibration profile"):
            statistics.load(tmp_path / "p.npz")
    np.savez(tmp_path / "p.npz", x=np.zeros(3))
    with pytest.raises(UsageError, match="not a calibration profile"):
        statistics.load(tmp_path / "p.npz")


def test_a_recipe_file(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('io = "float32"\nwithout = ["bias"]\nkeep_float = ["a"]\nprofile = "s.npz"\n[bits]\nb = "16x8"\n')
    r = load(path, Recipe(calibration="mse", bits={"c": "8x4"}))
    assert (r.io, r.calibration, r.without, r.profile) == ("float32", "mse", ("bias",), tmp_path / "s.npz")
    assert r.bits == {"a": "float", "b": "16x8", "c": "8x4"} and "bias" not in r.improve
    for text, what in (("colour = 1", "unknown key 'colour'"), ("io = ", "cannot be read")):
        path.write_text(text)
        with pytest.raises(UsageError, match=what):
            load(path)
    with pytest.raises(UsageError, match="unknown improvement"):
        Recipe(without=("magic",)).checked()


def test_quantize_is_a_function_of_the_package():
    assert callable(edgec.quantize) and edgec.quantize.__module__ == "edgec.api"


# ---- real networks ----


def published_scores(name: str) -> np.ndarray:
    """What the published int8 network computes before its Softmax, or its outputs, on its data."""
    model, z = onnx.load(MODELS / f"{name}_int8.onnx"), np.load(MODELS / f"{name}.npz")
    softmax = [n.input[0] for n in model.graph.node if n.op_type == "Softmax"]
    if not softmax:
        return (z["y_ort_int8"].astype(np.float32) - float(z["out_zp"])) * np.float32(z["out_scale"])
    runner = onnx_run.reference(model, softmax)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    return np.stack([runner.run({model.graph.input[0].name: x.reshape(shape)})[1] for x in z["x_int8"]])


@pytest.mark.parametrize("name", ["ad", "kws", "sww"])
def test_level_with_the_published_files_or_better(name):
    """Before the Softmax, behind which few samples decide, and within the 1 dB that choices move some 40 samples with a
    few scores each by. On the samples that calibrate; they are held apart in tests/benchmarks/quantisation.py."""
    g, data, _, _ = shared(name)
    done = quantise_model(g, data)
    plain = quantise_model(g, data, Recipe("minmax", without=IMPROVEMENTS))
    (scores, axis), = judged(g).items()
    errors = [sum(Simulator(data, g, judged(g)).errors(q.graph).values()) for q in (done, plain)]
    want = float_values(g, data, [scores])[scores]
    both = [v.reshape(want.shape) - (0 if axis is None else v.reshape(want.shape).mean(axis + 1, keepdims=True))
            for v in (published_scores(name), want)]
    ours, nearest, published = (snr_db(e) for e in (*errors, noise(*both)))
    print(f"\n{name}: {ours:.1f} dB, published {published:.1f}, nearest {nearest:.1f}")
    assert ours > max(published, nearest) - 1


# ---- validation ----


def test_confusion_counts_labels_against_classes():
    y = np.float32([[3, 1, 0], [0, 2, 1], [0, 1, 5], [9, 0, 0], [1, 0, 0]])
    found = compare.confusion(y, np.array([0, 1, 1, 2, -1]))
    assert found.tolist() == [[1, 0, 0], [0, 1, 1], [1, 0, 0]] and found.trace() / found.sum() == 0.5


def test_validation_shows_all_accuracies_and_confusions(tmp_path):
    built = edgec.build(EXAMPLES / "digits_cnn.onnx", data=EXAMPLES / "digits_calib.npz", board="host", out=tmp_path / "p",
                        recipe=Recipe("minmax", without=IMPROVEMENTS))
    result = edgec.validate(built.directory, data=EXAMPLES / "digits_test.npz", samples=50, confusion=True)
    accuracies, tables = result.report["accuracy"], result.report["confusion"]
    assert set(tables) == {"float", "reference", "host"} == set(accuracies) - {"samples"}
    for name, matrix in tables.items():
        assert np.sum(matrix) == 50 and np.trace(matrix) / 50 == pytest.approx(accuracies[name])
    assert "rows are labels" in validation.text(result)
