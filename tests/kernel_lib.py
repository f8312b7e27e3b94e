"""Compiles kernel headers for the host and calls them through cffi. The kernels are always-inline, so each declared
function gets an exported wrapper of the same type."""
from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import cffi

RUNTIME = Path(__file__).resolve().parents[1] / "runtime_c"
C99 = RUNTIME / "kernel" / "c99"
DSP = RUNTIME / "kernel" / "dsp"
WARNINGS = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror")
FLOAT = ("-ffp-contract=off", "-fno-math-errno")
UBSAN = ("-fsanitize=undefined", "-fno-sanitize-recover=all", "-static-libubsan")


def include_flags(isa_dirs: Sequence[Path], simd: Path) -> list[str]:
    """-I options in overlay order: the first directory that has a header wins."""
    return [f"-I{d}" for d in (*isa_dirs, simd, RUNTIME)]


def find_header(header: str, isa_dirs: Sequence[Path]) -> Path:
    """The file that #include "header" takes. Raises FileNotFoundError."""
    for d in (*isa_dirs, RUNTIME):
        if (Path(d) / header).exists():
            return Path(d) / header
    raise FileNotFoundError(header)


def declarations(headers: Sequence[str], isa_dirs: Sequence[Path]) -> str:
    """The C declarations (parameter structs and kernels) of headers, as cffi wants them."""
    out = []
    for h in headers:
        text = re.sub(r"/\*.*?\*/", "", find_header(h, isa_dirs).read_text(), flags=re.S)
        out += re.findall(r"^typedef struct \{[^}]*\} ec_\w+_t;", text, flags=re.M)
        found = re.findall(r"^EC_(?:KERNEL|MATH)\s+(\w[\w\s*]*?\bec_\w+\([^)]*\))", text, re.M)
        out += [" ".join(d.split()) + ";" for d in found]
    return "\n".join(out)


def wrappers(cdef: str) -> tuple[str, str, list[str]]:
    """(C text of exported wrappers, cdef with the wrappers' names, names) for the function declarations of a cdef."""
    body, names = [], []

    def wrap(match: re.Match) -> str:
        result, name, args = match["result"].strip(), match["name"], " ".join(match["args"].split())
        call = ", ".join(re.search(r"(\w+)\s*(\[\w*\])?\s*$", a)[1] for a in args.split(",") if a.strip() != "void")
        body.append(f"{result} call_{name}({args});\n"
                    f"{result} call_{name}({args})\n{{ {'' if result == 'void' else 'return '}{name}({call}); }}\n")
        names.append(name)
        return f"{match['result']}call_{name}({match['args']});"

    renamed = re.sub(r"(?m)^(?P<result>(?!typedef)\w[\w \t*]*?)(?P<name>\b\w+)\s*\((?P<args>[^()]*)\)\s*;", wrap, cdef)
    return "".join(body), renamed, names


def compile_kernels(headers: Sequence[str], isa_dirs: Sequence[Path], simd: Path, cdef: str | None = None,
                    cc: str = "cc", flags: Sequence[str] = ("-O2",)) -> tuple[cffi.FFI, SimpleNamespace]:
    """(ffi, lib): lib.<name>(...) calls each function that `cdef` declares (arguments must be named there).

    headers: what to #include, e.g. ["conv_s8.h"]; isa_dirs: overlay order, e.g. [DSP, C99]; simd: the directory of
    ec_simd.h; cdef: None takes it from the headers; flags: added after the project's own warnings and float flags.
    Raises subprocess.CalledProcessError with the compiler's messages in stderr."""
    body, renamed, names = wrappers(declarations(headers, isa_dirs) if cdef is None else cdef)
    source = "".join(f'#include "{h}"\n' for h in headers) + body
    with tempfile.TemporaryDirectory() as tmp:
        c, so = Path(tmp, "kernels.c"), Path(tmp, "kernels.so")
        c.write_text(source)
        run = subprocess.run([cc, *WARNINGS, *FLOAT, "-shared", "-fPIC", *include_flags(isa_dirs, simd), *flags,
                              str(c), "-o", str(so)], capture_output=True, text=True)
        if run.returncode:
            print(run.stderr)
            run.check_returncode()
        ffi = cffi.FFI()
        ffi.cdef(renamed)
        dl = ffi.dlopen(str(so))
    return ffi, SimpleNamespace(_library=dl, **{n: getattr(dl, f"call_{n}") for n in names})
