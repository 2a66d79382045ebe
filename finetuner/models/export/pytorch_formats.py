"""ONNX and ``torch.export``, for models of PyTorch."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...tuner.base.training.encoder import Encoder
from .inputs import OUTPUT, Example, Run, batches_of, example_of, import_libraries, onnx_runner, quiet, write_tokenizer

__all__ = ["write_onnx", "write_onnx_of_module", "write_torch_export"]


def write_onnx(encoder: Encoder, path: Path, sample: Any) -> Run:
    """Write one ONNX file. Its inputs have the names of the model's, and its output is ``sentence_embedding``."""
    import_libraries("onnx", "onnxscript", "onnxruntime")
    example = example_of(encoder, sample)
    with positional(encoder, example) as module:
        write_onnx_of_module(module, example, path)
    write_tokenizer(encoder, path.parent)
    return onnx_runner(encoder, example, path)


def write_onnx_of_module(module: Any, example: Example, path: Path) -> None:
    """Write the ONNX file of a module of PyTorch that takes the inputs in order."""
    import torch

    with quiet(), torch.no_grad():
        torch.onnx.export(
            module,
            tuple(map(torch.as_tensor, example.arrays)),
            str(path),
            input_names=example.names,
            output_names=[OUTPUT],
            dynamic_shapes=dynamic_shapes(example),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def write_torch_export(encoder: Encoder, path: Path, sample: Any) -> Run:
    """Write a program of ``torch.export``, which ``torch.export.load(path).module()`` opens."""
    import torch

    example = example_of(encoder, sample)
    inputs = tuple(map(torch.as_tensor, example.arrays))
    with positional(encoder, example) as module, quiet(), torch.no_grad():
        program = torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes(example))
        torch.export.save(program, path)
    write_tokenizer(encoder, path.parent)
    with quiet():
        loaded = torch.export.load(path).module()

    def run(items: Any) -> np.ndarray:
        batches = batches_of(encoder, example, items, path.parent)
        with torch.no_grad():
            return torch.cat([loaded(*map(torch.as_tensor, row)) for row in batches]).float().numpy()

    return run


@contextlib.contextmanager
def positional(encoder: Encoder, example: Example) -> Iterator[Any]:
    """A module that takes the inputs in order, on the CPU and in evaluation mode."""
    import torch

    from ...tuner.pytorch.models import call_model, evaluation_mode, plain_model

    model = plain_model(encoder.embed_model)
    device = next((weight.device for weight in model.parameters()), "cpu")

    class Positional(torch.nn.Module):
        """The model with its inputs in order."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            if not example.is_mapping:
                return self.model(*tensors)
            inputs = dict(zip(example.names, tensors, strict=True))
            if example.unknown is not None:
                inputs["attention_mask"] = inputs["attention_mask"] * (inputs["input_ids"] != example.unknown)
            return call_model(self.model, inputs)

    module = Positional().to("cpu")
    try:
        with evaluation_mode(module):
            yield module
    finally:
        model.to(device)


def dynamic_shapes(example: Example) -> Any:
    """The dynamic axes, as PyTorch takes them."""
    from torch.export import Dim

    return (tuple(dict.fromkeys(axes, Dim.DYNAMIC) for axes in example.dynamic),)
