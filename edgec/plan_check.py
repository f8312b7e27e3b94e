"""Checks a memory plan from its plan.json alone: `python plan_check.py plan.json`. Uses nothing of edgec.

It replays the run on an arena whose bytes carry names instead of values. A byte belongs to the part of a piece that
is alive there (`owner`) and holds what was written last (`held`): a buffer, or one row of a buffer that is a ring. So
every read meets what it needs, made and not yet overwritten, and no two live things share a byte at any moment.
"""
import json
import sys


class PlanError(Exception):
    """The plan is wrong. Its text says where."""


def demand(true, *what):
    if not true:
        raise PlanError(" ".join(map(str, what)))


class _Arena:
    def __init__(self, plan):
        self.pieces, self.size, self.moment = plan["pieces"], plan["arena_bytes"], -1
        self.buffers = {b["name"]: b for b in plan["buffers"]}
        self.parts = [(k, p["offset"] + at, size, first, last) for k, p in enumerate(self.pieces)
                      for at, size, first, last in p["parts"]]
        self.owner, self.held = [None] * self.size, [None] * self.size
        self.used = {}  # part -> first and last moment at which something in it was written or read
        self.writes, self.made = 0, {}  # how many there were; part -> the number of the last one in it
        self.turns = []  # of each loop that runs again: the writes before this turn, the loop's last moment
        self.starts, self.ends = {}, {}
        for k, (piece, at, size, first, last) in enumerate(self.parts):
            demand(0 <= at and at + size <= self.size, "piece", piece, "leaves the arena: byte", at, "to", at + size)
            demand(0 <= first <= last, "piece", piece, "has a part that dies before it is born")
            self.starts.setdefault(first, []).append(k)
            self.ends.setdefault(last + 1, []).append(k)
        for k, p in enumerate(self.pieces):
            demand(p["align"] > 0 and p["offset"] % p["align"] == 0, "piece", k, "is not aligned to", p["align"])
            end = p["offset"] + max(at + size for at, size, _, _ in p["parts"])
            inside = [at for at, size in plan["arenas"] if at <= p["offset"] and end <= at + size]
            demand(inside, "piece", k, "lies in no single arena")
        ends = [0, *(at + size for at, size in plan["arenas"])]
        demand(all(end <= at for end, (at, _) in zip(ends, plan["arenas"], strict=False)), "two arenas overlap")
        demand(all(at % 16 == 0 for at, _ in plan["arenas"]), "an arena is not aligned")
        demand(ends[-1] <= self.size, "the arenas have more bytes than there are")

    def advance(self):
        """To the next moment: what has died goes, what is born takes its place."""
        self.moment += 1
        for k in self.ends.get(self.moment, ()):
            _, at, size, _, _ = self.parts[k]
            self.owner[at:at + size] = self.held[at:at + size] = [None] * size
        for k in self.starts.get(self.moment, ()):
            piece, at, size, _, _ = self.parts[k]
            demand(self.owner[at:at + size] == [None] * size, "piece", piece, "shares bytes at moment", self.moment)
            self.owner[at:at + size] = [k] * size

    def back(self, moment):
        """To an earlier moment: what is alive there owns its bytes again."""
        self.moment, self.owner = moment, [None] * self.size
        for k, (_, at, size, first, last) in enumerate(self.parts):
            if first <= moment <= last:
                self.owner[at:at + size] = [k] * size

    def use(self, part, moment):
        first, last = self.used.get(part, (moment, moment))
        self.used[part] = min(first, moment), max(last, moment)

    def bytes(self, name, at, size):
        """Where bytes of a buffer lie, which must be alive now."""
        demand(name in self.buffers, name, "is no buffer")
        b = self.buffers[name]
        demand(0 <= at and size >= 0 and at + size <= b["bytes"], name, "has no bytes", at, "to", at + size)
        lo = self.pieces[b["piece"]]["offset"] + b["at"] + at
        demand(lo + size <= self.size, name, "leaves the arena")
        for k in set(self.owner[lo:lo + size]):
            mine = k is not None and self.parts[k][0] == b["piece"]
            demand(mine, name, "is used at moment", self.moment, "where it is not alive")
            self.use(k, self.moment)
        return slice(lo, lo + size)

    def write(self, name, at, size, row=None):
        where = self.bytes(name, at, size)
        self.held[where] = [(name, row)] * size
        self.writes += 1
        self.made.update((k, self.writes) for k in set(self.owner[where]))

    def read(self, name, at, size, row=None):
        where = self.bytes(name, at, size)
        held = self.held[where]
        for since, end in self.turns:
            for k in set(self.owner[where]):
                if self.made.get(k, 0) <= since:  # it came through the end of the turn before
                    self.use(k, end)
        what = name if row is None else f"row {row} of {name}"
        demand(held == [(name, row)] * size, what, "is read at moment", self.moment, "but other data lie there")

    def over(self, out, into, lead=None):
        """An output lies just over an input, or begins `lead` bytes before it, or more, and ends before it."""
        o, i = self.buffers[out], self.buffers[into]
        ahead, behind = i["at"] - o["at"], i["at"] + i["bytes"] - o["at"] - o["bytes"]
        fits = ahead == 0 if lead is None else ahead >= lead and behind >= 0
        demand(o["piece"] == i["piece"] and fits, out, "does not lie over", into, "as it may")

    def whole(self, act, names):
        for n in names:
            demand(n in self.buffers, n, "is no buffer")
            act(n, 0, self.buffers[n]["bytes"])


