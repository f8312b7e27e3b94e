"""A small convolutional network on 8x8 handwritten digits -> digits_cnn.onnx."""

from common import chain, make_digits_example
from torch import nn


def conv(inputs, outputs):
    """A 3x3 convolution that keeps the picture's size, then BatchNormalization and ReLU."""
    return chain(
        # no bias: BatchNormalization subtracts the mean and adds its own
        conv=nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        norm=nn.BatchNorm2d(outputs),
        relu=nn.ReLU(),
    )


def make_model():
    """images (n, 1, 8, 8) -> logits (n, 10)."""
    return chain(
        block1=conv(1, 16),  # (n, 16, 8, 8)
        block2=conv(16, 32),  # (n, 32, 8, 8)
        pool2=nn.MaxPool2d(2),  # (n, 32, 4, 4)
        block3=conv(32, 64),  # (n, 64, 4, 4)
        pool3=nn.MaxPool2d(2),  # (n, 64, 2, 2)
        flatten=nn.Flatten(),  # (n, 256)
        classify=nn.Linear(256, 10),
    )


if __name__ == "__main__":
    # BatchNormalization stays in this file, so that edgec's own folding is at work too.
    make_digits_example("digits_cnn", make_model, epochs=40, fold_batchnorm=False)
