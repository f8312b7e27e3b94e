"""What each layer of a built package costs: `edgec profile`."""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import board as boards, counter, emulator, package, store
from .board import Board
from .counter import Entry
from .errors import DeviceError, UsageError
from .output import count_text, table
from .report import GENERATED

CYCLE_MODEL = ("a model: the Cortex-M4's instruction timing table over the instructions that QEMU ran, memory without "
               "wait states; good for comparisons, not a promise about a board")
COUNTS = "exact counts of the instructions that QEMU ran; how many cycles they take this core is not modelled"
MEASURED = "measured on the board by the core's own cycle counter, the hook between the steps left out"
SCHEDULE = "(rows, rings and the order of layers)"
CALLS = "(calls of the steps)"


@dataclass(frozen=True)
class _Cost:
    instructions: int = 0
    cycles: int = 0

    def __add__(self, other: _Cost) -> _Cost:
        return _Cost(self.instructions + other.instructions, self.cycles + other.cycles)


def run(directory: Path, board_name: str | None = None, on: str = "qemu") -> dict:
    """The profile of the package's firmware under its board's emulator (on "qemu") or on the board itself ("board",
    where the firmware has been flashed; a streamed step is one row then), JSON-ready.

    unit: "cycles" on a Cortex-M4 or a board, else "instructions"; model: what they are. bounds: the least unit per
    multiply-accumulate that the core's instructions allow a direct (not Winograd) kernel, by element type. rows: in the
    order of the run, one for each step, or for each layer inside a streamed step: step, origin, op, kernel, macs, cost
    (of the unit), per_mac, bound, share, alive_bytes (the most of the arena in use in the step), instructions. total:
    of <name>_run, or of all rows of a sample where they are pushed. Raises UsageError where the package has no firmware,
    and what counter.count and emulator.cycles_on_board raise."""
    directory = Path(directory)
    manifest = store.read_manifest(directory)
    report = store.read_report(directory)
    firmware = directory / f"{manifest['name']}.elf"
    if not firmware.exists():
        raise UsageError("the package has no firmware", where=str(directory), fix="build it without --no-compile")
    board = boards.load(board_name or manifest["board"])
    steps = report["steps"]
    if on == "board":
        zeros = [bytes(t["bytes"]) for t in manifest["inputs"]]
        return measured(board, manifest["name"], steps, emulator.cycles_on_board(firmware, board, zeros))
    functions = [f for s in steps if not s["control"] for f in (s["function"], *(x["function"] for x in s["layers"]))]
    pack = package.read(directory)
    entries = counter.count(firmware, board, pack.run, functions)
    if pack.has_rows:
        entries = rows_joined(entries, len(steps))
    return profile(board, manifest["name"], steps, entries)


def profile(board: Board, name: str, steps: list[dict], entries: list[Entry]) -> dict:
    """The counts of a run as `run` returns them. steps: of report.json."""
    rows = []
    called = [k for k, e in enumerate(entries) if e.parent == 0]
    runs = matched(steps, [entries[k].function for k in called], {e.function for e in entries})
    if runs is None:
        raise DeviceError(f"{len(called)} steps ran, not those of the package", where=name, fix="build it again")
    for k, step in enumerate(steps):
        if step["control"]:
            continue
        of = [called[j] for j, run in enumerate(runs) if run == k]
        rows += _step(step, of[0], entries) if len(of) == 1 else \
            [(_whole_step(step), sum((_inclusive(j, entries) for j in of), _Cost()))]
    rows.append(({"step": "", "origin": [], "op": CALLS, "kernel": "", "macs": 0, "dtype": "", "alive_bytes": None},
                 _own(entries[0])))
    unit = "cycles" if board.cpu == "cortex-m4" else "instructions"
    return _profile(board, name, unit, CYCLE_MODEL if unit == "cycles" else COUNTS, rows)


