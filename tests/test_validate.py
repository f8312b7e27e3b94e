"""The comparison itself, and that validation notices what it is there to notice."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgec import compare, onnx_run, validation
from edgec.validation import Tolerance

rng = np.random.default_rng(0)


def test_equal_outputs():
    x = rng.integers(-128, 128, (5, 1, 10)).astype(np.int8)
    d = compare.difference(x, x.copy(), classes=True)
    assert (d.max_abs, d.rms, d.equal, d.snr_db, d.top1, d.histogram) == (0, 0, 1, None, 1, {0: 50})
    assert d.cosine == pytest.approx(1)


def test_integer_difference_by_hand():
    want = np.array([[0, 10], [-128, 127]], np.int8)
    got = np.array([[0, 13], [127, 126]], np.int8)
    d = compare.difference(got, want, classes=True)
    assert d.unit == "lsb" and d.max_abs == 255 and d.max_ulp is None
    assert d.histogram == {-1: 1, 0: 1, 3: 1, 255: 1}
    assert d.equal == 0.25 and d.top1 == 0.5
    assert d.rms == pytest.approx(np.sqrt((9 + 255**2 + 1) / 4))
    assert d.snr_db == pytest.approx(10 * np.log10((100 + 128**2 + 127**2) / (9 + 255**2 + 1)))


def test_zero_point_counts_for_snr_but_not_for_lsb():
    want, got = np.full((1, 4), -128, np.int8), np.full((1, 4), -127, np.int8)
    assert compare.difference(got, want).snr_db == pytest.approx(20 * np.log10(128))
    assert compare.difference(got, want, zero_point=-128).snr_db == -999.0  # noise where the signal is zero


def test_float_difference_is_in_ranges_of_the_reference():
    want = np.array([[-1.0, 3.0]], np.float32)
    d = compare.difference(want + np.float32(0.5), want)
    assert d.unit == "range" and d.max_abs == pytest.approx(0.125) and d.histogram is None


def test_floats_on_an_integer_grid_are_counted_in_steps():
    want = np.array([[0.0, 0.5, 1.0]], np.float32)
    d = compare.difference(want + np.float32(0.25), want, grid=0.25)
    assert d.unit == "lsb" and d.max_abs == 1 and d.histogram == {1: 3}


def test_constant_and_zero_references():
    zero = np.zeros((2, 3), np.float32)
    assert compare.difference(zero, zero).max_abs == 0
    assert compare.difference(zero + 1, zero).max_abs == 1
    assert compare.difference(zero + 6, zero + 4).max_abs == 0.5


def test_nan_and_infinity_are_differences():
    want = np.array([[1.0, 2.0, np.nan]], np.float32)
    assert compare.difference(want, want).equal == 1
    for bad in (np.nan, np.inf):
        got = want.copy()
        got[0, 0] = bad
        d = compare.difference(got, want)
        assert d.max_abs > 1e300 and d.snr_db == -999.0
        json.dumps(d.as_dict(), allow_nan=False)


def test_ulps_cross_zero_and_count_representable_floats():
    one = np.float32(1)
    a = np.array([one, 0.0, -0.0, np.float32(1e-45), np.nan, -one], np.float32)
    b = np.array(
        [np.nextafter(one, np.float32(2)), -0.0, 0.0, np.float32(-1e-45), np.nan, -np.nextafter(one, np.float32(2))],
        np.float32,
    )
    assert compare.ulps(a, b).tolist() == [1, 0, 0, 2, 0, 1]


def test_first_mismatch_looks_at_bits():
    a = np.array([[0.0, np.nan]], np.float32)
    assert compare.first_mismatch(a, a.copy()) is None
    assert compare.first_mismatch(a, np.array([[-0.0, np.nan]], np.float32)) == (0, 0)
    x = np.zeros((3, 2, 2), np.int8)
    y = x.copy()
    y[1, 0, 1] = 1
    assert compare.first_mismatch(x, y) == (1, 0, 1)


def test_accuracy_leaves_out_unknown_labels():
    out = np.eye(4, dtype=np.int8)
    assert compare.accuracy(out, np.array([0, 1, 3, -1])) == pytest.approx(2 / 3)


def test_different_types_are_an_error():
    with pytest.raises(TypeError):
        compare.difference(np.zeros((1, 2), np.int8), np.zeros((1, 2), np.uint8))


# --- the verdict -----------------------------------------------------------------------------------


def verdict(got, want, tolerance=Tolerance(), *, classes=False, real=True, integer_model=True):  # noqa: B008
    return validation._refuse(
        compare.difference(got, want, classes=classes), tolerance, real=real, integer_model=integer_model
    )


def test_classes_must_agree_on_real_data():
    want = np.eye(10, dtype=np.int8).repeat(20, 0) * 100
    got = want.copy()
    got[0] = np.roll(got[0], 1)
    assert verdict(got, want, classes=True) == ""  # 199 of 200
    got[1:3] = np.roll(got[1:3], 1, axis=1)
    assert "98.50 %" in verdict(got, want, classes=True)


def test_without_classes_the_root_mean_square_decides():
    want = rng.integers(-100, 100, (4, 50)).astype(np.int8)
    assert verdict(want + np.int8(1), want) == ""
    assert "2 LSB" in verdict(want + np.int8(2), want)
    assert "LSB" in verdict(want + np.int8(1), want, Tolerance(max_lsb=0))


def test_float_models_are_held_to_a_share_of_the_range():
    want = rng.normal(size=(4, 50)).astype(np.float32)
    span = np.float32(want.max() - want.min())
    assert verdict(want + span * np.float32(5e-5), want, integer_model=False) == ""
    assert "range" in verdict(want + span * np.float32(2e-4), want, integer_model=False)
    assert verdict(want + span * np.float32(2e-4), want, integer_model=True) == ""  # floats after integers: 8 bits
    assert "range" in verdict(want * np.float32(1.2), want, integer_model=True)


@pytest.mark.parametrize(
    "shape, inputs, expected",
    [
        ([1, 10], [[1, 8, 8]], True),
        ([1, 10, 1, 1], [[1, 8, 8]], True),
        ([1, 1], [[1, 8, 8]], False),
        ([1, 4, 10], [[1, 8, 8]], False),
        ([1, 640], [[1, 640]], False),
        ([1, 5000], [[1, 8]], False),
        ([], [[1, 8]], False),
    ],
)
def test_what_is_a_vector_of_classes(shape, inputs, expected):
    assert validation._is_classes({"shape": shape}, [{"shape": s} for s in inputs]) is expected


def test_layers_are_compared_in_the_layout_and_type_of_the_step():
    entry = {"perm": [0, 2, 3, 1], "channels": None, "dtype": "int8", "shape": [1, 2, 2, 3], "scale": 0.5, "zero_point": -1}
    nchw = rng.integers(0, 256, (4, 1, 3, 2, 2)).astype(np.uint8)
    assert np.array_equal(
        validation._as_step(nchw, entry), np.moveaxis(nchw.astype(np.int16) - 128, 2, 4).astype(np.int8)
    )
    real = rng.normal(size=nchw.shape).astype(np.float32)
    expected = np.clip(np.rint(np.moveaxis(real, 2, 4) / 0.5) - 1, -128, 127)
    assert np.array_equal(validation._as_step(real, entry), expected)
    assert validation._as_step(nchw[:, :, :2], entry) is None


def test_layers_are_compared_in_the_channels_that_are_left_without_fillers():
    step = {
        "source": "t",
        "perm": None,
        "channels": {"axis": 2, "count": 4, "kept": [1, -1, 3]},
        "dtype": "int8",
        "shape": [2, 1, 3],
        "zero_point": 0,
        "op": "Conv",
        "origin": ["t"],
    }
    want = rng.integers(-128, 128, (5, 2, 1, 4)).astype(np.int8)
    got = want[..., [1, 0, 3]]
    got[..., 1] = 7

    def compared(traced):
        ran = {"host": validation._Ran([], [{0: x.tobytes()} for x in traced], None)}
        return validation._layers([step], {"steps": [step]}, ran, {"t": want})[0]

    assert compared(got)["equal"] == 1.0
    got[0, 0, 0, 2] ^= 1
    assert compared(got)["equal"] == 19 / 20


# --- the reference ---------------------------------------------------------------------------------


def small_model():
    nodes = [helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Neg", ["h"], ["y"])]
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3]) for n in ("x", "y")]
    return helper.make_model(
        helper.make_graph(nodes, "g", info[:1], info[1:]), opset_imports=[helper.make_opsetid("", 13)]
    )


@pytest.mark.parametrize("engine", [onnx_run._onnxruntime, onnx_run._onnx_reference])
def test_both_engines_give_inner_tensors(engine, monkeypatch):
    if engine is onnx_run._onnxruntime:
        pytest.importorskip("onnxruntime")
    else:
        monkeypatch.setattr(onnx_run, "_onnxruntime", lambda *a: 1 / 0)
    r = onnx_run.reference(small_model(), ["h", "no such tensor"])
    assert r.names == ("y", "h")
    y, h = r.run({"x": np.array([[-1, 0, 2]], np.float32)})
    assert y.tolist() == [[0, 0, -2]] and h.tolist() == [[0, 0, 2]]
    assert r.engine.startswith("onnxruntime" if engine is onnx_run._onnxruntime else "onnx.reference")


def test_old_quantised_models_run_in_the_onnx_reference(monkeypatch):
    """onnx.reference implements DequantizeLinear of opset 19 and newer only."""
    monkeypatch.setattr(onnx_run, "_onnxruntime", lambda *a: 1 / 0)
    scale = helper.make_tensor("s", TensorProto.FLOAT, [], [0.5])
    zero = helper.make_tensor("z", TensorProto.INT8, [], [3])
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT8, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [scale, zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    assert onnx_run.reference(model).run({"x": np.array([[3, 5]], np.int8)})[0].tolist() == [[0, 1]]
    assert onnx.checker.check_model(model) is None
