"""Program: the loop IR. Framework-agnostic, target-specific, static; immutable values.

Expressions have one dtype each (`dtype_of`): operands of a `Bin` have equal dtypes, conversions are
explicit (`cast`). Indices and loop variables are int32 and count elements of the buffer, not bytes.
Integer arithmetic must not overflow (lowering proves it or widens); `//` and `%` take a non-negative
left side and a positive right side; `>>` floors.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .dtypes import nbytes

# --- expressions -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Const:
    value: int | float | bool
    dtype: str = "int32"


@dataclass(frozen=True)
class Var:
    """A loop variable (int32) or a `Let` variable."""

    name: str
    dtype: str = "int32"


@dataclass(frozen=True)
class Bin:
    """op: + - * / // % << >> & | ^ min max (result: the operands' dtype); < <= == != (result: bool); and or (bool)."""

    op: str
    a: Expr
    b: Expr


@dataclass(frozen=True)
class Fn:
    """name: a scalar function. cast(x)->dtype, select(cond,a,b), neg, not, abs, and the real functions of
    ec_math.h on float32: exp log sqrt tanh erf sin cos tan asin acos atan sinh cosh asinh acosh atanh pow
    floor ceil round (half to even) rint trunc fmod isnan isinf."""

    name: str
    args: tuple[Expr, ...]
    dtype: str = "float32"


@dataclass(frozen=True)
class Load:
    buffer: str
    index: Expr
    dtype: str


Expr = Const | Var | Bin | Fn | Load

# --- statements --------------------------------------------------------------------------------


@dataclass(frozen=True)
class For:
    """for var in range(lo, hi, step): body. Bounds may use outer variables."""

    var: str
    lo: Expr
    hi: Expr
    body: tuple[Stmt, ...]
    step: int = 1


@dataclass(frozen=True)
class If:
    cond: Expr
    then: tuple[Stmt, ...]
    orelse: tuple[Stmt, ...] = ()


@dataclass(frozen=True)
class Let:
    """Declares and sets a local variable; the scope is the enclosing body."""

    var: str
    dtype: str
    value: Expr


@dataclass(frozen=True)
class Set:
    var: str
    value: Expr


@dataclass(frozen=True)
class Store:
    """buffer[index] = value; value has the buffer's dtype."""

    buffer: str
    index: Expr
    value: Expr


@dataclass(frozen=True)
class Ref:
    """Kernel argument: the address of buffer[index]."""

    buffer: str
    index: Expr = Const(0)


@dataclass(frozen=True)
class Rows:
    """Kernel argument: an array of `count` pointers to rows first, first+step, ... of a buffer of `height` rows of
    `row` elements each, stored from element `base`. A row outside 0..height-1 is the buffer `pad` (a row of padding).
    `ring`: the buffer holds only that many rows and row r lies at slot r % ring (0: the buffer holds them all)."""

    buffer: str
    first: Expr
    count: int
    step: int
    height: int
    row: int
    pad: str = ""
    base: int = 0
    ring: int = 0


Arg = Ref | Rows | Const | Var | Bin | Fn | Load


@dataclass(frozen=True)
class Layer:
    """The ONNX nodes, the operator and the multiply-accumulates per run of a layer inside a streamed step."""

    origin: tuple[str, ...]
    op: str
    macs: int


@dataclass(frozen=True, eq=False)
class Call:
    """A kernel of runtime_c/kernel/*/<kernel>.h: ec_<kernel>(&params, args...). `params` are the fields of
    ec_<kernel>_t in order, all int32 (or float32 where the value is a Python float). `writes` lists buffers it writes.
    `meaning(args, read, write)` is the reference: args as they stand
    in the call, read(arg) -> numpy array(s) of the argument, write(arg, array). `layer`: set in a streamed step.
    `headers`: of a function that is the user's own: `kernel` is its C name and <kernel>_t its struct, which goes to it
    where there are params; one of those may be an array."""

    kernel: str
    params: Mapping[str, int | float | tuple]
    args: tuple[Arg, ...]
    writes: tuple[str, ...]
    meaning: Any = None
    layer: Layer | None = None
    headers: tuple[str, ...] = ()


Stmt = For | If | Let | Set | Store | Call

# --- containers --------------------------------------------------------------------------------

PLACES = ("rom", "arena", "state", "input", "output")


@dataclass(frozen=True, eq=False)
class Buffer:
    """size: elements. place: where it lives; input and output buffers are in the arena too. offset: bytes in the arena,
    -1 before planning. data: the contents of a rom buffer, flat. alias: an arena buffer that this one is a view of
    (same memory, same first byte); views have no offset of their own. reset: each element of a state buffer before the
    first run."""

    name: str
    dtype: str
    size: int
    place: str
    offset: int = -1
    data: np.ndarray | None = None
    alias: str = ""
    align: int = 4
    reset: int = 0

    @property
    def nbytes(self) -> int:
        return nbytes(self.dtype, self.size)


