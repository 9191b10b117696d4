#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Trains a small convolutional network to read digits, and quantises it for the NPU.

Writes data/; see README for the formats and for how to run it.
"""

import os

# A fixed order of additions in matrix products. Read when NumPy is loaded.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import json
import math
import pathlib
import subprocess
import sys

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 20220803
HELD_OUT = 360
EPOCHS = 60
BATCH = 32
CHANNELS = (16, 32)
DATA = pathlib.Path(__file__).resolve().parent / "data"

# Activations are I8 with the lowest as zero point: what is negative is cut off,
# which is the ReLU.
LOWEST, HIGHEST = -128, 127


def windows(images):
    """The 3 by 3 neighbourhoods [n, h, w, 3, 3, c] of images; 0 is outside."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return view.transpose(0, 1, 2, 4, 5, 3)


class Convolution:
    """3 by 3, stride 1, as many rows and columns out as in, then ReLU."""

    def __init__(self, random, inputs, outputs):
        scale = math.sqrt(2 / (9 * inputs))
        self.weight = random.normal(0, scale, (9 * inputs, outputs))
        self.bias = np.zeros(outputs)
        self.inputs = inputs

    def forward(self, images):
        n, h, w, _ = images.shape
        self.columns = windows(images).reshape(n * h * w, -1)
        out = np.maximum(self.columns @ self.weight + self.bias, 0)
        self.out = out.reshape(n, h, w, -1)
        return self.out

    def backward(self, gradient):
        gradient = (gradient * (self.out > 0)).reshape(-1, self.bias.size)
        self.gradients = [self.columns.T @ gradient, gradient.sum(0)]
        n, h, w, _ = self.out.shape
        spread = (gradient @ self.weight.T).reshape(n, h, w, 3, 3, self.inputs)
        back = np.zeros((n, h + 2, w + 2, self.inputs))
        for i in range(3):
            for j in range(3):
                back[:, i : i + h, j : j + w] += spread[:, :, :, i, j]
        return back[:, 1:-1, 1:-1]


class Pool:
    """The greatest of each 2 by 2."""

    def forward(self, images):
        n, h, w, c = images.shape
        self.blocks = images.reshape(n, h // 2, 2, w // 2, 2, c)
        self.out = self.blocks.max(axis=(2, 4))
        return self.out

    def backward(self, gradient):
        chosen = self.blocks == self.out[:, :, None, :, None]
        share = chosen / chosen.sum(axis=(2, 4), keepdims=True)
        back = share * gradient[:, :, None, :, None]
        n, h, _, w, _, c = back.shape
        return back.reshape(n, 2 * h, 2 * w, c)


class Dense:
    """A logit for each class."""

    def __init__(self, random, inputs, outputs):
        self.weight = random.normal(0, math.sqrt(1 / inputs), (inputs, outputs))
        self.bias = np.zeros(outputs)

    def forward(self, images):
        self.shape = images.shape
        self.rows = images.reshape(len(images), -1)
        return self.rows @ self.weight + self.bias

    def backward(self, gradient):
        self.gradients = [self.rows.T @ gradient, gradient.sum(0)]
        return (gradient @ self.weight.T).reshape(self.shape)


class Network:
    def __init__(self, random):
        first, second = CHANNELS
        self.convolutions = [
            Convolution(random, 1, first),
            Convolution(random, first, second),
        ]
        self.dense = Dense(random, 4 * 4 * second, 10)
        self.layers = [*self.convolutions, Pool(), self.dense]

    def logits(self, images):
        for layer in self.layers:
            images = layer.forward(images)
        return images

    def trained(self):
        return [*self.convolutions, self.dense]


class Adam:
    def __init__(self, network):
        self.parameters = [
            p for layer in network.trained() for p in (layer.weight, layer.bias)
        ]
        self.means = [np.zeros_like(p) for p in self.parameters]
        self.squares = [np.zeros_like(p) for p in self.parameters]
        self.steps = 0

    def step(self, network, rate):
        gradients = [g for layer in network.trained() for g in layer.gradients]
        self.steps += 1
        for parameter, mean, square, gradient in zip(
            self.parameters, self.means, self.squares, gradients, strict=True
        ):
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient**2 - square)
            first = mean / (1 - 0.9**self.steps)
            second = square / (1 - 0.999**self.steps)
            parameter -= rate * first / (np.sqrt(second) + 1e-8)


