"""Data files: what is accepted, and that whatever is wrong is said with where and how to fix it."""

import re

import numpy as np
import pytest

from edgec.data import Dataset, as_model_input, input_q, load
from edgec.errors import UsageError
from edgec.ir import Graph, Node, QParams, Tensor, TensorType, attrs

RNG = np.random.default_rng(5)


def model(*inputs: tuple[str, str, tuple], q: QParams | None = None) -> Graph:
    """A graph of inputs alone: (name, dtype, shape)."""
    tensors = {n: Tensor(n, TensorType(dtype, shape, q)) for n, dtype, shape in inputs}
    return Graph("m", (), tensors, tuple(tensors), ())


PICTURE = model(("image", "float32", (1, 3, 8, 6)))
SAMPLES = RNG.random((5, 3, 8, 6), np.float32)


def file(path, **arrays):
    np.savez(path / "d.npz", **arrays)
    return path / "d.npz"


def refusal(path, graph) -> UsageError:
    with pytest.raises(UsageError) as e:
        load(path, graph)
    assert e.value.what and e.value.where and e.value.fix
    assert str(path) in e.value.where
    return e.value


def test_samples_in_the_shape_of_the_input(tmp_path):
    for shape in ((5, 3, 8, 6), (5, 1, 3, 8, 6)):
        d = load(file(tmp_path, image=SAMPLES.reshape(shape), labels=np.arange(5)), PICTURE)
        assert len(d) == 5 and d[2]["image"].shape == (1, 3, 8, 6) and d[2]["image"].dtype == np.float32
        np.testing.assert_array_equal(d[4]["image"][0], SAMPLES[4])
        np.testing.assert_array_equal(d.labels, np.arange(5))
        assert d.path == str(tmp_path / "d.npz")
    assert len(list(d)) == 5
    assert len(d.first(2)) == 2 and len(d.first(2).labels) == 2 and len(d.first(9)) == 5


def test_one_sample(tmp_path):
    assert len(load(file(tmp_path, image=SAMPLES[:1]), PICTURE)) == 1


def test_an_input_without_batch_axis(tmp_path):
    d = load(file(tmp_path, v=np.ones((4, 7), np.float32)), model(("v", "float32", (7,))))
    assert d[3]["v"].shape == (7,)
    d = load(file(tmp_path, v=np.ones(4, np.float32)), model(("v", "float32", (1,))))
    assert len(d) == 4 and d[0]["v"].shape == (1,)


def test_arrays_are_read_only(tmp_path):
    with pytest.raises(ValueError, match="read-only"):
        load(file(tmp_path, image=SAMPLES), PICTURE).inputs["image"][0] = 0


def test_npy(tmp_path):
    np.save(tmp_path / "d.npy", SAMPLES)
    assert load(tmp_path / "d.npy", PICTURE).labels is None
    assert "2 inputs" in refusal(tmp_path / "d.npy", model(("a", "float32", (1, 2)), ("b", "float32", (1, 2)))).what


@pytest.mark.parametrize(
    "names", [("x",), ("input", "y"), ("data", "other", "labels"), ("anything",), ("pictures", "labels")]
)
def test_names_for_the_only_input(tmp_path, names):
    arrays = {n: np.arange(5) if n == "labels" else SAMPLES + k for k, n in enumerate(names)}
    np.testing.assert_array_equal(load(file(tmp_path, **arrays), PICTURE).inputs["image"][:, 0], SAMPLES)


@pytest.mark.parametrize("names", [("x", "data"), ("a", "b"), ("labels",), ()])
def test_ambiguous_or_missing_names(tmp_path, names):
    e = refusal(file(tmp_path, **dict.fromkeys(names, SAMPLES)), PICTURE)
    assert "'image' [samples, 3, 8, 6] float32" in e.what
    assert "numpy.savez(path, **{'image': samples})" in e.fix


