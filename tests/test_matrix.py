"""Every real network on every core: host and QEMU give the same bits, and the bits are right."""
from __future__ import annotations

import numpy as np
import pytest
from networks import NETWORKS, samples

import edgec
from edgec import doctor

CORES = ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
FEWER = {"cortex-m3": ("ad", "kws", "sww"),  # the rest takes minutes of emulation without an FPU
         "cortex-m55": ("ad", "kws")}  # the same float code as the M33's


@pytest.fixture(scope="module", autouse=True)
def tools():
    missing = [t.name for t in doctor.doctor() if t.version is None and t.name in ("arm-none-eabi-gcc", "qemu-system-arm")]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def check(models, tmp_path, network, kind, board, goal, **options):
    edgec.build(models / f"{network}_{kind}.onnx", board=board, goal=goal, out=tmp_path / "p")
    arrays = {"x": samples(models, network, kind)}
    stored = np.load(models / f"{network}.npz")
    if "labels" in stored:
        arrays["labels"] = stored["labels"]
    np.savez(tmp_path / "data.npz", **arrays)
    return edgec.validate(tmp_path / "p", data=tmp_path / "data.npz", **options).check()


@pytest.mark.parametrize("board", CORES)
@pytest.mark.parametrize("network", NETWORKS)
def test_int8(models, tmp_path, network, board):
    goal = "ram" if board in ("cortex-m0", "cortex-m4", "cortex-m55") else "balanced"
    check(models, tmp_path, network, "int8", board, goal, on=("host", "qemu"), samples=2)


@pytest.mark.parametrize(("network", "board"), [(n, b) for b in CORES[1:] for n in FEWER.get(b, NETWORKS)])
def test_fp32(models, tmp_path, network, board):
    goal = "ram" if board == "cortex-m7" else "balanced"
    check(models, tmp_path, network, "fp32", board, goal, on=("host", "qemu"), samples=1)


@pytest.mark.parametrize("kind", ["int8", "fp32"])
@pytest.mark.parametrize("network", NETWORKS)
def test_all_real_inputs(models, tmp_path, network, kind):
    """Top-1 the same on 99 % of the inputs, no accuracy lost, fp32 within 1e-4 of the output's range."""
    result = check(models, tmp_path, network, kind, "cortex-m4", "ram", on=("host",))
    accuracy = result.report.get("accuracy")
    if accuracy and accuracy.get("reference") is not None:
        assert accuracy["host"] >= accuracy["reference"] - 1e-9, accuracy
