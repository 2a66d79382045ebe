"""Imports Paddle, before any other module here does, so that it survives TensorFlow."""

import importlib
import sys

from .._paddle_import import isolate_paddle

__all__: list[str] = []

if "paddle" not in sys.modules:
    with isolate_paddle():
        importlib.import_module("paddle")
