"""Removing constant and dead channels: every output keeps its bits, and what can go does go."""

from __future__ import annotations

import shutil
from math import prod

import numpy as np
import onnx
import pytest
from hypothesis import given, settings, strategies as st
from networks import samples
from onnx import TensorProto, helper, numpy_helper

import edgec
from edgec import (
    loop_interp,
    loop_verify,
    lower,
    onnx_in,
    pipeline,
    plan,
    reference,
    toolchain,
    verify,
)
from edgec.ir import Graph, Node, QParams, Tensor, TensorType, attrs
from edgec.passes import channels

needs_qemu = pytest.mark.skipif(
    None in map(shutil.which, (toolchain.ARM_GCC, "qemu-system-arm")), reason="needs the ARM compiler and QEMU"
)


class Net:
    """A quantised graph under construction, channels last; methods return the name of the new tensor."""

    def __init__(self, seed: int = 0):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.tensors, self.inputs, self.outputs = [], {}, [], []

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].type.shape

    def tensor(self, shape, q: QParams | None, data=None, dtype: str = "int8") -> str:
        name = f"t{len(self.tensors)}"
        self.tensors[name] = Tensor(name, TensorType(dtype, tuple(shape), q), data)
        return name

    def const(self, data, q: QParams | None = None) -> str:
        data = np.asarray(data)
        return self.tensor(data.shape, q, data, str(data.dtype))

    def node(self, op: str, inputs, shape, q: QParams | None, **attributes) -> str:
        y = self.tensor(shape, q)
        self.nodes.append(Node(op, tuple(inputs), (y,), attrs(**attributes), (f"{op}_{y}",)))
        return y

    def q(self, name: str) -> QParams:
        return self.tensors[name].type.q

    def input(self, shape, scale=0.1, zero=0) -> str:
        self.inputs.append(self.tensor(shape, QParams.of(scale, zero)))
        return self.inputs[-1]

    def layer(
        self,
        x: str,
        w,
        bias,
        pads=(0, 0, 0, 0),
        strides=(1, 1),
        dilations=(1, 1),
        group=1,
        scale=0.1,
        zero=-128,
        w_scale=0.05,
        **extra,
    ) -> str:
        """Conv, or Gemm where w has two axes. w: int [OC][KH][KW][C/group] or [N][K]."""
        w, bias = np.asarray(w, np.int8), np.asarray(bias, np.int32)
        wq = QParams.of(np.broadcast_to(np.float32(w_scale), len(w)), 0, 0)
        ins = (
            x,
            self.const(w, wq),
            self.const(bias, QParams.of(self.q(x).scale * np.broadcast_to(wq.scale, len(w)), 0, 0)),
        )
        q = QParams.of(scale, zero)
        if w.ndim == 2:
            return self.node("Gemm", ins, (self.shape(x)[0], len(w)), q, transB=1, **extra)
        window = dict(kernel_shape=w.shape[1:3], pads=pads, strides=strides, dilations=dilations)
        return self.node(
            "Conv",
            ins,
            self._windowed(x, len(w), **window),
            q,
            channels_last=1,
            group=group,
            auto_pad="NOTSET",
            **window,
            **extra,
        )

    def _windowed(self, x, oc, kernel_shape, pads, strides, dilations=(1, 1)):
        size = [
            (n + pads[k] + pads[k + 2] - dilations[k] * (kernel_shape[k] - 1) - 1) // strides[k] + 1
            for k, n in enumerate(self.shape(x)[1:3])
        ]
        return (self.shape(x)[0], *size, oc)

    def pool(
        self, op: str, x: str, kernel, pads=(0, 0, 0, 0), strides=(1, 1), q: QParams | None = None, **extra
    ) -> str:
        window = dict(kernel_shape=kernel, pads=pads, strides=strides)
        return self.node(
            op, (x,), self._windowed(x, self.shape(x)[3], **window), q or self.q(x), channels_last=1, **window, **extra
        )

    def add(self, a: str, b: str, op: str = "Add", scale=0.2, zero=0, **extra) -> str:
        return self.node(
            op, (a, b), np.broadcast_shapes(self.shape(a), self.shape(b)), QParams.of(scale, zero), **extra
        )

    def graph(self, *outputs: str) -> Graph:
        return verify.verify(Graph("net", tuple(self.nodes), dict(self.tensors), tuple(self.inputs), outputs))


