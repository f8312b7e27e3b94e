"""report.json, report.txt and report.html: what the network costs and where, from a compiled graph and its firmware."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from . import paths, sequences
from .output import bar_line, count_text, plural, size_text, table

if TYPE_CHECKING:
    from .board import Board
    from .ir import Graph
    from .pipeline import Compiled
    from .toolchain import Firmware

LARGEST = 8
GENERATED = "generated loops"
BOUNDARY = ("QuantizeLinear", "DequantizeLinear", "Cast")  # between integers and floats, not islands themselves


def make(compiled: Compiled, board: Board, firmware: Firmware | None, quantisation: Mapping | None = None) -> dict:
    """The report as a JSON-ready dict; sizes in bytes. firmware None: not compiled, the code's size is unknown."""
    s, g = compiled.stats, compiled.graph
    return {
        "name": compiled.c_name,
        "board": {"name": board.name, "cpu": board.cpu, "ram_bytes": board.ram_bytes, "flash_bytes": board.flash_bytes,
                  "rooms": {r.memory: r.size for r in board.rooms}},
        "inputs": [tensor_entry(g, n) | _as_pushed(compiled, n) for n in g.given],
        "outputs": [tensor_entry(g, n) for n in g.results],
        "state": _states(compiled),
        "macs": s["macs"],
        "memory": _memory(compiled, firmware),
        "flash": _flash(compiled, firmware),
        "steps": s["steps"],
        "choices": s["choices"],
        "channels": s["channels"],
        "float_islands": float_islands(s["steps"], g),
        "quantisation": dict(quantisation) if quantisation else None,
        "int8_would_save": int8_saving(compiled),
        "notes": list(g.notes),
    }


def tensor_entry(graph: Graph, name: str) -> dict:
    """name, dtype, shape and quantisation of an input or output; grid: the step of float values on an integer grid; labels:
    the texts that it counts; count: where data decide its size, the output that holds it, and its axis."""
    t = graph.type(name)
    maker = graph.producers().get(name)
    grid = 0.0
    if maker is not None and maker.op == "DequantizeLinear":
        q = graph.type(maker.inputs[0]).q
        scale = q.scale if q is not None else graph.const(maker.inputs[1])
        grid = float(scale) if scale is not None and scale.size == 1 else 0.0
    return {
        "name": name,
        "dtype": t.dtype,
        "shape": list(t.shape),
        "bytes": t.nbytes,
        "scale": float(t.q.scale) if t.q is not None else 0.0,
        "zero_point": int(t.q.zero_point) if t.q is not None else 0,
        "grid": grid,
        "labels": list(graph.labels.get(name, ())),
        "count": list(graph.counts[name]) if name in graph.counts else None,
    }


def _as_pushed(compiled: Compiled, name: str) -> dict:
    """Where the input comes row by row: the rows, the shape that the model's user knows and how it is transposed for the
    rows (None: it is not)."""
    if compiled.program.rowwise is None:
        return {}
    perm = compiled.graph.tensors[name].perm
    return {
        "shape": list(compiled.source.type(name).shape),
        "perm": list(perm) if perm else None,
        "rows": compiled.program.rowwise.rows,
    }


def _states(compiled: Compiled) -> list[dict]:
    """How each state is kept; the output that it is made of; and as the model's user knows it: type, shape and first value."""
    return [tensor_entry(compiled.graph, k.input) | {"output": k.output, "start": {
        "dtype": str(k.start.dtype), "shape": list(k.start.shape), "value": k.start.flat[0].item()}}
        for k in sequences.kept(compiled.source)]


def float_islands(steps: list[dict], graph: Graph) -> list[dict]:
    """Steps of an integer model that compute in floating point; empty for a float model."""
    if not quantised(graph):
        return []
    return [
        {"step": s["name"], "op": s["op"], "origin": s["origin"]}
        for s in steps
        if s["dtype"].startswith("float") and s["op"] not in BOUNDARY
    ]


