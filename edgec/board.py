"""Boards: one TOML file each, strict keys; what a compiler, a linker, an emulator and a flash tool must know."""
from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from . import paths
from .arenas import Room
from .errors import UsageError

ISAS = ("mve", "dsp", "pair", "thumb", "c99")  # pair: kernels of thumb that take 2.5 bytes a weight
KINDS = ("flash", "ram")
HOST = "host"
VARIABLES = 2048  # bytes set aside in the memory `data` besides the stack, where it also holds an arena


@dataclass(frozen=True)
class Memory:
    """name: lower case; origin: address; size: bytes; kind: "flash" (code and constants) or "ram". cycles: of a ram,
    what an access costs; arenas take the memories that have it, or the board's `arena` where none has."""

    name: str
    origin: int
    size: int
    kind: str
    cycles: int = 0

    @property
    def access(self) -> str:
        """The attributes of the region in a linker script."""
        return "rx" if self.kind == "flash" else "rwx"


@dataclass(frozen=True)
class Board:
    """isa: kernel folders, best first. flags: gcc options that choose the core and the ABI; zig_flags: the same for
    `zig cc`. code, data, arena, vectors: names of memories; stack: bytes, reserved in `data`. emulator: a command with
    {elf} and {arguments}, or empty. flash: tool -> command with {elf}, {bin}, {probe}; run: the same with {elf} and
    {words}, the command line of the firmware, of a command that runs the firmware over semihosting; probe: the probe's
    target name.
    The board "host" has no memories and no firmware."""

    name: str
    description: str
    cpu: str
    isa: tuple[str, ...]
    flags: tuple[str, ...] = ()
    zig_flags: tuple[str, ...] = ()
    memories: tuple[Memory, ...] = ()
    code: str = ""
    data: str = ""
    arena: str = ""
    vectors: str = ""
    stack: int = 0
    emulator: tuple[str, ...] = ()
    flash: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    run: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    probe: str = ""

    @property
    def is_host(self) -> bool:
        return self.cpu == HOST

    @property
    def simd(self) -> bool:
        """Some kernels use instructions that plain C has no word for; simd/*_on_host says them in C."""
        return self.isa[0] != "c99"

    def memory(self, name: str) -> Memory:
        return next(m for m in self.memories if m.name == name)

    @property
    def flash_bytes(self) -> int:
        """The size of the memory that holds code and weights; 0 on the host."""
        return self.memory(self.code).size if self.code else 0

    @property
    def ram_bytes(self) -> int:
        """The size of the memory (or two) that holds variables, stack and arena; 0 on the host."""
        return sum(self.memory(m).size for m in {self.data, self.arena, *(r.memory for r in self.rooms)} if m)

    @property
    def rooms(self) -> tuple[Room, ...]:
        """What arenas may take of each memory that has `cycles`, fastest first; empty where none has."""
        ranked = sorted((m for m in self.memories if m.cycles), key=lambda m: m.cycles)
        return tuple(Room(m.name, m.size - (self.stack + VARIABLES) * (m.name == self.data), m.cycles) for m in ranked)


def names() -> list[str]:
    """The boards that edgec knows, sorted, the host first."""
    found = sorted(p.stem for p in paths.data("boards").glob("*.toml"))
    return sorted(found, key=lambda n: n != HOST)


