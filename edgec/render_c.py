"""Program -> C99 text. The only file that knows C syntax.

The text compiles without a warning under -std=c99 -pedantic -Wall -Wextra -Wconversion on gcc and clang: integer
promotions are undone by explicit casts, comparisons that the types decide are written as constants.
"""
from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .dtypes import PACKED, REAL, SHORT as STORED, WIDE, nbytes, numpy_type
from .loop_index import measure
from .loop_verify import REAL_FUNCTIONS, expressions, nodes, root, statements, uses
from .loops import (
    COMPARISONS,
    Arg,
    Bin,
    Buffer,
    Call,
    Const,
    Expr,
    Fn,
    For,
    Function,
    If,
    Layer,
    Let,
    Load,
    Program,
    Ref,
    Rows,
    Set,
    Stmt,
    Store,
    Var,
    condition,
    dtype_of,
    tick_loop,
)

WIDTH = 110
INDENT = "    "
C_TYPE = {**{f"{u}int{b}": f"{u}int{b}_t" for u in ("", "u") for b in (8, 16, 32, 64)},
          "float32": "float", "float64": "double", "bool": "bool"}
SHORT = {**{f"int{b}": f"i{b}" for b in (8, 16, 32, 64)}, **{f"uint{b}": f"u{b}" for b in (8, 16, 32, 64)},
         "float32": "f32", "float64": "f64"}
NARROW = frozenset({"int8", "int16", "uint8", "uint16"})
MATH = {**{n: f"ec_{n}f" for n in REAL_FUNCTIONS},
        "rint": "ec_roundf", "abs": "ec_fabsf", "isnan": "ec_isnan", "isinf": "ec_isinf"}
DOUBLE = {"rint": "round_double", "isnan": "isnan_double", "isinf": "isinf_double",
          **{n: f"{n}_double" for n in "abs floor ceil round trunc fmod sqrt".split()}}

# Names that generated code must not declare: keywords of C and C++, names of the included headers, predefined macros.
RESERVED = frozenset("""
    auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while asm typeof
    alignas alignof and and_eq bitand bitor bool catch class compl concept const_cast constexpr decltype delete
    dynamic_cast explicit export false friend mutable namespace new noexcept not not_eq nullptr operator or or_eq
    private protected public reinterpret_cast requires static_assert static_cast template this thread_local throw true
    try typeid typename using virtual wchar_t xor xor_eq
    NULL arena m step size_t ptrdiff_t offsetof main linux unix arm i386 errno signal
""".split()) | {t for t in C_TYPE.values()}
INTERFACE = ("init", "input", "run", "output", "reset", "info", "steps", "hook", "t", "inputs", "outputs")


