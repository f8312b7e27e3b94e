"""The order of operators that needs the least memory at its worst moment, tensors being whole.

Between two cuts (places where one tensor alone is alive) the order can be chosen freely, so each stretch is searched by
itself: a bottleneck shortest path over the sets of operators that have run. A ready operator that frees at least what
it makes, without a higher peak, runs at once: that never costs anything. The search is exact unless it takes more than
MOST_WORK; then the best order found stays, and a note says what no order can go below.
"""
from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .ir import Graph, Node, bodies
from .ops import table

MOVES = (
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Identity",
)  # the same elements; nearly always the same memory
SPATIAL = ("Conv", "MaxPool", "AveragePool")
MOST_WORK = 200_000  # sets of operators met, times operators: about a second


@dataclass(frozen=True)
class Section:
    """Nodes with the memory that they need. root: tensor -> the one whose memory it is; size: bytes of roots; users: per
    root the bits of the nodes that need it (-1: needed for ever); makes, takes: roots per node."""

    nodes: tuple[Node, ...]
    size: dict[str, int]
    users: dict[str, int]
    makes: tuple[tuple[str, ...], ...]
    takes: tuple[tuple[str, ...], ...]
    before: tuple[int, ...]  # bits of the nodes that must have run
    start: int               # bytes alive before the first node
    inner: tuple[int, ...]   # bytes that bodies of nodes take for themselves

    def peak(self) -> int:
        """Bytes alive at the worst of the nodes, in their order."""
        done, alive, worst = 0, self.start, 0
        for k in range(len(self.nodes)):
            during, alive = self.run(k, done, alive)
            done |= 1 << k
            worst = max(worst, during)
        return worst

    def run(self, k: int, done: int, alive: int) -> tuple[int, int]:
        """Bytes alive while node k runs and after it, when the nodes `done` have run."""
        done |= 1 << k
        dying = [t for t in self.takes[k] if self.users[t] >= 0 and not self.users[t] & ~done]
        made = sum(self.size[t] for t in self.makes[k])
        during = alive + made + self.inner[k]
        if inplace(self.nodes[k]) and any(self.size[t] >= made for t in dying):
            during -= made
        dead = sum(self.size[t] for t in self.makes[k] if self.users[t] == 0)
        return during, alive + made - dead - sum(self.size[t] for t in dying)


def inplace(node: Node) -> bool:
    """Whether the output may lie over an input that dies."""
    return table.OPS[node.op].rows is not None and node.op not in SPATIAL


def section(graph: Graph, lo: int, hi: int, last: Mapping[str, int]) -> Section:
    """The nodes lo .. hi-1 of the graph; what they read from outside is alive at the start. last: of `last_uses`."""
    nodes = graph.nodes[lo:hi]
    root: dict[str, str] = {}
    size, users, maker = {}, {}, {}
    makes, takes, before = [], [], []
    start, within = 0, [max(map(_own_peak, bodies(n).values()), default=0) for n in nodes]

    def add(tensor: str) -> None:
        root[tensor], size[tensor], users[tensor] = tensor, graph.type(tensor).nbytes, 0

    for k, n in enumerate(nodes):
        read = [i for i in n.inputs if i and graph.const(i) is None]
        for i in read:
            if i not in root:
                add(i)
                start += size[i]
            if users[root[i]] >= 0:
                users[root[i]] = users[root[i]] | 1 << k if last[i] < hi else -1
        made = []
        for o in filter(None, n.outputs):
            if n.op in MOVES and read and graph.type(o).nbytes == size[root[read[0]]]:
                root[o] = root[read[0]]
            else:
                add(o)
                made.append(o)
            maker[o] = k
            if last.get(o, 0) >= hi:
                users[root[o]] = -1
        makes.append(tuple(made))
        takes.append(tuple(dict.fromkeys(root[i] for i in read)))
        before.append(sum({1 << maker[i] for i in read if i in maker}))
    return Section(tuple(nodes), size, users, tuple(makes), tuple(takes), tuple(before), start, tuple(within))


def _own_peak(body: Graph) -> int:
    """Bytes alive at the worst moment of a body, without those that it reads from outside."""
    part = section(body, 0, len(body.nodes), last_uses(body))
    return max(part.peak() - part.start, 0)


