"""Operators of other domains: a TOML file that names, for each, a C function and a Python rule (`--custom`).

A library is one such file. Its C files are copied into the package (`custom/`), together with the file itself and its
Python, so that `validate` knows the operators' references too. Installed packages offer libraries as entry points of the
group `edgec.operators`: the name is the operators' domain, the object the path of the TOML file.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import importlib.util
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from .dtypes import NUMBERS
from .errors import EdgecError, UnsupportedError, UsageError
from .ir import Graph, TensorType

GROUP = "edgec.operators"
NODE = "edgec.Custom"  # the graph's operator; its attribute `operator` says which
FOLDER = "custom"  # in the package
FIX = "see DESIGN, Operators of your own"
LIBRARY_KEYS = {"python": str, "sources": list, "headers": list, "operators": dict}
OPERATOR_KEYS = {"function": str, "rule": str, "reference": str, "types": list, "inplace": list}
IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


class Input(NamedTuple):
    """What a rule is told about an input. value: of a constant, else None."""

    dtype: str
    shape: tuple[int, ...]
    value: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Library:
    """files: name -> text of all that the package carries; the headers are those that the model includes."""

    name: str
    files: Mapping[str, str]
    headers: tuple[str, ...]
    where: str


@dataclass(frozen=True, eq=False)
class Operator:
    """name: domain and operator, as com.example.Swoosh. rule(inputs, attributes) -> {"outputs": [(dtype, shape)], "params":
    fields of the C function's struct, "scratch": bytes}; reference(inputs, attributes) -> arrays, None: there is none.
    types: element types that the inputs may have. inplace: pairs (output, input) that may share memory."""

    name: str
    function: str
    library: Library
    rule: Callable[[list[Input], dict[str, Any]], Mapping[str, Any]]
    reference: Callable[[list[np.ndarray], dict[str, Any]], Sequence[np.ndarray]] | None
    types: tuple[str, ...]
    inplace: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        text = "".join(f"{n}\0{t}\0" for n, t in sorted(self.library.files.items()))
        return f"{self.name}/{self.function}/{hashlib.sha256(text.encode()).hexdigest()[:16]}"


# --- reading -------------------------------------------------------------------------------------


def libraries(paths: Iterable[str | Path]) -> dict[str, Operator]:
    """The operators of library files by name. Raises UsageError for whatever is wrong with one."""
    found: dict[str, Operator] = {}
    for path in paths:
        for name, operator in load(Path(path)).items():
            if name in found:
                raise UsageError(
                    f"the operator {name} is in two libraries",
                    where=f"{found[name].library.where}, {path}",
                    fix="give one of them",
                )
            found[name] = operator
    return found


def installed(domains: Iterable[str]) -> dict[str, Operator]:
    """The operators that installed packages offer for these domains."""
    wanted = set(domains)
    points = [p for p in importlib.metadata.entry_points(group=GROUP) if p.name in wanted]
    return libraries(dict.fromkeys(Path(p.load()) for p in points))


def load(path: Path) -> dict[str, Operator]:
    """The operators of one library file by name."""
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise UsageError(f"the operators cannot be read: {e}", where=str(path), fix=FIX) from None
    _check(table, LIBRARY_KEYS, ("python", "sources", "headers", "operators"), str(path))
    files = {path.name: text}
    for name in (table["python"], *table["sources"], *table["headers"]):
        _read(path, name, files)
    library = Library(path.stem, files, tuple(table["headers"]), str(path))
    module = _module(path.parent / table["python"])
    return {name: _operator(name, entry, library, module) for name, entry in table["operators"].items()}


def _check(table: Mapping, keys: Mapping[str, type], required: Iterable[str], where: str) -> None:
    for key, value in table.items():
        if key not in keys:
            near = difflib.get_close_matches(key, keys, 1)
            raise UsageError(
                f"unknown key '{key}'",
                where=where,
                fix=f"did you mean '{near[0]}'?" if near else "choose from: " + ", ".join(keys),
            )
        if not isinstance(value, keys[key]):
            raise UsageError(f"{key} is {value!r}", where=where, fix=f"write a {keys[key].__name__}")
    for key in required:
        if key not in table:
            raise UsageError(f"the key {key} is missing", where=where, fix=FIX)


def _read(path: Path, name: str, files: dict[str, str]) -> None:
    if PurePosixPath(name).name != name:
        raise UsageError(f"{name} lies in another folder", where=str(path), fix="keep all files beside the TOML file")
    try:
        files[name] = (path.parent / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(
            f"{name} cannot be read: {e}", where=str(path), fix="correct the name, or add the file"
        ) from None


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"edgec_custom_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        raise UsageError(f"{path.name} fails: {type(e).__name__}: {e}", where=str(path), fix="correct it") from e
    return module


def _operator(name: str, entry: Any, library: Library, module: Any) -> Operator:
    where = f"{library.where}, {name}"
    if not isinstance(entry, dict) or "." not in name:
        raise UsageError("not an operator of a domain", where=where, fix='write [operators."com.example.Name"]')
    _check(entry, OPERATOR_KEYS, ("function", "rule"), where)
    function = entry["function"]
    declared = "".join(library.files[h] for h in library.headers)
    if not IDENTIFIER.fullmatch(function) or not re.search(rf"\b{function}\s*\(", declared):
        raise UsageError(
            f"no header declares the function {function}",
            where=where,
            fix=f"declare it in {', '.join(library.headers) or 'a header'}",
        )
    for key in ("rule", "reference"):
        if key in entry and not callable(getattr(module, entry[key], None)):
            raise UsageError(
                f"the Python file has no function {entry[key]}", where=where, fix=f"define it, or correct `{key}`"
            )
    types = tuple(entry.get("types", ("float32",)))
    unknown = [t for t in types if t not in NUMBERS]
    if unknown:
        raise UsageError(f"unknown element type {unknown[0]}", where=where, fix="choose from: " + ", ".join(NUMBERS))
    reference = getattr(module, entry["reference"]) if "reference" in entry else None
    return Operator(
        name,
        function,
        library,
        getattr(module, entry["rule"]),
        reference,
        types,
        tuple((int(o), int(i)) for o, i in entry.get("inplace", ())),
    )


# --- asking --------------------------------------------------------------------------------------


def ruled(
    operator: Operator, inputs: Sequence[Input], attributes: Mapping[str, Any], where: str
) -> tuple[list[TensorType], dict[str, Any], int]:
    """What the operator's rule says about a node: its outputs, the fields of the C function's struct, bytes of scratch.

    Raises UnsupportedError for element types that it does not take, UsageError where the rule fails or gives nonsense."""
    wrong = next((i.dtype for i in inputs if i.dtype not in operator.types), None)
    if wrong:
        raise UnsupportedError(
            f"{operator.name} does not take {wrong}",
            where=where,
            fix="it takes " + ", ".join(operator.types) + ": insert a Cast, or extend its library",
        )
    rule = f"the rule of {operator.name}"
    try:
        said = operator.rule(list(inputs), dict(attributes))
    except EdgecError:
        raise
    except Exception as e:
        raise UsageError(
            f"{rule} fails: {type(e).__name__}: {e}",
            where=f"{where}, {operator.library.where}",
            fix="correct the rule, or the node",
        ) from e
    try:
        outputs = [
            TensorType(str(np.dtype(d)) if d not in NUMBERS else d, tuple(int(n) for n in s))
            for d, s in said["outputs"]
        ]
        params = {k: _param(v) for k, v in said.get("params", _numbers(attributes)).items()}
        scratch = int(said.get("scratch", 0))
    except (TypeError, ValueError, KeyError, AttributeError) as e:
        raise UsageError(
            f"{rule} gives {said!r}: {type(e).__name__}: {e}",
            where=operator.library.where,
            fix='return {"outputs": [(dtype, shape), ...]}, and params and scratch where needed',
        ) from None
    if any(n < 1 for t in outputs for n in t.shape) or any(t.dtype not in NUMBERS for t in outputs):
        raise UsageError(
            f"{rule} gives the outputs {', '.join(map(str, outputs))}",
            where=f"{where}, {operator.library.where}",
            fix="every extent must be at least 1, every type one of ONNX's",
        )
    return outputs, params, scratch


def _numbers(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that a C struct can hold."""
    return {
        k: v
        for k, v in attributes.items()
        if isinstance(v, (int, float)) or isinstance(v, tuple) and v and all(isinstance(x, (int, float)) for x in v)
    }


def _param(v: Any) -> int | float | tuple:
    if isinstance(v, (tuple, list, np.ndarray)):
        return tuple(_param(x) for x in v)
    return float(v) if isinstance(v, (float, np.floating)) else int(v)


def referred(operator: Operator, inputs: Sequence[np.ndarray], attributes: Mapping[str, Any]) -> list[np.ndarray]:
    """The operator's outputs by its Python reference. Raises UnsupportedError where it has none."""
    if operator.reference is None:
        raise UnsupportedError(
            f"{operator.name} has no reference: what it computes is known in C alone",
            where=operator.library.where,
            fix="add `reference`, a Python function, to its library",
        )
    return [np.asarray(y) for y in operator.reference(list(inputs), dict(attributes))]


def used(graph: Graph) -> list[Operator]:
    """The operators of a graph's nodes."""
    return list(dict.fromkeys(n.attrs["operator"] for n in graph.nodes if n.op == NODE))


def files(graph: Graph) -> dict[str, str]:
    """Path in the package -> text of the libraries that a graph uses. Raises UsageError where two have a file of one name."""
    found: dict[str, str] = {}
    for library in dict.fromkeys(o.library for o in used(graph)):
        for name, text in library.files.items():
            if found.setdefault(f"{FOLDER}/{name}", text) != text:
                raise UsageError(f"two libraries have a file {name}", where=library.where, fix="rename one of them")
    return found


def in_package(folder: Path) -> list[Operator]:
    """The operators that an emitted package carries."""
    return list(libraries(sorted((folder / FOLDER).glob("*.toml"))).values())
