"""The emulator's counts: a loop whose cycles are known, the same numbers every time, parts that make up the whole."""
from __future__ import annotations

import subprocess
from dataclasses import replace

import dsp_program
import pytest
from conftest import ROOT

import edgec
from edgec import board, counter, emulator, profile
from edgec.counter import Entry
from edgec.errors import DeviceError, UsageError

pytestmark = [pytest.mark.qemu, pytest.mark.skipif(bool(dsp_program.missing()), reason=dsp_program.missing())]
DIGITS = ROOT / "examples" / "digits_cnn.onnx"

# What the Cortex-M4's timing table gives each instruction stands beside it; a taken branch is 2 more, counted where it
# goes to.
PROGRAM = """
    .syntax unified
    .cpu cortex-m4
    .thumb
    .section .vectors, "a"
    .word stack_top, reset
    .text
    .thumb_func
    .type reset, %function
reset:
    bl run
    bl leaf            @ outside the run: not counted
    movs r0, #0x18
    ldr r1, =0x20026
    bkpt 0xAB
    .size reset, . - reset
    .thumb_func
    .type leaf, %function
leaf:
    movs r2, #9        @ 1
    udiv r2, r2, r2    @ 7
    stm sp, {r0, r1}   @ 3
    bx lr              @ 1
    .size leaf, . - leaf
    .thumb_func
    .type run, %function
run:
    push {r4, lr}      @ 3
    sub sp, #8         @ 1
    movs r4, #10       @ 1
1:  ldr r0, [sp]       @ 2
    ldr r1, [sp, #4]   @ 1, behind another load
    smlad r0, r0, r1, r0 @ 1
    strb r0, [sp]      @ 1
    subs r4, #1        @ 1
    bne 1b             @ 1
    bl leaf            @ 1
    bl twice           @ 1
    bl leaf            @ 1
    add sp, #8         @ 1
    pop {r4, pc}       @ 3
    .size run, . - run
    .thumb_func
    .type twice, %function
twice:
    mov r3, lr         @ 1
    bl leaf            @ 1
    mov lr, r3         @ 1
    b.w leaf           @ 1, which returns to the run
    .size twice, . - twice
"""
LEAF = (4, 2 + 1 + 7 + 3 + 1)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    folder = tmp_path_factory.mktemp("known")
    cpu, code, ram = dsp_program.TARGETS["mps2-an386"]
    (folder / "p.ld").write_text(dsp_program.LINK.format(code=code, ram=ram))
    (folder / "p.s").write_text(PROGRAM)
    subprocess.run(["arm-none-eabi-gcc", *cpu, "-mthumb", "-nostdlib", "-Tp.ld", "p.s", "-o", "p.elf"], cwd=folder,
                   check=True, capture_output=True)
    return folder / "p.elf"


def test_cycles_of_a_known_loop(known):
    run, first, twice, inner, second = counter.count(known, board.load("cortex-m4"), "run", ("leaf", "twice"))
    loop = 2 + 1 + 1 + 1 + 1 + 1
    assert run == Entry(-1, "run", 1, 3 + 10 * 6 + 3 + 2, 2 + 3 + 1 + 1 + 10 * loop + 9 * 2 + 3 * (1 + 2) + 1 + 3)
    assert first == second == Entry(0, "leaf", 1, *LEAF)
    assert twice == Entry(0, "twice", 1, 4, 2 + 1 + 1 + 2 + 1 + 1)
    assert inner == Entry(2, "leaf", 2, 2 * LEAF[0], 2 * LEAF[1])


def test_what_is_not_listed_belongs_to_its_caller(known):
    (run,) = counter.count(known, board.load("cortex-m4"), "run", ())
    assert run.instructions == 68 + 4 + 4 * LEAF[0]


def test_a_function_that_is_missing_or_not_called(known):
    with pytest.raises(DeviceError, match="no function"):
        counter.count(known, board.load("cortex-m4"), "absent", ())
    with pytest.raises(DeviceError, match="has no emulator"):
        counter.count(known, board.load("nucleo-f446re"), "run", ())


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    built = {}

    def build(name: str, goal: str):
        if (name, goal) not in built:
            out = tmp_path_factory.mktemp("digits") / "p"
            data = DIGITS.with_name("digits_calib.npz")
            built[name, goal] = edgec.build(DIGITS, data=data, board=name, goal=goal, out=out)
        return built[name, goal]

    return build


