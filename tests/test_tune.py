"""`edgec tune`: in each layer the kernel that measured best, the cheapest of all builds, a file to build it again."""
from __future__ import annotations

import json

import dsp_program
import pytest
from conftest import ROOT

import edgec
import edgec.store
from edgec import profile, tune
from edgec.errors import BudgetError, UsageError
from edgec.pipeline import GOALS

DIGITS = ROOT / "examples" / "digits_cnn.onnx"
CALIBRATION = DIGITS.with_name("digits_calib.npz")


def simulate(monkeypatch, saves: dict[str, int], flash: dict[str, int], room: int, fits=GOALS):
    """Builds of a model of one layer for each name, whose faster kernel saves so much (but for what the costs say)."""
    def attempt(model, board, goal, layers, options):
        if goal not in fits:
            raise BudgetError("too large")
        offers = (
            [{"layer": n, "origin": [n], "kernel": "k", "flash": flash[n]} for n in saves] if goal in ("time", "balanced") else []
        )
        usual = frozenset("ab" if room < sum(flash.values()) else saves) if offers else frozenset()
        taken = usual if layers is None else layers
        if sum(flash[n] for n in taken) > room:
            raise BudgetError("too large")
        rows = {(n,): 1000 - saves[n] * (n in taken) for n in saves}
        cost = sum(rows.values()) + {"balanced": 20, "time": 10, "ram": 50, "size": 30}[goal]
        choices = {"room": room, "offers": [o | {"taken": o["layer"] in taken} for o in offers]}
        return tune._Try(tune.Choice(goal, taken), cost, "cycles", 100, 1000, rows, choices)

    monkeypatch.setattr(tune, "_attempt", attempt)


def test_layers_are_chosen_by_what_they_measured(monkeypatch, tmp_path):
    simulate(monkeypatch, {"a": 300, "b": -50, "c": 200}, {"a": 10, "b": 10, "c": 10}, 100)
    found = tune.run(DIGITS, board="cortex-m4", out=tmp_path / "t.json")
    assert (found["goal"], found["layers"], found["cost"]) == ("time", ["a", "c"], 3000 - 500 + 10)
    assert tune.read(tmp_path / "t.json", DIGITS, "cortex-m4") == tune.Choice("time", frozenset("ac"))


def test_where_not_all_fit_those_that_do_are_measured(monkeypatch, tmp_path):
    simulate(monkeypatch, {"a": -50, "b": 290, "c": 20}, {"a": 50, "b": 50, "c": 100}, 100)
    assert tune.run(DIGITS, board="cortex-m4", out=tmp_path / "t.json")["layers"] == ["b"]


def test_what_does_not_fit_is_left_out(monkeypatch, tmp_path):
    simulate(monkeypatch, {"a": 300}, {"a": 1}, 100, fits=("ram", "size"))
    found = tune.run(DIGITS, board="cortex-m4", out=tmp_path / "t.json")
    assert found["goal"] == "size" and {t["goal"] for t in found["tried"]} == {"ram", "size"}
    simulate(monkeypatch, {"a": 300}, {"a": 1}, 100, fits=())
    with pytest.raises(BudgetError):
        tune.run(DIGITS, board="cortex-m4", out=tmp_path / "t.json")


@pytest.mark.qemu
@pytest.mark.skipif(bool(dsp_program.missing()), reason=dsp_program.missing())
def test_the_choice_builds_what_was_measured(tmp_path):
    found = tune.run(DIGITS, board="cortex-m4", data=CALIBRATION, out=tmp_path / "t.json")
    assert found["cost"] == min(t["cost"] for t in found["tried"]) and len(found["tried"]) >= 4
    choice = tune.read(tmp_path / "t.json", DIGITS, "cortex-m4")
    built = edgec.build(DIGITS, board="cortex-m4", data=CALIBRATION, tuned=choice, out=tmp_path / "p")
    assert profile.run(built.directory)["total"]["cost"] == found["cost"]
    assert built.manifest["options"]["goal"] == found["goal"]


def test_a_tuning_of_something_else(tmp_path):
    path = tmp_path / "t.json"
    path.write_text("{}")
    with pytest.raises(UsageError, match="not a tuning"):
        tune.read(path, DIGITS, "cortex-m4")
    sha = edgec.store.sha256_file(DIGITS)
    made = {"format": 1, "model": {"sha256": sha}, "board": "cortex-m4", "goal": "time", "layers": ["x"]}
    path.write_text(json.dumps(made))
    with pytest.raises(UsageError, match="another model, board"):
        tune.read(path, DIGITS, "cortex-m7")
    with pytest.raises(UsageError, match="no faster kernels for x"):
        choice = tune.read(path, DIGITS, "cortex-m4")
        edgec.build(DIGITS, board="cortex-m4", tuned=choice, out=tmp_path / "p", compile=False)