def last_uses(graph: Graph) -> dict[str, int]:
    """Position of the last node that reads each tensor; beyond all nodes for the graph's outputs."""
    return {i: k for k, n in enumerate(graph.nodes) for i in n.inputs if i} | dict.fromkeys(graph.outputs, len(graph.nodes))


def smallest_peak(graph: Graph) -> Graph:
    """The graph with its nodes in an order of the smallest peak; the same graph where its own order is as good."""
    last = last_uses(graph)
    cuts, nodes, notes = cut_positions(graph, last), [], []
    for lo, hi in zip(cuts, cuts[1:], strict=False):
        part = section(graph, lo, hi, last)
        order, bound = best_order(part) if hi - lo > 2 else (range(hi - lo), 0)
        nodes += [part.nodes[k] for k in order]
        if bound:
            notes.append(
                f"order of {hi - lo} operators from {', '.join(part.nodes[0].origin)} on: {part.peak():,} B alive at the worst; "
                f"no order is known to be better, none needs less than {bound:,} B"
            )
    if not notes and all(x is y for x, y in zip(nodes, graph.nodes, strict=True)):
        return graph
    return replace(graph, nodes=tuple(nodes), notes=(*graph.notes, *notes))


def cut_positions(graph: Graph, last: Mapping[str, int]) -> list[int]:
    """Positions in the node list (before node k) where at most one run-time tensor is alive, the two ends included."""
    born = {o: k for k, n in enumerate(graph.nodes) for o in n.outputs if o}
    change = [0] * (len(graph.nodes) + 2)
    for t in {*born, *graph.inputs}:
        change[born.get(t, -1) + 1] += 1
        change[min(last.get(t, born.get(t, 0)), len(graph.nodes)) + 1] -= 1
    alive, cuts = 0, [0]
    for k in range(len(graph.nodes)):
        alive += change[k]
        if k and alive <= 1:
            cuts.append(k)
    return [*cuts, len(graph.nodes)]


def best_order(part: Section) -> tuple[Sequence[int], int]:
    """The nodes in an order with the smallest peak, the present one where that is as good; and 0, or where the search was
    given up, the bytes that no order can go below."""
    n, limit = len(part.nodes), part.peak()
    everything = (1 << n) - 1
    least = max(part.run(k, everything & ~(1 << k), sum(part.size[t] for t in part.takes[k]))[0] for k in range(n))
    if limit <= least:
        return range(n), 0
    start = _free_moves(part, 0, part.start, 0)
    heap: list[tuple[int, int, int, int]] = [(start[2], -start[0].bit_count(), start[0], start[1])]
    came: dict[int, tuple[int, tuple[int, ...], int]] = {start[0]: (-1, start[3], start[2])}  # before, nodes run since, peak
    seen: set[int] = set()
    while heap:
        peak, _, done, alive = heapq.heappop(heap)
        if done in seen:
            continue
        seen.add(done)
        if done == everything:
            return _path(came, done), 0
        if len(seen) * n > MOST_WORK:
            return range(n), max(peak, least)
        for k in range(n):
            if done >> k & 1 or part.before[k] & ~done:
                continue
            during, after = part.run(k, done, alive)
            if max(peak, during) >= limit:
                continue
            to, left, high, moves = _free_moves(part, done | 1 << k, after, max(peak, during))
            if to not in seen and (to not in came or came[to][2] > high):
                came[to] = (done, (k, *moves), high)
                heapq.heappush(heap, (high, -to.bit_count(), to, left))
    return range(n), 0


def _free_moves(part: Section, done: int, alive: int, peak: int) -> tuple[int, int, int, tuple[int, ...]]:
    """Runs every ready node that leaves no more alive and stays below the peak so far, until there is none."""
    moves: list[int] = []
    found = True
    while found:
        found = False
        for k in range(len(part.nodes)):
            if done >> k & 1 or part.before[k] & ~done:
                continue
            during, after = part.run(k, done, alive)
            if after <= alive and during <= peak:
                done, alive, found = done | 1 << k, after, True
                moves.append(k)
    return done, alive, peak, tuple(moves)


def _path(came, done: int) -> list[int]:
    order: list[int] = []
    while done != -1:
        done, moves, _ = came[done]
        order[:0] = moves
    return order
