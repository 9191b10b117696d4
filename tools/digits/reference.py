#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""The commands of network.json in NumPy, written from the manual alone.

The manual is Documentation/npu-hardware.rst. Without arguments it writes
data/logits.bin; with --check it compares with what is there.
"""

import json
import pathlib
import sys

import numpy as np

DATA = pathlib.Path(__file__).resolve().parent / "data"
DTYPES = {"I8": np.dtype("i1"), "I32": np.dtype("<i4")}


def modulo_2_32(sums):
    """An I32 holds the sum modulo 2^32, in two's complement."""
    return sums.astype(np.uint64).astype(np.uint32).view(np.int32)


def copy(p, d, a):
    d[...] = a


def conv2d(p, d, a, b):
    """By the formula, one output position and one place of its window at a time."""
    (sy, sx), (dy, dx), (py, px) = p["strides"], p["dilations"], p["padding"]
    _, height, width, channels = a.shape
    outputs, kh, kw, per_group = b.shape
    groups = p["groups"]
    assert channels == groups * per_group and outputs % groups == 0
    share = outputs // groups
    a = a.astype(np.int64) - p["zero_point_a"]
    b = b.astype(np.int64) - p["zero_point_b"]
    for y in range(d.shape[1]):
        for x in range(d.shape[2]):
            sums = np.zeros((d.shape[0], outputs), np.int64)
            for i in range(kh):
                for j in range(kw):
                    row, column = y * sy - py + i * dy, x * sx - px + j * dx
                    if not (0 <= row < height and 0 <= column < width):
                        continue
                    for g in range(groups):
                        these = slice(g * share, (g + 1) * share)
                        pixel = a[:, row, column, g * per_group : (g + 1) * per_group]
                        sums[:, these] += pixel @ b[these, i, j].T
            d[:, y, x] = modulo_2_32(sums)


def requantize(p, d, a, c, b=None):
    m, s = c[0, 0].astype(np.int64)
    assert (m >= 0).all() and (s >= 0).all() and (s <= 62).all()
    assert -128 <= p["low"] <= p["high"] <= 127
    total = a.astype(np.int64) + (0 if b is None else b)
    # Then products with m, and the rounding, are below 2^63: exact.
    assert (np.abs(total) < 2**31).all()
    r = np.where(s == 0, 0, np.int64(1) << np.maximum(s - 1, 0))
    shifted = (total * m + r) >> s
    d[...] = np.clip(shifted + p["zero_point"], p["low"], p["high"])


def pool(p, d, a):
    assert p["kind"] == "maximum"
    (kh, kw), (sy, sx), (py, px) = p["kernel"], p["strides"], p["padding"]
    for y in range(d.shape[1]):
        for x in range(d.shape[2]):
            top, left = y * sy - py, x * sx - px
            window = a[:, max(top, 0) : top + kh, max(left, 0) : left + kw]
            d[:, y, x] = window.max(axis=(1, 2))


def matmul(p, d, a, b):
    a = a.astype(np.int64) - p["zero_point_a"]
    b = b.astype(np.int64) - p["zero_point_b"]
    before = d.astype(np.int64) if p["accumulate"] else 0
    d[...] = modulo_2_32(before + np.einsum("abmk,abkn->abmn", a, b))


def argmax(p, d, a):
    # NumPy's takes the first of several, as the manual's does.
    d[...] = a.argmax(axis=3, keepdims=True)


OPCODES = {
    "COPY": copy,
    "CONV2D": conv2d,
    "REQUANTIZE": requantize,
    "POOL": pool,
    "MATMUL": matmul,
    "ARGMAX": argmax,
}


def run(network, weights, images):
    """Executes the commands on all images at once and gives every tensor."""
    found = {}
    for entry in network["constants"]:
        count = int(np.prod(entry["dims"]))
        flat = np.frombuffer(weights, DTYPES[entry["type"]], count, entry["offset"])
        found[entry["name"]] = flat.reshape(entry["dims"])
    for entry in network["tensors"]:
        dims = [dim or len(images) for dim in entry["dims"]]
        if "of" not in entry:
            found[entry["name"]] = np.zeros(dims, DTYPES[entry["type"]])
        elif "strides" in entry:
            found[entry["name"]] = np.lib.stride_tricks.as_strided(
                found[entry["of"]], dims, entry["strides"], writeable=False
            )
        else:
            found[entry["name"]] = found[entry["of"]].reshape(dims)
    found[network["input"]][...] = images.reshape(found[network["input"]].shape)
    for command in network["commands"]:
        operands = {key: found[command[key]] for key in "dabc" if key in command}
        OPCODES[command["opcode"]](command["parameters"], **operands)
    return found


def main():
    network = json.loads((DATA / "network.json").read_text())
    images = np.frombuffer((DATA / "images.bin").read_bytes(), "u1")
    labels = np.frombuffer((DATA / "labels.bin").read_bytes(), "u1")
    found = run(
        network, (DATA / "weights.bin").read_bytes(), images.reshape(len(labels), -1)
    )
    right = (found[network["output"]].ravel() == labels).sum()
    print(f"int8: {right} of {len(labels)} right, {right / len(labels):.2%}")

    logits = found[network["logits"]].astype("<i4").tobytes()
    path = DATA / "logits.bin"
    if sys.argv[1:] == ["--check"]:
        there = path.read_bytes()
        if there != logits:
            sys.exit(f"{path} is not what the commands give")
        print(f"{path.name} is what the commands give")
    else:
        path.write_bytes(logits)


if __name__ == "__main__":
    main()
