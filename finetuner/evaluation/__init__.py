"""Evaluation of embeddings: numpy arrays in, numbers out. It knows no framework."""

from typing import TYPE_CHECKING

from .correlation import *
from .evaluators import *
from .ranking import *
from .retrieval import *
from .search import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    from . import correlation, evaluators, ranking, retrieval, search

    __all__ = [*correlation.__all__, *evaluators.__all__, *ranking.__all__, *retrieval.__all__, *search.__all__]
