"""State between runs (`--state`): in memory, in C, under QEMU, in the quantiser and in the data of sequences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings, strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgec import api, board, data, host, loop_interp, onnx_in, onnx_run, pipeline, sequences, store
from edgec.errors import UsageError
from edgec.passes import feedback
from edgec.poison import Poison
from edgec.quantisation.recipe import Recipe

EXAMPLES = Path(__file__).parent.parent / "examples"
needs_qemu = pytest.mark.skipif(
    not (shutil.which("qemu-system-arm") and shutil.which("arm-none-eabi-gcc")), reason="no emulator or compiler"
)
RNN = {"h": "h_next"}


def model(nodes, inputs, outputs, constants):
    """nodes: (op, inputs, outputs, attributes); inputs, outputs: name -> shape, floats unless an int8 or uint8 one begins
    the shape."""

    def info(name, shape):
        kind = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}.get(shape[0], TensorProto.FLOAT)
        return helper.make_tensor_value_info(name, kind, [n for n in shape if not isinstance(n, str)])

    graph = helper.make_graph(
        [helper.make_node(op, i, o, name=f"{op}_{k}", **a) for k, (op, i, o, a) in enumerate(nodes)],
        "m",
        [info(*x) for x in inputs.items()],
        [info(*x) for x in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    return made


def weights(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def recurrent():
    """y = tanh(x W + h U) V, what is inside V's bracket being the next h."""
    return model(
        [
            ("MatMul", ["x", "w"], ["a"], {}),
            ("MatMul", ["h", "u"], ["b"], {}),
            ("Add", ["a", "b"], ["c"], {}),
            ("Tanh", ["c"], ["h_next"], {}),
            ("MatMul", ["h_next", "v"], ["y"], {}),
        ],
        {"x": [1, 3], "h": [1, 4]},
        {"y": [1, 2], "h_next": [1, 4]},
        {"w": weights(3, 4), "u": weights(4, 4, seed=1), "v": weights(4, 2, seed=2)},
    )


def cached_convolution():
    """A causal convolution over time, a frame at a time: the frames before are its state."""
    return model(
        [
            ("Concat", ["cache", "x"], ["window"], {"axis": 2}),
            ("Slice", ["window", "one", "end", "axis"], ["cache_next"], {}),
            ("Conv", ["window", "w", "b"], ["y"], {"kernel_shape": [3]}),
            ("Relu", ["y"], ["z"], {}),
        ],
        {"x": [1, 4, 1], "cache": [1, 4, 2]},
        {"z": [1, 5, 1], "cache_next": [1, 4, 2]},
        {"w": weights(5, 4, 3), "b": weights(5), "one": np.array([1]), "end": np.array([9]), "axis": np.array([2])},
    )


def gated(op):
    """ONNX's own LSTM or GRU, a step at a time."""
    gates, states = (4, ["h", "c"]) if op == "LSTM" else (3, ["h"])
    return model(
        [
            (op, ["x", "w", "r", "b", "", *states], ["", *(f"{s}_next" for s in states)], {"hidden_size": 6}),
            ("Reshape", ["h_next", "flat"], ["last"], {}),
            ("MatMul", ["last", "v"], ["y"], {}),
        ],
        {"x": [1, 1, 4], **{s: [1, 1, 6] for s in states}},
        {"y": [1, 3], **{f"{s}_next": [1, 1, 6] for s in states}},
        {
            "w": weights(1, gates * 6, 4),
            "r": weights(1, gates * 6, 6, seed=1),
            "b": weights(1, 2 * gates * 6, seed=2),
            "v": weights(6, 3, seed=3),
            "flat": np.array([1, 6]),
        },
    )


def pictures():
    """A sum of convolutions of a picture and of the last result: channels first outside, channels last inside."""
    conv = {"kernel_shape": [3, 3], "pads": [1] * 4}
    return model(
        [
            ("Conv", ["x", "w", "b"], ["new"], conv),
            ("Conv", ["before", "u"], ["old"], conv),
            ("Add", ["new", "old"], ["both"], {}),
            ("Tanh", ["both"], ["after"], {}),
            ("GlobalMaxPool", ["after"], ["z"], {}),
        ],
        {"x": [1, 2, 6, 6], "before": [1, 3, 6, 6]},
        {"z": [1, 3, 1, 1], "after": [1, 3, 6, 6]},
        {"w": weights(3, 2, 3, 3), "u": weights(3, 3, 3, 3, seed=1), "b": weights(3)},
    )


