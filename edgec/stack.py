"""The worst-case stack of functions in a firmware, from the machine code of its ELF file.

The code is walked along all its paths, whatever the data: jumps, calls, both sides of every branch. That covers the
compiler's own arithmetic and our assembler functions, of which the compiler reports no frame, and any compiler. What
it reports (frames) is a second opinion: no function may be seen to use less. Assumed: a function returns with the
stack pointer it got (checked) and does not overwrite its return address; a jump table stays within its function, at
the depth of the jump. Interrupts and exceptions are not part of a bound.
"""
from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from . import thumb
from .errors import ToolchainError
from .thumb import LR, RETURN_ADDRESS, Go, Refusal, State, Value


@dataclass(frozen=True)
class StackBound:
    """bytes: the most that a call of the function, with all it calls, has on the stack; None where that cannot be
    told. path: the functions on the deepest stack, the outermost first. reason: why there is no bound."""

    bytes: int | None
    path: tuple[str, ...] = ()
    reason: str | None = None


def bound(elf: Path, entry: str, frames: Mapping[str, int] | None = None, without: Iterable[str] = ()) -> StackBound:
    """The bound of one function; see `bounds`."""
    return bounds(elf, [entry], frames, without)[entry]


def bounds(elf: Path, entries: Iterable[str], frames: Mapping[str, int] | None = None,
           without: Iterable[str] = ()) -> dict[str, StackBound]:
    """entry -> the bound of that function in an ELF file for Cortex-M with symbols.

    frames: bytes by function as gcc's -fstack-usage reports them. without: functions that are taken to do nothing, as
    the model's hook does by default. Recursion, calls through pointers, frames of variable size and missing functions
    give a reason in place of a bound. Raises ToolchainError where the file is not a 32-bit little-endian ELF.
    """
    program = _read(elf)
    nothing = {program.names[n]: _Worst(0, (n,), True) for n in without if n in program.names}
    analysis = _Analysis(program, frames or {}, nothing)
    return {entry: analysis.bound(entry) for entry in entries}


# --- the program ----------------------------------------------------------------------------------------


class _Function(NamedTuple):
    start: int
    end: int
    name: str


@dataclass(frozen=True)
class _Program:
    """code: (address, contents) of the executable sections. functions: by address, aliases as one. names: address by
    name. marks: (address, whether code and not data begins there), by address."""

    code: tuple[tuple[int, bytes], ...]
    functions: tuple[_Function, ...]
    names: Mapping[str, int]
    marks: tuple[tuple[int, bool], ...]

    def halfword(self, at: int) -> int:
        for start, contents in self.code:
            if start <= at < start + len(contents) - 1:
                return contents[at - start] | contents[at - start + 1] << 8
        raise Refusal("goes on outside the code")

    def function_at(self, at: int) -> _Function:
        i = bisect_right(self.functions, at, key=lambda f: f.start) - 1
        if i < 0 or at >= self.functions[i].end:
            raise Refusal("goes on outside the functions")
        return self.functions[i]

    def is_code(self, at: int) -> bool:
        i = bisect_right(self.marks, at, key=lambda m: m[0]) - 1
        return i >= 0 and self.marks[i][1]


_SYMTAB, _PROGBITS, _EXECUTABLE, _FUNC = 2, 1, 4, 2


def _read(path: Path) -> _Program:
    raw = Path(path).read_bytes()
    if raw[:6] != b"\x7fELF\x01\x01":
        raise ToolchainError("not a 32-bit little-endian ELF file", where=str(path),
                             fix="check that the compiler is one for ARM (edgec doctor)")
    offset, = struct.unpack_from("<I", raw, 32)
    size, count = struct.unpack_from("<HH", raw, 46)
    headers = [struct.unpack_from("<10I", raw, offset + i * size) for i in range(count)]
    code = tuple((h[3], raw[h[4]:h[4] + h[5]]) for h in headers if h[1] == _PROGBITS and h[2] & _EXECUTABLE)
    symbols = [s for h in headers if h[1] == _SYMTAB for s in _symbols(raw, h, headers[h[6]][4])]
    marks = sorted({(s.start, s.name[1] == "t") for s in symbols if re.match(r"\$[td](\.|$)", s.name)})
    found = [s for s in symbols if s.function]
    return _Program(code, _functions(found, code), {s.name: s.start & ~1 for s in found}, tuple(marks))


class _Symbol(NamedTuple):
    name: str
    start: int
    size: int
    function: bool


