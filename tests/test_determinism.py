"""The same model gives the same bytes: with any hash seed, folder, locale, time, time zone, and twice in a process."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec import board, onnx_in, pipeline, toolchain

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples"


def locale_or_c(name: str) -> str:
    """The locale where this computer has it, else C."""
    known = subprocess.run(["locale", "-a"], capture_output=True, text=True).stdout.lower().replace("-", "").split()
    return name if name.lower().replace("-", "") in known else "C"


# The second one has no UTF-8 anywhere: files must not be written in the locale's encoding.
ENVIRONMENTS = {
    "plain": {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
    "ascii": {"PYTHONHASHSEED": "1", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Asia/Tokyo"},
    "german": {"PYTHONHASHSEED": "4242", "LC_ALL": locale_or_c("de_DE.UTF-8"), "TZ": "America/St_Johns"},
}


def made_here(path: Path) -> Path:
    """A float network with names beyond ASCII, two equal constants, as an ONNX file."""
    rng = np.random.default_rng(3)
    data = {"w": rng.normal(size=(8, 3, 3, 3)), "gewöhnlich": rng.normal(size=(8, 1, 3, 3)), "b": np.ones(8),
            "same": np.ones(8), "dense": rng.normal(size=(10, 8))}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["a"], name="Schicht_ß", pads=[1, 1, 1, 1]),
             helper.make_node("Relu", ["a"], ["r"], name="ελ"),
             helper.make_node("Conv", ["r", "gewöhnlich", "same"], ["d"], name="depthwise", group=8, strides=[2, 2]),
             helper.make_node("Sigmoid", ["d"], ["s"], name="gate"),
             helper.make_node("Mul", ["d", "s"], ["m"], name="mul"),
             helper.make_node("GlobalAveragePool", ["m"], ["p"], name="pool"),
             helper.make_node("Flatten", ["p"], ["f"], name="flat"),
             helper.make_node("Gemm", ["f", "dense"], ["logits"], name="dense", transB=1),
             helper.make_node("Softmax", ["logits"], ["y"], name="softmax")]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 12, 12))],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 10))],
                              [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in data.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def build(cwd: Path, environment: str, *words: str | Path) -> dict:
    """`edgec build` in a process of its own; what it prints on stdout."""
    cwd.mkdir(parents=True, exist_ok=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LC_", "LANG"))}
    env |= {"PYTHONPATH": str(ROOT), **ENVIRONMENTS[environment]}
    command = [sys.executable, "-m", "edgec", "build", "--json", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    return json.loads(done.stdout)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def same(a: dict[str, bytes], b: dict[str, bytes]) -> None:
    assert a and list(a) == list(b)
    assert [name for name in a if a[name] != b[name]] == []


@pytest.mark.parametrize("kind", ["float", "quantised here", "small memory"])
def test_the_package_is_the_same_everywhere(kind, tmp_path):
    """Another hash seed, locale, time zone, working directory, depth of folder and spelling of the model's path."""
    if kind == "float":
        model, more = made_here(tmp_path / "net.onnx"), ()
    else:
        model = Path(shutil.copy(EXAMPLE / "digits_cnn.onnx", tmp_path / "net.onnx"))
        shutil.copy(EXAMPLE / "digits_calib.npz", tmp_path / "calib.npz")
        more = ("--data", tmp_path / "calib.npz", "-O", "ram" if kind == "small memory" else "balanced")
    found = {}
    for k, environment in enumerate(ENVIRONMENTS):
        cwd = tmp_path / environment / "with a space" / ("deeper/" * k)
        path = model if k == 0 else os.path.relpath(model, cwd)
        build(cwd, environment, path, "--no-compile", "-o", cwd / f"out{k}", *more)
        found[environment] = contents(cwd / f"out{k}")
    first, *others = found.values()
    assert {"net.c", "net.h", "net_weights.c", "manifest.json", "report.json", "report.html"} <= set(first)
    for other in others:
        same(first, other)
    assert not [name for name, content in first.items() if str(tmp_path).encode() in content]


@pytest.mark.skipif(shutil.which(toolchain.ARM_GCC) is None, reason="needs arm-none-eabi-gcc")
def test_the_firmware_is_the_same_everywhere(tmp_path):
    model = made_here(tmp_path / "net.onnx")
    found = {}
    for environment, out in (("plain", tmp_path / "one"), ("ascii", tmp_path / "another" / "and deeper")):
        printed = build(tmp_path, environment, model, "-o", out, "--board", "cortex-m4")
        assert Path(printed["firmware"]) == out / "net.elf"
        found[environment] = contents(out)
    assert {"net.bin", "net.elf", "net.hex"} <= set(found["plain"])
    same(found["plain"], found["ascii"])


@pytest.mark.parametrize("goal", ["balanced", "ram"])
def test_compiling_again_in_one_process_gives_the_same_files(goal, tmp_path):
    """No counter or cache of an earlier compilation shows, and a graph is not changed by compiling it."""
    graph, b = onnx_in.load(made_here(tmp_path / "net.onnx")), board.load("cortex-m4")
    text = str(graph)
    first = pipeline.compile_graph(graph, b, goal=goal)
    pipeline.compile_graph(graph, board.load("cortex-m3"), goal="time", name="other")
    again = pipeline.compile_graph(graph, b, goal=goal)
    assert first.files == again.files and first.stats == again.stats and str(graph) == text
