"""The tuner of Keras models."""

from .. import base
from .engine import KerasEngine
from .framework import KerasFramework

__all__ = ["KerasTuner"]


class KerasTuner(base.Tuner):
    __doc__ = base.Tuner.__doc__

    framework_class = KerasFramework
    engine_class = KerasEngine
