"""What a Program means: an interpreter, plain and slow.

The emitted C computes exactly these values. Integers are exact and must stay in their dtype (signed overflow is an
error, unsigned arithmetic wraps); float32 results are rounded at each operation; an index outside its buffer is an
error. Real functions (exp, sin, ...) are correctly rounded here up to the error of float64 arithmetic; ec_math.h is
within its own stated error of that. When every buffer has an offset, all of them lie in one block of bytes, so that
a plan that lets live buffers overlap gives wrong values.
"""
from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import replace

import numpy as np

from .dtypes import PACKED, REAL, WIDE, computed, from_bytes, from_words, narrowed, numpy_type, to_bytes, words
from .errors import EdgecError
from .loop_index import INT_RANGE
from .loop_verify import root
from .loops import (
    Arg,
    Bin,
    Call,
    Const,
    Expr,
    Fn,
    For,
    Function,
    If,
    Let,
    Load,
    Program,
    Ref,
    Rows,
    Set,
    Stmt,
    Store,
    Var,
    blocks,
    condition,
    dtype_of,
    text,
    tick_loop,
)


def _memory_type(dtype: str) -> np.dtype:
    """The elements of a buffer's array: packed ones stay packed."""
    return np.dtype(np.uint8) if dtype in PACKED else numpy_type(dtype)


class Memory(dict[str, np.ndarray]):
    """Every buffer as a flat array by name; `packed`: dtype and elements of those with several elements in a byte."""

    def __init__(self):
        super().__init__()
        self.packed: dict[str, tuple[str, int]] = {}

    def size(self, name: str) -> int:
        return self.packed[name][1] if name in self.packed else self[name].size


Env = dict[str, object]
UNWRITTEN = 0xA5  # what the arena holds before anything is written


class MeaningError(EdgecError):
    """A program did something that C leaves undefined, or a kernel's meaning is wrong; an internal error of edgec."""


def run(p: Program, inputs: Sequence[np.ndarray], after: Callable[[Function, Memory], None] | None = None,
        state: MutableMapping[str, np.ndarray] | None = None,
        watch: Callable[[np.ndarray, int, int | None], None] | None = None) -> list[np.ndarray]:
    """The outputs (flat, in p.outputs' order) for inputs of any shape with as many elements as the input buffers.

    after(step, memory) is called after each step; memory gives every buffer by name. state: contents of the state
    buffers by name, kept for the next run (between the rows of a rowwise program all memory is); what is missing starts
    as after a reset. watch(arena, step, tick) is called after each tick of a streamed step, and after each step with None, on a
    planned program. Raises MeaningError."""
    memory = allocate(p)
    state = {} if state is None else state
    kept = [b.name for b in p.buffers.values() if b.place == "state" or p.rowwise and b.place != "rom" and not b.alias]
    for name in kept:
        if name in state or p.buffers[name].place == "state":
            memory[name][:] = state.get(name, p.buffers[name].reset)
    if len(inputs) != len(p.inputs):
        raise MeaningError(f"{p.name} has {len(p.inputs)} inputs, not {len(inputs)}")
    for name, x in zip(p.inputs, inputs, strict=True):
        x = np.asarray(x)
        b = p.buffers[name]
        if x.size != b.size or x.dtype != numpy_type(b.dtype):
            raise MeaningError(f"input {name} is {x.dtype}[{x.size}], not {b.dtype}[{b.size}]")
        memory[name][:] = np.frombuffer(to_bytes(x), memory[name].dtype)
    with np.errstate(all="ignore"):
        for k in _walk(p, memory):
            step, env = p.steps[k], {}
            try:
                for do in _body(_watched(step, k, memory, watch), memory):
                    do(env)
            except MeaningError as e:
                raise MeaningError(e.what, where=e.where or f"step {step.name}") from None
            if after:
                after(step, memory)
            if watch:
                watch(_arena(memory), k, None)
            if p.rowwise and step is p.steps[0] and memory[p.rowwise.progress][0] != p.rowwise.rows:
                break
    state.update({name: memory[name].copy() for name in kept})
    return [from_bytes(memory[o].tobytes(), p.buffers[o].dtype, (p.buffers[o].size,)) for o in p.outputs]