@pytest.mark.parametrize("name, goal", [("cortex-m4", "balanced"), ("cortex-m4", "ram"), ("cortex-m0", "ram")])
def test_layers_make_up_the_run(digits, name, goal):
    built = digits(name, goal)
    p = profile.run(built.directory)
    assert p == profile.run(built.directory)
    assert p["unit"] == ("cycles" if name == "cortex-m4" else "instructions")
    assert p["total"]["macs"] == built.report["macs"] == sum(r["macs"] for r in p["rows"])
    assert p["total"]["cost"] == sum(r["cost"] for r in p["rows"]) > p["total"]["macs"] * p["bounds"]["int8"]
    assert sum(r["share"] for r in p["rows"]) == pytest.approx(1)
    nodes = {n for s in built.report["steps"] for n in s["origin"]}
    assert nodes == {n for r in p["rows"] for n in r["origin"]}
    for r in p["rows"]:
        assert r["macs"] == 0 or r["per_mac"] > r["bound"]
    assert max(r["alive_bytes"] or 0 for r in p["rows"]) == built.report["memory"]["lower_bound"]


def test_streamed_layers_cost_what_they_cost_alone(digits):
    def convolutions(goal: str) -> dict:
        rows = profile.run(digits("cortex-m3", goal).directory)["rows"]
        return {tuple(r["origin"]): r["cost"] for r in rows if r["op"] == "Conv"}

    rows, whole = convolutions("ram"), convolutions("balanced")
    assert len(rows) == len(whole) > 1
    assert any(x["layers"] for x in digits("cortex-m3", "ram").report["steps"])
    for nodes, cost in whole.items():
        assert rows[nodes] == pytest.approx(cost, rel=0.15)


def test_a_function_shared_by_layers_is_divided_by_their_work():
    layers = [{"origin": [n], "op": "Conv", "macs": m, "kernel": "conv_s8", "function": f}
              for n, m, f in (("a", 300, "k"), ("b", 100, "k"), ("c", 50, "gone"))]
    step = {
        "name": "s",
        "control": "",
        "origin": ["a", "b", "c"],
        "op": "Stream",
        "kernel": "conv_s8",
        "macs": 450,
        "dtype": "int8",
        "alive_bytes": 8,
        "function": "s",
        "layers": layers,
    }
    entries = [Entry(-1, "run", 1, 5, 6), Entry(0, "s", 1, 7, 8), Entry(1, "k", 9, 450, 901)]
    p = profile.profile(board.load("cortex-m4"), "x", [step], entries)
    assert [r["cost"] for r in p["rows"]] == [601, 200, 100, 8, 6]  # the equal function of c was joined with that of a
    assert p["total"]["cost"] == 6 + 8 + 901


def test_a_package_without_firmware(tmp_path):
    r = edgec.build(DIGITS, board="cortex-m4", out=tmp_path / "p", compile=False)
    with pytest.raises(UsageError, match="no firmware"):
        profile.run(r.directory)


def test_the_cores_own_counter(digits, tmp_path):
    """The firmware's side: the emulator has no such counter, so every step took 0 cycles, which is said."""
    m4 = board.load("cortex-m4")
    command = tuple(word.replace("{arguments}", ",arg=edgec,arg=profile,arg=in,arg=out") for word in m4.emulator)
    package = digits("cortex-m4", "balanced")
    sample = [bytes(t["bytes"]) for t in package.manifest["inputs"]]
    with pytest.raises(DeviceError, match="no cycle counter"):
        emulator.cycles_on_board(package.firmware, replace(m4, run={"qemu": command}), sample)
    with pytest.raises(DeviceError, match="no tool"):
        emulator.cycles_on_board(package.firmware, m4, sample)


def test_cycles_of_a_board(digits):
    steps = digits("cortex-m4", "balanced").report["steps"]
    p = profile.measured(board.load("nucleo-f446re"), "x", steps, [(k, 10 * (k + 1)) for k in range(len(steps))])
    assert [r["cost"] for r in p["rows"]] == [10 * (k + 1) for k in range(len(steps))]
    assert p["unit"] == "cycles" and "measured" in p["model"] and p["total"]["instructions"] is None
    with pytest.raises(DeviceError, match="steps ran"):
        profile.measured(board.load("nucleo-f446re"), "x", steps, [(0, 1)])
    turns = [{**steps[0], "control": c} for c in ("", "loop", "", "end")]
    p = profile.measured(board.load("nucleo-f446re"), "x", turns, [(0, 5), (2, 7), (2, 8)])
    assert [r["cost"] for r in p["rows"]] == [5, 15]