@dataclass(frozen=True)
class RowRead:
    """What tick t of a group reads of a buffer: those of the rows t*stride - pad + {0 .. kernel-1} * dilation that lie in
    0 .. height-1, of `row_bytes` each. ring: as for Rows."""

    buffer: str
    kernel: int
    stride: int
    dilation: int
    pad: int
    height: int
    row_bytes: int
    ring: int = 0


@dataclass(frozen=True)
class RowGroup:
    """One kind of tick of a streamed step: tick t reads rows and writes row t of `output`, `rows` in all; where it
    `reduces`, it writes one row in its last tick. takes: the input buffer whose content, new in every run, is the row.
    slides: each row moves those before it one place up, the last place is its own."""

    reads: tuple[RowRead, ...]
    output: str
    rows: int
    row_bytes: int
    ring: int = 0
    reduces: bool = False
    takes: str = ""
    slides: bool = False


@dataclass(frozen=True, eq=False)
class Function:
    """One step of the run. `origin`: ONNX nodes. `inplace`: (output, input) buffer pairs that may share memory
    when the input dies here; `trailing`: (output, input, lead), where they may if the output, made front to back, begins
    at least `lead` bytes before the input. `op`: the graph operator, for reports; `macs`: multiply-accumulates. `outputs`: the
    graph tensors that this step completes. `result`: the buffer of the first of them ("": the one written last).
    A step that streams rows has `ticks`: tick k runs group `order[k]` for its next row; `spans` are the ticks (first
    and last) in which parts of buffers (byte offset, bytes) are in use. repeat: where the order goes on after its end;
    all that it touches is then alive all the time, and `ticks` is 1.
    control: "loop", "if", "else" or "end", of a step that only directs the others: what stands between a "loop" and its
    "end" runs at most `turns` times (0: no bound), and what stands between an "if", its "else" and its "end" once or not.
    The body of such a step is () or one `If` without branches, whose condition is tested before each turn, or chooses the
    side. times: how often a run executes the step, as far as that is known."""

    name: str
    body: tuple[Stmt, ...]
    origin: tuple[str, ...] = ()
    inplace: tuple[tuple[str, str], ...] = ()
    op: str = ""
    macs: int = 0
    outputs: tuple[str, ...] = ()
    ticks: int = 1
    spans: Mapping[str, tuple[tuple[int, int, int, int], ...]] = field(default_factory=dict)
    result: str = ""
    groups: tuple[RowGroup, ...] = ()
    order: tuple[int, ...] = ()
    repeat: int | None = None
    control: str = ""
    turns: int = 0
    times: int = 1
    trailing: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True)
class Rowwise:
    """The program's one input is a row of a tensor with `rows` rows: a run takes one row, by the first step alone unless
    the state buffer `progress` then holds `rows`, which says that the result is due."""

    rows: int
    progress: str


@dataclass(frozen=True)
class Arena:
    """`nbytes` from `offset` of the program's arena lie together in one memory of the board."""

    memory: str
    offset: int
    nbytes: int


