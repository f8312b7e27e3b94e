"""The command line as a user meets it: help, errors and exit codes, JSON, nothing half-written, and the main job."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec import api, cli, options, store
from edgec.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
MODEL = EXAMPLES / "digits_dscnn.onnx"
CALIBRATION, TEST = EXAMPLES / "digits_calib.npz", EXAMPLES / "digits_test.npz"


@pytest.fixture
def edgec(capsys, monkeypatch, tmp_path):
    """Runs a command line in an empty directory; (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        code = cli.run([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """digits_dscnn as int8 for cortex-m4, built once by the command line."""
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("needs arm-none-eabi-gcc")
    out = tmp_path_factory.mktemp("package") / "out"
    assert cli.run(["build", str(MODEL), "--data", str(CALIBRATION), "-o", str(out)]) == 0
    return out


def save(path, nodes, weights=(), shape=(1, 3, 8, 8), output=None, opset=17):
    """An ONNX file with float32 input x and output y."""
    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", output or shape))]
    init = [numpy_helper.from_array(np.asarray(w, np.float32), n) for n, w in dict(weights).items()]
    graph = helper.make_graph(nodes, "g", io[:1], io[1:], init)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), path)
    return path


def relu(path, **kwargs):
    return save(path, [helper.make_node("Relu", ["x"], ["y"], name="relu")], **kwargs)


# --- help ------------------------------------------------------------------------------------------


def test_help_lists_the_commands_and_exit_codes(edgec):
    code, out, err = edgec()
    assert code == 0 and err == ""
    for word in ("build", "analyze", "quantize", "validate", "flash", "boards", "ops", "doctor", "Exit codes"):
        assert word in out
    assert edgec("--help")[1] == out


@pytest.mark.parametrize(
    "command, words",
    [
        ("build", "--board -b --out -o --data -O --ram --flash --shape --name --io --calibration --recipe --dump-ir --json "
                  "--no-compile Examples"),
        ("analyze", "--board --data --ram --flash --shape --json Examples"),
        ("quantize", "--data --out --calibration --io --recipe --without --keep-float --bits --profile --json Examples"),
        ("validate", "--on --data --per-layer --samples --max-lsb --max-range --min-top1 --json Examples"),
        ("flash", "--tool --dry-run --json Examples"),
        ("boards", "--json"), ("ops", "--json"), ("doctor", "--json"),
    ],
)  # fmt: skip
def test_help_of_every_command(edgec, command, words):
    code, out, _ = edgec(command, "--help")
    assert code == 0
    assert [w for w in words.split() if w not in out] == []


def test_help_imports_nothing_slow():
    code = "import sys, edgec.cli as c; c.run(['build', '-h']); print({'numpy', 'onnx', 'jinja2'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


def test_python_m_and_version():
    done = subprocess.run([sys.executable, "-m", "edgec", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.startswith("edgec 0.")


# --- errors ----------------------------------------------------------------------------------------


def make_bad_files(folder):
    (folder / "picture.onnx").write_bytes(b"\xff\xd8\xff\xe0" + b"JFIF" * 50)
    (folder / "truncated.onnx").write_bytes(MODEL.read_bytes()[:5000])
    (folder / "empty.onnx").write_bytes(b"")
    relu(folder / "relu.onnx")
    relu(folder / "future.onnx", opset=999)
    relu(folder / "symbolic.onnx", shape=("N", 3, "H", "W"))
    random = [helper.make_node("RandomNormalLike", [a], [b], name=n) for a, b, n in (("x", "a", "first"), ("x", "y", "second"))]
    save(folder / "unsupported.onnx", random, output=(1, 3, 8, 8))
    conv = [helper.make_node("Conv", ["x", "w"], ["y"], name="stem")]
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        save(folder / f"{name}.onnx", conv, {"w": np.full((2, 3, 1, 1), value)}, output=(1, 2, 8, 8))
    np.savez(folder / "names.npz", image=np.zeros((2, 3, 8, 8), np.float32), mask=np.zeros((2, 1), np.float32))
    np.savez(folder / "shapes.npz", x=np.zeros((2, 8, 8, 3), np.float32))
    np.savez(folder / "good.npz", x=np.zeros((2, 3, 8, 8), np.float32))


BAD = [
    ("build missing.onnx", 3, "no such file"),
    ("build picture.onnx", 3, "JPEG"),
    ("build truncated.onnx", 3, "truncated"),
    ("build empty.onnx", 3, "empty"),
    ("build future.onnx", 3, "opset 999"),
    ("build nan.onnx", 3, "stem"),
    ("build inf.onnx", 3, "stem"),
    ("build unsupported.onnx", 4, "first: RandomNormalLike|second: RandomNormalLike"),
    ("build symbolic.onnx", 2, "--shape x="),
    ("build symbolic.onnx --shape x=1,3", 2, "does not fit"),
    ("build symbolic.onnx --shape y=1,3,8,8", 2, "y"),
    ("build symbolic.onnx --shape x=1,3,0,8", 2, "--shape"),
    ("build relu.onnx --board cortex-m5", 2, "did you mean|cortex-m4"),
    ("build relu.onnx --board board.toml", 2, "board.toml"),
    ("build relu.onnx --data missing.npz", 2, "missing.npz"),
    ("build relu.onnx --data names.npz", 2, "'x'|image, mask"),
    ("build relu.onnx --data shapes.npz", 2, "channels last"),
    ("build relu.onnx --data picture.onnx", 2, "npz"),
    ("build relu.onnx --data good.npz --calibration best", 2, "minmax"),
    ("build relu.onnx --name 3d-net", 2, "C name"),
    ("build relu.onnx --name register", 2, "C name"),
    ("build relu.onnx -O fast", 2, "balanced"),
    ("build relu.onnx --ram lots", 2, "--ram"),
    ("build relu.onnx --ram -4k", 2, "--ram"),
    ("build relu.onnx -o relu.onnx", 2, "not a directory"),
    ("build relu.onnx -o relu.onnx/sub", 2, "not a directory"),
    ("build relu.onnx --dump-ir relu.onnx --no-compile", 2, "--dump-ir"),
    ("build", 2, "MODEL.onnx"),
    ("build relu.onnx --no-such-option", 2, "--no-such-option"),
    ("compile relu.onnx", 2, "compile"),
    ("quantize relu.onnx --data good.npz -o .", 2, "directory"),
    ("quantize relu.onnx -o q.onnx", 2, "--data"),
    ("validate nowhere", 2, "nowhere"),
    ("validate .", 2, "manifest.json"),
    ("validate relu.onnx --on mars", 2, "mars|host, qemu"),
    ("validate relu.onnx --samples 0", 2, "--samples"),
    ("flash .", 2, "manifest.json"),
]


@pytest.mark.parametrize("line, exit_code, words", BAD, ids=[b[0] for b in BAD])
def test_bad_input(edgec, tmp_path, line, exit_code, words):
    make_bad_files(tmp_path)
    before = sorted(os.listdir(tmp_path))
    code, out, err = edgec(*line.split())
    assert code == exit_code, err
    assert err.startswith("error: ") or "\nerror: " in err
    assert [w for w in words.split("|") if w not in err] == []
    assert "Traceback" not in err
    assert sorted(os.listdir(tmp_path)) == before  # nothing half-written, not even build/

    code, out, err = edgec(*line.split(), "--json")
    answer = json.loads(out)  # exactly one object
    assert code == exit_code == answer["error"]["exit_code"] and answer["ok"] is False
    assert answer["error"]["what"] in err


def test_errors_say_how_to_fix(edgec, tmp_path):
    make_bad_files(tmp_path)
    _, _, err = edgec("build", "unsupported.onnx")
    first, *rest = err.splitlines()
    assert first.startswith("error: 2 nodes")
    assert rest[0].startswith("  where: ") and rest[-1].startswith("  fix:   ")


def test_unexpected_exceptions_ask_for_a_report(edgec, monkeypatch):
    monkeypatch.setattr(api, "build", lambda *a, **k: {}["gone"])
    code, out, err = edgec("build", MODEL)
    assert code == 1 and "internal error" in err and "report" in err and "Traceback" not in err
    code, out, err = edgec("build", MODEL, "--json", "--debug")
    assert code == 1 and json.loads(out)["error"]["kind"] == "EdgecError" and "Traceback" in err


def test_output_directory_of_someone_else(edgec, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    code, _, err = edgec("build", MODEL, "-o", "mine", "--no-compile")
    assert code == 2 and "did not write" in err
    assert os.listdir(tmp_path / "mine") == ["notes.txt"] and os.listdir(tmp_path) == ["mine"]


def test_no_compiler(edgec, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("EDGEC_ARM_GCC", raising=False)
    monkeypatch.setattr("edgec.toolchain.zig", lambda: None)
    code, _, err = edgec("build", MODEL)
    assert code == 7 and "gcc-arm-none-eabi" in err and os.listdir(tmp_path) == []
    code, out, err = edgec("build", MODEL, "--no-compile")
    assert code == 0, err
    assert not list(Path("build/digits_dscnn/cortex-m4").glob("*.elf"))


def test_no_emulator(edgec, package, monkeypatch, tmp_path):
    for tool in ("cc", "gcc"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, err = edgec("validate", package, "--on", "qemu")
    assert code == 8 and "qemu-system-arm" in err


def test_too_large_for_the_board_or_the_budget(edgec, tmp_path):
    gemm = [helper.make_node("Gemm", ["x", "w"], ["y"], name="dense")]
    save("big.onnx", gemm, {"w": np.ones((512, 300))}, shape=(1, 512), output=(1, 300))
    for limits, words in (
        ("-b nucleo-f446re", "flash|nucleo-f446re|dense|524,288"),
        ("--flash 512k", "--flash|dense"),
        ("--ram 2k", "--ram|RAM"),
    ):
        code, _, err = edgec("build", "big.onnx", *limits.split())
        assert code == 5, err
        assert [w for w in words.split("|") if w not in err] == []
        assert os.listdir(tmp_path) == ["big.onnx"]
    code, out, _ = edgec("analyze", "big.onnx", "--flash", "512k", "--json")
    answer = json.loads(out)
    assert code == 0 and answer["fits"] is False and "--flash" in answer["problems"][0]


# --- the main job ----------------------------------------------------------------------------------


def test_build_says_what_it_did_and_what_comes_next(edgec):
    code, out, err = edgec("build", MODEL, "--data", CALIBRATION)
    assert code == 0, err
    where = Path("build/digits_dscnn/cortex-m4")
    for phase in ("import", "quantise", "compile"):
        assert any(line.split()[:1] == [phase] and " s " in line for line in out.splitlines())
    assert "RAM" in out and "flash" in out and "4.00 MiB" in out
    assert out.splitlines()[-1] == f"next: edgec validate {where} --on host,qemu"
    written = {p.relative_to(where).as_posix() for p in where.rglob("*") if p.stat().st_size > 0}
    assert written >= {f"digits_dscnn{end}" for end in (".h", ".c", "_weights.c", ".elf", ".bin", ".hex")}
    assert written >= {"manifest.json", "report.json", "report.txt", "report.html", "Makefile", "runtime/ec.h"}
    assert written >= {"reference/model.onnx", "reference/float.onnx"}


def test_manifest_names_every_file_and_its_origin(package):
    manifest = store.read_manifest(package)
    assert manifest["files"] == store.hashes(package)
    assert manifest["model"] == {"file": MODEL.name, "sha256": store.sha256_file(MODEL)}
    assert manifest["data"] == {"file": CALIBRATION.name, "sha256": store.sha256_file(CALIBRATION)}
    assert "gcc" in manifest["compiler"] and manifest["board"] == "cortex-m4"
    assert str(package) not in (package / "manifest.json").read_text()


def test_builds_are_byte_identical_from_another_directory(package, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(MODEL, tmp_path)
    shutil.copy(CALIBRATION, tmp_path)
    environment = {**os.environ, "PYTHONHASHSEED": "1234", "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", "edgec", "build", MODEL.name, "--data", CALIBRATION.name, "-o", "p/q/r"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert store.hashes(tmp_path / "p/q/r") == store.hashes(package)
    assert (tmp_path / "p/q/r/manifest.json").read_bytes() == (package / "manifest.json").read_bytes()


def test_build_json(edgec, tmp_path):
    code, out, err = edgec("build", MODEL, "-o", "p", "--no-compile", "--json")
    answer = json.loads(out)
    assert code == 0 and answer["ok"] and answer["directory"] == "p" and answer["firmware"] is None
    assert answer["report"] == json.loads(Path("p/report.json").read_text())
    assert "import" in err  # the phases


def test_float_models_are_told_what_int8_would_save(edgec):
    code, out, _ = edgec("build", MODEL, "--no-compile")
    assert code == 0 and "as int8 (--data calibration.npz)" in out
    assert "As int8" in Path("build/digits_dscnn/cortex-m4/report.txt").read_text()


def test_report(package):
    report = json.loads((package / "report.json").read_text())
    m, f = report["memory"], report["flash"]
    assert m["arena_bytes"] >= m["lower_bound"] == sum(a["bytes"] for a in m["peak"]["alive"]) > 0
    assert f["weights_bytes"] + f["code_bytes"] == f["bytes"]
    assert sum(s["macs"] for s in report["steps"]) == report["macs"] > 100_000
    assert report["inputs"][0]["dtype"] == "int8" and report["inputs"][0]["scale"] > 0
    assert report["float_islands"] == [] and report["quantisation"]["samples"] == 300
    text, html = (package / "report.txt").read_text(), (package / "report.html").read_text()
    for step in report["steps"]:
        assert " + ".join(step["origin"])[:40] in text
    assert html.count("<tr>") == len(report["steps"]) + 1 and "src=" not in html and "http" not in html


def test_validate_on_host_and_qemu(edgec, package):
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("needs qemu-system-arm")
    code, out, err = edgec("validate", package, "--on", "host,qemu", "--data", TEST, "--json")
    answer = json.loads(out)
    assert code == 0, err
    assert answer["host_equals_qemu"] is True and answer["samples"] == 360
    accuracy = answer["accuracy"]
    assert (
        accuracy["host"] == accuracy["qemu"]
        and accuracy["float"] > 0.97
        and abs(accuracy["host"] - accuracy["float"]) < 0.02
    )
    assert {o["on"] for o in answer["outputs"]} == {"host", "qemu"} and all(
        o["top1"] >= 0.99 for o in answer["outputs"]
    )
    assert answer["stack_bytes"] > 0


def test_validate_prints_a_table(edgec, package):
    code, out, err = edgec("validate", package, "--data", TEST, "--samples", "20", "--per-layer")
    assert code == 0, err
    assert "PASS" in out and "20 samples (digits_test.npz)" in out and "accuracy on 20 labelled samples" in out
    assert "differences of logits on host in LSB" in out
    assert sum("Conv" in line for line in out.splitlines()) >= 4


def test_validate_per_layer_compares_every_step(edgec, package):
    code, out, _ = edgec("validate", package, "--data", TEST, "--samples", "5", "--per-layer", "--json")
    answer = json.loads(out)
    steps = json.loads((package / "report.json").read_text())["steps"]
    assert code == 0 and len(answer["layers"]) == len(steps)
    assert all(layer["max_abs"] <= 2 and layer["cosine"] > 0.999 for layer in answer["layers"])
    assert [layer["op"] for layer in answer["layers"] if layer["equal"] > 0.99][:7] == ["Conv"] * 7


def test_random_inputs_are_never_called_accuracy(edgec, package):
    code, out, _ = edgec("validate", package)
    assert code == 0 and "random inputs: numerics only, no accuracy" in out and "accuracy on" not in out


def test_validate_builds_a_model_first(edgec, tmp_path):
    code, out, err = edgec("validate", MODEL, "--data", TEST, "--samples", "3")
    assert code == 0, err
    assert "PASS" in out and os.listdir(tmp_path) == []


@pytest.fixture
def tampered(package, tmp_path):
    """The package with the first weight array of the C turned round after the firmware was compiled."""
    copy = tmp_path / "tampered"
    shutil.copytree(package, copy)
    weights = copy / "digits_dscnn_weights.c"
    before, numbers, after = re.split(r"(?<== \{)(.*?)(?=\};)", weights.read_text(), maxsplit=1, flags=re.DOTALL)
    weights.write_text(before + ", ".join(reversed(numbers.split(","))) + after)
    return copy


def test_wrong_c_fails_validation(edgec, tampered):
    code, out, err = edgec("validate", tampered, "--data", TEST)
    assert code == 6 and "FAIL" in out and "changed since the build: digits_dscnn_weights.c" in out
    code, out, err = edgec("validate", tampered, "--data", TEST, "--json")
    answer = json.loads(out)
    assert code == 6 and answer["ok"] is False and "host" in answer["reasons"][0]


def test_host_and_target_that_differ_fail_and_the_step_is_named(edgec, tampered):
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("needs qemu-system-arm")
    code, out, _ = edgec("validate", tampered, "--on", "host,qemu", "--data", TEST, "--samples", "2", "--json")
    answer = json.loads(out)
    assert code == 6 and answer["host_equals_qemu"] is False
    assert (
        "host and qemu differ" in answer["reasons"][0]
        and "the first step that differs is step 0, Conv" in answer["reasons"][0]
    )


def test_quantize_writes_a_model_for_onnxruntime(edgec, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    code, out, err = edgec("quantize", MODEL, "--data", CALIBRATION, "-o", "q.onnx")
    assert code == 0, err
    session = ort.InferenceSession("q.onnx")
    assert session.get_inputs()[0].type == "tensor(int8)" and os.listdir(tmp_path) == ["q.onnx"]
    code, _, err = edgec("quantize", "q.onnx", "--data", CALIBRATION, "-o", "again.onnx")
    assert code == 2 and "quantised already" in err
    code, out, err = edgec("build", "q.onnx", "--data", CALIBRATION, "--no-compile")
    assert code == 0 and "keeps its own scales" in out


def test_flash(edgec, package, monkeypatch):
    code, _, err = edgec("flash", package)
    assert code == 2 and "cortex-m4" in err
    code, out, _ = edgec("flash", package, "-b", "nucleo-f446re", "--dry-run")
    assert code == 0 and out.startswith("openocd") and "digits_dscnn.elf" in out
    code, out, _ = edgec("flash", package, "-b", "nucleo-f446re", "--tool", "pyocd", "--dry-run", "--json")
    assert code == 0 and json.loads(out)["command"][0] == "pyocd"
    monkeypatch.setenv("PATH", "")
    code, _, err = edgec("flash", package, "-b", "nucleo-f446re")
    assert code == 8 and "openocd" in err


def test_lists(edgec):
    for command, key, word in (
        ("boards", "boards", "nucleo-f446re"),
        ("ops", "operators", "Conv"),
        ("doctor", "tools", "onnxruntime"),
    ):
        code, out, _ = edgec(command)
        assert code == 0 and word in out
        code, out, err = edgec(command, "--json")
        assert code == 0 and any(word == x["name"] for x in json.loads(out)[key]) and word in err


def test_python_api(tmp_path, monkeypatch):
    import edgec

    monkeypatch.chdir(tmp_path)
    events = []
    built = edgec.build(MODEL, compile=False, on_event=events.append)
    assert built.directory == Path("build/digits_dscnn/cortex-m4") and built.firmware is None
    assert {"import"} < {e.name for e in events if e.kind == "phase"}
    assert edgec.validate(built.directory, data=TEST, samples=4).check().ok
    assert edgec.analyze(MODEL).fits
    with pytest.raises(edgec.EdgecError):
        edgec.build("missing.onnx")


@pytest.mark.parametrize(
    "file, name", [("kws_int8.onnx", "kws_int8"), ("a/my-net.v2.onnx", "my_net_v2"), ("int.onnx", "int_")]
)
def test_c_names_of_files(file, name):
    assert api.c_name(file, None) == name
    assert api.c_name(file, "given") == "given"


@pytest.mark.parametrize(
    "text, size", [("64k", 65536), ("64K", 65536), ("64KiB", 65536), ("1.5m", 1572864), ("100", 100), ("1MB", 1048576)]
)
def test_sizes(text, size):
    assert options.size("--ram", text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "0", "1e999k", "nan", "64q"])
def test_bad_sizes(text):
    with pytest.raises(UsageError):
        options.size("--ram", text)


def test_shapes():
    assert options.shapes(["a:0=1,3,96,96", "b=c=7"]) == {"a:0": (1, 3, 96, 96), "b=c": (7,)}
    assert options.shapes(None) is None