def removed(graph: Graph, block: int = 1) -> Graph:
    """Without fillers what goes is seen channel by channel."""
    return verify.verify(channels.constant_channels(channels.constant_layers(graph), block))


def macs(graph: Graph) -> int:
    return sum(
        graph.type(n.outputs[0]).size // graph.type(n.inputs[1]).shape[0] * graph.type(n.inputs[1]).size
        for n in graph.nodes
        if n.op in ("Conv", "Gemm")
    )


def feeds(graph: Graph, seed: int = 0):
    """Inputs of all kinds: random ones, and the ends of the range."""
    rng = np.random.default_rng(seed)
    shapes = {i: graph.type(i).shape for i in graph.inputs}
    yield {i: np.full(s, -128, np.int8) for i, s in shapes.items()}
    yield {i: np.full(s, 127, np.int8) for i, s in shapes.items()}
    for _ in range(2):
        yield {i: rng.integers(-128, 128, s).astype(np.int8) for i, s in shapes.items()}
        yield {i: rng.choice(np.array([-128, 127], np.int8), s) for i, s in shapes.items()}


def check(graph: Graph, block: int = 1) -> Graph:
    """The graph without its channels: equal outputs, and equal inner tensors in the channels that are left."""
    small = removed(graph, block)
    for feed in feeds(graph):
        want = reference.run(graph, feed, keep=lambda n: True)
        got = reference.run(small, feed, keep=lambda n: True)
        for name in small.outputs:
            assert np.array_equal(got[name], want[name])
        for name in got.keys() & want.keys():
            left = small.tensors[name].channels
            if left is None:
                assert np.array_equal(got[name], want[name]), name
                continue
            kept = np.array(left.kept)
            assert left.count == want[name].shape[left.axis]
            assert np.array_equal(
                got[name].compress(kept >= 0, left.axis), want[name].take(kept[kept >= 0], left.axis)
            ), name
    return small


def channels_of(graph: Graph, name: str) -> list[int]:
    """The numbers of the channels that are left and mean something."""
    t = graph.tensors[name]
    return list(range(t.type.shape[-1])) if t.channels is None else [k for k in t.channels.kept if k >= 0]


def weights(net: Net, oc: int, kernel: tuple[int, int], c: int) -> np.ndarray:
    """No zero among them."""
    w = net.rng.integers(1, 128, (oc, *kernel, c)) * net.rng.choice([-1, 1], (oc, *kernel, c))
    return w.astype(np.int8)


def first(net: Net, zero=-128, constants=(-400, 60000), **more) -> tuple[str, int]:
    """An 8-channel layer of which channels 2 and 5 hold one value only: the zero point and 127 by default."""
    x = net.input((1, 6, 6, 3))
    w = weights(net, 8, (3, 3), 3)
    w[[2, 5]] = 0
    bias = np.zeros(8)
    bias[[2, 5]] = constants
    return net.layer(x, w, bias, zero=zero, **more)


# --- what goes ---------------------------------------------------------------------------------


def test_constants_go_into_the_bias_of_a_pointwise_layer():
    net = Net()
    h = first(net)
    y = net.layer(h, weights(net, 4, (1, 1), 8), np.zeros(4), zero=3)
    small = check(net.graph(y))
    assert channels_of(small, h) == [0, 1, 3, 4, 6, 7]
    assert macs(small) == macs(net.graph(y)) * 6 // 8
    assert small.type(y).shape == net.shape(y)


def test_padding_holds_the_zero_point_not_the_constant():
    def left(pads, border=1, zero=-128):
        net = Net()
        h = first(net, zero=zero, constants=(0, 60000))
        w = weights(net, 4, (3, 3), 8)
        if not border:
            middle = w[:, 1, 1, 5].copy()
            w[..., 5] = 0
            w[:, 1, 1, 5] = middle
        return channels_of(check(net.graph(net.layer(h, w, np.zeros(4), pads, zero=3))), h)

    assert left((0, 0, 0, 0)) == [0, 1, 3, 4, 6, 7]
    assert left((1, 1, 1, 1)) == [0, 1, 3, 4, 5, 6, 7]
    assert left((0, 0, 0, 1)) == [0, 1, 3, 4, 5, 6, 7]
    assert left((1, 1, 1, 1), border=0) == [0, 1, 3, 4, 6, 7]
    assert left((1, 1, 1, 1), zero=7) == [0, 1, 3, 4, 5, 6, 7]