def shifted(images, random):
    """The images, most of them moved by up to one pixel."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = random.integers(0, 3, (2, len(images)))
    moved = [
        image[row : row + 8, column : column + 8]
        for image, row, column in zip(padded, rows, columns, strict=True)
    ]
    return np.stack(moved)


def train(network, images, labels, random):
    adam = Adam(network)
    for epoch in range(EPOCHS):
        rate = 0.002 * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2
        order = random.permutation(len(images))
        loss = 0.0
        for begin in range(0, len(order), BATCH):
            chosen = order[begin : begin + BATCH]
            logits = network.logits(shifted(images[chosen], random))
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            odds /= odds.sum(axis=1, keepdims=True)
            right = (np.arange(len(chosen)), labels[chosen])
            loss -= np.log(odds[right]).sum()
            odds[right] -= 1
            gradient = odds / len(chosen)
            for layer in reversed(network.layers):
                gradient = layer.backward(gradient)
            adam.step(network, rate)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {loss / len(images):.4f}")


def fixed_point(scale):
    """Multiplier and shift of REQUANTIZE: scale = multiplier / 2^shift, to 31 bits."""
    fraction, exponent = math.frexp(scale)
    multiplier, shift = round(fraction * 2**31), 31 - exponent
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift - 1
    assert 0 < multiplier < 2**31 and 0 <= shift <= 62
    return multiplier, shift


class Writer:
    """Gathers the constants, and what network.json says."""

    def __init__(self):
        self.bytes = bytearray()
        self.constants = []
        self.tensors = []
        self.commands = []

    def constant(self, name, kind, values):
        self.bytes += bytes(-len(self.bytes) % 64)
        self.constants.append(
            {
                "name": name,
                "type": kind,
                "dims": list(values.shape),
                "offset": len(self.bytes),
            }
        )
        stored = values.astype({"I8": "i1", "I32": "<i4"}[kind])
        assert (stored == values).all()
        self.bytes += stored.tobytes()

    def tensor(self, name, kind, dims, **view):
        self.tensors.append({"name": name, "type": kind, "dims": dims, **view})

    def command(self, opcode, parameters=None, **operands):
        self.commands.append(
            {"opcode": opcode, **operands, "parameters": parameters or {}}
        )


def quantise(network, images):
    """The network's commands. Activations get the range that they have on `images`."""
    network.logits(images)
    out = Writer()
    out.tensor("pixels", "I8", [0, 8, 8, 1])
    source, zero, scale = "pixels", 0, 1 / 16
    for number, layer in enumerate(network.convolutions, 1):
        name = f"conv{number}"
        channels = layer.bias.size
        widths = np.abs(layer.weight).max(axis=0) / 127
        weight = np.rint(layer.weight / widths).T.reshape(channels, 3, 3, layer.inputs)
        out.constant(f"{name}.weight", "I8", weight)
        bias = np.rint(layer.bias / (scale * widths)).reshape(1, 1, 1, channels)
        out.constant(f"{name}.bias", "I32", bias)
        step = layer.out.max() / (HIGHEST - LOWEST)
        pairs = [fixed_point(scale * width / step) for width in widths]
        out.constant(
            f"{name}.scale", "I32", np.array(pairs).T.reshape(1, 1, 2, channels)
        )
        out.tensor(f"{name}.sum", "I32", [0, 8, 8, channels])
        out.tensor(f"{name}.out", "I8", [0, 8, 8, channels])
        out.command(
            "CONV2D",
            {
                "zero_point_a": zero,
                "zero_point_b": 0,
                "strides": [1, 1],
                "dilations": [1, 1],
                "padding": [1, 1],
                "groups": 1,
            },
            d=f"{name}.sum",
            a=source,
            b=f"{name}.weight",
        )
        out.command(
            "REQUANTIZE",
            {"zero_point": LOWEST, "low": LOWEST, "high": HIGHEST},
            d=f"{name}.out",
            a=f"{name}.sum",
            b=f"{name}.bias",
            c=f"{name}.scale",
        )
        source, zero, scale = f"{name}.out", LOWEST, step
    pooled = [0, 4, 4, CHANNELS[1]]
    out.tensor("pool.out", "I8", pooled)
    out.command(
        "POOL",
        {"kind": "maximum", "kernel": [2, 2], "strides": [2, 2], "padding": [0, 0]},
        d="pool.out",
        a=source,
    )
    out.tensor("pool.flat", "I8", [1, 1, 0, math.prod(pooled[1:])], of="pool.out")
    # One scale for all classes: logits are compared with each other.
    width = np.abs(network.dense.weight).max() / 127
    weight = np.rint(network.dense.weight / width)
    out.constant("dense.weight", "I8", weight.reshape(1, 1, *weight.shape))
    bias = np.rint(network.dense.bias / (scale * width))
    out.constant("dense.bias", "I32", bias.reshape(1, 1, 1, 10))
    dims = [1, 1, 0, 10]
    out.tensor("dense.bias.rows", "I32", dims, of="dense.bias", strides=[0, 0, 0, 4])
    out.tensor("logits", "I32", dims)
    out.tensor("digits", "I32", [1, 1, 0, 1])
    out.command("COPY", d="logits", a="dense.bias.rows")
    out.command(
        "MATMUL",
        {"zero_point_a": zero, "zero_point_b": 0, "accumulate": True},
        d="logits",
        a="pool.flat",
        b="dense.weight",
    )
    out.command("ARGMAX", d="digits", a="logits")
    return out