def _walk(p: Program, memory: Memory) -> Iterator[int]:
    """The steps that a run executes, by their positions, those with `control` left out."""
    sides = blocks(p.steps)
    start = {end: k for k, (_, end) in sides.items()}
    beyond = {middle: end for k, (middle, end) in sides.items() if p.steps[k].control == "if"}
    turns: dict[int, int] = {}
    k = 0
    while k < len(p.steps):
        f, cond = p.steps[k], condition(p.steps[k])
        holds = cond is None or bool(_expr(cond, memory)({}))
        match f.control:
            case "loop":
                turns[k] = turns.get(k, 0) + 1
                if holds and (not f.turns or turns[k] <= f.turns):
                    k += 1
                else:
                    del turns[k]
                    k = sides[k][1] + 1
            case "if":
                k = k + 1 if holds else sides[k][0] + 1
            case "else":
                k = beyond[k] + 1
            case "end":
                k = start[k] if p.steps[start[k]].control == "loop" else k + 1
            case _:
                yield k
                k += 1


def _watched(f: Function, step: int, memory: Memory, watch) -> Sequence[Stmt]:
    """The body of a step with a call of `watch` at the end of each tick."""
    loop = tick_loop(f)
    if watch is None or loop is None:
        return f.body

    def meaning(args, read, write):
        watch(_arena(memory), step, int(read(args[0])))

    ticking = replace(loop, body=(*loop.body, Call("watch", {}, (Var(loop.var),), (), meaning)))
    return [ticking if s is loop else s for s in f.body]


def _arena(memory: Memory) -> np.ndarray:
    """The bytes of which every planned buffer is a view."""
    return next(m.base for m in memory.values() if m.flags.writeable)


def allocate(p: Program) -> Memory:
    """Every buffer as a flat array: views of one arena where all have offsets, else memory of their own."""
    ram = [b for b in p.buffers.values() if b.place != "rom" and not b.alias]
    planned = p.arena_bytes >= 0 and all(b.offset >= 0 for b in ram)
    arena = np.full(p.arena_bytes if planned else 0, UNWRITTEN, np.uint8)
    memory = Memory()
    memory.packed = {b.name: (b.dtype, b.size) for b in p.buffers.values() if b.dtype in PACKED}
    for b in ram:
        raw = arena[b.offset:b.offset + b.nbytes] if planned else np.full(b.nbytes, UNWRITTEN, np.uint8)
        memory[b.name] = raw.view(_memory_type(b.dtype))
    for b in p.buffers.values():
        if b.place == "rom":
            memory[b.name] = np.frombuffer(to_bytes(b.data), _memory_type(b.dtype)).view()
            memory[b.name].flags.writeable = False
        elif b.alias:
            memory[b.name] = memory[root(p, b.name).name].view(np.uint8)[:b.nbytes].view(_memory_type(b.dtype))
    return memory


# --- statements ----------------------------------------------------------------------------------


def _body(body: Sequence[Stmt], memory: Memory) -> list[Callable[[Env], None]]:
    return [_statement(s, memory) for s in body]


def _statement(s: Stmt, memory: Memory) -> Callable[[Env], None]:
    match s:
        case For():
            lo, hi, inner, var, step = _expr(s.lo, memory), _expr(s.hi, memory), _body(s.body, memory), s.var, s.step

            def loop(env):
                for turn in range(lo(env), hi(env), step):
                    env[var] = turn
                    for do in inner:
                        do(env)
            return loop
        case If():
            cond, then, orelse = _expr(s.cond, memory), _body(s.then, memory), _body(s.orelse, memory)

            def branch(env):
                for do in then if cond(env) else orelse:
                    do(env)
            return branch
        case Let() | Set():
            value, var = _expr(s.value, memory), s.var
            return lambda env: env.__setitem__(var, value(env))
        case Store():
            index, value, array = _index(s.index, s.buffer, memory), _expr(s.value, memory), memory[s.buffer]
            if not array.flags.writeable:
                raise MeaningError(f"a store into {s.buffer}, which is constant")
            if s.buffer in memory.packed:
                dtype = memory.packed[s.buffer][0]
                return lambda env: _set_packed(array, dtype, index(env), value(env))
            if str(array.dtype) in WIDE:
                return lambda env: array.__setitem__(index(env), narrowed(value(env), str(array.dtype)))
            return lambda env: array.__setitem__(index(env), value(env))
        case Call():
            return lambda env: _call(s, env, memory)
    raise TypeError(type(s).__name__)


