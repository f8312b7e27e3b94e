"""The fastest build of a model by measurement: `edgec tune` runs candidates under QEMU and keeps the choice."""
from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import api, profile, store
from .errors import BudgetError, UsageError
from .kernels.choice import Offer, affordable
from .output import Event, table
from .pipeline import GOALS

_FORMAT = 1


@dataclass(frozen=True)
class Choice:
    """goal: as for `edgec.build`. layers: output tensors of the convolutions that get kernels for whole tensors."""

    goal: str
    layers: frozenset[str]


@dataclass(frozen=True, eq=False)
class _Try:
    """A candidate. rows: cost of each layer by its ONNX nodes. choices: those of the report."""

    choice: Choice
    cost: int
    unit: str
    arena: int
    flash: int
    rows: Mapping[tuple[str, ...], int]
    choices: Mapping


def run(model: str | Path, *, board: str, out: str | Path | None = None,
        on_event: Callable[[Event], None] | None = None, **options) -> dict:
    """Builds the model for each goal that fits the board and the budgets, and where there are several kernels for a
    layer with those that measure best; writes the cheapest to `out` (default build/<name>/<board>.tuned.json).

    options: of `edgec.build`. The cost is what `edgec profile` counts. Returns the choice and all that was tried,
    JSON-ready. Raises what `edgec.build` raises; BudgetError where nothing fits."""
    tell = on_event or (lambda event: None)
    found: list[_Try] = []

    def attempt(goal: str, layers: frozenset[str] | None) -> _Try | None:
        for tried in found:
            if tried.choice == Choice(goal, layers):
                return tried
        start = time.perf_counter()
        try:
            tried = _attempt(model, board, goal, layers, options)
        except BudgetError as e:
            tell(Event("note", info=f"-O {goal}: {e.what}"))
            return None
        found.append(tried)
        tell(Event("phase", f"-O {goal}", f"{tried.cost:,} {tried.unit}, {_layers(tried.choice)}",
                   time.perf_counter() - start))
        return tried

    for goal in GOALS:
        usual = attempt(goal, None)
        if usual is None or not usual.choices["offers"]:
            continue
        offers = usual.choices["offers"]
        plain, fast = attempt(goal, frozenset()), attempt(goal, frozenset(o["layer"] for o in offers)) or usual
        if plain is not None:
            measured = {o["layer"]: Offer(o["kernel"], _saved(plain, fast, o), o["flash"]) for o in offers
                        if o["layer"] in fast.choice.layers}
            attempt(goal, affordable({k: o for k, o in measured.items() if o.saves > 0}, usual.choices["room"]))
    if not found:
        raise BudgetError("no build of the model fits", where=str(model), fix="a larger board or budget")
    return _write(model, board, min(found, key=lambda t: (t.cost, t.arena, t.flash)), found, out)


def _attempt(model, board: str, goal: str, layers: frozenset[str] | None, options: Mapping) -> _Try:
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        choice = None if layers is None else Choice(goal, layers)
        built = api.build(model, board=board, goal=goal, tuned=choice, out=Path(folder) / "p", **options)
        counted = profile.run(built.directory)
    choices = built.report["choices"]
    taken = Choice(goal, frozenset(o["layer"] for o in choices["offers"] if o["taken"]))
    rows = {tuple(r["origin"]): r["cost"] for r in counted["rows"]}
    return _Try(taken, counted["total"]["cost"], counted["unit"], built.report["memory"]["arena_bytes"],
                built.report["flash"]["bytes"], rows, choices)


def _saved(plain: _Try, fast: _Try, offer: Mapping) -> int:
    """What the faster kernel of a layer saves, 0 where that layer has no row of its own."""
    nodes = tuple(offer["origin"])
    return plain.rows[nodes] - fast.rows[nodes] if nodes in plain.rows and nodes in fast.rows else 0


def _layers(choice: Choice) -> str:
    return f"{len(choice.layers)} layers by kernels for whole tensors"


def _write(model, board: str, best: _Try, found: list[_Try], out: str | Path | None) -> dict:
    path = Path(out) if out is not None else Path("build") / api.c_name(model, None) / f"{Path(board).stem}.tuned.json"
    made = {"format": _FORMAT, "model": {"file": Path(model).name, "sha256": store.sha256_file(Path(model))},
            "board": board, "goal": best.choice.goal, "layers": sorted(best.choice.layers), "cost": best.cost,
            "unit": best.unit, "arena_bytes": best.arena}
    path.parent.mkdir(parents=True, exist_ok=True)
    store.write_file(path, store.json_text(made).encode())
    tried = [{"goal": t.choice.goal, "layers": sorted(t.choice.layers), "cost": t.cost, "arena_bytes": t.arena,
              "flash_bytes": t.flash} for t in found]
    return {"path": str(path), **made, "tried": tried}


def read(path: Path, model: str | Path, board: str) -> Choice:
    """The choice in a file that `run` wrote. Raises UsageError where it is none, or of another model or board."""
    fix = f"edgec tune {model} -b {board}"
    try:
        made = json.loads(Path(path).read_text(encoding="utf-8"))
        choice = Choice(made["goal"], frozenset(made["layers"]))
        known = (made["format"], made["model"]["sha256"], made["board"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UsageError(f"not a tuning of edgec: {type(e).__name__}: {e}", where=str(path), fix=fix) from None
    if known != (_FORMAT, store.sha256_file(Path(model)), board):
        raise UsageError("the tuning is of another model, board or version", where=str(path), fix=fix)
    return choice


def text(result: Mapping) -> str:
    """The candidates, the fastest first."""
    rows = [(f"-O {t['goal']}", len(t["layers"]), t["cost"], t["arena_bytes"], t["flash_bytes"])
            for t in sorted(result["tried"], key=lambda t: t["cost"])]
    return table(("goal", "fast layers", result["unit"], "arena B", "flash B"), rows)
