"""Random small networks whose layers can stream: strides, dilations, padding, branches, pools, 1-D and 2-D."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, shape_inference

from edgec import onnx_in, order, pipeline, stream


@st.composite
def graphs(draw):
    """A graph after all passes, float32, with one input and one output."""
    shape = [1, draw(st.integers(1, 4)), draw(st.integers(3, 14)), draw(st.sampled_from([1, 1, 2, 5]))]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    nodes, constants, size, at = [], {}, list(shape), "x"

    def weights(*s):
        constants[f"w{len(constants)}"] = (rng.normal(size=s) * 0.5).astype(np.float32)
        return f"w{len(constants) - 1}"

    def add(op, inputs, **attrs):
        nodes.append(helper.make_node(op, inputs, [f"t{len(nodes)}"], name=f"n{len(nodes)}", **attrs))
        return f"t{len(nodes) - 1}"

    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["conv", "depthwise", "pool", "average", "relu", "residual", "branches"]))
        tall, wide = (draw(st.integers(1, min(3, n))) for n in size[2:])
        stride, pad = draw(st.integers(1, 2)), draw(st.sampled_from([0, 0, 1]))
        dilation = draw(st.integers(1, 2)) if 2 * (tall - 1) + 1 <= size[2] else 1
        pad = min(pad, dilation * (tall - 1), wide - 1)
        window = {"kernel_shape": [tall, wide], "strides": [stride, 1], "pads": [pad] * 4}
        moved = [(size[2] + 2 * pad - dilation * (tall - 1) - 1) // stride + 1, size[3] + 2 * pad - wide + 1]
        if kind in ("conv", "depthwise"):
            group = size[1] if kind == "depthwise" else 1
            out = size[1] if kind == "depthwise" else draw(st.integers(1, 5))
            at = add(
                "Conv", [at, weights(out, size[1] // group, tall, wide)], group=group, dilations=[dilation, 1], **window
            )
            size = [1, out, *moved]
        elif kind in ("pool", "average"):
            moved[0] = (size[2] + 2 * pad - tall) // stride + 1
            at = add(
                "MaxPool" if kind == "pool" else "AveragePool",
                [at],
                **{**window, "pads": [min(pad, tall - 1, wide - 1)] * 4},
            )
            size = [1, size[1], *moved]
        elif kind == "relu":
            at = add("Relu", [at])
        else:
            odd = 3 if size[2] >= 3 else 1
            side = add("Conv", [at, weights(size[1], size[1], odd, 1)], pads=[odd // 2, 0, odd // 2, 0])
            if kind == "branches":
                side = add(
                    "Relu", [add("Conv", [side, weights(size[1], size[1], odd, 1)], pads=[odd // 2, 0, odd // 2, 0])]
                )
                at = add("Conv", [at, weights(size[1], size[1], 1, 1)])
            at = add("Add", [side, at])
    if draw(st.booleans()):
        at = add("GlobalAveragePool", [at])
    nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    made = onnx_in.from_model(shape_inference.infer_shapes(model), "random")
    return pipeline.run_passes(pipeline.simplify(made), pipeline.ABSORB + pipeline.LAYOUT)


def all_regions(graph) -> list[stream.Region]:
    """Every stretch of the graph that can stream, whether it saves memory or not."""
    cuts, shapes, users = (
        order.cut_positions(graph, order.last_uses(graph)),
        [stream.shape_of(graph, n) for n in graph.nodes],
        graph.consumers(),
    )
    stretches = [(a, b) for a in cuts for b in cuts if b > a and all(shapes[a:b])]
    found = [stream._region(graph, a, b, shapes, users, False) for a, b in stretches]
    return [f[0] for f in found if f is not None]
