"""Folders of models: on the disk, or from the Hugging Face hub by name."""

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import checks

__all__ = [
    "check_trust",
    "import_library",
    "load_transformer",
    "local_folder",
    "one_line_errors",
    "quiet",
    "read_config",
]

# What a model needs. Weights of other formats can be pickles, which run code when they are read.
FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]


def import_library(name: str, extra: str) -> ModuleType:
    """Import a library; raise ``ImportError`` that says how to install it if it is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name.partition(".")[0]:
            raise
        raise ImportError(f'this model needs {name}: pip install "finetuner[{extra}]"') from error


def local_folder(source: str) -> Path:
    """The folder of a model: a folder as it is, or what the Hugging Face hub has under this name.

    Raises:
        FileNotFoundError: If it is neither, or cannot be downloaded.
    """
    if not source.strip():
        raise ValueError(f"a model must be a folder or a name, got {source!r}")
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ValueError(f"a model must be a folder or a name, got the file {source}")
    if source.startswith((".", "/", "~")) or source.count("/") > 1 or source.endswith("/"):
        raise FileNotFoundError(f"the folder of a model must exist, got {source}")
    hub = import_library("huggingface_hub", "text")
    name = source if "/" in source else f"sentence-transformers/{source}"
    reasons = []
    for repository in dict.fromkeys([source, name]):
        try:
            return Path(hub.snapshot_download(repository, allow_patterns=FILES))
        except Exception as error:  # one of a dozen classes, by what is missing: network, name, rights
            reasons.append(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]:.200}")
    raise FileNotFoundError(
        f"a model must be a folder or the name of a model on the Hugging Face hub, and {source!r} is no folder and "
        f"cannot be downloaded ({reasons[-1]})"
    )


def read_config(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping; raise ``ValueError`` if it does not."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a JSON file: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a mapping, got {type(found).__name__}")
    return found


def check_trust(folder: Path, name: str, trust_code: bool) -> None:
    """Raise ``ValueError`` for a folder of transformers that has code of its own or weights in a pickle."""
    if trust_code:
        return
    if "auto_map" in read_config(folder / "config.json"):
        raise ValueError(f"{name} needs code of its own (auto_map in config.json): pass trust_code=True to run it")
    if not any(folder.glob("*.safetensors")):
        raise ValueError(f"{name} must have its weights as safetensors; a pickle is read with trust_code=True alone")


def load_transformer(folder: Path, name: str, trust_code: bool) -> tuple[Any, bool]:
    """The model in a folder of transformers, in float32, and whether its pooler has weights.

    Raises:
        ValueError: If it cannot be read, or its weights are not those that its configuration needs. Transformers
            itself would begin with random numbers in place of weights that are missing.
    """
    check_trust(folder, name, trust_code)
    transformers = import_library("transformers", "text")
    with one_line_errors(name), quiet(transformers):
        model, report = transformers.AutoModel.from_pretrained(
            folder,
            use_safetensors=None if trust_code else True,
            trust_remote_code=trust_code,
            dtype="float32",
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by name
        )
    for key, found, expected in sorted(report["mismatched_keys"]):
        raise ValueError(f"the weights of {name} must fit its config.json, and {key} is {list(found)} in place of "
                         f"{list(expected)}")  # fmt: skip
    missing = sorted(report["missing_keys"])
    others = [key for key in missing if not key.startswith("pooler.")]  # of BERT and ViT, for classes alone
    if others:
        raise ValueError(f"the weights of {name} must be complete, and have no {checks.preview(others)}")
    return model, not missing


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """A context without the progress bar of transformers, and without its report on weights."""
    logging = transformers.utils.logging
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


@contextmanager
def one_line_errors(what: str) -> Iterator[None]:
    """Turns the errors of a library into a ``ValueError`` of one line that names ``what``."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{what} cannot be opened: {type(error).__name__}: {text:.300}") from error
