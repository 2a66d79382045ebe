"""The tuner of PaddlePaddle models."""

from .. import base
from .engine import PaddleEngine
from .framework import PaddleFramework

__all__ = ["PaddleTuner"]


class PaddleTuner(base.Tuner):
    __doc__ = base.Tuner.__doc__

    framework_class = PaddleFramework
    engine_class = PaddleEngine
