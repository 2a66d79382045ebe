"""Losses without tensors: formula, arguments, checks and documentation. A backend adds the computation.

``batch`` has the losses over all items of a batch, ``margins`` those with class centres, ``pairs`` those of explicit
pairs, ``distillation`` that of a teacher, ``ranking`` those of scores, and ``classification`` those of logits.
"""

from .batch import *
from .classification import *
from .distillation import *
from .loss import *
from .margins import *
from .pairs import *
from .ranking import *

from . import batch, classification, distillation, loss, margins, pairs, ranking  # isort: skip

__all__: list[str] = []
__all__ += batch.__all__
__all__ += classification.__all__
__all__ += distillation.__all__
__all__ += loss.__all__
__all__ += margins.__all__
__all__ += pairs.__all__
__all__ += ranking.__all__
