"""The files of an emitted package that make it a firmware and a library: start-up code, linker script, make files."""
from __future__ import annotations

from collections.abc import Sequence

from . import package, paths, toolchain
from .board import Board

_VERBATIM = (*(f"{n}.c" for n in package.FIRMWARE), "semihost.h")


def files(board: Board, name: str, c_name: str, goal: str = "balanced",
          rows: bool = False, state: bool = False,
          memories: Sequence[str] = (), own: Sequence[str] = ()) -> dict[str, str]:
    """path in the package -> text: Makefile and CMakeLists.txt and, unless the board is the host, firmware/*.

    name: the model's name, for comments; c_name: the C prefix of the package's files and functions. rows: the model's
    input comes row by row. state: it has state. memories: that of each arena, by default the board's own for one.
    own: C files of the user's operators, without ".c".
    """
    several = len(memories) > 1
    ends = [f"_{k}" for k in range(len(memories))] if several else [""]
    arenas = [{"variable": f"arena{e}", "section": f".arena{e}", "input": f".bss.arena{e}", "memory": memory,
               "bytes": f"{c_name.upper()}_ARENA{e}_BYTES"}
              for e, memory in zip(ends, memories or [board.arena], strict=True)]
    known = {"board": board, "arenas": arenas, "several": several, "name": name, "c_name": c_name,
             "own": own, "rows": rows, "state": state, "firmware": package.FIRMWARE,
             "flat_image": board.vectors == board.code, "arm_gcc": toolchain.ARM_GCC,
             "cflags": toolchain.CFLAGS, "model_opt": toolchain.MODEL_OPT[goal], "glue_opt": toolchain.GLUE_OPT,
             "ldflags": toolchain.GCC_LDFLAGS, "library": toolchain.GCC_LIBRARY,
             "linker_script": toolchain.LINKER_SCRIPT}
    wanted = {"Makefile": "package/Makefile.j2", "CMakeLists.txt": "package/CMakeLists.txt.j2"}
    if not board.is_host:
        wanted |= {"firmware/model.h": "firmware/model.h.j2", "firmware/link.ld": "firmware/link.ld.j2"}
    found = {path: paths.template(template).render(known) for path, template in wanted.items()}
    if not board.is_host:
        port = paths.data("runtime_c") / "port"
        found |= {f"firmware/{f}": (port / f).read_text(encoding="utf-8") for f in _VERBATIM}
    return dict(sorted(found.items()))
