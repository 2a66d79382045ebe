"""Evaluation of embeddings: numpy arrays in, numbers out. It knows no framework."""

from typing import TYPE_CHECKING

from .correlation import *
from .evaluators import *
from .ranking import *
from .retrieval import *
from .search import *
from .shards import *
from .sums import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    from . import correlation, evaluators, ranking, retrieval, search, shards, sums

    __all__ = [
        name
        for module in (correlation, evaluators, ranking, retrieval, search, shards, sums)
        for name in module.__all__
    ]
