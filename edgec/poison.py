"""Poisoned arenas: overwriting all that a plan says is dead must change no output.

That ties plan.json to what really runs: code that reads a byte after its life, or writes one during another's, shows.
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np


class Poison:
    """Fills the dead bytes of an arena with a pattern that differs from byte to byte, moment to moment and seed to
    seed. plan: of plan.json."""

    def __init__(self, plan: Mapping, seed: int):
        self.size, self.seed = plan["arena_bytes"], seed
        ticks = [s["ticks"] for s in plan["steps"]]
        self.ticks = ticks
        self.starts = [sum(ticks[:k]) for k in range(len(ticks))]
        end = sum(ticks) - 1 if ticks else 0
        kept = {b["piece"] for b in plan["buffers"] if b["name"] in plan["outputs"] + plan["state"]}
        taken = [g["takes"] for s in plan["steps"] for g in s.get("groups", ()) if "takes" in g]
        given = {b["piece"] for b in plan["buffers"] if b["name"] in plan["inputs"] + plan["state"] + taken}
        self.parts = [(p["offset"] + at, size, first - (k in given and first == 0), last + (k in kept and last == end))
                      for k, p in enumerate(plan["pieces"]) for at, size, first, last in p["parts"]]

    def before(self, arena: np.ndarray) -> None:
        """Between the writing of the inputs and the first step. arena: all its bytes."""
        self._fill(arena, -1)

    def after(self, arena: np.ndarray, step: int, tick: int | None) -> None:
        """After a tick of a step, or (tick None) after a whole step; the last tick of a step is its end."""
        if tick is not None:
            self._fill(arena, self.starts[step] + min(tick, self.ticks[step] - 1))
        elif self.ticks[step] == 1:
            self._fill(arena, self.starts[step])

    def _fill(self, arena: np.ndarray, moment: int) -> None:
        dead = np.ones(self.size, bool)
        for at, size, first, last in self.parts:
            if first <= moment < last:
                dead[at:at + size] = False
        at = np.flatnonzero(dead)
        arena[at] = (at * 197 + moment * 151 + self.seed * 101 + 90) & 255
