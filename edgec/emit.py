"""Program -> the files of the package that are C: header, source, weights and the runtime headers they use."""
from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType

import numpy as np

from . import paths, render_c
from .dtypes import words as stored_words
from .errors import EdgecError
from .loop_verify import root, statements
from .loops import Buffer, Call, Function, Program, Store

_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
_INT8_TEXT = np.array([str(v) for v in [*range(128), *range(-128, 0)]], object)


@dataclass(frozen=True)
class TensorInfo:
    """An input or output as the model's user knows it. scale 0: not quantised. labels: the texts that its elements count."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float = 0.0
    zero_point: int = 0
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Meta:
    """What a package says besides its program.

    c_name: prefix of files and C names. title: the model's name. hash: of the ONNX file. tool: name and version.
    isa: folders of kernels, best first, e.g. ("dsp", "c99"). inputs, outputs, state: in the program's order.
    types: graph tensor -> text for comments. stamp: kernels compiled for each set of parameters (True: all), see
    render_c.source."""

    c_name: str
    title: str
    hash: str
    tool: str
    isa: tuple[str, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    types: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    stamp: bool | Collection[str] = False
    state: tuple[TensorInfo, ...] = ()


def package(p: Program, meta: Meta) -> dict[str, str]:
    """path in the package -> text, sorted by path, of a planned program. The text depends on nothing but p and meta."""
    source = render_c.source(p, meta.c_name, meta.types, meta.stamp)
    names = {**_names(p, meta), "headers": source.headers, "own": source.own, "externs": source.externs, "shared": source.shared}
    names["functions"] = [s.text for s in source.steps if not s.control]
    names["steps"] = [{"call": s.call, "hook": "" if s.control else _hook(s, k, meta), "info": _step_info(p, f)}
                      for k, (s, f) in enumerate(zip(source.steps, p.steps, strict=True))]
    names["arenas"] = [{"index": k, "offset": a.offset, "bytes": a.nbytes, "memory": a.memory}
                       for k, a in enumerate(p.arenas)] if len(p.arenas) > 1 else []
    names["n_arenas"] = len(p.arenas)
    names["m_arena"] = "m->arena[0]" if names["arenas"] else "m->arena"
    names["kept"] = [_cleared(p, b) for b in p.buffers.values() if b.place == "state" and not b.alias]
    for kind, buffers, infos in (("input", p.inputs, meta.inputs), ("output", p.outputs, meta.outputs),
                                 ("state", tuple(old for old, _ in p.state), meta.state)):
        names[f"{kind}s"] = [_tensor(p, b, t, k, kind, meta, source)
                             for k, (b, t) in enumerate(zip(buffers, infos, strict=True))]
    names["shapes"] = [{"name": t["shape_name"], "text": t["shape"]}
                       for t in (*names["inputs"], *names["outputs"]) if t["shape"]]
    constants = [p.buffers[n] for n in source.rom]
    files = {
        f"{meta.c_name}.h": paths.template("package/model.h.j2").render(names),
        f"{meta.c_name}.c": paths.template("package/model.c.j2").render(names),
        f"{meta.c_name}_weights.c": paths.template("package/weights.c.j2").render(
            names, arrays=[_array(b, source.rom[b.name]) for b in constants], bytes=sum(b.nbytes for b in constants)),
        **{f"runtime/{n}": text for n, text in runtime(source.headers, meta.isa).items()},
    }
    return dict(sorted(files.items()))


def functions(p: Program, meta: Meta) -> list[dict]:
    """Per step the C function that runs it and, in a streamed step, its layers with theirs (several may share one)."""
    return [{"function": s.name, "layers": [{"origin": list(layer.origin), "op": layer.op, "macs": layer.macs,
                                             "kernel": kernel, "function": function}
                                            for layer, kernel, function in s.layers]}
            for s in render_c.source(p, meta.c_name, meta.types, meta.stamp).steps]


def runtime(headers: Collection[str], isa: tuple[str, ...]) -> dict[str, str]:
    """name -> text of runtime headers and of all that they include; the first folder of `isa` that has one wins.

    Raises EdgecError for a header that no folder has."""
    base = paths.data("runtime_c")
    folders = [base / kind / i for kind in ("kernel", "simd") for i in isa] + [base]
    found: dict[str, str] = {}
    wanted = list(headers)
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        path = next((f / name for f in folders if (f / name).is_file()), None)
        if path is None:
            raise EdgecError(f"the runtime has no {name} for {', '.join(isa)}")
        found[name] = path.read_text(encoding="utf-8")
        wanted += _INCLUDE.findall(found[name])
    return dict(sorted(found.items()))


# --- what the templates name ---------------------------------------------------------------------


def _names(p: Program, meta: Meta) -> dict:
    if len(p.steps) >= 2**16:
        raise EdgecError(f"{len(p.steps)} steps; the C interface counts them in 16 bits")
    return {
        "c_name": meta.c_name, "NAME": meta.c_name.upper(), "title": _plain(meta.title), "tool": _plain(meta.tool),
        "title_string": render_c.string(meta.title), "hash_string": render_c.string(meta.hash),
        "arena_bytes": max(p.arena_bytes, 1), "n_steps": len(p.steps), "rows": _rows(p),
        "n_inputs": len(p.inputs), "n_outputs": len(p.outputs), "n_states": len(p.state),
        "inputs_pointer": f"{meta.c_name}_inputs" if p.inputs else "NULL",
        "outputs_pointer": f"{meta.c_name}_outputs" if p.outputs else "NULL",
    }


def _rows(p: Program) -> dict | None:
    """What the interface says of an input that comes row by row."""
    if p.rowwise is None:
        return None
    row = p.buffers[p.inputs[0]]
    return {"count": p.rowwise.rows, "bytes": row.nbytes, "offset": row.offset, "progress": p.buffers[p.rowwise.progress].offset}


def _plain(text: str) -> str:
    """Text that may stand inside a C comment."""
    return render_c.comment_text(text)


def _cleared(p: Program, b: Buffer) -> dict:
    """How a buffer gets the contents that it has before the first run."""
    at = render_c.address(p, b.offset, "m->arena")
    if b.reset == 0 or b.dtype in ("int8", "uint8"):
        return {"at": f"({at})", "count": b.nbytes, "value": f"{b.reset & 255}u"}
    return {"at": f"(({render_c.storage(b)} *)(void *)({at}))", "count": b.size, "value": str(b.reset)}


def _tensor(p: Program, buffer: str, t: TensorInfo, k: int, kind: str, meta: Meta, source: render_c.Source) -> dict:
    b = p.buffers[buffer]
    rows = p.rowwise.rows if p.rowwise and kind == "input" else 1
    if (t.dtype, prod(t.shape)) != (b.dtype, b.size * rows):
        raise EdgecError(f"{kind} {t.name} is {t.dtype}{list(t.shape)}, its buffer {b.dtype}[{b.size}]")
    rank, shape_name = len(t.shape), f"{meta.c_name}_{kind}_{k}_shape"
    scale, dtype = render_c.real(np.float32(t.scale)), f"EC_{t.dtype.upper()}"
    shape = "{" + ", ".join(map(str, t.shape)) + "}" if rank else ""
    info = (render_c.string(t.name), shape_name if rank else "NULL", f"{b.nbytes * rows}u", dtype, f"{rank}u", scale,
            str(t.zero_point))
    quantised = f", real = (integer - {t.zero_point}) * {scale}" if t.scale else ""
    return {
        "index": k,
        "bytes": b.nbytes * rows,
        "elements": b.size * rows,
        "dtype": dtype,
        "scale": scale,
        "zero_point": t.zero_point,
        "labels": ", ".join(map(render_c.string, t.labels)),
        "rom": source.rom.get(buffer, ""),
        "at": "" if b.place == "rom" else render_c.address(p, root(p, buffer).offset, "m->arena"),
        "shape_name": shape_name,
        "shape": shape,
        "info": "{" + ", ".join(info) + "}",
        "comment": _plain(f"{t.name}: {t.dtype} [{']['.join(map(str, t.shape))}]{quantised}"),
    }


def _hook(s: render_c.Step, k: int, meta: Meta) -> str:
    """The call of the hook behind that of a step."""
    return f"{s.call[:len(s.call) - len(s.call.lstrip())]}{meta.c_name}_hook(m, {k}u);"


def _step_info(p: Program, f: Function) -> str:
    b = result(p, f)
    return "{" + ", ".join((render_c.string(" + ".join(f.origin) or f.name), f"{root(p, b.name).offset if b else 0}u",
                            f"{b.nbytes if b else 0}u")) + "}"


def result(p: Program, f: Function) -> Buffer | None:
    """The buffer that a step completes: its `result`, else what it writes last, a kernel's scratch aside."""
    written = [s.buffer if isinstance(s, Store) else s.writes[0] for s in statements(f.body)
               if isinstance(s, Store) or isinstance(s, Call) and s.writes]
    name = f.result or (written[-1] if written else "")
    return p.buffers[name] if name else None