def test_a_depthwise_layer_goes_where_its_border_is_constant_too():
    def left(bias):
        net = Net()
        h = first(net)
        w = np.abs(weights(net, 8, (3, 3), 1))
        d = net.layer(h, w, [0] * 5 + [bias, 0, 0], (1, 1, 1, 1), group=8, scale=30.0)
        y = net.layer(d, weights(net, 4, (1, 1), 8), np.zeros(4), zero=0)
        small = check(net.graph(y))
        assert small.type(h).shape[-1] == small.type(d).shape[-1]
        group = {n.outputs[0]: n.attrs["group"] for n in small.nodes if n.op == "Conv"}
        assert group[d] == small.type(d).shape[-1]
        return channels_of(small, d)

    assert left(0) == [0, 1, 3, 4, 5, 6, 7]  # channel 5 is 127 inside, but less along the border
    assert left(10**7) == [0, 1, 3, 4, 6, 7]  # now it is 127 there too


def test_a_layer_that_is_all_constant_becomes_a_constant():
    net = Net()
    h = first(net)
    d = net.layer(h, weights(net, 8, (3, 3), 8), np.full(8, 10**8))
    y = net.add(
        net.layer(d, weights(net, 3, (1, 1), 8), np.zeros(3)),
        net.layer(net.inputs[0], weights(net, 3, (5, 5), 3), np.zeros(3)),
    )
    small = check(net.graph(y))
    assert [n.op for n in small.nodes] == ["Conv", "Add"]


def test_an_output_that_is_constant_keeps_its_name_and_shape():
    net = Net()
    y = net.layer(first(net), weights(net, 8, (3, 3), 8), np.full(8, 10**8))
    small = check(net.graph(y))
    assert [n.op for n in small.nodes] == ["Identity"]
    runs(small)


def test_what_nothing_reads_goes_with_all_that_only_feeds_it():
    net = Net()
    x = net.input((1, 5, 5, 3))
    a = net.layer(x, weights(net, 8, (3, 3), 3), np.zeros(8), zero=0)
    w = weights(net, 8, (1, 1), 8)
    w[:4, ..., 4:] = 0  # outputs 0..3 do not read inputs 4..7
    b = net.layer(a, w, np.zeros(8), zero=0)
    last = weights(net, 5, (1, 1), 8)
    last[..., 3:] = 0  # outputs 3.. are not read
    small = check(net.graph(net.layer(b, last, np.zeros(5))))
    assert channels_of(small, b) == [0, 1, 2] and channels_of(small, a) == [0, 1, 2, 3]


def test_outputs_and_inputs_keep_their_channels():
    net = Net()
    h = first(net)
    y = net.layer(h, weights(net, 4, (1, 1), 8), np.zeros(4))
    assert check(net.graph(y, h)).type(h).shape[-1] == 8
    w = weights(net, 4, (1, 1), 3)
    w[..., 1] = 0
    net = Net()
    x = net.input((1, 4, 4, 3))
    assert check(net.graph(net.layer(x, w, np.zeros(4)))).type(x).shape[-1] == 3


def test_a_sum_loses_channels_where_no_reader_needs_them():
    net = Net()
    a, x = first(net), net.inputs[0]
    w = weights(net, 8, (3, 3), 3)
    w[5] = 0
    b = net.layer(x, w, np.zeros(8), zero=0)
    s = net.add(a, b)
    y = net.layer(s, weights(net, 4, (1, 1), 8), np.zeros(4), zero=0)
    small = check(net.graph(y))
    for name in (a, b, s):  # channel 5 is constant in both branches, channel 2 in one
        assert channels_of(small, name) == [0, 1, 2, 3, 4, 6, 7]


