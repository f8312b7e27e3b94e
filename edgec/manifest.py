"""manifest.json: how a package came about, and what `validate` needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from . import __version__, emit, store
from .pipeline import Compiled
from .source import ALREADY_QUANTISED, FLOAT_REFERENCE, REFERENCE, Source


def make(
    compiled: Compiled, source: Source, options: dict, compiler: str | None, report: Mapping, files: Mapping[str, str]
) -> dict:
    """Everything that says how the package came about, and what `validate` needs. No times, no absolute paths."""
    return {
        "format": store.FORMAT,
        "tool": {"name": "edgec", "version": __version__},
        "name": compiled.c_name,
        "board": options["board"],
        "compiler": compiler,
        "options": options,
        "model": source.files["model"],
        "data": source.files["data"],
        "reference": REFERENCE,
        "float_reference": FLOAT_REFERENCE if FLOAT_REFERENCE in source.references else None,
        "inputs": report["inputs"],
        "outputs": report["outputs"],
        "state": report["state"],
        "quantised": bool(source.summary) or any(n.op in ALREADY_QUANTISED for n in source.graph.nodes),
        "steps": _trace_entries(compiled),
        "files": dict(files),
    }


def _trace_entries(compiled: Compiled) -> list[dict]:
    """Per step: the graph tensor that its trace holds and which ONNX tensor that is, for --per-layer. Where that is not
    plain (a step with several outputs of one size, or that streams rows) the step is left out of the comparison."""
    from .ir import graphs

    found = []
    tensors = {n: t for g in reversed([*graphs(compiled.graph)]) for n, t in g.tensors.items()}
    for step in compiled.program.steps:
        traced = emit.result(compiled.program, step)
        fitting = [o for o in step.outputs if traced is not None and tensors[o].type.nbytes == traced.nbytes]
        name = fitting[0] if len(fitting) == 1 else ""
        entry = {
            "step": step.name,
            "op": step.op,
            "origin": list(step.origin),
            "tensor": name,
            "source": "",
            "perm": None,
            "channels": None,
        }
        if name:
            t = tensors[name]
            q = t.type.q
            entry |= {
                "source": t.source,
                "perm": list(t.perm) if t.perm else None,
                "channels": asdict(t.channels) if t.channels else None,
                "dtype": t.type.dtype,
                "shape": list(t.type.shape),
                "scale": float(q.scale) if q is not None and q.axis is None else 0.0,
                "zero_point": int(q.zero_point) if q is not None and q.axis is None else 0,
            }
        found.append(entry)
    return found
