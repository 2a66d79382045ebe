"""The tuner of PyTorch models."""

from .. import base
from .engine import PytorchEngine
from .framework import PytorchFramework

__all__ = ["PytorchTuner"]


class PytorchTuner(base.Tuner):
    __doc__ = base.Tuner.__doc__

    framework_class = PytorchFramework
    engine_class = PytorchEngine
