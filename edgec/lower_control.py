"""If and Loop -> steps of control and, between them, the steps of their bodies.

A carried tensor has one buffer for all turns, an output of an If one for both sides. What a body makes is copied there
at its end; `loop_copies.write_in_place` lets the step that makes it write there at once, where nothing forbids it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .dtypes import computed
from .ir import Graph, Node
from .loops import Const, Expr, For, Function, If, Load, Stmt, Store, Var

if TYPE_CHECKING:
    from .lower import _Lowering

CONTROL = ("If", "Loop")


def lower_control(ctx: _Lowering, node: Node) -> None:
    """Appends the steps of an If or a Loop node."""
    (_if if node.op == "If" else _loop)(ctx, node)


def _if(ctx: _Lowering, node: Node) -> None:
    read = [ctx.buffer(i) for i in node.inputs[1:]]
    made = [ctx.buffer(o) for o in node.outputs]
    known = ctx.value(node.inputs[0])
    if known is not None:  # since some pass: the other side is left out
        return _side(ctx, node, node.attrs["then_branch" if known.reshape(-1)[0] else "else_branch"], read, made)
    _open(ctx, node, "if", ctx.buffer(node.inputs[0]))
    _side(ctx, node, node.attrs["then_branch"], read, made)
    _mark(ctx, node, "else")
    _side(ctx, node, node.attrs["else_branch"], read, made)
    _mark(ctx, node, "end")


def _side(ctx: _Lowering, node: Node, body: Graph, read: Sequence[str], made: Sequence[str]) -> None:
    results = ctx.inside(body, dict(zip(body.inputs, read, strict=True)))
    for to, of in zip(made, results, strict=True):
        _step(ctx, node, copied(ctx, to, of), to, of)


def _loop(ctx: _Lowering, node: Node) -> None:
    body, turns, n = node.attrs["body"], int(node.attrs["turns"]), len(node.outputs)
    kept = [ctx.buffer(o) for o in node.outputs]
    for to, start in zip(kept, node.inputs, strict=False):
        value = ctx.value(start) if start else np.zeros(1, ctx.buffers[to].dtype)
        if value is not None and value.size and (value == value.flat[0]).all():
            _step(ctx, node, _filled(ctx, to, value.flat[0]), to)
        else:
            _step(ctx, node, copied(ctx, to, ctx.buffer(start)), to, ctx.buffer(start))
    read = [ctx.buffer(i) for i in node.inputs[n:]]
    _open(ctx, node, "loop", kept[0] if node.attrs["tested"] else "", turns)
    outer, ctx.times = ctx.times, ctx.times * max(turns, 1)
    results = ctx.inside(body, dict(zip(body.inputs, (*kept, *read), strict=True)))
    moved = {to: of for to, of in zip(kept, results, strict=True) if to != of}
    for to, of in moved.items():  # one that another's copy would overwrite first goes aside
        if (ctx.buffers[of].alias or of) in kept:
            b = ctx.buffers[of]
            moved[to] = ctx.add_buffer(f"{of}_aside", b.dtype, b.size, "arena")
            _step(ctx, node, copied(ctx, moved[to], of), moved[to], of)
    for to, of in moved.items():
        _step(ctx, node, copied(ctx, to, of), to, of)
    ctx.times = outer
    _mark(ctx, node, "end")


def _open(ctx: _Lowering, node: Node, control: str, condition: str, turns: int = 0) -> None:
    test = (If(Load(condition, Const(0), "bool"), (), ()),) if condition else ()
    _mark(ctx, node, control, test, turns)


def _mark(ctx: _Lowering, node: Node, control: str, body: tuple[Stmt, ...] = (), turns: int = 0) -> None:
    ctx.steps.append(Function(ctx.step_name(control), body, node.origin, op=control, control=control, turns=turns))


def _step(ctx: _Lowering, node: Node, body: Stmt, to: str, of: str = "") -> None:
    pairs = ((to, of),) if of and ctx.buffers[of].place != "rom" else ()
    ctx.steps.append(Function(ctx.step_name("copy"), (body,), node.origin, pairs, "Copy", times=ctx.times))


def copied(ctx: _Lowering, to: str, of: str) -> Stmt:
    """to[i] = of[i] for all i."""
    return _each(ctx.buffers[to].size, lambda i: Store(to, i, Load(of, i, computed(ctx.buffers[of].dtype))))


def _filled(ctx: _Lowering, to: str, value) -> Stmt:
    dtype = computed(ctx.buffers[to].dtype)
    whole = bool(value) if dtype == "bool" else float(value) if dtype.startswith("float") else int(value)
    return _each(ctx.buffers[to].size, lambda i: Store(to, i, Const(whole, dtype)))


def _each(n: int, one) -> Stmt:
    index: Expr = Var("i") if n > 1 else Const(0)
    return For("i", Const(0), Const(n), (one(index),)) if n > 1 else one(index)