MODELS = {
    "recurrent": (recurrent, RNN),
    "convolution": (cached_convolution, {"cache": "cache_next"}),
    "lstm": (lambda: gated("LSTM"), {"h": "h_next", "c": "c_next"}),
    "gru": (lambda: gated("GRU"), RNN),
    "picture": (pictures, {"before": "after"}),
}


def reference(made, graph, feeds, steps):
    """The results of every sample, by the reference that the state is fed back to."""
    runner = onnx_run.reference(made)
    ran = sequences.fed_back(
        lambda f: dict(zip(runner.names, runner.run(f), strict=True)), sequences.kept(graph), feeds, steps
    )
    return [[found[o] for o in graph.results] for _, found in ran]


def feeds_of(graph, count, seed=5):
    rng = np.random.default_rng(seed)
    return [{n: rng.normal(0, 1, graph.type(n).shape).astype(np.float32) for n in graph.given} for _ in range(count)]


def package(compiled, tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    store.write_files(folder, compiled.files)
    return folder


# --- meaning -------------------------------------------------------------------------------------


@pytest.mark.parametrize("goal", ["balanced", "ram"])
@pytest.mark.parametrize("which", MODELS)
def test_sequences_in_interpreter_and_c(which, goal, tmp_path):
    make, pairs = MODELS[which]
    made = make()
    graph = feedback.mark(onnx_in.from_model(made, "m"), pairs)
    compiled = pipeline.compile_graph(graph, board.load("cortex-m4"), goal=goal, name="m")
    loaded = host.load(package(compiled, tmp_path), simd_on_host=True)
    assert len(loaded.inputs) == len(graph.given) and len(loaded.outputs) == len(graph.results)
    feeds, memory = feeds_of(graph, 10), {}
    wanted = reference(made, graph, feeds, 5)
    for k, feed in enumerate(feeds):
        if k == 5:
            loaded.reset()
            memory = {}
        given = [feed[n] for n in graph.given]
        got = loaded.run(given)
        meant = loop_interp.run(compiled.program, given, state=memory)
        for y, z, want in zip(got, meant, wanted[k], strict=True):
            np.testing.assert_allclose(y, want, rtol=1e-5, atol=2e-6)
            np.testing.assert_allclose(z.reshape(want.shape), want, rtol=1e-5, atol=2e-6)
    again = [loaded.run([f[n] for n in graph.given]) for f in feeds[5:]]
    assert any(not np.array_equal(a[0], w[0]) for a, w in zip(again, wanted[5:], strict=True)), "the state is not kept"


def test_a_state_that_is_read_before_it_is_made_is_written_in_place():
    graph = feedback.mark(onnx_in.from_model(recurrent(), "m"), RNN)
    program = pipeline.compile_graph(graph, board.load("host")).program
    assert program.buffers["h_next"].alias == "h" and not [s for s in program.steps if s.op == "State"]


def test_one_that_is_read_later_is_copied():
    made = model(
        [("Add", ["x", "h"], ["h_next"], {}), ("MatMul", ["h_next", "w"], ["a"], {}), ("Mul", ["a", "h"], ["y"], {})],
        {"x": [1, 4], "h": [1, 4]},
        {"y": [1, 4], "h_next": [1, 4]},
        {"w": weights(4, 4)},
    )
    graph = feedback.mark(onnx_in.from_model(made, "m"), RNN)
    program = pipeline.compile_graph(graph, board.load("host")).program
    assert [s.op for s in program.steps][-1] == "State" and not program.buffers["h_next"].alias


def test_a_picture_is_kept_channels_last():
    graph = feedback.mark(onnx_in.from_model(pictures(), "m"), {"before": "after"})
    compiled = pipeline.compile_graph(graph, board.load("host"))
    assert compiled.graph.type("before").shape == (1, 6, 6, 3)
    assert not [
        n for n in compiled.graph.nodes if n.op == "Transpose" and {"before", "after"} & {*n.inputs, *n.outputs}
    ]


@st.composite
def tangles(draw):
    """Graphs of a few sums and views with states whose next values are any tensors: inputs, old values, views of either."""
    states = draw(st.integers(1, 3))
    tensors, nodes = ["x", *(f"s{k}" for k in range(states))], []
    for k in range(draw(st.integers(states, 7))):
        out = f"t{k}"
        op = draw(st.sampled_from(["Add", "Mul", "Flat", "MatMul", "Neg"]))
        ins = [draw(st.sampled_from(tensors)) for _ in range(2)]
        if op == "Flat":
            nodes += [("Reshape", [ins[0], "as4"], [out + "r"], {}), ("Reshape", [out + "r", "as14"], [out], {})]
        elif op == "MatMul":
            nodes.append((op, [ins[0], "w"], [out], {}))
        else:
            nodes.append((op, ins[: 1 if op == "Neg" else 2], [out], {}))
        tensors.append(out)
    ends = draw(st.permutations(tensors[1 + states :]))[:states]
    # an output of its own for each: also plain passes of an input or of another state
    passes = [draw(st.sampled_from([e, "x", "s0", f"s{states - 1}"])) for e in ends]
    passes = [e if p == f"s{k}" else p for k, (p, e) in enumerate(zip(passes, ends, strict=True))]
    nodes += [("Identity", [p], [f"n{k}"], {}) for k, p in enumerate(passes)]
    nodes.append(("Identity", [draw(st.sampled_from(tensors))], ["y"], {}))
    return model(
        nodes,
        {n: [1, 4] for n in tensors[: 1 + states]},
        {"y": [1, 4], **{f"n{k}": [1, 4] for k in range(states)}},
        {"w": weights(4, 4), "as4": np.array([4]), "as14": np.array([1, 4])},
    ), {f"s{k}": f"n{k}" for k in range(states)}


@settings(max_examples=60, deadline=None)
@given(tangles(), st.integers(0, 1))
def test_any_tangle_of_states(tangle, seed):
    made, pairs = tangle
    graph = feedback.mark(onnx_in.from_model(made, "m"), pairs)
    compiled = pipeline.compile_graph(graph, board.load("host"))
    feeds, memory = feeds_of(graph, 4, seed), {}
    poison = Poison(compiled.plan, seed)
    for feed, want in zip(feeds, reference(made, graph, feeds, 4), strict=True):
        given = [feed[n] for n in graph.given]
        got = loop_interp.run(compiled.program, given, state=memory, watch=poison.after)
        np.testing.assert_allclose(got[0].reshape(1, 4), want[0], rtol=1e-4, atol=1e-5)


# --- integers ------------------------------------------------------------------------------------


def quantised_state(read=0.1, made=0.1, zero=3, kind="int8", outside="float"):
    """next = x + h on integers; the state's scale where it is read and where it is made."""
    ends = {"x": [1, 8], "h": [1, 8] if outside == "float" else [kind, 1, 8]}
    into = (
        [("QuantizeLinear", ["h", "sr", "z"], ["hq"], {})] if outside == "float" else [("Identity", ["h"], ["hq"], {})]
    )
    end = (
        [("DequantizeLinear", ["nq", "sm", "z"], ["h_next"], {})]
        if outside == "float"
        else [("Identity", ["nq"], ["h_next"], {})]
    )
    return model(
        [
            ("QuantizeLinear", ["x", "sr", "z"], ["xq"], {}),
            ("DequantizeLinear", ["xq", "sr", "z"], ["xr"], {}),
            *into,
            ("DequantizeLinear", ["hq", "sr", "z"], ["hr"], {}),
            ("Add", ["xr", "hr"], ["n"], {}),
            ("QuantizeLinear", ["n", "sm", "z"], ["nq"], {}),
            *end,
            ("DequantizeLinear", ["nq", "sm", "z"], ["y"], {}),
        ],
        ends,
        {"y": [1, 8], "h_next": ends["h"]},
        {"sr": np.float32(read), "sm": np.float32(made), "z": np.array(zero + 128 * (kind == "uint8"), kind)},
    )


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("outside", ["float", "integer"])
@pytest.mark.parametrize("made", [0.1, 0.15])
def test_integers_are_kept_as_integers(kind, outside, made, tmp_path):
    onnx_model = quantised_state(0.1, made, 3, kind, outside)
    graph = feedback.mark(onnx_in.from_model(onnx_model, "m"), RNN)
    if outside == "integer" and made != 0.1:
        with pytest.raises(UsageError, match="h=h_next.*0.1.*0.15"):
            pipeline.compile_graph(graph, board.load("cortex-m4"))
        return
    compiled = pipeline.compile_graph(graph, board.load("cortex-m4"), name="m")
    ((old, _),) = compiled.program.state
    assert (compiled.program.buffers[old].dtype, compiled.program.buffers[old].reset) == ("int8", 3)
    loaded = host.load(package(compiled, tmp_path), simd_on_host=True)
    feeds = [{"x": np.random.default_rng(k).uniform(-2, 2, (1, 8)).astype(np.float32)} for k in range(8)]
    for k, (feed, want) in enumerate(zip(feeds, reference(onnx_model, graph, feeds, 4), strict=True)):
        if k % 4 == 0:
            loaded.reset()
        assert np.abs(loaded.run([feed["x"]])[0] - want[0]).max() <= made * 1.001


def test_a_float_state_of_a_float_network_stays_float():
    graph = feedback.mark(onnx_in.from_model(recurrent(), "m"), RNN)
    assert pipeline.compile_graph(graph, board.load("host")).graph.type("h").dtype == "float32"


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pairs, text",
    [
        ({"k": "h_next"}, "no input k"),
        ({"h": "z"}, "no output z"),
        ({"x": "h_next"}, r"x=h_next.*float32\[1x3\].*float32\[1x4\]"),
        ({"h": "y"}, r"h=y.*1x4.*1x2"),
    ],
)
def test_pairs_that_do_not_fit(pairs, text):
    with pytest.raises(UsageError, match=text):
        feedback.mark(onnx_in.from_model(recurrent(), "m"), pairs)


