"""RNN, GRU and LSTM: both directions, sequence lengths, peepholes, every activation; sums in one fixed order.

Formulas: the ONNX operator pages. X is [time][batch][input], or [batch][time][input] with layout 1.
"""
from __future__ import annotations

from functools import partial
from types import SimpleNamespace

from .code import Code, Tensor, index_of, select, written
from .elementwise import FORMULAS
from .scalar import FLOAT, E, cast, lift, maximum, minimum, real

ALPHA_BETA = {"LeakyRelu": (0.01, 0), "ThresholdedRelu": (1.0, 0), "ScaledTanh": (1.0, 1.0), "HardSigmoid": (0.2, 0.5),
              "Elu": (1.0, 0), "Affine": (1.0, 0.0)}
OWN = {"ScaledTanh": lambda a, x: a.alpha * real.tanh(a.beta * x), "Affine": lambda a, x: x * a.alpha + a.beta}


def activations(a, default: list[str], directions: int) -> list[list]:
    """Per direction the functions of the node's `activations`, with their alpha and beta."""
    names = list(a.activations or default * directions)
    given = {"alpha": list(a.activation_alpha or ()), "beta": list(a.activation_beta or ())}
    found = []
    for name in names:
        name = next(n for n in (*FORMULAS, *OWN) if n.lower() == name.lower())
        alpha, beta = (given[k].pop(0) if name in ALPHA_BETA and given[k] and (k == "alpha" or ALPHA_BETA[name][1]) else d
                       for k, d in zip(("alpha", "beta"), ALPHA_BETA.get(name, (0, 0)), strict=True))
        formula = OWN.get(name) or FORMULAS[name][0]
        found.append(partial(formula, SimpleNamespace(alpha=alpha, beta=beta)))
    return [found[k:k + len(default)] for k in range(0, len(found), len(default))]


class Cell:
    """What the three operators share: one direction's weights and the loops around a step."""

    def __init__(self, c: Code, a, x, w, r, b, lengths, h0, gates: int, default: list[str]):
        self.c, self.a, self.x, self.w, self.r, self.b, self.lengths, self.h0 = c, a, x, w, r, b, lengths, h0
        self.hidden, self.inputs = r.shape[-1], w.shape[-1]
        self.time, self.batch = (x.shape[1], x.shape[0]) if a.layout else x.shape[:2]
        self.directions = w.shape[0]
        c.require(w.shape[1] == r.shape[1] == gates * self.hidden, f"weights {w.shape} and {r.shape}")
        self.functions = activations(a, default, self.directions)
        c.ctx.macs(self.time * self.batch * (w.size + r.size))

    def bound(self, value: E) -> E:
        """Before an activation: within the attribute `clip`."""
        return value if self.a.clip is None else minimum(maximum(value, -self.a.clip), self.a.clip)

    def run(self, states: list[tuple[Tensor | None, Tensor | None]], step) -> None:
        """step(direction, b, x(i), states) -> writes the new hidden state into the last of `states`. states: (initial value,
        output) of each state; Y takes the first one after each step."""
        c, y = self.c, self.c.out[0]
        for start in (s for s, _ in states if s is not None):
            c.require(
                start.shape[-1] == self.hidden,
                f"an initial state {start.shape} of {self.hidden} units (a projection is no part of ONNX)",
            )
        kept = [c.scratch(self.x.dtype, self.hidden) for _ in states]
        new = c.scratch(self.x.dtype, self.hidden)
        for d in range(self.directions):
            backward = self.a.direction == "reverse" or d == 1
            with c.loop(self.batch) as b:
                for state, (start, _) in zip(kept, states, strict=True):
                    with c.loop(self.hidden) as j:
                        state[j] = start[(b, d, j) if self.a.layout else (d, b, j)] if start is not None else 0
                n = c.index(self.lengths[b], self.time + 1, wrap=False) if self.lengths is not None else None
                with c.loop(self.time) as t:
                    valid = E(t.expr) < E(n.expr) if n is not None else lift(True, "bool")
                    at = t
                    if backward:
                        last = c.let(index_of(maximum(E((n - 1 - t).expr), 0))) if n is not None else None
                        at = c.let(select(valid, last, t)) if n is not None else c.let(self.time - 1 - t)
                    with c.when(valid):
                        step(d, lambda i, b=b, at=at: self.x[(b, at, i) if self.a.layout else (at, b, i)], kept, new)
                        with c.loop(self.hidden) as j:
                            kept[0][j] = new[j]
                    if y is not None:
                        with c.loop(self.hidden) as j:
                            place = (b, at, d, j) if self.a.layout else (at, d, b, j)
                            y[place] = kept[0][j] if n is None else E(kept[0][j].expr) * cast(valid, self.x.dtype)
                for state, (_, out) in zip(kept, states, strict=True):
                    if out is not None:
                        with c.loop(self.hidden) as j:
                            out[(b, d, j) if self.a.layout else (d, b, j)] = state[j]

    def gate(self, d: int, k: int, j, x, h: Tensor | None) -> E:
        """Row j of gate k: W x + b_w, and R h + b_r where h is given."""
        c, row = self.c, j + k * self.hidden
        total = c.sum(self.inputs, lambda i: x(i) * self.w[d, row, i], self.bias(d, row), self.x.dtype)
        return total if h is None else total + self.recurrent(d, k, j, h)

    def recurrent(self, d: int, k: int, j, h: Tensor) -> E:
        c, row = self.c, j + k * self.hidden
        half = self.b.shape[1] // 2 if self.b is not None else 0
        start = self.b[d, row + half] if self.b is not None else 0
        return c.sum(self.hidden, lambda i: h[i] * self.r[d, row, i], start, self.x.dtype)

    def bias(self, d: int, row) -> E:
        return self.b[d, row] if self.b is not None else lift(0, self.x.dtype)


