"""What the example scripts share: data, training loop, ONNX export and its check.

Everything is seeded and runs on one thread, so that a script writes the same
files each time it runs on the same machine with the same library versions.
"""

import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
SEED = 0
OPSET = 17
CALIBRATION_SAMPLES = 300


# --- any example ---------------------------------------------------------------------


def make_deterministic():
    """Seed PyTorch and hold it to one thread and to reproducible kernels."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # the order of float summation depends on the thread count
    torch.use_deterministic_algorithms(True)


def chain(**layers):
    """Layers in sequence; their keywords become the names of the ONNX nodes."""
    return nn.Sequential(OrderedDict(layers))


def count_parameters(model):
    """The number of trained scalars (BatchNormalization's running statistics not counted)."""
    return sum(p.numel() for p in model.parameters())


def train(model, batches, loss_of, epochs, peak_rate):
    """Train `model` in place and leave it in evaluation mode.

    batches(): an iterable of equally many batches each time it is called, one call an epoch.
    loss_of(model, batch): a scalar tensor.
    The learning rate rises to `peak_rate` and falls to nearly 0 (one cycle, per step).
    """
    steps = epochs * sum(1 for _ in batches())
    optimiser = torch.optim.AdamW(model.parameters(), lr=peak_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak_rate, total_steps=steps)
    model.train()
    for _ in range(epochs):
        for batch in batches():
            optimiser.zero_grad()
            loss_of(model, batch).backward()
            optimiser.step()
            schedule.step()
    model.eval()


def shuffled_batches(*tensors, size=64):
    """Tuples of `size` rows taken from each tensor in one random order; the rest is left out.

    A short last batch would give BatchNormalization a poorer estimate than the others.
    """
    order = torch.randperm(len(tensors[0]))
    for start in range(0, len(order) - size + 1, size):
        rows = order[start : start + size]
        yield tuple(t[rows] for t in tensors)


def export_onnx(model, path, inputs, outputs, fold_batchnorm=True):
    """Write `model` as one ONNX file, weights inside, all shapes static.

    inputs: shapes by name, in the order in which the model takes them; outputs: names.

    fold_batchnorm=False leaves each BatchNormalization as a node of its own, as many
    exporters do; it then falls to edgec to fold it.
    """
    mode = torch.onnx.TrainingMode.EVAL if fold_batchnorm else torch.onnx.TrainingMode.PRESERVE
    with warnings.catch_warnings():
        # The tracing exporter is announced as superseded, but it needs no further package
        # and writes plain operators; these straight-line models need nothing newer.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            tuple(map(torch.zeros, inputs.values())),
            str(path),
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET,
            training=mode,
            do_constant_folding=fold_batchnorm,  # the exporter wants the two switched together
            dynamo=False,
        )
    onnx.checker.check_model(str(path), full_check=True)


def run_torch(model, samples):
    """samples (n, ...) float32 -> the model's outputs (n, ...) float32, computed in one batch."""
    with torch.no_grad():
        return model(torch.from_numpy(samples)).numpy()


def run_onnx(path, samples):
    """samples (n, ...) float32 -> the file's outputs (n, ...) float32.

    The file's batch is fixed at 1, so the samples go in one at a time.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x[None]})[0] for x in samples])


def check_same(model_output, onnx_output):
    """The largest |PyTorch - ONNX Runtime|; stops the script if it is more than rounding."""
    difference = float(np.abs(model_output - onnx_output).max())
    if not difference < 1e-3:
        raise SystemExit(f"the exported model differs from the trained one by {difference:g}")
    return difference


def save_npz(stem, **arrays):
    """Write examples/<stem>.npz, compressed, and return its path."""
    path = HERE / f"{stem}.npz"
    np.savez_compressed(path, **arrays)
    return path


def print_files(*paths):
    """One line per file written: its name and its size in bytes."""
    for path in paths:
        print(f"  wrote {path.name:<22}{path.stat().st_size:>9,} bytes")


# --- the digits ----------------------------------------------------------------------


def load_digit_split():
    """scikit-learn's 1,797 handwritten digits, split 80 : 20 with every class in proportion.

    Returns (train_x, test_x, train_y, test_y): x (n, 1, 8, 8) float32 NCHW, ink 0..1 in
    steps of 1/16; y (n,) int64, the digit.
    """
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    return train_test_split(images, labels, test_size=0.2, random_state=SEED, stratify=labels)


def shift_each(images):
    """images (n, 1, 8, 8) -> the same, each moved by -1, 0 or 1 pixel along each axis.

    1,437 training images are few, and a digit is the same digit one pixel further on.
    """
    n, _, height, width = images.shape
    padded = F.pad(images, (1, 1, 1, 1))
    top, left = torch.randint(0, 3, (2, n, 1, 1))
    rows = top + torch.arange(height)[None, :, None]  # (n, 8, 1)
    columns = left + torch.arange(width)[None, None, :]  # (n, 1, 8)
    return padded[torch.arange(n)[:, None, None], 0, rows, columns][:, None]


def digit_loss(model, batch):
    """Cross entropy of one augmented batch: images (n, 1, 8, 8), labels (n,)."""
    images, labels = batch
    return F.cross_entropy(model(shift_each(images)), labels)


def accuracy(logits, labels):
    """The share of rows whose largest logit is the label: logits (n, 10), labels (n,)."""
    return float((logits.argmax(axis=1) == labels).mean())


def save_digit_data(train_x, test_x, test_y):
    """Write digits_calib.npz (300 images of the training split) and digits_test.npz."""
    chosen = np.random.default_rng(SEED).permutation(len(train_x))[:CALIBRATION_SAMPLES]
    return (
        save_npz("digits_calib", image=train_x[chosen]),
        save_npz("digits_test", image=test_x, labels=test_y),
    )


def make_digits_example(name, make_model, epochs, fold_batchnorm=True):
    """Train make_model() on the digits, write <name>.onnx and the data, print the accuracy.

    make_model: () -> nn.Module from images (n, 1, 8, 8) to logits (n, 10).
    """
    make_deterministic()
    train_x, test_x, train_y, test_y = load_digit_split()
    model = make_model()
    tensors = torch.from_numpy(train_x), torch.from_numpy(train_y)
    train(model, lambda: shuffled_batches(*tensors), digit_loss, epochs, peak_rate=1e-2)

    path = HERE / f"{name}.onnx"
    export_onnx(model, path, {"image": (1, 1, 8, 8)}, ["logits"], fold_batchnorm)
    expected, got = run_torch(model, test_x), run_onnx(path, test_x)
    difference = check_same(expected, got)
    print(f"{name}: {count_parameters(model):,} parameters, {len(test_y)} test images")
    print(f"  accuracy, PyTorch        {accuracy(expected, test_y):.2%}")
    print(f"  accuracy, ONNX Runtime   {accuracy(got, test_y):.2%}")
    print(f"  largest difference       {difference:.1e}")
    print_files(path, *save_digit_data(train_x, test_x, test_y))
