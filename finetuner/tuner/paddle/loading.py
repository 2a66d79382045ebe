"""Imports Paddle, before any other module here does, so that it survives TensorFlow."""

import importlib
import sys

from ..apart import paddle_apart

__all__: list[str] = []

if "paddle" not in sys.modules:
    with paddle_apart():
        importlib.import_module("paddle")