def _outputs(c: Code, n: int) -> list[Tensor | None]:
    return [*c.out, *[None] * n][1:n]


def rnn(c: Code, a, x, w, r, b=None, lengths=None, h0=None) -> None:
    """h = f(W x + R h + b)."""
    cell = Cell(c, a, x, w, r, b, lengths, h0, 1, ["Tanh"])

    def step(d, xi, kept, new):
        with c.loop(cell.hidden) as j:
            new[j] = cell.functions[d][0](cell.bound(cell.gate(d, 0, j, xi, kept[0])))

    cell.run([(h0, _outputs(c, 2)[0])], step)


def gru(c: Code, a, x, w, r, b=None, lengths=None, h0=None) -> None:
    """Gates z, r, h: h' = (1 - z) * g(...) + z * h."""
    cell = Cell(c, a, x, w, r, b, lengths, h0, 3, ["Sigmoid", "Tanh"])
    reset = c.scratch(x.dtype, cell.hidden)

    def step(d, xi, kept, new):
        f, g = cell.functions[d]
        h = kept[0]
        with c.loop(cell.hidden) as j:
            gate = f(cell.bound(cell.gate(d, 1, j, xi, h)))
            reset[j] = gate if a.linear_before_reset else gate * h[j]
        with c.loop(cell.hidden) as j:
            z = c.let(f(cell.bound(cell.gate(d, 0, j, xi, h))))
            own = cell.gate(d, 2, j, xi, None)
            inner = reset[j] * cell.recurrent(d, 2, j, h) if a.linear_before_reset else cell.recurrent(d, 2, j, reset)
            new[j] = (1 - z) * g(cell.bound(own + inner)) + z * h[j]

    cell.run([(h0, _outputs(c, 2)[0])], step)


def lstm(c: Code, a, x, w, r, b=None, lengths=None, h0=None, c0=None, peephole=None) -> None:
    """Gates i, o, f, c; peephole weights [3 * hidden] for i, o, f."""
    cell = Cell(c, a, x, w, r, b, lengths, h0, 4, ["Sigmoid", "Tanh", "Tanh"])

    def step(d, xi, kept, new):
        f, g, last = cell.functions[d]
        h, memory = kept
        with c.loop(cell.hidden) as j:
            def peep(k, value, j=j):
                return lift(0, x.dtype) if peephole is None else peephole[d, j + k * cell.hidden] * value

            old = c.let(memory[j])
            i = c.let(f(cell.bound(cell.gate(d, 0, j, xi, h) + peep(0, old))))
            forget = 1 - i if a.input_forget else f(cell.bound(cell.gate(d, 2, j, xi, h) + peep(2, old)))
            now = c.let(forget * old + i * g(cell.bound(cell.gate(d, 3, j, xi, h))))
            o = f(cell.bound(cell.gate(d, 1, j, xi, h) + peep(1, now)))
            memory[j] = now
            new[j] = o * last(now)

    out_h, out_c = _outputs(c, 3)
    cell.run([(h0, out_h), (c0, out_c)], step)


SCHEMA = {"activations": None, "activation_alpha": None, "activation_beta": None, "clip": None, "direction": "forward",
          "hidden_size": 0, "layout": 0}
OPS = (
    written("RNN", rnn, SCHEMA, FLOAT),
    written("GRU", gru, SCHEMA | {"linear_before_reset": 0}, FLOAT),
    written("LSTM", lstm, SCHEMA | {"input_forget": 0}, FLOAT),
)