def test_the_inputs_own_name_wins(tmp_path):
    d = load(file(tmp_path, x=SAMPLES + 1, image=SAMPLES), PICTURE)
    np.testing.assert_array_equal(d.inputs["image"][:, 0], SAMPLES)


def test_two_inputs(tmp_path):
    two = model(("a/b:0", "float32", (1, 4)), ("n", "int64", (1, 2)))
    a, n = RNG.random((3, 4), np.float32), np.array([[1, 2], [3, 4], [5, 6]], np.int32)
    d = load(file(tmp_path, **{"a/b:0": a, "n": n}), two)
    assert d[1]["a/b:0"].shape == (1, 4) and d[1]["n"].dtype == np.int64 and d[1]["n"].tolist() == [[3, 4]]
    assert "'n'" in refusal(file(tmp_path, **{"a/b:0": a}), two).what
    assert "different numbers of samples" in refusal(file(tmp_path, **{"a/b:0": a, "n": n[:2]}), two).what


@pytest.mark.parametrize(
    ("shape", "fix"),
    [
        ((5, 8, 6, 3), "moveaxis(array, -1, 1)"),
        ((3, 8, 6), "array[None]"),
        ((5, 144), "reshape(-1, 3, 8, 6)"),
        ((5, 3, 9, 6), "as for training"),
        ((), "as for training"),
    ],
)
def test_shapes_that_do_not_fit(tmp_path, shape, fix):
    e = refusal(file(tmp_path, image=np.zeros(shape, np.float32)), PICTURE)
    assert f"[{', '.join(map(str, shape))}]" in e.what and "[samples, 3, 8, 6]" in e.what and fix in e.fix
    assert "array 'image' for input 'image'" in e.where


def test_channels_first_for_a_channels_last_model(tmp_path):
    last = model(("image", "float32", (1, 8, 6, 3)))
    assert "moveaxis(array, 1, -1)" in refusal(file(tmp_path, image=SAMPLES), last).fix


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path, bad):
    x = SAMPLES.copy()
    x[3, 1, 2, 3] = bad
    assert "sample 3 holds NaN or infinity" in refusal(file(tmp_path, image=x), PICTURE).what


def test_float_types(tmp_path):
    for dtype in (np.float16, np.float64):
        assert load(file(tmp_path, image=SAMPLES.astype(dtype)), PICTURE).inputs["image"].dtype == np.float32
    too_large = SAMPLES.astype(np.float64)
    too_large[1] = 1e39
    assert "sample 1 holds NaN or infinity" in refusal(file(tmp_path, image=too_large), PICTURE).what


def test_integers_for_a_float_input(tmp_path):
    e = refusal(file(tmp_path, image=(SAMPLES * 255).astype(np.uint8)), PICTURE)
    assert "uint8" in e.what and "float32" in e.what


@pytest.mark.parametrize("samples", [np.zeros((0, 3, 8, 6), np.float32), np.zeros((3, 0), np.float32)])
def test_empty(tmp_path, samples):
    assert "empty" in refusal(file(tmp_path, image=samples), PICTURE).what


@pytest.mark.parametrize("labels", [np.arange(4), np.zeros(5), np.zeros((5, 10), np.int64)])
def test_labels_that_do_not_fit(tmp_path, labels):
    assert "one integer for each of 5 samples" in refusal(file(tmp_path, image=SAMPLES, labels=labels), PICTURE).what


def test_integer_ranges(tmp_path):
    tokens = model(("t", "int8", (1, 2)))
    assert load(file(tmp_path, t=np.array([[-128, 127]])), tokens).inputs["t"].dtype == np.int8
    assert "-129 to 0 do not fit int8" in refusal(file(tmp_path, t=np.array([[-129, 0]])), tokens).what
    flags = model(("f", "bool", (1, 2)))
    assert load(file(tmp_path, f=np.array([[0, 1]])), flags).inputs["f"].dtype == np.bool_
    assert "do not fit bool" in refusal(file(tmp_path, f=np.array([[0, 2]])), flags).what