def identifier(text: str, fallback: str = "t") -> str:
    """A C identifier that reads like the text, at most 48 characters, not reserved. Different texts may give one."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")[-48:].strip("_") or fallback
    if name[0].isdigit() or name.lower().startswith("ec_"):
        name = f"{fallback}_{name}"
    return name + "_" if name in RESERVED else name


def comment_text(text: str) -> str:
    """Any text as one line that may stand inside a C comment."""
    clean = re.sub(r"[^ -~]+", "_", " ".join(text.split()))
    return clean.replace("*/", "* /").replace("/*", "/ *").replace("??", "?_").replace("\\", "/")


def comment(text: str) -> str:
    """A C comment with any text in it, wrapped."""
    return "\n".join(textwrap.wrap(comment_text(text), WIDTH - 3, initial_indent="/* ", subsequent_indent=" * ",
                                   break_long_words=False, break_on_hyphens=False)) + " */"


def string(text: str) -> str:
    """A C string literal with the UTF-8 bytes of the text."""
    safe = set(b" !#$%&'()*+,-./:;<=>@[]^_`{|}~") | set(range(48, 58)) | set(range(65, 91)) | set(range(97, 123))
    return '"' + "".join(chr(b) if b in safe else f"\\{b:03o}" for b in text.encode()) + '"'


class Namer:
    """Gives each hint an identifier that no earlier one got. prefix: stands before each whole, however long the hint:
    it keeps the names of several models in one program apart."""

    def __init__(self, taken: Iterable[str] = (), outer: Namer | None = None, prefix: str = ""):
        self.taken, self.outer, self.prefix = set(taken), outer, prefix

    def __contains__(self, name: str) -> bool:
        return name in self.taken or (self.outer is not None and name in self.outer)

    def __call__(self, hint: str) -> str:
        base = name = self.prefix + identifier(hint)
        n = 1
        while name in self:
            n += 1
            name = f"{base}_{n}"
        self.taken.add(name)
        return name


# --- literals ------------------------------------------------------------------------------------


def literal(value, dtype: str) -> str:
    """The value as a C constant of (or exactly convertible to) the dtype."""
    if dtype == "bool":
        return "true" if value else "false"
    if dtype in REAL:
        return real(np.dtype(dtype).type(value))
    v = int(value)
    if dtype in ("int32", "int64") and v == -(1 << int(dtype[3:]) - 1):
        return f"{dtype.upper()}_MIN"
    if dtype in ("int64", "uint64"):
        return f"{dtype.upper()}_C({v})" if v >= 0 else f"-{dtype.upper()}_C({-v})"
    return f"{v}u" if dtype == "uint32" else str(v)


def real(x: np.float32 | np.float64) -> str:
    """The shortest decimal constant that is exactly x, of its own type."""
    if np.isnan(x):
        return "EC_NAN"
    if np.isinf(x):
        return "EC_INFINITY" if x > 0 else "-EC_INFINITY"
    return f"{x!s}f" if x.dtype == np.float32 else str(x)


def param(value: int | float | tuple) -> str:
    """A kernel parameter: int32, or float32 where an infinite bound is EC_INF (ec.h: no clamp), or an array of those."""
    if isinstance(value, tuple):
        return "{" + ", ".join(map(param, value)) + "}"
    if not isinstance(value, (float, np.floating)):
        return literal(value, "int32")
    if abs(value) >= float(np.finfo(np.float32).max):
        return "EC_INF" if value > 0 else "-EC_INF"
    return real(np.float32(value))


# --- a program -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One step: the text of its C function with a comment, and the call of it, where `arena` is the arena. name: of the
    function. layers: inside a streamed step, each with its kernel and the function that runs that. control: `call` is the
    line that opens or closes a block, and there is no function."""

    text: str
    call: str
    name: str
    layers: tuple[tuple[Layer, str, str], ...]
    control: bool = False


@dataclass(frozen=True)
class Source:
    """The parts of <name>.c: runtime headers in the order of inclusion, headers of the user's functions, C names of rom
    buffers, extern declarations of those, out-of-line kernels, steps."""

    headers: tuple[str, ...]
    own: tuple[str, ...]
    rom: Mapping[str, str]
    externs: tuple[str, ...]
    shared: tuple[str, ...]
    steps: tuple[Step, ...]


