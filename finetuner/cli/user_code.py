"""The user's own code: import models and functions by name, seed the frameworks, set the number of threads."""

import importlib
import importlib.util
import inspect
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = [
    "absolute_spec",
    "build_model",
    "is_user_file",
    "names_code",
    "resolve_callable",
    "use_threads",
    "user_files",
]

# What stands before a colon in the name of a model of a library, such as timm:resnet18.
LIBRARIES = ("timm", "torchvision", "keras", "paddle", "hf")
user_files: set[str] = set()  # files that were imported for a user; error messages point into them


def is_user_file(file: str) -> bool:
    """Whether a file was imported for a user, or is beside or below such a file, and not in an installed library."""
    if file in user_files:
        return True
    libraries = (str(Path(__file__).parents[1]), sys.prefix, sys.base_prefix)
    if "site-packages" in file or file.startswith(("<", *(f"{folder}{os.sep}" for folder in libraries))):
        return False
    return any(Path(one).parent in Path(file).parents for one in user_files)


def resolve_callable(flag: str, spec: str | None) -> Any:
    """Import the function or class that ``spec`` names.

    Args:
        flag: The option of the command line, for error messages.
        spec: ``package.module:name`` or ``path/to/file.py:name``; None gives None.

    Raises:
        ValueError: If ``spec`` has another form, or the module or the name does not exist.
        FileNotFoundError: If the file does not exist.
        TypeError: If the name is not callable.

    Example:
        >>> resolve_callable("--collate", "json:loads")("[1, 2]")
        [1, 2]
    """
    if spec is None:
        return None
    where, _, name = spec.rpartition(":")
    if not where or not name:
        raise ValueError(f"{flag} must be package.module:name or path/to/file.py:name, got {spec!r}")
    found: Any = import_file(flag, Path(where)) if where.endswith(".py") else import_module(flag, where)
    for part in name.split("."):
        if not hasattr(found, part):
            from ..checks import closest_match

            known = [key for key, value in vars(found).items() if callable(value) and not key.startswith("_")]
            raise ValueError(f"{flag} must name a function in {where}, got {name!r}; {closest_match(name, known)}")
        found = getattr(found, part)
    if not callable(found):
        raise TypeError(f"{flag} must name a function, got {type(found).__name__} at {spec!r}")
    return found


def names_code(spec: str | None) -> bool:
    """Whether ``spec`` names a function, and not a model by its name or its folder.

    Example:
        >>> names_code("models.py:make"), names_code("timm:resnet18"), names_code("all-MiniLM-L6-v2")
        (True, False, False)
    """
    where, _, name = (spec or "").rpartition(":")
    if where.endswith(".py") or name.endswith(".py"):
        return True
    return where not in LIBRARIES and all(part.isidentifier() for part in f"{where}.{name}".split("."))


def absolute_spec(spec: str | None) -> str | None:
    """Make the path of a file or a folder in ``spec`` absolute, for use from another folder."""
    if spec and not names_code(spec) and Path(spec).exists():
        return str(Path(spec).resolve())
    where, _, name = (spec or "").rpartition(":")
    return f"{Path(where).resolve()}:{name}" if where.endswith(".py") else spec


def import_file(flag: str, path: Path) -> ModuleType:
    """Import a file as a module, once. It can import the other files of its folder.

    Args:
        flag: The option of the command line, for error messages.
        path: The file.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not a Python file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{flag} must name a file that exists, got {path}")
    file = str(path.resolve())
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == file:
            return module
    user_files.add(file)
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.append(folder)  # at the end, or a random.py in the folder would replace Python's random
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


def import_module(flag: str, name: str) -> ModuleType:
    """Import a module by name. Modules of the working folder are found too.

    Args:
        flag: The option of the command line, for error messages.
        name: The full name of the module.

    Raises:
        ValueError: If the module does not exist.
    """
    if (folder := os.getcwd()) not in sys.path and "" not in sys.path:
        sys.path.append(folder)
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    except ValueError:  # the name is invalid, such as "..x", or the loaded module has no spec
        spec = getattr(sys.modules.get(name), "__spec__", None)
    if spec is None:
        raise ValueError(f"{flag} must name a module that exists, or a file that ends in .py, got {name!r}")
    if name.partition(".")[0] not in sys.stdlib_module_names:
        user_files.add(str(spec.origin))
    return importlib.import_module(name)


def build_model(flag: str, spec: str, seed: int) -> Any:
    """Call the user's function that creates the model. The same seed gives the same weights.

    Args:
        flag: The option of the command line, for error messages.
        spec: Names the function, see :func:`resolve_callable`.
        seed: Seeds Python, numpy and the loaded frameworks.

    Raises:
        FileNotFoundError, TypeError, ValueError: See :func:`resolve_callable`.
        TypeError: If the function has arguments, or returns nothing.
    """
    factory = resolve_callable(flag, spec)
    code = getattr(factory, "__code__", None)
    place = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    if code is not None:
        try:
            inspect.signature(factory, follow_wrapped=False).bind()
        except TypeError as error:
            raise TypeError(f"{flag} must name a function without arguments, got {spec!r}: {error}{place}") from None
    for _ in range(2):  # a second time if the function imported its framework, which was not seeded then
        seeded = seed_all(seed)
        model = factory()
        if seeded == loaded_frameworks():
            break
    if model is None:
        raise TypeError(f"{flag} must name a function that returns a model, and {spec!r} returned None{place}")
    return model


def seed_keras(keras: Any, seed: int) -> None:
    """Seed TensorFlow if it is the engine of Keras. Otherwise Keras draws its seeds from Python's random numbers."""
    if keras.backend.backend() == "tensorflow":  # with another engine this would import TensorFlow
        keras.utils.set_random_seed(seed)


# By the names of the frameworks' modules, which are seeded only if they are loaded.
SEED_FUNCTIONS: dict[str, Callable[[Any, int], Any]] = {
    "torch": lambda torch, seed: torch.manual_seed(seed),
    "keras": lambda keras, seed: seed_keras(keras, seed % 2**32),
    "paddle": lambda paddle, seed: paddle.seed(seed),
}


def loaded_frameworks() -> list[str]:
    """The frameworks that are loaded."""
    return [name for name in SEED_FUNCTIONS if name in sys.modules]


def seed_all(seed: int) -> list[str]:
    """Seed Python, numpy and the loaded frameworks, and return the names of these frameworks."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 -- a user's function may draw weights from it
    names = loaded_frameworks()
    for name in names:
        SEED_FUNCTIONS[name](sys.modules[name], seed)
    return names


def use_threads(count: int | None) -> None:
    """Set the number of threads for torch, and for all frameworks that are not loaded yet. JAX has no such setting.

    Args:
        count: The number of threads, at least 1; None for the frameworks' defaults.

    Raises:
        ValueError: If it is below 1.
    """
    if count is None:
        return
    if count < 1:
        raise ValueError(f"--threads must be at least 1, got {count}")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ[name] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
