"""What the command line prints: phase lines, bars, tables, progress, errors. Text only, no decisions."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from .errors import EdgecError

BAR = 28


@dataclass(frozen=True)
class Event:
    """Something that happened during a long call. kind: "phase" (finished; seconds, info), "progress" (done of total;
    total 0: unknown), "note" (info: a sentence for the user) or "text" (info: lines to show as they are)."""

    kind: str
    name: str = ""
    info: str = ""
    seconds: float = 0.0
    done: int = 0
    total: int = 0


OnEvent = Callable[[Event], None]


def silent(event: Event) -> None:
    """Nobody listens."""


@contextmanager
def phase(tell: OnEvent, name: str) -> Iterator[dict[str, str]]:
    """Reports the time of the block; the block may set ["info"] of the dict that it is given."""
    start, found = time.perf_counter(), {"info": ""}
    yield found
    tell(Event("phase", name, found["info"], time.perf_counter() - start))


def progress(tell: OnEvent) -> Callable[[str, int, int], None]:
    """For work that says what it does, how much is done and of how much."""
    return lambda what, done, total: tell(Event("progress", what, done=done, total=total))


@dataclass(frozen=True)
class Console:
    """json: the result is one JSON object on stdout and everything else goes to stderr."""

    json: bool = False

    @property
    def log(self) -> TextIO:
        return sys.stderr if self.json else sys.stdout

    def line(self, text: str = "") -> None:
        print(_encodable(text, self.log), file=self.log, flush=True)

    def event(self, e: Event) -> None:
        """Shows an event; progress only where stderr is a terminal, on one line that is overwritten."""
        if e.kind == "progress":
            if sys.stderr.isatty():
                end = f"{e.done}/{e.total}" if e.total else f"{e.done}"
                sys.stderr.write(f"\r\x1b[K  {e.name} {end}")
                sys.stderr.flush()
            return
        self.clear()
        if e.kind == "phase":
            self.line(f"  {e.name:<12} {e.seconds:7.2f} s   {e.info}".rstrip())
        elif e.kind == "note":
            self.line(f"  note: {e.info}")
        else:
            self.line(e.info)

    def clear(self) -> None:
        """Removes a progress line."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def result(self, value: dict) -> None:
        """The one JSON object of `--json`; nothing otherwise."""
        if self.json:
            print(json.dumps(value, indent=1, allow_nan=False), flush=True)

    def error(self, e: EdgecError) -> None:
        self.clear()
        print(_encodable(error_text(e), sys.stderr), file=sys.stderr, flush=True)
        self.result({"ok": False, "error": e.as_dict()})


def error_text(e: EdgecError) -> str:
    """error: what / where: ... / fix: ..."""
    return "\n".join(
        [f"error: {e.what}"] + [f"  {label:6} {text}" for label, text in (("where:", e.where), ("fix:", e.fix)) if text]
    )


def size_text(n: int) -> str:
    """Bytes for people: 960 B, 15.7 KiB, 1.2 MiB."""
    if n < 1024:
        return f"{n} B"
    return f"{n / 1024:.1f} KiB" if n < 1024 * 1024 else f"{n / 1024 / 1024:.2f} MiB"


def count_text(n: float) -> str:
    """A large count for people: 812, 12.5 k, 2.66 M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if n >= limit:
            return f"{n / (1e3 if unit == 'k' else limit):.3g} {unit}"
    return f"{n:,.0f}"


def plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def bar_line(label: str, used: int, size: int, detail: str = "") -> str:
    """label, a bar of used/size, the numbers, what they are made of."""
    share = used / size if size else 1.0
    filled = min(BAR, max(1 if used else 0, round(share * BAR)))
    amounts = f"{share * 100:5.1f} %  {size_text(used)} of {size_text(size)}{'  OVER' if used > size else ''}"
    return f"  {label:<6} {'█' * filled}{'░' * (BAR - filled)} {amounts}" + (f"   ({detail})" if detail else "")


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, indent: str = "  ", width: int = 48) -> str:
    """Aligned columns; numbers to the right; cells over `width` characters are shortened. No trailing blanks."""
    cells = [[_cell(c, width) for c in row] for row in rows]
    right = [
        bool(rows) and all(isinstance(r[k], (int, float)) or r[k] is None for r in rows) for k in range(len(headers))
    ]
    widths = [max([len(h), *(len(r[k]) for r in cells)]) for k, h in enumerate(headers)]

    def one(row: Sequence[str]) -> str:
        return (
            indent
            + "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()
        )

    return "\n".join([one(headers), indent + "  ".join("-" * w for w in widths), *map(one, cells)])


def _cell(value: object, width: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    if len(text) <= width:
        return text
    head = (width - 3) // 3  # the end of a path says most
    return f"{text[:head]}...{text[len(text) - (width - 3 - head) :]}"


def _encodable(text: str, stream: TextIO) -> str:
    """The text with the characters that a terminal cannot show replaced."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        return text.replace("█", "#").replace("░", ".").encode(encoding, "replace").decode(encoding)