def write_network(out, accuracy):
    sections = {
        "about": "commands of Documentation/npu-hardware.rst, explained in README",
        "accuracy_of_floats": accuracy,
        "input": "pixels",
        "logits": "logits",
        "output": "digits",
        "constants": out.constants,
        "tensors": out.tensors,
        "commands": out.commands,
    }
    parts = []
    for key, value in sections.items():
        if isinstance(value, list):
            lines = ",\n".join(f"    {json.dumps(entry)}" for entry in value)
            parts.append(f'  "{key}": [\n{lines}\n  ]')
        else:
            parts.append(f'  "{key}": {json.dumps(value)}')
    (DATA / "network.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


def main():
    images, labels = load_digits(return_X_y=True)
    seen, unseen, seen_labels, unseen_labels = train_test_split(
        images.reshape(-1, 8, 8, 1),
        labels,
        test_size=HELD_OUT,
        stratify=labels,
        random_state=SEED,
    )
    random = np.random.default_rng(SEED)
    network = Network(random)
    train(network, seen / 16, seen_labels, random)
    out = quantise(network, seen / 16)
    right = (network.logits(unseen / 16).argmax(axis=1) == unseen_labels).sum()
    print(f"floats: {right} of {HELD_OUT} right, {right / HELD_OUT:.2%}")

    DATA.mkdir(exist_ok=True)
    write_network(out, f"{right} of {HELD_OUT}")
    (DATA / "weights.bin").write_bytes(out.bytes)
    (DATA / "images.bin").write_bytes(unseen.astype("u1").tobytes())
    (DATA / "labels.bin").write_bytes(unseen_labels.astype("u1").tobytes())
    reference = pathlib.Path(__file__).resolve().with_name("reference.py")
    subprocess.run([sys.executable, reference], check=True)


if __name__ == "__main__":
    main()
