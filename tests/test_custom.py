"""Operators of other domains by `--custom`: C functions, rules and references of the user's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec import api, board, cli, custom, host, loop_interp, onnx_in, pipeline, store
from edgec.errors import UnsupportedError, UsageError
from edgec.quantisation.recipe import Recipe

LIBRARY = Path(__file__).parent / "custom" / "swoosh.toml"
needs_qemu = pytest.mark.skipif(
    not (shutil.which("qemu-system-arm") and shutil.which("arm-none-eabi-gcc")), reason="no emulator or compiler"
)


def network(folder, bias=8, dtype=TensorProto.FLOAT):
    """MatMul, Swoosh, MatMul, Swoosh, Median of the rows: the second Swoosh has other parameters."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Swoosh", ["a", "b"], ["c"], name="swoosh", domain="com.example", slopes=[0.25, 1.5]),
        helper.make_node("MatMul", ["c", "w"], ["d"], name="second"),
        helper.make_node("Swoosh", ["d", "b"], ["e"], name="again", domain="com.example", slopes=[0.1, 1.0]),
        helper.make_node("Median", ["e"], ["y"], name="median", domain="com.example"),
    ]
    return save(
        folder,
        nodes,
        {"x": [3, 8]},
        {"y": [3, 1]},
        {"w": rng.normal(0, 0.6, (8, 8)).astype(np.float32), "b": rng.normal(0, 1, bias).astype(np.float32)},
    )


def save(folder, nodes, inputs, outputs, constants, dtype=TensorProto.FLOAT):
    info = [[helper.make_tensor_value_info(n, dtype, s) for n, s in side.items()] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, "m", *info, [numpy_helper.from_array(v, n) for n, v in constants.items()])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    path = folder / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def copied(tmp_path, **changes):
    """A copy of the library with files changed; None: left out."""
    for file in LIBRARY.parent.glob("swoosh.*"):
        name = file.suffix[1:]
        if changes.get(name, "") is not None:
            (tmp_path / file.name).write_text(changes.get(name, lambda t: t)(file.read_text()))
    return tmp_path / "swoosh.toml"


@needs_qemu
@pytest.mark.parametrize("goal", ["balanced", "ram"])
def test_on_host_and_core_against_the_reference(goal, tmp_path):
    built = api.build(network(tmp_path), custom=[LIBRARY], out=tmp_path / "p", goal=goal)
    assert {p.name for p in (tmp_path / "p" / "custom").iterdir()} == {f"swoosh.{e}" for e in ("toml", "py", "c", "h")}
    assert [s["kernel"] for s in built.report["steps"] if s["op"] == custom.NODE] == ["swoosh", "swoosh", "median"]
    found = api.validate(tmp_path / "p", on=("host", "qemu"), per_layer=True, poison=True)
    assert found.ok and found.report["host_equals_qemu"] and found.report["poisoned_equal"], found.reasons
    assert found.report["reference"].startswith("onnx.reference") and len(found.report["layers"]) == 5
    assert found.report["run_stack"]["bound"] is not None


def test_in_the_interpreter(tmp_path):
    graph = onnx_in.load(network(tmp_path), own=custom.libraries([LIBRARY]))
    compiled = pipeline.compile_graph(graph, board.load("host"))
    (tmp_path / "p").mkdir()
    store.write_files(tmp_path / "p", compiled.files)
    x = np.random.default_rng(1).normal(0, 1, (3, 8)).astype(np.float32)
    np.testing.assert_allclose(
        loop_interp.run(compiled.program, [x])[0].reshape(3, 1), host.load(tmp_path / "p").run([x])[0], rtol=1e-6
    )
    shared = [s for s in compiled.program.steps if ("e", "d") in s.inplace]
    assert shared, "Swoosh may write over its input"


def test_between_integers_it_stays_float(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).normal(0, 1, (30, 3, 8)).astype(np.float32))
    quick = Recipe("minmax", without=("ranges", "scales", "rounding"))
    built = api.build(
        network(tmp_path), custom=[LIBRARY], data=tmp_path / "d.npz", recipe=quick, board="host", out=tmp_path / "p"
    )
    assert [i["op"] for i in built.report["float_islands"]] == [custom.NODE] * 3
    assert sum(s["op"] == "Gemm" and "_s8" in s["kernel"] for s in built.report["steps"]) == 2
    assert api.validate(tmp_path / "p", data=tmp_path / "d.npz").ok


