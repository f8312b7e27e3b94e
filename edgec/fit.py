"""Whether a build fits the board and the budgets, and what to do where it does not."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import BudgetError
from .output import size_text
from .report import flash_needed, ram_needed


def excesses(report: Mapping, ram: int | None, flash: int | None, what: str) -> list[str]:
    """What is larger than the board or the budget, one sentence each."""
    found = []
    board = report["board"]
    for label, need, limit, whose, largest in (
        ("RAM", ram_needed(report), board["ram_bytes"], board["name"], _largest_ram(report)),
        ("RAM", ram_needed(report), ram, "--ram", _largest_ram(report)),
        ("flash", flash_needed(report), board["flash_bytes"], board["name"], _largest_flash(report)),
        ("flash", flash_needed(report), flash, "--flash", _largest_flash(report)),
    ):
        if limit and need > limit:
            needing = "the arena needs" if label == "RAM" else f"{what} need"
            found.append(f"{label}: {needing} {need:,} bytes, {whose} allows {limit:,}; largest: {largest}")
    for a in report["memory"]["arenas"]:
        room = board["rooms"][a["memory"]]
        if a["bytes"] > room:
            needs = f"the arena needs {a['bytes']:,} bytes of {a['memory']}"
            found.append(f"RAM: {needs}, {board['name']} has {room:,} for it")
    return found


def _largest_ram(report: Mapping) -> str:
    peak = report["memory"]["peak"]
    return (
        ", ".join(f"{'/'.join(a['buffers'])} {a['bytes']:,} B" for a in peak["alive"][:3]) + f" at step {peak['step']}"
    )


def _largest_flash(report: Mapping) -> str:
    if report["flash"]["largest"]:
        return ", ".join(f"{x['symbol']} {x['bytes']:,} B" for x in report["flash"]["largest"][:3])
    return ", ".join(
        f"weights of {' + '.join(s['origin'])} {s['weights_bytes']:,} B"
        for s in sorted(report["steps"], key=lambda s: -s["weights_bytes"])[:3]
    )


def check(report: Mapping, ram: int | None, flash: int | None, what: str, goal: str, stream_input: str) -> None:
    problems = excesses(report, ram, flash, what)
    if not problems:
        return
    advice = []
    if report["int8_would_save"]:
        saved = size_text(report["int8_would_save"]["weights_bytes"])
        advice.append(f"quantise with --data (saves about {saved} of flash)")
    if goal == "time":
        advice.append("leave out -O time")
    elif not stream_input and any(p.startswith("RAM") for p in problems):
        advice.append("take the input row by row with --stream-input")
    if goal != "size" and any(p.startswith("flash") for p in problems):
        advice.append("-O size")
    advice.append("a smaller model, a larger board or budget")
    raise BudgetError("the model does not fit", where="\n         ".join(problems), fix=", or ".join(advice))
