"""Models with If, Loop and Scan: those that the tests name, and random ones whose arithmetic is exact everywhere."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
N, info = helper.make_node, helper.make_tensor_value_info


def model(nodes, inputs, outputs, constants=()):
    """inputs, outputs: name -> shape, or (element type, shape)."""

    def infos(given):
        pairs = (
            (n, s if s and isinstance(s[0], int) and len(s) == 2 and isinstance(s[1], list) else (FLOAT, s))
            for n, s in given.items()
        )
        return [info(n, *s) for n, s in pairs]

    values = [numpy_helper.from_array(np.asarray(v), k) for k, v in dict(constants).items()]
    made = helper.make_model(
        helper.make_graph(nodes, "g", infos(inputs), infos(outputs), values),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    made.ir_version = 9
    onnx.checker.check_model(made)
    return made


def body(nodes, inputs, outputs):
    """A subgraph; inputs and outputs: (name, element type, shape)."""
    return helper.make_graph(nodes, "body", [info(*i) for i in inputs], [info(*o) for o in outputs])


def loop_body(nodes, carried, rows=(), go="go"):
    """The body of a Loop: carried: (name, name after a turn, type, shape); rows: (name, type, shape)."""
    return body(
        nodes,
        [("turn", INT, []), ("go", BOOL, []), *((n, t, s) for n, _, t, s in carried)],
        [(go, BOOL, []), *((n, t, s) for _, n, t, s in carried), *rows],
    )


def swapping():
    """Fibonacci numbers: each carried tensor becomes the other, or a sum of both."""
    inner = loop_body(
        [N("Add", ["a", "b"], ["c"]), N("Identity", ["b"], ["b0"]), N("Identity", ["go"], ["go1"])],
        [("a", "b0", FLOAT, [2]), ("b", "c", FLOAT, [2])],
        [],
        "go1",
    )
    return model(
        [N("Loop", ["n", "", "x", "y"], ["u", "v"], body=inner, name="loop")],
        {"x": [2], "y": [2]},
        {"u": [2], "v": [2]},
        {"n": np.int64(9)},
    )


def exchange():
    """Two carried tensors that only change places."""
    inner = loop_body(
        [N("Identity", ["go"], ["go1"]), N("Identity", ["b"], ["b0"]), N("Identity", ["a"], ["a0"])],
        [("a", "b0", FLOAT, [2]), ("b", "a0", FLOAT, [2])],
        [],
        "go1",
    )
    return model(
        [N("Loop", ["n", "", "x", "y"], ["u", "v"], body=inner, name="loop")],
        {"x": [2], "y": [2]},
        {"u": [2], "v": [2]},
        {"n": np.int64(3)},
    )


def halving(most=None):
    """While the sum is above a limit, halve; each turn's values are a row where there is a bound."""
    rows = [("row", FLOAT, [3])] if most else []
    inner = loop_body(
        [
            N("Mul", ["s", "half"], ["s1"]),
            N("ReduceSum", ["s1"], ["t"], keepdims=0),
            N("Less", ["limit", "t"], ["go1"]),
            *([N("Neg", ["s1"], ["row"])] if most else []),
        ],
        [("s", "s1", FLOAT, [3])],
        rows,
        "go1",
    )
    return model(
        [
            N("ReduceSum", ["x"], ["t0"], keepdims=0),
            N("Less", ["limit", "t0"], ["first"]),
            N("Loop", ["most" if most else "", "first", "x"], ["y"] + ["rows"] * bool(most), body=inner, name="loop"),
        ],
        {"x": [3], "limit": []},
        {"y": [3]} | ({"rows": ["n", 3]} if most else {}),
        {"half": np.float32(0.5)} | ({"most": np.int64(most)} if most else {}),
    )


def counted():
    """A trip count that is an input."""
    inner = loop_body(
        [N("Cast", ["turn"], ["f"], to=FLOAT), N("Add", ["s", "f"], ["s1"]), N("Identity", ["go"], ["go1"])],
        [("s", "s1", FLOAT, [2])],
        [],
        "go1",
    )
    return model([N("Loop", ["n", "", "x"], ["y"], body=inner, name="loop")], {"x": [2], "n": (INT, [])}, {"y": [2]})


