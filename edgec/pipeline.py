"""The driver: named lists of pure passes, a verification after each, then the program, its plan and its C."""
from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from . import (
    __version__,
    certificate,
    choose,
    cost,
    custom,
    emit,
    firmware,
    loop_passes,
    loop_verify,
    lower,
    order,
    placement,
    plan,
    plan_tie,
    push,
    render_c,
    state,
    stream,
    verify as spec,
)
from .board import Board
from .errors import UsageError
from .ir import Graph, TensorType, everywhere, graphs
from .kernels import narrow
from .kernels.choice import Offer, affordable
from .loops import Buffer, Call, Function, Program, program_text
from .ops.conv import faster
from .output import count_text, plural
from .passes import absorb, carried, channels, clips, constants, feedback, functions, layout, normalise

SIMPLIFY = (
    carried.drop_unread_carried,
    constants.constant_grids,
    normalise.drop_identities,
    normalise.global_pools,
    normalise.fold_pad,
    normalise.fold_affine,
    normalise.canonical_gemm,
    normalise.fold_affine,
    normalise.two_dimensional,
    normalise.sink_reshapes,
    normalise.softmax_last,
    normalise.explicit_windows,
)
ABSORB = (
    constants.constant_grids,
    clips.clip_before_quantize,
    absorb.fuse_clip,
    absorb.annotate,
    absorb.signed,
    absorb.sink_dequantize,
    absorb.raise_quantize,
    feedback.integer_state,
    functions.fuse_functions,
    absorb.absorb,
    absorb.fuse_tables,
)
LAYOUT = (
    layout.channels_last,
    layout.cancel_transposes,
    feedback.transposed_state,
    normalise.drop_identities,
)
CHANNELS = (
    channels.constant_layers,
    channels.constant_channels,
    order.smallest_peak,
)


def run_passes(graph: Graph, passes, dump: Callable[[str, str], None] = lambda name, text: None) -> Graph:
    """Applies the passes in order, inside bodies too; verifies and offers the text form after each."""
    for p in passes:
        graph = spec.verify(everywhere(graph, p), p.__name__)
        dump(p.__name__, str(graph))
    return graph


def simplify(graph: Graph) -> Graph:
    """What quantisation starts from: still ONNX operators, fewer of them."""
    return run_passes(graph, SIMPLIFY)


GOALS = ("ram", "balanced", "time", "size")


@dataclass(frozen=True, eq=False)
class Compiled:
    """source: the graph as it came in; graph: after all passes; program: planned; files: path in the package -> text;
    plan: the certificate of the program's memory, which is also the file plan.json."""

    source: Graph
    graph: Graph
    program: Program
    files: dict[str, str]
    c_name: str
    plan: dict
    stats: dict = field(default_factory=dict)