def source(p: Program, c_name: str, types: Mapping[str, str] | None = None,
           stamp: bool | Collection[str] = False) -> Source:
    """The C text of a planned program (every RAM buffer has an offset).

    c_name: prefix of all its names. types: graph tensor -> "int8 1x8x8x16", for comments. stamp: kernels that are
    compiled once for each set of parameters (True: all of them); the others once if more than one call uses them. In a
    streamed step each kernel is a function, so that what a layer costs can be told apart (a call for each row)."""
    names = Namer([*RESERVED, *(f"{c_name}_{n}" for n in INTERFACE)], prefix=f"{c_name}_")
    rom = {b.name: names(b.name) for b in _rom_used(p)}
    functions = ["" if f.control else names(f.name) for f in p.steps]
    shared = _Shared(p, c_name, names, stamp)
    headers: set[str] = set()
    steps, depth = [], 0
    for k, (f, name) in enumerate(zip(p.steps, functions, strict=True)):
        if f.control:
            depth -= f.control in ("else", "end")
            steps.append(Step("", INDENT * (depth + 1) + _control(p, k), "", (), True))
            depth += f.control != "end"
            continue
        one = _Step(p, k, rom, shared, Namer(outer=names))
        text, call = one.function(name)
        layers = dict.fromkeys((s.layer, s.kernel, shared.names[shared.key(s)])
                               for s in statements(f.body) if isinstance(s, Call) and s.layer is not None)
        steps.append(Step(_comment(p, f, types or {}) + "\n" + text, textwrap.indent(call, INDENT * depth), name, tuple(layers)))
        headers |= one.headers
    calls = [s for f in p.steps for s in statements(f.body) if isinstance(s, Call)]
    kernels = {f"{s.kernel}.h" for s in calls if not s.headers}
    externs = tuple(f"extern {rom_declaration(p.buffers[n], c)};" for n, c in rom.items())
    own = tuple(sorted({h for s in calls for h in s.headers}))
    return Source(("ec.h", *sorted(headers), *sorted(kernels)), own, rom, externs, tuple(shared.texts()), tuple(steps))


def _control(p: Program, k: int) -> str:
    """The line in <name>_run that a step of control is."""
    f, test = p.steps[k], condition(p.steps[k])
    holds = ""
    if test is not None:
        b = p.buffers[test.buffer]
        holds = f"*({address(p, root(p, b.name).offset, 'arena')}) != 0u"
    match f.control:
        case "loop" if f.turns:
            return f"for (uint32_t turn_{k} = 0u; turn_{k} < {f.turns}u{holds and ' && ' + holds}; turn_{k}++) {{"
        case "loop":
            return f"while ({holds}) {{"
        case "if":
            return f"if ({holds}) {{"
    return "} else {" if f.control == "else" else "}"


def _rom_used(p: Program) -> list[Buffer]:
    """Rom buffers that some step or output reads, in the program's order."""
    used = {n for f in p.steps for n in uses(p, f).reads} | set(p.outputs)
    return [b for b in p.buffers.values() if b.place == "rom" and b.name in used]


def _comment(p: Program, f: Function, types: Mapping[str, str]) -> str:
    what = ", ".join(types.get(o, o) for o in f.outputs)
    return comment(f"{' + '.join(f.origin) or f.name}: {f.op or 'generated'}{' -> ' + what if what else ''}")


def storage(b: Buffer) -> str:
    """The element type in memory: a bool is a byte that may hold any value."""
    if b.dtype in WIDE:
        return "uint16_t" if numpy_type(b.dtype).itemsize == 2 else "uint8_t"
    return "uint8_t" if b.dtype == "bool" else C_TYPE[b.dtype]


def words(b: Buffer) -> int:
    """Elements of its C array: packed ones share bytes."""
    return nbytes(b.dtype, b.size) if b.dtype in PACKED else b.size


def address(p: Program, offset: int, arena: str) -> str:
    """A C pointer to this byte of the program's arena; `arena` points to it, or to an array of pointers to its stretches."""
    if len(p.arenas) < 2:
        return f"{arena} + {offset}"
    k = max(k for k, a in enumerate(p.arenas) if a.offset <= offset)
    return f"{arena}[{k}] + {offset - p.arenas[k].offset}"


def rom_declaration(b: Buffer, c_name: str) -> str:
    """Declares a constant array. The alignment must be the same wherever it is declared: compilers rely on it."""
    return f"const {storage(b)} {c_name}[{words(b)}] EC_ALIGNED({max(b.align, numpy_type(b.dtype).itemsize)})"


def function(call: Call) -> str:
    """The C function of a kernel."""
    return call.kernel if call.headers else f"ec_{call.kernel}"


def _initialiser(call: Call) -> str:
    return "{" + ", ".join(f".{k} = {param(v)}" for k, v in call.params.items()) + "}"


