"""cppcheck over emitted packages and the runtime: nothing but MISRA deviations, of the kinds in misra.txt alone.

`python tests/test_cppcheck.py` writes that table anew; a rule that it did not have before gets the reason "?", which
the test refuses: put the reason there, or change the code.
"""
from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import test_small_models as small

from edgec import board, onnx_in, paths, pipeline, store

TABLE = Path(__file__).with_name("misra.txt")
SCOPES = ("package", "runtime", "firmware")
# One configuration, an ARM compiler of GNU's kind: without defines cppcheck would try every combination of #ifs.
DEFINES = ("-D__GNUC__=12", "-D__BYTE_ORDER__=1234", "-D__ORDER_LITTLE_ENDIAN__=1234")
COMMAND = ("cppcheck", "-q", "--std=c99", "--platform=unix32", "--enable=warning,style,performance,portability",
           "--addon=misra", "--template={file}\t{line}\t{severity}\t{id}\t{message}", *DEFINES)
HEAD = """\
# MISRA C:2012: the rules that emitted packages, the runtime (runtime_c) and the firmware's port deviate from, and why.
# Found by cppcheck {version} with its misra addon, which knows the rules by number. tests/test_cppcheck.py compares
# rules and where they are found, in both directions; the counts are of the day of writing. Everything else that the
# addon checks holds, and cppcheck's own checks find nothing.
#
# {columns}  reason
"""


class Finding(NamedTuple):
    """scope: one of SCOPES; rule: MISRA's number, "" for cppcheck's own findings; text: severity, id and message."""

    scope: str
    rule: str
    file: str
    line: int
    text: str


def version() -> str:
    return subprocess.run(["cppcheck", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]


def check(folder: Path, files: Sequence[str], options: Iterable[str] = ()) -> list[Finding]:
    """cppcheck's findings in these files of the folder and in all that they include."""
    done = subprocess.run([*COMMAND, *options, *files], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = []
    for line in dict.fromkeys(done.stderr.splitlines()):
        file, number, severity, name, message = (line + "\t\t\t\t").split("\t")[:5]
        in_runtime = "runtime" in file or str(paths.data("runtime_c")) in file
        scope = "runtime" if in_runtime else "firmware" if file.startswith("firmware/") else "package"
        rule = re.fullmatch(r"misra-c2012-([\d.]+)", name)
        found.append(Finding(scope, rule[1] if rule else "", file, int(number or 0), f"{severity} {name} {message}"))
    return found


def in_package(folder: Path, name: str, quantise: bool, target: str) -> list[Finding]:
    """In a package and its firmware. MISRA's rules in its runtime headers are left to `in_runtime`."""
    model = small.MODELS[name]()
    if quantise:
        scratch = folder / "onnx"
        scratch.mkdir(parents=True)
        model = small.quantised(model, scratch, "QDQ", "int8", "int8", True)
    files = pipeline.compile_graph(onnx_in.from_model(model, name), board.load(target)).files
    store.write_files(folder, files)
    found = check(folder, [f for f in files if f.endswith(".c")])
    return [f for f in found if not (f.rule and f.scope == "runtime")]


def in_runtime(folder: Path, isa: Sequence[str]) -> list[Finding]:
    """In every header of runtime_c that a board with this ISA may get."""
    base = paths.data("runtime_c")
    folders = [base / kind / i for kind in ("kernel", "simd") for i in isa] + [base]
    names = sorted({h.name for d in folders for h in d.glob("*.h")})
    folder.mkdir()
    (folder / "all.c").write_text("".join(f'#include "{n}"\n' for n in names))
    return check(folder, ["all.c"], [f"-I{d}" for d in folders])


def everything(folder: Path) -> list[Finding]:
    return [*in_package(folder / "int8", "residual", True, "cortex-m3"),
            *in_package(folder / "int8_dsp", "residual", True, "cortex-m4"),
            *in_package(folder / "float", "squeeze_excite", False, "cortex-m3"),
            *in_runtime(folder / "c99", ("c99",)), *in_runtime(folder / "dsp", ("dsp", "c99"))]


def counted(found: Iterable[Finding]) -> dict[str, Counter]:
    """rule -> scope -> number of different places."""
    places = {(f.rule, f.scope, f.file, f.line) for f in found if f.rule}
    return {rule: Counter(s for r, s, *_ in places if r == rule) for rule in sorted({p[0] for p in places}, key=number)}


def number(rule: str) -> tuple[int, ...]:
    return tuple(map(int, rule.split(".")))


def read(text: str) -> dict[str, tuple[Counter, str]]:
    """rule -> (scope -> count, reason) of the table."""
    rows = (line.split(maxsplit=1 + len(SCOPES)) for line in text.splitlines() if line and line[0] != "#")
    return {rule: (Counter(dict(zip(SCOPES, map(int, counts), strict=True))), reason) for rule, *counts, reason in rows}


def table(found: Mapping[str, Counter], old: Mapping[str, tuple[Counter, str]]) -> str:
    """The text of misra.txt."""
    rows = [f"{rule:7}" + "".join(f"{counts[s]:9}" for s in SCOPES) + f"  {old[rule][1] if rule in old else '?'}"
            for rule, counts in found.items()]
    return HEAD.format(version=version(), columns="rule " + "".join(f"{s:>9}" for s in SCOPES)) + "\n".join(rows) + "\n"


needs_cppcheck = pytest.mark.skipif(shutil.which("cppcheck") is None, reason="needs cppcheck: apt-get install cppcheck")


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    return everything(tmp_path_factory.mktemp("cppcheck"))


@needs_cppcheck
@pytest.mark.filterwarnings("ignore")
def test_no_errors_warnings_or_portability_problems(findings):
    """None of cppcheck's own checks has a finding, style and performance included."""
    assert [f for f in findings if not f.rule] == []


@needs_cppcheck
@pytest.mark.filterwarnings("ignore")
def test_misra_deviations_are_those_of_the_table(findings):
    text = TABLE.read_text()
    if f"cppcheck {version()} " not in text:
        pytest.skip(f"misra.txt is of another version than cppcheck {version()}")
    wanted = {rule: counts for rule, (counts, reason) in read(text).items() if reason != "?"}
    found = counted(findings)
    for rule in sorted({*wanted, *found}, key=number):
        stated, now = ({s for s in SCOPES if t.get(rule, Counter())[s]} for t in (wanted, found))
        places = [f"{f.file}:{f.line}" for f in findings if f.rule == rule][:10]
        assert now == stated, f"rule {rule} is deviated from in {now or 'nothing'}, misra.txt says {stated}: {places}"


@needs_cppcheck
def test_a_planted_fault_is_found(tmp_path):
    (tmp_path / "x.c").write_text("int f(void);\nint f(void)\n{ int a[2] = {0, 0}; goto end; end: return a[2]; }\n")
    found = check(tmp_path, ["x.c"])
    assert any(f.text.startswith("error arrayIndexOutOfBounds ") for f in found)
    assert "15.1" in {f.rule for f in found}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        TABLE.write_text(table(counted(everything(Path(scratch))), read(TABLE.read_text()) if TABLE.exists() else {}))