def growing():
    """A carried tensor that gets longer: unrolled."""
    inner = loop_body(
        [N("Concat", ["s", "s"], ["s1"], axis=0), N("Identity", ["go"], ["go1"])],
        [("s", "s1", FLOAT, ["n"])],
        [],
        "go1",
    )
    return model(
        [N("Loop", ["n", "", "x"], ["y"], body=inner, name="loop")], {"x": [2]}, {"y": [16]}, {"n": np.int64(3)}
    )


def scanned(back=0, axis=0, out_axis=0):
    """Running sums along an axis, forward or backward."""
    shape = [3, 2] if axis == 0 else [2, 3]
    inner = body(
        [N("Add", ["s", "v"], ["s1"]), N("Mul", ["s1", "v"], ["row"])],
        [("s", FLOAT, [2]), ("v", FLOAT, [2])],
        [("s1", FLOAT, [2]), ("row", FLOAT, [2])],
    )
    return model(
        [
            N(
                "Scan",
                ["s0", "x"],
                ["y", "rows"],
                body=inner,
                num_scan_inputs=1,
                scan_input_axes=[axis],
                scan_output_axes=[out_axis],
                scan_input_directions=[back],
                scan_output_directions=[back],
                name="scan",
            )
        ],
        {"s0": [2], "x": shape},
        {"y": [2], "rows": [3, 2] if out_axis == 0 else [2, 3]},
    )


def chosen():
    """Two branches of different work, one of which passes a tensor through."""
    rng = np.random.default_rng(0)
    then = body(
        [N("MatMul", ["x", "w"], ["m"]), N("Relu", ["m"], ["p"]), N("Identity", ["x"], ["p2"])],
        [],
        [("p", FLOAT, [1, 4]), ("p2", FLOAT, [1, 4])],
    )
    other = body([N("Neg", ["x"], ["q"]), N("Abs", ["q"], ["q2"])], [], [("q", FLOAT, [1, 4]), ("q2", FLOAT, [1, 4])])
    return model(
        [
            N("ReduceSum", ["x"], ["s"], keepdims=0),
            N("Less", ["limit", "s"], ["c"]),
            N("If", ["c"], ["r", "r2"], then_branch=then, else_branch=other, name="if"),
            N("Add", ["r", "r2"], ["y"]),
        ],
        {"x": [1, 4], "limit": []},
        {"y": [1, 4]},
        {"w": rng.normal(size=(4, 4)).astype(np.float32)},
    )


NAMED = {
    "swapping": swapping,
    "exchange": exchange,
    "while": halving,
    "bounded": lambda: halving(12),
    "counted": counted,
    "growing": growing,
    "scan": scanned,
    "scan_backward": lambda: scanned(back=1),
    "scan_axes": lambda: scanned(axis=1, out_axis=1),
    "if": chosen,
}


def feeds(m, seed: int) -> dict[str, np.ndarray]:
    """Small integers as inputs, no negative scalars: every sum and product of few of them is exact, every loop ends."""
    rng = np.random.default_rng(seed)
    found = {}
    for i in m.graph.input:
        t = i.type.tensor_type
        shape = [d.dim_value for d in t.shape.dim]
        value = rng.integers(0 if not shape else -4, 6, shape)
        found[i.name] = value.astype(np.int64 if t.elem_type == INT else np.float32)
    return found


