"""Evaluation of embeddings: numpy arrays in, numbers out. It knows no framework."""

from .correlation import *
from .evaluators import *
from .ranking import *
from .retrieval import *
from .search import *

from . import correlation, evaluators, ranking, retrieval, search  # isort: skip

__all__: list[str] = []
__all__ += correlation.__all__
__all__ += evaluators.__all__
__all__ += ranking.__all__
__all__ += retrieval.__all__
__all__ += search.__all__