def quantised(graph: Graph) -> bool:
    """True where the graph holds integers that stand for reals."""
    return any(t.type.q is not None for t in graph.tensors.values())


def int8_saving(compiled: Compiled) -> dict | None:
    """About what a float model would need as int8: a quarter of its weights and arena. None for integer models."""
    if quantised(compiled.graph) or not any(
        t.dtype == "float32" for t in map(compiled.graph.type, compiled.graph.inputs)
    ):
        return None
    weights, arena = compiled.stats["weights_bytes"], compiled.stats["arena_bytes"]
    return {"weights_bytes": weights - weights // 4, "arena_bytes": arena - arena // 4}


def _memory(compiled: Compiled, firmware: Firmware | None) -> dict:
    peak = compiled.plan["lower_bound"]
    origin = next((list(s.origin) for s in compiled.program.steps if s.name == peak["step"]), [])
    m = {
        "arena_bytes": compiled.stats["arena_bytes"],
        "lower_bound": compiled.stats["lower_bound"],
        "arenas": [{"memory": a.memory, "bytes": a.nbytes} for a in compiled.program.arenas],
        "peak": {"step": peak["step"], "tick": peak["tick"], "origin": origin, "alive": peak["alive"]},
        "context_bytes": None,
        "ram_bytes": None,
        "stack_reserve_bytes": None,
        "stack": None,
    }
    if firmware is not None:
        m |= {
            "context_bytes": next((s.size for s in firmware.symbols if s.name == "model"), None),
            "ram_bytes": firmware.ram_used,
            "stack_reserve_bytes": firmware.sections.get(".stack", 0),
            "stack": [
                {"function": n, "bytes": b.bytes, "path": list(b.path), "reason": b.reason}
                for n, b in firmware.stack_bounds.items()
            ],
        }
    return m


def _flash(compiled: Compiled, firmware: Firmware | None) -> dict:
    f = {
        "weights_bytes": compiled.stats["weights_bytes"],
        "bytes": None,
        "code_bytes": None,
        "sections": None,
        "largest": None,
    }
    if firmware is not None:
        loaded = [s for s in firmware.symbols if not s.section.startswith((".bss", ".arena"))]
        f |= {
            "bytes": firmware.flash_used,
            "code_bytes": max(0, firmware.flash_used - compiled.stats["weights_bytes"]),
            "sections": dict(sorted(firmware.sections.items())),
            "largest": [{"symbol": s.name, "bytes": s.size} for s in loaded[:LARGEST]],
        }
    return f


# --- text ----------------------------------------------------------------------------------------


def ram_needed(report: Mapping) -> int:
    """What the model itself occupies in RAM: the arena and its context, without stack and firmware."""
    return report["memory"]["arena_bytes"] + (report["memory"]["context_bytes"] or 0)


def flash_needed(report: Mapping) -> int:
    """The whole image, or the weights alone where nothing was compiled."""
    return report["flash"]["bytes"] if report["flash"]["bytes"] is not None else report["flash"]["weights_bytes"]


def bars(report: Mapping) -> list[str]:
    """The RAM and flash lines of `edgec build`; plain numbers on a board without memories (the host)."""
    m, f, board = report["memory"], report["flash"], report["board"]
    context = f", context {m['context_bytes']:,} B" if m["context_bytes"] is not None else ""
    rest = m["ram_bytes"] - ram_needed(report) if m["ram_bytes"] is not None else 0
    ram = f"arena {m['arena_bytes']:,} B{context}" + (f", the firmware's own {rest:,} B" if rest else "")
    code = f"weights {f['weights_bytes']:,} B" + (
        f", code and constants {f['code_bytes']:,} B" if f["bytes"] is not None else ", code not compiled"
    )
    if not board["ram_bytes"]:
        return [f"  RAM    {ram}", f"  flash  {code}"]
    return [
        bar_line("RAM", m["ram_bytes"] if m["ram_bytes"] is not None else m["arena_bytes"], board["ram_bytes"], ram),
        bar_line("flash", flash_needed(report), board["flash_bytes"], code),
    ]


def text(report: Mapping, width: int = 1000) -> str:
    """report.txt; names over `width` characters are shortened in the table of steps."""
    m, f, board = report["memory"], report["flash"], report["board"]
    lines = [f"{report['name']} on {board['name']}", "", *bars(report), ""]
    lines += _tensor_lines("input", report["inputs"]) + _tensor_lines("output", report["outputs"])
    lines += _tensor_lines("state", report["state"])
    lines += [
        f"  work    {count_text(report['macs'])} multiply-accumulates per run, {plural(len(report['steps']), 'step')}",
        "",
    ]
    lines += [
        "RAM",
        f"  arena        {m['arena_bytes']:>10,} B   lower bound {m['lower_bound']:,} B, "
        f"reached in {m['peak']['step']}{_origin(m['peak']['origin'])}",
    ]
    lines += [f"    in {a['memory']:<9} {a['bytes']:>10,} B   of {board['rooms'][a['memory']]:,} B" for a in m["arenas"]]
    lines += [f"    alive there {a['bytes']:>8,} B   {' = '.join(a['buffers'])}" for a in m["peak"]["alive"]]
    if m["ram_bytes"] is not None:
        lines += [
            f"  context      {m['context_bytes'] or 0:>10,} B",
            f"  image        {m['ram_bytes']:>10,} B   variables and arena of the firmware",
            f"  stack        {m['stack_reserve_bytes']:>10,} B   reserved",
        ]
        lines += [_stack_line(x) for x in m["stack"]]
    lines += ["", "Flash", f"  weights      {f['weights_bytes']:>10,} B"]
    if f["bytes"] is not None:
        lines += [
            f"  code, rest   {f['code_bytes']:>10,} B",
            f"  image        {f['bytes']:>10,} B",
            "  largest      " + ", ".join(f"{x['symbol']} {x['bytes']:,} B" for x in f["largest"]),
        ]
    lines += ["", "Steps", steps_table(report["steps"], width)]
    lines += [*_channels(report["channels"], width), *_remarks(report)]
    return "\n".join(lines) + "\n"


def _channels(losses: list[dict], width: int) -> list[str]:
    """Layers that lost channels, as a section of report.txt."""
    if not losses:
        return []
    rows = [(" + ".join(x["origin"]), x["channels_before"], x["channels"], x["macs_before"], x["macs"]) for x in losses]
    rows.append(("together", *(sum(r[k] for r in rows) for k in range(1, 5))))
    return [
        "",
        "Channels that can hold one value only, or that nothing reads, are removed",
        table(("ONNX nodes", "channels", "left", "MACs", "left"), rows, width=width),
    ]


def _stack_line(x: Mapping) -> str:
    """The worst case of one function with all that it calls, and on which path."""
    if x["bytes"] is None:
        return f"    {x['function']}: no bound: {x['reason']}"
    return f"    at most   {x['bytes']:>10,} B   {' > '.join(x['path'])}"


def steps_table(steps: list[dict], width: int) -> str:
    """One row per step: its ONNX nodes, operator, kernel, output and work."""
    rows = [
        (
            k,
            " + ".join(s["origin"]),
            s["op"],
            s["kernel"] or GENERATED,
            shape_text(s),
            s["bytes"],
            s["macs"] or None,
        )
        for k, s in enumerate(steps)
    ]
    return table(("step", "ONNX nodes", "operator", "kernel", "output", "bytes", "MACs"), rows, width=width)


def remedies_text(report: Mapping) -> str:
    """What would change the arena, as `edgec analyze` prints it. Cycles are those of the cost model."""
    now, saved = report["memory"]["arena_bytes"], report["memory"]["saved"]
    rows = [(r["what"], f"{r['arena_bytes']:,} B", f"{r['change_bytes']:+,} B", f"{100 * r['change_cycles']:+.1f} %", r["option"])
            for r in report["remedies"]]
    done = ", ".join(f"{what} {size:,} B" for what, size in saved.items() if size > 0)
    lines = ["", f"Other plans than this one of {now:,} B (cycles by a model)"]
    lines.append(table(("remedy", "arena", "RAM", "cycles", "option"), rows, width=100) if rows else "  none")
    return "\n".join([*lines, *([f"  saved already: {done}"] if done else []), ""])


def shape_text(t: Mapping) -> str:
    return f"{t['dtype']} {'x'.join(map(str, t['shape'])) or 'scalar'}"


def _tensor_lines(label: str, tensors: list[dict]) -> list[str]:
    return [f"  {label:<7} {t['name']}: {shape_text(t)}{_affine(t)}{_pushed(t)}" for t in tensors]


def _pushed(t: Mapping) -> str:
    rows = t.get("rows")
    return f"; pushed in {rows} rows of {t['bytes'] // rows:,} B, channels last" if rows else ""


def _affine(t: Mapping) -> str:
    if not t["scale"]:
        return ""
    zero = t["zero_point"]
    return f", real = (value {'-' if zero >= 0 else '+'} {abs(zero)}) * {t['scale']:.9g}"


def _origin(names: list[str]) -> str:
    return f" ({' + '.join(names)})" if names else ""


def _remarks(report: Mapping) -> list[str]:
    out = []
    if report["float_islands"]:
        out += ["", "Computed in floating point"] + [
            f"  {i['op']}{_origin(i['origin'])}" for i in report["float_islands"]
        ]
    if report["quantisation"]:
        q = report["quantisation"]
        out += [
            "",
            f"Quantised here: {q['method']} calibration, {plural(q['samples'], 'sample')}, {q['io']} in- and outputs",
        ]
        out += [f"  stays float: {n['op']} ({n['name']}): {n['reason']}" for n in q["float_nodes"]]
    if report["int8_would_save"]:
        s = report["int8_would_save"]
        out += [
            "",
            f"As int8 (--data calibration.npz) it would need about {size_text(s['weights_bytes'])} less flash "
            f"and {size_text(s['arena_bytes'])} less RAM.",
        ]
    if report["notes"]:
        out += ["", "Notes"] + [f"  {n}" for n in report["notes"]]
    return out


# --- HTML ----------------------------------------------------------------------------------------


def as_html(report: Mapping) -> str:
    """report.html: one file, no scripts, nothing loaded from elsewhere."""
    m, board = report["memory"], report["board"]
    amounts = (
        ("RAM", m["arena_bytes"] if m["ram_bytes"] is None else m["ram_bytes"], board["ram_bytes"]),
        ("Flash", flash_needed(report), board["flash_bytes"]),
    )
    memories = [
        {"label": label, "used": size_text(used), "size": size_text(size), "percent": _width(used, size)}
        for label, used, size in amounts
        if size
    ]
    most = max((s["macs"] for s in report["steps"]), default=0)
    steps = [
        {
            "index": k,
            "origin": " + ".join(s["origin"]),
            "op": s["op"],
            "kernel": s["kernel"] or GENERATED,
            "output": shape_text(s),
            "bytes": f"{s['bytes']:,}",
            "macs": f"{s['macs']:,}",
            "percent": _width(s["macs"], most),
        }
        for k, s in enumerate(report["steps"])
    ]
    title = f"{report['name']} on {board['name']}"
    template = paths.template("report/report.html.j2")
    return template.render(title=title, memories=memories, steps=steps, text=text(report))


def _width(part: int, whole: int) -> str:
    """Per cent of a bar, at most 100."""
    return f"{min(100.0, 100 * part / whole if whole else 0.0):.1f}"
