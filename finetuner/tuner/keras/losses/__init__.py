"""The losses of :mod:`finetuner.tuner.base.losses`, for Keras."""

from typing import TYPE_CHECKING

from ..layers import Loss
from .batch import *
from .classification import *
from .distillation import *
from .margins import *
from .pairs import *
from .ranking import *
from .triplet import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    from . import batch, classification, distillation, margins, pairs, ranking, triplet

    __all__ = [
        "Loss",
        *batch.__all__,
        *classification.__all__,
        *distillation.__all__,
        *margins.__all__,
        *pairs.__all__,
        *ranking.__all__,
        *triplet.__all__,
    ]
