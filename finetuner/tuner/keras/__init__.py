"""finetuner for Keras: its tuner, losses, miners and poolers."""

from typing import TYPE_CHECKING

from .adapters import *
from .framework import KerasFramework
from .heads import *
from .interop import KerasLoss
from .losses import *
from .matryoshka_loss import *
from .miner import *
from .poolers import *
from .sampled import *
from .static import *
from .tuner import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    from . import adapters, heads, losses, matryoshka_loss, miner, poolers, sampled, static, tuner

    __all__ = [
        "KerasLoss",
        *adapters.__all__,
        *heads.__all__,
        *losses.__all__,
        *matryoshka_loss.__all__,
        *miner.__all__,
        *poolers.__all__,
        *sampled.__all__,
        *static.__all__,
        *tuner.__all__,
    ]

Tuner, Framework = KerasTuner, KerasFramework