def _get_packed(array: np.ndarray, dtype: str, i: int):
    n = PACKED[dtype]
    x = from_words(array[i * n // 8:][:1] >> np.uint8(i * n % 8), dtype, 1)[0]
    return np.float32(x) if computed(dtype) == "float32" else int(x)


def _set_packed(array: np.ndarray, dtype: str, i: int, value) -> None:
    n = PACKED[dtype]
    at, shift, mask = i * n // 8, i * n % 8, (1 << n) - 1
    word = int(words(np.asarray([value]).astype(numpy_type(dtype)))[0]) & mask
    array[at] = int(array[at]) & ~(mask << shift) & 255 | word << shift


def _index(e: Expr, buffer: str, memory: Memory) -> Callable[[Env], int]:
    index, size = _expr(e, memory), memory.size(buffer)

    def checked(env):
        i = index(env)
        if not 0 <= i < size:
            raise MeaningError(f"{buffer}[{i}]: the index {text(e)} is outside 0..{size - 1}")
        return i
    return checked


def _call(s: Call, env: Env, memory: Memory) -> None:
    if s.meaning is None:
        raise MeaningError(f"the kernel {s.kernel} has no meaning")

    def read(arg: Arg):
        match arg:
            case Ref():
                return memory[arg.buffer][_index(arg.index, arg.buffer, memory)(env):]
            case Rows():
                return _rows(arg, env, memory)
        return _scalar(_expr(arg, memory)(env), dtype_of(arg))

    def write(arg: Ref, values: np.ndarray) -> None:
        values = np.asarray(values).reshape(-1)
        at = _index(arg.index, arg.buffer, memory)(env)
        target = memory[arg.buffer][at:]
        if arg.buffer not in s.writes:
            raise MeaningError(f"{s.kernel} writes {arg.buffer}, which its `writes` does not list")
        if values.dtype != target.dtype or values.size > target.size:
            raise MeaningError(f"{s.kernel} writes {values.dtype}[{values.size}] to {text(arg)}, "
                               f"where {target.dtype}[{target.size}] is")
        target[:values.size] = values

    s.meaning(s.args, read, write)


def _rows(a: Rows, env: Env, memory: Memory) -> np.ndarray:
    """The rows as an array [count][row] of their own, padding rows filled in."""
    first, source = _expr(a.first, memory)(env), memory[a.buffer]
    out = np.empty((a.count, a.row), source.dtype)
    for k in range(a.count):
        r = first + k * a.step
        if 0 <= r < a.height:
            at = a.base + (r % a.ring if a.ring else r) * a.row
            out[k] = source[at:at + a.row]
        elif a.pad:
            out[k] = memory[a.pad][:a.row]
        else:
            raise MeaningError(f"row {r} of {text(a)} has no padding")
    return out


def _scalar(value, dtype: str):
    return np.dtype(dtype).type(value)


def value(e: Expr, env: Env) -> object:
    """The value of an expression that loads nothing."""
    return _expr(e, {})(env)


# --- expressions: functions of the variables -----------------------------------------------------


def _expr(e: Expr, memory: Memory) -> Callable[[Env], object]:
    """int values are Python ints, bool ones Python bools, floats np.float32."""
    match e:
        case Const():
            value = _python(_scalar(e.value, e.dtype))
            return lambda env: value
        case Var():
            return operator.itemgetter(e.name)
        case Load():
            index, array = _index(e.index, e.buffer, memory), memory[e.buffer]
            if e.buffer in memory.packed:
                dtype = memory.packed[e.buffer][0]
                return lambda env: _get_packed(array, dtype, index(env))
            if str(array.dtype) in WIDE:
                return lambda env: np.float32(array[index(env)])
            if array.dtype.kind == "f":
                return lambda env: array[index(env)]
            return lambda env: array.item(index(env))
        case Bin("and" | "or"):
            a, b = _expr(e.a, memory), _expr(e.b, memory)
            return (lambda env: a(env) and b(env)) if e.op == "and" else (lambda env: a(env) or b(env))
        case Bin():
            a, b, dtype, op = _expr(e.a, memory), _expr(e.b, memory), dtype_of(e.a), e.op
            return lambda env: binary(op, dtype, a(env), b(env))
        case Fn("select"):
            cond, a, b = (_expr(x, memory) for x in e.args)
            return lambda env: a(env) if cond(env) else b(env)
        case Fn():
            args, name, dtype, source = [_expr(x, memory) for x in e.args], e.name, e.dtype, dtype_of(e.args[0])
            return lambda env: function(name, dtype, source, [a(env) for a in args])
    raise TypeError(type(e).__name__)


def _python(x: np.generic):
    return x if x.dtype.kind == "f" else x.item()


_EXACT = {"+": operator.add, "-": operator.sub, "*": operator.mul,
          "&": operator.and_, "|": operator.or_, "^": operator.xor}
_COMPARE = {"<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
            "and": lambda a, b: a and b, "or": lambda a, b: a or b}


def binary(op: str, dtype: str, a, b):
    """a op b for operands of this dtype. Raises MeaningError where C leaves it undefined."""
    if op in _COMPARE:
        return bool(_COMPARE[op](a, b))
    if op in ("min", "max"):  # the second operand where it is smaller (greater) or not a number
        return b if (b < a if op == "min" else a < b) or b != b else a
    if dtype in REAL:
        return np.divide(a, b) if op == "/" else _EXACT[op](a, b)
    if dtype == "bool":
        return bool(_EXACT[op](a, b))
    if op in ("//", "%"):
        if a < 0 or b <= 0:
            raise MeaningError(f"{a} {op} {b}")
        return a // b if op == "//" else a % b
    if op in ("<<", ">>"):
        if not 0 <= b < np.dtype(dtype).itemsize * 8:
            raise MeaningError(f"{a} {op} {b} of {dtype}")
        return a >> b if op == ">>" else fit(a << b, dtype)
    return fit(_EXACT[op](a, b), dtype)


def fit(value: int, dtype: str) -> int:
    """An exact result in its dtype: unsigned ones wrap, signed overflow is an error."""
    lo, hi = INT_RANGE[dtype]
    if lo <= value <= hi:
        return value
    if dtype[0] != "u":
        raise MeaningError(f"overflow: {value} is not {dtype}")
    return value & hi


def convert(x, source: str, dtype: str):
    """cast: float to integer truncates and saturates (NaN gives 0), integer to integer wraps, to bool is x != 0."""
    if dtype == "bool":
        return bool(x != 0)
    if dtype in REAL:
        return np.dtype(source).type(x).astype(dtype)
    lo, hi = INT_RANGE[dtype]
    if source not in REAL:
        value = int(x) & ((1 << np.dtype(dtype).itemsize * 8) - 1)
        return value - (1 << np.dtype(dtype).itemsize * 8) if value > hi else value
    if x != x:
        return 0
    return min(max(int(x), lo), hi) if math.isfinite(x) else hi if x > 0 else lo


_REAL = {
    **{n: getattr(np, n) for n in "exp log sqrt tanh sin cos tan sinh cosh floor ceil rint trunc fmod".split()},
    **{f"a{n}": getattr(np, f"arc{n}") for n in "sin cos tan sinh cosh tanh".split()},
    "pow": np.power, "round": np.rint, "erf": lambda x: np.float64(math.erf(x)),
}


def function(name: str, dtype: str, source: str, args: list):
    """A scalar function other than select of operands of dtype `source`."""
    x = args[0]
    match name:
        case "cast":
            return convert(x, source, dtype)
        case "not":
            return not x
        case "neg":
            return -x if source[0] == "f" else fit(-x, dtype)
        case "abs":
            return abs(x) if source[0] == "f" else fit(abs(x), dtype)
        case "isnan":
            return bool(np.isnan(x))
        case "isinf":
            return bool(np.isinf(x))
    return np.dtype(dtype).type(_REAL[name](*map(np.float64, args)))