def compile_graph(
    graph: Graph,
    board: Board,
    *,
    goal: str = "balanced",
    name: str | None = None,
    dump_ir: str | Path | None = None,
    ram: int | None = None,
    flash: int | None = None,
    stream_input: str = "",
    layers: frozenset[str] | None = None,
    on_phase: Callable[[str, float, object], None] = lambda name, seconds, info: None,
) -> Compiled:
    """Graph -> C package for the board. name: the C prefix, by default the graph's name made an identifier.
    dump_ir: a folder that gets the text of the IR after every pass. goal "ram" streams layers row by row wherever that
    lowers the peak; "balanced" and "size" only where the arena would not fit `ram` or the board otherwise, and then the
    layers that cost the fewest cycles (`choose`); "time" never. "time" takes kernels that need more weights as far as
    `flash` and the board allow, "balanced" where that at most doubles the weights; see also `narrowed`.
    stream_input: "window" or "sliding": the input comes row by row (edgec/push.py); layers are streamed as for goal "ram".
    layers: output tensors of the convolutions that get such kernels, instead of those that the goal and the costs choose.
    Raises UnsupportedError listing all nodes."""
    dump = _dumper(dump_ir)
    source, c_name = graph, c_identifier(name or graph.name)

    def phase(label: str, work, info):
        start = time.perf_counter()
        result = work()
        on_phase(label, time.perf_counter() - start, info(result))
        return result

    dump("import", str(graph))
    whole, graph = phase("passes", lambda: _passed(graph, dump),
                         lambda g: f"{len(source.nodes)} -> {len(g[1].nodes)} nodes" + _pruned(channels.losses(*g)))
    limit = min((b for b in (ram, board.ram_bytes) if b), default=0)
    if stream_input:
        if graph.state:
            raise UsageError("an input cannot come row by row in a model with state", where=", ".join(i for i, _ in graph.state),
                             fix="leave out --stream-input and --sliding, or --state")
        graph = spec.verify(push.input_by_rows(graph), "input_by_rows")
        dump("input_by_rows", str(graph))
    board = narrowed(graph, board, goal, flash)
    regions = _regions(graph, goal, stream_input)
    offered, room = offers(graph, board, goal, flash)
    fast = affordable(offered, room) if layers is None else layers
    if not fast <= offered.keys():
        raise UsageError(
            f"there are no faster kernels for {', '.join(sorted(fast - offered.keys()))}", fix="tune again: edgec tune"
        )
    program = phase(
        "lower",
        lambda: _lowered(graph, board, regions, fast, dump, UNROLLED.get(goal, ())),
        lambda p: f"{len(p.steps)} steps" + _streamed(regions),
    )
    program = phase("plan", lambda: _planned(program, board, dump), _sizes)
    if goal == "time" and fast and limit and program.arena_bytes > limit:
        program = _planned(_lowered(graph, board, regions, frozenset(), dump, UNROLLED.get(goal, ())), board, dump)
    if goal in ("balanced", "size") and not stream_input and limit and program.arena_bytes > limit:
        unstreamed = cost.cycles(program)
        kinds = dict.fromkeys((fast, frozenset()))  # the faster kernels need more scratch
        chosen = phase(
            "choose",
            lambda: min(
                (choose.fitting(graph, lowering(board, f), partial(planned, board=board), limit) for f in kinds),
                key=lambda c: (max(c.arena_bytes, limit), c.cycles),
            ),
            lambda c: f"arena {c.arena_bytes:,} B{_streamed(c.regions)}, {_more(c.cycles, unstreamed)} cycles by the model",
        )
        program = chosen.program
    extra = custom.files(graph)
    own = [path.removesuffix(".c") for path in sorted(extra) if path.endswith(".c")]
    meta, plan_json = _meta(graph, board, c_name), certificate.make(program)
    files = phase(
        "emit",
        lambda: (
            emit.package(program, meta)
            | firmware.files(
                board,
                graph.name,
                c_name,
                goal,
                program.rowwise is not None,
                bool(program.state),
                [a.memory for a in program.arenas],
                own,
            )
        ),
        lambda f: f"{sum(map(len, f.values())) // 1024} KB of C",
    )
    files |= {"plan.json": certificate.text(plan_json), **extra}
    lost = {"channels": [asdict(x) for x in channels.losses(whole, graph)]}
    return Compiled(
        source,
        graph,
        program,
        files,
        c_name,
        plan_json,
        _stats(graph, program, meta) | lost | {"choices": _choices(graph, program, offered, room)},
    )


def _passed(graph: Graph, dump) -> tuple[Graph, Graph]:
    """The graph with all its channels, and without those that can go."""
    whole = run_passes(spec.verify(graph), SIMPLIFY + ABSORB + LAYOUT, dump)
    return whole, run_passes(whole, CHANNELS, dump)


def _pruned(losses: list[channels.Loss]) -> str:
    """What removing channels saved, for the phase line."""
    if not losses:
        return ""
    gone, saved = sum(x.channels_before - x.channels for x in losses), sum(x.macs_before - x.macs for x in losses)
    return f", {plural(gone, 'channel')} and {count_text(saved)} multiply-accumulates fewer"


def c_identifier(text: str) -> str:
    """A file's stem as the prefix of C names: kws-int8.v2 -> kws_int8_v2."""
    return render_c.identifier(text, "model")


def _dumper(folder: str | Path | None) -> Callable[[str, str], None]:
    if folder is None:
        return lambda name, text: None
    root, count = Path(folder), iter(range(1000))
    root.mkdir(parents=True, exist_ok=True)
    return lambda name, text: (root / f"{next(count):02}_{name}.txt").write_text(text, encoding="utf-8") and None


def _sizes(p: Program) -> str:
    proved = f", no placement below {p.placement_bound:,} B" if p.placement_bound > p.lower_bound else ""
    return f"arena {p.arena_bytes:,} B, lower bound {p.lower_bound:,} B{proved}" + _spread(p)


