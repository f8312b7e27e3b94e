"""Boards with several memories: what is accessed most lies in the fastest that has room, and the bits stay the same."""
from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from networks import final_graph, samples
from test_placement import assert_valid, plain
from test_small_models import MODELS

from edgec import board, certificate, emulator, host, loop_interp, lower, onnx_in, package, pipeline, plan, plan_check
from edgec.arenas import Room, _chosen, assign
from edgec.errors import UsageError
from edgec.pieces import load

SMALL = (Room("dtcm", 20000, 1), Room("sram", 1 << 20, 4))


def two_memories(tmp_path, fast, isa='["dsp", "c99"]'):
    """A board file as cortex-m7-tcm, with so many bytes of fast memory for the arena."""
    text = (board.paths.data("boards") / "cortex-m7-tcm.toml").read_text(encoding="utf-8")
    size = fast + board.load("cortex-m7-tcm").stack + board.VARIABLES
    text = text.replace("size = 0x00020000", f"size = {size}").replace('isa = ["dsp", "c99"]', f"isa = {isa}")
    path = tmp_path / "two.toml"
    path.write_text(text, encoding="utf-8")
    return board.load(str(path))


def emitted(graph, b, folder):
    c = pipeline.compile_graph(graph, b, name="net")
    for path, text in c.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return c


@settings(max_examples=40, deadline=None)
@given(plain(6), st.data())
def test_the_most_accessed_fit_the_fast_memory(items, data):
    accessed = [data.draw(st.integers(0, 20)) for _ in items]
    limit = data.draw(st.integers(0, 20))
    found = sum(accessed[k] for k in _chosen(items, accessed, list(range(len(items))), limit))
    sets = (c for n in range(len(items) + 1) for c in combinations(range(len(items)), n))
    assert found == max(sum(accessed[k] for k in c) for c in sets if load([items[k] for k in c])[0] <= limit)


@settings(max_examples=40, deadline=None)
@given(plain(7), st.integers(0, 12), st.integers(0, 12))
def test_each_item_lies_in_one_memory_with_room(items, a, b):
    rooms = (Room("a", a, 1), Room("b", b, 2), Room("c", 10**6, 9))
    found = assign(items, [i.size for i in items], rooms)
    assert sorted(k for _, chosen, _ in found for k in chosen) == list(range(len(items)))
    for room, chosen, placement in found:
        assert_valid([items[k] for k in chosen], placement)
        assert placement.size <= room.size


def test_one_memory_is_as_no_choice():
    graph = pipeline.simplify(onnx_in.from_model(MODELS["two_outputs"](), "m"))
    program = lower.lower(pipeline.run_passes(graph, pipeline.ABSORB + pipeline.LAYOUT))
    alone, roomy = plan.plan(program), plan.plan(program, rooms=(Room("dtcm", 1 << 20, 1), Room("sram", 1 << 20, 4)))
    assert [a.memory for a in roomy.arenas] == ["dtcm"] and roomy.arena_bytes == alone.arena_bytes
    assert {n: b.offset for n, b in roomy.buffers.items()} == {n: b.offset for n, b in alone.buffers.items()}


@pytest.fixture(scope="module")
def split(models):
    graph = final_graph(models / "ic_int8.onnx")
    return graph, plan.plan(lower.lower(graph, ("c99",)), rooms=SMALL)


def test_the_interpreter_sees_the_same_bits(models, split):
    graph, program = split
    assert [a.memory for a in program.arenas] == ["dtcm", "sram"]
    assert program.arenas[0].nbytes <= SMALL[0].size and program.arenas[1].offset % 16 == 0
    t = graph.type(graph.inputs[0])
    for x in samples(models, "ic", "int8")[:2]:
        x = x.reshape(t.shape)
        got = loop_interp.run(program, [x])[0]
        assert np.array_equal(got, loop_interp.run(plan.plan(replace(program, arenas=())), [x])[0])


