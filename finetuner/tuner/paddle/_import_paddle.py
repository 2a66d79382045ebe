"""Imports Paddle before any other module of this package does, so that the import is safe after TensorFlow."""

import importlib
import sys

from .._paddle_import import isolate_paddle

__all__: list[str] = []

if "paddle" not in sys.modules:
    with isolate_paddle():
        importlib.import_module("paddle")
