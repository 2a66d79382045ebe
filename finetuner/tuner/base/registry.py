"""From a name, a class or an instance to an object, and from an object to a description that JSON can hold."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ... import checks

__all__ = ["argument_names", "arguments_of", "create", "describe", "public_classes"]


def create(
    kind: str, given: Any, known: Mapping[str, Callable[..., Any]], options: Mapping[str, Any] | None = None
) -> Any:
    """Create the object that ``given`` stands for.

    Args:
        kind: What error messages call it, such as ``"loss"``.
        given: A name among ``known``, a class, or an instance, which is returned unchanged.
        known: Classes by name.
        options: Arguments of the class.

    Raises:
        ValueError: For an unknown name, or options together with an instance.
        TypeError: For an option that the class does not have.
    """
    options = dict(options or {})
    if isinstance(given, str):
        if given not in known:
            raise ValueError(f"{kind} must be a known name, got {given!r}; {checks.closest_match(given, known)}")
        given = known[given]
    if not inspect.isclass(given):
        if options:
            raise ValueError(f"{kind} must be a name or a class where options are given, got an instance and {options}")
        return given
    names = [name for name in argument_names(given) if name not in ("params", "kwargs")]
    for option in options:
        if option not in names and option != "params":
            raise TypeError(f"{given.__name__} has no option {option!r}; {checks.closest_match(option, names)}")
    return given(**options)


def public_classes(module: Any, interface: str) -> dict[str, Any]:
    """The classes that a module exports, by name, without their common interface."""
    return {name: getattr(module, name) for name in module.__all__ if name != interface}


def argument_names(cls: type) -> list[str]:
    """The arguments of a class's constructor.

    They are read from ``__init__``: in early releases of Python 3.11, ``inspect.signature`` of a Keras class returns
    the arguments of ``__new__``.
    """
    init = cls.__init__  # type: ignore[misc]
    return [] if init is object.__init__ else list(inspect.signature(init).parameters)[1:]


def arguments_of(thing: Any) -> dict[str, Any]:
    """The arguments of an object that keeps each as an attribute, or has a method ``arguments``."""
    if hasattr(thing, "arguments"):
        return dict(thing.arguments())
    return {name: getattr(thing, name) for name in argument_names(type(thing)) if hasattr(thing, name)}


def describe(thing: Any) -> Any:
    """A description of ``thing`` that a JSON file can hold: of objects of this library, name and arguments."""
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if hasattr(thing, "item") and getattr(thing, "ndim", None) == 0:
        return thing.item()  # a number of numpy or of a framework
    if isinstance(thing, Mapping):
        return {str(key): describe(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [describe(value) for value in thing]
    if inspect.isroutine(thing) or inspect.isclass(thing):
        return f"{thing.__module__}:{thing.__qualname__}"
    if not type(thing).__module__.startswith("finetuner."):
        return f"{type(thing).__module__}:{type(thing).__qualname__}"
    return {"name": type(thing).__name__, "options": describe(arguments_of(thing))}
