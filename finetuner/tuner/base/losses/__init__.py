"""Losses without tensors: formula, arguments, checks and documentation. A backend adds the computation.

``triplet`` has the losses over the triplets and pairs of a batch, ``batch`` the others over a batch, ``margins`` those
with class centres, ``pairs`` those of explicit pairs, ``distillation`` that of a teacher, ``ranking`` those of scores,
and ``classification`` those of logits.
"""

from typing import TYPE_CHECKING

from .batch import *
from .classification import *
from .distillation import *
from .loss import *
from .margins import *
from .pairs import *
from .ranking import *
from .triplet import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    from . import batch, classification, distillation, loss, margins, pairs, ranking, triplet

    __all__ = [
        *batch.__all__,
        *classification.__all__,
        *distillation.__all__,
        *loss.__all__,
        *margins.__all__,
        *pairs.__all__,
        *ranking.__all__,
        *triplet.__all__,
    ]
