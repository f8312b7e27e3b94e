"""A recurrent network that tells gestures as they happen -> gesture_gru.onnx.

It takes 50 ms of a wrist's acceleration at a time and remembers what it needs in 24 numbers:
`memory` goes in with every frame and comes out as `memory_next`, which edgec keeps between
runs (`--state memory=memory_next`). The signals are made up here: gravity in a direction that
wanders, noise, now and then walking, and one of four gestures.
"""

import numpy as np
import torch
from common import (
    HERE,
    SEED,
    accuracy,
    check_same,
    count_parameters,
    export_onnx,
    make_deterministic,
    print_files,
    run_torch,
    save_npz,
    shuffled_batches,
    train,
)
from onnxruntime import InferenceSession
from torch import nn
from torch.nn import functional as F

SAMPLE_RATE = 100  # Hz
FRAME = 5  # samples of one frame: 50 ms
FRAMES = 40  # of one sequence: 2 s
TIME = np.arange(FRAME * FRAMES) / SAMPLE_RATE  # (200,) s
MEMORY = 24  # numbers that the network keeps
UNKNOWN = -1  # the label of frames during a gesture: not yet told, but no mistake either
TRAINING_SEQUENCES = 2000
CALIBRATION_SEQUENCES = 40
TEST_SEQUENCES = 100
RESOLUTION = 128  # values are kept in steps of 1/128 g, as the sensor gives them


# --- signals: (3, 200) in g --------------------------------------------------------------


def during(start, length):
    """A smooth 0..1..0 over the gesture, (200,); start and length in seconds."""
    return np.sin(np.pi * np.clip((TIME - start) / length, 0, 1)) ** 2


def shake(rng, start, length):
    """Fast to and fro along one axis."""
    wave = np.sin(2 * np.pi * rng.uniform(4, 6) * TIME + rng.uniform(0, 2 * np.pi))
    return np.outer([1, rng.uniform(-0.3, 0.3), 0], rng.uniform(0.6, 1.6) * wave * during(start, length))


def circle(rng, start, length):
    """Round and round in a plane: two axes a quarter of a turn apart."""
    turn = 2 * np.pi * rng.uniform(1.6, 2.4) * TIME + rng.uniform(0, 2 * np.pi)
    return rng.uniform(0.4, 1.0) * np.array([np.cos(turn), np.sin(turn), 0 * turn]) * during(start, length)


def lift(rng, start, length):
    """Up once: gaining speed, then losing it."""
    push = np.sin(2 * np.pi * np.clip((TIME - start) / length, 0, 1))
    return np.outer([0, rng.uniform(-0.2, 0.2), 1], rng.uniform(0.4, 1.0) * push)


def double_tap(rng, start, length):
    """Two knocks, each over in 30 ms."""
    knocks = sum(np.exp(-((TIME - start - at) / 0.012) ** 2) for at in (0.1, 0.1 + 0.4 * length))
    return np.outer([0.2, 0.2, 1], rng.uniform(0.8, 2.0) * knocks)


GESTURES = (shake, circle, lift, double_tap)  # labels 1 to 4; 0 is none


def background(rng):
    """Gravity with a wandering direction, noise, and in one of four sequences a walk."""
    tilt = rng.normal(0, 0.25, (2, 1)) + rng.normal(0, 0.1, (2, 1)) * TIME
    gravity = np.array([np.sin(tilt[0]), np.sin(tilt[1]), np.cos(tilt[0]) * np.cos(tilt[1])])
    step = np.sin(2 * np.pi * rng.uniform(1.5, 2.2) * TIME + rng.uniform(0, 2 * np.pi))
    walk = np.outer([0.15, 0.1, 0.3], step) * (rng.random() < 0.25)
    return gravity + walk + rng.normal(0, 0.03, (3, TIME.size))


def make_sequences(rng, count):
    """Returns frames (count, 40, 15) float32 in g, and labels (count, 40): the gesture from its end on, 0 before it."""
    frames = np.empty((count, FRAMES, 3 * FRAME), np.float32)
    labels = np.zeros((count, FRAMES), np.int64)
    for i in range(count):
        signal, kind = background(rng), i % (len(GESTURES) + 1)
        if kind:
            start, length = rng.uniform(0.1, 0.9), rng.uniform(0.6, 0.9)
            signal = signal + GESTURES[kind - 1](rng, start, length)
            begin, end = (int(np.ceil(t * SAMPLE_RATE / FRAME)) for t in (start, start + length))
            labels[i, begin - 1 : end] = UNKNOWN
            labels[i, end:] = kind
        signal = np.round(signal * RESOLUTION) / RESOLUTION
        frames[i] = signal.reshape(3, FRAMES, FRAME).transpose(1, 0, 2).reshape(FRAMES, -1)
    return frames, labels