def check(plan):
    """Raises PlanError where the plan of this plan.json (as parsed) does not hold."""
    arena = _Arena(plan)
    arena.advance()
    arena.whole(arena.write, plan["inputs"] + plan["state"])
    demand(_run(arena, plan["steps"], 0) == max(len(plan["steps"]), 1), "an end that ends nothing")
    arena.whole(arena.read, plan["outputs"])
    for n in plan["state"]:
        b = arena.buffers[n]
        always = [[0, b["bytes"], 0, arena.moment]]
        demand(plan["pieces"][b["piece"]]["parts"] == always, n, "is state, but not alive all the time")
        arena.bytes(n, 0, b["bytes"])  # the next run needs it
    demand(all(p[4] <= arena.moment for p in arena.parts), "a part lives on after the last moment")
    bound, now, sums = plan["lower_bound"], plan["lower_bound"]["moment"], {}
    alive = {k: p for k, p in enumerate(arena.parts) if p[3] <= now <= p[4]}
    for k, (piece, _, size, _, _) in alive.items():
        first, last = arena.used.get(k, (now + 1, now))
        demand(first <= now <= last, "piece", piece, "need not be alive at the lower bound, moment", now)
        sums[piece] = sums.get(piece, 0) + size
    names = {k: sorted(b["name"] for b in plan["buffers"] if b["piece"] == k) for k in sums}
    said = sorted((sorted(a["buffers"]), a["bytes"]) for a in bound["alive"])
    demand(said == sorted((names[k], n) for k, n in sums.items()), "other things are alive at the lower bound:", sums)
    demand(bound["bytes"] == sum(sums.values()), "the lower bound is", sum(sums.values()), "bytes, not", bound["bytes"])
    demand(plan["arena_bytes"] >= bound["bytes"], "the arena is smaller than the lower bound")


def _run(arena, steps, k):
    """Runs the steps from k on, up to what closes the block that they stand in; returns its position."""
    while k < len(steps):
        if steps[k].get("control") in ("else", "end"):
            return k
        if k:
            arena.advance()
        (_rows if "groups" in steps[k] else _tensors)(arena, steps[k])
        inner = {"loop": _loop, "if": _branches}.get(steps[k].get("control"))
        k = inner(arena, steps, k) if inner else k + 1
    return max(k, 1)


