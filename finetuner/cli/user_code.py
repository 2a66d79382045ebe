"""The user's own code: models and functions by their names, seeded, for any framework."""

import importlib
import importlib.util
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["absolute", "built", "named", "use_threads", "user_files"]

user_files: set[str] = set()  # where models and functions that users name are from


def named(flag: str, spec: str | None) -> Any:
    """What is called ``package.module:name`` or ``path/to/file.py:name``, or None for None.

    Raises:
        ValueError: if it is not of this form, or there is no such file, module or name.
    """
    if spec is None:
        return None
    where, _, name = spec.rpartition(":")
    if not where or not name:
        raise ValueError(f"{flag} must be package.module:name or path/to/file.py:name, got {spec!r}")
    found: Any = of_file(flag, Path(where)) if where.endswith(".py") else of_module(flag, where)
    for part in name.split("."):
        if not hasattr(found, part):
            from ..checks import closest_match

            known = [key for key, value in vars(found).items() if callable(value) and not key.startswith("_")]
            raise ValueError(f"{flag} must name something in {where}, got {name!r}; {closest_match(name, known)}")
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{flag} must name a function, got {type(found).__name__} at {spec!r}")
    return found


def absolute(spec: str | None) -> str | None:
    """``spec``, with the whole path of a file, to be found from another folder too."""
    where, _, name = (spec or "").rpartition(":")
    return f"{Path(where).resolve()}:{name}" if where.endswith(".py") else spec


def of_file(flag: str, path: Path) -> ModuleType:
    """The module in a file, whose neighbours it can import."""
    if not path.is_file():
        raise FileNotFoundError(f"{flag} must name a file that exists, got {path}")
    file = str(path.resolve())
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == file:
            return module
    user_files.add(file)
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.append(folder)  # last: a neighbour called random.py is not to be all programs' random
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_of_{path.resolve().parent.name}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{flag} must name a Python file, got {path}")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def of_module(flag: str, name: str) -> ModuleType:
    """The module of that name, from the working folder too."""
    if (folder := os.getcwd()) not in sys.path and "" not in sys.path:
        sys.path.append(folder)
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    except ValueError:  # of a module that was made without one, or a name such as "..x"
        spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is None:
        raise ValueError(f"{flag} must name a module that exists, or a file that ends in .py, got {name!r}")
    user_files.add(str(spec.origin))
    return importlib.import_module(name)


def built(flag: str, spec: str, seed: int) -> Any:
    """The model that a user's function makes; the same seed gives the same weights."""
    factory = named(flag, spec)
    for _ in range(2):  # once more if the function itself was the first to import its framework
        loaded = seed_all(seed)
        model = factory()
        if loaded == [name for name in SEEDS if name in sys.modules]:
            break
    return model


# By the frameworks' names for themselves; none is imported that the user's code has not imported.
SEEDS: dict[str, Callable[[Any, int], Any]] = {
    "torch": lambda torch, seed: torch.manual_seed(seed),
    "keras": lambda keras, seed: seed_keras(keras, seed % 2**32),
    "paddle": lambda paddle, seed: paddle.seed(seed),
}


def seed_keras(keras: Any, seed: int) -> None:
    """Seed TensorFlow, if that is Keras' engine; else Keras draws its seeds from Python's random numbers."""
    if keras.backend.backend() == "tensorflow":  # anywhere else this would import it
        keras.utils.set_random_seed(seed)


def seed_all(seed: int) -> list[str]:
    """Seed Python, numpy and the frameworks that are loaded, and name these."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 -- which a user's function may draw weights from
    loaded = [name for name in SEEDS if name in sys.modules]
    for name in loaded:
        SEEDS[name](sys.modules[name], seed)
    return loaded


def use_threads(count: int | None) -> None:
    """Tell frameworks that are not loaded yet, and torch in any case, how many threads to compute with.

    JAX cannot be told.
    """
    if count is None:
        return
    if count < 1:
        raise ValueError(f"--threads must be at least 1, got {count}")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ[name] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
