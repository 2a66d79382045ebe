"""ONNX, ``SavedModel`` and LiteRT, for models of Keras."""

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from ...tuner.base.training.encoder import Encoder
from .inputs import (
    OUTPUT,
    Example,
    Run,
    batches_of,
    example_of,
    export_library,
    import_libraries,
    onnx_runner,
    quiet,
    write_tokenizer,
)

__all__ = ["write_litert", "write_onnx", "write_saved_model"]


def write_onnx(encoder: Encoder, path: Path, sample: Any) -> Run:
    """Write one ONNX file. Its inputs have the names of the model's, and its output is ``sentence_embedding``."""
    import keras

    engine = keras.backend.backend()
    extras = {"tensorflow": ("onnx-tensorflow", "tf2onnx"), "jax": ("onnx-jax", "jax2onnx"),
              "torch": ("onnx", "onnxscript")}  # fmt: skip
    extra, library = extras[engine]
    import_libraries(extra, "onnx", library, "onnxruntime")
    example = example_of(encoder, sample)
    with quiet():
        model = functional(encoder, example)
        if engine == "tensorflow":
            model.export(str(path), format="onnx", verbose=False)
        elif engine == "jax":
            write_onnx_of_jax(model, example, path)
        else:
            write_onnx_of_torch(model, example, path)
    write_tokenizer(encoder, path.parent)
    return onnx_runner(encoder, example, path)


def write_onnx_of_jax(model: Any, example: Example, path: Path) -> None:
    """Write the ONNX file of a functional model on JAX.

    Keras' own export gives each input a length of its own, and the lengths of tokens and mask are the same.
    """
    import jax
    import jax2onnx

    inputs = [
        jax.ShapeDtypeStruct([symbol_of(axis) if size is None else size for axis, size in enumerate(shape)], one.dtype)
        for shape, one in zip(example.shapes(), model.inputs, strict=True)
    ]
    jax2onnx.to_onnx(
        lambda *tensors: model(list(tensors), training=False)[OUTPUT],
        inputs=inputs,
        input_names=example.names,
        output_names=[OUTPUT],
        return_mode="file",
        output_path=str(path),
    )


def write_onnx_of_torch(model: Any, example: Example, path: Path) -> None:
    """Write the ONNX file of a functional model on PyTorch. Keras' own export fixes sizes that it meets on its way."""
    import torch

    from .pytorch_formats import write_onnx_of_module

    class Positional(torch.nn.Module):
        """The model with its inputs in order."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            return self.model(list(tensors), training=False)[OUTPUT]

    write_onnx_of_module(Positional(), example, path)


def write_saved_model(encoder: Encoder, path: Path, sample: Any) -> Run:
    """Write the folder of a ``SavedModel``, whose signature has the names of the model's inputs."""
    import keras

    engine = keras.backend.backend()
    if engine == "torch":
        raise ValueError("the format saved-model must be used with Keras on TensorFlow or JAX, got Keras on PyTorch")
    tensorflow = export_library("tensorflow", "")
    example = example_of(encoder, sample)
    options: dict[str, Any] = {}
    if engine == "jax":
        shapes = [
            f"({', '.join(symbol_of(axis) if size is None else str(size) for axis, size in enumerate(shape))},)"
            for shape in example.shapes()
        ]
        options = {"jax2tf_kwargs": {"polymorphic_shapes": [shapes]}}
    with quiet():
        functional(encoder, example).export(str(path), format="tf_saved_model", verbose=False, **options)
        loaded = tensorflow.saved_model.load(str(path))
    write_tokenizer(encoder, path)
    signature = loaded.signatures["serving_default"]

    def run(items: Any) -> np.ndarray:
        parts = []
        for arrays in batches_of(encoder, example, items, path):
            given = {name: tensorflow.constant(x) for name, x in zip(example.names, arrays, strict=True)}
            parts.append(signature(**given)[OUTPUT].numpy())
        return np.concatenate(parts)

    return run


def write_litert(encoder: Encoder, path: Path, sample: Any) -> Run:
    """Write one file of LiteRT (TFLite), whose signature has the names of the model's inputs."""
    import keras

    engine = keras.backend.backend()
    if engine != "tensorflow":
        raise ValueError(f"the format litert must be used with Keras on TensorFlow, got Keras on {engine}")
    export_library("ai_edge_litert", "litert")
    interpreter = importlib.import_module("ai_edge_litert.interpreter")
    example = example_of(encoder, sample)
    file = path.with_name(f"{path.name}.tflite")  # Keras takes no other name
    model = functional(encoder, example)
    try:
        with quiet():
            model.export(str(file), format="litert", verbose=False)
    except Exception as error:  # the converter's own class is not public
        raise unknown_operation(error) from error
    file.replace(path)
    write_tokenizer(encoder, path.parent)
    signature = interpreter.Interpreter(model_path=str(path)).get_signature_runner()

    def run(items: Any) -> np.ndarray:
        parts = []
        for arrays in batches_of(encoder, example, items, path.parent):
            try:
                parts.append(signature(**dict(zip(example.names, arrays, strict=True)))[OUTPUT])
            except RuntimeError as error:
                raise unknown_operation(error) from error
        return np.concatenate(parts)

    return run


def unknown_operation(error: Exception) -> ValueError:
    """The error for an operation that LiteRT does not have, with the name that the converter or interpreter gives."""
    text = str(error).strip()
    named = re.search(r"^\s*\w+ ops: (.+)$", text, re.MULTILINE) or re.search(r"Node number \d+ \((\w+)\)", text)
    reason = named[1] if named else text.partition("\n")[0]
    return ValueError(f"the model must have operations of LiteRT alone, which lacks: {reason}")


def functional(encoder: Encoder, example: Example) -> Any:
    """The model as a functional one, with a list of named inputs and a named output.

    JAX has no integers of 64 bits, so the example's become those of 32.
    """
    import keras
    from keras import ops

    from ...tuner.keras.models import call_model

    if keras.backend.backend() == "jax":
        example.arrays = [x.astype(np.int32) if x.dtype == np.int64 else x for x in example.arrays]
    inputs = [
        keras.Input(shape[1:], dtype=str(array.dtype), name=name)
        for name, shape, array in zip(example.names, example.shapes(), example.arrays, strict=True)
    ]
    given: Any = dict(zip(example.names, inputs, strict=True)) if example.is_mapping else inputs[0]
    if example.unknown is not None:
        known = ops.cast(ops.not_equal(given["input_ids"], example.unknown), given["attention_mask"].dtype)
        given["attention_mask"] = given["attention_mask"] * known
    embeddings = call_model(encoder.embed_model, given, training=False)
    model = keras.Model(inputs, {OUTPUT: embeddings})
    model([ops.convert_to_tensor(array) for array in example.arrays], training=False)  # Keras exports no other
    return model


def symbol_of(axis: int) -> str:
    """The name of a dynamic axis, which all inputs have in common."""
    return ("batch", "length")[axis] if axis < 2 else f"size_{axis}"