def test_concat_split_and_slice_pass_channels_on():
    net = Net()
    a, b = first(net), net.layer(net.inputs[0], weights(net, 3, (3, 3), 3), np.zeros(3), zero=0)
    q = net.q(a)
    value = net.const(np.full((1, 4, 4, 2), 9, np.int8), q)
    c = net.node("Concat", (a, b, value), (1, 4, 4, 13), q, axis=3)
    s0, s1 = net.tensor((1, 4, 4, 6), q), net.tensor((1, 4, 4, 7), q)
    net.nodes.append(Node("Split", (c, net.const(np.array([6, 7]))), (s0, s1), attrs(axis=3), ("split",)))
    cut = net.node("Slice", (s1, *(net.const(np.array(v)) for v in ([1], [5], [3]))), (1, 4, 4, 4), q)
    y = net.layer(s0, weights(net, 4, (1, 1), 6), np.zeros(4), zero=0)
    z = net.layer(cut, weights(net, 4, (3, 3), 4), np.zeros(4), zero=0)
    small = check(net.graph(y, z))
    assert channels_of(small, c) == [0, 1, 3, 4, 7, 8, 9, 10]
    assert (
        channels_of(small, s0) == [0, 1, 3, 4]
        and channels_of(small, s1) == [1, 2, 3, 4]
        and channels_of(small, cut) == [0, 1, 2, 3]
    )
    assert small.type(a).shape[-1] == 5 and all(len(n.inputs) == 2 for n in small.nodes if n.op == "Concat")
    runs(small)


@pytest.mark.parametrize("transposed", [False, True])
def test_flattened_channels_are_columns_of_a_gemm(transposed):
    net = Net()
    h = first(net)
    flat = h
    if transposed:
        flat = net.node("Transpose", (h,), (1, 8, 4, 4), net.q(h), perm=(0, 3, 1, 2))
    flat = net.node("Reshape", (flat, net.const(np.array([1, 128]))), (1, 128), net.q(h))
    y = net.layer(flat, net.rng.integers(-127, 128, (10, 128)), np.zeros(10), zero=0)
    small = check(net.graph(y))
    assert small.type(flat).shape == (1, 96) and small.type(h).shape[-1] == 6
    runs(small)


def test_pools_and_tables_pass_channels_on():
    net = Net()
    h = first(net)
    p = net.pool(
        "AveragePool", net.pool("MaxPool", h, (2, 2), (1, 1, 0, 0)), (2, 2), (0, 0, 1, 1), q=QParams.of(0.2, -100)
    )
    t = net.node(
        "edgec.Lut", (p, net.const(np.arange(-128, 128)[::-1].astype(np.int8))), net.shape(p), QParams.of(0.2, 0)
    )
    padded = net.node(
        "Pad",
        (t, net.const(np.array([0, 1, 1, 0, 0, 0, 0, 0])), net.const(np.array(99, np.int8))),
        (1, 5, 5, 8),
        net.q(t),
    )
    y = net.layer(padded, weights(net, 4, (1, 1), 8), np.zeros(4), zero=0)
    small = check(net.graph(y))
    # constant through the pools and the table; the Pad's value is the image of the zero point only
    lut = reference.run(net.graph(y), {net.inputs[0]: np.zeros((1, 6, 6, 3), np.int8)}, keep=lambda n: n == t)[t]
    expected = [k for k in range(8) if k not in (2, 5) or (lut[..., k] != 99).any()]
    assert channels_of(small, h) == expected
    runs(small)


def test_grouped_layers_lose_whole_groups():
    net = Net()
    x = net.input((1, 4, 4, 2))
    w = weights(net, 8, (1, 1), 2)
    w[[2, 3, 4]] = 0
    h = net.layer(x, w, np.zeros(8), zero=0)
    g = net.layer(h, weights(net, 4, (3, 3), 4)[..., :2], np.zeros(4), group=4, zero=0)
    y = net.layer(g, weights(net, 4, (1, 1), 4), np.zeros(4), zero=0)
    small = check(net.graph(y))
    assert channels_of(small, h) == [0, 1, 4, 5, 6, 7] and channels_of(small, g) == [0, 2, 3]


