"""Keeps Paddle apart from a TensorFlow that was imported before it.

Both bring libraries of one name and different versions. If TensorFlow's are there first, Paddle resolves
its symbols to them and the interpreter crashes; ``RTLD_DEEPBIND`` makes it prefer its own. The other way
round nothing happens.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["isolate_paddle"]


@contextmanager
def isolate_paddle() -> Iterator[None]:
    """While this lasts Paddle can be imported, with its symbols to itself where TensorFlow came first.

    Raises:
        ImportError: where the system cannot keep the two apart.
    """
    if "tensorflow" not in sys.modules:
        yield
        return
    if not hasattr(os, "RTLD_DEEPBIND"):
        raise ImportError("paddle must be imported before tensorflow on this system, where it would crash Python")
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        yield
    finally:
        sys.setdlopenflags(flags)