def _close(arena, steps, k, control):
    """To the step at k, which must be of this kind."""
    found = steps[k].get("control") if k < len(steps) else "nothing"
    demand(found == control, "there is", found, "where a block wants its", control)
    arena.advance()
    _tensors(arena, steps[k])


def _loop(arena, steps, k):
    """Turn after turn, until one more changes nothing of what is known before a turn."""
    start, turns, ended = arena.moment, list(arena.turns), None
    while True:
        before, writes = arena.held[:], arena.writes
        if ended is not None:
            arena.turns = [*turns, (writes, ended)]
        end = _run(arena, steps, k + 1)
        _close(arena, steps, end, "end")
        known = [a if a == b else None for a, b in zip(before, arena.held, strict=True)]
        again, ended = ended is None, arena.moment
        arena.held = known
        if not again and known == before:
            break
        arena.back(start)
        _tensors(arena, steps[k])  # the test before the next turn
    arena.turns = turns
    return end + 1


def _branches(arena, steps, k):
    """Both ways from the same state; what they agree on is known behind them."""
    before = arena.held[:]
    middle = _run(arena, steps, k + 1)
    first, arena.held = arena.held, before
    _close(arena, steps, middle, "else")
    end = _run(arena, steps, middle + 1)
    arena.held = [a if a == b else None for a, b in zip(first, arena.held, strict=True)]
    _close(arena, steps, end, "end")
    return end + 1


def _tensors(arena, step):
    """A step on whole tensors, one moment: what it writes lies over nothing that it reads, but over what it may."""
    demand(step["ticks"] == 1, step["name"], "has ticks but no groups")
    arena.whole(arena.read, step["reads"])
    pairs, trailing = step["inplace"], step.get("trailing", [])
    for pair in pairs + trailing:
        arena.over(*pair)
    may = {out: {i for o, i, *_ in pairs + trailing if o == out} for out in step["writes"]}
    for out in sorted(step["writes"], key=lambda o: len(may[o])):  # scratch before what lies over an input
        arena.whole(arena.write, [out])
        arena.whole(arena.read, [n for n in step["reads"] if n not in may[out] and n not in step["writes"]])
    arena.whole(arena.read, step["writes"])


def _rows(arena, step):
    """A step that streams rows: a moment for each tick. One that repeats is replayed with its endless part twice."""
    done, groups, order = [0] * len(step["groups"]), step["groups"], step["order"]
    endless = "repeat" in step
    demand(step["ticks"] == (1 if endless else len(order)), step["name"], "has another number of ticks than its order")
    arena.whole(arena.read, step["reads"])
    for k, which in enumerate(order + order[step["repeat"]:] if endless else order):
        if k and not endless:
            arena.advance()
        demand(0 <= which < len(groups), step["name"], "has no group", which)
        g, t = groups[which], done[which]
        done[which] += 1
        demand(t < g["rows"] or endless, step["name"], "makes more rows of", g["output"], "than there are")
        if "takes" in g:  # the caller has just written it
            arena.write(g["takes"], 0, g["row_bytes"])
        if k == 0:
            arena.whole(arena.write, step["working"])
        for _ in "before", "after":  # no row is written over one that the same tick reads
            for r in g["reads"]:
                for i in range(r["kernel"]):
                    row = t * r["stride"] - r["pad"] + i * r["dilation"]
                    if 0 <= row and (row < r["height"] or endless):
                        slot, name = (row % r["ring"], row) if r["ring"] else (row, None)
                        arena.read(r["buffer"], slot * r["row_bytes"], r["row_bytes"], name)
            if "takes" in g:
                arena.read(g["takes"], 0, g["row_bytes"])
            if _ == "before" and "slides" in g:
                arena.whole(arena.write, [g["output"]])
            elif _ == "before" and (not g["reduces"] or t == g["rows"] - 1):
                slot, name = (t % g["ring"], t) if g["ring"] else (0 if g["reduces"] else t, None)
                arena.write(g["output"], slot * g["row_bytes"], g["row_bytes"], name)
        arena.whole(arena.read, step["working"])


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        check(json.load(file))