def _symbols(raw: bytes, table: tuple[int, ...], strings: int) -> list[_Symbol]:
    found = []
    for at in range(table[4], table[4] + table[5], 16):
        name, value, size, info, _, section = struct.unpack_from("<IIIBBH", raw, at)
        text = raw[strings + name:raw.index(0, strings + name)].decode("ascii", "replace")
        if section:
            found.append(_Symbol(text, value, size, info & 15 == _FUNC))
    return found


def _functions(symbols: list[_Symbol], code: tuple[tuple[int, bytes], ...]) -> tuple[_Function, ...]:
    """Assembler functions may have no size: they end where the next one begins. Of aliases the largest is taken."""
    best: dict[int, _Symbol] = {}
    for s in sorted(symbols, key=lambda s: (-s.size, s.name.startswith("."), s.name)):
        best.setdefault(s.start & ~1, s)
    starts = sorted(best)
    limits = [*starts[1:], max((a + len(c) for a, c in code), default=0)]
    return tuple(_Function(at, min(limit, at + best[at].size) if best[at].size else limit, best[at].name)
                 for at, limit in zip(starts, limits, strict=True))


# --- the walk -------------------------------------------------------------------------------------------


class _NoBound(Exception):
    """The reason in full."""


class _Worst(NamedTuple):
    """bytes, path: as in StackBound; returns: whether it ever comes back."""

    bytes: int
    path: tuple[str, ...]
    returns: bool


@dataclass
class _Analysis:
    """done: what functions need, by address; open: those that wait for their callees."""

    program: _Program
    frames: Mapping[str, int]
    done: dict[int, _Worst]
    open: list[_Function] = field(default_factory=list)

    def bound(self, entry: str) -> StackBound:
        if entry not in self.program.names:
            return StackBound(None, reason=f"there is no function {entry}")
        self.open.clear()  # of an entry that got no bound
        try:
            worst = self.worst(self.program.function_at(self.program.names[entry]))
        except _NoBound as e:
            return StackBound(None, reason=str(e))
        return StackBound(worst.bytes, (entry, *worst.path[1:]))

    def worst(self, function: _Function) -> _Worst:
        if function in self.open:
            names = [f.name for f in self.open[self.open.index(function):]]
            raise _NoBound(f"recursion: {' > '.join([*names, function.name])}")
        if function.start not in self.done:
            self.open.append(function)
            walk = _Walk(self, function)
            walk.run()
            self._compare(function, walk.own)
            self.done[function.start] = _Worst(walk.bytes, walk.path, walk.returns)
            self.open.pop()
        return self.done[function.start]

    def _compare(self, function: _Function, seen: int) -> None:
        """gcc leaves the number off the names of clones; where a name is not unique, it cannot be compared."""
        plain = re.sub(r"\.\d+$", "", function.name)
        alike = sum(re.sub(r"\.\d+$", "", name) == plain for name in self.program.names)
        reported = self.frames.get(function.name, self.frames.get(plain, 0))
        if alike == 1 and reported > seen:
            raise _NoBound(f"{function.name} has a frame of {reported} bytes for the compiler, {seen} in its code")


_Place = tuple[int, int, int]  # address, depth, number of instructions from here on that may be skipped
# gcc's jump tables in small code for ARMv6-M: the table follows the call. The helper saves two registers at most.
_TABLE_HELPER, _TABLE_HELPER_BYTES = "__gnu_thumb1_case_", 8
_NO_OPERATION = (0x46C0, 0xBF00)
_MOST_DEPTHS = 16  # of one instruction; more means that the stack grows in a loop