class _Shared:
    """Which calls go to an out-of-line function, and those functions."""

    def __init__(self, p: Program, c_name: str, names: Namer, stamp: bool | Collection[str]):
        self.p, self.stamp = p, stamp
        sites: dict[tuple, list[Call]] = {}
        for f in p.steps:
            for s in statements(f.body):
                if isinstance(s, Call):
                    sites.setdefault(self.key(s), []).append(s)
        self.sites = {k: calls for k, calls in sites.items()
                      if len(calls) > 1 or any(c.layer is not None for c in calls)}
        self.names = {k: names(k[0]) for k in self.sites}

    def stamped(self, kernel: str) -> bool:
        return self.stamp if isinstance(self.stamp, bool) else kernel in self.stamp

    def key(self, s: Call) -> tuple:
        return (s.kernel, *((_initialiser(s),) if self.stamped(s.kernel) else ()))

    def texts(self) -> list[str]:
        return [self.text(key, calls) for key, calls in self.sites.items()]

    def text(self, key: tuple, calls: list[Call]) -> str:
        kernel, stamped = function(calls[0]), len(key) > 1
        params = [self.parameter(calls, k) for k in range(len(calls[0].args))]
        head = [] if stamped else [f"const {kernel}_t *p"]
        values = ["&p" if stamped else "p"] * bool(calls[0].params) + [f"a{k}" for k in range(len(params))]
        what = "for one set of parameters" if stamped else "for any parameters"
        nodes_ = dict.fromkeys(n for c in calls if c.layer is not None for n in c.layer.origin)
        lines = [comment(f"{calls[0].kernel} {what}: {', '.join(nodes_) or f'{len(calls)} calls'}."),
                 *_wrap(f"static EC_NOINLINE EC_CODE void {self.names[key]}({', '.join(head + params)})", ""), "{"]
        lines += [*_wrap(f"static const {kernel}_t p = {key[1]};", INDENT), ""] if stamped and calls[0].params else []
        return "\n".join([*lines, f"{INDENT}{kernel}({', '.join(values)});", _BARRIER, "}"])

    def parameter(self, calls: list[Call], k: int) -> str:
        """The declaration of argument k: a pointer is const if any call passes it as something it only reads."""
        arg = calls[0].args[k]
        match arg:
            case Ref():
                written = all(c.args[k].buffer in c.writes for c in calls)
                return f"{'' if written else 'const '}{storage(self.p.buffers[arg.buffer])} *a{k}"
            case Rows():
                return f"const {storage(self.p.buffers[arg.buffer])} *const *a{k}"
        return f"{C_TYPE[dtype_of(arg)]} a{k}"


_BARRIER = f"{INDENT}EC_BARRIER();"


def _wrap(text: str, indent: str) -> list[str]:
    """A list in C, broken behind its commas where it is too long for one line."""
    lines, line = [], indent
    for part in text.split(", "):
        if len(line) + len(part) + 1 > WIDTH and line.strip():
            lines.append(line.rstrip())
            line = indent + INDENT
        line += part + ", "
    return [*lines, line.removesuffix(", ")]


# --- a step --------------------------------------------------------------------------------------


# Precedences of C operators, highest first; 0 is an expression that needs no parentheses anywhere.
_ATOM, _UNARY, _MUL, _ADD, _OTHER = range(5)
_PRECEDENCE = {"*": _MUL, "/": _MUL, "//": _MUL, "%": _MUL, "+": _ADD, "-": _ADD}
_OPERATOR = {"//": "/", "and": "&&", "or": "||"}
_ON_BOOL = {"&": "&&", "|": "||", "^": "!="}

Text = tuple[str, int, str]  # C text, precedence, dtype