# --- weights -------------------------------------------------------------------------------------


def _array(b: Buffer, c_name: str) -> dict:
    return {"declaration": render_c.rom_declaration(b, c_name), "text": array_text(b.data)}


def array_text(data: np.ndarray) -> str:
    """The elements of a flat array as lines of C constants."""
    words = _words(stored_words(data))
    per_line = max(1, (render_c.WIDTH - 4) // (max(map(len, words)) + 2))
    rows = (", ".join(words[i:i + per_line]) for i in range(0, len(words), per_line))
    return "    " + ",\n    ".join(rows)


def _words(data: np.ndarray) -> list[str]:
    match data.dtype.name:
        case "int8":
            return _INT8_TEXT[data.view(np.uint8)].tolist()
        case "uint32" | "uint64" as name:
            digits, suffix = (8, "u") if name == "uint32" else (16, "ull")
            return [f"0x{v:0{digits}x}{suffix}" for v in data.tolist()]
        case "uint8" | "int16" | "uint16":
            return [str(v) for v in data.tolist()]
        case "bool":
            return ["1" if v else "0" for v in data.tolist()]
        case "float32":
            return [f"{w}f" if w[-1] not in "fn" else render_c.real(v)  # inf, nan
                    for w, v in zip(data.astype("U").tolist(), data, strict=True)]
    return [render_c.literal(v, data.dtype.name) for v in data.tolist()]
