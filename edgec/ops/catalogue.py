"""What edgec compiles, as a table made from the operator records and ONNX's own schemas: `edgec ops` and OPERATORS.md."""
from __future__ import annotations

import functools

import onnx

from .. import control, qoperator
from . import table
from .base import Op

RANDOM = {"RandomUniformLike", "RandomNormalLike"}
SAID = {"integer": "integer arithmetic", "lut": "table", "move": "moves bytes", "": ""}


@functools.cache
def schemas() -> dict[str, list[onnx.defs.OpSchema]]:
    """All versions of each operator by its full name, oldest first."""
    found: dict[str, list[onnx.defs.OpSchema]] = {}
    for s in onnx.defs.get_all_schemas_with_history():
        if not s.deprecated:
            found.setdefault(f"{s.domain}.{s.name}" if s.domain else s.name, []).append(s)
    return {name: sorted(versions, key=lambda s: s.since_version) for name, versions in found.items()}


def operators() -> list[dict]:
    """One entry per operator, ONNX's own before those of other domains."""
    found = [_entry(name, op) for name, op in table.OPS.items() if not name.startswith("edgec.")]
    found += [_entry(name, None, "rewritten by others") for name in table.REWRITTEN]
    found += [_entry(name, None, "resolved at import") for name in control.OPERATORS if name not in table.OPS]
    found += [_entry(name, None, "integer arithmetic") for name in qoperator.FORMS]
    known = {o["name"] for o in found}
    found += [_entry(name, None, "by ONNX's function body") for name, versions in schemas().items()
              if name not in known and (versions[-1].has_function or versions[-1].has_context_dependent_function)
              and "training" not in name and not RANDOM & _parts(versions[-1])]
    return sorted(found, key=lambda o: ("." in o["name"], o["name"]))


def _parts(schema: onnx.defs.OpSchema) -> set[str]:
    """The operators of a function body that does not depend on the node."""
    return (
        {n.op_type for n in schema.function_body.node} if schema.has_function else RANDOM if schema.name == "Bernoulli" else set()
    )


def _entry(name: str, op: Op | None, how: str = "") -> dict:
    versions = schemas().get(name, [])
    newest = versions[-1] if versions else None
    constant = [newest.inputs[min(k, len(newest.inputs) - 1)].name for k in (op.static if op else ()) if newest and newest.inputs]
    return {"name": name, "opsets": f"{versions[0].since_version}-{_last(newest)}" if newest else "",
            "dtypes": list(dict.fromkeys(op.dtypes)) if op else [], "int8": SAID.get(op.quant, op.quant) if op else how,
            "kernels": list(op.kernels) if op else [how] if how else [], "constant": constant}


def _last(schema: onnx.defs.OpSchema) -> int:
    """The newest opset of the schema's domain."""
    return (
        onnx.defs.onnx_ml_opset_version()
        if schema.domain == "ai.onnx.ml"
        else onnx.defs.onnx_opset_version()
        if not schema.domain
        else schema.since_version
    )


def page() -> str:
    """OPERATORS.md."""
    lines = [
        "# Operators",
        "",
        "Made by `python -m edgec.ops.catalogue`; `edgec ops` prints the same from the code itself.",
        "",
        "Narrow types (float16, bfloat16, float8, float4, int4, uint4, int2, uint2) are stored as such and computed in the",
        "type that `float32` and `int8` stand for in the table. A constant input is part of the model or given with `--const`.",
        "",
        "| operator | opsets | element types | int8 | kernels | constant inputs |",
        "|---|---|---|---|---|---|",
    ]
    for o in operators():
        cells = (
            o["name"],
            o["opsets"],
            " ".join(o["dtypes"]),
            o["int8"],
            ", ".join(o["kernels"]) or "loop nest",
            ", ".join(o["constant"]),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def lines_by_family() -> list[tuple[str, int, int]]:
    """(file of a family, its lines of code, its operators): what an operator costs."""
    from pathlib import Path

    found = []
    for family in table.FAMILIES:
        text = Path(family.__file__).read_text(encoding="utf-8").splitlines()
        code = sum(bool(line.strip()) and not line.strip().startswith("#") for line in text)
        found.append((family.__name__.rpartition(".")[2], code, len(family.OPS)))
    return found


if __name__ == "__main__":
    from pathlib import Path

    (Path(__file__).resolve().parent.parent / "OPERATORS.md").write_text(page(), encoding="utf-8")
    for name, code, count in lines_by_family():
        print(f"{name:12} {code:5} lines {count:4} operators {code / count:6.1f} lines each")
