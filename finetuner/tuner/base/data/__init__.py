"""Data in memory: datasets, samplers, and the batches they make."""

from .datasets import *
from .pairs import *
from .samplers import *
from .targets import *

from . import datasets, pairs, samplers, targets  # isort: skip

__all__: list[str] = []
__all__ += datasets.__all__
__all__ += pairs.__all__
__all__ += samplers.__all__
__all__ += targets.__all__