def load(name_or_path: str) -> Board:
    """The board of this name, or of a TOML file (a path ends in ".toml").

    Raises UsageError for an unknown name, an unreadable file, an unknown or missing key, or values that contradict.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if name_or_path not in names():
            raise UsageError(f"unknown board {name_or_path!r}", fix=_suggest(name_or_path, names(), "boards"))
        path = paths.data("boards") / f"{name_or_path}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise UsageError(f"cannot read the board file: {e}", where=str(path),
                         fix="give a board name (edgec boards) or a valid TOML file") from e
    return _board(table, str(path))


_TEXT, _NUMBER, _LIST, _TABLE = "a string", "a whole number >= 0", "a list of strings", "a table"
_KEYS = {"name": _TEXT, "description": _TEXT, "cpu": _TEXT, "isa": _LIST, "flags": _LIST, "zig_flags": _LIST,
         "memories": _TABLE, "code": _TEXT, "data": _TEXT, "arena": _TEXT, "vectors": _TEXT, "stack": _NUMBER,
         "emulator": _LIST, "flash": _TABLE, "run": _TABLE, "probe": _TEXT}
_MEMORY_KEYS = {"kind": _TEXT, "origin": _NUMBER, "size": _NUMBER, "cycles": _NUMBER}
_REQUIRED = ("name", "description", "cpu", "isa")
_REQUIRED_ON_TARGET = ("flags", "memories", "code", "data", "stack")


def _board(table: dict[str, Any], where: str) -> Board:
    _check(table, _KEYS, _REQUIRED, where)
    if table["cpu"] != HOST:
        _check(table, _KEYS, _REQUIRED_ON_TARGET, where)
    memories = tuple(_memory(n, m, where) for n, m in table.get("memories", {}).items())
    tools = {kind: table.get(kind, {}) for kind in ("flash", "run")}
    for kind, commands in tools.items():
        _check(commands, dict.fromkeys(commands, _LIST), (), f"{where} [{kind}]")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    values |= {kind: MappingProxyType({t: tuple(c) for t, c in commands.items()}) for kind, commands in tools.items()}
    values |= {"memories": memories}
    values.setdefault("arena", values.get("data", ""))
    values.setdefault("vectors", values.get("code", ""))
    board = Board(**values)
    _check_places(board, where)
    return board


def _memory(name: str, table: Any, where: str) -> Memory:
    where = f"{where} [memories.{name}]"
    if not isinstance(table, dict):
        raise UsageError(f"memory {name!r} must be a table", where=where, fix="write kind, origin and size")
    _check(table, _MEMORY_KEYS, ("kind", "origin", "size"), where)
    if table.get("cycles") and table["kind"] != "ram":
        raise UsageError(f"memory {name!r} has cycles, but is no ram", where=where, fix="remove cycles")
    return Memory(name, table["origin"], table["size"], table["kind"], table.get("cycles", 0))


def _check(table: dict[str, Any], keys: dict[str, str], required: Iterable[str], where: str) -> None:
    """UsageError for an unknown key, a missing key or a value of the wrong kind."""
    for key, value in table.items():
        if key not in keys:
            raise UsageError(f"unknown key {key!r}", where=where, fix=_suggest(key, list(keys), "keys"))
        if not _is(value, keys[key]):
            raise UsageError(f"key {key!r} must be {keys[key]}, not {value!r}", where=where, fix="correct the value")
    for key in required:
        if key not in table:
            raise UsageError(f"key {key!r} is missing", where=where, fix=f"add {key} = ({keys[key]})")


def _is(value: Any, kind: str) -> bool:
    if kind == _NUMBER:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if kind == _LIST:
        return isinstance(value, list) and all(isinstance(v, str) for v in value)
    return isinstance(value, dict if kind == _TABLE else str)


def _check_places(board: Board, where: str) -> None:
    """UsageError where an isa, a memory kind or a memory name is not one of those that exist."""
    known = [m.name for m in board.memories]
    choices = [("isa", isa, list(ISAS)) for isa in board.isa]
    choices += [("kind", m.kind, list(KINDS)) for m in board.memories]
    if not board.is_host:
        choices += [(key, getattr(board, key), known) for key in ("code", "data", "arena", "vectors")]
    for key, value, allowed in choices:
        if value not in allowed:
            raise UsageError(f"{key} = {value!r} does not exist", where=where, fix=_suggest(value, allowed, "choices"))
    if not board.isa or board.isa[-1] != "c99":
        raise UsageError("isa must end with 'c99', which every kernel has", where=where, fix='isa = ["c99"]')
    if board.stack % 8:
        raise UsageError(f"stack = {board.stack} is not a multiple of 8", where=where, fix="round it up")


def _suggest(word: str, known: list[str], what: str) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    listing = f"{what}: {', '.join(known)}"
    return f"did you mean {near[0]!r}? {listing}" if near else listing