def test_one_output_for_two_states():
    made = model(
        [("Add", ["a", "b"], ["c"], {}), ("Add", ["c", "x"], ["d"], {})],
        {"x": [1, 2], "a": [1, 2], "b": [1, 2]},
        {"c": [1, 2], "d": [1, 2]},
        {},
    )
    with pytest.raises(UsageError, match="c is the next value of two"):
        feedback.mark(onnx_in.from_model(made, "m"), {"a": "c", "b": "c"})


@pytest.mark.parametrize("how", ["window", "sliding"])
def test_no_state_beside_rows(how):
    graph = feedback.mark(onnx_in.from_model(cached_convolution(), "m"), {"cache": "cache_next"})
    with pytest.raises(UsageError, match="row by row.*state"):
        pipeline.compile_graph(graph, board.load("host"), stream_input=how)


# --- data, quantiser, command line ---------------------------------------------------------------


@pytest.mark.parametrize("shape, steps", [((6, 1, 3), 6), ((6, 3), 6), ((2, 5, 1, 3), 5), ((2, 5, 3), 5)])
def test_samples_are_a_sequence_or_several(shape, steps, tmp_path):
    graph = feedback.mark(onnx_in.from_model(recurrent(), "m"), RNN)
    x = np.arange(np.prod(shape)).reshape(shape).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, labels=np.arange(shape[0]) % 2)
    found = data.load(tmp_path / "d.npz", graph)
    assert (found.steps, len(found)) == (steps, x.size // 3)
    np.testing.assert_array_equal(found.inputs["x"].reshape(-1), x.reshape(-1))
    if steps == 5:  # a sequence's label is its last step's
        np.testing.assert_array_equal(found.labels, [-1, -1, -1, -1, 0, -1, -1, -1, -1, 1])


def test_sequences_of_different_lengths(tmp_path):
    made = model(
        [("Add", ["a", "h"], ["c"], {}), ("Add", ["c", "x"], ["d"], {})],
        {"x": [1, 2], "a": [1, 2], "h": [1, 2]},
        {"c": [1, 2], "d": [1, 2]},
        {},
    )
    graph = feedback.mark(onnx_in.from_model(made, "m"), {"h": "d"})
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3, 2), np.float32), a=np.zeros((3, 2, 2), np.float32))
    with pytest.raises(UsageError, match="different sequences"):
        data.load(tmp_path / "d.npz", graph)