class _Walk:
    """All paths through one function. What is known at a place is what holds on every path to it."""

    def __init__(self, analysis: _Analysis, function: _Function):
        self.analysis, self.program, self.function = analysis, analysis.program, function
        self.bytes, self.path, self.own, self.returns = 0, (function.name,), 0, False
        self.known: dict[_Place, dict[int, Value]] = {}
        self.depths: dict[int, set[int]] = {}
        self.to_do: list[_Place] = []
        self.covered: set[int] = set()
        self.tables: dict[_Function, dict[int, dict[int, Value]]] = {}  # by function and depth: what is known there
        self.entered: dict[_Function, list[int]] = {}

    def run(self) -> None:
        self._add(self.function.start, 0, 0, {LR: RETURN_ADDRESS})
        while self.to_do or self._enter_tables():
            place = self.to_do.pop()
            try:
                self._step(place)
            except Refusal as e:
                raise _NoBound(f"{self._name(place[0])} {e} at 0x{place[0]:08x}") from e

    def _step(self, place: _Place) -> None:
        at, depth, skippable = place
        if not self.program.is_code(at):
            raise Refusal("runs into data")
        size = thumb.length(self.program.halfword(at))
        self.covered.update(range(at, at + size, 2))
        state = State(depth, dict(self.known[place]))
        flow = thumb.execute(self.program.halfword, at, state)
        self._deepen(state.depth, (self._name(at),))
        self._follow(flow, at, size, max(0, skippable - 1), state)
        if skippable:
            self._add(at + size, depth, skippable - 1, self.known[place])

    def _follow(self, flow: thumb.Flow, at: int, size: int, skippable: int, state: State) -> None:
        go = flow.go
        if go is Go.CALL:
            go = self._call(flow.to, at, state)
        if go is Go.IT:
            skippable = flow.to
        if go in (Go.ON, Go.IT, Go.BRANCH):
            self._add(at + size, state.depth, skippable, dict(state.known))
        if go in (Go.JUMP, Go.BRANCH):
            self._jump(flow.to, at, state)
        elif go is Go.RETURN:
            self._return(state)
        elif go is Go.COMPUTED:
            self._computed(self.program.function_at(at), state)

    def _call(self, to: int, at: int, state: State) -> Go:
        """Into the middle of the same function, it is ARMv6-M's way to jump far, as lr was saved; or in assembler a
        subroutine, whose return is a jump then."""
        target = self.program.function_at(to)
        if to != target.start:
            if target != self.program.function_at(at):
                raise Refusal(f"calls into the middle of {target.name}")
            state.put(LR, Value("number", at + 4))
            return Go.JUMP
        thumb.after_call(state)
        if target.name.startswith(_TABLE_HELPER):
            self._deepen(state.depth + _TABLE_HELPER_BYTES, (target.name,))
            return Go.COMPUTED
        callee = self.analysis.worst(target)
        self._deepen(state.depth + callee.bytes, callee.path)
        return Go.ON if callee.returns else Go.STOP

    def _jump(self, to: int, at: int, state: State) -> None:
        """Within the function, or to another one in place of a call and a return."""
        target = self.program.function_at(to)
        last = state.depth == 0 and state.get(LR) == RETURN_ADDRESS
        if to == target.start and target != self.program.function_at(at) and last:
            callee = self.analysis.worst(target)
            self._deepen(callee.bytes, callee.path)
            self.returns |= callee.returns
        else:
            self._add(to, state.depth, 0, dict(state.known))

    def _return(self, state: State) -> None:
        if state.depth:
            raise Refusal(f"returns with {state.depth} bytes left on the stack")
        self.returns = True

    def _add(self, at: int, depth: int, skippable: int, known: dict[int, Value]) -> None:
        self.program.function_at(at)  # refuses where no function is
        place = (at, depth, skippable)
        merged = _both(self.known.get(place, known), known)
        if self.known.get(place) == merged:
            return
        depths = self.depths.setdefault(at, set())
        depths.add(depth)
        if len(depths) > _MOST_DEPTHS:
            raise Refusal("lets the stack grow in a loop")
        self.known[place] = merged
        self.to_do.append(place)

    def _computed(self, function: _Function, state: State) -> None:
        tables = self.tables.setdefault(function, {})
        tables[state.depth] = _both(tables.get(state.depth, state.known), state.known)
        for at in self.entered.get(function, ()):
            self._add(at, state.depth, 0, tables[state.depth])

    def _enter_tables(self) -> bool:
        """Jump tables lead to the code that nothing else has reached: goes on at its beginning, at the depth of each
        table of the function."""
        for function, tables in self.tables.items():
            for at in range(function.start, function.end, 2):
                if at not in self.covered and self.program.is_code(at) and not self._is_padding(at, function):
                    self.entered.setdefault(function, []).append(at)
                    for depth, known in tables.items():
                        self._add(at, depth, 0, known)
                    return True
        return False

    def _is_padding(self, at: int, function: _Function) -> bool:
        """No-operations that fill up to data or to the end."""
        while at < function.end and self.program.is_code(at):
            if self.program.halfword(at) not in _NO_OPERATION:
                return False
            at += 2
        return True

    def _deepen(self, depth: int, inner: tuple[str, ...]) -> None:
        name = self.function.name
        if inner == (name,):
            self.own = max(self.own, depth)
        if depth > self.bytes:
            self.bytes, self.path = depth, inner if inner[0] == name else (name, *inner)

    def _name(self, at: int) -> str:
        return self.program.function_at(at).name


def _both(a: dict[int, Value], b: dict[int, Value]) -> dict[int, Value]:
    return {k: v for k, v in a.items() if b.get(k) == v}
