"""An autoencoder that notices a machine sounding wrong -> vibration_ae.onnx.

It learns to reproduce the vibration spectrum of a healthy rotating machine through 8
numbers; what it reproduces badly is unlike anything healthy. The signals are made up here:
a shaft with its harmonics, a gear with sidebands, noise and, for the test, three faults.
"""

from itertools import pairwise

import numpy as np
import torch
from common import (
    CALIBRATION_SAMPLES,
    HERE,
    SEED,
    chain,
    check_same,
    count_parameters,
    export_onnx,
    make_deterministic,
    print_files,
    run_onnx,
    run_torch,
    save_npz,
    shuffled_batches,
    train,
)
from torch import nn

SAMPLE_RATE = 5120  # Hz
SEGMENT = 256  # samples of one spectrum: 50 ms, so a line of the spectrum is 20 Hz wide
SEGMENTS = 16  # spectra averaged into one frame: 0.8 s of signal
TIME = np.arange(SEGMENT * SEGMENTS) / SAMPLE_RATE  # (4096,) s
GEAR_TEETH = 19
BEARING_IMPACTS = 3.57  # per turn: a ball bearing's outer race
RESONANCE = 1900.0  # Hz, the bearing housing's
WIDTHS = (128, 64, 32, 8, 32, 64, 128)  # numbers between the fully connected layers
TRAINING_FRAMES = 3000
TEST_FRAMES_PER_CLASS = 180


# --- signals: (4096,) in m/s^2 ---------------------------------------------------------


def tone(rng, frequency, amplitude):
    """A sine of `frequency` Hz at a random phase."""
    return amplitude * np.sin(2 * np.pi * frequency * TIME + rng.uniform(0, 2 * np.pi))


def healthy(rng, shaft, load):
    """Shaft harmonics, the gear's teeth with sidebands one turn apart, and noise.

    shaft: turns per second; load: 0..1, which raises the gear and the noise.
    """
    signal = rng.normal(0, 0.05 + 0.03 * load, TIME.size)
    for order, amplitude in enumerate((0.5, 0.25, 0.12, 0.06), start=1):
        signal += tone(rng, order * shaft, amplitude * rng.uniform(0.8, 1.25))
    for sideband, share in ((-1, 0.3), (0, 1.0), (1, 0.3)):
        signal += tone(rng, (GEAR_TEETH + sideband) * shaft, share * (0.2 + 0.3 * load))
    return signal


def bearing_fault(rng, shaft):
    """A train of impacts, each of which rings the housing for a few milliseconds."""
    period = 1 / (BEARING_IMPACTS * shaft)
    since_impact = (TIME + rng.uniform(0, period)) % period
    ringing = np.exp(-since_impact / 0.0015) * np.sin(2 * np.pi * RESONANCE * since_impact)
    return rng.uniform(0.1, 0.6) * ringing


def imbalance(rng, shaft):
    """A heavy spot on the rotor: the first harmonic alone grows, up to several times its size."""
    return tone(rng, shaft, rng.uniform(0.7, 2.5))


def looseness(rng, shaft):
    """A rattling foot: half orders and a long row of harmonics."""
    strength = rng.uniform(0.05, 0.3)
    orders = np.arange(1, 25) / 2
    return sum(tone(rng, order * shaft, strength / np.sqrt(order)) for order in orders)


FAULTS = (bearing_fault, imbalance, looseness)


# --- frames: (128,) float32 ------------------------------------------------------------


def spectrum_frame(signal):
    """signal (4096,) -> its averaged power spectrum (128,), 20 Hz a line, the mean left out.

    0 is -60 dB and 1 is +20 dB relative to 1 (m/s^2)^2 a line: fixed numbers, so that a
    device needs no statistics of the training data.
    """
    segments = signal.reshape(SEGMENTS, SEGMENT) * np.hanning(SEGMENT)
    amplitude = np.fft.rfft(segments)[:, 1:] * (4 / SEGMENT)  # Hann's mean is 1/2
    decibel = 10 * np.log10((np.abs(amplitude) ** 2).mean(axis=0) + 1e-12)
    return np.clip((decibel + 60) / 80, 0, 1).astype(np.float32)


