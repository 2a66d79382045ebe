"""finetuner for PaddlePaddle: its tuner, losses, miners and poolers."""

from typing import TYPE_CHECKING

from . import _import_paddle  # noqa: F401  # isort: skip (before anything that imports Paddle)
from .adapters import *
from .framework import PaddleFramework
from .heads import *
from .losses import *
from .matryoshka_loss import *
from .miner import *
from .poolers import *
from .static import *
from .tuner import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    from . import adapters, heads, losses, matryoshka_loss, miner, poolers, static, tuner

    __all__ = [
        *adapters.__all__,
        *heads.__all__,
        *losses.__all__,
        *matryoshka_loss.__all__,
        *miner.__all__,
        *poolers.__all__,
        *static.__all__,
        *tuner.__all__,
    ]

Tuner, Framework = PaddleTuner, PaddleFramework
