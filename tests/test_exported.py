"""What exporters emit: PyTorch's layers through both of its exporters, as C.

PyTorch is large and no test needs it: without it the tests of its exporters are skipped, and tests/exported holds what
the emulated core runs.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec import board, host, onnx_in, pipeline, store
from edgec.errors import UnsupportedError

torch = pytest.importorskip("torch", reason="torch is not installed (its CPU wheel is no part of the extra dev)")
nn, F = torch.nn, torch.nn.functional
FOLDER = (
    Path(__file__).parent / "exported"
)  # by `python tests/test_exported.py`, so that the emulated core needs no PyTorch


class First(nn.Module):
    """The first result of a layer that has several."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)[0]


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(4, 8, 3, padding=1), nn.Hardswish()
        self.down, self.up = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x):
        x = self.act(self.conv(x))
        gate = torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True)))))
        return x * gate


class Attention(nn.Module):
    """A pre-norm transformer block, written out."""

    def __init__(self, width=16, heads=2):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        scores = torch.softmax(q @ k.transpose(-1, -2) / (w // self.heads) ** 0.5, -1)
        x = x + self.out((scores @ v).permute(0, 2, 1, 3).reshape(b, t, w))
        return x + self.mlp(self.norm2(x))


class Of(nn.Module):
    """A function of layers and inputs."""

    def __init__(self, f, *layers):
        super().__init__()
        self.f, self.layers = f, nn.ModuleList(layers)

    def forward(self, *x):
        return self.f(self.layers, *x)


class Scripted(nn.Module):
    """A loop that stays one in ONNX."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4, 4) * 0.3)

    def forward(self, x):
        return cells(x, self.w)


@torch.jit.script
def cells(x, w):
    h = torch.zeros_like(x[0])
    for i in range(x.shape[0]):
        h = torch.tanh(h @ w + x[i])
    return h


class Packed(nn.Module):
    """Sequences of different lengths."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True, bidirectional=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=6)[0]


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: self.a(x), lambda x: self.b(x).relu(), (x,))


def mb_conv(m, x):
    """Expansion, squeeze and excitation, projection, residual sum."""
    wide = m[2](m[1](m[0](x)))
    return x + m[3](wide * torch.sigmoid(m[4](wide.mean((2, 3), keepdim=True))))


def statistics(m, x):
    return torch.cat(
        [x.std(-1), x.var(-1, unbiased=False), x.norm(dim=-1), x.logsumexp(-1), x.cumsum(-1)[..., -1], x.amax(-1)], -1
    )


def chosen_elements(m, x):
    either = torch.where(x[:, ::2] > 0, x[:, 1::2], x.roll(1, 1)[:, ::2])
    return either.clamp(-1, 1) + x.gather(1, torch.tensor([[0, 2, 1]])) + x[:, [3, 1, 0]]


def flattened(m, x):
    """A chain of shape arithmetic that folds away."""
    return m[0](x.permute(0, 2, 3, 1).reshape(x.size(0), -1, x.size(1)).mean(1)).view(-1, 3).squeeze()


def twice(m, x):
    """Weights that two layers share, and a result that nothing uses."""
    m[1](x)
    return m[0](torch.relu(m[0](x)))


def _acts():
    names = (
        "SiLU Hardswish Mish Softplus SELU CELU LeakyReLU PReLU Hardtanh ReLU6 Softsign Tanhshrink LogSigmoid".split()
    )
    return nn.Sequential(nn.Linear(6, 6), *(getattr(nn, n)() for n in names))


MODELS = {
    "lstm": (lambda: First(nn.LSTM(6, 8, batch_first=True)), (1, 5, 6)),
    "lstm_bidirectional": (lambda: First(nn.LSTM(6, 5, 2, bidirectional=True)), (4, 2, 6)),
    "gru": (lambda: First(nn.GRU(6, 8, batch_first=True)), (1, 5, 6)),
    "rnn": (lambda: First(nn.RNN(6, 8, nonlinearity="relu")), (5, 1, 6)),
    "transformer": (Attention, (1, 6, 16)),
    "squeeze_excite": (SqueezeExcite, (1, 4, 8, 8)),
    "decoder": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1),
            nn.SiLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.InstanceNorm2d(6, affine=True),
        ),
        (1, 4, 5, 6),
    ),
    "conv1d_and_3d": (
        lambda: nn.Sequential(
            nn.Conv3d(2, 3, 3, padding=1),
            nn.MaxPool3d(2),
            nn.Flatten(2),
            nn.Conv1d(3, 4, 3, dilation=2),
            nn.GroupNorm(2, 4),
            nn.ELU(),
        ),
        (1, 2, 4, 6, 6),
    ),
    "multi_head": (
        lambda: Of(lambda m, x: m[0](x, x, x)[0], nn.MultiheadAttention(16, 2, batch_first=True)),
        (1, 6, 16),
    ),
    "encoder": (lambda: nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True), (1, 6, 16)),
    "attention": (
        lambda: Of(lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v)),
        (1, 2, 5, 8),
        (1, 2, 7, 8),
        (1, 2, 7, 8),
    ),
    "attention_causal": (
        lambda: Of(lambda m, x: F.scaled_dot_product_attention(x, x, x, is_causal=True)),
        (1, 2, 5, 8),
    ),
    "norms": (
        lambda: nn.Sequential(nn.InstanceNorm2d(4), nn.GroupNorm(2, 4), nn.BatchNorm2d(4), nn.LocalResponseNorm(3)),
        (1, 4, 5, 5),
    ),
    "layer_norm": (lambda: nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU("tanh")), (2, 8)),
    "activations": (_acts, (2, 6)),
    "gated": (lambda: nn.GLU(1), (2, 6, 5)),
    "mb_conv": (
        lambda: Of(
            mb_conv,
            nn.Conv2d(4, 8, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.SiLU(),
            nn.Conv2d(8, 4, 1),
            nn.Conv2d(8, 8, 1),
        ),
        (1, 4, 6, 6),
    ),
    "transposed_1d": (
        lambda: nn.Sequential(nn.ConvTranspose1d(3, 4, 4, 2, 1), nn.Conv1d(4, 2, 3, groups=2, padding="same")),
        (1, 3, 9),
    ),
    "resized": (
        lambda: Of(
            lambda m, x: F.interpolate(
                F.interpolate(x, size=(7, 9), mode="bilinear", align_corners=True), scale_factor=2
            )
        ),
        (1, 2, 5, 6),
    ),
    "bicubic": (lambda: Of(lambda m, x: F.interpolate(x, scale_factor=1.5, mode="bicubic")), (1, 2, 5, 6)),
    "grid_sample": (
        lambda: Of(lambda m, x, g: F.grid_sample(x, g.tanh(), align_corners=False)),
        (1, 2, 5, 6),
        (1, 4, 4, 2),
    ),
    "pixel_shuffle": (lambda: nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.PixelShuffle(2)), (1, 2, 4, 4)),
    "einsum": (lambda: Of(lambda m, a, b: torch.einsum("bhid,bhjd->bhij", a, b).sum(-1)), (1, 2, 3, 4), (1, 2, 5, 4)),
    "pools": (lambda: nn.Sequential(nn.AdaptiveAvgPool2d((3, 2)), nn.AdaptiveMaxPool2d(1)), (1, 2, 6, 6)),
    "shared": (lambda: Of(twice, nn.Linear(6, 6), nn.Linear(6, 3)), (2, 6)),
    "flattened": (lambda: Of(flattened, nn.Linear(4, 3)), (1, 4, 5, 5)),
    "embedding": (lambda: nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 3)), [[1, 5, 9]]),
    "embedding_bag": (lambda: nn.EmbeddingBag(10, 4, mode="mean"), [[1, 5, 9], [2, 2, 3]]),
    "gru_state": (lambda: Of(lambda m, x, h: m[0](x, h)[1], nn.GRU(4, 5)), (3, 1, 4), (1, 1, 5)),
    "gru_cell": (lambda: nn.GRUCell(4, 5), (1, 4), (1, 5)),
    "lengths": (Packed, (2, 6, 4), [6, 3]),
    "scripted_loop": (Scripted, (5, 4)),
    "branches": (Branches, (1, 4)),
    "sorted": (
        lambda: Of(
            lambda m, x: x.topk(3, -1)[0] + x.sort(-1, descending=True)[0][..., :3] + x.argmax(-1, keepdim=True)
        ),
        (2, 7),
    ),
    "statistics": (lambda: Of(statistics), (2, 3, 5)),
    "elements": (lambda: Of(chosen_elements), (1, 6)),
    "padded": (
        lambda: nn.Sequential(
            nn.ReflectionPad2d(1), nn.ReplicationPad2d(1), nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular")
        ),
        (1, 2, 4, 4),
    ),
    "stft": (
        lambda: Of(
            lambda m, x: (
                torch.stft(x, 16, 8, window=torch.hann_window(16), return_complex=False, center=False).pow(2).sum(-1)
            )
        ),
        (1, 64),
    ),
    "distances": (lambda: Of(lambda m, a, b: F.cosine_similarity(a, b) + F.pairwise_distance(a, b)), (3, 4), (3, 4)),
}
ONE_EXPORTER = {
    "lengths": "script",
    "encoder": "dynamo",
    "branches": "dynamo",
    "distances": "script",
}  # the other one refuses these
SLOWLY = (  # by the slower exporter too
    "multi_head",
    "encoder",
    "attention",
    "lstm_bidirectional",
    "mb_conv",
    "embedding_bag",
    "branches",
    "stft",
    "statistics",
)