def make_frames(rng, count, faults=()):
    """(count, 128) float32; with `faults`, each frame has one of them in turn."""
    frames = np.empty((count, SEGMENT // 2), np.float32)
    for i in range(count):
        shaft, load = rng.uniform(45, 55), rng.uniform(0, 1)
        signal = healthy(rng, shaft, load)
        if faults:
            signal = signal + faults[i % len(faults)](rng, shaft)
        frames[i] = spectrum_frame(signal)
    return frames


# --- the network and its score ---------------------------------------------------------


def make_model():
    """frame (n, 128) -> reconstruction (n, 128), through 8 numbers."""
    layers = {}
    for i, (inputs, outputs) in enumerate(pairwise(WIDTHS), start=1):
        layers[f"dense{i}"] = nn.Linear(inputs, outputs)
        layers[f"relu{i}"] = nn.ReLU()
    layers.popitem()  # the output is linear
    return chain(**layers)


def reconstruction_loss(model, batch):
    """Mean squared error of one batch: a tuple of frames (n, 128)."""
    (frames,) = batch
    return ((model(frames) - frames) ** 2).mean()


def scores(reconstruction, frames):
    """Mean squared error of each frame: (n, 128), (n, 128) -> (n,)."""
    return ((reconstruction - frames) ** 2).mean(axis=1)


def area_under_curve(score, labels):
    """The chance that an anomaly (label 1) scores higher than a normal frame (label 0)."""
    normal, anomaly = score[labels == 0], score[labels == 1]
    return float((anomaly[:, None] > normal[None, :]).mean())


def print_scores(runtime, score, labels, threshold):
    """One line: how well `score` (n,) tells label 1 from label 0, here and by fault."""
    alarm = score > threshold
    faulty = alarm[labels == 1]
    found = ", ".join(
        f"{fault.__name__} {faulty[i :: len(FAULTS)].mean():.1%}" for i, fault in enumerate(FAULTS)
    )
    print(
        f"  {runtime:<14}accuracy {(alarm == labels).mean():.2%}, "
        f"area under the curve {area_under_curve(score, labels):.4f}, found: {found}"
    )


def main():
    """Train on healthy frames, write vibration_ae.onnx and the data, print the scores."""
    make_deterministic()
    rng = np.random.default_rng(SEED)
    train_x = make_frames(rng, TRAINING_FRAMES)
    normal = make_frames(rng, TEST_FRAMES_PER_CLASS)
    faulty = make_frames(rng, TEST_FRAMES_PER_CLASS, FAULTS)
    test_x = np.concatenate([normal, faulty])
    labels = np.repeat(np.array([0, 1], np.int64), TEST_FRAMES_PER_CLASS)

    model = make_model()
    tensor = torch.from_numpy(train_x)
    train(model, lambda: shuffled_batches(tensor), reconstruction_loss, epochs=100, peak_rate=3e-3)
    # 1 healthy frame in 100 may raise an alarm; faults have no part in choosing the threshold
    threshold = np.quantile(scores(run_torch(model, train_x), train_x), 0.99)

    path = HERE / "vibration_ae.onnx"
    export_onnx(model, path, {"frame": (1, SEGMENT // 2)}, ["reconstruction"])
    expected, got = run_torch(model, test_x), run_onnx(path, test_x)
    difference = check_same(expected, got)
    print(f"vibration_ae: {count_parameters(model):,} parameters, {len(labels)} test frames")
    print(f"  alarm above a mean squared error of {threshold:.2e}")
    print_scores("PyTorch", scores(expected, test_x), labels, threshold)
    print_scores("ONNX Runtime", scores(got, test_x), labels, threshold)
    print(f"  largest difference {difference:.1e}")
    calib = save_npz("vibration_calib", frame=train_x[:CALIBRATION_SAMPLES])
    test = save_npz("vibration_test", frame=test_x, labels=labels)
    print_files(path, calib, test)


if __name__ == "__main__":
    main()
