"""Losses without tensors: formula, arguments, checks and documentation. A backend adds the computation.

``batch`` has the losses over all items of a batch, ``margins`` those with class centres, ``pairs`` those of explicit
pairs, ``distillation`` that of a teacher, ``ranking`` those of scores, and ``classification`` those of logits.
"""

from typing import TYPE_CHECKING

from .batch import *
from .classification import *
from .distillation import *
from .loss import *
from .margins import *
from .pairs import *
from .ranking import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    from . import batch, classification, distillation, loss, margins, pairs, ranking

    __all__ = [
        *batch.__all__,
        *classification.__all__,
        *distillation.__all__,
        *loss.__all__,
        *margins.__all__,
        *pairs.__all__,
        *ranking.__all__,
    ]
