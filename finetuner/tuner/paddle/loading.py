"""Imports Paddle, before any other module here does, so that it survives TensorFlow.

Both bring libraries of one name and different versions. If TensorFlow's are there first, Paddle resolves
its symbols to them and the interpreter crashes; ``RTLD_DEEPBIND`` makes it prefer its own. The other way
round nothing happens.
"""

import importlib
import os
import sys

__all__: list[str] = []


def import_paddle() -> None:
    """Import Paddle, with its symbols to itself where TensorFlow came first.

    Raises:
        ImportError: where the system cannot keep the two apart.
    """
    if "paddle" in sys.modules or "tensorflow" not in sys.modules:
        importlib.import_module("paddle")
        return
    if not hasattr(os, "RTLD_DEEPBIND"):
        raise ImportError("paddle must be imported before tensorflow on this system, where it would crash Python")
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        importlib.import_module("paddle")
    finally:
        sys.setdlopenflags(flags)


import_paddle()