def test_the_checker_wants_each_piece_in_one_arena(split):
    made = certificate.make(split[1])
    plan_check.check(made)
    cut = made["pieces"][0]["offset"] + 16
    for wrong in ([[0, cut // 16 * 16], [cut // 16 * 16, made["arena_bytes"]]], [[0, made["arena_bytes"]], [16, 16]],
                  [[0, made["arena_bytes"] + 16]], []):
        with pytest.raises(plan_check.PlanError):
            plan_check.check(made | {"arenas": wrong})


@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_c_in_two_arenas_gives_the_bits_of_one(models, tmp_path, cc):
    graph = onnx_in.load(models / "ic_int8.onnx")
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    c = emitted(graph, two_memories(tmp_path, 20000, '["c99"]'), tmp_path / "two")
    emitted(graph, board.load("cortex-m3"), tmp_path / "one")
    assert package.read(tmp_path / "two").arenas == tuple(a.nbytes for a in c.program.arenas)
    two, one = host.load(tmp_path / "two", cc=cc), host.load(tmp_path / "one", cc=cc)
    for x in samples(models, "ic", "int8")[:3]:
        x = x.reshape(two.inputs[0].shape)
        (a, steps), (b, others) = two.trace_bytes([x.tobytes()]), one.trace_bytes([x.tobytes()])
        assert a == b and len(steps) == len(others)


def test_init_refuses_each_bad_arena(models, tmp_path):
    """In memories of their own, so that an access past one arena does not land in the other: under ASan."""
    emitted(onnx_in.load(models / "ic_int8.onnx"), two_memories(tmp_path, 20000, '["c99"]'), tmp_path)
    (tmp_path / "t.c").write_text("""
#include "net.h"
static uint8_t a[NET_ARENA_0_BYTES + 16] EC_ALIGNED(16);
static uint8_t b[NET_ARENA_1_BYTES] EC_ALIGNED(16);
int main(void)
{
    net_t m;
    void *at[NET_ARENAS] = {a, b};
    size_t n[NET_ARENAS] = {NET_ARENA_0_BYTES, NET_ARENA_1_BYTES};

    if (net_init(NULL, at, n) != EC_ERR_NULL || net_init(&m, NULL, n) != EC_ERR_NULL ||
        net_init(&m, at, NULL) != EC_ERR_NULL) {
        return 1;
    }
    n[1]--;
    if (net_init(&m, at, n) != EC_ERR_ARENA || net_run(&m) != EC_ERR_NULL || net_input(&m, 0) != NULL) {
        return 2;
    }
    n[1]++;
    at[0] = a + 8;
    if (net_init(&m, at, n) != EC_ERR_ALIGN || net_output(&m, 0) != NULL) {
        return 3;
    }
    at[0] = a;
    at[1] = NULL;
    if (net_init(&m, at, n) != EC_ERR_NULL) {
        return 4;
    }
    at[1] = b;
    return net_init(&m, at, n) == EC_OK && net_run(&m) == EC_OK ? 0 : 5;
}
""", encoding="utf-8")
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    words = ["gcc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-fsanitize=address,undefined",
             "t.c", "net.c", "net_weights.c", "-o", "t"]
    subprocess.run(words, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "t"], cwd=tmp_path).returncode == 0


def test_the_emulator_has_both_memories(models, tmp_path):
    """Each arena at an address of its own, 1 GB apart: the host's bits, and those of every step."""
    if not shutil.which("qemu-system-arm"):
        pytest.skip("no qemu-system-arm")
    from edgec import toolchain

    b = two_memories(tmp_path, 20000)
    c = emitted(onnx_in.load(models / "ic_int8.onnx"), b, tmp_path)
    assert [a.memory for a in c.program.arenas] == ["dtcm", "sram"]
    firmware = toolchain.build_firmware(tmp_path, b, toolchain.find_arm(), "balanced")
    assert [firmware.sections[f".arena_{k}"] for k in range(2)] == [a.nbytes for a in c.program.arenas]
    h = host.load(tmp_path, simd_on_host=True)
    inputs = [[x.tobytes()] for x in samples(models, "ic", "int8")[:2]]
    run = emulator.run(firmware.elf, b, inputs, trace=True)
    for k, sample in enumerate(inputs):
        outputs, steps = h.trace_bytes(sample)
        assert run.outputs[k] == outputs
        assert run.traces[k] == steps


def test_cycles_are_of_ram(tmp_path):
    text = (board.paths.data("boards") / "cortex-m7-tcm.toml").read_text(encoding="utf-8")
    path = tmp_path / "wrong.toml"
    path.write_text(text.replace("size = 0x00200000", "size = 0x00200000\ncycles = 1"), encoding="utf-8")
    with pytest.raises(UsageError, match="flash"):
        board.load(str(path))
    assert [r.memory for r in board.load("cortex-m7-tcm").rooms] == ["dtcm", "sram"]
    assert board.load("cortex-m4").rooms == ()