def test_on_int8_without_a_reference(tmp_path):
    path = save(
        tmp_path,
        [helper.make_node("Step", ["x"], ["y"], domain="com.example", n=6)],
        {"x": [2, 3]},
        {"y": [2, 3]},
        {},
        TensorProto.INT8,
    )
    api.build(path, custom=[LIBRARY], board="host", out=tmp_path / "p")
    x = np.array([[-5, 0, 3], [127, -128, -1]], np.int8)
    np.testing.assert_array_equal(host.load(tmp_path / "p").run([x])[0], [[-1, 1, 1], [1, -1, -1]])
    with pytest.raises(UnsupportedError, match=r"com\.example\.Step has no reference"):
        api.validate(tmp_path / "p")


def test_make_and_cmake_know_its_sources(tmp_path):
    graph = onnx_in.load(network(tmp_path), own=custom.libraries([LIBRARY]))
    files = pipeline.compile_graph(graph, board.load("cortex-m4")).files
    assert "$(BUILD)/custom/swoosh.o" in files["Makefile"] and "custom/swoosh.c" in files["CMakeLists.txt"]
    assert '#include "custom/swoosh.h"' in files["net.c"]


def test_operators_of_installed_packages(tmp_path, monkeypatch):
    asked = []
    point = SimpleNamespace(name="com.example", load=lambda: str(LIBRARY))
    other = SimpleNamespace(name="org.other", load=lambda: asked.append("org.other"))
    monkeypatch.setattr(
        custom.importlib.metadata, "entry_points", lambda group: [point, other] if group == custom.GROUP else []
    )
    assert [
        str(n.attrs["operator"]).split("/")[0] for n in onnx_in.load(network(tmp_path)).nodes if n.op == custom.NODE
    ] == ["com.example.Swoosh", "com.example.Swoosh", "com.example.Median"]
    assert not asked  # what the model does not use is not loaded


# --- mistakes ------------------------------------------------------------------------------------


def test_without_a_library(tmp_path):
    with pytest.raises(UnsupportedError, match="com.example.Swoosh") as e:
        api.build(network(tmp_path), board="host", out=tmp_path / "p")
    assert "--custom" in e.value.fix


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"c": None}, "swoosh.c cannot be read"),
        ({"h": None}, "swoosh.h cannot be read"),
        ({"py": None}, "swoosh.py cannot be read"),
        ({"h": lambda t: t.replace("median(", "middle(")}, "no header declares the function median"),
        ({"py": lambda t: t.replace("def median_rule", "def other")}, "no function median_rule"),
        ({"py": lambda t: t + "\n1 / 0\n"}, "swoosh.py fails: ZeroDivisionError"),
        (
            {"py": lambda t: t.replace('"outputs": [(x.dtype, x.shape)]', '"output": 1')},
            "the rule of com.example.Swoosh gives",
        ),
        ({"toml": lambda t: t.replace("inplace", "in_place")}, "unknown key 'in_place'"),
        ({"toml": lambda t: t.replace("rule =", "rules =", 1)}, "unknown key 'rules'"),
        ({"toml": lambda t: t.replace('"int8"', '"int9"')}, "unknown element type int9"),
        ({"toml": lambda t: t.replace('"swoosh.c"', '"../swoosh.c"')}, "another folder"),
        ({"toml": lambda t: t + "["}, "cannot be read"),
    ],
)
def test_libraries_that_are_wrong(changes, text, tmp_path):
    library = copied(tmp_path, **changes)
    with pytest.raises(UsageError, match=text):
        onnx_in.load(network(tmp_path), own=custom.libraries([library]))


def test_a_rule_that_refuses_names_the_node(tmp_path):
    with pytest.raises(UsageError, match="a bias of .7,. for rows of 8") as e:
        onnx_in.load(network(tmp_path, bias=7), own=custom.libraries([LIBRARY]))
    assert "swoosh" in e.value.where


def test_an_element_type_that_it_does_not_take(tmp_path):
    path = save(
        tmp_path, [helper.make_node("Step", ["x"], ["y"], domain="com.example", n=6)], {"x": [6]}, {"y": [6]}, {}
    )
    with pytest.raises(UnsupportedError, match="Step does not take float32"):
        onnx_in.load(path, own=custom.libraries([LIBRARY]))


@needs_qemu
def test_c_that_does_not_compile(tmp_path, capsys):
    library = copied(tmp_path, c=lambda t: t.replace("z < 0.0f", "zz < 0.0f"))
    arguments = ["build", str(network(tmp_path)), "--custom", str(library), "-o", str(tmp_path / "p"), "--json"]
    assert cli.run(arguments) == 7
    assert "swoosh.c" in json.loads(capsys.readouterr().out)["error"]["what"]
