"""What an export takes: an example of the model's inputs, batches to compare with, and the file of a tokenizer."""

import contextlib
import copy
import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ...tuner.base.data.batches import Batches, collated
from ...tuner.base.data.conversion import as_unlabelled
from ...tuner.base.training.encoder import Encoder
from ..adapter import AdaptedEncoder
from ..hub import import_library

__all__ = [
    "OUTPUT",
    "Example",
    "Run",
    "base_of",
    "batches_of",
    "collate_of",
    "example_of",
    "export_library",
    "import_libraries",
    "onnx_runner",
    "quiet",
    "write_tokenizer",
]

OUTPUT, TOKENIZER = "sentence_embedding", "tokenizer.json"
Run = Callable[[Any], np.ndarray]


@dataclass
class Example:
    """The model's inputs for two items, or for one if there is one.

    Args:
        names: The names of the inputs; ``["input"]`` for a single array.
        arrays: The inputs.
        dynamic: The axes of each input whose size may differ between batches. Axis 0 always is one.
        is_mapping: Whether the model takes a mapping of inputs by name.
        unknown: The id of a token that the model of the export must leave out, which the encoder leaves out before.
    """

    names: list[str]
    arrays: list[np.ndarray]
    dynamic: list[tuple[int, ...]]
    is_mapping: bool
    unknown: int | None = None

    def shapes(self) -> list[list[int | None]]:
        """The shapes of the inputs, with None for a size that is not fixed."""
        pairs = zip(self.arrays, self.dynamic, strict=True)
        return [[None if axis in axes else size for axis, size in enumerate(array.shape)] for array, axes in pairs]


def example_of(encoder: Encoder, sample: Any) -> Example:
    """The example of an encoder: the two largest items of a sample.

    An axis is dynamic if the items of the sample differ in it. For tokens, the length always is.
    """
    count = as_unlabelled(sample).num_rows
    found = [arrays_by_name(encoder, sample, np.array([row])) for row in range(count)]
    names, collate = list(found[0]), collate_of(encoder)
    largest = sorted(range(count), key=lambda row: -found[row][names[0]].size)[:2]
    arrays = list(arrays_by_name(encoder, sample, np.resize(largest, 2)).values())  # one row could be a fixed size
    dynamic = []
    for number, (name, array) in enumerate(zip(names, arrays, strict=True)):
        shapes = [one[name].shape for one in found]
        axes = {axis for axis in range(1, array.ndim) if len({shape[axis] for shape in shapes}) > 1}
        is_tokens = array.ndim == 2 and array.dtype.kind in "iu" and collate is not None
        if is_tokens and array.shape[1] == 1:
            arrays[number] = np.repeat(array, 4, axis=1)  # an exporter takes a size of 1 for a fixed one
        dynamic.append((0, *sorted(axes | ({1} if is_tokens else set()))))
    unknown = getattr(collate, "unknown", None) if "attention_mask" in names else None
    return Example(names, arrays, dynamic, is_mapping(encoder, sample), unknown)


def base_of(encoder: Encoder) -> Encoder:
    """The encoder of the model, without the adapters after it."""
    return base_of(encoder.base) if isinstance(encoder, AdaptedEncoder) else encoder


def collate_of(encoder: Encoder) -> Any:
    """The function that collates the items of the first side."""
    return encoder.collate_fn[0] if isinstance(encoder.collate_fn, tuple) else encoder.collate_fn


def prepare(encoder: Encoder, items: Any, rows: np.ndarray) -> Any:
    """The model's input for some items."""
    return Batches(as_unlabelled(items), [rows], encoder.preprocess_fn, encoder.collate_fn)[0].inputs


def is_mapping(encoder: Encoder, items: Any) -> bool:
    """Whether the model takes a mapping."""
    return isinstance(prepare(encoder, items, np.array([0])), Mapping)


