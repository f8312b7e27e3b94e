"""If, Loop and Scan as C control flow: graph, interpreter, C and plan agree with onnxruntime."""

from __future__ import annotations

import copy
from dataclasses import replace

import control_models as models_
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from control_models import NAMED, N, body, feeds, model
from hypothesis import HealthCheck, Phase, given, settings

import edgec
from edgec import (
    board,
    host,
    loop_interp,
    loop_verify,
    onnx_in,
    onnx_out,
    pipeline,
    plan_check,
    profile,
    reference,
    store,
)
from edgec.errors import UnsupportedError
from edgec.poison import Poison

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
CORE = board.load("cortex-m4")


def compiled(m, **more):
    return pipeline.compile_graph(onnx_in.from_model(m, "m", **more), CORE)


def expected(m, values):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(m.SerializeToString(), options).run(None, values)


def loaded(c, folder):
    store.write_files(folder, c.files)
    return host.load(folder, simd_on_host=True)


def same(c, m, found, values):
    """The model's outputs equal onnxruntime's, bit for bit; of counted ones the part that counts."""
    by_name = dict(zip(c.graph.outputs, found, strict=True))
    for o, want in zip(m.graph.output, expected(m, values), strict=True):
        got = by_name[o.name]
        if o.name in c.graph.counts:
            got = got.reshape(c.graph.type(o.name).shape)[: int(by_name[c.graph.counts[o.name][0]].reshape(-1)[0])]
        assert np.array_equal(got.reshape(-1), want.reshape(-1)), o.name


@pytest.mark.parametrize("name", NAMED)
def test_interpreter_and_c_equal_onnxruntime(name, tmp_path):
    m = NAMED[name]()
    c = compiled(m)
    h = loaded(c, tmp_path)
    for seed in range(4):
        values = feeds(m, seed)
        inputs = [values[i] for i in c.graph.inputs]
        same(c, m, loop_interp.run(c.program, inputs), values)
        same(c, m, h.run(inputs), values)
        assert np.array_equal(
            np.concatenate([x.reshape(-1) for x in loop_interp.run(c.program, inputs)]).astype(np.float64),
            np.concatenate([np.asarray(x, np.float64).reshape(-1) for x in h.run(inputs)]),
        )


