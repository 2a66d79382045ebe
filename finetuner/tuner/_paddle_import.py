"""Makes it safe to import Paddle after TensorFlow.

Both contain libraries with the same names and different versions. If TensorFlow is imported first, Paddle resolves its
symbols to the libraries of TensorFlow, and the interpreter crashes. With ``RTLD_DEEPBIND``, Paddle prefers its own
libraries. The opposite order is safe.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["isolate_paddle"]


@contextmanager
def isolate_paddle() -> Iterator[None]:
    """A context in which Paddle can be imported, also after TensorFlow.

    Raises:
        ImportError: If TensorFlow was imported first, and the system does not have ``RTLD_DEEPBIND``.
    """
    if "tensorflow" not in sys.modules:
        yield
        return
    if not hasattr(os, "RTLD_DEEPBIND"):
        raise ImportError("paddle must be imported before tensorflow on this system: the other order crashes Python")
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        yield
    finally:
        sys.setdlopenflags(flags)
