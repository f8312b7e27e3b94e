"""Reads the 32-bit little-endian ELF files that a linker for Cortex-M writes, and makes flat images of them."""
from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from .errors import ToolchainError

_ALLOC, _NOBITS, _SYMTAB, _LOAD = 2, 8, 2, 1
_OBJECT, _FUNC = 1, 2


@dataclass(frozen=True)
class Section:
    """An allocated section: address and size in bytes; `loaded` where the image carries its contents."""

    name: str
    address: int
    size: int
    loaded: bool


@dataclass(frozen=True)
class Symbol:
    """A function or object: size in bytes, the section that holds it, its address (bit 0 set for Thumb code)."""

    name: str
    size: int
    section: str
    address: int


@dataclass(frozen=True)
class Elf:
    """segments: (load address, contents), by address."""

    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    segments: tuple[tuple[int, bytes], ...]


def read(path: Path) -> Elf:
    """The allocated sections, the functions and objects (largest first) and the loadable contents of an ELF file.

    Raises ToolchainError where the file is not a 32-bit little-endian ELF.
    """
    raw = path.read_bytes()
    if raw[:6] != b"\x7fELF\x01\x01":
        raise ToolchainError("the linker's output is not a 32-bit little-endian ELF file", where=str(path),
                             fix="check that the compiler is one for ARM (edgec doctor)")
    phoff, shoff = struct.unpack_from("<II", raw, 28)
    phentsize, phnum, shentsize, shnum, shstrndx = struct.unpack_from("<HHHHH", raw, 42)
    headers = [struct.unpack_from("<10I", raw, shoff + i * shentsize) for i in range(shnum)]
    names = [_text(raw, headers[shstrndx][4] + h[0]) for h in headers]
    sections = tuple(Section(n, h[3], h[5], h[1] != _NOBITS)
                     for n, h in zip(names, headers, strict=True) if h[2] & _ALLOC and h[5])
    programs = [struct.unpack_from("<8I", raw, phoff + i * phentsize) for i in range(phnum)]
    segments = sorted((p[3], raw[p[1]:p[1] + p[4]]) for p in programs if p[0] == _LOAD and p[4])
    symbols = [s for h in headers if h[1] == _SYMTAB for s in _symbols(raw, h, headers, names)]
    return Elf(sections, tuple(sorted(symbols, key=lambda s: (-s.size, s.name))), tuple(segments))


def _symbols(raw: bytes, table: tuple[int, ...], headers: list[tuple[int, ...]], names: list[str]) -> list[Symbol]:
    strings = headers[table[6]][4]
    found = []
    for at in range(table[4], table[4] + table[5], 16):
        name, value, size, info, _, section = struct.unpack_from("<IIIBBH", raw, at)
        if info & 15 in (_OBJECT, _FUNC) and size and section < len(names):
            found.append(Symbol(_text(raw, strings + name), size, names[section], value))
    return found


def _text(raw: bytes, at: int) -> str:
    return raw[at:raw.index(0, at)].decode("ascii", "replace")


_MAX_GAP = 0x10000


def flat_binary(elf: Elf) -> bytes | None:
    """The contents from the lowest load address on, gaps filled with zeros; None where the memories lie so far apart
    that a flat image makes no sense."""
    image, start = bytearray(), elf.segments[0][0]
    for address, contents in elf.segments:
        gap = address - start - len(image)
        if gap > _MAX_GAP:
            return None
        image += bytes(gap) + contents
    return bytes(image)


def intel_hex(elf: Elf) -> str:
    """The contents as Intel HEX records of 16 bytes."""
    lines, upper = [], 0
    for address, contents in elf.segments:
        at = 0
        while at < len(contents):
            here = address + at
            n = min(16, len(contents) - at, 0x10000 - (here & 0xFFFF))  # a record stays within 64 KB
            if here >> 16 != upper:
                upper = here >> 16
                lines.append(_record(0, 4, upper.to_bytes(2, "big")))
            lines.append(_record(here & 0xFFFF, 0, contents[at:at + n]))
            at += n
    return "\n".join([*lines, _record(0, 1, b"")]) + "\n"


def _record(offset: int, kind: int, payload: bytes) -> str:
    body = bytes([len(payload), offset >> 8, offset & 255, kind]) + payload
    return f":{(body + bytes([-sum(body) & 255])).hex().upper()}"
