"""From what a user says (a name, a class or an instance) to the thing, and back to what a file can hold."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from . import checks

__all__ = ["create", "describe", "options_of"]


def create(
    kind: str, given: Any, known: Mapping[str, Callable[..., Any]], options: Mapping[str, Any] | None = None
) -> Any:
    """Make the ``kind`` of thing that ``given`` says: a name among ``known``, a class, or an instance.

    Raises:
        ValueError: for a name that is not known, or options beside an instance.
        TypeError: for an option that the class does not have.
    """
    options = dict(options or {})
    if isinstance(given, str):
        if given not in known:
            raise ValueError(f"{kind} must be a known name, got {given!r}; {checks.nearest(given, known)}")
        given = known[given]
    if not inspect.isclass(given):
        if options:
            raise ValueError(f"{kind} must be a name or a class where options are given, got an instance and {options}")
        return given
    names = [name for name in options_of(given) if name not in ("params", "kwargs")]
    for option in options:
        if option not in names and option != "params":
            raise TypeError(f"{given.__name__} has no option {option!r}; {checks.nearest(option, names)}")
    return given(**options)


def options_of(given: type) -> list[str]:
    """What a class is made of: by its ``__init__``, as early releases of Python 3.11 ask Keras' ``__new__`` first."""
    made = given.__init__  # type: ignore[misc]
    return [] if made is object.__init__ else list(inspect.signature(made).parameters)[1:]


def describe(thing: Any) -> Any:
    """What a JSON file can hold of a thing that keeps its arguments as attributes."""
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if isinstance(thing, Mapping):
        return {str(key): describe(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [describe(value) for value in thing]
    if inspect.isroutine(thing) or inspect.isclass(thing):
        return f"{thing.__module__}:{thing.__qualname__}"
    if not type(thing).__module__.startswith("finetuner."):
        return f"{type(thing).__module__}:{type(thing).__qualname__}"
    if hasattr(thing, "arguments"):
        return {"name": type(thing).__name__, "options": describe(thing.arguments())}
    arguments = [name for name in options_of(type(thing)) if hasattr(thing, name)]
    return {"name": type(thing).__name__, "options": {name: describe(getattr(thing, name)) for name in arguments}}