def exported(name: str, opset: int = 17, exporter: str = "script"):
    """(ONNX model, inputs, PyTorch's output)."""
    torch.manual_seed(0)
    make, *given = MODELS[name]
    module = make().eval()
    inputs = tuple(torch.tensor(s) if isinstance(s, list) else torch.randn(s) for s in given)
    with torch.no_grad():
        wanted = module(*inputs)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            model = torch.onnx.export(module, inputs, dynamo=True, verbose=False).model_proto
        else:
            file = io.BytesIO()
            names = ["x"] if len(inputs) == 1 else None
            torch.onnx.export(
                module, inputs, file, dynamo=False, opset_version=opset, input_names=names, output_names=["y"]
            )
            model = onnx.load_from_string(file.getvalue())
    return model, [x.numpy() for x in inputs], wanted.numpy()


def compiled(model, folder, target="cortex-m4"):
    b = board.load(target)
    c = pipeline.compile_graph(onnx_in.from_model(model, "net"), b)
    store.write_files(folder, c.files)
    return c, host.load(folder, simd_on_host="dsp" in b.isa)


def check(model, inputs, wanted, folder):
    c, h = compiled(model, folder)
    names = [i.name for i in model.graph.input]
    given = dict(zip(names, inputs, strict=True))
    np.testing.assert_allclose(h.run([given[i] for i in c.graph.inputs])[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in MODELS if ONE_EXPORTER.get(n) != "dynamo"])