def test_the_multipliers_keep_their_shift():
    net = Net()
    h = first(net)
    w = weights(net, 4, (1, 1), 8)
    w[3] = 0
    d = net.layer(h, w, [0, 0, 0, 50], w_scale=[1e-4, 2e-4, 1e-4, 0.2], scale=0.1)
    small = check(net.graph(net.layer(d, weights(net, 3, (1, 1), 4), np.zeros(3))))
    assert small.type(d).shape[-1] == 3
    assert [n.attrs.get("top_scale") is not None for n in small.nodes if n.op == "Conv"] == [False, True, False]


def test_removed_channels_fill_blocks():
    net = Net()
    w = weights(net, 10, (3, 3), 3)
    w[[2, 5, 6]] = 0
    h = net.layer(net.input((1, 6, 6, 3)), w, np.zeros(10))
    small = check(net.graph(net.layer(h, weights(net, 4, (1, 1), 10), np.zeros(4), zero=3)), block=4)
    assert small.tensors[h].channels.kept == (0, 1, -1, 3, 4, 7, 8, 9)
    rows, columns = (small.const(n.inputs[1]) for n in small.nodes)
    assert not rows[2].any() and not columns[..., 2].any()


def test_a_constant_row_reads_nothing():
    net = Net()
    x = net.input((1, 4, 4, 3))
    h = net.layer(x, weights(net, 4, (1, 1), 3), np.zeros(4), zero=0)
    w = weights(net, 3, (1, 1), 4)
    w[0, ..., :3] = 0  # row 0 alone reads channel 3, and saturates
    w[1:, ..., 3] = 0
    y = net.layer(h, w, [10**7, 0, 0])
    small = check(net.graph(y))
    assert channels_of(small, h) == [0, 1, 2]


def test_a_constant_row_that_stays_keeps_its_value():
    net = Net()
    h = first(net)
    w = weights(net, 4, (1, 1), 8)
    w[0] = 0
    w[0, 0, 0, 5] = 1  # 255 above the zero point: a constant inside the range
    y = net.layer(h, w, [-100, 0, 0, 0])
    last = weights(net, 3, (3, 3), 4)
    last[..., 1] = 0
    small = check(net.graph(net.layer(y, last, np.zeros(3), (1, 1, 1, 1), zero=0), h))
    assert channels_of(small, y) == [0, 2, 3]
    assert not [small.const(n.inputs[1]) for n in small.nodes if n.outputs[0] == y][0][0].any()


@pytest.mark.parametrize("op", ["Sub", "Mul"])
def test_ranges_of_differences_and_products_have_four_corners(op):
    net = Net()
    x = net.input((1, 4, 4, 3))
    a, b = (net.layer(x, weights(net, 4, (1, 1), 3), np.zeros(4), zero=0) for _ in range(2))
    s = net.add(a, b, op)
    assert channels_of(check(net.graph(net.layer(s, weights(net, 3, (1, 1), 4), np.zeros(3)))), s) == [0, 1, 2, 3]


def test_a_sum_with_the_input_keeps_its_channels():
    net = Net()
    x = net.input((1, 4, 4, 3))
    s = net.add(net.layer(x, weights(net, 3, (1, 1), 3), np.zeros(3)), x)
    w = weights(net, 3, (1, 1), 3)
    w[..., 1] = 0
    assert check(net.graph(net.layer(s, w, np.zeros(3)))).type(s).shape[-1] == 3


def test_rows_joined_below_count():
    net = Net()
    h = first(net)
    value = np.full((1, 2, 4, 8), -128, np.int8)
    value[..., 5] = 20
    c = net.node("Concat", (h, net.const(value, net.q(h))), (1, 6, 4, 8), net.q(h), axis=1)
    small = check(net.graph(net.layer(c, weights(net, 4, (1, 1), 8), np.zeros(4), zero=3)))
    assert channels_of(small, c) == [0, 1, 3, 4, 5, 6, 7]
    runs(small)


