#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Runs the built-in models with LiteRT and writes what every layer gives.

    reference.py MODELS

MODELS is the folder with the .tflite files. Writes the sample images to ../samples
and the outputs to *.txt beside this script; see README.
"""

import hashlib
import pathlib
import sys

import numpy as np
import skimage.color
import skimage.data
import skimage.transform
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from flatbuffers import Builder

HERE = pathlib.Path(__file__).resolve().parent
SAMPLES = HERE.parent / "samples"
SIDE = 96


def grey(image):
    """An image as SIDE by SIDE levels of grey, 0 to 255."""
    small = skimage.transform.resize(
        skimage.color.rgb2gray(image), (SIDE, SIDE), anti_aliasing=True
    )
    return np.rint(small * 255).astype(np.uint8)


def pictures():
    """The sample images: somebody, and nobody."""
    astronaut = skimage.data.astronaut()[0:250, 90:340]
    coffee = skimage.data.coffee()[:, 100:500]
    return {"astronaut": grey(astronaut), "coffee": grey(coffee)}


def sound(path):
    """The model's file, but for a mistake that LiteRT refuses: biases, which have one
    dimension, are said to be quantised along their fourth."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    for tensor in model.subgraphs[0].tensors:
        if len(tensor.shape) == 1 and tensor.quantization is not None:
            tensor.quantization.quantizedDimension = 0
    builder = Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return model, bytes(builder.Output())


def layers(path, data):
    """Name and output of each operator, by the reference kernels."""
    model, content = sound(path)
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    into = interpreter.get_input_details()[0]
    interpreter.set_tensor(into["index"], data.reshape(into["shape"]))
    interpreter.invoke()
    names = {
        value: name
        for name, value in vars(schema.BuiltinOperator).items()
        if not name.startswith("_")
    }
    for operator in model.subgraphs[0].operators:
        code = model.operatorCodes[operator.opcodeIndex]
        name = names[max(code.deprecatedBuiltinCode, code.builtinCode)]
        yield name, interpreter.get_tensor(operator.outputs[0])


def write(models, model, sample, data):
    lines = ["# SPDX-License-Identifier: MIT OR Apache-2.0"]
    for name, out in layers(models / f"{model}.tflite", data):
        assert out.dtype == np.int8
        digest = hashlib.sha256(out.tobytes()).hexdigest()
        shape = "x".join(map(str, out.shape))
        lines.append(f"{name} {shape} {digest}")
    values = " ".join(map(str, out.ravel()))
    lines.append(f"output {values}")
    (HERE / f"{model}.{sample}.txt").write_text("\n".join(lines) + "\n")
    print(model, sample, values)


def main():
    models = pathlib.Path(sys.argv[1])
    SAMPLES.mkdir(exist_ok=True)
    for name, image in pictures().items():
        head = f"P5\n{SIDE} {SIDE}\n255\n".encode()
        (SAMPLES / f"{name}.pgm").write_bytes(head + image.tobytes())
        data = (image.astype(np.int16) - 128).astype(np.int8)
        write(models, "person_detect", name, data)
    # What the built-in sample "ramp" is.
    for model, size in [("speech", 1960), ("sine", 1)]:
        ramp = (np.arange(size) * 37 + 11).astype(np.uint8).view(np.int8)
        write(models, model, "ramp", ramp)


if __name__ == "__main__":
    main()