def matched(steps: Sequence[Mapping], called: Sequence[str], known: Collection[str]) -> list[int] | None:
    """Which step each call of a run is, where branches and loops leave it open; None where no run of the steps calls so.
    known: functions that exist; the compiler may have joined a step's function with an equal one of them."""
    sides, opened = {}, []
    for k, s in enumerate(steps):
        if s["control"] in ("loop", "if"):
            opened.append([k])
        elif s["control"]:
            opened[-1].append(k)
            if s["control"] == "end":
                sides |= dict.fromkeys(opened[-1], opened.pop())
    # ways: (next step, calls matched so far, their steps as a linked list); one more call is matched in each round
    stack, seen = [(0, 0, None)], set()
    while stack:
        k, n, path = stack.pop()
        if (k, n) in seen:
            continue
        seen.add((k, n))
        if k == len(steps):
            if n == len(called):
                return _unlinked(path)
            continue
        match steps[k]["control"]:
            case "":
                name = steps[k]["function"]
                if n < len(called) and (called[n] == name or name not in known):
                    stack.append((k + 1, n + 1, (k, path)))
            case "loop":
                stack += [(sides[k][-1] + 1, n, path), (k + 1, n, path)]
            case "if":
                stack += [(sides[k][1] + 1, n, path), (k + 1, n, path)]
            case "else":
                stack.append((sides[k][-1] + 1, n, path))
            case "end":
                start = sides[k][0]
                stack.append((start if steps[start]["control"] == "loop" else k + 1, n, path))
    return None


def _unlinked(path) -> list[int]:
    found = []
    while path:
        found.append(path[0])
        path = path[1]
    return found[::-1]


def rows_joined(entries: list[Entry], n_steps: int) -> list[Entry]:
    """The counts of a sample whose rows are a run each: the first step's calls, one for each row, become one entry."""
    called = [k for k, e in enumerate(entries) if e.parent == 0]
    first = called[:len(called) - n_steps + 1]
    made: list[Entry] = []
    place: dict[int, int] = {}             # entry -> its place among those made
    known: dict[tuple[int, str], int] = {}  # (parent's place, function) -> place, inside the first step
    for k, e in enumerate(entries):
        parent = place.get(e.parent, e.parent)
        inside = k in first or parent > 0 and parent == place.get(first[0])
        at = known.get((parent, e.function), len(made)) if inside else len(made)
        if at == len(made):
            made.append(replace(e, parent=parent))
        else:
            old = made[at]
            made[at] = replace(
                old, calls=old.calls + e.calls, instructions=old.instructions + e.instructions, cycles=old.cycles + e.cycles
            )
        if inside:
            known[parent, e.function] = at
        place[k] = at
    return made


def measured(board: Board, name: str, steps: list[dict], counted: list[tuple[int, int]]) -> dict:
    """The cycles of each step as `run` returns them; instructions are not known then. counted: of emulator.cycles_on_board."""
    ran, straight = [k for k, _ in counted], [k for k, s in enumerate(steps) if not s["control"]]
    if not set(ran) <= set(straight) or len(straight) == len(steps) and ran != straight:
        raise DeviceError(f"{len(ran)} steps ran, not those of the package", where=name, fix="flash it again")
    rows = [(_whole_step(steps[k]), _Cost(0, sum(c for j, c in counted if j == k))) for k in straight]
    return _profile(board, name, "cycles", MEASURED, rows)


def _profile(board: Board, name: str, unit: str, model: str, rows: list[tuple[dict, _Cost]]) -> dict:
    whole = sum((cost for _, cost in rows), _Cost())
    total = getattr(whole, unit)
    bounds = {"int8": integer_bound(board), "float32": float_bound(board)}
    macs = sum(row["macs"] for row, _ in rows)

    def entry(row: dict, cost: _Cost) -> dict:
        mine, dtype = getattr(cost, unit), row.pop("dtype")
        return row | {"cost": mine, "per_mac": mine / row["macs"] if row["macs"] else None,
                      "bound": bounds.get(dtype) if row["macs"] else None, "share": mine / total if total else 0.0,
                      "instructions": cost.instructions or None}

    return {"name": name, "board": board.name, "cpu": board.cpu, "unit": unit,
            "model": model, "bounds": bounds,
            "total": {"cost": total, "macs": macs, "per_mac": total / macs if macs else None,
                      "instructions": whole.instructions or None},
            "rows": [entry(row, cost) for row, cost in rows]}