@settings(max_examples=25, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(models_.models())
def test_random_control_flow(m):
    """Graph, planned program and poisoned arena against onnxruntime. Planning proves the certificate of each."""
    c = compiled(m)
    for seed in (0, 1):
        values = feeds(m, seed)
        wanted = expected(m, values)[0]
        graph = onnx_in.from_model(m, "m")
        assert np.array_equal(reference.run(graph, values)["z"], wanted)
        inputs = [values[i] for i in c.graph.inputs]
        assert np.array_equal(loop_interp.run(c.program, inputs)[0], wanted)
        assert np.array_equal(loop_interp.run(c.program, inputs, watch=Poison(c.plan, seed).after)[0], wanted)


@settings(max_examples=4, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(m=models_.models())
def test_random_control_flow_in_c(m, tmp_path_factory):
    c = compiled(m)
    h = loaded(c, tmp_path_factory.mktemp("c"))
    for seed in (0, 1):
        values = feeds(m, seed)
        raw, wanted = [values[i].tobytes() for i in c.graph.inputs], expected(m, values)[0].tobytes()
        assert h.run_bytes(raw) == h.run_bytes(raw, Poison(c.plan, seed)) == [wanted]


# --- what a body may hold ----------------------------------------------------------------------------


def test_passes_work_inside_bodies():
    """A QDQ layer in a Scan becomes an integer kernel."""
    rng = np.random.default_rng(0)
    q = {
        "xs": np.float32(0.05),
        "xz": np.int8(0),
        "ws": np.float32(0.02),
        "wz": np.int8(0),
        "ys": np.float32(0.1),
        "yz": np.int8(3),
        "w": rng.integers(-90, 90, (4, 4), np.int8),
        "four": np.array([4.0], np.float32),
    }
    inner = body(
        [
            N("QuantizeLinear", ["v", "xs", "xz"], ["vq"]),
            N("DequantizeLinear", ["vq", "xs", "xz"], ["vd"]),
            N("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
            N("MatMul", ["vd", "wd"], ["m"]),
            N("Relu", ["m"], ["r"]),
            N("QuantizeLinear", ["r", "ys", "yz"], ["rq"]),
            N("DequantizeLinear", ["rq", "ys", "yz"], ["rd"]),
            N("Mul", ["rd", "four"], ["out"]),
            N("Add", ["s", "out"], ["s1"]),
        ],
        [("s", models_.FLOAT, [1, 4]), ("v", models_.FLOAT, [1, 4])],
        [("s1", models_.FLOAT, [1, 4]), ("out", models_.FLOAT, [1, 4])],
    )
    m = model(
        [N("Scan", ["s0", "x"], ["y", "rows"], body=inner, num_scan_inputs=1, name="scan")],
        {"s0": [1, 4], "x": [5, 1, 4]},
        {"y": [1, 4], "rows": [5, 1, 4]},
        q,
    )
    c = compiled(m)
    kernels = {s.kernel for f in c.program.steps for s in loop_verify.statements(f.body) if hasattr(s, "kernel")}
    assert len(kernels) == 1 and kernels.pop().startswith("fc_s8")
    values = feeds(m, 0)
    same(c, m, loop_interp.run(c.program, [values[i] for i in c.graph.inputs]), values)


def test_code_and_arena_do_not_grow_with_the_turns():
    def scan(turns):
        m = models_.scanned()
        m.graph.input[1].type.tensor_type.shape.dim[0].dim_value = turns
        m.graph.output[1].type.tensor_type.shape.dim[0].dim_value = turns
        return compiled(m)

    few, many = scan(4), scan(400)
    assert len(few.program.steps) == len(many.program.steps)
    assert many.program.arena_bytes - few.program.arena_bytes == 2 * 396 * 2 * 4  # the input and the rows
    assert many.stats["macs"] == few.stats["macs"] == 0


def test_what_nothing_reads_is_not_carried():
    """The rows of a Scan that are no output, and a sum that only feeds itself."""
    inner = body(
        [N("Add", ["s", "v"], ["s1"]), N("Add", ["idle", "s"], ["idle1"]), N("Neg", ["s1"], ["row"])],
        [("s", models_.FLOAT, [2]), ("idle", models_.FLOAT, [2]), ("v", models_.FLOAT, [2])],
        [("s1", models_.FLOAT, [2]), ("idle1", models_.FLOAT, [2]), ("row", models_.FLOAT, [2])],
    )
    scan = N("Scan", ["s0", "s0", "x"], ["y", "last", "rows"], body=inner, num_scan_inputs=1, name="scan")
    m = model([scan], {"s0": [2], "x": [5, 2]}, {"y": [2]})
    c = compiled(m)
    assert not {"Neg", "ScatterND"} & {op for s in c.program.steps for op in s.op.split("+")}
    assert sum(s.op == "Copy" for s in c.program.steps) == 2  # the sum and the number of the turn begin
    values = feeds(m, 3)
    same(c, m, loop_interp.run(c.program, [values[i] for i in c.graph.inputs]), values)


def test_only_the_branch_taken_runs(tmp_path):
    m = models_.chosen()
    c = compiled(m)
    h = loaded(c, tmp_path)
    sides = [k for k, s in enumerate(c.program.steps) if s.control in ("if", "else", "end")]
    then, other = set(range(sides[0] + 1, sides[1])), set(range(sides[1] + 1, sides[2]))
    for limit, runs, rests in ((0, then, other), (1000, other, then)):
        _, seen = h.trace_bytes([np.full((1, 4), 2, np.float32).tobytes(), np.float32(limit).tobytes()])
        assert runs <= seen.keys() and not rests & seen.keys()


# --- what the plan says ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scan", "bounded", "swapping", "if"])
def test_shorter_lives_are_noticed(name):
    """By the checker alone: no part of a piece may die a step earlier, not even where only the next turn needs it."""
    made = compiled(NAMED[name]()).plan
    plan_check.check(made)
    for k, piece in enumerate(made["pieces"]):
        for j, (_, _, first, last) in enumerate(piece["parts"]):
            if first < last:
                wrong = copy.deepcopy(made)
                wrong["pieces"][k]["parts"][j][3] -= 1
                wrong["lower_bound"] |= {"bytes": 0, "alive": [], "moment": len(made["steps"])}
                with pytest.raises(plan_check.PlanError):
                    plan_check.check(wrong)


def test_a_turn_that_spoils_the_next_is_noticed():
    """A carried tensor whose bytes something else takes between its last use in a turn and its first in the next."""
    made = compiled(models_.halving(12)).plan
    carried = next(b for b in made["buffers"] if b["name"] == "y")
    other = next(s for s in made["steps"] if s["name"].endswith("scatternd"))
    wrong = copy.deepcopy(made)
    step = next(s for s in wrong["steps"] if s["name"] == other["name"])
    step["writes"].append("y")
    plan_check.check(wrong)  # the same name is no defect of the memory
    wrong["buffers"].append(carried | {"name": "spoiler"})
    step["writes"][-1] = "spoiler"
    with pytest.raises(plan_check.PlanError, match="y is read"):
        plan_check.check(wrong)


def test_blocks_must_nest():
    p = compiled(models_.chosen()).program
    for lost in ("if", "else", "end"):
        with pytest.raises(loop_verify.VerifyError):
            loop_verify.verify(replace(p, steps=tuple(s for s in p.steps if s.control != lost)))


def test_what_a_side_alone_writes_is_not_known_behind_it():
    p = compiled(models_.chosen()).program
    k = next(k for k, s in enumerate(p.steps) if s.control == "else")
    with pytest.raises(loop_verify.VerifyError, match="nothing has written"):
        loop_verify.verify(replace(p, steps=tuple(s for j, s in enumerate(p.steps) if j != k + 1)))


# --- around it ---------------------------------------------------------------------------------------


def test_a_run_time_trip_count_cannot_size_a_result():
    m = models_.halving(12)
    m.graph.initializer.remove(next(i for i in m.graph.initializer if i.name == "most"))
    m.graph.input.append(models_.info("most", models_.INT, []))
    with pytest.raises(UnsupportedError, match="run-time trip count decides the size"):
        compiled(m)
    assert compiled(m, constants={"most": np.array(5)}).graph.counts


def test_a_loop_without_end_is_refused():
    m = models_.swapping()
    next(n for n in m.graph.node if n.op_type == "Loop").input[0] = ""
    with pytest.raises(UnsupportedError, match="nothing ends"):
        compiled(m)


@pytest.mark.parametrize("name", NAMED)
def test_written_as_onnx_again(name):
    m = NAMED[name]()
    again = onnx_out.to_onnx(pipeline.simplify(onnx_in.from_model(m, "m")))
    values = feeds(m, 1)
    found = dict(zip((o.name for o in again.graph.output), expected(again, values), strict=True))
    for o, want in zip(m.graph.output, expected(m, values), strict=True):
        assert np.array_equal(found[o.name].reshape(-1)[: want.size], want.reshape(-1))


def test_calls_are_matched_with_steps():
    """Also where the compiler joined a loop's first step with the one behind it."""
    steps = [
        {"control": c, "function": f}
        for c, f in [
            ("", "a"),
            ("loop", ""),
            ("", "b"),
            ("if", ""),
            ("", "c"),
            ("else", ""),
            ("", "d"),
            ("end", ""),
            ("end", ""),
            ("", "e"),
        ]
    ]
    assert profile.matched(steps, ["a", "b", "c", "b", "d", "e"], {*"abcde"}) == [0, 2, 4, 2, 6, 9]
    assert profile.matched(steps, ["a", "e"], {*"abcde"}) == [0, 9]
    assert profile.matched(steps, ["a", "b", "d", "b"], {*"abcd"}) == [0, 2, 6, 9]
    assert profile.matched(steps, ["a", "b", "e"], {*"abcde"}) is None


@pytest.mark.qemu
@pytest.mark.parametrize("name", ["scan", "bounded", "if"])
def test_the_emulated_core_makes_the_same_bits(name, tmp_path):
    m = NAMED[name]()
    file = tmp_path / "m.onnx"
    onnx.save(m, file)
    built = edgec.build(file, board="cortex-m4", out=tmp_path / "p")
    result = edgec.validate(built.directory, on=("host", "qemu"), samples=2, poison=True)
    assert result.ok and result.report["poisoned_equal"]
    rows = profile.run(built.directory)["rows"]
    assert sum(r["cost"] for r in rows) > 0 and len(rows) == 1 + sum(
        not s["control"] for s in store.read_report(built.directory)["steps"]
    )
