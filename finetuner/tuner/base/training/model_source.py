"""Where a model comes from: what a saved run needs to make it again, and the items that it takes."""

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ModelSource", "export", "is_source"]

# The packages whose models are opened by finetuner.models, with what belongs to them, such as a tokenizer.
LIBRARIES = ("sentence_transformers", "transformers")


@dataclass
class ModelSource:
    """How a model was made by :func:`finetuner.load_model`.

    Args:
        library: The module of :mod:`finetuner.models` that makes it.
        kind: ``"transformer"``, ``"static"``, ``"vision"`` or ``"adapter"``. The settings of a training depend on it.
        recipe: How it is made, as JSON can hold it. The weights are saved with the run.
        write_files: Writes what else it takes, such as the files of a tokenizer, into a folder.
        check_items: Raises an error for items that the model cannot take, and warns of those that it cuts.
        origin: The folder or the name whose weights the model has; None if they were changed or come from elsewhere.
    """

    library: str
    kind: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    write_files: Callable[[Path], Any] | None = None
    check_items: Callable[[Any], None] | None = None
    origin: str | None = None

    def config(self) -> dict[str, Any]:
        """The recipe, with the module that understands it."""
        return {"library": self.library, "kind": self.kind, **self.recipe}

    def check_folder(self, folder: Path) -> None:
        """Raise ``ValueError`` if the weights in the folder of a run are not for this model."""


def is_source(model: Any) -> bool:
    """Whether :func:`finetuner.load_model` is needed to use ``model``: a name, a path, or an object of a library."""
    if isinstance(model, str | os.PathLike):
        return True
    return type(model).__module__.partition(".")[0] in LIBRARIES  # not a subclass of the user, which may return tensors


def export(encoder: Any, path: Any, format: str | None, items: Any) -> float:
    """The function of :mod:`finetuner.models.export`, which is above this layer."""
    difference: float = importlib.import_module("finetuner.models.export").export(encoder, path, format, items)
    return difference
