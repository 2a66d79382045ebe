"""``Encoder.export``: writes an encoder in the format of another tool, runs what was written, and compares."""

import contextlib
import importlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ... import checks
from ...arrays import take
from ...files import current_umask
from ...tuner.base.data.conversion import as_unlabelled
from ...tuner.base.training.encoder import Encoder
from ..lora import merged
from .inputs import base_of

__all__ = ["FORMATS", "LARGEST_DIFFERENCE", "export"]

LARGEST_DIFFERENCE = 1e-4
SAMPLE = 64  # items that are compared
TEXTS = (
    "Where is my card?",
    "a",
    "The transfer has still not arrived, although I was told on Monday that it would take two days at the most.",
    "Ünïcode, punctuation; and NUMBERS: 12,345.67!",
    "It rains. " * 60,
)
# Format -> the modules that write it, by framework.
FORMATS: dict[str, dict[str, str]] = {
    "sentence-transformers": dict.fromkeys(("pytorch", "keras", "paddle"), "sentence_transformers_format"),
    "onnx": {"pytorch": "pytorch_formats", "keras": "keras_formats", "paddle": "paddle_formats"},
    "torch-export": {"pytorch": "pytorch_formats"},
    "saved-model": {"keras": "keras_formats"},
    "litert": {"keras": "keras_formats"},
    "paddle-inference": {"paddle": "paddle_formats"},
}
# A function that writes the export, and returns one that embeds items with it.
Writer = Callable[[Encoder, Path, Any], Callable[[Any], np.ndarray]]


def export(encoder: Encoder, path: str | Path, format: str | None = None, items: Any = None) -> float:
    """Write an encoder in the format of another tool. See :meth:`~finetuner.Encoder.export`.

    Returns:
        The largest difference between an embedding of the export and of the encoder.

    Raises:
        ValueError: If the format is unknown or is not one of the framework, or an embedding differs by more than 1e-4.
        ImportError: If a library is missing.
    """
    path = Path(path)
    format = format or {".onnx": "onnx", ".pt2": "torch-export", ".tflite": "litert"}.get(path.suffix)
    if format is None:
        raise ValueError(f"format must be given for {path.name}: {', '.join(FORMATS)}")
    writers = FORMATS[checks.one_of("format", format, tuple(FORMATS))]
    name = encoder.framework.name
    if name not in writers:
        known = [one for one, frameworks in FORMATS.items() if name in frameworks]
        raise ValueError(f"the format of a {name} model must be {' or '.join(known)}, got {format}")
    if isinstance(encoder.model, tuple | list):
        raise ValueError("a pair of models must be exported one by one: finetuner.load_model(model).export(path)")
    module = importlib.import_module(f"finetuner.models.export.{writers[name]}")
    write: Writer = getattr(module, f"write_{format.replace('-', '_')}")
    if path.exists() and (path.is_file() or any(path.iterdir())):
        raise FileExistsError(f"{path} must not exist, so that nothing is overwritten")
    encoder = merged(encoder)
    sample = sample_of(encoder, items)
    expected = embed(encoder, sample)
    with temporary_folder(path) as folder:
        with one_line_errors(format):
            run = write(encoder, folder / path.name, sample)
            found = np.asarray(run(sample), np.float32)
        if found.shape != expected.shape:
            raise ValueError(f"the export returns {list(found.shape)}, and the encoder {list(expected.shape)}")
        difference = float(np.abs(found - expected).max())
        if not difference <= LARGEST_DIFFERENCE:
            raise ValueError(
                f"the embeddings of the export must be within {LARGEST_DIFFERENCE:g} of those of the encoder, "
                f"got {difference:.2g}; nothing was written"
            )
        move(sorted(folder.iterdir()), path)
    return difference


def sample_of(encoder: Encoder, items: Any) -> Any:
    """The items that are compared: some of those given; texts of our own for a model of texts."""
    if items is None:
        source = base_of(encoder).source
        if source is None or source.kind not in ("transformer", "static"):
            raise ValueError("items must be given to compare the export with: some items that the model can embed")
        return list(TEXTS)
    dataset = as_unlabelled(encoder.framework.convert_dataset(items))
    return take(dataset.x, np.arange(min(SAMPLE, dataset.num_rows)))


def embed(encoder: Encoder, sample: Any) -> np.ndarray:
    """The embeddings of the sample, without warnings of texts that are cut."""
    dataset = as_unlabelled(sample)
    return encoder.embed_rows(dataset, np.arange(dataset.num_rows))


@contextlib.contextmanager
def one_line_errors(format: str) -> Iterator[None]:
    """Turns the errors of an exporter into a ``ValueError`` of one line. Ours are of one line already."""
    try:
        yield
    except (ImportError, MemoryError, OSError):
        raise
    except Exception as error:
        if isinstance(error, ValueError | TypeError) and "\n" not in str(error):
            raise
        text = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())  # without colours
        raise ValueError(f"the model cannot be exported to {format}: {type(error).__name__}: {text:.400}") from error


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` that is removed at the end, as are the parents of ``path`` if nothing is in them."""
    parents = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", suffix=".unfinished", dir=path.parent) as folder:
            yield Path(folder)
    finally:
        for parent in parents:
            if not any(parent.iterdir()):
                parent.rmdir()


def move(files: Sequence[Path], path: Path) -> None:
    """Move what was written beside its place to ``path``, and what belongs to it into the same folder."""
    beside = [file for file in files if file.name != path.name]
    for file in beside:
        target = path.parent / file.name
        if target.exists() and (target.is_dir() or target.read_bytes() != file.read_bytes()):
            raise FileExistsError(f"{target} must not exist, so that nothing is overwritten")
    if path.is_dir():
        path.rmdir()  # it is empty
    mode = 0o666 & ~current_umask()
    for file in files:
        for one in (file, *file.rglob("*")):
            if one.is_file():
                one.chmod(mode)  # safetensors writes files that only the user can read
        file.replace(path.parent / file.name)
