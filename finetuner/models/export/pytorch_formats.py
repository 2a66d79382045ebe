"""ONNX and ``torch.export``, for models of PyTorch."""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...tuner.base.data.batches import Batches, collated
from ...tuner.base.data.conversion import as_unlabelled
from ...tuner.base.training.encoder import Encoder
from ..hub import import_library

__all__ = ["write_onnx", "write_torch_export"]

OUTPUT = "sentence_embedding"
Run = Callable[[Any], np.ndarray]


def write_onnx(encoder: Encoder, path: Path, sample: Any) -> Run:
    """Write one ONNX file. Its inputs have the names of the model's, and its output is ``sentence_embedding``."""
    import torch

    import_library("onnxscript", "onnx")
    runtime = import_library("onnxruntime", "onnx")
    names, model, inputs = traceable(encoder, sample)
    with quiet(), torch.no_grad():
        torch.onnx.export(
            model,
            inputs,
            str(path),
            input_names=names,
            output_names=[OUTPUT],
            dynamic_shapes=dynamic_shapes(inputs),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    write_tokenizer(encoder, path.parent)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(items: Any) -> np.ndarray:
        arrays = arrays_of(encoder, items)
        return np.concatenate([session.run([OUTPUT], dict(zip(names, row, strict=True)))[0] for row in arrays])

    return run


def write_torch_export(encoder: Encoder, path: Path, sample: Any) -> Run:
    """Write a program of ``torch.export``, which ``torch.export.load(path).module()`` opens."""
    import torch

    _, model, inputs = traceable(encoder, sample)
    with quiet(), torch.no_grad():
        program = torch.export.export(model, inputs, dynamic_shapes=dynamic_shapes(inputs))
        torch.export.save(program, path)
    write_tokenizer(encoder, path.parent)
    module = torch.export.load(path).module()

    def run(items: Any) -> np.ndarray:
        with torch.no_grad():
            rows = [module(*map(torch.as_tensor, row)) for row in arrays_of(encoder, items)]
        return torch.cat(rows).numpy()

    return run


def traceable(encoder: Encoder, sample: Any) -> tuple[list[str], Any, tuple[Any, ...]]:
    """The names of the inputs, a module that takes them in order, and two items as an example."""
    import torch

    from ...tuner.pytorch.models import plain_model

    count = as_unlabelled(sample).num_rows
    prepared = inputs_of(encoder, sample, np.arange(2) % count)  # one row would be taken for a fixed size
    names = list(prepared) if isinstance(prepared, Mapping) else ["input"]
    model = plain_model(encoder.embed_model)

    class Positional(torch.nn.Module):
        """The model with its inputs in order."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            if names == ["input"]:
                return self.model(*tensors)
            return self.model(**dict(zip(names, tensors, strict=True)))

    values = prepared.values() if isinstance(prepared, Mapping) else [prepared]
    return names, Positional().to("cpu").eval(), tuple(torch.as_tensor(np.asarray(value)) for value in values)


def dynamic_shapes(inputs: tuple[Any, ...]) -> Any:
    """The batch is dynamic; and the length, if the inputs are tokens."""
    from torch.export import Dim

    shapes = []
    for value in inputs:
        is_tokens = value.ndim == 2 and not value.is_floating_point()
        shapes.append({0: Dim.DYNAMIC, 1: Dim.DYNAMIC} if is_tokens else {0: Dim.DYNAMIC})
    return (tuple(shapes),)


def inputs_of(encoder: Encoder, items: Any, rows: np.ndarray) -> Any:
    """The model's input for some items."""
    return Batches(as_unlabelled(items), [rows], encoder.preprocess_fn, encoder.collate_fn)[0].inputs


def arrays_of(encoder: Encoder, items: Any) -> Iterator[list[np.ndarray]]:
    """The model's inputs as arrays: batches of 1, 3 and the rest, so that sizes other than the example's are run."""
    count = as_unlabelled(items).num_rows
    for start, stop in ((0, 1), (1, 4), (4, count)):
        if start < min(stop, count):
            prepared = inputs_of(encoder, items, np.arange(start, min(stop, count)))
            values = prepared.values() if isinstance(prepared, Mapping) else [prepared]
            yield [np.asarray(value) for value in values]


def write_tokenizer(encoder: Encoder, folder: Path) -> None:
    """Write ``tokenizer.json`` beside an export, with padding and truncation as the encoder does them."""
    collate = encoder.collate_fn[0] if isinstance(encoder.collate_fn, tuple) else encoder.collate_fn
    tokenizer = getattr(getattr(collate, "tokenizer", None), "backend_tokenizer", None)
    if tokenizer is None:
        return
    collated([""], 1, collate)  # sets padding and truncation
    tokenizer.save(str(folder / "tokenizer.json"))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A context without the messages of the exporter."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
