"""Data in memory: datasets, samplers, and the batches they make."""

from typing import TYPE_CHECKING

from .datasets import *
from .pairs import *
from .samplers import *
from .targets import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    from . import datasets, pairs, samplers, targets

    __all__ = [*datasets.__all__, *pairs.__all__, *samplers.__all__, *targets.__all__]
