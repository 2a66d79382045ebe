"""The losses of :mod:`finetuner.tuner.base.losses`, for PaddlePaddle."""

from ..layers import Loss
from .batch import *
from .classification import *
from .distillation import *
from .margins import *
from .pairs import *
from .ranking import *

from . import batch, classification, distillation, margins, pairs, ranking  # isort: skip

__all__ = ["Loss"]
__all__ += batch.__all__
__all__ += classification.__all__
__all__ += distillation.__all__
__all__ += margins.__all__
__all__ += pairs.__all__
__all__ += ranking.__all__
