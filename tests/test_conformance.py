"""A sample of ONNX's backend cases against tests/conformance.txt; `python tests/conformance.py` runs all of them."""
from __future__ import annotations

from pathlib import Path

import conformance
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgec import board, dtypes, host, loop_interp, onnx_in, pipeline, store
from edgec.ops import catalogue

EVERY = 41  # of the cases, one is run here


def test_the_table_has_every_case_and_no_crash():
    lines = conformance.recorded()
    assert lines.keys() == conformance.cases().keys()
    assert not [n for n, v in lines.items() if v.startswith("crash")]


def test_a_sample_has_its_recorded_verdicts():
    names = [n for n in conformance.cases() if not n.startswith("light")][::EVERY]
    lines = conformance.recorded()
    assert conformance.judge(names) == {n: lines[n] for n in names}


def test_the_page_of_operators_is_made_from_the_code():
    page = Path(catalogue.__file__).resolve().parent.parent / "OPERATORS.md"
    assert page.read_text(encoding="utf-8") == catalogue.page(), "run python -m edgec.ops.catalogue"


NARROW = [d for d in dtypes.WIDE if d != "float8_e8m0fnu"]  # powers of two round up here, not to nearest


@pytest.fixture(scope="module")
def narrow_model(tmp_path_factory):
    """Casts of numbers of all magnitudes to every narrow type and back, as C and as a program."""
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [rng.normal(size=60) * 10.0 ** rng.integers(-9, 6, 60), [0.0, -0.0, 1, 448, 449, 464, 465, 6, 65504, 65520, -9]]
    )
    x = x.astype(np.float32)
    nodes, outputs = [], []
    for d in NARROW:
        number = dtypes.NUMBERS[d]
        nodes.append(helper.make_node("Cast", ["x"], [d], to=number, **({"saturate": 0} if d.startswith("float8") else {})))
        nodes.append(helper.make_node("Cast", [d], [f"{d}_back"], to=TensorProto.FLOAT))
        outputs += [helper.make_tensor_value_info(d, number, x.shape), helper.make_tensor_value_info(f"{d}_back", 1, x.shape)]
    graph = helper.make_graph(nodes, "narrow", [helper.make_tensor_value_info("x", 1, x.shape)], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", onnx.defs.onnx_opset_version())])
    c = pipeline.compile_graph(onnx_in.from_model(model, "narrow"), board.load("host"))
    folder = tmp_path_factory.mktemp("narrow")
    store.write_files(folder, c.files)
    made = zip(c.graph.outputs, host.load(folder).run([x]), loop_interp.run(c.program, [x]), strict=True)
    return x, {name: (of_c, meant) for name, of_c, meant in made}


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_types_round_as_ml_dtypes(narrow_model, dtype):
    x, made = narrow_model
    of_c, meant = made[dtype]
    assert dtypes.to_bytes(of_c) == dtypes.to_bytes(meant)
    if "int" not in dtype:  # what is out of an integer's range is left to the implementation
        np.testing.assert_array_equal(of_c.astype(np.float32), x.astype(dtypes.numpy_type(dtype)).astype(np.float32))
    np.testing.assert_array_equal(made[f"{dtype}_back"][0], of_c.astype(np.float32))


def test_data_decide_the_size_of_a_result(tmp_path):
    model = helper.make_model(helper.make_graph([helper.make_node("NonZero", ["x"], ["y"])], "g", [
        helper.make_tensor_value_info("x", 1, (2, 3))], [helper.make_tensor_value_info("y", TensorProto.INT64, (2, None))]))
    graph = onnx_in.from_model(model, "m")
    assert graph.counts["y"] == ("y/count", 1) and graph.type("y").shape == (2, 6)
    c = pipeline.compile_graph(graph, board.load("host"))
    store.write_files(tmp_path, c.files)
    x = np.array([[0, 1, 0], [2, 0, 3]], np.float32)
    y, count = host.load(tmp_path).run([x])
    np.testing.assert_array_equal(y[:, :int(count)], np.array(np.nonzero(x)))