@dataclass(frozen=True, eq=False)
class Program:
    """steps run in order, as far as their `control` does not say otherwise. inputs/outputs: buffer names in the model's
    order. Set by planning: arena_bytes; lower_bound: the most bytes alive at once; placement_bound: no placement of these
    needs less.
    rowwise: where a run is one row of the input. state: pairs (state buffer that the caller knows of, the buffer that its next
    value is made in)."""

    name: str
    buffers: Mapping[str, Buffer]
    steps: tuple[Function, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    arena_bytes: int = -1
    lower_bound: int = -1
    placement_bound: int = -1
    arenas: tuple[Arena, ...] = ()
    notes: tuple[str, ...] = field(default=())
    rowwise: Rowwise | None = None
    state: tuple[tuple[str, str], ...] = ()


def tick_loop(f: Function) -> For | None:
    """The loop over the ticks of a step that streams rows; None for other steps."""
    return next((s for s in f.body if isinstance(s, For)), None) if f.groups else None


def condition(f: Function) -> Expr | None:
    """What a step with `control` tests."""
    return f.body[0].cond if f.control and f.body else None


def blocks(steps: Sequence[Function]) -> dict[int, tuple[int, int]]:
    """Position of each "loop" and "if" -> those of its "else" (a loop: its "end") and of its "end", inner ones first.

    Raises ValueError where they do not nest."""
    found, opened = {}, []
    for k, f in enumerate(steps):
        match f.control:
            case "loop" | "if":
                opened.append([k])
            case "else":
                if not opened or len(opened[-1]) > 1 or steps[opened[-1][0]].control != "if":
                    raise ValueError(f"{f.name} has no if")
                opened[-1].append(k)
            case "end":
                if not opened or len(opened[-1]) == 1 and steps[opened[-1][0]].control == "if":
                    raise ValueError(f"{f.name} ends nothing")
                start, *middle = opened.pop()
                found[start] = (*middle, k)[0], k
    if opened:
        raise ValueError(f"{steps[opened[-1][0]].name} has no end")
    return found


class Written:
    """What is surely written where a step stands, whichever way a run took: after an if what both its sides wrote, after a
    loop what was written before it. `now`: names; `enter` is told the control of each step in their order."""

    def __init__(self, names: Iterable[str]):
        self.now = set(names)
        self._outer: list[tuple[set[str], set[str] | None]] = []  # before the block; after the first side

    def enter(self, control: str) -> None:
        match control:
            case "loop":
                self._outer.append((set(self.now), set(self.now)))
            case "if":
                self._outer.append((set(self.now), None))
            case "else":
                before, _ = self._outer.pop()
                self._outer.append((before, self.now))
                self.now = set(before)
            case "end":
                self.now = self.now & self._outer.pop()[1]


COMPARISONS = frozenset({"<", "<=", "==", "!=", "and", "or"})


def dtype_of(e: Expr) -> str:
    """The dtype of an expression. Raises TypeError where the operands of a Bin differ."""
    if isinstance(e, Bin):
        a, b = dtype_of(e.a), dtype_of(e.b)
        if a != b:
            raise TypeError(f"operands of {e.op} are {a} and {b}: {text(e)}")
        return "bool" if e.op in COMPARISONS else a
    return e.dtype


def cast(e: Expr, dtype: str) -> Expr:
    """e as dtype; no node where it has it already. float to int truncates and saturates; int to int wraps."""
    return e if dtype_of(e) == dtype else Fn("cast", (e,), dtype)


def add(a: Expr, b: Expr | int) -> Expr:
    """Index arithmetic with constants folded."""
    b = Const(b) if isinstance(b, int) else b
    if isinstance(a, Const) and isinstance(b, Const):
        return Const(int(a.value + b.value))
    if isinstance(b, Const) and b.value == 0:
        return a
    if isinstance(a, Const) and a.value == 0:
        return b
    return Bin("+", a, b)


def mul(a: Expr, b: Expr | int) -> Expr:
    """Index arithmetic with constants folded."""
    b = Const(b) if isinstance(b, int) else b
    if isinstance(a, Const) and isinstance(b, Const):
        return Const(int(a.value * b.value))
    for x, y in ((a, b), (b, a)):
        if isinstance(x, Const) and x.value == 0:
            return Const(0)
        if isinstance(x, Const) and x.value == 1:
            return y
    return Bin("*", a, b)


def text(x) -> str:
    """One line for an expression or an argument, as `--dump-ir` prints it."""
    match x:
        case Const():
            return str(x.value)
        case Var():
            return x.name
        case Bin(op, a, b):
            return f"{op}({text(a)}, {text(b)})" if op in ("min", "max") else f"({text(a)} {op} {text(b)})"
        case Fn("cast", (a,), dtype):
            return f"{dtype}({text(a)})"
        case Fn(name, args, _):
            return f"{name}({', '.join(map(text, args))})"
        case Load(buffer, index, _):
            return f"{buffer}[{text(index)}]"
        case Ref(buffer, index):
            return f"&{buffer}[{text(index)}]"
        case Rows():
            ring = f" ring {x.ring}" if x.ring else ""
            window = f"n={x.count}, step={x.step}, h={x.height}, row={x.row}, pad={x.pad or '-'}"
            return f"rows({x.buffer}, {text(x.first)}, {window}{ring})"
    raise TypeError(type(x).__name__)


def lines(body: tuple[Stmt, ...], indent: str = "  ") -> list[str]:
    """The text form of statements."""
    out: list[str] = []
    for s in body:
        match s:
            case For():
                step = f" step {s.step}" if s.step != 1 else ""
                out += [f"{indent}for {s.var} in {text(s.lo)}..{text(s.hi)}{step}", *lines(s.body, indent + "  ")]
            case If():
                out += [f"{indent}if {text(s.cond)}", *lines(s.then, indent + "  ")]
                if s.orelse:
                    out += [f"{indent}else", *lines(s.orelse, indent + "  ")]
            case Let():
                out.append(f"{indent}let {s.var}: {s.dtype} = {text(s.value)}")
            case Set():
                out.append(f"{indent}{s.var} = {text(s.value)}")
            case Store():
                out.append(f"{indent}{s.buffer}[{text(s.index)}] = {text(s.value)}")
            case Call():
                params = " ".join(f"{k}={v}" for k, v in s.params.items())
                out.append(f"{indent}call {s.kernel}({', '.join(map(text, s.args))}) {{{params}}}")
    return out


def program_text(p: Program) -> str:
    """The text form of a program."""
    out = [f"program {p.name} arena {p.arena_bytes} bound {p.lower_bound}"]
    for b in p.buffers.values():
        where = f" @{b.offset}" if b.offset >= 0 else ""
        out.append(f"  {b.place:6} {b.name}: {b.dtype}[{b.size}]{where}{' = ' + b.alias if b.alias else ''}")
    depth = 0
    for f in p.steps:
        depth -= f.control in ("else", "end")
        about = f"{f.control} {f.turns or ''}".strip() if f.control else f"# {f.op} {' + '.join(f.origin)}"
        out += [f"{'  ' * depth}step {f.name}  {about}", *lines(f.body, "  " * (depth + 1))]
        depth += f.control in ("loop", "if", "else")
    return "\n".join(out) + "\n"
