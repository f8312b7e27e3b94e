"""A depthwise-separable network on 8x8 handwritten digits -> digits_dscnn.onnx."""

from common import chain, make_digits_example
from torch import nn


def conv(inputs, outputs, kernel, stride=1, groups=1):
    """A convolution with 'same' padding, then BatchNormalization and ReLU6."""
    return chain(
        # no bias: BatchNormalization subtracts the mean and adds its own
        conv=nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        norm=nn.BatchNorm2d(outputs),
        relu=nn.ReLU6(),
    )


def separable(inputs, outputs, stride=1):
    """A 3x3 filter per channel, then a 1x1 convolution that mixes the channels."""
    return chain(
        depthwise=conv(inputs, inputs, 3, stride, groups=inputs),
        pointwise=conv(inputs, outputs, 1),
    )


class Residual(nn.Module):
    """x + body(x); both (n, c, h, w)."""

    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return x + self.body(x)


def make_model():
    """images (n, 1, 8, 8) -> logits (n, 10)."""
    return chain(
        stem=conv(1, 16, 3),  # (n, 16, 8, 8)
        block1=separable(16, 32),  # (n, 32, 8, 8)
        block2=separable(32, 64, stride=2),  # (n, 64, 4, 4)
        block3=Residual(separable(64, 64)),  # (n, 64, 4, 4)
        pool=nn.AdaptiveAvgPool2d(1),  # (n, 64, 1, 1)
        flatten=nn.Flatten(),  # (n, 64)
        classify=nn.Linear(64, 10),
    )


if __name__ == "__main__":
    make_digits_example("digits_dscnn", make_model, epochs=60)
