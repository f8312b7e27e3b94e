"""Writing a package directory: all of it or nothing.

A package is put together in a hidden sibling of its destination and moved into place in one step at the end.
A directory is replaced only when its manifest.json says that edgec wrote it; files that the manifest does not list
are the user's and are carried over.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .errors import UsageError

MANIFEST = "manifest.json"
REPORT = "report.json"
FORMAT = 1


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def json_text(value) -> str:
    """JSON as edgec writes it to files: sorted by insertion, indented, newline at the end, ASCII."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def read_manifest(directory: Path) -> dict:
    """The manifest of a package. Raises UsageError where the directory is not one."""
    fix = "give the directory that `edgec build` wrote, build/<name>/<board> by default"
    if not directory.is_dir():
        raise UsageError(f"no such package directory: {directory}", fix=fix)
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError("not a package of edgec: it has no manifest.json", where=str(directory), fix=fix) from None
    except (OSError, ValueError) as e:
        raise UsageError(f"manifest.json cannot be read: {e}", where=str(directory), fix="build it again") from None
    if not isinstance(manifest, dict) or manifest.get("tool", {}).get("name") != "edgec":
        raise UsageError("manifest.json was not written by edgec", where=str(directory), fix=fix)
    if manifest.get("format") != FORMAT:
        raise UsageError(
            f"the package has manifest format {manifest.get('format')}, this version reads {FORMAT}",
            where=str(directory),
            fix="build it again with this version of edgec",
        )
    return manifest


def read_report(directory: Path) -> dict:
    """report.json of a package. Raises UsageError where it cannot be read."""
    try:
        return json.loads((directory / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UsageError(f"{REPORT} cannot be read: {e}", where=str(directory), fix="build it again") from None


def write_files(directory: Path, files: Mapping[str, str | bytes]) -> None:
    """Writes files given by their path relative to the directory; text as UTF-8 with \\n line ends."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def hashes(directory: Path) -> dict[str, str]:
    """sha256 of every file below a directory except the manifest itself, by relative path, sorted."""
    paths = sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())
    return {p: sha256_file(directory / p) for p in paths if p != MANIFEST}


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A new empty directory beside `out` that becomes `out` when the block ends without an error.

    Fails before the block is entered when `out` cannot be written or holds something that is not ours (UsageError).
    On an error in the block nothing is left, not even parent directories.
    """
    out = out.resolve()
    foreign = _foreign_files(out)
    created: list[Path] = []
    stage = out.parent / f".{out.name}.{secrets.token_hex(4)}"
    try:
        created = _make_directories(out.parent)
        stage.mkdir()
    except OSError as e:
        _remove_empty(created)
        raise _cannot_write(out, e) from None
    done = False
    try:
        yield stage
        try:
            _carry_over(foreign, out, stage)
            _replace(stage, out)
        except OSError as e:
            raise _cannot_write(out, e) from None
        done = True
    finally:
        if not done:
            shutil.rmtree(stage, ignore_errors=True)
            _remove_empty(created)


def write_file(path: Path, data: bytes) -> None:
    """Writes one file whole or not at all. UsageError where that is not possible."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise _cannot_write(path, e) from None


def _cannot_write(path: Path, e: OSError) -> UsageError:
    return UsageError(f"cannot write {path}: {(e.strerror or str(e)).lower()}", fix="choose another place with -o")


def _foreign_files(out: Path) -> list[str]:
    """Files in an existing package that edgec did not write; UsageError when `out` is something else."""
    if not out.exists():
        return []
    if not out.is_dir():
        raise UsageError(f"the output is a file, not a directory: {out}", fix="choose another place with -o")
    try:
        present = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if not p.is_dir())
    except OSError as e:
        raise _cannot_write(out, e) from None
    if not present:
        return []
    try:
        ours = read_manifest(out).get("files", {})
    except UsageError as e:
        raise UsageError(
            f"the output directory holds files that edgec did not write, such as {present[0]}",
            where=f"{out} ({e.what})",
            fix="choose an empty or new directory with -o",
        ) from None
    return [p for p in present if p != MANIFEST and p not in ours]


def _carry_over(names: list[str], source: Path, target: Path) -> None:
    for name in names:
        if not (target / name).exists() and (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)


def _replace(stage: Path, out: Path) -> None:
    """Moves stage to out. A package that was there before is set aside first and put back on failure."""
    if not out.exists():
        os.rename(stage, out)
        return
    old = out.parent / f".{out.name}.{secrets.token_hex(4)}"
    os.rename(out, old)
    try:
        os.rename(stage, out)
    except OSError:
        os.rename(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _make_directories(path: Path) -> list[Path]:
    """mkdir -p; the directories that were made, outermost first."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    made: list[Path] = []
    try:
        for p in reversed(missing):
            p.mkdir()
            made.append(p)
    except OSError:
        _remove_empty(made)
        raise
    return made


def _remove_empty(directories: list[Path]) -> None:
    for p in reversed(directories):
        try:
            p.rmdir()
        except OSError:  # someone else put something there meanwhile
            return