@needs_qemu
@pytest.mark.parametrize("which", ["recurrent", "convolution"])
def test_quantised_with_its_state_fed_back(which, tmp_path):
    make, pairs = MODELS[which]
    path = tmp_path / "net.onnx"
    onnx.save(make(), path)
    rng = np.random.default_rng(0)
    shape = (1, 3) if which == "recurrent" else (1, 4, 1)
    for name, count in (("cal", 6), ("test", 3)):
        np.savez(tmp_path / f"{name}.npz", x=rng.normal(0, 1, (count, 12, *shape)).astype(np.float32))
    built = api.build(path, state=pairs, data=tmp_path / "cal.npz", out=tmp_path / "p")
    (kept,) = built.manifest["state"]
    assert kept["dtype"] == "int8" and built.report["state"] == [kept]
    assert {"name": kept["name"], "output": kept["output"]} == {
        "name": list(pairs)[0],
        "output": list(pairs.values())[0],
    }
    assert not [n for n in built.report["quantisation"]["float_nodes"]]
    found = api.validate(tmp_path / "p", on=("host", "qemu"), data=tmp_path / "test.npz", poison=True, per_layer=True)
    assert found.ok and found.report["host_equals_qemu"] and found.report["poisoned_equal"]
    assert all(o["max_abs"] <= 1 for o in found.report["outputs"])
    float_net = onnx_run.reference(make())
    graph = feedback.mark(onnx_in.from_model(make(), "m"), pairs)
    exact = reference(make(), graph, [{"x": v} for v in np.load(tmp_path / "test.npz")["x"].reshape(-1, *shape)], 12)
    assert float_net.names[0] == graph.results[0] and len(exact) == 36
    loaded = host.load(tmp_path / "p", simd_on_host=True)
    q = built.manifest["inputs"][0]
    error, power = 0.0, 0.0
    for k, x in enumerate(np.load(tmp_path / "test.npz")["x"].reshape(-1, *shape)):
        if k % 12 == 0:
            loaded.reset()
        (raw,) = loaded.run([np.clip(np.rint(x / np.float32(q["scale"])) + q["zero_point"], -128, 127).astype(np.int8)])
        y = (raw.astype(np.float32) - loaded.outputs[0].zero_point) * loaded.outputs[0].scale
        error += float(((y - exact[k][0]) ** 2).sum())
        power += float((exact[k][0] ** 2).sum())
    assert 10 * np.log10(power / error) > 20


