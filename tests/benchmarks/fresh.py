"""Small networks on scikit-learn's digits, trained on the spot with a seed of one's own: nobody can have tuned to them.

A name is maker-seed: `cnn-7`. python tests/benchmarks/fresh.py FOLDER writes all of ALL there with their data.
"""
from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SEEDS = (11, 12, 13)
CALIBRATION = 200


@dataclass(frozen=True, eq=False)
class Trained:
    model: Path
    calibration: np.ndarray
    test: np.ndarray
    labels: np.ndarray


def _example(name: str):
    """A module of examples/, whose files import each other by plain names."""
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))
    return importlib.import_module(name)


def cnn():
    return _example("digits_cnn").make_model()


def dscnn():
    return _example("digits_dscnn").make_model()


def mlp():
    """Tanh and Sigmoid between layers, Softmax behind them."""
    from torch import nn

    return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 32), nn.Sigmoid(), nn.Linear(32, 10),
                         _UntilTrained(nn.Softmax(1)))


def residual():
    """No BatchNormalization, so that channels differ in size; leaky, average pools, two sums."""
    from torch import nn

    act = nn.LeakyReLU(0.1)
    body = [nn.Sequential(nn.Conv2d(24, 24, 3, padding=1), act, nn.Conv2d(24, 24, 3, padding=1)) for _ in range(2)]
    residual = _example("digits_dscnn").Residual
    return nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), act, residual(body[0]), act, nn.AvgPool2d(2), residual(body[1]),
                         act, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 10))


def gru():
    return _Rows("GRU")


def lstm():
    return _Rows("LSTM")


def _Rows(kind: str):
    """A recurrent layer that reads the picture row by row."""
    from torch import nn

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.classify = getattr(nn, kind)(8, 24, batch_first=True), nn.Linear(24, 10)

        def forward(self, x):
            return self.classify(self.layer(x[:, 0])[0][:, -1])

    return Rows()


def _UntilTrained(layer):
    """The layer in evaluation mode, nothing in training: cross entropy has a Softmax of its own."""
    from torch import nn

    class Later(nn.Module):
        def forward(self, x):
            return x if self.training else layer(x)

    return Later()


MAKERS: dict[str, tuple[Callable, int, float]] = {     # model, epochs, learning rate
    "cnn": (cnn, 25, 1e-2), "dscnn": (dscnn, 30, 1e-2), "mlp": (mlp, 60, 1e-2), "residual": (residual, 25, 3e-3),
    "gru": (gru, 40, 1e-2), "lstm": (lstm, 40, 1e-2)}
ALL = [f"{maker}-{seed}" for maker in MAKERS for seed in SEEDS]


@cache
def trained(name: str, folder: Path | None = None) -> Trained:
    """The network and its samples. folder: where its file goes, a temporary one without."""
    import torch

    common = _example("common")
    maker, _, seed = name.partition("-")
    make, epochs, rate = MAKERS[maker]
    common.make_deterministic()
    torch.manual_seed(int(seed))
    train_x, test_x, train_y, test_y = common.load_digit_split()
    model = make()
    tensors = torch.from_numpy(train_x), torch.from_numpy(train_y)
    common.train(model, lambda: common.shuffled_batches(*tensors), common.digit_loss, epochs, rate)
    path = (folder or Path(tempfile.mkdtemp())) / f"{name}.onnx"
    common.export_onnx(model, path, {"image": (1, 1, 8, 8)}, ["scores"])
    chosen = np.random.default_rng(int(seed)).permutation(len(train_x))[:CALIBRATION]
    return Trained(path, train_x[chosen], test_x, test_y)


if __name__ == "__main__":
    for name in ALL:
        made = trained(name, Path(sys.argv[1]))
        np.savez_compressed(Path(sys.argv[1]) / f"{name}.npz", calibration=made.calibration, image=made.test,
                            labels=made.labels)
        print(made.model)