class _Step:
    """The text of one step's function; `headers` collects what it needs besides kernels."""

    def __init__(self, p: Program, index: int, rom: Mapping[str, str], shared: _Shared, names: Namer):
        f = p.steps[index]
        self.p, self.f, self.index, self.shared, self.names = p, f, index, shared, names
        self.headers: set[str] = set()
        self.params: dict[tuple[str, str], str] = {}
        self.locals: dict[tuple[str, int], str] = {}
        self.uses = uses(p, f)
        self.ram = list(dict.fromkeys(n for n in _touched(f.body) if n not in rom))
        self.pointers = {**rom, **{n: names(n) for n in self.ram}}
        self.vars = {n: names(n) for n in dict.fromkeys(s.var for s in statements(f.body) if isinstance(s, (For, Let)))}
        self.named: set[str] = set()  # C names of buffers and variables that the text reads
        self.unread: set[str] = set()

    def function(self, name: str) -> tuple[str, str]:
        """(the function, a call of it). Each buffer in the arena is a parameter of its own: where several pointers are
        computed from one, gcc 12 loses track of what they point to and drops stores."""
        body = self.body(self.f.body, INDENT)
        lets = {self.vars[s.var] for s in statements(self.f.body) if isinstance(s, Let)}
        if not lets <= self.named:  # compilers warn about those: once more, with a word for each
            self.unread = lets - self.named
            body = self.body(self.f.body, INDENT)
        ram = [n for n in self.ram if self.pointers[n] in self.named]
        params = ", ".join(f"{self.type(n)}const {self.pointers[n]}" for n in ram) or "void"
        head = []
        for (kernel, values), c_name in self.params.items():
            head += _wrap(f"static const {kernel}_t {c_name} = {values};", INDENT)
        head += [""] * bool(head)
        text = [*_wrap(f"static EC_NOINLINE EC_CODE void {name}({params})", ""), "{", *head, *body, _BARRIER, "}"]
        return "\n".join(text), "\n".join(_wrap(f"{name}({', '.join(map(self.address, ram))});", INDENT))

    def type(self, n: str) -> str:
        """The type of a pointer to a buffer in the arena; to const where the step does not write it."""
        const = "" if root(self.p, n).name in self.uses.writes else "const "
        return f"{const}{storage(self.p.buffers[n])} *"

    def address(self, n: str) -> str:
        at = address(self.p, root(self.p, n).offset, "arena")
        return at if storage(self.p.buffers[n]) == "uint8_t" else f"(void *)({at})"

    def pointer(self, buffer: str) -> str:
        """The C name of a buffer's first element."""
        self.named.add(self.pointers[buffer])
        return self.pointers[buffer]

    # --- statements ---

    def body(self, body: Sequence[Stmt], indent: str) -> list[str]:
        return [line for s in body for line in self.statement(s, indent, len(body) == 1)]

    def statement(self, s: Stmt, indent: str, alone: bool) -> list[str]:
        """The lines of a statement; `alone`: no other one stands in the same block."""
        match s:
            case For():
                return self.loop(s, indent)
            case If():
                out = [f"{indent}if ({self.text(s.cond)}) {{", *self.body(s.then, indent + INDENT)]
                if s.orelse:
                    out += [f"{indent}}} else {{", *self.body(s.orelse, indent + INDENT)]
                return [*out, f"{indent}}}"]
            case Let():
                const = "" if s.var in self.uses.changed else "const "
                name = self.vars[s.var]
                unused = [f"{indent}(void){name};"] if name in self.unread else []
                return [f"{indent}{const}{C_TYPE[s.dtype]} {name} = {self.text(s.value)};", *unused]
            case Set():
                return [f"{indent}{self.assign(s)};"]
            case Store():
                value = self.text(s.value)
                dtype = self.p.buffers[s.buffer].dtype
                if dtype in WIDE:
                    self.headers.add("ec_types.h")
                if dtype in PACKED:
                    return [f"{indent}ec_store_{STORED[dtype]}({self.pointer(s.buffer)}, {self.text(s.index)}, {value});"]
                if dtype in WIDE:
                    value = f"ec_f32_to_{STORED[dtype]}({value})"
                if dtype == "bool":
                    value = f"(uint8_t)({value})"
                return [f"{indent}{self.pointer(s.buffer)}[{self.text(s.index)}] = {value};"]
            case Call():
                return self.call(s, indent, alone)
        raise TypeError(type(s).__name__)

    def loop(self, s: For, indent: str) -> list[str]:
        var, hi, before = self.vars[s.var], self.text(s.hi), []
        if any(isinstance(x, Load) or isinstance(x, Var) and x.name in self.uses.changed for x in nodes(s.hi)):
            end = self.local(f"{s.var}_end", s)  # the bound is what it was before the first turn
            before, hi = [f"{indent}const int32_t {end} = {hi};"], end
        advance = f"{var}++" if s.step == 1 else f"{var} += {s.step}"
        bound = self.sub(s.hi, _ADD) if not before else hi
        tick = [f"{indent}{INDENT}EC_TICK({self.index}u, {var});"] if s is tick_loop(self.f) else []
        return [*before, f"{indent}for (int32_t {var} = {self.text(s.lo)}; {var} < {bound}; {advance}) {{",
                *self.body(s.body, indent + INDENT), *tick, f"{indent}}}"]

    def assign(self, s: Set) -> str:
        name = self.vars[s.var]
        match s.value:
            case Bin("+", Var(v), rest) if v == s.var and dtype_of(rest) not in NARROW:
                return f"{name} += {self.text(rest)}"
        return f"{name} = {self.text(s.value)}"

    # --- kernel calls ---

    def call(self, s: Call, indent: str, alone: bool) -> list[str]:
        block = not alone and any(isinstance(a, Rows) for a in s.args)
        inner = indent + INDENT * block
        before, args = [], []
        for a in s.args:
            if isinstance(a, Rows):
                name = self.local(f"rows{len(before) or ''}")
                before += self.rows(a, name, inner)
                args.append(name)
            else:
                args.append(self.argument(a))
        key = self.shared.key(s)
        out_of_line = key in self.shared.names
        if s.params and not (out_of_line and len(key) > 1):
            args.insert(0, "&" + self.param_struct(s))
        target = self.shared.names[key] if out_of_line else function(s)
        line = _wrap(f"{target}({', '.join(args)});", inner)
        return [f"{indent}{{", *before, *line, f"{indent}}}"] if block else [*before, *line]

    def param_struct(self, s: Call) -> str:
        key = (function(s), _initialiser(s))
        if key not in self.params:
            self.params[key] = self.names(f"{s.kernel}_params")
        return self.params[key]

    def argument(self, a: Arg) -> str:
        if not isinstance(a, Ref):
            return self.text(a)
        if isinstance(a.index, Const) and a.index.value == 0:
            return self.pointer(a.buffer)
        return f"&{self.pointer(a.buffer)}[{self.text(a.index)}]"

    def rows(self, a: Rows, name: str, indent: str) -> list[str]:
        """The array of row pointers; a row outside the height is the padding."""
        type_ = f"const {storage(self.p.buffers[a.buffer])} *"
        if isinstance(a.first, Const):
            each = ", ".join(self.known_row(a, a.first.value + k * a.step) for k in range(a.count))
            return _wrap(f"{type_}const {name}[{a.count}] = {{{each}}};", indent)
        if a.count == 1:
            return _wrap(f"{type_}const {name}[1] = {{{self.row(a, self.sub(a.first, _UNARY))}}};", indent)
        first, step, r = self.sub(a.first, _ADD), f" * {a.step}" if a.step > 1 else "", self.local("r")
        k = self.local("k")
        return [f"{indent}{type_}{name}[{a.count}];",
                f"{indent}for (int32_t {k} = 0; {k} < {a.count}; {k}++) {{",
                f"{indent}{INDENT}const int32_t {r} = {first} + {k}{step};",
                *self.choice(f"{name}[{k}] = {self.row(a, r)};", indent + INDENT), f"{indent}}}"]

    def choice(self, text: str, indent: str) -> list[str]:
        """A line with a conditional expression, one alternative per line where it is too long."""
        if len(indent) + len(text) <= WIDTH:
            return [indent + text]
        first, *rest = re.split(r" (?=[?:] )", text)
        return [indent + first, *(indent + INDENT + r for r in rest)]

    def known_row(self, a: Rows, r: int) -> str:
        if a.pad and not 0 <= r < a.height:
            return self.pointer(a.pad)
        return f"&{self.pointer(a.buffer)}[{a.base + (r % a.ring if a.ring else r) * a.row}]"

    def row(self, a: Rows, r: str) -> str:
        slot = f"({r} % {a.ring})" if a.ring else r
        inside = f"&{self.pointer(a.buffer)}[{slot} * {a.row}{f' + {a.base}' if a.base else ''}]"
        return f"{r} < 0 || {r} >= {a.height} ? {self.pointer(a.pad)} : {inside}" if a.pad else inside

    def local(self, hint: str, owner: Stmt | None = None) -> str:
        """The name of a local of a statement; without one, of any block of its own."""
        key = (hint, id(owner))
        if key not in self.locals:
            self.locals[key] = self.names(hint)
        return self.locals[key]

    # --- expressions ---

    def text(self, e: Expr) -> str:
        return self.expr(e)[0]

    def sub(self, e: Expr, most: int) -> str:
        """The text of an operand, in parentheses where it binds less than `most`."""
        text, precedence, _ = self.expr(e)
        return text if precedence <= most else f"({text})"

    def expr(self, e: Expr) -> Text:
        match e:
            case Const():
                text = literal(e.value, e.dtype)
                return text, _UNARY if text[0] in "-(" or text.endswith("_MIN") else _ATOM, e.dtype
            case Var():
                self.named.add(self.vars[e.name])
                return self.vars[e.name], _ATOM, e.dtype
            case Load():
                stored = self.p.buffers[e.buffer].dtype
                if stored in WIDE:
                    self.headers.add("ec_types.h")
                if stored in PACKED:
                    return f"ec_load_{STORED[stored]}({self.pointer(e.buffer)}, {self.text(e.index)})", _ATOM, e.dtype
                text = f"{self.pointer(e.buffer)}[{self.text(e.index)}]"
                if stored in WIDE:
                    return f"ec_{STORED[stored]}_to_f32({text})", _ATOM, e.dtype
                return (f"({text} != 0)", _ATOM, "bool") if e.dtype == "bool" else (text, _ATOM, e.dtype)
            case Bin():
                return self.binary(e)
            case Fn():
                return self.function_call(e)
        raise TypeError(type(e).__name__)

    def binary(self, e: Bin) -> Text:
        dtype = dtype_of(e.a)
        if e.op in COMPARISONS:
            decided = measure(e).interval
            if decided != (0, 1):  # by the types alone: compilers warn about that
                return ("true" if decided == (1, 1) else "false"), _ATOM, "bool"
            most = _ADD if e.op not in ("and", "or") else _UNARY
            return f"{self.sub(e.a, most)} {_OPERATOR.get(e.op, e.op)} {self.sub(e.b, most)}", _OTHER, "bool"
        if e.op in ("min", "max"):
            return self.narrowed(self.helper(e.op, dtype, e.a, e.b), _ATOM, dtype)
        if dtype == "bool":
            return f"{self.sub(e.a, _UNARY)} {_ON_BOOL[e.op]} {self.sub(e.b, _UNARY)}", _OTHER, dtype
        if e.op == "<<" and dtype[0] != "u":  # C leaves shifts of negative numbers undefined
            return self.narrowed(f"{self.sub(e.a, _MUL)} * {self.power_of_two(e.b, dtype)}", _MUL, dtype)
        precedence = _PRECEDENCE.get(e.op, _OTHER)
        left = precedence if precedence in (_MUL, _ADD) else _UNARY
        # a + b * c, but a - (b + c): only a product needs no parentheses on the right
        right = _MUL if precedence == _ADD else _UNARY
        wide = "(uint32_t)" if dtype == "uint16" and e.op in ("*", "<<") else ""  # two promoted uint16 may overflow int
        a = f"{wide}{self.sub(e.a, _UNARY)}" if wide else self.sub(e.a, left)
        return self.narrowed(f"{a} {_OPERATOR.get(e.op, e.op)} {self.sub(e.b, right)}", precedence, dtype)

    def power_of_two(self, by: Expr, dtype: str) -> str:
        if isinstance(by, Const):
            return literal(1 << by.value, dtype)
        return f"(({'int64_t' if dtype == 'int64' else 'int32_t'})1 << {self.sub(by, _UNARY)})"

    def helper(self, name: str, dtype: str, *args: Expr) -> str:
        """A call of ec_scalar.h; narrow integers use the int32 one."""
        self.headers.add("ec_double.h" if dtype == "float64" else "ec_scalar.h")
        kind = SHORT["int32" if dtype in NARROW else dtype]
        return f"ec_{name}_{kind}({', '.join(map(self.text, args))})"

    def narrowed(self, text: str, precedence: int, dtype: str) -> Text:
        """C computes narrow integers as int: back to their type."""
        if dtype not in NARROW:
            return text, precedence, dtype
        return f"({C_TYPE[dtype]}){text if precedence <= _UNARY else f'({text})'}", _UNARY, dtype

    def function_call(self, e: Fn) -> Text:
        match e.name:
            case "cast":
                return self.cast(e.args[0], e.dtype)
            case "select":
                cond, a, b = (self.sub(x, _UNARY) for x in e.args)
                return self.narrowed(f"{cond} ? {a} : {b}", _OTHER, e.dtype)
            case "not":
                return f"!{self.sub(e.args[0], _UNARY)}", _UNARY, "bool"
            case "neg":
                minus, precedence = ("0u - ", _ADD) if e.dtype[0] == "u" else ("-", _UNARY)
                return self.narrowed(f"{minus}{self.sub(e.args[0], _ATOM)}", precedence, e.dtype)
            case "abs" if e.dtype[0] == "u":
                return self.expr(e.args[0])
            case "abs" if e.dtype not in REAL:
                return self.narrowed(self.helper("abs", e.dtype, *e.args), _ATOM, e.dtype)
            case _ if e.name in MATH and dtype_of(e.args[0]) == "float64":
                self.headers.add("ec_double.h")
                return f"ec_{DOUBLE.get(e.name, e.name)}({', '.join(map(self.text, e.args))})", _ATOM, e.dtype
            case _ if e.name in MATH:
                self.headers.add("ec_math.h")
                return f"{MATH[e.name]}({', '.join(map(self.text, e.args))})", _ATOM, e.dtype
        raise ValueError(f"unknown function {e.name}")

    def cast(self, x: Expr, dtype: str) -> Text:
        source = dtype_of(x)
        if dtype == "bool":
            return f"{self.sub(x, _ADD)} != {literal(0, source)}", _OTHER, "bool"
        if source in REAL and dtype not in REAL:
            self.headers.add("ec_scalar.h" if source == "float32" else "ec_double.h")
            return f"ec_{SHORT[source]}_to_{SHORT[dtype]}({self.text(x)})", _ATOM, dtype
        plain = source == "int32" and isinstance(x, (Const, Var, Load))
        # gcc 12 may warn about a sum around a cast to uint32
        if dtype == "uint32" and source in ("int8", "int16", "int32") and not plain:
            self.headers.add("ec_scalar.h")
            return f"ec_i32_to_u32({self.text(x)})", _ATOM, dtype
        return f"({C_TYPE[dtype]}){self.sub(x, _UNARY)}", _UNARY, dtype


def _touched(body: Sequence[Stmt]) -> Iterable[str]:
    """Every buffer that statements name, in the order of the text."""
    for s in statements(tuple(body)):
        if isinstance(s, Store):
            yield s.buffer
        for e in expressions(s):
            for x in nodes(e):
                if isinstance(x, (Load, Ref, Rows)):
                    yield x.buffer
                if isinstance(x, Rows) and x.pad:
                    yield x.pad