def test_padding_counts_in_a_mean():
    net = Net()
    p = net.pool("AveragePool", first(net, constants=(0, 60000)), (2, 2), (1, 1, 1, 1), count_include_pad=1)
    small = check(net.graph(net.layer(p, weights(net, 4, (1, 1), 8), np.zeros(4), zero=3)))
    assert channels_of(small, p) == [0, 1, 3, 4, 5, 6, 7]


def test_losses_say_what_each_layer_lost():
    net = Net()
    h = first(net)
    graph = net.graph(net.layer(h, weights(net, 4, (1, 1), 8), np.zeros(4), zero=3))
    a, b = channels.losses(graph, removed(graph))
    assert (a.channels_before, a.channels, a.macs_before, a.macs) == (8, 6, 16 * 8 * 27, 16 * 6 * 27)
    assert (b.channels_before, b.channels, b.macs_before, b.macs) == (4, 4, 16 * 4 * 8, 16 * 4 * 6)


# --- whole models ------------------------------------------------------------------------------


def test_half_of_the_person_detector_goes(models):
    source = onnx_in.load(models / "vww_int8.onnx")
    whole = pipeline.run_passes(pipeline.simplify(source), pipeline.ABSORB + pipeline.LAYOUT)
    small = pipeline.run_passes(whole, pipeline.CHANNELS)
    assert macs(whole) == 7489664 and macs(small) <= 3.8e6
    for x in samples(models, "vww", "int8")[:2]:
        feed = {whole.inputs[0]: x.reshape(whole.type(whole.inputs[0]).shape)}
        want, got = (reference.run(g, feed) for g in (whole, small))
        assert all(np.array_equal(got[o], want[o]) for o in whole.outputs)