def test_text_is_refused(tmp_path):
    assert (
        "the model's input is int8"
        in refusal(file(tmp_path, t=np.array([["a", "b"]])), model(("t", "int8", (1, 2)))).what
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gone.npz", None),
        ("d.npz", b"not a zip"),
        ("d.npz", b""),
        ("d.npy", b"\x93NUMPY"),
        ("d.csv", b"1,2"),
        ("d.npz", "truncated"),
        ("d.npy", "objects"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content):
    path = tmp_path / name
    if content == "truncated":
        file(tmp_path, image=SAMPLES)
        path.write_bytes(path.read_bytes()[:300])
    elif content == "objects":
        np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    elif content is not None:
        path.write_bytes(content)
    refusal(path, PICTURE)


def test_a_damaged_array(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", image=SAMPLES)
    raw = bytearray((tmp_path / "d.npz").read_bytes())
    raw[200:230] = bytes(30)
    (tmp_path / "d.npz").write_bytes(raw)
    assert "cannot be read" in refusal(tmp_path / "d.npz", PICTURE).what


def test_a_folder(tmp_path):
    (tmp_path / "d.npz").mkdir()
    refusal(tmp_path / "d.npz", PICTURE)


# ---- quantised inputs ----

Q = QParams.of(0.5, 3)


def quantised(move: bool = False) -> Graph:
    """An int8 input, perhaps transposed, then DequantizeLinear: how a QDQ file arrives."""
    tensors = {
        "x": Tensor("x", TensorType("int8", (1, 2, 3))),
        "t": Tensor("t", TensorType("int8", (1, 3, 2))),
        "s": Tensor("s", TensorType("float32", ()), np.array(0.5, np.float32)),
        "z": Tensor("z", TensorType("int8", ()), np.array(3, np.int8)),
        "y": Tensor("y", TensorType("float32", (1, 3, 2) if move else (1, 2, 3))),
    }
    nodes = [Node("Transpose", ("x",), ("t",), attrs(perm=(0, 2, 1)))] if move else []
    nodes.append(Node("DequantizeLinear", ("t" if move else "x", "s", "z"), ("y",)))
    return Graph("m", tuple(nodes), tensors, ("x",), ("y",))


@pytest.mark.parametrize("graph", [quantised(), quantised(move=True), model(("x", "int8", (1, 2, 3)), q=Q)])
def test_float_data_are_quantised(tmp_path, graph):
    assert input_q(graph, "x").same(Q)
    x = np.array([[[0, 0.25, 0.75], [-0.25, 1e6, -1e6]]], np.float32)
    d = load(file(tmp_path, x=x, labels=[7]), graph)
    got = as_model_input(d, graph)
    assert got.inputs["x"].dtype == np.int8 and got.labels.tolist() == [7]
    assert got[0]["x"].tolist() == [[[3, 3, 5], [3, 127, -128]]]  # half to even, saturated


def test_integer_data_pass(tmp_path):
    x = np.arange(-3, 3, dtype=np.int8).reshape(1, 2, 3)
    for dtype in (np.int8, np.int64):
        d = as_model_input(load(file(tmp_path, x=x.astype(dtype)), quantised()), quantised())
        np.testing.assert_array_equal(d.inputs["x"][0], x)


def test_float_data_for_integers_without_scale(tmp_path):
    e = refusal(file(tmp_path, x=np.zeros((1, 2, 3), np.float32)), model(("x", "int8", (1, 2, 3))))
    assert "does not say how they are quantised" in e.what and "int8" in e.fix


def test_data_of_another_type_than_the_model():
    d = Dataset({"x": np.zeros((1, 1, 2, 3), np.int8)}, None, "d.npz")
    with pytest.raises(UsageError, match=re.escape("the data of input 'x' are int8, this model takes float32")):
        as_model_input(d, model(("x", "float32", (1, 2, 3))))