def _spread(p: Program) -> str:
    """How many bytes each memory holds, on a board with several."""
    return "".join(f", {a.nbytes:,} B in {a.memory}" for a in p.arenas)


def _regions(graph: Graph, goal: str, stream_input: str) -> tuple[stream.Region, ...]:
    if stream_input == "sliding":
        return (push.sliding_region(graph),)
    return stream.regions(graph, stream_input == "window") if goal == "ram" or stream_input else ()


def _streamed(regions) -> str:
    layers, count = plural(sum(len(r.nodes) for r in regions), "layer"), plural(len(regions), "region")
    return f", {layers} streamed in {count}" if regions else ""


UNROLLED = {"time": ("conv", "stem", "fc"), "ram": ("conv",)}  # code for a layer's number of taps; stem and fc take RAM
CODE_BYTES = 32 << 10  # set aside for code when flash is shared out


WIDE_WEIGHTS = {"pair": 1.5}  # ISAs whose kernels trade flash for speed: bytes that a weight takes beyond its own


def _flash(graph: Graph, board: Board, limit: int | None) -> tuple[int, int]:
    """(bytes of the constants, bytes that are left beside them and the code)"""
    packed = {n.inputs[1] for g in graphs(graph) for n in g.nodes if n.op in ("Conv", "Gemm")}
    constants = [t for g in graphs(graph) for t in g.tensors.values() if t.data is not None]
    weights = sum(narrow.nbytes(t.data) if t.name in packed else t.data.nbytes for t in constants)
    return weights, min(b for b in (limit, board.flash_bytes) if b) - weights - CODE_BYTES if limit or board.flash_bytes else 0


def narrowed(graph: Graph, board: Board, goal: str, flash: int | None) -> Board:
    """The board without the ISAs whose weights are too large for the goal ("size") or the flash."""
    weights, room = _flash(graph, board, flash)
    return replace(
        board, isa=tuple(i for i in board.isa if i not in WIDE_WEIGHTS or (goal != "size" and WIDE_WEIGHTS[i] * weights <= room))
    )


def offers(graph: Graph, board: Board, goal: str, flash: int | None) -> tuple[dict[str, Offer], int]:
    """The convolutions that could get faster kernels for whole tensors, by output tensor, and the flash for them in
    bytes."""
    if goal not in ("time", "balanced"):
        return {}, 0
    weights, room = _flash(graph, board, flash)
    found = faster(graph, board.isa)
    if goal == "time":
        return found, room
    return {k: o for k, o in found.items() if o.kernel != "conv_s8_dsp"}, min(room, weights)  # packed weights stay packed


def fast_layers(graph: Graph, board: Board, goal: str, flash: int | None) -> frozenset[str]:
    """The convolutions that get faster kernels for whole tensors, by output tensor."""
    return affordable(*offers(graph, board, goal, flash))


SAME = {"conv_s8_dsp": "stem_s8_dsp"}  # a kernel that is offered -> another form of it


def _choices(graph: Graph, program: Program, offered: Mapping[str, Offer], room: int) -> dict:
    """room: bytes of flash for faster kernels. offers: each with its layer, ONNX nodes, bytes and whether it is taken."""
    made = graph.producers()
    taken = {o for s in program.steps for c in loop_verify.statements(s.body) for o in s.outputs
             if isinstance(c, Call) and o in offered and c.kernel in (offered[o].kernel, SAME.get(offered[o].kernel))}
    return {
        "room": room,
        "offers": [
            {"layer": n, "origin": list(made[n].origin), "kernel": o.kernel, "flash": o.flash, "taken": n in taken}
            for n, o in offered.items()
        ],
    }


def lowering(board: Board, fast: frozenset[str]) -> Callable[[Graph, tuple[stream.Region, ...]], Program]:
    """(graph after all passes, regions to stream) -> program, not planned."""
    return lambda graph, regions: _lowered(graph, board, regions, fast, _dumper(None))


def planned(program: Program, work: int = placement.WORK, board: Board | None = None) -> Program:
    """The program with its plan, which is proved. work: of the search for offsets."""
    return _planned(program, board, _dumper(None), work)


def _more(cycles: float, than: float) -> str:
    """A difference in per cent, as +1.3 %."""
    return f"{100 * (cycles / than - 1):+.1f} %" if than else "+0.0 %"