@needs_qemu
def test_reset_on_the_target_is_that_of_the_host(tmp_path):
    """A zero point that is not zero, sequences of several lengths, the state read and set from outside."""
    path = tmp_path / "net.onnx"
    onnx.save(quantised_state(zero=7), path)
    api.build(path, state=RNN, out=tmp_path / "p")
    for steps in (1, 3, 8):
        np.savez(
            tmp_path / "d.npz",
            x=np.random.default_rng(steps).uniform(-2, 2, (24 // steps, steps, 8)).astype(np.float32),
        )
        found = api.validate(tmp_path / "p", on=("host", "qemu"), data=tmp_path / "d.npz")
        assert found.ok and found.report["host_equals_qemu"], found.reasons
    header = (tmp_path / "p" / "net.h").read_text()
    assert (
        "#define NET_STATES 1u" in header and "#define NET_STATE_0_ZERO_POINT 7" in header and "*net_state(" in header
    )
    plan = json.loads((tmp_path / "p" / "plan.json").read_text())
    assert plan["state"] == ["h"]


@needs_qemu
@pytest.mark.parametrize("goal", ["balanced", "ram"])
def test_the_gesture_example_on_an_emulated_core(goal, tmp_path):
    """A GRU on integers, its memory kept on the core: the bits of the host, and as good as the float network."""
    options = {"state": {"memory": "memory_next"}, "data": EXAMPLES / "gesture_calib.npz", "goal": goal}
    recipe = Recipe("minmax", without=("ranges", "scales", "rounding"))  # the others take seconds and win less
    built = api.build(EXAMPLES / "gesture_gru.onnx", out=tmp_path / "p", recipe=recipe, **options)
    assert built.report["memory"]["arena_bytes"] <= 220 and not built.report["float_islands"]
    found = api.validate(tmp_path / "p", on=("host", "qemu"), data=EXAMPLES / "gesture_test.npz", samples=1200)
    assert found.ok and found.report["host_equals_qemu"]
    right = found.report["accuracy"]
    assert right["float"] > 0.99 and right["qemu"] > right["float"] - 0.01


def test_the_command_line(tmp_path, capsys):
    from edgec import cli

    path = tmp_path / "net.onnx"
    onnx.save(recurrent(), path)
    out = tmp_path / "p"
    assert cli.run(["build", str(path), "--state", "h=h_next", "-b", "host", "-o", str(out), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [s["name"] for s in made["report"]["state"]] == ["h"] and made["manifest"]["options"]["state"] == {
        "h": "h_next"
    }
    assert "state   h: float32 1x4" in (out / "report.txt").read_text()
    assert cli.run(["validate", str(out), "--json"]) == 0
    assert cli.run(["analyze", str(path), "--state", "h=h_next", "--check", "--json"]) == 0
    assert cli.run(["build", str(path), "--state", "h", "-b", "host"]) == 2
    assert cli.run(["build", str(path), "--state", "h=y", "-b", "host"]) == 2
    assert "float32[1x4]" in capsys.readouterr().err