def arrays_by_name(encoder: Encoder, items: Any, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The model's inputs for some items as arrays, by name."""
    prepared = prepare(encoder, items, rows)
    values = prepared if isinstance(prepared, Mapping) else {"input": prepared}
    arrays = {name: np.asarray(value) for name, value in values.items()}
    return {name: x.astype(np.float32) if x.dtype == np.float64 else x for name, x in arrays.items()}


def batches_of(encoder: Encoder, example: Example, items: Any, folder: Path) -> Iterator[list[np.ndarray]]:
    """The inputs of an export: batches of 1, 3 and the rest, so that sizes other than the example's are run.

    Texts are tokenized by the file that :func:`write_tokenizer` has written into ``folder``, if there is one.
    """
    count = as_unlabelled(items).num_rows
    for start, stop in ((0, 1), (1, 4), (4, count)):
        rows = np.arange(start, min(stop, count))
        if not len(rows):
            continue
        found = tokenized(encoder, items, rows, folder / TOKENIZER) or arrays_by_name(encoder, items, rows)
        pairs = zip(example.names, example.arrays, strict=True)
        yield [np.ascontiguousarray(found[name], array.dtype) for name, array in pairs]


def tokenized(encoder: Encoder, items: Any, rows: np.ndarray, path: Path) -> dict[str, np.ndarray] | None:
    """The tokens of texts by the tokenizer of an export; None if there is none, or the model takes more than tokens."""
    collate = collate_of(encoder)
    if not path.is_file() or not getattr(collate, "include_prompt", True):
        return None
    texts = [collate.prompt + text for text in as_unlabelled(items).batch(rows, None)]
    tokenizer = import_library("tokenizers", "text").Tokenizer.from_file(str(path))
    found = tokenizer.encode_batch(texts)
    by_name = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    arrays = {name: np.array([getattr(one, attribute) for one in found]) for name, attribute in by_name.items()}
    return {name: array if array.shape[1] else np.zeros((len(rows), 1)) for name, array in arrays.items()}


def write_tokenizer(encoder: Encoder, folder: Path) -> None:
    """Write ``tokenizer.json`` into a folder: padding, truncation, lower case and special tokens as the encoder's.

    A text is also cut at the largest number of characters, if the encoder has one.

    Prompts are not part of it.
    """
    collate = collate_of(encoder)
    tokenizer: Any = getattr(collate, "tokenizer", None)
    if hasattr(tokenizer, "backend_tokenizer"):
        collated([""], 1, collate)  # sets padding and truncation
        settings = json.loads(tokenizer.backend_tokenizer.to_str())
    elif type(tokenizer).__module__.partition(".")[0] == "tokenizers":
        copied = copy.deepcopy(tokenizer)
        copied.enable_padding()
        settings = {**json.loads(copied.to_str()), "post_processor": None}  # no special tokens
    else:
        return
    steps: list[dict[str, Any]] = [{"type": "Lowercase"}] if collate.lowercase else []
    if getattr(collate, "max_characters", None):
        regex = rf"\A[\s\S]{{{collate.max_characters}}}\K[\s\S]+"  # all that is after them
        steps.append({"type": "Replace", "pattern": {"Regex": regex}, "content": ""})
    if steps:
        steps += [settings["normalizer"]] if settings["normalizer"] else []
        settings["normalizer"] = {"type": "Sequence", "normalizers": steps}
    (folder / TOKENIZER).write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")


def onnx_runner(encoder: Encoder, example: Example, path: Path) -> Run:
    """A function that embeds items with an ONNX file."""
    runtime = export_library("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    known = {one.name for one in session.get_inputs()}  # an input that the model does not use is left out

    def run(items: Any) -> np.ndarray:
        parts = []
        for arrays in batches_of(encoder, example, items, path.parent):
            given = {name: x for name, x in zip(example.names, arrays, strict=True) if name in known}
            parts.append(session.run([OUTPUT], given)[0])
        return np.concatenate(parts)

    return run


def import_libraries(extra: str, *names: str) -> None:
    """Raise ``ImportError`` if a library of an export is missing, before anything is written."""
    for name in names:
        export_library(name, extra)


def export_library(name: str, extra: str) -> ModuleType:
    """Import a library of an export; raise ``ImportError`` that says how to install it if it is missing."""
    with quiet():
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != name:
                raise
            install = f'"finetuner[{extra}]"' if extra else name
            raise ImportError(f"this export needs {name}: pip install {install}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A context without the messages of an exporter."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