# --- the network -------------------------------------------------------------------------


class GestureGru(nn.Module):
    """A gated recurrent unit, written out as layers that every exporter and quantiser knows."""

    def __init__(self):
        super().__init__()
        self.sense = nn.Linear(3 * FRAME, 3 * MEMORY)
        self.recall = nn.Linear(MEMORY, 3 * MEMORY)
        self.tell = nn.Linear(MEMORY, len(GESTURES) + 1)

    def forward(self, frame, memory):
        """frame (n, 15), memory (n, 24) -> logits (n, 5) and the next memory."""
        keep_in, pass_in, new_in = self.sense(frame).chunk(3, dim=1)
        keep_mem, pass_mem, new_mem = self.recall(memory).chunk(3, dim=1)
        keep = torch.sigmoid(keep_in + keep_mem)
        new = torch.tanh(new_in + torch.sigmoid(pass_in + pass_mem) * new_mem)
        memory = keep * memory + (1 - keep) * new
        return self.tell(memory), memory


def run_sequences(model, frames):
    """frames (n, 40, 15) -> logits (n, 40, 5); every sequence begins with an empty memory."""
    memory, logits = torch.zeros(len(frames), MEMORY), []
    for k in range(FRAMES):
        found, memory = model(frames[:, k], memory)
        logits.append(found)
    return torch.stack(logits, dim=1)


def gesture_loss(model, batch):
    """Cross entropy over all frames whose label is known."""
    frames, labels = batch
    return F.cross_entropy(run_sequences(model, frames).flatten(0, 1), labels.flatten(), ignore_index=UNKNOWN)


def run_onnx_sequences(path, frames):
    """As run_sequences, by ONNX Runtime, a frame at a time."""
    session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits = np.empty((*frames.shape[:2], len(GESTURES) + 1), np.float32)
    for i, sequence in enumerate(frames):
        memory = np.zeros((1, MEMORY), np.float32)
        for k, frame in enumerate(sequence):
            logits[i, k], memory = session.run(None, {"frame": frame[None], "memory": memory})
    return logits


def known(logits, labels):
    """The logits and labels of the frames whose label is known."""
    return logits[labels != UNKNOWN], labels[labels != UNKNOWN]


def main():
    """Train, write gesture_gru.onnx and the data, print the accuracy."""
    make_deterministic()
    rng = np.random.default_rng(SEED)
    train_x, train_y = make_sequences(rng, TRAINING_SEQUENCES)
    test_x, test_y = make_sequences(rng, TEST_SEQUENCES)
    model = GestureGru()
    tensors = torch.from_numpy(train_x), torch.from_numpy(train_y)
    train(model, lambda: shuffled_batches(*tensors), gesture_loss, epochs=40, peak_rate=1e-2)

    path = HERE / "gesture_gru.onnx"
    export_onnx(model, path, {"frame": (1, 3 * FRAME), "memory": (1, MEMORY)}, ["logits", "memory_next"])
    expected = run_torch(lambda x: run_sequences(model, x), test_x)
    got = run_onnx_sequences(path, test_x)
    difference = check_same(expected, got)
    last = got[:, -1].argmax(axis=1) == test_y[:, -1]
    print(f"gesture_gru: {count_parameters(model):,} parameters, {len(test_y)} test sequences of {FRAMES} frames")
    print(f"  frames told right, PyTorch        {accuracy(*known(expected, test_y)):.2%}")
    print(f"  frames told right, ONNX Runtime   {accuracy(*known(got, test_y)):.2%}")
    print(f"  sequences told right at their end {last.mean():.2%}")
    print(f"  largest difference                {difference:.1e}")
    calib = save_npz("gesture_calib", frame=train_x[:CALIBRATION_SEQUENCES].astype(np.float16))
    test = save_npz("gesture_test", frame=test_x.astype(np.float16), labels=test_y.astype(np.int8))
    print_files(path, calib, test)


if __name__ == "__main__":
    main()