def _lowered(graph: Graph, board: Board, regions, fast: frozenset[str], dump, unrolled: tuple[str, ...] = ()) -> Program:
    program = lower.lower(graph, board.isa, regions, fast, unrolled)
    dump("lower", program_text(program))
    loop_verify.verify(program, "lower")
    for p in loop_passes.PASSES:
        program = p(program)
        loop_verify.verify(program, p.__name__)
        dump(p.__name__, program_text(program))
    program = loop_verify.verify(state.settle(program), "settle")
    dump("settle", program_text(program))
    return program


def _planned(program: Program, board: Board | None, dump, work: int = placement.WORK) -> Program:
    program = plan.plan(program, work, board.rooms if board and not program.rowwise else ())
    plan_tie.certified(program)
    dump("plan", program_text(program))
    return program


def prices(graph: Graph, board: Board) -> tuple[float, int, dict[str, tuple[float, int]]]:
    """(modelled cycles of a run, bytes of constants, both by ONNX node for the step that it is part of) of goal "ram",
    every layer on whole tensors."""
    _, graph = _passed(graph, _dumper(None))
    program = _lowered(graph, narrowed(graph, board, "ram", None), (), frozenset(), _dumper(None))
    steps = [(s, cost.step_cycles(s), _constants(program, s)) for s in program.steps]
    nodes = {o: (cycles, flash) for s, cycles, flash in steps for o in s.origin}
    return sum(c for _, c, _ in steps), sum(b.nbytes for b in program.buffers.values() if b.place == "rom"), nodes


def _constants(program: Program, step: Function) -> int:
    """Bytes of the constants that a step reads."""
    return sum(program.buffers[b].nbytes for b in set(plan.touched(step.body)) if program.buffers[b].place == "rom")


def _meta(graph: Graph, board: Board, c_name: str) -> emit.Meta:
    def tensor(name: str) -> emit.TensorInfo:
        t = graph.type(name)
        scale, zero = (float(t.q.scale), int(t.q.zero_point)) if t.q is not None else (0.0, 0)
        return emit.TensorInfo(name, t.dtype, t.shape, scale, zero, graph.labels.get(name, ()))

    types = {n: str(t.type) for g in graphs(graph) for n, t in g.tensors.items() if t.data is None}
    return emit.Meta(c_name, graph.name, graph_hash(graph), f"edgec {__version__}", board.isa, tuple(map(tensor, graph.given)),
                     tuple(map(tensor, graph.results)), types, stamp=True, state=tuple(tensor(i) for i, _ in graph.state))


def graph_hash(graph: Graph) -> str:
    """SHA-256 of what the compiled network computes: its text form and its constants."""
    h = hashlib.sha256(str(graph).encode())
    for part in graphs(graph):
        for name in sorted(n for n, t in part.tensors.items() if t.data is not None):
            h.update(part.tensors[name].data.tobytes())
    return h.hexdigest()


def _type(b: Buffer) -> TensorType:
    return TensorType(b.dtype, (b.size,))


def _stats(graph: Graph, program: Program, meta: emit.Meta) -> dict:
    """What reports need: totals and one entry per step."""
    steps, tensors = [], {n: t.type for g in graphs(graph) for n, t in g.tensors.items()}
    for s, alive, made in zip(program.steps, plan.alive_in_steps(program), emit.functions(program, meta), strict=True):
        t = tensors[s.outputs[0]] if s.outputs else _type(program.buffers[s.result]) if s.result else TensorType("uint8", (0,))
        kernels = list(dict.fromkeys(c.kernel for c in loop_verify.statements(s.body) if isinstance(c, Call)))
        steps.append(
            {
                "name": s.name,
                "op": s.op,
                "control": s.control,
                "origin": list(s.origin),
                "macs": s.macs,
                "kernel": " + ".join(kernels),
                "dtype": t.dtype,
                "shape": list(t.shape),
                "bytes": t.nbytes,
                "weights_bytes": _constants(program, s),
                "alive_bytes": alive,
                **made,
            }
        )
    return {"arena_bytes": program.arena_bytes, "lower_bound": program.lower_bound, "macs": sum(s.macs for s in program.steps),
            "weights_bytes": sum(b.nbytes for b in program.buffers.values() if b.place == "rom"), "steps": steps}