def float_model(path, nodes, outputs, **weights) -> None:
    """A float ONNX model of input x [1][2][6][6], and twenty samples in data.npz beside it."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 6, 6])
    outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4, 6, 6]) for n in outputs]
    initial = [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()]
    made = helper.make_graph([helper.make_node(op, i, [o], **a) for op, i, o, a in nodes], "g", [x], outs, initial)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)]), path / "m.onnx")
    samples = np.random.default_rng(3).normal(size=(20, 1, 2, 6, 6))
    np.savez(path / "data.npz", x=samples.astype(np.float32))


@needs_qemu
def test_a_model_that_is_one_constant_builds_and_runs(tmp_path):
    float_model(tmp_path, [("Conv", ["x", "w", "b"], "y", {})], ["y"], w=np.zeros((4, 2, 1, 1)), b=np.arange(1.0, 5.0))
    data = tmp_path / "data.npz"
    built = edgec.build(tmp_path / "m.onnx", data=data, board="cortex-m0", out=tmp_path / "p")
    assert built.report["steps"] == [] and [x["channels"] for x in built.report["channels"]] == [0]
    assert edgec.validate(tmp_path / "p", on=("host", "qemu"), data=data).ok


def test_a_float_model_quantised_here_loses_channels_too(tmp_path):
    rng = np.random.default_rng(3)
    w, w2 = rng.normal(size=(8, 2, 3, 3)), rng.normal(size=(4, 8, 1, 1))
    w[[1, 2, 4, 6]] = 0  # after the Relu always 0
    nodes = [
        ("Conv", ["x", "w", "b"], "h", {"pads": [1, 1, 1, 1]}),
        ("Relu", ["h"], "r", {}),
        ("Conv", ["r", "w2"], "y", {}),
    ]
    float_model(tmp_path, nodes, ["y"], w=w, b=np.full(8, -0.1), w2=w2)
    built = edgec.build(
        tmp_path / "m.onnx", data=tmp_path / "data.npz", board="cortex-m4", out=tmp_path / "p", compile=False
    )
    assert [(x["channels_before"], x["channels"]) for x in built.report["channels"]] == [(8, 4), (4, 4)]
    assert built.report["macs"] == 36 * (4 * 18 + 4 * 4)
    done = edgec.validate(tmp_path / "p", data=tmp_path / "data.npz", per_layer=True)
    assert [x["max_abs"] <= 1 for x in done.report["layers"] if x["op"] == "Conv"] == [True, True]
    assert "Channels that can hold one value only" in (tmp_path / "p" / "report.txt").read_text()


# --- random networks ---------------------------------------------------------------------------


def random_net(seed: int) -> Graph:
    """Layers, pools, sums, products, joins and views in any order, with many zero weights and extreme biases."""
    net = Net(seed)
    rng = net.rng
    pool = [
        net.input(
            (1, int(rng.integers(3, 7)), int(rng.integers(3, 7)), int(rng.integers(1, 5))),
            zero=int(rng.integers(-128, 128)),
        )
    ]
    for _ in range(int(rng.integers(3, 9))):
        x = pool[int(rng.integers(max(0, len(pool) - 3), len(pool)))]
        made = GROW[int(rng.integers(len(GROW)))](net, x, pool)
        if made is not None:
            pool += made
    x = pool[-1]
    flat = net.node("Reshape", (x, net.const(np.array([1, prod(net.shape(x))]))), (1, prod(net.shape(x))), net.q(x))
    y = _random_layer(net, flat, (int(rng.integers(1, 5)), prod(net.shape(x))), {})
    extra = [t for t in pool[1:] if rng.random() < 0.1]
    return net.graph(y, *extra)


def _random_layer(net: Net, x: str, shape, window) -> str:
    rng = net.rng
    w = rng.integers(-127, 128, shape).astype(np.int8)
    w[rng.random(shape[0]) < 0.4] = 0
    w[..., rng.random(shape[-1]) < 0.3] = 0
    if w.ndim == 4 and rng.random() < 0.3:
        w[:, : w.shape[1] // 2] = 0
    if rng.random() < 0.3:
        w[rng.random(shape) < 0.5] = 0
    spread = rng.choice([0.0, 1000.0, 30000.0, 3e6], shape[0])
    scale = rng.choice([0.01, 0.05, 0.2]) * rng.choice([1.0, 1.0, 1e-3], shape[0])
    extra = {"clip": (0.0, float("inf"))} if rng.random() < 0.5 else {}
    return net.layer(
        x,
        w,
        rng.normal(0, 1, shape[0]) * spread,
        **window,
        w_scale=scale if rng.random() < 0.7 else scale[0],
        scale=float(rng.choice([0.05, 0.5, 3.0])),
        zero=int(rng.choice([-128, -128, 0, rng.integers(-128, 128)])),
        **extra,
    )


def _conv(net: Net, x: str, pool):
    rng, c = net.rng, net.shape(x)[3]
    kernel = tuple(int(rng.integers(1, min(4, n + 1))) for n in net.shape(x)[1:3])
    pads = tuple(int(rng.integers(0, k)) for k in kernel * 2) if rng.random() < 0.7 else (0, 0, 0, 0)
    window = dict(pads=pads, strides=tuple(int(s) for s in rng.integers(1, 3, 2)))
    divisors = [g for g in range(1, c + 1) if c % g == 0]
    kind = rng.random()
    group = 1 if kind < 0.5 else c if kind < 0.85 else int(rng.choice(divisors))
    oc = int(rng.integers(1, 9)) if group == 1 else group * int(rng.integers(1, 3))
    return [_random_layer(net, x, (oc, *kernel, c // group), window | {"group": group})]


def _pools(net: Net, x: str, pool):
    rng = net.rng
    kernel = tuple(int(rng.integers(1, min(3, n) + 1)) for n in net.shape(x)[1:3])
    pads = tuple(int(rng.integers(0, k)) for k in kernel * 2)
    if rng.random() < 0.5:
        return [net.pool("MaxPool", x, kernel, pads)]
    q = QParams.of(net.q(x).scale * np.float32(rng.choice([0.5, 1.0, 3.0])), int(rng.integers(-128, 128)))
    return [net.pool("AveragePool", x, kernel, pads, q=q, count_include_pad=int(rng.integers(0, 2)))]


def _binary(net: Net, x: str, pool):
    rng, shape = net.rng, net.shape(x)
    same = [t for t in pool if net.shape(t) == shape]
    other = same[int(rng.integers(len(same)))]
    if rng.random() < 0.3:
        other = net.const(rng.integers(-128, 128, (1, 1, 1, shape[3])).astype(np.int8), QParams.of(0.1, 5))
    elif rng.random() < 0.2:
        other = net.pool("AveragePool", x, shape[1:3])
    pair = (x, other) if rng.random() < 0.5 else (other, x)
    return [
        net.add(
            *pair,
            op=str(rng.choice(["Add", "Sub", "Mul"])),
            scale=float(rng.choice([0.1, 1.0, 20.0])),
            zero=int(rng.integers(-128, 128)),
        )
    ]


def _join(net: Net, x: str, pool):
    rng, shape = net.rng, net.shape(x)
    axis = int(rng.choice([1, 3]))
    fitting = [
        t
        for t in pool
        if all(n == shape[k] for k, n in enumerate(net.shape(t)) if k != axis) and net.q(t).same(net.q(x))
    ]
    if rng.random() < 0.4:
        fitting.append(net.const(rng.integers(-128, 128, shape).astype(np.int8), net.q(x)))
    parts = [x, *(fitting[int(rng.integers(len(fitting)))] for _ in range(int(rng.integers(0, 3))))]
    out = list(shape)
    out[axis] = sum(net.shape(p)[axis] for p in parts)
    return [net.node("Concat", parts, out, net.q(x), axis=axis)] if prod(out) < 2000 else None


def _cuts(net: Net, x: str, pool):
    rng, shape = net.rng, net.shape(x)
    axis = int(rng.choice([2, 3, 3]))
    n = shape[axis]
    if n < 2:
        return None
    at = int(rng.integers(1, n))
    halves = [[size if k == axis else m for k, m in enumerate(shape)] for size in (at, n - at)]
    if rng.random() < 0.5:
        y = [net.tensor(s, net.q(x)) for s in halves]
        net.nodes.append(Node("Split", (x, net.const(np.array([at, n - at]))), tuple(y), attrs(axis=axis), ("split",)))
        return y
    cut = (net.const(np.array(v)) for v in ([n - at], [n], [axis - 4]))
    return [net.node("Slice", (x, *cut), halves[0], net.q(x))]


def _others(net: Net, x: str, pool):
    rng, shape = net.rng, net.shape(x)
    kind = rng.integers(4)
    if kind == 0:
        table = net.const(np.clip(np.sort(rng.integers(-300, 300, 256)), -128, 127).astype(np.int8))
        return [net.node("edgec.Lut", (x, table), shape, QParams.of(0.1, int(rng.integers(-128, 128))))]
    if kind == 1:
        value = net.const(np.array(int(net.q(x).zero_point), np.int8))
        return [
            net.node(
                "Pad",
                (x, net.const(np.array([0, 1, 0, 0, 0, 0, 1, 0])), value),
                (1, shape[1] + 1, shape[2] + 1, shape[3]),
                net.q(x),
            )
        ]
    if kind == 2:
        return [
            net.node(
                "Transpose",
                (net.node("Transpose", (x,), tuple(shape[k] for k in (0, 3, 1, 2)), net.q(x), perm=(0, 3, 1, 2)),),
                shape,
                net.q(x),
                perm=(0, 2, 3, 1),
            )
        ]
    return [
        net.node(
            "Reshape",
            (x, net.const(np.array([1, 1, shape[1] * shape[2], shape[3]]))),
            (1, 1, shape[1] * shape[2], shape[3]),
            net.q(x),
        )
    ]


GROW = (_conv, _conv, _conv, _conv, _pools, _binary, _join, _cuts, _others)


def runs(graph: Graph) -> None:
    """The lowered program computes what the graph means."""
    program = lower.lower(graph)
    loop_verify.verify(program)
    program = plan.plan(program)
    for feed in feeds(graph):
        want = reference.run(graph, feed)
        for name, got in zip(graph.outputs, loop_interp.run(program, [feed[i] for i in graph.inputs]), strict=True):
            assert np.array_equal(got.reshape(-1), want[name].reshape(-1))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, channels.BLOCK]))
def test_random_networks_keep_their_bits(seed, block):
    check(random_net(seed), block)


def test_random_networks_do_lose_channels_and_still_lower():
    lost = 0
    for seed in range(30):
        graph = random_net(seed)
        small = removed(graph, seed % 4 + 1)
        lost += macs(small) < macs(graph)
        runs(small)
    assert lost > 15
