"""What a Thumb instruction does to the stack pointer and where it goes on: enough of a decoder to bound the stack.

Little else is followed: numbers and stack addresses on their way into sp, and the return address. ARMv6-M to
ARMv8.1-M as compilers and our assembler use them; what may write sp in a way not understood is refused.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

SP, LR, PC = 13, 14, 15
_CALLER_SAVED = (0, 1, 2, 3, 12, LR)
_MASK = 0xFFFFFFFF


class Refusal(Exception):
    """Why no bound can be given; the text begins with a verb whose subject is the function."""


class Value(NamedTuple):
    """What a register or a word of the stack is known to hold: "number" amount, "stack" (the address `amount` bytes
    below sp at the function's entry), or "return" (the address to return to)."""

    kind: str
    amount: int = 0


RETURN_ADDRESS = Value("return")


class Go(Enum):
    """Where control goes after an instruction."""

    ON = "on"
    JUMP = "jump"
    BRANCH = "branch"  # a jump or on
    CALL = "call"
    RETURN = "return"
    COMPUTED = "computed"  # to a place within the function that only the running program knows
    STOP = "stop"
    IT = "it"  # on, and each of the next `to` instructions may be skipped


class Flow(NamedTuple):
    go: Go
    to: int = 0


_ON = Flow(Go.ON)


@dataclass
class State:
    """depth: bytes that sp lies below its value at the function's entry. known: by register number, or by minus the
    depth at which a word of the stack begins."""

    depth: int = 0
    known: dict[int, Value] = field(default_factory=dict)

    def get(self, register: int) -> Value | None:
        return Value("stack", self.depth) if register == SP else self.known.get(register)

    def put(self, register: int, value: Value | None) -> None:
        """Writes a register other than pc. Raises Refusal where sp would not be known any more."""
        if register == SP:
            if value is None or value.kind != "stack":
                raise Refusal("moves the stack pointer by an amount that is not constant")
            self._move(value.amount)
        else:
            self._set(register, value)

    def forget(self, *registers: int) -> None:
        for register in registers:
            self.known.pop(register, None)

    def push(self, registers: list[int]) -> None:
        values = [self.get(r) for r in registers]
        self._move(self.depth + 4 * len(registers))
        for i, value in enumerate(values):
            self._set(4 * i - self.depth, value)

    def pop(self, registers: list[int]) -> Flow:
        values = [self.known.get(4 * i - self.depth) for i in range(len(registers))]
        self._move(self.depth - 4 * len(registers))
        return self._load(registers, values)

    def access(self, base: int, offset: int, index: bool, write_back: bool, load: bool, registers: list[int]) -> Flow:
        """A load or store of words at base + offset (base, where not `index`), after which base may have moved."""
        start = self.get(base)
        moved = add(start, Value("number", offset))
        place = moved if index else start
        at = -place.amount if place is not None and place.kind == "stack" else None
        if not load and at is not None and write_back and base == SP and index:
            self._move(-at)  # the room is made before it is filled
        if load:
            values = [self.known.get(at + 4 * i) if at is not None else None for i in range(len(registers))]
        elif at is not None:
            for i, register in enumerate(registers):
                self._set(at + 4 * i, self.get(register))
        if write_back:
            self.put(base, moved)
        return self._load(registers, values) if load else _ON

    def _load(self, registers: list[int], values: list[Value | None]) -> Flow:
        flow = _ON
        for register, value in zip(registers, values, strict=True):
            if register == PC:
                flow = leave(value)
            else:
                self.put(register, value)
        return flow

    def _move(self, depth: int) -> None:
        if depth < 0:
            raise Refusal("takes more from the stack than it put there")
        self.depth = depth
        self.forget(*[k for k in self.known if k < -depth])  # words below sp are nobody's

    def _set(self, key: int, value: Value | None) -> None:
        if value is None:
            self.known.pop(key, None)
        else:
            self.known[key] = value


def add(a: Value | None, b: Value | None, sign: int = 1) -> Value | None:
    """a + b, or a - b with sign -1, where that is known."""
    if a is None or b is None or b.kind == "return" or a.kind == "return":
        return None
    if b.kind == "stack":
        return add(b, a) if sign == 1 and a.kind == "number" else None
    amount = sign * b.amount
    if a.kind == "number":
        return Value("number", (a.amount + amount) & _MASK)
    return Value("stack", a.amount - ((amount + 0x80000000 & _MASK) - 0x80000000))


def leave(target: Value | None) -> Flow:
    """pc is loaded with a value: back to the caller, to a known address, or (jump tables) within the function."""
    if target is None or target.kind == "stack":
        return Flow(Go.COMPUTED)
    return Flow(Go.RETURN) if target.kind == "return" else Flow(Go.JUMP, target.amount & ~1)


def length(halfword: int) -> int:
    """Bytes of the instruction that begins with this halfword."""
    return 4 if halfword >> 11 in (0b11101, 0b11110, 0b11111) else 2


def execute(read: Callable[[int], int], at: int, state: State) -> Flow:
    """Carries out the instruction at address `at` on `state`. read: the halfword at an address.

    Raises Refusal where the instruction makes a bound impossible.
    """
    first = read(at)
    if length(first) == 2:
        return _short(first, at, state, read)
    return _long(first, read(at + 2), at, state, read)


def after_call(state: State) -> None:
    """What a called function leaves: everything but the registers that it may overwrite."""
    state.forget(*_CALLER_SAVED)


# --- 16 bits ----------------------------------------------------------------------------------------


def _short(h: int, at: int, s: State, read: Callable[[int], int]) -> Flow:
    low, middle, high = h & 7, h >> 3 & 7, h >> 8 & 7
    top = h >> 12
    if top == 0xD:
        return _conditional(h, at)
    if h >> 11 == 0b11100:
        return Flow(Go.JUMP, at + 4 + _signed(h << 1, 12))
    if top == 0xB:
        return _miscellaneous(h, at, s)
    if 0x44 <= h >> 8 <= 0x47:
        return _high_registers(h, s)
    if top == 0xC:
        s.forget(high, *(_registers(h & 0xFF) if h & 0x800 else ()))
    elif top == 0xA:
        s.put(high, add(s.get(SP) if h & 0x800 else _base(at), Value("number", 4 * (h & 0xFF))))
    elif top == 9:
        return s.access(SP, 4 * (h & 0xFF), True, False, bool(h & 0x800), [high])
    elif h >> 11 == 0b01001:
        s.put(high, _literal(read, _base(at).amount + 4 * (h & 0xFF)))
    elif h >> 11 == 0b00100:
        s.put(high, Value("number", h & 0xFF))
    elif h >> 12 == 3:
        s.put(high, add(s.get(high), Value("number", h & 0xFF), -1 if h & 0x800 else 1))
    elif h >> 11 == 0:
        s.put(low, _shifted(s.get(middle), h >> 6 & 31))
    elif h >> 10 == 6:
        s.put(low, add(s.get(middle), s.get(h >> 6 & 7), -1 if h & 0x200 else 1))
    elif h >> 6 == 0x109:  # negation
        s.put(low, add(Value("number", 0), s.get(middle), -1))
    elif not _only_reads(h):
        s.forget(low)
    return _ON


def _only_reads(h: int) -> bool:
    """Comparisons of a register with a number, and stores."""
    return h >> 11 == 0b00101 or (h >> 12 == 5 and h >> 9 & 7 < 3) or (h >> 12 in (6, 7, 8) and not h & 0x800)


def _conditional(h: int, at: int) -> Flow:
    condition = h >> 8 & 15
    if condition == 14:
        return Flow(Go.STOP)
    if condition == 15:
        raise Refusal("makes a supervisor call")
    return Flow(Go.BRANCH, at + 4 + _signed(h << 1, 9))


def _miscellaneous(h: int, at: int, s: State) -> Flow:
    if h >> 8 == 0xB0:
        s.put(SP, add(s.get(SP), Value("number", 4 * (h & 0x7F)), -1 if h & 0x80 else 1))
    elif h >> 9 == 0b1011010:
        s.push(_registers(h & 0xFF | (h & 0x100) << 6))
    elif h >> 9 == 0b1011110:
        return _no_table(s.pop(_registers(h & 0xFF | (h & 0x100) << 7)))
    elif h & 0xF500 == 0xB100:
        return Flow(Go.BRANCH, at + 4 + (h >> 3 & 0x40 | h >> 2 & 0x3E))
    elif h >> 8 == 0xBF:
        mask = h & 15
        return Flow(Go.IT, 4 - ((mask & -mask).bit_length() - 1)) if mask else _ON
    elif h >> 8 != 0xBE:
        s.forget(h & 7)
    return _ON


def _high_registers(h: int, s: State) -> Flow:
    kind, to, source = h >> 8 & 3, h >> 4 & 8 | h & 7, h >> 3 & 15
    if kind == 1:
        return _ON
    if kind == 3:
        flow = leave(s.get(source))
        if flow.go is Go.COMPUTED or (h & 0x80 and flow.go is Go.RETURN):
            raise Refusal("calls through a pointer")
        return Flow(Go.CALL, flow.to) if h & 0x80 else flow
    value = None if source == PC else s.get(source)
    if kind == 0:
        value = add(s.get(to), value) if to != PC else None
    if to == PC:
        return leave(value)
    s.put(to, value)
    return _ON


# --- 32 bits ----------------------------------------------------------------------------------------


def _long(h: int, g: int, at: int, s: State, read: Callable[[int], int]) -> Flow:
    if h >> 9 == 0b1110100:
        return _dual_or_exclusive(h, g, s) if h & 0x40 else _multiple(h, g, s)
    if h >> 9 == 0b1110101:
        return _shifted_register(h, g, s)
    if h >> 9 == 0b1111100:
        return _single(h, g, at, s, read)
    if h >> 11 == 0b11110:
        return _branches(h, g, at, s) if g & 0x8000 else _immediate(h, g, s)
    if h >> 10 in (0b111011, 0b111111):
        return _coprocessor(h, g, s)
    s.forget(g >> 12, g >> 8 & 15)  # multiplications, shifts, extensions
    return _ON


def _multiple(h: int, g: int, s: State) -> Flow:
    base, write_back, load = h & 15, bool(h & 0x20), bool(h & 0x10)
    registers, rising = _registers(g), h >> 7 & 3 == 1
    if base == SP and write_back:
        if load != rising:
            raise Refusal("moves the stack pointer in an unusual way")
        if not load:
            s.push(registers)
            return _ON
        return _no_table(s.pop(registers))
    if load and PC in registers:
        raise Refusal("loads the program counter in an unusual way")
    s.forget(*(registers if load else ()), *((base,) if write_back else ()))
    return _ON


def _dual_or_exclusive(h: int, g: int, s: State) -> Flow:
    base, write_back = h & 15, bool(h & 0x20)
    if h & 0x120:  # two words
        offset = 4 * (g & 0xFF) * (1 if h & 0x80 else -1)
        return s.access(base, offset, bool(h & 0x100), write_back, bool(h & 0x10), [g >> 12, g >> 8 & 15])
    if h & 0xFFF0 == 0xE8D0 and g & 0xFFE0 == 0xF000:  # a table of distances
        return Flow(Go.COMPUTED)
    s.forget(g >> 12, g >> 8 & 15, g & 15)
    return _ON


def _shifted_register(h: int, g: int, s: State) -> Flow:
    base, to, other, shift = h & 15, g >> 8 & 15, g & 15, g & 0xF0F0
    operation, value = h >> 5 & 15, None
    if shift == 0:
        if operation == 2 and base == PC:
            value = s.get(other)
        elif operation in (8, 13):
            value = add(s.get(base), s.get(other), 1 if operation == 8 else -1)
    if h >> 4 == 0xEA5 and g & 0x800F == 15:
        s.forget(base, base & 14)  # a long shift of ARMv8.1-M: two registers, or the first one alone
    if to != PC:  # else a comparison
        s.put(to, value)
    return _ON


def _immediate(h: int, g: int, s: State) -> Flow:
    base, to = h & 15, g >> 8 & 15
    plain = (h >> 10 & 1) << 11 | (g >> 12 & 7) << 8 | g & 0xFF
    value = None
    if h & 0x200:
        operation = h >> 4 & 31
        if operation in (0, 10) and base != PC:
            value = add(s.get(base), Value("number", plain), 1 if operation == 0 else -1)
        elif operation == 4:
            value = Value("number", base << 12 | plain)
        elif operation == 12 and (old := s.get(to)) is not None and old.kind == "number":
            value = Value("number", old.amount & 0xFFFF | (base << 12 | plain) << 16)
    else:
        operation, number = h >> 5 & 15, _expanded(plain)
        if operation in (8, 13):
            value = add(s.get(base), Value("number", number), 1 if operation == 8 else -1)
        elif base == PC and operation in (2, 3):
            value = Value("number", number if operation == 2 else ~number & _MASK)
    if to != PC:  # else a comparison
        s.put(to, value)
    return _ON


def _branches(h: int, g: int, at: int, s: State) -> Flow:
    if g & 0x1000:
        sign = h >> 10 & 1
        j1, j2 = (g >> 13 & 1) ^ sign ^ 1, (g >> 11 & 1) ^ sign ^ 1
        to = at + 4 + _signed(sign << 24 | j1 << 23 | j2 << 22 | (h & 0x3FF) << 12 | (g & 0x7FF) << 1, 25)
        return Flow(Go.CALL if g & 0x4000 else Go.JUMP, to)
    if g & 0x4000:
        return _hardware_loop(h, g, at, s)
    if h >> 7 & 7 != 7:
        offset = (h & 0x400) << 10 | (g & 0x800) << 8 | (g & 0x2000) << 5 | (h & 0x3F) << 12 | (g & 0x7FF) << 1
        return Flow(Go.BRANCH, at + 4 + _signed(offset, 21))
    if h & 0xFFE0 == 0xF3E0:
        s.forget(g >> 8 & 15)
    elif h & 0xFFE0 == 0xF380 and g & 0x7F in (8, 9, 20):
        raise Refusal("changes to another stack")
    elif h & 0xFFF0 == 0xF7F0:
        return Flow(Go.STOP)
    return _ON


def _hardware_loop(h: int, g: int, at: int, s: State) -> Flow:
    """The loop instructions of ARMv8.1-M, which count in lr."""
    if h & 0xFFC0 == 0xF000 and g == 0xE801:  # a vector predicate
        return _ON
    distance = (g >> 1 & 0x3FF) << 2 | (g >> 11 & 1) << 1
    s.forget(LR)
    if h in (0xF00F, 0xF01F, 0xF02F) and g & 0xF001 == 0xC001:
        return Flow(Go.BRANCH, at + 4 - distance)
    starts = h & 0xFFF0 == 0xF040 or (h & 0xFFC0 == 0xF000 and h & 15 != 15)  # the latter: of so many vector lanes
    if starts and g & 0xF001 == 0xC001:
        return Flow(Go.BRANCH, at + 4 + distance)
    if starts and g == 0xE001:
        return _ON
    raise Refusal(f"has an instruction that is not understood, {h:04x} {g:04x},")


def _single(h: int, g: int, at: int, s: State, read: Callable[[int], int]) -> Flow:
    base, register, load, word = h & 15, g >> 12, bool(h & 0x10), h >> 5 & 3 == 2 and not h & 0x100
    if load and register == PC and not word:
        return _ON  # a hint for the cache
    index, write_back, offset = True, False, None
    if base == PC:
        value = _literal(read, _base(at).amount + (g & 0xFFF) * (1 if h & 0x80 else -1)) if word else None
        return s._load([register], [value])
    if h & 0x80:
        offset = g & 0xFFF
    elif g & 0x800:
        offset = (g & 0xFF) * (1 if g & 0x200 else -1)
        index, write_back = bool(g & 0x400), bool(g & 0x100)
    if offset is None or not word:
        if write_back:
            s.put(base, add(s.get(base), Value("number", offset or 0)))
        return s._load([register], [None]) if load else _ON
    flow = s.access(base, offset, index, write_back, load, [register])
    return _no_table(flow) if base == SP and write_back else flow


def _coprocessor(h: int, g: int, s: State) -> Flow:
    """Floating point; of the vector extension only that it does not move sp."""
    base, load, floating = h & 15, bool(h & 0x10), g >> 9 & 7 == 5
    if h & 0x220 == 0x20:  # registers to or from memory; the base moves
        if base != SP:
            s.forget(base)
        elif load != bool(h & 0x80) or not floating:
            raise Refusal("moves the stack pointer in an unusual way")
        else:
            s.put(SP, add(s.get(SP), Value("number", 4 * (g & 0xFF)), 1 if load else -1))
    elif not floating:
        s.forget(base, g >> 12, g >> 8 & 15)
    elif load and h & 0x3E0 == 0x40:  # to two core registers
        s.forget(g >> 12, base)
    elif load and h & 0x300 == 0x200 and g & 0x10:  # to one
        s.forget(g >> 12)
    return _ON


# --- small parts --------------------------------------------------------------------------------------


def _no_table(flow: Flow) -> Flow:
    """Nobody keeps a jump table on top of the stack: what is taken from there must be known."""
    if flow.go is Go.COMPUTED:
        raise Refusal("returns to an address that is not its caller's")
    return flow


def _registers(mask: int) -> list[int]:
    return [i for i in range(16) if mask >> i & 1]


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (value >> bits - 1 << bits)


def _shifted(value: Value | None, left: int) -> Value | None:
    if left == 0 or value is None:
        return value
    return Value("number", value.amount << left & _MASK) if value.kind == "number" else None


def _base(at: int) -> Value:
    """pc as the base of an address."""
    return Value("number", at + 4 & ~3)


def _literal(read: Callable[[int], int], at: int) -> Value:
    return Value("number", read(at) | read(at + 2) << 16)


def _expanded(plain: int) -> int:
    """A modified immediate constant of 12 bits."""
    byte = plain & 0xFF
    if plain >> 10 == 0:
        return (byte, byte << 16 | byte, byte << 24 | byte << 8, byte * 0x01010101)[plain >> 8]
    rotation, value = plain >> 7, 0x80 | plain & 0x7F
    return (value >> rotation | value << 32 - rotation) & _MASK
