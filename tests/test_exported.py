"""What exporters emit: PyTorch's recurrent layers, attention and vision blocks as C, against PyTorch."""
from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgec import board, host, onnx_in, pipeline, store

torch = pytest.importorskip("torch")
nn = torch.nn
FOLDER = Path(__file__).parent / "exported"  # by `python tests/test_exported.py`, so that the emulated core needs no PyTorch


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




MODELS = {
    "lstm": (lambda: First(nn.LSTM(6, 8, batch_first=True)), (1, 5, 6)),
    "lstm_bidirectional": (lambda: First(nn.LSTM(6, 5, 2, bidirectional=True)), (4, 2, 6)),
    "gru": (lambda: First(nn.GRU(6, 8, batch_first=True)), (1, 5, 6)),
    "rnn": (lambda: First(nn.RNN(6, 8, nonlinearity="relu")), (5, 1, 6)),
    "transformer": (Attention, (1, 6, 16)),
    "squeeze_excite": (SqueezeExcite, (1, 4, 8, 8)),
    "decoder": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), nn.SiLU(),
                                      nn.Upsample(scale_factor=2, mode="bilinear"), nn.InstanceNorm2d(6, affine=True)), (1, 4, 5, 6)),
    "conv1d_and_3d": (lambda: nn.Sequential(nn.Conv3d(2, 3, 3, padding=1), nn.MaxPool3d(2), nn.Flatten(2),
                                            nn.Conv1d(3, 4, 3, dilation=2), nn.GroupNorm(2, 4), nn.ELU()), (1, 2, 4, 6, 6)),
}


def exported(name: str, opset: int = 17):
    """(ONNX model, an input, PyTorch's output)."""
    torch.manual_seed(0)
    make, shape = MODELS[name]
    module = make().eval()
    x = torch.randn(shape)
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), file, dynamo=False, opset_version=opset, input_names=["x"], output_names=["y"])
        wanted = module(x)
    return onnx.load_from_string(file.getvalue()), x.numpy(), wanted.numpy()


def compiled(model, folder, target="cortex-m4"):
    b = board.load(target)
    c = pipeline.compile_graph(onnx_in.from_model(model, "m"), b)
    store.write_files(folder, c.files)
    return c, host.load(folder, simd_on_host="dsp" in b.isa)


@pytest.mark.parametrize("name", MODELS)
def test_c_equals_pytorch(name, tmp_path):
    model, x, wanted = exported(name)
    _, h = compiled(model, tmp_path)
    np.testing.assert_allclose(h.run([x])[0], wanted, rtol=1e-4, atol=2e-6)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in ("lstm", "gru", "transformer"):
        onnx.save(exported(name)[0], FOLDER / f"{name}.onnx")
