"""Inputs row by row: pushed rows give the bits of the whole run, by window and sliding, in the interpreter, in C and in QEMU."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import Phase, given, settings, strategies as st
from networks import samples
from test_small_models import MODELS, N, make, quantised, rand
from test_stream import graph_of, planned

from edgec import api, board, cli, emulator, host, loop_interp, onnx_in, pipeline, profile, push, stream, toolchain
from edgec.errors import UnsupportedError


def temporal(kernels=(3, 2, 4), strides=(1, 2, 1), dilations=(2, 1, 1), channels=5, rows=31, inputs=3, pooled=True):
    """Convolutions over time without padding; a pool over what is left, and a fully connected layer."""
    nodes, weights, at, c = [], {}, "x", inputs
    for k, (size, s, d) in enumerate(zip(kernels, strides, dilations, strict=True)):
        nodes += [N("Conv", [at, f"w{k}", f"b{k}"], [f"c{k}"], strides=[s], dilations=[d]), N("Relu", [f"c{k}"], [f"r{k}"])]
        weights |= {f"w{k}": rand(channels + k, c, size), f"b{k}": rand(channels + k)}
        at, c, rows = f"r{k}", channels + k, (rows - d * (size - 1) - 1) // s + 1
    if pooled:
        nodes.append(N("GlobalAveragePool", [at], ["g"]))
        rows = 1
    nodes += [N("Flatten", ["g" if pooled else at], ["f"]), N("Gemm", ["f", "v", "u"], ["y"], transB=1)]
    return nodes, weights | {"v": rand(4, c * rows), "u": rand(4)}


def temporal_model(rows=31, inputs=3, **more):
    nodes, weights = temporal(rows=rows, inputs=inputs, **more)
    return make(nodes, (1, inputs, rows), weights)


def rows_of(graph, x):
    """An input of the unpushed graph as the rows that the pushed one takes."""
    t = graph.tensors[graph.inputs[0]]
    x = x if t.perm is None else np.transpose(x, t.perm)
    return x.reshape(t.type.shape[1], -1)


def pushed_program(graph, sliding, isa=("c99",)):
    graph = push.input_by_rows(graph)
    regions = (push.sliding_region(graph),) if sliding else stream.regions(graph, True)
    return graph, planned(graph, regions, isa)


def through_rows(program, rows):
    """[(rows pushed, outputs)] whenever a result is there."""
    state, found = {}, []
    for k, row in enumerate(rows):
        outputs = loop_interp.run(program, [row], state=state)
        if state[program.rowwise.progress][0] == program.rowwise.rows:
            found.append((k + 1, outputs))
    return found


@pytest.mark.parametrize(
    "name", ["conv_pads_dilation", "residual", "one_dimensional", "average_pool_pads", "max_pool_ceil", "conv_depthwise"]
)
def test_float_models_by_window(name):
    graph = graph_of(MODELS[name]())
    rowwise, program = pushed_program(graph, False)
    whole = planned(graph, ())
    xs = np.random.default_rng(3).normal(size=(2, *graph.type("x").shape)).astype(np.float32)
    found = through_rows(program, np.concatenate([rows_of(rowwise, x) for x in xs]))
    assert [k for k, _ in found] == [program.rowwise.rows, 2 * program.rowwise.rows]
    for x, (_, outputs) in zip(xs, found, strict=True):
        for a, b in zip(loop_interp.run(whole, [x]), outputs, strict=True):
            assert np.allclose(a, b, rtol=1e-5, atol=1e-6)


@settings(max_examples=8, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate])
@given(st.data())
def test_sliding_windows_over_time(data):
    layers = data.draw(st.integers(1, 3))
    numbers = [tuple(data.draw(st.integers(1, most)) for _ in range(layers)) for most in (4, 2, 3)]
    model = temporal_model(
        rows=data.draw(st.integers(26, 33)),
        inputs=data.draw(st.integers(1, 3)),
        pooled=data.draw(st.booleans()),
        **dict(zip(("kernels", "strides", "dilations"), numbers, strict=True)),
    )
    graph = graph_of(model)
    rowwise, program = pushed_program(graph, True)
    whole, window = planned(graph, ()), program.rowwise.rows
    hop = int(np.prod(numbers[1]))
    n = window + 2 * hop + data.draw(st.integers(0, 40))
    frames = np.random.default_rng(n).normal(size=(n, graph.type("x").shape[1])).astype(np.float32)
    found = through_rows(program, frames)
    assert [k for k, _ in found] == list(range(window, n + 1, hop))
    for k, outputs in found:
        x = frames[k - window:k].T
        assert np.allclose(loop_interp.run(whole, [x])[0], outputs[0], rtol=1e-5, atol=1e-6), k


def emitted(graph, target, folder, **more):
    c = pipeline.compile_graph(graph, board.load(target), goal="ram", name="net", **more)
    for path, text in c.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return c


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", ["cortex-m0", "cortex-m4"])
def test_sliding_int8_in_c(target, tmp_path):
    graph = onnx_in.from_model(quantised(temporal_model(), tmp_path, "QDQ", "int8", "int8", True), "m")
    c = emitted(graph, target, tmp_path / "rows", stream_input="sliding")
    emitted(graph, target, tmp_path / "whole")
    rows, whole = (host.load(tmp_path / kind, simd_on_host=board.load(target).simd) for kind in ("rows", "whole"))
    assert rows.rows == 31 and whole.rows == 1 and c.program.rowwise.rows == 31
    frames = np.random.default_rng(5).normal(size=(100, 3)).astype(np.float32)
    seen = 0
    for k, frame in enumerate(frames, 1):
        outputs = rows.push_bytes(frame.tobytes())
        assert (outputs is not None) == (k >= 31 and (k - 31) % 2 == 0)
        if outputs is not None:
            assert outputs == whole.run_bytes([np.ascontiguousarray(frames[k - 31:k].T).tobytes()])
            seen += 1
    assert seen == 35
    # a sample is a window of its own: what was pushed before is forgotten
    x = np.ascontiguousarray(frames[7:38].T)
    assert rows.run_bytes([frames[7:38].tobytes()]) == whole.run_bytes([x.tobytes()])


@pytest.mark.parametrize("name", ["kws", "ic", "vww", "sww"])
def test_networks_by_window_in_c(models, name, tmp_path):
    graph = onnx_in.load(models / f"{name}_int8.onnx")
    c = emitted(graph, "cortex-m4", tmp_path / "rows", stream_input="window")
    emitted(graph, "cortex-m4", tmp_path / "whole")
    rows, whole = (host.load(tmp_path / kind, simd_on_host=True) for kind in ("rows", "whole"))
    assert c.program.arena_bytes <= {"kws": 5300, "ic": 14000, "vww": 15500, "sww": 4200}[name]
    for x in samples(models, name, "int8")[:4]:
        assert rows.run_bytes([x.tobytes()]) == whole.run_bytes([x.tobytes()])


def test_a_wake_word_costs_only_its_new_frame(models, tmp_path):
    graph = onnx_in.load(models / "sww_int8.onnx")
    c = emitted(graph, "cortex-m4", tmp_path / "rows", stream_input="sliding")
    emitted(graph, "cortex-m4", tmp_path / "whole")
    rows, whole = (host.load(tmp_path / kind, simd_on_host=True) for kind in ("rows", "whole"))
    assert c.program.arena_bytes <= 4300
    frames = np.concatenate([x.reshape(30, 40) for x in samples(models, "sww", "int8")[:4]])
    for k, frame in enumerate(frames, 1):
        outputs = rows.push_bytes(frame.tobytes())
        assert (outputs is None) == (k < 30)
        if outputs:
            assert outputs == whole.run_bytes([frames[k - 30:k].tobytes()])


@pytest.mark.qemu
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["window", "sliding"])
def test_the_target_pushes_rows_too(kind, tmp_path):
    target = board.load("cortex-m4")
    graph = onnx_in.from_model(quantised(temporal_model(), tmp_path, "QDQ", "int8", "int8", True), "m")
    emitted(graph, "cortex-m4", tmp_path / "rows", stream_input=kind)
    firmware = toolchain.build_firmware(tmp_path / "rows", target)
    xs = np.random.default_rng(6).normal(size=(3, 31, 3)).astype(np.float32)
    on_target = emulator.run(firmware.elf, target, [[x.tobytes()] for x in xs])
    here = host.load(tmp_path / "rows", simd_on_host=True)
    assert [list(o) for o in on_target.outputs] == [here.run_bytes([x.tobytes()]) for x in xs]


@pytest.mark.parametrize("kind,model,says", [
    ("sliding", lambda: MODELS["residual"](), "padding"),
    ("window", lambda: MODELS["attention"](), "row by row"),
    ("window", lambda: MODELS["gemm_two_inputs"](), "row by row"),
])
def test_what_cannot_be_pushed_is_refused_by_name(kind, model, says):
    with pytest.raises(UnsupportedError, match=says) as e:
        pipeline.compile_graph(onnx_in.from_model(model(), "m"), board.load("cortex-m4"), stream_input=kind)
    assert e.value.fix


def test_the_proof_notices_a_short_ring():
    graph = push.input_by_rows(graph_of(temporal_model()))
    region = push.sliding_region(graph)
    made = {g.output: k for k, g in enumerate(region.groups)}
    push.prove(region, made)
    for tensor, depth in region.depth.items():
        if depth > 1:
            short = stream.Region(
                region.groups, region.order, {**region.depth, tensor: depth - 1}, region.output, {}, region.push
            )
            with pytest.raises(AssertionError):
                push.prove(short, made)


def test_from_the_command_line(tmp_path, capsys):
    import onnx

    model = tmp_path / "net.onnx"
    onnx.save(temporal_model(), model)
    folder = tmp_path / "out"
    assert cli.run(["build", str(model), "--sliding", "-o", str(folder), "--no-compile"]) == 0
    header = (folder / "net.h").read_text()
    assert "#define NET_ROWS 31u" in header and "#define NET_ROW_BYTES 12u" in header and "net_run(" not in header
    assert cli.run(["validate", str(folder)]) == 0
    assert cli.run(["analyze", str(model), "--stream-input"]) == 0
    assert "pushed in 31 rows of 12 B" in capsys.readouterr().out


@pytest.mark.qemu
def test_profile_and_stack_of_pushed_rows(tmp_path):
    import onnx

    onnx.save(temporal_model(), tmp_path / "net.onnx")
    built = api.build(tmp_path / "net.onnx", stream_input="sliding", out=tmp_path / "out")
    r = profile.run(built.directory)
    steps = [row["step"] for row in r["rows"] if row["step"]]
    assert list(dict.fromkeys(steps)) == [s["name"] for s in built.report["steps"]]
    assert sum(row["kernel"].startswith("conv_f32") for row in r["rows"]) == 3
    assert sum(row["macs"] for row in r["rows"]) == built.report["macs"]
    bounds = {b["function"]: b["bytes"] for b in built.report["memory"]["stack"]}
    assert 0 < bounds["net_push_row"] < 1024