@st.composite
def models(draw):
    """A model of float32[3] tensors: exact elementwise operators, with branches, loops and scans in each other."""
    count = iter(range(1000))

    def name():
        return f"t{next(count)}"

    def flat(known, nodes, depth):
        """Appends a few operators; known: tensors that can be read."""
        for _ in range(draw(st.integers(1, 3))):
            kind = draw(st.sampled_from(["one", "two", "two"] + (["if", "loop", "while", "scan"] if depth else [])))
            o = name()
            if kind == "one":
                nodes.append(
                    N(draw(st.sampled_from(["Neg", "Abs", "Relu", "Identity"])), [pick(known)], [o], name=f"n{o}")
                )
            elif kind == "two":
                op = draw(st.sampled_from(["Add", "Sub", "Max", "Min"]))
                nodes.append(N(op, [pick(known), pick(known)], [o], name=f"n{o}"))
            elif kind == "if":
                nodes += [
                    N("Greater", [pick(known), pick(known)], [f"{o}/gt"]),
                    N("Cast", [f"{o}/gt"], [f"{o}/f"], to=FLOAT),
                    N("ReduceMax", [f"{o}/f"], [f"{o}/m"], keepdims=0),
                    N("Cast", [f"{o}/m"], [f"{o}/c"], to=BOOL),
                ]
                two = name()
                sides = {f"{side}_branch": inner(known, depth - 1, 2) for side in ("then", "else")}
                nodes.append(N("If", [f"{o}/c"], [o, two], name=f"n{o}", **sides))
                known.append(two)
            elif kind == "scan":
                a, b = name(), name()
                nodes.append(N("Unsqueeze", [pick(known), "first"], [f"{o}/row"]))
                nodes.append(N("Concat", [f"{o}/row"] * 3, [f"{o}/rows"], axis=0))
                g = inner([*known, a, b], depth - 1, 2, [(a, FLOAT, [3]), (b, FLOAT, [3])])
                back = draw(st.integers(0, 1))
                nodes.append(
                    N(
                        "Scan",
                        [pick(known), f"{o}/rows"],
                        [o, f"{o}/out"],
                        name=f"n{o}",
                        body=g,
                        num_scan_inputs=1,
                        scan_output_directions=[back],
                        scan_input_axes=[draw(st.integers(0, 1))],
                    )
                )
                known.append(reduced(nodes, f"{o}/out"))
            else:
                a, b, turn, go = name(), name(), name(), name()
                rows = draw(st.integers(0, 1))
                g = inner(
                    [*known, a, b],
                    depth - 1,
                    2 + rows,
                    [(turn, INT, []), (go, BOOL, []), (a, FLOAT, [3]), (b, FLOAT, [3])],
                )
                more = name()
                if kind == "while":
                    g.node.extend(
                        [
                            N("ReduceSum", [g.output[0].name], [f"{more}/s"], keepdims=0),
                            N("Less", [f"{more}/s", "limit"], [more]),
                        ]
                    )
                else:
                    g.node.append(N("Identity", [go], [more]))
                g.output.insert(0, info(more, BOOL, []))
                two = name()
                outputs = [o, two] + [f"{o}/out"] * rows
                most = "most" if kind == "while" or draw(st.booleans()) else "few"
                nodes.append(N("Loop", [most, "", pick(known), pick(known)], outputs, name=f"n{o}", body=g))
                known.append(two)
                if rows and kind == "loop":
                    known.append(reduced(nodes, f"{o}/out"))
            known.append(o)

    def reduced(nodes, rows):
        nodes.append(N("ReduceMax", [rows, "first"], [f"{rows}/max"], keepdims=0))
        return f"{rows}/max"

    def pick(known):
        return draw(st.sampled_from(known[-6:]))

    def inner(known, depth, outputs, inputs=()):
        known, nodes = list(known), []
        flat(known, nodes, depth)
        made = []
        for _ in range(outputs):  # every result is made inside, as ONNX wants it
            made.append(name())
            nodes.append(N("Identity", [pick(known)], [made[-1]], name=f"n{made[-1]}"))
        return body(nodes, inputs, [(o, FLOAT, [3]) for o in made])

    nodes: list[onnx.NodeProto] = []
    known = ["x", "y"]
    flat(known, nodes, 2)
    flat(known, nodes, 1)
    nodes.append(N("Add", [known[-1], known[-2]], ["z"]))
    constants = {"first": np.array([0], np.int64), "most": np.int64(4), "few": np.int64(2), "limit": np.float32(20)}
    return model(nodes, {"x": [3], "y": [3]}, {"z": [3]}, constants)