def test_c_equals_pytorch(name, tmp_path):
    check(*exported(name), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SLOWLY if ONE_EXPORTER.get(n) != "script"])
def test_the_newer_exporter(name, tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript, which PyTorch's newer exporter needs, is not installed")
    check(*exported(name, exporter="dynamo"), tmp_path)


def test_a_projection_is_refused(tmp_path):
    """The newer exporter writes an LSTM with a projection as one without, which is no valid model."""
    pytest.importorskip("onnxscript", reason="onnxscript, which PyTorch's newer exporter needs, is not installed")
    MODELS["projected"] = (lambda: First(nn.LSTM(4, 6, proj_size=3)), (3, 1, 4))
    with pytest.raises(UnsupportedError, match="initial state"):
        compiled(exported("projected", exporter="dynamo")[0], tmp_path)


def test_cubic_sampling_beyond_the_border_is_pytorchs(tmp_path):
    """ONNX's evaluator moves such points to the border first; PyTorch and onnxruntime take the border's values there."""
    x, grid = torch.randn(1, 2, 4, 5), 3 * torch.rand(1, 3, 3, 2) - 1.5
    made = onnx.helper.make_model(onnx.helper.make_graph(
        [onnx.helper.make_node("GridSample", ["x", "grid"], ["y"], mode="cubic", padding_mode="border")], "m",
        [onnx.helper.make_tensor_value_info(n, 1, t.shape) for n, t in (("x", x), ("grid", grid))],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 2, 3, 3])]), opset_imports=[onnx.helper.make_opsetid("", 20)])
    _, h = compiled(made, tmp_path)
    wanted = torch.nn.functional.grid_sample(x, grid, "bicubic", "border", align_corners=False).numpy()
    np.testing.assert_allclose(h.run([x.numpy(), grid.numpy()])[0], wanted, rtol=1e-4, atol=2e-6)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in ("lstm", "gru", "transformer"):
        onnx.save(exported(name)[0], FOLDER / f"{name}.onnx")