def integer_bound(board: Board) -> float:
    """Instructions (cycles on the M4) per multiply-accumulate of int8: VMLADAVA.S8 does 16, SMLAD two, MLA one; the M0
    multiplies and adds, two products at a time where weights are paired (isa thumb)."""
    if "mve" in board.isa:
        return 1 / 16
    if "dsp" in board.isa:
        return 0.5
    return 2.0 if board.cpu in ("cortex-m0", "cortex-m0plus") and "pair" not in board.isa else 1.0


def float_bound(board: Board) -> float | None:
    """VMUL and VADD, since a fused multiply-add has other bits; None without a floating-point unit."""
    return 2.0 if any(f.startswith("-mfpu") for f in board.flags) else None


def _own(e: Entry) -> _Cost:
    return _Cost(e.instructions, e.cycles)


def _inclusive(k: int, entries: list[Entry]) -> _Cost:
    """An entry with all that it called."""
    return sum((_inclusive(i, entries) for i, e in enumerate(entries) if e.parent == k), _own(entries[k]))


def _whole_step(step: Mapping) -> dict:
    names = ("op", "dtype", "macs", "alive_bytes", "origin")
    return {"step": step["name"], "kernel": step["kernel"] or GENERATED} | {n: step[n] for n in names}


def _step(step: Mapping, k: int, entries: list[Entry]) -> list[tuple[dict, _Cost]]:
    """The rows of a step: one, or in a streamed step one for each layer and one for the rest."""
    if not step["layers"]:
        return [(_whole_step(step), _inclusive(k, entries))]
    base = _whole_step(step)
    costs = {e.function: _inclusive(i, entries) for i, e in enumerate(entries) if e.parent == k}
    function = {x["kernel"]: x["function"] for x in step["layers"] if x["function"] in costs}
    runs = [x["function"] if x["function"] in costs else function[x["kernel"]] for x in step["layers"]]
    rows, rest = [], _own(entries[k])
    for layer, f in zip(step["layers"], runs, strict=True):
        users = [x["macs"] for x, g in zip(step["layers"], runs, strict=True) if g == f]
        share = layer["macs"] / sum(users) if sum(users) else 1 / len(users)
        cost = costs[f]
        row = base | {k: layer[k] for k in ("origin", "op", "kernel", "macs")}
        rows.append((row, _Cost(round(cost.instructions * share), round(cost.cycles * share))))
    for cost in (*costs.values(), *(_Cost(-c.instructions, -c.cycles) for _, c in rows)):  # what rounding left
        rest += cost
    macs = step["macs"] - sum(x["macs"] for x in step["layers"])
    return [*rows, (base | {"origin": [], "op": SCHEDULE, "kernel": GENERATED, "macs": macs}, rest)]


def text(p: Mapping, width: int = 40) -> str:
    """The profile as a table with its totals."""
    unit = p["unit"]
    rows = [(r["step"], " + ".join(r["origin"]) or r["op"], r["kernel"], r["macs"] or None, r["cost"],
             _ratio(r["per_mac"]), _ratio(r["bound"]), f"{100 * r['share']:.1f} %", r["alive_bytes"])
            for r in p["rows"]]
    head = ("step", "ONNX nodes", "kernel", "MACs", unit, "per MAC", "bound", "share", "arena B")
    total = p["total"]
    per = f", {total['per_mac']:.3f} per multiply-accumulate ({count_text(total['macs'])})" if total["macs"] else ""
    known = total["instructions"] and unit != "instructions"
    instructions = f", {total['instructions']:,} instructions" if known else ""
    return "\n".join([f"{p['name']} on {p['board']}", "", table(head, rows, width=width), "",
                      f"  {total['cost']:,} {unit}{per}{instructions}", f"  {p['model']}"])


def _ratio(x: float | None) -> str:
    return "-" if x is None else f"{x:.3f}"
